/*
 * store.h: what a persistent node keeps for others: topic records, routes to servers, bumps,
 * refresh chains, mutable and immutable values.
 *
 * The store checks no signature and no token: its caller has. Records of our own server are held
 * apart, never expire and cannot be replaced from outside.
 *
 * Source:  dht.md 7.1 to 7.5. Lifetimes are kept by age: 20 min for what announces make, 48 h
 *          since the last read for values. A new announce of a key replaces its record at once.
 * Units:   times ns of the caller's monotonic clock; bumps are ms since 1970.
 * Threads: one owner.
 * Memory:  all made by create; pages are touched as the store fills. Results point into the store
 *          and live until the next call that changes it.
 */
#pragma once
#include "base/rand.h"
#include "dht/values.h"

enum {
	OG_DHT_STORED_MAX = 1000, /* bytes of a value: its reply fits a datagram */
	OG_DHT_LOOKUP_MAX = 1000, /* bytes of a LOOKUP reply value, for the same reason */
};

struct og_dht_store_opts {
	struct og_rand *rand;
	uint64_t wall_ms; /* ms since 1970 at create; 0: unknown, bumps are not kept */
	/* Entries; 0 takes the default in brackets. */
	uint32_t nb_records;        /* [65536] */
	uint32_t nb_routes;         /* [65536] */
	uint32_t nb_bumps;          /* [4096] */
	uint32_t nb_refreshes;      /* [4096] */
	uint32_t nb_mutables;       /* [8192] */
	uint32_t nb_immutables;     /* [8192] */
	uint32_t per_topic;         /* records of one topic [256] */
	uint32_t per_prefix;        /* records, and routes, of one limited prefix [256] */
	uint32_t per_topic_prefix;  /* records of one topic from one limited prefix [20] */
	uint32_t values_per_prefix; /* values of each kind of one limited prefix [64] */
};

struct og_dht_store_counts {
	uint32_t records, routes, bumps, refreshes, mutables, immutables;
	uint64_t evicted;
};

/* Who stores: where it sent from, and the prefix its share is counted by (0: not limited). */
struct og_dht_source {
	struct og_addr addr;
	uint16_t endpoint; /* ours, on which its announce arrived */
	uint32_t prefix;
};

struct og_dht_route {
	struct og_addr addr;
	uint16_t endpoint;
};

struct og_dht_store;

int og_dht_store_create(struct og_dht_store **out, const struct og_dht_store_opts *opts,
	uint64_t now_ns) OG_MUST_CHECK;
void og_dht_store_destroy(struct og_dht_store *st);
void og_dht_store_tick(struct og_dht_store *st, uint64_t now_ns);
struct og_dht_store_counts og_dht_store_counts(const struct og_dht_store *st);

/* Our own server: `target` is B2(public_key). NULL takes it away. */
void og_dht_store_set_own(
	struct og_dht_store *st, const uint8_t *target, const uint8_t *public_key);
bool og_dht_store_is_own(const struct og_dht_store *st, const uint8_t target[32]);

/*
 * ANNOUNCE. `self`: the target is B2(peer->public_key): a route to the source, and no topic record
 * of that key under it. Relays beyond OG_DHT_RECORD_RELAYS are cut.
 */
void og_dht_store_announce(struct og_dht_store *st, const uint8_t target[32], bool self,
	const struct og_dht_peer *peer, const struct og_dht_source *src, uint64_t now_ns);
/* UNANNOUNCE; nothing stored is fine. */
void og_dht_store_unannounce(struct og_dht_store *st, const uint8_t target[32], bool self,
	const uint8_t public_key[32], uint64_t now_ns);
/* Keeps a bump that is newer than the stored one and at most a minute ahead of the clock. */
void og_dht_store_bump(
	struct og_dht_store *st, const uint8_t target[32], uint64_t bump_ms, uint64_t now_ns);

/* dht.md 7.3, refresh chain: an announce with `refresh` may be renewed by its preimage. */
void og_dht_store_expect(struct og_dht_store *st, const uint8_t refresh[32],
	const uint8_t target[32], bool self, const struct og_dht_peer *peer,
	const struct og_dht_source *src, uint64_t now_ns);
/* `refresh_hash` is B2(preimage). Returns 0, or -ENOENT when nothing waits for it under `target`. */
int og_dht_store_renew(struct og_dht_store *st, const uint8_t target[32],
	const uint8_t refresh_hash[32], const uint8_t preimage[32], const struct og_dht_source *src,
	uint64_t now_ns) OG_MUST_CHECK;

/* Where a handshake for `target` goes. Not for our own server. */
bool og_dht_store_route(const struct og_dht_store *st, const uint8_t target[32], uint64_t now_ns,
	struct og_dht_route *out);
/* The FIND_PEER value (a peer record); returns its bytes, 0: none. */
uint32_t og_dht_store_find_peer(const struct og_dht_store *st, const uint8_t target[32],
	uint64_t now_ns, uint8_t out[OG_DHT_RECORD_MAX]);
/* The LOOKUP value: up to 20 records, at random where there are more; its bytes, 0: no record. */
uint32_t og_dht_store_lookup(
	struct og_dht_store *st, const uint8_t target[32], uint64_t now_ns, const uint8_t **value);

enum og_dht_put {
	OG_DHT_PUT_OK = 0,
	OG_DHT_PUT_SEQ_REUSED = 16,
	OG_DHT_PUT_SEQ_TOO_LOW = 17,
	OG_DHT_PUT_TOO_LARGE = -1,
};

enum og_dht_put og_dht_store_put_mutable(struct og_dht_store *st, const uint8_t target[32],
	const struct og_dht_mutable *m, const struct og_dht_source *src, uint64_t now_ns);
/* Reading renews. out->public_key is NULL: the shape of a reply. */
bool og_dht_store_get_mutable(struct og_dht_store *st, const uint8_t target[32], uint64_t now_ns,
	struct og_dht_mutable *out);
enum og_dht_put og_dht_store_put_immutable(struct og_dht_store *st, const uint8_t target[32],
	const uint8_t *value, uint32_t value_bytes, const struct og_dht_source *src,
	uint64_t now_ns);
bool og_dht_store_get_immutable(struct og_dht_store *st, const uint8_t target[32], uint64_t now_ns,
	const uint8_t **value, uint32_t *value_bytes);
