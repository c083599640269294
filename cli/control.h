/*
 * control.h: the node's end of the control socket, ROOT/control.sock: what `opengateway` asks.
 *
 * One JSON object a line each way. A request is {"cmd": …} with members of its own; the answer is
 * {"ok": true, "data": …} or {"ok": false, "error": message, "exit": status of opengateway}. A
 * prompt that streams has {"text": …} lines before it.
 *
 *   status, peers {cluster}, clusters, models, gauge, eligible {model}, join {cluster},
 *   leave {cluster}, log {level}, stop, drain, prompt {body: a chat completion request as of HTTP}
 *
 * Threads: open, serve and close from the main thread; answers arrive on the router thread.
 * Memory:  connections, lines and unread output are bounded.
 */
#pragma once
#include "cli/link.h"

struct og_control;

struct og_control_opts {
	const char *root;
	struct og_link *link;
	/* On the main thread. */
	json_t *(*status)(void *ctx, json_t *router_status); /* takes and gives a reference */
	json_t *(*gauge)(void *ctx, json_t *router_gauge);   /* the same */
	void (*stop)(void *ctx);
	void (*drain)(
		void *ctx); /* stop once everything that runs has ended, however long it takes */
	int (*log_level)(void *ctx, const char *name); /* 0 or -EINVAL */
	void *ctx;
};

int og_control_open(struct og_control **out, const struct og_control_opts *opts, char *err,
	size_t err_bytes) OG_MUST_CHECK;
/* Readable when og_control_serve() has something to do; it never waits for a client. */
int og_control_fd(const struct og_control *c);
void og_control_serve(struct og_control *c);
/* Gives clients what they are owed, as far as they take it at once; removes the socket. */
void og_control_close(struct og_control *c);

/* A socket bound or connected at ROOT/control.sock, whatever the length of ROOT. -errno. */
int og_control_socket(const char *root, bool listening);
