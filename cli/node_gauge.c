/*
 * node_gauge.c: how much this node has to do: its models, their queues and caches, tokens a second.
 */
#include "cli/node_priv.h"

static const uint64_t sample_every_ns = 2 * OG_NS_PER_S;

static void take_sample(const struct og_node *n, struct og_node_sample *s, uint64_t now)
{
	s->at = now;
	for (uint32_t i = 0; i < n->nb_engines; i++) {
		const struct og_engine_stats *e = og_engine_thread_stats(n->engines[i]);

		s->engine[i].prompt_tokens = og_counter_read(&e->prompt_tokens_total);
		s->engine[i].completion_tokens = og_counter_read(&e->completion_tokens_total);
	}
}

void og_node_sample(struct og_node *n, uint64_t now)
{
	if (n->samples[1].at != 0 && now - n->samples[1].at < sample_every_ns)
		return;
	n->samples[0] = n->samples[1];
	take_sample(n, &n->samples[1], now);
}

static double per_second(uint64_t before, uint64_t now, uint64_t elapsed_ns)
{
	return elapsed_ns ? (double)(now - before) / ((double)elapsed_ns / 1e9) : 0;
}

static json_t *model_json(const struct og_node *n, uint32_t i, const struct og_node_sample *then,
	const struct og_node_sample *now)
{
	const struct og_engine_stats *s = og_engine_thread_stats(n->engines[i]);
	uint64_t used = og_counter_read(&s->kv_tokens_used);
	uint64_t total = og_counter_read(&s->kv_tokens_total);
	uint64_t elapsed_ns = now->at - then->at;

	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:I}", "model",
		n->models[i].name, "backend", og_engine_thread_backend(n->engines[i]), "running",
		(json_int_t)og_counter_read(&s->running), "queued",
		(json_int_t)og_counter_read(&s->queued), "kv_free",
		(json_int_t)(total > used ? total - used : 0), "kv_total", (json_int_t)total,
		"weight_bytes", (json_int_t)og_counter_read(&s->weight_bytes), "tokens_per_s",
		per_second(then->engine[i].completion_tokens, now->engine[i].completion_tokens,
			elapsed_ns),
		"prompt_tokens_per_s",
		per_second(then->engine[i].prompt_tokens, now->engine[i].prompt_tokens, elapsed_ns),
		"completion_tokens", (json_int_t)now->engine[i].completion_tokens, "requests",
		(json_int_t)og_counter_read(&s->requests_total));
}

json_t *og_node_gauge(void *ctx, json_t *gauge)
{
	const struct og_node *n = ctx;
	struct og_node_sample now;
	/* The older of the two: at least one whole interval, unless the node is younger. */
	const struct og_node_sample *then = &n->samples[n->samples[0].at ? 0 : 1];
	json_t *models = json_array();

	take_sample(n, &now, og_node_now());
	if (then->at == 0)
		then = &now;
	for (uint32_t i = 0; i < n->nb_engines; i++)
		json_array_append_new(models, model_json(n, i, then, &now));
	json_object_set_new(gauge, "state", json_string(og_node_state_name(n)));
	json_object_set_new(gauge, "uptime_s", json_real((double)(now.at - n->started_at) / 1e9));
	json_object_set_new(gauge, "models", models);
	return gauge;
}
