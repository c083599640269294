#include "cli/openai.h"

#include "cli/text.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char invalid_request[] = "invalid_request_error";
static const float least_top_p = 1e-6f; /* 0 means: only the likeliest token */

struct parser {
	struct og_openai_error *err;
	const json_t *root;
	struct og_openai_request *req;
	struct og_infer_params params;
	char model[OG_MODEL_NAME_BYTES];
	struct og_infer_message messages[OG_INFER_MESSAGES_MAX];
	char *joined[OG_INFER_MESSAGES_MAX]; /* contents put together from parts */
	uint32_t nb_messages;
};

void og_openai_fail(struct og_openai_error *err, unsigned status, const char *type,
	const char *code, const char *param, const char *fmt, ...)
{
	char message[512];
	va_list ap;

	memset(err, 0, sizeof(*err));
	err->status = status;
	err->type = type;
	err->code = code;
	og_text_copy(err->param, sizeof(err->param), param ? param : "");
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	og_text_copy(err->message, sizeof(err->message), message);
}

static int refuse(struct parser *p, const char *param, const char *why)
{
	og_openai_fail(p->err, 400, invalid_request, "invalid_value", param, "'%s' %s", param, why);
	return -EINVAL;
}

static int refuse_unsupported(struct parser *p, const char *param, const char *what)
{
	og_openai_fail(p->err, 400, invalid_request, "unsupported_parameter", param, "%s", what);
	return -EINVAL;
}

/* The member, or NULL when it is absent or null, which mean the same to OpenAI. */
static const json_t *member(const struct parser *p, const char *name)
{
	const json_t *v = json_object_get(p->root, name);

	return json_is_null(v) ? NULL : v;
}

static int number(struct parser *p, const char *name, double min, double max, float *out)
{
	const json_t *v = member(p, name);
	double n = json_number_value(v);
	char why[80];

	if (!v)
		return 0;
	if (!json_is_number(v))
		return refuse(p, name, "must be a number");
	if (!isfinite(n) || n < min || n > max) {
		snprintf(why, sizeof(why), "must be from %g to %g", min, max);
		return refuse(p, name, why);
	}
	*out = (float)n;
	return 0;
}

static int integer(struct parser *p, const char *name, json_int_t min, uint32_t *out)
{
	const json_t *v = member(p, name);
	json_int_t n = json_integer_value(v);
	char why[80];

	if (!v)
		return 0;
	if (!json_is_integer(v))
		return refuse(p, name, "must be an integer");
	if (n < min) {
		snprintf(why, sizeof(why), "must be at least %" JSON_INTEGER_FORMAT, min);
		return refuse(p, name, why);
	}
	*out = n > (json_int_t)UINT32_MAX ? UINT32_MAX : (uint32_t)n;
	return 0;
}

static int boolean(struct parser *p, const char *name, bool *out)
{
	const json_t *v = member(p, name);

	if (!v)
		return 0;
	if (!json_is_boolean(v))
		return refuse(p, name, "must be true or false");
	*out = json_is_true(v);
	return 0;
}

static int add_stop(struct parser *p, const json_t *v)
{
	size_t n = json_string_length(v);
	char why[80];

	if (!json_is_string(v))
		return refuse(p, "stop", "must be a string or an array of strings");
	if (n == 0)
		return 0;
	if (n >= OG_INFER_STOP_BYTES) {
		snprintf(why, sizeof(why), "holds a sequence of %zu bytes; at most %d are allowed",
			n, OG_INFER_STOP_BYTES - 1);
		return refuse(p, "stop", why);
	}
	memcpy(p->params.stop[p->params.nb_stop++], json_string_value(v), n + 1);
	return 0;
}

static int read_stop(struct parser *p)
{
	const json_t *v = member(p, "stop");
	int ret = 0;

	if (!v)
		return 0;
	if (!json_is_array(v))
		return add_stop(p, v);
	if (json_array_size(v) > OG_INFER_STOP_MAX)
		return refuse(p, "stop", "has more than 4 sequences");
	for (size_t i = 0; i < json_array_size(v) && ret == 0; i++)
		ret = add_stop(p, json_array_get(v, i));
	return ret;
}

static int read_seed(struct parser *p)
{
	const json_t *v = member(p, "seed");

	if (!v)
		return 0;
	if (!json_is_integer(v))
		return refuse(p, "seed", "must be an integer");
	p->params.seed = (uint64_t)json_integer_value(v);
	p->req->has_seed = true;
	return 0;
}

static int read_model(struct parser *p)
{
	const json_t *v = member(p, "model");

	if (!v)
		return 0; /* whatever serves */
	if (!json_is_string(v))
		return refuse(p, "model", "must be a string");
	if (json_string_length(v) >= OG_MODEL_NAME_BYTES) {
		og_openai_fail(p->err, 404, invalid_request, "model_not_found", "model",
			"no model has a name of %zu bytes", json_string_length(v));
		return -EINVAL;
	}
	strcpy(p->model, json_string_value(v));
	return 0;
}

static int read_stream(struct parser *p)
{
	const json_t *options = member(p, "stream_options");
	const json_t *usage = json_object_get(options, "include_usage");
	int ret = boolean(p, "stream", &p->req->stream);

	if (ret < 0 || !options)
		return ret;
	if (!json_is_object(options))
		return refuse(p, "stream_options", "must be an object");
	if (!p->req->stream)
		return refuse(p, "stream_options", "is only allowed when 'stream' is true");
	if (usage && !json_is_null(usage) && !json_is_boolean(usage))
		return refuse(p, "stream_options.include_usage", "must be true or false");
	p->req->include_usage = json_is_true(usage);
	return 0;
}

static int read_unsupported(struct parser *p)
{
	const json_t *format = member(p, "response_format"), *choice = member(p, "tool_choice");
	const char *type = json_string_value(json_object_get(format, "type"));
	const char *word = json_string_value(choice);
	uint32_t one = 1;
	int ret = integer(p, "n", 1, &one);

	if (ret < 0)
		return ret;
	if (one != 1)
		return refuse(p, "n", "must be 1: one choice an answer");
	if (format && (!type || strcmp(type, "text") != 0))
		return refuse_unsupported(p, "response_format",
			"only the response format {\"type\": \"text\"} is done here");
	if (choice && (!word || (strcmp(word, "none") != 0 && strcmp(word, "auto") != 0)))
		return refuse_unsupported(p, "tool_choice", "tools cannot be forced here");
	return 0;
}

static int read_stop_tokens(struct parser *p)
{
	const json_t *v = member(p, "stop_token_ids");
	char why[64];

	if (!v)
		return 0;
	if (!json_is_array(v))
		return refuse(p, "stop_token_ids", "must be an array of integers");
	if (json_array_size(v) > OG_INFER_STOP_TOKENS_MAX) {
		snprintf(why, sizeof(why), "has more than %d tokens", OG_INFER_STOP_TOKENS_MAX);
		return refuse(p, "stop_token_ids", why);
	}
	for (size_t i = 0; i < json_array_size(v); i++) {
		const json_t *id = json_array_get(v, i);

		if (!json_is_integer(id) || json_integer_value(id) < 0 ||
			json_integer_value(id) > UINT32_MAX)
			return refuse(p, "stop_token_ids", "must be an array of token ids");
		p->params.stop_tokens[p->params.nb_stop_tokens++] =
			(uint32_t)json_integer_value(id);
	}
	return 0;
}

static int read_bias(struct parser *p)
{
	json_t *v = (json_t *)(uintptr_t)member(p, "logit_bias"), *value;
	const char *key;
	char why[64], *end;

	if (!v)
		return 0;
	if (!json_is_object(v))
		return refuse(p, "logit_bias", "must be an object of token ids and numbers");
	if (json_object_size(v) > OG_INFER_BIASES_MAX) {
		snprintf(why, sizeof(why), "has more than %d tokens", OG_INFER_BIASES_MAX);
		return refuse(p, "logit_bias", why);
	}
	json_object_foreach(v, key, value)
	{
		double bias = json_number_value(value);
		unsigned long long id = strtoull(key, &end, 10);

		if (key[0] < '0' || key[0] > '9' || *end || id > UINT32_MAX)
			return refuse(p, "logit_bias", "has a key that is no token id");
		if (!json_is_number(value) || !(bias >= -100 && bias <= 100))
			return refuse(p, "logit_bias", "has a value that is not from -100 to 100");
		p->params.biases[p->params.nb_biases++] =
			(struct og_infer_bias){(uint32_t)id, (float)bias};
	}
	return 0;
}

/* A chat says whether, and how many beside; a completion only how many. */
static int read_logprobs(struct parser *p)
{
	bool chat = p->req->chat, wanted = false;
	uint32_t top = 0, most = chat ? OG_INFER_TOP_LOGPROBS_MAX : 5;
	const char *name = chat ? "top_logprobs" : "logprobs";
	char why[64];

	if (chat && boolean(p, "logprobs", &wanted) < 0)
		return -EINVAL;
	/* Some clients of completions send false for none. */
	if (!chat && json_is_false(member(p, "logprobs")))
		return 0;
	if (integer(p, name, 0, &top) < 0)
		return -EINVAL;
	if (top > most) {
		snprintf(why, sizeof(why), "must be at most %u", most);
		return refuse(p, name, why);
	}
	if (chat && member(p, name) && !wanted)
		return refuse(p, name, "is only allowed when 'logprobs' is true");
	p->params.logprobs = p->req->logprobs = chat ? wanted : member(p, name) != NULL;
	p->params.top_logprobs = (uint8_t)top;
	return 0;
}

static int read_sampling(struct parser *p)
{
	struct og_infer_params *params = &p->params;

	if (number(p, "temperature", 0, 2, &params->temperature) < 0 ||
		number(p, "top_p", 0, 1, &params->top_p) < 0 ||
		integer(p, "top_k", 0, &params->top_k) < 0 ||
		number(p, "min_p", 0, 1, &params->min_p) < 0 ||
		number(p, "repetition_penalty", 1.0 / OG_INFER_REPETITION_MAX,
			OG_INFER_REPETITION_MAX, &params->repetition_penalty) < 0 ||
		number(p, "presence_penalty", -2, 2, &params->presence_penalty) < 0 ||
		number(p, "frequency_penalty", -2, 2, &params->frequency_penalty) < 0 ||
		integer(p, "max_tokens", 1, &params->max_tokens) < 0 ||
		boolean(p, "ignore_eos", &params->ignore_eos) < 0 || read_seed(p) < 0 ||
		read_stop(p) < 0 || read_stop_tokens(p) < 0 || read_bias(p) < 0 ||
		read_logprobs(p) < 0)
		return -EINVAL;
	if (params->top_p < least_top_p)
		params->top_p = least_top_p;
	return 0;
}

static int read_common(struct parser *p)
{
	if (read_model(p) < 0 || read_stream(p) < 0 || read_unsupported(p) < 0)
		return -EINVAL;
	return read_sampling(p);
}

/* Where the text of a part is, by its type; NULL for parts that are not text. */
static const json_t *part_text(const json_t *part)
{
	const char *type = json_string_value(json_object_get(part, "type"));

	if (type && strcmp(type, "text") == 0)
		return json_object_get(part, "text");
	if (type && strcmp(type, "refusal") == 0)
		return json_object_get(part, "refusal");
	return NULL;
}

static int join_parts(
	struct parser *p, const json_t *parts, const char *param, struct og_infer_message *msg)
{
	size_t bytes = 0;
	char *text;

	for (size_t i = 0; i < json_array_size(parts); i++) {
		const json_t *part = json_array_get(parts, i), *t = part_text(part);

		if (!json_is_object(part))
			return refuse(p, param, "must be a string or an array of parts");
		if (!json_is_string(t))
			return refuse(
				p, param, "holds a part that is not text; only text is read here");
		bytes += json_string_length(t);
	}
	text = malloc(bytes + 1);
	if (!text)
		return -ENOMEM;
	p->joined[p->nb_messages] = text;
	msg->content = text;
	msg->content_bytes = (uint32_t)bytes;
	for (size_t i = 0; i < json_array_size(parts); i++) {
		const json_t *t = part_text(json_array_get(parts, i));

		memcpy(text, json_string_value(t), json_string_length(t));
		text += json_string_length(t);
	}
	*text = '\0';
	return 0;
}

/* The role as models know it, or NULL. */
static const char *role_of(const json_t *v)
{
	static const char *const roles[][2] = {
		{"system", "system"},
		{"developer", "system"},
		{"user", "user"},
		{"assistant", "assistant"},
		{"tool", "tool"},
		{"function", "tool"},
	};
	const char *name = json_string_value(v);

	for (size_t i = 0; name && i < OG_ARRAY_LEN(roles); i++) {
		if (strcmp(name, roles[i][0]) == 0)
			return roles[i][1];
	}
	return NULL;
}

static int read_message(struct parser *p, const json_t *v)
{
	struct og_infer_message *msg = &p->messages[p->nb_messages];
	const json_t *content = json_object_get(v, "content");
	char param[64];
	int ret = 0;

	snprintf(param, sizeof(param), "messages[%u]", p->nb_messages);
	if (!json_is_object(v))
		return refuse(p, param, "must be an object");
	snprintf(param, sizeof(param), "messages[%u].role", p->nb_messages);
	msg->role = role_of(json_object_get(v, "role"));
	if (!msg->role)
		return refuse(p, param, "must be one of system, developer, user, assistant, tool");
	snprintf(param, sizeof(param), "messages[%u].content", p->nb_messages);
	if (json_is_string(content)) {
		msg->content = json_string_value(content);
		msg->content_bytes = (uint32_t)json_string_length(content);
	} else if (json_is_array(content)) {
		ret = join_parts(p, content, param, msg);
	} else if (!content || json_is_null(content)) {
		if (strcmp(msg->role, "assistant") != 0)
			return refuse(p, param, "is missing");
		msg->content = "";
		msg->content_bytes = 0;
	} else {
		return refuse(p, param, "must be a string or an array of parts");
	}
	if (ret == 0)
		p->nb_messages++;
	return ret;
}

static int read_chat(struct parser *p)
{
	const json_t *messages = member(p, "messages");
	int ret = integer(p, "max_completion_tokens", 1, &p->params.max_tokens);
	char why[64];

	if (ret < 0)
		return ret;
	if (!messages)
		return refuse(p, "messages", "is missing");
	if (!json_is_array(messages) || json_array_size(messages) == 0)
		return refuse(p, "messages", "must be an array with at least one message");
	if (json_array_size(messages) > OG_INFER_MESSAGES_MAX) {
		snprintf(why, sizeof(why), "has more than %d messages", OG_INFER_MESSAGES_MAX);
		return refuse(p, "messages", why);
	}
	for (size_t i = 0; i < json_array_size(messages) && ret == 0; i++)
		ret = read_message(p, json_array_get(messages, i));
	return ret;
}

static int read_completion(struct parser *p)
{
	const json_t *prompt = member(p, "prompt"), *suffix = member(p, "suffix");
	uint32_t best_of = 1;
	bool echo = false;
	int ret = boolean(p, "echo", &echo);

	if (ret == 0)
		ret = integer(p, "best_of", 1, &best_of);
	if (ret < 0)
		return ret;
	if (echo)
		return refuse_unsupported(p, "echo", "the prompt is not echoed here");
	if (best_of != 1)
		return refuse(p, "best_of", "must be 1: one choice an answer");
	if (suffix && json_string_length(suffix) > 0)
		return refuse_unsupported(p, "suffix", "text is not inserted before a suffix here");
	if (json_is_array(prompt) && json_array_size(prompt) == 1 &&
		json_is_string(json_array_get(prompt, 0)))
		prompt = json_array_get(prompt, 0);
	if (!prompt)
		return refuse(p, "prompt", "is missing");
	if (!json_is_string(prompt))
		return refuse(
			p, "prompt", "must be one string; tokens and several prompts are not read");
	p->messages[0].role = "user";
	p->messages[0].content = json_string_value(prompt);
	p->messages[0].content_bytes = (uint32_t)json_string_length(prompt);
	p->nb_messages = 1;
	return 0;
}

static int make_ask(struct parser *p)
{
	struct og_ask *ask = calloc(1, sizeof(*ask));
	int ret;

	if (!ask)
		return -ENOMEM;
	ret = og_infer_request_create(
		&ask->req, 0, &p->params, !p->req->chat, p->messages, p->nb_messages);
	if (ret < 0) {
		free(ask);
		return ret;
	}
	strcpy(ask->model, p->model);
	ask->stream = p->req->stream;
	p->req->ask = ask;
	return 0;
}

static int parse_object(struct parser *p)
{
	int ret;

	if (!json_is_object(p->root)) {
		og_openai_fail(
			p->err, 400, invalid_request, NULL, NULL, "the body is not a JSON object");
		return -EINVAL;
	}
	ret = read_common(p);
	if (ret == 0)
		ret = p->req->chat ? read_chat(p) : read_completion(p);
	if (ret == 0)
		ret = make_ask(p);
	for (uint32_t i = 0; i < OG_INFER_MESSAGES_MAX; i++)
		free(p->joined[i]);
	return ret;
}

int og_openai_parse(struct og_openai_request *out, struct og_openai_error *err, bool chat,
	const char *body, size_t len_bytes)
{
	struct parser *p = calloc(1, sizeof(*p));
	json_error_t why;
	json_t *root;
	int ret = -ENOMEM;

	memset(out, 0, sizeof(*out));
	out->chat = chat;
	root = json_loadb(body, len_bytes, 0, &why);
	if (!root) {
		og_openai_fail(err, 400, invalid_request, "invalid_json", NULL,
			"the body is not valid JSON: line %d, column %d: %s", why.line, why.column,
			why.text);
		free(p);
		return -EINVAL;
	}
	if (p) {
		p->err = err;
		p->root = root;
		p->req = out;
		og_infer_params_default(&p->params);
		ret = parse_object(p);
	}
	if (ret == -ENOMEM)
		og_openai_fail(err, 500, "server_error", NULL, NULL, "out of memory");
	json_decref(root);
	free(p);
	return ret < 0 ? -EINVAL : 0;
}

void og_ask_free(struct og_ask *ask)
{
	if (!ask)
		return;
	og_infer_request_free(ask->req);
	free(ask);
}

void og_openai_request_fini(struct og_openai_request *req)
{
	og_ask_free(req->ask);
	req->ask = NULL;
}
