/*
 * dht_net.h: whole hyperdht nodes on the simulated link of dht_sim.h, with virtual time.
 *
 * Jobs run when they are posted and come back after a delay. Streams are stand-ins: a live id, and
 * one UDX-shaped datagram that a side sends when its stream starts. A datagram for a reserved
 * stream is offered to og_dht_stream_seen(), as the transport does.
 */
#pragma once
#include "crypto/job.h"
#include "dht/dht.h"
#include "dht_sim.h"

#include <errno.h>

enum { NET_NODES_MAX = 64, NET_STREAMS = 4096, NET_JOBS = 512, NET_EVENTS = 512 };

struct net;

enum net_stream_state { STREAM_FREE, STREAM_RESERVED, STREAM_STARTED };

struct net_stream {
	uint8_t state;
	bool received; /* a packet came in */
	uint32_t udx_id;
	struct og_dht_conn conn;
	struct og_noise_keys keys;
};

struct net_job {
	uint64_t at_ns;
	struct og_job job;
};

struct net_node {
	struct og_tx tx;
	struct og_jobs jobs;
	struct net *net;
	struct og_dht *dht;
	struct og_addr local[2];
	struct og_rand rand;
	struct og_keypair kp;
	uint64_t next_ns;
	bool down;
	bool in_callback;
	/* Jobs, a ring. */
	bool no_jobs;
	uint32_t job_head, job_tail, nb_jobs_max;
	uint64_t worker_free_ns;
	struct og_job draft;
	struct net_job *ring;
	uint32_t nb_streams_max, nb_streams, evict_next;
	struct net_stream *streams;
	/* What it was told. */
	bool refuse_incoming;
	uint32_t nb_firewall_calls;
	uint32_t nb_connected, nb_failed, nb_released;
	int last_reason;
	struct og_dht_conn last_conn;
	struct og_noise_keys last_keys;
	uint64_t last_tag;
	uint32_t nb_peers;
	uint8_t peers[NET_EVENTS][32];
	uint32_t nb_topic_done;
	int topic_status;
	uint32_t topic_stored;
	uint32_t nb_values;
	int value_status;
	uint64_t value_seq;
	uint32_t value_bytes;
	uint8_t value[OG_DHT_STORED_MAX];
	uint32_t nb_states;
	uint32_t nb_relays;
	bool told_stopped;
	uint8_t buf[SIM_MTU];
};

struct net {
	struct sim sim; /* its packets, its clock and its randomness */
	uint64_t job_delay_ns;
	uint64_t job_takes_ns; /* of the one worker that each node has */
	uint32_t nb_nodes;
	struct net_node *nodes[NET_NODES_MAX];
	/* True: the datagram is lost. May be NULL. */
	bool (*drop)(struct net *net, const struct og_addr *src, const struct og_addr *dst,
		const uint8_t *data, uint16_t len_bytes);
	void *drop_ctx;
	/* Gets what is sent to an address where no node is. May be NULL. */
	void (*stranger)(struct net *net, const struct sim_packet *p);
	bool plain_crypto; /* handshake jobs copy instead of computing: for tests by the thousand */
	uint32_t nb_plain;
};

/* ---- What a node calls ---- */

static inline void net_commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst,
	uint8_t ttl, uint16_t len_bytes)
{
	struct net_node *n = OG_CONTAINER_OF(tx, struct net_node, tx);
	struct net *net = n->net;

	cr_assert_lt(endpoint, 2);
	cr_assert_leq(len_bytes, 1216);
	if (net->drop && net->drop(net, &n->local[endpoint], dst, n->buf, len_bytes))
		return;
	sim_send(&net->sim, &n->local[endpoint], dst, n->buf, len_bytes);
}

static inline uint8_t *net_reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = SIM_MTU;
	return OG_CONTAINER_OF(tx, struct net_node, tx)->buf;
}

static inline struct og_job *net_job_begin(struct og_jobs *jobs)
{
	struct net_node *n = OG_CONTAINER_OF(jobs, struct net_node, jobs);

	if (n->no_jobs || n->job_head - n->job_tail >= n->nb_jobs_max)
		return NULL;
	memset(&n->draft, 0xa5, sizeof(n->draft));
	return &n->draft;
}

/* Messages as long as real ones, unique, with the payload in clear. */
static inline void net_plain_job(struct net *net, struct og_job *job)
{
	if (job->run == og_job_noise_connect) {
		struct og_job_noise_connect *w = OG_JOB_BODY(job, noise_connect);

		memset(w->message, 0, OG_NOISE_IK_1_OVERHEAD);
		og_store_le32(w->message, ++net->nb_plain);
		memcpy(w->message + OG_NOISE_IK_1_OVERHEAD, w->payload, w->payload_bytes);
		w->message_bytes = (uint16_t)(OG_NOISE_IK_1_OVERHEAD + w->payload_bytes);
	} else if (job->run == og_job_noise_accept) {
		struct og_job_noise_accept *w = OG_JOB_BODY(job, noise_accept);

		w->payload_bytes = (uint16_t)(w->message_bytes - OG_NOISE_IK_1_OVERHEAD);
		memcpy(w->payload, w->message + OG_NOISE_IK_1_OVERHEAD, w->payload_bytes);
		memcpy(w->remote_key, w->message, sizeof(w->remote_key));
	} else if (job->run == og_job_noise_reply) {
		struct og_job_noise_reply *w = OG_JOB_BODY(job, noise_reply);

		memset(w->message, 0, OG_NOISE_IK_2_OVERHEAD);
		memcpy(w->message + OG_NOISE_IK_2_OVERHEAD, w->payload, w->payload_bytes);
		w->message_bytes = (uint16_t)(OG_NOISE_IK_2_OVERHEAD + w->payload_bytes);
	} else if (job->run == og_job_noise_finish) {
		struct og_job_noise_finish *w = OG_JOB_BODY(job, noise_finish);

		w->payload_bytes = (uint16_t)(w->message_bytes - OG_NOISE_IK_2_OVERHEAD);
		memcpy(w->payload, w->message + OG_NOISE_IK_2_OVERHEAD, w->payload_bytes);
	} else {
		job->run(job);
		return;
	}
	job->result = 0;
}

static inline void net_job_post(struct og_jobs *jobs, struct og_job *job)
{
	struct net_node *n = OG_CONTAINER_OF(jobs, struct net_node, jobs);
	struct net_job *slot = &n->ring[n->job_head++ % NET_JOBS];

	n->worker_free_ns = OG_MAX(n->worker_free_ns, n->net->sim.now_ns) + n->net->job_takes_ns;
	slot->at_ns = n->worker_free_ns + n->net->job_delay_ns;
	slot->job = *job;
	if (n->net->plain_crypto)
		net_plain_job(n->net, &slot->job);
	else
		slot->job.run(&slot->job);
}

static inline bool net_firewall(void *ctx, const uint8_t remote_key[32], bool incoming)
{
	struct net_node *n = ctx;

	n->nb_firewall_calls += incoming;
	return incoming && n->refuse_incoming;
}

/* As cluster/peers.c: who was accepted first and has sent nothing yet gives way. */
static inline bool net_evict_silent(struct net_node *n)
{
	for (uint32_t i = 0; i < NET_STREAMS; i++) {
		struct net_stream *s = &n->streams[n->evict_next++ % NET_STREAMS];

		if (s->state == STREAM_STARTED && !s->conn.initiator && !s->received) {
			s->state = STREAM_FREE;
			n->nb_streams--;
			return true;
		}
	}
	return false;
}

static inline int net_stream_reserve(void *ctx, const uint8_t remote_key[32], uint64_t *stream,
	uint32_t *udx_id, uint64_t now_ns)
{
	struct net_node *n = ctx;

	if (n->nb_streams == n->nb_streams_max && !net_evict_silent(n))
		return -ENOSPC;
	for (uint32_t i = 0; i < NET_STREAMS; i++) {
		if (n->streams[i].state != STREAM_FREE)
			continue;
		n->streams[i] = (struct net_stream){
			.state = STREAM_RESERVED, .udx_id = og_rand_u32(&n->rand)};
		n->nb_streams++;
		*stream = i | 7ull << 32;
		*udx_id = n->streams[i].udx_id;
		return 0;
	}
	return -ENOSPC;
}

static inline struct net_stream *net_stream(struct net_node *n, uint64_t stream)
{
	cr_assert_eq(stream >> 32, 7);
	cr_assert_lt((uint32_t)stream, NET_STREAMS);
	return &n->streams[(uint32_t)stream];
}

static inline void net_stream_release(void *ctx, uint64_t stream, uint64_t now_ns)
{
	struct net_node *n = ctx;

	cr_assert_eq(net_stream(n, stream)->state, STREAM_RESERVED);
	net_stream(n, stream)->state = STREAM_FREE;
	n->nb_streams--;
	n->nb_released++;
}

static inline void net_send_udx(struct net_node *n, struct net_stream *s)
{
	uint8_t packet[20] = {0xff, 1, 1};

	og_store_le32(packet + 4, s->conn.remote_udx_id);
	sim_send(
		&n->net->sim, &n->local[s->conn.endpoint], &s->conn.remote, packet, sizeof(packet));
}

static inline void net_connected(void *ctx, const struct og_dht_conn *c, uint64_t now_ns)
{
	struct net_node *n = ctx;
	struct net_stream *s = net_stream(n, c->stream);

	cr_assert_eq(s->state, STREAM_RESERVED);
	s->state = STREAM_STARTED;
	s->conn = *c;
	s->keys = *c->keys;
	n->nb_connected++;
	n->last_conn = *c;
	n->last_keys = *c->keys;
	if (c->has_remote)
		net_send_udx(n, s);
}

static inline void net_connect_failed(
	void *ctx, uint64_t tag, const uint8_t remote_key[32], int reason, uint64_t now_ns)
{
	struct net_node *n = ctx;

	n->nb_failed++;
	n->last_reason = reason;
	n->last_tag = tag;
}

static inline void net_topic_peer(void *ctx, const uint8_t topic[32], const uint8_t key[32],
	const struct og_addr *relays, uint32_t nb_relays, uint64_t now_ns)
{
	struct net_node *n = ctx;

	for (uint32_t i = 0; i < n->nb_peers; i++) {
		if (memcmp(n->peers[i], key, 32) == 0)
			return;
	}
	cr_assert_lt(n->nb_peers, NET_EVENTS);
	memcpy(n->peers[n->nb_peers++], key, 32);
}

static inline void net_topic_done(void *ctx, const uint8_t topic[32], enum og_dht_topic_op op,
	int status, uint32_t stored_on, uint64_t now_ns)
{
	struct net_node *n = ctx;

	n->nb_topic_done++;
	n->topic_status = status;
	n->topic_stored = stored_on;
}

static inline void net_value_done(void *ctx, uint64_t tag, int status, uint64_t seq,
	const uint8_t *value, uint32_t bytes, uint64_t now_ns)
{
	struct net_node *n = ctx;

	n->nb_values++;
	n->value_status = status;
	n->value_seq = seq;
	n->value_bytes = bytes;
	if (bytes > 0)
		memcpy(n->value, value, bytes);
}

static inline void net_server_state(void *ctx, uint32_t nb_relays, uint64_t now_ns)
{
	struct net_node *n = ctx;

	n->nb_states++;
	n->nb_relays = nb_relays;
	n->told_stopped |= nb_relays == 0;
}

static const struct og_dht_ops net_ops = {
	.firewall = net_firewall,
	.stream_reserve = net_stream_reserve,
	.stream_release = net_stream_release,
	.connected = net_connected,
	.connect_failed = net_connect_failed,
	.topic_peer = net_topic_peer,
	.topic_done = net_topic_done,
	.value_done = net_value_done,
	.server_state = net_server_state,
};

/* ---- The network ---- */

static inline void net_init(struct net *net, uint64_t seed)
{
	memset(net, 0, sizeof(*net));
	sim_init(&net->sim, seed);
	net->job_delay_ns = OG_NS_PER_MS;
	cr_assert_eq(og_crypto_init(), 0);
}

static inline void net_remove(struct net_node *n)
{
	og_dht_destroy(n->dht);
	free(n->ring);
	free(n->streams);
	free(n);
}

static inline void net_fini(struct net *net)
{
	for (uint32_t i = 0; i < net->nb_nodes; i++)
		net_remove(net->nodes[i]);
	while (net->sim.nb_packets > 0)
		free(sim_pop(&net->sim).data);
	free(net->sim.heap);
}

static inline struct net_node *net_add(
	struct net *net, uint32_t ip, uint16_t port, const struct og_dht_opts *given)
{
	struct net_node *n = calloc(1, sizeof(*n));
	struct og_dht_opts opts = *given;
	uint8_t seed[32];

	cr_assert_lt(net->nb_nodes, NET_NODES_MAX);
	n->net = net;
	n->tx = (struct og_tx){net_reserve, net_commit};
	n->jobs = (struct og_jobs){net_job_begin, net_job_post};
	n->nb_jobs_max = NET_JOBS;
	n->nb_streams_max = NET_STREAMS;
	n->ring = calloc(NET_JOBS, sizeof(*n->ring));
	n->streams = calloc(NET_STREAMS, sizeof(*n->streams));
	n->local[0] = sim_addr(ip, port);
	n->local[1] = sim_addr(ip, (uint16_t)(port + 10000));
	og_rand_seeded(&n->rand, og_rand_u64(&net->sim.rand));
	og_rand_fill(&n->rand, seed, sizeof(seed));
	og_keypair_from_seed(&n->kp, seed);
	opts.rpc.local[0] = n->local[0];
	opts.rpc.local[1] = n->local[1];
	opts.rpc.tx = &n->tx;
	opts.rpc.rand = &n->rand;
	opts.rpc.nb_requests = opts.rpc.nb_requests ? opts.rpc.nb_requests : 512;
	opts.keypair = &n->kp;
	opts.ops = &net_ops;
	opts.ctx = n;
	opts.jobs = &n->jobs;
	opts.store.nb_records = opts.store.nb_routes = 512;
	opts.store.nb_mutables = opts.store.nb_immutables = 64;
	cr_assert_eq(og_dht_create(&n->dht, &opts, net->sim.now_ns), 0);
	n->next_ns = net->sim.now_ns;
	net->nodes[net->nb_nodes++] = n;
	return n;
}

/* Persistent, open, storing: node `i` of a network whose first node is 0. */
static inline struct net_node *net_add_storing(struct net *net, uint32_t ip, uint16_t port)
{
	struct og_dht_opts opts = {.rpc = {.public_addr = sim_addr(ip, port),
					   .ephemeral = OG_NO,
					   .firewalled = OG_NO}};

	if (net->nb_nodes > 0) {
		opts.rpc.bootstrap = &net->nodes[0]->local[0];
		opts.rpc.nb_bootstrap = 1;
	}
	return net_add(net, ip, port, &opts);
}

/* A member that stores nothing; open unless `firewalled` is OG_YES. */
static inline struct net_node *net_add_member(
	struct net *net, uint32_t ip, uint16_t port, enum og_auto firewalled)
{
	struct og_addr local = sim_addr(ip, port);
	struct og_dht_opts opts = {.rpc = {.bootstrap = &net->nodes[0]->local[0],
					   .nb_bootstrap = 1,
					   .ephemeral = OG_YES,
					   .firewalled = firewalled},
		.local_addrs = &local,
		.nb_local_addrs = 1};

	return net_add(net, ip, port, &opts);
}

static inline bool net_udx(
	struct net *net, struct net_node *n, uint16_t endpoint, const struct sim_packet *p)
{
	if (p->len_bytes < 20 || p->data[0] != 0xff)
		return false;
	for (uint32_t i = 0; i < NET_STREAMS; i++) {
		struct net_stream *s = &n->streams[i];

		if (s->state == STREAM_FREE || s->udx_id != og_load_le32(p->data + 4))
			continue;
		if (s->state == STREAM_RESERVED)
			og_dht_stream_seen(
				n->dht, i | 7ull << 32, endpoint, &p->src, net->sim.now_ns);
		if (s->state == STREAM_STARTED)
			s->received = true;
	}
	return true;
}

static inline void net_deliver(struct net *net, struct sim_packet *p)
{
	bool known = false;

	for (uint32_t i = 0; i < net->nb_nodes; i++) {
		struct net_node *n = net->nodes[i];

		for (uint16_t e = 0; e < 2; e++) {
			if (!og_addr_eq(&n->local[e], &p->dst))
				continue;
			known = true;
			if (n->down)
				continue;
			if (!net_udx(net, n, e, p))
				og_dht_input(
					n->dht, e, &p->src, p->data, p->len_bytes, net->sim.now_ns);
			n->next_ns = og_dht_tick(n->dht, net->sim.now_ns);
		}
	}
	if (!known && net->stranger)
		net->stranger(net, p);
	free(p->data);
}

static inline uint64_t net_next(const struct net_node *n)
{
	uint64_t at = n->next_ns;

	if (n->job_head != n->job_tail)
		at = OG_MIN(at, n->ring[n->job_tail % NET_JOBS].at_ns);
	return at;
}

static inline void net_step(struct net *net, struct net_node *n)
{
	while (n->job_head != n->job_tail &&
		n->ring[n->job_tail % NET_JOBS].at_ns <= net->sim.now_ns) {
		struct og_job job = n->ring[n->job_tail++ % NET_JOBS].job;

		og_dht_job_done(n->dht, &job, net->sim.now_ns);
	}
	n->next_ns = og_dht_tick(n->dht, net->sim.now_ns);
}

static inline void net_run(struct net *net, uint64_t for_ns)
{
	uint64_t end = net->sim.now_ns + for_ns;

	for (;;) {
		uint64_t at = end;
		struct net_node *next = NULL;

		for (uint32_t i = 0; i < net->nb_nodes; i++) {
			struct net_node *n = net->nodes[i];

			if (!n->down && net_next(n) < at) {
				next = n;
				at = net_next(n);
			}
		}
		if (net->sim.nb_packets > 0 && net->sim.heap[0].at_ns <= at) {
			struct sim_packet p = sim_pop(&net->sim);

			net->sim.now_ns = OG_MAX(net->sim.now_ns, p.at_ns);
			net_deliver(net, &p);
		} else if (next) {
			net->sim.now_ns = OG_MAX(net->sim.now_ns, at);
			net_step(net, next);
		} else {
			break;
		}
	}
	net->sim.now_ns = end;
}

/* After calls into a node from outside. */
static inline void net_kick(struct net_node *n)
{
	n->next_ns = n->net->sim.now_ns;
}

/* `nb` storing nodes on private addresses, bootstrapped. */
static inline void net_grow(struct net *net, uint32_t nb)
{
	for (uint32_t i = 0; i < nb; i++) {
		net_add_storing(net, 0x0a000001 + i, 49737);
		net_run(net, 200 * OG_NS_PER_MS);
	}
	net_run(net, 20 * OG_NS_PER_S);
	for (uint32_t i = 0; i < nb; i++)
		cr_assert(og_dht_rpc_persistent(og_dht_rpc(net->nodes[i]->dht)), "%u", i);
}
