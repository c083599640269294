#include "gpu/sampler.h"

#include <assert.h>
#include <errno.h>
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

/* In (0, 1). */
static double uniform(uint64_t seed, uint64_t position)
{
	const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), 0, 0};
	const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
	uint32_t words[4];

	og_philox(words, counter, key);
	return (words[0] + 0.5) * 0x1p-32;
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
	float temperature;
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

/* Probability, but for the common factor. */
static double weight(const struct ranking *r, const struct og_sampler_item *item)
{
	return exp(((double)item->logit - r->max) / r->temperature);
}

static double total_weight(struct ranking *r, uint32_t kept)
{
	double sum = 0;

	for (uint32_t i = 0; i < kept; i++)
		sum += weight(r, kept < r->count ? nth_best(r, i) : &r->items[i]);
	return sum;
}

/* The best candidates that together have the share top_p. Lowers *total to theirs. */
static uint32_t cut_share(struct ranking *r, uint32_t kept, float top_p, double *total)
{
	double sum = 0;

	for (uint32_t i = 0; i < kept; i++) {
		sum += weight(r, nth_best(r, i));
		if (sum >= (double)top_p * *total) {
			*total = sum;
			return i + 1;
		}
	}
	return kept;
}

/* Those at least min_p times as likely as the best. Lowers *total to theirs. */
static uint32_t cut_unlikely(struct ranking *r, uint32_t kept, float min_p, double *total)
{
	double sum = 0;

	for (uint32_t i = 0; i < kept; i++) {
		double w = weight(r, nth_best(r, i));

		if (w < (double)min_p && i > 0) {
			*total = sum;
			return i;
		}
		sum += w;
	}
	return kept;
}

static uint32_t draw(struct ranking *r, uint32_t kept, double target)
{
	double sum = 0;

	for (uint32_t i = 0; i < kept; i++) {
		sum += weight(r, nth_best(r, i));
		if (sum > target)
			return nth_best(r, i)->id;
	}
	return nth_best(r, kept - 1)->id; /* the sum rounded below the total */
}

int og_sampler_pick(uint32_t *out, const struct og_infer_params *params, const float *logits,
	uint32_t n, uint64_t position, struct og_sampler_item *scratch)
{
	struct ranking r = {.items = scratch, .temperature = params->temperature};
	uint32_t kept;
	double total;
	int ret = pick_greedy(out, logits, n);

	if (ret < 0 || !(params->temperature > 0) || logits[*out] == INFINITY)
		return ret;
	rank(&r, logits, n);
	kept = params->top_k > 0 ? OG_MIN(params->top_k, r.count) : r.count;
	total = total_weight(&r, kept);
	if (params->top_p < 1)
		kept = cut_share(&r, kept, params->top_p, &total);
	if (params->min_p > 0)
		kept = cut_unlikely(&r, kept, params->min_p, &total);
	*out = draw(&r, kept, uniform(params->seed, position) * total);
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

bool og_sampler_adjust(float *out, const struct og_infer_params *params, const float *logits,
	uint32_t n, const struct og_sampler_history *history, struct og_sampler_item *scratch)
{
	bool penalties = params->repetition_penalty != 1 || params->frequency_penalty != 0 ||
			 params->presence_penalty != 0;
	struct use *uses = (struct use *)(void *)scratch;

	if (!penalties && params->nb_biases == 0)
		return false;
	memcpy(out, logits, n * sizeof(*out));
	for (uint8_t i = 0; i < params->nb_biases; i++) {
		const struct og_infer_bias *b = &params->biases[i];

		if (b->token < n)
			out[b->token] = b->bias <= -100 ? -INFINITY : out[b->token] + b->bias;
	}
	if (!penalties)
		return true;
	count_uses(uses, n, history);
	for (uint32_t i = 0; i < n; i++)
		out[i] = penalize(out[i], &uses[i], params);
	return true;
}

uint32_t og_sampler_logprobs(struct og_sampler_item *out, uint32_t chosen, uint32_t top,
	const float *logits, uint32_t n, struct og_sampler_item *scratch)
{
	struct ranking r = {.items = scratch, .temperature = 1};
	double norm;

	rank(&r, logits, n);
	norm = r.max + log(total_weight(&r, r.count));
	top = OG_MIN(top, r.count);
	out[0] = (struct og_sampler_item){(float)(logits[chosen] - norm), chosen};
	for (uint32_t i = 0; i < top; i++) {
		const struct og_sampler_item *item = nth_best(&r, i);

		out[1 + i] = (struct og_sampler_item){(float)(item->logit - norm), item->id};
	}
	return 1 + top;
}
