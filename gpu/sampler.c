#include "gpu/sampler.h"

#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

void og_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
	uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
	uint32_t k[2] = {key[0], key[1]};

	for (int round = 0; round < 10; round++) {
		uint64_t a = (uint64_t)0xd2511f53u * c[0], b = (uint64_t)0xcd9e8d57u * c[2];
		uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b,
			(uint32_t)(a >> 32) ^ c[3] ^ k[1], (uint32_t)a};

		for (int i = 0; i < 4; i++)
			c[i] = next[i];
		k[0] += 0x9e3779b9u;
		k[1] += 0xbb67ae85u;
	}
	for (int i = 0; i < 4; i++)
		out[i] = c[i];
}

static uint64_t random_word(uint64_t seed, uint64_t position)
{
	const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), 0, 0};
	const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
	uint32_t words[4];

	og_philox(words, counter, key);
	return (uint64_t)words[0] << 32 | words[1];
}

void og_draw_init(struct og_draw *d, const struct og_infer_params *params, uint64_t position)
{
	float temperature = params->temperature, min_p = params->min_p;

	*d = (struct og_draw){
		.random = random_word(params->seed, position),
		.top_k = params->top_k > 0 ? params->top_k : OG_DRAW_ALL,
		.top_p = !(params->top_p < 1)   ? OG_DRAW_ALL
			 : !(params->top_p > 0) ? 0
						: (uint32_t)((double)params->top_p * 0x1p32),
	};
	if (temperature > 0)
		d->scale = (float)OG_MAX(OG_MIN(M_LOG2E / temperature, FLT_MAX), FLT_MIN);
	if (min_p > 0)
		d->weight_min = (uint64_t)(OG_MIN((double)min_p, 1) * 0x1p40);
}

static int pick_greedy(uint32_t *out, const float *logits, uint32_t n)
{
	uint32_t best = 0;
	float max = -INFINITY;

	for (uint32_t i = 0; i < n; i++)
		if (logits[i] > max) { /* false for NaN */
			max = logits[i];
			best = i;
		}
	*out = best;
	return max > -INFINITY ? 0 : -EDOM;
}

static bool comes_first(const struct og_sampler_item *a, const struct og_sampler_item *b)
{
	return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static void sift_down(struct og_sampler_item *heap, uint32_t n, uint32_t i)
{
	struct og_sampler_item moving = heap[i];

	for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
		if (child + 1 < n && comes_first(&heap[child + 1], &heap[child]))
			child++;
		if (!comes_first(&heap[child], &moving))
			break;
		heap[i] = heap[child];
	}
	heap[i] = moving;
}

/* Candidates best first, sorted only as far as they are asked for. */
struct ranking {
	struct og_sampler_item *items; /* a heap of `left`, then those taken from it, best last */
	uint32_t count;
	uint32_t left;
	float max;
};

static void rank(struct ranking *r, const float *logits, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (logits[i] > -INFINITY) /* false for NaN */
			r->items[r->count++] = (struct og_sampler_item){logits[i], i};
	for (uint32_t i = r->count / 2; i-- > 0;)
		sift_down(r->items, r->count, i);
	r->left = r->count;
	r->max = r->items[0].logit;
}

static const struct og_sampler_item *nth_best(struct ranking *r, uint32_t i)
{
	while (r->count - r->left <= i) {
		struct og_sampler_item top = r->items[0];

		r->items[0] = r->items[--r->left];
		sift_down(r->items, r->left, 0);
		r->items[r->left] = top;
	}
	return &r->items[r->count - 1 - i];
}

static uint64_t draw_weight(
	const struct ranking *r, const struct og_sampler_item *item, float scale)
{
	return og_draw_weight(item->logit, r->max, scale);
}

static uint64_t total_weight(struct ranking *r, uint32_t kept, float scale)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < kept; i++)
		sum += draw_weight(r, kept < r->count ? nth_best(r, i) : &r->items[i], scale);
	return sum;
}

/* The last of those that top-k and top-p keep. */
static struct og_sampler_item find_last(
	const struct og_draw *d, const float *logits, uint32_t n, struct og_sampler_item *scratch)
{
	struct ranking r = {.items = scratch};
	uint64_t share, sum = 0;
	uint32_t kept, i;

	rank(&r, logits, n);
	kept = OG_MIN(d->top_k, r.count);
	if (d->top_p == OG_DRAW_ALL)
		return *nth_best(&r, kept - 1);
	share = og_draw_share(total_weight(&r, kept, d->scale), d->top_p);
	for (i = 0; i < kept - 1; i++) {
		sum += draw_weight(&r, nth_best(&r, i), d->scale);
		if (sum >= share)
			break;
	}
	return *nth_best(&r, i);
}

/* The weight of a token that may be drawn, or 0. */
static uint64_t weight_of(const struct og_draw *d, const float *logits, uint32_t i, float max,
	const struct og_sampler_item *last)
{
	struct og_sampler_item item = {logits[i], i};
	uint64_t weight;

	if (!(item.logit >= last->logit) || comes_first(last, &item))
		return 0;
	weight = og_draw_weight(item.logit, max, d->scale);
	return weight >= d->weight_min ? weight : 0;
}

int og_sampler_draw(uint32_t *out, const struct og_draw *d, const float *logits, uint32_t n,
	struct og_sampler_item *scratch)
{
	struct og_sampler_item last = {-FLT_MAX, n};
	uint64_t total = 0, target;
	uint32_t i = 0;
	float max;
	int ret = pick_greedy(out, logits, n);

	if (ret < 0 || d->scale == 0 || logits[*out] == INFINITY)
		return ret;
	max = logits[*out];
	if (d->top_k != OG_DRAW_ALL || d->top_p != OG_DRAW_ALL)
		last = find_last(d, logits, n, scratch);
	for (i = 0; i < n; i++)
		total += weight_of(d, logits, i, max, &last);
	target = og_draw_part(d->random, total);
	for (i = 0;; i++) {
		uint64_t weight = weight_of(d, logits, i, max, &last);

		if (target < weight)
			break;
		target -= weight;
	}
	*out = i;
	return 0;
}

/* Of a token: whether it is in the history, and how often it was generated. */
struct use {
	float seen;
	uint32_t generated;
};
static_assert(sizeof(struct use) == sizeof(struct og_sampler_item), "they share the scratch");

static void count_uses(struct use *uses, uint32_t n, const struct og_sampler_history *history)
{
	memset(uses, 0, n * sizeof(*uses));
	for (uint32_t i = 0; i < history->nb_tokens; i++) {
		struct use *u = &uses[history->tokens[i]];

		u->seen = 1;
		u->generated += i >= history->nb_prompt;
	}
}

static float penalize(float logit, const struct use *u, const struct og_infer_params *params)
{
	if (u->seen > 0)
		logit = logit > 0 ? logit / params->repetition_penalty
				  : logit * params->repetition_penalty;
	if (u->generated > 0)
		logit -= (float)u->generated * params->frequency_penalty + params->presence_penalty;
	return logit;
}

static bool has_penalties(const struct og_infer_params *params)
{
	return params->repetition_penalty != 1 || params->frequency_penalty != 0 ||
	       params->presence_penalty != 0;
}

bool og_sampler_adjusts(const struct og_infer_params *params)
{
	return params->nb_biases > 0 || has_penalties(params);
}

bool og_sampler_adjust(float *out, const struct og_infer_params *params, const float *logits,
	uint32_t n, const struct og_sampler_history *history, struct og_sampler_item *scratch)
{
	struct use *uses = (struct use *)(void *)scratch;

	if (!og_sampler_adjusts(params))
		return false;
	memcpy(out, logits, n * sizeof(*out));
	for (uint8_t i = 0; i < params->nb_biases; i++) {
		const struct og_infer_bias *b = &params->biases[i];

		if (b->token < n)
			out[b->token] = b->bias <= -100 ? -INFINITY : out[b->token] + b->bias;
	}
	if (!has_penalties(params))
		return true;
	count_uses(uses, n, history);
	for (uint32_t i = 0; i < n; i++)
		out[i] = penalize(out[i], &uses[i], params);
	return true;
}

uint32_t og_sampler_logprobs(struct og_sampler_item *out, uint32_t chosen, uint32_t top,
	const float *logits, uint32_t n, struct og_sampler_item *scratch)
{
	struct ranking r = {.items = scratch};
	double sum = 0, norm;

	rank(&r, logits, n);
	for (uint32_t i = 0; i < r.count; i++)
		sum += exp((double)r.items[i].logit - r.max);
	norm = r.max + log(sum);
	top = OG_MIN(top, r.count);
	out[0] = (struct og_sampler_item){(float)(logits[chosen] - norm), chosen};
	for (uint32_t i = 0; i < top; i++) {
		const struct og_sampler_item *item = nth_best(&r, i);

		out[1 + i] = (struct og_sampler_item){(float)(item->logit - norm), item->id};
	}
	return 1 + top;
}
