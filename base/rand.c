#include "base/rand.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static uint64_t splitmix64(uint64_t *x)
{
	uint64_t z = (*x += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

static uint64_t xoshiro(uint64_t s[4])
{
	uint64_t result = rotl(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

static void refill(struct og_rand *r)
{
	size_t have = 0;

	while (have < sizeof(r->buffer)) {
		ssize_t n = getrandom(r->buffer + have, sizeof(r->buffer) - have, 0);

		if (n < 0 && errno == EINTR)
			continue;
		OG_ASSERT(n > 0);
		have += (size_t)n;
	}
	r->used = 0;
}

void og_rand_system(struct og_rand *r)
{
	memset(r, 0, sizeof(*r));
	refill(r);
}

void og_rand_seeded(struct og_rand *r, uint64_t seed)
{
	memset(r, 0, sizeof(*r));
	r->seeded = true;
	for (size_t i = 0; i < OG_ARRAY_LEN(r->state); i++)
		r->state[i] = splitmix64(&seed);
}

void og_rand_fill(struct og_rand *r, void *out, size_t len_bytes)
{
	uint8_t *p = out;

	while (len_bytes > 0) {
		size_t n;

		if (r->seeded) {
			uint64_t v = xoshiro(r->state);

			n = OG_MIN(len_bytes, sizeof(v));
			memcpy(p, &v, n);
		} else {
			if (r->used == sizeof(r->buffer))
				refill(r);
			n = OG_MIN(len_bytes, sizeof(r->buffer) - r->used);
			memcpy(p, r->buffer + r->used, n);
			/* What was handed out may become a key: keep no copy. */
			memset(r->buffer + r->used, 0, n);
			r->used += (uint32_t)n;
		}
		p += n;
		len_bytes -= n;
	}
}

uint64_t og_rand_u64(struct og_rand *r)
{
	uint64_t v;

	og_rand_fill(r, &v, sizeof(v));
	return v;
}

uint32_t og_rand_below(struct og_rand *r, uint32_t bound)
{
	uint32_t limit = -bound % bound; /* 2^32 mod bound: rejects the uneven part */

	OG_DASSERT(bound > 0);
	for (;;) {
		uint32_t v = og_rand_u32(r);

		if (v >= limit)
			return v % bound;
	}
}
