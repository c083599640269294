#include "cluster/message.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static struct og_message parse(const char *line)
{
	struct og_message m;

	cr_assert_eq(og_message_parse(&m, line, strlen(line)), 0, "%s", line);
	return m;
}

Test(message, request_id_comes_back_as_its_source_bytes)
{
	static const struct {
		const char *line, *raw;
	} cases[] = {
		{"{\"type\":\"inference_request\",\"request_id\":1.0}", "1.0"},
		{"{\"type\":\"inference_request\", \"request_id\" : 12345678901234567890123 }",
			NULL},
		{"{\"request_id\":\"a\\u00e9\\\"b\",\"type\":\"inference_request\"}",
			"\"a\\u00e9\\\"b\""},
		{"{\"request_id\":[1, {\"x\":\"}\"}],\"type\":\"inference_request\"}",
			"[1, {\"x\":\"}\"}]"},
		{"{\"request_id\":1,\"type\":\"inference_request\",\"request_id\":2}", "2"},
		{"{\"a\":{\"request_id\":7},\"request\\u005fid\":true}", "true"},
		{"{\"request_id\":null}", NULL},
		{"{}", NULL},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		struct og_message m;

		if (og_message_parse(&m, cases[i].line, strlen(cases[i].line)) < 0) {
			cr_assert_null(cases[i].raw);
			continue;
		}
		if (!cases[i].raw) {
			cr_assert_null(m.raw_id, "%s", cases[i].line);
		} else {
			cr_assert_eq(m.raw_id_bytes, strlen(cases[i].raw), "%s", cases[i].line);
			cr_assert_eq(memcmp(m.raw_id, cases[i].raw, m.raw_id_bytes), 0);
		}
		og_message_fini(&m);
	}
}

Test(message, what_is_not_an_object_is_refused)
{
	static const char *const bad[] = {"", "x", "[]", "1", "\"a\"", "{\"a\":1", "{\"a\":1}}",
		"{\"a\":\"\xff\"}", "{\"a\":\"\\ud800\"}", "null"};
	struct og_message m;

	for (size_t i = 0; i < OG_ARRAY_LEN(bad); i++)
		cr_assert_eq(og_message_parse(&m, bad[i], strlen(bad[i])), -74, "%s", bad[i]);
}

Test(message, nesting_is_bounded)
{
	char line[300] = "{\"a\":";
	struct og_message m;

	memset(line + 5, '[', 63);
	memset(line + 68, ']', 63);
	strcpy(line + 131, "}");
	cr_assert_eq(og_message_parse(&m, line, strlen(line)), 0);
	og_message_fini(&m);
	memset(line + 5, '[', 64);
	memset(line + 69, ']', 64);
	strcpy(line + 133, "}");
	cr_assert_eq(og_message_parse(&m, line, strlen(line)), -74);
	/* Brackets in strings are text. */
	memset(line, 0, sizeof(line));
	strcpy(line, "{\"a\":\"");
	memset(line + 6, '[', 200);
	strcpy(line + 206, "\"}");
	cr_assert_eq(og_message_parse(&m, line, strlen(line)), 0);
	og_message_fini(&m);
}

Test(message, the_last_of_duplicate_members_wins)
{
	struct og_message m = parse("{\"type\":\"peer_hello\",\"type\":\"inference_response\"}");

	cr_assert_eq(m.type, OG_MSG_RESPONSE);
	og_message_fini(&m);
}

Test(message, a_response_reads_as_old_peers_expect)
{
	struct og_response r = {
		.raw_id = "1.50", .raw_id_bytes = 4, .text = "4", .text_bytes = 1, .model = "demo"};
	size_t len;
	char *line = og_message_response(&r, &len);
	struct og_message m;
	size_t n;

	cr_assert_eq(line[len - 1], '\n');
	m = parse(line);
	cr_assert_eq(m.type, OG_MSG_RESPONSE);
	cr_assert_eq(m.raw_id_bytes, 4);
	cr_assert_eq(memcmp(m.raw_id, "1.50", 4), 0);
	cr_assert_str_eq(og_message_string(m.root, "response", &n), "4");
	og_message_fini(&m);
	free(line);

	r.error = -16;
	r.text = "busy";
	r.text_bytes = 4;
	line = og_message_response(&r, &len);
	m = parse(line);
	cr_assert_str_eq(og_message_string(m.root, "response", &n), "[error] busy");
	og_message_fini(&m);
	free(line);
}

Test(message, a_request_carries_the_conversation_and_a_plain_prompt)
{
	struct og_infer_message messages[] = {{"system", "be short", 8}, {"user", "hi\n\x01", 4}};
	struct og_infer_params params;
	struct og_ask ask = {.model = "m", .stream = true};
	struct og_infer_request *back;
	struct og_message m;
	size_t len, n;
	char *line;

	og_infer_params_default(&params);
	params.temperature = 0.5f;
	params.seed = 42;
	params.nb_stop = 1;
	strcpy(params.stop[0], "END");
	cr_assert_eq(og_infer_request_create(&ask.req, 1, &params, false, messages, 2), 0);
	line = og_message_request("u-1", &ask, 5000, &len);
	cr_assert_null(memchr(line, '\n', len - 1));
	m = parse(line);
	cr_assert_str_eq(
		og_message_string(m.root, "prompt", &n), "system: be short\nuser: hi\n\x01");
	cr_assert_eq(og_message_infer_request(&m, 9, &back), 0);
	cr_assert_eq(back->nb_messages, 2);
	cr_assert_str_eq(back->messages[1].content, "hi\n\x01");
	cr_assert_eq(back->params.seed, 42);
	cr_assert_float_eq((double)back->params.temperature, 0.5, 1e-6);
	cr_assert_str_eq(back->params.stop[0], "END");
	og_infer_request_free(back);
	og_infer_request_free(ask.req);
	og_message_fini(&m);
	free(line);
}

Test(message, a_request_without_a_prompt_is_refused)
{
	struct og_infer_request *req;
	struct og_message m =
		parse("{\"type\":\"inference_request\",\"request_id\":1,\"prompt\":5}");

	cr_assert_eq(og_message_infer_request(&m, 1, &req), -22);
	og_message_fini(&m);
	m = parse("{\"type\":\"inference_request\",\"request_id\":1,\"og\":{\"messages\":[{}]}}");
	cr_assert_eq(og_message_infer_request(&m, 1, &req), -22);
	og_message_fini(&m);
}

Test(message, parameters_survive_the_way_to_another_node)
{
	struct og_infer_params p, back;
	json_t *og;

	og_infer_params_default(&p);
	p.max_tokens = 5;
	p.temperature = 0.75f;
	p.top_p = 0.5f;
	p.top_k = 9;
	p.min_p = 0.25f;
	p.repetition_penalty = 1.5f;
	p.frequency_penalty = -0.5f;
	p.presence_penalty = 2;
	p.ignore_eos = true;
	p.seed = UINT64_MAX - 3;
	p.nb_stop = 1;
	strcpy(p.stop[0], "end");
	p.nb_stop_tokens = 2;
	p.stop_tokens[0] = 7;
	p.stop_tokens[1] = UINT32_MAX;
	p.nb_biases = 2;
	p.biases[0] = (struct og_infer_bias){3, -100};
	p.biases[1] = (struct og_infer_bias){UINT32_MAX, 0.5f};
	og = json_pack("{s:o}", "params", og_message_params_json(&p));
	memset(&back, 0xff, sizeof(back));
	og_message_params(og, &back);
	cr_expect_eq(memcmp(&back, &p, sizeof(p)), 0);
	json_decref(og);
}

Test(message, parameters_out_of_range_keep_their_defaults)
{
	static const char *const lines[] = {
		"{\"params\":{\"min_p\":2,\"repetition_penalty\":0,\"frequency_penalty\":-3,"
		"\"presence_penalty\":\"x\",\"ignore_eos\":1,\"stop_token_ids\":[-1,\"a\","
		"4294967296],"
		"\"logit_bias\":[[1],[1,101],[-1,1],[\"1\",1],3,{}]}}",
		"{\"params\":{\"stop_token_ids\":{},\"logit_bias\":7,\"repetition_penalty\":null}}",
		"{\"params\":[]}",
		"{}",
	};
	struct og_infer_params p, want;

	og_infer_params_default(&want);
	for (size_t i = 0; i < OG_ARRAY_LEN(lines); i++) {
		json_t *og = json_loads(lines[i], 0, NULL);

		cr_assert_not_null(og);
		og_message_params(og, &p);
		cr_expect_eq(memcmp(&p, &want, sizeof(p)), 0, "%s", lines[i]);
		json_decref(og);
	}
}
