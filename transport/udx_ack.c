/* What an acknowledgement tells: window, what arrived, round trip, and so what to do next. */
#include "transport/udx_priv.h"

/* One acknowledgement packet's worth of news. */
struct news {
	uint32_t nb_acked;
	uint64_t last_sent_ns; /* of the packet that was sent last */
	bool sent_once;        /* that one: else it tells no round trip */
};

/* RFC 9293, 3.10.7.4: only from packets that are not older than the last one that told it. */
static void update_window(struct og_udx *u, struct og_udx_stream *s, const struct og_udx_header *h)
{
	struct og_udx_sender *tx = &s->tx;
	int32_t newer = og_seq_diff(h->seq, tx->wl_seq);

	if (og_seq_diff(h->ack, tx->una) < 0)
		return;
	if (newer < 0 || (newer == 0 && og_seq_diff(h->ack, tx->wl_ack) < 0))
		return;
	tx->wl_seq = h->seq;
	tx->wl_ack = h->ack;
	if (tx->window_bytes == 0 && h->window > 0)
		tx->window_probe_at_ns = OG_NEVER;
	tx->window_bytes = h->window;
}

/* A packet in [una, nxt) not known to have arrived has. Its buffer is free then. */
static void packet_arrived(
	struct og_udx *u, struct og_udx_stream *s, uint32_t seq, struct news *news)
{
	struct og_udx_sender *tx = &s->tx;
	int32_t idx = *og_udx_tx_at(u, s, seq);
	struct og_udx_packet *p = &u->pool.packets[idx];

	if (tx->nb_lost > 0 && og_udx_bit(&tx->lost, seq)) {
		og_udx_bit_clear(&tx->lost, seq);
		tx->nb_lost--;
	} else {
		og_udx_list_remove(u, tx, idx);
		tx->in_flight--;
	}
	/* Others may only have been waiting for a place among the blocks of this answer. */
	if (p->sent_ns >= news->last_sent_ns) {
		news->last_sent_ns = p->sent_ns;
		news->sent_once = p->nb_tx == 1;
	}
	og_udx_rack_update(tx, p, u->now_ns);
	og_udx_rate_acked(&tx->rate, &p->rate, p->sent_ns, u->now_ns);
	if (og_seq_diff(seq + 1, tx->fack) > 0)
		tx->fack = seq + 1;
	if (p->probe || !tx->path.begun)
		og_udx_path_acked(&tx->path, p->probe);
	news->nb_acked++;
	og_udx_release(u, s, idx);
}

/* Everything before `ack`, and what is known to have arrived from there on: una never has. */
static void apply_cumulative(
	struct og_udx *u, struct og_udx_stream *s, uint32_t ack, struct news *news)
{
	struct og_udx_sender *tx = &s->tx;
	bool was_busy = tx->una != tx->nxt;

	for (; tx->una != tx->nxt; tx->una++) {
		if (tx->nb_sacked > 0 && og_udx_bit(&tx->acked, tx->una)) {
			og_udx_bit_clear(&tx->acked, tx->una);
			tx->nb_sacked--;
		} else if (og_seq_diff(tx->una, ack) < 0) {
			packet_arrived(u, s, tx->una, news);
		} else {
			break;
		}
	}
	if (was_busy && tx->una == tx->nxt)
		u->nb_busy--;
}

static void apply_block(
	struct og_udx *u, struct og_udx_stream *s, struct og_udx_block b, struct news *news)
{
	struct og_udx_sender *tx = &s->tx;
	uint32_t seq;

	if (og_seq_diff(b.first, b.end) >= 0 || og_seq_diff(b.end, tx->nxt) > 0 ||
		og_seq_diff(b.first, tx->nxt) >= 0) {
		og_udx_dropped(u, OG_UDX_DROP_BAD_BLOCK);
		return;
	}
	/* From an old acknowledgement, or made up: a receiver that has una expects the next one. */
	if (og_seq_diff(b.first, tx->una) <= 0)
		return;
	for (seq = b.first; (seq = og_udx_bits_next(&tx->acked, seq, b.end, false)) != b.end;
		seq++) {
		packet_arrived(u, s, seq, news);
		og_udx_bit_set(&tx->acked, seq);
		tx->nb_sacked++;
	}
}

static bool is_near(struct og_udx *u, const struct og_udx_stream *s, uint64_t rtt_ns)
{
	uint32_t ip = og_addr_u32(&s->remote);
	struct og_udx_near_host *h =
		&u->near_hosts[(ip * 2654435761u >> 16) % OG_UDX_NEAR_HOSTS]; /* Knuth */

	if (rtt_ns > 0 && rtt_ns < OG_UDX_NEAR_RTT_NS)
		*h = (struct og_udx_near_host){ip, u->now_ns};
	return h->ip == ip && h->seen_ns > 0 && u->now_ns - h->seen_ns < OG_UDX_NEAR_LIFE_NS;
}

static void tell_congestion_control(struct og_udx *u, struct og_udx_stream *s,
	const struct news *news, uint32_t in_flight_before)
{
	struct og_udx_sender *tx = &s->tx;
	struct og_udx_cc_ack ack = {
		.now_ns = u->now_ns,
		.srtt_ns = tx->srtt_ns,
		.min_rtt_ns = tx->min_rtt_ns,
		.rtt_ns = news->sent_once ? u->now_ns - news->last_sent_ns : 0,
		.nb_acked = news->nb_acked,
		.nb_lost = (uint32_t)(tx->losses - tx->losses_told),
		.in_flight = in_flight_before,
		.in_flight_after = tx->in_flight,
		.nb_busy = og_udx_nb_busy(u),
		.packet_bytes = tx->packet_bytes / 16,
		/* After a time-out the window has to grow again while the rest is repaired. */
		.in_recovery = tx->recovery == OG_UDX_RECOVERY,
		.after_timeout = tx->recovery == OG_UDX_LOSS,
		.after_idle = tx->rate.after_idle,
	};

	if (news->nb_acked == 0)
		return;
	ack.near = is_near(u, s, ack.rtt_ns);
	og_udx_rate_sample(&tx->rate, tx->min_rtt_ns, &ack.rate);
	tx->losses_told = tx->losses;
	tx->cc.ops->on_ack(&tx->cc, &ack);
}

static void restart_timers(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;

	tx->rto_at_ns = tx->una == tx->nxt ? OG_NEVER : u->now_ns + tx->rto_ns;
	og_udx_arm_tail_probe(u, s);
}

void og_udx_acknowledged(struct og_udx *u, struct og_udx_stream *s, const struct og_udx_header *h,
	const uint8_t *packet, uint32_t nb_blocks)
{
	struct og_udx_sender *tx = &s->tx;
	uint32_t in_flight_before = tx->in_flight;
	struct news news = {0};
	bool advanced = og_seq_diff(h->ack, tx->una) > 0;

	update_window(u, s, h);
	if (advanced) {
		apply_cumulative(u, s, h->ack, &news);
		tx->nb_timeouts = 0;
		tx->path.timeouts = 0;
	}
	for (uint32_t i = 0; i < nb_blocks; i++)
		apply_block(u, s, og_udx_block_at(packet, i), &news);
	if (tx->nxt != tx->end || tx->nb_lost > 0)
		og_udx_make_ready(u, s); /* there may be room in flight, or a larger window */
	if (news.nb_acked == 0 && !advanced)
		return;
	if (news.sent_once)
		og_udx_rtt_sample(tx, u->now_ns - news.last_sent_ns, u->now_ns);
	if (tx->recovery != OG_UDX_SOUND && og_seq_diff(tx->una, tx->recovery_point) >= 0)
		tx->recovery = OG_UDX_SOUND;
	og_udx_detect_losses(u, s);
	tell_congestion_control(u, s, &news, in_flight_before);
	restart_timers(u, s);
	/* Our end has arrived, the peer's has not: it gets one more word (udx.md 8). */
	if (advanced && tx->end_built && tx->una == tx->end && !s->rx.end_consumed)
		og_udx_owe_ack(u, s);
}
