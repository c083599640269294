/*
 * handover.h: packets that arrived on one polling core and belong to another: a ring of them there,
 * and a ring back, so that a packet is freed by the core whose pool it comes from.
 *
 * Source:  DPDK rte_ring, one producer and one consumer each way.
 * Units:   packets.
 * Threads: push() and collect() belong to the core that received, pop() and give_back() to the other.
 * Memory:  the rings at create. At most `depth` packets are away, so give_back() always finds room.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

struct rte_mbuf;
struct og_handover;

int og_handover_create(struct og_handover **out, uint32_t depth) OG_MUST_CHECK;
/* When neither core runs; what is still in the rings is freed. */
void og_handover_destroy(struct og_handover *h);

/* Hands over the first packets of `pkts`, as many as it returns: full is a refusal, not a wait. */
uint16_t og_handover_push(struct og_handover *h, struct rte_mbuf **pkts, uint16_t n);
/* Frees what has come back. */
void og_handover_collect(struct og_handover *h);

uint16_t og_handover_pop(struct og_handover *h, struct rte_mbuf **pkts, uint16_t n);
/* Every packet popped, once. */
void og_handover_give_back(struct og_handover *h, struct rte_mbuf **pkts, uint16_t n);
/* Nothing to pop: exact for the core that pops. */
bool og_handover_empty(const struct og_handover *h);
