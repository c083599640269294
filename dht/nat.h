/*
 * nat.h: what address others see us under, decided from samples.
 *
 * Source:  dht.md 5.3.
 * Threads: values; no state outside.
 */
#pragma once
#include "base/addr.h"

enum { OG_DHT_NAT_SAMPLES = 16, OG_DHT_NAT_ENTRIES = OG_DHT_NAT_SAMPLES + 2 };

/* hits counts the samples in the ring that refer to the entry. */
struct og_dht_nat_entry {
	struct og_addr addr;
	uint8_t hits;
};

/* Full entries (host, port) and host-only entries are two of these. */
struct og_dht_nat_votes {
	struct og_dht_nat_entry entry[OG_DHT_NAT_ENTRIES];
	uint8_t ring[OG_DHT_NAT_SAMPLES];
	uint8_t best;
};

struct og_dht_nat {
	struct og_dht_nat_votes full;
	struct og_dht_nat_votes host;
	uint8_t nb_samples;
	uint8_t top; /* where the next sample goes */
	bool known;
	struct og_addr addr; /* if known; port 0: differs from destination to destination */
};

void og_dht_nat_init(struct og_dht_nat *nat);
void og_dht_nat_add(struct og_dht_nat *nat, const struct og_addr *sample);
