/*
 * servers.h: a server of ours and its references side by side, each with a load of its own, loaded
 * in turn.
 *
 * Threads: one owner.
 * Memory:  the caller's.
 */
#pragma once
#include "bench/bench.h"
#include "bench/child.h"
#include "bench/load.h"
#include "bench/ports.h"

enum { SERVERS_MAX = 5 };

struct server {
	char name[32]; /* as a reference is called in the report */
	bool is_echo;
	struct og_addr addr;
	struct bench_child child;
	struct bench_child generator; /* where the load is a process of its own */
	struct load *load;
};

struct servers {
	uint32_t nb; /* the first is ours */
	struct server list[SERVERS_MAX];
	struct ports ports;
	struct bench_child js_network; /* what the JavaScript node finds its neighbours in */
};

/*
 * Starts our `kind` ("node" or "echo") on b->port and what it is compared with, all paused. Returns
 * 0 or a negative errno, told on stderr. servers_stop() in either case.
 */
int servers_start(const struct bench *b, struct servers *s, const char *kind) OG_MUST_CHECK;
void servers_stop(struct servers *s);
void server_resume(struct server *s);
void server_pause(struct server *s);

/*
 * Run plan i against server i in rounds; report what ours answers per second of time and of its
 * processor, against each reference. `what` is what is counted ("replies"). 0 or a negative errno.
 */
int servers_measure(const struct bench *b, struct servers *s, const char *name, const char *what,
	const struct load_plan *plans) OG_MUST_CHECK;
