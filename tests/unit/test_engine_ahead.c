#include "base/rand.h"
#include "engine_run.h"

/*
 * Steps that begin before the tokens of the one before are known. Whatever ends a request, and
 * whoever has to give way meanwhile: the answer is the one it has alone, step by step.
 */

#ifndef AHEAD_BACKEND /* other back ends bring their own */
#define AHEAD_BACKEND OG_BACKEND_CPU
#if defined(__SANITIZE_ADDRESS__)
#define AHEAD_SEEDS 8
#else
#define AHEAD_SEEDS 24
#endif
#define AHEAD_ASKS 14
#define AHEAD_TOKENS 60
#endif
#ifndef AHEAD_FP8 /* weights and cache */
#define AHEAD_FP8 false
#endif

enum { CONTEXT = 256, PAGE_TOKENS = 64, ASKS = AHEAD_ASKS, PROMPT_MAX = 160 };

static const char story[] =
	"Once upon a time a small node stood at the edge of a wide network, and it had one model, "
	"which it loved. Every morning it announced itself to the others.";

static struct og_engine *start_ahead(struct og_engine_opts opts)
{
	struct og_gw_model m = og_gw_small();

	m.type = OG_Q8_0;
	m.context = CONTEXT;
	opts.backend = AHEAD_BACKEND;
	opts.fp8_weights = opts.fp8_kv = AHEAD_FP8;
	return start_model(&m, opts);
}

/*
 * Bytes of a cache of that many pages: 2 layers, 2 heads of 16, keys and values of 2 bytes, or of one
 * and a scale.
 */
static uint64_t memory(uint32_t pages)
{
	return (uint64_t)pages * PAGE_TOKENS * 2 * 2 * (AHEAD_FP8 ? 16 + 2 : 16 * 2) * 2;
}

struct made {
	struct ask ask;
	char text[PROMPT_MAX];
	char stop[2];
};

/* A request as the seed wants it: every way to sample, and to end. */
static void make(struct made *m, struct og_rand *r)
{
	uint32_t begin = og_rand_below(r, 3) * 60, end = 1 + og_rand_below(r, 30);

	memset(m, 0, sizeof(*m));
	snprintf(m->text, sizeof(m->text), "%.*s%.*s", (int)begin, story, (int)end, story + 40);
	m->ask = (struct ask){.text = m->text,
		.max_tokens = 1 + og_rand_below(r, AHEAD_TOKENS),
		.temperature = (float)og_rand_below(r, 4) * 0.6f,
		.seed = og_rand_u64(r),
		.raw = og_rand_below(r, 2),
		.ignore_eos = og_rand_below(r, 2),
		.top_k = og_rand_below(r, 3) * 20,
		.top_p = og_rand_below(r, 2) ? 0.9f : 0,
		.min_p = og_rand_below(r, 4) ? 0 : 0.02f,
		.logprobs = og_rand_below(r, 6) == 0,
		.repetition = og_rand_below(r, 6) ? 0 : 1.1f};
	if (og_rand_below(r, 3) == 0)
		m->ask.stop_token = 1 + og_rand_below(r, 287);
	if (og_rand_below(r, 3) == 0) {
		m->stop[0] = (char)('a' + og_rand_below(r, 26));
		m->ask.stop = m->stop;
	}
}

static struct outcome alone[ASKS];

static void expect_as_alone(uint32_t i, uint64_t seed)
{
	const struct outcome *got = &outcomes[i], *want = &alone[i];

	cr_expect_eq(got->dones, 1, "seed %lu, request %u", (unsigned long)seed, i);
	cr_expect_eq(got->last.prompt_tokens, want->last.prompt_tokens);
	if (got->last.finish == OG_FINISH_CANCELLED) {
		cr_expect_leq(got->last.completion_tokens, want->last.completion_tokens);
		cr_expect_eq(memcmp(got->text, want->text, got->text_bytes), 0,
			"seed %lu, request %u", (unsigned long)seed, i);
		return;
	}
	cr_expect_eq(got->last.finish, want->last.finish);
	cr_expect_eq(got->last.completion_tokens, want->last.completion_tokens,
		"seed %lu, request %u: %u tokens, not %u", (unsigned long)seed, i,
		got->last.completion_tokens, want->last.completion_tokens);
	cr_expect_eq(got->hash, want->hash);
	cr_expect_str_eq(got->text, want->text, "seed %lu, request %u", (unsigned long)seed, i);
}

static void run_alone(struct made *made)
{
	struct og_engine *e = start_ahead(
		(struct og_engine_opts){.max_batch = 1, .steps_max = 1, .no_prefix_reuse = true});

	for (uint32_t i = 0; i < ASKS; i++) {
		cr_assert_eq(ask(e, i, made[i].ask), 0, "%s", og_engine_refusal(e));
		run(e);
	}
	cr_expect_eq(og_engine_stats(e)->steps_ahead_total, 0);
	memcpy(alone, outcomes, sizeof(alone));
	memset(outcomes, 0, sizeof(outcomes));
	og_engine_destroy(e);
}

/* Requests arrive, are read from slowly, and are cancelled, all at random. */
static void run_together(struct og_engine *e, const struct made *made, uint64_t seed)
{
	uint32_t asked = 0, ended = 0;
	struct og_rand r;

	og_rand_seeded(&r, seed);
	for (uint32_t pass = 0; ended < ASKS; pass++) {
		cr_assert_lt(pass, STEPS_MAX);
		if (asked < ASKS && og_rand_below(&r, 2)) {
			struct ask a = made[asked].ask;

			a.credits = og_rand_below(&r, 2) ? 1 + og_rand_below(&r, 4) : 0;
			cr_assert_eq(ask(e, asked++, a), 0, "%s", og_engine_refusal(e));
		}
		if (og_rand_below(&r, 40) == 0)
			og_engine_cancel(e, og_rand_below(&r, ASKS));
		if (og_rand_below(&r, 3) == 0)
			og_engine_credit(e, og_rand_below(&r, ASKS), 1 + og_rand_below(&r, 6));
		og_engine_step(e);
		collect(e);
		ended = 0;
		for (uint32_t i = 0; i < ASKS; i++)
			ended += outcomes[i].dones + outcomes[i].errors > 0;
	}
	run(e);
	for (uint32_t i = 0; i < ASKS; i++)
		expect_as_alone(i, seed);
	cr_expect_eq(og_engine_stats(e)->kv_tokens_used, 0);
	cr_expect_eq(og_engine_stats(e)->swap_bytes_used, 0);
	cr_expect_eq(og_engine_stats(e)->running + og_engine_stats(e)->parked, 0);
	memset(outcomes, 0, sizeof(outcomes));
}

Test(engine_ahead, answers_the_same_as_step_by_step, .timeout = 600)
{
	struct og_engine_stats sum = {0};
	struct made made[ASKS];
	struct og_rand r;

	for (uint64_t seed = 1; seed <= AHEAD_SEEDS; seed++) {
		og_rand_seeded(&r, seed);
		for (uint32_t i = 0; i < ASKS; i++)
			make(&made[i], &r);
		run_alone(made);
		for (uint32_t steps = 1; steps <= 2; steps++) {
			struct og_engine *e = start_ahead((struct og_engine_opts){.max_batch = 5,
				.queue = ASKS,
				.steps_max = steps,
				.kv_memory_bytes = memory(seed % 2 ? 7 : 30),
				.no_prefix_reuse = seed % 3 == 0});
			const struct og_engine_stats *s = og_engine_stats(e);

			run_together(e, made, seed);
			if (steps == 1)
				cr_expect_eq(s->steps_ahead_total, 0);
			sum.steps_total += s->steps_total;
			sum.steps_ahead_total += s->steps_ahead_total;
			sum.drawn_total += s->drawn_total;
			sum.parked_total += s->parked_total;
			sum.cancelled_total += s->cancelled_total;
			og_engine_destroy(e);
		}
	}
	cr_expect_gt(sum.steps_ahead_total, sum.steps_total / 8);
	cr_expect_gt(sum.drawn_total, 0);
	cr_expect_gt(sum.parked_total, 0);
	cr_expect_gt(sum.cancelled_total, 0);
}

/* What is begun for nothing is one row for each request that ends by what it says. */
Test(engine_ahead, stays_ahead_while_nothing_stands_in_the_way)
{
	struct og_engine *e = start_ahead((struct og_engine_opts){.max_batch = 4, .steps_max = 2});
	const struct og_engine_stats *s = og_engine_stats(e);

	for (uint32_t i = 0; i < 4; i++)
		cr_assert_eq(ask(e, i,
				     (struct ask){.text = "hello",
					     .max_tokens = 50,
					     .seed = i,
					     .temperature = 1,
					     .ignore_eos = true}),
			0);
	run(e);
	for (uint32_t i = 0; i < 4; i++)
		cr_expect_eq(outcomes[i].last.completion_tokens, 50);
	cr_expect_eq(s->drawn_total, 200);
	cr_expect_eq(s->steps_ahead_total, s->steps_total - 1);
	cr_expect_leq(s->steps_total, 53);
	og_engine_destroy(e);
}

/* Its pages are free, but not before the step that may write them is over. */
Test(engine_ahead, lets_the_pages_of_one_that_is_cancelled_rest_for_a_step)
{
	struct og_engine *e = start_ahead((struct og_engine_opts){.max_batch = 1, .steps_max = 2});
	const struct og_engine_stats *s = og_engine_stats(e);

	cr_assert_eq(ask(e, 0, (struct ask){.text = "hello", .max_tokens = 50, .raw = true}), 0);
	og_engine_step(e);
	og_engine_cancel(e, 0);
	cr_expect_eq(s->running, 0);
	cr_expect_eq(s->kv_tokens_used, PAGE_TOKENS);
	cr_expect(og_engine_step(e));
	cr_expect_eq(s->kv_tokens_used, 0);
	cr_expect_not(og_engine_step(e));
	collect(e);
	cr_expect_eq(outcomes[0].last.finish, OG_FINISH_CANCELLED);
	og_engine_destroy(e);
}
