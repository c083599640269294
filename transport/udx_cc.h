/*
 * udx_cc.h: how much of a stream may be in flight and how fast it leaves. Pluggable.
 *
 * The sender reads `cwnd` and `pacing_bytes_per_s` before each packet; the algorithm changes them
 * when acknowledgements, losses and time-outs come in. cwnd is at least OG_UDX_CWND_MIN except
 * after losses, and the rate is never 0 (0 stands for "not paced yet").
 *
 * Source:  og_udx_bbr: draft-cardwell-iccrg-bbr-congestion-control-00 with the allowance for
 *          aggregated acknowledgements of Linux, and a milder probe of the round trip (half of what
 *          the path holds) as in draft-ietf-ccwg-bbr. Loss alone does not slow it down, so it fills
 *          paths that lose at random, and UDX peers of other makes use the same.
 *          og_udx_cubic: RFC 9438; leaves slow start on growing delay with the thresholds of
 *          RFC 9406; pacing gains as in Linux.
 * Units:   windows are packets, times ns.
 * Threads: values of one owner.
 */
#pragma once
#include "transport/udx_rate.h"

enum { OG_UDX_CWND_INITIAL = 10, OG_UDX_CWND_MIN = 2, OG_UDX_CWND_MAX = 4096 };

struct og_udx_cc;

/* What one acknowledgement told. */
struct og_udx_cc_ack {
	uint64_t now_ns;
	uint64_t srtt_ns; /* 0: no sample yet */
	uint64_t min_rtt_ns;
	uint64_t rtt_ns;    /* the sample of this acknowledgement; 0: none */
	uint32_t nb_acked;  /* newly, cumulatively or selectively */
	uint32_t nb_lost;   /* taken for lost since the acknowledgement before */
	uint32_t in_flight; /* before this acknowledgement */
	uint32_t in_flight_after;
	uint32_t nb_busy;      /* streams of all paths that wait for acknowledgements */
	uint32_t packet_bytes; /* of UDP payload, a mean of what is sent */
	bool in_recovery;      /* losses of this window are being repaired */
	bool after_timeout;    /* the same after a time-out */
	bool near;             /* the host is next to us: a round trip below a millisecond */
	bool after_idle;       /* what it acknowledges was sent when nothing was in flight */
	struct og_udx_rate_sample rate;
};

struct og_udx_cc_ops {
	const char *name;
	void (*init)(struct og_udx_cc *cc);
	void (*on_ack)(struct og_udx_cc *cc, const struct og_udx_cc_ack *ack);
	/* Once per window in which something was lost. */
	void (*on_loss)(struct og_udx_cc *cc, uint64_t now_ns);
	void (*on_timeout)(struct og_udx_cc *cc, uint64_t now_ns, uint32_t in_flight);
};

enum { OG_UDX_BBR_ROUNDS = 10 };

struct og_udx_bbr {
	uint8_t mode;
	uint8_t cycle_idx;
	uint8_t full_rounds; /* without growth */
	bool full;           /* the path is filled */
	bool near;
	double near_cwnd; /* at most, when the host is next to us */
	bool recovering;
	bool conserving;
	bool probe_rtt_round_done;
	uint32_t round;
	uint32_t round_end;           /* delivered when the round is over */
	uint32_t bw_round;            /* of the latest sample kept */
	double bw[OG_UDX_BBR_ROUNDS]; /* the best of each round, packets per second */
	double bw_max;
	double full_bw;
	double pacing_gain, cwnd_gain;
	uint64_t min_rtt_ns; /* 0: none yet */
	uint64_t min_rtt_at_ns;
	uint64_t probe_rtt_until_ns; /* 0: not yet drained */
	uint64_t cycle_at_ns;
	uint32_t cwnd_before; /* the loss or the probe */
	/* Acknowledgements that come in lumps: how many more than the rate says. */
	uint64_t lump_at_ns;
	uint32_t lump_acked;
	uint32_t extra[2]; /* the most, in this and the last span of rounds */
	uint32_t extra_round;
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
		struct og_udx_bbr bbr;
	};
};

extern const struct og_udx_cc_ops og_udx_cubic;
extern const struct og_udx_cc_ops og_udx_bbr;
