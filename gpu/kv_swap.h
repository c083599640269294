/*
 * kv_swap.h: host memory for the pages of sequences that had to give way: a fixed number of places.
 *
 * Threads: one engine thread.
 * Memory:  one mapping made at init; places cost memory once they are written.
 */
#pragma once
#include "base/def.h"

struct og_kv_swap {
	uint8_t *base;
	size_t page_bytes;
	uint32_t nb_places;
	uint32_t nb_free;
	uint32_t *free; /* a stack */
};

/* `nb_places` may be 0. Returns 0 or -ENOMEM. */
int og_kv_swap_init(struct og_kv_swap *w, uint64_t page_bytes, uint32_t nb_places) OG_MUST_CHECK;
void og_kv_swap_fini(struct og_kv_swap *w);

/* A place; the caller has seen that nb_free is not 0. */
uint32_t og_kv_swap_take(struct og_kv_swap *w);
void og_kv_swap_put(struct og_kv_swap *w, uint32_t place);

static inline void *og_kv_swap_at(const struct og_kv_swap *w, uint32_t place)
{
	return w->base + place * w->page_bytes;
}
