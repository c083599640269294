/*
 * test_engine_load.c: an engine that is created before its weights have arrived.
 */
#include "engine_run.h"
#include "model_writer.h"

enum { ASKS = 3 };

static struct og_mw llama3(void)
{
	size_t i = 0;

	while (!og_mw_families[i].llama3)
		i++;
	return og_mw_make(i);
}

/* Headers that are right; and weights that are refused when they arrive, if `broken`. */
static struct og_engine *start(bool broken)
{
	struct og_mw m = llama3();
	struct og_gw w = og_mw_gguf(&m);
	struct og_engine_opts opts = {.backend = OG_BACKEND_CPU,
		.background = true,
		.threads = 1,
		.device = 3}; /* of no meaning to the CPU */
	struct og_mw_factors factors[2];
	struct og_engine *e;
	char path[64];

	og_mw_factor_tensors(&m, factors);
	if (broken) {
		size_t bytes = m.rope_dims / 2 * sizeof(float);
		uint8_t *at = memmem(w.data, w.len, factors[0].values, bytes);

		cr_assert_not_null(at);
		memset(at, 0, bytes);
	}
	og_gw_save(&w, path);
	og_gw_fini(&w);
	opts.path = path;
	memset(outcomes, 0, sizeof(outcomes));
	cr_assert_eq(og_engine_create(&e, &opts, err, sizeof(err)), 0, "%s", err);
	unlink(path);
	return e;
}

static void wait_for(const struct og_engine *e, enum og_engine_load state)
{
	for (int ms = 0; og_engine_load_state(e) == OG_ENGINE_LOADING && ms < 10000; ms++)
		usleep(1000);
	cr_assert_eq(og_engine_load_state(e), state, "%s", og_engine_load_error(e));
}

Test(engine_load, takes_requests_before_the_back_end_has_started)
{
	struct og_engine *e = start(false);
	const struct og_load_progress *p = og_engine_load_progress(e);

	cr_expect_eq(og_engine_load_state(e), OG_ENGINE_LOADING);
	cr_expect_str_eq(og_engine_backend_name(e), "cpu");
	for (uint64_t id = 0; id < ASKS; id++)
		cr_assert_eq(
			ask(e, id, (struct ask){.text = "hi", .max_tokens = 4, .raw = true}), 0);
	og_engine_cancel(e, 1);
	run(e);
	for (uint64_t id = 0; id < ASKS; id++)
		cr_expect_eq(outcomes[id].dones, 1);
	wait_for(e, OG_ENGINE_LOADED);
	cr_expect_str_eq(og_engine_load_error(e), "");
	cr_expect_gt(p->bytes_total, 0);
	cr_expect_eq(p->bytes_done, p->bytes_total);
	cr_expect_eq(p->stages_ready, p->stages_total);
	og_engine_destroy(e);
}

Test(engine_load, answers_each_request_with_an_error_when_the_weights_are_refused)
{
	struct og_engine *e = start(true);

	for (uint64_t id = 0; id < ASKS; id++)
		(void)!ask(e, id, (struct ask){.text = "hi", .max_tokens = 4, .raw = true});
	run(e);
	wait_for(e, OG_ENGINE_FAILED);
	cr_expect(strstr(og_engine_load_error(e), "no positive number") != NULL, "%s",
		og_engine_load_error(e));
	/* Refused at once, if the weights were quicker than the requests; else ended. */
	cr_expect_eq(og_engine_stats(e)->refused_total + og_engine_stats(e)->failed_total, ASKS);
	cr_expect_eq(og_engine_stats(e)->lost, 0);
	cr_expect_eq(ask(e, 9, (struct ask){.text = "hi", .max_tokens = 1, .raw = true}), -ENODEV);
	cr_expect(strstr(og_engine_refusal(e), "no positive number") != NULL, "%s",
		og_engine_refusal(e));
	og_engine_destroy(e);
}

Test(engine_load, ends_while_it_loads)
{
	struct og_engine *e = start(false);

	og_engine_stop_loading(e);
	run(e);
	og_engine_destroy(e);
}
