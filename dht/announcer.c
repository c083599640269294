#include "dht/announcer.h"

#include "dht/commit.h"
#include "dht/self.h"

#include <errno.h>
#include <stdlib.h>

enum {
	FIND_PEER = 2,
	RELAYS = 3,
	FAREWELLS = 8, /* relays that left and get an UNANNOUNCE */
	PING_SENDS = 3,
	FAREWELL_SLOT = 16, /* job slots from here on are farewells */
};

static const uint64_t second = OG_NS_PER_S;
static const uint64_t ping_interval_ns = 3 * OG_NS_PER_S;
static const uint64_t round_floor_ns = 3 * OG_NS_PER_S;
static const uint64_t moved_floor_ns = 10 * OG_NS_PER_S;
static const uint64_t round_limit_ns = 60 * OG_NS_PER_S;
static const uint64_t reannounce_ns = 300 * OG_NS_PER_S;
static const uint64_t widen_ns = 30 * OG_NS_PER_S; /* while there are fewer than 3 relays */
static const uint64_t stop_limit_ns = 900 * OG_NS_PER_MS;
static const uint64_t retry_job_ns = 20 * OG_NS_PER_MS;

struct relay {
	struct og_addr addr;
	uint16_t endpoint; /* that our announce left from */
	struct og_addr us; /* our address as it saw it then */
	bool pinging;
	struct og_dht_req_id ping;
};

enum phase { IDLE, FINDING, ANNOUNCING };

/* An unannounce at one node: ask it for a token, sign, send. */
struct farewell {
	uint32_t gen;
	bool active;
	bool asking;
	uint16_t endpoint;
	struct og_addr addr;
	struct og_dht_req_id request;
	struct og_dht_commit commit;
};

struct og_dht_announcer {
	struct og_dht_env *env;
	bool on;
	bool stopping;
	uint32_t gen; /* of the round: what comes from an older one is ignored */
	enum phase phase;
	uint32_t failures; /* rounds in a row that stored nothing */
	uint32_t table_size;
	uint32_t wakeups;
	uint16_t endpoint; /* requests leave from it */
	uint64_t started_ns;
	uint64_t deadline_ns; /* of the running round, or of the stop */
	uint64_t next_round_ns;
	uint64_t next_ping_ns;
	struct og_dht_query_id query;
	struct og_dht_announcement announcement;
	uint32_t nb_commits, nb_open;
	struct og_dht_commit commits[RELAYS];
	struct relay stored[RELAYS]; /* by commit; port 0: not stored there */
	uint32_t nb_fresh;
	struct relay fresh[RELAYS]; /* those that stored it, nearest first */
	uint32_t nb_relays;
	struct relay relays[RELAYS];
	uint32_t nb_closest;
	struct og_addr closest[OG_DHT_K];
	struct farewell farewells[FAREWELLS];
};

/* ---- Farewells ---- */

static void farewell_end(struct farewell *f)
{
	f->active = false;
	f->gen++;
}

static uint64_t farewell_tag(const struct og_dht_announcer *an, const struct farewell *f)
{
	return (uint64_t)f->gen << 32 | (uint32_t)(f - an->farewells);
}

static struct farewell *farewell_of(struct og_dht_announcer *an, uint64_t tag)
{
	struct farewell *f = &an->farewells[(uint32_t)tag % FAREWELLS];

	return f->active && f->gen == (uint32_t)(tag >> 32) ? f : NULL;
}

static void on_unannounced(
	void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct farewell *f = farewell_of(ctx, tag);

	if (f)
		farewell_end(f);
}

static void farewell_sign(struct og_dht_announcer *an, struct farewell *f)
{
	struct og_dht_announcement a;

	og_dht_announcement_init(&a, an->env, an->env->target, NULL, 0);
	og_dht_commit_sign(&f->commit, an->env, &a, OG_DHT_JOB_SERVER_SIGN,
		FAREWELL_SLOT + (uint32_t)(f - an->farewells), f->gen);
}

static void on_farewell_token(
	void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_announcer *an = ctx;
	struct farewell *f = farewell_of(an, tag);

	if (!f)
		return;
	f->asking = false;
	if (reply->status < 0 || !reply->id || !reply->msg->token || !reply->msg->has_value) {
		farewell_end(f); /* gone, or it does not list us */
		return;
	}
	og_dht_commit_init(&f->commit, true, &f->addr, reply->id, reply->msg->token);
	farewell_sign(an, f);
}

static void farewell_start(struct og_dht_announcer *an, const struct relay *relay, uint64_t now_ns)
{
	struct farewell *f = an->farewells;

	while (f < an->farewells + FAREWELLS && f->active)
		f++;
	if (f == an->farewells + FAREWELLS)
		return; /* the record expires by itself */
	*f = (struct farewell){.gen = f->gen,
		.active = true,
		.asking = true,
		.endpoint = relay->endpoint,
		.addr = relay->addr};
	og_dht_request_send(an->env->rpc,
		&(struct og_dht_request){.to = f->addr,
			.command = FIND_PEER,
			.target = an->env->target,
			.sends = 1,
			.endpoint = f->endpoint,
			.fn = on_farewell_token,
			.ctx = an,
			.tag = farewell_tag(an, f)},
		&f->request, now_ns);
}

static void farewell_cancel(struct og_dht_announcer *an, struct farewell *f)
{
	if (!f->active)
		return;
	if (f->asking)
		og_dht_request_cancel(an->env->rpc, f->request);
	else
		og_dht_commit_cancel(&f->commit, an->env);
	farewell_end(f);
}

static bool farewells_active(const struct og_dht_announcer *an)
{
	for (int i = 0; i < FAREWELLS; i++) {
		if (an->farewells[i].active)
			return true;
	}
	return false;
}

/* ---- The relay list ---- */

static void publish(struct og_dht_announcer *an)
{
	struct og_dht_env *env = an->env;
	struct og_addr public_addr;

	env->nb_relays = 0;
	if (!an->on)
		return;
	if (an->nb_relays > 0 && og_dht_self_public(env, &public_addr))
		env->relays[env->nb_relays++] = public_addr;
	for (uint32_t i = 0; i < an->nb_relays && env->nb_relays < OG_DHT_RECORD_RELAYS; i++)
		env->relays[env->nb_relays++] = an->relays[i].addr;
}

static void stop_pings(struct og_dht_announcer *an)
{
	for (uint32_t i = 0; i < an->nb_relays; i++) {
		if (an->relays[i].pinging)
			og_dht_request_cancel(an->env->rpc, an->relays[i].ping);
		an->relays[i].pinging = false;
	}
}

static bool is_fresh(const struct og_dht_announcer *an, const struct og_addr *a)
{
	for (uint32_t i = 0; i < an->nb_fresh; i++) {
		if (og_addr_eq(&an->fresh[i].addr, a))
			return true;
	}
	return false;
}

static void replace_relays(struct og_dht_announcer *an, uint64_t now_ns)
{
	stop_pings(an);
	for (uint32_t i = 0; i < an->nb_relays; i++) {
		if (!is_fresh(an, &an->relays[i].addr))
			farewell_start(an, &an->relays[i], now_ns);
	}
	memcpy(an->relays, an->fresh, sizeof(an->relays));
	an->nb_relays = an->nb_fresh;
	publish(an);
	an->next_ping_ns = now_ns + ping_interval_ns;
}

/* ---- A round ---- */

static void want_round(struct og_dht_announcer *an, uint64_t at_ns)
{
	an->next_round_ns = OG_MIN(an->next_round_ns, at_ns);
}

static void cancel_round(struct og_dht_announcer *an)
{
	if (an->phase == FINDING)
		og_dht_query_cancel(an->env->rpc, an->query);
	for (uint32_t i = 0; i < an->nb_commits; i++)
		og_dht_commit_cancel(&an->commits[i], an->env);
	an->nb_commits = an->nb_open = 0;
	an->phase = IDLE;
	an->gen++;
}

/*
 * 1, 2, 4 … 30 s, a quarter more or less. While no node is known at all a round is just one packet
 * a second to the bootstrap nodes, and the network may appear at any moment: at most 2 s.
 */
static uint64_t backoff_ns(struct og_dht_announcer *an)
{
	uint64_t limit_s = og_dht_rpc_table_size(an->env->rpc) == 0 ? 2 : 30;
	uint64_t s = OG_MIN(limit_s, 1ull << OG_MIN(an->failures - 1, 5u));
	uint64_t quarter_ms = s * 250;

	return (s * 1000 - quarter_ms + og_rand_below(an->env->rand, 2 * (uint32_t)quarter_ms)) *
	       OG_NS_PER_MS;
}

static void round_failed(struct og_dht_announcer *an, uint64_t now_ns)
{
	og_count(&an->env->counts.announce_rounds_failed);
	cancel_round(an);
	an->failures++;
	an->next_round_ns = now_ns + backoff_ns(an);
}

static void round_ended(struct og_dht_announcer *an, uint64_t now_ns)
{
	const struct og_dht_ops *ops = an->env->ops;

	an->nb_fresh = 0;
	for (int i = 0; i < RELAYS; i++) {
		if (an->stored[i].addr.port != 0)
			an->fresh[an->nb_fresh++] = an->stored[i];
	}
	if (an->nb_fresh == 0) {
		round_failed(an, now_ns);
		return;
	}
	cancel_round(an);
	an->failures = 0;
	an->next_round_ns = now_ns + (an->nb_fresh < RELAYS ? widen_ns : reannounce_ns);
	replace_relays(an, now_ns);
	if (ops->server_state)
		ops->server_state(an->env->ctx, an->nb_relays, now_ns);
}

static uint64_t round_tag(const struct og_dht_announcer *an, uint32_t i)
{
	return (uint64_t)an->gen << 32 | i;
}

static void on_announced(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_announcer *an = ctx;
	uint32_t i = (uint32_t)tag;

	if (an->phase != ANNOUNCING || tag >> 32 != an->gen || i >= an->nb_commits)
		return;
	an->commits[i].state = OG_DHT_COMMIT_FREE;
	an->nb_open--;
	if (reply->status == 0 && reply->msg->error == 0)
		an->stored[i] = (struct relay){
			.addr = reply->from, .endpoint = reply->endpoint, .us = reply->msg->to};
	if (an->nb_open == 0)
		round_ended(an, now_ns);
}

/* The nearest nodes that gave a token; without one nothing can be stored there. */
static void on_nearest(void *ctx, uint64_t tag, int status, const struct og_dht_closest *closest,
	uint32_t n, uint64_t now_ns)
{
	struct og_dht_announcer *an = ctx;

	if (an->phase != FINDING || tag != round_tag(an, 0))
		return;
	an->phase = ANNOUNCING;
	an->nb_closest = n;
	for (uint32_t i = 0; i < n; i++) {
		an->closest[i] = closest[i].addr;
		if (closest[i].has_token && an->nb_commits < RELAYS)
			og_dht_commit_init(&an->commits[an->nb_commits++], false, &closest[i].addr,
				closest[i].id, closest[i].token);
	}
	an->nb_open = an->nb_commits;
	if (an->nb_open == 0) {
		round_failed(an, now_ns);
		return;
	}
	og_dht_announcement_init(&an->announcement, an->env, an->env->target, NULL, 0);
	for (uint32_t i = 0; i < an->nb_commits; i++)
		og_dht_commit_sign(&an->commits[i], an->env, &an->announcement,
			OG_DHT_JOB_SERVER_SIGN, i, an->gen);
}

static void start_round(struct og_dht_announcer *an, uint64_t now_ns)
{
	struct og_dht_query_opts q = {.command = FIND_PEER,
		.seeds = an->closest,
		.nb_seeds = an->nb_closest,
		.on_done = on_nearest,
		.ctx = an};

	cancel_round(an);
	og_count(&an->env->counts.announce_rounds);
	memset(an->stored, 0, sizeof(an->stored));
	an->started_ns = now_ns;
	an->deadline_ns = now_ns + round_limit_ns;
	an->next_round_ns = OG_NEVER;
	memcpy(q.target, an->env->target, sizeof(q.target));
	q.tag = round_tag(an, 0);
	if (og_dht_query_start(an->env->rpc, &q, &an->query, now_ns) < 0) {
		round_failed(an, now_ns);
		return;
	}
	an->phase = FINDING;
}

void og_dht_announcer_job_done(
	struct og_dht_announcer *an, const struct og_job *job, uint64_t now_ns)
{
	struct og_dht_announcement farewell;

	if (job->slot < RELAYS) {
		struct og_dht_commit *c = &an->commits[job->slot];

		if (job->gen != an->gen || an->phase != ANNOUNCING ||
			c->state != OG_DHT_COMMIT_SIGNING)
			return;
		og_dht_commit_send(c, an->env, &an->announcement, job,
			(struct og_dht_request){.any_endpoint = true,
				.fn = on_announced,
				.ctx = an,
				.tag = round_tag(an, job->slot)},
			now_ns);
	} else if (job->slot >= FAREWELL_SLOT && job->slot < FAREWELL_SLOT + FAREWELLS) {
		struct farewell *f = &an->farewells[job->slot - FAREWELL_SLOT];

		if (!f->active || f->gen != job->gen || f->commit.state != OG_DHT_COMMIT_SIGNING)
			return;
		og_dht_announcement_init(&farewell, an->env, an->env->target, NULL, 0);
		og_dht_commit_send(&f->commit, an->env, &farewell, job,
			(struct og_dht_request){.forced = true,
				.endpoint = f->endpoint,
				.fn = on_unannounced,
				.ctx = an,
				.tag = farewell_tag(an, f)},
			now_ns);
	}
}

/* ---- Pings ---- */

static void on_pong(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_announcer *an = ctx;

	for (uint32_t i = 0; i < an->nb_relays; i++) {
		struct relay *r = &an->relays[i];

		if (!r->pinging || !og_addr_eq(&r->addr, &reply->from))
			continue;
		r->pinging = false;
		if (reply->status == -ETIMEDOUT)
			want_round(an, OG_MAX(now_ns, an->started_ns + round_floor_ns));
		else if (reply->status == 0 && !og_addr_eq(&reply->msg->to, &r->us))
			want_round(an, OG_MAX(now_ns, an->started_ns + moved_floor_ns));
		return;
	}
}

static void ping_relays(struct og_dht_announcer *an, uint64_t now_ns)
{
	an->next_ping_ns = now_ns + ping_interval_ns;
	for (uint32_t i = 0; i < an->nb_relays; i++) {
		struct relay *r = &an->relays[i];

		if (r->pinging)
			continue;
		r->pinging = true;
		og_dht_request_send(an->env->rpc,
			&(struct og_dht_request){.to = r->addr,
				.internal = true,
				.command = OG_DHT_PING,
				.sends = PING_SENDS,
				.endpoint = r->endpoint,
				.fn = on_pong,
				.ctx = an},
			&r->ping, now_ns);
	}
}

/* ---- Time and life ---- */

/* What makes a round due at once: nodes appeared, our socket changed, we slept. */
static void watch_node(struct og_dht_announcer *an, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = an->env->rpc;
	uint32_t size = og_dht_rpc_table_size(rpc);
	uint32_t wakeups = og_dht_rpc_wakeups(rpc);
	uint16_t endpoint = og_dht_rpc_expected_endpoint(rpc);

	if (an->table_size == 0 && size > 0 && an->nb_relays == 0 && an->phase == IDLE)
		want_round(an, now_ns);
	if (endpoint != an->endpoint || wakeups != an->wakeups) {
		cancel_round(an);
		want_round(an, now_ns);
	}
	an->table_size = size;
	an->endpoint = endpoint;
	an->wakeups = wakeups;
}

static bool retry_jobs(struct og_dht_announcer *an)
{
	bool waits = false;

	for (uint32_t i = 0; i < an->nb_commits; i++) {
		if (an->commits[i].state == OG_DHT_COMMIT_UNSIGNED)
			og_dht_commit_sign(&an->commits[i], an->env, &an->announcement,
				OG_DHT_JOB_SERVER_SIGN, i, an->gen);
		waits |= an->commits[i].state == OG_DHT_COMMIT_UNSIGNED;
	}
	for (int i = 0; i < FAREWELLS; i++) {
		struct farewell *f = &an->farewells[i];

		if (f->active && !f->asking && f->commit.state == OG_DHT_COMMIT_UNSIGNED)
			farewell_sign(an, f);
		waits |= f->active && !f->asking && f->commit.state == OG_DHT_COMMIT_UNSIGNED;
	}
	return waits;
}

static void stopped(struct og_dht_announcer *an, uint64_t now_ns)
{
	const struct og_dht_ops *ops = an->env->ops;

	for (int i = 0; i < FAREWELLS; i++)
		farewell_cancel(an, &an->farewells[i]);
	an->stopping = false;
	if (ops->server_state)
		ops->server_state(an->env->ctx, 0, now_ns);
}

uint64_t og_dht_announcer_tick(struct og_dht_announcer *an, uint64_t now_ns)
{
	uint64_t next = retry_jobs(an) ? now_ns + retry_job_ns : OG_NEVER;

	if (an->stopping) {
		if (now_ns >= an->deadline_ns || !farewells_active(an))
			stopped(an, now_ns);
		else
			next = OG_MIN(next, an->deadline_ns);
	}
	if (!an->on)
		return next;
	watch_node(an, now_ns);
	if (an->phase != IDLE && now_ns >= an->deadline_ns)
		round_failed(an, now_ns);
	if (an->phase == IDLE && now_ns >= an->next_round_ns)
		start_round(an, now_ns);
	if (an->nb_relays > 0 && now_ns >= an->next_ping_ns)
		ping_relays(an, now_ns);
	next = OG_MIN(next, an->phase == IDLE ? an->next_round_ns : an->deadline_ns);
	if (an->nb_relays > 0)
		next = OG_MIN(next, an->next_ping_ns);
	return OG_MIN(next, now_ns + second); /* watch_node() polls */
}

void og_dht_announcer_start(struct og_dht_announcer *an, uint64_t now_ns)
{
	an->on = true;
	an->failures = 0;
	an->next_round_ns = now_ns;
	an->endpoint = og_dht_rpc_expected_endpoint(an->env->rpc);
	an->wakeups = og_dht_rpc_wakeups(an->env->rpc);
	an->table_size = og_dht_rpc_table_size(an->env->rpc);
}

void og_dht_announcer_stop(struct og_dht_announcer *an, uint64_t now_ns)
{
	cancel_round(an);
	stop_pings(an);
	for (uint32_t i = 0; i < an->nb_relays; i++)
		farewell_start(an, &an->relays[i], now_ns);
	an->nb_relays = 0;
	an->on = false;
	an->stopping = true;
	an->deadline_ns = now_ns + stop_limit_ns;
	publish(an);
}

bool og_dht_announcer_active(const struct og_dht_announcer *an)
{
	return an->on || an->stopping;
}

int og_dht_announcer_create(struct og_dht_announcer **out, struct og_dht_env *env)
{
	struct og_dht_announcer *an = calloc(1, sizeof(*an));

	if (!an)
		return -ENOMEM;
	an->env = env;
	*out = an;
	return 0;
}

void og_dht_announcer_destroy(struct og_dht_announcer *an)
{
	free(an);
}
