#include "gpu/engine_priv.h"

#include "gpu/cuda/open.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
	EVENTS_PER_SEQUENCE = 4,
	EVENTS_SPARE = 64,
};

OG_PRINTF(3, 4) static int refuse(struct og_engine *e, int ret, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(e->refusal, sizeof(e->refusal), fmt, args);
	va_end(args);
	og_count(&e->stats.refused_total);
	return ret;
}

bool og_sequence_is_ready(const struct og_sequence *s)
{
	return !s->is_finished && !s->has_held && og_sequence_is_silent(s);
}

void og_sequence_finish(struct og_sequence *s, enum og_infer_finish finish)
{
	s->is_finished = true;
	s->finish = (uint8_t)finish;
	og_text_out_finish(&s->text);
}

void og_sequence_add_text(struct og_engine *e, struct og_sequence *s, struct og_text bytes)
{
	s->nb_sampled++;
	if (og_text_out_push(&s->text, bytes))
		og_sequence_finish(s, OG_FINISH_STOP);
	else if (s->nb_sampled >= s->sampled_max)
		og_sequence_finish(s, OG_FINISH_LENGTH);
}

/* The one place where a request ends. */
static struct og_infer_event *close_sequence(struct og_engine *e, struct og_sequence *s)
{
	struct og_infer_event *event = og_event_queue_push_last(&e->events);

	event->id = s->req->id;
	event->prompt_tokens = s->nb_prompt;
	event->completion_tokens = s->nb_sampled;
	og_infer_request_free(s->req);
	s->req = NULL;
	if (e->model)
		og_sequence_drop_pages(e, s);
	og_sequence_move(e, s, OG_SEQUENCE_FREE);
	return event;
}

static void close_done(struct og_engine *e, struct og_sequence *s, enum og_infer_finish finish)
{
	struct og_infer_event *event = close_sequence(e, s);

	event->type = OG_INFER_DONE;
	event->finish = (uint8_t)finish;
	og_count(finish == OG_FINISH_CANCELLED ? &e->stats.cancelled_total : &e->stats.done_total);
}

void og_sequence_fail(struct og_engine *e, struct og_sequence *s, int error, const char *why)
{
	struct og_infer_event *event = close_sequence(e, s);

	event->type = OG_INFER_ERROR;
	event->error = error;
	snprintf(event->text, sizeof(event->text), "%s", why);
	og_count(&e->stats.failed_total);
}

/* They need no credits: each token has its own, and what follows it does. False: no room. */
static bool deliver_logprobs(struct og_engine *e, struct og_sequence *s)
{
	for (; s->nb_logprobs_sent < s->nb_logprobs; s->nb_logprobs_sent++) {
		const struct og_sampler_item *item = &s->logprobs[s->nb_logprobs_sent];
		struct og_text bytes = og_tokenizer_bytes(e->tokenizer, item->id);
		struct og_infer_event *event = og_event_queue_push(&e->events);

		if (!event)
			return false;
		event->id = s->req->id;
		event->type = OG_INFER_LOGPROB;
		event->completion_tokens = s->nb_sampled;
		event->rank = (uint8_t)s->nb_logprobs_sent;
		event->token = item->id;
		event->logprob = item->logit;
		event->text_bytes = (uint16_t)OG_MIN(bytes.len_bytes, sizeof(event->text));
		memcpy(event->text, bytes.data, event->text_bytes);
	}
	s->nb_logprobs = s->nb_logprobs_sent = 0;
	return true;
}

/* What text there is credit and room for. */
static bool deliver_text(struct og_engine *e, struct og_sequence *s)
{
	bool worked = false;

	while (s->text.ready_bytes > 0 && s->credits > 0) {
		struct og_infer_event *event = og_event_queue_push(&e->events);

		if (!event)
			return worked;
		event->id = s->req->id;
		event->type = OG_INFER_TEXT;
		event->completion_tokens = s->nb_sampled;
		event->text_bytes =
			(uint16_t)og_text_out_take(&s->text, event->text, sizeof(event->text));
		if (s->credits != UINT32_MAX) /* that many means no limit */
			s->credits--;
		worked = true;
	}
	return worked;
}

/* Send what can be sent; then, if that was all, end. */
static bool deliver(struct og_engine *e, struct og_sequence *s)
{
	bool worked = s->nb_logprobs > 0;

	if (!deliver_logprobs(e, s))
		return false;
	worked |= deliver_text(e, s);
	if (og_sequence_take_held(e, s)) {
		worked = true;
		if (s->req) /* it may have failed */
			deliver_text(e, s);
	}
	if (s->is_finished && s->text.ready_bytes == 0) {
		close_done(e, s, s->finish);
		worked = true;
	}
	return worked;
}

static bool deliver_all(struct og_engine *e)
{
	static const enum og_sequence_state states[] = {OG_SEQUENCE_RUNNING, OG_SEQUENCE_PARKED};
	struct og_sequence *s, *next;
	bool worked = false;

	for (size_t i = 0; i < OG_ARRAY_LEN(states); i++)
		for (s = TAILQ_FIRST(&e->lists[states[i]]); s; s = next) {
			next = TAILQ_NEXT(s, link);
			worked |= deliver(e, s);
		}
	return worked;
}

static void count_pages(struct og_engine *e)
{
	uint32_t held = e->kv.nb_pages - og_kv_pool_available(&e->kv);

	e->stats.kv_tokens_used = (uint64_t)held * OG_KV_PAGE_TOKENS;
	e->stats.kv_tokens_reusable = (uint64_t)e->kv.nb_idle * OG_KV_PAGE_TOKENS;
	e->stats.swap_bytes_used =
		(uint64_t)(e->swap.nb_places - e->swap.nb_free) * e->swap.page_bytes;
}

bool og_engine_step(struct og_engine *e)
{
	bool worked = deliver_all(e);

	if (e->start.is_pending) {
		e->start.is_pending = false;
		if (og_engine_start_backend(e) < 0)
			og_engine_fail_all(e);
	}
	og_engine_admit(e);
	if (e->backend_kind == OG_BACKEND_ECHO)
		worked |= og_engine_step_echo(e);
	else if (e->backend)
		worked |= og_engine_step_model(e);
	worked |= deliver_all(e);
	count_pages(e);
	return worked;
}

uint32_t og_engine_poll(struct og_engine *e, struct og_infer_event *out, uint32_t n)
{
	return og_event_queue_take(&e->events, out, n);
}

static struct og_sequence *find(struct og_engine *e, uint64_t id)
{
	struct og_sequence *s;

	for (int state = OG_SEQUENCE_QUEUED; state < OG_SEQUENCE_STATES; state++)
		TAILQ_FOREACH(s, &e->lists[state], link)
	if (s->req->id == id)
		return s;
	return NULL;
}

void og_engine_cancel(struct og_engine *e, uint64_t id)
{
	struct og_sequence *s = find(e, id);

	if (!s)
		return;
	close_done(e, s, OG_FINISH_CANCELLED);
	count_pages(e);
}

void og_engine_credit(struct og_engine *e, uint64_t id, uint32_t n)
{
	struct og_sequence *s = find(e, id);

	if (s && __builtin_add_overflow(s->credits, n, &s->credits))
		s->credits = UINT32_MAX;
}

static int encode_prompt(struct og_engine *e, struct og_sequence *s)
{
	struct og_tokens out = {s->tokens, 0, e->context};
	const struct og_infer_message *m = s->req->messages;
	int ret;

	if (e->backend_kind == OG_BACKEND_ECHO) {
		s->nb_prompt = 1;
		return 0;
	}
	if (s->req->raw) {
		ret = og_tokenizer_encode(e->tokenizer,
			(struct og_text){m->content, m->content_bytes},
			OG_ENCODE_CONTROL | OG_ENCODE_WHOLE, NULL, 0, &out);
	} else {
		ret = og_chat_encode(&e->chat, e->tokenizer, m, s->req->nb_messages, time(NULL),
			&out, e->refusal, sizeof(e->refusal));
	}
	s->nb_tokens = s->nb_prompt = out.count;
	return ret;
}

/* Why a prompt cannot be served, in words. */
static int check_prompt(struct og_engine *e, const struct og_sequence *s, int ret)
{
	/* The chat template has said why. */
	if (ret == -EOPNOTSUPP || ret == -EINVAL || ret == -EBADMSG)
		return ret;
	/* One position is needed for the answer. */
	if (ret == -E2BIG || (ret == 0 && s->nb_prompt >= e->context))
		return refuse(e, -E2BIG, "the prompt is longer than the context of %u tokens",
			e->context);
	if (ret < 0)
		return refuse(e, ret, "the prompt could not be tokenized: %s", strerror(-ret));
	if (s->nb_prompt == 0)
		return refuse(e, -EINVAL, "the prompt is empty");
	return 0;
}

static void start_sequence(struct og_engine *e, struct og_sequence *s)
{
	const struct og_infer_params *params = &s->req->params;
	uint32_t room = e->backend_kind == OG_BACKEND_ECHO ? UINT32_MAX : e->context - s->nb_prompt;

	s->sampled_max = params->max_tokens > 0 ? OG_MIN(params->max_tokens, room) : room;
	s->order = e->nb_submitted++;
	s->nb_cached = s->nb_sampled = s->echo_at = s->nb_rows = s->idle_passes = 0;
	s->nb_logprobs = s->nb_logprobs_sent = s->nb_flying = s->nb_drawn = 0;
	s->has_held = false;
	s->credits = s->req->credits;
	s->is_finished = false;
	og_text_out_init(&s->text, params);
	og_sequence_move(e, s, OG_SEQUENCE_QUEUED);
	og_count(&e->stats.requests_total);
}

/* Whoever made the request checked its ranges; this only keeps the arrays within bounds. */
static bool is_well_formed(const struct og_infer_request *req)
{
	const struct og_infer_params *p = &req->params;

	return req->nb_messages > 0 && p->nb_stop <= OG_INFER_STOP_MAX &&
	       p->nb_stop_tokens <= OG_INFER_STOP_TOKENS_MAX &&
	       p->nb_biases <= OG_INFER_BIASES_MAX && p->top_logprobs <= OG_INFER_TOP_LOGPROBS_MAX;
}

int og_engine_submit(struct og_engine *e, struct og_infer_request *req)
{
	struct og_sequence *s = TAILQ_FIRST(&e->lists[OG_SEQUENCE_FREE]);
	int ret;

	if (e->backend_kind == OG_BACKEND_NONE)
		return refuse(e, -ENODEV, "this node serves no model");
	if (e->backend && e->backend->is_lost)
		return refuse(e, -ENODEV, "the device that computes the model failed");
	if (og_engine_load_state(e) == OG_ENGINE_FAILED)
		return refuse(
			e, -ENODEV, "the model could not be loaded: %s", og_engine_load_error(e));
	if (!s)
		return refuse(e, -EBUSY, "the queue is full");
	if (find(e, req->id))
		return refuse(e, -EEXIST, "a request with this id is outstanding");
	if (!is_well_formed(req))
		return refuse(e, -EINVAL, "the request is malformed");
	s->req = req;
	ret = check_prompt(e, s, encode_prompt(e, s));
	if (ret == 0 && !og_event_queue_reserve(&e->events))
		ret = refuse(e, -EBUSY, "too many events wait to be read");
	if (ret < 0) {
		s->req = NULL;
		return ret;
	}
	start_sequence(e, s);
	return 0;
}

const char *og_engine_refusal(const struct og_engine *e)
{
	return e->refusal;
}

const char *og_engine_model_name(const struct og_engine *e)
{
	return e->name;
}

const char *og_engine_backend_name(const struct og_engine *e)
{
	static const char *const names[] = {[OG_BACKEND_AUTO] = "auto",
		[OG_BACKEND_CPU] = "cpu",
		[OG_BACKEND_CUDA] = "cuda",
		[OG_BACKEND_ECHO] = "echo",
		[OG_BACKEND_NONE] = "none"};

	return names[__atomic_load_n(&e->backend_kind, __ATOMIC_RELAXED)];
}

uint32_t og_engine_context(const struct og_engine *e)
{
	return e->context;
}

const struct og_engine_stats *og_engine_stats(const struct og_engine *e)
{
	return &e->stats;
}

/* With a model, that is; the other kinds need none. */
static bool computes(const struct og_engine *e)
{
	return e->backend_kind == OG_BACKEND_CPU || e->backend_kind == OG_BACKEND_CUDA;
}

static void choose_name(struct og_engine *e, const struct og_engine_opts *opts)
{
	const char *base = opts->path ? strrchr(opts->path, '/') : NULL;
	size_t len;

	if (opts->name || !computes(e)) {
		snprintf(e->name, sizeof(e->name), "%s",
			opts->name                           ? opts->name
			: e->backend_kind == OG_BACKEND_ECHO ? "echo"
							     : "");
		return;
	}
	snprintf(e->name, sizeof(e->name), "%s", base ? base + 1 : opts->path);
	len = strlen(e->name);
	if (len > 5 && strcmp(e->name + len - 5, ".gguf") == 0)
		e->name[len - 5] = '\0';
}

static int choose_backend(
	struct og_engine *e, const struct og_engine_opts *opts, char *err, size_t err_bytes)
{
	e->backend_kind = opts->backend;
	if (opts->backend == OG_BACKEND_AUTO)
		e->backend_kind = !opts->path            ? OG_BACKEND_NONE
				  : og_cuda_is_present() ? OG_BACKEND_CUDA
							 : OG_BACKEND_CPU;
	if (computes(e) && !opts->path) {
		snprintf(err, err_bytes, "the %s back end needs the path of a model",
			e->backend_kind == OG_BACKEND_CUDA ? "cuda" : "cpu");
		return -EINVAL;
	}
	if (e->backend_kind == OG_BACKEND_CPU && (opts->fp8_weights || opts->fp8_kv)) {
		snprintf(err, err_bytes,
			"%s = fp8 is for GPUs, and the cpu computes this model: leave it out",
			opts->fp8_weights ? "weights" : "kv");
		return -EOPNOTSUPP;
	}
	/* Before the weights are read, which can take long. */
	if (e->backend_kind == OG_BACKEND_CUDA && !og_cuda_is_present()) {
		snprintf(err, err_bytes,
			"no CUDA driver with a device on this machine; use cpu or auto");
		return -ENODEV;
	}
	return 0;
}

/* As many pages as the cache memory holds, or as full slots use. */
static int choose_pages(
	struct og_engine *e, const struct og_engine_opts *opts, char *err, size_t err_bytes)
{
	uint64_t page_bytes = og_kv_page_bytes(&e->model->hp, opts->fp8_kv), nb_pages;

	e->table_pages = (e->context + OG_KV_PAGE_TOKENS - 1) / OG_KV_PAGE_TOKENS;
	nb_pages = opts->kv_memory_bytes ? opts->kv_memory_bytes / page_bytes
					 : (uint64_t)e->nb_slots * e->table_pages;
	if (nb_pages < e->table_pages || nb_pages > UINT32_MAX) {
		snprintf(err, err_bytes,
			"the KV cache of one sequence of %u tokens takes %llu bytes; %llu are "
			"allowed",
			e->context, (unsigned long long)(e->table_pages * page_bytes),
			(unsigned long long)opts->kv_memory_bytes);
		return -ENOMEM;
	}
	/* Without pages for its prompt nobody runs: more slots than pages are of no use. */
	e->nb_slots = (uint32_t)OG_MIN((uint64_t)e->nb_slots, nb_pages);
	e->no_prefix_reuse = opts->no_prefix_reuse;
	e->tables = calloc((size_t)e->nb_slots * e->table_pages, sizeof(*e->tables));
	if (e->tables && og_kv_pool_init(&e->kv, (uint32_t)nb_pages) == 0 &&
		og_kv_swap_init(&e->swap, page_bytes,
			opts->swap_memory_bytes
				? (uint32_t)OG_MIN(opts->swap_memory_bytes / page_bytes, UINT32_MAX)
				: (uint32_t)nb_pages) == 0)
		return 0;
	snprintf(err, err_bytes, "no memory for the tables of %llu pages of KV cache",
		(unsigned long long)nb_pages);
	return -ENOMEM;
}

static int make_sequences(struct og_engine *e, uint32_t queue)
{
	e->nb_sequences = e->nb_slots + queue;
	e->free_slots = calloc(e->nb_slots, sizeof(*e->free_slots));
	e->sequences = calloc(e->nb_sequences, sizeof(*e->sequences));
	e->token_store = calloc((size_t)e->nb_sequences * e->context, sizeof(*e->token_store));
	e->swap_store = calloc(
		OG_MAX((size_t)e->nb_sequences * e->table_pages, 1u), sizeof(*e->swap_store));
	if (!e->free_slots || !e->sequences || !e->token_store || !e->swap_store)
		return -ENOMEM;
	for (uint32_t i = 0; i < e->nb_slots; i++)
		e->free_slots[e->nb_free_slots++] = e->nb_slots - 1 - i;
	for (uint32_t i = 0; i < e->nb_sequences; i++) {
		e->sequences[i].tokens = e->token_store + (size_t)i * e->context;
		e->sequences[i].swapped = e->swap_store + (size_t)i * e->table_pages;
		TAILQ_INSERT_TAIL(&e->lists[OG_SEQUENCE_FREE], &e->sequences[i], link);
	}
	e->stats.kv_tokens_total = (uint64_t)e->kv.nb_pages * OG_KV_PAGE_TOKENS;
	return og_event_queue_init(
		&e->events, e->nb_sequences * (1 + EVENTS_PER_SEQUENCE) + EVENTS_SPARE);
}

static int check_opts(const struct og_engine_opts *opts, char *err, size_t err_bytes)
{
	if (opts->max_batch <= OG_ENGINE_BATCH_MAX && opts->queue <= OG_ENGINE_QUEUE_MAX &&
		opts->threads <= OG_ENGINE_THREADS_MAX && opts->steps_max <= OG_STEPS_MAX)
		return 0;
	snprintf(err, err_bytes,
		"max_batch, queue, threads and steps_max are at most %d, %d, %d and %d",
		OG_ENGINE_BATCH_MAX, OG_ENGINE_QUEUE_MAX, OG_ENGINE_THREADS_MAX, OG_STEPS_MAX);
	return -EINVAL;
}

static int start(
	struct og_engine *e, const struct og_engine_opts *opts, char *err, size_t err_bytes)
{
	int ret = check_opts(opts, err, err_bytes);

	if (ret == 0)
		ret = choose_backend(e, opts, err, err_bytes);
	if (ret < 0)
		return ret;
	choose_name(e, opts);
	e->context = opts->context ? opts->context : OG_ENGINE_CONTEXT_DEFAULT;
	e->nb_slots = opts->max_batch ? opts->max_batch : OG_ENGINE_BATCH_DEFAULT;
	e->steps_max = opts->steps_max;
	if (computes(e))
		ret = og_engine_open_model(e, opts, err, err_bytes);
	if (ret == 0 && e->model)
		ret = choose_pages(e, opts, err, err_bytes);
	if (ret == 0 && e->model && !opts->background) {
		ret = og_engine_start_backend(e);
		if (ret < 0)
			snprintf(err, err_bytes, "%s", e->start_err);
	}
	if (ret < 0)
		return ret;
	ret = make_sequences(e, opts->queue ? opts->queue : OG_ENGINE_QUEUE_DEFAULT);
	if (ret < 0)
		snprintf(err, err_bytes, "no memory for %u requests of %u tokens", e->nb_sequences,
			e->context);
	return ret;
}

int og_engine_create(
	struct og_engine **out, const struct og_engine_opts *opts, char *err, size_t err_bytes)
{
	struct og_engine *e = calloc(1, sizeof(*e));
	int ret;

	snprintf(err, err_bytes, "out of memory");
	if (!e)
		return -ENOMEM;
	for (int i = 0; i < OG_SEQUENCE_STATES; i++)
		TAILQ_INIT(&e->lists[i]);
	ret = start(e, opts, err, err_bytes);
	if (ret < 0) {
		og_engine_destroy(e);
		return ret;
	}
	*out = e;
	return 0;
}

void og_engine_destroy(struct og_engine *e)
{
	for (uint32_t i = 0; e->sequences && i < e->nb_sequences; i++)
		og_infer_request_free(e->sequences[i].req);
	og_event_queue_fini(&e->events);
	free(e->sequences);
	free(e->token_store);
	free(e->free_slots);
	free(e->tables);
	free(e->swap_store);
	og_kv_pool_fini(&e->kv);
	og_kv_swap_fini(&e->swap);
	for (size_t i = 0; i < OG_ARRAY_LEN(e->flights); i++) {
		free(e->flights[i].parts);
		free(e->flights[i].tokens);
	}
	free(e->resting);
	free(e->rows);
	free(e->draws);
	free(e->logits);
	free(e->adjusted);
	free(e->sampler_scratch);
	if (e->backend)
		e->backend->ops->destroy(e->backend);
	if (e->tokenizer)
		og_tokenizer_destroy(e->tokenizer);
	og_chat_fini(&e->chat);
	if (e->model)
		og_model_close(e->model);
	free(e->start.path);
	free(e);
}
