#include "dataplane/worker.h"

#include "base/count.h"
#include "dataplane/ring.h"
#include "dataplane/thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Jobs dealt to one worker: one it runs, and some so that it need not wait for the core. */
enum { DEALT_MAX = 4, ALIGN = 64 };
enum { NICE = 10 };
enum { NONE = UINT32_MAX };
static_assert(OG_WORKER_SOURCES == 64, "sources with waiting jobs are the bits of one word");

struct worker {
	/* Set at creation. */
	pthread_t thread;
	struct og_job *jobs;
	struct og_doorbell *core; /* rung when a job is done; may be NULL */
	struct rte_ring *todo;    /* of uint32_t: slots, core to worker */
	struct rte_ring *done;    /* of uint32_t: slots, worker to core */
	bool stop;                /* atomic; written by the thread that destroys */
	/* Written by the core. */
	alignas(ALIGN) uint32_t dealt;
	/* This worker sleeps on it. */
	alignas(ALIGN) struct og_doorbell doorbell;
};

/* A list of slots, the oldest at its head, chained through next[] and prev[]. */
struct queue {
	uint32_t head;
	uint32_t tail;
};

struct og_workers {
	struct og_jobs face;
	struct og_job *jobs;
	uint32_t *next, *prev;
	uint32_t nb_jobs;
	uint32_t nb_workers;
	uint32_t share;       /* slots one source may hold */
	struct queue idle;    /* slots nobody uses */
	struct queue refused; /* to be handed back without being run */
	struct queue waiting[OG_WORKER_SOURCES];
	uint32_t held[OG_WORKER_SOURCES]; /* slots of this source that wait or run */
	uint64_t nonempty;                /* bit s: waiting[s] has jobs */
	uint32_t turn;                    /* source that is served next */
	struct og_workers_counters counters;
	struct worker workers[];
};

static void queue_push(struct og_workers *w, struct queue *q, uint32_t slot)
{
	w->next[slot] = NONE;
	w->prev[slot] = q->tail;
	if (q->head == NONE)
		q->head = slot;
	else
		w->next[q->tail] = slot;
	q->tail = slot;
}

static uint32_t pop_oldest(struct og_workers *w, struct queue *q)
{
	uint32_t slot = q->head;

	if (slot == NONE)
		return NONE;
	q->head = w->next[slot];
	if (q->head == NONE)
		q->tail = NONE;
	else
		w->prev[q->head] = NONE;
	return slot;
}

static uint32_t pop_newest(struct og_workers *w, struct queue *q)
{
	uint32_t slot = q->tail;

	if (slot == NONE)
		return NONE;
	q->tail = w->prev[slot];
	if (q->tail == NONE)
		q->head = NONE;
	else
		w->next[q->tail] = NONE;
	return slot;
}

static uint32_t source_of(const struct og_job *job)
{
	return job->source_hash % OG_WORKER_SOURCES;
}

static uint32_t take_waiting(struct og_workers *w, uint32_t source, bool newest)
{
	struct queue *q = &w->waiting[source];
	uint32_t slot = newest ? pop_newest(w, q) : pop_oldest(w, q);

	if (q->head == NONE)
		w->nonempty &= ~(1ull << source);
	og_count_add(&w->counters.waiting, (uint64_t)-1);
	return slot;
}

/* Hand a job back without running it. It holds its slot until then, but not its source's share. */
static void refuse(struct og_workers *w, uint32_t slot)
{
	w->jobs[slot].result = -EAGAIN;
	queue_push(w, &w->refused, slot);
}

/*
 * The next waiting job: one of each source in turn, and of a source the newest. Who has waited long
 * has given up, or asks again: to serve the oldest first would be to serve everybody too late.
 */
static uint32_t next_waiting(struct og_workers *w)
{
	uint64_t from_turn = w->nonempty & (UINT64_MAX << w->turn);
	uint32_t source;

	if (w->nonempty == 0)
		return NONE;
	source = (uint32_t)__builtin_ctzll(from_turn != 0 ? from_turn : w->nonempty);
	w->turn = (source + 1) % OG_WORKER_SOURCES;
	return take_waiting(w, source, true);
}

static struct worker *least_busy(struct og_workers *w)
{
	struct worker *best = &w->workers[0];

	for (uint32_t i = 1; i < w->nb_workers; i++)
		if (w->workers[i].dealt < best->dealt)
			best = &w->workers[i];
	return best->dealt < DEALT_MAX ? best : NULL;
}

static void deal(struct og_workers *w)
{
	struct worker *to;

	while (w->nonempty != 0 && (to = least_busy(w))) {
		uint32_t slot = next_waiting(w);

		to->dealt++;
		rte_ring_sp_enqueue_elem(to->todo, &slot, sizeof(slot));
		og_doorbell_ring(&to->doorbell);
	}
}

/* All slots are taken: the oldest job that waits of the source with most gives way. */
static void make_room(struct og_workers *w)
{
	uint32_t most = NONE;

	for (uint32_t s = 0; s < OG_WORKER_SOURCES; s++)
		if (w->waiting[s].head != NONE && (most == NONE || w->held[s] > w->held[most]))
			most = s;
	if (most == NONE)
		return;
	w->held[most]--;
	refuse(w, take_waiting(w, most, false));
}

static struct og_job *begin(struct og_jobs *jobs)
{
	struct og_workers *w = OG_CONTAINER_OF(jobs, struct og_workers, face);

	if (w->idle.head == NONE) {
		og_count(&w->counters.no_slot);
		/* For whoever comes next: a job is handed back only by og_workers_poll(). */
		if (w->refused.head == NONE)
			make_room(w);
		return NULL;
	}
	return &w->jobs[w->idle.head];
}

static void post(struct og_jobs *jobs, struct og_job *job)
{
	struct og_workers *w = OG_CONTAINER_OF(jobs, struct og_workers, face);
	uint32_t source = source_of(job);
	uint32_t slot = pop_oldest(w, &w->idle);

	OG_DASSERT(job == &w->jobs[slot] && job->run);
	og_count(&w->counters.posted);
	if (w->held[source] >= w->share) {
		if (w->waiting[source].head == NONE) {
			refuse(w, slot);
			return;
		}
		w->held[source]--;
		refuse(w, take_waiting(w, source, false));
	}
	w->held[source]++;
	queue_push(w, &w->waiting[source], slot);
	w->nonempty |= 1ull << source;
	og_count(&w->counters.waiting);
	deal(w);
}

static void hand_back(
	struct og_workers *w, uint32_t slot, void (*done)(void *arg, struct og_job *job), void *arg)
{
	struct og_job *job = &w->jobs[slot];

	done(arg, job);
	explicit_bzero(job, sizeof(*job));
	queue_push(w, &w->idle, slot);
}

static uint32_t collect(struct og_workers *w, struct worker *from,
	void (*done)(void *arg, struct og_job *job), void *arg)
{
	uint32_t slots[DEALT_MAX];
	uint32_t n = rte_ring_sc_dequeue_burst_elem(
		from->done, slots, sizeof(slots[0]), DEALT_MAX, NULL);

	from->dealt -= n;
	for (uint32_t i = 0; i < n; i++) {
		w->held[source_of(&w->jobs[slots[i]])]--;
		hand_back(w, slots[i], done, arg);
	}
	og_count_add(&w->counters.done, n);
	return n;
}

uint32_t og_workers_poll(
	struct og_workers *w, void (*done)(void *arg, struct og_job *job), void *arg)
{
	struct queue refused = w->refused;
	uint32_t n = 0, slot;

	for (uint32_t i = 0; i < w->nb_workers; i++)
		n += collect(w, &w->workers[i], done, arg);
	/* What done() posts and loses is handed back next time. */
	w->refused.head = w->refused.tail = NONE;
	while ((slot = pop_oldest(w, &refused)) != NONE) {
		hand_back(w, slot, done, arg);
		og_count(&w->counters.shed);
		n++;
	}
	deal(w);
	return n;
}

bool og_workers_ready(const struct og_workers *w)
{
	if (w->refused.head != NONE)
		return true;
	for (uint32_t i = 0; i < w->nb_workers; i++)
		if (og_ring_count(w->workers[i].done) > 0)
			return true;
	return false;
}

struct og_jobs *og_workers_jobs(struct og_workers *w)
{
	return &w->face;
}

const struct og_workers_counters *og_workers_counters(const struct og_workers *w)
{
	return &w->counters;
}

static bool stopping(const struct worker *worker)
{
	return __atomic_load_n(&worker->stop, __ATOMIC_RELAXED);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	uint32_t slot;

	/* On a processor that both use, who polls comes first: a job can wait, datagrams are lost. */
	(void)!nice(NICE);
	while (!stopping(worker)) {
		if (rte_ring_sc_dequeue_elem(worker->todo, &slot, sizeof(slot)) == 0) {
			worker->jobs[slot].run(&worker->jobs[slot]);
			rte_ring_sp_enqueue_elem(worker->done, &slot, sizeof(slot));
			if (worker->core)
				og_doorbell_ring(worker->core);
			continue;
		}
		og_doorbell_announce(&worker->doorbell);
		if (og_ring_count(worker->todo) == 0 && !stopping(worker))
			og_doorbell_wait(&worker->doorbell, OG_NEVER);
		og_doorbell_awake(&worker->doorbell);
	}
	return NULL;
}

static int start_worker(struct og_workers *w, const struct og_workers_opts *opts)
{
	struct worker *worker = &w->workers[w->nb_workers];
	char name[16];
	int ret;

	*worker = (struct worker){.jobs = w->jobs, .core = opts->doorbell};
	ret = og_doorbell_init(&worker->doorbell);
	if (ret < 0)
		return ret;
	ret = og_ring_create(&worker->todo, sizeof(uint32_t), DEALT_MAX);
	if (ret < 0)
		goto fini_doorbell;
	ret = og_ring_create(&worker->done, sizeof(uint32_t), DEALT_MAX);
	if (ret < 0)
		goto free_todo;
	snprintf(name, sizeof(name), "og-crypto-%u", w->nb_workers);
	ret = og_thread_start(&worker->thread, name, -1, worker_main, worker);
	if (ret < 0)
		goto free_done;
	w->nb_workers++;
	return 0;

free_done:
	free(worker->done);
free_todo:
	free(worker->todo);
fini_doorbell:
	og_doorbell_fini(&worker->doorbell);
	return ret;
}

static void stop_worker(struct worker *worker)
{
	__atomic_store_n(&worker->stop, true, __ATOMIC_RELAXED);
	og_doorbell_ring(&worker->doorbell); /* its barrier orders the store too */
	pthread_join(worker->thread, NULL);
	free(worker->done);
	free(worker->todo);
	og_doorbell_fini(&worker->doorbell);
}

static int create_jobs(struct og_workers *w, uint32_t nb_jobs)
{
	size_t bytes = nb_jobs * sizeof(struct og_job);

	w->next = calloc(2 * nb_jobs, sizeof(*w->next));
	if (!w->next)
		return -ENOMEM;
	w->prev = w->next + nb_jobs;
	w->jobs = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w->jobs == MAP_FAILED) {
		free(w->next);
		return -ENOMEM;
	}
	(void)mlock(w->jobs, bytes); /* keys pass through here; a low limit is no reason to stop */
	(void)madvise(w->jobs, bytes, MADV_DONTDUMP);
	w->nb_jobs = nb_jobs;
	w->share = nb_jobs / OG_WORKER_SHARE;
	w->idle = w->refused = (struct queue){NONE, NONE};
	for (uint32_t s = 0; s < OG_WORKER_SOURCES; s++)
		w->waiting[s] = (struct queue){NONE, NONE};
	for (uint32_t slot = 0; slot < nb_jobs; slot++)
		queue_push(w, &w->idle, slot);
	return 0;
}

int og_workers_create(struct og_workers **out, const struct og_workers_opts *opts)
{
	size_t bytes = sizeof(struct og_workers) + opts->nb_workers * sizeof(struct worker);
	struct og_workers *w;
	int ret;

	if (opts->nb_workers == 0 || opts->nb_workers > OG_WORKERS_MAX ||
		opts->nb_jobs < OG_WORKER_SHARE || opts->nb_jobs >= NONE)
		return -EINVAL;
	w = aligned_alloc(ALIGN, (bytes + ALIGN - 1) / ALIGN * ALIGN);
	if (!w)
		return -ENOMEM;
	memset(w, 0, bytes);
	w->face = (struct og_jobs){.begin = begin, .post = post};
	ret = create_jobs(w, opts->nb_jobs);
	if (ret < 0) {
		free(w);
		return ret;
	}
	while (w->nb_workers < opts->nb_workers) {
		ret = start_worker(w, opts);
		if (ret < 0) {
			og_workers_destroy(w);
			return ret;
		}
	}
	*out = w;
	return 0;
}

void og_workers_destroy(struct og_workers *w)
{
	if (!w)
		return;
	for (uint32_t i = 0; i < w->nb_workers; i++)
		stop_worker(&w->workers[i]);
	explicit_bzero(w->jobs, w->nb_jobs * sizeof(struct og_job));
	munmap(w->jobs, w->nb_jobs * sizeof(struct og_job));
	free(w->next);
	free(w);
}
