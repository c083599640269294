/*
 * rate.h: token buckets by key (an address, a prefix), in a table of fixed size.
 *
 * When more keys are active than the table holds, the key that has been quiet longest is
 * forgotten: it gets a full bucket, so a crowd of sources makes the limit laxer, never unfair.
 *
 * Source:  ITU-T I.371, generic cell rate algorithm: one time stamp per bucket.
 * Threads: one owner.
 * Memory:  allocated by og_rate_init().
 */
#pragma once
#include "base/rand.h"

#include <stdbool.h>

struct og_rate {
	uint32_t mask; /* sets - 1 */
	uint64_t hash_key;
	uint64_t interval_ns; /* one token */
	uint64_t burst_ns;
	struct og_rate_entry {
		uint64_t key;
		uint64_t full_at_ns; /* when the bucket will be full again */
	} * entries;
};

/* per_s 0: no limit, nothing is allocated. nb_keys is rounded up. */
int og_rate_init(struct og_rate *r, uint32_t per_s, uint32_t burst, uint32_t nb_keys,
	struct og_rand *rand) OG_MUST_CHECK;
void og_rate_fini(struct og_rate *r);
/* Takes a token of `key`; false when its bucket is empty. */
bool og_rate_allow(struct og_rate *r, uint64_t key, uint64_t now_ns);
