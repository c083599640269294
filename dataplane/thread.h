/*
 * thread.h: the dataplane's own threads: named, without signals, pinned if asked.
 */
#pragma once
#include "base/def.h"

#include <pthread.h>

/*
 * Start `run(arg)` on CPU `cpu` (-1: wherever), all signals blocked so that the main thread gets
 * them. `name` is at most 15 characters. Returns 0 or a negative errno.
 */
int og_thread_start(
	pthread_t *out, const char *name, int cpu, void *(*run)(void *), void *arg) OG_MUST_CHECK;

/*
 * The calling thread would rather run soon than long (Linux 6.12): when it has something to do it
 * need not wait until the slice of another thread on its processor ends.
 */
void og_thread_run_promptly(void);

/* The NUMA node of a CPU, -1: unknown, as of CPU -1. */
int og_thread_node(int cpu);
