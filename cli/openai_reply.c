#include "cli/openai.h"

#include "cli/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void og_openai_from_answer(struct og_openai_error *err, const struct og_answer *answer)
{
	static const struct {
		int error;
		unsigned status;
		const char *type, *code;
		unsigned retry_after_s;
	} map[] = {
		{-ENOENT, 404, "invalid_request_error", "model_not_found", 0},
		{-EHOSTUNREACH, 503, "server_error", "no_member_can_serve", 2},
		{-ETIMEDOUT, 504, "server_error", "deadline_exceeded", 0},
		{-EBUSY, 429, "rate_limit_error", "server_busy", 1},
		{-E2BIG, 400, "invalid_request_error", "context_length_exceeded", 0},
		{-EINVAL, 400, "invalid_request_error", NULL, 0},
		{-EOPNOTSUPP, 400, "invalid_request_error", "unsupported_parameter", 0},
		{-ECANCELED, 503, "server_error", "stopping", 2},
	};
	const char *message = answer->message && answer->message[0] ? answer->message : "failed";

	for (size_t i = 0; i < OG_ARRAY_LEN(map); i++) {
		if (map[i].error != answer->error)
			continue;
		og_openai_fail(err, map[i].status, map[i].type, map[i].code,
			answer->error == -ENOENT ? "model" : NULL, "%s", message);
		err->retry_after_s = map[i].retry_after_s;
		return;
	}
	og_openai_fail(err, 502, "server_error", "member_failed", NULL, "%s", message);
}

static json_t *error_json(const struct og_openai_error *err)
{
	json_t *message = json_string(err->message);

	return json_pack("{s:{s:o, s:s, s:o, s:o}}", "error", "message",
		message ? message : json_string("failed"), "type", err->type, "param",
		err->param[0] ? json_string(err->param) : json_null(), "code",
		err->code ? json_string(err->code) : json_null());
}

static char *dump(json_t *root)
{
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;

	json_decref(root);
	return text;
}

char *og_openai_error_body(const struct og_openai_error *err)
{
	return dump(error_json(err));
}

void og_openai_reply_init(
	struct og_openai_reply *reply, const struct og_openai_request *req, struct og_rand *rand)
{
	memset(reply, 0, sizeof(*reply));
	reply->chat = req->chat;
	reply->include_usage = req->include_usage;
	reply->logprobs = req->logprobs;
	snprintf(reply->id, sizeof(reply->id), "%s-%016llx%08x", req->chat ? "chatcmpl" : "cmpl",
		(unsigned long long)og_rand_u64(rand), og_rand_u32(rand));
	reply->created = (int64_t)time(NULL);
	og_text_copy(reply->model, sizeof(reply->model),
		req->ask->model[0] ? req->ask->model : "default");
}

static const char *finish_name(enum og_infer_finish finish)
{
	return finish == OG_FINISH_LENGTH ? "length" : "stop";
}

static json_t *usage_json(const struct og_openai_end *end)
{
	return json_pack("{s:I, s:I, s:I}", "prompt_tokens", (json_int_t)end->prompt_tokens,
		"completion_tokens", (json_int_t)end->completion_tokens, "total_tokens",
		(json_int_t)end->prompt_tokens + (json_int_t)end->completion_tokens);
}

static json_t *og_json(const struct og_openai_end *end)
{
	return json_pack("{s:s, s:s, s:i}", "node", end->node_name, "key", end->node_key,
		"attempts", (int)end->attempts);
}

/* Text of a model that was not valid UTF-8 is answered as empty rather than not at all. */
static json_t *text_json(const char *text, size_t n)
{
	json_t *v = json_stringn(text ? text : "", n);

	return v ? v : json_string("");
}

static json_t *frame(const struct og_openai_reply *reply, const char *object, json_t *choices)
{
	return json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", reply->id, "object", object, "created",
		(json_int_t)reply->created, "model", reply->model, "choices", choices);
}

/* ---- log probabilities: the list is in the form of a chat's `logprobs.content` ---- */

/* A token that is not whole characters is spelled as OpenAI spells it: "bytes:\\xe2\\x98". */
static json_t *token_json(const char *text, size_t n)
{
	json_t *v = json_stringn(text, n);
	char spelled[8 + 4 * OG_INFER_TEXT_BYTES] = "bytes:";
	size_t at = 6;

	if (v)
		return v;
	for (size_t i = 0; i < n && at + 5 < sizeof(spelled); i++)
		at += (size_t)snprintf(
			spelled + at, sizeof(spelled) - at, "\\x%02x", (uint8_t)text[i]);
	return json_string(spelled);
}

static json_t *bytes_json(const char *text, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_integer((uint8_t)text[i]));
	return list;
}

int og_openai_add_logprob(json_t *list, const struct og_answer *a)
{
	json_t *entry = json_pack("{s:o, s:f, s:o}", "token", token_json(a->text, a->text_bytes),
		"logprob", (double)a->logprob, "bytes", bytes_json(a->text, a->text_bytes));
	size_t n = json_array_size(list);

	if (!entry)
		return -ENOMEM;
	if (a->rank > 0 && n > 0)
		return json_array_append_new(
			       json_object_get(json_array_get(list, n - 1), "top_logprobs"),
			       entry) < 0
			       ? -ENOMEM
			       : 0;
	json_object_set_new(entry, "top_logprobs", json_array());
	return json_array_append_new(list, entry) < 0 ? -ENOMEM : 0;
}

/* A completion's form: four lists beside one another. */
static json_t *completion_logprobs(const json_t *list)
{
	json_t *tokens = json_array(), *values = json_array(), *tops = json_array();
	json_t *offsets = json_array();
	size_t offset = 0;

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *entry = json_array_get(list, i);
		const json_t *top = json_object_get(entry, "top_logprobs");
		json_t *best = json_object();

		for (size_t k = 0; k < json_array_size(top); k++)
			json_object_set(best,
				json_string_value(json_object_get(json_array_get(top, k), "token")),
				json_object_get(json_array_get(top, k), "logprob"));
		json_array_append(tokens, json_object_get(entry, "token"));
		json_array_append(values, json_object_get(entry, "logprob"));
		json_array_append_new(tops, best);
		json_array_append_new(offsets, json_integer((json_int_t)offset));
		offset += json_array_size(json_object_get(entry, "bytes"));
	}
	return json_pack("{s:o, s:o, s:o, s:o}", "tokens", tokens, "token_logprobs", values,
		"top_logprobs", tops, "text_offset", offsets);
}

static json_t *logprobs_json(const struct og_openai_reply *reply, const json_t *list)
{
	if (!reply->logprobs)
		return json_null();
	if (!reply->chat)
		return completion_logprobs(list);
	return json_pack(
		"{s:o, s:n}", "content", list ? json_deep_copy(list) : json_array(), "refusal");
}

char *og_openai_body(const struct og_openai_reply *reply, const struct og_openai_end *end,
	const char *text, size_t text_bytes, const json_t *logprobs)
{
	json_t *content = text_json(text, text_bytes), *choice, *root;

	if (reply->chat)
		choice = json_pack("{s:i, s:{s:s, s:o, s:n}, s:o, s:s}", "index", 0, "message",
			"role", "assistant", "content", content, "refusal", "logprobs",
			logprobs_json(reply, logprobs), "finish_reason", finish_name(end->finish));
	else
		choice = json_pack("{s:i, s:o, s:o, s:s}", "index", 0, "text", content, "logprobs",
			logprobs_json(reply, logprobs), "finish_reason", finish_name(end->finish));
	root = frame(reply, reply->chat ? "chat.completion" : "text_completion",
		json_pack("[o]", choice));
	json_object_set_new(root, "usage", usage_json(end));
	json_object_set_new(root, "og", og_json(end));
	return dump(root);
}

static void emit(FILE *out, json_t *root)
{
	char *text = dump(root);

	if (text)
		fprintf(out, "data: %s\n\n", text);
	free(text);
}

static json_t *chunk(const struct og_openai_reply *reply, json_t *choices)
{
	return frame(reply, reply->chat ? "chat.completion.chunk" : "text_completion", choices);
}

static json_t *delta_choice(json_t *delta, json_t *finish)
{
	return json_pack("[{s:i, s:o, s:o}]", "index", 0, "delta", delta, "finish_reason", finish);
}

static json_t *text_choice(json_t *text, json_t *finish)
{
	return json_pack("[{s:i, s:o, s:n, s:o}]", "index", 0, "text", text, "logprobs",
		"finish_reason", finish);
}

void og_openai_stream_start(FILE *out, const struct og_openai_reply *reply)
{
	if (reply->chat)
		emit(out, chunk(reply, delta_choice(json_pack("{s:s, s:s}", "role", "assistant",
							    "content", ""),
					       json_null())));
}

void og_openai_stream_text(FILE *out, const struct og_openai_reply *reply, const char *text,
	size_t text_bytes, const json_t *logprobs)
{
	json_t *piece = text_json(text, text_bytes), *choices;

	choices = reply->chat ? delta_choice(json_pack("{s:o}", "content", piece), json_null())
			      : text_choice(piece, json_null());
	if (reply->logprobs)
		json_object_set_new(
			json_array_get(choices, 0), "logprobs", logprobs_json(reply, logprobs));
	emit(out, chunk(reply, choices));
}

void og_openai_stream_end(
	FILE *out, const struct og_openai_reply *reply, const struct og_openai_end *end)
{
	json_t *finish = json_string(finish_name(end->finish)), *root;

	root = chunk(reply, reply->chat ? delta_choice(json_object(), finish)
					: text_choice(json_string(""), finish));
	json_object_set_new(root, "og", og_json(end));
	emit(out, root);
	if (reply->include_usage) {
		root = chunk(reply, json_array());
		json_object_set_new(root, "usage", usage_json(end));
		emit(out, root);
	}
	fputs("data: [DONE]\n\n", out);
}

void og_openai_stream_error(FILE *out, const struct og_openai_error *err)
{
	emit(out, error_json(err));
}

static json_t *model_json(const char *id, int64_t created, const char *owner)
{
	return json_pack("{s:s, s:s, s:I, s:s}", "id", id, "object", "model", "created",
		(json_int_t)created, "owned_by", owner && owner[0] ? owner : "opengateway");
}

static bool has_model(const json_t *list, const char *id)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (strcmp(json_string_value(json_object_get(json_array_get(list, i), "id")), id) ==
			0)
			return true;
	}
	return false;
}

char *og_openai_models(const json_t *models, const char *id, int64_t created)
{
	json_t *list = json_array();

	for (size_t i = 0; i < json_array_size(models); i++) {
		const json_t *m = json_array_get(models, i);
		const char *name = json_string_value(json_object_get(m, "id"));
		const char *owner = json_string_value(json_object_get(m, "node"));

		const char *state = json_string_value(json_object_get(m, "state"));

		if (!name || has_model(list, name) || (state && strcmp(state, "failed") == 0))
			continue;
		if (id && strcmp(id, name) == 0) {
			json_decref(list);
			return dump(model_json(name, created, owner));
		}
		json_array_append_new(list, model_json(name, created, owner));
	}
	if (id) {
		json_decref(list);
		return NULL;
	}
	return dump(json_pack("{s:s, s:o}", "object", "list", "data", list));
}
