/* Sending: building packets from writes, and what leaves when. */
#include "transport/udx_priv.h"

#include <errno.h>
#include <string.h>

#define PACE_CREDIT_NS (1 * OG_NS_PER_MS) /* a pause earns at most a burst of this length */
enum { NB_TX_WHOLE = 2 };                 /* transmissions that must not be cut */

#define WINDOW_PROBE_PATIENCE 13 /* time-outs without any packet from the peer */

/* ---- datagrams ---- */

static struct og_udx_header header_of(
	struct og_udx *u, struct og_udx_stream *s, uint8_t flags, uint32_t seq)
{
	return (struct og_udx_header){
		.flags = flags,
		.id = s->remote_id,
		.window = og_udx_announce(u, s),
		.seq = seq,
		.ack = s->rx.nxt,
	};
}

static uint8_t *reserve(struct og_udx *u, uint16_t *cap_bytes)
{
	uint8_t *p = u->tx->reserve(u->tx, cap_bytes);

	if (!p)
		og_count(&u->count.tx_full);
	return p;
}

static void commit(struct og_udx *u, const struct og_udx_stream *s, size_t n, uint8_t ttl)
{
	og_count(&u->count.tx_packets);
	u->tx->commit(u->tx, s->endpoint, &s->remote, ttl, (uint16_t)n);
}

bool og_udx_send_plain(struct og_udx *u, struct og_udx_stream *s, uint8_t flags)
{
	uint16_t cap_bytes;
	uint8_t *p = s->bound ? reserve(u, &cap_bytes) : NULL;
	struct og_udx_header h;

	if (!p)
		return false;
	h = header_of(u, s, flags, s->tx.nxt);
	og_udx_encode(p, &h);
	commit(u, s, OG_UDX_HEADER_BYTES, 0);
	return true;
}

bool og_udx_send_ack(struct og_udx *u, struct og_udx_stream *s)
{
	uint16_t cap_bytes;
	uint8_t *p = reserve(u, &cap_bytes);
	uint32_t nb_blocks;
	struct og_udx_header h;

	if (!p)
		return false;
	nb_blocks = s->rx.top == s->rx.nxt ? 0 : og_udx_blocks(s, p, OG_UDX_BLOCKS_MAX);
	h = header_of(u, s, nb_blocks > 0 ? OG_UDX_SACK : 0, s->tx.nxt);
	og_udx_encode(p, &h);
	s->ack_owed = false;
	og_count(&u->count.tx_acks);
	commit(u, s, OG_UDX_HEADER_BYTES + (size_t)nb_blocks * OG_UDX_BLOCK_BYTES, 0);
	return true;
}

bool og_udx_send_farewell(struct og_udx *u, const struct og_udx_farewell *f)
{
	uint16_t cap_bytes;
	uint8_t *p = reserve(u, &cap_bytes);
	struct og_udx_header h = {
		.flags = f->flags,
		.id = f->remote_id,
		.window = u->window_bytes,
		.seq = f->seq,
		.ack = f->ack,
	};

	if (!p)
		return false;
	og_udx_encode(p, &h);
	og_count(&u->count.tx_packets);
	u->tx->commit(u->tx, f->endpoint, &f->remote, 0, OG_UDX_HEADER_BYTES);
	return true;
}

int og_udx_message(struct og_udx *u, uint32_t slot, const void *data, size_t n, uint64_t now_ns)
{
	struct og_udx_stream *s = &u->streams[slot];
	struct og_udx_header h;
	uint16_t cap_bytes;
	uint8_t *p;

	u->now_ns = now_ns;
	if (!s->bound || s->state != OG_UDX_OPEN)
		return -ENOTCONN;
	if (n > og_udx_path_payload(&s->tx.path))
		return -EMSGSIZE;
	p = reserve(u, &cap_bytes);
	if (!p)
		return -EAGAIN;
	h = header_of(u, s, OG_UDX_MESSAGE, s->tx.nxt);
	og_udx_encode(p, &h);
	if (n > 0)
		memcpy(p + OG_UDX_HEADER_BYTES, data, n);
	commit(u, s, OG_UDX_HEADER_BYTES + n, 0);
	return 0;
}

/* ---- transmission of numbered packets ---- */

static void pace(struct og_udx *u, struct og_udx_sender *tx, size_t n)
{
	uint64_t rate = tx->cc.pacing_bytes_per_s;
	uint64_t earliest = u->now_ns > PACE_CREDIT_NS ? u->now_ns - PACE_CREDIT_NS : 0;

	if (rate > 0)
		tx->pace_at_ns = OG_MAX(tx->pace_at_ns, earliest) + n * OG_NS_PER_S / rate;
}

/* Book-keeping of a packet that has just left. */
static void sent(struct og_udx *u, struct og_udx_stream *s, uint32_t seq, int32_t idx, size_t n)
{
	struct og_udx_sender *tx = &s->tx;
	struct og_udx_packet *p = &u->pool.packets[idx];
	bool was_idle = tx->una == tx->nxt;

	og_udx_rate_sent(&tx->rate, &p->rate, tx->in_flight, u->now_ns);
	tx->packet_bytes += (uint32_t)n - tx->packet_bytes / 16;
	p->sent_ns = u->now_ns;
	if (p->nb_tx < UINT8_MAX)
		p->nb_tx++;
	if (p->listed)
		og_udx_list_remove(u, tx, idx);
	else
		tx->in_flight++;
	og_udx_list_append(u, tx, idx);
	if (seq == tx->nxt) {
		tx->nxt++;
		tx->tx_bytes += p->len_bytes;
		og_count_add(&u->count.tx_bytes, p->len_bytes);
		if (was_idle) {
			u->nb_busy++;
			u->busy_peak[0] = OG_MAX(u->busy_peak[0], u->nb_busy);
			tx->rto_at_ns = u->now_ns + tx->rto_ns;
		}
		og_udx_arm_tail_probe(u, s);
		return;
	}
	tx->retransmits++;
	og_count(&u->count.retransmits);
	if (og_udx_bit(&tx->lost, seq)) {
		og_udx_bit_clear(&tx->lost, seq);
		tx->nb_lost--;
	}
}

/*
 * A packet keeps its size for good. If the path has become too narrow for it, the network has to cut
 * it: what was lost twice, and what is larger than the path that we now believe in.
 */
static bool may_fragment(const struct og_udx_sender *tx, const struct og_udx_packet *p)
{
	return p->nb_tx >= NB_TX_WHOLE || p->len_bytes > og_udx_path_payload(&tx->path);
}

bool og_udx_transmit(struct og_udx *u, struct og_udx_stream *s, uint32_t seq)
{
	struct og_udx_sender *tx = &s->tx;
	int32_t idx = *og_udx_tx_at(u, s, seq);
	struct og_udx_packet *p = &u->pool.packets[idx];
	struct og_udx_header h;
	uint16_t cap_bytes;
	uint8_t *out = reserve(u, &cap_bytes);
	int padding = -1;
	size_t n = OG_UDX_HEADER_BYTES;

	if (!out)
		return false;
	h = header_of(u, s, p->flags, seq);
	if (tx->path.searching && seq == tx->nxt && p->flags & OG_UDX_DATA)
		padding = og_udx_path_padding(&tx->path, p->len_bytes);
	/* Padding belongs to this transmission alone: a repetition goes without (udx.md 4). */
	if (p->probe) {
		p->probe = false;
		tx->path.probing = false;
	}
	if (padding >= 0) {
		h.data_offset = (uint8_t)padding;
		p->probe = tx->path.probing = true;
		memset(out + n, 0, (size_t)padding);
		n += (size_t)padding;
	}
	og_udx_encode(out, &h);
	memcpy(out + n, og_udx_pool_data(&u->pool, idx), p->len_bytes);
	n += p->len_bytes;
	commit(u, s, n, may_fragment(tx, p) ? OG_TX_MAY_FRAGMENT : 0);
	if (s->unproven)
		s->unproven_left--;
	pace(u, tx, n);
	sent(u, s, seq, idx, n);
	return true;
}

/*
 * The window bounds what is in flight (udx.md 7), so a packet that is lost again and again does not
 * stop the rest; but a receiver that enforces its window counts from that packet on, at the base
 * size a packet.
 */
bool og_udx_peer_takes(const struct og_udx_stream *s)
{
	const struct og_udx_sender *tx = &s->tx;
	uint32_t bytes = tx->window_bytes;

	return bytes > 0 && tx->in_flight < OG_MAX(bytes / og_udx_path_payload(&tx->path), 1u) &&
	       tx->nxt - tx->una < OG_MAX(bytes / OG_UDX_WINDOW_UNIT, 1u);
}

/* The next packet that may leave now: lost ones first. */
static bool next_to_send(const struct og_udx_stream *s, uint32_t *seq)
{
	const struct og_udx_sender *tx = &s->tx;

	if (tx->in_flight >= tx->cc.cwnd || !og_udx_may_transmit(s))
		return false;
	if (tx->nb_lost > 0) {
		*seq = og_udx_bits_next(&tx->lost, tx->una, tx->nxt, true);
		return true;
	}
	*seq = tx->nxt;
	return tx->nxt != tx->end && og_udx_peer_takes(s);
}

/* The peer's window is closed, we have data and nothing under way that would bring news of it. */
static void begin_window_probes(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;

	if (tx->window_bytes > 0 || tx->nxt == tx->end || tx->una != tx->nxt ||
		tx->window_probe_at_ns != OG_NEVER)
		return;
	og_udx_send_plain(u, s, OG_UDX_HEARTBEAT);
	tx->window_probe_at_ns = u->now_ns + tx->rto_ns;
}

bool og_udx_window_probe(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;

	tx->window_probe_at_ns = OG_NEVER;
	if (tx->window_bytes > 0 || tx->nxt == tx->end || tx->una != tx->nxt)
		return true;
	if (u->now_ns - s->last_heard_ns > WINDOW_PROBE_PATIENCE * tx->rto_ns) {
		og_udx_finish(u, s, -ETIMEDOUT);
		return false;
	}
	og_udx_send_plain(u, s, OG_UDX_HEARTBEAT);
	tx->window_probe_at_ns = u->now_ns + 2 * tx->rto_ns;
	return true;
}

bool og_udx_send_some(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;
	uint32_t seq;

	if (!s->bound)
		return true;
	if (tx->end_wanted && !tx->end_built)
		og_udx_build_end(u, s);
	tx->paced = false;
	for (uint32_t i = 0; next_to_send(s, &seq); i++) {
		if (tx->pace_at_ns > u->now_ns) {
			tx->paced = true;
			break;
		}
		if (i == OG_UDX_QUANTUM) {
			og_udx_make_ready(u, s); /* the next stream's turn first */
			break;
		}
		if (!og_udx_transmit(u, s, seq))
			return false;
	}
	begin_window_probes(u, s);
	return true;
}

/* ---- building ---- */

uint32_t og_udx_payload_bytes(const struct og_udx *u, uint32_t slot)
{
	return og_udx_path_payload(&u->streams[slot].tx.path);
}

static uint32_t unsent_max(const struct og_udx *u)
{
	uint32_t share = OG_UDX_UNSENT_ALL / og_udx_nb_busy(u);

	return OG_MIN(OG_MAX(share, (uint32_t)OG_UDX_UNSENT_MIN), (uint32_t)OG_UDX_UNSENT_MAX);
}

/*
 * Packets that the stream may still build. Where many send, one that builds far beyond its window
 * only has them leave the caches while the others have their turns.
 */
static uint32_t own_room(const struct og_udx *u, const struct og_udx_stream *s)
{
	uint32_t unsent = s->tx.end - s->tx.nxt, max = unsent_max(u);
	uint32_t used = s->tx.in_flight + unsent, bound = s->tx.cc.cwnd + s->tx.cc.cwnd / 2;

	if (unsent >= max)
		return 0;
	if (max == OG_UDX_UNSENT_MAX)
		return max - unsent;
	return OG_MIN(max - unsent, bound > used ? bound - used : 0);
}

/* Room that is worth a writer's while: frames cut small cost both ends more. */
static uint32_t good_room(const struct og_udx *u, const struct og_udx_stream *s)
{
	uint32_t max = unsent_max(u), cwnd = s->tx.cc.cwnd;

	if (max == OG_UDX_UNSENT_MAX)
		return max / 2;
	return OG_MIN(2 * max / 3, OG_MAX(cwnd / 2, OG_MIN(cwnd, (uint32_t)OG_UDX_UNSENT_MIN)));
}

uint32_t og_udx_room_packets(const struct og_udx *u, uint32_t slot)
{
	const struct og_udx_stream *s = &u->streams[slot];
	uint32_t room = OG_MIN(own_room(u, s), OG_UDX_RING - (s->tx.end - s->tx.una));

	return s->tx.end_wanted ? 0 : OG_MIN(room, og_udx_pool_room(&u->pool, s->held));
}

uint32_t og_udx_room_for(const struct og_udx *u, uint32_t slot, uint32_t nb_packets)
{
	const struct og_udx_stream *s = &u->streams[slot];

	return own_room(u, s) < OG_MIN(nb_packets, good_room(u, s)) ? 0
								    : og_udx_room_packets(u, slot);
}

void og_udx_want_room(struct og_udx *u, uint32_t slot)
{
	struct og_udx_stream *s = &u->streams[slot];

	s->tx.blocked = true;
	if (s->tx.una == s->tx.end)
		og_udx_make_starved(u, s); /* nothing of its own will wake it */
}

void og_udx_offer_room(struct og_udx *u, struct og_udx_stream *s)
{
	uint32_t slot = og_udx_slot_of(u, s);

	if (!s->tx.blocked)
		return;
	if (own_room(u, s) < good_room(u, s) || og_udx_room_packets(u, slot) == 0) {
		if (s->tx.una == s->tx.end)
			og_udx_make_starved(u, s);
		return;
	}
	s->tx.blocked = false;
	if (u->ops->writable)
		u->ops->writable(u->ctx, slot);
}

/* A new packet at the end. The caller has seen that there is a buffer. */
static struct og_udx_packet *build(struct og_udx *u, struct og_udx_stream *s, uint8_t flags)
{
	int32_t idx = og_udx_pool_take(&u->pool);
	struct og_udx_packet *p = &u->pool.packets[idx];

	s->held++;
	p->seq = s->tx.end++;
	p->flags = flags;
	*og_udx_tx_at(u, s, p->seq) = idx;
	return p;
}

static struct og_udx_packet *last_unsent(const struct og_udx *u, const struct og_udx_stream *s)
{
	const struct og_udx_sender *tx = &s->tx;

	return tx->end == tx->nxt ? NULL : &u->pool.packets[*og_udx_tx_at(u, s, tx->end - 1)];
}

static uint8_t *data_of(const struct og_udx *u, const struct og_udx_packet *p)
{
	return og_udx_pool_data(&u->pool, (int32_t)(p - u->pool.packets));
}

uint8_t *og_udx_append(struct og_udx *u, uint32_t slot, size_t n, uint64_t now_ns)
{
	struct og_udx_stream *s = &u->streams[slot];
	struct og_udx_packet *p = last_unsent(u, s);
	uint8_t *at;

	OG_DASSERT(n <= og_udx_path_payload(&s->tx.path));
	u->now_ns = now_ns;
	if (s->tx.end_wanted)
		return NULL;
	if (!p || p->len_bytes + n > og_udx_path_payload(&s->tx.path)) {
		if (og_udx_room_packets(u, slot) == 0) {
			og_udx_want_room(u, slot);
			return NULL;
		}
		p = build(u, s, OG_UDX_DATA);
	}
	at = data_of(u, p) + p->len_bytes;
	p->len_bytes = (uint16_t)(p->len_bytes + n);
	og_udx_make_ready(u, s);
	return at;
}

void og_udx_write_packets(
	struct og_udx *u, uint32_t slot, const uint8_t *data, size_t n, uint64_t now_ns)
{
	struct og_udx_stream *s = &u->streams[slot];
	uint16_t payload_bytes = og_udx_path_payload(&s->tx.path);

	u->now_ns = now_ns;
	while (n > 0) {
		struct og_udx_packet *p = build(u, s, OG_UDX_DATA);

		p->len_bytes = (uint16_t)OG_MIN(n, payload_bytes);
		memcpy(data_of(u, p), data, p->len_bytes);
		data += p->len_bytes;
		n -= p->len_bytes;
	}
	og_udx_make_ready(u, s);
}

size_t og_udx_write(struct og_udx *u, uint32_t slot, const void *data, size_t n, uint64_t now_ns)
{
	struct og_udx_stream *s = &u->streams[slot];
	struct og_udx_packet *p = last_unsent(u, s);
	uint16_t payload_bytes = og_udx_path_payload(&s->tx.path);
	size_t head = 0, room;

	if (s->tx.end_wanted)
		return 0;
	if (p && p->len_bytes < payload_bytes) {
		head = OG_MIN(n, (size_t)(payload_bytes - p->len_bytes));
		memcpy(og_udx_append(u, slot, head, now_ns), data, head);
	}
	room = (size_t)og_udx_room_packets(u, slot) * payload_bytes;
	if (n - head > room) {
		n = head + room;
		og_udx_want_room(u, slot);
	}
	og_udx_write_packets(u, slot, (const uint8_t *)data + head, n - head, now_ns);
	return n;
}

/* On the last packet if it is still here, else in one of its own. False: no buffer yet. */
bool og_udx_build_end(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_packet *p = last_unsent(u, s);

	if (!p) {
		if (u->pool.nb_free == 0 || s->tx.end - s->tx.una == OG_UDX_RING) {
			og_udx_make_starved(u, s);
			return false;
		}
		p = build(u, s, 0);
	}
	p->flags |= OG_UDX_END;
	s->tx.end_built = true;
	return true;
}

void og_udx_end(struct og_udx *u, uint32_t slot, uint64_t now_ns)
{
	struct og_udx_stream *s = &u->streams[slot];

	u->now_ns = now_ns;
	s->tx.end_wanted = true;
	s->tx.blocked = false;
	og_udx_make_ready(u, s);
}

/*
 * Packets built for a larger path, not yet sent and hence without a fixed number, are cut to
 * `payload_bytes`. As many as there are buffers for; the others go as they are.
 */
void og_udx_split_unsent(struct og_udx *u, struct og_udx_stream *s, uint16_t payload_bytes)
{
	struct og_udx_sender *tx = &s->tx;

	for (uint32_t seq = tx->nxt; seq != tx->end; seq++) {
		struct og_udx_packet *p = &u->pool.packets[*og_udx_tx_at(u, s, seq)];
		struct og_udx_packet *rest;
		int32_t idx;

		if (p->len_bytes <= payload_bytes)
			continue;
		if (u->pool.nb_free == 0 || tx->end - tx->una == OG_UDX_RING)
			return;
		rest = build(u, s, p->flags);
		idx = (int32_t)(rest - u->pool.packets);
		rest->len_bytes = (uint16_t)(p->len_bytes - payload_bytes);
		memcpy(data_of(u, rest), data_of(u, p) + payload_bytes, rest->len_bytes);
		p->len_bytes = payload_bytes;
		p->flags &= (uint8_t)~OG_UDX_END;
		/* From the end to its place behind `p`. */
		for (uint32_t at = tx->end - 1; at != seq + 1; at--) {
			*og_udx_tx_at(u, s, at) = *og_udx_tx_at(u, s, at - 1);
			u->pool.packets[*og_udx_tx_at(u, s, at)].seq = at;
		}
		*og_udx_tx_at(u, s, seq + 1) = idx;
		rest->seq = seq + 1;
	}
}
