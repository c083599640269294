#include "dataplane/packet.h"

#include <rte_errno.h>
#include <rte_lcore.h>
#include <stdio.h>

enum { CACHE = 256 };

static struct rte_mempool *create(uint32_t nb_packets, int node)
{
	static unsigned nb_pools;
	char name[RTE_MEMPOOL_NAMESIZE];

	snprintf(name, sizeof(name), "og_packets_%u",
		__atomic_fetch_add(&nb_pools, 1, __ATOMIC_RELAXED));
	return rte_pktmbuf_pool_create(name, nb_packets, CACHE,
		RTE_ALIGN_CEIL(sizeof(struct og_packet), RTE_MBUF_PRIV_ALIGN),
		RTE_PKTMBUF_HEADROOM + OG_PACKET_BYTES, node);
}

int og_packet_pool_create(struct rte_mempool **out, uint32_t nb_packets, int node)
{
	struct rte_mempool *pool = create(nb_packets, node);

	if (!pool && node != SOCKET_ID_ANY)
		pool = create(nb_packets, SOCKET_ID_ANY);
	if (!pool)
		return rte_errno > 0 ? -rte_errno : -ENOMEM;
	*out = pool;
	return 0;
}
