#include "dataplane/packet.h"
#include "dataplane/port_ethdev_priv.h"
#include "dataplane/ring.h"

enum {
	WAITING_MAX = 256, /* packets that may wait for neighbours, in all */
	ARP_REQUESTS = 64, /* that may go out at once */
	ARP_PER_WALK = 2,  /* and then per WALK_NS */
};

/* Time between two buckets of the neighbour table: all of it in 128 ms. */
#define WALK_NS OG_NS_PER_MS

static void send_arp_request(struct og_port_ethdev *p, const uint8_t ip[4])
{
	struct rte_mbuf *m;

	if (p->nic->arp_requests == 0) {
		og_port_drop(&p->port, OG_DROP_ARP_LIMITED); /* the next probe is a second away */
		return;
	}
	p->nic->arp_requests--;
	m = rte_pktmbuf_alloc(p->port.pool);
	if (!m) {
		og_port_drop(&p->port, OG_DROP_RX_NO_MBUF);
		return;
	}
	og_inet_build_arp_request(&p->nic->self, rte_pktmbuf_mtod(m, uint8_t *), ip);
	m->data_len = OG_INET_ARP_BYTES;
	m->pkt_len = OG_INET_ARP_BYTES;
	og_ethdev_queue(p, m);
}

static void publish(struct og_ethdev *nic, const struct og_neigh *n)
{
	og_neigh_board_publish(&nic->board, &nic->neighbours, n);
}

/* Somebody wants to send there. NULL: no room in the table. */
static struct og_neigh *want(struct og_port_ethdev *p, const uint8_t ip[4], uint64_t now_ns)
{
	struct og_neigh *n = og_neigh_get(&p->nic->neighbours, ip, now_ns);

	if (!n)
		return NULL;
	if (!n->known)
		publish(p->nic, n); /* it may be in the place of another */
	if (og_neigh_probe(n, now_ns))
		send_arp_request(p, n->ip);
	return n;
}

void og_ethdev_first_route(
	struct og_port_ethdev *p, struct rte_mbuf *m, const uint8_t hop[4], uint64_t now_ns)
{
	struct og_neigh *n = want(p, hop, now_ns);
	struct rte_mbuf *oldest;

	if (!n) {
		og_ethdev_give_up(p, m, OG_DROP_NO_ROUTE);
		return;
	}
	if (n->known) {
		og_ethdev_send_to(p, &n->mac, m);
		return;
	}
	if (p->nic->nb_waiting == WAITING_MAX) {
		og_ethdev_give_up(p, m, OG_DROP_NO_ROUTE);
		return;
	}
	p->nic->nb_waiting++;
	oldest = og_neigh_wait(n, m);
	if (oldest) {
		p->nic->nb_waiting--;
		og_ethdev_give_up(p, oldest, OG_DROP_NO_ROUTE);
	}
}

void og_ethdev_first_learn(struct og_port_ethdev *p, const uint8_t ip[4],
	const struct og_inet_mac *mac, uint64_t now_ns)
{
	struct og_neigh *n = og_neigh_learn(&p->nic->neighbours, ip, mac, now_ns);

	if (!n) {
		og_port_drop(&p->port, OG_DROP_UNASKED);
		return;
	}
	publish(p->nic, n);
	for (uint8_t i = 0; i < n->nb_waiting; i++)
		og_ethdev_send_to(p, &n->mac, n->waiting[i]);
	p->nic->nb_waiting -= n->nb_waiting;
	n->nb_waiting = 0;
}

static void forget(struct og_port_ethdev *p, struct og_neigh *n)
{
	for (uint8_t i = 0; i < n->nb_waiting; i++)
		og_ethdev_give_up(p, n->waiting[i], OG_DROP_NO_ROUTE);
	p->nic->nb_waiting -= n->nb_waiting;
	og_neigh_forget(n);
	publish(p->nic, n);
}

void og_ethdev_first_forget(struct og_port_ethdev *p)
{
	for (uint32_t b = 0; b < OG_NEIGH_BUCKETS; b++)
		for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++)
			forget(p, &p->nic->neighbours.entries[b][i]);
}

/* Ask again for neighbours that packets wait for, and give up those that do not answer. */
static void walk(struct og_port_ethdev *p, uint64_t now_ns)
{
	struct og_ethdev *nic = p->nic;
	struct og_neigh *bucket = nic->neighbours.entries[nic->walk++ % OG_NEIGH_BUCKETS];

	for (uint32_t i = 0; i < OG_NEIGH_WAYS; i++) {
		struct og_neigh *n = &bucket[i];

		if (og_neigh_dead(n, now_ns))
			forget(p, n);
		else if (n->nb_waiting > 0 && og_neigh_probe(n, now_ns))
			send_arp_request(p, n->ip);
	}
	nic->arp_requests = OG_MIN(nic->arp_requests + ARP_PER_WALK, (uint32_t)ARP_REQUESTS);
	nic->walked_ns = now_ns;
}

void og_ethdev_first_announce(struct og_port_ethdev *p)
{
	p->nic->arp_requests = OG_MAX(p->nic->arp_requests, 1u); /* this one is not limited */
	send_arp_request(p, p->nic->self.ip);
}

static uint32_t take(struct rte_ring *ring, struct og_ethdev_errand *out, uint32_t n)
{
	return rte_ring_sc_dequeue_burst_elem(ring, out, sizeof(*out), n, NULL);
}

static void run_errand(struct og_port_ethdev *p, const struct og_ethdev_errand *e, uint64_t now_ns)
{
	switch (e->what) {
	case OG_ETHDEV_SEND:
		og_ethdev_first_route(p, e->m, e->ip, now_ns);
		break;
	case OG_ETHDEV_WANTED:
		(void)want(p, e->ip, now_ns);
		break;
	case OG_ETHDEV_ANSWERED:
		og_ethdev_first_learn(p, e->ip, &e->mac, now_ns);
		break;
	}
}

static void run_errands(struct og_port_ethdev *p, struct rte_ring *ring, uint64_t now_ns)
{
	struct og_ethdev_errand e;

	for (uint32_t i = 0; i < OG_BURST && og_ethdev_room(p) && take(ring, &e, 1) == 1; i++)
		run_errand(p, &e, now_ns);
}

void og_ethdev_first_pass(struct og_port_ethdev *p, uint64_t now_ns)
{
	for (uint16_t i = 1; i < p->nic->nb_ports; i++)
		run_errands(p, p->nic->ports[i]->errands, now_ns);
	if (now_ns - p->nic->walked_ns >= WALK_NS)
		walk(p, now_ns);
}

bool og_ethdev_first_waits(const struct og_ethdev *nic)
{
	for (uint16_t i = 1; i < nic->nb_ports; i++)
		if (og_ring_count(nic->ports[i]->errands) > 0)
			return true;
	return false;
}

void og_ethdev_drop_errands(struct og_port_ethdev *p)
{
	struct og_ethdev_errand e;

	while (take(p->errands, &e, 1) == 1)
		if (e.what == OG_ETHDEV_SEND)
			rte_pktmbuf_free(e.m);
}
