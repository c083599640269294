/*
 * suite_stream.c: what one encrypted stream carries from an application to another, each end on a
 * core of its own, for writes of several sizes.
 *
 * Over a path with loss: suite_path.c.
 *
 * References: libsodium's secretstream alone, push and pull of frames as large as ours, the slower
 * of the two, since each end does one of them; with --peer js JavaScript to itself and to ours.
 */
#include "bench/bench.h"
#include "bench/many_streams.h"
#include "bench/pairs.h"
#include "bench/suite_path.h"
#include "cluster/core.h"

#include <sodium.h>
#include <string.h>

enum { FIRST_BYTES = 2 << 20, LEAST_BYTES = 1 << 20, MOST_BYTES = 512 << 20 };

static const struct {
	const char *name;
	uint32_t write_bytes;
} cases[] = {
	{"one stream 1200 B", 1200},
	{"one stream 16 KiB", 16 << 10},
	{"one stream 64 KiB", 64 << 10},
	{"one stream 1 MiB", 1 << 20},
};

/* ---- the reference ---- */

static const char reference[] = "libsodium secretstream";

struct secretstream {
	crypto_secretstream_xchacha20poly1305_state tx, rx;
	uint8_t plain[OG_WRITE_MAX_BYTES];
	uint8_t sealed[OG_WRITE_MAX_BYTES + crypto_secretstream_xchacha20poly1305_ABYTES];
	uint8_t opened[OG_WRITE_MAX_BYTES];
};

static void push(struct secretstream *s, uint32_t n)
{
	crypto_secretstream_xchacha20poly1305_push(
		&s->tx, s->sealed, NULL, s->plain, n, NULL, 0, 0);
}

/* The same frame again and again: a copy of the state that opens it. */
static bool pull(struct secretstream *s, uint32_t n)
{
	crypto_secretstream_xchacha20poly1305_state state = s->rx;
	uint8_t tag;

	return crypto_secretstream_xchacha20poly1305_pull(&state, s->opened, NULL, &tag, s->sealed,
		       n + crypto_secretstream_xchacha20poly1305_ABYTES, NULL, 0) == 0;
}

/* MB/s by the clock and by the processor of one direction. */
struct rates {
	double mb_s, mb_cpu_s;
};

static struct rates one_way(struct secretstream *s, bool pushing, uint32_t frame_bytes, uint64_t ns)
{
	uint64_t start = bench_now_ns(), cpu = bench_thread_cpu_ns(), now = start, frames = 0;

	for (; now - start < ns; now = bench_now_ns(), frames++) {
		if (pushing)
			push(s, frame_bytes);
		else
			OG_ASSERT(pull(s, frame_bytes));
	}
	cpu = bench_thread_cpu_ns() - cpu;
	return (struct rates){(double)(frames * frame_bytes) * 1e3 / (double)(now - start),
		(double)(frames * frame_bytes) * 1e3 / (double)OG_MAX(cpu, 1ull)};
}

/* The slower of push and pull; and both, per second of processor. */
static void secretstream_rate(uint32_t frame_bytes, uint64_t ns, struct bench_samples *mb_s,
	struct bench_samples *mb_cpu_s)
{
	static struct secretstream s;
	uint8_t header[crypto_secretstream_xchacha20poly1305_HEADERBYTES];
	uint8_t key[crypto_secretstream_xchacha20poly1305_KEYBYTES];
	struct rates pulled, pushed;

	crypto_secretstream_xchacha20poly1305_keygen(key);
	crypto_secretstream_xchacha20poly1305_init_push(&s.tx, header, key);
	crypto_secretstream_xchacha20poly1305_init_pull(&s.rx, header, key);
	push(&s, frame_bytes);
	pulled = one_way(&s, false, frame_bytes, ns / 2); /* the first frame, again and again */
	pushed = one_way(&s, true, frame_bytes, ns / 2);
	bench_add(mb_s, OG_MIN(pulled.mb_s, pushed.mb_s));
	bench_add(mb_cpu_s, 1 / (1 / pulled.mb_cpu_s + 1 / pushed.mb_cpu_s));
}

/* ---- ours and theirs ---- */

static uint64_t cpu_ns(const struct pair *p)
{
	return bench_child_cpu_ns(&p->client) + bench_child_cpu_ns(&p->server);
}

struct figures {
	uint64_t bytes; /* of a run, so that it lasts about b->run_ns */
	struct bench_samples mb_s, mb_cpu_s;
};

static int run_pair(const struct bench *b, struct pair *p, uint32_t write_bytes, struct figures *f)
{
	struct pair_answer a;
	uint64_t cpu;
	int ret;

	pair_resume(p);
	ret = pair_ask(p, &a, "send %u %lu", write_bytes,
		(unsigned long)OG_MAX(f->bytes / 10, (uint64_t)FIRST_BYTES));
	if (ret == 0 && f->bytes == 0) {
		double bytes = (double)FIRST_BYTES / OG_MAX(a.ns, 1.0) * (double)b->run_ns;

		f->bytes = (uint64_t)OG_MAX(bytes, (double)LEAST_BYTES);
		f->bytes = OG_MIN(f->bytes, (uint64_t)MOST_BYTES);
	}
	cpu = cpu_ns(p);
	if (ret == 0)
		ret = pair_ask(p, &a, "send %u %lu", write_bytes, (unsigned long)f->bytes);
	cpu = cpu_ns(p) - cpu;
	pair_pause(p);
	if (ret < 0)
		return ret;
	bench_add(&f->mb_s, (double)f->bytes * 1e3 / a.ns);
	bench_add(&f->mb_cpu_s, (double)f->bytes * 1e3 / (double)OG_MAX(cpu, 1ull));
	return 0;
}

static int run_case(
	const struct bench *b, struct pairs *pairs, const char *name, uint32_t write_bytes)
{
	struct bench_samples samples[PAIRS_MAX], per_cpu[PAIRS_MAX], raw = {0}, raw_cpu = {0};
	uint32_t frame_bytes = OG_MIN(write_bytes, (uint32_t)OG_WRITE_MAX_BYTES);
	struct figures f[PAIRS_MAX] = {0};
	char name_cpu[64];

	for (uint32_t run = 0; run < b->runs; run++) {
		secretstream_rate(frame_bytes, b->run_ns / 4, &raw, &raw_cpu);
		for (uint32_t i = 0; i < pairs->nb; i++) {
			int ret = run_pair(b, &pairs->list[i], write_bytes, &f[i]);

			if (ret < 0)
				return ret;
		}
	}
	for (uint32_t i = 0; i < pairs->nb; i++) {
		samples[i] = f[i].mb_s;
		per_cpu[i] = f[i].mb_cpu_s;
	}
	pairs_report(b, pairs, name, "MB/s", BENCH_HIGHER, samples, reference, &raw);
	snprintf(name_cpu, sizeof(name_cpu), "%s per CPU-second", name);
	pairs_report(b, pairs, name_cpu, "MB/CPU-s", BENCH_HIGHER, per_cpu, reference, &raw_cpu);
	return 0;
}

int suite_stream(const struct bench *b)
{
	static struct pairs pairs;
	int ret;

	if (b->port == BENCH_PATH)
		return suite_path(b);
	ret = pairs_start(b, &pairs, true);

	for (size_t i = 0; ret == 0 && i < OG_ARRAY_LEN(cases); i++)
		if (bench_wanted(b, cases[i].name))
			ret = run_case(b, &pairs, cases[i].name, cases[i].write_bytes);
	pairs_stop(&pairs);
	if (ret == 0)
		ret = many_streams(b);
	return ret == 0 ? BENCH_DONE : BENCH_FAILED;
}
