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
#include "gpu/draw.h"

struct og_sampler_item {
	float logit;
	uint32_t id;
};

/* The tokens so far: those of the prompt, then those that were sampled. All are below n. */
struct og_sampler_history {
	const uint32_t *tokens;
	uint32_t nb_tokens;
	uint32_t nb_prompt; /* of them */
};

/* Whether og_sampler_adjust() has anything to do. */
bool og_sampler_adjusts(const struct og_infer_params *params);
/*
 * The logits under the request's penalties and biases: of n logits into `out`. Returns false, and
 * leaves `out` alone, where the request has none. `scratch` holds n items.
 */
bool og_sampler_adjust(float *out, const struct og_infer_params *params, const float *logits,
	uint32_t n, const struct og_sampler_history *history, struct og_sampler_item *scratch);

/* What a request asks of the token at `position`. */
void og_draw_init(struct og_draw *d, const struct og_infer_params *params, uint64_t position);

/*
 * Picks by temperature, then top-k, top-p and min-p, as draw.h says. `scratch` holds n items; logits
 * are left as they are. Returns 0, or -EDOM when no logit is a number.
 */
int og_sampler_draw(uint32_t *out, const struct og_draw *d, const float *logits, uint32_t n,
	struct og_sampler_item *scratch) OG_MUST_CHECK;

/*
 * Log probabilities (natural, at temperature 1): of `chosen` to out[0], of the `top` likeliest to the
 * items behind it. Returns how many items it wrote. `scratch` holds n items.
 */
uint32_t og_sampler_logprobs(struct og_sampler_item *out, uint32_t chosen, uint32_t top,
	const float *logits, uint32_t n, struct og_sampler_item *scratch);

/* One block of Philox4x32-10. */
void og_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);
