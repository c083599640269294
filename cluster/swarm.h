/*
 * swarm.h: whom to connect to and when: joined topics with their refreshes, found peers with their
 * retries. Decides only; the core acts through struct og_swarm_ops.
 *
 * A topic is announced again every 5 to 6 minutes (a record may live only 13 min 20 s), looked up
 * every 10 when joined as client only. A refresh that reached nobody is repeated after 1, 2, 4 … 30 s.
 * After the first refresh three early ones follow, so that members that start together, each looking
 * before the other has announced, meet within seconds.
 *
 * Source:  dht.md 10.1, 10.2; the refresh interval is our own.
 * Units:   times in ns, attempts since the last reset.
 * Threads: the core's lcore.
 * Memory:  og_swarm_create() takes all there will be; a full table of peers drops the least wanted.
 */
#pragma once
#include "base/addr.h"
#include "base/rand.h"

#include <stdbool.h>

enum {
	OG_SWARM_TOPICS_MAX = 64,
	OG_SWARM_RELAYS_MAX = 3,
	OG_SWARM_DIALS_MAX = 3,     /* attempts at a time */
	OG_SWARM_OUTGOING_MAX = 64, /* connected peers beyond which no topic peer is dialled */
};

enum og_swarm_topic_flags { OG_TOPIC_SERVER = 1, OG_TOPIC_CLIENT = 2 };

struct og_swarm_ops {
	/* Start the refresh: announce if flags has SERVER, else lookup. 0, or negative: retried. */
	int (*refresh)(void *ctx, const uint8_t topic[32], unsigned flags, uint64_t now_ns);
	int (*unannounce)(void *ctx, const uint8_t topic[32], uint64_t now_ns);
	int (*dial)(void *ctx, const uint8_t key[32], const struct og_addr *relays,
		uint32_t nb_relays, uint64_t tag, uint64_t now_ns);
	void (*dial_cancel)(void *ctx, uint64_t tag, uint64_t now_ns);
	bool (*allowed)(void *ctx, const uint8_t key[32]);
	/* The first refresh of a topic that stored or reached something ended. */
	void (*joined)(void *ctx, const uint8_t topic[32], uint32_t stored_on);
	void (*join_retry)(void *ctx, const uint8_t topic[32], uint64_t wait_ns);
	void (*left)(void *ctx, const uint8_t topic[32]);
};

struct og_swarm;

struct og_swarm_opts {
	const struct og_swarm_ops *ops;
	void *ctx;
	struct og_rand *rand;
	const uint8_t *own_key;
	uint32_t peers_max; /* known, connected or not */
};

int og_swarm_create(struct og_swarm **out, const struct og_swarm_opts *opts) OG_MUST_CHECK;
void og_swarm_destroy(struct og_swarm *s);

/* 0, or -ENOSPC. Joining again changes the flags and refreshes at once. */
int og_swarm_join(
	struct og_swarm *s, const uint8_t topic[32], unsigned flags, uint64_t now_ns) OG_MUST_CHECK;
void og_swarm_leave(struct og_swarm *s, const uint8_t topic[32], uint64_t now_ns);
void og_swarm_leave_all(struct og_swarm *s, uint64_t now_ns);
uint32_t og_swarm_topics(const struct og_swarm *s);
/* Everything is due at once: the routing table is no longer empty, or the machine woke up. */
void og_swarm_refresh_all(struct og_swarm *s, uint64_t now_ns);

/* What the refresh found, and how it ended (stored_on: nodes that accepted the announce, or that
 * answered the lookup). */
void og_swarm_found(struct og_swarm *s, const uint8_t topic[32], const uint8_t key[32],
	const struct og_addr *relays, uint32_t nb_relays, uint64_t now_ns);
void og_swarm_refresh_done(
	struct og_swarm *s, const uint8_t topic[32], uint32_t stored_on, uint64_t now_ns);
void og_swarm_unannounce_done(struct og_swarm *s, const uint8_t topic[32], uint64_t now_ns);

/* Explicit peers: wanted without a topic. 0 or -ENOSPC. */
int og_swarm_dial(struct og_swarm *s, const uint8_t key[32], const struct og_addr *relays,
	uint32_t nb_relays, uint64_t now_ns) OG_MUST_CHECK;
void og_swarm_undial(struct og_swarm *s, const uint8_t key[32], uint64_t now_ns);
void og_swarm_ban(struct og_swarm *s, const uint8_t key[32], uint64_t now_ns);
void og_swarm_unban(struct og_swarm *s, const uint8_t key[32]);

/* How attempts and connections go. A peer that only ever called us is noted too. */
void og_swarm_dial_failed(struct og_swarm *s, uint64_t tag, uint64_t now_ns);
bool og_swarm_dialling(const struct og_swarm *s, const uint8_t key[32]);
/* An incoming connection won over our attempt. */
void og_swarm_dial_abandon(struct og_swarm *s, const uint8_t key[32], uint64_t now_ns);
void og_swarm_connected(struct og_swarm *s, const uint8_t key[32], bool outgoing, uint64_t now_ns);
void og_swarm_disconnected(struct og_swarm *s, const uint8_t key[32], uint64_t now_ns);

/* Refreshes, retries and dials that are due. Returns when it wants to be called next. */
uint64_t og_swarm_tick(struct og_swarm *s, uint64_t now_ns);
