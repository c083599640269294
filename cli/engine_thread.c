#include "cli/engine_thread.h"

#include "base/infer.h"
#include "base/log.h"
#include "cli/affinity.h"
#include "cli/text.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	/* Submits stop at half of the stage: the rest is for cancels and credits, never refused. */
	REQUEST_DEPTH = 8192,
	SUBMIT_LIMIT = REQUEST_DEPTH / 2,
	EVENT_DEPTH = 1024,
	EVENT_BURST = 32,
};

enum { REQUEST_SUBMIT = 1, REQUEST_CANCEL, REQUEST_CREDIT };

/* The ERROR event of a request that the engine did not take. */
struct refusal {
	struct refusal *next;
	struct og_infer_event ev;
};

struct og_engine_thread {
	struct og_engine *engine;
	struct og_stage *requests; /* router to engine; arg: pointer or id */
	struct og_stage *events;   /* engine to router; data: struct og_infer_event */
	struct og_doorbell doorbell;
	struct refusal *refusals, **last_refusal; /* oldest first, not yet given to the router */
	const char *cpus;
	pthread_t thread;
	bool started;
	atomic_bool stop; /* pairs: released by stop(), acquired by the thread's loop */
};

static const struct timespec pause_time = {0, 100 * 1000};

static void submit(struct og_engine_thread *t, struct og_infer_request *req)
{
	int ret = og_engine_submit(t->engine, req);
	struct refusal *r;

	if (ret == 0)
		return;
	r = calloc(1, sizeof(*r));
	OG_ASSERT(r);
	r->ev.id = req->id;
	r->ev.type = OG_INFER_ERROR;
	r->ev.error = ret;
	og_text_copy(r->ev.text, sizeof(r->ev.text), og_engine_refusal(t->engine));
	*t->last_refusal = r;
	t->last_refusal = &r->next;
	og_infer_request_free(req);
}

static void take_requests(struct og_engine_thread *t)
{
	struct og_msg msg;

	while (og_stage_pop(t->requests, &msg) == 0) {
		switch (msg.type) {
		case REQUEST_SUBMIT:
			submit(t, (struct og_infer_request *)(uintptr_t)msg.arg);
			break;
		case REQUEST_CANCEL:
			og_engine_cancel(t->engine, msg.arg);
			break;
		case REQUEST_CREDIT:
			og_engine_credit(t->engine, msg.arg, msg.slot);
			break;
		}
		og_stage_release(t->requests, &msg);
	}
}

/* While the router is behind, its requests are still taken: it may be waiting for that. */
static void push_event(struct og_engine_thread *t, const struct og_infer_event *ev)
{
	struct og_msg msg = {.data = (const uint8_t *)ev, .len_bytes = sizeof(*ev)};

	while (og_stage_push(t->events, &msg) == -EAGAIN) {
		if (atomic_load_explicit(&t->stop, memory_order_relaxed))
			return;
		take_requests(t);
		nanosleep(&pause_time, NULL);
	}
}

static void give_refusals(struct og_engine_thread *t)
{
	while (t->refusals) {
		struct refusal *r = t->refusals;

		push_event(t, &r->ev);
		t->refusals = r->next;
		if (!t->refusals)
			t->last_refusal = &t->refusals;
		free(r);
	}
}

static uint32_t give_events(struct og_engine_thread *t)
{
	struct og_infer_event burst[EVENT_BURST];
	uint32_t total = 0, n;

	do {
		n = og_engine_poll(t->engine, burst, EVENT_BURST);
		for (uint32_t i = 0; i < n; i++)
			push_event(t, &burst[i]);
		total += n;
	} while (n == EVENT_BURST);
	return total;
}

static void *run(void *arg)
{
	struct og_engine_thread *t = arg;

	pthread_setname_np(pthread_self(), "og-engine");
	if (og_cpus_bind(t->cpus) < 0)
		OG_LOG(engine, WARN, "[cores] engine = %s: cannot run there", t->cpus);
	while (!atomic_load_explicit(&t->stop, memory_order_acquire)) {
		bool busy;

		take_requests(t);
		give_refusals(t);
		busy = og_engine_step(t->engine);
		busy |= give_events(t) > 0;
		if (busy)
			continue;
		og_doorbell_announce(&t->doorbell);
		if (og_stage_count(t->requests) == 0 && !t->refusals &&
			!atomic_load_explicit(&t->stop, memory_order_acquire))
			og_doorbell_wait(&t->doorbell, OG_NEVER);
		og_doorbell_awake(&t->doorbell);
	}
	return NULL;
}

int og_engine_thread_create(struct og_engine_thread **out, struct og_engine *engine,
	const char *cpus, struct og_doorbell *router)
{
	struct og_engine_thread *t = aligned_alloc(64, (sizeof(*t) + 63) / 64 * 64);
	struct og_stage_opts requests = {.depth = REQUEST_DEPTH};
	struct og_stage_opts events = {.depth = EVENT_DEPTH,
		.nb_buffers = EVENT_DEPTH,
		.buffer_bytes = sizeof(struct og_infer_event),
		.doorbell = router};
	int ret;

	if (!t) {
		og_engine_destroy(engine);
		return -ENOMEM;
	}
	memset(t, 0, sizeof(*t));
	t->engine = engine;
	t->cpus = cpus;
	t->last_refusal = &t->refusals;
	atomic_init(&t->stop, false);
	ret = og_doorbell_init(&t->doorbell);
	if (ret < 0)
		goto free_thread;
	requests.doorbell = &t->doorbell;
	ret = og_stage_create(&t->requests, &requests);
	if (ret < 0)
		goto fini_doorbell;
	ret = og_stage_create(&t->events, &events);
	if (ret < 0)
		goto destroy_requests;
	*out = t;
	return 0;

destroy_requests:
	og_stage_destroy(t->requests);
fini_doorbell:
	og_doorbell_fini(&t->doorbell);
free_thread:
	free(t);
	og_engine_destroy(engine);
	return ret;
}

int og_engine_thread_start(struct og_engine_thread *t)
{
	int ret = -pthread_create(&t->thread, NULL, run, t);

	t->started = ret == 0;
	return ret;
}

void og_engine_thread_stop(struct og_engine_thread *t)
{
	if (!t->started)
		return;
	atomic_store_explicit(&t->stop, true, memory_order_release);
	og_engine_stop_loading(t->engine);
	og_doorbell_ring(&t->doorbell);
	pthread_join(t->thread, NULL);
	t->started = false;
}

void og_engine_thread_destroy(struct og_engine_thread *t)
{
	struct og_msg msg;

	if (!t)
		return;
	while (og_stage_pop(t->requests, &msg) == 0) {
		if (msg.type == REQUEST_SUBMIT)
			og_infer_request_free((struct og_infer_request *)(uintptr_t)msg.arg);
		og_stage_release(t->requests, &msg);
	}
	while (t->refusals) {
		struct refusal *r = t->refusals;

		t->refusals = r->next;
		free(r);
	}
	og_stage_destroy(t->requests);
	og_stage_destroy(t->events);
	og_doorbell_fini(&t->doorbell);
	og_engine_destroy(t->engine);
	free(t);
}

int og_engine_thread_submit(struct og_engine_thread *t, struct og_infer_request *req)
{
	struct og_msg msg = {.type = REQUEST_SUBMIT, .arg = (uintptr_t)req};

	if (og_stage_count(t->requests) >= SUBMIT_LIMIT)
		return -EAGAIN;
	return og_stage_push(t->requests, &msg);
}

/* The engine takes these between two steps at the latest, so the wait is short, and rare. */
static void push_request(struct og_engine_thread *t, const struct og_msg *msg)
{
	while (og_stage_push(t->requests, msg) == -EAGAIN)
		nanosleep(&pause_time, NULL);
}

void og_engine_thread_cancel(struct og_engine_thread *t, uint64_t id)
{
	push_request(t, &(struct og_msg){.type = REQUEST_CANCEL, .arg = id});
}

void og_engine_thread_credit(struct og_engine_thread *t, uint64_t id, uint32_t n)
{
	push_request(t, &(struct og_msg){.type = REQUEST_CREDIT, .slot = n, .arg = id});
}

int og_engine_thread_poll(struct og_engine_thread *t, struct og_infer_event *out)
{
	struct og_msg msg;
	int ret = og_stage_pop(t->events, &msg);

	if (ret < 0)
		return ret;
	memcpy(out, msg.data, sizeof(*out));
	og_stage_release(t->events, &msg);
	return 0;
}

bool og_engine_thread_idle(const struct og_engine_thread *t)
{
	return og_stage_count(t->events) == 0;
}

const struct og_engine_stats *og_engine_thread_stats(const struct og_engine_thread *t)
{
	return og_engine_stats(t->engine);
}

const struct og_engine *og_engine_thread_engine(const struct og_engine_thread *t)
{
	return t->engine;
}

const char *og_engine_thread_backend(const struct og_engine_thread *t)
{
	return og_engine_backend_name(t->engine);
}
