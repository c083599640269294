/*
 * port_uring.c: the sockets of a port through io_uring.
 *
 * Two rings, so that a queue of received datagrams never hides that sends are done. The kernel
 * receives into mbufs, offered through a provided buffer ring: each is lent such that the payload
 * lands where an mbuf's data begins, the head that multishot recvmsg puts before it in the headroom.
 */
#include "dataplane/port_socket_priv.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Few buffers, for they are used in turn and should stay in the cache; the socket holds the rest. */
enum { RX_BUFFERS = 128, RX_SQ = 8, RX_CQ = 512, RX_CQES = 64, TX_SLOTS = 256, BUFFER_GROUP = 0 };

/* What multishot recvmsg writes before the payload. */
enum { RX_HEAD_BYTES = sizeof(struct io_uring_recvmsg_out) + sizeof(struct sockaddr_in) };
static_assert((int)RX_HEAD_BYTES <= RTE_PKTMBUF_HEADROOM, "the head fits into the headroom");
static_assert((RX_BUFFERS & (RX_BUFFERS - 1)) == 0, "the buffer ring is a power of two");
static_assert((int)RX_BUFFERS + (int)TX_SLOTS + 2 * (int)OG_BURST <= (int)OG_PORT_SOCKET_PACKETS,
	"the pool has room for all that the kernel holds");

struct tx_slot {
	struct og_send send;
	uint16_t nb_mbufs;
	struct rte_mbuf *mbufs[OG_SEND_GROUP];
};

struct uring_port {
	struct og_port_socket s; /* first */
	struct io_uring rx_ring;
	struct io_uring_buf_ring *buffers;
	struct msghdr rx_msg; /* asks for the source, no control data */
	bool armed[OG_PORT_ENDPOINTS_MAX];
	struct rte_mbuf *rx_mbufs[RX_BUFFERS]; /* by buffer id */
	struct io_uring tx_ring;
	struct tx_slot tx[TX_SLOTS];
	uint16_t idle_tx[TX_SLOTS];
	uint16_t nb_idle_tx;
	uint16_t nb_tx_mbufs; /* in all slots, TX_SLOTS at most */
};

static struct uring_port *uring_port(const struct og_port *port)
{
	return OG_CONTAINER_OF(port, struct uring_port, s.port);
}

static void offer(struct uring_port *p, uint16_t id, struct rte_mbuf *m, int offset)
{
	uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);

	p->rx_mbufs[id] = m;
	io_uring_buf_ring_add(p->buffers, data - RX_HEAD_BYTES, RX_HEAD_BYTES + OG_PACKET_BYTES, id,
		io_uring_buf_ring_mask(RX_BUFFERS), offset);
}

static void arm(struct uring_port *p, uint16_t endpoint)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&p->rx_ring);

	if (!sqe)
		return;
	io_uring_prep_recvmsg_multishot(sqe, p->s.fds[endpoint], &p->rx_msg, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = BUFFER_GROUP;
	io_uring_sqe_set_data64(sqe, endpoint);
	p->armed[endpoint] = true;
}

static int arm_all(struct uring_port *p)
{
	for (uint16_t i = 0; i < p->s.port.nb_endpoints; i++)
		if (!p->armed[i])
			arm(p, i);
	if (io_uring_sq_ready(&p->rx_ring) == 0)
		return 0;
	return io_uring_submit(&p->rx_ring);
}

/* liburing 2.3 declares io_uring_enable_rings() but does not export it. */
static int enable(const struct io_uring *ring)
{
	long ret = syscall(
		__NR_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

	return ret < 0 ? -errno : 0;
}

static int start(struct og_port *port)
{
	struct uring_port *p = uring_port(port);
	int ret;

	/* The thread that enables the rings is the one that may submit to them. */
	ret = enable(&p->rx_ring);
	if (ret < 0)
		return ret;
	ret = enable(&p->tx_ring);
	if (ret < 0)
		return ret;
	/* Saves a look-up in each call; without it they work too. */
	(void)io_uring_register_ring_fd(&p->rx_ring);
	(void)io_uring_register_ring_fd(&p->tx_ring);
	ret = arm_all(p);
	return ret < 0 ? ret : 0;
}

/* The datagram in buffer `id`, or NULL when it is dropped. The buffer is offered to the kernel. */
static struct rte_mbuf *take_rx(
	struct uring_port *p, uint16_t id, uint32_t len_bytes, uint16_t endpoint, int offset)
{
	struct rte_mbuf *m = p->rx_mbufs[id], *fresh = NULL;
	const uint8_t *head = rte_pktmbuf_mtod(m, uint8_t *) - RX_HEAD_BYTES;
	struct io_uring_recvmsg_out out;
	struct sockaddr_in src;

	memcpy(&out, head, sizeof(out));
	memcpy(&src, head + sizeof(out), sizeof(src));
	if (len_bytes < RX_HEAD_BYTES) {
		og_port_drop(&p->s.port, OG_DROP_RX_ERROR);
	} else if (out.flags & MSG_TRUNC) {
		og_port_drop(&p->s.port, OG_DROP_RX_TOO_LONG);
	} else {
		fresh = rte_pktmbuf_alloc(p->s.port.pool);
		if (!fresh)
			og_port_drop(&p->s.port, OG_DROP_RX_NO_MBUF);
	}
	offer(p, id, fresh ? fresh : m, offset);
	if (!fresh)
		return NULL;
	len_bytes -= RX_HEAD_BYTES;
	m->data_len = (uint16_t)len_bytes;
	m->pkt_len = len_bytes;
	*og_packet(m) = (struct og_packet){og_addr_from_sockaddr(&src), endpoint, 0};
	return m;
}

static uint16_t rx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	struct uring_port *p = uring_port(port);
	struct io_uring_cqe *cqes[RX_CQES];
	unsigned seen = io_uring_peek_batch_cqe(&p->rx_ring, cqes, OG_MIN(n, (uint16_t)RX_CQES));
	int offered = 0;
	uint16_t got = 0;

	for (unsigned i = 0; i < seen; i++) {
		const struct io_uring_cqe *cqe = cqes[i];
		uint16_t endpoint = (uint16_t)cqe->user_data;

		if (!(cqe->flags & IORING_CQE_F_MORE))
			p->armed[endpoint] = false;
		if (cqe->flags & IORING_CQE_F_BUFFER) {
			uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
			struct rte_mbuf *m =
				take_rx(p, id, (uint32_t)OG_MAX(cqe->res, 0), endpoint, offered++);

			if (m)
				pkts[got++] = m;
		} else if (cqe->res < 0 && cqe->res != -ENOBUFS) {
			og_port_drop(port, OG_DROP_RX_ERROR);
		}
	}
	if (seen > 0) {
		io_uring_buf_ring_advance(p->buffers, offered);
		io_uring_cq_advance(&p->rx_ring, seen);
	}
	(void)arm_all(p); /* what cannot be submitted now is the next time */
	return og_port_socket_watch(&p->s, pkts, got);
}

static void free_slot(struct uring_port *p, uint16_t id)
{
	struct tx_slot *slot = &p->tx[id];

	rte_pktmbuf_free_bulk(slot->mbufs, slot->nb_mbufs);
	p->nb_tx_mbufs = (uint16_t)(p->nb_tx_mbufs - slot->nb_mbufs);
	slot->nb_mbufs = 0;
	p->idle_tx[p->nb_idle_tx++] = id;
}

static void reap_tx(struct uring_port *p)
{
	struct io_uring_cqe *cqes[TX_SLOTS];
	unsigned seen = io_uring_peek_batch_cqe(&p->tx_ring, cqes, TX_SLOTS);

	for (unsigned i = 0; i < seen; i++) {
		uint16_t id = (uint16_t)cqes[i]->user_data;

		if (cqes[i]->res < 0)
			og_send_failed(&p->s, -cqes[i]->res, p->tx[id].nb_mbufs);
		free_slot(p, id);
	}
	io_uring_cq_advance(&p->tx_ring, seen);
}

static void queue_send(
	struct uring_port *p, struct io_uring_sqe *sqe, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t id = p->idle_tx[--p->nb_idle_tx];
	struct tx_slot *slot = &p->tx[id];

	memcpy(slot->mbufs, pkts, n * sizeof(pkts[0]));
	slot->nb_mbufs = n;
	p->nb_tx_mbufs = (uint16_t)(p->nb_tx_mbufs + n);
	og_send_prepare(&slot->send, pkts, n);
	io_uring_prep_sendmsg(sqe, p->s.fds[og_packet(pkts[0])->endpoint], &slot->send.msg, 0);
	io_uring_sqe_set_data64(sqe, id);
}

static uint16_t tx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	struct uring_port *p = uring_port(port);
	uint16_t taken = 0;

	n = OG_MIN(n, (uint16_t)(TX_SLOTS - p->nb_tx_mbufs));
	while (taken < n && p->nb_idle_tx > 0) {
		struct io_uring_sqe *sqe;
		uint16_t group;

		if (og_send_may_fragment(pkts[taken])) {
			og_send_fragmentable(&p->s, pkts[taken++]);
			continue;
		}
		sqe = io_uring_get_sqe(&p->tx_ring);
		if (!sqe)
			break;
		group = og_send_group(&p->s, pkts + taken, (uint16_t)(n - taken));
		queue_send(p, sqe, pkts + taken, group);
		taken = (uint16_t)(taken + group);
	}
	/* What cannot be submitted now leaves with the next burst. */
	if (io_uring_sq_ready(&p->tx_ring) > 0)
		(void)io_uring_submit(&p->tx_ring);
	reap_tx(p); /* most sends are done by now */
	return taken;
}

static uint32_t wait_fds(const struct og_port *port, int fds[OG_PORT_FDS_MAX])
{
	const struct uring_port *p = uring_port(port);

	/* Deferred task work does not wake who polls the ring, so the sockets do. */
	for (uint16_t i = 0; i < port->nb_endpoints; i++)
		fds[i] = p->s.fds[i];
	fds[port->nb_endpoints] = p->rx_ring.ring_fd; /* completions not looked at yet */
	return port->nb_endpoints + 1u;
}

static void free_port(struct uring_port *p)
{
	io_uring_queue_exit(&p->tx_ring);
	io_uring_queue_exit(&p->rx_ring);
	if (p->buffers)
		munmap(p->buffers, RX_BUFFERS * sizeof(struct io_uring_buf));
	for (uint32_t i = 0; i < TX_SLOTS; i++)
		rte_pktmbuf_free_bulk(p->tx[i].mbufs, p->tx[i].nb_mbufs);
	for (uint32_t i = 0; i < RX_BUFFERS; i++)
		rte_pktmbuf_free(p->rx_mbufs[i]);
	free(p);
}

static void close_port(struct og_port *port)
{
	struct uring_port *p = uring_port(port);

	og_port_socket_close_fds(&p->s);
	free_port(p);
}

static const struct og_port_ops uring_ops = {
	.start = start,
	.rx_burst = rx_burst,
	.tx_burst = tx_burst,
	.local_addr = og_port_socket_local_addr,
	.wait_fds = wait_fds,
	.close = close_port,
};

static int open_ring(struct io_uring *ring, unsigned sq, unsigned cq)
{
	struct io_uring_params params = {
		/* DEFER_TASKRUN came with Linux 6.1, multishot recvmsg with 6.0. */
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL |
			 IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		.cq_entries = cq,
	};

	return io_uring_queue_init_params(sq, ring, &params);
}

static int open_buffers(struct uring_port *p)
{
	const size_t bytes = RX_BUFFERS * sizeof(struct io_uring_buf);
	struct io_uring_buf_reg reg = {.ring_entries = RX_BUFFERS, .bgid = BUFFER_GROUP};
	void *ring = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	if (ring == MAP_FAILED)
		return -errno;
	p->buffers = ring;
	reg.ring_addr = (uintptr_t)ring;
	ret = io_uring_register_buf_ring(&p->rx_ring, &reg, 0);
	if (ret < 0)
		return ret;
	io_uring_buf_ring_init(p->buffers);
	if (rte_pktmbuf_alloc_bulk(p->s.port.pool, p->rx_mbufs, RX_BUFFERS) != 0)
		return -ENOBUFS;
	for (uint16_t i = 0; i < RX_BUFFERS; i++)
		offer(p, i, p->rx_mbufs[i], i);
	io_uring_buf_ring_advance(p->buffers, RX_BUFFERS);
	return 0;
}

int og_port_uring_open(
	struct og_port **out, struct rte_mempool *pool, const int *fds, uint16_t nb_endpoints)
{
	struct uring_port *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	p->s.port = (struct og_port){
		.ops = &uring_ops, .name = "io_uring", .pool = pool, .nb_endpoints = nb_endpoints};
	memcpy(p->s.fds, fds, nb_endpoints * sizeof(*fds));
	p->rx_msg.msg_namelen = sizeof(struct sockaddr_in);
	for (uint16_t i = 0; i < TX_SLOTS; i++)
		p->idle_tx[p->nb_idle_tx++] = i;
	ret = open_ring(&p->rx_ring, RX_SQ, RX_CQ);
	if (ret < 0)
		goto free_p;
	ret = open_ring(&p->tx_ring, TX_SLOTS, 2 * TX_SLOTS);
	if (ret < 0)
		goto exit_rx;
	ret = open_buffers(p);
	if (ret < 0) {
		free_port(p);
		return ret;
	}
	*out = &p->s.port;
	return 0;

exit_rx:
	io_uring_queue_exit(&p->rx_ring);
free_p:
	free(p);
	return ret;
}
