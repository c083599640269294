/*
 * pool.h: a small fork-join thread pool for loops whose items are independent.
 *
 * Items are handed out a few neighbours at a time from a shared counter, one by one near the end, so a
 * core that is busy with something else delays only those it holds. Results must not depend on which
 * thread computes an item.
 *
 * Threads: og_pool_run() from one thread, which takes part in the work. Idle threads spin briefly,
 *          then sleep.
 * Memory:  one block made at create.
 */
#pragma once
#include "base/def.h"

struct og_pool;

typedef void og_pool_fn(void *arg, uint32_t item);

/* `nb_threads` in all, the caller's included; 1 starts none. Returns 0, -ENOMEM or -EAGAIN. */
int og_pool_create(struct og_pool **out, uint32_t nb_threads) OG_MUST_CHECK;
void og_pool_destroy(struct og_pool *p);
uint32_t og_pool_threads(const struct og_pool *p);

/* fn(arg, i) for each i below `nb_items`, in any order and at once. Returns when all are done. */
void og_pool_run(struct og_pool *p, og_pool_fn *fn, void *arg, uint32_t nb_items);
