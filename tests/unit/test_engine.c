#include "engine_run.h"

Test(engine, answers_a_chat_and_says_why_it_ended)
{
	struct og_engine *e = start_small(2, 2);

	cr_assert_eq(ask(e, 1, (struct ask){.text = "hello", .max_tokens = 12}), 0);
	run(e);
	cr_expect_eq(outcomes[1].dones, 1);
	cr_expect_gt(outcomes[1].last.prompt_tokens, 5);
	cr_expect_gt(outcomes[1].last.completion_tokens, 0);
	cr_expect_leq(outcomes[1].last.completion_tokens, 12);
	cr_expect_not(og_engine_step(e));
	cr_expect_eq(og_engine_stats(e)->done_total, 1);
	cr_expect_eq(og_engine_stats(e)->running, 0);
	cr_expect_eq(og_engine_stats(e)->kv_tokens_used, 0);
	og_engine_destroy(e);
}

Test(engine, stops_at_the_length_asked_for_and_at_the_context)
{
	struct og_gw_model m = og_gw_small();
	struct og_engine *e;

	m.context = 64;
	e = start_model(&m, (struct og_engine_opts){0});
	/* A hot random model ends by itself at times: look for seeds where it does not. */
	for (uint64_t seed = 0; seed < 8; seed++)
		cr_assert_eq(ask(e, seed,
				     (struct ask){.text = "o",
					     .max_tokens = 5,
					     .temperature = 1,
					     .seed = seed,
					     .raw = true}),
			0);
	for (uint64_t seed = 8; seed < 16; seed++)
		cr_assert_eq(
			ask(e, seed,
				(struct ask){
					.text = "o", .temperature = 1, .seed = seed, .raw = true}),
			0);
	run(e);
	for (uint64_t id = 0; id < 16; id++) {
		const struct og_infer_event *last = &outcomes[id].last;

		cr_expect_eq(outcomes[id].dones, 1);
		if (last->finish == OG_FINISH_LENGTH)
			cr_expect_eq(last->completion_tokens, id < 8 ? 5 : 63);
		else
			cr_expect_leq(last->completion_tokens, id < 8 ? 5 : 63);
	}
	og_engine_destroy(e);
}

Test(engine, refuses_prompts_that_leave_no_room)
{
	struct og_engine *e = start_small(1, 1);
	char text[200];

	memset(text, '7', sizeof(text));
	text[128] = '\0'; /* as long as the context */
	cr_expect_eq(ask(e, 1, (struct ask){.text = text, .raw = true}), -E2BIG);
	cr_expect(strstr(og_engine_refusal(e), "128 tokens") != NULL, "%s", og_engine_refusal(e));
	text[127] = '\0';
	cr_assert_eq(ask(e, 2, (struct ask){.text = text, .raw = true}), 0);
	cr_expect_eq(ask(e, 3, (struct ask){.text = "", .raw = true}), -EINVAL);
	run(e);
	cr_expect_eq(outcomes[2].dones, 1);
	cr_expect_eq(outcomes[2].last.completion_tokens, 1);
	og_engine_destroy(e);
}

Test(engine, refuses_when_the_queue_is_full_and_serves_again_later)
{
	struct og_engine *e = start_small(1, 2);

	for (uint64_t id = 1; id <= 3; id++)
		cr_expect_eq(ask(e, id, (struct ask){.text = "he", .max_tokens = 3}), 0);
	cr_expect_eq(ask(e, 4, (struct ask){.text = "he"}), -EBUSY);
	cr_expect_eq(og_engine_stats(e)->refused_total, 1);
	run(e);
	for (uint64_t id = 1; id <= 3; id++)
		cr_expect_eq(outcomes[id].dones, 1);
	cr_expect_eq(outcomes[4].dones + outcomes[4].errors, 0);
	cr_expect_eq(ask(e, 4, (struct ask){.text = "he", .max_tokens = 3}), 0);
	run(e);
	cr_expect_eq(outcomes[4].dones, 1);
	og_engine_destroy(e);
}

Test(engine, refuses_an_id_that_is_in_use)
{
	struct og_engine *e = start_small(1, 2);

	cr_expect_eq(ask(e, 1, (struct ask){.text = "he", .max_tokens = 3}), 0);
	cr_expect_eq(ask(e, 1, (struct ask){.text = "he", .max_tokens = 3}), -EEXIST);
	run(e);
	cr_expect_eq(ask(e, 1, (struct ask){.text = "he", .max_tokens = 3}), 0);
	og_engine_destroy(e); /* frees the one that is outstanding */
}

Test(engine, ends_every_request_once_whatever_is_cancelled)
{
	struct og_engine *e = start_small(3, 40);
	struct og_rand r;

	og_rand_seeded(&r, 17);
	for (uint64_t id = 0; id < 40; id++) {
		cr_assert_eq(ask(e, id,
				     (struct ask){.text = "hello world",
					     .max_tokens = 1 + og_rand_below(&r, 20),
					     .temperature = 1,
					     .seed = id}),
			0);
		if (og_rand_below(&r, 3) == 0)
			og_engine_cancel(e, og_rand_below(&r, 40));
		if (og_rand_below(&r, 2) == 0) {
			og_engine_step(e);
			collect(e);
		}
	}
	og_engine_cancel(e, 1000);
	run(e);
	for (uint64_t id = 0; id < 40; id++)
		cr_expect_eq(outcomes[id].dones, 1, "request %lu", (unsigned long)id);
	cr_expect_gt(og_engine_stats(e)->cancelled_total, 0);
	cr_expect_eq(og_engine_stats(e)->cancelled_total + og_engine_stats(e)->done_total, 40);
	og_engine_destroy(e);
}

Test(engine, keeps_the_last_events_of_a_reader_that_does_not_read)
{
	struct og_engine *e = start_small(2, 2);
	uint64_t id = 0;

	/* Nothing is polled: at some point the engine says no, and nothing is lost. */
	while (id < REQUESTS_MAX &&
		ask(e, id,
			(struct ask){
				.text = "hello", .max_tokens = 30, .temperature = 2, .seed = id}) ==
			0) {
		id++;
		while (og_engine_step(e))
			;
	}
	cr_expect_gt(id, 3);
	cr_expect_lt(id, REQUESTS_MAX);
	collect(e);
	run(e);
	for (uint64_t i = 0; i < id; i++)
		cr_expect_eq(outcomes[i].dones, 1);
	og_engine_destroy(e);
}

static const struct ask hot[4] = {
	{.text = "hello world", .max_tokens = 40, .temperature = 1.5f, .seed = 1},
	{.text = "o", .max_tokens = 40, .temperature = 1.0f, .seed = 2},
	{.text = "tell me all about it, at length, with every detail",
		.max_tokens = 40,
		.temperature = 1.2f,
		.seed = 3},
	{.text = "world", .max_tokens = 40, .seed = 4},
};

Test(engine, gives_a_request_the_same_answer_alone_and_in_company)
{
	struct og_engine *e = start_small(4, 40);
	struct outcome alone[4];

	for (uint64_t i = 0; i < 4; i++) {
		cr_assert_eq(ask(e, i, hot[i]), 0);
		run(e);
		cr_expect_eq(outcomes[i].dones, 1);
	}
	memcpy(alone, outcomes, sizeof(alone));
	memset(outcomes, 0, sizeof(outcomes));
	/* Now three of each, arriving at odd times, more than run at once. */
	for (uint64_t id = 0; id < 12; id++) {
		cr_assert_eq(ask(e, id, hot[(id * 7 + id / 4) % 4]), 0);
		og_engine_step(e);
		collect(e);
	}
	run(e);
	for (uint64_t id = 0; id < 12; id++) {
		const struct outcome *want = &alone[(id * 7 + id / 4) % 4];

		cr_expect_eq(outcomes[id].last.completion_tokens, want->last.completion_tokens);
		cr_expect_str_eq(outcomes[id].text, want->text, "request %lu", (unsigned long)id);
	}
	og_engine_destroy(e);
}

Test(engine, gives_another_seed_another_answer)
{
	struct og_engine *e = start_small(4, 4);
	struct ask other = hot[0];

	other.seed = 99;
	cr_assert_eq(ask(e, 1, hot[0]), 0);
	cr_assert_eq(ask(e, 2, other), 0);
	cr_assert_eq(ask(e, 3, hot[0]), 0);
	run(e);
	cr_expect_str_eq(outcomes[1].text, outcomes[3].text);
	cr_expect_str_neq(outcomes[1].text, outcomes[2].text);
	og_engine_destroy(e);
}

Test(engine, pauses_only_the_request_without_credits)
{
	struct og_engine *e = start_small(2, 2);
	struct ask slow = hot[0];
	struct outcome whole;

	cr_assert_eq(ask(e, 0, hot[0]), 0);
	run(e);
	whole = outcomes[0];
	cr_assert_gt(whole.texts, 6);
	slow.credits = 3;
	cr_assert_eq(ask(e, 1, slow), 0);
	cr_assert_eq(ask(e, 2, hot[2]), 0);
	run(e);
	cr_expect_eq(outcomes[2].dones, 1);
	cr_expect_eq(outcomes[1].texts, 3);
	cr_expect_eq(outcomes[1].dones, 0);
	og_engine_credit(e, 1, 2);
	run(e);
	cr_expect_eq(outcomes[1].texts, 5);
	cr_expect_eq(outcomes[1].dones, 0);
	og_engine_credit(e, 1, 1000);
	run(e);
	cr_expect_eq(outcomes[1].dones, 1);
	cr_expect_str_eq(outcomes[1].text, whole.text);
	og_engine_destroy(e);
}

Test(engine, starts_no_answer_without_credits_and_can_be_cancelled)
{
	struct og_engine *e = start_small(1, 1);

	cr_assert_eq(ask(e, 1, (struct ask){.text = "hello", .max_tokens = 5, .starve = true}), 0);
	run(e);
	cr_expect_eq(outcomes[1].texts, 0);
	cr_expect_eq(og_engine_stats(e)->completion_tokens_total, 0);
	og_engine_cancel(e, 1);
	collect(e);
	cr_expect_eq(outcomes[1].dones, 1);
	cr_expect_eq(outcomes[1].last.finish, OG_FINISH_CANCELLED);
	og_engine_destroy(e);
}

Test(engine, ends_at_a_stop_string)
{
	struct og_engine *e = start_small(2, 2);
	struct ask stopped = hot[0];
	char stop[4] = "";

	cr_assert_eq(ask(e, 0, hot[0]), 0);
	run(e);
	cr_assert_gt(outcomes[0].text_bytes, 10);
	/* Some plain bytes in the middle of what it says. */
	for (uint32_t i = 3; i + 2 < outcomes[0].text_bytes && !stop[0]; i++)
		if (outcomes[0].text[i] > ' ' && outcomes[0].text[i + 1] > ' ')
			memcpy(stop, outcomes[0].text + i, 2);
	cr_assert(stop[0]);
	stopped.stop = stop;
	cr_assert_eq(ask(e, 1, stopped), 0);
	run(e);
	cr_expect_eq(outcomes[1].last.finish, OG_FINISH_STOP);
	cr_expect_eq((size_t)(strstr(outcomes[0].text, stop) - outcomes[0].text),
		outcomes[1].text_bytes);
	cr_expect_arr_eq(outcomes[0].text, outcomes[1].text, outcomes[1].text_bytes);
	og_engine_destroy(e);
}

Test(engine, tells_the_log_probability_of_each_token)
{
	struct og_engine *e = start_small(2, 2);
	struct ask a = hot[0], plain = hot[0];

	a.logprobs = true;
	a.top = 3;
	cr_assert_eq(ask(e, 1, a), 0);
	cr_assert_eq(ask(e, 2, plain), 0);
	run(e);
	cr_expect_str_eq(outcomes[1].text, outcomes[2].text);
	cr_expect_eq(outcomes[2].logprobs, 0);
	/* One for each token of the answer; the one that ends it is none of them. */
	cr_expect_eq(outcomes[1].logprobs + (outcomes[1].last.finish == OG_FINISH_STOP),
		outcomes[1].last.completion_tokens);
	cr_expect_eq(outcomes[1].alternatives, 3 * outcomes[1].logprobs);
	og_engine_destroy(e);
}

Test(engine, goes_on_where_the_model_would_end)
{
	struct og_engine *e = start_small(2, 40);
	uint32_t ended = 0;

	for (uint64_t i = 0; i < 20; i++) {
		struct ask a = {.text = "o",
			.max_tokens = 60,
			.temperature = 2,
			.seed = i,
			.raw = true,
			.ignore_eos = i % 2};

		cr_assert_eq(ask(e, i, a), 0);
	}
	run(e);
	for (uint64_t i = 0; i < 20; i += 2)
		ended += outcomes[i].last.completion_tokens < 60;
	cr_expect_gt(ended, 0, "no seed ends early: the test shows nothing");
	for (uint64_t i = 1; i < 20; i += 2)
		cr_expect_eq(outcomes[i].last.completion_tokens, 60);
	og_engine_destroy(e);
}

Test(engine, ends_at_a_stop_token)
{
	struct og_engine *e = start_small(2, 2);
	struct ask a = {.text = "hello", .max_tokens = 50, .ignore_eos = true, .logprobs = true};
	uint8_t last;

	cr_assert_eq(ask(e, 1, a), 0);
	run(e);
	/* Some token that is one byte, whose id in this vocabulary is the byte. */
	last = (uint8_t)outcomes[1].token_text[outcomes[1].token_bytes / 2];
	a.stop_token = last;
	cr_assert_eq(ask(e, 2, a), 0);
	run(e);
	cr_expect_eq(outcomes[2].last.finish, OG_FINISH_STOP);
	cr_expect_lt(outcomes[2].last.completion_tokens, outcomes[1].last.completion_tokens);
	cr_expect_eq(
		memcmp(outcomes[1].token_text, outcomes[2].token_text, outcomes[2].token_bytes), 0);
	og_engine_destroy(e);
}

Test(engine, repeats_less_under_a_penalty)
{
	struct og_engine *e = start_small(4, 4);
	struct ask a = {.text = "o", .max_tokens = 80, .raw = true, .ignore_eos = true};
	uint32_t distinct[3] = {0};

	for (uint64_t i = 0; i < 3; i++) {
		a.logprobs = true;
		a.presence = i == 1 ? 2 : 0;
		a.frequency = i == 1 ? 2 : 0;
		a.repetition = i == 2 ? 5 : 1;
		cr_assert_eq(ask(e, i, a), 0);
	}
	run(e);
	for (uint64_t i = 0; i < 3; i++) {
		bool seen[256] = {0};

		for (uint32_t k = 0; k < outcomes[i].token_bytes; k++) {
			uint8_t byte = (uint8_t)outcomes[i].token_text[k];

			distinct[i] += !seen[byte];
			seen[byte] = true;
		}
	}
	/* Greedily a small model runs in circles. */
	cr_expect_gt(distinct[1], distinct[0]);
	cr_expect_gt(distinct[2], distinct[0]);
	og_engine_destroy(e);
}

Test(engine, reports_a_model_that_computes_no_numbers)
{
	struct og_gw_model m = og_gw_small();
	struct og_gw w = og_gw_model_file(&m);
	struct og_engine_opts opts = {.backend = OG_BACKEND_CPU};
	struct og_engine *e;
	char path[64];

	memset(w.data + w.len - 4 * m.ff * m.width, 0xff, 4 * m.ff * m.width); /* NaN */
	og_gw_save(&w, path);
	og_gw_fini(&w);
	opts.path = path;
	cr_assert_eq(og_engine_create(&e, &opts, err, sizeof(err)), 0, "%s", err);
	unlink(path);
	cr_assert_eq(ask(e, 1, (struct ask){.text = "hello"}), 0);
	cr_assert_eq(ask(e, 2, (struct ask){.text = "hello", .temperature = 1}), 0);
	run(e);
	cr_expect_eq(outcomes[1].errors, 1);
	cr_expect_eq(outcomes[1].last.error, -EDOM);
	cr_expect_eq(outcomes[2].errors, 1);
	cr_expect_eq(og_engine_stats(e)->failed_total, 2);
	og_engine_destroy(e);
}

Test(engine, takes_the_name_of_the_file_and_the_context_of_the_model)
{
	struct og_engine *e = start_small(1, 1);

	cr_expect(strncmp(og_engine_model_name(e), "og_test_", 8) == 0);
	cr_expect_null(strstr(og_engine_model_name(e), ".gguf"));
	cr_expect_str_eq(og_engine_backend_name(e), "cpu");
	cr_expect_eq(og_engine_context(e), 128);
	cr_expect_eq(og_engine_stats(e)->kv_tokens_total, 128);
	og_engine_destroy(e);
}

Test(engine, fits_the_batch_to_the_memory_of_the_cache)
{
	struct og_gw_model m = og_gw_small();
	/* 2 layers, 2 heads of 16, keys and values of 2 bytes, 128 positions */
	uint64_t slot = 2 * 2 * 16 * 2 * 2 * 128;
	struct og_engine *e = start_model(
		&m, (struct og_engine_opts){.max_batch = 8, .kv_memory_bytes = 3 * slot});
	struct og_engine_opts opts = {.backend = OG_BACKEND_CPU, .kv_memory_bytes = slot - 1};
	struct og_gw w = og_gw_model_file(&m);
	char path[64];

	cr_expect_eq(og_engine_stats(e)->kv_tokens_total, 3 * 128);
	og_engine_destroy(e);
	og_gw_save(&w, path);
	og_gw_fini(&w);
	opts.path = path;
	cr_expect_eq(og_engine_create(&e, &opts, err, sizeof(err)), -ENOMEM);
	cr_expect(strstr(err, "KV cache") != NULL, "%s", err);
	unlink(path);
}

Test(engine, says_which_back_ends_there_are)
{
	struct og_engine_opts opts = {.path = "/nonexistent.gguf", .backend = OG_BACKEND_CUDA};
	struct og_engine *e;

	int ret = og_engine_create(&e, &opts, err, sizeof(err));

	/* Where there is a device the path is the trouble. */
	cr_expect(ret == -ENOENT || (ret == -ENODEV && strstr(err, "CUDA")), "%d: %s", ret, err);
	opts.backend = OG_BACKEND_AUTO;
	cr_expect_eq(og_engine_create(&e, &opts, err, sizeof(err)), -ENOENT);
	cr_expect(strstr(err, "/nonexistent.gguf") != NULL, "%s", err);
	opts.path = NULL;
	opts.backend = OG_BACKEND_CPU;
	cr_expect_eq(og_engine_create(&e, &opts, err, sizeof(err)), -EINVAL);
}

Test(engine, refuses_on_the_cpu_what_only_a_device_has)
{
	struct og_engine_opts opts = {
		.path = "/nonexistent.gguf", .backend = OG_BACKEND_CPU, .fp8_weights = true};
	struct og_engine *e;

	cr_expect_eq(og_engine_create(&e, &opts, err, sizeof(err)), -EOPNOTSUPP);
	cr_expect(strstr(err, "weights = fp8 is for GPUs") != NULL, "%s", err);
	opts.fp8_weights = false;
	opts.fp8_kv = true;
	cr_expect_eq(og_engine_create(&e, &opts, err, sizeof(err)), -EOPNOTSUPP);
	cr_expect(strstr(err, "kv = fp8 is for GPUs") != NULL, "%s", err);
}

Test(engine, serves_nothing_without_a_model)
{
	struct og_engine *e = start_plain(OG_BACKEND_AUTO);

	cr_expect_eq(ask(e, 1, (struct ask){.text = "hello"}), -ENODEV);
	cr_expect_str_eq(og_engine_model_name(e), "");
	cr_expect_str_eq(og_engine_backend_name(e), "none");
	cr_expect_not(og_engine_step(e));
	og_engine_destroy(e);
}

Test(engine, echoes)
{
	struct og_engine *e = start_plain(OG_BACKEND_ECHO);

	cr_assert_eq(ask(e, 1, (struct ask){.text = "hello,  wörld"}), 0);
	cr_assert_eq(ask(e, 2, (struct ask){.text = "one two three", .max_tokens = 3}), 0);
	cr_assert_eq(ask(e, 3, (struct ask){.text = ""}), 0);
	cr_assert_eq(ask(e, 4, (struct ask){.text = "one two three", .stop = "two"}), 0);
	run(e);
	cr_expect_str_eq(outcomes[1].text, "[echo] hello,  wörld");
	cr_expect_eq(outcomes[1].last.finish, OG_FINISH_STOP);
	cr_expect_str_eq(outcomes[2].text, "[echo] one two");
	cr_expect_eq(outcomes[2].last.finish, OG_FINISH_LENGTH);
	cr_expect_str_eq(outcomes[3].text, "[echo] ");
	cr_expect_str_eq(outcomes[4].text, "[echo] one ");
	cr_expect_str_eq(og_engine_backend_name(e), "echo");
	og_engine_destroy(e);
}

Test(engine, echoes_under_credits_and_cancel)
{
	struct og_engine *e = start_plain(OG_BACKEND_ECHO);

	cr_assert_eq(ask(e, 1, (struct ask){.text = "a b c d e f", .credits = 2}), 0);
	run(e);
	cr_expect_eq(outcomes[1].texts, 2);
	og_engine_cancel(e, 1);
	run(e);
	cr_expect_eq(outcomes[1].last.finish, OG_FINISH_CANCELLED);
	og_engine_destroy(e);
}
