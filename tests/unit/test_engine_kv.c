#include "engine_run.h"

#include <malloc.h>

/*
 * The KV cache under the engine: prefixes that are found, requests that give way to others. In all of
 * it a request's answer is the one it has alone on an engine of its own.
 */

#ifndef KV_KINDS /* a device that is played takes fewer and shorter ones */
#define KV_KINDS 16
#define KV_TOKENS 30
#endif

enum { CONTEXT = 512, PAGE_TOKENS = 64, KINDS = KV_KINDS };

static const char story[] =
	"Once upon a time a small node stood at the edge of a wide network, and it had one model, "
	"which it loved. Every morning it announced itself to the others, and every evening it "
	"counted the tokens of the day.";

static struct og_gw_model model(void)
{
	struct og_gw_model m = og_gw_small();

	m.type = OG_Q8_0;
	m.context = CONTEXT;
	return m;
}

/* Bytes of a cache of that many pages: 2 layers, 2 heads of 16, keys and values of 2 bytes. */
static uint64_t memory(uint32_t pages)
{
	return (uint64_t)pages * PAGE_TOKENS * 2 * 2 * 16 * 2 * 2;
}

/* Prompts that share beginnings of odd lengths, short ones and long ones. */
static struct ask kind(uint32_t i, char text[300])
{
	snprintf(text, 300, "%.*s%u", (int)(i % 4 * 67), story, i);
	return (struct ask){.text = text,
		.max_tokens = KV_TOKENS + i * 7,
		.temperature = i % 5 == 0 ? 0 : 1.3f,
		.seed = i,
		.raw = i % 2,
		.ignore_eos = i % 3 == 0,
		.repetition = i % 4 == 1 ? 1.2f : 1,
		.logprobs = true,
		.top = (uint8_t)(i % 3)};
}

static struct outcome alone[KINDS];

/* Each kind by itself, on an engine that remembers nothing. */
static void run_alone(void)
{
	struct og_gw_model m = model();
	struct og_engine *e =
		start_model(&m, (struct og_engine_opts){.max_batch = 1, .no_prefix_reuse = true});
	char text[300];

	for (uint32_t i = 0; i < KINDS; i++) {
		cr_assert_eq(ask(e, i, kind(i, text)), 0);
		run(e);
		cr_assert_eq(outcomes[i].dones, 1);
	}
	cr_expect_eq(og_engine_stats(e)->prefix_hit_tokens_total, 0);
	memcpy(alone, outcomes, sizeof(alone));
	memset(outcomes, 0, sizeof(outcomes));
	og_engine_destroy(e);
}

static void expect_as_alone(uint64_t id, uint32_t i)
{
	const struct outcome *got = &outcomes[id], *want = &alone[i];

	cr_expect_eq(got->dones, 1, "request %lu of kind %u", (unsigned long)id, i);
	cr_expect_eq(got->last.completion_tokens, want->last.completion_tokens);
	cr_expect_eq(got->last.prompt_tokens, want->last.prompt_tokens);
	/* Not only the tokens: the bits of their log probabilities. */
	cr_expect_eq(got->hash, want->hash, "request %lu of kind %u", (unsigned long)id, i);
	cr_expect_str_eq(got->text, want->text, "request %lu of kind %u", (unsigned long)id, i);
}

/* All kinds twice, at once as far as the engine lets them. */
static const struct og_engine_stats *run_together(struct og_engine *e)
{
	char text[300];

	for (uint32_t i = 0; i < 2 * KINDS; i++)
		cr_assert_eq(ask(e, i, kind(i % KINDS, text)), 0, "%s", og_engine_refusal(e));
	run(e);
	for (uint32_t i = 0; i < 2 * KINDS; i++)
		expect_as_alone(i, i % KINDS);
	cr_expect_eq(og_engine_stats(e)->kv_tokens_used, 0);
	cr_expect_eq(og_engine_stats(e)->swap_bytes_used, 0);
	cr_expect_eq(og_engine_stats(e)->parked, 0);
	return og_engine_stats(e);
}

Test(engine_kv, finds_the_prefix_of_an_earlier_prompt_and_answers_the_same)
{
	struct og_gw_model m = model();
	struct og_engine *e;
	const struct og_engine_stats *s;
	uint64_t computed;
	char text[300];

	run_alone();
	e = start_model(&m, (struct og_engine_opts){.max_batch = 1, .kv_memory_bytes = memory(64)});
	s = og_engine_stats(e);
	for (uint32_t i = 0; i < KINDS; i++) {
		cr_assert_eq(ask(e, i, kind(i, text)), 0);
		run(e);
		expect_as_alone(i, i);
	}
	computed = s->prompt_tokens_total;
	cr_expect_gt(s->prefix_hit_tokens_total, 0);
	cr_expect_eq(s->prefix_hit_tokens_total % PAGE_TOKENS, 0);
	cr_expect_gt(s->kv_tokens_reusable, 0);
	/* Once more: what is full pages is found, the rest is computed. */
	memset(outcomes, 0, sizeof(outcomes));
	for (uint32_t i = 0; i < KINDS; i++) {
		uint64_t before = s->prefix_hit_tokens_total;

		cr_assert_eq(ask(e, i, kind(i, text)), 0);
		run(e);
		expect_as_alone(i, i);
		cr_expect_eq(s->prefix_hit_tokens_total - before,
			(outcomes[i].last.prompt_tokens - 1) / PAGE_TOKENS * PAGE_TOKENS);
	}
	cr_expect_lt(s->prompt_tokens_total - computed, computed);
	og_engine_destroy(e);
}

Test(engine_kv, shares_what_is_being_computed)
{
	struct og_gw_model m = model();
	struct og_engine *e = start_model(&m, (struct og_engine_opts){.max_batch = 4, .queue = 40});
	uint32_t pages_of_prompt = (uint32_t)strlen(story) / PAGE_TOKENS;

	for (uint32_t i = 0; i < 4; i++)
		cr_assert_eq(
			ask(e, i, (struct ask){.text = story, .max_tokens = 4, .raw = true}), 0);
	run(e);
	for (uint32_t i = 1; i < 4; i++)
		cr_expect_str_eq(outcomes[i].text, outcomes[0].text);
	/* The first chunk holds the first two pages of the first only. */
	cr_expect_geq(og_engine_stats(e)->prefix_hit_tokens_total,
		3 * (pages_of_prompt - 1) * PAGE_TOKENS);
	cr_expect_eq(og_engine_stats(e)->kv_tokens_used, 0);
	og_engine_destroy(e);
}

Test(engine_kv, answers_the_same_in_a_batch_of_sixteen)
{
	struct og_gw_model m = model();
	struct og_engine *e;

	run_alone();
	e = start_model(
		&m, (struct og_engine_opts){.max_batch = 16, .queue = 40, .no_prefix_reuse = true});
	cr_expect_eq(run_together(e)->parked_total, 0);
	og_engine_destroy(e);
}

Test(engine_kv, gives_way_when_pages_run_short_and_answers_the_same)
{
	struct og_gw_model m = model();
	struct og_engine *e;
	const struct og_engine_stats *s;

	run_alone();
	e = start_model(&m, (struct og_engine_opts){
				    .max_batch = 16, .queue = 40, .kv_memory_bytes = memory(9)});
	s = run_together(e);
	cr_expect_gt(s->parked_total, 0);
	cr_expect_eq(s->recomputed_total, 0);
	cr_expect_gt(s->prefix_hit_tokens_total, 0);
	og_engine_destroy(e);
	/* The least that serves at all. */
	e = start_model(&m, (struct og_engine_opts){.max_batch = 16,
				    .queue = 40,
				    .kv_memory_bytes = memory(CONTEXT / PAGE_TOKENS),
				    .no_prefix_reuse = true});
	cr_expect_gt(run_together(e)->parked_total, 0);
	og_engine_destroy(e);
}

Test(engine_kv, computes_anew_what_the_host_has_no_room_for)
{
	struct og_gw_model m = model();
	struct og_engine *e;

	run_alone();
	e = start_model(&m, (struct og_engine_opts){.max_batch = 16,
				    .queue = 40,
				    .kv_memory_bytes = memory(9),
				    .swap_memory_bytes = memory(1)});
	cr_expect_gt(run_together(e)->recomputed_total, 0);
	og_engine_destroy(e);
}

Test(engine_kv, lets_no_silent_reader_hold_what_others_need)
{
	struct og_gw_model m = model();
	struct og_engine *e;
	char text[300];

	run_alone();
	e = start_model(&m,
		(struct og_engine_opts){.max_batch = 2, .queue = 40, .kv_memory_bytes = memory(8)});
	/* Both slots and their pages go to requests that nobody reads from. */
	for (uint32_t i = 0; i < 2; i++) {
		struct ask a = kind(i + 3, text);

		a.credits = 2;
		cr_assert_eq(ask(e, i, a), 0);
	}
	run(e);
	cr_expect_eq(outcomes[0].dones + outcomes[1].dones, 0);
	for (uint32_t i = 2; i < 8; i++)
		cr_assert_eq(ask(e, i, kind(i, text)), 0);
	run(e);
	for (uint32_t i = 2; i < 8; i++)
		expect_as_alone(i, i);
	cr_expect_eq(og_engine_stats(e)->parked, 2);
	cr_expect_gt(og_engine_stats(e)->swap_bytes_used, 0);
	/* One is cancelled where it is, the other goes on. */
	og_engine_cancel(e, 0);
	og_engine_credit(e, 1, 100000);
	run(e);
	cr_expect_eq(outcomes[0].last.finish, OG_FINISH_CANCELLED);
	expect_as_alone(1, 4);
	cr_expect_eq(og_engine_stats(e)->parked, 0);
	cr_expect_eq(og_engine_stats(e)->swap_bytes_used, 0);
	og_engine_destroy(e);
}

Test(engine_kv, gives_a_token_each_step_while_a_long_prompt_is_read)
{
	struct og_gw_model m = model();
	struct og_engine *e = start_model(&m, (struct og_engine_opts){.max_batch = 2, .queue = 2});
	uint32_t before, steps = 0;
	char text[CONTEXT];

	memset(text, '7', sizeof(text));
	text[CONTEXT - 40] = '\0';
	cr_assert_eq(
		ask(e, 0, (struct ask){.text = "hello world", .max_tokens = 200, .seed = 3}), 0);
	og_engine_step(e);
	cr_assert_eq(ask(e, 1, (struct ask){.text = text, .max_tokens = 1, .raw = true}), 0);
	while (outcomes[1].dones == 0 && outcomes[0].dones == 0) {
		before = (uint32_t)og_engine_stats(e)->completion_tokens_total;
		cr_assert(og_engine_step(e));
		cr_expect_geq(og_engine_stats(e)->completion_tokens_total, before + 1);
		collect(e);
		steps++;
	}
	/* 472 tokens by 32 */
	cr_expect(outcomes[0].dones || (steps >= 14 && steps <= 16), "%u steps", steps);
	og_engine_destroy(e);
}

static uint32_t soak_count(void)
{
	const char *all = getenv("OG_ALL");

	return all && strcmp(all, "1") == 0 ? 10000 : 1000;
}

/* Requests come and go at random; ids go round, so no more than REQUESTS_MAX are outstanding. */
static void soak(struct og_engine *e, struct og_rand *r, uint32_t count)
{
	uint32_t begun = 0;
	char text[300];

	while (begun < count) {
		uint64_t id = og_rand_below(r, REQUESTS_MAX);

		if (outcomes[id].dones)
			memset(&outcomes[id], 0, sizeof(outcomes[id]));
		if (og_rand_below(r, 3) > 0) {
			struct ask a = kind(og_rand_below(r, KINDS), text);

			a.max_tokens = 1 + og_rand_below(r, 12);
			if (og_rand_below(r, 8) == 0)
				a.credits = 1 + og_rand_below(r, 3);
			begun += ask(e, id, a) == 0;
		}
		if (og_rand_below(r, 4) == 0)
			og_engine_cancel(e, og_rand_below(r, REQUESTS_MAX));
		og_engine_step(e);
		collect(e);
	}
	for (uint64_t id = 0; id < REQUESTS_MAX; id++)
		og_engine_cancel(e, id);
	run(e);
}

Test(engine_kv, is_after_many_requests_what_it_was_before, .timeout = 600)
{
	struct og_gw_model m = model();
	struct og_engine *e = start_model(
		&m, (struct og_engine_opts){
			    .max_batch = 6, .queue = 20, .kv_memory_bytes = memory(10)});
	const struct og_engine_stats *s = og_engine_stats(e);
	size_t before, after;
	struct og_rand r;

	og_rand_seeded(&r, 23);
	soak(e, &r, 50);
	before = mallinfo2().uordblks;
	soak(e, &r, soak_count());
	after = mallinfo2().uordblks;
	cr_expect_eq(s->running + s->queued + s->parked, 0);
	cr_expect_eq(s->kv_tokens_used, 0);
	cr_expect_eq(s->swap_bytes_used, 0);
	cr_expect_leq(s->kv_tokens_reusable, s->kv_tokens_total);
	cr_expect_eq(s->failed_total, 0);
	cr_expect_eq(s->requests_total, s->done_total + s->cancelled_total);
	cr_expect_gt(s->cancelled_total, 0);
	cr_expect_gt(s->parked_total, 0);
	/* malloc keeps a few small blocks of each size at hand; a leak would grow with the count. */
	cr_expect_leq(after, before + 16 * 1024, "%zu bytes more", after - before);
	og_engine_destroy(e);
}
