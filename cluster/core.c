#include "cluster/core.h"

#include "base/bytes.h"
#include "base/count.h"
#include "base/metrics.h"
#include "cluster/far.h"
#include "cluster/outbox.h"
#include "cluster/peers.h"
#include "cluster/steer.h"
#include "cluster/stream_core.h"
#include "cluster/swarm.h"
#include "dht/dht.h"
#include "dht/rpc.h"
#include "dht/view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	KNOWN_PEERS_MAX = 4096,
	NODES_SAVED_MAX = 64,
};

static const uint64_t stop_wait_ns = 1500 * OG_NS_PER_MS;
static const uint64_t stop_silence_ns =
	500 * OG_NS_PER_MS; /* nobody answers: the network is dead */

enum stop_state { RUNNING, STOPPING, STOPPED };

struct cluster_core {
	struct og_core base;
	struct og_core_env env;
	struct og_keypair keys;
	struct og_dht *dht;
	struct og_peers *peers;
	struct og_swarm *swarm;
	struct og_outbox outbox;
	struct og_far *far; /* NULL: the only core */
	struct og_dht_view *view;
	uint16_t nb_cores;
	uint32_t peers_max;
	struct og_cluster_core_stats stats;
	uint64_t now_ns;
	uint64_t stop_by, stop_heard_at;
	enum stop_state stop;
	uint32_t wakeups;
	bool ready, listening;
	bool dht_started; /* the swarm began something that only a tick of the DHT drives */
};

static struct cluster_core *self(struct og_core *core)
{
	return OG_CONTAINER_OF(core, struct cluster_core, base);
}

static int post(struct cluster_core *c, enum og_core_event type, const uint8_t *key, uint64_t arg,
	const void *data, uint32_t len_bytes)
{
	struct og_msg m = {
		.type = (uint16_t)type, .arg = arg, .data = data, .len_bytes = len_bytes};

	if (key)
		memcpy(m.key, key, sizeof(m.key));
	return og_outbox_post(&c->outbox, &m);
}

/* ---- what the DHT asks and tells ---- */

/* True refuses. */
static bool dht_firewall(void *ctx, const uint8_t key[32], bool incoming)
{
	struct cluster_core *c = ctx;
	bool refused = c->stop != RUNNING || !og_peers_allowed(c->peers, key);

	if (refused)
		og_count(&c->stats.refused_firewall);
	return refused;
}

static bool is_far(const struct cluster_core *c, uint64_t stream)
{
	return c->far && og_far_core_of_stream(c->far, stream) != 0;
}

/* All cores together hold as many as one would. Where one is wanted an older one gives way. */
static bool has_room(struct cluster_core *c, uint16_t core, uint64_t now_ns)
{
	const struct og_msg evict = {.type = OG_LINK_EVICT};

	if (og_peers_held(c->peers) + og_far_held(c->far) < c->peers_max ||
		og_peers_evict(c->peers, now_ns))
		return true;
	if (core != 0)
		og_far_tell(c->far, core, &evict); /* for who comes next */
	return false;
}

static int reserve_somewhere(struct cluster_core *c, const uint8_t key[32], uint64_t *stream,
	uint32_t *udx_id, uint64_t now_ns)
{
	uint16_t core = og_far_core_of_key(c->far, key);
	int ret = -ENOSPC;

	if (has_room(c, core, now_ns)) {
		if (core == 0)
			return og_peers_reserve(c->peers, stream, udx_id, now_ns);
		ret = og_far_reserve(c->far, core, stream, udx_id);
	}
	if (ret < 0)
		og_count(&c->stats.refused_full);
	return ret;
}

static int dht_reserve(
	void *ctx, const uint8_t key[32], uint64_t *stream, uint32_t *udx_id, uint64_t now_ns)
{
	struct cluster_core *c = ctx;

	if (c->far)
		return reserve_somewhere(c, key, stream, udx_id, now_ns);
	return og_peers_reserve(c->peers, stream, udx_id, now_ns);
}

static void dht_release(void *ctx, uint64_t stream, uint64_t now_ns)
{
	struct cluster_core *c = ctx;

	if (is_far(c, stream))
		og_far_release(c->far, stream);
	else
		og_peers_release(c->peers, stream, now_ns);
}

static struct og_tx *dht_stream_tx(void *ctx, uint64_t stream)
{
	struct cluster_core *c = ctx;

	return is_far(c, stream) ? og_far_tx(c->far, stream) : NULL;
}

static void connected_far(struct cluster_core *c, const struct og_dht_conn *conn, uint64_t now_ns)
{
	bool dialling = og_swarm_dialling(c->swarm, conn->remote_key);
	bool exempt =
		conn->has_remote && og_dht_rpc_address_exempt(og_dht_rpc(c->dht), &conn->remote);

	if (og_far_connected(c->far, conn, dialling, exempt) == 0 || !conn->initiator)
		return;
	og_count(&c->stats.dials_failed);
	og_swarm_dial_failed(c->swarm, conn->tag, now_ns);
}

static void dht_connected(void *ctx, const struct og_dht_conn *conn, uint64_t now_ns)
{
	struct cluster_core *c = ctx;

	if (is_far(c, conn->stream))
		connected_far(c, conn, now_ns);
	else
		og_peers_connected(c->peers, conn, now_ns);
}

static void dht_connect_failed(
	void *ctx, uint64_t tag, const uint8_t key[32], int reason, uint64_t now_ns)
{
	struct cluster_core *c = ctx;

	og_count(&c->stats.dials_failed);
	og_swarm_dial_failed(c->swarm, tag, now_ns);
}

static void dht_topic_peer(void *ctx, const uint8_t topic[32], const uint8_t key[32],
	const struct og_addr *relays, uint32_t nb_relays, uint64_t now_ns)
{
	struct cluster_core *c = ctx;

	if (memcmp(key, c->keys.public_key, 32) == 0)
		return;
	post(c, OG_EV_PEER_FOUND, key, 0, topic, 32);
	og_swarm_found(c->swarm, topic, key, relays, nb_relays, now_ns);
}

static void dht_topic_done(void *ctx, const uint8_t topic[32], enum og_dht_topic_op op, int status,
	uint32_t stored_on, uint64_t now_ns)
{
	struct cluster_core *c = ctx;
	/* A lookup stores nothing: that nodes answered is all there is to reach. */
	uint32_t reached = op == OG_DHT_TOPIC_LOOKUP ? 1 : stored_on;

	if (op == OG_DHT_TOPIC_UNANNOUNCE)
		og_swarm_unannounce_done(c->swarm, topic, now_ns);
	else
		og_swarm_refresh_done(c->swarm, topic, status == 0 ? reached : 0, now_ns);
}

static void dht_value_done(void *ctx, uint64_t tag, int status, uint64_t seq, const uint8_t *value,
	uint32_t n, uint64_t now_ns)
{
	struct cluster_core *c = ctx;
	struct og_msg m = {.type = OG_EV_VALUE,
		.flags = (uint16_t)-status,
		.arg = tag,
		.data = value,
		.len_bytes = n};

	og_store_le64(m.key, seq);
	if (og_outbox_post(&c->outbox, &m) < 0)
		og_count(&c->stats.events_dropped);
}

static void dht_server_state(void *ctx, uint32_t nb_relays, uint64_t now_ns)
{
	post(ctx, OG_EV_ANNOUNCED, NULL, nb_relays, NULL, 0);
}

static const struct og_dht_ops dht_ops = {
	.firewall = dht_firewall,
	.stream_reserve = dht_reserve,
	.stream_release = dht_release,
	.stream_tx = dht_stream_tx,
	.connected = dht_connected,
	.connect_failed = dht_connect_failed,
	.topic_peer = dht_topic_peer,
	.topic_done = dht_topic_done,
	.value_done = dht_value_done,
	.server_state = dht_server_state,
};

/* ---- what the swarm decides ---- */

static int swarm_refresh(void *ctx, const uint8_t topic[32], unsigned flags, uint64_t now_ns)
{
	struct cluster_core *c = ctx;

	c->dht_started = true;
	if (!(flags & OG_TOPIC_SERVER))
		return og_dht_lookup(c->dht, topic, now_ns);
	if (!c->listening) {
		int ret = og_dht_listen(c->dht, now_ns);

		if (ret < 0)
			return ret;
		c->listening = true;
	}
	return og_dht_announce(c->dht, topic, now_ns);
}

static int swarm_unannounce(void *ctx, const uint8_t topic[32], uint64_t now_ns)
{
	struct cluster_core *c = ctx;

	c->dht_started = true;
	return og_dht_unannounce(c->dht, topic, now_ns);
}

static int swarm_dial(void *ctx, const uint8_t key[32], const struct og_addr *relays,
	uint32_t nb_relays, uint64_t tag, uint64_t now_ns)
{
	struct cluster_core *c = ctx;

	og_count(&c->stats.dials);
	c->dht_started = true;
	return og_dht_connect(c->dht, key, relays, nb_relays, tag, now_ns);
}

static void swarm_dial_cancel(void *ctx, uint64_t tag, uint64_t now_ns)
{
	struct cluster_core *c = ctx;

	og_dht_connect_cancel(c->dht, tag, now_ns);
}

static bool swarm_allowed(void *ctx, const uint8_t key[32])
{
	struct cluster_core *c = ctx;

	return c->stop == RUNNING && og_peers_allowed(c->peers, key);
}

static void swarm_joined(void *ctx, const uint8_t topic[32], uint32_t stored_on)
{
	post(ctx, OG_EV_JOINED, topic, stored_on, NULL, 0);
}

static void swarm_join_retry(void *ctx, const uint8_t topic[32], uint64_t wait_ns)
{
	post(ctx, OG_EV_JOIN_RETRY, topic, wait_ns / OG_NS_PER_MS, NULL, 0);
}

static void swarm_left(void *ctx, const uint8_t topic[32])
{
	post(ctx, OG_EV_LEFT, topic, 0, NULL, 0);
}

static const struct og_swarm_ops swarm_ops = {
	.refresh = swarm_refresh,
	.unannounce = swarm_unannounce,
	.dial = swarm_dial,
	.dial_cancel = swarm_dial_cancel,
	.allowed = swarm_allowed,
	.joined = swarm_joined,
	.join_retry = swarm_join_retry,
	.left = swarm_left,
};

/* ---- struct og_core_ops ---- */

static void core_input(struct og_core *core, struct og_dgram *burst, uint16_t n, uint64_t now_ns)
{
	struct cluster_core *c = self(core);

	c->now_ns = now_ns;
	c->stop_heard_at = now_ns;
	og_count_add(&c->stats.rx_datagrams, n);
	for (uint16_t i = 0; i < n; i++) {
		const struct og_dgram *d = &burst[i];

		if (d->src.port == 0) {
			og_count(&c->stats.rx_unknown);
			continue;
		}
		if (d->len_bytes > 1 && d->data[0] == 0xff &&
			og_peers_input(c->peers, d, now_ns) == 0)
			continue;
		if (og_dht_input(c->dht, d->endpoint, &d->src, d->data, d->len_bytes, now_ns) < 0)
			og_count(&c->stats.rx_unknown);
	}
	og_peers_flush(c->peers, now_ns);
}

static void note_ready(struct cluster_core *c, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = og_dht_rpc(c->dht);
	uint32_t nodes = og_dht_rpc_table_size(rpc);
	uint32_t wakeups = og_dht_rpc_wakeups(rpc);

	/* Who started before the DHT, or slept meanwhile, must not wait for the next refresh. */
	if ((c->stats.table_nodes == 0 && nodes > 0) || wakeups != c->wakeups)
		og_swarm_refresh_all(c->swarm, now_ns);
	c->wakeups = wakeups;
	__atomic_store_n(&c->stats.table_nodes, nodes, __ATOMIC_RELAXED);
	__atomic_store_n(&c->stats.topics, og_swarm_topics(c->swarm), __ATOMIC_RELAXED);
	__atomic_store_n(&c->stats.persistent, og_dht_rpc_persistent(rpc), __ATOMIC_RELAXED);
	if (!c->ready && og_dht_rpc_bootstrapped(rpc)) {
		c->ready = true;
		post(c, OG_EV_READY, NULL, nodes, NULL, 0);
	}
}

static void drive_stop(struct cluster_core *c, uint64_t now_ns)
{
	const struct og_msg close_all = {.type = OG_LINK_CLOSE_ALL};
	bool quiet = og_swarm_topics(c->swarm) == 0 && og_peers_count(c->peers) == 0 &&
		     (!c->far || og_far_held(c->far) == 0);

	if (!quiet && now_ns < c->stop_by && now_ns < c->stop_heard_at + stop_silence_ns)
		return;
	og_peers_close_all(c->peers, now_ns);
	if (c->far)
		og_far_tell_all(c->far, &close_all);
	c->stop = STOPPED;
	post(c, OG_EV_STOPPED, NULL, 0, NULL, 0);
}

static uint64_t core_tick(struct og_core *core, uint64_t now_ns)
{
	struct cluster_core *c = self(core);
	uint64_t next = OG_NEVER, due;

	c->now_ns = now_ns;
	due = og_dht_tick(c->dht, now_ns);
	next = OG_MIN(next, due);
	note_ready(c, now_ns);
	/* Peers before the swarm, which hears from them of connections that ended. */
	due = og_peers_tick(c->peers, now_ns);
	next = OG_MIN(next, due);
	due = og_swarm_tick(c->swarm, now_ns);
	next = OG_MIN(next, due);
	if (c->dht_started)
		next = now_ns; /* the DHT's turn was before */
	c->dht_started = false;
	if (c->stop == STOPPING) {
		drive_stop(c, now_ns);
		next = OG_MIN(next, OG_MIN(c->stop_by, c->stop_heard_at + stop_silence_ns));
	}
	if (c->view) {
		due = og_dht_view_publish(c->view, og_dht_rpc(c->dht), now_ns);
		next = OG_MIN(next, due);
	}
	if (!og_outbox_flush(&c->outbox) || (c->far && !og_far_flush(c->far)))
		next = OG_MIN(next, now_ns + OG_NS_PER_MS);
	return next;
}

static void begin_stop(struct cluster_core *c, uint64_t now_ns)
{
	const struct og_msg end_all = {.type = OG_LINK_END_ALL};

	if (c->stop != RUNNING)
		return;
	c->stop = STOPPING;
	c->stop_by = now_ns + stop_wait_ns;
	c->stop_heard_at = now_ns;
	og_swarm_leave_all(c->swarm, now_ns);
	if (c->listening && og_dht_unlisten(c->dht, now_ns) == 0)
		c->listening = false;
	og_peers_end_all(c->peers, now_ns);
	if (c->far)
		og_far_tell_all(c->far, &end_all);
}

static void dial(struct cluster_core *c, const struct og_msg *m, uint64_t now_ns)
{
	struct og_addr relays[OG_SWARM_RELAYS_MAX];
	struct og_reader r = og_reader_of(m->data, m->len_bytes);
	uint32_t n = 0;

	while (n < OG_SWARM_RELAYS_MAX && og_reader_left(&r) >= 6)
		relays[n++] = og_read_addr4(&r);
	if (og_swarm_dial(c->swarm, m->key, relays, n, now_ns) < 0)
		og_count(&c->stats.refused_full);
}

static void send_nodes(struct cluster_core *c, uint64_t tag)
{
	struct og_addr nodes[NODES_SAVED_MAX];
	uint8_t buf[NODES_SAVED_MAX * 6];
	struct og_writer w = og_writer_of(buf, sizeof(buf));
	uint32_t n = og_dht_rpc_nodes(og_dht_rpc(c->dht), nodes, NODES_SAVED_MAX);

	for (uint32_t i = 0; i < n; i++)
		og_write_addr4(&w, &nodes[i]);
	if (post(c, OG_EV_NODES, NULL, tag, buf, (uint32_t)og_writer_len(&w)) < 0)
		og_count(&c->stats.events_dropped);
}

static void value_command(struct cluster_core *c, const struct og_msg *m, uint64_t now_ns)
{
	uint64_t seq = m->len_bytes >= 8 ? og_load_le64(m->data) : 0;
	int ret;

	switch (m->type) {
	case OG_CMD_PUT_IMMUTABLE:
		ret = og_dht_immutable_put(c->dht, m->data, m->len_bytes, m->arg, now_ns);
		break;
	case OG_CMD_GET_IMMUTABLE:
		ret = og_dht_immutable_get(c->dht, m->key, m->arg, now_ns);
		break;
	case OG_CMD_PUT_MUTABLE:
		ret = m->len_bytes < 8 ? -EINVAL
				       : og_dht_mutable_put(c->dht, &c->keys, seq, m->data + 8,
						 m->len_bytes - 8, m->arg, now_ns);
		break;
	default:
		ret = og_dht_mutable_get(c->dht, m->key, seq, m->arg, now_ns);
		break;
	}
	if (ret < 0)
		dht_value_done(c, m->arg, ret, 0, NULL, 0, now_ns);
}

/* Of another core. */
static void link_message(struct cluster_core *c, const struct og_msg *m, uint64_t now_ns)
{
	struct og_addr addr = og_addr_from_key(m->arg);

	switch ((enum og_link_message)m->type) {
	case OG_LINK_FIRST_PACKET:
		og_dht_stream_seen(
			c->dht, (uint64_t)m->gen << 32 | m->slot, m->flags, &addr, now_ns);
		break;
	case OG_LINK_UP:
		og_swarm_connected(c->swarm, m->key, m->flags & 1, now_ns);
		break;
	case OG_LINK_DOWN:
		og_swarm_disconnected(c->swarm, m->key, now_ns);
		break;
	case OG_LINK_DIAL_FAILED:
		og_swarm_dial_failed(c->swarm, m->arg, now_ns);
		break;
	case OG_LINK_DIAL_ABANDON:
		og_swarm_dial_abandon(c->swarm, m->key, now_ns);
		break;
	default:
		og_far_note(c->far, m);
		break;
	}
}

/* Of who is allowed: the swarm and the other cores hear of it too. */
static void lists_changed(struct cluster_core *c, const struct og_msg *m, uint64_t now_ns)
{
	if (m->type == OG_CMD_DENY)
		og_swarm_ban(c->swarm, m->key, now_ns);
	if (m->type == OG_CMD_UNDENY)
		og_swarm_unban(c->swarm, m->key);
	if (c->far)
		og_far_tell_all(c->far, m);
}

static int core_command(struct og_core *core, const struct og_msg *m, uint64_t now_ns)
{
	struct cluster_core *c = self(core);

	c->now_ns = now_ns;
	if (m->type >= OG_LINK_TAKE) {
		if (c->far)
			link_message(c, m, now_ns);
		return 0;
	}
	switch ((enum og_core_command)m->type) {
	case OG_CMD_JOIN:
		if (og_swarm_join(c->swarm, m->key, m->flags, now_ns) < 0)
			og_count(&c->stats.refused_full);
		break;
	case OG_CMD_LEAVE:
		og_swarm_leave(c->swarm, m->key, now_ns);
		break;
	case OG_CMD_DIAL:
		dial(c, m, now_ns);
		break;
	case OG_CMD_UNDIAL:
		og_swarm_undial(c->swarm, m->key, now_ns);
		break;
	case OG_CMD_PUT_IMMUTABLE:
	case OG_CMD_GET_IMMUTABLE:
	case OG_CMD_PUT_MUTABLE:
	case OG_CMD_GET_MUTABLE:
		value_command(c, m, now_ns);
		break;
	case OG_CMD_NODES:
		send_nodes(c, m->arg);
		break;
	case OG_CMD_STOP:
		begin_stop(c, now_ns);
		break;
	default:
		/* Of the commands for connections the lists are the last. */
		if (og_peers_command(c->peers, m, now_ns) && m->type >= OG_CMD_ALLOW)
			lists_changed(c, m, now_ns);
		break;
	}
	return 0;
}

static void core_job_done(struct og_core *core, struct og_job *job, uint64_t now_ns)
{
	struct cluster_core *c = self(core);

	c->now_ns = now_ns;
	og_dht_job_done(c->dht, job, now_ns);
}

static uint16_t core_steer(const struct og_core *core, const struct og_dgram *d)
{
	const struct cluster_core *c = OG_CONTAINER_OF(core, const struct cluster_core, base);

	return og_steer(d->data, d->len_bytes, 0, c->nb_cores);
}

static const struct og_core_ops core_ops = {
	.input = core_input,
	.tick = core_tick,
	.command = core_command,
	.job_done = core_job_done,
	.steer = core_steer,
};

/* ---- create ---- */

static int create_far(struct cluster_core *c, const struct og_cluster_core_opts *opts)
{
	if (c->nb_cores == 1)
		return 0;
	return og_far_create(&c->far, c->nb_cores, og_slots_per_core(c->peers_max, c->nb_cores),
		opts->links, og_rand_u64(opts->env.rand));
}

static int create_dht(
	struct cluster_core *c, const struct og_cluster_core_opts *opts, uint64_t now_ns)
{
	static const enum og_auto tristate[] = {OG_AUTO, OG_YES, OG_NO};
	struct og_dht_opts o = {
		.rpc =
			{
				.local = {opts->local[0], opts->local[1]},
				.bootstrap = opts->bootstrap,
				.nb_bootstrap = opts->nb_bootstrap,
				.saved_nodes = opts->saved_nodes,
				.nb_saved = opts->nb_saved_nodes,
				.public_addr = opts->public_addr,
				.ephemeral = tristate[opts->ephemeral],
				/* Without hole punching a node can only be of use where it is reachable. */
				.firewalled = opts->firewalled == OG_CORE_YES ? OG_YES : OG_NO,
				.tx = opts->env.tx,
				.rand = opts->env.rand,
			},
		.keypair = &c->keys,
		.ops = &dht_ops,
		.ctx = c,
		.jobs = opts->env.jobs,
		.local_addrs = opts->lan_addrs,
		.nb_local_addrs = OG_MIN(opts->nb_lan_addrs, (uint32_t)OG_DHT_LOCAL_ADDRS),
	};

	o.strangers_per_s = opts->dht_strangers_per_s;
	o.store.rand = opts->env.rand;
	o.store.wall_ms = opts->wall_ms;
	o.store.nb_records = o.store.nb_routes = opts->dht_records;
	o.store.nb_mutables = o.store.nb_immutables = opts->dht_values;
	return og_dht_create(&c->dht, &o, now_ns);
}

int og_cluster_core_create(
	struct og_core **out, const struct og_cluster_core_opts *opts, uint64_t now_ns)
{
	struct cluster_core *c = calloc(1, sizeof(*c));
	uint32_t nb_conns;
	struct og_peers_opts po;
	struct og_swarm_opts so;
	int ret;

	if (!c)
		return -ENOMEM;
	c->base.ops = &core_ops;
	c->env = opts->env;
	c->keys = *opts->keys;
	c->now_ns = now_ns;
	c->view = opts->view;
	c->nb_cores = OG_MAX(opts->nb_cores, 1);
	c->peers_max = opts->peers_max ? opts->peers_max : OG_PEERS_MAX_DEFAULT;
	nb_conns = og_slots_per_core(c->peers_max, c->nb_cores);
	/* Every connection can open and close while the ring is full, twice over. */
	ret = og_outbox_init(&c->outbox, opts->env.events, nb_conns * 4 + 256);
	if (ret < 0)
		goto destroy;
	po = (struct og_peers_opts){
		.own_key = c->keys.public_key,
		.tag_key = opts->env.tag_key,
		.nb_conns = nb_conns,
		.per_key_max = opts->peers_per_key_max,
		.per_net_max = og_per_net_max(opts->peers_per_net_max, c->nb_cores),
		.frame_budget_bytes = (opts->frame_budget_bytes ? opts->frame_budget_bytes
								: OG_FRAME_BUDGET_DEFAULT) /
				      c->nb_cores,
		.tx = opts->env.tx,
		.rand = opts->env.rand,
		.outbox = &c->outbox,
		.nb_packets = opts->packets,
		.stats = &c->stats,
	};
	ret = og_peers_create(&c->peers, &po);
	if (ret < 0)
		goto destroy;
	so = (struct og_swarm_opts){
		.ops = &swarm_ops,
		.ctx = c,
		.rand = opts->env.rand,
		.own_key = c->keys.public_key,
		.peers_max = KNOWN_PEERS_MAX,
	};
	ret = og_swarm_create(&c->swarm, &so);
	if (ret < 0)
		goto destroy;
	ret = create_dht(c, opts, now_ns);
	if (ret < 0)
		goto destroy;
	og_peers_wire(c->peers, c->dht, c->swarm);
	ret = create_far(c, opts);
	if (ret < 0)
		goto destroy;
	if (c->view)
		(void)!og_dht_view_publish(c->view, og_dht_rpc(c->dht), now_ns);
	*out = &c->base;
	return 0;

destroy:
	og_cluster_core_destroy(&c->base);
	return ret;
}

void og_cluster_core_destroy(struct og_core *core)
{
	struct cluster_core *c;

	if (!core)
		return;
	c = self(core);
	og_dht_destroy(c->dht);
	og_peers_destroy(c->peers);
	og_swarm_destroy(c->swarm);
	og_far_destroy(c->far);
	og_outbox_fini(&c->outbox);
	og_keypair_wipe(&c->keys);
	free(c);
}

const struct og_cluster_core_stats *og_cluster_core_stats(const struct og_core *core)
{
	return &OG_CONTAINER_OF(core, const struct cluster_core, base)->stats;
}

/* What connections count, each core for itself. */
static void connections_register(const struct og_cluster_core_stats *const *stats, uint16_t nb)
{
	static const struct {
		const char *name, *reason, *help;
		size_t offset;
		enum og_metric_type type;
	} rows[] = {
#define STAT(field) offsetof(struct og_cluster_core_stats, field)
		{"og_core_rx_datagrams_total", NULL, "Datagrams received.", STAT(rx_datagrams),
			OG_METRIC_COUNTER},
		{"og_core_rx_unknown_total", NULL, "Datagrams neither DHT nor of a live stream.",
			STAT(rx_unknown), OG_METRIC_COUNTER},
		{"og_core_peers", NULL, "Open member connections.", STAT(peers), OG_METRIC_GAUGE},
		{"og_core_peers_opened_total", NULL, "Member connections opened.",
			STAT(peers_opened), OG_METRIC_COUNTER},
		{"og_core_peers_closed_total", NULL, "Member connections closed.",
			STAT(peers_closed), OG_METRIC_COUNTER},
		{"og_core_duplicates_total", NULL, "Connections closed by the duplicate rule.",
			STAT(duplicates_closed), OG_METRIC_COUNTER},
		{"og_core_handshakes_total", NULL, "Handshakes completed.", STAT(handshakes),
			OG_METRIC_COUNTER},
		{"og_core_dials_total", NULL, "Connection attempts.", STAT(dials),
			OG_METRIC_COUNTER},
		{"og_core_dials_failed_total", NULL, "Connection attempts that failed.",
			STAT(dials_failed), OG_METRIC_COUNTER},
		{"og_core_refused_total", "firewall", "Connections and requests refused.",
			STAT(refused_firewall), OG_METRIC_COUNTER},
		{"og_core_refused_total", "full", "Connections and requests refused.",
			STAT(refused_full), OG_METRIC_COUNTER},
		{"og_core_refused_total", "limit", "Connections and requests refused.",
			STAT(refused_limit), OG_METRIC_COUNTER},
		{"og_core_half_open_evicted_total", NULL,
			"Connections not yet open that gave way to new ones.",
			STAT(half_open_evicted), OG_METRIC_COUNTER},
		{"og_core_events_dropped_total", NULL, "Events lost to a full ring.",
			STAT(events_dropped), OG_METRIC_COUNTER},
#undef STAT
	};
	enum { LABEL_BYTES = 40 };
	char(*labels)[LABEL_BYTES] = calloc(OG_ARRAY_LEN(rows) * nb, sizeof(*labels));

	OG_ASSERT(labels); /* alive as long as the process */
	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++)
		for (uint16_t core = 0; core < nb; core++) {
			const char *reason = rows[i].reason;
			char *label = *labels++;

			if (nb > 1)
				snprintf(label, LABEL_BYTES, "core=\"%u\"%s", core,
					reason ? "," : "");
			if (reason)
				snprintf(label + strlen(label), LABEL_BYTES - strlen(label),
					"reason=\"%s\"", reason);
			og_metrics_register(&(struct og_metric){.name = rows[i].name,
				.labels = label[0] ? label : NULL,
				.help = rows[i].help,
				.type = rows[i].type,
				.value = (const uint8_t *)stats[core] + rows[i].offset});
		}
}

void og_cluster_cores_metrics_register(
	struct og_core *core, struct og_core *const *others, uint16_t nb_others)
{
	struct cluster_core *c = self(core);
	const struct og_cluster_core_stats *stats[OG_CORES_MAX] = {&c->stats};
	struct og_peers *peers[OG_CORES_MAX] = {c->peers};
	const struct og_metric metrics[] = {
		{"og_core_table_nodes", NULL, "Nodes in the DHT routing table.", OG_METRIC_GAUGE,
			&c->stats.table_nodes},
		{"og_core_persistent", NULL, "1 while this node stores records for others.",
			OG_METRIC_GAUGE, &c->stats.persistent},
		{"og_core_topics", NULL, "Topics joined.", OG_METRIC_GAUGE, &c->stats.topics},
	};

	for (uint16_t i = 0; i < nb_others; i++) {
		stats[i + 1] = og_stream_core_stats(others[i]);
		peers[i + 1] = og_stream_core_peers(others[i]);
	}
	connections_register(stats, nb_others + 1);
	for (size_t i = 0; i < OG_ARRAY_LEN(metrics); i++)
		og_metrics_register(&metrics[i]);
	og_dht_metrics_register(c->dht);
	if (c->view)
		og_dht_view_metrics_register(c->view);
	og_peers_metrics_register(peers, nb_others + 1u);
}

void og_cluster_core_metrics_register(struct og_core *core)
{
	og_cluster_cores_metrics_register(core, NULL, 0);
}
