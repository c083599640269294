/*
 * sampler.h: picks the next token from the logits.
 *
 * Randomness is a function of the request's seed and the token's position alone, so a request
 * replays bit by bit whatever else runs beside it.
 *
 * Source:  Salmon et al. 2011, Philox4x32-10; Holtzman et al. 2020, nucleus (top-p) sampling.
 * Threads: pure function over the caller's scratch.
 */
#pragma once
#include "base/infer.h"

struct og_sampler_item {
	float logit;
	uint32_t id;
};

/*
 * `scratch` holds n items; logits are left as they are. Equal logits are taken in the order of their
 * ids. Returns 0, or -EDOM when no logit is a number.
 */
int og_sampler_pick(uint32_t *out, const struct og_infer_params *params, const float *logits,
	uint32_t n, uint64_t position, struct og_sampler_item *scratch) OG_MUST_CHECK;

/* One block of Philox4x32-10. */
void og_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);
