/*
 * path.h: a path between two network namespaces with a rate, a queue and a round trip, that loses,
 * repeats and reorders packets. One seed decides about the first, second, … packet of a direction,
 * whatever it carries: so TCP and ours meet the same path.
 *
 * Two TUN devices, one a side; addresses stay as they are, so what runs on top sees a plain
 * network. The kernel of small machines has no netem.
 *
 * Units:   percent, ms, Mbit/s of IP packets.
 * Threads: a process of its own.
 */
#pragma once
#include "base/def.h"

enum { PATH_TEXT_BYTES = 32, PATH_ARGS = 9 };

#define PATH_NEAR "10.77.0.1" /* where the forwarder starts */
#define PATH_FAR "10.77.0.2"

struct path_opts {
	double loss, duplicate, reorder; /* percent, each way; reordered ones come 1 to 8 ms late */
	uint32_t rtt_ms;
	uint32_t mbit_s;   /* 0: no limit */
	uint32_t queue_ms; /* what would wait longer is dropped */
	uint64_t seed;
};

/*
 * `path PID LOSS DUPLICATE REORDER RTT_MS MBIT_S QUEUE_MS SEED`: joins this namespace, which gets
 * PATH_NEAR, and that of PID, which gets PATH_FAR. Says "ready" when both are up and ends with its
 * standard input, telling on stderr what it did to the packets.
 */
int serve_path(int argc, char **argv);
