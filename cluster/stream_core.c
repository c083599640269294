#include "cluster/stream_core.h"

#include "base/count.h"
#include "cluster/outbox.h"
#include "cluster/peers.h"
#include "cluster/steer.h"
#include "dht/view.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* What one stream may have to tell core 0 while that does not listen: UP, ABANDON, DOWN, FREED, OFFER. */
enum { MESSAGES_PER_SLOT = 6, MESSAGES_MORE = 256 };
/* Of requests answered here core 0 hears of so many between two ticks: less than it takes in a pass. */

enum slot_state { SLOT_FREE, SLOT_OFFERED, SLOT_TAKEN };

struct slot {
	uint32_t gen;
	uint8_t state; /* enum slot_state */
};

struct stream_core {
	struct og_core base;
	struct og_stream_core_opts opts;
	struct og_peers *peers;
	struct og_outbox events; /* to the router */
	struct og_outbox home;   /* to core 0 */
	struct og_cluster_core_stats stats;
	uint32_t slot_base, nb_slots;
	uint32_t nb_offered;
	bool ending;
	bool dialling, exempt; /* what core 0 said with the connection that is being taken over */
	struct slot slots[];
};

static struct stream_core *self(struct og_core *core)
{
	return OG_CONTAINER_OF(core, struct stream_core, base);
}

static void tell(struct stream_core *c, const struct og_msg *m)
{
	og_outbox_post(&c->home, m);
}

static void tell_of_stream(struct stream_core *c, enum og_link_message type, uint64_t stream)
{
	tell(c, &(struct og_msg){.type = (uint16_t)type,
			.slot = (uint32_t)stream,
			.gen = (uint32_t)(stream >> 32)});
}

static void tell_of_key(
	struct stream_core *c, enum og_link_message type, const uint8_t key[32], bool initiator)
{
	struct og_msg m = {.type = (uint16_t)type, .flags = initiator};

	memcpy(m.key, key, sizeof(m.key));
	tell(c, &m);
}

/* NULL for a slot that is not ours, or has passed. */
static struct slot *slot_of(struct stream_core *c, uint32_t slot, uint32_t gen)
{
	uint32_t i = slot - c->slot_base;

	if (i >= c->nb_slots || c->slots[i].state == SLOT_FREE || c->slots[i].gen != gen)
		return NULL;
	return &c->slots[i];
}

/* ---- offers ---- */

static void offer(struct stream_core *c, uint64_t now_ns)
{
	while (!c->ending && c->nb_offered < OG_OFFERS_MAX &&
		og_peers_held(c->peers) < c->nb_slots) {
		uint64_t stream;
		uint32_t udx_id;
		struct slot *s;

		if (og_peers_reserve(c->peers, &stream, &udx_id, now_ns) < 0)
			return;
		s = &c->slots[(uint32_t)stream - c->slot_base];
		*s = (struct slot){(uint32_t)(stream >> 32), SLOT_OFFERED};
		c->nb_offered++;
		tell(c, &(struct og_msg){.type = OG_LINK_OFFER,
				.slot = (uint32_t)stream,
				.gen = s->gen,
				.arg = udx_id});
	}
}

static void take(struct stream_core *c, const struct og_msg *m)
{
	struct slot *s = slot_of(c, m->slot, m->gen);

	if (!s || s->state != SLOT_OFFERED) {
		/* Withdrawn while it was being taken: nothing will come of that handshake. */
		tell_of_stream(c, OG_LINK_FREED, (uint64_t)m->gen << 32 | m->slot);
		return;
	}
	s->state = SLOT_TAKEN;
	c->nb_offered--;
}

/* ---- what connections ask and tell of the DHT and the swarm ---- */

static bool on_dialling(void *ctx, const uint8_t key[32])
{
	return ((struct stream_core *)ctx)->dialling;
}

static bool on_exempt(void *ctx, const struct og_addr *a)
{
	return ((struct stream_core *)ctx)->exempt;
}

static void on_first_packet(
	void *ctx, uint64_t stream, uint16_t endpoint, const struct og_addr *src, uint64_t now_ns)
{
	struct stream_core *c = ctx;
	const struct slot *s = slot_of(c, (uint32_t)stream, (uint32_t)(stream >> 32));

	if (!s)
		return;
	if (s->state == SLOT_OFFERED) {
		/* Nobody was told this id: what comes is a guess, and must not reach who gets it. */
		og_peers_release(c->peers, stream, now_ns);
		return;
	}
	tell(c, &(struct og_msg){.type = OG_LINK_FIRST_PACKET,
			.slot = (uint32_t)stream,
			.gen = s->gen,
			.flags = endpoint,
			.arg = og_addr_key(src)});
}

static void on_up(void *ctx, const uint8_t key[32], bool initiator, uint64_t now_ns)
{
	tell_of_key(ctx, OG_LINK_UP, key, initiator);
}

static void on_down(void *ctx, const uint8_t key[32], uint64_t now_ns)
{
	tell_of_key(ctx, OG_LINK_DOWN, key, false);
}

static void on_dial_failed(void *ctx, uint64_t tag, uint64_t now_ns)
{
	tell(ctx, &(struct og_msg){.type = OG_LINK_DIAL_FAILED, .arg = tag});
}

static void on_dial_abandon(void *ctx, const uint8_t key[32], uint64_t now_ns)
{
	tell_of_key(ctx, OG_LINK_DIAL_ABANDON, key, false);
}

static void on_freed(void *ctx, uint64_t stream, uint64_t now_ns)
{
	struct stream_core *c = ctx;
	struct slot *s = slot_of(c, (uint32_t)stream, (uint32_t)(stream >> 32));

	if (!s)
		return;
	if (s->state == SLOT_OFFERED)
		c->nb_offered--;
	tell_of_stream(c, s->state == SLOT_OFFERED ? OG_LINK_WITHDRAWN : OG_LINK_FREED, stream);
	s->state = SLOT_FREE;
}

static const struct og_peers_ops peers_ops = {
	.dialling = on_dialling,
	.exempt = on_exempt,
	.first_packet = on_first_packet,
	.up = on_up,
	.down = on_down,
	.dial_failed = on_dial_failed,
	.dial_abandon = on_dial_abandon,
	.freed = on_freed,
};

/* ---- commands ---- */

static void connected(struct stream_core *c, const struct og_msg *m, uint64_t now_ns)
{
	struct og_link_connected n;
	struct og_dht_conn conn;
	const struct slot *s;

	OG_DASSERT(m->len_bytes == sizeof(n));
	memcpy(&n, m->data, sizeof(n));
	s = slot_of(c, n.slot, n.gen);
	if (s && s->state == SLOT_TAKEN) {
		conn = (struct og_dht_conn){.stream = (uint64_t)n.gen << 32 | n.slot,
			.keys = &n.keys,
			.initiator = n.initiator,
			.remote_udx_id = n.remote_udx_id,
			.endpoint = n.endpoint,
			.has_remote = n.has_remote,
			.remote = n.remote,
			.tag = n.tag};
		memcpy(conn.remote_key, n.remote_key, sizeof(conn.remote_key));
		c->dialling = n.dialling;
		c->exempt = n.exempt;
		og_peers_connected(c->peers, &conn, now_ns);
	} else if (n.initiator) {
		on_dial_failed(c, n.tag, now_ns);
	}
	sodium_memzero(&n.keys, sizeof(n.keys));
}

static void send_datagram(struct stream_core *c, const struct og_msg *m)
{
	struct og_tx *tx = c->opts.env.tx;
	const struct og_addr dst = og_addr_from_key(m->arg);
	uint16_t cap;
	uint8_t *buf = tx->reserve(tx, &cap);

	if (!buf || m->len_bytes > cap)
		return; /* counted by whoever had no room; as good as lost on the way */
	memcpy(buf, m->data, m->len_bytes);
	tx->commit(tx, (uint16_t)m->slot, &dst, (uint8_t)m->flags, (uint16_t)m->len_bytes);
}

static void link_message(struct stream_core *c, const struct og_msg *m, uint64_t now_ns)
{
	switch ((enum og_link_message)m->type) {
	case OG_LINK_TAKE:
		take(c, m);
		break;
	case OG_LINK_RELEASE:
		og_peers_release(c->peers, (uint64_t)m->gen << 32 | m->slot, now_ns);
		break;
	case OG_LINK_CONNECTED:
		connected(c, m, now_ns);
		break;
	case OG_LINK_SEND:
		send_datagram(c, m);
		break;
	case OG_LINK_EVICT:
		og_peers_evict(c->peers, now_ns);
		break;
	case OG_LINK_END_ALL:
		c->ending = true;
		og_peers_end_all(c->peers, now_ns);
		break;
	case OG_LINK_CLOSE_ALL:
		c->ending = true;
		og_peers_close_all(c->peers, now_ns);
		break;
	default:
		break;
	}
}

static int core_command(struct og_core *core, const struct og_msg *m, uint64_t now_ns)
{
	struct stream_core *c = self(core);

	if (m->type >= OG_LINK_TAKE)
		link_message(c, m, now_ns);
	else
		(void)!og_peers_command(c->peers, m, now_ns); /* others are core 0's */
	return 0;
}

/* ---- datagrams ---- */

static void core_input(struct og_core *core, struct og_dgram *burst, uint16_t n, uint64_t now_ns)
{
	struct stream_core *c = self(core);

	og_count_add(&c->stats.rx_datagrams, n);
	for (uint16_t i = 0; i < n; i++) {
		const struct og_dgram *d = &burst[i];

		if (d->src.port != 0 && d->len_bytes > 1 && d->data[0] == 0xff &&
			og_peers_input(c->peers, d, now_ns) == 0)
			continue;
		if (og_dht_view_takes(d->data, d->len_bytes))
			og_dht_view_serve(c->opts.view, c->opts.idx, c->opts.env.tx, d);
		else
			og_count(&c->stats.rx_unknown);
	}
	og_peers_flush(c->peers, now_ns);
}

static uint16_t core_steer(const struct og_core *core, const struct og_dgram *d)
{
	const struct stream_core *c = OG_CONTAINER_OF(core, const struct stream_core, base);

	return og_steer(d->data, d->len_bytes, c->opts.idx, c->opts.nb_cores);
}

static uint64_t core_tick(struct og_core *core, uint64_t now_ns)
{
	struct stream_core *c = self(core);
	uint64_t next = og_peers_tick(c->peers, now_ns);
	bool home, events;

	offer(c, now_ns);
	home = og_outbox_flush(&c->home);
	events = og_outbox_flush(&c->events);
	return home && events ? next : OG_MIN(next, now_ns + OG_NS_PER_MS);
}

static void core_job_done(struct og_core *core, struct og_job *job, uint64_t now_ns)
{
	(void)core;
	(void)job;
	(void)now_ns;
}

static const struct og_core_ops core_ops = {
	.input = core_input,
	.tick = core_tick,
	.command = core_command,
	.job_done = core_job_done,
	.steer = core_steer,
};

/* ---- create ---- */

static int create_peers(struct stream_core *c)
{
	const struct og_stream_core_opts *o = &c->opts;
	const struct og_peers_opts peers = {
		.own_key = o->own_key,
		.core_idx = (uint8_t)o->idx,
		.tag_key = o->env.tag_key,
		.slot_base = c->slot_base,
		.nb_conns = c->nb_slots,
		.per_key_max = o->peers_per_key_max,
		.per_net_max = og_per_net_max(o->peers_per_net_max, o->nb_cores),
		.nb_packets = o->packets,
		.frame_budget_bytes =
			(o->frame_budget_bytes ? o->frame_budget_bytes : OG_FRAME_BUDGET_DEFAULT) /
			o->nb_cores,
		.tx = o->env.tx,
		.rand = o->env.rand,
		.outbox = &c->events,
		.stats = &c->stats,
	};

	return og_peers_create(&c->peers, &peers);
}

int og_stream_core_create(
	struct og_core **out, const struct og_stream_core_opts *opts, uint64_t now_ns)
{
	uint32_t peers_max = opts->peers_max ? opts->peers_max : OG_PEERS_MAX_DEFAULT;
	uint32_t nb_slots = og_slots_per_core(peers_max, opts->nb_cores);
	struct stream_core *c;
	int ret;

	if (opts->idx == 0 || opts->idx >= opts->nb_cores || opts->nb_cores > OG_CORES_MAX)
		return -EINVAL;
	c = calloc(1, sizeof(*c) + nb_slots * sizeof(c->slots[0]));
	if (!c)
		return -ENOMEM;
	c->base.ops = &core_ops;
	c->opts = *opts;
	c->nb_slots = nb_slots;
	c->slot_base = opts->idx * nb_slots;
	ret = og_outbox_init(&c->events, opts->env.events, nb_slots * 4 + 256);
	if (ret == 0)
		ret = og_outbox_init(
			&c->home, opts->home, nb_slots * MESSAGES_PER_SLOT + MESSAGES_MORE);
	if (ret == 0)
		ret = create_peers(c);
	if (ret < 0) {
		og_stream_core_destroy(&c->base);
		return ret;
	}
	og_peers_wire_far(c->peers, &peers_ops, c);
	offer(c, now_ns);
	*out = &c->base;
	return 0;
}

void og_stream_core_destroy(struct og_core *core)
{
	struct stream_core *c;

	if (!core)
		return;
	c = self(core);
	og_peers_destroy(c->peers);
	og_outbox_fini(&c->home);
	og_outbox_fini(&c->events);
	free(c);
}

const struct og_cluster_core_stats *og_stream_core_stats(const struct og_core *core)
{
	return &OG_CONTAINER_OF(core, const struct stream_core, base)->stats;
}

struct og_peers *og_stream_core_peers(struct og_core *core)
{
	return self(core)->peers;
}
