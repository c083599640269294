/*
 * dht_sim.h: some DHT nodes in one process on a simulated link with virtual time.
 *
 * Every datagram sent is put into a queue with a delay, or lost. A node may sit behind a firewall
 * that lets in only what answers something it sent from the same endpoint.
 */
#pragma once
#include "dht/rpc_priv.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { SIM_NODES_MAX = 128, SIM_CONTACTS = 512, SIM_MTU = 1472 };

struct sim;

struct sim_node {
	struct og_tx tx;
	struct sim *sim;
	struct og_dht_rpc *rpc;
	struct og_addr local[2];
	struct og_rand rand;
	uint64_t next_ns;
	bool down;
	bool firewalled; /* by the simulated firewall */
	uint64_t contacts[2][SIM_CONTACTS];
	uint32_t nb_contacts[2];
	uint64_t bytes_out;
	uint8_t buf[SIM_MTU];
};

struct sim_packet {
	uint64_t at_ns;
	uint64_t order;
	struct og_addr src;
	struct og_addr dst;
	uint16_t len_bytes;
	uint8_t *data;
};

struct sim {
	uint64_t now_ns;
	uint32_t nb_nodes;
	struct sim_node *nodes[SIM_NODES_MAX];
	struct sim_packet *heap;
	uint32_t nb_packets;
	uint32_t cap;
	uint64_t order;
	uint32_t loss_percent;
	uint64_t delay_min_ns;
	uint64_t delay_max_ns;
	uint64_t nb_sent;
	struct og_rand rand;
	/* Sees every datagram that is sent, before loss. May be NULL. */
	void (*tap)(struct sim *sim, const struct og_addr *src, const struct og_addr *dst,
		const uint8_t *data, uint16_t len_bytes);
	void *tap_ctx;
};

static inline bool packet_before(const struct sim_packet *a, const struct sim_packet *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static inline void sim_send(struct sim *sim, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	struct sim_packet p = {.src = *src, .dst = *dst, .len_bytes = len_bytes};
	uint32_t i;

	sim->nb_sent++;
	if (sim->tap)
		sim->tap(sim, src, dst, data, len_bytes);
	if (og_rand_below(&sim->rand, 100) < sim->loss_percent)
		return;
	p.at_ns = sim->now_ns + sim->delay_min_ns +
		  og_rand_below(&sim->rand, (uint32_t)(sim->delay_max_ns - sim->delay_min_ns) + 1);
	p.order = sim->order++;
	p.data = malloc(len_bytes); /* exact size: an over-read is seen by ASan */
	memcpy(p.data, data, len_bytes);
	if (sim->nb_packets == sim->cap) {
		sim->cap = sim->cap ? 2 * sim->cap : 1024;
		sim->heap = realloc(sim->heap, sim->cap * sizeof(p));
	}
	i = sim->nb_packets++;
	while (i > 0 && packet_before(&p, &sim->heap[(i - 1) / 2])) {
		sim->heap[i] = sim->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	sim->heap[i] = p;
}

static inline struct sim_packet sim_pop(struct sim *sim)
{
	struct sim_packet first = sim->heap[0];
	struct sim_packet last = sim->heap[--sim->nb_packets];
	uint32_t i = 0;

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= sim->nb_packets)
			break;
		if (child + 1 < sim->nb_packets &&
			packet_before(&sim->heap[child + 1], &sim->heap[child]))
			child++;
		if (!packet_before(&sim->heap[child], &last))
			break;
		sim->heap[i] = sim->heap[child];
		i = child;
	}
	sim->heap[i] = last;
	return first;
}

static inline uint8_t *sim_reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	struct sim_node *n = OG_CONTAINER_OF(tx, struct sim_node, tx);

	*cap_bytes = SIM_MTU;
	return n->buf;
}

static inline void sim_commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst,
	uint8_t ttl, uint16_t len_bytes)
{
	struct sim_node *n = OG_CONTAINER_OF(tx, struct sim_node, tx);

	cr_assert_lt(endpoint, 2);
	cr_assert_neq(n->local[endpoint].port, 0);
	n->bytes_out += len_bytes;
	n->contacts[endpoint][n->nb_contacts[endpoint]++ % SIM_CONTACTS] = og_addr_key(dst);
	sim_send(n->sim, &n->local[endpoint], dst, n->buf, len_bytes);
}

static inline void sim_init(struct sim *sim, uint64_t seed)
{
	memset(sim, 0, sizeof(*sim));
	sim->now_ns = 1000 * OG_NS_PER_S;
	sim->delay_min_ns = 5 * OG_NS_PER_MS;
	sim->delay_max_ns = 40 * OG_NS_PER_MS;
	og_rand_seeded(&sim->rand, seed);
}

static inline void sim_fini(struct sim *sim)
{
	for (uint32_t i = 0; i < sim->nb_nodes; i++) {
		og_dht_rpc_destroy(sim->nodes[i]->rpc);
		free(sim->nodes[i]);
	}
	while (sim->nb_packets > 0)
		free(sim_pop(sim).data);
	free(sim->heap);
}

static inline struct og_addr sim_addr(uint32_t ip, uint16_t port)
{
	return og_addr_from_key((uint64_t)ip << 16 | port);
}

/* Adds and starts a node at ip:port, its client socket at port + 10000. */
static inline struct sim_node *sim_add(
	struct sim *sim, uint32_t ip, uint16_t port, const struct og_dht_rpc_opts *given)
{
	struct sim_node *n = calloc(1, sizeof(*n));
	struct og_dht_rpc_opts opts = *given;

	cr_assert_lt(sim->nb_nodes, SIM_NODES_MAX);
	n->sim = sim;
	n->tx = (struct og_tx){sim_reserve, sim_commit};
	n->local[0] = sim_addr(ip, port);
	n->local[1] = sim_addr(ip, (uint16_t)(port + 10000));
	og_rand_seeded(&n->rand, og_rand_u64(&sim->rand));
	opts.local[0] = n->local[0];
	opts.local[1] = n->local[1];
	opts.tx = &n->tx;
	opts.rand = &n->rand;
	opts.nb_requests = opts.nb_requests ? opts.nb_requests : 256;
	opts.nb_queries = opts.nb_queries ? opts.nb_queries : 8;
	cr_assert_eq(og_dht_rpc_create(&n->rpc, &opts, sim->now_ns), 0);
	n->next_ns = sim->now_ns;
	sim->nodes[sim->nb_nodes++] = n;
	return n;
}

static inline bool sim_lets_in(
	const struct sim_node *n, unsigned endpoint, const struct og_addr *src)
{
	if (n->down)
		return false;
	if (!n->firewalled)
		return true;
	for (unsigned i = 0; i < SIM_CONTACTS; i++)
		if (n->contacts[endpoint][i] == og_addr_key(src))
			return true;
	return false;
}

static inline void sim_deliver(struct sim *sim, struct sim_packet *p)
{
	for (uint32_t i = 0; i < sim->nb_nodes; i++) {
		struct sim_node *n = sim->nodes[i];

		for (uint16_t e = 0; e < 2; e++) {
			if (!og_addr_eq(&n->local[e], &p->dst) || !sim_lets_in(n, e, &p->src))
				continue;
			og_dht_rpc_input(n->rpc, e, &p->src, p->data, p->len_bytes, sim->now_ns);
			n->next_ns = og_dht_rpc_tick(n->rpc, sim->now_ns);
		}
	}
	free(p->data);
}

/* After calls into a node's rpc from outside. */
static inline void sim_kick(struct sim_node *n)
{
	n->next_ns = n->sim->now_ns;
}

static inline void sim_run_until(struct sim *sim, uint64_t end_ns)
{
	for (;;) {
		uint64_t at = end_ns;
		struct sim_node *next = NULL;

		for (uint32_t i = 0; i < sim->nb_nodes; i++)
			if (!sim->nodes[i]->down && sim->nodes[i]->next_ns < at) {
				next = sim->nodes[i];
				at = next->next_ns;
			}
		if (sim->nb_packets > 0 && sim->heap[0].at_ns <= at) {
			struct sim_packet p = sim_pop(sim);

			sim->now_ns = OG_MAX(sim->now_ns, p.at_ns);
			sim_deliver(sim, &p);
		} else if (next) {
			sim->now_ns = OG_MAX(sim->now_ns, at);
			next->next_ns = og_dht_rpc_tick(next->rpc, sim->now_ns);
			cr_assert(next->next_ns > sim->now_ns ||
					  next->rpc->req.refused_head !=
						  next->rpc->req.refused_tail ||
					  next->rpc->nb_queries_due > 0,
				"a tick that asks for itself at once makes no progress");
		} else {
			break;
		}
	}
	sim->now_ns = end_ns;
}

static inline void sim_run(struct sim *sim, uint64_t for_ns)
{
	sim_run_until(sim, sim->now_ns + for_ns);
}

/* The first node of a network: knows its own address, so it is persistent at once. */
static inline struct sim_node *sim_add_first(struct sim *sim, uint32_t ip, uint16_t port)
{
	struct og_dht_rpc_opts opts = {
		.public_addr = sim_addr(ip, port), .ephemeral = OG_NO, .firewalled = OG_NO};

	return sim_add(sim, ip, port, &opts);
}
