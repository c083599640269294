#include "dht/keeper.h"

#include "crypto/hash.h"
#include "dht/work.h"

#include <errno.h>
#include <stdlib.h>

enum {
	FIND_PEER = 2,
	LOOKUP,
	ANNOUNCE,
	UNANNOUNCE,
	MUTABLE_PUT,
	MUTABLE_GET,
	IMMUTABLE_PUT,
	IMMUTABLE_GET,
};

enum {
	BUCKETS = 4096,
	VERIFY_TIMEOUT_S = 10,
	SIGNED_VALUE_MAX = 1200, /* a mutable put of OG_DHT_STORED_MAX bytes, and an ANNOUNCE */
};

/* A request that waits for its signature: all that its answer needs, by value. */
struct pending {
	uint32_t gen;
	uint64_t expires_ns; /* 0: free */
	struct og_dht_incoming in;
	struct og_dht_msg msg;
	struct og_dht_source src;
	uint8_t command;
	uint8_t target[32];
	uint32_t value_bytes;
	uint8_t value[SIGNED_VALUE_MAX];
};

struct og_dht_keeper {
	struct og_dht_env *env;
	struct og_dht_budget *budget; /* NULL: no limit */
	uint32_t nb_pending;
	struct pending *pending;
};

/* ---- Waiting for a signature ---- */

static struct pending *pending_free(struct og_dht_keeper *keeper, uint64_t now_ns)
{
	for (uint32_t i = 0; i < keeper->nb_pending; i++) {
		if (keeper->pending[i].expires_ns <= now_ns)
			return &keeper->pending[i];
	}
	return NULL;
}

static struct og_dht_source source_of(
	const struct og_dht_keeper *keeper, const struct og_dht_incoming *in)
{
	return (struct og_dht_source){
		.addr = in->src,
		.endpoint = in->endpoint,
		.prefix = og_dht_prefix_of(keeper->env, &in->src),
	};
}

/* A slot for the request and a job to fill, or NULL: over a limit, and counted. */
static struct og_job *begin_verify(
	struct og_dht_keeper *keeper, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht_env *env = keeper->env;
	struct pending *p;
	struct og_job *job;

	if (!og_dht_within(env, keeper->budget, &in->src, og_addr_u32(&in->src), now_ns)) {
		og_count(&env->counts.records_limited);
		return NULL;
	}
	p = in->msg->value_bytes <= sizeof(p->value) ? pending_free(keeper, now_ns) : NULL;
	job = p ? env->jobs->begin(env->jobs) : NULL;
	if (!job) {
		og_count(&env->counts.records_shed);
		return NULL;
	}
	p->gen++;
	p->expires_ns = now_ns + VERIFY_TIMEOUT_S * OG_NS_PER_S;
	p->command = (uint8_t)in->msg->command;
	p->src = source_of(keeper, in);
	memcpy(p->target, in->msg->target, sizeof(p->target));
	p->value_bytes = in->msg->value_bytes;
	memcpy(p->value, in->msg->value, in->msg->value_bytes);
	p->msg = (struct og_dht_msg){.tid = in->msg->tid, .target = p->target};
	p->in = *in;
	p->in.msg = &p->msg;

	job->kind = OG_DHT_JOB_KEEPER_VERIFY;
	job->slot = (uint32_t)(p - keeper->pending);
	job->gen = p->gen;
	job->source_hash = og_dht_source_hash(&in->src);
	return job;
}

static void bad(struct og_dht_keeper *keeper)
{
	og_count(&keeper->env->counts.records_bad);
}

/* ---- Asking ---- */

static void on_find_peer(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht_keeper *keeper = ctx;
	uint8_t record[OG_DHT_RECORD_MAX];
	uint32_t n;

	if (!in->msg->target)
		return;
	n = og_dht_store_find_peer(keeper->env->store, in->msg->target, now_ns, record);
	og_dht_rpc_reply(keeper->env->rpc, in, OG_REPLY_TOKEN | OG_REPLY_CLOSER, 0,
		n ? record : NULL, n, now_ns);
}

static void on_lookup(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht_keeper *keeper = ctx;
	const uint8_t *value;
	uint32_t n;

	if (!in->msg->target)
		return;
	n = og_dht_store_lookup(keeper->env->store, in->msg->target, now_ns, &value);
	og_dht_rpc_reply(keeper->env->rpc, in, OG_REPLY_TOKEN | OG_REPLY_CLOSER, 0,
		n ? value : NULL, n, now_ns);
}

static void on_mutable_get(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht_keeper *keeper = ctx;
	struct og_dht_mutable m;
	uint8_t value[OG_DHT_VALUE_MAX];
	struct og_writer w = og_writer_of(value, sizeof(value));
	struct og_reader r;
	uint64_t min_seq;

	if (!in->msg->target || !in->msg->has_value)
		return;
	r = og_reader_of(in->msg->value, in->msg->value_bytes);
	min_seq = og_read_uint(&r);
	if (!og_reader_ok(&r))
		return;
	if (og_dht_store_get_mutable(keeper->env->store, in->msg->target, now_ns, &m) &&
		m.seq >= min_seq)
		og_dht_mutable_encode(&w, &m);
	og_dht_rpc_reply(keeper->env->rpc, in, OG_REPLY_TOKEN | OG_REPLY_CLOSER, 0,
		og_writer_len(&w) > 0 ? value : NULL, (uint32_t)og_writer_len(&w), now_ns);
}

static void on_immutable_get(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht_keeper *keeper = ctx;
	const uint8_t *value = NULL;
	uint32_t n = 0;

	if (!in->msg->target)
		return;
	if (!og_dht_store_get_immutable(keeper->env->store, in->msg->target, now_ns, &value, &n))
		value = NULL;
	og_dht_rpc_reply(
		keeper->env->rpc, in, OG_REPLY_TOKEN | OG_REPLY_CLOSER, 0, value, n, now_ns);
}

/* ---- Storing ---- */

static bool is_self(const uint8_t target[32], const uint8_t public_key[32])
{
	uint8_t hash[32];

	og_hash_one(hash, public_key, OG_DHT_KEY_BYTES);
	return memcmp(hash, target, sizeof(hash)) == 0;
}

/* dht.md 7.3, refresh chain: a preimage instead of a signature. */
static void renew(struct og_dht_keeper *keeper, const struct og_dht_incoming *in,
	const struct og_dht_announce *a, uint64_t now_ns)
{
	struct og_dht_source src = source_of(keeper, in);
	uint8_t hash[32];

	if (!a->refresh) {
		bad(keeper);
		return;
	}
	og_hash_one(hash, a->refresh, 32);
	if (og_dht_store_renew(
		    keeper->env->store, in->msg->target, hash, a->refresh, &src, now_ns) < 0)
		bad(keeper);
	else
		og_dht_rpc_reply(keeper->env->rpc, in, 0, 0, NULL, 0, now_ns);
}

static void on_announce(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht_keeper *keeper = ctx;
	const uint8_t *id = og_dht_rpc_id(keeper->env->rpc);
	bool unannounce = in->msg->command == UNANNOUNCE;
	struct og_dht_announce a;
	struct og_job *job;

	if (!in->msg->target || !in->token_ok || !id || !in->msg->has_value ||
		og_dht_announce_decode(&a, in->msg->value, in->msg->value_bytes) < 0) {
		bad(keeper);
		return;
	}
	if (!a.has_peer && !unannounce) {
		renew(keeper, in, &a, now_ns);
		return;
	}
	if (!a.has_peer || !a.signature || a.peer.raw_bytes > OG_JOB_VALUE_MAX) {
		bad(keeper);
		return;
	}
	job = begin_verify(keeper, in, now_ns);
	if (!job)
		return;
	og_dht_work_verify_announce(job,
		&(struct og_dht_signed){
			.unannounce = unannounce,
			.target = in->msg->target,
			.node_id = id,
			.token = in->msg->token,
			.record = a.peer.raw,
			.record_bytes = a.peer.raw_bytes,
			.refresh = a.refresh,
		},
		a.peer.public_key, a.signature);
	keeper->env->jobs->post(keeper->env->jobs, job);
}

static void on_mutable_put(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht_keeper *keeper = ctx;
	struct og_dht_mutable m;
	struct og_job *job;

	if (!in->msg->target || !in->token_ok || !in->msg->has_value ||
		og_dht_mutable_put_decode(&m, in->msg->value, in->msg->value_bytes) < 0 ||
		!is_self(in->msg->target, m.public_key)) {
		bad(keeper);
		return;
	}
	job = begin_verify(keeper, in, now_ns);
	if (!job)
		return;
	og_dht_work_verify_mutable(job, m.public_key, m.seq, m.value, m.value_bytes, m.signature);
	keeper->env->jobs->post(keeper->env->jobs, job);
}

static void answer_put(struct og_dht_keeper *keeper, const struct og_dht_incoming *in,
	enum og_dht_put verdict, uint64_t now_ns)
{
	if (verdict == OG_DHT_PUT_OK)
		og_dht_rpc_reply(
			keeper->env->rpc, in, OG_REPLY_TOKEN | OG_REPLY_CLOSER, 0, NULL, 0, now_ns);
	else /* too large: this node does not store it, which is what error 1 says */
		og_dht_rpc_reply(keeper->env->rpc, in, OG_REPLY_CLOSER,
			verdict == OG_DHT_PUT_TOO_LARGE ? OG_DHT_UNKNOWN_COMMAND
							: (uint32_t)verdict,
			NULL, 0, now_ns);
}

static void on_immutable_put(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht_keeper *keeper = ctx;
	struct og_dht_source src = source_of(keeper, in);
	uint8_t hash[32];

	if (!in->msg->target || !in->token_ok || !in->msg->has_value) {
		bad(keeper);
		return;
	}
	if (!og_dht_within(keeper->env, keeper->budget, &in->src, og_addr_u32(&in->src), now_ns)) {
		og_count(&keeper->env->counts.records_limited);
		return;
	}
	og_hash_one(hash, in->msg->value, in->msg->value_bytes);
	if (memcmp(hash, in->msg->target, sizeof(hash)) != 0) {
		bad(keeper);
		return;
	}
	answer_put(keeper, in,
		og_dht_store_put_immutable(keeper->env->store, in->msg->target, in->msg->value,
			in->msg->value_bytes, &src, now_ns),
		now_ns);
}

/* ---- Signature fine ---- */

static void announce_verified(
	struct og_dht_keeper *keeper, const struct pending *p, uint64_t now_ns)
{
	struct og_dht_store *store = keeper->env->store;
	struct og_dht_announce a;
	bool self;

	if (og_dht_announce_decode(&a, p->value, p->value_bytes) < 0)
		return; /* cannot be: it was decoded before it was verified */
	self = is_self(p->target, a.peer.public_key);
	if (p->command == UNANNOUNCE) {
		og_dht_store_unannounce(store, p->target, self, a.peer.public_key, now_ns);
	} else {
		og_dht_store_announce(store, p->target, self, &a.peer, &p->src, now_ns);
		og_dht_store_bump(store, p->target, a.bump, now_ns);
		if (a.refresh)
			og_dht_store_expect(
				store, a.refresh, p->target, self, &a.peer, &p->src, now_ns);
	}
	og_dht_rpc_reply(keeper->env->rpc, &p->in, 0, 0, NULL, 0, now_ns);
}

static void mutable_verified(struct og_dht_keeper *keeper, const struct pending *p, uint64_t now_ns)
{
	struct og_dht_mutable m;

	if (og_dht_mutable_put_decode(&m, p->value, p->value_bytes) < 0)
		return; /* as above */
	answer_put(keeper, &p->in,
		og_dht_store_put_mutable(keeper->env->store, p->target, &m, &p->src, now_ns),
		now_ns);
}

void og_dht_keeper_job_done(struct og_dht_keeper *keeper, const struct og_job *job, uint64_t now_ns)
{
	struct pending *p;

	if (job->slot >= keeper->nb_pending)
		return;
	p = &keeper->pending[job->slot];
	if (p->gen != job->gen || p->expires_ns == 0)
		return;
	if (job->result < 0)
		bad(keeper);
	else if (p->command == MUTABLE_PUT)
		mutable_verified(keeper, p, now_ns);
	else
		announce_verified(keeper, p, now_ns);
	p->expires_ns = 0;
}

/* ---- Life ---- */

int og_dht_keeper_create(
	struct og_dht_keeper **out, struct og_dht_env *env, const struct og_dht_opts *opts)
{
	static const struct {
		uint8_t command;
		og_dht_handler_fn fn;
	} handlers[] = {
		{FIND_PEER, on_find_peer},
		{LOOKUP, on_lookup},
		{ANNOUNCE, on_announce},
		{UNANNOUNCE, on_announce},
		{MUTABLE_PUT, on_mutable_put},
		{MUTABLE_GET, on_mutable_get},
		{IMMUTABLE_PUT, on_immutable_put},
		{IMMUTABLE_GET, on_immutable_get},
	};
	struct og_dht_keeper *keeper = calloc(1, sizeof(*keeper));
	uint32_t rate = og_dht_or(opts->records_per_s, 32);

	if (!keeper)
		return -ENOMEM;
	keeper->env = env;
	keeper->nb_pending = og_dht_or(opts->nb_verifies, 256);
	keeper->pending = calloc(keeper->nb_pending, sizeof(*keeper->pending));
	if (!keeper->pending || og_dht_budget_create(&keeper->budget, BUCKETS,
					og_rand_u64(env->rand), rate, 2 * (uint64_t)rate) < 0) {
		og_dht_keeper_destroy(keeper);
		return -ENOMEM;
	}
	for (size_t i = 0; i < OG_ARRAY_LEN(handlers); i++)
		og_dht_rpc_handle(env->rpc, handlers[i].command, true, handlers[i].fn, keeper);
	*out = keeper;
	return 0;
}

void og_dht_keeper_destroy(struct og_dht_keeper *keeper)
{
	if (!keeper)
		return;
	og_dht_budget_destroy(keeper->budget);
	free(keeper->pending);
	free(keeper);
}
