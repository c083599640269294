#include "dht/topics.h"

#include "dht/commit.h"
#include "dht/values.h"

#include <errno.h>
#include <stdlib.h>

enum {
	LOOKUP = 3,
	CLEARS = 24,                 /* unannounces of one operation */
	COMMITS = OG_DHT_K + CLEARS, /* 0 … 19 announce, the rest unannounce */
	FULL_REPLY = 20,             /* a node that lists so many may hide us */
};

static const uint64_t operation_limit_ns = 60 * OG_NS_PER_S;
static const uint64_t leave_limit_ns = 2 * OG_NS_PER_S;
static const uint64_t retry_job_ns = 20 * OG_NS_PER_MS;

enum phase { IDLE, FINDING, CLEARING, STORING };

struct topic {
	bool used;
	bool announced;
	uint8_t phase; /* enum phase */
	uint8_t op;    /* enum og_dht_topic_op, of the running operation */
	bool clear;    /* unannounce wherever we are listed */
	uint32_t gen;
	uint32_t nb_open; /* commits that have not ended */
	uint32_t nb_clears;
	uint32_t stored, cleared;
	uint64_t deadline_ns;
	uint64_t used_ns;
	struct og_dht_query_id query;
	struct og_dht_announcement announcement, farewell;
	uint32_t nb_nearest; /* of the last query */
	struct og_addr nearest[OG_DHT_K];
	uint8_t key[32];
	struct og_dht_commit commits[COMMITS];
};

struct og_dht_topics {
	struct og_dht_env *env;
	uint32_t nb_topics;
	struct topic *topics;
};

/* ---- Slots ---- */

static uint32_t index_of(const struct og_dht_topics *t, const struct topic *tp)
{
	return (uint32_t)(tp - t->topics);
}

/* gen, topic and commit of one request: 32, 16 and 16 bits. */
static uint64_t tag_of(const struct og_dht_topics *t, const struct topic *tp, uint32_t commit)
{
	return (uint64_t)tp->gen << 32 | index_of(t, tp) << 16 | commit;
}

static struct topic *topic_of(struct og_dht_topics *t, uint64_t tag)
{
	uint32_t i = (uint32_t)tag >> 16;
	struct topic *tp = i < t->nb_topics ? &t->topics[i] : NULL;

	return tp && tp->gen == (uint32_t)(tag >> 32) && tp->phase != IDLE ? tp : NULL;
}

static struct topic *find(struct og_dht_topics *t, const uint8_t key[32])
{
	for (uint32_t i = 0; i < t->nb_topics; i++) {
		if (t->topics[i].used && memcmp(t->topics[i].key, key, 32) == 0)
			return &t->topics[i];
	}
	return NULL;
}

/* A free slot, or the idle one that was used longest ago and holds no announcement. */
static struct topic *take_slot(struct og_dht_topics *t, const uint8_t key[32])
{
	struct topic *best = NULL;

	for (uint32_t i = 0; i < t->nb_topics; i++) {
		struct topic *tp = &t->topics[i];

		if (tp->used && (tp->phase != IDLE || tp->announced))
			continue;
		if (!best || (best->used && (!tp->used || tp->used_ns < best->used_ns)))
			best = tp;
	}
	if (!best)
		return NULL;
	*best = (struct topic){.used = true, .gen = best->gen};
	memcpy(best->key, key, sizeof(best->key));
	return best;
}

/* ---- The end of an operation ---- */

static void finish(struct og_dht_topics *t, struct topic *tp, int status, uint64_t now_ns)
{
	const struct og_dht_ops *ops = t->env->ops;
	enum og_dht_topic_op op = (enum og_dht_topic_op)tp->op;
	uint8_t key[32];

	if (tp->phase == FINDING)
		og_dht_query_cancel(t->env->rpc, tp->query);
	for (int i = 0; i < COMMITS; i++)
		og_dht_commit_cancel(&tp->commits[i], t->env);
	tp->phase = IDLE;
	tp->gen++;
	tp->used_ns = now_ns;
	if (op == OG_DHT_TOPIC_ANNOUNCE && status == 0)
		tp->announced = true;
	if (op == OG_DHT_TOPIC_UNANNOUNCE)
		tp->announced = false;
	memcpy(key, tp->key, sizeof(key));
	if (ops->topic_done)
		ops->topic_done(t->env->ctx, key, op, status,
			op == OG_DHT_TOPIC_UNANNOUNCE ? tp->cleared : tp->stored, now_ns);
}

static void sign(struct og_dht_topics *t, struct topic *tp, uint32_t commit)
{
	struct og_dht_commit *c = &tp->commits[commit];

	og_dht_commit_sign(c, t->env, c->unannounce ? &tp->farewell : &tp->announcement,
		OG_DHT_JOB_TOPIC_SIGN, index_of(t, tp) << 16 | commit, tp->gen);
}

/* Our record goes to every node that gave a token, all at once. */
static void start_storing(struct og_dht_topics *t, struct topic *tp, uint64_t now_ns)
{
	tp->phase = STORING;
	tp->nb_open = 0;
	for (uint32_t i = 0; i < OG_DHT_K; i++) {
		if (tp->commits[i].state != OG_DHT_COMMIT_UNSIGNED)
			continue;
		tp->nb_open++;
		sign(t, tp, i);
	}
	if (tp->nb_open == 0)
		finish(t, tp, -EREMOTEIO, now_ns);
}

/* The query and every commit so far have ended. */
static void next_phase(struct og_dht_topics *t, struct topic *tp, uint64_t now_ns)
{
	if (tp->phase == STORING)
		finish(t, tp, tp->stored > 0 ? 0 : -EREMOTEIO, now_ns);
	else if (tp->op == OG_DHT_TOPIC_ANNOUNCE)
		start_storing(t, tp, now_ns);
	else
		finish(t, tp, 0, now_ns);
}

static void on_commit(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_topics *t = ctx;
	struct topic *tp = topic_of(t, tag);
	uint32_t i = tag & 0xffff;
	bool fine = reply->status == 0 && reply->msg->error == 0;

	if (!tp || i >= COMMITS || tp->commits[i].state != OG_DHT_COMMIT_SENT)
		return;
	tp->commits[i].state = OG_DHT_COMMIT_FREE;
	if (tp->commits[i].unannounce)
		tp->cleared += fine;
	else
		tp->stored += fine;
	if (--tp->nb_open == 0 && tp->phase != FINDING)
		next_phase(t, tp, now_ns);
}

/* ---- While the query runs ---- */

/* Reports who is listed; returns whether we are. */
static bool report_peers(struct og_dht_topics *t, struct topic *tp,
	const struct og_dht_reply *reply, uint32_t *nb_listed, uint64_t now_ns)
{
	const struct og_dht_ops *ops = t->env->ops;
	struct og_reader r = og_reader_of(reply->msg->value, reply->msg->value_bytes);
	struct og_dht_peer peer;
	bool listed = false;
	uint32_t gen = tp->gen;
	uint8_t key[32];

	*nb_listed = 0;
	memcpy(key, tp->key, sizeof(key));
	if (!reply->msg->has_value || og_dht_lookup_begin(&r, nb_listed) < 0)
		return false;
	for (uint32_t i = 0; i < *nb_listed && i < OG_DHT_LOOKUP_PEERS + 1; i++) {
		struct og_addr relays[OG_DHT_RECORD_RELAYS];
		uint32_t nb = 0;

		if (og_dht_peer_decode(&peer, &r) < 0)
			break;
		if (memcmp(peer.public_key, t->env->keypair->public_key, 32) == 0) {
			listed = true;
			continue;
		}
		while (nb < peer.nb_relays && nb < OG_DHT_RECORD_RELAYS) {
			relays[nb] = og_dht_peer_relay(&peer, nb);
			nb++;
		}
		if (ops->topic_peer && tp->op != OG_DHT_TOPIC_UNANNOUNCE && tp->gen == gen)
			ops->topic_peer(t->env->ctx, key, peer.public_key, relays, nb, now_ns);
	}
	return listed;
}

static void clear_at(struct og_dht_topics *t, struct topic *tp, const struct og_dht_reply *reply)
{
	uint32_t i = OG_DHT_K + tp->nb_clears;

	if (!reply->id || !reply->msg->token || tp->nb_clears == CLEARS)
		return;
	tp->nb_clears++;
	tp->nb_open++;
	og_dht_commit_init(&tp->commits[i], true, &reply->from, reply->id, reply->msg->token);
	sign(t, tp, i);
}

static void on_reply(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_topics *t = ctx;
	struct topic *tp = topic_of(t, tag);
	uint32_t nb_listed;
	bool listed;

	if (!tp)
		return;
	listed = report_peers(t, tp, reply, &nb_listed, now_ns);
	if (tp->clear && (listed || nb_listed >= FULL_REPLY))
		clear_at(t, tp, reply);
}

static void on_query_done(void *ctx, uint64_t tag, int status, const struct og_dht_closest *closest,
	uint32_t n, uint64_t now_ns)
{
	struct og_dht_topics *t = ctx;
	struct topic *tp = topic_of(t, tag);

	if (!tp)
		return;
	tp->phase = CLEARING;
	if (status < 0) {
		finish(t, tp, status, now_ns);
		return;
	}
	tp->nb_nearest = n;
	for (uint32_t i = 0; i < n; i++) {
		tp->nearest[i] = closest[i].addr;
		if (tp->op == OG_DHT_TOPIC_ANNOUNCE && closest[i].has_token)
			og_dht_commit_init(&tp->commits[i], false, &closest[i].addr, closest[i].id,
				closest[i].token);
	}
	if (tp->nb_open == 0)
		next_phase(t, tp, now_ns);
}

/* ---- Start ---- */

static int start_query(struct og_dht_topics *t, struct topic *tp, uint64_t now_ns)
{
	bool leave = tp->op == OG_DHT_TOPIC_UNANNOUNCE && tp->nb_nearest > 0;
	struct og_dht_query_opts q = {.command = LOOKUP,
		.seeds = tp->nearest,
		.nb_seeds = tp->nb_nearest,
		.only_seeds = leave,
		.sends = leave ? 1 : 0,
		.on_reply = on_reply,
		.on_done = on_query_done,
		.ctx = t,
		.tag = tag_of(t, tp, 0)};

	memcpy(q.target, tp->key, sizeof(q.target));
	tp->deadline_ns = now_ns + (leave ? leave_limit_ns : operation_limit_ns);
	return og_dht_query_start(t->env->rpc, &q, &tp->query, now_ns);
}

int og_dht_topics_start(
	struct og_dht_topics *t, const uint8_t topic[32], enum og_dht_topic_op op, uint64_t now_ns)
{
	struct og_dht_env *env = t->env;
	struct topic *tp = find(t, topic);

	if (tp && tp->phase != IDLE)
		return -EALREADY;
	if (!tp)
		tp = take_slot(t, topic);
	if (!tp)
		return -ENOSPC;
	tp->op = (uint8_t)op;
	tp->clear =
		op == OG_DHT_TOPIC_UNANNOUNCE || (op == OG_DHT_TOPIC_ANNOUNCE && !tp->announced);
	tp->nb_open = tp->nb_clears = tp->stored = tp->cleared = 0;
	og_dht_announcement_init(&tp->announcement, env, topic, env->relays, env->nb_relays);
	og_dht_announcement_init(&tp->farewell, env, topic, NULL, 0);
	if (start_query(t, tp, now_ns) < 0)
		return -ENOSPC;
	tp->phase = FINDING;
	return 0;
}

void og_dht_topics_job_done(struct og_dht_topics *t, const struct og_job *job, uint64_t now_ns)
{
	struct topic *tp = topic_of(t, (uint64_t)job->gen << 32 | job->slot);
	uint32_t i = job->slot & 0xffff;
	struct og_dht_commit *c;

	if (!tp || i >= COMMITS || tp->commits[i].state != OG_DHT_COMMIT_SIGNING)
		return;
	c = &tp->commits[i];
	og_dht_commit_send(c, t->env, c->unannounce ? &tp->farewell : &tp->announcement, job,
		(struct og_dht_request){.any_endpoint = true,
			.forced = tp->op == OG_DHT_TOPIC_UNANNOUNCE,
			.fn = on_commit,
			.ctx = t,
			.tag = tag_of(t, tp, i)},
		now_ns);
}

/* Signatures that found no job free; returns whether some still wait. */
static bool retry_jobs(struct og_dht_topics *t, struct topic *tp)
{
	bool waits = false;

	for (uint32_t i = 0; i < COMMITS; i++) {
		bool ready = tp->phase == STORING || tp->commits[i].unannounce;

		if (!ready || tp->commits[i].state != OG_DHT_COMMIT_UNSIGNED)
			continue;
		sign(t, tp, i);
		waits |= tp->commits[i].state == OG_DHT_COMMIT_UNSIGNED;
	}
	return waits;
}

uint64_t og_dht_topics_tick(struct og_dht_topics *t, uint64_t now_ns)
{
	uint64_t next = OG_NEVER;

	for (uint32_t i = 0; i < t->nb_topics; i++) {
		struct topic *tp = &t->topics[i];

		if (tp->phase == IDLE)
			continue;
		if (now_ns >= tp->deadline_ns)
			finish(t, tp, tp->stored > 0 ? 0 : -ETIMEDOUT, now_ns);
		else
			next = OG_MIN(
				next, retry_jobs(t, tp) ? now_ns + retry_job_ns : tp->deadline_ns);
	}
	return next;
}

int og_dht_topics_create(
	struct og_dht_topics **out, struct og_dht_env *env, const struct og_dht_opts *opts)
{
	struct og_dht_topics *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->env = env;
	t->nb_topics = OG_MIN(og_dht_or(opts->nb_topics, 64), 65535u);
	t->topics = calloc(t->nb_topics, sizeof(*t->topics));
	if (!t->topics) {
		og_dht_topics_destroy(t);
		return -ENOMEM;
	}
	*out = t;
	return 0;
}

void og_dht_topics_destroy(struct og_dht_topics *t)
{
	if (!t)
		return;
	free(t->topics);
	free(t);
}
