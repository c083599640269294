/*
 * doorbell.h: wakes a consumer that sleeps, and costs its producers a load when it does not.
 *
 * The consumer announces that it is about to sleep, looks into its rings once more, then blocks on
 * the descriptor. A producer pushes first and rings afterwards; only the first ring after an
 * announcement makes a system call.
 *
 * Source:  Dekker's flag protocol; eventfd(2).
 * Units:   ns.
 * Threads: one consumer; any number of producers may ring.
 * Memory:  none allocated; one descriptor.
 */
#pragma once
#include "base/def.h"

#include <stdalign.h>

struct og_doorbell {
	int fd; /* readable after a ring */
	alignas(64) uint32_t asleep;
};

int og_doorbell_init(struct og_doorbell *db) OG_MUST_CHECK;
void og_doorbell_fini(struct og_doorbell *db);

/* Producer, after its push. */
void og_doorbell_ring(struct og_doorbell *db);

/* Consumer: after this, look into every ring once more before blocking. */
void og_doorbell_announce(struct og_doorbell *db);
/* Consumer, after blocking (or after finding work when it looked again): takes the ring back. */
void og_doorbell_awake(struct og_doorbell *db);
/* Block until rung or `timeout_ns` has passed (OG_NEVER: for ever), for a consumer with no other
 * descriptor. Between announce() and awake(). */
void og_doorbell_wait(struct og_doorbell *db, uint64_t timeout_ns);
