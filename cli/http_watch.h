/*
 * http_watch.h: looks after the connections of the HTTP server for what libmicrohttpd does not see:
 * clients that are slow on purpose, and clients that leave while their answer is computed.
 *
 * A request's headers must be complete 10 s after the connection opened or the last answer ended
 * plus the idle time; its body must come at 1 KiB/s after 5 s. Late ones are shut down. While a
 * request is held, the socket is watched for the client's end.
 *
 * Units:   ms.
 * Threads: calls from the threads of libmicrohttpd; `gone` is called from the watcher's own.
 * Memory:  one entry per connection, at most `nb_max`.
 */
#pragma once
#include "base/def.h"

struct og_http_watch;

struct og_http_watch_opts {
	uint32_t nb_max;
	/* The client of `request` left. May come late: the receiver checks that it still lives. */
	void (*gone)(void *ctx, uint64_t request);
	void *ctx;
};

/* Written by the watcher and by libmicrohttpd's threads under the watcher's lock. */
struct og_http_watch_counters {
	uint64_t open, opened, timed_out, left;
};

int og_http_watch_open(
	struct og_http_watch **out, const struct og_http_watch_opts *opts) OG_MUST_CHECK;
void og_http_watch_close(struct og_http_watch *w);
const struct og_http_watch_counters *og_http_watch_counters(const struct og_http_watch *w);

/* A connection, from its opening until before its socket is closed. Returns its handle, or NULL. */
struct og_http_conn *og_http_watch_add(struct og_http_watch *w, int fd);
void og_http_watch_remove(struct og_http_watch *w, struct og_http_conn *c);

/* The stages of a request on it. `body_bytes`: so far. NULL connections are ignored. */
void og_http_watch_body(struct og_http_watch *w, struct og_http_conn *c, uint64_t body_bytes);
void og_http_watch_hold(struct og_http_watch *w, struct og_http_conn *c, uint64_t request);
void og_http_watch_idle(struct og_http_watch *w, struct og_http_conn *c);
