/*
 * peers.h: the connections of a core to other members: from the reserved stream over the duplicate
 * rule to open, with write credit, read back-pressure, watching and the allow and deny lists.
 *
 * A connection has the slot and generation of its encrypted stream, so a handle of one is a handle
 * of the other. The router sees it only after the peer's first authenticated bytes. Until then an
 * incoming one is worth little: at a limit the oldest of them gives way to a new one.
 *
 * Source:  dht.md 10.3 (duplicate rule) with the verdict taken when the handshake arrives and
 *          carried out when the new connection has proved itself: a replayed handshake closes nothing.
 * Threads: the core's lcore.
 * Memory:  all at create.
 */
#pragma once
#include "cluster/core.h"
#include "cluster/outbox.h"
#include "cluster/swarm.h"
#include "dht/dht.h"
#include "transport/stream.h"

struct og_peers;

/*
 * The DHT and the swarm, which may be on another core: nothing here waits for them. `freed` may be NULL:
 * a stream that was reserved is gone, whatever became of it. The tag of a dial that fails is the DHT's.
 */
struct og_peers_ops {
	bool (*dialling)(void *ctx, const uint8_t key[32]);
	bool (*exempt)(void *ctx, const struct og_addr *a); /* from limits of a /24 */
	void (*first_packet)(void *ctx, uint64_t stream, uint16_t endpoint,
		const struct og_addr *src, uint64_t now_ns);
	void (*up)(void *ctx, const uint8_t key[32], bool initiator, uint64_t now_ns);
	void (*down)(void *ctx, const uint8_t key[32], uint64_t now_ns);
	void (*dial_failed)(void *ctx, uint64_t tag, uint64_t now_ns);
	void (*dial_abandon)(void *ctx, const uint8_t key[32], uint64_t now_ns);
	void (*freed)(void *ctx, uint64_t stream, uint64_t now_ns);
};

struct og_peers_opts {
	const uint8_t *own_key;
	uint8_t core_idx;
	uint32_t tag_key;   /* for the ids of streams */
	uint32_t slot_base; /* to others, slots here begin with it */
	uint32_t nb_conns;
	uint32_t per_key_max; /* connections of one key, those not yet open included; 0: 4 */
	uint32_t per_net_max; /* incoming ones of one limited /24; 0: 64 */
	uint32_t nb_packets;  /* 0: by nb_conns */
	uint64_t frame_budget_bytes;
	struct og_tx *tx;
	struct og_rand *rand;
	struct og_outbox *outbox;
	struct og_cluster_core_stats *stats;
};

int og_peers_create(struct og_peers **out, const struct og_peers_opts *opts) OG_MUST_CHECK;
void og_peers_destroy(struct og_peers *p);
/* The two neighbours that exist only after create. */
void og_peers_wire(struct og_peers *p, struct og_dht *dht, struct og_swarm *swarm);
/* The same when they are elsewhere. */
void og_peers_wire_far(struct og_peers *p, const struct og_peers_ops *ops, void *ctx);
/* Of all cores, by number. */
void og_peers_metrics_register(struct og_peers *const *peers, uint32_t nb);

/* For struct og_dht_ops. */
int og_peers_reserve(struct og_peers *p, uint64_t *stream, uint32_t *udx_id, uint64_t now_ns);
void og_peers_release(struct og_peers *p, uint64_t stream, uint64_t now_ns);
void og_peers_connected(struct og_peers *p, const struct og_dht_conn *c, uint64_t now_ns);
/* The oldest connection not yet open gives way; false when there is none. */
bool og_peers_evict(struct og_peers *p, uint64_t now_ns);
/* Streams in use, reserved ones included. */
uint32_t og_peers_held(const struct og_peers *p);
bool og_peers_allowed(const struct og_peers *p, const uint8_t key[32]);

/*
 * Does a command that is about connections or about who is allowed, and returns true; another one returns
 * false. A (slot, gen) that has passed is ignored.
 */
bool og_peers_command(struct og_peers *p, const struct og_msg *m, uint64_t now_ns) OG_MUST_CHECK;
/* 0 or -ENOSPC. */
int og_peers_list_add(struct og_peers *p, bool allow, const uint8_t key[32]) OG_MUST_CHECK;

/* A datagram: 0 if it was a stream's, -ENOENT: offer it to the DHT. flush() once per burst. */
int og_peers_input(struct og_peers *p, const struct og_dgram *d, uint64_t now_ns);
void og_peers_flush(struct og_peers *p, uint64_t now_ns);

void og_peers_end_all(struct og_peers *p, uint64_t now_ns);
void og_peers_close_all(struct og_peers *p, uint64_t now_ns);
uint32_t og_peers_count(const struct og_peers *p); /* reserved ones not counted */
uint64_t og_peers_tick(struct og_peers *p, uint64_t now_ns);
