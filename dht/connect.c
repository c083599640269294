#include "dht/connect.h"

#include "crypto/hash.h"
#include "dht/connect_priv.h"
#include "dht/self.h"
#include "dht/work.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

enum { PEER_HANDSHAKE = 0, FIND_PEER = 2, FIND_PEER_SENDS = 4 };

/* Every part of an attempt has its own end; this is for the sum of them. */
static const uint64_t attempt_limit_ns = 60 * OG_NS_PER_S;
static const uint64_t retry_job_ns = 20 * OG_NS_PER_MS;

/* ---- How an attempt ends ---- */

struct og_dht_attempt *og_dht_attempt_of(struct og_dht_connect *c, uint64_t tag)
{
	uint32_t i = (uint32_t)tag;
	struct og_dht_attempt *a = i < c->nb_attempts ? &c->attempts[i] : NULL;

	return a && a->gen == (uint32_t)(tag >> 32) && a->state != OG_DHT_ATTEMPT_FREE ? a : NULL;
}

void og_dht_attempt_settle(struct og_dht_connect *c, struct og_dht_attempt *a)
{
	if (a->querying)
		og_dht_query_cancel(c->env->rpc, a->query);
	a->querying = false;
	for (int i = 0; i < OG_DHT_TRIES; i++) {
		if (a->tries[i].state == OG_DHT_TRY_SENT)
			og_dht_request_cancel(c->env->rpc, a->tries[i].request);
		a->tries[i].state = OG_DHT_TRY_FREE;
	}
}

/* The slot is free before anybody is told, so the listener may start the next attempt at once. */
static void attempt_free(struct og_dht_connect *c, struct og_dht_attempt *a)
{
	og_dht_attempt_settle(c, a);
	if (a->state == OG_DHT_ATTEMPT_LAN)
		og_dht_request_cancel(c->env->rpc, a->lan_ping);
	og_noise_wipe(&a->noise);
	sodium_memzero(&a->keys, sizeof(a->keys));
	a->state = OG_DHT_ATTEMPT_FREE;
	a->gen++;
	c->nb_used--;
}

void og_dht_attempt_fail(
	struct og_dht_connect *c, struct og_dht_attempt *a, int reason, uint64_t now_ns)
{
	const struct og_dht_ops *ops = c->env->ops;
	uint64_t stream = a->stream, tag = a->tag;
	uint8_t key[32];

	memcpy(key, a->remote_key, sizeof(key));
	attempt_free(c, a);
	og_count(&c->env->counts.connects_failed);
	ops->stream_release(c->env->ctx, stream, now_ns);
	if (ops->connect_failed)
		ops->connect_failed(c->env->ctx, tag, key, reason, now_ns);
}

void og_dht_attempt_connected(struct og_dht_connect *c, struct og_dht_attempt *a, uint16_t endpoint,
	const struct og_addr *remote, uint64_t now_ns)
{
	struct og_noise_keys keys = a->keys;
	struct og_dht_conn conn = {.stream = a->stream,
		.keys = &keys,
		.initiator = true,
		.remote_udx_id = a->remote_udx_id,
		.endpoint = endpoint,
		.has_remote = true,
		.remote = *remote,
		.tag = a->tag};

	memcpy(conn.remote_key, a->remote_key, sizeof(conn.remote_key));
	attempt_free(c, a);
	c->env->ops->connected(c->env->ctx, &conn, now_ns);
	sodium_memzero(&keys, sizeof(keys));
}

/* ---- Jobs ---- */

static struct og_job *begin_job(struct og_dht_connect *c, const struct og_dht_attempt *a,
	enum og_dht_job kind, uint32_t try_idx)
{
	struct og_job *job = c->env->jobs->begin(c->env->jobs);

	if (!job)
		return NULL;
	job->kind = (uint16_t)kind;
	job->slot = (uint32_t)(a - c->attempts) * OG_DHT_TRIES + try_idx;
	job->gen = a->gen;
	job->source_hash = 0; /* our own work */
	return job;
}

static void write_message_1(struct og_dht_connect *c, struct og_dht_attempt *a)
{
	struct og_job *job = begin_job(c, a, OG_DHT_JOB_CONNECT_WRITE, 0);
	struct og_dht_payload payload;
	uint8_t plain[OG_DHT_PAYLOAD_MAX];
	struct og_writer w = og_writer_of(plain, sizeof(plain));

	if (!job)
		return; /* the next tick tries again */
	og_dht_self_payload(&payload, c->env, false, OG_DHT_PAYLOAD_OK, a->udx_id);
	og_dht_payload_encode(&w, &payload);
	og_dht_work_connect(job, c->env->keypair, c->env->rand, a->remote_key, plain,
		(uint32_t)og_writer_len(&w));
	a->writing = true;
	c->env->jobs->post(c->env->jobs, job);
}

static void read_message_2(struct og_dht_connect *c, struct og_dht_attempt *a, uint32_t try_idx)
{
	struct og_dht_try *t = &a->tries[try_idx];
	struct og_job *job = begin_job(c, a, OG_DHT_JOB_CONNECT_READ, try_idx);

	if (!job)
		return; /* as above */
	og_dht_work_finish(job, &a->noise, t->message, t->message_bytes);
	t->state = OG_DHT_TRY_READING;
	c->env->jobs->post(c->env->jobs, job);
}

/* ---- Handshakes through relays ---- */

static void advance(struct og_dht_connect *c, struct og_dht_attempt *a, uint64_t now_ns);

static bool take_reply(struct og_dht_try *t, const struct og_dht_reply *reply)
{
	struct og_dht_handshake h;

	if (!reply->msg->has_value ||
		og_dht_handshake_decode(&h, reply->msg->value, reply->msg->value_bytes) < 0 ||
		h.mode != OG_DHT_REPLY || h.noise_bytes <= OG_NOISE_IK_2_OVERHEAD ||
		h.noise_bytes > sizeof(t->message) || (h.has_peer && h.peer.port == 0))
		return false;
	t->has_peer = h.has_peer;
	t->server = h.has_peer ? h.peer : t->relay;
	t->client = reply->msg->to;
	t->endpoint = reply->endpoint;
	t->message_bytes = (uint16_t)h.noise_bytes;
	memcpy(t->message, h.noise, h.noise_bytes);
	return true;
}

static void on_handshake_reply(
	void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_connect *c = ctx;
	struct og_dht_attempt *a = og_dht_attempt_of(c, tag);

	if (!a)
		return;
	for (uint32_t i = 0; i < OG_DHT_TRIES; i++) {
		struct og_dht_try *t = &a->tries[i];

		if (t->state != OG_DHT_TRY_SENT || !og_addr_eq(&t->relay, &reply->from))
			continue;
		t->state = OG_DHT_TRY_FREE;
		if (reply->status < 0)
			continue;
		if (!take_reply(t, reply)) {
			og_count(&c->env->counts.replies_bad);
			continue;
		}
		t->state = OG_DHT_TRY_ANSWERED;
		read_message_2(c, a, i);
	}
	advance(c, a, now_ns);
}

static void send_message_1(struct og_dht_connect *c, struct og_dht_attempt *a, struct og_dht_try *t,
	const struct og_addr *relay, bool is_candidate, uint64_t now_ns)
{
	uint8_t value[OG_DHT_MESSAGE_1_MAX + 16];
	struct og_writer w = og_writer_of(value, sizeof(value));

	og_dht_handshake_encode(&w, &(struct og_dht_handshake){.mode = OG_DHT_FROM_CLIENT,
					    .noise = a->message,
					    .noise_bytes = a->message_bytes});
	t->state = OG_DHT_TRY_SENT;
	t->is_candidate = is_candidate;
	t->relay = *relay;
	og_dht_request_send(c->env->rpc,
		&(struct og_dht_request){.to = *relay,
			.command = PEER_HANDSHAKE,
			.target = a->target,
			.value = value,
			.value_bytes = (uint32_t)og_writer_len(&w),
			.has_value = true,
			.any_endpoint = true,
			.fn = on_handshake_reply,
			.ctx = c,
			.tag = og_dht_attempt_tag(c, a)},
		&t->request, now_ns);
}

/* ---- Finding relays ---- */

static void add_relay(struct og_dht_attempt *a, const struct og_addr *relay)
{
	if (relay->port == 0 || a->nb_known == OG_DHT_RELAYS_KNOWN)
		return;
	for (uint32_t i = 0; i < a->nb_known; i++) {
		if (og_addr_eq(&a->relays[i], relay))
			return;
	}
	a->relays[a->nb_known++] = *relay;
}

static void on_found(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_connect *c = ctx;
	struct og_dht_attempt *a = og_dht_attempt_of(c, tag);
	struct og_dht_peer peer;
	struct og_reader r;

	if (!a || !reply->msg->has_value)
		return;
	r = og_reader_of(reply->msg->value, reply->msg->value_bytes);
	if (og_dht_peer_decode(&peer, &r) < 0 || memcmp(peer.public_key, a->remote_key, 32) != 0)
		return;
	a->found = true;
	add_relay(a, &reply->from);
	advance(c, a, now_ns);
}

static void on_query_done(void *ctx, uint64_t tag, int status, const struct og_dht_closest *closest,
	uint32_t n, uint64_t now_ns);

static void find_relays(
	struct og_dht_connect *c, struct og_dht_attempt *a, bool seeded, uint64_t now_ns)
{
	struct og_dht_query_opts q = {.command = FIND_PEER,
		.seeds = a->relays,
		.nb_seeds = seeded ? a->nb_candidates : 0,
		.sends = FIND_PEER_SENDS,
		.on_reply = on_found,
		.on_done = on_query_done,
		.ctx = c,
		.tag = og_dht_attempt_tag(c, a)};

	memcpy(q.target, a->target, sizeof(q.target));
	a->seeded = q.nb_seeds > 0;
	a->querying = og_dht_query_start(c->env->rpc, &q, &a->query, now_ns) == 0;
	if (!a->querying) {
		a->seeded = false;
		a->shed = true;
	}
}

static void on_query_done(void *ctx, uint64_t tag, int status, const struct og_dht_closest *closest,
	uint32_t n, uint64_t now_ns)
{
	struct og_dht_connect *c = ctx;
	struct og_dht_attempt *a = og_dht_attempt_of(c, tag);

	if (!a)
		return;
	a->querying = false;
	if (a->seeded && !a->found)
		find_relays(c, a, false, now_ns);
	advance(c, a, now_ns);
}

/* ---- One step ---- */

static uint32_t tries_of(const struct og_dht_attempt *a, bool candidates)
{
	uint32_t n = 0;

	for (int i = 0; i < OG_DHT_TRIES; i++)
		n += a->tries[i].state != OG_DHT_TRY_FREE && a->tries[i].is_candidate == candidates;
	return n;
}

static struct og_dht_try *free_try(struct og_dht_attempt *a)
{
	for (int i = 0; i < OG_DHT_TRIES; i++) {
		if (a->tries[i].state == OG_DHT_TRY_FREE)
			return &a->tries[i];
	}
	return NULL;
}

/* Starts what may start now, and ends the attempt when nothing is left to hope for. */
static void advance(struct og_dht_connect *c, struct og_dht_attempt *a, uint64_t now_ns)
{
	struct og_dht_try *t;

	if (a->state != OG_DHT_ATTEMPT_SHAKING)
		return;
	while (a->next_candidate < a->nb_candidates && tries_of(a, true) == 0 && (t = free_try(a)))
		send_message_1(c, a, t, &a->relays[a->next_candidate++], true, now_ns);
	while (a->next_known < a->nb_known && tries_of(a, false) < OG_DHT_FOUND_TRIES &&
		(t = free_try(a)))
		send_message_1(c, a, t, &a->relays[a->next_known++], false, now_ns);
	if (a->querying || tries_of(a, true) + tries_of(a, false) > 0)
		return;
	if (a->found || a->nb_candidates > 0)
		og_dht_attempt_fail(c, a, -ECONNREFUSED, now_ns);
	else
		og_dht_attempt_fail(c, a, a->shed ? -ENOBUFS : -ENOENT, now_ns);
}

/* ---- Jobs that come back ---- */

static void message_1_written(struct og_dht_connect *c, struct og_dht_attempt *a,
	const struct og_job *job, uint64_t now_ns)
{
	const struct og_job_noise_connect *got = OG_JOB_BODY(job, noise_connect);

	if (a->state != OG_DHT_ATTEMPT_PREPARING)
		return;
	if (job->result < 0 || got->message_bytes > sizeof(a->message)) { /* no valid key */
		og_dht_attempt_fail(c, a, -EPROTO, now_ns);
		return;
	}
	memcpy(a->message, got->message, got->message_bytes);
	a->message_bytes = got->message_bytes;
	a->noise = got->state;
	a->state = OG_DHT_ATTEMPT_SHAKING;
	advance(c, a, now_ns);
}

static int judge(const struct og_dht_payload *p)
{
	if (p->version != 1)
		return -EPROTO;
	return p->error == OG_DHT_PAYLOAD_OK && p->has_udx ? 0 : -EREMOTEIO;
}

static void message_2_read(struct og_dht_connect *c, struct og_dht_attempt *a, uint32_t try_idx,
	const struct og_job *job, uint64_t now_ns)
{
	struct og_dht_try via = a->tries[try_idx];
	struct og_dht_payload payload;
	const struct og_job_noise_finish *got = OG_JOB_BODY(job, noise_finish);
	int verdict;

	if (a->state != OG_DHT_ATTEMPT_SHAKING || via.state != OG_DHT_TRY_READING)
		return;
	if (job->result < 0 ||
		og_dht_payload_decode(&payload, got->payload, got->payload_bytes) < 0) {
		og_count(&c->env->counts.replies_bad);
		a->tries[try_idx].state = OG_DHT_TRY_FREE;
		advance(c, a, now_ns);
		return;
	}
	verdict = judge(&payload); /* it was the server itself that said this */
	if (verdict < 0) {
		og_dht_attempt_fail(c, a, verdict, now_ns);
		return;
	}
	og_dht_attempt_settle(c, a);
	a->keys = got->keys;
	a->remote_udx_id = payload.udx_id;
	if (payload.nb_relays > 0)
		og_dht_relay_cache_put(&c->cache, a->remote_key, payload.relays, payload.nb_relays);
	else
		og_dht_relay_cache_put(&c->cache, a->remote_key, &via.relay, 1);
	og_dht_attempt_choose_path(c, a, &via, &payload, now_ns);
}

void og_dht_connect_job_done(struct og_dht_connect *c, struct og_job *job, uint64_t now_ns)
{
	uint32_t i = job->slot / OG_DHT_TRIES;
	struct og_dht_attempt *a = i < c->nb_attempts ? &c->attempts[i] : NULL;

	if (!a || a->gen != job->gen || a->state == OG_DHT_ATTEMPT_FREE)
		return;
	if (job->kind == OG_DHT_JOB_CONNECT_WRITE)
		message_1_written(c, a, job, now_ns);
	else
		message_2_read(c, a, job->slot % OG_DHT_TRIES, job, now_ns);
}

/* ---- Start, stop, time ---- */

/* Own route first (it is the server itself), then the caller's relays, then the cache. */
static void add_candidates(struct og_dht_connect *c, struct og_dht_attempt *a,
	const struct og_addr *relays, uint32_t nb_relays, uint64_t now_ns)
{
	struct og_addr cached[OG_DHT_CACHE_RELAYS];
	struct og_dht_route route;
	uint32_t nb_cached = 0;

	if (og_dht_store_route(c->env->store, a->target, now_ns, &route))
		add_relay(a, &route.addr);
	for (uint32_t i = 0; i < nb_relays && a->nb_known < OG_DHT_CANDIDATES; i++)
		add_relay(a, &relays[i]);
	if (nb_relays == 0)
		nb_cached = og_dht_relay_cache_get(&c->cache, a->remote_key, cached);
	for (uint32_t i = 0; i < nb_cached; i++)
		add_relay(a, &cached[i]);
	a->nb_candidates = a->next_known = a->nb_known;
}

static struct og_dht_attempt *attempt_new(struct og_dht_connect *c)
{
	for (uint32_t i = 0; i < c->nb_attempts; i++) {
		struct og_dht_attempt *a = &c->attempts[i];
		uint32_t gen = a->gen;

		if (a->state != OG_DHT_ATTEMPT_FREE)
			continue;
		*a = (struct og_dht_attempt){.gen = gen, .state = OG_DHT_ATTEMPT_PREPARING};
		c->nb_used++;
		return a;
	}
	return NULL;
}

int og_dht_connect_start(struct og_dht_connect *c, const uint8_t remote_key[32],
	const struct og_addr *relays, uint32_t nb_relays, uint64_t tag, uint64_t now_ns)
{
	struct og_dht_attempt *a = attempt_new(c);

	if (!a)
		return -ENOSPC;
	if (c->env->ops->stream_reserve(c->env->ctx, remote_key, &a->stream, &a->udx_id, now_ns) <
		0) {
		a->state = OG_DHT_ATTEMPT_FREE;
		a->gen++;
		c->nb_used--;
		return -ENOSPC;
	}
	og_count(&c->env->counts.connects);
	a->tag = tag;
	a->expires_ns = now_ns + attempt_limit_ns;
	memcpy(a->remote_key, remote_key, sizeof(a->remote_key));
	og_hash_one(a->target, remote_key, 32);
	add_candidates(c, a, relays, nb_relays, now_ns);
	write_message_1(c, a);
	find_relays(c, a, a->nb_candidates > 0, now_ns);
	return 0;
}

void og_dht_connect_abort(struct og_dht_connect *c, uint64_t tag, uint64_t now_ns)
{
	for (uint32_t i = 0; i < c->nb_attempts; i++) {
		struct og_dht_attempt *a = &c->attempts[i];
		uint64_t stream = a->stream;

		if (a->state == OG_DHT_ATTEMPT_FREE || a->tag != tag)
			continue;
		attempt_free(c, a);
		c->env->ops->stream_release(c->env->ctx, stream, now_ns);
	}
}

bool og_dht_connect_stream_seen(struct og_dht_connect *c, uint64_t stream, uint16_t endpoint,
	const struct og_addr *src, uint64_t now_ns)
{
	for (uint32_t i = 0; i < c->nb_attempts; i++) {
		struct og_dht_attempt *a = &c->attempts[i];

		if (a->state == OG_DHT_ATTEMPT_FREE || a->stream != stream)
			continue;
		if (a->state == OG_DHT_ATTEMPT_WAITING || a->state == OG_DHT_ATTEMPT_LAN) {
			og_dht_attempt_connected(c, a, endpoint, src, now_ns);
		} else if (!a->seen) {
			a->seen = true;
			a->seen_endpoint = endpoint;
			a->seen_addr = *src;
		}
		return true;
	}
	return false;
}

/* Work that found no job free; returns whether some still waits. */
static bool retry_jobs(struct og_dht_connect *c, struct og_dht_attempt *a)
{
	bool waits = false;

	if (a->state == OG_DHT_ATTEMPT_PREPARING && !a->writing) {
		write_message_1(c, a);
		waits |= !a->writing;
	}
	for (uint32_t i = 0; i < OG_DHT_TRIES; i++) {
		if (a->tries[i].state != OG_DHT_TRY_ANSWERED)
			continue;
		read_message_2(c, a, i);
		waits |= a->tries[i].state == OG_DHT_TRY_ANSWERED;
	}
	return waits;
}

uint64_t og_dht_connect_tick(struct og_dht_connect *c, uint64_t now_ns)
{
	uint64_t next = OG_NEVER;

	if (c->nb_used == 0)
		return OG_NEVER;
	for (uint32_t i = 0; i < c->nb_attempts; i++) {
		struct og_dht_attempt *a = &c->attempts[i];

		if (a->state == OG_DHT_ATTEMPT_FREE)
			continue;
		if (a->expires_ns <= now_ns)
			og_dht_attempt_fail(c, a, -ETIMEDOUT, now_ns);
		else
			next = OG_MIN(
				next, retry_jobs(c, a) ? now_ns + retry_job_ns : a->expires_ns);
	}
	return next;
}

uint32_t og_dht_connect_count(const struct og_dht_connect *c)
{
	return c->nb_used;
}

int og_dht_connect_create(
	struct og_dht_connect **out, struct og_dht_env *env, const struct og_dht_opts *opts)
{
	struct og_dht_connect *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->env = env;
	c->nb_attempts = og_dht_or(opts->nb_connects, 64);
	c->attempts = calloc(c->nb_attempts, sizeof(*c->attempts));
	if (!c->attempts) {
		og_dht_connect_destroy(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

void og_dht_connect_destroy(struct og_dht_connect *c)
{
	if (!c)
		return;
	if (c->attempts)
		sodium_memzero(c->attempts, c->nb_attempts * sizeof(*c->attempts));
	free(c->attempts);
	free(c);
}
