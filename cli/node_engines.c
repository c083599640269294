#include "cli/node_priv.h"

#include "base/log.h"
#include "base/metrics.h"
#include "cli/affinity.h"
#include "cli/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static enum og_engine_backend backend_of(const char *name)
{
	static const struct {
		const char *name;
		enum og_engine_backend backend;
	} names[] = {
		{"cpu", OG_BACKEND_CPU},
		{"cuda", OG_BACKEND_CUDA},
		{"echo", OG_BACKEND_ECHO},
		{"none", OG_BACKEND_NONE},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		if (strcmp(name, names[i].name) == 0)
			return names[i].backend;
	}
	return OG_BACKEND_AUTO;
}

static bool name_taken(const struct og_node *n, const char *name)
{
	for (uint32_t i = 0; i < n->nb_engines; i++) {
		const struct og_router_model *m = &n->models[i];

		if (strcmp(m->name, name) == 0 || (m->alias && strcmp(m->alias, name) == 0))
			return true;
	}
	return false;
}

static void register_metrics(struct og_node *n, uint32_t model_idx)
{
	const struct og_engine_stats *s = og_engine_thread_stats(n->engines[model_idx]);
	const char *model = n->model_names[model_idx];
	const struct og_metric metrics[] = {
		{"og_engine_running", NULL, "Prompts being computed.", OG_METRIC_GAUGE,
			&s->running},
		{"og_engine_queued", NULL, "Prompts waiting.", OG_METRIC_GAUGE, &s->queued},
		{"og_engine_kv_tokens", NULL, "Tokens in the KV cache.", OG_METRIC_GAUGE,
			&s->kv_tokens_used},
		{"og_engine_kv_tokens_reusable", NULL, "Tokens kept of prompts past.",
			OG_METRIC_GAUGE, &s->kv_tokens_reusable},
		{"og_engine_parked", NULL, "Prompts that had to give way for now.", OG_METRIC_GAUGE,
			&s->parked},
		{"og_engine_parked_total", NULL, "Times that a prompt had to give way.",
			OG_METRIC_COUNTER, &s->parked_total},
		{"og_engine_recomputed_total", NULL, "Of them, without room to keep its state.",
			OG_METRIC_COUNTER, &s->recomputed_total},
		{"og_engine_swap_bytes", NULL, "Host memory of prompts that gave way.",
			OG_METRIC_GAUGE, &s->swap_bytes_used},
		{"og_engine_prefix_hit_tokens_total", NULL,
			"Tokens of prompts found in the cache instead of computed.",
			OG_METRIC_COUNTER, &s->prefix_hit_tokens_total},
		{"og_engine_kv_tokens_max", NULL, "Room of the KV cache.", OG_METRIC_GAUGE,
			&s->kv_tokens_total},
		{"og_engine_requests_total", NULL, "Prompts taken.", OG_METRIC_COUNTER,
			&s->requests_total},
		{"og_engine_refused_total", NULL, "Prompts refused.", OG_METRIC_COUNTER,
			&s->refused_total},
		{"og_engine_prompt_tokens_total", NULL, "Tokens of prompts computed.",
			OG_METRIC_COUNTER, &s->prompt_tokens_total},
		{"og_engine_completion_tokens_total", NULL, "Tokens sampled.", OG_METRIC_COUNTER,
			&s->completion_tokens_total},
		{"og_engine_steps_total", NULL, "Forward passes.", OG_METRIC_COUNTER,
			&s->steps_total},
		{"og_engine_steps_ahead_total", NULL,
			"Steps begun before the tokens of the one before were known.",
			OG_METRIC_COUNTER, &s->steps_ahead_total},
		{"og_engine_drawn_total", NULL, "Tokens sampled where the model is computed.",
			OG_METRIC_COUNTER, &s->drawn_total},
		{"og_engine_host_bytes_total", NULL, "Results copied from the device.",
			OG_METRIC_COUNTER, &s->host_bytes_total},
		{"og_engine_busy_seconds_total", NULL, "Time in forward passes.",
			OG_METRIC_COUNTER_NS, &s->busy_ns_total},
		{"og_engine_lost", NULL, "1: the device that computes the model failed.",
			OG_METRIC_GAUGE, &s->lost},
		{"og_engine_weight_bytes", NULL, "Size of the weights.", OG_METRIC_GAUGE,
			&s->weight_bytes},
	};
	static char labels[OG_ROUTER_MODELS_MAX][OG_MODEL_NAME_BYTES + 16];
	static uint32_t used;

	if (used == OG_ROUTER_MODELS_MAX)
		return;
	og_metrics_label(labels[used], sizeof(labels[used]), "model", model);
	for (size_t i = 0; i < OG_ARRAY_LEN(metrics); i++) {
		struct og_metric m = metrics[i];

		m.labels = labels[used];
		og_metrics_register(&m);
	}
	og_node_load_metrics_register(n, model_idx, labels[used]);
	used++;
}

static int open_model(struct og_node *n, const struct og_config_model *m)
{
	uint32_t i = n->nb_engines;
	struct og_engine_opts opts = {
		.path = m->path[0] ? m->path : NULL,
		.name = m->name[0] ? m->name : NULL,
		.backend = backend_of(m->backend),
		.device = (uint32_t)m->device,
		.cublaslt = strcmp(m->matmul, "cublaslt") == 0,
		.context = (uint32_t)m->context,
		.max_batch = (uint32_t)m->max_batch,
		.queue = (uint32_t)m->queue,
		.kv_memory_bytes = m->kv_memory,
		.swap_memory_bytes = m->swap_memory,
		.no_prefix_reuse = !m->prefix_reuse,
		.fp8_weights = strcmp(m->weights, "fp8") == 0,
		.fp8_kv = strcmp(m->kv, "fp8") == 0,
		.conveyor = strcmp(m->decode, "conveyor") == 0,
		.threads = (uint32_t)m->threads,
		.background = true,
	};
	struct og_engine *engine;
	char err[512] = "";
	int ret;

	if (opts.backend == OG_BACKEND_NONE)
		return 0;
	if (opts.backend == OG_BACKEND_ECHO && !opts.name)
		opts.name = "echo";
	ret = og_engine_create(&engine, &opts, err, sizeof(err));
	if (ret < 0) {
		OG_LOG(engine, ERR, "model %s: %s", opts.path ? opts.path : m->backend,
			err[0] ? err : strerror(-ret));
		return ret;
	}
	og_text_copy(n->model_names[i], sizeof(n->model_names[i]), og_engine_model_name(engine));
	if (name_taken(n, n->model_names[i]) || (m->alias[0] && name_taken(n, m->alias))) {
		OG_LOG(engine, ERR,
			"two models are called \"%s\"; give one a name of its own: [model NAME]",
			n->model_names[i]);
		og_engine_destroy(engine);
		return -EEXIST;
	}
	OG_LOG(engine, INFO, "model %s on %s, context %u tokens", n->model_names[i],
		og_engine_backend_name(engine), og_engine_context(engine));
	ret = og_engine_thread_create(&n->engines[i], engine, n->cfg->engine, &n->doorbell);
	if (ret < 0)
		return ret;
	register_metrics(n, i);
	n->models[i] = (struct og_router_model){.name = n->model_names[i],
		.alias = m->alias[0] ? m->alias : NULL,
		.engine = i,
		.state = OG_MODEL_LOADING};
	n->engine_stats[i] = og_engine_stats(engine);
	n->nb_engines++;
	return 0;
}

int og_node_engines_open(struct og_node *n)
{
	cpu_set_t before;
	int ret = 0;

	/* The threads that an engine starts stay where this one is. */
	sched_getaffinity(0, sizeof(before), &before);
	if (og_cpus_bind(n->cfg->engine) < 0)
		OG_LOG(engine, WARN, "[cores] engine = %s: cannot run there", n->cfg->engine);
	for (uint32_t i = 0; ret == 0 && i < n->cfg->nb_models; i++)
		ret = open_model(n, &n->cfg->models[i]);
	sched_setaffinity(0, sizeof(before), &before);
	return ret;
}

bool og_node_engines_lost(const struct og_node *n)
{
	bool lost = false;

	for (uint32_t i = 0; i < n->nb_engines; i++)
		lost |= __atomic_load_n(&n->engine_stats[i]->lost, __ATOMIC_RELAXED) != 0;
	return lost;
}

void og_node_engines_close(struct og_node *n)
{
	for (uint32_t i = 0; i < n->nb_engines; i++) {
		og_engine_thread_stop(n->engines[i]);
		og_engine_thread_destroy(n->engines[i]);
	}
}
