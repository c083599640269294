/*
 * load_core.h: the closed loop of load.h as a core, for ports that the kernel has no end of.
 *
 * Threads: as any core; the plan, the target and the result are the polling core's while a run is
 *          under way, and the main thread's otherwise: commands and events order the two.
 * Memory:  embedded.
 */
#pragma once
#include "base/core.h"
#include "bench/load.h"

enum load_command {
	LOAD_RUN = 1, /* arg = ns */
	LOAD_ASK,     /* data = one datagram */
};

enum load_event {
	LOAD_DONE = 1, /* the run has ended: see result */
	LOAD_ANSWER,   /* data = what came while no run was under way */
};

struct load_core {
	struct og_core core; /* first */
	struct og_core_env env;
	struct og_addr target;
	struct load_plan plan;
	struct load_result result;
	bool running;
	uint64_t start_ns, end_ns, heard_ns;
};

void load_core_init(struct load_core *l, const struct og_core_env *env, const struct og_addr *to);
