#include "dht/replay.h"

#include "base/bytes.h"

enum { PROBES = 4 };

static const uint64_t turn_ns = 60 * OG_NS_PER_S;

static void turn(struct og_dht_replay *r, uint64_t now_ns)
{
	if (now_ns < r->turn_at_ns)
		return;
	if (now_ns >= r->turn_at_ns + turn_ns)
		memset(r->bits[r->young], 0, sizeof(r->bits[0])); /* both are too old */
	r->young ^= 1;
	memset(r->bits[r->young], 0, sizeof(r->bits[0]));
	r->turn_at_ns = now_ns + turn_ns;
}

static uint32_t probe(const uint8_t digest[32], int i)
{
	return og_load_le32(digest + 4 * i) % OG_DHT_REPLAY_BITS;
}

void og_dht_replay_add(struct og_dht_replay *r, const uint8_t digest[32], uint64_t now_ns)
{
	turn(r, now_ns);
	for (int i = 0; i < PROBES; i++) {
		uint32_t bit = probe(digest, i);

		r->bits[r->young][bit / 64] |= 1ull << bit % 64;
	}
}

static bool has(const uint64_t *bits, const uint8_t digest[32])
{
	for (int i = 0; i < PROBES; i++) {
		uint32_t bit = probe(digest, i);

		if (!(bits[bit / 64] >> bit % 64 & 1))
			return false;
	}
	return true;
}

bool og_dht_replay_has(struct og_dht_replay *r, const uint8_t digest[32], uint64_t now_ns)
{
	turn(r, now_ns);
	return has(r->bits[0], digest) || has(r->bits[1], digest);
}
