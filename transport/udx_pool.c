#include "transport/udx_pool.h"

#include <errno.h>
#include <stdlib.h>

int og_udx_pool_create(struct og_udx_pool *pool, uint32_t nb_packets)
{
	*pool = (struct og_udx_pool){.nb_packets = nb_packets, .nb_free = nb_packets};
	if (nb_packets == 0 || nb_packets > INT32_MAX / OG_UDX_BUFFER_BYTES)
		return -EINVAL;
	pool->packets = calloc(nb_packets, sizeof(*pool->packets));
	pool->free_idx = calloc(nb_packets, sizeof(*pool->free_idx));
	pool->buffers = aligned_alloc(64, (size_t)nb_packets * OG_UDX_BUFFER_BYTES);
	if (!pool->packets || !pool->free_idx || !pool->buffers) {
		og_udx_pool_destroy(pool);
		return -ENOMEM;
	}
	/* Low indices on top: what is used stays dense. */
	for (uint32_t i = 0; i < nb_packets; i++)
		pool->free_idx[i] = (int32_t)(nb_packets - 1 - i);
	return 0;
}

void og_udx_pool_destroy(struct og_udx_pool *pool)
{
	free(pool->packets);
	free(pool->free_idx);
	free(pool->buffers);
	*pool = (struct og_udx_pool){0};
}
