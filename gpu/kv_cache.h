/*
 * kv_cache.h: keys and values of past tokens on the CPU, in fp16, by pages of 64 positions.
 *
 * Which page holds which positions of a sequence is the batch's business (backend.h). Within a page,
 * for each layer and key-value head, the keys of its positions lie one after the other, then the
 * values, so that attention of one head reads runs of memory.
 *
 * Threads: one engine thread; rows of a page may be filled from several threads at once.
 * Memory:  one mapping made at init; pages cost memory once they are written.
 */
#pragma once
#include "gpu/backend.h"

struct og_kv_cache {
	uint16_t *base;
	size_t map_bytes;
	size_t head_values; /* of one head's keys: OG_KV_PAGE_TOKENS * head_dim */
	size_t layer_values;
	size_t page_values;
};

int og_kv_cache_init(
	struct og_kv_cache *kv, const struct og_hparams *hp, uint32_t nb_pages) OG_MUST_CHECK;
void og_kv_cache_fini(struct og_kv_cache *kv);

static inline uint16_t *og_kv_keys(
	const struct og_kv_cache *kv, uint32_t page, uint32_t layer, uint32_t head)
{
	return kv->base + page * kv->page_values + layer * kv->layer_values +
	       2 * head * kv->head_values;
}

static inline uint16_t *og_kv_values(
	const struct og_kv_cache *kv, uint32_t page, uint32_t layer, uint32_t head)
{
	return og_kv_keys(kv, page, layer, head) + kv->head_values;
}
