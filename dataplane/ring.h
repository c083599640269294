/*
 * ring.h: an rte_ring of elements of one size in memory of its own, without a global name: one
 * producer, one consumer, used through rte_ring_{sp_enqueue,sc_dequeue}_elem() and their bursts.
 *
 * Source:  DPDK rte_ring_elem.
 * Threads: one producer, one consumer.
 * Memory:  one block, allocated at create.
 */
#pragma once
#include "base/def.h"

#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <stdbool.h>

/*
 * A ring that holds exactly `depth` elements of `elem_bytes` (a multiple of 4). Returns 0, -EINVAL
 * or -ENOMEM. Free with free().
 */
int og_ring_create(struct rte_ring **out, uint32_t elem_bytes, uint32_t depth) OG_MUST_CHECK;

/*
 * Elements in the ring: exact for its only consumer (0 means empty) and, as free room, for its only
 * producer. As rte_ring_count(), with atomic loads.
 */
static inline uint32_t og_ring_count(const struct rte_ring *r)
{
	/* Acquire: pairs with the release of the tails in enqueue and dequeue. */
	uint32_t prod = __atomic_load_n(&r->prod.tail, __ATOMIC_ACQUIRE);
	uint32_t cons = __atomic_load_n(&r->cons.tail, __ATOMIC_ACQUIRE);
	uint32_t count = (prod - cons) & r->mask;

	return OG_MIN(count, r->capacity);
}

static inline bool og_ring_full(const struct rte_ring *r)
{
	return og_ring_count(r) == r->capacity;
}
