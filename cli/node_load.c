/*
 * node_load.c: the weights of this node's models on their way from the disk: how far they are, and
 * what changes when they have arrived or cannot be read.
 */
#include "cli/node_priv.h"

#include "base/log.h"
#include "base/metrics.h"

static const uint64_t say_every_ns = OG_NS_PER_S;

/* At one moment. */
struct reading {
	uint64_t done, total;
	double bytes_per_s; /* on average since it began */
	double left_s;      /* at that rate */
};

static struct reading read_progress(const struct og_engine *e, uint64_t now)
{
	const struct og_load_progress *p = og_engine_load_progress(e);
	uint64_t start = og_counter_read(&p->start_ns), end = og_counter_read(&p->end_ns);
	struct reading r = {
		.done = og_counter_read(&p->bytes_done), .total = og_counter_read(&p->bytes_total)};

	now = end ? end : now;
	if (start > 0 && now > start)
		r.bytes_per_s = (double)r.done * 1e9 / (double)(now - start);
	if (r.bytes_per_s > 0 && r.total > r.done)
		r.left_s = (double)(r.total - r.done) / r.bytes_per_s;
	return r;
}

static const struct og_engine *engine_of(const struct og_node *n, uint32_t i)
{
	return og_engine_thread_engine(n->engines[i]);
}

void og_node_load_metrics_register(struct og_node *n, uint32_t i, const char *labels)
{
	const struct og_load_progress *p = og_engine_load_progress(engine_of(n, i));
	const struct og_metric metrics[] = {
		{"og_loader_read_bytes", labels, "Of the weights, how much is here.",
			OG_METRIC_GAUGE, &p->bytes_done},
		{"og_loader_wanted_bytes", labels, "Of the weights, how much there is.",
			OG_METRIC_GAUGE, &p->bytes_total},
		{"og_loader_rate_bytes_per_second", labels, "How fast they come, on average.",
			OG_METRIC_GAUGE, &n->loads[i].bytes_per_s},
		{"og_loader_left_seconds", labels, "Until they are all here, at this rate.",
			OG_METRIC_GAUGE, &n->loads[i].left_s},
		{"og_loader_failed", labels, "1: they could not be read.", OG_METRIC_GAUGE,
			&n->loads[i].failed},
	};

	for (size_t k = 0; k < OG_ARRAY_LEN(metrics); k++)
		og_metrics_register(&metrics[k]);
}

static void tell_end(struct og_node *n, uint32_t i, enum og_engine_load state)
{
	const struct og_engine *e = engine_of(n, i);
	const struct og_load_progress *p = og_engine_load_progress(e);
	struct reading r = read_progress(e, og_node_now());

	if (state == OG_ENGINE_LOADED) {
		OG_LOG(engine, INFO, "model %s on %s: %.3f GB loaded in %llu ms, %.2f GB/s",
			n->models[i].name, og_engine_backend_name(e), (double)r.done / 1e9,
			(unsigned long long)((og_counter_read(&p->end_ns) - p->start_ns) /
					     OG_NS_PER_MS),
			r.bytes_per_s / 1e9);
		og_link_set_model(n->link, i, OG_MODEL_SERVED);
		return;
	}
	OG_LOG(engine, ERR, "model %s is not served: %s", n->models[i].name,
		og_engine_load_error(e));
	__atomic_store_n(&n->loads[i].failed, 1, __ATOMIC_RELAXED);
	og_link_set_model(n->link, i, OG_MODEL_FAILED);
}

static void say_progress(const struct og_node *n, uint32_t i, const struct reading *r)
{
	fprintf(stderr, "loading %s: %.2f of %.2f GB, %.2f GB/s, %.0f s left\n", n->models[i].name,
		(double)r->done / 1e9, (double)r->total / 1e9, r->bytes_per_s / 1e9, r->left_s);
}

void og_node_load_tick(struct og_node *n, uint64_t now)
{
	bool say = n->cfg->show_progress && now - n->progress_at >= say_every_ns;

	for (uint32_t i = 0; i < n->nb_engines; i++) {
		struct og_node_load *l = &n->loads[i];
		enum og_engine_load state;
		struct reading r;

		if (l->is_over)
			continue;
		state = og_engine_load_state(engine_of(n, i));
		r = read_progress(engine_of(n, i), now);
		__atomic_store_n(&l->bytes_per_s, (uint64_t)r.bytes_per_s, __ATOMIC_RELAXED);
		__atomic_store_n(&l->left_s, (uint64_t)r.left_s, __ATOMIC_RELAXED);
		l->is_over = state != OG_ENGINE_LOADING;
		if (say || (l->is_over && n->cfg->show_progress))
			say_progress(n, i, &r);
		if (l->is_over)
			tell_end(n, i, state);
	}
	if (say)
		n->progress_at = now;
}

bool og_node_load_is_over(const struct og_node *n)
{
	uint32_t served = 0;

	for (uint32_t i = 0; i < n->nb_engines; i++) {
		if (!n->loads[i].is_over)
			return false;
		served += !n->loads[i].failed;
	}
	return n->nb_engines == 0 || served > 0;
}

void og_node_load_waiting_for(const struct og_node *n, json_t *list)
{
	for (uint32_t i = 0; i < n->nb_engines; i++) {
		if (n->loads[i].failed)
			json_array_append_new(
				list, json_sprintf("model %s is not served: %s", n->models[i].name,
					      og_engine_load_error(engine_of(n, i))));
		else if (!n->loads[i].is_over)
			json_array_append_new(
				list, json_sprintf("model %s is loading", n->models[i].name));
	}
}

json_t *og_node_load_json(const struct og_node *n)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < n->nb_engines; i++) {
		const struct og_engine *e = engine_of(n, i);
		enum og_engine_load state = og_engine_load_state(e);
		struct reading r = read_progress(e, og_node_now());
		json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:f}", "model",
			n->models[i].name, "backend", og_engine_backend_name(e), "state",
			state == OG_ENGINE_LOADED   ? "served"
			: state == OG_ENGINE_FAILED ? "failed"
						    : "loading",
			"bytes_read", (json_int_t)r.done, "bytes_wanted", (json_int_t)r.total,
			"bytes_per_s", r.bytes_per_s, "left_s", r.left_s);

		json_object_set_new(o, "error",
			state == OG_ENGINE_FAILED ? json_string(og_engine_load_error(e))
						  : json_null());
		json_array_append_new(list, o);
	}
	return list;
}
