/*
 * bounce.h: a round trip between two CPUs with nothing in it: a number in one cache line goes to the
 * other thread and back, and each spins for half of a given time before it passes it on. What takes
 * longer than that was taken by the machine: its interrupts, and the host's if it is virtual.
 *
 * Threads: the caller's, which should be pinned, and one that it makes.
 */
#pragma once
#include "base/def.h"

/* Round trips in ns, in the order they were made. 0 or a negative errno. */
int bounce(int other_cpu, uint64_t spin_ns, uint32_t *ns, uint32_t nb) OG_MUST_CHECK;
