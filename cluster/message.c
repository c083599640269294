#include "cluster/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char error_prefix[] = "[error] ";

const char *og_finish_name(enum og_infer_finish f)
{
	static const char *const names[] = {"stop", "length", "cancelled"};

	return names[f];
}

const char *og_message_string(const json_t *object, const char *name, size_t *len)
{
	const json_t *v = json_object_get(object, name);

	if (!json_is_string(v))
		return NULL;
	*len = json_string_length(v);
	return json_string_value(v);
}

/* The parser below recurses: refuse depth before it sees the line. */
static bool nested_too_deep(const char *p, size_t len)
{
	unsigned depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = p[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > OG_JSON_NESTING_MAX)
				return true;
		} else if (c == '}' || c == ']') {
			depth -= depth > 0;
		}
	}
	return false;
}

/* The scanners below walk text that the parser has accepted, so they check no syntax. */
static const char *skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
		p++;
	return p;
}

static const char *skip_string(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p < end ? p + 1 : end;
}

static const char *skip_value(const char *p, const char *end)
{
	unsigned depth = 0;

	while (p < end) {
		if (*p == '"') {
			p = skip_string(p, end);
			if (depth == 0)
				return p;
			continue;
		}
		if (*p == '{' || *p == '[') {
			depth++;
		} else if (*p == '}' || *p == ']') {
			if (depth == 0)
				return p;
			if (--depth == 0)
				return p + 1;
		} else if (depth == 0 && (*p == ',' || *p == ' ' || *p == '\t' || *p == '\r')) {
			return p;
		}
		p++;
	}
	return p;
}

static bool key_is(const char *key, size_t len, const char *name)
{
	json_t *decoded;
	bool same;

	if (!memchr(key, '\\', len))
		return len == strlen(name) + 2 && memcmp(key + 1, name, len - 2) == 0;
	decoded = json_loadb(key, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	same = decoded && json_string_length(decoded) == strlen(name) &&
	       memcmp(json_string_value(decoded), name, strlen(name)) == 0;
	json_decref(decoded);
	return same;
}

/* Source bytes of the last top-level member of that name: 1.0 must go back as 1.0. */
static const char *raw_member(const char *p, size_t len, const char *name, size_t *out_len)
{
	const char *end = p + len, *found = NULL;

	p = skip_space(p, end);
	for (p++; p < end;) {
		const char *key, *value;
		size_t key_len;

		p = skip_space(p, end);
		if (p >= end || *p != '"')
			break;
		key = p;
		p = skip_string(p, end);
		key_len = (size_t)(p - key);
		p = skip_space(p, end);
		p = skip_space(p < end ? p + 1 : end, end); /* the colon */
		value = p;
		p = skip_value(p, end);
		if (key_is(key, key_len, name)) {
			found = value;
			*out_len = (size_t)(p - value);
		}
		p = skip_space(p, end);
		p += p < end; /* the comma, or the closing brace */
	}
	return found;
}

static enum og_message_type type_of(const json_t *root)
{
	static const struct {
		const char *name;
		enum og_message_type type;
	} types[] = {
		{"peer_hello", OG_MSG_HELLO},
		{"inference_request", OG_MSG_REQUEST},
		{"inference_response", OG_MSG_RESPONSE},
		{"inference_chunk", OG_MSG_CHUNK},
		{"inference_cancel", OG_MSG_CANCEL},
		{"peer_status", OG_MSG_STATUS},
	};
	size_t len;
	const char *name = og_message_string(root, "type", &len);

	for (size_t i = 0; name && i < OG_ARRAY_LEN(types); i++)
		if (len == strlen(types[i].name) && memcmp(name, types[i].name, len) == 0)
			return types[i].type;
	return OG_MSG_UNKNOWN;
}

int og_message_parse(struct og_message *out, const char *line, size_t len)
{
	json_t *root, *id;

	memset(out, 0, sizeof(*out));
	if (nested_too_deep(line, len))
		return -EBADMSG;
	root = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
	if (!json_is_object(root)) {
		json_decref(root);
		return -EBADMSG;
	}
	out->root = root;
	out->type = type_of(root);
	out->og = json_object_get(root, "og");
	if (!json_is_object(out->og))
		out->og = NULL;
	id = json_object_get(root, "request_id");
	if (id && !json_is_null(id)) {
		out->raw_id = raw_member(line, len, "request_id", &out->raw_id_bytes);
		if (out->raw_id_bytes > OG_REQUEST_ID_MAX_BYTES)
			out->raw_id = NULL;
	}
	return 0;
}

void og_message_fini(struct og_message *m)
{
	json_decref(m->root);
	m->root = NULL;
}

/* ---- parameters ---- */

static double number_in(const json_t *o, const char *name, double min, double max, double fallback)
{
	const json_t *v = json_object_get(o, name);
	double d = json_is_number(v) ? json_number_value(v) : fallback;

	return d >= min && d <= max ? d : fallback;
}

static void stop_tokens_of(const json_t *list, struct og_infer_params *out)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_int_t id = json_integer_value(json_array_get(list, i));

		if (json_is_integer(json_array_get(list, i)) && id >= 0 && id <= UINT32_MAX &&
			out->nb_stop_tokens < OG_INFER_STOP_TOKENS_MAX)
			out->stop_tokens[out->nb_stop_tokens++] = (uint32_t)id;
	}
}

/* Pairs [token, bias]. */
static void biases_of(const json_t *list, struct og_infer_params *out)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *pair = json_array_get(list, i);
		const json_t *id = json_array_get(pair, 0), *bias = json_array_get(pair, 1);
		double value = json_number_value(bias);

		if (json_is_integer(id) && json_integer_value(id) >= 0 &&
			json_integer_value(id) <= UINT32_MAX && json_is_number(bias) &&
			value >= -100 && value <= 100 && out->nb_biases < OG_INFER_BIASES_MAX)
			out->biases[out->nb_biases++] = (struct og_infer_bias){
				(uint32_t)json_integer_value(id), (float)value};
	}
}

void og_message_params(const json_t *og, struct og_infer_params *out)
{
	const json_t *p = json_object_get(og, "params");
	const json_t *stop = json_object_get(p, "stop");
	const json_t *seed = json_object_get(p, "seed");

	og_infer_params_default(out);
	out->max_tokens = (uint32_t)number_in(p, "max_tokens", 1, 1 << 20, 0);
	out->temperature = (float)number_in(p, "temperature", 0, 2, 0);
	out->top_p = (float)number_in(p, "top_p", 0, 1, 1);
	out->top_k = (uint32_t)number_in(p, "top_k", 0, 1 << 20, 0);
	out->min_p = (float)number_in(p, "min_p", 0, 1, 0);
	out->repetition_penalty = (float)number_in(
		p, "repetition_penalty", 1.0 / OG_INFER_REPETITION_MAX, OG_INFER_REPETITION_MAX, 1);
	out->frequency_penalty = (float)number_in(p, "frequency_penalty", -2, 2, 0);
	out->presence_penalty = (float)number_in(p, "presence_penalty", -2, 2, 0);
	out->ignore_eos = json_is_true(json_object_get(p, "ignore_eos"));
	stop_tokens_of(json_object_get(p, "stop_token_ids"), out);
	biases_of(json_object_get(p, "logit_bias"), out);
	if (json_is_integer(seed))
		out->seed = (uint64_t)json_integer_value(seed);
	for (size_t i = 0; i < json_array_size(stop) && out->nb_stop < OG_INFER_STOP_MAX; i++) {
		const char *s = json_string_value(json_array_get(stop, i));

		if (s && *s && strlen(s) < OG_INFER_STOP_BYTES)
			strcpy(out->stop[out->nb_stop++], s);
	}
}

static void set_lists(json_t *o, const struct og_infer_params *p)
{
	json_t *tokens = json_array(), *biases = json_array();

	for (uint8_t i = 0; i < p->nb_stop_tokens; i++)
		json_array_append_new(tokens, json_integer(p->stop_tokens[i]));
	for (uint8_t i = 0; i < p->nb_biases; i++)
		json_array_append_new(biases, json_pack("[I, f]", (json_int_t)p->biases[i].token,
						      (double)p->biases[i].bias));
	if (p->nb_stop_tokens > 0)
		json_object_set(o, "stop_token_ids", tokens);
	if (p->nb_biases > 0)
		json_object_set(o, "logit_bias", biases);
	json_decref(tokens);
	json_decref(biases);
}

json_t *og_message_params_json(const struct og_infer_params *p)
{
	json_t *o = json_object();
	json_t *stop = json_array();

	if (p->max_tokens)
		json_object_set_new(o, "max_tokens", json_integer(p->max_tokens));
	json_object_set_new(o, "temperature", json_real((double)p->temperature));
	json_object_set_new(o, "top_p", json_real((double)p->top_p));
	if (p->top_k)
		json_object_set_new(o, "top_k", json_integer(p->top_k));
	if (p->min_p > 0)
		json_object_set_new(o, "min_p", json_real((double)p->min_p));
	if (p->repetition_penalty != 1)
		json_object_set_new(
			o, "repetition_penalty", json_real((double)p->repetition_penalty));
	if (p->frequency_penalty != 0)
		json_object_set_new(
			o, "frequency_penalty", json_real((double)p->frequency_penalty));
	if (p->presence_penalty != 0)
		json_object_set_new(o, "presence_penalty", json_real((double)p->presence_penalty));
	if (p->ignore_eos)
		json_object_set_new(o, "ignore_eos", json_true());
	set_lists(o, p);
	json_object_set_new(o, "seed", json_integer((json_int_t)p->seed));
	for (uint8_t i = 0; i < p->nb_stop; i++)
		json_array_append_new(stop, json_string(p->stop[i]));
	if (json_array_size(stop) > 0)
		json_object_set(o, "stop", stop);
	json_decref(stop);
	return o;
}

static int messages_of(const json_t *list, struct og_infer_message *out, uint32_t *n)
{
	size_t count = json_array_size(list);

	if (count == 0 || count > OG_INFER_MESSAGES_MAX)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		const json_t *m = json_array_get(list, i);
		size_t role_len, content_len;
		const char *role = og_message_string(m, "role", &role_len);
		const char *content = og_message_string(m, "content", &content_len);

		if (!role || !content || role_len != strlen(role) ||
			content_len > OG_LINE_MAX_BYTES)
			return -EINVAL;
		out[i] = (struct og_infer_message){role, content, (uint32_t)content_len};
	}
	*n = (uint32_t)count;
	return 0;
}

int og_message_infer_request(const struct og_message *m, uint64_t id, struct og_infer_request **out)
{
	struct og_infer_message messages[OG_INFER_MESSAGES_MAX];
	struct og_infer_params params;
	bool raw = json_is_true(json_object_get(m->og, "raw"));
	size_t len;
	uint32_t n = 1;

	og_message_params(m->og, &params);
	if (m->og && json_object_get(m->og, "messages")) {
		if (messages_of(json_object_get(m->og, "messages"), messages, &n) < 0)
			return -EINVAL;
	} else {
		const char *prompt = og_message_string(m->root, "prompt", &len);

		if (!prompt)
			return -EINVAL;
		messages[0] = (struct og_infer_message){"user", prompt, (uint32_t)len};
	}
	return og_infer_request_create(out, id, &params, raw && n == 1, messages, n);
}

/* ---- writing ---- */

/* Takes the object over; one line with its newline. */
static char *line_of(json_t *o, size_t *len)
{
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	char *line;

	json_decref(o);
	if (!text)
		return NULL;
	*len = strlen(text);
	line = realloc(text, *len + 2);
	if (!line) {
		free(text);
		return NULL;
	}
	line[(*len)++] = '\n';
	line[*len] = '\0';
	return line;
}

/*
 * The same with request_id put in as its source bytes, right behind the type: a value that went
 * through a parser would not come back as it came.
 */
static char *line_with_raw_id(
	const char *type, const char *raw_id, size_t raw_id_bytes, json_t *rest, size_t *len)
{
	char *text = rest ? json_dumps(rest, JSON_COMPACT) : NULL;
	size_t cap, n;
	char *line;

	json_decref(rest);
	if (!text)
		return NULL;
	cap = strlen(text) + strlen(type) + raw_id_bytes + 40;
	line = malloc(cap);
	if (line) {
		n = (size_t)snprintf(line, cap, "{\"type\":\"%s\",\"request_id\":", type);
		memcpy(line + n, raw_id, raw_id_bytes);
		n += raw_id_bytes;
		n += (size_t)snprintf(line + n, cap - n, ",%s\n", text + 1);
		*len = n;
	}
	free(text);
	return line;
}

char *og_message_hello(
	const char *node_name, const json_t *clusters, const json_t *models, size_t *len)
{
	return line_of(json_pack("{s:s, s:s, s:O, s:O, s:{s:i, s:O, s:[s,s,s]}}", "type",
			       "peer_hello", "node_name", node_name, "clusters", clusters,
			       "supported_models", models, "og", "v", OG_MESSAGE_VERSION, "models",
			       models, "features", "chunk", "cancel", "status"),
		len);
}

/* Old peers know one prompt only: the conversation as text. */
static json_t *plain_prompt(const struct og_infer_request *req)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f;
	json_t *s;

	if (req->nb_messages == 1)
		return json_stringn(req->messages[0].content, req->messages[0].content_bytes);
	f = open_memstream(&text, &n);
	if (!f)
		return NULL;
	for (uint32_t i = 0; i < req->nb_messages; i++)
		fprintf(f, "%s%s: %.*s", i ? "\n" : "", req->messages[i].role,
			(int)req->messages[i].content_bytes, req->messages[i].content);
	fclose(f);
	s = json_stringn(text, n);
	free(text);
	return s;
}

char *og_message_request(
	const char *uuid, const struct og_ask *ask, uint32_t deadline_ms, size_t *len)
{
	const struct og_infer_request *req = ask->req;
	json_t *messages = json_array();
	json_t *o;

	for (uint32_t i = 0; i < req->nb_messages; i++) {
		const struct og_infer_message *m = &req->messages[i];

		json_array_append_new(messages, json_pack("{s:s, s:s%}", "role", m->role, "content",
							m->content, (size_t)m->content_bytes));
	}
	o = json_pack("{s:s, s:s, s:o, s:{s:i, s:o, s:o, s:b, s:b, s:I}}", "type",
		"inference_request", "request_id", uuid, "prompt", plain_prompt(req), "og", "v",
		OG_MESSAGE_VERSION, "messages", messages, "params",
		og_message_params_json(&req->params), "raw", req->raw, "stream", ask->stream,
		"deadline_ms", (json_int_t)deadline_ms);
	if (o && ask->model[0])
		json_object_set_new(o, "model", json_string(ask->model));
	return line_of(o, len);
}

char *og_message_response(const struct og_response *r, size_t *len)
{
	json_t *text, *og, *o;

	if (r->error) {
		char *joined = malloc(sizeof(error_prefix) + r->text_bytes);

		if (!joined)
			return NULL;
		memcpy(joined, error_prefix, sizeof(error_prefix) - 1);
		memcpy(joined + sizeof(error_prefix) - 1, r->text, r->text_bytes);
		text = json_stringn(joined, sizeof(error_prefix) - 1 + r->text_bytes);
		free(joined);
		og = json_pack("{s:i, s:i}", "v", OG_MESSAGE_VERSION, "error", -r->error);
	} else {
		text = json_stringn(r->text, r->text_bytes);
		og = json_pack("{s:i, s:{s:i, s:i}, s:s}", "v", OG_MESSAGE_VERSION, "usage",
			"prompt_tokens", (int)r->prompt_tokens, "completion_tokens",
			(int)r->completion_tokens, "finish_reason", og_finish_name(r->finish));
	}
	o = json_pack("{s:o, s:o}", "response", text, "og", og);
	if (o && r->model)
		json_object_set_new(o, "model", json_string(r->model));
	return line_with_raw_id("inference_response", r->raw_id, r->raw_id_bytes, o, len);
}

char *og_message_chunk(const char *raw_id, size_t raw_id_bytes, uint32_t seq, const char *text,
	size_t text_bytes, size_t *len)
{
	return line_with_raw_id("inference_chunk", raw_id, raw_id_bytes,
		json_pack("{s:i, s:s%}", "seq", (int)seq, "text", text, text_bytes), len);
}

char *og_message_cancel(const char *uuid, size_t *len)
{
	return line_of(
		json_pack("{s:s, s:s}", "type", "inference_cancel", "request_id", uuid), len);
}

char *og_message_status(uint32_t running, uint32_t queued, const uint64_t *kv_free,
	const json_t *models, size_t *len)
{
	json_t *o = json_pack("{s:s, s:i, s:i, s:O}", "type", "peer_status", "load", (int)running,
		"queue", (int)queued, "models", models);

	if (kv_free)
		json_object_set_new(o, "kv_free", json_integer((json_int_t)*kv_free));
	return line_of(o, len);
}
