#include "gpu/cpu/pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS_BEFORE_SLEEP = 2000, SPINS_BEFORE_YIELD = 1000, SHARE_MAX = 8 };

struct og_pool {
	/*
	 * Generation of the loop (high half) and items not yet taken (low half) in one word, so that
	 * taking an item also proves that the loop's fields, read just before, are those of this loop.
	 */
	alignas(64) uint64_t ticket;
	/* Written by og_pool_run() between loops. */
	og_pool_fn *fn;
	void *arg;
	uint32_t nb_items;
	alignas(64) uint32_t nb_done;
	alignas(64) uint32_t wake; /* futex: changes with each loop */
	uint32_t nb_sleeping;
	bool stop;
	uint32_t nb_threads;
	uint32_t nb_started;
	pthread_t threads[];
};

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#endif
}

static void futex(uint32_t *word, int op, uint32_t value)
{
	syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/*
 * Neighbours at a time, fewer as the end comes near: they are mostly neighbours in memory too, and one
 * stream is read faster than many short pieces of it.
 */
static uint32_t share(const struct og_pool *p, uint32_t nb_left)
{
	return OG_MAX(OG_MIN(nb_left / (2 * p->nb_threads), (uint32_t)SHARE_MAX), 1u);
}

/* Work on the current loop until its items are all taken. */
static void take_items(struct og_pool *p)
{
	/* pairs with the release in og_pool_run(): the loop's fields are visible */
	uint64_t ticket = __atomic_load_n(&p->ticket, __ATOMIC_ACQUIRE);

	for (;;) {
		og_pool_fn *fn = __atomic_load_n(&p->fn, __ATOMIC_RELAXED);
		void *arg = __atomic_load_n(&p->arg, __ATOMIC_RELAXED);
		uint32_t nb_items = __atomic_load_n(&p->nb_items, __ATOMIC_RELAXED);
		uint32_t nb_left = (uint32_t)ticket, n = share(p, nb_left);

		if (nb_left == 0)
			return;
		if (!__atomic_compare_exchange_n(&p->ticket, &ticket, ticket - n, false,
			    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			continue;
		for (uint32_t i = nb_items - nb_left; n > 0; i++, n--) {
			fn(arg, i);
			/* pairs with the acquire in og_pool_run(): the item's results are visible */
			__atomic_add_fetch(&p->nb_done, 1, __ATOMIC_RELEASE);
		}
		ticket = __atomic_load_n(&p->ticket, __ATOMIC_ACQUIRE);
	}
}

/* Returns when `wake` is no longer `seen`. */
static void await_loop(struct og_pool *p, uint32_t seen)
{
	for (uint32_t i = 0; i < SPINS_BEFORE_SLEEP; i++) {
		if (__atomic_load_n(&p->wake, __ATOMIC_ACQUIRE) != seen)
			return;
		relax();
	}
	/* pairs with the read of nb_sleeping after the change of wake in signal_loop() */
	__atomic_add_fetch(&p->nb_sleeping, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&p->wake, __ATOMIC_SEQ_CST) == seen)
		futex(&p->wake, FUTEX_WAIT, seen);
	__atomic_sub_fetch(&p->nb_sleeping, 1, __ATOMIC_SEQ_CST);
}

static void signal_loop(struct og_pool *p)
{
	__atomic_add_fetch(&p->wake, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&p->nb_sleeping, __ATOMIC_SEQ_CST) > 0)
		futex(&p->wake, FUTEX_WAKE, INT32_MAX);
}

static void *worker(void *arg)
{
	struct og_pool *p = arg;
	uint32_t seen = 0;

	while (!__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE)) {
		take_items(p);
		await_loop(p, seen);
		seen = __atomic_load_n(&p->wake, __ATOMIC_ACQUIRE);
	}
	return NULL;
}

void og_pool_run(struct og_pool *p, og_pool_fn *fn, void *arg, uint32_t nb_items)
{
	uint64_t gen = (p->ticket >> 32) + 1;

	if (nb_items <= 1 || p->nb_threads == 1) {
		for (uint32_t i = 0; i < nb_items; i++)
			fn(arg, i);
		return;
	}
	/* No item of the last loop is left, so nobody acts on these fields until the new ticket. */
	__atomic_store_n(&p->fn, fn, __ATOMIC_RELAXED);
	__atomic_store_n(&p->arg, arg, __ATOMIC_RELAXED);
	__atomic_store_n(&p->nb_items, nb_items, __ATOMIC_RELAXED);
	__atomic_store_n(&p->nb_done, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&p->ticket, gen << 32 | nb_items, __ATOMIC_RELEASE);
	signal_loop(p);
	take_items(p);
	for (uint32_t i = 0; __atomic_load_n(&p->nb_done, __ATOMIC_ACQUIRE) < nb_items; i++) {
		if (i > SPINS_BEFORE_YIELD)
			sched_yield();
		else
			relax();
	}
}

uint32_t og_pool_threads(const struct og_pool *p)
{
	return p->nb_threads;
}

int og_pool_create(struct og_pool **out, uint32_t nb_threads)
{
	size_t bytes = sizeof(struct og_pool) + nb_threads * sizeof(pthread_t);
	struct og_pool *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

	if (!p)
		return -ENOMEM;
	*p = (struct og_pool){.nb_threads = nb_threads};
	while (p->nb_started + 1 < nb_threads) {
		int ret = pthread_create(&p->threads[p->nb_started], NULL, worker, p);

		if (ret != 0) {
			og_pool_destroy(p);
			return -ret;
		}
		p->nb_started++;
	}
	*out = p;
	return 0;
}

void og_pool_destroy(struct og_pool *p)
{
	__atomic_store_n(&p->stop, true, __ATOMIC_RELEASE);
	signal_loop(p);
	for (uint32_t i = 0; i < p->nb_started; i++)
		pthread_join(p->threads[i], NULL);
	free(p);
}
