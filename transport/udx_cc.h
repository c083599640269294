/*
 * udx_cc.h: how much of a stream may be in flight and how fast it leaves. Pluggable.
 *
 * The sender reads `cwnd` and `pacing_bytes_per_s` before each packet; the algorithm changes them
 * when acknowledgements, losses and time-outs come in. cwnd is at least OG_UDX_CWND_MIN except
 * after a time-out, and the rate is never 0 (0 stands for "not paced yet").
 *
 * Source:  og_udx_cubic: RFC 9438; leaves slow start on growing delay with the thresholds of
 *          RFC 9406; pacing gains as in Linux.
 * Units:   windows are packets, times ns.
 * Threads: values of one owner.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

enum { OG_UDX_CWND_INITIAL = 10, OG_UDX_CWND_MIN = 2, OG_UDX_CWND_MAX = 4096 };

struct og_udx_cc;

/* What one acknowledgement told. */
struct og_udx_cc_ack {
	uint64_t now_ns;
	uint64_t srtt_ns; /* 0: no sample yet */
	uint64_t min_rtt_ns;
	uint64_t rtt_ns;    /* the sample of this acknowledgement; 0: none */
	uint32_t nb_acked;  /* newly, cumulatively or selectively */
	uint32_t in_flight; /* before this acknowledgement */
	uint32_t packet_bytes;
	bool in_recovery; /* losses of this window are being repaired: do not grow */
};

struct og_udx_cc_ops {
	const char *name;
	void (*init)(struct og_udx_cc *cc);
	void (*on_ack)(struct og_udx_cc *cc, const struct og_udx_cc_ack *ack);
	/* Once per window in which something was lost. */
	void (*on_loss)(struct og_udx_cc *cc, uint64_t now_ns);
	void (*on_timeout)(struct og_udx_cc *cc, uint64_t now_ns, uint32_t in_flight);
};

struct og_udx_cc {
	const struct og_udx_cc_ops *ops;
	uint32_t cwnd;
	uint64_t pacing_bytes_per_s; /* 0: not paced */
	union {
		struct {
			double window; /* cwnd with its fraction */
			double ssthresh;
			double w_max;
			double w_est; /* what Reno would have */
			double k_s;
			uint64_t epoch_ns; /* 0: the next growth begins one */
			uint32_t nb_late;  /* samples in a row that show a queue, in slow start */
		} cubic;
	};
};

extern const struct og_udx_cc_ops og_udx_cubic;
