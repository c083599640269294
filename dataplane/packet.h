/*
 * packet.h: a UDP datagram in an mbuf: the mbuf's data is the payload, and beside it where the
 * datagram comes from or goes to.
 *
 * Units:   bytes.
 * Threads: packets are taken from a pool by one thread at a time: the one that opens, then its polling
 *          core. They may be freed by any thread with an lcore id.
 * Memory:  pools are sized at create.
 */
#pragma once
#include "base/core.h"
#include "dataplane/port.h"

#include <rte_mbuf.h>

struct og_packet {
	struct og_addr peer; /* source, or destination */
	uint16_t endpoint;
	uint8_t ttl; /* of what is sent, as in struct og_tx */
};

static inline struct og_packet *og_packet(struct rte_mbuf *m)
{
	return rte_mbuf_to_priv(m);
}

/*
 * In memory of that NUMA node if it has some; SOCKET_ID_ANY: wherever. Returns 0 or EAL's error. Free with
 * rte_mempool_free().
 *
 * With `dma` a device on a bus may read and write the packets: none lies across two pages. Without, they lie
 * side by side in one piece. The driver of AF_XDP needs that: xdp_umem_configure() lends the kernel as many
 * bytes as the packets have, not as they take up with gaps between them. A packet that lies beyond is never
 * sent nor given back, and the kernel ends each call to send when it meets one.
 */
int og_packet_pool_create(
	struct rte_mempool **out, uint32_t nb_packets, int node, bool dma) OG_MUST_CHECK;
bool og_packet_pool_dma(const struct rte_mempool *pool);
