/*
 * engine_load.c: the engine's model and back end: opened, loaded in the background, started, failed.
 */
#include "base/log.h"
#include "gpu/cuda/open.h"
#include "gpu/engine_priv.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t count_threads(uint32_t wanted)
{
	cpu_set_t set;

	if (wanted > 0)
		return wanted;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return 1;
	return (uint32_t)OG_MAX(CPU_COUNT(&set), 1);
}

static int create_backend(struct og_engine *e, const struct og_backend_opts *b)
{
	int ret;

	e->start_err[0] = '\0';
	if (e->backend_kind == OG_BACKEND_CUDA)
		return og_cuda_backend_create(
			&e->backend, b, (int)e->start.device, e->start_err, sizeof(e->start_err));
	if (e->start.device != 0)
		OG_LOG(engine, WARN, "%s: device = %u is the number of a GPU; the cpu computes it",
			e->start.path, e->start.device);
	if (e->model->load_opts.is_held) { /* for a device, but that computes no such model */
		ret = og_model_begin(e->model, NULL, b->nb_threads);
		if (ret < 0)
			return ret;
	}
	if (e->start.cublaslt)
		OG_LOG(engine, WARN, "%s: matmul = cublaslt is of a GPU; the cpu computes it",
			e->start.path);
	return og_cpu_backend_create(&e->backend, b, NULL);
}

static int create_or_fall_back(struct og_engine *e, const struct og_backend_opts *b)
{
	int ret = create_backend(e, b);

	if (ret != -EOPNOTSUPP || !e->start.falls_back || e->backend_kind != OG_BACKEND_CUDA)
		return ret;
	if (b->fp8_weights || b->fp8_kv) /* it cannot */
		return ret;
	OG_LOG(engine, WARN, "%s: %s; the cpu computes it", e->start.path, e->start_err);
	__atomic_store_n(&e->backend_kind, OG_BACKEND_CPU, __ATOMIC_RELAXED);
	e->start.device = 0;
	return create_backend(e, b);
}

static void say_why(struct og_engine *e, int ret)
{
	char why[160];

	if (og_model_load_state(e->model) < 0) {
		snprintf(e->start_err, sizeof(e->start_err), "%s", og_model_load_error(e->model));
		return;
	}
	snprintf(why, sizeof(why), "%.*s", (int)sizeof(why) - 1,
		e->start_err[0] ? e->start_err : strerror(-ret));
	snprintf(e->start_err, sizeof(e->start_err), "%.300s: the %s back end could not start: %s",
		e->start.path, og_engine_backend_name(e), why);
}

static int make_step_buffers(struct og_engine *e, uint32_t rows_max)
{
	size_t vocab = e->model->hp.vocab;
	bool ok = true;

	if (e->steps_max == 0)
		e->steps_max = e->backend->overlaps ? OG_STEPS_MAX : 1;
	for (size_t i = 0; i < OG_ARRAY_LEN(e->flights); i++) {
		struct og_flight *f = &e->flights[i];

		f->parts = calloc(e->nb_slots, sizeof(*f->parts));
		f->tokens = calloc(e->nb_slots, sizeof(*f->tokens));
		ok &= f->parts && f->tokens;
	}
	e->resting = calloc(e->kv.nb_pages, sizeof(*e->resting));
	e->rows = calloc(rows_max, sizeof(*e->rows));
	e->draws = calloc(e->nb_slots, sizeof(*e->draws));
	e->logits = malloc(e->nb_slots * vocab * sizeof(*e->logits));
	e->adjusted = malloc(vocab * sizeof(*e->adjusted));
	e->sampler_scratch = malloc(vocab * sizeof(*e->sampler_scratch));
	ok &= e->resting && e->rows && e->draws && e->logits && e->adjusted && e->sampler_scratch;
	return ok ? 0 : -ENOMEM;
}

int og_engine_start_backend(struct og_engine *e)
{
	struct og_backend_opts b = {
		.model = e->model,
		.nb_pages = e->kv.nb_pages,
		.rows_max = e->nb_slots + OG_PREFILL_ROWS,
		.nb_threads = count_threads(e->start.threads),
		.context = e->context,
		.fp8_weights = e->start.fp8_weights,
		.fp8_kv = e->start.fp8_kv,
		.cublaslt = e->start.cublaslt,
		.decode = e->start.conveyor ? OG_DECODE_CONVEYOR : OG_DECODE_PLAIN,
	};
	int ret = create_or_fall_back(e, &b);

	if (ret == 0)
		ret = make_step_buffers(e, b.rows_max);
	if (ret < 0)
		say_why(e, ret);
	/* pairs with the acquire in og_engine_load_state() */
	__atomic_store_n(&e->start_ret, ret < 0 ? ret : 1, __ATOMIC_RELEASE);
	return ret;
}

static int open_tokenizer(struct og_engine *e, const char *path, char *err, size_t err_bytes)
{
	int ret;

	if (e->model->is_folder)
		ret = og_tokenizer_open(&e->tokenizer, path, err, err_bytes);
	else
		ret = og_tokenizer_create(&e->tokenizer, path, &e->model->gguf, err, err_bytes);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < e->model->generation.nb_eos; i++)
		og_tokenizer_mark_end(e->tokenizer, e->model->generation.eos[i]);
	if (og_tokenizer_fit(e->tokenizer, e->model->hp.vocab) < 0) {
		snprintf(err, err_bytes, "%s: %u tokens but %u embeddings", path,
			og_tokenizer_vocab(e->tokenizer), e->model->hp.vocab);
		return -EBADMSG;
	}
	if (e->model->is_folder)
		og_chat_init_folder(&e->chat, path);
	else
		og_chat_init_gguf(&e->chat, path, &e->model->gguf);
	return 0;
}

int og_engine_open_model(
	struct og_engine *e, const struct og_engine_opts *opts, char *err, size_t err_bytes)
{
	struct og_load_opts load = {.is_held = e->backend_kind == OG_BACKEND_CUDA,
		.unpack_threads = count_threads(opts->threads)};
	int ret;

	if (e->backend_kind == OG_BACKEND_CPU)
		load.panel_threads = count_threads(opts->threads);
	/*
	 * In both cases in the background: the tokenizer is read beside the weights, unless those wait
	 * for the device to which they go.
	 */
	ret = og_model_open_background(&e->model, opts->path, &load, &e->progress, err, err_bytes);
	if (ret == 0)
		ret = open_tokenizer(e, opts->path, err, err_bytes);
	if (ret == 0 && !opts->background && !load.is_held) {
		ret = og_model_wait(e->model, e->model->hp.nb_layers + 1);
		if (ret < 0)
			snprintf(err, err_bytes, "%s", og_model_load_error(e->model));
	}
	if (ret < 0)
		return ret;
	e->stats.weight_bytes = e->model->weight_bytes;
	e->context = OG_MIN(e->context, e->model->hp.context);
	e->start.path = strdup(opts->path);
	e->start.is_pending = opts->background;
	e->start.falls_back = opts->backend == OG_BACKEND_AUTO;
	e->start.device = opts->device;
	e->start.cublaslt = opts->cublaslt;
	e->start.threads = opts->threads;
	e->start.fp8_weights = opts->fp8_weights;
	e->start.fp8_kv = opts->fp8_kv;
	e->start.conveyor = opts->conveyor;
	if (e->start.path)
		return 0;
	snprintf(err, err_bytes, "out of memory");
	return -ENOMEM;
}

enum og_engine_load og_engine_load_state(const struct og_engine *e)
{
	/* pairs with the release in og_engine_start_backend() */
	int started = __atomic_load_n(&e->start_ret, __ATOMIC_ACQUIRE), loaded;

	if (!e->model)
		return OG_ENGINE_LOADED;
	loaded = og_model_load_state(e->model);
	if (started < 0 || loaded < 0)
		return OG_ENGINE_FAILED;
	return started == 1 && loaded == 1 ? OG_ENGINE_LOADED : OG_ENGINE_LOADING;
}

const char *og_engine_load_error(const struct og_engine *e)
{
	return __atomic_load_n(&e->start_ret, __ATOMIC_ACQUIRE) < 0 ? e->start_err
	       : e->model && og_model_load_state(e->model) < 0      ? og_model_load_error(e->model)
								    : "";
}

const struct og_load_progress *og_engine_load_progress(const struct og_engine *e)
{
	return &e->progress;
}

void og_engine_stop_loading(struct og_engine *e)
{
	if (e->model)
		og_model_stop(e->model);
}

static void fail_list(struct og_engine *e, enum og_sequence_state state, const char *why)
{
	struct og_sequence *s, *next;

	for (s = TAILQ_FIRST(&e->lists[state]); s; s = next) {
		next = TAILQ_NEXT(s, link);
		og_sequence_fail(e, s, -EIO, why);
	}
}

void og_engine_fail_all(struct og_engine *e)
{
	bool is_lost = e->backend && e->backend->is_lost;
	bool has_failed = og_engine_load_state(e) == OG_ENGINE_FAILED;
	const char *why = has_failed ? "the model could not be loaded"
				     : "the device that computes the model failed";

	og_engine_abandon_flights(e);
	fail_list(e, OG_SEQUENCE_RUNNING, why);
	if (!is_lost && !has_failed)
		return;
	if (is_lost)
		__atomic_store_n(&e->stats.lost, 1, __ATOMIC_RELAXED);
	fail_list(e, OG_SEQUENCE_PARKED, why);
	fail_list(e, OG_SEQUENCE_QUEUED, why);
}
