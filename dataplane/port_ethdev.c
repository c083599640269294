#include "dataplane/port_ethdev.h"

#include "base/log.h"
#include "base/rand.h"
#include "dataplane/eal.h"
#include "dataplane/neigh.h"
#include "dataplane/packet.h"

#include <errno.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_udp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	RX_DESCRIPTORS = 1024,
	TX_DESCRIPTORS = 1024,
	FRAMES_OUT = 128,     /* frames that may wait for the device */
	DYNAMIC_PORT = 49152, /* RFC 6335: 49152 to 65535 are free for any use */
	MTU_DEFAULT = 1500,
};

/* Time between two buckets of the neighbour table: all of it in 128 ms. */
#define WALK_NS OG_NS_PER_MS

static const uint64_t tx_checksums = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t rx_checksums = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;

struct ethdev_port {
	struct og_port port;
	uint16_t id; /* of DPDK */
	struct rte_device *device;
	struct og_inet self;
	uint16_t mtu;
	bool tx_offload;
	uint64_t walked_ns;
	uint32_t walk; /* bucket of the neighbour table that is next */
	uint32_t nb_out;
	struct rte_mbuf *out[FRAMES_OUT]; /* whole frames, oldest first */
	struct og_neigh_table neighbours;
};

static struct ethdev_port *ethdev_port(const struct og_port *port)
{
	return OG_CONTAINER_OF(port, struct ethdev_port, port);
}

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void send_frames(struct ethdev_port *p)
{
	uint16_t sent;

	if (p->nb_out == 0)
		return;
	sent = rte_eth_tx_burst(p->id, 0, p->out, (uint16_t)p->nb_out);
	p->nb_out -= sent;
	if (sent > 0 && p->nb_out > 0)
		memmove(p->out, p->out + sent, p->nb_out * sizeof(p->out[0]));
}

/* Queue a whole frame; takes ownership. */
static void queue_frame(struct ethdev_port *p, struct rte_mbuf *frame)
{
	if (p->nb_out == FRAMES_OUT)
		send_frames(p);
	if (p->nb_out == FRAMES_OUT) {
		og_port_drop(&p->port, OG_DROP_TX_ERROR);
		rte_pktmbuf_free(frame);
		return;
	}
	p->out[p->nb_out++] = frame;
}

static void send_arp_request(struct ethdev_port *p, const uint8_t ip[4])
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(p->port.pool);

	if (!m) {
		og_port_drop(&p->port, OG_DROP_RX_NO_MBUF);
		return;
	}
	og_inet_build_arp_request(&p->self, rte_pktmbuf_mtod(m, uint8_t *), ip);
	m->data_len = OG_INET_ARP_BYTES;
	m->pkt_len = OG_INET_ARP_BYTES;
	queue_frame(p, m);
}

/* Put the head before a datagram whose next hop is known, and queue the frame. */
static void send_to(struct ethdev_port *p, const struct og_inet_mac *mac, struct rte_mbuf *m)
{
	const struct og_packet *packet = og_packet(m);
	const struct og_inet_udp udp = {
		.dst_mac = *mac,
		.dst = packet->peer,
		.src_port = p->self.ports[packet->endpoint],
		.len_bytes = rte_pktmbuf_data_len(m),
		.ttl = packet->ttl,
		.checksums_by_device = p->tx_offload,
	};
	uint8_t *head = (uint8_t *)rte_pktmbuf_prepend(m, OG_INET_UDP_HEAD_BYTES);

	OG_DASSERT(head);
	og_inet_build_udp(&p->self, head, &udp);
	if (p->tx_offload) {
		m->ol_flags |=
			RTE_MBUF_F_TX_IPV4 | RTE_MBUF_F_TX_IP_CKSUM | RTE_MBUF_F_TX_UDP_CKSUM;
		m->l2_len = OG_INET_ETHER_BYTES;
		m->l3_len = sizeof(struct rte_ipv4_hdr);
		m->l4_len = sizeof(struct rte_udp_hdr);
	}
	queue_frame(p, m);
}

static void give_up(struct ethdev_port *p, struct rte_mbuf *m, enum og_drop reason)
{
	og_port_drop(&p->port, reason);
	rte_pktmbuf_free(m);
}

/* Send a datagram, or let it wait for its neighbour, or drop it. */
static void route(struct ethdev_port *p, struct rte_mbuf *m, uint64_t now_ns)
{
	struct rte_mbuf *oldest;
	struct og_neigh *n;
	uint8_t hop[4];

	if (rte_pktmbuf_pkt_len(m) + OG_INET_UDP_OVERHEAD_BYTES > p->mtu) {
		give_up(p, m, OG_DROP_TX_TOO_LONG);
		return;
	}
	n = og_inet_next_hop(&p->self, &og_packet(m)->peer, hop)
		    ? og_neigh_get(&p->neighbours, hop, now_ns)
		    : NULL;
	if (!n) {
		give_up(p, m, OG_DROP_NO_ROUTE);
		return;
	}
	if (og_neigh_probe(n, now_ns))
		send_arp_request(p, n->ip);
	if (n->known) {
		send_to(p, &n->mac, m);
		return;
	}
	oldest = og_neigh_wait(n, m);
	if (oldest)
		give_up(p, oldest, OG_DROP_NO_ROUTE);
}

static void neighbour_answered(
	struct ethdev_port *p, const struct og_inet_input *in, uint64_t now_ns)
{
	struct og_neigh *n =
		og_neigh_learn(&p->neighbours, in->neighbour_ip, &in->neighbour_mac, now_ns);

	if (!n)
		return;
	for (uint8_t i = 0; i < n->nb_waiting; i++)
		send_to(p, &n->mac, n->waiting[i]);
	n->nb_waiting = 0;
}

static void forget_neighbour(struct ethdev_port *p, struct og_neigh *n)
{
	for (uint8_t i = 0; i < n->nb_waiting; i++)
		give_up(p, n->waiting[i], OG_DROP_NO_ROUTE);
	og_neigh_forget(n);
}

/* Ask again for neighbours that packets wait for, and give up those that do not answer. */
static void walk_neighbours(struct ethdev_port *p, uint64_t now_ns)
{
	struct og_neigh *bucket = p->neighbours.entries[p->walk++ % OG_NEIGH_BUCKETS];

	for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++) {
		struct og_neigh *n = &bucket[i];

		if (og_neigh_dead(n, now_ns))
			forget_neighbour(p, n);
		else if (n->nb_waiting > 0 && og_neigh_probe(n, now_ns))
			send_arp_request(p, n->ip);
	}
	p->walked_ns = now_ns;
}

static unsigned checked_by_device(const struct rte_mbuf *m)
{
	unsigned checked = 0;

	if ((m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) == RTE_MBUF_F_RX_IP_CKSUM_GOOD)
		checked |= OG_INET_IP_GOOD;
	if ((m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD)
		checked |= OG_INET_UDP_GOOD;
	return checked;
}

/* Handle one frame; returns it as a datagram if it is one, else it is used up. */
static struct rte_mbuf *input(struct ethdev_port *p, struct rte_mbuf *m, uint64_t now_ns)
{
	struct og_inet_input in;

	if (m->nb_segs != 1) {
		give_up(p, m, OG_DROP_RX_TOO_LONG);
		return NULL;
	}
	og_inet_input(&p->self, rte_pktmbuf_mtod(m, uint8_t *), rte_pktmbuf_data_len(m),
		checked_by_device(m), &in);
	switch (in.verdict) {
	case OG_INET_UDP:
		m->data_off = (uint16_t)(m->data_off + in.data_offset);
		m->data_len = in.len_bytes;
		m->pkt_len = in.len_bytes;
		*og_packet(m) = (struct og_packet){in.src, in.endpoint, 0};
		return m;
	case OG_INET_REPLY:
		m->data_len = in.len_bytes;
		m->pkt_len = in.len_bytes;
		m->ol_flags = 0;
		queue_frame(p, m);
		return NULL;
	case OG_INET_LEARN:
		neighbour_answered(p, &in, now_ns);
		rte_pktmbuf_free(m);
		return NULL;
	case OG_INET_DROP:
		break;
	}
	give_up(p, m, in.reason);
	return NULL;
}

static uint16_t rx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	struct ethdev_port *p = ethdev_port(port);
	struct rte_mbuf *frames[OG_BURST];
	uint64_t now_ns = clock_ns();
	uint16_t nb_frames, got = 0;

	nb_frames = rte_eth_rx_burst(p->id, 0, frames, OG_MIN(n, (uint16_t)OG_BURST));
	for (uint16_t i = 0; i < nb_frames; i++) {
		struct rte_mbuf *m = input(p, frames[i], now_ns);

		if (m)
			pkts[got++] = m;
	}
	if (now_ns - p->walked_ns >= WALK_NS)
		walk_neighbours(p, now_ns);
	send_frames(p);
	return got;
}

static uint16_t tx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	struct ethdev_port *p = ethdev_port(port);
	uint64_t now_ns = clock_ns();
	uint16_t i;

	/* A datagram may cost an ARP request too. */
	for (i = 0; i < n; i++) {
		if (p->nb_out + 2 > FRAMES_OUT)
			send_frames(p);
		if (p->nb_out + 2 > FRAMES_OUT)
			break;
		route(p, pkts[i], now_ns);
	}
	send_frames(p);
	return i;
}

static int start(struct og_port *port)
{
	struct ethdev_port *p = ethdev_port(port);

	send_arp_request(p, p->self.ip); /* an announcement: switches and neighbours learn of us */
	send_frames(p);
	return 0;
}

static void local_addr(const struct og_port *port, uint16_t endpoint, struct og_addr *out)
{
	const struct ethdev_port *p = ethdev_port(port);

	memcpy(out->ip, p->self.ip, sizeof(out->ip));
	out->port = p->self.ports[endpoint];
}

static uint32_t wait_fds(const struct og_port *port, int fds[OG_PORT_FDS_MAX])
{
	(void)port;
	(void)fds;
	return 0; /* few devices have receive interrupts: the core sleeps in short naps */
}

static void close_port(struct og_port *port)
{
	struct ethdev_port *p = ethdev_port(port);
	int ret = rte_eth_dev_stop(p->id);

	if (ret < 0)
		OG_LOG(port, WARN, "device does not stop: %s", rte_strerror(-ret));
	for (uint32_t i = 0; i < p->nb_out; i++)
		rte_pktmbuf_free(p->out[i]);
	for (uint32_t b = 0; b < OG_NEIGH_BUCKETS; b++)
		for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++)
			forget_neighbour(p, &p->neighbours.entries[b][i]);
	rte_eth_dev_close(p->id);
	(void)rte_dev_remove(p->device);
	free(p);
}

static const struct og_port_ops ethdev_ops = {
	.start = start,
	.rx_burst = rx_burst,
	.tx_burst = tx_burst,
	.local_addr = local_addr,
	.wait_fds = wait_fds,
	.close = close_port,
};

/* DPDK's number of the device that `devargs` name, probing it if EAL has not. */
static int find_device(const char *devargs, uint16_t *id)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	int ret;

	if (strncmp(devargs, "pci:", 4) == 0)
		devargs += 4;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(devargs, ","), devargs);
	if (!og_eal_is_pci(devargs)) {
		ret = rte_dev_probe(devargs);
		if (ret < 0) {
			OG_LOG(port, ERR, "device %s: %s", name, rte_strerror(-ret));
			return ret;
		}
	}
	if (rte_eth_dev_get_port_by_name(name, id) == 0)
		return 0;
	/* A PCI name may be short of its domain; EAL probes only that device. */
	*id = (uint16_t)rte_eth_find_next_owned_by(0, RTE_ETH_DEV_NO_OWNER);
	if (og_eal_is_pci(devargs) && *id < RTE_MAX_ETHPORTS)
		return 0;
	OG_LOG(port, ERR, "device %s: DPDK has no driver for it, or it is not bound", name);
	return -ENODEV;
}

static int configure(struct ethdev_port *p, uint16_t mtu)
{
	uint16_t nb_rx = RX_DESCRIPTORS, nb_tx = TX_DESCRIPTORS;
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = {0};
	int ret = rte_eth_dev_info_get(p->id, &info);

	if (ret < 0)
		return ret;
	p->device = info.device;
	p->tx_offload = (info.tx_offload_capa & tx_checksums) == tx_checksums;
	if (p->tx_offload)
		conf.txmode.offloads = tx_checksums;
	conf.rxmode.offloads = info.rx_offload_capa & rx_checksums;
	ret = rte_eth_dev_configure(p->id, 1, 1, &conf);
	if (ret < 0)
		return ret;
	if (mtu != 0) {
		ret = rte_eth_dev_get_mtu(p->id, &p->mtu);
		if (ret < 0 || p->mtu != mtu)
			ret = rte_eth_dev_set_mtu(p->id, mtu);
		if (ret < 0)
			return ret;
	}
	if (rte_eth_dev_get_mtu(p->id, &p->mtu) < 0)
		p->mtu = MTU_DEFAULT;
	ret = rte_eth_dev_adjust_nb_rx_tx_desc(p->id, &nb_rx, &nb_tx);
	if (ret < 0)
		return ret;
	ret = rte_eth_rx_queue_setup(p->id, 0, nb_rx, SOCKET_ID_ANY, NULL, p->port.pool);
	if (ret < 0)
		return ret;
	return rte_eth_tx_queue_setup(p->id, 0, nb_tx, SOCKET_ID_ANY, NULL);
}

static uint16_t random_port(struct og_rand *rand)
{
	return (uint16_t)(DYNAMIC_PORT + og_rand_below(rand, UINT16_MAX + 1 - DYNAMIC_PORT));
}

static int set_identity(struct ethdev_port *p, const struct og_port_ethdev_opts *opts)
{
	struct rte_ether_addr mac;
	struct og_rand rand;
	int ret = rte_eth_macaddr_get(p->id, &mac);

	if (ret < 0)
		return ret;
	memcpy(p->self.mac.bytes, mac.addr_bytes, sizeof(p->self.mac.bytes));
	memcpy(p->self.ip, opts->addr.ip, sizeof(p->self.ip));
	memcpy(p->self.gateway, opts->gateway, sizeof(p->self.gateway));
	p->self.prefix_bits = opts->prefix_bits;
	p->self.nb_endpoints = opts->nb_endpoints;
	og_rand_system(&rand);
	p->self.ports[0] = opts->addr.port != 0 ? opts->addr.port : random_port(&rand);
	do {
		p->self.ports[1] = random_port(&rand);
	} while (p->self.ports[1] == p->self.ports[0]);
	return 0;
}

int og_port_ethdev_open(
	struct og_port **out, struct rte_mempool *pool, const struct og_port_ethdev_opts *opts)
{
	struct ethdev_port *p;
	int ret;

	if (opts->nb_endpoints == 0 || opts->nb_endpoints > OG_PORT_ENDPOINTS_MAX ||
		opts->prefix_bits > 32 || og_addr_u32(&opts->addr) == 0)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->port = (struct og_port){.ops = &ethdev_ops,
		.name = "ethdev",
		.pool = pool,
		.nb_endpoints = opts->nb_endpoints};
	ret = find_device(opts->devargs, &p->id);
	if (ret < 0)
		goto free_p;
	ret = configure(p, opts->mtu);
	if (ret < 0)
		goto close_device;
	ret = set_identity(p, opts);
	if (ret < 0)
		goto close_device;
	ret = rte_eth_dev_start(p->id);
	if (ret < 0)
		goto close_device;
	*out = &p->port;
	return 0;

close_device:
	OG_LOG(port, ERR, "device %s: %s", opts->devargs, rte_strerror(-ret));
	rte_eth_dev_close(p->id);
	if (p->device)
		(void)rte_dev_remove(p->device);
free_p:
	free(p);
	return ret < -200 ? -EIO : ret;
}
