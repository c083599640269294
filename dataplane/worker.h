/*
 * worker.h: crypto workers: threads that do the slow jobs of one polling core.
 *
 * The core queues jobs by the address that caused them and deals them to the workers in turn, so
 * that a source with many jobs waits behind itself; of one source the newest goes first. When a source
 * holds its share of all slots, or all are taken, the oldest job that waits gives way: it is not run
 * and comes back with result -EAGAIN.
 *
 * Units:   jobs.
 * Threads: one polling core calls everything but create and destroy, which run while it does not.
 *          Each worker shares two rings with the core and nothing with the other workers.
 * Memory:  nb_jobs slots of struct og_job at create, locked if allowed; bodies are wiped after use.
 */
#pragma once
#include "base/core.h"
#include "dataplane/doorbell.h"

#include <stdbool.h>

/* One source may hold 1/OG_WORKER_SHARE of the slots; sources are told apart by hash, roughly. */
enum { OG_WORKER_SHARE = 8, OG_WORKER_SOURCES = 64, OG_WORKERS_MAX = 64 };

struct og_workers;

struct og_workers_opts {
	uint32_t nb_workers;          /* 1 … OG_WORKERS_MAX */
	uint32_t nb_jobs;             /* slots, at least OG_WORKER_SHARE */
	struct og_doorbell *doorbell; /* of the polling core, rung at each result; NULL: it polls */
};

/* Counts since create, written by the polling core. */
struct og_workers_counters {
	uint64_t posted;
	uint64_t done;    /* run and handed back */
	uint64_t no_slot; /* begin() found all slots taken */
	uint64_t shed;    /* handed back without being run */
	uint64_t waiting; /* gauge: posted, not yet with a worker */
};

int og_workers_create(struct og_workers **out, const struct og_workers_opts *opts) OG_MUST_CHECK;
/* Ends the threads once their present job is done; jobs not run yet are wiped and forgotten. */
void og_workers_destroy(struct og_workers *w);

/* begin() and post() for the core; lives as long as the workers. */
struct og_jobs *og_workers_jobs(struct og_workers *w);

/*
 * Hand every finished job to done(arg, job), which may begin and post others; the job is wiped when
 * done() returns. Returns how many there were.
 */
uint32_t og_workers_poll(
	struct og_workers *w, void (*done)(void *arg, struct og_job *job), void *arg);
/* True when og_workers_poll() would find something: the last look before the core sleeps. */
bool og_workers_ready(const struct og_workers *w);

const struct og_workers_counters *og_workers_counters(const struct og_workers *w);
