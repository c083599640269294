/*
 * dht_requests.h: the DHT requests that the benches send, as datagrams and as plans of load.h.
 *
 * Source:  dht.md 3.2, 4, 7.
 * Memory:  the caller's.
 */
#pragma once
#include "base/rand.h"
#include "bench/load.h"

enum dht_request { DHT_PING, DHT_FIND_NODE, DHT_LOOKUP };

enum { DHT_RECORDS = 20 };

/* One request; returns its bytes. `target` NULL: none (PING). */
uint16_t dht_request(uint8_t out[LOAD_REQUEST_BYTES], enum dht_request kind, uint16_t tid,
	const struct og_addr *to, const uint8_t *target);

/*
 * A window of them, each FIND_NODE for another random target, each LOOKUP for `topic`. An answer
 * counts when it is as long as a full one: 20 nodes, and 20 records where `topic` has them.
 */
void dht_plan(struct load_plan *plan, enum dht_request kind, uint32_t window,
	const struct og_addr *to, const uint8_t topic[32], struct og_rand *rand);

/* Until FIND_NODE brings 20 nodes, 30 s at most. 0 or a negative errno. */
int dht_wait_table(struct load *l, const struct og_addr *to, struct og_rand *rand) OG_MUST_CHECK;
/* Announce DHT_RECORDS keys under `topic`. 0 or a negative errno. */
int dht_store_records(struct load *l, const struct og_addr *to, const uint8_t topic[32],
	struct og_rand *rand) OG_MUST_CHECK;
