#include "dht/kv.h"

#include "crypto/hash.h"
#include "dht/values.h"
#include "dht/work.h"

#include <errno.h>
#include <stdlib.h>

enum {
	MUTABLE_PUT = 6,
	MUTABLE_GET = 7,
	IMMUTABLE_PUT = 8,
	IMMUTABLE_GET = 9,
	CANDIDATES = 4,    /* signatures of one get in work */
	MUTABLE_MAX = 980, /* what a put can carry in one datagram with key, seq and signature */
};

static const uint64_t operation_limit_ns = 60 * OG_NS_PER_S;

enum phase { IDLE, SIGNING, FINDING, STORING };

struct value {
	uint64_t seq;
	uint32_t bytes;
	uint8_t data[OG_DHT_STORED_MAX];
};

struct op {
	uint8_t phase;   /* enum phase */
	uint8_t command; /* of the query */
	bool put;
	bool query_done;
	bool found; /* a get has a verified value */
	uint32_t gen;
	uint32_t nb_open, stored;
	uint64_t tag;
	uint64_t deadline_ns;
	struct og_dht_query_id query;
	struct og_dht_req_id requests[OG_DHT_K];
	bool sent[OG_DHT_K];
	uint8_t target[32];
	uint8_t public_key[32];
	struct value value; /* what is put, or the best that was found */
	uint8_t signature[64];
	bool verifying[CANDIDATES];
	struct value candidates[CANDIDATES];
};

struct og_dht_kv {
	struct og_dht_env *env;
	uint32_t nb_ops;
	struct op *ops;
};

/* ---- Slots ---- */

static uint64_t tag_of(const struct og_dht_kv *kv, const struct op *op, uint32_t part)
{
	return (uint64_t)op->gen << 32 | (uint32_t)(op - kv->ops) << 16 | part;
}

static struct op *op_of(struct og_dht_kv *kv, uint64_t tag)
{
	uint32_t i = (uint32_t)tag >> 16;
	struct op *op = i < kv->nb_ops ? &kv->ops[i] : NULL;

	return op && op->gen == (uint32_t)(tag >> 32) && op->phase != IDLE ? op : NULL;
}

static struct op *op_new(
	struct og_dht_kv *kv, uint8_t command, bool put, uint64_t tag, uint64_t now_ns)
{
	for (uint32_t i = 0; i < kv->nb_ops; i++) {
		struct op *op = &kv->ops[i];

		if (op->phase != IDLE)
			continue;
		memset(op, 0, offsetof(struct op, gen));
		op->nb_open = op->stored = 0;
		memset(op->sent, 0, sizeof(op->sent));
		memset(op->verifying, 0, sizeof(op->verifying));
		op->value.seq = op->value.bytes = 0;
		op->command = command;
		op->put = put;
		op->tag = tag;
		op->deadline_ns = now_ns + operation_limit_ns;
		return op;
	}
	return NULL;
}

static void finish(struct og_dht_kv *kv, struct op *op, int status, uint64_t now_ns)
{
	const struct og_dht_ops *ops = kv->env->ops;
	bool with_value = status == 0 && !op->put;

	if (op->phase == FINDING && !op->query_done)
		og_dht_query_cancel(kv->env->rpc, op->query);
	for (int i = 0; i < OG_DHT_K; i++) {
		if (op->sent[i])
			og_dht_request_cancel(kv->env->rpc, op->requests[i]);
	}
	op->gen++;
	/* The slot stays taken while its value is lent. */
	if (ops->value_done)
		ops->value_done(kv->env->ctx, op->tag, status, op->value.seq,
			with_value ? op->value.data : NULL, with_value ? op->value.bytes : 0,
			now_ns);
	op->phase = IDLE;
}

static bool set_value(struct value *v, uint64_t seq, const uint8_t *data, uint32_t bytes)
{
	if (bytes > sizeof(v->data))
		return false;
	v->seq = seq;
	v->bytes = bytes;
	memcpy(v->data, data, bytes);
	return true;
}

/* ---- Put: after the query ---- */

static void on_stored(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_kv *kv = ctx;
	struct op *op = op_of(kv, tag);
	uint32_t i = tag & 0xffff;

	if (!op || i >= OG_DHT_K || !op->sent[i])
		return;
	op->sent[i] = false;
	op->stored += reply->status == 0 && reply->msg->error == 0;
	if (--op->nb_open == 0)
		finish(kv, op, op->stored > 0 ? 0 : -EREMOTEIO, now_ns);
}

static void store_on(struct og_dht_kv *kv, struct op *op, const struct og_dht_closest *closest,
	uint32_t n, uint64_t now_ns)
{
	const struct og_dht_mutable m = {.public_key = op->public_key,
		.seq = op->value.seq,
		.value = op->value.data,
		.value_bytes = op->value.bytes,
		.signature = op->signature};
	uint8_t buf[OG_DHT_VALUE_MAX + 64];
	struct og_writer w = og_writer_of(buf, sizeof(buf));
	bool is_mutable = op->command == MUTABLE_GET;

	if (is_mutable)
		og_dht_mutable_encode(&w, &m);
	op->phase = STORING;
	for (uint32_t i = 0; i < n; i++) {
		if (!closest[i].has_token)
			continue;
		op->sent[i] = true;
		op->nb_open++;
		og_dht_request_send(kv->env->rpc,
			&(struct og_dht_request){.to = closest[i].addr,
				.command = is_mutable ? MUTABLE_PUT : IMMUTABLE_PUT,
				.target = op->target,
				.token = closest[i].token,
				.value = is_mutable ? buf : op->value.data,
				.value_bytes =
					is_mutable ? (uint32_t)og_writer_len(&w) : op->value.bytes,
				.has_value = true,
				.any_endpoint = true,
				.fn = on_stored,
				.ctx = kv,
				.tag = tag_of(kv, op, i)},
			&op->requests[i], now_ns);
	}
	if (op->nb_open == 0)
		finish(kv, op, -EREMOTEIO, now_ns);
}

/* ---- Get: while the query runs ---- */

static bool is_immutable(const struct op *op, const struct og_dht_reply *reply)
{
	uint8_t hash[32];

	og_hash_one(hash, reply->msg->value, reply->msg->value_bytes);
	return memcmp(hash, op->target, sizeof(hash)) == 0;
}

/* A signature is worth checking if it would change the answer and is not in work already. */
static void verify_candidate(struct og_dht_kv *kv, struct op *op, const struct og_dht_mutable *m)
{
	int slot = -1;
	struct og_job *job;

	if (op->found ? m->seq <= op->value.seq : m->seq < op->value.seq)
		return;
	for (int i = 0; i < CANDIDATES; i++) {
		const struct value *c = &op->candidates[i];

		if (!op->verifying[i])
			slot = i;
		else if (c->seq == m->seq && c->bytes == m->value_bytes &&
			 memcmp(c->data, m->value, c->bytes) == 0)
			return;
	}
	if (slot < 0 || !set_value(&op->candidates[slot], m->seq, m->value, m->value_bytes))
		return;
	job = kv->env->jobs->begin(kv->env->jobs);
	if (!job)
		return;
	job->kind = OG_DHT_JOB_VALUE_VERIFY;
	job->slot = (uint32_t)(op - kv->ops) << 16 | (uint32_t)slot;
	job->gen = op->gen;
	job->source_hash = 0;
	og_dht_work_verify_mutable(
		job, op->public_key, m->seq, m->value, m->value_bytes, m->signature);
	op->verifying[slot] = true;
	op->nb_open++;
	kv->env->jobs->post(kv->env->jobs, job);
}

static void on_reply(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_kv *kv = ctx;
	struct op *op = op_of(kv, tag);
	struct og_dht_mutable m;

	if (!op || op->put || !reply->msg->has_value)
		return;
	if (op->command == IMMUTABLE_GET) {
		if (is_immutable(op, reply) &&
			set_value(&op->value, 0, reply->msg->value, reply->msg->value_bytes))
			finish(kv, op, 0, now_ns);
	} else if (og_dht_mutable_get_decode(&m, reply->msg->value, reply->msg->value_bytes) == 0) {
		verify_candidate(kv, op, &m);
	}
}

static void end_get(struct og_dht_kv *kv, struct op *op, uint64_t now_ns)
{
	if (op->query_done && op->nb_open == 0)
		finish(kv, op, op->found ? 0 : -ENOENT, now_ns);
}

static void on_query_done(void *ctx, uint64_t tag, int status, const struct og_dht_closest *closest,
	uint32_t n, uint64_t now_ns)
{
	struct og_dht_kv *kv = ctx;
	struct op *op = op_of(kv, tag);

	if (!op)
		return;
	op->query_done = true;
	if (!op->put)
		end_get(kv, op, now_ns);
	else if (status < 0)
		finish(kv, op, status, now_ns);
	else
		store_on(kv, op, closest, n, now_ns);
}

static int start_query(struct og_dht_kv *kv, struct op *op, uint64_t min_seq, uint64_t now_ns)
{
	uint8_t seq[9];
	struct og_writer w = og_writer_of(seq, sizeof(seq));
	struct og_dht_query_opts q = {.command = op->command,
		.on_reply = on_reply,
		.on_done = on_query_done,
		.ctx = kv,
		.tag = tag_of(kv, op, 0)};

	if (op->command == MUTABLE_GET) {
		og_write_uint(&w, min_seq);
		q.value = seq;
		q.value_bytes = (uint32_t)og_writer_len(&w);
		q.has_value = true;
	}
	memcpy(q.target, op->target, sizeof(q.target));
	if (og_dht_query_start(kv->env->rpc, &q, &op->query, now_ns) < 0)
		return -ENOSPC;
	op->phase = FINDING;
	return 0;
}

/* ---- Jobs ---- */

static void value_signed(
	struct og_dht_kv *kv, struct op *op, const struct og_job *job, uint64_t now_ns)
{
	memcpy(op->signature, OG_JOB_BODY(job, sign_mutable)->signature, sizeof(op->signature));
	if (job->result < 0 || start_query(kv, op, 0, now_ns) < 0)
		finish(kv, op, -ENOBUFS, now_ns);
}

static void value_verified(
	struct og_dht_kv *kv, struct op *op, const struct og_job *job, uint64_t now_ns)
{
	uint32_t i = job->slot & 0xffff;

	if (i >= CANDIDATES || !op->verifying[i])
		return;
	op->verifying[i] = false;
	op->nb_open--;
	if (job->result == 0 && (!op->found || op->candidates[i].seq > op->value.seq)) {
		op->found = true;
		op->value = op->candidates[i];
	}
	end_get(kv, op, now_ns);
}

void og_dht_kv_job_done(struct og_dht_kv *kv, const struct og_job *job, uint64_t now_ns)
{
	struct op *op = op_of(kv, (uint64_t)job->gen << 32 | job->slot);

	if (!op)
		return;
	if (job->kind == OG_DHT_JOB_VALUE_SIGN && op->phase == SIGNING)
		value_signed(kv, op, job, now_ns);
	else if (job->kind == OG_DHT_JOB_VALUE_VERIFY)
		value_verified(kv, op, job, now_ns);
}

/* ---- Start, time, life ---- */

int og_dht_kv_put_immutable(struct og_dht_kv *kv, const uint8_t *value, uint32_t value_bytes,
	uint64_t tag, uint64_t now_ns)
{
	struct op *op = op_new(kv, IMMUTABLE_GET, true, tag, now_ns);

	if (!op)
		return -ENOSPC;
	if (!set_value(&op->value, 0, value, value_bytes))
		return -EMSGSIZE;
	og_hash_one(op->target, value, value_bytes);
	return start_query(kv, op, 0, now_ns);
}

int og_dht_kv_get_immutable(
	struct og_dht_kv *kv, const uint8_t target[32], uint64_t tag, uint64_t now_ns)
{
	struct op *op = op_new(kv, IMMUTABLE_GET, false, tag, now_ns);

	if (!op)
		return -ENOSPC;
	memcpy(op->target, target, sizeof(op->target));
	return start_query(kv, op, 0, now_ns);
}

int og_dht_kv_put_mutable(struct og_dht_kv *kv, const struct og_keypair *kp, uint64_t seq,
	const uint8_t *value, uint32_t value_bytes, uint64_t tag, uint64_t now_ns)
{
	struct op *op = op_new(kv, MUTABLE_GET, true, tag, now_ns);
	struct og_job *job;

	if (!op)
		return -ENOSPC;
	if (value_bytes > MUTABLE_MAX || !set_value(&op->value, seq, value, value_bytes))
		return -EMSGSIZE;
	job = kv->env->jobs->begin(kv->env->jobs);
	if (!job)
		return -ENOSPC;
	memcpy(op->public_key, kp->public_key, sizeof(op->public_key));
	og_hash_one(op->target, kp->public_key, sizeof(kp->public_key));
	job->kind = OG_DHT_JOB_VALUE_SIGN;
	job->slot = (uint32_t)(op - kv->ops) << 16;
	job->gen = op->gen;
	job->source_hash = 0;
	og_dht_work_sign_mutable(job, kp, seq, value, value_bytes);
	op->phase = SIGNING;
	kv->env->jobs->post(kv->env->jobs, job);
	return 0;
}

int og_dht_kv_get_mutable(struct og_dht_kv *kv, const uint8_t public_key[32], uint64_t min_seq,
	uint64_t tag, uint64_t now_ns)
{
	struct op *op = op_new(kv, MUTABLE_GET, false, tag, now_ns);

	if (!op)
		return -ENOSPC;
	op->value.seq = min_seq;
	memcpy(op->public_key, public_key, sizeof(op->public_key));
	og_hash_one(op->target, public_key, 32);
	return start_query(kv, op, min_seq, now_ns);
}

uint64_t og_dht_kv_tick(struct og_dht_kv *kv, uint64_t now_ns)
{
	uint64_t next = OG_NEVER;

	for (uint32_t i = 0; i < kv->nb_ops; i++) {
		struct op *op = &kv->ops[i];

		if (op->phase == IDLE)
			continue;
		if (now_ns >= op->deadline_ns)
			finish(kv, op, op->found || op->stored > 0 ? 0 : -ETIMEDOUT, now_ns);
		else
			next = OG_MIN(next, op->deadline_ns);
	}
	return next;
}

int og_dht_kv_create(struct og_dht_kv **out, struct og_dht_env *env, const struct og_dht_opts *opts)
{
	struct og_dht_kv *kv = calloc(1, sizeof(*kv));

	if (!kv)
		return -ENOMEM;
	kv->env = env;
	kv->nb_ops = OG_MIN(og_dht_or(opts->nb_value_ops, 16), 65535u);
	kv->ops = calloc(kv->nb_ops, sizeof(*kv->ops));
	if (!kv->ops) {
		og_dht_kv_destroy(kv);
		return -ENOMEM;
	}
	*out = kv;
	return 0;
}

void og_dht_kv_destroy(struct og_dht_kv *kv)
{
	if (!kv)
		return;
	free(kv->ops);
	free(kv);
}
