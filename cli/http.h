/*
 * http.h: the HTTP face: OpenAI's API, health, metrics.
 *
 * POST /v1/chat/completions, POST /v1/completions, GET /v1/models[/ID], /healthz, /readyz, /metrics.
 *
 * Source:  design.md 6.4; facts on slow clients and smuggling as in http_watch.h and http_access.h.
 * Threads: open and close from the main thread; answers arrive on the router thread; requests are
 *          read on the threads of libmicrohttpd.
 * Memory:  connections, headers, bodies and unread answers are bounded.
 */
#pragma once
#include "base/addr.h"
#include "cli/link.h"

struct og_http;

struct og_http_opts {
	const char *host;         /* to listen on */
	uint16_t port;            /* 0: any free one */
	const char *api_key_file; /* "": none asked */
	const char *const *allow_hosts;
	uint32_t nb_allow_hosts;
	uint64_t max_body_bytes;
	uint32_t max_connections;
	uint32_t max_connections_per_address; /* 0: 32, none on loopback */
	uint32_t rate_per_s, rate_burst;      /* prompts of one client address; 0: no limit */
	bool metrics;
	struct og_link *link;
	const bool *ready; /* for /readyz; written by the main thread, read atomically */
};

/* Listens. 0, or a negative errno with a sentence in `err`. */
int og_http_open(struct og_http **out, const struct og_http_opts *opts, char *err,
	size_t err_bytes) OG_MUST_CHECK;
/* "127.0.0.1:8480" with the port that was taken. */
const char *og_http_address(const struct og_http *h);
void og_http_metrics_register(struct og_http *h);
/* Other rates and, if a key file was given at open, its keys read again. 0 or -errno of the file. */
int og_http_reload(struct og_http *h, uint32_t rate_per_s, uint32_t rate_burst) OG_MUST_CHECK;
/* New connections are refused; those under way go on. */
void og_http_quiesce(struct og_http *h);
/* After the router has ended every request. */
void og_http_close(struct og_http *h);
