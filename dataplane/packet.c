#include "dataplane/packet.h"

#include <errno.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf_pool_ops.h>
#include <stdio.h>

enum { CACHE = 256, DATA_ROOM = RTE_PKTMBUF_HEADROOM + OG_PACKET_BYTES };
enum { PRIV = RTE_ALIGN_CEIL(sizeof(struct og_packet), RTE_MBUF_PRIV_ALIGN) };

/* What rte_pktmbuf_pool_create() does, with flags. */
static struct rte_mempool *create_in_one_piece(const char *name, uint32_t nb_packets, int node)
{
	struct rte_pktmbuf_pool_private settings = {
		.mbuf_data_room_size = DATA_ROOM, .mbuf_priv_size = PRIV};
	struct rte_mempool *pool = rte_mempool_create_empty(name, nb_packets,
		sizeof(struct rte_mbuf) + PRIV + DATA_ROOM, CACHE, sizeof(settings), node,
		RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	int ret;

	if (!pool)
		return NULL;
	ret = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (ret == 0) {
		rte_pktmbuf_pool_init(pool, &settings);
		ret = rte_mempool_populate_default(pool);
	}
	if (ret < 0 || pool->nb_mem_chunks != 1) {
		rte_mempool_free(pool);
		rte_errno = ret < 0 ? -ret : ENOMEM;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}

static struct rte_mempool *create(uint32_t nb_packets, int node, bool dma)
{
	static unsigned nb_pools;
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "og_packets_%u",
		__atomic_fetch_add(&nb_pools, 1, __ATOMIC_RELAXED));
	if (!dma)
		return create_in_one_piece(name, nb_packets, node);
	return rte_pktmbuf_pool_create(name, nb_packets, CACHE, PRIV, DATA_ROOM, node);
}

int og_packet_pool_create(struct rte_mempool **out, uint32_t nb_packets, int node, bool dma)
{
	struct rte_mempool *pool = create(nb_packets, node, dma);

	if (!pool && node != SOCKET_ID_ANY)
		pool = create(nb_packets, SOCKET_ID_ANY, dma);
	if (!pool)
		return rte_errno > 0 ? -rte_errno : -ENOMEM;
	*out = pool;
	return 0;
}

bool og_packet_pool_dma(const struct rte_mempool *pool)
{
	return !(pool->flags & RTE_MEMPOOL_F_NO_IOVA_CONTIG);
}
