#include "cli/router_thread.h"

#include "base/log.h"
#include "base/metrics.h"
#include "cli/affinity.h"
#include "cli/openai.h"
#include "cluster/core.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	FACE_DEPTH = 4096,
	COMMAND_DEPTH = 1024, /* commands of the main thread */
	COMMAND_BYTES = 512,
	BURST = 256, /* messages of one source in a pass */
};

/* What comes through the faces' stage. */
enum { MSG_ASK = 1, MSG_CANCEL, MSG_CALL, MSG_LEAVE };

enum call_kind { CALL_QUERY, CALL_JOIN, CALL_LEAVE, CALL_DRAIN, CALL_LIMITS, CALL_MODEL };

/* A question of a control thread, which waits for it: it lives on that thread's stack. */
struct call {
	enum call_kind kind;
	enum og_link_query query;
	const char *arg;
	const struct og_router_limits *limits;
	uint32_t model;
	enum og_router_model_state state;
	int ret;
	json_t *json;
	bool done;
	pthread_mutex_t lock;
	pthread_cond_t answered;
};

struct face {
	og_link_answer_fn answer;
	void *ctx;
};

struct og_link {
	struct og_router_thread *owner;
	struct og_stage *stage; /* faces to router; arg: pointer or face id */
	struct face faces[OG_FACES_MAX];
	pthread_mutex_t lock; /* guards `closed` against a push that would never be taken */
	bool closed;
};

struct og_router_thread {
	struct og_router_thread_opts opts;
	struct og_router *router;
	struct og_rand rand;
	struct og_link link;
	struct og_stage *commands; /* main thread to core, passed on by the router thread */
	pthread_t thread;
	bool started;
	atomic_bool stop; /* pairs: released by stop(), acquired by the loop */
	/* Written by the router thread, read by others. */
	atomic_bool ready, stopped;
	_Atomic uint32_t peers_found, peers_open, retries;
};

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* ---- what the router does to others (its thread) ---- */

/* About a peer: to the core that has it. The rest: to core 0. */
static struct og_stage *stage_of(const struct og_router_thread *t, const struct og_msg *cmd)
{
	uint32_t core = 0;

	switch (cmd->type) {
	case OG_CMD_WRITE:
	case OG_CMD_END:
	case OG_CMD_CLOSE:
	case OG_CMD_WATCH:
	case OG_CMD_CONSUMED:
		core = t->opts.nb_cores > 1 ? cmd->slot / t->opts.slots_per_core : 0;
		break;
	}
	return core < t->opts.nb_cores ? t->opts.core_commands[core] : NULL;
}

static int env_command(void *ctx, const struct og_msg *cmd)
{
	struct og_router_thread *t = ctx;
	struct og_stage *stage = stage_of(t, cmd);

	return stage ? og_stage_push(stage, cmd) : 0;
}

static int env_infer(void *ctx, uint32_t engine, struct og_infer_request *req)
{
	struct og_router_thread *t = ctx;

	return og_engine_thread_submit(t->opts.engines[engine], req);
}

static void env_infer_cancel(void *ctx, uint32_t engine, uint64_t id)
{
	struct og_router_thread *t = ctx;

	og_engine_thread_cancel(t->opts.engines[engine], id);
}

static void env_infer_credit(void *ctx, uint32_t engine, uint64_t id, uint32_t n)
{
	struct og_router_thread *t = ctx;

	og_engine_thread_credit(t->opts.engines[engine], id, n);
}

static void engines_load(void *ctx, struct og_router_load *out)
{
	struct og_router_thread *t = ctx;

	memset(out, 0, sizeof(*out));
	for (uint32_t i = 0; i < t->opts.nb_engines; i++) {
		const struct og_engine_stats *s = og_engine_thread_stats(t->opts.engines[i]);
		uint64_t used = og_counter_read(&s->kv_tokens_used);
		uint64_t total = og_counter_read(&s->kv_tokens_total);

		out->running += (uint32_t)og_counter_read(&s->running);
		out->queued += (uint32_t)og_counter_read(&s->queued);
		out->kv_free += total > used ? total - used : 0;
	}
}

static void env_answer(void *ctx, const struct og_answer *answer)
{
	struct og_router_thread *t = ctx;
	struct og_answer copy = *answer;
	uint64_t number = answer->face >> OG_FACE_SHIFT;

	copy.face &= (1ull << OG_FACE_SHIFT) - 1;
	if (number < OG_FACES_MAX && t->link.faces[number].answer)
		t->link.faces[number].answer(t->link.faces[number].ctx, &copy);
}

/* ---- what others say (router thread) ---- */

static void note_event(struct og_router_thread *t, const struct og_msg *ev)
{
	switch (ev->type) {
	case OG_EV_PEER_FOUND:
		atomic_fetch_add_explicit(&t->peers_found, 1, memory_order_relaxed);
		break;
	case OG_EV_PEER_OPEN:
		atomic_fetch_add_explicit(&t->peers_open, 1, memory_order_relaxed);
		break;
	case OG_EV_PEER_CLOSED:
		atomic_fetch_sub_explicit(&t->peers_open, 1, memory_order_relaxed);
		break;
	case OG_EV_JOIN_RETRY:
		atomic_fetch_add_explicit(&t->retries, 1, memory_order_relaxed);
		break;
	case OG_EV_NODES:
		if (t->opts.nodes)
			t->opts.nodes(t->opts.ctx, ev->data, ev->len_bytes / 6);
		break;
	}
}

static uint32_t take_core_events(struct og_router_thread *t)
{
	uint32_t total = 0;

	for (uint32_t i = 0; i < t->opts.nb_cores; i++) {
		struct og_stage *events = t->opts.core_events[i];
		struct og_msg ev;
		uint32_t n = 0;

		for (; n < BURST && og_stage_pop(events, &ev) == 0; n++) {
			note_event(t, &ev);
			og_router_core_event(t->router, &ev, now());
			og_stage_release(events, &ev);
		}
		total += n;
	}
	return total;
}

static uint32_t take_engine_events(struct og_router_thread *t)
{
	struct og_infer_event ev;
	uint32_t total = 0;

	for (uint32_t i = 0; i < t->opts.nb_engines; i++) {
		uint32_t n = 0;

		for (; n < BURST && og_engine_thread_poll(t->opts.engines[i], &ev) == 0; n++)
			og_router_engine_event(t->router, i, &ev, now());
		total += n;
	}
	return total;
}

static void serve_query(struct og_router_thread *t, struct call *c, uint64_t at)
{
	json_t *shared;

	if (c->query == OG_QUERY_PEERS)
		shared = og_router_peers_json(t->router, c->arg, at);
	else if (c->query == OG_QUERY_CLUSTERS)
		shared = og_router_clusters_json(t->router, at);
	else if (c->query == OG_QUERY_MODELS)
		shared = og_router_models_json(t->router, at);
	else if (c->query == OG_QUERY_GAUGE)
		shared = og_router_gauge_json(t->router, at);
	else if (c->query == OG_QUERY_ELIGIBLE)
		shared = og_router_eligible_json(t->router, c->arg ? c->arg : "", at);
	else
		shared = og_router_status_json(t->router, at);
	/* Parts of it belong to members: what leaves this thread is a copy. */
	c->json = json_deep_copy(shared);
	json_decref(shared);
	c->ret = c->json ? 0 : -ENOMEM;
}

static void serve_call(struct og_router_thread *t, struct call *c)
{
	uint64_t at = now();

	switch (c->kind) {
	case CALL_JOIN:
		c->ret = og_router_join(t->router, c->arg, at);
		break;
	case CALL_LEAVE:
		c->ret = og_router_leave(t->router, c->arg, at);
		break;
	case CALL_QUERY:
		serve_query(t, c, at);
		break;
	case CALL_DRAIN:
		og_router_drain(t->router, at);
		break;
	case CALL_LIMITS:
		og_router_set_limits(t->router, c->limits);
		break;
	case CALL_MODEL:
		og_router_set_model(t->router, c->model, c->state, at);
		break;
	}
}

static void end_call(struct call *c)
{
	pthread_mutex_lock(&c->lock);
	c->done = true;
	pthread_cond_signal(&c->answered);
	pthread_mutex_unlock(&c->lock);
}

static uint32_t take_faces(struct og_router_thread *t)
{
	struct og_msg msg;
	uint32_t n = 0;

	for (; n < BURST && og_stage_pop(t->link.stage, &msg) == 0; n++) {
		og_stage_release(t->link.stage, &msg);
		switch (msg.type) {
		case MSG_ASK:
			og_router_ask(t->router, (struct og_ask *)(uintptr_t)msg.arg, now());
			break;
		case MSG_CANCEL:
			og_router_cancel(t->router, msg.arg, now());
			break;
		case MSG_CALL:
			serve_call(t, (struct call *)(uintptr_t)msg.arg);
			end_call((struct call *)(uintptr_t)msg.arg);
			break;
		case MSG_LEAVE:
			og_router_stop(t->router, now());
			break;
		}
	}
	return n;
}

static uint32_t pass_commands(struct og_router_thread *t)
{
	struct og_msg cmd;
	uint32_t n = 0;

	/* The core's stage is looked at first: what is popped must not be lost. */
	for (; n < BURST && og_stage_count(t->commands) > 0; n++) {
		if (og_stage_pop(t->commands, &cmd) < 0)
			break;
		while (env_command(t, &cmd) == -EAGAIN)
			nanosleep(&(struct timespec){0, 100 * 1000}, NULL);
		og_stage_release(t->commands, &cmd);
	}
	return n;
}

static bool anything_waits(const struct og_router_thread *t)
{
	for (uint32_t i = 0; i < t->opts.nb_cores; i++) {
		if (og_stage_count(t->opts.core_events[i]) > 0)
			return true;
	}
	for (uint32_t i = 0; i < t->opts.nb_engines; i++) {
		if (!og_engine_thread_idle(t->opts.engines[i]))
			return true;
	}
	return og_stage_count(t->link.stage) > 0 || og_stage_count(t->commands) > 0;
}

static void publish(struct og_router_thread *t)
{
	atomic_store_explicit(&t->ready, og_router_ready(t->router), memory_order_relaxed);
	atomic_store_explicit(&t->stopped, og_router_stopped(t->router), memory_order_relaxed);
}

static void sleep_until(struct og_router_thread *t, uint64_t deadline)
{
	uint64_t at = now();

	og_doorbell_announce(t->opts.doorbell);
	if (!anything_waits(t) && !atomic_load_explicit(&t->stop, memory_order_acquire) &&
		deadline > at)
		og_doorbell_wait(t->opts.doorbell, deadline == OG_NEVER ? OG_NEVER : deadline - at);
	og_doorbell_awake(t->opts.doorbell);
}

/* No push can come after this: take what is there, and answer it. */
static void close_link(struct og_router_thread *t)
{
	struct og_msg msg;

	pthread_mutex_lock(&t->link.lock);
	t->link.closed = true;
	pthread_mutex_unlock(&t->link.lock);
	while (og_stage_pop(t->link.stage, &msg) == 0) {
		og_stage_release(t->link.stage, &msg);
		if (msg.type == MSG_ASK) {
			struct og_ask *ask = (struct og_ask *)(uintptr_t)msg.arg;
			struct og_answer a = {.face = ask->face,
				.type = OG_ANSWER_ERROR,
				.error = -ECANCELED,
				.model = "",
				.node_name = "",
				.node_key = "",
				.message = "the node is stopping"};

			og_ask_free(ask);
			env_answer(t, &a);
		} else if (msg.type == MSG_CALL) {
			struct call *c = (struct call *)(uintptr_t)msg.arg;

			c->ret = -ESHUTDOWN;
			end_call(c);
		}
	}
}

static void *run(void *arg)
{
	struct og_router_thread *t = arg;

	pthread_setname_np(pthread_self(), "og-router");
	if (og_cpus_bind(t->opts.cpus) < 0)
		OG_LOG(router, WARN, "[cores] router = %s: cannot run there", t->opts.cpus);
	while (!atomic_load_explicit(&t->stop, memory_order_acquire)) {
		uint32_t n = take_core_events(t) + take_engine_events(t) + take_faces(t) +
			     pass_commands(t);
		uint64_t next = og_router_tick(t->router, now());

		publish(t);
		if (n == 0)
			sleep_until(t, next);
	}
	close_link(t);
	return NULL;
}

/* ---- the main thread's side ---- */

static int create_stages(struct og_router_thread *t)
{
	struct og_stage_opts faces = {
		.depth = FACE_DEPTH, .many_producers = true, .doorbell = t->opts.doorbell};
	struct og_stage_opts commands = {.depth = COMMAND_DEPTH,
		.nb_buffers = COMMAND_DEPTH,
		.buffer_bytes = COMMAND_BYTES,
		.doorbell = t->opts.doorbell};
	int ret = og_stage_create(&t->link.stage, &faces);

	return ret < 0 ? ret : og_stage_create(&t->commands, &commands);
}

int og_router_thread_create(struct og_router_thread **out, const struct og_router_thread_opts *opts)
{
	struct og_router_thread *t = calloc(1, sizeof(*t));
	struct og_router_opts router = opts->router;
	int ret;

	if (!t)
		return -ENOMEM;
	t->opts = *opts;
	t->link.owner = t;
	og_rand_system(&t->rand);
	pthread_mutex_init(&t->link.lock, NULL);
	router.env = (struct og_router_env){.ctx = t,
		.command = env_command,
		.infer = env_infer,
		.infer_cancel = env_infer_cancel,
		.infer_credit = env_infer_credit,
		.answer = env_answer,
		.rand = &t->rand};
	if (opts->nb_engines > 0)
		router.load = engines_load;
	ret = create_stages(t);
	if (ret == 0)
		ret = og_router_create(&t->router, &router, now());
	if (ret < 0) {
		og_router_thread_destroy(t);
		return ret;
	}
	*out = t;
	return 0;
}

struct og_link *og_router_thread_link(struct og_router_thread *t)
{
	return &t->link;
}

void og_router_thread_metrics_register(struct og_router_thread *t)
{
	og_router_metrics_register(t->router);
}

int og_router_thread_start(struct og_router_thread *t)
{
	int ret = -pthread_create(&t->thread, NULL, run, t);

	t->started = ret == 0;
	return ret;
}

struct og_router_progress og_router_thread_progress(const struct og_router_thread *t)
{
	return (struct og_router_progress){
		.ready = atomic_load_explicit(&t->ready, memory_order_relaxed),
		.stopped = atomic_load_explicit(&t->stopped, memory_order_relaxed),
		.peers_found = atomic_load_explicit(&t->peers_found, memory_order_relaxed),
		.peers_open = atomic_load_explicit(&t->peers_open, memory_order_relaxed),
		.retries = atomic_load_explicit(&t->retries, memory_order_relaxed),
	};
}

int og_router_thread_command(struct og_router_thread *t, const struct og_msg *cmd)
{
	return og_stage_push(t->commands, cmd);
}

void og_router_thread_leave(struct og_router_thread *t)
{
	struct og_msg msg = {.type = MSG_LEAVE};

	while (og_stage_push(t->link.stage, &msg) == -EAGAIN)
		nanosleep(&(struct timespec){0, OG_NS_PER_MS}, NULL);
}

void og_router_thread_stop(struct og_router_thread *t)
{
	if (!t->started)
		return;
	atomic_store_explicit(&t->stop, true, memory_order_release);
	og_doorbell_ring(t->opts.doorbell);
	pthread_join(t->thread, NULL);
	t->started = false;
}

void og_router_thread_destroy(struct og_router_thread *t)
{
	if (!t)
		return;
	og_router_destroy(t->router);
	og_stage_destroy(t->link.stage);
	og_stage_destroy(t->commands);
	pthread_mutex_destroy(&t->link.lock);
	free(t);
}

/* ---- the faces' side ---- */

void og_link_set_face(
	struct og_link *link, enum og_link_face face, og_link_answer_fn answer, void *ctx)
{
	link->faces[face] = (struct face){answer, ctx};
}

static int link_push(struct og_link *link, const struct og_msg *msg)
{
	int ret = -ESHUTDOWN;

	pthread_mutex_lock(&link->lock);
	if (!link->closed)
		ret = og_stage_push(link->stage, msg);
	pthread_mutex_unlock(&link->lock);
	return ret;
}

/* For what must arrive: the router drains its stages without waiting for faces. */
static int link_push_wait(struct og_link *link, const struct og_msg *msg)
{
	int ret;

	while ((ret = link_push(link, msg)) == -EAGAIN)
		nanosleep(&(struct timespec){0, OG_NS_PER_MS}, NULL);
	return ret;
}

int og_link_ask(struct og_link *link, enum og_link_face face, struct og_ask *ask)
{
	struct og_msg msg = {.type = MSG_ASK, .arg = (uintptr_t)ask};
	int ret;

	ask->face |= (uint64_t)face << OG_FACE_SHIFT;
	ret = link_push(link, &msg);
	if (ret < 0)
		og_ask_free(ask);
	return ret;
}

void og_link_cancel(struct og_link *link, enum og_link_face face, uint64_t id)
{
	struct og_msg msg = {.type = MSG_CANCEL, .arg = (uint64_t)face << OG_FACE_SHIFT | id};

	(void)!link_push_wait(link, &msg);
}

static int call(struct og_link *link, struct call *c)
{
	struct og_msg msg = {.type = MSG_CALL, .arg = (uintptr_t)c};
	int ret;

	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->answered, NULL);
	ret = link_push_wait(link, &msg);
	if (ret == 0) {
		pthread_mutex_lock(&c->lock);
		while (!c->done)
			pthread_cond_wait(&c->answered, &c->lock);
		pthread_mutex_unlock(&c->lock);
		ret = c->ret;
	}
	pthread_cond_destroy(&c->answered);
	pthread_mutex_destroy(&c->lock);
	return ret;
}

int og_link_query(struct og_link *link, enum og_link_query what, const char *arg, json_t **out)
{
	struct call c = {.kind = CALL_QUERY, .query = what, .arg = arg};
	int ret = call(link, &c);

	if (ret == 0)
		*out = c.json;
	return ret;
}

int og_link_join(struct og_link *link, const char *cluster_id)
{
	struct call c = {.kind = CALL_JOIN, .arg = cluster_id};

	return call(link, &c);
}

int og_link_leave(struct og_link *link, const char *cluster_id)
{
	struct call c = {.kind = CALL_LEAVE, .arg = cluster_id};

	return call(link, &c);
}

void og_link_drain(struct og_link *link)
{
	struct call c = {.kind = CALL_DRAIN};

	(void)!call(link, &c);
}

void og_link_set_limits(struct og_link *link, const struct og_router_limits *limits)
{
	struct call c = {.kind = CALL_LIMITS, .limits = limits};

	(void)!call(link, &c);
}

void og_link_set_model(struct og_link *link, uint32_t model, enum og_router_model_state state)
{
	struct call c = {.kind = CALL_MODEL, .model = model, .state = state};

	(void)!call(link, &c);
}
