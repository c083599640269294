#include "tests/sim/sim.h"

#include "cluster/stream_core.h"
#include "crypto/hash.h"
#include "dht/view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum event_type { EV_DATAGRAM, EV_JOB, EV_TICK, EV_ENGINE, EV_MESSAGE };

struct event {
	uint64_t at, order;
	enum event_type type;
	uint32_t node, life;
	struct og_addr src;
	uint16_t endpoint; /* of a message: the core it goes to */
	uint32_t len_bytes;
	void *data; /* datagram, job, engine step, or message with its data behind it */
};

struct engine_step {
	uint64_t id;
	int part;
	char text[200];
};

struct ask_record {
	bool open;
	uint32_t node;
	char prompt[120];
	char got[240];
	size_t got_bytes;
};

enum { ASKS_MAX = 65536, TAG_KEY = 0x1234567 };

struct sim {
	struct og_rand rand;
	struct sim_link link;
	uint64_t now, order, trace;
	struct event *heap;
	size_t nb_events, cap_events;
	struct sim_node **nodes;
	uint32_t nb_nodes, cap_nodes;
	int32_t *by_addr;
	struct ask_record *asks;
	uint32_t nb_asks;
	uint64_t asks_open, wrong;
};

enum { ADDR_BUCKETS = 1 << 16 };

static uint32_t addr_bucket(const struct og_addr *a)
{
	return (uint32_t)((og_addr_key(a) * 0x9e3779b97f4a7c15ull) >> 48);
}

/* ---- the queue of events ---- */

static bool before(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void push(struct sim *s, struct event ev)
{
	size_t i;

	if (s->nb_events == s->cap_events) {
		s->cap_events = s->cap_events ? s->cap_events * 2 : 1024;
		s->heap = realloc(s->heap, s->cap_events * sizeof(*s->heap));
		OG_ASSERT(s->heap);
	}
	ev.order = s->order++;
	for (i = s->nb_events++; i > 0 && before(&ev, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = ev;
}

static struct event pop(struct sim *s)
{
	struct event top = s->heap[0], last = s->heap[--s->nb_events];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < s->nb_events) {
		if (child + 1 < s->nb_events && before(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (!before(&s->heap[child], &last))
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = last;
	return top;
}

static bool chance(struct sim *s, double p)
{
	return p > 0 && (double)(og_rand_u64(&s->rand) >> 11) / 9007199254740992.0 < p;
}

static uint64_t between(struct sim *s, uint64_t min, uint64_t max)
{
	return max > min ? min + og_rand_u64(&s->rand) % (max - min) : min;
}

/* ---- what a core sees ---- */

static uint8_t *tx_reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	struct sim_node *n = OG_CONTAINER_OF(tx, struct sim_node, tx);

	*cap_bytes = sizeof(n->tx_buffer);
	return n->tx_buffer;
}

static struct sim_node *node_at(struct sim *s, const struct og_addr *a)
{
	int32_t i = s->by_addr[addr_bucket(a)];

	return i >= 0 && og_addr_eq(&s->nodes[i]->opts.addr, a) ? s->nodes[i] : NULL;
}

static void transmit(struct sim_node *from, struct sim_node *to, uint16_t len_bytes)
{
	struct sim *s = from->sim;
	uint64_t delay = between(s, s->link.delay_min_ns, s->link.delay_max_ns);
	struct event ev = {.type = EV_DATAGRAM,
		.node = to->idx,
		.life = to->life,
		.src = from->opts.addr,
		.len_bytes = len_bytes};

	if (chance(s, s->link.reorder))
		delay += between(s, OG_NS_PER_MS, 20 * OG_NS_PER_MS);
	ev.at = s->now + delay;
	ev.data = malloc(len_bytes ? len_bytes : 1);
	memcpy(ev.data, from->tx_buffer, len_bytes);
	push(s, ev);
}

static void tx_commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct sim_node *n = OG_CONTAINER_OF(tx, struct sim_node, tx);
	struct sim *s = n->sim;
	struct sim_node *to = node_at(s, dst);

	OG_ASSERT(len_bytes <= 1472);
	n->sent++;
	if (!to || !to->alive || to->group != n->group || chance(s, s->link.loss))
		return;
	transmit(n, to, len_bytes);
	if (chance(s, s->link.duplicate))
		transmit(n, to, len_bytes);
}

static struct og_job *jobs_begin(struct og_jobs *jobs)
{
	struct sim_node *n = OG_CONTAINER_OF(jobs, struct sim_node, jobs);

	if (!n->job)
		n->job = calloc(1, sizeof(*n->job));
	return n->job;
}

static void jobs_post(struct og_jobs *jobs, struct og_job *job)
{
	struct sim_node *n = OG_CONTAINER_OF(jobs, struct sim_node, jobs);
	struct sim *s = n->sim;

	OG_ASSERT(job == n->job);
	n->job = NULL;
	push(s, (struct event){.at = s->now + between(s, 50 * OG_NS_PER_US, 2 * OG_NS_PER_MS),
			.type = EV_JOB,
			.node = n->idx,
			.life = n->life,
			.data = job});
}

static int events_push(struct og_sink *sink, const struct og_msg *msg)
{
	struct sim_node *n = OG_CONTAINER_OF(sink, struct sim_node, events);

	if (n->on_event)
		n->on_event(n, msg);
	if (n->router)
		og_router_core_event(n->router, msg, n->sim->now);
	return 0;
}

/* ---- several cores ---- */

static struct og_core *core_of(const struct sim_node *n, uint16_t idx)
{
	return idx == 0 ? n->core : n->others[idx];
}

static int between_push(struct og_sink *sink, const struct og_msg *msg)
{
	struct sim_between *b = OG_CONTAINER_OF(sink, struct sim_between, sink);
	struct sim *s = b->node->sim;
	uint64_t at = s->now + between(s, OG_NS_PER_US, 300 * OG_NS_PER_US);
	struct event ev = {.type = EV_MESSAGE,
		.node = b->node->idx,
		.life = b->node->life,
		.endpoint = b->to,
		.len_bytes = msg->len_bytes};
	uint8_t *copy;

	if (chance(s, 0.05))
		return -EAGAIN;
	copy = malloc(sizeof(*msg) + msg->len_bytes);
	OG_ASSERT(copy);
	memcpy(copy, msg, sizeof(*msg));
	if (msg->len_bytes > 0)
		memcpy(copy + sizeof(*msg), msg->data, msg->len_bytes);
	ev.data = copy;
	ev.at = b->last_at = OG_MAX(at, b->last_at);
	push(s, ev);
	return 0;
}

static void take_message(struct sim_node *n, const struct event *ev)
{
	struct og_msg *m = ev->data;

	m->data = ev->len_bytes > 0 ? (const uint8_t *)(m + 1) : NULL;
	core_of(n, ev->endpoint)->ops->command(core_of(n, ev->endpoint), m, n->sim->now);
}

/* At any of its cores, which gives it to the one it belongs to. */
static void receive(struct sim_node *n, struct og_dgram *d)
{
	uint16_t at = 0;

	n->received++;
	if (n->nb_cores > 1) {
		const struct og_core *first;
		uint16_t to;

		at = (uint16_t)og_rand_below(&n->sim->rand, n->nb_cores);
		first = core_of(n, at);
		to = first->ops->steer(first, d);
		OG_ASSERT(to < n->nb_cores);
		n->handed_over += to != at;
		at = to;
	}
	core_of(n, at)->ops->input(core_of(n, at), d, 1, n->sim->now);
}

static void boot_others(struct sim_node *n, const struct og_cluster_core_opts *co)
{
	for (uint16_t i = 1; i < n->nb_cores; i++) {
		struct og_stream_core_opts o = {
			.env = co->env,
			.home = &n->home[i].sink,
			.view = n->view,
			.idx = i,
			.nb_cores = n->nb_cores,
			.own_key = n->keys.public_key,
			.peers_max = co->peers_max,
			.frame_budget_bytes = co->frame_budget_bytes,
			.packets = co->packets,
		};

		OG_ASSERT(og_stream_core_create(&n->others[i], &o, n->sim->now) == 0);
	}
}

static void wire_cores(struct sim_node *n, struct og_cluster_core_opts *co)
{
	n->nb_cores = OG_MAX(n->opts.nb_cores, 1);
	OG_ASSERT(n->nb_cores <= SIM_CORES_MAX);
	co->nb_cores = n->nb_cores;
	for (uint16_t i = 1; i < n->nb_cores; i++) {
		n->out[i] = (struct sim_between){{between_push}, n, i, 0};
		n->home[i] = (struct sim_between){{between_push}, n, 0, 0};
		co->links[i] = &n->out[i].sink;
	}
	if (n->nb_cores > 1)
		OG_ASSERT(og_dht_view_create(&n->view, n->nb_cores) == 0);
	co->view = n->view;
}

static void destroy_cores(struct sim_node *n)
{
	for (uint16_t i = 1; i < n->nb_cores; i++) {
		og_stream_core_destroy(n->others[i]);
		n->others[i] = NULL;
	}
	og_cluster_core_destroy(n->core);
	og_dht_view_destroy(n->view);
	n->core = NULL;
	n->view = NULL;
}

/* ---- what a router sees ---- */

static int router_command(void *ctx, const struct og_msg *cmd)
{
	struct sim_node *n = ctx;
	uint16_t idx = 0;
	struct og_core *core;

	if (cmd->type >= OG_CMD_WRITE && cmd->type <= OG_CMD_CONSUMED && n->nb_cores > 1)
		idx = (uint16_t)(cmd->slot / og_slots_per_core(n->opts.peers_max, n->nb_cores));
	core = core_of(n, idx);
	return core->ops->command(core, cmd, n->sim->now);
}

static int router_infer(void *ctx, uint32_t engine, struct og_infer_request *req)
{
	struct sim_node *n = ctx;
	struct engine_step *step = calloc(1, sizeof(*step));

	step->id = req->id;
	snprintf(step->text, sizeof(step->text), "echo: %.*s",
		(int)req->messages[req->nb_messages - 1].content_bytes,
		req->messages[req->nb_messages - 1].content);
	og_infer_request_free(req);
	push(n->sim, (struct event){.at = n->sim->now + n->answer_slow_ns,
			     .type = EV_ENGINE,
			     .node = n->idx,
			     .life = n->life,
			     .data = step});
	return 0;
}

static void router_infer_cancel(void *ctx, uint32_t engine, uint64_t id)
{
	/* The played engine goes on; events of a request that is gone must be ignored. */
}

static void router_infer_credit(void *ctx, uint32_t engine, uint64_t id, uint32_t n)
{
}

static void router_answer(void *ctx, const struct og_answer *a)
{
	struct sim_node *n = ctx;
	struct sim *s = n->sim;
	struct ask_record *rec = &s->asks[a->face];
	char want[200];

	if (!rec->open) {
		n->duplicates++;
		return;
	}
	if (a->type == OG_ANSWER_TEXT) {
		size_t room = sizeof(rec->got) - 1 - rec->got_bytes;
		size_t len = OG_MIN((size_t)a->text_bytes, room);

		memcpy(rec->got + rec->got_bytes, a->text, len);
		rec->got_bytes += len;
		return;
	}
	rec->open = false;
	s->asks_open--;
	if (a->type == OG_ANSWER_ERROR) {
		n->errors++;
		return;
	}
	n->answers++;
	snprintf(want, sizeof(want), "echo: %s", rec->prompt);
	if (strcmp(want, rec->got) != 0)
		s->wrong++;
}

/* ---- nodes ---- */

static void schedule(struct sim_node *n, uint64_t at)
{
	if (at >= n->tick_at)
		return;
	n->tick_at = at;
	push(n->sim, (struct event){.at = at, .type = EV_TICK, .node = n->idx, .life = n->life});
}

static void tick(struct sim_node *n)
{
	uint64_t next, router_next;

	if (!n->alive)
		return;
	next = n->core->ops->tick(n->core, n->sim->now);
	for (uint16_t i = 1; i < n->nb_cores; i++) {
		uint64_t other = n->others[i]->ops->tick(n->others[i], n->sim->now);

		next = OG_MIN(next, other);
	}
	router_next = n->router ? og_router_tick(n->router, n->sim->now) : OG_NEVER;
	next = OG_MIN(next, router_next);
	if (next == OG_NEVER)
		return;
	/* A core that asks for "now" for ever would stop the clock. */
	schedule(n, OG_MAX(next, n->sim->now + 10 * OG_NS_PER_US));
}

static void boot(struct sim_node *n)
{
	const struct sim_node_opts *o = &n->opts;
	struct og_cluster_core_opts co = {
		.env = {&n->tx, &n->jobs, &n->events, &n->rand, TAG_KEY},
		.keys = &n->keys,
		.local = {o->addr},
		.lan_addrs = &o->addr,
		.nb_lan_addrs = 1,
		.bootstrap = o->bootstrap,
		.nb_bootstrap = o->nb_bootstrap,
		.ephemeral = OG_CORE_NO,
		.firewalled = OG_CORE_AUTO,
		.peers_max = o->peers_max,
		.packets = 512,
		.dht_records = 512,
		.dht_values = 64,
		.frame_budget_bytes = 8 << 20,
	};
	struct og_router_model model = {.name = n->model};
	struct og_router_opts ro = {
		.env = {n, router_command, router_infer, router_infer_cancel, router_infer_credit,
			router_answer, &n->rand},
		.node_name = n->name,
		.public_key = n->keys.public_key,
		.models = &model,
		.nb_models = n->model[0] ? 1 : 0,
		.peers_max = o->peers_max,
		.asks_max = 64,
	};

	wire_cores(n, &co);
	if (n->nb_cores > 1)
		ro.peers_max = n->nb_cores * og_slots_per_core(o->peers_max, n->nb_cores);

	if (o->first)
		co.public_addr = o->addr;
	OG_ASSERT(og_cluster_core_create(&n->core, &co, n->sim->now) == 0);
	boot_others(n, &co);
	if (!o->no_router)
		OG_ASSERT(og_router_create(&n->router, &ro, n->sim->now) == 0);
	n->alive = true;
	n->tick_at = OG_NEVER;
	schedule(n, n->sim->now);
}

struct sim_node *sim_add(struct sim *s, const struct sim_node_opts *opts)
{
	struct sim_node *n = calloc(1, sizeof(*n));
	uint8_t seed[32];

	OG_ASSERT(n);
	if (s->nb_nodes == s->cap_nodes) {
		s->cap_nodes = s->cap_nodes ? s->cap_nodes * 2 : 64;
		s->nodes = realloc(s->nodes, s->cap_nodes * sizeof(struct sim_node *));
		OG_ASSERT(s->nodes);
	}
	n->sim = s;
	n->idx = s->nb_nodes;
	n->opts = *opts;
	snprintf(n->name, sizeof(n->name), "%s", opts->name ? opts->name : "");
	snprintf(n->model, sizeof(n->model), "%s", opts->model ? opts->model : "");
	og_rand_seeded(&n->rand, og_rand_u64(&s->rand));
	og_rand_fill(&n->rand, seed, sizeof(seed));
	og_keypair_from_seed(&n->keys, opts->seed ? opts->seed : seed);
	n->tx = (struct og_tx){tx_reserve, tx_commit};
	n->jobs = (struct og_jobs){jobs_begin, jobs_post};
	n->events = (struct og_sink){events_push};
	n->answer_slow_ns = 30 * OG_NS_PER_MS;
	s->nodes[s->nb_nodes++] = n;
	OG_ASSERT(s->by_addr[addr_bucket(&opts->addr)] == -1); /* pick another address */
	s->by_addr[addr_bucket(&opts->addr)] = (int32_t)n->idx;
	boot(n);
	return n;
}

void sim_kill(struct sim_node *n)
{
	if (!n->alive)
		return;
	n->alive = false;
	n->life++;
	/* The process is gone, and with it those who waited for its answers. */
	for (uint32_t i = 0; i < n->sim->nb_asks; i++) {
		struct ask_record *rec = &n->sim->asks[i];

		n->sim->asks_open -= rec->open && rec->node == n->idx;
		rec->open = rec->open && rec->node != n->idx;
	}
	og_router_destroy(n->router);
	destroy_cores(n);
	n->router = NULL;
}

void sim_restart(struct sim_node *n)
{
	if (!n->alive)
		boot(n);
}

void sim_join(struct sim_node *n, const char *id)
{
	int ret = og_router_join(n->router, id, n->sim->now);

	OG_ASSERT(ret == 0);
	schedule(n, n->sim->now);
}

void sim_leave(struct sim_node *n, const char *id)
{
	int ret = og_router_leave(n->router, id, n->sim->now);

	OG_ASSERT(ret == 0);
	schedule(n, n->sim->now);
}

void sim_command(struct sim_node *n, const struct og_msg *cmd)
{
	n->core->ops->command(n->core, cmd, n->sim->now);
	schedule(n, n->sim->now);
}

void sim_ask(struct sim_node *n, const char *prompt, uint32_t deadline_ms)
{
	struct sim *s = n->sim;
	struct og_ask *ask = calloc(1, sizeof(*ask));
	struct og_infer_message m = {"user", prompt, (uint32_t)strlen(prompt)};
	struct og_infer_params p;
	struct ask_record *rec = &s->asks[s->nb_asks];

	OG_ASSERT(ask && s->nb_asks < ASKS_MAX);
	og_infer_params_default(&p);
	ask->face = s->nb_asks++;
	ask->deadline_ms = deadline_ms;
	ask->stream = ask->face & 1;
	OG_ASSERT(og_infer_request_create(&ask->req, 0, &p, false, &m, 1) == 0);
	rec->open = true;
	rec->node = n->idx;
	snprintf(rec->prompt, sizeof(rec->prompt), "%s", prompt);
	s->asks_open++;
	og_router_ask(n->router, ask, s->now);
	schedule(n, s->now);
}

/* ---- time ---- */

static void engine_speaks(struct sim_node *n, struct engine_step *step)
{
	struct og_infer_event ev = {.id = step->id, .type = OG_INFER_TEXT};
	size_t len = strlen(step->text), half = len / 2;

	if (!n->router)
		return;
	ev.text_bytes = (uint16_t)half;
	memcpy(ev.text, step->text, half);
	og_router_engine_event(n->router, 0, &ev, n->sim->now);
	ev.text_bytes = (uint16_t)(len - half);
	memcpy(ev.text, step->text + half, len - half);
	og_router_engine_event(n->router, 0, &ev, n->sim->now);
	ev.type = OG_INFER_DONE;
	og_router_engine_event(n->router, 0, &ev, n->sim->now);
}

static void fold(struct sim *s, const struct event *ev)
{
	uint64_t h = s->trace ^ ev->at;

	h = (h ^ ((uint64_t)ev->node << 32 | ev->len_bytes)) * 0x9e3779b97f4a7c15ull;
	s->trace = h ^ (h >> 29);
}

/* What its own machine does goes on when it wakes. */
static void postpone(struct sim_node *n, struct event *ev)
{
	if (ev->type == EV_DATAGRAM) {
		free(ev->data);
		return;
	}
	ev->at = n->sim->now + 100 * OG_NS_PER_MS;
	if (ev->type == EV_TICK)
		n->tick_at = ev->at;
	push(n->sim, *ev);
}

static void dispatch(struct sim *s, struct event *ev)
{
	struct sim_node *n = s->nodes[ev->node];
	bool current = n->alive && n->life == ev->life;

	fold(s, ev);
	if (current && n->asleep && (ev->type != EV_TICK || n->tick_at == ev->at)) {
		postpone(n, ev);
		return;
	}
	if (current && ev->type == EV_DATAGRAM) {
		struct og_dgram d = {ev->data, (uint16_t)ev->len_bytes, ev->endpoint, ev->src};

		receive(n, &d);
	} else if (current && ev->type == EV_JOB) {
		struct og_job *job = ev->data;

		job->run(job);
		n->core->ops->job_done(n->core, job, s->now);
	} else if (current && ev->type == EV_MESSAGE) {
		take_message(n, ev);
	} else if (current && ev->type == EV_ENGINE) {
		engine_speaks(n, ev->data);
	} else if (current && ev->type == EV_TICK && n->tick_at != ev->at) {
		current = false; /* an earlier tick took its place */
	}
	if (current && ev->type == EV_TICK)
		n->tick_at = OG_NEVER;
	if (current)
		tick(n);
	free(ev->data);
}

void sim_run(struct sim *s, uint64_t until_ns)
{
	while (s->nb_events > 0 && s->heap[0].at <= until_ns) {
		struct event ev = pop(s);

		s->now = ev.at;
		dispatch(s, &ev);
	}
	s->now = until_ns;
}

/* ---- create ---- */

struct sim *sim_create(uint64_t seed, const struct sim_link *link)
{
	struct sim *s = calloc(1, sizeof(*s));

	OG_ASSERT(s && og_crypto_init() == 0);
	og_rand_seeded(&s->rand, seed);
	s->link = *link;
	s->now = OG_NS_PER_S;
	s->by_addr = malloc(ADDR_BUCKETS * sizeof(*s->by_addr));
	s->asks = calloc(ASKS_MAX, sizeof(*s->asks));
	OG_ASSERT(s->by_addr && s->asks);
	memset(s->by_addr, 0xff, ADDR_BUCKETS * sizeof(*s->by_addr));
	return s;
}

void sim_destroy(struct sim *s)
{
	for (uint32_t i = 0; i < s->nb_nodes; i++) {
		sim_kill(s->nodes[i]);
		free(s->nodes[i]->job);
		free(s->nodes[i]);
	}
	for (size_t i = 0; i < s->nb_events; i++)
		free(s->heap[i].data);
	free(s->heap);
	free(s->nodes);
	free(s->by_addr);
	free(s->asks);
	free(s);
}

uint64_t sim_now(const struct sim *s)
{
	return s->now;
}

struct og_rand *sim_rand(struct sim *s)
{
	return &s->rand;
}

void sim_set_link(struct sim *s, const struct sim_link *link)
{
	s->link = *link;
}

uint32_t sim_nodes(const struct sim *s)
{
	return s->nb_nodes;
}

struct sim_node *sim_node(struct sim *s, uint32_t idx)
{
	return s->nodes[idx];
}

uint64_t sim_asks_open(const struct sim *s)
{
	return s->asks_open;
}

uint64_t sim_wrong_answers(const struct sim *s)
{
	return s->wrong;
}

uint64_t sim_trace(const struct sim *s)
{
	return s->trace;
}
