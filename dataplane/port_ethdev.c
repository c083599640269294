#include "dataplane/port_ethdev.h"

#include "base/log.h"
#include "base/rand.h"
#include "dataplane/device.h"
#include "dataplane/neigh.h"
#include "dataplane/packet.h"

#include <errno.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_udp.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	FRAMES_OUT = 128,     /* frames that may wait for the device */
	WAITING_MAX = 256,    /* packets that may wait for neighbours, in all */
	ARP_REQUESTS = 64,    /* that may go out at once */
	ARP_PER_WALK = 2,     /* and then per WALK_NS */
	DYNAMIC_PORT = 49152, /* RFC 6335: 49152 to 65535 are free for any use */
	YIELD_TRIES = 2000,   /* milliseconds that the main thread waits for the polling core */
	RETIRED_LOOKS = 2,    /* looks after which the core has no packet of the retired pool */
};

/* Time between two buckets of the neighbour table: all of it in 128 ms. */
#define WALK_NS OG_NS_PER_MS

/* Whose the device is: the main thread may only replace it while the polling core keeps off. */
enum owner { CORE, ASKED, MAIN };

struct ethdev_port {
	struct og_port port;
	struct og_device dev; /* belongs to who `owner` says */
	struct og_inet self;
	uint64_t walked_ns;
	uint32_t walk;         /* bucket of the neighbour table that is next */
	uint32_t nb_waiting;   /* packets that wait for neighbours */
	uint16_t fragment_id;  /* of the next datagram that may be cut */
	uint32_t arp_requests; /* that may still go out */
	uint32_t nb_out;
	struct rte_mbuf *out[FRAMES_OUT]; /* whole frames, oldest first */
	struct og_neigh_table neighbours;
	/* Main thread. */
	char *devargs;
	uint16_t mtu_wanted;
	enum og_device_state state;
	bool closed;                 /* the device is, until it can be opened again */
	bool failed;                 /* to open again, and it was said */
	struct rte_mempool *retired; /* of the device before; the core may hold packets of it yet */
	uint32_t retired_looks;
	/* Atomic; written by both. */
	alignas(64) uint32_t owner; /* enum owner */
	bool no_link;               /* main thread's to say */
	bool announce;              /* main thread's wish */
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
	sent = rte_eth_tx_burst(p->dev.id, 0, p->out, (uint16_t)p->nb_out);
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
	struct rte_mbuf *m;

	if (p->arp_requests == 0) {
		og_port_drop(&p->port, OG_DROP_ARP_LIMITED); /* the next probe is a second away */
		return;
	}
	p->arp_requests--;
	m = rte_pktmbuf_alloc(p->port.pool);
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
		.ttl = packet->ttl & OG_TX_TTL_MAX,
		.may_fragment = packet->ttl & OG_TX_MAY_FRAGMENT,
		.fragment_id = p->fragment_id,
		.checksums_by_device = p->dev.tx_offload,
	};
	uint8_t *head = (uint8_t *)rte_pktmbuf_prepend(m, OG_INET_UDP_HEAD_BYTES);

	OG_DASSERT(head);
	p->fragment_id += udp.may_fragment;
	og_inet_build_udp(&p->self, head, &udp);
	if (p->dev.tx_offload) {
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

	if (rte_pktmbuf_pkt_len(m) + OG_INET_UDP_OVERHEAD_BYTES > p->dev.mtu) {
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
	if (p->nb_waiting == WAITING_MAX) {
		give_up(p, m, OG_DROP_NO_ROUTE);
		return;
	}
	p->nb_waiting++;
	oldest = og_neigh_wait(n, m);
	if (oldest) {
		p->nb_waiting--;
		give_up(p, oldest, OG_DROP_NO_ROUTE);
	}
}

static void neighbour_answered(
	struct ethdev_port *p, const struct og_inet_input *in, uint64_t now_ns)
{
	struct og_neigh *n =
		og_neigh_learn(&p->neighbours, in->neighbour_ip, &in->neighbour_mac, now_ns);

	if (!n) {
		og_port_drop(&p->port, OG_DROP_UNASKED);
		return;
	}
	for (uint8_t i = 0; i < n->nb_waiting; i++)
		send_to(p, &n->mac, n->waiting[i]);
	p->nb_waiting -= n->nb_waiting;
	n->nb_waiting = 0;
}

static void forget_neighbour(struct ethdev_port *p, struct og_neigh *n)
{
	for (uint8_t i = 0; i < n->nb_waiting; i++)
		give_up(p, n->waiting[i], OG_DROP_NO_ROUTE);
	p->nb_waiting -= n->nb_waiting;
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
	p->arp_requests = OG_MIN(p->arp_requests + ARP_PER_WALK, (uint32_t)ARP_REQUESTS);
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

static void drop_frames(struct ethdev_port *p)
{
	for (uint32_t i = 0; i < p->nb_out; i++)
		give_up(p, p->out[i], OG_DROP_NO_LINK);
	p->nb_out = 0;
}

static void forget_neighbours(struct ethdev_port *p)
{
	for (uint32_t b = 0; b < OG_NEIGH_BUCKETS; b++)
		for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++)
			forget_neighbour(p, &p->neighbours.entries[b][i]);
}

/* An announcement: switches and neighbours learn of us. */
static void announce(struct ethdev_port *p)
{
	p->arp_requests = OG_MAX(p->arp_requests, 1u);
	send_arp_request(p, p->self.ip);
}

/* False while the device is in the main thread's hands. */
static bool has_device(struct ethdev_port *p)
{
	/* Acquire: pairs with the release in give_device(). */
	uint32_t owner = __atomic_load_n(&p->owner, __ATOMIC_ACQUIRE);

	if (owner == CORE) {
		if (__atomic_load_n(&p->announce, __ATOMIC_RELAXED)) {
			__atomic_store_n(&p->announce, false, __ATOMIC_RELAXED);
			memcpy(&p->self.mac, &p->dev.mac, sizeof(p->self.mac));
			announce(p);
		}
		return true;
	}
	if (owner == ASKED) {
		drop_frames(p);
		forget_neighbours(p);
	}
	/* Release: pairs with the acquire in take_device(). The wish may have been taken back. */
	__atomic_compare_exchange_n(
		&p->owner, &(uint32_t){ASKED}, MAIN, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
	return false;
}

static uint16_t rx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	struct ethdev_port *p = ethdev_port(port);
	struct rte_mbuf *frames[OG_BURST];
	uint64_t now_ns = clock_ns();
	uint16_t nb_frames, got = 0;

	if (!has_device(p))
		return 0;
	nb_frames = rte_eth_rx_burst(p->dev.id, 0, frames, OG_MIN(n, (uint16_t)OG_BURST));
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

	if (!has_device(p)) {
		for (i = 0; i < n; i++)
			give_up(p, pkts[i], OG_DROP_NO_LINK);
		return n;
	}
	/* A datagram may cost an ARP request too. */
	for (i = 0; i < n; i++) {
		if (p->nb_out + 2 > FRAMES_OUT)
			send_frames(p);
		/* What waits for a link would be stale when there is one. */
		if (p->nb_out + 2 > FRAMES_OUT && __atomic_load_n(&p->no_link, __ATOMIC_RELAXED))
			drop_frames(p);
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

	p->arp_requests = ARP_REQUESTS;
	announce(p);
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

/* ---- main thread ---- */

/* True once the polling core keeps its hands off the device. */
static bool take_device(struct ethdev_port *p)
{
	const struct timespec ms = {.tv_nsec = OG_NS_PER_MS};
	uint32_t asked = ASKED;

	if (__atomic_load_n(&p->owner, __ATOMIC_RELAXED) == MAIN)
		return true;
	__atomic_store_n(&p->owner, ASKED, __ATOMIC_RELAXED);
	for (int i = 0; i < YIELD_TRIES; i++) {
		/* Acquire: pairs with the release in has_device(). */
		if (__atomic_load_n(&p->owner, __ATOMIC_ACQUIRE) == MAIN)
			return true;
		nanosleep(&ms, NULL);
	}
	/* It does not poll. If it answered only now, the device is ours after all. */
	return !__atomic_compare_exchange_n(
		&p->owner, &asked, CORE, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE);
}

static void give_device(struct ethdev_port *p)
{
	__atomic_store_n(&p->announce, true, __ATOMIC_RELAXED);
	/* Release: pairs with the acquire in has_device(). */
	__atomic_store_n(&p->owner, CORE, __ATOMIC_RELEASE);
}

/*
 * A driver that closes may lose packets (af_xdp those it has lent to the kernel), so the next device
 * gets a new pool.
 */
static int open_again(struct ethdev_port *p, struct og_device *dev)
{
	struct rte_mempool *pool;
	int ret = og_packet_pool_create(&pool, p->port.pool->size);

	if (ret < 0)
		return ret;
	ret = og_device_open(dev, p->devargs, p->mtu_wanted, pool);
	if (ret < 0) {
		rte_mempool_free(pool);
		return ret;
	}
	p->retired = p->port.pool;
	p->retired_looks = 0;
	/* Relaxed: no packet moves before give_device(). Pairs with the load in the polling core. */
	__atomic_store_n(&p->port.pool, pool, __ATOMIC_RELAXED);
	return 0;
}

static void reopen(struct ethdev_port *p)
{
	struct og_device dev;

	if (!p->closed) {
		if (!take_device(p))
			return;
		og_device_close(&p->dev);
		p->closed = true;
	}
	/* Who waits for the interface looks for it by name; nothing is tried in vain. */
	if (!og_device_makes_interface(p->devargs) && if_nametoindex(p->dev.if_name) == 0)
		return;
	if (p->retired)
		return; /* once at a time */
	if (open_again(p, &dev) < 0) {
		if (!p->failed)
			OG_LOG(port, ERR, "%s does not open again; trying on", p->dev.if_name);
		p->failed = true;
		return;
	}
	p->dev = dev;
	p->closed = p->failed = false;
	p->state = OG_DEVICE_UP;
	__atomic_store_n(&p->no_link, false, __ATOMIC_RELAXED);
	give_device(p);
	OG_LOG(port, INFO, "interface %s is back", dev.if_name);
}

static void supervise(struct og_port *port)
{
	struct ethdev_port *p = ethdev_port(port);
	enum og_device_state state = p->closed ? OG_DEVICE_GONE : og_device_look(&p->dev);
	bool lost = state == OG_DEVICE_GONE || state == OG_DEVICE_ANOTHER;
	const char *name = p->dev.if_name[0] ? p->dev.if_name : p->devargs;

	if (p->retired && ++p->retired_looks == RETIRED_LOOKS) {
		rte_mempool_free(p->retired);
		p->retired = NULL;
	}
	if (state != p->state) {
		if (lost)
			OG_LOG(port, WARN, "interface %s is gone", name);
		else
			OG_LOG(port, WARN, "%s: link %s", name,
				state == OG_DEVICE_UP ? "up" : "down");
		__atomic_store_n(&p->no_link, state != OG_DEVICE_UP, __ATOMIC_RELAXED);
		if (state == OG_DEVICE_UP)
			__atomic_store_n(&p->announce, true, __ATOMIC_RELAXED);
		p->state = state;
	}
	if (lost)
		reopen(p);
}

static void close_port(struct og_port *port)
{
	struct ethdev_port *p = ethdev_port(port);

	if (!p->closed)
		og_device_close(&p->dev);
	drop_frames(p);
	forget_neighbours(p);
	rte_mempool_free(p->retired);
	free(p->devargs);
	free(p);
}

static const struct og_port_ops ethdev_ops = {
	.start = start,
	.rx_burst = rx_burst,
	.tx_burst = tx_burst,
	.local_addr = local_addr,
	.wait_fds = wait_fds,
	.supervise = supervise,
	.close = close_port,
};

static uint16_t random_port(struct og_rand *rand)
{
	return (uint16_t)(DYNAMIC_PORT + og_rand_below(rand, UINT16_MAX + 1 - DYNAMIC_PORT));
}

static void set_identity(struct ethdev_port *p, const struct og_port_ethdev_opts *opts)
{
	struct og_rand rand;

	p->self.mac = p->dev.mac;
	memcpy(p->self.ip, opts->addr.ip, sizeof(p->self.ip));
	memcpy(p->self.gateway, opts->gateway, sizeof(p->self.gateway));
	p->self.prefix_bits = opts->prefix_bits;
	p->self.nb_endpoints = opts->nb_endpoints;
	og_rand_system(&rand);
	p->self.ports[0] = opts->addr.port != 0 ? opts->addr.port : random_port(&rand);
	do {
		p->self.ports[1] = random_port(&rand);
	} while (p->self.ports[1] == p->self.ports[0]);
}

int og_port_ethdev_open(
	struct og_port **out, struct rte_mempool *pool, const struct og_port_ethdev_opts *opts)
{
	struct ethdev_port *p;
	int ret = -ENOMEM;

	if (opts->nb_endpoints == 0 || opts->nb_endpoints > OG_PORT_ENDPOINTS_MAX ||
		opts->prefix_bits > 32 || og_addr_u32(&opts->addr) == 0)
		return -EINVAL;
	p = aligned_alloc(64, sizeof(*p));
	if (!p)
		return -ENOMEM;
	memset(p, 0, sizeof(*p));
	p->port = (struct og_port){.ops = &ethdev_ops,
		.name = "ethdev",
		.pool = pool,
		.nb_endpoints = opts->nb_endpoints};
	p->mtu_wanted = opts->mtu;
	p->devargs = strdup(opts->devargs);
	if (!p->devargs)
		goto free_p;
	ret = og_device_open(&p->dev, opts->devargs, opts->mtu, pool);
	if (ret < 0)
		goto free_p;
	set_identity(p, opts);
	p->state = og_device_look(&p->dev);
	p->no_link = p->state != OG_DEVICE_UP;
	*out = &p->port;
	return 0;

free_p:
	free(p->devargs);
	free(p);
	return ret;
}
