#include "base/rand.h"
#include "gpu/sampler.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <string.h>

enum { N = 1000 };

static struct og_sampler_item scratch[N];

static int try_pick(uint32_t *id, const struct og_infer_params *p, const float *logits, uint32_t n,
	uint64_t pos)
{
	struct og_draw d;

	og_draw_init(&d, p, pos);
	return og_sampler_draw(id, &d, logits, n, scratch);
}

static uint32_t pick(const struct og_infer_params *p, const float *logits, uint32_t n, uint64_t pos)
{
	uint32_t id = UINT32_MAX;

	cr_assert_eq(try_pick(&id, p, logits, n, pos), 0);
	cr_assert_lt(id, n);
	return id;
}

static struct og_infer_params hot(float temperature)
{
	struct og_infer_params p;

	og_infer_params_default(&p);
	p.temperature = temperature;
	p.seed = 42;
	return p;
}

/* Known answers of the authors' Random123 library. */
Test(sampler, philox_gives_the_published_words)
{
	static const uint32_t cases[][10] = {
		{0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
		{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
			0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
		{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
			0x94fdcceb, 0x5001e420, 0x24126ea1},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		uint32_t out[4];

		og_philox(out, cases[i], cases[i] + 4);
		cr_expect_arr_eq(out, cases[i] + 6, sizeof(out));
	}
}

Test(sampler, greedy_takes_the_largest_and_the_first_of_equals)
{
	static const float logits[] = {-1, 3, NAN, 3, 2};
	struct og_infer_params p = hot(0);

	cr_expect_eq(pick(&p, logits, 5, 0), 1);
}

Test(sampler, refuses_logits_that_are_no_numbers)
{
	static const float logits[] = {NAN, -INFINITY, NAN};
	struct og_infer_params p = hot(0);
	uint32_t id;

	cr_expect_eq(try_pick(&id, &p, logits, 3, 0), -EDOM);
	p.temperature = 1;
	cr_expect_eq(try_pick(&id, &p, logits, 3, 0), -EDOM);
}

Test(sampler, takes_an_infinite_logit)
{
	static const float logits[] = {1, INFINITY, 2};
	struct og_infer_params p = hot(1);

	cr_expect_eq(pick(&p, logits, 3, 0), 1);
}

static void expect_shares(
	const struct og_infer_params *p, const float *logits, uint32_t n, const double *want)
{
	enum { DRAWS = 40000 };
	uint32_t hits[8] = {0};

	for (uint64_t pos = 0; pos < DRAWS; pos++)
		hits[pick(p, logits, n, pos)]++;
	for (uint32_t i = 0; i < n; i++) {
		double share = (double)hits[i] / DRAWS;

		cr_expect(fabs(share - want[i]) < 0.01, "token %u: %.3f, not %.3f", i, share,
			want[i]);
		cr_expect(want[i] > 0 || hits[i] == 0, "token %u was drawn", i);
	}
}

Test(sampler, draws_with_the_softmax_probabilities)
{
	/* Weights 1, 2, 4, 1 at temperature 1. */
	static const float logits[] = {0, 0.69314718f, 1.38629436f, 0};
	struct og_infer_params p = hot(1);

	expect_shares(&p, logits, 4, (double[]){0.125, 0.25, 0.5, 0.125});
	p.temperature = 0.5f; /* 1, 4, 16, 1 */
	expect_shares(&p, logits, 4, (double[]){1 / 22., 4 / 22., 16 / 22., 1 / 22.});
}

Test(sampler, keeps_the_top_k)
{
	static const float logits[] = {0, 0.69314718f, 1.38629436f, 0};
	struct og_infer_params p = hot(1);

	p.top_k = 2;
	expect_shares(&p, logits, 4, (double[]){0, 1 / 3., 2 / 3., 0});
	p.top_k = 3; /* of equal logits the first */
	expect_shares(&p, logits, 4, (double[]){1 / 7., 2 / 7., 4 / 7., 0});
	p.top_k = 99;
	expect_shares(&p, logits, 4, (double[]){0.125, 0.25, 0.5, 0.125});
}

Test(sampler, keeps_the_fewest_that_have_the_share_top_p)
{
	static const float logits[] = {0, 0.69314718f, 1.38629436f, 0};
	struct og_infer_params p = hot(1);

	p.top_p = 0.6f; /* 4/8 is too little, 6/8 is enough */
	expect_shares(&p, logits, 4, (double[]){0, 1 / 3., 2 / 3., 0});
	p.top_p = 0.0f;
	expect_shares(&p, logits, 4, (double[]){0, 0, 1, 0});
	p.top_p = 0.65f;
	p.top_k = 2; /* of which 4/6 is enough */
	expect_shares(&p, logits, 4, (double[]){0, 0, 1, 0});
}

Test(sampler, replays_from_seed_and_position)
{
	static float logits[N];
	struct og_infer_params p = hot(1.3f), other = hot(1.3f);
	struct og_rand r;
	uint32_t differ = 0;

	og_rand_seeded(&r, 5);
	for (uint32_t i = 0; i < N; i++)
		logits[i] = (float)og_rand_below(&r, 1000) / 250;
	p.top_k = 200;
	other.top_k = 200;
	other.seed = 43;
	for (uint64_t pos = 0; pos < 200; pos++) {
		uint32_t id = pick(&p, logits, N, pos);

		cr_expect_eq(id, pick(&p, logits, N, pos));
		differ += id != pick(&other, logits, N, pos);
	}
	cr_expect_gt(differ, 150);
}

Test(sampler, keeps_those_that_are_likely_enough)
{
	static const float logits[] = {0, 0.69314718f, 1.38629436f, 0};
	struct og_infer_params p = hot(1);

	p.min_p = 0.4f; /* of weights 1, 2, 4, 1 those from 1.6 on */
	expect_shares(&p, logits, 4, (double[]){0, 1 / 3., 2 / 3., 0});
	p.min_p = 1;
	expect_shares(&p, logits, 4, (double[]){0, 0, 1, 0});
	p.min_p = 0.2f;
	p.top_p = 0.6f;
	expect_shares(&p, logits, 4, (double[]){0, 1 / 3., 2 / 3., 0});
}

Test(sampler, adjusts_nothing_where_nothing_is_asked_for)
{
	struct og_infer_params p;
	float out = 7, logit = 1;

	og_infer_params_default(&p);
	cr_expect_not(og_sampler_adjust(
		&out, &p, &logit, 1, &(struct og_sampler_history){NULL, 0, 0}, scratch));
	cr_expect_eq(out, 7);
}

Test(sampler, penalizes_by_what_was_said)
{
	static const float logits[] = {2, -2, 3, 1, 0};
	/* Tokens 0 and 1 in the prompt, then 1 once and 2 twice. */
	static const uint32_t tokens[] = {0, 1, 1, 2, 2};
	const struct og_sampler_history history = {tokens, 5, 2};
	struct og_infer_params p;
	float out[5];

	og_infer_params_default(&p);
	p.repetition_penalty = 2;
	cr_assert(og_sampler_adjust(out, &p, logits, 5, &history, scratch));
	cr_expect_arr_eq(out, ((float[]){1, -4, 1.5f, 1, 0}), sizeof(out));
	og_infer_params_default(&p);
	p.frequency_penalty = 0.5f;
	p.presence_penalty = 1;
	cr_assert(og_sampler_adjust(out, &p, logits, 5, &history, scratch));
	cr_expect_arr_eq(out, ((float[]){2, -3.5f, 1, 1, 0}), sizeof(out));
}

Test(sampler, adds_biases_and_bars_tokens)
{
	static const float logits[] = {2, -2, 3};
	struct og_infer_params p;
	float out[3];

	og_infer_params_default(&p);
	p.nb_biases = 3;
	p.biases[0] = (struct og_infer_bias){1, 6};
	p.biases[1] = (struct og_infer_bias){2, -100};
	p.biases[2] = (struct og_infer_bias){3, 9}; /* beyond the vocabulary */
	cr_assert(og_sampler_adjust(
		out, &p, logits, 3, &(struct og_sampler_history){NULL, 0, 0}, scratch));
	cr_expect_arr_eq(out, ((float[]){2, 4, -INFINITY}), sizeof(out));
}

Test(sampler, gives_log_probabilities_best_first)
{
	/* Weights 1, 2, 4, 1. */
	static const float logits[] = {0, 0.69314718f, 1.38629436f, 0};
	struct og_sampler_item out[6];

	cr_assert_eq(og_sampler_logprobs(out, 3, 2, logits, 4, scratch), 3);
	cr_expect_eq(out[0].id, 3);
	cr_expect_float_eq(out[0].logit, log(1 / 8.), 1e-6);
	cr_expect_eq(out[1].id, 2);
	cr_expect_float_eq(out[1].logit, log(4 / 8.), 1e-6);
	cr_expect_eq(out[2].id, 1);
	cr_expect_float_eq(out[2].logit, log(2 / 8.), 1e-6);
	/* No more than there are. */
	cr_expect_eq(og_sampler_logprobs(out, 0, 5, logits, 4, scratch), 5);
}

Test(draw, weights_are_powers_of_two_to_eight_digits)
{
	for (float y = 0; y > -39; y -= 0.001f) {
		double got = (double)og_draw_weight(y, 0, 1), want = exp2(40 + (double)y);

		cr_expect(fabs(got - want) <= 1 + want * 5e-8, "2^%g: %g, not %g", (double)y, got,
			want);
	}
	cr_expect_eq(og_draw_weight(3, 3, 7), 1ull << 40);
	cr_expect_eq(og_draw_weight(-40, 0, 1), 1);
	cr_expect_eq(og_draw_weight(-40.001f, 0, 1), 0);
	cr_expect_eq(og_draw_weight(-INFINITY, 0, 1), 0);
	cr_expect_eq(og_draw_weight(NAN, 0, 1), 0);
}

Test(draw, keys_are_in_the_order_of_logits)
{
	static const float logits[] = {
		-3.402823466e38f, -2, -1, -1e-40f, 0, 1e-40f, 1, 2, INFINITY};

	cr_expect_eq(og_draw_key(NAN), 0);
	cr_expect_eq(og_draw_key(-INFINITY), 0);
	cr_expect_eq(og_draw_key(-0.0f), og_draw_key(0));
	cr_expect_gt(og_draw_key(logits[0]), 0);
	for (size_t i = 1; i < OG_ARRAY_LEN(logits); i++)
		cr_expect_gt(og_draw_key(logits[i]), og_draw_key(logits[i - 1]));
}

Test(draw, takes_the_upper_half_of_a_product)
{
	struct og_rand r;

	og_rand_seeded(&r, 3);
	for (int i = 0; i < 1000; i++) {
		uint64_t a = og_rand_u64(&r), b = og_rand_u64(&r) >> i % 64;

		cr_assert_eq(og_draw_part(a, b), (uint64_t)((unsigned __int128)a * b >> 64));
	}
	cr_expect_eq(og_draw_part(UINT64_MAX, UINT64_MAX), UINT64_MAX - 1);
	cr_expect_eq(og_draw_share(100, UINT32_MAX), 99);
	cr_expect_eq(og_draw_share(1, 5), 1);
}
