#include "gpu/sampler.h"

#include <errno.h>
#include <math.h>

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
	*out = draw(&r, kept, uniform(params->seed, position) * total);
	return 0;
}
