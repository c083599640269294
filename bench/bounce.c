#include "bench/bounce.h"

#include "bench/bench.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

struct ball {
	alignas(64) _Atomic uint64_t hits; /* odd: the other thread has it */
	alignas(64) uint64_t spin_ns;      /* of each side */
	uint64_t last;
	int cpu;
};

static void spin(uint64_t ns)
{
	uint64_t end_ns = bench_now_ns() + ns;

	while (bench_now_ns() < end_ns)
		;
}

/* Release and acquire: nothing but the number goes along, yet in the order that a ring would need. */
static void hit(struct ball *b, uint64_t hits)
{
	spin(b->spin_ns);
	atomic_store_explicit(&b->hits, hits + 1, memory_order_release);
}

static void await(struct ball *b, uint64_t hits)
{
	while (atomic_load_explicit(&b->hits, memory_order_acquire) != hits)
		;
}

static void *other_side(void *arg)
{
	struct ball *b = arg;

	bench_pin(b->cpu);
	for (uint64_t hits = 1; hits < b->last; hits += 2) {
		await(b, hits);
		hit(b, hits);
	}
	return NULL;
}

int bounce(int other_cpu, uint64_t spin_ns, uint32_t *ns, uint32_t nb)
{
	struct ball b = {.spin_ns = spin_ns / 2, .last = 2ull * nb, .cpu = other_cpu};
	pthread_t thread;
	int ret = pthread_create(&thread, NULL, other_side, &b);

	if (ret != 0)
		return -ret;
	for (uint32_t i = 0; i < nb; i++) {
		uint64_t start = bench_now_ns();

		hit(&b, 2ull * i);
		await(&b, 2ull * i + 2);
		ns[i] = (uint32_t)(bench_now_ns() - start);
	}
	pthread_join(thread, NULL);
	return 0;
}
