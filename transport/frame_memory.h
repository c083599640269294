/*
 * frame_memory.h: room for the frames that span packets, one place per stream.
 *
 * Each place is address space for the longest frame; pages come with the bytes that are written, are
 * counted against one budget for all, and go back when a long frame is done. What a frame of usual
 * size used stays with its stream until the budget is short.
 *
 * Units:   bytes, charged in steps of OG_FRAME_MEMORY_STEP.
 * Threads: one owner.
 * Memory:  mmap without reservation at create; with vm.overcommit_memory=2 that may be refused.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

enum {
	OG_FRAME_MEMORY_STEP = 16 * 1024,
	OG_FRAME_MEMORY_KEEP = 80 * 1024, /* a frame of 64 KiB fits */
};

struct og_frame_place {
	uint32_t charged;
	bool busy;
};

struct og_frame_memory {
	uint8_t *base;
	struct og_frame_place *places;
	size_t place_bytes;
	uint64_t budget;
	uint64_t used; /* may be read by metrics */
	uint32_t nb_places;
	uint32_t hand; /* where the search for idle pages goes on */
};

int og_frame_memory_create(struct og_frame_memory *m, uint32_t nb_places, size_t place_bytes,
	uint64_t budget) OG_MUST_CHECK;
void og_frame_memory_destroy(struct og_frame_memory *m);

static inline uint8_t *og_frame_memory_at(const struct og_frame_memory *m, uint32_t place)
{
	return m->base + (size_t)place * m->place_bytes;
}

/* Make the first `n` bytes of a place usable. Returns 0, or -ENOBUFS when the budget is spent. */
int og_frame_memory_grow(struct og_frame_memory *m, uint32_t place, size_t n) OG_MUST_CHECK;
/* The frame is done with. */
void og_frame_memory_done(struct og_frame_memory *m, uint32_t place);
/* The stream is gone: nothing stays. */
void og_frame_memory_release(struct og_frame_memory *m, uint32_t place);
