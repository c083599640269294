#include "transport/udx_cc.h"

#include <math.h>
#include <string.h>

enum mode { STARTUP, DRAIN, PROBE_BW, PROBE_RTT };

enum {
	CWND_FLOOR = 4,
	CYCLE = 8,
	FULL_ROUNDS = 3,
	EXTRA_ROUNDS = 5,
	QUANTUM_MIN = 2, /* packets that leave at once */
	QUANTUM_MAX = 64,
	NEAR_ALL = 512, /* packets of all near streams, shared by those that are busy */
	NEAR_MIN = 8,
	NEAR_MAX = 512,
	EXTRA_MS_MAX = 100, /* the most that lumps of acknowledgements may add, in time */
};

#define MIN_RTT_LIFE_NS (10 * OG_NS_PER_S)
#define PROBE_RTT_NS (200 * OG_NS_PER_MS)
#define QUANTUM_NS OG_NS_PER_MS

static const double high_gain = 2.88539; /* 2/ln 2: doubles what is delivered each round */
static const double cruise_cwnd_gain = 2;
static const double probe_rtt_gain = 0.5;
static const double full_growth = 1.25;
static const uint64_t near_bytes_per_s = 12500000000; /* 100 Gbit/s: not paced */
static const double near_beta = 0.7;
static const double pacing_margin = 0.99;
static const double cycle_gains[CYCLE] = {1.25, 0.75, 1, 1, 1, 1, 1, 1};

static struct og_udx_bbr *self(struct og_udx_cc *cc)
{
	return &cc->bbr;
}

static void set_cwnd(struct og_udx_cc *cc, double packets)
{
	cc->cwnd = (uint32_t)fmin(fmax(packets, 1), OG_UDX_CWND_MAX);
}

/* ---- the model of the path ---- */

/* What the path holds, times `gain`. */
static double in_path(const struct og_udx_bbr *b, double gain)
{
	double rtt_s = (double)OG_MAX(b->min_rtt_ns, OG_NS_PER_MS) / 1e9;

	if (b->min_rtt_ns == 0)
		return OG_UDX_CWND_INITIAL;
	return fmax(gain * b->bw_max * rtt_s, CWND_FLOOR);
}

/* Room for packets that leave and are acknowledged several at once. */
static double quantum(const struct og_udx_bbr *b)
{
	return fmin(fmax(b->bw_max * QUANTUM_NS / 1e9, QUANTUM_MIN), QUANTUM_MAX);
}

static double in_flight_at(const struct og_udx_bbr *b, double gain)
{
	return in_path(b, gain) + 3 * quantum(b);
}

static void next_round(struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	b->round++;
	b->round_end = ack->rate.delivered;
	b->conserving = false;
}

/* The best rate of the last rounds; those that only an idle application made do not age it. */
static void learn_bw(struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	double bw;

	if (ack->rate.interval_ns == 0)
		return;
	bw = ack->rate.nb_delivered * 1e9 / (double)ack->rate.interval_ns;
	if (ack->rate.app_limited && bw < b->bw_max)
		return;
	for (uint32_t i = 0; b->bw_round != b->round && i < OG_UDX_BBR_ROUNDS; i++)
		b->bw[++b->bw_round % OG_UDX_BBR_ROUNDS] = 0;
	b->bw_round = b->round;
	b->bw[b->round % OG_UDX_BBR_ROUNDS] = fmax(b->bw[b->round % OG_UDX_BBR_ROUNDS], bw);
	b->bw_max = 0;
	for (uint32_t i = 0; i < OG_UDX_BBR_ROUNDS; i++)
		b->bw_max = fmax(b->bw_max, b->bw[i]);
}

/* Acknowledgements beyond what the rate explains must not empty the path while the next are due. */
static void learn_lumps(
	const struct og_udx_cc *cc, struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	double expected = b->bw_max * (double)(ack->now_ns - b->lump_at_ns) / 1e9;
	double extra;

	if (b->round - b->extra_round >= EXTRA_ROUNDS) {
		b->extra_round = b->round;
		b->extra[1] = b->extra[0];
		b->extra[0] = 0;
	}
	if (b->lump_acked <= expected) {
		b->lump_at_ns = ack->now_ns;
		b->lump_acked = 0;
		expected = 0;
	}
	b->lump_acked += ack->nb_acked;
	extra = fmin(b->lump_acked - expected, cc->cwnd);
	if (extra > b->extra[0])
		b->extra[0] = (uint32_t)extra;
}

static double lumps(const struct og_udx_bbr *b)
{
	if (!b->full)
		return 0;
	return fmin(OG_MAX(b->extra[0], b->extra[1]), b->bw_max * EXTRA_MS_MAX / 1e3);
}

/* ---- modes ---- */

static void enter_probe_bw(struct og_udx_bbr *b, uint64_t now_ns)
{
	b->mode = PROBE_BW;
	b->cwnd_gain = cruise_cwnd_gain;
	/* Any phase but the draining one, so that streams do not all probe at once. */
	b->cycle_idx = (uint8_t)((now_ns * 0x9e3779b97f4a7c15ull >> 32) % (CYCLE - 1));
	if (b->cycle_idx > 0)
		b->cycle_idx++;
	b->pacing_gain = cycle_gains[b->cycle_idx];
	b->cycle_at_ns = now_ns;
}

static bool phase_over(const struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	bool lasted = ack->now_ns - b->cycle_at_ns > OG_MAX(b->min_rtt_ns, OG_NS_PER_MS);

	if (b->pacing_gain > 1)
		return lasted &&
		       (ack->nb_lost > 0 || ack->in_flight >= in_flight_at(b, b->pacing_gain));
	if (b->pacing_gain < 1)
		return lasted || ack->in_flight <= in_path(b, 1);
	return lasted;
}

static void go_round_the_gains(struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	if (b->mode != PROBE_BW || !phase_over(b, ack))
		return;
	b->cycle_idx = (uint8_t)((b->cycle_idx + 1) % CYCLE);
	b->pacing_gain = cycle_gains[b->cycle_idx];
	b->cycle_at_ns = ack->now_ns;
}

static void see_whether_full(struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	if (b->full || ack->rate.app_limited)
		return;
	if (b->bw_max >= b->full_bw * full_growth) {
		b->full_bw = b->bw_max;
		b->full_rounds = 0;
		return;
	}
	b->full = ++b->full_rounds >= FULL_ROUNDS;
}

static void drain(struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	if (b->mode == STARTUP && b->full) {
		b->mode = DRAIN;
		b->pacing_gain = 1 / high_gain;
		b->cwnd_gain = high_gain;
	}
	if (b->mode == DRAIN && ack->in_flight_after <= in_path(b, 1))
		enter_probe_bw(b, ack->now_ns);
}

static void leave_probe_rtt(struct og_udx_cc *cc, struct og_udx_bbr *b, uint64_t now_ns)
{
	b->min_rtt_at_ns = now_ns;
	set_cwnd(cc, OG_MAX(cc->cwnd, b->cwnd_before));
	if (b->full) {
		enter_probe_bw(b, now_ns);
		return;
	}
	b->mode = STARTUP;
	b->pacing_gain = b->cwnd_gain = high_gain;
}

static void probe_rtt(
	struct og_udx_cc *cc, struct og_udx_bbr *b, const struct og_udx_cc_ack *ack, bool round)
{
	if (b->probe_rtt_until_ns == 0) {
		if (ack->in_flight_after > in_path(b, probe_rtt_gain))
			return;
		b->probe_rtt_until_ns = ack->now_ns + PROBE_RTT_NS;
		b->probe_rtt_round_done = false;
		b->round_end = ack->rate.delivered;
		return;
	}
	b->probe_rtt_round_done |= round;
	if (b->probe_rtt_round_done && ack->now_ns >= b->probe_rtt_until_ns)
		leave_probe_rtt(cc, b, ack->now_ns);
}

static void learn_min_rtt(
	struct og_udx_cc *cc, struct og_udx_bbr *b, const struct og_udx_cc_ack *ack, bool round)
{
	bool old = ack->now_ns - b->min_rtt_at_ns > MIN_RTT_LIFE_NS;

	if (ack->rtt_ns > 0 && (b->min_rtt_ns == 0 || ack->rtt_ns <= b->min_rtt_ns || old)) {
		b->min_rtt_ns = ack->rtt_ns;
		b->min_rtt_at_ns = ack->now_ns;
	}
	/* What was sent into an idle path has just shown its round trip. */
	if (old && !ack->after_idle && b->mode != PROBE_RTT) {
		b->mode = PROBE_RTT;
		b->pacing_gain = b->cwnd_gain = 1;
		b->cwnd_before = b->recovering ? OG_MAX(b->cwnd_before, cc->cwnd) : cc->cwnd;
		b->probe_rtt_until_ns = 0;
	}
	if (b->mode == PROBE_RTT)
		probe_rtt(cc, b, ack, round);
}

/* ---- what the sender reads ---- */

static void set_pacing(
	struct og_udx_cc *cc, const struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	double packets_per_s = b->bw_max;
	double rate;

	if (b->near) {
		cc->pacing_bytes_per_s = near_bytes_per_s;
		return;
	}
	if (packets_per_s <= 0) {
		if (ack->srtt_ns == 0)
			return;
		packets_per_s = OG_UDX_CWND_INITIAL * 1e9 / (double)ack->srtt_ns;
	}
	rate = b->pacing_gain * packets_per_s * ack->packet_bytes * pacing_margin;
	rate = fmax(rate, ack->packet_bytes);
	if (b->full || rate > (double)cc->pacing_bytes_per_s)
		cc->pacing_bytes_per_s = (uint64_t)rate;
}

/*
 * The first round of a recovery sends a packet for each that has arrived, whatever the model says:
 * the path may have become slower. True: the window is set.
 */
static bool recover(struct og_udx_cc *cc, struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	double floor = (double)ack->in_flight_after + ack->nb_acked;
	bool recovering = ack->in_recovery || ack->after_timeout;

	if (ack->nb_lost > 0)
		set_cwnd(cc, (double)cc->cwnd - ack->nb_lost);
	if (recovering && !b->recovering) {
		b->conserving = true;
		b->round_end = ack->rate.delivered;
		set_cwnd(cc, floor);
	} else if (!recovering && b->recovering) {
		b->conserving = false;
		set_cwnd(cc, OG_MAX(cc->cwnd, b->cwnd_before));
	}
	b->recovering = recovering;
	if (b->conserving)
		set_cwnd(cc, fmax(cc->cwnd, floor));
	return b->conserving;
}

/*
 * On this machine or next to it a path holds next to nothing, and delays come from schedulers and
 * bursts, so the model says little. There acknowledgements set the pace, and the streams have equal
 * windows, which makes their rates equal; less after a loss, and by one packet a round more again.
 */
static void set_near_window(
	struct og_udx_cc *cc, struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	double share = fmax((double)NEAR_ALL / OG_MAX(ack->nb_busy, 1u), NEAR_MIN);

	b->near_cwnd = fmin(b->near_cwnd + (double)ack->nb_acked / OG_MAX(cc->cwnd, 1u), NEAR_MAX);
	set_cwnd(cc, fmin((double)cc->cwnd + ack->nb_acked, fmin(share, b->near_cwnd)));
}

static void narrow_near_window(struct og_udx_cc *cc, struct og_udx_bbr *b)
{
	b->near_cwnd = fmax(near_beta * fmin(b->near_cwnd, cc->cwnd), CWND_FLOOR);
}

static void set_window(struct og_udx_cc *cc, struct og_udx_bbr *b, const struct og_udx_cc_ack *ack)
{
	double target = in_flight_at(b, b->cwnd_gain) + lumps(b);

	if (b->near) {
		if (recover(cc, b, ack))
			set_cwnd(cc, fmin(cc->cwnd, b->near_cwnd));
		else
			set_near_window(cc, b, ack);
		return;
	}
	if (!recover(cc, b, ack)) {
		if (b->full)
			set_cwnd(cc, fmin((double)cc->cwnd + ack->nb_acked, target));
		else if (cc->cwnd < target || ack->rate.delivered < OG_UDX_CWND_INITIAL)
			set_cwnd(cc, (double)cc->cwnd + ack->nb_acked);
		set_cwnd(cc, fmax(cc->cwnd, CWND_FLOOR));
	}
	if (b->mode == PROBE_RTT)
		set_cwnd(cc, fmin(cc->cwnd, in_path(b, probe_rtt_gain)));
}

static void bbr_init(struct og_udx_cc *cc)
{
	struct og_udx_bbr *b = self(cc);

	memset(b, 0, sizeof(*b));
	b->mode = STARTUP;
	b->pacing_gain = b->cwnd_gain = high_gain;
	b->near_cwnd = NEAR_MAX;
	cc->pacing_bytes_per_s = 0;
	set_cwnd(cc, OG_UDX_CWND_INITIAL);
}

static void bbr_on_ack(struct og_udx_cc *cc, const struct og_udx_cc_ack *ack)
{
	struct og_udx_bbr *b = self(cc);
	bool round = (int32_t)(ack->rate.prior_delivered - b->round_end) >= 0;

	b->near = ack->near;
	if (round)
		next_round(b, ack);
	learn_bw(b, ack);
	learn_lumps(cc, b, ack);
	go_round_the_gains(b, ack);
	if (round)
		see_whether_full(b, ack);
	drain(b, ack);
	learn_min_rtt(cc, b, ack, round);
	set_pacing(cc, b, ack);
	set_window(cc, b, ack);
}

static void bbr_on_loss(struct og_udx_cc *cc, uint64_t now_ns)
{
	struct og_udx_bbr *b = self(cc);

	(void)now_ns;
	narrow_near_window(cc, b);
	b->cwnd_before = b->mode == PROBE_RTT ? OG_MAX(b->cwnd_before, cc->cwnd) : cc->cwnd;
}

static void bbr_on_timeout(struct og_udx_cc *cc, uint64_t now_ns, uint32_t in_flight)
{
	struct og_udx_bbr *b = self(cc);

	(void)now_ns;
	narrow_near_window(cc, b);
	/* Further time-outs of the same outage must not forget what was before. */
	if (!b->recovering)
		b->cwnd_before = OG_MAX(b->cwnd_before, cc->cwnd);
	b->recovering = true;
	b->conserving = false;
	b->full_bw = 0;
	set_cwnd(cc, (double)in_flight + 1);
}

const struct og_udx_cc_ops og_udx_bbr = {
	.name = "bbr",
	.init = bbr_init,
	.on_ack = bbr_on_ack,
	.on_loss = bbr_on_loss,
	.on_timeout = bbr_on_timeout,
};
