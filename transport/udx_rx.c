/* Receiving: order, duplicates, what is held for later, and what we announce to the peer. */
#include "transport/udx_priv.h"

#include <errno.h>
#include <string.h>

/* ---- window and blocks ---- */

/* Packets of window to announce. Packets held in order for the reader count against it. */
static uint32_t window_packets(const struct og_udx *u, const struct og_udx_stream *s)
{
	uint32_t waiting = s->rx.nxt - s->rx.out;
	uint32_t room = OG_MIN(u->window_packets, OG_MAX(u->pool.nb_free, OG_UDX_SHARE_MIN));

	if (s->rx.paused)
		room = OG_MIN(room, OG_UDX_PAUSED_MAX);
	/* Nothing, or enough that the peer can send a full packet of any size (udx.md 7). */
	return room >= waiting + 2 ? room - waiting : 0;
}

uint32_t og_udx_announce(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_receiver *rx = &s->rx;
	uint32_t packets = window_packets(u, s);
	uint32_t edge = rx->nxt + packets;

	if (og_seq_diff(edge, rx->edge) > 0)
		rx->edge = edge;
	rx->announced = packets;
	return packets == u->window_packets ? u->window_bytes : packets * OG_UDX_WINDOW_UNIT;
}

/* The peer does not ask on its own for a good while: tell it when a closed window has opened. */
static void announce_reopening(struct og_udx *u, struct og_udx_stream *s)
{
	if (s->rx.announced < OG_UDX_PAUSED_MAX / 4 && !s->rx.paused &&
		window_packets(u, s) > s->rx.announced)
		og_udx_owe_ack(u, s);
}

/*
 * Blocks of what is held beyond rx.nxt, in ascending order; returns their number. When there are
 * more than fit, the next acknowledgement goes on where this one ends: on a long path that loses
 * much, the peer would otherwise never hear of what lies behind the first gaps.
 */
uint32_t og_udx_blocks(struct og_udx_stream *s, uint8_t *packet, uint32_t max)
{
	struct og_udx_receiver *rx = &s->rx;
	uint32_t seq = rx->nxt;
	uint32_t nb = 0;

	if (og_seq_diff(rx->told, seq) > 0 && og_seq_diff(rx->told, rx->top) < 0)
		seq = rx->told;
	while (nb < max && seq != rx->top) {
		struct og_udx_block b;

		b.first = og_udx_bits_next(&rx->held, seq, rx->top, true);
		if (b.first == rx->top)
			break;
		b.end = seq = og_udx_bits_next(&rx->held, b.first, rx->top, false);
		og_udx_put_block(packet, nb++, b);
	}
	rx->told = seq == rx->top ? rx->nxt : seq;
	return nb;
}

/* ---- holding ---- */

static void hold(struct og_udx *u, struct og_udx_stream *s, uint32_t seq, int32_t idx)
{
	struct og_udx_receiver *rx = &s->rx;

	*og_udx_rx_at(u, s, seq) = idx;
	og_udx_bit_set(&rx->held, seq);
	rx->nb_held++;
	if (og_seq_diff(seq + 1, rx->top) > 0)
		rx->top = seq + 1;
}

static int32_t unhold(struct og_udx *u, struct og_udx_stream *s, uint32_t seq)
{
	og_udx_bit_clear(&s->rx.held, seq);
	s->rx.nb_held--;
	return *og_udx_rx_at(u, s, seq);
}

/* A copy in a buffer, or OG_UDX_NIL. */
static int32_t keep(struct og_udx *u, struct og_udx_stream *s, uint8_t flags,
	const uint8_t *payload, uint16_t n)
{
	int32_t idx = n <= OG_UDX_BUFFER_BYTES ? og_udx_pool_take(&u->pool) : OG_UDX_NIL;
	struct og_udx_packet *p;

	if (idx == OG_UDX_NIL)
		return idx;
	p = &u->pool.packets[idx];
	p->flags = flags & (OG_UDX_DATA | OG_UDX_END);
	p->len_bytes = n;
	if (n > 0)
		memcpy(og_udx_pool_data(&u->pool, idx), payload, n);
	s->held++;
	return idx;
}

/* The peer's end is known: what it sent beyond is none of the stream's. */
static void note_end(struct og_udx *u, struct og_udx_stream *s, uint32_t end_seq)
{
	struct og_udx_receiver *rx = &s->rx;
	uint32_t seq = end_seq;

	rx->end_known = true;
	rx->end_seq = end_seq;
	if (og_seq_diff(rx->top, end_seq + 1) <= 0)
		return;
	while ((seq = og_udx_bits_next(&rx->held, seq, rx->top, true)) != rx->top)
		og_udx_release(u, s, unhold(u, s, seq++));
	rx->top = end_seq + 1;
}

/* ---- delivering ---- */

/* Sequences from rx.nxt on that are held already have now arrived in order. */
static void advance(struct og_udx_receiver *rx)
{
	rx->nxt = og_udx_bits_next(&rx->held, rx->nxt, rx->top, false);
}

/* False when the stream was closed. */
static bool consume_end(struct og_udx *u, struct og_udx_stream *s)
{
	uint32_t gen = s->gen;

	s->rx.end_consumed = true;
	if (u->ops->end)
		u->ops->end(u->ctx, og_udx_slot_of(u, s));
	return s->gen == gen;
}

bool og_udx_deliver_held(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_receiver *rx = &s->rx;
	uint32_t gen = s->gen;

	while (rx->out != rx->nxt && !rx->paused && s->state == OG_UDX_OPEN) {
		uint32_t seq = rx->out++;
		/* Ours alone during the callback: the stream may be closed and the slot reused. */
		int32_t idx = unhold(u, s, seq);
		struct og_udx_packet *p = &u->pool.packets[idx];
		size_t taken = p->len_bytes;

		if (p->flags & OG_UDX_DATA) {
			s->held--;
			taken = u->ops->data(u->ctx, og_udx_slot_of(u, s),
				og_udx_pool_data(&u->pool, idx) + p->offset, p->len_bytes);
			if (s->gen != gen) {
				og_udx_pool_put(&u->pool, idx);
				return false;
			}
			s->held++;
		}
		rx->rx_bytes += taken;
		og_count_add(&u->count.rx_bytes, taken);
		if (taken < p->len_bytes) {
			p->offset = (uint16_t)(p->offset + taken);
			p->len_bytes = (uint16_t)(p->len_bytes - taken);
			rx->out--;
			hold(u, s, seq, idx);
			break;
		}
		og_udx_release(u, s, idx);
		if (p->flags & OG_UDX_END && !consume_end(u, s))
			return false;
	}
	announce_reopening(u, s);
	return true;
}

/* The next packet in order, while nothing waits before it: straight from the datagram. */
static bool deliver_in_place(
	struct og_udx *u, struct og_udx_stream *s, uint8_t flags, uint8_t *payload, uint16_t n)
{
	struct og_udx_receiver *rx = &s->rx;
	uint32_t seq = rx->nxt;
	uint32_t gen = s->gen;
	size_t taken = n;
	int32_t idx;

	rx->out = ++rx->nxt;
	if (og_seq_diff(rx->nxt, rx->top) > 0)
		rx->top = rx->nxt;
	if (flags & OG_UDX_DATA) {
		taken = u->ops->data(u->ctx, og_udx_slot_of(u, s), payload, n);
		if (s->gen != gen)
			return false;
	}
	rx->rx_bytes += taken;
	og_count_add(&u->count.rx_bytes, taken);
	if (taken < n) {
		idx = keep(u, s, flags, payload + taken, (uint16_t)(n - taken));
		if (idx == OG_UDX_NIL) {
			og_udx_finish(u, s, -ENOBUFS);
			return false;
		}
		rx->out = seq;
		hold(u, s, seq, idx);
		return true;
	}
	return !(flags & OG_UDX_END) || consume_end(u, s);
}

/* ---- one packet ---- */

static bool may_hold(struct og_udx *u, const struct og_udx_stream *s, uint16_t n)
{
	if (s->state == OG_UDX_RESERVED && s->rx.nb_held >= OG_UDX_RESERVED_MAX) {
		og_udx_dropped(u, OG_UDX_DROP_EARLY);
		return false;
	}
	if (n > OG_UDX_BUFFER_BYTES || og_udx_pool_room(&u->pool, s->held) == 0) {
		og_udx_dropped(u, OG_UDX_DROP_NO_BUFFER);
		return false;
	}
	return true;
}

static void hold_for_later(struct og_udx *u, struct og_udx_stream *s, const struct og_udx_header *h,
	const uint8_t *payload, uint16_t n)
{
	struct og_udx_receiver *rx = &s->rx;

	if (!may_hold(u, s, n))
		return;
	/* A new gap is told at once; more of the same run waits for the end of the burst. */
	if (h->seq != rx->nxt && !og_udx_bit(&rx->held, h->seq - 1))
		s->ack_urgent = true;
	hold(u, s, h->seq, keep(u, s, h->flags, payload, n));
	if (h->seq == rx->nxt)
		advance(rx);
}

static bool receive_numbered(struct og_udx *u, struct og_udx_stream *s,
	const struct og_udx_header *h, uint8_t *payload, uint16_t n)
{
	struct og_udx_receiver *rx = &s->rx;

	if (rx->end_consumed || (rx->end_known && og_seq_diff(h->seq, rx->end_seq) > 0)) {
		og_udx_dropped(u, OG_UDX_DROP_AFTER_END);
		return true;
	}
	if (og_seq_diff(h->seq, rx->nxt) < 0 || og_udx_bit(&rx->held, h->seq)) {
		og_udx_dropped(u, OG_UDX_DROP_DUPLICATE);
		s->ack_urgent = true;
		return true;
	}
	if (h->flags & OG_UDX_END) {
		note_end(u, s, h->seq);
		s->ack_urgent = true;
	}
	if (!(h->flags & OG_UDX_DATA))
		n = 0;
	if (h->seq != rx->nxt || rx->out != rx->nxt || rx->paused || s->state != OG_UDX_OPEN) {
		hold_for_later(u, s, h, payload, n);
		return true;
	}
	if (!deliver_in_place(u, s, h->flags, payload, n))
		return false;
	if (rx->top == rx->nxt)
		return true;
	advance(rx);
	return og_udx_deliver_held(u, s);
}

/* A peer sends DESTROY with its next sequence, and acknowledges no more than we sent. */
static bool plausible_destroy(const struct og_udx_stream *s, const struct og_udx_header *h)
{
	return og_seq_diff(h->seq, s->rx.nxt) >= 0 && og_seq_diff(h->ack, s->tx.nxt) <= 0 &&
	       og_seq_diff(h->ack, s->tx.una) >= -OG_UDX_RING;
}

bool og_udx_receive(struct og_udx *u, struct og_udx_stream *s, const struct og_udx_header *h,
	uint8_t *payload, uint16_t n)
{
	uint32_t gen = s->gen;

	if (h->flags & OG_UDX_DESTROY) {
		if (plausible_destroy(s, h)) {
			og_udx_finish(u, s, -ECONNRESET);
			return false;
		}
		og_udx_dropped(u, OG_UDX_DROP_BAD_DESTROY);
	}
	if (h->flags & (OG_UDX_DATA | OG_UDX_END) && !receive_numbered(u, s, h, payload, n))
		return false;
	if (h->flags & OG_UDX_MESSAGE && u->ops->message)
		u->ops->message(u->ctx, og_udx_slot_of(u, s), payload, n);
	return s->gen == gen;
}
