/*
 * udx_timer.h: the next deadline of each slot, in a binary heap.
 *
 * Deadlines mostly move later (every acknowledgement postpones a time-out), so the heap keeps the
 * earliest that was ever asked for: a slot may come up early, and its owner then asks again. So
 * postponing costs one comparison.
 *
 * Units:   ns.
 * Threads: one owner.
 * Memory:  allocated once by create.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

struct og_udx_timer {
	uint64_t when_ns;
	uint32_t slot;
};

struct og_udx_timers {
	struct og_udx_timer *heap;
	uint32_t *position; /* by slot: 1 + index in heap, 0 when not there */
	uint32_t nb;
};

int og_udx_timers_create(struct og_udx_timers *t, uint32_t nb_slots) OG_MUST_CHECK;
void og_udx_timers_destroy(struct og_udx_timers *t);

/* Have the slot come up at when_ns or before. OG_NEVER does nothing. */
void og_udx_timers_arm(struct og_udx_timers *t, uint32_t slot, uint64_t when_ns);
void og_udx_timers_cancel(struct og_udx_timers *t, uint32_t slot);
/* Takes out one slot that is due. */
bool og_udx_timers_pop(struct og_udx_timers *t, uint64_t now_ns, uint32_t *slot);

static inline uint64_t og_udx_timers_next(const struct og_udx_timers *t)
{
	return t->nb > 0 ? t->heap[0].when_ns : OG_NEVER;
}
