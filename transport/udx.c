#include "transport/udx.h"

#include "transport/udx_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_PERIOD_NS (10 * OG_NS_PER_MS)

enum {
	TIMERS_PER_TICK = 1024,
	PACKETS_PER_TICK = 512,
};

int og_udx_create(struct og_udx **out, const struct og_udx_opts *opts)
{
	struct og_udx *u = calloc(1, sizeof(*u));
	size_t ring_entries = (size_t)opts->nb_streams * OG_UDX_RING;
	int ret;

	if (!u)
		return -ENOMEM;
	u->tx = opts->tx;
	u->rand = opts->rand;
	u->ops = opts->ops;
	u->ctx = opts->ctx;
	u->cc = opts->cc ? opts->cc : &og_udx_bbr;
	u->nb_streams = opts->nb_streams;
	u->window_bytes = opts->window_bytes ? OG_MIN(opts->window_bytes, OG_UDX_WINDOW_BYTES)
					     : OG_UDX_WINDOW_BYTES;
	u->window_packets = OG_MAX(u->window_bytes / OG_UDX_WINDOW_UNIT, OG_UDX_SHARE_MIN);
	u->ready = u->acks = u->starved = (struct og_udx_line){OG_UDX_LINE_END, OG_UDX_LINE_END};
	ret = og_udx_table_create(&u->table, opts->nb_streams, opts->core_idx, opts->tag_key);
	if (ret < 0)
		goto free_u;
	ret = og_udx_pool_create(&u->pool, opts->nb_packets);
	if (ret < 0)
		goto destroy_table;
	ret = og_udx_timers_create(&u->timers, opts->nb_streams);
	if (ret < 0)
		goto destroy_pool;
	/* calloc gives untouched pages: a ring costs memory only where a stream has been. */
	ret = -ENOMEM;
	u->streams = calloc(opts->nb_streams, sizeof(*u->streams));
	u->free_slots = calloc(opts->nb_streams, sizeof(*u->free_slots));
	u->tx_ring = calloc(ring_entries, sizeof(*u->tx_ring));
	u->rx_ring = calloc(ring_entries, sizeof(*u->rx_ring));
	if (!u->streams || !u->free_slots || !u->tx_ring || !u->rx_ring)
		goto free_arrays;
	for (uint32_t i = 0; i < opts->nb_streams; i++)
		u->free_slots[u->nb_free_slots++] = opts->nb_streams - 1 - i;
	*out = u;
	return 0;

free_arrays:
	free(u->rx_ring);
	free(u->tx_ring);
	free(u->free_slots);
	free(u->streams);
	og_udx_timers_destroy(&u->timers);
destroy_pool:
	og_udx_pool_destroy(&u->pool);
destroy_table:
	og_udx_table_destroy(&u->table);
free_u:
	free(u);
	return ret;
}

void og_udx_destroy(struct og_udx *u)
{
	if (!u)
		return;
	free(u->rx_ring);
	free(u->tx_ring);
	free(u->free_slots);
	free(u->streams);
	og_udx_timers_destroy(&u->timers);
	og_udx_pool_destroy(&u->pool);
	og_udx_table_destroy(&u->table);
	free(u);
}

/* ---- lines of slots ---- */

static bool line_empty(const struct og_udx_line *line)
{
	return line->first == OG_UDX_LINE_END;
}

static void line_push(struct og_udx *u, struct og_udx_line *line, enum og_udx_line_idx which,
	struct og_udx_stream *s)
{
	struct og_udx_link *link = &s->links[which];
	uint32_t slot = og_udx_slot_of(u, s);

	if (link->in)
		return;
	*link = (struct og_udx_link){OG_UDX_LINE_END, true};
	if (line_empty(line))
		line->first = slot;
	else
		u->streams[line->last].links[which].next = slot;
	line->last = slot;
}

static struct og_udx_stream *line_pop(
	struct og_udx *u, struct og_udx_line *line, enum og_udx_line_idx which)
{
	struct og_udx_stream *s;

	if (line_empty(line))
		return NULL;
	s = &u->streams[line->first];
	line->first = s->links[which].next;
	s->links[which].in = false;
	return s;
}

/* Whoever the transmit queue turned away keeps the first place. */
static void line_push_front(struct og_udx *u, struct og_udx_line *line, enum og_udx_line_idx which,
	struct og_udx_stream *s)
{
	struct og_udx_link *link = &s->links[which];

	if (link->in || line_empty(line)) {
		line_push(u, line, which, s);
		return;
	}
	*link = (struct og_udx_link){line->first, true};
	line->first = og_udx_slot_of(u, s);
}

void og_udx_make_ready(struct og_udx *u, struct og_udx_stream *s)
{
	line_push(u, &u->ready, OG_UDX_LINE_READY, s);
}

void og_udx_make_starved(struct og_udx *u, struct og_udx_stream *s)
{
	line_push(u, &u->starved, OG_UDX_LINE_STARVED, s);
}

void og_udx_owe_ack(struct og_udx *u, struct og_udx_stream *s)
{
	s->ack_owed = true;
	if (s->bound)
		line_push(u, &u->acks, OG_UDX_LINE_ACK, s);
}

/* ---- life of a stream ---- */

static void init_sender(struct og_udx *u, struct og_udx_sender *tx)
{
	tx->window_bytes = OG_UDX_WINDOW_BYTES; /* what a sender assumes, udx.md 7 */
	tx->oldest = tx->newest = OG_UDX_NIL;
	tx->rto_ns = OG_UDX_RTO_MIN_NS;
	tx->reordering_quarters = 1;
	tx->rto_at_ns = tx->probe_at_ns = tx->rack_at_ns = OG_NEVER;
	tx->window_probe_at_ns = OG_NEVER;
	tx->cc.ops = u->cc;
	tx->cc.ops->init(&tx->cc);
	tx->packet_bytes = 16 * (OG_UDX_PAYLOAD_BASE + OG_UDX_HEADER_BYTES);
	og_udx_path_init(&tx->path);
}

int og_udx_open(struct og_udx *u, uint32_t *slot, uint32_t *id, uint64_t now_ns)
{
	struct og_udx_stream *s;
	struct og_udx_link links[OG_UDX_NB_LINES];
	uint32_t gen;

	if (u->nb_free_slots == 0)
		return -ENOSPC;
	*slot = u->free_slots[--u->nb_free_slots];
	s = &u->streams[*slot];
	/* The slot may still stand in line from its former stream: that does no harm. */
	memcpy(links, s->links, sizeof(links));
	gen = s->gen;
	memset(s, 0, sizeof(*s));
	memcpy(s->links, links, sizeof(links));
	s->gen = gen;
	s->state = OG_UDX_RESERVED;
	s->id = og_udx_table_new_id(&u->table, u->rand);
	s->app_at_ns = s->unbound_at_ns = OG_NEVER;
	s->last_heard_ns = now_ns;
	init_sender(u, &s->tx);
	og_udx_set_sequences(u, *slot, 0, 0);
	og_udx_table_insert(&u->table, s->id, *slot);
	og_count(&u->count.opened);
	*id = s->id;
	return 0;
}

void og_udx_set_sequences(struct og_udx *u, uint32_t slot, uint32_t send, uint32_t receive)
{
	struct og_udx_sender *tx = &u->streams[slot].tx;
	struct og_udx_receiver *rx = &u->streams[slot].rx;

	tx->una = tx->nxt = tx->end = tx->fack = tx->wl_ack = send;
	rx->out = rx->nxt = rx->top = rx->told = tx->wl_seq = receive;
	/* A peer that has heard nothing from us assumes the default window. */
	rx->edge = receive + OG_UDX_WINDOW_BYTES / OG_UDX_WINDOW_UNIT;
	rx->announced = u->window_packets;
}

static void bind_to(
	struct og_udx *u, struct og_udx_stream *s, uint16_t endpoint, const struct og_addr *remote)
{
	s->bound = true;
	s->endpoint = endpoint;
	s->remote = *remote;
	s->unbound_at_ns = OG_NEVER;
	if (s->ack_owed)
		og_udx_owe_ack(u, s);
	og_udx_make_ready(u, s);
}

void og_udx_connect(struct og_udx *u, uint32_t slot, uint32_t remote_id, uint16_t endpoint,
	const struct og_addr *remote, uint64_t now_ns)
{
	struct og_udx_stream *s = &u->streams[slot];

	OG_DASSERT(s->state == OG_UDX_RESERVED);
	u->now_ns = now_ns;
	s->state = OG_UDX_OPEN;
	s->remote_id = remote_id;
	if (remote) {
		bind_to(u, s, endpoint, remote);
	} else if (s->heard) {
		bind_to(u, s, s->source_endpoint, &s->source);
	} else {
		s->unbound_at_ns = now_ns + OG_UDX_UNBOUND_NS;
		og_udx_arm(u, s);
	}
	og_udx_make_ready(u, s); /* what is held can be delivered now */
}

void og_udx_distrust(struct og_udx *u, uint32_t slot)
{
	struct og_udx_stream *s = &u->streams[slot];

	if (s->heard && og_addr_same_host(&s->source, &s->remote))
		return;
	s->unproven = true;
	s->unproven_left = OG_UDX_UNPROVEN_PACKETS;
}

static void trust(struct og_udx *u, struct og_udx_stream *s)
{
	if (!s->unproven)
		return;
	s->unproven = false;
	og_udx_make_ready(u, s);
}

void og_udx_trust(struct og_udx *u, uint32_t slot)
{
	trust(u, &u->streams[slot]);
}

void og_udx_release(struct og_udx *u, struct og_udx_stream *s, int32_t idx)
{
	og_udx_pool_put(&u->pool, idx);
	s->held--;
}

static void release_all(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;
	struct og_udx_receiver *rx = &s->rx;

	for (uint32_t seq = tx->una; seq != tx->end; seq++) {
		if (!og_udx_bit(&tx->acked, seq))
			og_udx_release(u, s, *og_udx_tx_at(u, s, seq));
	}
	for (uint32_t seq = rx->out;
		(seq = og_udx_bits_next(&rx->held, seq, rx->top, true)) != rx->top; seq++)
		og_udx_release(u, s, *og_udx_rx_at(u, s, seq));
	OG_DASSERT(s->held == 0);
}

static void free_stream(struct og_udx *u, struct og_udx_stream *s)
{
	uint32_t slot = og_udx_slot_of(u, s);

	if (s->tx.una != s->tx.nxt)
		u->nb_busy--;
	release_all(u, s);
	og_udx_timers_cancel(&u->timers, slot);
	og_udx_table_remove(&u->table, s->id);
	s->state = OG_UDX_FREE;
	s->gen++;
	u->free_slots[u->nb_free_slots++] = slot;
	og_count(&u->count.closed);
}

static struct og_udx_farewell farewell_of(
	const struct og_udx *u, const struct og_udx_stream *s, uint8_t flags)
{
	return (struct og_udx_farewell){
		.id = s->id,
		.remote_id = s->remote_id,
		.seq = s->tx.nxt,
		.ack = s->rx.nxt,
		.remote = s->remote,
		.endpoint = s->endpoint,
		.flags = flags,
		.until_ns = u->now_ns + OG_UDX_LINGER_NS,
	};
}

void og_udx_finish(struct og_udx *u, struct og_udx_stream *s, int reason)
{
	struct og_udx_farewell farewell = farewell_of(u, s, 0);
	uint32_t gen = s->gen;

	if (reason == 0 && s->ack_owed)
		og_udx_send_ack(u, s); /* before the state changes; the farewell repeats it */
	free_stream(u, s);
	if (reason == 0)
		og_udx_table_linger(&u->table, &farewell);
	u->ops->closed(u->ctx, og_udx_slot_of(u, s), gen, reason);
}

bool og_udx_finish_if_done(struct og_udx *u, struct og_udx_stream *s)
{
	if (!s->tx.end_built || s->tx.una != s->tx.end || !s->rx.end_consumed)
		return false;
	og_udx_finish(u, s, 0);
	return true;
}

void og_udx_close(struct og_udx *u, uint32_t slot, uint64_t now_ns)
{
	struct og_udx_stream *s = &u->streams[slot];
	struct og_udx_farewell farewell;

	u->now_ns = now_ns;
	farewell = farewell_of(u, s, OG_UDX_DESTROY);
	if (!s->bound) {
		free_stream(u, s);
		return;
	}
	if (og_udx_may_transmit(s))
		og_udx_send_plain(u, s, OG_UDX_DESTROY);
	free_stream(u, s);
	og_udx_table_linger(&u->table, &farewell);
}

/* ---- small questions and orders ---- */

bool og_udx_is_live(const struct og_udx *u, uint32_t slot, uint32_t gen)
{
	return slot < u->nb_streams && u->streams[slot].gen == gen &&
	       u->streams[slot].state != OG_UDX_FREE;
}

uint32_t og_udx_gen(const struct og_udx *u, uint32_t slot)
{
	return u->streams[slot].gen;
}

uint64_t og_udx_last_heard_ns(const struct og_udx *u, uint32_t slot)
{
	return u->streams[slot].last_heard_ns;
}

bool og_udx_end_acknowledged(const struct og_udx *u, uint32_t slot)
{
	const struct og_udx_sender *tx = &u->streams[slot].tx;

	return tx->end_built && tx->una == tx->end;
}

const struct og_udx_counters *og_udx_counters(const struct og_udx *u)
{
	return &u->count;
}

uint32_t og_udx_nb_free_packets(const struct og_udx *u)
{
	return u->pool.nb_free;
}

void og_udx_get_info(const struct og_udx *u, uint32_t slot, struct og_udx_info *out)
{
	const struct og_udx_stream *s = &u->streams[slot];

	*out = (struct og_udx_info){
		.srtt_ns = s->tx.srtt_ns,
		.min_rtt_ns = s->tx.min_rtt_ns,
		.last_heard_ns = s->last_heard_ns,
		.losses = s->tx.losses,
		.retransmits = s->tx.retransmits,
		.tx_bytes = s->tx.tx_bytes,
		.rx_bytes = s->rx.rx_bytes,
		.pacing_bytes_per_s = s->tx.cc.pacing_bytes_per_s,
		.cwnd = s->tx.cc.cwnd,
		.in_flight = s->tx.in_flight,
		.peer_window_bytes = s->tx.window_bytes,
		.path_bytes = s->tx.path.size,
		.endpoint = s->endpoint,
		.bound = s->bound,
		.remote = s->remote,
		.id = s->id,
		.remote_id = s->remote_id,
	};
}

void og_udx_heartbeat(struct og_udx *u, uint32_t slot, uint64_t now_ns)
{
	u->now_ns = now_ns;
	og_udx_send_plain(u, &u->streams[slot], OG_UDX_HEARTBEAT);
}

void og_udx_pause(struct og_udx *u, uint32_t slot)
{
	u->streams[slot].rx.paused = true;
}

void og_udx_resume(struct og_udx *u, uint32_t slot)
{
	u->streams[slot].rx.paused = false;
	og_udx_make_ready(u, &u->streams[slot]);
}

void og_udx_set_timer(struct og_udx *u, uint32_t slot, uint64_t when_ns)
{
	u->streams[slot].app_at_ns = when_ns;
	og_udx_timers_arm(&u->timers, slot, when_ns);
}

/* ---- input ---- */

/* The first packet of a stream tells where its peer is. False when the stream was closed. */
static bool note_source(
	struct og_udx *u, struct og_udx_stream *s, uint16_t endpoint, const struct og_addr *src)
{
	uint32_t gen = s->gen;

	s->last_heard_ns = u->now_ns;
	if (s->unproven && og_addr_same_host(src, &s->remote))
		trust(u, s);
	if (s->heard)
		return true;
	s->heard = true;
	s->source = *src;
	s->source_endpoint = endpoint;
	if (s->state == OG_UDX_RESERVED && u->ops->first_packet) {
		u->ops->first_packet(u->ctx, og_udx_slot_of(u, s), endpoint, src);
		if (s->gen != gen)
			return false;
	}
	if (s->state == OG_UDX_OPEN && !s->bound)
		bind_to(u, s, endpoint, src);
	return true;
}

/* Cheap tests before a packet may change anything. */
static bool acceptable(struct og_udx *u, const struct og_udx_stream *s,
	const struct og_udx_header *h, const struct og_addr *src, uint16_t n)
{
	int32_t ahead = og_seq_diff(h->seq, s->rx.nxt);
	bool numbered = h->flags & (OG_UDX_DATA | OG_UDX_END) && !(h->flags & OG_UDX_HEARTBEAT);

	if (n > OG_UDX_PACKET_MAX) {
		og_udx_dropped(u, OG_UDX_DROP_TOO_LONG);
		return false;
	}
	if (src->port == 0) {
		og_udx_dropped(u, OG_UDX_DROP_PORT_ZERO);
		return false;
	}
	if (h->data_offset > n - OG_UDX_HEADER_BYTES) {
		og_udx_dropped(u, OG_UDX_DROP_BAD_OFFSET);
		return false;
	}
	/* A packet without a number of its own names the next one, which may be the edge. */
	if (og_seq_diff(h->seq, s->rx.edge) >= (numbered ? 0 : 1)) {
		og_udx_dropped(u, OG_UDX_DROP_BEYOND_WINDOW);
		return false;
	}
	if (ahead < -OG_UDX_STALE) {
		og_udx_dropped(u, OG_UDX_DROP_STALE);
		return false;
	}
	return true;
}

/* False when the stream was closed. */
static bool handle(struct og_udx *u, struct og_udx_stream *s, const struct og_udx_header *h,
	uint8_t *data, uint16_t n)
{
	uint16_t start = (uint16_t)(OG_UDX_HEADER_BYTES + h->data_offset);

	if (h->flags & OG_UDX_HEARTBEAT) {
		og_udx_owe_ack(u, s);
		s->ack_urgent = true;
		return true;
	}
	if (!og_udx_receive(u, s, h, data + start, (uint16_t)(n - start)))
		return false;
	if (og_seq_diff(h->ack, s->tx.nxt) > 0) {
		og_udx_dropped(u, OG_UDX_DROP_BAD_ACK);
		return true;
	}
	og_udx_acknowledged(u, s, h, data, og_udx_nb_blocks(h, n));
	if (h->flags & (OG_UDX_DATA | OG_UDX_END))
		og_udx_owe_ack(u, s);
	return true;
}

static void answer_farewell(
	struct og_udx *u, const struct og_udx_farewell *f, const struct og_udx_header *h)
{
	if (f->until_ns > u->now_ns && h->flags & (OG_UDX_DATA | OG_UDX_END | OG_UDX_HEARTBEAT))
		og_udx_send_farewell(u, f);
}

int og_udx_input(struct og_udx *u, uint16_t endpoint, const struct og_addr *src, uint8_t *data,
	uint16_t n, uint64_t now_ns)
{
	struct og_udx_farewell *farewell;
	struct og_udx_header h;
	struct og_udx_stream *s;
	uint32_t gen;
	int64_t slot;

	if (!og_udx_decode(&h, data, n))
		return -ENOENT;
	slot = og_udx_table_find(&u->table, h.id, &farewell);
	if (slot < 0 && !farewell)
		return -ENOENT;
	u->now_ns = now_ns;
	og_count(&u->count.rx_packets);
	if (farewell) {
		answer_farewell(u, farewell, &h);
		return 0;
	}
	s = &u->streams[slot];
	gen = s->gen;
	if (!acceptable(u, s, &h, src, n) || !note_source(u, s, endpoint, src) ||
		!handle(u, s, &h, data, n))
		return 0;
	if (s->ack_owed && s->ack_urgent && s->bound)
		og_udx_send_ack(u, s);
	s->ack_urgent = false;
	og_udx_offer_room(u, s);
	if (s->gen == gen && !og_udx_finish_if_done(u, s))
		og_udx_arm(u, s);
	return 0;
}

/* ---- flush and tick ---- */

static bool flush_acks(struct og_udx *u)
{
	struct og_udx_stream *s;

	while ((s = line_pop(u, &u->acks, OG_UDX_LINE_ACK))) {
		if (s->state != OG_UDX_OPEN || !s->ack_owed)
			continue;
		if (!og_udx_send_ack(u, s)) {
			og_udx_owe_ack(u, s);
			return false;
		}
	}
	return true;
}

void og_udx_flush(struct og_udx *u, uint64_t now_ns)
{
	u->now_ns = now_ns;
	flush_acks(u);
}

void og_udx_arm(struct og_udx *u, struct og_udx_stream *s)
{
	const struct og_udx_sender *tx = &s->tx;
	uint64_t when = OG_MIN(tx->rto_at_ns, tx->probe_at_ns);

	when = OG_MIN(when, tx->rack_at_ns);
	when = OG_MIN(when, tx->window_probe_at_ns);
	when = OG_MIN(when, s->app_at_ns);
	when = OG_MIN(when, s->unbound_at_ns);
	if (tx->paced)
		when = OG_MIN(when, tx->pace_at_ns);
	og_udx_timers_arm(&u->timers, og_udx_slot_of(u, s), when);
}

/* What is due of one stream. False when it was closed. */
static bool run_deadlines(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;
	uint32_t gen = s->gen;

	if (tx->rack_at_ns <= u->now_ns)
		og_udx_detect_losses(u, s);
	if (tx->probe_at_ns <= u->now_ns)
		og_udx_tail_probe(u, s);
	if (tx->rto_at_ns <= u->now_ns && !og_udx_retransmission_timeout(u, s))
		return false;
	if (tx->window_probe_at_ns <= u->now_ns && !og_udx_window_probe(u, s))
		return false;
	if (tx->paced && tx->pace_at_ns <= u->now_ns) {
		tx->paced = false;
		og_udx_make_ready(u, s);
	}
	if (s->unbound_at_ns <= u->now_ns) {
		og_udx_finish(u, s, -ETIMEDOUT);
		return false;
	}
	if (s->app_at_ns <= u->now_ns) {
		s->app_at_ns = OG_NEVER;
		u->ops->timer(u->ctx, og_udx_slot_of(u, s));
	}
	return s->gen == gen;
}

static void run_timers(struct og_udx *u)
{
	uint32_t slot;

	for (uint32_t i = 0; i < TIMERS_PER_TICK; i++) {
		if (!og_udx_timers_pop(&u->timers, u->now_ns, &slot))
			break;
		if (run_deadlines(u, &u->streams[slot]))
			og_udx_arm(u, &u->streams[slot]);
	}
}

/* With nothing left to send, what is delivered tells what the application wrote, not the path. */
static void note_whether_idle(struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;

	if (tx->nxt == tx->end && tx->nb_lost == 0 && tx->in_flight < tx->cc.cwnd)
		og_udx_rate_app_limited(&tx->rate, tx->in_flight);
}

/* One turn of a stream. False when the transmit queue is full. */
static bool serve(struct og_udx *u, struct og_udx_stream *s)
{
	uint32_t gen = s->gen;
	bool sent;

	if (s->state != OG_UDX_OPEN)
		return true;
	if (!og_udx_deliver_held(u, s))
		return true;
	sent = og_udx_send_some(u, s);
	og_udx_offer_room(u, s);
	if (s->gen != gen)
		return true;
	note_whether_idle(s);
	if (og_udx_finish_if_done(u, s))
		return true;
	og_udx_arm(u, s);
	return sent;
}

static void serve_ready(struct og_udx *u)
{
	uint64_t stop = u->count.tx_packets + PACKETS_PER_TICK;
	/* Streams that become ready meanwhile get their first turn, and no more, in this tick. */
	uint32_t turns = 2 * u->nb_streams + 16;
	struct og_udx_stream *s;

	while (turns-- > 0 && u->count.tx_packets < stop) {
		s = line_pop(u, &u->ready, OG_UDX_LINE_READY);
		if (!s)
			break;
		if (!serve(u, s)) {
			line_push_front(u, &u->ready, OG_UDX_LINE_READY, s);
			break;
		}
	}
}

/* Streams that found the pool empty and have nothing in flight that would wake them. */
static void serve_starved(struct og_udx *u)
{
	uint32_t last = u->starved.last;
	struct og_udx_stream *s;

	while (u->pool.nb_free > 0 && (s = line_pop(u, &u->starved, OG_UDX_LINE_STARVED))) {
		bool was_last = og_udx_slot_of(u, s) == last;

		if (s->state != OG_UDX_FREE) {
			if (s->tx.end_wanted && !s->tx.end_built && og_udx_build_end(u, s))
				og_udx_make_ready(u, s);
			og_udx_offer_room(u, s);
		}
		if (was_last)
			break;
	}
}

/*
 * Streams that send take turns to wait for acknowledgements, so they divide a path by the most of
 * them that were lately seen to wait at once.
 */
uint32_t og_udx_nb_busy(const struct og_udx *u)
{
	return OG_MAX(OG_MAX(u->busy_peak[0], u->busy_peak[1]), 1u);
}

static void forget_busy(struct og_udx *u)
{
	if (u->now_ns < u->busy_until_ns)
		return;
	u->busy_peak[1] = u->now_ns - u->busy_until_ns < BUSY_PERIOD_NS ? u->busy_peak[0] : 0;
	u->busy_peak[0] = u->nb_busy;
	u->busy_until_ns = u->now_ns + BUSY_PERIOD_NS;
}

uint64_t og_udx_tick(struct og_udx *u, uint64_t now_ns)
{
	u->now_ns = now_ns;
	forget_busy(u);
	og_udx_table_expire(&u->table, now_ns);
	run_timers(u);
	serve_starved(u);
	serve_ready(u);
	flush_acks(u);
	if (!line_empty(&u->ready) || !line_empty(&u->acks))
		return now_ns;
	return og_udx_timers_next(&u->timers);
}
