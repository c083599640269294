#include "transport/udx_cc.h"

#include <math.h>

#define DELAY_MIN_NS (4 * OG_NS_PER_MS)
#define DELAY_MAX_NS (16 * OG_NS_PER_MS)

enum { NB_LATE_MAX = 8 };

static const double cubic_c = 0.4;
static const double cubic_beta = 0.7;
static const double cubic_alpha = 3 * (1 - 0.7) / (1 + 0.7); /* RFC 9438, 4.3 */
static const double slow_start_gain = 2.0;
static const double avoidance_gain = 1.25;

static void set_window(struct og_udx_cc *cc, double window)
{
	window = fmin(fmax(window, 1), OG_UDX_CWND_MAX);
	cc->cubic.window = window;
	cc->cwnd = (uint32_t)window;
}

static void cubic_init(struct og_udx_cc *cc)
{
	cc->cubic.ssthresh = INFINITY;
	cc->cubic.w_max = 0;
	cc->cubic.epoch_ns = 0;
	cc->pacing_bytes_per_s = 0;
	set_window(cc, OG_UDX_CWND_INITIAL);
}

static void begin_epoch(struct og_udx_cc *cc, uint64_t now_ns)
{
	double window = cc->cubic.window;

	cc->cubic.epoch_ns = now_ns;
	cc->cubic.w_est = window;
	if (window < cc->cubic.w_max) {
		cc->cubic.k_s = cbrt((cc->cubic.w_max - window) / cubic_c);
	} else {
		cc->cubic.k_s = 0;
		cc->cubic.w_max = window;
	}
}

static double cubic_at(const struct og_udx_cc *cc, double t_s)
{
	double d = t_s - cc->cubic.k_s;

	return cubic_c * d * d * d + cc->cubic.w_max;
}

static void avoid_congestion(struct og_udx_cc *cc, const struct og_udx_cc_ack *ack)
{
	double window = cc->cubic.window;
	double t_s, target;

	if (cc->cubic.epoch_ns == 0)
		begin_epoch(cc, ack->now_ns);
	t_s = (double)(ack->now_ns - cc->cubic.epoch_ns) / 1e9;
	cc->cubic.w_est += cubic_alpha * ack->nb_acked / window;
	target = cubic_at(cc, t_s + (double)ack->srtt_ns / 1e9);
	target = fmin(fmax(target, window), 1.5 * window);
	window += (target - window) / window * ack->nb_acked;
	set_window(cc, fmax(window, cc->cubic.w_est));
}

/* Delay that grows means a queue: go on with care before it overflows (RFC 9406, 4.2). */
static bool queue_builds_up(struct og_udx_cc *cc, const struct og_udx_cc_ack *ack)
{
	uint64_t margin = OG_MIN(OG_MAX(ack->min_rtt_ns / 8, DELAY_MIN_NS), DELAY_MAX_NS);

	if (ack->rtt_ns == 0)
		return false;
	if (ack->rtt_ns < ack->min_rtt_ns + margin)
		cc->cubic.nb_late = 0;
	else
		cc->cubic.nb_late++;
	return cc->cubic.nb_late >= NB_LATE_MAX;
}

/* A window that the sender does not fill says nothing about the path: it must not grow. */
static void grow(struct og_udx_cc *cc, const struct og_udx_cc_ack *ack)
{
	if (cc->cubic.window < cc->cubic.ssthresh) {
		if (queue_builds_up(cc, ack))
			cc->cubic.ssthresh = cc->cubic.window;
		else if (ack->in_flight * 2 >= cc->cwnd)
			set_window(cc, cc->cubic.window + ack->nb_acked);
	} else if (ack->in_flight + 1 >= cc->cwnd) {
		avoid_congestion(cc, ack);
	} else {
		cc->cubic.epoch_ns = 0;
	}
}

static void cubic_on_ack(struct og_udx_cc *cc, const struct og_udx_cc_ack *ack)
{
	bool slow_start = cc->cubic.window < cc->cubic.ssthresh;
	double gain = slow_start ? slow_start_gain : avoidance_gain;

	if (!ack->in_recovery)
		grow(cc, ack);
	if (ack->srtt_ns > 0) {
		double rate =
			gain * cc->cubic.window * ack->packet_bytes * 1e9 / (double)ack->srtt_ns;

		cc->pacing_bytes_per_s = (uint64_t)fmax(rate, ack->packet_bytes);
	}
}

static void remember_maximum(struct og_udx_cc *cc)
{
	double window = cc->cubic.window;

	/* Fast convergence (RFC 9438, 4.7): a window below the last maximum leaves room. */
	cc->cubic.w_max = window < cc->cubic.w_max ? window * (1 + cubic_beta) / 2 : window;
	cc->cubic.ssthresh = fmax(window * cubic_beta, OG_UDX_CWND_MIN);
	cc->cubic.epoch_ns = 0;
}

static void cubic_on_loss(struct og_udx_cc *cc, uint64_t now_ns)
{
	(void)now_ns;
	remember_maximum(cc);
	set_window(cc, cc->cubic.ssthresh);
}

static void cubic_on_timeout(struct og_udx_cc *cc, uint64_t now_ns, uint32_t in_flight)
{
	(void)now_ns;
	/* Further time-outs of the same outage say nothing new about the path. */
	if (cc->cubic.window > OG_UDX_CWND_MIN)
		remember_maximum(cc);
	set_window(cc, (double)in_flight + 1);
}

const struct og_udx_cc_ops og_udx_cubic = {
	.name = "cubic",
	.init = cubic_init,
	.on_ack = cubic_on_ack,
	.on_loss = cubic_on_loss,
	.on_timeout = cubic_on_timeout,
};
