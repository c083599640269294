/*
 * udx_pool.h: the packet buffers of one polling core, shared fairly by its streams.
 *
 * A buffer holds the payload of one packet: built and not yet acknowledged, or received and not
 * yet delivered. A stream may take another buffer while it holds fewer than are free, so a single
 * stream gets at most half, n greedy ones 1/(n+1) each, and there is always a share for the next.
 *
 * Source:  dynamic thresholds as in shared-memory switches (Choudhury and Hahne, 1998), alpha 1.
 * Threads: one owner.
 * Memory:  allocated once by create.
 */
#pragma once
#include "transport/udx_rate.h"

enum {
	OG_UDX_BUFFER_BYTES = 1536,
	OG_UDX_SHARE_MIN = 16, /* buffers a stream may hold however few are free */
	OG_UDX_NIL = -1,
};

/* What is known of the packet in a buffer. Lists are by index, OG_UDX_NIL ends them. */
struct og_udx_packet {
	uint64_t sent_ns; /* last transmission */
	uint32_t seq;
	int32_t newer; /* list of outstanding packets in the order they were sent */
	int32_t older;
	uint16_t offset; /* payload starts here: what was before is consumed */
	uint16_t len_bytes;
	uint8_t flags; /* OG_UDX_DATA, OG_UDX_END */
	uint8_t nb_tx; /* transmissions, saturating */
	bool listed;   /* is in the list above */
	bool probe;    /* its last transmission was a path-size probe */
	struct og_udx_rate_mark rate;
};

struct og_udx_pool {
	struct og_udx_packet *packets;
	uint8_t *buffers;
	int32_t *free_idx; /* a stack */
	uint32_t nb_free;
	uint32_t nb_packets;
};

int og_udx_pool_create(struct og_udx_pool *pool, uint32_t nb_packets) OG_MUST_CHECK;
void og_udx_pool_destroy(struct og_udx_pool *pool);

/* How many buffers a stream that holds `held` may take now. */
static inline uint32_t og_udx_pool_room(const struct og_udx_pool *pool, uint32_t held)
{
	uint32_t share = OG_MAX(pool->nb_free, (uint32_t)OG_UDX_SHARE_MIN);

	return held < share ? OG_MIN(share - held, pool->nb_free) : 0;
}

/* A buffer with cleared description, or OG_UDX_NIL when none is free. */
static inline int32_t og_udx_pool_take(struct og_udx_pool *pool)
{
	int32_t idx;

	if (pool->nb_free == 0)
		return OG_UDX_NIL;
	idx = pool->free_idx[--pool->nb_free];
	pool->packets[idx] = (struct og_udx_packet){.newer = OG_UDX_NIL, .older = OG_UDX_NIL};
	return idx;
}

static inline void og_udx_pool_put(struct og_udx_pool *pool, int32_t idx)
{
	pool->free_idx[pool->nb_free++] = idx;
}

static inline uint8_t *og_udx_pool_data(const struct og_udx_pool *pool, int32_t idx)
{
	return pool->buffers + (size_t)idx * OG_UDX_BUFFER_BYTES;
}
