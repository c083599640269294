/*
 * probes.h: what honest clients of a node see: PING, FIND_NODE and LOOKUP in turn, lost when not
 * answered within a second.
 *
 * Units:   ns of any clock, the same for all calls.
 * Threads: one owner.
 * Memory:  embedded.
 */
#pragma once
#include "base/rand.h"
#include "bench/load.h"

enum { PROBES_PER_S = 60, PROBES_MAX = 4096 };

struct probes {
	struct og_addr to;
	struct og_rand rand;
	uint16_t nb;
	uint64_t sent_ns[PROBES_MAX];
	uint64_t took_ns[PROBES_MAX]; /* 0: no answer yet */
};

struct probes_seen {
	double lost_percent, p50_us, p99_us;
};

void probes_init(struct probes *p, const struct og_addr *to);
/* The next request; returns its bytes, 0 when there are enough. It counts as sent at `now_ns`. */
uint16_t probes_next(struct probes *p, uint8_t out[LOAD_REQUEST_BYTES], uint64_t now_ns);
/* An answer that arrived at `came_ns`. */
void probes_answer(struct probes *p, const uint8_t *data, size_t len_bytes, uint64_t came_ns);
struct probes_seen probes_result(const struct probes *p);
