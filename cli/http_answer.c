/*
 * http_answer.c: from a body to an ask, and from the router's answers to a body or a stream.
 *
 * While nothing is to be sent, the connection is suspended. Whoever brings something resumes it:
 * `suspended` is cleared under the lock by the one that does, so that it is done once.
 */
#include "cli/http_priv.h"

#include "cli/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	STREAM_BLOCK_BYTES = 16 * 1024,
	UNREAD_MAX_BYTES = 1024 * 1024, /* of a stream whose client does not read */
	ANSWER_MAX_BYTES = 16 * 1024 * 1024,
	UNREAD_LOGPROBS_MAX = 1024, /* tokens */
	ANSWER_LOGPROBS_MAX = 16 * 1024,
};

/* Suspend until an answer comes, unless there is something to send already. */
static void wait_for_answer(struct og_http_request *r)
{
	bool go_on;

	MHD_suspend_connection(r->conn);
	pthread_mutex_lock(&r->http->lock);
	go_on = r->ended || (r->stream && r->text_bytes > 0);
	r->suspended = !go_on;
	pthread_mutex_unlock(&r->http->lock);
	if (go_on)
		MHD_resume_connection(r->conn);
}

void og_http_ask(struct og_http_request *r)
{
	struct og_openai_request req;
	int ret;

	if (og_openai_parse(&req, &r->err, r->route == OG_ROUTE_CHAT, r->body ? r->body : "",
		    r->body_bytes) < 0) {
		r->bad = true;
		return;
	}
	pthread_mutex_lock(&r->http->lock);
	og_openai_reply_init(&r->reply, &req, &r->http->rand);
	if (!req.has_seed)
		req.ask->req->params.seed = og_rand_u64(&r->http->rand);
	r->stream = req.stream;
	r->asked = true;
	pthread_mutex_unlock(&r->http->lock);
	req.ask->face = r->id;
	og_http_watch_hold(r->http->watch, r->watch, r->id);
	ret = og_link_ask(r->http->opts.link, OG_FACE_HTTP, req.ask);
	if (ret < 0) {
		bool busy = ret == -EAGAIN;

		r->asked = false;
		r->bad = true;
		og_openai_fail(&r->err, busy ? 429 : 503,
			busy ? "rate_limit_error" : "server_error",
			busy ? "server_busy" : "stopping", NULL,
			busy ? "too many requests are waiting on this node"
			     : "the node is stopping");
		r->err.retry_after_s = busy ? 1 : 2;
		return;
	}
	wait_for_answer(r);
}

/* ---- on the router thread ---- */

static struct og_http_request *find(struct og_http *h, uint64_t id)
{
	uint32_t idx = (uint32_t)id;
	struct og_http_request *r = idx < h->nb_requests_max ? &h->requests[idx] : NULL;

	return r && r->used && r->id == id ? r : NULL;
}

static void add_text(struct og_http_request *r, const struct og_answer *a)
{
	size_t want = r->text_cap_bytes ? r->text_cap_bytes : 1024;
	size_t max = r->stream ? UNREAD_MAX_BYTES : ANSWER_MAX_BYTES;
	char *grown;

	if (r->too_slow || r->text_bytes + a->text_bytes > max) {
		r->too_slow = true;
		return;
	}
	while (want < r->text_bytes + a->text_bytes)
		want *= 2;
	if (want != r->text_cap_bytes) {
		grown = realloc(r->text, want);
		if (!grown) {
			r->too_slow = true;
			return;
		}
		r->text = grown;
		r->text_cap_bytes = want;
	}
	memcpy(r->text + r->text_bytes, a->text, a->text_bytes);
	r->text_bytes += a->text_bytes;
}

static void add_logprob(struct og_http_request *r, const struct og_answer *a)
{
	size_t max = r->stream ? UNREAD_LOGPROBS_MAX : ANSWER_LOGPROBS_MAX;

	if (!r->logprobs)
		r->logprobs = json_array();
	if (r->too_slow || json_array_size(r->logprobs) >= max ||
		og_openai_add_logprob(r->logprobs, a) < 0)
		r->too_slow = true;
}

static void end_with(struct og_http_request *r, const struct og_answer *a)
{
	r->ended = true;
	r->end.prompt_tokens = a->prompt_tokens;
	r->end.completion_tokens = a->completion_tokens;
	r->end.attempts = a->attempts;
	r->end.finish = a->finish;
	og_text_copy(r->end.node_name, sizeof(r->end.node_name), a->node_name ? a->node_name : "");
	og_text_copy(r->end.node_key, sizeof(r->end.node_key), a->node_key ? a->node_key : "");
	if (a->model && a->model[0] && !r->stream)
		og_text_copy(r->reply.model, sizeof(r->reply.model), a->model);
	if (a->type == OG_ANSWER_ERROR) {
		r->bad = true;
		og_openai_from_answer(&r->err, a);
	} else if (r->too_slow) {
		r->bad = true;
		og_openai_fail(&r->err, 500, "server_error", "client_too_slow", NULL,
			"the answer was not read in time");
	}
}

void og_http_on_answer(void *ctx, const struct og_answer *a)
{
	struct og_http *h = ctx;
	struct MHD_Connection *resume = NULL;
	struct og_http_request *r;
	bool cancel = false;

	pthread_mutex_lock(&h->lock);
	r = find(h, a->face);
	if (r && !r->ended) {
		bool was_slow = r->too_slow;

		if (a->type == OG_ANSWER_TEXT)
			add_text(r, a);
		else if (a->type == OG_ANSWER_LOGPROB)
			add_logprob(r, a);
		else
			end_with(r, a);
		cancel = r->too_slow && !was_slow;
		/* The text of a token follows its log probabilities: they go out together. */
		if (r->suspended && ((r->stream && a->type != OG_ANSWER_LOGPROB) || r->ended)) {
			r->suspended = false;
			resume = r->conn;
		}
	}
	pthread_mutex_unlock(&h->lock);
	/* Suspended connections are not freed, so `resume` lives until here. */
	if (resume)
		MHD_resume_connection(resume);
	if (cancel)
		og_http_on_gone(h, a->face);
}

void og_http_on_gone(void *ctx, uint64_t id)
{
	struct og_http *h = ctx;
	struct og_http_request *r;
	bool alive;

	pthread_mutex_lock(&h->lock);
	r = find(h, id);
	alive = r && r->asked && !r->ended;
	pthread_mutex_unlock(&h->lock);
	if (alive)
		og_link_cancel(h->opts.link, OG_FACE_HTTP, id);
}

/* ---- on the threads of libmicrohttpd ---- */

/* Formats what has come since the last call. False: nothing to send now. Under the lock. */
static bool fill_stream(struct og_http_request *r)
{
	FILE *f;

	free(r->out);
	r->out = NULL;
	r->out_bytes = r->out_sent_bytes = 0;
	if (r->finished || (!r->ended && r->text_bytes == 0))
		return false;
	f = open_memstream(&r->out, &r->out_bytes);
	if (!f)
		return false;
	if (!r->started)
		og_openai_stream_start(f, &r->reply);
	r->started = true;
	if (r->text_bytes > 0 || (r->logprobs && !r->bad))
		og_openai_stream_text(f, &r->reply, r->text, r->text_bytes, r->logprobs);
	r->text_bytes = 0;
	json_decref(r->logprobs);
	r->logprobs = NULL;
	if (r->ended) {
		if (r->bad)
			og_openai_stream_error(f, &r->err);
		else
			og_openai_stream_end(f, &r->reply, &r->end);
		r->finished = true;
	}
	fclose(f);
	return r->out_bytes > 0;
}

static ssize_t read_stream(void *ctx, uint64_t pos, char *buf, size_t max)
{
	struct og_http_request *r = ctx;
	size_t n = 0;
	bool more = true;

	pthread_mutex_lock(&r->http->lock);
	if (r->out_sent_bytes == r->out_bytes)
		more = fill_stream(r);
	if (more) {
		n = OG_MIN(max, r->out_bytes - r->out_sent_bytes);
		memcpy(buf, r->out + r->out_sent_bytes, n);
		r->out_sent_bytes += n;
	}
	more = more || !r->finished;
	pthread_mutex_unlock(&r->http->lock);
	if (!more)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n == 0)
		wait_for_answer(r);
	return (ssize_t)n;
}

static enum MHD_Result respond_stream(struct og_http_request *r)
{
	struct MHD_Response *resp = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_stream, r, NULL);
	enum MHD_Result ret;

	if (!resp)
		return MHD_NO;
	MHD_add_response_header(resp, "Content-Type", "text/event-stream; charset=utf-8");
	MHD_add_response_header(resp, "Cache-Control", "no-cache");
	MHD_add_response_header(resp, "X-Accel-Buffering", "no");
	MHD_add_response_header(resp, "X-Request-Id", r->request_id);
	og_http_count(r, 200);
	ret = MHD_queue_response(r->conn, 200, resp);
	MHD_destroy_response(resp);
	return ret;
}

enum MHD_Result og_http_respond(struct og_http_request *r)
{
	bool nothing_yet, failed;
	char *body;

	pthread_mutex_lock(&r->http->lock);
	nothing_yet = !r->ended && !(r->stream && r->text_bytes > 0);
	failed = r->ended && r->bad && (r->text_bytes == 0 || !r->stream);
	pthread_mutex_unlock(&r->http->lock);
	if (nothing_yet) {
		wait_for_answer(r);
		return MHD_YES;
	}
	/* Until something of the answer was sent, an error is still a status. */
	if (failed)
		return og_http_send_error(r, &r->err);
	if (r->stream)
		return respond_stream(r);
	body = og_openai_body(&r->reply, &r->end, r->text, r->text_bytes, r->logprobs);
	return og_http_send(r, 200, "application/json", body, body ? strlen(body) : 0);
}
