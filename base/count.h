/*
 * count.h: counters that one thread writes and any thread may read.
 */
#pragma once
#include <stdint.h>

/* One writer, so a plain add with a relaxed store is enough; readers use og_counter_read(). */
static inline void og_count_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline void og_count(uint64_t *counter)
{
	og_count_add(counter, 1);
}

static inline uint64_t og_counter_read(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}
