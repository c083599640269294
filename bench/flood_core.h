/*
 * flood_core.h: a flood at a given rate from one port of a data plane, and honest probes from
 * another, on one polling core: both ends poll, so what is measured is the node and the link.
 *
 * Threads: as any core; the result is the polling core's while a run is under way, and the main
 *          thread's otherwise: commands and events order the two.
 * Memory:  embedded.
 */
#pragma once
#include "base/core.h"
#include "bench/flood_make.h"
#include "bench/probes.h"

enum { FLOOD_BURST = 32 };

enum flood_command { FLOOD_RUN = 1 /* slot = kind, arg = ns, gen = a second, 0: no limit */ };
enum flood_event { FLOOD_DONE = 1 };
enum flood_phase { FLOOD_IDLE, FLOOD_TOKEN, FLOOD_ON, FLOOD_LATE, FLOOD_RECOVERY };

struct flood_core {
	struct og_core core; /* first */
	struct og_core_env env;
	struct flood_maker maker;
	enum flood_phase phase;
	uint64_t run_ns, rate_per_s;
	uint64_t start_ns, end_ns, asked_ns, probed_ns;
	int calm;
	uint64_t sent, missed, answers, recovery_ns;
	struct probes probes;     /* of the run */
	struct probes afterwards; /* one at a time, until the node is as before */
	uint16_t len_bytes[FLOOD_BURST];
	uint8_t data[FLOOD_BURST][FLOOD_BYTES];
};

void flood_core_init(struct flood_core *f, const struct og_core_env *env);
