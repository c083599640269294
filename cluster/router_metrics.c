#include "cluster/router_priv.h"

#include <string.h>

static const char *const routes[OG_ROUTES] = {"none", "local", "remote"};
static const char *const outcomes[2] = {"failed", "done"};

/* Names come from clients, without end: what is not served here counts as one. */
static uint32_t model_index(
	const struct og_router *r, const struct og_ask *ask, enum og_ask_route route)
{
	const struct og_router_model *m = NULL;

	if (ask->model[0] || route == OG_ROUTE_LOCAL)
		m = og_router_local_model(r, ask->model);
	return m ? (uint32_t)(m - r->models) : OG_ROUTER_MODELS_MAX;
}

void og_router_count_end(
	struct og_router *r, const struct og_ask *ask, enum og_ask_route route, bool done)
{
	og_count(done ? &r->stats.asks_done : &r->stats.asks_failed);
	og_count(&r->stats.ends[model_index(r, ask, route)][route][done]);
}

static void register_ends(const struct og_router *r, uint32_t i, const char *model)
{
	enum { LABELS_BYTES = OG_MODEL_NAME_BYTES + 64 };
	static char labels[OG_ROUTER_MODELS_MAX + 1][OG_ROUTES][2][LABELS_BYTES];
	char name[OG_MODEL_NAME_BYTES + 16];

	og_metrics_label(name, sizeof(name), "model", model);
	for (int route = 0; route < OG_ROUTES; route++)
		for (int done = 0; done < 2; done++) {
			char *l = labels[i][route][done];

			snprintf(l, LABELS_BYTES, "%s,route=\"%s\",outcome=\"%s\"", name,
				routes[route], outcomes[done]);
			og_metrics_register(&(struct og_metric){"og_router_requests_total", l,
				"Requests of clients that ended; no model: one not served here.",
				OG_METRIC_COUNTER, &r->stats.ends[i][route][done]});
		}
}

void og_router_metrics_register(struct og_router *r)
{
	const struct og_router_stats *s = &r->stats;
	const struct og_metric metrics[] = {
		{"og_router_members", NULL, "Connected members.", OG_METRIC_GAUGE, &s->members},
		{"og_router_attempts_total", "route=\"local\"", "Requests given to somebody.",
			OG_METRIC_COUNTER, &s->asks_local},
		{"og_router_attempts_total", "route=\"remote\"", "Requests given to somebody.",
			OG_METRIC_COUNTER, &s->asks_remote},
		{"og_router_retries_total", NULL, "Requests tried elsewhere after a failure.",
			OG_METRIC_COUNTER, &s->asks_retried},
		{"og_router_served_total", "outcome=\"done\"", "Requests of members that ended.",
			OG_METRIC_COUNTER, &s->serves_done},
		{"og_router_served_total", "outcome=\"failed\"", "Requests of members that ended.",
			OG_METRIC_COUNTER, &s->serves_failed},
		{"og_router_served_total", "outcome=\"refused\"", "Requests of members that ended.",
			OG_METRIC_COUNTER, &s->serves_refused},
		{"og_router_lines_total", NULL, "Lines from members.", OG_METRIC_COUNTER,
			&s->lines},
		{"og_router_lines_dropped_total", "reason=\"malformed\"", "Lines dropped.",
			OG_METRIC_COUNTER, &s->lines_bad},
		{"og_router_lines_dropped_total", "reason=\"too_long\"", "Lines dropped.",
			OG_METRIC_COUNTER, &s->lines_long},
		{"og_router_lines_dropped_total", "reason=\"unknown_request\"", "Lines dropped.",
			OG_METRIC_COUNTER, &s->responses_unknown},
		{"og_router_request_seconds", NULL, "From prompt to last answer.",
			OG_METRIC_HISTOGRAM, &s->ask_time},
		{"og_router_first_text_seconds", NULL, "From prompt to first text.",
			OG_METRIC_HISTOGRAM, &s->first_text},
		{"og_router_inter_text_seconds", NULL,
			"From one piece of a streamed answer to the next.", OG_METRIC_HISTOGRAM,
			&s->next_text},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(metrics); i++)
		og_metrics_register(&metrics[i]);
	for (uint32_t i = 0; i < r->opts.nb_models; i++)
		register_ends(r, i, r->models[i].name);
	register_ends(r, OG_ROUTER_MODELS_MAX, "");
}
