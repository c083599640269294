/*
 * neigh.h: who is at which MAC address: a bounded table of neighbours, each with a few packets that
 * wait for its answer.
 *
 * An entry is made only by our own wish to send there, and changed only by an answer to our ARP
 * request, so strangers cannot fill the table. An answer holds for 60 s; then we ask again and go
 * on using it until three requests, a second apart, stay without answer. The owner walks the
 * buckets now and then, probes for packets that wait, and forgets the dead.
 *
 * Source:  RFC 826, RFC 1122 2.3.2; the timing is ours.
 * Units:   ns.
 * Threads: one owner.
 * Memory:  about 100 KiB, embedded; waiting packets are opaque and belong to the caller.
 */
#pragma once
#include "dataplane/inet.h"

enum { OG_NEIGH_BUCKETS = 128, OG_NEIGH_WAYS = 8, OG_NEIGH_QUEUE = 4, OG_NEIGH_PROBES = 3 };
enum { OG_NEIGH_ENTRIES = OG_NEIGH_BUCKETS * OG_NEIGH_WAYS };

struct og_neigh {
	uint8_t ip[4];
	struct og_inet_mac mac;
	bool used;
	bool known;     /* mac is valid */
	uint8_t probes; /* requests since the last answer */
	uint8_t nb_waiting;
	uint64_t confirmed_ns;
	uint64_t probed_ns;
	uint64_t wanted_ns;
	void *waiting[OG_NEIGH_QUEUE];
};

struct og_neigh_table {
	struct og_neigh entries[OG_NEIGH_BUCKETS][OG_NEIGH_WAYS];
};

/* Which bucket is that of `ip`. */
uint32_t og_neigh_bucket(const uint8_t ip[4]);
/*
 * The entry of `ip`, made if it is missing. NULL when its bucket is full of neighbours that packets
 * wait for; else the one wanted least recently gives way.
 */
struct og_neigh *og_neigh_get(struct og_neigh_table *t, const uint8_t ip[4], uint64_t now_ns);
/* True when an ARP request should go out now; it is counted as sent. */
bool og_neigh_probe(struct og_neigh *n, uint64_t now_ns);
/* Let `packet` wait. Returns the packet that gives way to it (the oldest), or NULL. */
void *og_neigh_wait(struct og_neigh *n, void *packet);
/* An ARP reply. Returns the entry, whose waiting packets may now go, or NULL if nobody asked. */
struct og_neigh *og_neigh_learn(struct og_neigh_table *t, const uint8_t ip[4],
	const struct og_inet_mac *mac, uint64_t now_ns);
/* True for a neighbour that did not answer: drop its waiting packets, then og_neigh_forget(). */
bool og_neigh_dead(const struct og_neigh *n, uint64_t now_ns);
void og_neigh_forget(struct og_neigh *n);
