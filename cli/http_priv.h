/*
 * http_priv.h: what the files of the HTTP face share.
 */
#pragma once
#include "cli/http.h"
#include "cli/http_access.h"
#include "cli/http_watch.h"
#include "cli/openai.h"

#include <microhttpd.h>
#include <pthread.h>

enum { OG_REQUEST_ID_BYTES = 72 };

enum og_route {
	OG_ROUTE_CHAT,
	OG_ROUTE_COMPLETION,
	OG_ROUTE_MODELS,
	OG_ROUTE_HEALTH,
	OG_ROUTE_READY,
	OG_ROUTE_METRICS,
	OG_ROUTE_OTHER,
	OG_NB_ROUTES,
};

/* One request of a client, from its headers until its answer is sent. */
struct og_http_request {
	struct og_http *http;
	struct og_http_request *next_free;
	uint64_t id; /* slot and generation; also the name of its ask */
	bool used;
	struct MHD_Connection *conn;
	struct og_http_conn *watch;
	enum og_route route;
	const char *model_id; /* of GET /v1/models/ID, into `url` */
	char url[256];
	char request_id[OG_REQUEST_ID_BYTES];
	bool bad; /* `err` is the answer */
	struct og_openai_error err;
	const char *allow; /* of 405 */
	char *body;
	size_t body_bytes;
	uint64_t received_bytes; /* of the body, kept or not */

	/* From here on also the router thread, under http->lock. */
	bool asked;
	bool suspended;
	bool ended;
	bool too_slow; /* its text was not read in time and is lost */
	bool stream;
	struct og_openai_reply reply;
	struct og_openai_end end;
	char *text;
	size_t text_bytes, text_cap_bytes;
	json_t *logprobs; /* og_openai_add_logprob()'s list, or NULL */

	/* Streaming: what is formatted and not yet sent. */
	char *out;
	size_t out_bytes, out_sent_bytes;
	bool started, finished;
};

struct og_http {
	struct og_http_opts opts;
	bool loopback;
	char address[80];
	struct MHD_Daemon *daemon;
	struct og_http_watch *watch;
	struct og_api_keys keys;
	struct og_rand rand;
	struct og_rate rate;
	int64_t started_at;
	pthread_mutex_t lock;
	struct og_http_request *requests, *first_free;
	uint32_t nb_requests_max;
	pthread_mutex_t render_lock;        /* og_metrics_render() is for one thread at a time */
	uint64_t answered[OG_NB_ROUTES][6]; /* by hundreds of the status; under `lock` */
	uint64_t running;
};

/* http_answer.c: an ask under way. */
void og_http_ask(struct og_http_request *r);
enum MHD_Result og_http_respond(struct og_http_request *r);
void og_http_on_answer(void *ctx, const struct og_answer *answer);
void og_http_on_gone(void *ctx, uint64_t id);

/* http_check.c: sets `bad` and `err` where the request is refused. */
void og_http_check(struct og_http_request *r, const char *url, const char *method);
void og_http_refuse(
	struct og_http_request *r, unsigned status, const char *code, const char *message);
const char *og_http_header(const struct og_http_request *r, const char *name);

/* http.c */
uint64_t og_http_now_ns(void);
enum MHD_Result og_http_send(struct og_http_request *r, unsigned status, const char *type,
	char *body /* malloc'ed, given */, size_t body_bytes);
enum MHD_Result og_http_send_error(struct og_http_request *r, const struct og_openai_error *err);
void og_http_count(struct og_http_request *r, unsigned status);
