/*
 * suite_handshake.c: connections per second, one after the other, to a server whose address is
 * known; and what one crypto worker answers in handshakes, through the rings of a polling core.
 *
 * References: for the worker the bare cost of the curve operations of a responder, one key pair and
 * four scalar multiplications; for connections twice that, and with --peer js JavaScript to itself
 * and both mixed pairs.
 */
#include "bench/bench.h"
#include "bench/pairs.h"
#include "crypto/job.h"
#include "crypto/namespaces.h"
#include "dataplane/worker.h"

#include <sodium.h>
#include <string.h>
#include <time.h>

enum { CONNECTS = 200, CONNECTS_SMOKE = 20, UNDER_WAY = 24, JOBS = 256, DH_OPERATIONS = 4 };

/* ---- one crypto worker ---- */

enum job_kind { JOB_ACCEPT, JOB_REPLY };

struct handshakes {
	struct og_workers *workers;
	struct og_jobs *jobs;
	struct og_keypair server;
	struct og_job first; /* a client's message 1, made once */
	uint64_t done;
	uint16_t next_source;
	bool stop;
	uint32_t under_way;
};

static void post_accept(struct handshakes *h)
{
	const struct og_job_noise_connect *from = OG_JOB_BODY(&h->first, noise_connect);
	struct og_job *job = h->jobs->begin(h->jobs);
	struct og_job_noise_accept *to;

	OG_ASSERT(job);
	job->run = og_job_noise_accept;
	job->kind = JOB_ACCEPT;
	job->source_hash = h->next_source++;
	to = OG_JOB_BODY(job, noise_accept);
	to->local = h->server;
	memcpy(to->prologue, og_ns_peer_handshake, sizeof(to->prologue));
	randombytes_buf(to->ephemeral_seed, sizeof(to->ephemeral_seed));
	memcpy(to->message, from->message, from->message_bytes);
	to->message_bytes = from->message_bytes;
	h->jobs->post(h->jobs, job);
	h->under_way++;
}

static void post_reply(struct handshakes *h, const struct og_job *read)
{
	const struct og_job_noise_accept *from = OG_JOB_BODY(read, noise_accept);
	struct og_job *job = h->jobs->begin(h->jobs);
	struct og_job_noise_reply *to;

	OG_ASSERT(job);
	job->run = og_job_noise_reply;
	job->kind = JOB_REPLY;
	job->source_hash = read->source_hash;
	to = OG_JOB_BODY(job, noise_reply);
	to->state = from->state;
	to->payload_bytes = from->payload_bytes;
	memcpy(to->payload, from->payload, from->payload_bytes);
	h->jobs->post(h->jobs, job);
	h->under_way++;
}

static void on_job(void *arg, struct og_job *job)
{
	struct handshakes *h = arg;

	h->under_way--;
	OG_ASSERT(job->result == 0);
	if (job->kind == JOB_ACCEPT) {
		post_reply(h, job);
		return;
	}
	h->done++;
	if (!h->stop)
		post_accept(h);
}

static int make_client(struct handshakes *h)
{
	struct og_job_noise_connect *c = OG_JOB_BODY(&h->first, noise_connect);

	crypto_sign_keypair(c->local.public_key, c->local.secret_key);
	memcpy(c->remote_key, h->server.public_key, sizeof(c->remote_key));
	memcpy(c->prologue, og_ns_peer_handshake, sizeof(c->prologue));
	randombytes_buf(c->ephemeral_seed, sizeof(c->ephemeral_seed));
	c->payload_bytes = 100;
	og_job_noise_connect(&h->first);
	return h->first.result;
}

/* Handshakes per second of one worker. */
static double worker_rate(struct handshakes *h, uint64_t ns)
{
	const struct timespec pause = {.tv_nsec = 100 * OG_NS_PER_US};
	uint64_t start = bench_now_ns(), now = start;

	h->done = 0;
	h->stop = false;
	for (int i = 0; i < UNDER_WAY; i++)
		post_accept(h);
	while (now - start < ns) {
		if (og_workers_poll(h->workers, on_job, h) == 0)
			nanosleep(&pause, NULL);
		now = bench_now_ns();
	}
	h->stop = true;
	ns = now - start;
	start = h->done;
	while (h->under_way > 0)
		if (og_workers_poll(h->workers, on_job, h) == 0)
			nanosleep(&pause, NULL);
	return (double)start * 1e9 / (double)ns;
}

static double bare_rate(const struct bench *b, uint64_t ns)
{
	uint8_t seed[crypto_sign_SEEDBYTES], pk[32], sk[64], scalar[32], shared[32];
	uint64_t start, now, done = 0;

	bench_pin(b->server_cpu);
	randombytes_buf(seed, sizeof(seed));
	crypto_core_ed25519_scalar_random(scalar);
	start = now = bench_now_ns();
	for (; now - start < ns; now = bench_now_ns(), done++) {
		crypto_sign_seed_keypair(pk, sk, seed);
		for (int i = 0; i < DH_OPERATIONS; i++)
			OG_ASSERT(crypto_scalarmult_ed25519_noclamp(shared, scalar, pk) == 0);
		memcpy(seed, shared, sizeof(seed)); /* the work cannot be left out */
	}
	bench_pin(b->load_cpu);
	return (double)done * 1e9 / (double)(now - start);
}

static int run_worker(const struct bench *b, struct bench_samples *both_ends)
{
	const struct og_workers_opts opts = {.nb_workers = 1, .nb_jobs = JOBS};
	struct bench_samples ours = {0}, bare = {0};
	static struct handshakes h;
	int ret;

	crypto_sign_keypair(h.server.public_key, h.server.secret_key);
	ret = make_client(&h);
	if (ret < 0)
		return ret;
	bench_pin(b->server_cpu); /* for the worker, which inherits it */
	ret = og_workers_create(&h.workers, &opts);
	bench_pin(b->load_cpu);
	if (ret < 0)
		return ret;
	h.jobs = og_workers_jobs(h.workers);
	worker_rate(&h, b->run_ns / 10);
	for (uint32_t run = 0; run < b->runs; run++) {
		bench_add(&ours, worker_rate(&h, b->run_ns));
		bench_add(&bare, bare_rate(b, b->run_ns));
		bench_add(both_ends, bare.values[run] / 2);
	}
	og_workers_destroy(h.workers);
	bench_report(b, &(struct bench_result){"one crypto worker", "handshakes/s", BENCH_HIGHER,
				&ours, "bare curve operations", &bare});
	return 0;
}

/* ---- connections ---- */

static int run_pair(struct pair *p, uint32_t connects, struct bench_samples *per_s,
	struct bench_samples *p50_us, struct bench_samples *p99_us)
{
	struct pair_answer a;
	int ret;

	pair_resume(p);
	ret = pair_ask(p, &a, "connects %u %s %s", OG_MAX(connects / 10, 1u), p->server_key,
		p->server_addr);
	if (ret == 0)
		ret = pair_ask(p, &a, "connects %u %s %s", connects, p->server_key, p->server_addr);
	pair_pause(p);
	if (ret < 0)
		return ret;
	bench_add(per_s, (double)connects * 1e9 / a.ns);
	bench_add(p50_us, a.p50_ns / 1e3);
	bench_add(p99_us, a.p99_ns / 1e3);
	return 0;
}

static int run_connects(const struct bench *b, const struct bench_samples *both_ends)
{
	static const char bound[] = "curve operations, both ends";
	struct bench_samples per_s[PAIRS_MAX] = {0}, p50_us[PAIRS_MAX] = {0},
			     p99_us[PAIRS_MAX] = {0};
	uint32_t connects = b->smoke ? CONNECTS_SMOKE : CONNECTS;
	static struct pairs pairs;
	struct bench_samples both_ends_us = {0};
	int ret = pairs_start(b, &pairs, false);

	for (uint32_t i = 0; i < both_ends->n; i++)
		bench_add(&both_ends_us, 1e6 / both_ends->values[i]);
	for (uint32_t run = 0; ret == 0 && run < b->runs; run++)
		for (uint32_t i = 0; ret == 0 && i < pairs.nb; i++)
			ret = run_pair(&pairs.list[i], connects, &per_s[i], &p50_us[i], &p99_us[i]);
	if (ret == 0) {
		pairs_report(
			b, &pairs, "connects", "connects/s", BENCH_HIGHER, per_s, bound, both_ends);
		pairs_report(
			b, &pairs, "connect p50", "us", BENCH_LOWER, p50_us, bound, &both_ends_us);
		pairs_report(
			b, &pairs, "connect p99", "us", BENCH_LOWER, p99_us, bound, &both_ends_us);
	}
	pairs_stop(&pairs);
	return ret;
}

int suite_handshake(const struct bench *b)
{
	struct bench_samples both_ends = {0};
	int ret = run_worker(b, &both_ends);

	if (ret == 0)
		ret = run_connects(b, &both_ends);
	return ret == 0 ? BENCH_DONE : BENCH_FAILED;
}
