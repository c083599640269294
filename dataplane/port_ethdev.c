#include "dataplane/port_ethdev_priv.h"

#include "base/rand.h"
#include "dataplane/devargs.h"
#include "dataplane/doorbell.h"
#include "dataplane/frame.h"
#include "dataplane/packet.h"
#include "dataplane/ring.h"

#include <errno.h>
#include <rte_ethdev.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	DYNAMIC_PORT = 49152, /* RFC 6335: 49152 to 65535 are free for any use */
	ERRANDS = 256,        /* that may wait for the first core */
};

/* How often the first core hears that a neighbour is still wanted. */
#define WANTED_NS OG_NS_PER_S

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static bool is_first(const struct og_port_ethdev *p)
{
	return p->queue == 0;
}

void og_ethdev_give_up(struct og_port_ethdev *p, struct rte_mbuf *m, enum og_drop reason)
{
	og_port_drop(&p->port, reason);
	rte_pktmbuf_free(m);
}

static void drop_frames(struct og_port_ethdev *p)
{
	for (uint32_t i = 0; i < p->nb_out; i++)
		og_ethdev_give_up(p, p->out[i], OG_DROP_NO_LINK);
	p->nb_out = 0;
}

static void send_frames(struct og_port_ethdev *p)
{
	uint16_t sent;

	if (p->nb_out == 0)
		return;
	if (!og_device_sends(&p->nic->dev, p->queue)) {
		drop_frames(p); /* the peer that had this queue has gone */
		return;
	}
	sent = rte_eth_tx_burst(p->nic->dev.id, p->queue, p->out, (uint16_t)p->nb_out);
	p->nb_out -= sent;
	if (sent > 0 && p->nb_out > 0)
		memmove(p->out, p->out + sent, p->nb_out * sizeof(p->out[0]));
}

void og_ethdev_queue(struct og_port_ethdev *p, struct rte_mbuf *frame)
{
	if (p->nb_out == OG_ETHDEV_FRAMES_OUT)
		send_frames(p);
	if (p->nb_out == OG_ETHDEV_FRAMES_OUT) {
		og_ethdev_give_up(p, frame, OG_DROP_TX_ERROR);
		return;
	}
	p->out[p->nb_out++] = frame;
}

bool og_ethdev_room(struct og_port_ethdev *p)
{
	if (p->nb_out + 2 <= OG_ETHDEV_FRAMES_OUT)
		return true;
	send_frames(p);
	/* What waits for a link would be stale when there is one. */
	if (p->nb_out + 2 > OG_ETHDEV_FRAMES_OUT &&
		__atomic_load_n(&p->nic->no_link, __ATOMIC_RELAXED))
		drop_frames(p);
	return p->nb_out + 2 <= OG_ETHDEV_FRAMES_OUT;
}

void og_ethdev_send_to(struct og_port_ethdev *p, const struct og_inet_mac *mac, struct rte_mbuf *m)
{
	og_frame_wrap(m, &p->nic->self, mac, p->nic->dev.tx_sums, &p->fragment_id);
	og_ethdev_queue(p, m);
}

/* ---- other cores than the first ---- */

/* False when too much waits for the first core. */
static bool give_errand(struct og_port_ethdev *p, const struct og_ethdev_errand *e)
{
	return rte_ring_sp_enqueue_burst_elem(p->errands, e, sizeof(*e), 1, NULL) == 1;
}

/* It may be asleep. */
static void ring_first(const struct og_port_ethdev *p)
{
	if (!is_first(p) && p->nic->first_bell && og_ring_count(p->errands) > 0)
		og_doorbell_ring(p->nic->first_bell);
}

static void tell_wanted(struct og_port_ethdev *p, const uint8_t hop[4], int at, uint64_t now_ns)
{
	struct og_ethdev_errand e = {.what = OG_ETHDEV_WANTED};

	if (now_ns - p->wanted_ns[at] < WANTED_NS)
		return;
	p->wanted_ns[at] = now_ns;
	memcpy(e.ip, hop, sizeof(e.ip));
	(void)give_errand(p, &e); /* told again in a second */
}

/* False when it is to be offered again. */
static bool route_by_board(
	struct og_port_ethdev *p, struct rte_mbuf *m, const uint8_t hop[4], uint64_t now_ns)
{
	struct og_ethdev_errand e = {.what = OG_ETHDEV_SEND, .m = m};
	struct og_inet_mac mac;
	int at = -1;

	if (og_device_sends(&p->nic->dev, p->queue))
		at = og_neigh_board_find(&p->nic->board, hop, &mac);
	if (at < 0) {
		memcpy(e.ip, hop, sizeof(e.ip));
		return give_errand(p, &e);
	}
	tell_wanted(p, hop, at, now_ns);
	og_ethdev_send_to(p, &mac, m);
	return true;
}

static void neighbour_answered(
	struct og_port_ethdev *p, const struct og_inet_input *in, uint64_t now_ns)
{
	struct og_ethdev_errand e = {.what = OG_ETHDEV_ANSWERED, .mac = in->neighbour_mac};

	if (is_first(p)) {
		og_ethdev_first_learn(p, in->neighbour_ip, &in->neighbour_mac, now_ns);
		return;
	}
	memcpy(e.ip, in->neighbour_ip, sizeof(e.ip));
	if (give_errand(p, &e))
		ring_first(p);
	else
		og_port_drop(&p->port, OG_DROP_ARP_LIMITED); /* it is asked again */
}

/* ---- all ---- */

/* False when it is to be offered again. */
static bool route(struct og_port_ethdev *p, struct rte_mbuf *m, uint64_t now_ns)
{
	uint8_t hop[4];

	if (rte_pktmbuf_pkt_len(m) + OG_INET_UDP_OVERHEAD_BYTES > p->nic->dev.mtu) {
		og_ethdev_give_up(p, m, OG_DROP_TX_TOO_LONG);
		return true;
	}
	if (!og_inet_next_hop(&p->nic->self, &og_packet(m)->peer, hop)) {
		og_ethdev_give_up(p, m, OG_DROP_NO_ROUTE);
		return true;
	}
	if (!is_first(p))
		return route_by_board(p, m, hop, now_ns);
	og_ethdev_first_route(p, m, hop, now_ns);
	return true;
}

/* Handle one frame; returns it as a datagram if it is one, else it is used up. */
static struct rte_mbuf *input(struct og_port_ethdev *p, struct rte_mbuf *m, uint64_t now_ns)
{
	struct og_inet_input in;

	og_frame_input(m, &p->nic->self, &in);
	switch (in.verdict) {
	case OG_INET_UDP:
		return m;
	case OG_INET_REPLY:
		og_ethdev_queue(p, m);
		return NULL;
	case OG_INET_LEARN:
		neighbour_answered(p, &in, now_ns);
		rte_pktmbuf_free(m);
		return NULL;
	case OG_INET_DROP:
		break;
	}
	og_ethdev_give_up(p, m, in.reason);
	return NULL;
}

static void give_device_up(struct og_port_ethdev *p)
{
	drop_frames(p);
	if (is_first(p))
		og_ethdev_first_forget(p);
}

/* False while the device is in the main thread's hands. */
static bool has_device(struct og_port_ethdev *p)
{
	/* Acquire: pairs with the release in give_device(). */
	uint32_t owner = __atomic_load_n(&p->owner, __ATOMIC_ACQUIRE);

	if (owner == OG_ETHDEV_CORE) {
		if (is_first(p) && __atomic_load_n(&p->nic->announce, __ATOMIC_RELAXED)) {
			__atomic_store_n(&p->nic->announce, false, __ATOMIC_RELAXED);
			og_ethdev_first_announce(p);
		}
		return true;
	}
	if (owner == OG_ETHDEV_ASKED)
		give_device_up(p);
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
	uint16_t nb_frames = 0, got = 0;

	if (!has_device(p))
		return 0;
	if (og_device_receives(&p->nic->dev, p->queue))
		nb_frames = rte_eth_rx_burst(
			p->nic->dev.id, p->queue, frames, OG_MIN(n, (uint16_t)OG_BURST));
	for (uint16_t i = 0; i < nb_frames; i++) {
		struct rte_mbuf *m = input(p, frames[i], now_ns);

		if (m)
			pkts[got++] = m;
	}
	if (is_first(p))
		og_ethdev_first_pass(p, now_ns);
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
			og_ethdev_give_up(p, pkts[i], OG_DROP_NO_LINK);
		return n;
	}
	for (i = 0; i < n; i++)
		if (!og_ethdev_room(p) || !route(p, pkts[i], now_ns))
			break;
	send_frames(p);
	ring_first(p);
	return i;
}

static int start(struct og_port *port)
{
	struct og_port_ethdev *p = og_port_ethdev(port);

	if (is_first(p) && p->owner == OG_ETHDEV_CORE) {
		og_ethdev_first_announce(p);
		send_frames(p);
	}
	return 0;
}

static void local_addr(const struct og_port *port, uint16_t endpoint, struct og_addr *out)
{
	const struct og_inet *self = &og_port_ethdev(port)->nic->self;

	memcpy(out->ip, self->ip, sizeof(out->ip));
	out->port = self->ports[endpoint];
}

static uint32_t wait_fds(const struct og_port *port, int fds[OG_PORT_FDS_MAX])
{
	(void)port;
	(void)fds;
	return 0; /* few devices have receive interrupts: the core sleeps in short naps */
}

static bool waits(const struct og_port *port)
{
	const struct og_port_ethdev *p = og_port_ethdev(port);

	return is_first(p) && og_ethdev_first_waits(p->nic);
}

/* ---- main thread ---- */

static void free_port(struct og_port_ethdev *p)
{
	if (!p)
		return;
	free(p->errands);
	free(p->wanted_ns);
	free(p);
}

static void free_nic(struct og_ethdev *nic)
{
	for (uint16_t i = 0; i < OG_CORES_MAX; i++)
		rte_mempool_free(nic->retired[i]);
	free(nic->devargs);
	free(nic);
}

static void close_port(struct og_port *port)
{
	struct og_port_ethdev *p = og_port_ethdev(port);
	struct og_ethdev *nic = p->nic;

	if (is_first(p) && !nic->closed)
		og_device_close(&nic->dev);
	drop_frames(p);
	if (is_first(p)) {
		og_ethdev_first_forget(p);
		free_nic(nic);
	} else {
		og_ethdev_drop_errands(p);
	}
	free_port(p);
}

static const struct og_port_ops ethdev_ops = {
	.start = start,
	.rx_burst = rx_burst,
	.tx_burst = tx_burst,
	.local_addr = local_addr,
	.wait_fds = wait_fds,
	.waits = waits,
	.supervise = og_port_ethdev_supervise,
	.absent = og_port_ethdev_absent,
	.close = close_port,
};

static uint16_t random_port(struct og_rand *rand)
{
	return (uint16_t)(DYNAMIC_PORT + og_rand_below(rand, UINT16_MAX + 1 - DYNAMIC_PORT));
}

static void set_identity(struct og_ethdev *nic, const struct og_port_ethdev_opts *opts)
{
	struct og_inet *self = &nic->self;
	struct og_rand rand;

	self->mac = nic->dev.mac;
	memcpy(self->ip, opts->addr.ip, sizeof(self->ip));
	memcpy(self->gateway, opts->gateway, sizeof(self->gateway));
	self->prefix_bits = opts->prefix_bits;
	self->nb_endpoints = opts->nb_endpoints;
	og_rand_system(&rand);
	self->ports[0] = opts->addr.port != 0 ? opts->addr.port : random_port(&rand);
	do {
		self->ports[1] = random_port(&rand);
	} while (self->ports[1] == self->ports[0]);
}

static void *zeroed(size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

	if (p)
		memset(p, 0, (bytes + 63) / 64 * 64);
	return p;
}

static int open_port(struct og_port_ethdev **out, struct og_ethdev *nic, uint16_t queue,
	struct rte_mempool *pool)
{
	struct og_port_ethdev *p = zeroed(sizeof(*p));
	int ret = 0;

	if (!p)
		return -ENOMEM;
	p->port = (struct og_port){.ops = &ethdev_ops,
		.name = "ethdev",
		.pool = pool,
		.nb_endpoints = nic->self.nb_endpoints};
	p->nic = nic;
	p->owner = nic->closed ? OG_ETHDEV_MAIN : OG_ETHDEV_CORE;
	p->queue = queue;
	/* Far from those of other cores. */
	p->fragment_id = (uint16_t)(queue * (UINT16_MAX / OG_CORES_MAX));
	if (queue > 0) {
		p->wanted_ns = calloc(OG_NEIGH_ENTRIES, sizeof(*p->wanted_ns));
		ret = p->wanted_ns ? og_ring_create(
					     &p->errands, sizeof(struct og_ethdev_errand), ERRANDS)
				   : -ENOMEM;
	}
	if (ret < 0)
		free_port(p);
	else
		*out = p;
	return ret;
}

/* The device, or none yet: a memif's server may come later. */
static int open_device(struct og_ethdev *nic, struct rte_mempool *const *pools, uint16_t nb_pools,
	const struct og_port_ethdev_opts *opts)
{
	int ret = og_memif_reach(nic->devargs);

	if (ret == 0) {
		ret = og_device_open(&nic->dev, nic->devargs, opts->mtu, pools, nb_pools);
		nic->nb_ports = nic->dev.nb_queues;
		if (ret == 0 || og_memif_reach(nic->devargs) == 0)
			return ret;
		ret = -EAGAIN; /* it has just gone */
	}
	og_ethdev_say_why(nic, ret);
	if (ret != -EAGAIN)
		return ret;
	nic->closed = nic->never = true;
	nic->nb_ports = og_devargs_queues(nic->devargs, nb_pools);
	return 0;
}

static int open_nic(struct og_ethdev **out, struct rte_mempool *const *pools, uint16_t nb_pools,
	const struct og_port_ethdev_opts *opts)
{
	struct og_ethdev *nic = zeroed(sizeof(*nic));
	int ret = -ENOMEM;

	if (!nic)
		return ret;
	nic->mtu_wanted = opts->mtu;
	nic->first_bell = opts->first;
	nic->devargs = strdup(opts->devargs);
	if (nic->devargs)
		ret = open_device(nic, pools, nb_pools, opts);
	if (ret < 0) {
		free_nic(nic);
		return ret;
	}
	set_identity(nic, opts);
	nic->state = nic->closed ? OG_DEVICE_GONE : og_device_look(&nic->dev);
	nic->no_link = nic->state != OG_DEVICE_UP;
	nic->arp_requests = 1;
	*out = nic;
	return 0;
}

int og_port_ethdev_open(struct og_port **out, uint16_t *nb_ports, struct rte_mempool *const *pools,
	uint16_t nb_pools, const struct og_port_ethdev_opts *opts)
{
	struct og_ethdev *nic;
	int ret = 0;

	if (opts->nb_endpoints == 0 || opts->nb_endpoints > OG_PORT_ENDPOINTS_MAX ||
		opts->prefix_bits > 32 || og_addr_u32(&opts->addr) == 0 || nb_pools == 0 ||
		nb_pools > OG_CORES_MAX)
		return -EINVAL;
	ret = open_nic(&nic, pools, nb_pools, opts);
	if (ret < 0)
		return ret;
	for (uint16_t i = 0; i < nic->nb_ports && ret == 0; i++)
		ret = open_port(&nic->ports[i], nic, i, pools[i]);
	if (ret < 0) {
		for (uint16_t i = 0; i < nic->nb_ports; i++)
			free_port(nic->ports[i]);
		if (!nic->closed)
			og_device_close(&nic->dev);
		free_nic(nic);
		return ret;
	}
	for (uint16_t i = 0; i < nic->nb_ports; i++)
		out[i] = &nic->ports[i]->port;
	*nb_ports = nic->nb_ports;
	return 0;
}
