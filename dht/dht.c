#include "dht/dht.h"

#include "base/metrics.h"
#include "crypto/hash.h"
#include "dht/accept.h"
#include "dht/announcer.h"
#include "dht/connect.h"
#include "dht/env.h"
#include "dht/keeper.h"
#include "dht/kv.h"
#include "dht/relay.h"
#include "dht/topics.h"
#include "dht/values.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

enum { PEER_HANDSHAKE = 0, PEER_HOLEPUNCH = 1 };

static const uint64_t store_tick_ns = OG_NS_PER_S;

struct og_dht {
	struct og_dht_env env;
	bool listening;
	uint64_t store_tick_at_ns;
	struct og_dht_keeper *keeper;
	struct og_dht_relay *relay;
	struct og_dht_accept *accept;
	struct og_dht_connect *connect;
	struct og_dht_announcer *announcer;
	struct og_dht_topics *topics;
	struct og_dht_kv *kv;
};

/* ---- Handshakes and punches: ours, or somebody else's ---- */

static void on_handshake(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht *dht = ctx;
	struct og_dht_handshake h;

	if (!in->msg->target || !in->msg->has_value ||
		og_dht_handshake_decode(&h, in->msg->value, in->msg->value_bytes) < 0) {
		og_count(&dht->env.counts.handshakes_bad);
		return;
	}
	if (og_dht_store_is_own(dht->env.store, in->msg->target))
		og_dht_accept_handshake(dht->accept, in, &h, now_ns);
	else
		og_dht_relay_handshake(dht->relay, in, &h, now_ns);
}

static void on_holepunch(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	struct og_dht *dht = ctx;
	struct og_dht_holepunch h;

	if (!in->msg->target || !in->msg->has_value ||
		og_dht_holepunch_decode(&h, in->msg->value, in->msg->value_bytes) < 0) {
		og_count(&dht->env.counts.handshakes_bad);
		return;
	}
	/* Our own server never offers to punch: its handshakes carry no id to ask with. */
	if (!og_dht_store_is_own(dht->env.store, in->msg->target))
		og_dht_relay_holepunch(dht->relay, in, &h, now_ns);
}

/* ---- Life ---- */

static int create_parts(struct og_dht *dht, const struct og_dht_opts *opts, uint64_t now_ns)
{
	struct og_dht_env *env = &dht->env;
	struct og_dht_store_opts store = opts->store;
	int ret;

	ret = og_dht_rpc_create(&env->rpc, &opts->rpc, now_ns);
	if (ret < 0)
		return ret;
	store.rand = env->rand;
	ret = og_dht_store_create(&env->store, &store, now_ns);
	if (ret < 0)
		return ret;
	if (og_dht_keeper_create(&dht->keeper, env, opts) < 0 ||
		og_dht_relay_create(&dht->relay, env, opts) < 0 ||
		og_dht_accept_create(&dht->accept, env, opts) < 0 ||
		og_dht_connect_create(&dht->connect, env, opts) < 0 ||
		og_dht_announcer_create(&dht->announcer, env) < 0 ||
		og_dht_topics_create(&dht->topics, env, opts) < 0)
		return -ENOMEM;
	return og_dht_kv_create(&dht->kv, env, opts);
}

int og_dht_create(struct og_dht **out, const struct og_dht_opts *opts, uint64_t now_ns)
{
	struct og_dht *dht = calloc(1, sizeof(*dht));
	int ret;

	if (!dht)
		return -ENOMEM;
	dht->env = (struct og_dht_env){.jobs = opts->jobs,
		.rand = opts->rpc.rand,
		.keypair = opts->keypair,
		.ops = opts->ops,
		.ctx = opts->ctx,
		.server_port = opts->rpc.local[0].port,
		.nb_local_addrs = OG_MIN(opts->nb_local_addrs, (uint32_t)OG_DHT_LOCAL_ADDRS)};
	for (uint32_t i = 0; i < dht->env.nb_local_addrs; i++)
		dht->env.local_addrs[i] = opts->local_addrs[i];
	og_hash_one(dht->env.target, opts->keypair->public_key, OG_KEY_BYTES);
	ret = create_parts(dht, opts, now_ns);
	if (ret < 0) {
		og_dht_destroy(dht);
		return ret;
	}
	og_dht_rpc_handle(dht->env.rpc, PEER_HANDSHAKE, false, on_handshake, dht);
	og_dht_rpc_handle(dht->env.rpc, PEER_HOLEPUNCH, false, on_holepunch, dht);
	*out = dht;
	return 0;
}

void og_dht_destroy(struct og_dht *dht)
{
	if (!dht)
		return;
	og_dht_kv_destroy(dht->kv);
	og_dht_topics_destroy(dht->topics);
	og_dht_announcer_destroy(dht->announcer);
	og_dht_connect_destroy(dht->connect);
	og_dht_accept_destroy(dht->accept);
	og_dht_relay_destroy(dht->relay);
	og_dht_keeper_destroy(dht->keeper);
	og_dht_store_destroy(dht->env.store);
	og_dht_rpc_destroy(dht->env.rpc);
	free(dht);
}

/* ---- Driving ---- */

int og_dht_input(struct og_dht *dht, uint16_t endpoint, const struct og_addr *src,
	const uint8_t *data, uint16_t len_bytes, uint64_t now_ns)
{
	return og_dht_rpc_input(dht->env.rpc, endpoint, src, data, len_bytes, now_ns);
}

/* The parts first: what they send, the rpc may report or retransmit in the same tick. */
uint64_t og_dht_tick(struct og_dht *dht, uint64_t now_ns)
{
	uint64_t next;

	if (now_ns >= dht->store_tick_at_ns) {
		og_dht_store_tick(dht->env.store, now_ns);
		dht->store_tick_at_ns = now_ns + store_tick_ns;
	}
	next = dht->store_tick_at_ns;
	next = OG_MIN(next, og_dht_announcer_tick(dht->announcer, now_ns));
	next = OG_MIN(next, og_dht_topics_tick(dht->topics, now_ns));
	next = OG_MIN(next, og_dht_accept_tick(dht->accept, now_ns));
	next = OG_MIN(next, og_dht_connect_tick(dht->connect, now_ns));
	next = OG_MIN(next, og_dht_kv_tick(dht->kv, now_ns));
	return OG_MIN(next, og_dht_rpc_tick(dht->env.rpc, now_ns));
}

void og_dht_job_done(struct og_dht *dht, struct og_job *job, uint64_t now_ns)
{
	switch (job->kind) {
	case OG_DHT_JOB_KEEPER_VERIFY:
		og_dht_keeper_job_done(dht->keeper, job, now_ns);
		break;
	case OG_DHT_JOB_ACCEPT_READ:
	case OG_DHT_JOB_ACCEPT_WRITE:
		og_dht_accept_job_done(dht->accept, job, now_ns);
		break;
	case OG_DHT_JOB_CONNECT_WRITE:
	case OG_DHT_JOB_CONNECT_READ:
		og_dht_connect_job_done(dht->connect, job, now_ns);
		break;
	case OG_DHT_JOB_SERVER_SIGN:
		og_dht_announcer_job_done(dht->announcer, job, now_ns);
		break;
	case OG_DHT_JOB_TOPIC_SIGN:
		og_dht_topics_job_done(dht->topics, job, now_ns);
		break;
	case OG_DHT_JOB_VALUE_SIGN:
	case OG_DHT_JOB_VALUE_VERIFY:
		og_dht_kv_job_done(dht->kv, job, now_ns);
		break;
	default:
		break;
	}
	sodium_memzero(job->body, sizeof(job->body));
}

struct og_dht_rpc *og_dht_rpc(struct og_dht *dht)
{
	return dht->env.rpc;
}

const struct og_dht_counts *og_dht_counts(const struct og_dht *dht)
{
	return &dht->env.counts;
}

struct og_dht_store_counts og_dht_stored(const struct og_dht *dht)
{
	return og_dht_store_counts(dht->env.store);
}

uint32_t og_dht_nb_connects(const struct og_dht *dht)
{
	return og_dht_connect_count(dht->connect);
}

uint32_t og_dht_nb_half_open(const struct og_dht *dht)
{
	return og_dht_accept_half_open(dht->accept);
}

uint32_t og_dht_nb_accepts(const struct og_dht *dht)
{
	return og_dht_accept_count(dht->accept);
}

/* ---- Server ---- */

int og_dht_listen(struct og_dht *dht, uint64_t now_ns)
{
	if (og_dht_announcer_active(dht->announcer))
		return -EALREADY;
	dht->listening = true;
	og_dht_store_set_own(dht->env.store, dht->env.target, dht->env.keypair->public_key);
	og_dht_announcer_start(dht->announcer, now_ns);
	return 0;
}

int og_dht_unlisten(struct og_dht *dht, uint64_t now_ns)
{
	if (!dht->listening)
		return -EALREADY;
	dht->listening = false;
	og_dht_store_set_own(dht->env.store, NULL, NULL);
	og_dht_accept_reset(dht->accept, now_ns);
	og_dht_announcer_stop(dht->announcer, now_ns);
	return 0;
}

uint32_t og_dht_relays(const struct og_dht *dht, struct og_addr out[OG_DHT_RECORD_RELAYS])
{
	memcpy(out, dht->env.relays, sizeof(dht->env.relays));
	return dht->env.nb_relays;
}

/* ---- Topics ---- */

int og_dht_announce(struct og_dht *dht, const uint8_t topic[32], uint64_t now_ns)
{
	return og_dht_topics_start(dht->topics, topic, OG_DHT_TOPIC_ANNOUNCE, now_ns);
}

int og_dht_lookup(struct og_dht *dht, const uint8_t topic[32], uint64_t now_ns)
{
	return og_dht_topics_start(dht->topics, topic, OG_DHT_TOPIC_LOOKUP, now_ns);
}

int og_dht_unannounce(struct og_dht *dht, const uint8_t topic[32], uint64_t now_ns)
{
	return og_dht_topics_start(dht->topics, topic, OG_DHT_TOPIC_UNANNOUNCE, now_ns);
}

/* ---- Connections ---- */

int og_dht_connect(struct og_dht *dht, const uint8_t remote_key[32], const struct og_addr *relays,
	uint32_t nb_relays, uint64_t tag, uint64_t now_ns)
{
	const struct og_dht_env *env = &dht->env;

	if (memcmp(remote_key, env->keypair->public_key, OG_KEY_BYTES) == 0)
		return -EINVAL;
	if (env->ops->firewall && env->ops->firewall(env->ctx, remote_key, false))
		return -EKEYREJECTED;
	return og_dht_connect_start(dht->connect, remote_key, relays, nb_relays, tag, now_ns);
}

void og_dht_connect_cancel(struct og_dht *dht, uint64_t tag, uint64_t now_ns)
{
	og_dht_connect_abort(dht->connect, tag, now_ns);
}

void og_dht_stream_seen(struct og_dht *dht, uint64_t stream, uint16_t endpoint,
	const struct og_addr *src, uint64_t now_ns)
{
	if (!og_dht_accept_stream_seen(dht->accept, stream, endpoint, src, now_ns))
		og_dht_connect_stream_seen(dht->connect, stream, endpoint, src, now_ns);
}

/* ---- Values ---- */

int og_dht_immutable_put(struct og_dht *dht, const uint8_t *value, uint32_t value_bytes,
	uint64_t tag, uint64_t now_ns)
{
	return og_dht_kv_put_immutable(dht->kv, value, value_bytes, tag, now_ns);
}

int og_dht_immutable_get(
	struct og_dht *dht, const uint8_t target[32], uint64_t tag, uint64_t now_ns)
{
	return og_dht_kv_get_immutable(dht->kv, target, tag, now_ns);
}

int og_dht_mutable_put(struct og_dht *dht, const struct og_keypair *kp, uint64_t seq,
	const uint8_t *value, uint32_t value_bytes, uint64_t tag, uint64_t now_ns)
{
	return og_dht_kv_put_mutable(dht->kv, kp, seq, value, value_bytes, tag, now_ns);
}

int og_dht_mutable_get(struct og_dht *dht, const uint8_t public_key[32], uint64_t min_seq,
	uint64_t tag, uint64_t now_ns)
{
	return og_dht_kv_get_mutable(dht->kv, public_key, min_seq, tag, now_ns);
}

/* ---- Metrics ---- */

void og_dht_metrics_register(struct og_dht *dht)
{
	struct og_dht_counts *c = &dht->env.counts;
	const struct {
		const char *name, *labels, *help;
		const uint64_t *value;
	} rows[] = {
		{"og_dht_handshakes_total", NULL, "Incoming handshakes taken up.", &c->handshakes},
		{"og_dht_handshakes_unproven_total", NULL,
			"Incoming handshakes of addresses that had not answered us yet.",
			&c->handshakes_unproven},
		{"og_dht_handshakes_dropped_total", "reason=\"duplicate\"",
			"Incoming handshakes not taken up.", &c->handshake_duplicates},
		{"og_dht_handshakes_dropped_total", "reason=\"bad\"", NULL, &c->handshakes_bad},
		{"og_dht_handshakes_dropped_total", "reason=\"limited\"", NULL,
			&c->handshakes_limited},
		{"og_dht_handshakes_dropped_total", "reason=\"shed\"", NULL, &c->handshakes_shed},
		{"og_dht_handshakes_dropped_total", "reason=\"challenged\"", NULL,
			&c->handshakes_challenged},
		{"og_dht_handshakes_dropped_total", "reason=\"refused\"", NULL,
			&c->handshakes_refused},
		{"og_dht_handshakes_dropped_total", "reason=\"replayed\"", NULL,
			&c->handshakes_replayed},
		{"og_dht_half_open_evicted_total", NULL,
			"Half-open connections dropped to make room.", &c->half_open_evicted},
		{"og_dht_forwards_total", NULL, "Handshakes and punches relayed for others.",
			&c->forwards},
		{"og_dht_forwards_dropped_total", "reason=\"limited\"",
			"Handshakes and punches not relayed.", &c->forwards_limited},
		{"og_dht_forwards_dropped_total", "reason=\"unknown\"", NULL, &c->forwards_unknown},
		{"og_dht_records_dropped_total", "reason=\"bad\"", "Announces and puts not stored.",
			&c->records_bad},
		{"og_dht_records_dropped_total", "reason=\"limited\"", NULL, &c->records_limited},
		{"og_dht_records_dropped_total", "reason=\"shed\"", NULL, &c->records_shed},
		{"og_dht_connects_total", NULL, "Outgoing connection attempts.", &c->connects},
		{"og_dht_connects_failed_total", NULL, "Outgoing attempts that failed.",
			&c->connects_failed},
		{"og_dht_handshake_replies_bad_total", NULL,
			"Answers to our handshakes that were not valid.", &c->replies_bad},
		{"og_dht_announce_rounds_total", NULL, "Rounds that announced our server.",
			&c->announce_rounds},
		{"og_dht_announce_rounds_failed_total", NULL, "Rounds that stored nothing.",
			&c->announce_rounds_failed},
	};

	og_dht_rpc_metrics_register(dht->env.rpc);
	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++)
		og_metrics_register(&(struct og_metric){.name = rows[i].name,
			.labels = rows[i].labels,
			.help = rows[i].help,
			.type = OG_METRIC_COUNTER,
			.value = rows[i].value});
}
