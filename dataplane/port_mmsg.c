/*
 * port_mmsg.c: the sockets of a port through recvmmsg(2) and sendmmsg(2).
 */
#include "dataplane/port_socket_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mmsg_port {
	struct og_port_socket s; /* first */
	uint16_t turn;           /* endpoint that is read first */
	/* rx[i] always receives into rx_mbufs[i]. */
	struct rte_mbuf *rx_mbufs[OG_BURST];
	struct mmsghdr rx[OG_BURST];
	struct iovec rx_iov[OG_BURST];
	struct sockaddr_in rx_src[OG_BURST];
	struct mmsghdr tx[OG_BURST];
	struct og_send tx_send[OG_BURST];
};

static struct mmsg_port *mmsg_port(struct og_port *port)
{
	return OG_CONTAINER_OF(port, struct mmsg_port, s.port);
}

static int start(struct og_port *port)
{
	(void)port;
	return 0;
}

static void set_rx_mbuf(struct mmsg_port *p, uint16_t i, struct rte_mbuf *m)
{
	p->rx_mbufs[i] = m;
	p->rx_iov[i] = (struct iovec){rte_pktmbuf_mtod(m, void *), OG_PACKET_BYTES};
}

/* Hand out the datagram of slot `i` and refill the slot, or drop it and keep its mbuf. */
static struct rte_mbuf *take_rx(struct mmsg_port *p, uint16_t i, uint16_t endpoint)
{
	struct rte_mbuf *m = p->rx_mbufs[i], *fresh;
	struct mmsghdr *h = &p->rx[i];

	if (h->msg_hdr.msg_flags & MSG_TRUNC) {
		og_port_drop(&p->s.port, OG_DROP_RX_TOO_LONG);
		return NULL;
	}
	fresh = rte_pktmbuf_alloc(p->s.port.pool);
	if (!fresh) {
		og_port_drop(&p->s.port, OG_DROP_RX_NO_MBUF);
		return NULL;
	}
	set_rx_mbuf(p, i, fresh);
	m->data_len = (uint16_t)h->msg_len;
	m->pkt_len = h->msg_len;
	*og_packet(m) = (struct og_packet){og_addr_from_sockaddr(&p->rx_src[i]), endpoint, 0};
	return m;
}

static uint16_t rx_endpoint(
	struct mmsg_port *p, uint16_t endpoint, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t taken = 0;
	int got;

	for (uint16_t i = 0; i < n; i++)
		p->rx[i].msg_hdr = (struct msghdr){
			.msg_name = &p->rx_src[i],
			.msg_namelen = sizeof(p->rx_src[i]),
			.msg_iov = &p->rx_iov[i],
			.msg_iovlen = 1,
		};
	got = recvmmsg(p->s.fds[endpoint], p->rx, n, MSG_DONTWAIT, NULL);
	if (got < 0 && errno != EAGAIN && errno != EINTR)
		og_port_drop(&p->s.port, OG_DROP_RX_ERROR);
	for (int i = 0; i < got; i++) {
		struct rte_mbuf *m = take_rx(p, (uint16_t)i, endpoint);

		if (m)
			pkts[taken++] = m;
	}
	return taken;
}

static uint16_t rx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	struct mmsg_port *p = mmsg_port(port);
	uint16_t got = 0;

	n = OG_MIN(n, (uint16_t)OG_BURST);
	for (uint16_t i = 0; i < port->nb_endpoints && got < n; i++) {
		uint16_t endpoint = (uint16_t)((p->turn + i) % port->nb_endpoints);

		got = (uint16_t)(got + rx_endpoint(p, endpoint, pkts + got, (uint16_t)(n - got)));
	}
	p->turn = (uint16_t)((p->turn + 1) % port->nb_endpoints);
	return og_port_socket_watch(&p->s, pkts, got);
}

static bool same_run(struct rte_mbuf *a, struct rte_mbuf *b)
{
	return og_packet(a)->endpoint == og_packet(b)->endpoint && !og_send_may_fragment(a);
}

/* Send some of `pkts`, all of one endpoint; returns how many are done with, 0 when it is full. */
static uint16_t tx_run(struct mmsg_port *p, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t size[OG_BURST], nb_sends = 0, taken = 0, done = 0;
	int sent;

	while (taken < n && nb_sends < OG_BURST && same_run(pkts[taken], pkts[0])) {
		size[nb_sends] = og_send_group(&p->s, pkts + taken, (uint16_t)(n - taken));
		og_send_prepare(&p->tx_send[nb_sends], pkts + taken, size[nb_sends]);
		p->tx[nb_sends].msg_hdr = p->tx_send[nb_sends].msg;
		taken = (uint16_t)(taken + size[nb_sends++]);
	}
	sent = sendmmsg(p->s.fds[og_packet(pkts[0])->endpoint], p->tx, nb_sends, MSG_DONTWAIT);
	if (sent < 0) {
		if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)
			return 0;
		og_send_failed(&p->s, errno, size[0]); /* the first; the others get their try */
		sent = 1;
	}
	for (int i = 0; i < sent; i++)
		done = (uint16_t)(done + size[i]);
	rte_pktmbuf_free_bulk(pkts, done);
	return done;
}

static uint16_t tx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	struct mmsg_port *p = mmsg_port(port);
	uint16_t done = 0, sent;

	while (done < n) {
		if (og_send_may_fragment(pkts[done])) {
			og_send_fragmentable(&p->s, pkts[done++]);
			continue;
		}
		sent = tx_run(p, pkts + done, (uint16_t)(n - done));
		if (sent == 0)
			break;
		done = (uint16_t)(done + sent);
	}
	return done;
}

static uint32_t wait_fds(const struct og_port *port, int fds[OG_PORT_FDS_MAX])
{
	const struct og_port_socket *s = OG_CONTAINER_OF(port, struct og_port_socket, port);

	for (uint16_t i = 0; i < port->nb_endpoints; i++)
		fds[i] = s->fds[i];
	return port->nb_endpoints;
}

static void close_port(struct og_port *port)
{
	struct mmsg_port *p = mmsg_port(port);

	og_port_socket_close_fds(&p->s);
	rte_pktmbuf_free_bulk(p->rx_mbufs, OG_BURST);
	free(p);
}

static const struct og_port_ops mmsg_ops = {
	.start = start,
	.rx_burst = rx_burst,
	.tx_burst = tx_burst,
	.local_addr = og_port_socket_local_addr,
	.wait_fds = wait_fds,
	.close = close_port,
};

int og_port_mmsg_open(
	struct og_port **out, struct rte_mempool *pool, const int *fds, uint16_t nb_endpoints)
{
	struct rte_mbuf *mbufs[OG_BURST];
	struct mmsg_port *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	if (rte_pktmbuf_alloc_bulk(pool, mbufs, OG_BURST) != 0) {
		free(p);
		return -ENOBUFS;
	}
	p->s.port = (struct og_port){
		.ops = &mmsg_ops, .name = "recvmmsg", .pool = pool, .nb_endpoints = nb_endpoints};
	memcpy(p->s.fds, fds, nb_endpoints * sizeof(*fds));
	for (uint16_t i = 0; i < OG_BURST; i++)
		set_rx_mbuf(p, i, mbufs[i]);
	*out = &p->s.port;
	return 0;
}
