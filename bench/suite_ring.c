/*
 * suite_ring.c: what it costs to hand a message from one thread to another through a stage, alone
 * and with 64 bytes of data in one of its buffers: on one core by turns, and between two cores. And what
 * it costs a polling core to hand a packet to another: taken from the pool, there, read, back, freed.
 *
 * Reference: the plainest ring there is, of C11 atomics, one producer and one consumer, with
 * messages of the same size and no buffers.
 */
#include "base/msg.h"
#include "bench/bench.h"
#include "bench/handover_bench.h"
#include "dataplane/stage.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { DEPTH = 1024, BATCH = HANDOVER_BURST, DATA_BYTES = 64, YIELD_AFTER = 1000 };

/* ---- the plain ring ---- */

struct plain {
	alignas(64) _Atomic uint32_t head; /* written by the producer */
	uint32_t tail_seen;
	alignas(64) _Atomic uint32_t tail; /* written by the consumer */
	uint32_t head_seen;
	alignas(64) struct og_msg slots[DEPTH];
};

static bool plain_push(struct plain *r, const struct og_msg *m)
{
	uint32_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

	if (head - r->tail_seen == DEPTH) {
		/* Pairs with the release in plain_pop. */
		r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
		if (head - r->tail_seen == DEPTH)
			return false;
	}
	r->slots[head % DEPTH] = *m;
	/* Pairs with the acquire in plain_pop. */
	atomic_store_explicit(&r->head, head + 1, memory_order_release);
	return true;
}

static bool plain_pop(struct plain *r, struct og_msg *m)
{
	uint32_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

	if (tail == r->head_seen) {
		r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
		if (tail == r->head_seen)
			return false;
	}
	*m = r->slots[tail % DEPTH];
	atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
	return true;
}

/* ---- all, as one kind of thing ---- */

/* One of the three. */
struct ring {
	struct plain *plain;
	struct og_stage *stage;
	struct handover_bench *handover;
};

static bool push(struct ring *r, const struct og_msg *m)
{
	return r->plain ? plain_push(r->plain, m) : og_stage_push(r->stage, m) == 0;
}

/* A batch numbered from m->arg on; returns how many went. */
static uint32_t push_batch(struct ring *r, struct og_msg *m)
{
	uint32_t n = 0;

	if (r->handover)
		return handover_bench_push(r->handover, m->arg);
	while (n < BATCH && push(r, m)) {
		m->arg++;
		n++;
	}
	return n;
}

static bool pop(struct ring *r, uint64_t *sum)
{
	struct og_msg m;

	if (r->plain) {
		if (!plain_pop(r->plain, &m))
			return false;
	} else {
		if (og_stage_pop(r->stage, &m) < 0)
			return false;
		og_stage_release(r->stage, &m);
	}
	*sum += m.arg;
	return true;
}

/* At most a batch; returns how many came. */
static uint32_t pop_batch(struct ring *r, uint64_t *sum)
{
	uint32_t n = 0;

	if (r->handover)
		return handover_bench_take(r->handover, sum);
	while (n < BATCH && pop(r, sum))
		n++;
	return n;
}

/* ns for a message, pushed and popped by turns on this core. */
static double one_core(struct ring *r, struct og_msg *m, uint64_t ns, uint64_t *sum)
{
	uint64_t start = bench_now_ns(), now = start, count = 0;

	for (; now - start < ns; now = bench_now_ns(), count += BATCH) {
		m->arg = 0;
		OG_ASSERT(push_batch(r, m) == BATCH);
		OG_ASSERT(pop_batch(r, sum) == BATCH);
	}
	return (double)(now - start) / (double)count;
}

struct consumer {
	struct ring *ring;
	const struct bench *bench;
	uint64_t sum;
	uint64_t count;
	atomic_bool stop;
};

/* Both ends let others run when there is nothing to do for long: the machine may be shared. */
static void idle(uint32_t *turns)
{
	if (++*turns >= YIELD_AFTER) {
		sched_yield();
		*turns = 0;
	}
}

static void *consume(void *arg)
{
	struct consumer *c = arg;
	uint32_t turns = 0, n;

	bench_pin(c->bench->server_cpu);
	while (!atomic_load_explicit(&c->stop, memory_order_acquire)) {
		while ((n = pop_batch(c->ring, &c->sum)) > 0)
			c->count += n;
		idle(&turns);
	}
	while ((n = pop_batch(c->ring, &c->sum)) > 0)
		c->count += n;
	return NULL;
}

/* ns for a message, from this core to another; negative: no thread to be had. */
static double two_cores(
	const struct bench *b, struct ring *r, struct og_msg *m, uint64_t ns, uint64_t *sum)
{
	struct consumer c = {.ring = r, .bench = b};
	uint64_t start, now, sent = 0;
	uint32_t turns = 0;
	pthread_t thread;

	if (pthread_create(&thread, NULL, consume, &c) != 0)
		return -1;
	start = now = bench_now_ns();
	for (; now - start < ns; now = bench_now_ns()) {
		uint32_t n;

		m->arg = sent;
		n = push_batch(r, m);
		sent += n;
		if (n < BATCH)
			idle(&turns);
	}
	atomic_store_explicit(&c.stop, true, memory_order_release);
	pthread_join(thread, NULL);
	OG_ASSERT(c.count == sent);
	*sum += c.sum;
	return (double)(now - start) / (double)OG_MAX(sent, 1ull);
}

static void run_case(const struct bench *b, const char *name, struct ring rings[2], bool cross,
	uint32_t data_bytes, uint64_t *sum)
{
	static uint8_t data[DATA_BYTES];
	struct og_msg m = {.type = 1, .data = data, .len_bytes = data_bytes};
	struct bench_samples ns[2] = {0};

	if (!bench_wanted(b, name))
		return;
	for (uint32_t run = 0; run <= b->runs; run++)
		for (int i = 0; i < 2; i++) {
			double one = cross ? two_cores(b, &rings[i], &m, b->run_ns / 4, sum)
					   : one_core(&rings[i], &m, b->run_ns / 4, sum);

			if (run > 0) /* the first is to warm up */
				bench_add(&ns[i], one);
		}
	bench_report(b, &(struct bench_result){
				name, "ns/message", BENCH_LOWER, &ns[0], "plain C11 ring", &ns[1]});
}

int suite_ring(const struct bench *b)
{
	const struct og_stage_opts opts = {
		.depth = DEPTH, .nb_buffers = DEPTH, .buffer_bytes = DATA_BYTES};
	struct ring rings[2] = {0}, packets[2] = {0};
	uint64_t sum = 0;
	int ret;

	rings[1].plain = packets[1].plain = aligned_alloc(64, sizeof(*rings[1].plain));
	ret = rings[1].plain ? og_stage_create(&rings[0].stage, &opts) : -ENOMEM;
	if (ret == 0)
		ret = handover_bench_open(&packets[0].handover, DEPTH);
	if (ret < 0) {
		og_stage_destroy(rings[0].stage);
		free(rings[1].plain);
		return BENCH_FAILED;
	}
	atomic_init(&rings[1].plain->head, 0);
	atomic_init(&rings[1].plain->tail, 0);
	rings[1].plain->head_seen = rings[1].plain->tail_seen = 0;
	run_case(b, "message, one core", rings, false, 0, &sum);
	run_case(b, "message, two cores", rings, true, 0, &sum);
	run_case(b, "message with 64 B, one core", rings, false, DATA_BYTES, &sum);
	run_case(b, "message with 64 B, two cores", rings, true, DATA_BYTES, &sum);
	run_case(b, "packet handed over, one core", packets, false, 0, &sum);
	run_case(b, "packet handed over, two cores", packets, true, 0, &sum);
	bench_note("checksum %lx", (unsigned long)sum);
	handover_bench_close(packets[0].handover);
	og_stage_destroy(rings[0].stage);
	free(rings[1].plain);
	return BENCH_DONE;
}
