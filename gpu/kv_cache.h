/*
 * kv_cache.h: keys and values of past tokens, in fp16: one slot per running sequence.
 *
 * For each slot, layer and key-value head the keys of all positions lie one after the other, then
 * the values, so that attention of one head reads memory in order.
 *
 * Threads: one engine thread; rows of a slot may be filled from several threads at once.
 * Memory:  one mapping made at init; pages cost memory once they are written.
 */
#pragma once
#include "gpu/model.h"

struct og_kv_cache {
	uint16_t *base;
	size_t map_bytes;
	size_t head_values; /* of one head's keys: context * head_dim */
	size_t layer_values;
	size_t slot_values;
	uint32_t head_dim;
};

/* Bytes that one slot of `context` positions takes; UINT64_MAX where that overflows. */
uint64_t og_kv_slot_bytes(const struct og_hparams *hp, uint32_t context);
int og_kv_cache_init(struct og_kv_cache *kv, const struct og_hparams *hp, uint32_t context,
	uint32_t nb_slots) OG_MUST_CHECK;
void og_kv_cache_fini(struct og_kv_cache *kv);

static inline uint16_t *og_kv_keys(
	const struct og_kv_cache *kv, uint32_t slot, uint32_t layer, uint32_t head)
{
	return kv->base + slot * kv->slot_values + layer * kv->layer_values +
	       2 * head * kv->head_values;
}

static inline uint16_t *og_kv_values(
	const struct og_kv_cache *kv, uint32_t slot, uint32_t layer, uint32_t head)
{
	return og_kv_keys(kv, slot, layer, head) + kv->head_values;
}
