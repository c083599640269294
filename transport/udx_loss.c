/* Loss detection: round trips (RFC 6298), RACK and tail-loss probes (RFC 8985), time-outs. */
#include "transport/udx_priv.h"

#include <errno.h>

#define MIN_RTT_LIFE_NS (300 * OG_NS_PER_S)
#define RTT_MAX_NS (30000 * OG_NS_PER_MS)
#define RTT_OUTLIER_NS (5000 * OG_NS_PER_MS)
#define PROBE_ALONE_NS (2 * OG_NS_PER_MS) /* the longest a receiver delays its answer */
#define PROBE_NO_SAMPLE_NS (1000 * OG_NS_PER_MS)

enum { DUP_THRESH = 3, REORDERING_QUARTERS_MAX = 16 };

/* ---- outstanding packets in the order they were sent ---- */

void og_udx_list_append(struct og_udx *u, struct og_udx_sender *tx, int32_t idx)
{
	struct og_udx_packet *p = &u->pool.packets[idx];

	p->listed = true;
	p->newer = OG_UDX_NIL;
	p->older = tx->newest;
	if (tx->newest == OG_UDX_NIL)
		tx->oldest = idx;
	else
		u->pool.packets[tx->newest].newer = idx;
	tx->newest = idx;
}

void og_udx_list_remove(struct og_udx *u, struct og_udx_sender *tx, int32_t idx)
{
	struct og_udx_packet *p = &u->pool.packets[idx];

	p->listed = false;
	if (p->older == OG_UDX_NIL)
		tx->oldest = p->newer;
	else
		u->pool.packets[p->older].newer = p->newer;
	if (p->newer == OG_UDX_NIL)
		tx->newest = p->older;
	else
		u->pool.packets[p->newer].older = p->older;
}

/* ---- round trips ---- */

void og_udx_rtt_sample(struct og_udx_sender *tx, uint64_t rtt_ns, uint64_t now_ns)
{
	uint64_t rtt = OG_MAX(rtt_ns, 1);

	tx->tail_probe_spent = false;
	if (tx->min_rtt_ns == 0 || rtt <= tx->min_rtt_ns ||
		now_ns - tx->min_rtt_at_ns > MIN_RTT_LIFE_NS) {
		tx->min_rtt_ns = rtt;
		tx->min_rtt_at_ns = now_ns;
	}
	if (tx->srtt_ns == 0) {
		tx->srtt_ns = OG_MIN(rtt, RTT_MAX_NS);
		tx->rttvar_ns = tx->srtt_ns / 2;
	} else {
		uint64_t bound = tx->srtt_ns + 5 * tx->rttvar_ns;
		uint64_t off;

		if (rtt > RTT_OUTLIER_NS && rtt > bound)
			rtt = OG_MIN(bound, RTT_MAX_NS);
		off = rtt > tx->srtt_ns ? rtt - tx->srtt_ns : tx->srtt_ns - rtt;
		tx->rttvar_ns = (3 * tx->rttvar_ns + off) / 4;
		tx->srtt_ns = (7 * tx->srtt_ns + rtt) / 8;
	}
	tx->rto_ns = tx->srtt_ns + 4 * tx->rttvar_ns;
	tx->rto_ns = OG_MIN(OG_MAX(tx->rto_ns, OG_UDX_RTO_MIN_NS), OG_UDX_RTO_MAX_NS);
}

/* ---- RACK ---- */

void og_udx_rack_update(struct og_udx_sender *tx, const struct og_udx_packet *p, uint64_t now_ns)
{
	uint64_t rtt = now_ns - p->sent_ns;

	if (p->nb_tx > 1 && rtt < tx->min_rtt_ns) {
		/*
		 * Too early for the answer to the repetition: the first one had only been
		 * overtaken. Wait longer before the next packet is taken for lost.
		 */
		tx->reordering_seen = true;
		if (tx->reordering_quarters < REORDERING_QUARTERS_MAX)
			tx->reordering_quarters++;
		return;
	}
	if (p->nb_tx == 1 && og_seq_diff(p->seq, tx->fack) < 0)
		tx->reordering_seen = true;
	if (p->sent_ns > tx->rack_sent_ns ||
		(p->sent_ns == tx->rack_sent_ns && og_seq_diff(p->seq, tx->rack_seq) > 0)) {
		tx->rack_sent_ns = p->sent_ns;
		tx->rack_seq = p->seq;
		tx->rack_rtt_ns = rtt;
	}
}

static uint64_t reordering_window(const struct og_udx_sender *tx)
{
	if (!tx->reordering_seen && (tx->recovery != OG_UDX_SOUND || tx->nb_sacked >= DUP_THRESH))
		return 0;
	return OG_MIN(tx->min_rtt_ns / 4 * tx->reordering_quarters, tx->srtt_ns);
}

/* Returns whether the loss counts against the path: a lost probe of its size does not. */
static bool mark_lost(struct og_udx *u, struct og_udx_stream *s, int32_t idx)
{
	struct og_udx_sender *tx = &s->tx;
	struct og_udx_packet *p = &u->pool.packets[idx];
	bool counts = !p->probe;

	og_udx_list_remove(u, tx, idx);
	og_udx_bit_set(&tx->lost, p->seq);
	tx->in_flight--;
	tx->nb_lost++;
	tx->losses++;
	og_count(&u->count.losses);
	if (p->probe) {
		p->probe = false;
		og_udx_path_probe_lost(&tx->path);
	}
	return counts;
}

static bool sent_before_rack(const struct og_udx_sender *tx, const struct og_udx_packet *p)
{
	return p->sent_ns < tx->rack_sent_ns ||
	       (p->sent_ns == tx->rack_sent_ns && og_seq_diff(p->seq, tx->rack_seq) < 0);
}

void og_udx_detect_losses(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;
	uint64_t patience = tx->rack_rtt_ns + reordering_window(tx);
	bool lost = false;

	tx->rack_at_ns = OG_NEVER;
	while (tx->oldest != OG_UDX_NIL) {
		const struct og_udx_packet *p = &u->pool.packets[tx->oldest];

		if (!sent_before_rack(tx, p))
			break;
		if (p->sent_ns + patience > u->now_ns) {
			tx->rack_at_ns = p->sent_ns + patience;
			break;
		}
		lost |= mark_lost(u, s, tx->oldest);
	}
	if (tx->nb_lost > 0)
		og_udx_make_ready(u, s);
	if (lost && tx->recovery == OG_UDX_SOUND) {
		tx->recovery = OG_UDX_RECOVERY;
		tx->recovery_point = tx->nxt;
		tx->probe_at_ns = OG_NEVER;
		tx->cc.ops->on_loss(&tx->cc, u->now_ns);
	}
}

/* ---- tail-loss probe ---- */

void og_udx_arm_tail_probe(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;
	uint64_t wait = 2 * tx->srtt_ns;

	tx->probe_at_ns = OG_NEVER;
	if (tx->recovery != OG_UDX_SOUND || tx->nb_sacked > 0 || tx->una == tx->nxt ||
		tx->tail_probe_spent)
		return;
	if (tx->nxt - tx->una == 1)
		wait += PROBE_ALONE_NS;
	if (tx->srtt_ns == 0)
		wait = PROBE_NO_SAMPLE_NS;
	tx->probe_at_ns = OG_MIN(u->now_ns + wait, tx->rto_at_ns);
}

void og_udx_tail_probe(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;
	uint32_t seq = tx->nxt - 1;

	tx->probe_at_ns = OG_NEVER;
	if (tx->rto_at_ns <= u->now_ns || tx->una == tx->nxt || !og_udx_may_transmit(s))
		return;
	/* New data if the peer's window allows, else what went last once more. */
	if (tx->nxt != tx->end && og_udx_peer_takes(s))
		seq = tx->nxt;
	else if (og_udx_bit(&tx->acked, seq) || og_udx_bit(&tx->lost, seq))
		return;
	if (!og_udx_transmit(u, s, seq)) {
		tx->probe_at_ns = u->now_ns;
		return;
	}
	tx->tail_probe_spent = true;
	tx->probe_at_ns = OG_NEVER;
	tx->rto_at_ns = u->now_ns + tx->rto_ns;
	og_count(&u->count.tail_probes);
}

/* ---- time-out ---- */

static void mark_overdue(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;
	uint64_t patience = tx->rack_rtt_ns + reordering_window(tx);

	while (tx->oldest != OG_UDX_NIL &&
		u->pool.packets[tx->oldest].sent_ns + patience <= u->now_ns)
		mark_lost(u, s, tx->oldest);
	if (!og_udx_bit(&tx->lost, tx->una))
		mark_lost(u, s, *og_udx_tx_at(u, s, tx->una));
}

bool og_udx_retransmission_timeout(struct og_udx *u, struct og_udx_stream *s)
{
	struct og_udx_sender *tx = &s->tx;
	uint16_t first_bytes;

	if (tx->una == tx->nxt) {
		tx->rto_at_ns = OG_NEVER;
		return true;
	}
	og_count(&u->count.timeouts);
	if (++tx->nb_timeouts >= OG_UDX_TIMEOUTS_MAX) {
		/* Both ends were done, only our peer's last word was lost (udx.md 8). */
		og_udx_finish(u, s, tx->end_built && s->rx.end_consumed ? 0 : -ETIMEDOUT);
		return false;
	}
	first_bytes = u->pool.packets[*og_udx_tx_at(u, s, tx->una)].len_bytes;
	tx->recovery = OG_UDX_LOSS;
	tx->recovery_point = tx->nxt;
	tx->rto_at_ns = u->now_ns + 2 * tx->rto_ns;
	tx->probe_at_ns = tx->rack_at_ns = OG_NEVER;
	mark_overdue(u, s);
	tx->cc.ops->on_timeout(&tx->cc, u->now_ns, tx->in_flight);
	if (og_udx_path_timeout(&tx->path, first_bytes))
		og_udx_split_unsent(u, s, OG_UDX_PAYLOAD_BASE);
	og_udx_make_ready(u, s);
	return true;
}
