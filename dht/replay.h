/*
 * replay.h: remembers first handshake messages for one to two minutes, so that a copy of one
 * that was dealt with opens nothing.
 *
 * A pair of Bloom filters, the older cleared every minute: it may take a new message for an old
 * one (about once in a thousand at 1,000 handshakes/s), never the reverse.
 *
 * Threads: one owner.
 * Memory:  embedded.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

enum { OG_DHT_REPLAY_BITS = 1 << 20 };

struct og_dht_replay {
	uint64_t turn_at_ns;
	int young;
	uint64_t bits[2][OG_DHT_REPLAY_BITS / 64];
};

/* `digest` is a keyed hash of the message. */
void og_dht_replay_add(struct og_dht_replay *r, const uint8_t digest[32], uint64_t now_ns);
bool og_dht_replay_has(struct og_dht_replay *r, const uint8_t digest[32], uint64_t now_ns);
