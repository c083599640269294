#include "bench/handover_bench.h"

#include "dataplane/eal.h"
#include "dataplane/handover.h"
#include "dataplane/packet.h"

#include <errno.h>
#include <rte_mbuf.h>
#include <stdlib.h>
#include <string.h>

enum { PACKETS_MORE = 2047, MEMORY_MIB = 64 };

struct handover_bench {
	struct rte_mempool *pool;
	struct og_handover *handover;
};

int handover_bench_open(struct handover_bench **out, uint32_t depth)
{
	const struct og_eal_opts eal = {.memory_mib = MEMORY_MIB};
	struct handover_bench *h = calloc(1, sizeof(*h));
	int ret;

	if (!h)
		return -ENOMEM;
	ret = og_eal_open(&eal);
	if (ret == 0)
		ret = og_packet_pool_create(&h->pool, depth + PACKETS_MORE, SOCKET_ID_ANY, false);
	if (ret == 0)
		ret = og_handover_create(&h->handover, depth);
	if (ret < 0) {
		handover_bench_close(h);
		return ret;
	}
	*out = h;
	return 0;
}

void handover_bench_close(struct handover_bench *h)
{
	if (!h)
		return;
	og_handover_destroy(h->handover);
	rte_mempool_free(h->pool);
	free(h);
}

uint32_t handover_bench_push(struct handover_bench *h, uint64_t first)
{
	struct rte_mbuf *pkts[HANDOVER_BURST];
	uint16_t taken;

	og_handover_collect(h->handover);
	if (rte_pktmbuf_alloc_bulk(h->pool, pkts, HANDOVER_BURST) != 0)
		return 0;
	for (uint32_t i = 0; i < HANDOVER_BURST; i++, first++)
		memcpy(rte_pktmbuf_mtod(pkts[i], void *), &first, sizeof(first));
	taken = og_handover_push(h->handover, pkts, HANDOVER_BURST);
	rte_pktmbuf_free_bulk(pkts + taken, (unsigned)(HANDOVER_BURST - taken));
	return taken;
}

uint32_t handover_bench_take(struct handover_bench *h, uint64_t *sum)
{
	struct rte_mbuf *pkts[HANDOVER_BURST];
	uint16_t n = og_handover_pop(h->handover, pkts, HANDOVER_BURST);

	for (uint16_t i = 0; i < n; i++) {
		uint64_t number;

		memcpy(&number, rte_pktmbuf_mtod(pkts[i], void *), sizeof(number));
		*sum += number;
	}
	og_handover_give_back(h->handover, pkts, n);
	return n;
}
