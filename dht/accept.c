#include "dht/accept.h"

#include "crypto/hash.h"
#include "dht/replay.h"
#include "dht/self.h"
#include "dht/work.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

enum {
	PEER_HANDSHAKE = 0,
	NONE = UINT32_MAX,
	WAITERS = 4, /* copies of N that arrive while the jobs run */
	ANSWER_MAX = 400,
	BUCKETS = 4096,
	LOAD_DIVISOR = 8,      /* of the jobs in work: from there on only proven sources */
	STRANGERS_PER_S = 512, /* a sixth of a CPU */
	CLIENT_NET = 1 << 24,  /* tells a /24 from a host in a budget's keys */
};

static const uint64_t stage_ns = 10 * OG_NS_PER_S; /* every stage lasts as long */

/* Each stage is a list, oldest first. */
enum stage {
	WORKING,   /* a job runs */
	HALF_OPEN, /* answered; waits for the client's first packet */
	LINGERING, /* over; N and its answer are kept for late copies */
	NB_STAGES,
	FREE = NB_STAGES,
};

/* Where one copy of N wants its answer. */
struct waiter {
	uint8_t mode;
	uint16_t endpoint;
	uint16_t tid;
	struct og_addr src;
	struct og_addr client;
	struct og_addr relay;
};

struct session {
	uint32_t gen;
	uint32_t prev, next; /* in its stage */
	uint32_t next_digest, next_stream;
	uint8_t stage; /* enum stage */
	uint8_t nb_waiters;
	bool refused; /* lingers in silence */
	bool direct, client_open;
	bool has_stream;
	bool names_stream; /* the answer does, also when somebody else has it by now */
	bool failed;       /* the answer carries an error */
	uint16_t answer_bytes;
	uint16_t endpoint; /* of the first copy */
	struct og_addr client;
	uint32_t remote_udx_id;
	uint64_t stream;
	uint64_t expires_ns;
	uint8_t digest[32];
	uint8_t remote_key[32];
	struct og_noise_keys keys;
	struct waiter waiters[WAITERS];
	uint8_t answer[ANSWER_MAX];
};

struct og_dht_accept {
	struct og_dht_env *env;
	uint32_t nb_sessions;
	uint32_t nb_jobs_max;
	uint32_t free;
	uint32_t mask;
	uint32_t *by_digest, *by_stream;
	struct session *sessions;
	struct {
		uint32_t first, last, count;
	} stages[NB_STAGES];
	struct og_dht_budget *clients, *relays;
	struct og_dht_rate strangers;
	uint8_t digest_key[32];
	struct og_dht_replay replay;
};

/* ---- Sessions and where they hang ---- */

static void stage_remove(struct og_dht_accept *acc, uint32_t i)
{
	struct session *s = &acc->sessions[i];

	if (s->prev != NONE)
		acc->sessions[s->prev].next = s->next;
	else
		acc->stages[s->stage].first = s->next;
	if (s->next != NONE)
		acc->sessions[s->next].prev = s->prev;
	else
		acc->stages[s->stage].last = s->prev;
	acc->stages[s->stage].count--;
}

static void stage_append(struct og_dht_accept *acc, uint32_t i, enum stage stage, uint64_t now_ns)
{
	struct session *s = &acc->sessions[i];

	s->stage = (uint8_t)stage;
	s->expires_ns = now_ns + stage_ns;
	s->next = NONE;
	s->prev = acc->stages[stage].last;
	if (s->prev != NONE)
		acc->sessions[s->prev].next = i;
	else
		acc->stages[stage].first = i;
	acc->stages[stage].last = i;
	acc->stages[stage].count++;
}

static void stage_move(struct og_dht_accept *acc, uint32_t i, enum stage stage, uint64_t now_ns)
{
	stage_remove(acc, i);
	stage_append(acc, i, stage, now_ns);
}

static uint32_t *digest_head(struct og_dht_accept *acc, const uint8_t digest[32])
{
	return &acc->by_digest[og_load_le32(digest) & acc->mask];
}

static uint32_t *stream_head(struct og_dht_accept *acc, uint64_t stream)
{
	return &acc->by_stream[(uint32_t)(stream ^ stream >> 32) & acc->mask];
}

static uint32_t find_digest(struct og_dht_accept *acc, const uint8_t digest[32])
{
	uint32_t i = *digest_head(acc, digest);

	while (i != NONE && memcmp(acc->sessions[i].digest, digest, 32) != 0)
		i = acc->sessions[i].next_digest;
	return i;
}

static uint32_t find_stream(struct og_dht_accept *acc, uint64_t stream)
{
	uint32_t i = *stream_head(acc, stream);

	while (i != NONE && acc->sessions[i].stream != stream)
		i = acc->sessions[i].next_stream;
	return i;
}

static void take_stream(struct og_dht_accept *acc, uint32_t i, uint64_t stream)
{
	struct session *s = &acc->sessions[i];

	s->stream = stream;
	s->has_stream = s->names_stream = true;
	s->next_stream = *stream_head(acc, stream);
	*stream_head(acc, stream) = i;
}

/* The session has no stream any more; whose it is now is the caller's business. */
static void drop_stream(struct og_dht_accept *acc, uint32_t i)
{
	struct session *s = &acc->sessions[i];
	uint32_t *at = stream_head(acc, s->stream);

	while (*at != i)
		at = &acc->sessions[*at].next_stream;
	*at = s->next_stream;
	s->has_stream = false;
}

static void release_stream(struct og_dht_accept *acc, uint32_t i, uint64_t now_ns)
{
	uint64_t stream = acc->sessions[i].stream;

	if (!acc->sessions[i].has_stream)
		return;
	drop_stream(acc, i);
	acc->env->ops->stream_release(acc->env->ctx, stream, now_ns);
}

/* The one way a session ends: everything it held is given back. */
static void session_free(struct og_dht_accept *acc, uint32_t i, uint64_t now_ns)
{
	struct session *s = &acc->sessions[i];
	uint32_t *at = digest_head(acc, s->digest);

	release_stream(acc, i, now_ns);
	while (*at != i)
		at = &acc->sessions[*at].next_digest;
	*at = s->next_digest;
	stage_remove(acc, i);
	s->stage = FREE;
	s->gen++;
	sodium_memzero(&s->keys, sizeof(s->keys));
	s->next = acc->free;
	acc->free = i;
}

/* What lingers is worth least; then whoever has owed a packet longest. Jobs in work stay. */
static bool make_room(struct og_dht_accept *acc, uint64_t now_ns)
{
	if (acc->stages[LINGERING].first != NONE) {
		session_free(acc, acc->stages[LINGERING].first, now_ns);
		return true;
	}
	if (acc->stages[HALF_OPEN].first != NONE) {
		og_count(&acc->env->counts.half_open_evicted);
		session_free(acc, acc->stages[HALF_OPEN].first, now_ns);
		return true;
	}
	return false;
}

static uint32_t session_new(struct og_dht_accept *acc, const uint8_t digest[32], uint64_t now_ns)
{
	uint32_t i, gen;
	struct session *s;

	if (acc->free == NONE && !make_room(acc, now_ns))
		return NONE;
	i = acc->free;
	s = &acc->sessions[i];
	acc->free = s->next;
	gen = s->gen;
	memset(s, 0, offsetof(struct session, answer));
	s->gen = gen;
	memcpy(s->digest, digest, sizeof(s->digest));
	s->next_digest = *digest_head(acc, digest);
	*digest_head(acc, digest) = i;
	stage_append(acc, i, WORKING, now_ns);
	return i;
}

/* ---- Answers ---- */

static void write_answer(
	struct og_dht_accept *acc, const struct session *s, const struct waiter *to)
{
	struct og_dht_handshake h = {.mode = OG_DHT_FROM_SERVER,
		.noise = s->answer,
		.noise_bytes = s->answer_bytes,
		.has_peer = true,
		.peer = to->client};
	uint8_t value[ANSWER_MAX + 32];
	struct og_writer w = og_writer_of(value, sizeof(value));

	if (to->mode == OG_DHT_FROM_CLIENT) {
		h.mode = OG_DHT_REPLY;
		h.has_peer = false;
		og_dht_handshake_encode(&w, &h);
		og_dht_rpc_reply_to(acc->env->rpc, to->endpoint, &to->src, to->tid, value,
			(uint32_t)og_writer_len(&w));
		return;
	}
	og_dht_handshake_encode(&w, &h);
	/* A new request, not a reply: the relay makes the reply of it (dht.md 9.2). */
	og_dht_rpc_relay(acc->env->rpc, to->endpoint,
		to->mode == OG_DHT_FROM_SECOND_RELAY ? &to->relay : &to->src, to->tid,
		PEER_HANDSHAKE, acc->env->target, value, (uint32_t)og_writer_len(&w));
}

/* By the core that has the stream, so that no early packet finds it dead. */
static void send_answer(struct og_dht_accept *acc, const struct session *s, const struct waiter *to)
{
	const struct og_dht_env *env = acc->env;
	struct og_tx *by = NULL, *usual;

	if (s->names_stream && env->ops->stream_tx)
		by = env->ops->stream_tx(env->ctx, s->stream);
	if (!by) {
		write_answer(acc, s, to);
		return;
	}
	usual = og_dht_rpc_swap_tx(env->rpc, by);
	write_answer(acc, s, to);
	og_dht_rpc_swap_tx(env->rpc, usual);
}

static void answer_copy(struct og_dht_accept *acc, struct session *s, const struct waiter *copy)
{
	og_count(&acc->env->counts.handshake_duplicates);
	if (s->refused)
		return;
	if (s->stage != WORKING)
		send_answer(acc, s, copy);
	else if (s->nb_waiters < WAITERS)
		s->waiters[s->nb_waiters++] = *copy;
}

/* ---- Message 1 arrives ---- */

static bool waiter_of(
	struct waiter *out, const struct og_dht_incoming *in, const struct og_dht_handshake *h)
{
	*out = (struct waiter){.mode = h->mode,
		.endpoint = in->endpoint,
		.tid = in->msg->tid,
		.src = in->src,
		.client = h->peer,
		.relay = h->relay};
	switch (h->mode) {
	case OG_DHT_FROM_CLIENT:
		out->client = in->src;
		return true;
	case OG_DHT_FROM_RELAY:
		return h->has_peer && h->peer.port != 0;
	case OG_DHT_FROM_SECOND_RELAY:
		return h->has_peer && h->peer.port != 0 && h->has_relay && h->relay.port != 0;
	default:
		return false;
	}
}

static bool within_limits(struct og_dht_accept *acc, const struct waiter *w, uint64_t now_ns)
{
	const struct og_dht_env *env = acc->env;

	if (w->mode == OG_DHT_FROM_CLIENT)
		return og_dht_within(env, acc->clients, &w->src, og_addr_u32(&w->src), now_ns);
	return og_dht_within(env, acc->relays, &w->src, og_addr_u32(&w->src), now_ns) &&
	       og_dht_within(env, acc->clients, &w->client,
		       CLIENT_NET | og_addr_u32(&w->client) >> 8, now_ns);
}

/*
 * Under load a source that never answered us gets a PING instead of four scalar multiplications:
 * a client that waits for its handshake answers it, and is proven when it asks again. Load is also what
 * strangers alone make of it: a flood must not keep a worker busy, whose CPU others may need.
 */
static bool strangers_wait(struct og_dht_accept *acc, uint64_t now_ns)
{
	return acc->stages[WORKING].count >= acc->nb_jobs_max / LOAD_DIVISOR ||
	       !og_dht_rate_has(&acc->strangers, 1, now_ns);
}

static void challenge(struct og_dht_accept *acc, const struct waiter *w, uint64_t now_ns)
{
	og_count(&acc->env->counts.handshakes_challenged);
	og_dht_rpc_challenge(acc->env->rpc, w->endpoint, &w->src, now_ns);
}

static struct og_job *begin_job(struct og_dht_accept *acc, uint32_t i, enum og_dht_job kind)
{
	struct og_job *job = acc->env->jobs->begin(acc->env->jobs);

	if (!job)
		return NULL;
	job->kind = (uint16_t)kind;
	job->slot = i;
	job->gen = acc->sessions[i].gen;
	job->source_hash = og_dht_source_hash(&acc->sessions[i].client);
	return job;
}

static void open_session(struct og_dht_accept *acc, const struct waiter *w,
	const struct og_dht_handshake *h, const uint8_t digest[32], uint64_t now_ns)
{
	struct og_dht_env *env = acc->env;
	uint32_t i = NONE;
	struct session *s;
	struct og_job *job;

	if (acc->stages[WORKING].count < acc->nb_jobs_max)
		i = session_new(acc, digest, now_ns);
	if (i == NONE) {
		og_count(&env->counts.handshakes_shed);
		return;
	}
	s = &acc->sessions[i];
	s->client = w->client;
	s->direct = w->mode == OG_DHT_FROM_CLIENT;
	s->endpoint = w->endpoint;
	s->waiters[s->nb_waiters++] = *w;
	job = begin_job(acc, i, OG_DHT_JOB_ACCEPT_READ);
	if (!job) {
		og_count(&env->counts.handshakes_shed);
		session_free(acc, i, now_ns);
		return;
	}
	og_count(&env->counts.handshakes);
	og_dht_work_accept(job, env->keypair, env->rand, h->noise, h->noise_bytes);
	env->jobs->post(env->jobs, job);
}

void og_dht_accept_handshake(struct og_dht_accept *acc, const struct og_dht_incoming *in,
	const struct og_dht_handshake *h, uint64_t now_ns)
{
	struct og_dht_counts *counts = &acc->env->counts;
	struct waiter w;
	uint8_t digest[32];
	bool stranger;
	uint32_t i;

	if (!waiter_of(&w, in, h) || h->noise_bytes <= OG_NOISE_IK_1_OVERHEAD ||
		h->noise_bytes > OG_JOB_MESSAGE_1_MAX) {
		og_count(&counts->handshakes_bad);
		return;
	}
	stranger = !og_dht_rpc_address_proven(acc->env->rpc, &w.src, now_ns);
	/* Before the hash: even a copy of what was answered is answered to who proves itself. */
	if (stranger && strangers_wait(acc, now_ns)) {
		challenge(acc, &w, now_ns);
		return;
	}
	og_blake2b_keyed(digest, acc->digest_key, sizeof(acc->digest_key),
		&(struct og_span){h->noise, h->noise_bytes}, 1);
	i = find_digest(acc, digest);
	if (i != NONE) {
		answer_copy(acc, &acc->sessions[i], &w);
		return;
	}
	if (og_dht_replay_has(&acc->replay, digest, now_ns)) {
		og_count(&counts->handshakes_replayed);
		return;
	}
	if (!within_limits(acc, &w, now_ns)) {
		og_count(&counts->handshakes_limited);
		return;
	}
	if (stranger) {
		(void)og_dht_rate_take(&acc->strangers, 1, now_ns); /* there is one */
		og_count(&counts->handshakes_unproven);
	}
	open_session(acc, &w, h, digest, now_ns);
}

/* ---- Message 1 is read ---- */

static int reserve_stream(struct og_dht_accept *acc, uint32_t i, uint32_t *udx_id, uint64_t now_ns)
{
	struct og_dht_env *env = acc->env;
	uint64_t stream;
	const uint8_t *key = acc->sessions[i].remote_key;
	int ret = env->ops->stream_reserve(env->ctx, key, &stream, udx_id, now_ns);

	if (ret < 0 && acc->stages[HALF_OPEN].first != NONE) {
		og_count(&env->counts.half_open_evicted);
		session_free(acc, acc->stages[HALF_OPEN].first, now_ns);
		ret = env->ops->stream_reserve(env->ctx, key, &stream, udx_id, now_ns);
	}
	if (ret == 0)
		take_stream(acc, i, stream);
	return ret;
}

static enum og_dht_payload_error judge(const struct og_dht_payload *p)
{
	if (p->version != 1)
		return OG_DHT_PAYLOAD_VERSION;
	return p->has_udx ? OG_DHT_PAYLOAD_OK : OG_DHT_PAYLOAD_ABORTED;
}

static void refuse(struct og_dht_accept *acc, uint32_t i, uint64_t now_ns)
{
	og_count(&acc->env->counts.handshakes_refused);
	acc->sessions[i].refused = true;
	stage_move(acc, i, LINGERING, now_ns);
}

/* Posts the job that writes message 2. False: no room for it now. */
static bool post_answer(struct og_dht_accept *acc, uint32_t i, const struct og_noise *state,
	enum og_dht_payload_error error, uint64_t now_ns)
{
	struct og_dht_env *env = acc->env;
	struct og_dht_payload payload;
	uint8_t plain[OG_DHT_PAYLOAD_MAX];
	struct og_writer w = og_writer_of(plain, sizeof(plain));
	uint32_t udx_id = 0;
	struct og_job *job;

	if (error == OG_DHT_PAYLOAD_OK && reserve_stream(acc, i, &udx_id, now_ns) < 0)
		return false;
	job = begin_job(acc, i, OG_DHT_JOB_ACCEPT_WRITE);
	if (!job)
		return false;
	og_dht_self_payload(&payload, env, true, error, udx_id);
	og_dht_payload_encode(&w, &payload);
	og_dht_work_reply(job, state, plain, (uint32_t)og_writer_len(&w));
	env->jobs->post(env->jobs, job);
	return true;
}

static void message_read(
	struct og_dht_accept *acc, uint32_t i, const struct og_job *job, uint64_t now_ns)
{
	struct og_dht_env *env = acc->env;
	struct session *s = &acc->sessions[i];
	struct og_dht_payload payload;
	enum og_dht_payload_error error;
	const struct og_job_noise_accept *got = OG_JOB_BODY(job, noise_accept);

	if (job->result < 0 ||
		og_dht_payload_decode(&payload, got->payload, got->payload_bytes) < 0) {
		og_count(&env->counts.handshakes_bad);
		session_free(acc, i, now_ns);
		return;
	}
	memcpy(s->remote_key, got->remote_key, sizeof(s->remote_key));
	if (env->ops->firewall && env->ops->firewall(env->ctx, s->remote_key, true)) {
		refuse(acc, i, now_ns);
		return;
	}
	error = judge(&payload);
	s->failed = error != OG_DHT_PAYLOAD_OK;
	s->client_open = payload.firewall == OG_DHT_FIREWALL_OPEN;
	s->remote_udx_id = payload.udx_id;
	if (!post_answer(acc, i, &got->state, error, now_ns)) {
		og_count(&env->counts.handshakes_shed);
		session_free(acc, i, now_ns);
	}
}

/* ---- Message 2 is written ---- */

/* From here on the stream belongs to the layer above; the session only remembers its answer. */
static void hand_over(struct og_dht_accept *acc, uint32_t i, uint16_t endpoint,
	const struct og_addr *remote, uint64_t now_ns)
{
	struct session *s = &acc->sessions[i];
	struct og_noise_keys keys = s->keys;
	struct og_dht_conn conn = {.stream = s->stream,
		.keys = &keys,
		.remote_udx_id = s->remote_udx_id,
		.endpoint = endpoint,
		.has_remote = true,
		.remote = *remote};

	memcpy(conn.remote_key, s->remote_key, sizeof(conn.remote_key));
	drop_stream(acc, i);
	sodium_memzero(&s->keys, sizeof(s->keys));
	stage_move(acc, i, LINGERING, now_ns);
	acc->env->ops->connected(acc->env->ctx, &conn, now_ns);
	sodium_memzero(&keys, sizeof(keys));
}

static void message_written(
	struct og_dht_accept *acc, uint32_t i, const struct og_job *job, uint64_t now_ns)
{
	struct session *s = &acc->sessions[i];
	const struct og_job_noise_reply *got = OG_JOB_BODY(job, noise_reply);
	struct og_addr client = s->client;

	if (job->result < 0 || got->message_bytes > sizeof(s->answer)) {
		og_count(&acc->env->counts.handshakes_bad);
		session_free(acc, i, now_ns);
		return;
	}
	memcpy(s->answer, got->message, got->message_bytes);
	s->answer_bytes = got->message_bytes;
	s->keys = got->keys;
	for (uint32_t k = 0; k < s->nb_waiters; k++)
		send_answer(acc, s, &s->waiters[k]);
	if (s->failed)
		stage_move(acc, i, LINGERING, now_ns);
	else if (s->direct)
		hand_over(acc, i, s->endpoint, &client, now_ns);
	else if (s->client_open)
		hand_over(acc, i, og_dht_rpc_expected_endpoint(acc->env->rpc), &client, now_ns);
	else
		stage_move(acc, i, HALF_OPEN, now_ns);
}

void og_dht_accept_job_done(struct og_dht_accept *acc, struct og_job *job, uint64_t now_ns)
{
	uint32_t i = job->slot;

	if (i >= acc->nb_sessions || acc->sessions[i].gen != job->gen ||
		acc->sessions[i].stage != WORKING)
		return;
	if (job->kind == OG_DHT_JOB_ACCEPT_READ)
		message_read(acc, i, job, now_ns);
	else
		message_written(acc, i, job, now_ns);
}

bool og_dht_accept_stream_seen(struct og_dht_accept *acc, uint64_t stream, uint16_t endpoint,
	const struct og_addr *src, uint64_t now_ns)
{
	uint32_t i = find_stream(acc, stream);

	if (i == NONE)
		return false;
	if (acc->sessions[i].stage == HALF_OPEN)
		hand_over(acc, i, endpoint, src, now_ns);
	return true;
}

/* ---- Time and life ---- */

static void expire(struct og_dht_accept *acc, uint32_t i, enum stage stage, uint64_t now_ns)
{
	switch (stage) {
	case HALF_OPEN: /* no packet came: the stream goes, N stays for late copies */
		release_stream(acc, i, now_ns);
		stage_move(acc, i, LINGERING, now_ns);
		break;
	case LINGERING:
		og_dht_replay_add(&acc->replay, acc->sessions[i].digest, now_ns);
		session_free(acc, i, now_ns);
		break;
	default: /* its job never came back */
		session_free(acc, i, now_ns);
	}
}

uint64_t og_dht_accept_tick(struct og_dht_accept *acc, uint64_t now_ns)
{
	uint64_t next = OG_NEVER;

	for (int stage = 0; stage < NB_STAGES; stage++) {
		uint32_t i;

		while ((i = acc->stages[stage].first) != NONE &&
			acc->sessions[i].expires_ns <= now_ns)
			expire(acc, i, (enum stage)stage, now_ns);
	}
	for (int stage = 0; stage < NB_STAGES; stage++) {
		uint32_t i = acc->stages[stage].first;

		if (i != NONE)
			next = OG_MIN(next, acc->sessions[i].expires_ns);
	}
	return next;
}

void og_dht_accept_reset(struct og_dht_accept *acc, uint64_t now_ns)
{
	for (int stage = 0; stage < NB_STAGES; stage++) {
		while (acc->stages[stage].first != NONE)
			session_free(acc, acc->stages[stage].first, now_ns);
	}
}

uint32_t og_dht_accept_count(const struct og_dht_accept *acc)
{
	return acc->stages[WORKING].count + acc->stages[HALF_OPEN].count +
	       acc->stages[LINGERING].count;
}

uint32_t og_dht_accept_half_open(const struct og_dht_accept *acc)
{
	return acc->stages[HALF_OPEN].count;
}

static int allocate(struct og_dht_accept *acc, const struct og_dht_opts *opts)
{
	struct og_rand *rand = acc->env->rand;
	uint32_t per_client = og_dht_or(opts->handshakes_per_s, 20);
	uint32_t per_relay = og_dht_or(opts->relay_handshakes_per_s, 200);
	uint32_t nb_heads = 1;

	while (nb_heads < acc->nb_sessions)
		nb_heads *= 2;
	acc->mask = nb_heads - 1;
	acc->sessions = calloc(acc->nb_sessions, sizeof(*acc->sessions));
	acc->by_digest = malloc(nb_heads * sizeof(*acc->by_digest));
	acc->by_stream = malloc(nb_heads * sizeof(*acc->by_stream));
	if (!acc->sessions || !acc->by_digest || !acc->by_stream)
		return -ENOMEM;
	memset(acc->by_digest, 0xff, nb_heads * sizeof(*acc->by_digest));
	memset(acc->by_stream, 0xff, nb_heads * sizeof(*acc->by_stream));
	if (og_dht_budget_create(
		    &acc->clients, BUCKETS, og_rand_u64(rand), per_client, per_client) < 0)
		return -ENOMEM;
	return og_dht_budget_create(&acc->relays, BUCKETS, og_rand_u64(rand), per_relay, per_relay);
}

int og_dht_accept_create(
	struct og_dht_accept **out, struct og_dht_env *env, const struct og_dht_opts *opts)
{
	struct og_dht_accept *acc = calloc(1, sizeof(*acc));
	uint32_t strangers;

	if (!acc)
		return -ENOMEM;
	acc->env = env;
	acc->nb_sessions = og_dht_or(opts->nb_accepts, 1024);
	acc->nb_jobs_max = OG_MIN(og_dht_or(opts->nb_noise_jobs, 256), acc->nb_sessions);
	og_rand_fill(env->rand, acc->digest_key, sizeof(acc->digest_key));
	strangers = og_dht_or(opts->strangers_per_s, STRANGERS_PER_S);
	og_dht_rate_init(&acc->strangers, strangers, strangers, 0);
	if (allocate(acc, opts) < 0) {
		og_dht_accept_destroy(acc);
		return -ENOMEM;
	}
	for (int stage = 0; stage < NB_STAGES; stage++)
		acc->stages[stage].first = acc->stages[stage].last = NONE;
	acc->free = NONE;
	for (uint32_t i = acc->nb_sessions; i-- > 0;) {
		acc->sessions[i].stage = FREE;
		acc->sessions[i].next = acc->free;
		acc->free = i;
	}
	*out = acc;
	return 0;
}

void og_dht_accept_destroy(struct og_dht_accept *acc)
{
	if (!acc)
		return;
	og_dht_budget_destroy(acc->clients);
	og_dht_budget_destroy(acc->relays);
	free(acc->by_digest);
	free(acc->by_stream);
	if (acc->sessions)
		sodium_memzero(acc->sessions, acc->nb_sessions * sizeof(*acc->sessions));
	free(acc->sessions);
	free(acc);
}
