/*
 * load_direct.c: a load that calls a core itself, with neither port nor thread between: what the
 * protocol costs, which no other program on the machine can disturb but by its use of the caches.
 *
 * Jobs run when they are posted and come back with the next tick; events go nowhere.
 */
#include "bench/load_direct.h"

#include "bench/bench.h"
#include "bench/load_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BURST = 32, JOBS = 8, IDLE_TICKS = 100 };

struct load_direct {
	struct load load; /* first */
	struct og_core *core;
	struct og_tx tx;
	struct og_jobs jobs;
	struct og_sink events;
	uint32_t nb_jobs;
	struct og_job job[JOBS];
	uint32_t nb_sent; /* by the core, since last looked at */
	uint16_t sent_bytes[2 * BURST];
	uint8_t sent[2 * BURST][LOAD_REPLY_BYTES];
	uint8_t burst[BURST][LOAD_REPLY_BYTES];
};

static const struct og_addr client = {{192, 168, 7, 7}, 4000};

static struct load_direct *self(struct load *l)
{
	return OG_CONTAINER_OF(l, struct load_direct, load);
}

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	struct load_direct *d = OG_CONTAINER_OF(tx, struct load_direct, tx);

	*cap_bytes = LOAD_REPLY_BYTES;
	return d->nb_sent < OG_ARRAY_LEN(d->sent) ? d->sent[d->nb_sent] : NULL;
}

static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct load_direct *d = OG_CONTAINER_OF(tx, struct load_direct, tx);

	if (og_addr_eq(dst, &client)) /* what else it sends has nobody to go to */
		d->sent_bytes[d->nb_sent++] = len_bytes;
}

static struct og_job *job_begin(struct og_jobs *jobs)
{
	struct load_direct *d = OG_CONTAINER_OF(jobs, struct load_direct, jobs);

	return d->nb_jobs < JOBS ? &d->job[d->nb_jobs] : NULL;
}

static void job_post(struct og_jobs *jobs, struct og_job *job)
{
	OG_CONTAINER_OF(jobs, struct load_direct, jobs)->nb_jobs++;
	job->run(job);
}

static int event_push(struct og_sink *sink, const struct og_msg *msg)
{
	return 0;
}

static void tick(struct load_direct *d)
{
	uint64_t now_ns = bench_now_ns();

	while (d->nb_jobs > 0) {
		struct og_job job = d->job[--d->nb_jobs];

		d->core->ops->job_done(d->core, &job, now_ns);
	}
	d->core->ops->tick(d->core, now_ns);
}

/* The burst that starts with slot `from`, and its answers counted. */
static void burst(
	struct load_direct *d, const struct load_plan *plan, uint32_t from, struct load_result *r)
{
	uint16_t n = (uint16_t)OG_MIN(plan->window - from, (uint32_t)BURST);
	struct og_dgram dgrams[BURST];

	for (uint16_t i = 0; i < n; i++) {
		const struct load_slot *slot = &plan->slots[from + i];

		/* A core may write where a datagram lies, as a port's buffers are its own. */
		memcpy(d->burst[i], slot->data, slot->len_bytes);
		dgrams[i] = (struct og_dgram){d->burst[i], slot->len_bytes, 0, client};
	}
	d->core->ops->input(d->core, dgrams, n, bench_now_ns());
	for (uint32_t i = 0; i < d->nb_sent; i++)
		(void)load_answer(plan, d->sent[i], d->sent_bytes[i], r);
	d->nb_sent = 0;
	tick(d);
}

static int direct_run(
	struct load *l, const struct load_plan *plan, uint64_t ns, struct load_result *out)
{
	struct load_direct *d = self(l);
	uint64_t start = bench_thread_cpu_ns(), now = start;
	struct load_result r = {0};

	for (; now - start < ns; now = bench_thread_cpu_ns())
		for (uint32_t from = 0; from < plan->window; from += BURST)
			burst(d, plan, from, &r);
	r.ns = now - start;
	*out = r;
	return 0;
}

static int direct_ask(
	struct load *l, const uint8_t *request, uint16_t len_bytes, uint8_t *answer, int wait_ms)
{
	struct load_direct *d = self(l);
	struct og_dgram dgram = {d->burst[0], len_bytes, 0, client};

	tick(d);
	memcpy(d->burst[0], request, len_bytes);
	d->core->ops->input(d->core, &dgram, 1, bench_now_ns());
	for (int i = 0; i < IDLE_TICKS && d->nb_sent == 0; i++)
		tick(d);
	if (d->nb_sent == 0)
		return -EAGAIN;
	d->nb_sent = 0;
	memcpy(answer, d->sent[0], d->sent_bytes[0]);
	return d->sent_bytes[0];
}

static void direct_close(struct load *l)
{
	free(l);
}

static const struct load_ops direct_ops = {direct_run, direct_ask, direct_close};

int load_open_direct(struct load **out, struct og_core_env *env)
{
	struct load_direct *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->load.ops = &direct_ops;
	d->tx = (struct og_tx){reserve, commit};
	d->jobs = (struct og_jobs){job_begin, job_post};
	d->events.push = event_push;
	env->tx = &d->tx;
	env->jobs = &d->jobs;
	env->events = &d->events;
	*out = &d->load;
	return 0;
}

void load_direct_core(struct load *l, struct og_core *core)
{
	self(l)->core = core;
}
