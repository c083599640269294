#include "dataplane/port_ethdev_priv.h"

#include "base/rand.h"
#include "dataplane/frame.h"
#include "dataplane/packet.h"

#include <errno.h>
#include <rte_ethdev.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	WAITING_MAX = 256,    /* packets that may wait for neighbours, in all */
	ARP_REQUESTS = 64,    /* that may go out at once */
	ARP_PER_WALK = 2,     /* and then per WALK_NS */
	DYNAMIC_PORT = 49152, /* RFC 6335: 49152 to 65535 are free for any use */
};

/* Time between two buckets of the neighbour table: all of it in 128 ms. */
#define WALK_NS OG_NS_PER_MS

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void send_frames(struct og_port_ethdev *p)
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
static void queue_frame(struct og_port_ethdev *p, struct rte_mbuf *frame)
{
	if (p->nb_out == OG_ETHDEV_FRAMES_OUT)
		send_frames(p);
	if (p->nb_out == OG_ETHDEV_FRAMES_OUT) {
		og_port_drop(&p->port, OG_DROP_TX_ERROR);
		rte_pktmbuf_free(frame);
		return;
	}
	p->out[p->nb_out++] = frame;
}

static void send_arp_request(struct og_port_ethdev *p, const uint8_t ip[4])
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
static void send_to(struct og_port_ethdev *p, const struct og_inet_mac *mac, struct rte_mbuf *m)
{
	og_frame_wrap(m, &p->self, mac, p->dev.tx_sums, &p->fragment_id);
	queue_frame(p, m);
}

static void give_up(struct og_port_ethdev *p, struct rte_mbuf *m, enum og_drop reason)
{
	og_port_drop(&p->port, reason);
	rte_pktmbuf_free(m);
}

/* Send a datagram, or let it wait for its neighbour, or drop it. */
static void route(struct og_port_ethdev *p, struct rte_mbuf *m, uint64_t now_ns)
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
	struct og_port_ethdev *p, const struct og_inet_input *in, uint64_t now_ns)
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

static void forget_neighbour(struct og_port_ethdev *p, struct og_neigh *n)
{
	for (uint8_t i = 0; i < n->nb_waiting; i++)
		give_up(p, n->waiting[i], OG_DROP_NO_ROUTE);
	p->nb_waiting -= n->nb_waiting;
	og_neigh_forget(n);
}

/* Ask again for neighbours that packets wait for, and give up those that do not answer. */
static void walk_neighbours(struct og_port_ethdev *p, uint64_t now_ns)
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

/* Handle one frame; returns it as a datagram if it is one, else it is used up. */
static struct rte_mbuf *input(struct og_port_ethdev *p, struct rte_mbuf *m, uint64_t now_ns)
{
	struct og_inet_input in;

	og_frame_input(m, &p->self, &in);
	switch (in.verdict) {
	case OG_INET_UDP:
		return m;
	case OG_INET_REPLY:
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

static void drop_frames(struct og_port_ethdev *p)
{
	for (uint32_t i = 0; i < p->nb_out; i++)
		give_up(p, p->out[i], OG_DROP_NO_LINK);
	p->nb_out = 0;
}

static void forget_neighbours(struct og_port_ethdev *p)
{
	for (uint32_t b = 0; b < OG_NEIGH_BUCKETS; b++)
		for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++)
			forget_neighbour(p, &p->neighbours.entries[b][i]);
}

/* An announcement: switches and neighbours learn of us. */
static void announce(struct og_port_ethdev *p)
{
	p->arp_requests = OG_MAX(p->arp_requests, 1u);
	send_arp_request(p, p->self.ip);
}

/* False while the device is in the main thread's hands. */
static bool has_device(struct og_port_ethdev *p)
{
	/* Acquire: pairs with the release in give_device(). */
	uint32_t owner = __atomic_load_n(&p->owner, __ATOMIC_ACQUIRE);

	if (owner == OG_ETHDEV_CORE) {
		if (__atomic_load_n(&p->announce, __ATOMIC_RELAXED)) {
			__atomic_store_n(&p->announce, false, __ATOMIC_RELAXED);
			memcpy(&p->self.mac, &p->dev.mac, sizeof(p->self.mac));
			announce(p);
		}
		return true;
	}
	if (owner == OG_ETHDEV_ASKED) {
		drop_frames(p);
		forget_neighbours(p);
	}
	/* Release: pairs with the acquire in take_device(). The wish may have been taken back. */
	__atomic_compare_exchange_n(&p->owner, &(uint32_t){OG_ETHDEV_ASKED}, OG_ETHDEV_MAIN, false,
		__ATOMIC_RELEASE, __ATOMIC_RELAXED);
	return false;
}

static uint16_t rx_burst(struct og_port *port, struct rte_mbuf **pkts, uint16_t n)
{
	struct og_port_ethdev *p = og_port_ethdev(port);
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
	struct og_port_ethdev *p = og_port_ethdev(port);
	uint64_t now_ns = clock_ns();
	uint16_t i;

	if (!has_device(p)) {
		for (i = 0; i < n; i++)
			give_up(p, pkts[i], OG_DROP_NO_LINK);
		return n;
	}
	/* A datagram may cost an ARP request too. */
	for (i = 0; i < n; i++) {
		if (p->nb_out + 2 > OG_ETHDEV_FRAMES_OUT)
			send_frames(p);
		/* What waits for a link would be stale when there is one. */
		if (p->nb_out + 2 > OG_ETHDEV_FRAMES_OUT &&
			__atomic_load_n(&p->no_link, __ATOMIC_RELAXED))
			drop_frames(p);
		if (p->nb_out + 2 > OG_ETHDEV_FRAMES_OUT)
			break;
		route(p, pkts[i], now_ns);
	}
	send_frames(p);
	return i;
}

static int start(struct og_port *port)
{
	struct og_port_ethdev *p = og_port_ethdev(port);

	p->arp_requests = ARP_REQUESTS;
	announce(p);
	send_frames(p);
	return 0;
}

static void local_addr(const struct og_port *port, uint16_t endpoint, struct og_addr *out)
{
	const struct og_port_ethdev *p = og_port_ethdev(port);

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

static void close_port(struct og_port *port)
{
	struct og_port_ethdev *p = og_port_ethdev(port);

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
	.supervise = og_port_ethdev_supervise,
	.close = close_port,
};

static uint16_t random_port(struct og_rand *rand)
{
	return (uint16_t)(DYNAMIC_PORT + og_rand_below(rand, UINT16_MAX + 1 - DYNAMIC_PORT));
}

static void set_identity(struct og_port_ethdev *p, const struct og_port_ethdev_opts *opts)
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
	struct og_port_ethdev *p;
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
