#include "dataplane/stage.h"

#include "base/count.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

static struct og_stage *make(uint32_t depth, uint32_t nb_buffers, bool many, struct og_doorbell *db)
{
	const struct og_stage_opts opts = {.depth = depth,
		.nb_buffers = nb_buffers,
		.buffer_bytes = 100,
		.many_producers = many,
		.doorbell = db};
	struct og_stage *s = NULL;

	cr_assert_eq(og_stage_create(&s, &opts), 0);
	return s;
}

Test(stage, messages_come_out_in_order_with_a_copy_of_their_data)
{
	struct og_stage *s = make(4, 4, false, NULL);
	uint8_t data[3] = "ab";
	struct og_msg in = {.type = 7, .slot = 1, .gen = 2, .len_bytes = 3, .data = data, .arg = 9};
	struct og_msg none = {.type = 8};
	struct og_msg out;

	cr_assert_eq(og_stage_push(s, &in), 0);
	memset(data, 0, sizeof(data));
	cr_assert_eq(og_stage_sink(s)->push(og_stage_sink(s), &none), 0);
	cr_assert_eq(og_stage_count(s), 2);

	cr_assert_eq(og_stage_pop(s, &out), 0);
	cr_assert_eq(out.type, 7);
	cr_assert_eq(out.arg, 9);
	cr_assert_str_eq((const char *)out.data, "ab");
	og_stage_release(s, &out);
	cr_assert_eq(og_stage_pop(s, &out), 0);
	cr_assert_eq(out.type, 8);
	cr_assert_null(out.data);
	og_stage_release(s, &out);
	cr_assert_eq(og_stage_pop(s, &out), -EAGAIN);
	og_stage_destroy(s);
}

Test(stage, a_full_ring_or_no_buffer_is_a_counted_refusal)
{
	struct {
		uint32_t depth, nb_buffers, fits;
		bool many;
	} cases[] = {{3, 8, 3, false}, {8, 3, 3, false}, {3, 8, 3, true}, {8, 3, 3, true}};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		struct og_stage *s = make(cases[i].depth, cases[i].nb_buffers, cases[i].many, NULL);
		struct og_msg in = {.len_bytes = 1, .data = (const uint8_t *)"x"}, out;

		for (int round = 0; round < 100; round++) {
			for (uint32_t n = 0; n < cases[i].fits; n++)
				cr_assert_eq(og_stage_push(s, &in), 0);
			cr_assert_eq(og_stage_push(s, &in), -EAGAIN);
			for (uint32_t n = 0; n < cases[i].fits; n++) {
				cr_assert_eq(og_stage_pop(s, &out), 0);
				og_stage_release(s, &out);
			}
		}
		cr_assert_eq(og_stage_counters(s).refused, 100);
		cr_assert_eq(og_stage_counters(s).pushed, 100 * cases[i].fits);
		cr_assert_eq(og_stage_counters(s).popped, 100 * cases[i].fits);
		og_stage_destroy(s);
	}
}

Test(stage, data_longer_than_a_buffer_is_refused)
{
	struct og_stage *s = make(4, 4, false, NULL);
	uint8_t data[101] = {0};
	struct og_msg in = {.len_bytes = 101, .data = data};

	cr_assert_eq(og_stage_push(s, &in), -EMSGSIZE);
	in.len_bytes = 100;
	cr_assert_eq(og_stage_push(s, &in), 0);
	og_stage_destroy(s);
}

Test(stage, buffers_may_be_released_out_of_order)
{
	struct og_stage *s = make(4, 2, false, NULL);
	struct og_msg in = {.len_bytes = 1, .data = (const uint8_t *)"1"}, a, b;

	cr_assert_eq(og_stage_push(s, &in), 0);
	in.data = (const uint8_t *)"2";
	cr_assert_eq(og_stage_push(s, &in), 0);
	cr_assert_eq(og_stage_pop(s, &a) | og_stage_pop(s, &b), 0);
	og_stage_release(s, &b);
	in.data = (const uint8_t *)"3";
	cr_assert_eq(og_stage_push(s, &in), 0);
	cr_assert_eq(a.data[0], '1', "what is still lent is not overwritten");
	og_stage_release(s, &a);
	og_stage_destroy(s);
}

static bool rang(const struct og_doorbell *db)
{
	struct pollfd pfd = {.fd = db->fd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

Test(stage, rings_only_a_consumer_that_sleeps_and_only_once)
{
	struct og_doorbell db;
	struct og_msg in = {.type = 1};
	struct og_stage *s;

	cr_assert_eq(og_doorbell_init(&db), 0);
	s = make(8, 0, false, &db);
	cr_assert_eq(og_stage_push(s, &in), 0);
	cr_assert_not(rang(&db), "it did not say that it sleeps");
	og_doorbell_announce(&db);
	cr_assert_eq(og_stage_push(s, &in), 0);
	cr_assert(rang(&db));
	og_doorbell_awake(&db);
	cr_assert_not(rang(&db));
	og_doorbell_announce(&db);
	og_doorbell_wait(&db, OG_NS_PER_MS);
	og_doorbell_awake(&db);
	cr_assert_eq(og_stage_push(s, &in), 0);
	cr_assert_not(rang(&db));
	og_stage_destroy(s);
	og_doorbell_fini(&db);
}

enum { MANY = 20000, PRODUCERS = 3 };

static void *produce(void *arg)
{
	struct og_stage *s = arg;

	for (uint64_t i = 0; i < MANY; i++) {
		struct og_msg in = {.arg = i, .len_bytes = sizeof(i), .data = (const uint8_t *)&i};

		while (og_stage_push(s, &in) < 0)
			sched_yield();
	}
	return NULL;
}

Test(stage, several_producers_and_a_sleeping_consumer_lose_nothing)
{
	pthread_t threads[PRODUCERS];
	struct og_doorbell db;
	struct og_stage *s;
	uint64_t sum = 0;

	cr_assert_eq(og_doorbell_init(&db), 0);
	s = make(64, 16, true, &db);
	for (int i = 0; i < PRODUCERS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, produce, s), 0);
	for (uint64_t n = 0; n < (uint64_t)MANY * PRODUCERS;) {
		struct og_msg out;
		uint64_t carried;

		if (og_stage_pop(s, &out) < 0) {
			og_doorbell_announce(&db);
			if (og_stage_count(s) == 0)
				og_doorbell_wait(&db, 10 * OG_NS_PER_S);
			og_doorbell_awake(&db);
			continue;
		}
		memcpy(&carried, out.data, sizeof(carried));
		cr_assert_eq(carried, out.arg);
		sum += carried;
		og_stage_release(s, &out);
		n++;
	}
	for (int i = 0; i < PRODUCERS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(sum, (uint64_t)PRODUCERS * MANY * (MANY - 1) / 2);
	og_stage_destroy(s);
	og_doorbell_fini(&db);
}
