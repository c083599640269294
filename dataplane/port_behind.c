#include "dataplane/port_behind.h"

#include "dataplane/ring.h"

#include <errno.h>
#include <rte_mbuf.h>
#include <stdlib.h>

enum { DEPTH = 1024 };

struct behind_port {
	struct og_port port;
	const struct og_port *front;
	struct rte_ring *out; /* of struct rte_mbuf * */
};

static struct behind_port *behind_port(const struct og_port *port)
{
	return OG_CONTAINER_OF(port, struct behind_port, port);
}

static int start(struct og_port *port)
{
	(void)port;
	return 0;
}

static uint16_t rx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	(void)port;
	(void)pkts;
	(void)n;
	return 0;
}

static uint16_t tx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	return (uint16_t)rte_ring_sp_enqueue_burst_elem(
		behind_port(port)->out, pkts, sizeof(*pkts), n, NULL);
}

static void local_addr(const struct og_port *port, uint16_t endpoint, struct og_addr *out)
{
	const struct og_port *front = behind_port(port)->front;

	front->ops->local_addr(front, endpoint, out);
}

static uint32_t wait_fds(const struct og_port *port, int fds[OG_PORT_FDS_MAX])
{
	(void)port;
	(void)fds;
	return 0;
}

static void behind_close(struct og_port *port)
{
	struct rte_mbuf *pkts[OG_BURST];
	uint16_t n;

	while ((n = og_port_behind_pop(port, pkts, OG_BURST)) > 0)
		rte_pktmbuf_free_bulk(pkts, n);
	free(behind_port(port)->out);
	free(behind_port(port));
}

static const struct og_port_ops behind_ops = {
	.start = start,
	.rx_burst = rx_burst,
	.tx_burst = tx_burst,
	.local_addr = local_addr,
	.wait_fds = wait_fds,
	.close = behind_close,
};

int og_port_behind_open(struct og_port **out, struct rte_mempool *pool, const struct og_port *front)
{
	struct behind_port *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	p->port = (struct og_port){.ops = &behind_ops,
		.name = front->name,
		.pool = pool,
		.nb_endpoints = front->nb_endpoints,
		.behind = true};
	p->front = front;
	ret = og_ring_create(&p->out, sizeof(struct rte_mbuf *), DEPTH);
	if (ret < 0) {
		free(p);
		return ret;
	}
	*out = &p->port;
	return 0;
}

uint16_t og_port_behind_pop(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	return (uint16_t)rte_ring_sc_dequeue_burst_elem(
		behind_port(port)->out, pkts, sizeof(*pkts), n, NULL);
}

bool og_port_behind_empty(const struct og_port *port)
{
	return og_ring_count(behind_port(port)->out) == 0;
}
