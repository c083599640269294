/*
 * tsan_stage.c: stress of a stage with one and with several producers, for ThreadSanitizer, under
 * which Criterion cannot run. Without the sanitizer it is an ordinary stress test.
 */
#include "base/count.h"
#include "dataplane/stage.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGES = 50000, PRODUCERS_MAX = 3 };

static void *produce(void *arg)
{
	struct og_stage *s = arg;
	uint8_t data[256];

	for (uint64_t i = 0; i < MESSAGES; i++) {
		struct og_msg m = {
			.arg = i, .data = data, .len_bytes = (uint32_t)(i % sizeof(data))};

		memset(data, (int)(i & 0xff), sizeof(data));
		while (og_stage_push(s, &m) < 0)
			sched_yield();
	}
	return NULL;
}

static int check(const struct og_msg *m)
{
	for (uint32_t i = 0; i < m->len_bytes; i++)
		if (m->data[i] != (uint8_t)m->arg)
			return -1;
	return 0;
}

static int consume(struct og_stage *s, struct og_doorbell *db, uint64_t total)
{
	uint64_t sum = 0, want = total / MESSAGES * (MESSAGES * (uint64_t)(MESSAGES - 1) / 2);

	for (uint64_t n = 0; n < total;) {
		struct og_msg m;

		if (og_stage_pop(s, &m) < 0) {
			og_doorbell_announce(db);
			if (og_stage_count(s) == 0)
				og_doorbell_wait(db, OG_NEVER);
			og_doorbell_awake(db);
			continue;
		}
		if (check(&m) < 0)
			return -1;
		sum += m.arg;
		og_stage_release(s, &m);
		n++;
	}
	return sum == want ? 0 : -1;
}

static int run(int nb_producers)
{
	pthread_t threads[PRODUCERS_MAX];
	struct og_doorbell db;
	struct og_stage_opts opts = {.depth = 128,
		.nb_buffers = 64,
		.buffer_bytes = 256,
		.many_producers = nb_producers > 1,
		.doorbell = &db};
	struct og_stage *s;
	int ret;

	if (og_doorbell_init(&db) < 0 || og_stage_create(&s, &opts) < 0)
		return -1;
	for (int i = 0; i < nb_producers; i++)
		if (pthread_create(&threads[i], NULL, produce, s) != 0)
			return -1;
	ret = consume(s, &db, (uint64_t)nb_producers * MESSAGES);
	for (int i = 0; i < nb_producers; i++)
		pthread_join(threads[i], NULL);
	printf("%d producer(s): %" PRIu64 " messages, %" PRIu64 " refusals: %s\n", nb_producers,
		og_stage_counters(s).popped, og_stage_counters(s).refused,
		ret == 0 ? "ok" : "WRONG");
	og_stage_destroy(s);
	og_doorbell_fini(&db);
	return ret;
}

int main(void)
{
	return run(1) < 0 || run(PRODUCERS_MAX) < 0;
}
