#include "dataplane/handover.h"

#include "dataplane/port.h"
#include "dataplane/ring.h"

#include <errno.h>
#include <rte_mbuf.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct og_handover {
	/* Set at creation. Elements are struct rte_mbuf *. */
	struct rte_ring *there;
	struct rte_ring *back;
	uint32_t depth;
	/* Written by the core that received. */
	alignas(64) uint32_t away;
};

int og_handover_create(struct og_handover **out, uint32_t depth)
{
	struct og_handover *h = aligned_alloc(64, sizeof(*h));
	int ret;

	if (!h)
		return -ENOMEM;
	memset(h, 0, sizeof(*h));
	h->depth = depth;
	ret = og_ring_create(&h->there, sizeof(struct rte_mbuf *), depth);
	if (ret < 0)
		goto free_h;
	ret = og_ring_create(&h->back, sizeof(struct rte_mbuf *), depth);
	if (ret < 0)
		goto free_there;
	*out = h;
	return 0;

free_there:
	free(h->there);
free_h:
	free(h);
	return ret;
}

static uint16_t pop_from(struct rte_ring *ring, struct rte_mbuf **pkts, uint16_t n)
{
	return (uint16_t)rte_ring_sc_dequeue_burst_elem(ring, pkts, sizeof(*pkts), n, NULL);
}

void og_handover_destroy(struct og_handover *h)
{
	struct rte_mbuf *pkts[OG_BURST];
	uint16_t n;

	if (!h)
		return;
	while ((n = pop_from(h->there, pkts, OG_BURST)) > 0)
		rte_pktmbuf_free_bulk(pkts, n);
	og_handover_collect(h);
	free(h->back);
	free(h->there);
	free(h);
}

uint16_t og_handover_push(struct og_handover *h, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t room = (uint16_t)OG_MIN((uint32_t)n, h->depth - h->away);

	room = (uint16_t)rte_ring_sp_enqueue_burst_elem(h->there, pkts, sizeof(*pkts), room, NULL);
	h->away += room;
	return room;
}

void og_handover_collect(struct og_handover *h)
{
	struct rte_mbuf *pkts[OG_BURST];
	uint16_t n;

	while (h->away > 0 && (n = pop_from(h->back, pkts, OG_BURST)) > 0) {
		rte_pktmbuf_free_bulk(pkts, n);
		h->away -= OG_MIN(h->away, (uint32_t)n);
	}
}

uint16_t og_handover_pop(struct og_handover *h, struct rte_mbuf **pkts, uint16_t n)
{
	return pop_from(h->there, pkts, n);
}

void og_handover_give_back(struct og_handover *h, struct rte_mbuf **pkts, uint16_t n)
{
	rte_ring_sp_enqueue_burst_elem(h->back, pkts, sizeof(*pkts), n, NULL);
}

bool og_handover_empty(const struct og_handover *h)
{
	return og_ring_count(h->there) == 0;
}
