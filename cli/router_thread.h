/*
 * router_thread.h: the thread that runs the router: events of the core and the engines in, asks of
 * the faces in, commands and answers out. It sleeps on one doorbell that all of them ring.
 *
 * Threads: create, start, stop and destroy from the main thread.
 * Memory:  stages at create.
 */
#pragma once
#include "base/core.h"
#include "cli/engine_thread.h"
#include "cli/link.h"
#include "dataplane/stage.h"

struct og_router_thread;

struct og_router_thread_opts {
	struct og_router_opts router; /* env is filled in here */
	struct og_doorbell *doorbell; /* initialised; rung by core and engines too */
	uint32_t nb_cores;            /* polling cores; 0: none (tests of the faces) */
	uint32_t slots_per_core;      /* peers of core i have slots from i * slots_per_core on */
	struct og_stage *core_events[OG_CORES_MAX];
	struct og_stage *core_commands[OG_CORES_MAX];
	struct og_engine_thread **engines;
	uint32_t nb_engines;
	const char *cpus; /* "" or a list such as 2,4-5 */
	/* Nodes asked for with og_router_thread_ask_nodes(): 6-byte addr4. On the router thread. */
	void (*nodes)(void *ctx, const uint8_t *addr4, uint32_t nb);
	void *ctx;
};

/* What the main thread wants to know without asking. */
struct og_router_progress {
	bool ready;           /* og_router_ready() */
	bool stopped;         /* og_router_stopped() */
	uint32_t peers_found; /* PEER_FOUND events */
	uint32_t peers_open;  /* now */
	uint32_t retries;     /* JOIN_RETRY events */
};

int og_router_thread_create(
	struct og_router_thread **out, const struct og_router_thread_opts *opts) OG_MUST_CHECK;
struct og_link *og_router_thread_link(struct og_router_thread *t);
void og_router_thread_metrics_register(struct og_router_thread *t);
int og_router_thread_start(struct og_router_thread *t) OG_MUST_CHECK;
struct og_router_progress og_router_thread_progress(const struct og_router_thread *t);
/* To the core, from the main thread: allow, deny, dial, nodes. 0 or -EAGAIN. */
int og_router_thread_command(struct og_router_thread *t, const struct og_msg *cmd) OG_MUST_CHECK;
/* og_router_stop(): running requests fail, clusters are left; progress.stopped follows. */
void og_router_thread_leave(struct og_router_thread *t);
/* Ends the thread: whatever is still asked is answered with an error first. */
void og_router_thread_stop(struct og_router_thread *t);
void og_router_thread_destroy(struct og_router_thread *t);
