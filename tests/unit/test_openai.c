#include "cli/openai.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct og_openai_request req;
static struct og_openai_error err;

static int parse(bool chat, const char *body)
{
	return og_openai_parse(&req, &err, chat, body, strlen(body));
}

#define HI "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

Test(openai, reads_a_chat_request_with_every_number)
{
	cr_assert_eq(
		parse(true, "{\"model\":\"m\",\"temperature\":0.5,\"top_p\":0.9,\"max_tokens\":7,"
			    "\"seed\":-3,"
			    "\"stop\":[\"a\",\"b\"],\"stream\":true,\"stream_options\":{\"include_"
			    "usage\":true},"
			    "\"n\":1,\"user\":\"x\",\"unknown\":{},\"messages\":["
			    "{\"role\":\"developer\",\"content\":\"be brief\"},"
			    "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
			    "{\"type\":\"text\",\"text\":\"b\"}]},"
			    "{\"role\":\"assistant\",\"content\":null}]}"),
		0, "%s", err.message);
	cr_assert(req.stream && req.include_usage && req.has_seed && req.chat);
	cr_assert_str_eq(req.ask->model, "m");
	cr_assert_eq(req.ask->req->nb_messages, 3);
	cr_assert_str_eq(req.ask->req->messages[0].role, "system");
	cr_assert_str_eq(req.ask->req->messages[1].content, "ab");
	cr_assert_str_eq(req.ask->req->messages[2].content, "");
	cr_assert_eq(req.ask->req->params.max_tokens, 7);
	cr_assert_eq(req.ask->req->params.nb_stop, 2);
	cr_assert_float_eq(req.ask->req->params.top_p, 0.9f, 1e-6);
	og_openai_request_fini(&req);
}

Test(openai, null_means_absent)
{
	cr_assert_eq(parse(true, "{\"model\":null,\"temperature\":null,\"n\":null,\"stop\":null,"
				 "\"stream\":null,\"stream_options\":null,\"seed\":null," HI "}"),
		0, "%s", err.message);
	cr_assert_not(req.stream);
	cr_assert_str_eq(req.ask->model, "");
	og_openai_request_fini(&req);
}

Test(openai, refuses_each_bad_member_by_name)
{
	static const struct {
		const char *body, *param;
	} cases[] = {
		{"", ""},
		{"[]", ""},
		{"{\"messages\":", ""},
		{"{}", "messages"},
		{"{\"messages\":{}}", "messages"},
		{"{\"messages\":[]}", "messages"},
		{"{\"messages\":[1]}", "messages[0]"},
		{"{\"messages\":[{\"role\":\"boss\",\"content\":\"x\"}]}", "messages[0].role"},
		{"{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content"},
		{"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
			"messages[0].content"},
		{"{\"messages\":[{\"role\":\"user\",\"content\":[\"x\"]}]}", "messages[0].content"},
		{"{\"temperature\":2.1," HI "}", "temperature"},
		{"{\"temperature\":\"1\"," HI "}", "temperature"},
		{"{\"top_p\":-0.1," HI "}", "top_p"},
		{"{\"n\":2," HI "}", "n"},
		{"{\"n\":0," HI "}", "n"},
		{"{\"max_tokens\":0," HI "}", "max_tokens"},
		{"{\"max_completion_tokens\":1.5," HI "}", "max_completion_tokens"},
		{"{\"seed\":\"a\"," HI "}", "seed"},
		{"{\"stop\":[\"a\",\"b\",\"c\",\"d\",\"e\"]," HI "}", "stop"},
		{"{\"stop\":[1]," HI "}", "stop"},
		{"{\"stop\":"
		 "\"0123456789012345678901234567890123456789012345678901234567890123\"," HI "}",
			"stop"},
		{"{\"stream\":1," HI "}", "stream"},
		{"{\"stream_options\":{}," HI "}", "stream_options"},
		{"{\"stream\":true,\"stream_options\":{\"include_usage\":3}," HI "}",
			"stream_options.include_usage"},
		{"{\"model\":5," HI "}", "model"},
		{"{\"response_format\":{\"type\":\"json_object\"}," HI "}", "response_format"},
		{"{\"tool_choice\":\"required\"," HI "}", "tool_choice"},
		{"{\"presence_penalty\":3," HI "}", "presence_penalty"},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		cr_expect_eq(parse(true, cases[i].body), -EINVAL, "%s", cases[i].body);
		cr_expect_eq(err.status, 400, "%s", cases[i].body);
		cr_expect_str_eq(err.param, cases[i].param, "%s: %s", cases[i].body, err.message);
		cr_expect(err.message[0] != '\0');
		cr_expect_null(req.ask);
	}
}

Test(openai, reads_a_completion_as_raw_text)
{
	cr_assert_eq(parse(false, "{\"prompt\":[\"once\"],\"max_tokens\":3,\"echo\":false}"), 0);
	cr_assert(req.ask->req->raw);
	cr_assert_str_eq(req.ask->req->messages[0].content, "once");
	og_openai_request_fini(&req);
	cr_assert_eq(parse(false, "{\"prompt\":[1,2]}"), -EINVAL);
	cr_assert_eq(parse(false, "{\"prompt\":[\"a\",\"b\"]}"), -EINVAL);
	cr_assert_eq(parse(false, "{\"prompt\":\"x\",\"echo\":true}"), -EINVAL);
	cr_assert_eq(parse(false, "{}"), -EINVAL);
}

static struct og_openai_reply reply_of(bool chat)
{
	struct og_openai_reply r = {.chat = chat, .created = 5};

	strcpy(r.id, "id-1");
	strcpy(r.model, "m");
	return r;
}

static const struct og_openai_end end = {.node_name = "NodeA",
	.node_key = "ab",
	.prompt_tokens = 3,
	.completion_tokens = 2,
	.attempts = 1,
	.finish = OG_FINISH_STOP};

Test(openai, a_chat_answer_has_what_the_schema_requires)
{
	struct og_openai_reply r = reply_of(true);
	char *body = og_openai_body(&r, &end, "4", 1, NULL);

	cr_assert_str_eq(body,
		"{\"id\":\"id-1\",\"object\":\"chat.completion\",\"created\":5,\"model\":\"m\","
		"\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"4\","
		"\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
		"\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5},"
		"\"og\":{\"node\":\"NodeA\",\"key\":\"ab\",\"attempts\":1}}");
	free(body);
}

Test(openai, a_stream_is_role_text_finish_usage_done)
{
	struct og_openai_reply r = reply_of(true);
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	r.include_usage = true;
	og_openai_stream_start(f, &r);
	og_openai_stream_text(f, &r, "4\n", 2, NULL);
	og_openai_stream_end(f, &r, &end);
	fclose(f);
#define HEAD                                                                                       \
	"data: {\"id\":\"id-1\",\"object\":\"chat.completion.chunk\",\"created\":5,"               \
	"\"model\":\"m\",\"choices\":["
	cr_assert_str_eq(text, HEAD
		"{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
		"\"finish_reason\":null}]}\n\n" HEAD
		"{\"index\":0,\"delta\":{\"content\":\"4\\n\"},\"finish_reason\":null}]}\n\n" HEAD
		"{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],"
		"\"og\":{\"node\":\"NodeA\",\"key\":\"ab\",\"attempts\":1}}\n\n" HEAD
		"],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,"
		"\"total_tokens\":5}}\n\n"
		"data: [DONE]\n\n");
	free(text);
}

Test(openai, errors_of_the_router_become_statuses)
{
	static const struct {
		int error;
		unsigned status, retry;
	} cases[] = {
		{-ENOENT, 404, 0},
		{-EHOSTUNREACH, 503, 2},
		{-ETIMEDOUT, 504, 0},
		{-EBUSY, 429, 1},
		{-E2BIG, 400, 0},
		{-EIO, 502, 0},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		struct og_answer a = {
			.type = OG_ANSWER_ERROR, .error = cases[i].error, .message = "why"};
		char *body;

		og_openai_from_answer(&err, &a);
		cr_expect_eq(err.status, cases[i].status);
		cr_expect_eq(err.retry_after_s, cases[i].retry);
		body = og_openai_error_body(&err);
		cr_expect_not_null(strstr(body, "\"message\":\"why\""));
		free(body);
	}
}

Test(openai, lists_each_model_once)
{
	json_t *models = json_loads("[{\"id\":\"a\",\"node\":\"A\"},{\"id\":\"b\",\"node\":\"\"},"
				    "{\"id\":\"a\",\"node\":\"B\"}]",
		0, NULL);
	char *list = og_openai_models(models, NULL, 9), *one = og_openai_models(models, "b", 9);

	cr_assert_str_eq(list,
		"{\"object\":\"list\",\"data\":["
		"{\"id\":\"a\",\"object\":\"model\",\"created\":9,\"owned_by\":\"A\"},"
		"{\"id\":\"b\",\"object\":\"model\",\"created\":9,\"owned_by\":\"opengateway\"}]}");
	cr_assert_str_eq(one,
		"{\"id\":\"b\",\"object\":\"model\",\"created\":9,\"owned_by\":\"opengateway\"}");
	cr_assert_null(og_openai_models(models, "c", 9));
	free(list);
	free(one);
	json_decref(models);
}

Test(openai, reads_all_that_shapes_the_sampling)
{
	const struct og_infer_params *p;

	cr_assert_eq(
		parse(true, "{\"top_k\":7,\"min_p\":0.1,\"repetition_penalty\":1.5,"
			    "\"frequency_penalty\":-1,\"presence_penalty\":2,\"ignore_eos\":true,"
			    "\"stop_token_ids\":[3,4294967295],\"logit_bias\":{\"5\":-100,\"0\":2},"
			    "\"logprobs\":true,\"top_logprobs\":20," HI "}"),
		0, "%s", err.message);
	p = &req.ask->req->params;
	cr_expect_eq(p->top_k, 7);
	cr_expect_float_eq(p->min_p, 0.1f, 1e-6);
	cr_expect_float_eq(p->repetition_penalty, 1.5f, 1e-6);
	cr_expect_float_eq(p->frequency_penalty, -1, 1e-6);
	cr_expect_float_eq(p->presence_penalty, 2, 1e-6);
	cr_expect(p->ignore_eos && p->logprobs && req.logprobs);
	cr_expect_eq(p->top_logprobs, 20);
	cr_expect_eq(p->nb_stop_tokens, 2);
	cr_expect_eq(p->stop_tokens[1], UINT32_MAX);
	cr_expect_eq(p->nb_biases, 2);
	cr_expect_eq(p->biases[0].token, 5);
	cr_expect_float_eq(p->biases[0].bias, -100, 1e-6);
	og_openai_request_fini(&req);
	cr_assert_eq(parse(false, "{\"prompt\":\"x\",\"logprobs\":0}"), 0);
	cr_expect(req.logprobs && req.ask->req->params.top_logprobs == 0);
	og_openai_request_fini(&req);
	cr_assert_eq(parse(true, "{\"logprobs\":false," HI "}"), 0);
	cr_expect_not(req.logprobs);
	og_openai_request_fini(&req);
}

Test(openai, refuses_sampling_out_of_range_by_name)
{
	static const struct {
		bool chat;
		const char *members, *param;
	} cases[] = {
		{true, "\"min_p\":1.1", "min_p"},
		{true, "\"repetition_penalty\":0", "repetition_penalty"},
		{true, "\"frequency_penalty\":2.5", "frequency_penalty"},
		{true, "\"presence_penalty\":\"1\"", "presence_penalty"},
		{true, "\"ignore_eos\":1", "ignore_eos"},
		{true, "\"stop_token_ids\":7", "stop_token_ids"},
		{true, "\"stop_token_ids\":[-1]", "stop_token_ids"},
		{true, "\"stop_token_ids\":[1,2,3,4,5,6,7,8,9]", "stop_token_ids"},
		{true, "\"logit_bias\":[]", "logit_bias"},
		{true, "\"logit_bias\":{\"a\":1}", "logit_bias"},
		{true, "\"logit_bias\":{\"-1\":1}", "logit_bias"},
		{true, "\"logit_bias\":{\"99999999999\":1}", "logit_bias"},
		{true, "\"logit_bias\":{\"1\":101}", "logit_bias"},
		{true, "\"logprobs\":5", "logprobs"},
		{true, "\"top_logprobs\":5", "top_logprobs"},
		{true, "\"logprobs\":true,\"top_logprobs\":21", "top_logprobs"},
		{true, "\"logprobs\":true,\"top_logprobs\":-1", "top_logprobs"},
		{false, "\"logprobs\":6", "logprobs"},
		{false, "\"logprobs\":true", "logprobs"},
	};
	char body[256];

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		snprintf(body, sizeof(body), "{%s,%s}", cases[i].members,
			cases[i].chat ? HI : "\"prompt\":\"x\"");
		cr_expect_eq(parse(cases[i].chat, body), -EINVAL, "%s", body);
		cr_expect_eq(err.status, 400);
		cr_expect_str_eq(err.param, cases[i].param, "%s", body);
	}
}

/* "é" in two tokens of a byte each, the second with two alternatives. */
static json_t *two_tokens(void)
{
	static const struct og_answer answers[] = {
		{.text = "\xc3", .text_bytes = 1, .logprob = -1},
		{.text = "\xa9", .text_bytes = 1, .logprob = -0.5f},
		{.text = "\xa9", .text_bytes = 1, .logprob = -0.5f, .rank = 1},
		{.text = "a", .text_bytes = 1, .logprob = -2, .rank = 2},
	};
	json_t *list = json_array();

	for (size_t i = 0; i < OG_ARRAY_LEN(answers); i++)
		cr_assert_eq(og_openai_add_logprob(list, &answers[i]), 0);
	return list;
}

Test(openai, log_probabilities_have_the_shape_of_their_kind)
{
	struct og_openai_reply chat = reply_of(true), plain = reply_of(false);
	json_t *list = two_tokens();
	char *body, *text = NULL;
	size_t len;
	FILE *f;

	chat.logprobs = plain.logprobs = true;
	body = og_openai_body(&chat, &end, "\xc3\xa9", 2, list);
	cr_expect_not_null(
		strstr(body,
			"\"logprobs\":{\"content\":["
			"{\"token\":\"bytes:\\\\xc3\",\"logprob\":-1.0,\"bytes\":[195],\"top_"
			"logprobs\":[]},"
			"{\"token\":\"bytes:\\\\xa9\",\"logprob\":-0.5,\"bytes\":[169],\"top_"
			"logprobs\":["
			"{\"token\":\"bytes:\\\\xa9\",\"logprob\":-0.5,\"bytes\":[169]},"
			"{\"token\":\"a\",\"logprob\":-2.0,\"bytes\":[97]}]}],\"refusal\":null}"),
		"%s", body);
	free(body);
	body = og_openai_body(&plain, &end, "\xc3\xa9", 2, list);
	cr_expect_not_null(
		strstr(body, "\"logprobs\":{\"tokens\":[\"bytes:\\\\xc3\",\"bytes:\\\\xa9\"],"
			     "\"token_logprobs\":[-1.0,-0.5],\"top_logprobs\":[{},{\"bytes:"
			     "\\\\xa9\":-0.5,"
			     "\"a\":-2.0}],\"text_offset\":[0,1]}"),
		"%s", body);
	free(body);
	f = open_memstream(&text, &len);
	og_openai_stream_text(f, &chat, "\xc3\xa9", 2, list);
	fclose(f);
	cr_expect_not_null(
		strstr(text, "\"finish_reason\":null,\"logprobs\":{\"content\":[{"), "%s", text);
	free(text);
	json_decref(list);
}
