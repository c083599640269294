/*
 * udx_rate.h: how fast the path delivers, one sample an acknowledgement.
 *
 * Each packet carries what was delivered when it left. When it is acknowledged, what was delivered
 * since, over the longer of the time it took to send and to acknowledge that, is the rate.
 *
 * Source:  draft-cheng-iccrg-delivery-rate-estimation-02.
 * Units:   packets, ns.
 * Threads: values of one owner.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

/* In each packet: the state of the connection when it was last sent. */
struct og_udx_rate_mark {
	uint64_t first_sent_ns; /* of the flight it belongs to */
	uint64_t delivered_ns;
	uint32_t delivered;
	bool app_limited;
};

/* What one acknowledgement says. */
struct og_udx_rate_sample {
	uint64_t interval_ns;     /* 0: nothing */
	uint32_t nb_delivered;    /* in that time */
	uint32_t prior_delivered; /* in all, when the last packet it acknowledges was sent */
	uint32_t delivered;       /* in all */
	bool app_limited;         /* there was not enough to send: the path may do better */
};

struct og_udx_rate {
	uint64_t first_sent_ns;
	uint64_t delivered_ns;
	uint32_t delivered;
	uint32_t app_limited_until; /* `delivered`; 0: not limited by the application */
	bool after_idle;
	/* The newest packet of the acknowledgement that is being read. */
	struct og_udx_rate_mark newest;
	uint64_t newest_sent_ns;
};

void og_udx_rate_sent(
	struct og_udx_rate *r, struct og_udx_rate_mark *mark, uint32_t in_flight, uint64_t now_ns);
void og_udx_rate_acked(struct og_udx_rate *r, const struct og_udx_rate_mark *mark, uint64_t sent_ns,
	uint64_t now_ns);
/* After all packets of an acknowledgement. */
void og_udx_rate_sample(struct og_udx_rate *r, uint64_t min_rtt_ns, struct og_udx_rate_sample *out);
/* There is nothing to send although more might be in flight. */
static inline void og_udx_rate_app_limited(struct og_udx_rate *r, uint32_t in_flight)
{
	r->app_limited_until = OG_MAX(r->delivered + in_flight, 1u);
}
