/*
 * The table of requests. A face's prompt (ask) is WAITING until somebody can serve it, then LOCAL or
 * REMOTE; ask_close() ends it, exactly once. A member's prompt (serve) runs on a local engine only.
 */
#include "cluster/core.h"
#include "cluster/router_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	ID_SERVE = 1u << 31, /* in the index half of an engine request id: it is a serve */
	CREDITS = 64,
};

static const uint64_t hold_ns = 2 * OG_NS_PER_S;
static const uint64_t start_grace_ns = 8 * OG_NS_PER_S;
static const uint64_t serve_max_ns = 600 * OG_NS_PER_S;

static int append_text(char **text, size_t *used, size_t *cap, const char *add, size_t n)
{
	size_t want = *cap ? *cap : 256;
	char *grown;

	if (*used + n > OG_ANSWER_MAX_BYTES)
		return -E2BIG;
	while (want < *used + n)
		want *= 2;
	if (want != *cap) {
		grown = realloc(*text, want);
		if (!grown)
			return -ENOMEM;
		*text = grown;
		*cap = want;
	}
	memcpy(*text + *used, add, n);
	*used += n;
	return 0;
}

/* ---- asks: ends ---- */

static uint64_t ask_id(const struct og_router *r, const struct og_ask_entry *e)
{
	return (uint64_t)e->gen << 32 | (uint32_t)(e - r->asks);
}

static void ask_leave_member(struct og_router *r, struct og_ask_entry *e)
{
	struct og_member *m = e->member;

	if (!m)
		return;
	e->member = NULL;
	if (--m->asked == 0)
		og_member_watch(r, m, false);
}

/* The one place where an ask ends. */
static void ask_close(struct og_router *r, struct og_ask_entry *e, const struct og_answer *final)
{
	struct og_answer a = *final;
	uint64_t took_ns = r->now_ns - e->asked_at;

	ask_leave_member(r, e);
	if (e->state == OG_ASK_LOCAL)
		og_router_load_changed(r);
	a.face = e->ask->face;
	a.attempts = e->attempts;
	a.waited_ns = took_ns;
	og_router_count_end(r, e->ask, e->route, a.type == OG_ANSWER_DONE);
	og_infer_request_free(e->ask->req);
	free(e->ask);
	free(e->text);
	e->ask = NULL;
	e->text = NULL;
	e->state = OG_ASK_FREE;
	e->gen++;
	r->nb_asks--;
	og_hist_observe_us(&r->stats.ask_time, took_ns / OG_NS_PER_US);
	r->opts.env.answer(r->opts.env.ctx, &a);
}

static void ask_fail(struct og_router *r, struct og_ask_entry *e, int error, const char *message)
{
	struct og_answer a = {.type = OG_ANSWER_ERROR,
		.error = error,
		.message = message,
		.model = "",
		.node_name = "",
		.node_key = ""};

	if (e->state == OG_ASK_LOCAL)
		r->opts.env.infer_cancel(r->opts.env.ctx, e->engine, ask_id(r, e));
	if (e->state == OG_ASK_REMOTE && e->member && e->member->speaks_og) {
		size_t len = 0;
		char *line = og_message_cancel(e->uuid, &len);

		og_member_send(r, e->member, line, len);
	}
	ask_close(r, e, &a);
}

static void deliver(struct og_router *r, struct og_ask_entry *e, const char *text, size_t n)
{
	struct og_answer a = {.face = e->ask->face,
		.type = OG_ANSWER_TEXT,
		.text = text,
		.text_bytes = (uint32_t)n};

	if (n == 0)
		return;
	if (e->delivered_bytes == 0)
		og_hist_observe_us(&r->stats.first_text, (r->now_ns - e->asked_at) / OG_NS_PER_US);
	else
		og_hist_observe_us(
			&r->stats.next_text, (r->now_ns - e->delivered_at) / OG_NS_PER_US);
	e->delivered_at = r->now_ns;
	e->delivered_bytes += n;
	r->opts.env.answer(r->opts.env.ctx, &a);
}

static void deliver_logprob(
	struct og_router *r, const struct og_ask_entry *e, const struct og_infer_event *ev)
{
	struct og_answer a = {.face = e->ask->face,
		.type = OG_ANSWER_LOGPROB,
		.text = ev->text,
		.text_bytes = ev->text_bytes,
		.logprob = ev->logprob,
		.rank = ev->rank};

	r->opts.env.answer(r->opts.env.ctx, &a);
}

struct usage {
	const char *model;
	uint32_t prompt_tokens, completion_tokens;
	enum og_infer_finish finish;
};

static void ask_done(struct og_router *r, struct og_ask_entry *e, const struct usage *u)
{
	static const char digits[] = "0123456789abcdef";
	char hex[65] = "", model[OG_MODEL_NAME_BYTES], name[OG_NODE_NAME_BYTES];
	const uint8_t *key = e->member ? e->member->key : r->public_key;
	struct og_answer a = {.type = OG_ANSWER_DONE,
		.model = model,
		.node_name = name,
		.node_key = hex,
		.prompt_tokens = u->prompt_tokens,
		.completion_tokens = u->completion_tokens,
		.finish = u->finish};

	/* Copies: the member may be freed by what the answer sets off. */
	snprintf(model, sizeof(model), "%s", u->model ? u->model : "");
	snprintf(name, sizeof(name), "%s", e->member ? e->member->name : r->node_name);
	for (int i = 0; i < 32; i++) {
		hex[2 * i] = digits[key[i] >> 4];
		hex[2 * i + 1] = digits[key[i] & 15];
	}
	hex[64] = '\0';
	ask_close(r, e, &a);
}

/* ---- asks: who serves ---- */

static void note_failure(struct og_ask_entry *e, int error, const char *message, size_t n)
{
	e->last_error = error;
	snprintf(e->last_message, sizeof(e->last_message), "%.*s", (int)OG_MIN(n, (size_t)150),
		message);
}

static bool was_tried(const struct og_ask_entry *e, const struct og_member *m)
{
	for (uint32_t i = 0; i < e->nb_tried; i++)
		if (memcmp(e->tried[i], m->key, 32) == 0)
			return true;
	return false;
}

static bool try_local(struct og_router *r, struct og_ask_entry *e)
{
	const struct og_router_model *model = og_router_local_model(r, e->ask->model);
	const struct og_infer_request *req = e->ask->req;
	struct og_infer_request *copy;
	int ret;

	if (!model || e->local_tried)
		return false;
	e->local_tried = true;
	ret = og_infer_request_create(
		&copy, ask_id(r, e), &req->params, req->raw, req->messages, req->nb_messages);
	if (ret == 0) {
		copy->credits = UINT32_MAX;
		e->attempts++;
		ret = r->opts.env.infer(r->opts.env.ctx, model->engine, copy);
		if (ret < 0)
			og_infer_request_free(copy);
	}
	if (ret < 0) {
		static const char busy[] = "this node's model is busy";

		note_failure(e, ret == -EAGAIN ? -EBUSY : ret, busy, sizeof(busy) - 1);
		return false;
	}
	e->state = OG_ASK_LOCAL;
	e->route = OG_ROUTE_LOCAL;
	e->engine = model->engine;
	og_count(&r->stats.asks_local);
	og_router_load_changed(r);
	return true;
}

/* The least loaded member that says it serves the model; else one that never said what it serves. */
static struct og_member *choose(
	const struct og_router *r, const struct og_ask_entry *e, bool *listed, bool *may_come)
{
	struct og_member *best = NULL, *silent = NULL;

	*listed = false;
	*may_come = false;
	for (uint32_t i = 0; i < r->opts.peers_max; i++) {
		struct og_member *m = r->members[i];
		const char *why;
		enum og_fit fit = m ? og_member_fit(r, m, e->ask->model, &why) : OG_FIT_NO;

		*listed |= fit == OG_FIT_YES;
		if (fit == OG_FIT_NO || was_tried(e, m))
			continue;
		if (fit == OG_FIT_SOON)
			*may_come = true;
		else if (fit == OG_FIT_SILENT)
			silent = !silent || m->asked < silent->asked ? m : silent;
		else if (!best || og_member_load(m) < og_member_load(best))
			best = m;
	}
	return best ? best : silent;
}

static void ask_remote(struct og_router *r, struct og_ask_entry *e, struct og_member *m)
{
	uint64_t left_ms = (e->deadline - r->now_ns) / OG_NS_PER_MS;
	size_t len = 0;
	char *line = og_message_request(e->uuid, e->ask, (uint32_t)OG_MAX(left_ms, 1ull), &len);

	if (!line || len > OG_LINE_MAX_BYTES) {
		free(line);
		ask_fail(r, e, -E2BIG, "the prompt is longer than a member accepts (256 KiB)");
		return;
	}
	e->state = OG_ASK_REMOTE;
	e->route = OG_ROUTE_REMOTE;
	e->member = m;
	e->next_seq = 0;
	e->attempts++;
	og_count(&r->stats.asks_remote);
	if (m->asked++ == 0)
		og_member_watch(r, m, true);
	og_member_send(r, m, line, len);
}

static void give_up(struct og_router *r, struct og_ask_entry *e, bool listed)
{
	char text[OG_MODEL_NAME_BYTES + 120];

	if (e->last_error) {
		snprintf(text, sizeof(text), "%s", e->last_message);
		ask_fail(r, e, e->last_error, text);
	} else if (e->ask->model[0] && !listed && r->nb_members > 0) {
		snprintf(text, sizeof(text), "no member serves the model \"%s\"", e->ask->model);
		ask_fail(r, e, -ENOENT, text);
	} else if (r->nb_members == 0) {
		ask_fail(r, e, r->nb_clusters ? -EHOSTUNREACH : -ENOENT,
			r->nb_clusters
				? "no other member is connected, and this node serves no model"
				: "this node serves no model and has joined no cluster");
	} else {
		ask_fail(r, e, -EHOSTUNREACH, "no connected member serves a model");
	}
}

/* What members say of an answer has no place for log probabilities. */
static void fail_logprobs(struct og_router *r, struct og_ask_entry *e)
{
	char text[sizeof(e->last_message)];

	memcpy(text, e->last_message, sizeof(text));
	if (e->last_error)
		ask_fail(r, e, e->last_error, text);
	else
		ask_fail(r, e, -EOPNOTSUPP,
			"log probabilities are given only by a node that serves the model itself");
}

/* Find somebody for a waiting ask; or let it wait a little for members that are still coming. */
static void ask_place(struct og_router *r, struct og_ask_entry *e)
{
	struct og_member *m;
	bool listed, may_come, starting;

	if (try_local(r, e))
		return;
	if (e->ask->req->params.logprobs) {
		fail_logprobs(r, e);
		return;
	}
	m = choose(r, e, &listed, &may_come);
	if (m && !(may_come && !m->has_hello)) {
		ask_remote(r, e, m);
		return;
	}
	e->state = OG_ASK_WAITING;
	starting = r->nb_clusters > 0 && r->now_ns - r->started_at < start_grace_ns;
	if (!may_come && !starting && r->now_ns >= e->hold_until)
		give_up(r, e, listed);
}

/* The one that worked on it failed: elsewhere, if the client has seen nothing of its answer. */
static void ask_elsewhere(
	struct og_router *r, struct og_ask_entry *e, int error, const char *message, size_t n)
{
	if (e->member && e->nb_tried < OG_ARRAY_LEN(e->tried))
		memcpy(e->tried[e->nb_tried++], e->member->key, 32);
	ask_leave_member(r, e);
	note_failure(e, error, message, n);
	if (e->delivered_bytes > 0 || e->nb_tried == OG_ARRAY_LEN(e->tried)) {
		char text[sizeof(e->last_message)];

		e->state = OG_ASK_WAITING;
		memcpy(text, e->last_message, sizeof(text));
		ask_fail(r, e, error, text);
		return;
	}
	free(e->text);
	e->text = NULL;
	e->text_bytes = e->text_cap_bytes = 0;
	e->state = OG_ASK_WAITING;
	og_count(&r->stats.asks_retried);
	ask_place(r, e);
}

static void make_uuid(struct og_rand *rand, char out[OG_UUID_BYTES])
{
	uint8_t b[16];

	og_rand_fill(rand, b, sizeof(b));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 9562, version 4 */
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	snprintf(out, OG_UUID_BYTES,
		"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		b[15]);
}

static void refuse(struct og_router *r, struct og_ask *ask, int error, const char *message)
{
	struct og_answer a = {.face = ask->face,
		.type = OG_ANSWER_ERROR,
		.error = error,
		.message = message,
		.model = "",
		.node_name = "",
		.node_key = ""};

	og_router_count_end(r, ask, OG_ROUTE_NONE, false);
	og_infer_request_free(ask->req);
	free(ask);
	r->opts.env.answer(r->opts.env.ctx, &a);
}

void og_router_ask(struct og_router *r, struct og_ask *ask, uint64_t now_ns)
{
	struct og_ask_entry *e = NULL;
	uint32_t gen;

	r->now_ns = now_ns;
	og_count(&r->stats.asks);
	if (r->stopping || r->draining) {
		refuse(r, ask, -ECANCELED, "the node is stopping");
		return;
	}
	for (uint32_t i = 0; !e && i < r->opts.asks_max; i++)
		if (r->asks[i].state == OG_ASK_FREE)
			e = &r->asks[i];
	if (!e) {
		refuse(r, ask, -EBUSY, "too many requests are waiting on this node");
		return;
	}
	gen = e->gen;
	memset(e, 0, sizeof(*e));
	e->gen = gen;
	e->ask = ask;
	e->state = OG_ASK_WAITING;
	e->asked_at = now_ns;
	e->deadline =
		now_ns + (ask->deadline_ms ? ask->deadline_ms : r->opts.deadline_ms) * OG_NS_PER_MS;
	e->hold_until = now_ns;
	make_uuid(r->opts.env.rand, e->uuid);
	r->nb_asks++;
	ask_place(r, e);
}

void og_router_cancel(struct og_router *r, uint64_t face, uint64_t now_ns)
{
	r->now_ns = now_ns;
	for (uint32_t i = 0; i < r->opts.asks_max; i++)
		if (r->asks[i].state != OG_ASK_FREE && r->asks[i].ask->face == face)
			ask_fail(r, &r->asks[i], -ECANCELED, "cancelled");
}

void og_request_retry_waiting(struct og_router *r)
{
	for (uint32_t i = 0; i < r->opts.asks_max && r->nb_asks > 0; i++)
		if (r->asks[i].state == OG_ASK_WAITING)
			ask_place(r, &r->asks[i]);
}

/* ---- asks: answers of members ---- */

static struct og_ask_entry *ask_of(
	struct og_router *r, struct og_member *m, const struct og_message *msg)
{
	size_t len;
	const char *id = og_message_string(msg->root, "request_id", &len);

	for (uint32_t i = 0; id && i < r->opts.asks_max; i++) {
		struct og_ask_entry *e = &r->asks[i];

		if (e->state == OG_ASK_REMOTE && e->member == m && len == strlen(e->uuid) &&
			memcmp(id, e->uuid, len) == 0)
			return e;
	}
	og_count(&r->stats.responses_unknown);
	return NULL;
}

void og_request_chunk(struct og_router *r, struct og_member *m, const struct og_message *msg)
{
	struct og_ask_entry *e = ask_of(r, m, msg);
	const json_t *seq = json_object_get(msg->root, "seq");
	size_t n;
	const char *text = og_message_string(msg->root, "text", &n);

	if (!e || !text || !e->ask->stream || json_integer_value(seq) != e->next_seq)
		return;
	e->next_seq++;
	deliver(r, e, text, n);
}

static int error_of(const struct og_message *msg)
{
	json_int_t code = json_integer_value(json_object_get(msg->og, "error"));

	switch (code) {
	case EBUSY:
	case ENOENT:
	case E2BIG:
	case EINVAL:
		return -(int)code;
	default:
		return -EIO;
	}
}

void og_request_response(struct og_router *r, struct og_member *m, const struct og_message *msg)
{
	static const char prefix[] = "[error] ";
	struct og_ask_entry *e = ask_of(r, m, msg);
	struct usage u = {0};
	size_t n, model_len;
	const char *text = og_message_string(msg->root, "response", &n);
	const json_t *usage;

	if (!e || !text)
		return;
	if (n >= sizeof(prefix) - 1 && memcmp(text, prefix, sizeof(prefix) - 1) == 0 &&
		(!msg->og || json_object_get(msg->og, "error"))) {
		int error = error_of(msg);
		char message[160];

		snprintf(message, sizeof(message), "%.*s", (int)(n - sizeof(prefix) + 1),
			text + sizeof(prefix) - 1);
		/* A prompt too long or malformed here is so everywhere. */
		if (error == -E2BIG || error == -EINVAL)
			ask_fail(r, e, error, message);
		else
			ask_elsewhere(r, e, error, message, strlen(message));
		return;
	}
	if (n > e->delivered_bytes)
		deliver(r, e, text + e->delivered_bytes, n - e->delivered_bytes);
	u.model = og_message_string(msg->root, "model", &model_len);
	usage = json_object_get(msg->og, "usage");
	u.prompt_tokens = (uint32_t)json_integer_value(json_object_get(usage, "prompt_tokens"));
	u.completion_tokens =
		(uint32_t)json_integer_value(json_object_get(usage, "completion_tokens"));
	text = og_message_string(msg->og, "finish_reason", &n);
	u.finish = text && strcmp(text, "length") == 0 ? OG_FINISH_LENGTH : OG_FINISH_STOP;
	ask_done(r, e, &u);
}

/* ---- serves: prompts of members ---- */

static uint64_t serve_id(const struct og_router *r, const struct og_serve_entry *s)
{
	return (uint64_t)s->gen << 32 | ID_SERVE | (uint32_t)(s - r->serves);
}

static void serve_close(struct og_router *r, struct og_serve_entry *s)
{
	if (s->member)
		s->member->serving--;
	free(s->raw_id);
	free(s->text);
	s->raw_id = s->text = NULL;
	s->used = false;
	s->gen++;
	r->nb_serves--;
	og_router_load_changed(r);
}

static void respond_error(struct og_router *r, struct og_member *m, const struct og_message *msg,
	int error, const char *text)
{
	struct og_response resp = {.raw_id = msg->raw_id,
		.raw_id_bytes = msg->raw_id_bytes,
		.text = text,
		.text_bytes = strlen(text),
		.error = error};
	size_t len = 0;
	char *line = og_message_response(&resp, &len);

	og_count(&r->stats.serves_refused);
	og_member_send(r, m, line, len);
}

static struct og_serve_entry *serve_find(
	struct og_router *r, const struct og_member *m, const struct og_message *msg)
{
	for (uint32_t i = 0; msg->raw_id && i < OG_SERVES_MAX; i++) {
		struct og_serve_entry *s = &r->serves[i];

		if (s->used && s->member == m && s->raw_id_bytes == msg->raw_id_bytes &&
			memcmp(s->raw_id, msg->raw_id, s->raw_id_bytes) == 0)
			return s;
	}
	return NULL;
}

static struct og_serve_entry *serve_slot(
	struct og_router *r, struct og_member *m, const struct og_message *msg)
{
	for (uint32_t i = 0; i < OG_SERVES_MAX; i++) {
		struct og_serve_entry *s = &r->serves[i];
		uint32_t gen = s->gen;

		if (s->used)
			continue;
		memset(s, 0, sizeof(*s));
		s->gen = gen;
		s->raw_id = malloc(msg->raw_id_bytes);
		if (!s->raw_id)
			return NULL;
		memcpy(s->raw_id, msg->raw_id, msg->raw_id_bytes);
		s->raw_id_bytes = msg->raw_id_bytes;
		s->used = true;
		s->member = m;
		m->serving++;
		r->nb_serves++;
		return s;
	}
	return NULL;
}

void og_request_serve(struct og_router *r, struct og_member *m, const struct og_message *msg)
{
	size_t len;
	const char *name = og_message_string(msg->root, "model", &len);
	const struct og_router_model *model;
	struct og_infer_request *req;
	struct og_serve_entry *s;
	json_int_t deadline_ms;
	int ret;

	if (!msg->raw_id || serve_find(r, m, msg))
		return;
	og_count(&r->stats.serves);
	if (!og_router_local_model(r, "")) {
		/* An old sender asks everybody and takes the first answer: a bystander keeps still. */
		if (msg->og)
			respond_error(r, m, msg, -ENOENT, "this node serves no model");
		return;
	}
	model = og_router_local_model(r, name && len < OG_MODEL_NAME_BYTES ? name : "");
	if (!model || (name && len >= OG_MODEL_NAME_BYTES)) {
		respond_error(r, m, msg, -ENOENT, "this model is not served here");
		return;
	}
	if (r->stopping || r->draining ||
		m->serving >= r->opts.peer_running_max + r->opts.peer_queued_max) {
		respond_error(r, m, msg, -EBUSY,
			r->stopping || r->draining ? "the node is stopping" : "busy");
		return;
	}
	s = serve_slot(r, m, msg);
	if (!s) {
		respond_error(r, m, msg, -EBUSY, "busy");
		return;
	}
	ret = og_message_infer_request(msg, serve_id(r, s), &req);
	if (ret < 0) {
		serve_close(r, s);
		respond_error(r, m, msg, -EINVAL, "the request has no prompt that is a string");
		return;
	}
	deadline_ms = json_integer_value(json_object_get(msg->og, "deadline_ms"));
	s->deadline = r->now_ns + serve_max_ns;
	if (deadline_ms > 0 && (uint64_t)deadline_ms * OG_NS_PER_MS < serve_max_ns)
		s->deadline = r->now_ns + (uint64_t)deadline_ms * OG_NS_PER_MS;
	s->stream = json_is_true(json_object_get(msg->og, "stream"));
	s->model = model->name;
	s->engine = model->engine;
	req->credits = CREDITS;
	ret = r->opts.env.infer(r->opts.env.ctx, model->engine, req);
	if (ret < 0) {
		og_infer_request_free(req);
		serve_close(r, s);
		respond_error(r, m, msg, -EBUSY, "busy");
		return;
	}
	og_router_load_changed(r);
}

void og_request_cancelled(struct og_router *r, struct og_member *m, const struct og_message *msg)
{
	struct og_serve_entry *s = serve_find(r, m, msg);

	if (!s)
		return;
	r->opts.env.infer_cancel(r->opts.env.ctx, s->engine, serve_id(r, s));
	serve_close(r, s);
}

static void serve_finish(struct og_router *r, struct og_serve_entry *s,
	const struct og_infer_event *ev, int error, const char *message)
{
	struct og_response resp = {.raw_id = s->raw_id,
		.raw_id_bytes = s->raw_id_bytes,
		.text = error ? message : s->text,
		.text_bytes = error ? strlen(message) : s->text_bytes,
		.model = s->model,
		.error = error};
	struct og_member *m = s->member;
	size_t len = 0;
	char *line;

	if (ev) {
		resp.finish = (enum og_infer_finish)ev->finish;
		resp.prompt_tokens = ev->prompt_tokens;
		resp.completion_tokens = ev->completion_tokens;
	}
	if (!resp.text)
		resp.text = "";
	line = og_message_response(&resp, &len);
	if (line && len > OG_LINE_MAX_BYTES && !error) {
		free(line);
		resp.error = -E2BIG;
		resp.text = "the answer is longer than a line may be (256 KiB)";
		resp.text_bytes = strlen(resp.text);
		line = og_message_response(&resp, &len);
	}
	og_count(resp.error ? &r->stats.serves_failed : &r->stats.serves_done);
	serve_close(r, s);
	og_member_send(r, m, line, len);
}

static void serve_text(
	struct og_router *r, struct og_serve_entry *s, const struct og_infer_event *ev)
{
	uint64_t id = serve_id(r, s);
	size_t len = 0;
	char *line;

	if (append_text(&s->text, &s->text_bytes, &s->text_cap_bytes, ev->text, ev->text_bytes) <
		0) {
		r->opts.env.infer_cancel(r->opts.env.ctx, s->engine, id);
		serve_finish(r, s, NULL, -E2BIG, "the answer is too long");
		return;
	}
	if (s->stream) {
		line = og_message_chunk(
			s->raw_id, s->raw_id_bytes, s->seq++, ev->text, ev->text_bytes, &len);
		og_member_send(r, s->member, line, len);
	}
	/* A member that reads slowly pauses its own generation and nothing else. */
	if (s->member->out_used_bytes == 0)
		r->opts.env.infer_credit(r->opts.env.ctx, s->engine, id, 1);
	else
		s->owed_credits++;
}

void og_request_member_drained(struct og_router *r, struct og_member *m)
{
	for (uint32_t i = 0; m->serving > 0 && i < OG_SERVES_MAX; i++) {
		struct og_serve_entry *s = &r->serves[i];

		if (!s->used || s->member != m || s->owed_credits == 0)
			continue;
		r->opts.env.infer_credit(
			r->opts.env.ctx, s->engine, serve_id(r, s), s->owed_credits);
		s->owed_credits = 0;
	}
}

/* ---- engine events ---- */

static void serve_event(struct og_router *r, const struct og_infer_event *ev)
{
	uint32_t idx = (uint32_t)ev->id & ~(uint32_t)ID_SERVE;
	struct og_serve_entry *s = idx < OG_SERVES_MAX ? &r->serves[idx] : NULL;

	if (!s || !s->used || s->gen != (uint32_t)(ev->id >> 32))
		return;
	if (ev->type == OG_INFER_TEXT)
		serve_text(r, s, ev);
	else if (ev->type == OG_INFER_DONE)
		serve_finish(r, s, ev, 0, NULL);
	else if (ev->type == OG_INFER_ERROR)
		serve_finish(r, s, NULL, ev->error ? ev->error : -EIO, ev->text);
}

static void ask_event(struct og_router *r, const struct og_infer_event *ev)
{
	uint32_t idx = (uint32_t)ev->id;
	struct og_ask_entry *e = idx < r->opts.asks_max ? &r->asks[idx] : NULL;
	const struct og_router_model *model;
	struct usage u = {0};

	if (!e || e->state != OG_ASK_LOCAL || e->gen != (uint32_t)(ev->id >> 32))
		return;
	switch (ev->type) {
	case OG_INFER_TEXT:
		if (e->ask->stream)
			deliver(r, e, ev->text, ev->text_bytes);
		else if (append_text(&e->text, &e->text_bytes, &e->text_cap_bytes, ev->text,
				 ev->text_bytes) < 0)
			ask_fail(r, e, -E2BIG, "the answer is too long");
		return;
	case OG_INFER_LOGPROB:
		deliver_logprob(r, e, ev);
		return;
	case OG_INFER_DONE:
		deliver(r, e, e->text, e->text_bytes);
		model = og_router_local_model(r, e->ask->model);
		u.model = model ? model->name : "";
		u.prompt_tokens = ev->prompt_tokens;
		u.completion_tokens = ev->completion_tokens;
		u.finish = (enum og_infer_finish)ev->finish;
		ask_done(r, e, &u);
		return;
	default:
		e->state = OG_ASK_WAITING;
		if (ev->error == -E2BIG || ev->error == -EINVAL)
			ask_fail(r, e, ev->error, ev->text);
		else
			ask_elsewhere(
				r, e, ev->error ? ev->error : -EIO, ev->text, strlen(ev->text));
		return;
	}
}

void og_router_engine_event(
	struct og_router *r, uint32_t engine, const struct og_infer_event *ev, uint64_t now_ns)
{
	r->now_ns = now_ns;
	if ((uint32_t)ev->id & ID_SERVE)
		serve_event(r, ev);
	else
		ask_event(r, ev);
}

/* ---- what ends many at once ---- */

void og_request_member_gone(struct og_router *r, struct og_member *m)
{
	static const char lost[] = "the connection to the member that answered was lost";

	for (uint32_t i = 0; i < OG_SERVES_MAX; i++) {
		struct og_serve_entry *s = &r->serves[i];

		if (!s->used || s->member != m)
			continue;
		r->opts.env.infer_cancel(r->opts.env.ctx, s->engine, serve_id(r, s));
		serve_close(r, s);
	}
	for (uint32_t i = 0; i < r->opts.asks_max; i++) {
		struct og_ask_entry *e = &r->asks[i];

		if (e->state != OG_ASK_REMOTE || e->member != m)
			continue;
		if (e->nb_tried < OG_ARRAY_LEN(e->tried))
			memcpy(e->tried[e->nb_tried++], m->key, 32);
		e->member = NULL;                    /* it is gone: nothing to unwatch */
		e->hold_until = r->now_ns + hold_ns; /* another may just be connecting */
		ask_elsewhere(r, e, -EIO, lost, sizeof(lost) - 1);
	}
}

void og_request_fail_all(struct og_router *r, int error, const char *message)
{
	for (uint32_t i = 0; i < r->opts.asks_max; i++)
		if (r->asks[i].state != OG_ASK_FREE)
			ask_fail(r, &r->asks[i], error, message);
	for (uint32_t i = 0; i < OG_SERVES_MAX; i++) {
		struct og_serve_entry *s = &r->serves[i];

		if (!s->used)
			continue;
		r->opts.env.infer_cancel(r->opts.env.ctx, s->engine, serve_id(r, s));
		serve_finish(r, s, NULL, error, message);
	}
}

uint64_t og_request_tick(struct og_router *r)
{
	uint64_t next = OG_NEVER;

	for (uint32_t i = 0; r->nb_asks > 0 && i < r->opts.asks_max; i++) {
		struct og_ask_entry *e = &r->asks[i];

		if (e->state == OG_ASK_FREE)
			continue;
		if (r->now_ns >= e->deadline) {
			ask_fail(r, e, -ETIMEDOUT,
				e->state == OG_ASK_WAITING
					? "nobody could serve it before its deadline"
					: "no answer before the deadline");
			continue;
		}
		if (e->state == OG_ASK_WAITING) {
			ask_place(r, e);
			next = OG_MIN(next, r->now_ns + 100 * OG_NS_PER_MS);
		}
		next = OG_MIN(next, e->deadline);
	}
	for (uint32_t i = 0; r->nb_serves > 0 && i < OG_SERVES_MAX; i++) {
		struct og_serve_entry *s = &r->serves[i];

		if (!s->used)
			continue;
		if (r->now_ns >= s->deadline) {
			r->opts.env.infer_cancel(r->opts.env.ctx, s->engine, serve_id(r, s));
			serve_finish(r, s, NULL, -ETIMEDOUT, "no answer before the deadline");
			continue;
		}
		next = OG_MIN(next, s->deadline);
	}
	return next;
}

void og_request_fini(struct og_router *r)
{
	for (uint32_t i = 0; i < r->opts.asks_max && r->asks; i++) {
		struct og_ask_entry *e = &r->asks[i];

		if (e->state == OG_ASK_FREE)
			continue;
		og_infer_request_free(e->ask->req);
		free(e->ask);
		free(e->text);
	}
	for (uint32_t i = 0; i < OG_SERVES_MAX && r->serves; i++) {
		free(r->serves[i].raw_id);
		free(r->serves[i].text);
	}
}
