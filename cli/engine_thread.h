/*
 * engine_thread.h: one engine on its own thread, joined to the router by two stages.
 *
 * Threads: create, start, stop and destroy from the main thread; submit, cancel, credit and poll
 *          from the router thread.
 * Memory:  stages at create. A request that submit accepted belongs to the engine.
 */
#pragma once
#include "dataplane/stage.h"
#include "gpu/engine.h"

struct og_engine_thread;

/* Takes `engine` over in every case. `router` is rung at each event. */
int og_engine_thread_create(struct og_engine_thread **out, struct og_engine *engine,
	const char *cpus, struct og_doorbell *router) OG_MUST_CHECK;
int og_engine_thread_start(struct og_engine_thread *t) OG_MUST_CHECK;
/* Returns when the thread has ended; requests under way are dropped. */
void og_engine_thread_stop(struct og_engine_thread *t);
void og_engine_thread_destroy(struct og_engine_thread *t);
const struct og_engine_stats *og_engine_thread_stats(const struct og_engine_thread *t);
const struct og_engine *og_engine_thread_engine(const struct og_engine_thread *t);
const char *og_engine_thread_backend(const struct og_engine_thread *t);

/* 0, or -EAGAIN: the request stays the caller's. */
int og_engine_thread_submit(struct og_engine_thread *t, struct og_infer_request *req) OG_MUST_CHECK;
void og_engine_thread_cancel(struct og_engine_thread *t, uint64_t id);
void og_engine_thread_credit(struct og_engine_thread *t, uint64_t id, uint32_t n);

/* The oldest event, or -EAGAIN. */
int og_engine_thread_poll(struct og_engine_thread *t, struct og_infer_event *out) OG_MUST_CHECK;
bool og_engine_thread_idle(const struct og_engine_thread *t); /* no event waits */
