/*
 * handover_bench.h: packets that go from one thread to another and back, as two polling cores hand them
 * over, for suite_ring.c. Apart from it, because it sees DPDK's packets.
 *
 * Threads: push() from one thread, take() from another or the same; open and close when neither runs.
 * Memory:  a pool of packets at open, with EAL's memory.
 */
#pragma once
#include "base/def.h"

struct handover_bench;

enum { HANDOVER_BURST = 32 };

int handover_bench_open(struct handover_bench **out, uint32_t depth) OG_MUST_CHECK;
void handover_bench_close(struct handover_bench *h);
/* Takes a burst of packets from the pool, numbers them, hands them over; returns how many went. */
uint32_t handover_bench_push(struct handover_bench *h, uint64_t first);
/* Reads the numbers of what has come, at most a burst, and gives it back; returns how many. */
uint32_t handover_bench_take(struct handover_bench *h, uint64_t *sum);
