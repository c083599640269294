#include "dataplane/worker.h"

#include "base/count.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>

struct seen {
	uint32_t done, shed;
	uint32_t order[256]; /* slots in order of completion */
	uint8_t last_body;
};

static sem_t gate; /* a job of kind 1 waits here */

static void run_double(struct og_job *job)
{
	job->body[0] *= 2;
	job->result = 0;
}

static void run_gated(struct og_job *job)
{
	sem_wait(&gate);
	job->result = 0;
}

static void on_done(void *arg, struct og_job *job)
{
	struct seen *seen = arg;

	if (job->result == -EAGAIN)
		seen->shed++;
	else
		seen->order[seen->done++] = job->slot;
	seen->last_body = job->body[0];
}

static struct og_workers *make(uint32_t nb_workers, uint32_t nb_jobs)
{
	const struct og_workers_opts opts = {.nb_workers = nb_workers, .nb_jobs = nb_jobs};
	struct og_workers *w = NULL;

	cr_assert_eq(og_workers_create(&w, &opts), 0);
	return w;
}

static bool post(struct og_workers *w, void (*run)(struct og_job *), uint32_t slot, uint16_t source)
{
	struct og_jobs *jobs = og_workers_jobs(w);
	struct og_job *job = jobs->begin(jobs);

	if (!job)
		return false;
	for (size_t i = 0; i < sizeof(job->body); i++)
		cr_assert_eq(job->body[i], 0, "a lent job is wiped");
	job->run = run;
	job->slot = slot;
	job->source_hash = source;
	memset(job->body, 21, sizeof(job->body));
	jobs->post(jobs, job);
	return true;
}

static void poll_until(struct og_workers *w, struct seen *seen, uint32_t total)
{
	const struct timespec ms = {.tv_nsec = 1000000};

	for (int i = 0; i < 10000 && seen->done + seen->shed < total; i++)
		if (og_workers_poll(w, on_done, seen) == 0)
			nanosleep(&ms, NULL);
	cr_assert_eq(seen->done + seen->shed, total);
}

Test(worker, runs_each_job_and_hands_it_back)
{
	struct og_workers *w = make(2, 64);
	struct seen seen = {0};

	for (uint32_t n = 0; n < 200; n++) {
		cr_assert(post(w, run_double, n, (uint16_t)n));
		poll_until(w, &seen, n + 1);
		cr_assert_eq(seen.last_body, 42);
	}
	cr_assert_eq(og_workers_counters(w)->posted, 200);
	cr_assert_eq(og_workers_counters(w)->done, 200);
	og_workers_destroy(w);
}

Test(worker, a_source_with_many_jobs_waits_behind_itself)
{
	struct og_workers *w = make(1, 256);
	struct seen seen = {0};
	uint32_t place = 0;

	sem_init(&gate, 0, 0);
	for (uint32_t n = 0; n < 30; n++)
		cr_assert(post(w, run_gated, n, 1));
	cr_assert(post(w, run_gated, 1000, 2));
	for (int n = 0; n < 31; n++)
		sem_post(&gate);
	poll_until(w, &seen, 31);
	while (seen.order[place] != 1000)
		place++;
	cr_assert_lt(place, 7, "the other source was served at %u", place);
	og_workers_destroy(w);
}

Test(worker, a_source_cannot_hold_more_than_its_share)
{
	struct og_workers *w = make(1, 64);
	struct seen seen = {0};

	sem_init(&gate, 0, 0);
	for (uint32_t n = 0; n < 20; n++)
		cr_assert(post(w, run_gated, n, 1));
	cr_assert(og_workers_ready(w));
	og_workers_poll(w, on_done, &seen);
	cr_assert_eq(seen.shed, 20 - 64 / OG_WORKER_SHARE);
	cr_assert(post(w, run_gated, 77, 2), "another source is served still");
	for (int n = 0; n < 9; n++)
		sem_post(&gate);
	poll_until(w, &seen, 21);
	cr_assert_eq(seen.done, 9);
	cr_assert_eq(og_workers_counters(w)->shed, 12);
	og_workers_destroy(w);
}

Test(worker, the_newest_of_a_source_is_served_first_and_the_oldest_gives_way)
{
	enum { SHARE = 64 / OG_WORKER_SHARE, DEALT = 4, POSTED = 20 };
	struct og_workers *w = make(1, 64);
	struct seen seen = {0};

	sem_init(&gate, 0, 0);
	for (uint32_t n = 0; n < POSTED; n++)
		cr_assert(post(w, run_gated, n, 1));
	for (int n = 0; n < SHARE; n++)
		sem_post(&gate);
	poll_until(w, &seen, POSTED);
	cr_assert_eq(seen.done, SHARE);
	for (uint32_t i = 0; i < SHARE; i++) /* what the worker has already, then from the end */
		cr_assert_eq(seen.order[i], i < DEALT ? i : POSTED - 1 - (i - DEALT), "%u", i);
	og_workers_destroy(w);
}

Test(worker, a_full_house_makes_room_for_the_next)
{
	struct og_workers *w = make(1, 16);
	struct seen seen = {0};

	sem_init(&gate, 0, 0);
	for (uint32_t n = 0; n < 16; n++)
		cr_assert(post(w, run_gated, n, (uint16_t)(n / 2)));
	cr_assert_not(post(w, run_gated, 16, 16));
	og_workers_poll(w, on_done, &seen);
	cr_assert_eq(seen.shed, 1);
	cr_assert(post(w, run_gated, 17, 17));
	for (int n = 0; n < 16; n++)
		sem_post(&gate);
	poll_until(w, &seen, 17);
	og_workers_destroy(w);
}

Test(worker, lends_nothing_when_all_slots_are_taken)
{
	struct og_workers *w = make(1, 16);
	struct seen seen = {0};

	sem_init(&gate, 0, 0);
	for (uint32_t n = 0; n < 16; n++)
		cr_assert(post(w, run_gated, n, (uint16_t)n));
	cr_assert_not(post(w, run_gated, 16, 16));
	cr_assert_eq(og_workers_counters(w)->no_slot, 1);
	for (int n = 0; n < 16; n++)
		sem_post(&gate);
	poll_until(w, &seen, 16);
	cr_assert(post(w, run_double, 0, 0));
	og_workers_destroy(w);
}

static void post_another(void *arg, struct og_job *job)
{
	struct og_workers *w = arg;

	if (job->slot < 50)
		cr_assert(post(w, run_double, job->slot + 1, job->source_hash));
}

Test(worker, a_finished_job_may_post_the_next)
{
	struct og_workers *w = make(2, 8);

	cr_assert(post(w, run_double, 0, 1));
	for (int i = 0; i < 1000000 && og_counter_read(&og_workers_counters(w)->done) < 51; i++)
		og_workers_poll(w, post_another, w);
	cr_assert_eq(og_workers_counters(w)->done, 51);
	og_workers_destroy(w);
}

Test(worker, wakes_a_core_that_sleeps)
{
	struct og_doorbell db;
	const struct og_workers_opts opts = {.nb_workers = 1, .nb_jobs = 8, .doorbell = &db};
	struct og_workers *w;
	struct seen seen = {0};

	cr_assert_eq(og_doorbell_init(&db), 0);
	cr_assert_eq(og_workers_create(&w, &opts), 0);
	for (uint32_t n = 0; n < 100; n++) {
		cr_assert(post(w, run_double, n, 1));
		while (seen.done <= n) {
			og_doorbell_announce(&db);
			if (!og_workers_ready(w))
				og_doorbell_wait(&db, OG_NEVER);
			og_doorbell_awake(&db);
			og_workers_poll(w, on_done, &seen);
		}
	}
	og_workers_destroy(w);
	og_doorbell_fini(&db);
}
