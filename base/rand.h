/*
 * rand.h: randomness as a value, so that a simulated network replays from its seed.
 *
 * og_rand_system() is the kernel's CSPRNG (getrandom, buffered); og_rand_seeded() is a fast
 * deterministic generator (xoshiro256**) for tests and the simulator and must never make a key in
 * a product. Both are the same struct to the code that draws.
 *
 * Source:  getrandom(2); Blackman and Vigna, "Scrambled linear pseudorandom number generators".
 * Threads: one owner each.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

enum { OG_RAND_BUFFER_BYTES = 512 };

struct og_rand {
	bool seeded;
	uint32_t used; /* bytes of buffer handed out; system only */
	uint64_t state[4];
	uint8_t buffer[OG_RAND_BUFFER_BYTES];
};

/* Aborts if the kernel has no randomness: weak keys are worse than no node. */
void og_rand_system(struct og_rand *r);
void og_rand_seeded(struct og_rand *r, uint64_t seed);

void og_rand_fill(struct og_rand *r, void *out, size_t len_bytes);
uint64_t og_rand_u64(struct og_rand *r);
/* Uniform in 0 … bound-1; bound > 0. */
uint32_t og_rand_below(struct og_rand *r, uint32_t bound);

static inline uint32_t og_rand_u32(struct og_rand *r)
{
	return (uint32_t)og_rand_u64(r);
}
