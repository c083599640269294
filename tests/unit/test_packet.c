/* Where the packets of a pool lie in memory. */
#include "dataplane/packet.h"

#include "dataplane/eal.h"

#include <criterion/criterion.h>

enum { PACKETS = 1023 };

struct extent {
	const uint8_t *first;
	const uint8_t *end;
	uint32_t across; /* a page */
	size_t bytes;    /* of each packet */
};

static void measure(struct rte_mempool *pool, void *arg, void *obj, unsigned idx)
{
	struct extent *e = arg;
	const uint8_t *start = (const uint8_t *)obj - pool->header_size;

	(void)idx;
	if (!e->first || start < e->first)
		e->first = start;
	if (start + e->bytes > e->end)
		e->end = start + e->bytes;
	e->across += (uintptr_t)start / 4096 != ((uintptr_t)start + e->bytes - 1) / 4096;
}

static struct extent extent_of(bool dma)
{
	const struct og_eal_opts eal = {.memory_mib = 64};
	struct rte_mempool *pool;
	struct extent e = {0};

	cr_assert_eq(og_eal_open(&eal), 0);
	cr_assert_eq(og_packet_pool_create(&pool, PACKETS, SOCKET_ID_ANY, dma), 0);
	cr_assert_eq(og_packet_pool_dma(pool), dma);
	e.bytes = rte_mempool_calc_obj_size(pool->elt_size, pool->flags, NULL);
	cr_assert_eq(rte_mempool_obj_iter(pool, measure, &e), PACKETS);
	rte_mempool_free(pool);
	return e;
}

/* The length that the driver of AF_XDP lends to the kernel. */
Test(packet, packets_lie_side_by_side)
{
	struct extent e = extent_of(false);

	cr_assert_eq((size_t)(e.end - e.first), PACKETS * e.bytes);
}

Test(packet, none_lies_across_two_pages_where_a_device_reads_them)
{
	cr_assert_eq(extent_of(true).across, 0);
}

Test(packet, a_packet_has_room_for_a_head_and_a_datagram)
{
	const struct og_eal_opts eal = {.memory_mib = 64};
	struct rte_mempool *pool;

	cr_assert_eq(og_eal_open(&eal), 0);
	for (int dma = 0; dma < 2; dma++) {
		struct rte_mbuf *m;

		cr_assert_eq(og_packet_pool_create(&pool, PACKETS, SOCKET_ID_ANY, dma), 0);
		m = rte_pktmbuf_alloc(pool);
		cr_assert_not_null(m);
		cr_assert_eq(rte_pktmbuf_tailroom(m), OG_PACKET_BYTES);
		cr_assert_eq(rte_pktmbuf_headroom(m), RTE_PKTMBUF_HEADROOM);
		cr_assert_eq(rte_pktmbuf_priv_size(pool),
			(uint16_t)((uint8_t *)m->buf_addr - (uint8_t *)(m + 1)));
		rte_pktmbuf_free(m);
		cr_assert_eq(rte_mempool_avail_count(pool), PACKETS);
		rte_mempool_free(pool);
	}
}
