/*
 * shelf.h: a bounded table of timed entries, found by a 32-byte target, several to a target.
 *
 * It holds no payload: an entry is an index (1 … nb_entries) into arrays of its owner, which must
 * have nb_entries + 1 elements. An entry past its lifetime is never returned, whatever was read
 * meanwhile. An entry may count against a source prefix (a /24; 0: none): over its share, a random
 * entry of that very prefix makes room, never somebody else's. A full target gives up a random
 * entry of its own, a full shelf the one renewed longest ago.
 *
 * Source:  dht.md 7.4.
 * Threads: one owner.
 * Memory:  allocated by og_shelf_init(), touched only as it fills; nothing later.
 */
#pragma once
#include "base/rand.h"

enum { OG_SHELF_NONE = 0, OG_SHELF_LISTS = 3 };

struct og_shelf_opts {
	uint32_t nb_entries;
	uint64_t lifetime_ns;
	/* Entries at most; 0: no limit. */
	uint32_t per_target;
	uint32_t per_prefix;
	uint32_t per_target_and_prefix; /* of one prefix under one target */
};

struct og_shelf_entry {
	uint8_t target[32];
	uint64_t renewed_ns;
	uint32_t prefix; /* of the source, 0: not limited */
	struct {
		uint32_t prev, next;
	} link[OG_SHELF_LISTS];
};

struct og_shelf {
	struct og_shelf_opts opts;
	struct og_rand *rand;
	struct og_shelf_entry *entries;
	uint32_t *by_target;
	uint32_t *by_prefix;
	uint32_t mask;
	uint64_t hash_key[4];
	uint32_t newest, oldest;
	uint32_t fresh; /* entries never used so far start here */
	uint32_t free;
	uint32_t count;
	uint64_t evicted; /* entries that made room before their time */
};

int og_shelf_init(
	struct og_shelf *s, const struct og_shelf_opts *opts, struct og_rand *rand) OG_MUST_CHECK;
void og_shelf_fini(struct og_shelf *s);

/* Of a target, with a key of this shelf: nobody outside can aim at a value. */
uint64_t og_shelf_hash(const struct og_shelf *s, const uint8_t target[32]);
/* Live entries of a target, in no particular order; OG_SHELF_NONE ends. */
uint32_t og_shelf_first(const struct og_shelf *s, const uint8_t target[32], uint64_t now_ns);
uint32_t og_shelf_next(const struct og_shelf *s, uint32_t i, uint64_t now_ns);

/* Always succeeds; what makes room is said above. Contents of the payload are the caller's. */
uint32_t og_shelf_insert(
	struct og_shelf *s, const uint8_t target[32], uint32_t prefix, uint64_t now_ns);
/* Start the lifetime of a live entry anew; it now counts against `prefix`. */
void og_shelf_renew(struct og_shelf *s, uint32_t i, uint32_t prefix, uint64_t now_ns);
void og_shelf_remove(struct og_shelf *s, uint32_t i);
/* Drops what has expired. Inserting does it too. */
void og_shelf_expire(struct og_shelf *s, uint64_t now_ns);
