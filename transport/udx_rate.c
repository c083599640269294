#include "transport/udx_rate.h"

void og_udx_rate_sent(
	struct og_udx_rate *r, struct og_udx_rate_mark *mark, uint32_t in_flight, uint64_t now_ns)
{
	if (in_flight == 0) {
		r->first_sent_ns = r->delivered_ns = now_ns;
		r->after_idle = true;
	}
	*mark = (struct og_udx_rate_mark){
		.first_sent_ns = r->first_sent_ns,
		.delivered_ns = r->delivered_ns,
		.delivered = r->delivered,
		.app_limited = r->app_limited_until != 0,
	};
}

void og_udx_rate_acked(struct og_udx_rate *r, const struct og_udx_rate_mark *mark, uint64_t sent_ns,
	uint64_t now_ns)
{
	r->delivered++;
	r->delivered_ns = now_ns;
	if (sent_ns < r->newest_sent_ns)
		return;
	r->newest = *mark;
	r->newest_sent_ns = sent_ns;
}

void og_udx_rate_sample(struct og_udx_rate *r, uint64_t min_rtt_ns, struct og_udx_rate_sample *out)
{
	uint64_t send_ns = r->newest_sent_ns - r->newest.first_sent_ns;
	uint64_t ack_ns = r->delivered_ns - r->newest.delivered_ns;
	uint64_t interval_ns = OG_MAX(send_ns, ack_ns);

	if (r->app_limited_until != 0 && (int32_t)(r->delivered - r->app_limited_until) > 0)
		r->app_limited_until = 0;
	*out = (struct og_udx_rate_sample){
		.nb_delivered = r->delivered - r->newest.delivered,
		.prior_delivered = r->newest.delivered,
		.delivered = r->delivered,
		.app_limited = r->newest.app_limited,
	};
	/* Shorter than any round trip: a repetition whose first transmission was answered. */
	if (interval_ns > 0 && interval_ns >= min_rtt_ns)
		out->interval_ns = interval_ns;
	/* The next flight is measured from here. */
	r->first_sent_ns = r->newest_sent_ns;
	r->newest_sent_ns = 0;
	r->after_idle = false;
}
