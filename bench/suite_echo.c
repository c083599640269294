/*
 * suite_echo.c: 64 bytes there and back on an open encrypted stream, one after the other: the
 * median and the 99th percentile of a round trip.
 *
 * References: a plain datagram through the bare recvmmsg echo, which is what the kernel and the
 * scheduler take; with --peer js JavaScript to itself and both mixed pairs. Where both ends poll, also
 * what the machine makes of two threads that only spin for as long (bounce.h): a machine that pauses
 * each of them a thousand times a second leaves no better 99th percentile to anybody.
 */
#include "bench/bench.h"
#include "bench/bounce.h"
#include "bench/load.h"
#include "bench/pairs.h"

#include <stdlib.h>

enum { MESSAGE_BYTES = 64, MESSAGES = 10000, MESSAGES_SMOKE = 200 };

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int run_pair(struct pair *p, uint32_t messages, struct bench_samples *p50_us,
	struct bench_samples *p99_us)
{
	struct pair_answer a;
	int ret;

	pair_resume(p);
	ret = pair_ask(p, &a, "echo %d %u", MESSAGE_BYTES, messages / 10); /* warm */
	if (ret == 0)
		ret = pair_ask(p, &a, "echo %d %u", MESSAGE_BYTES, messages);
	pair_pause(p);
	if (ret < 0)
		return ret;
	bench_add(p50_us, a.p50_ns / 1e3);
	bench_add(p99_us, a.p99_ns / 1e3);
	return 0;
}

static uint32_t ns[MESSAGES];

/* How far the tail of a bare round trip of `p50_us` is from its middle. */
static int run_bounce(
	const struct bench *b, double p50_us, uint32_t messages, struct bench_samples *tail)
{
	int ret = bounce(b->server_cpu, (uint64_t)(p50_us * 1e3), ns, messages);

	if (ret < 0)
		return ret;
	qsort(ns, messages, sizeof(ns[0]), ascending);
	bench_add(tail, (double)ns[messages * 99 / 100] / ns[messages / 2]);
	return 0;
}

/* The same for a plain datagram of as many bytes. */
static int run_datagram(struct load *l, uint32_t datagrams, struct bench_samples *p50_us,
	struct bench_samples *p99_us)
{
	uint8_t message[MESSAGE_BYTES] = {0}, answer[LOAD_REPLY_BYTES];

	for (uint32_t i = 0; i < datagrams; i++) {
		uint64_t start = bench_now_ns();
		int ret = load_ask(l, message, sizeof(message), answer);

		if (ret < 0)
			return ret;
		ns[i] = (uint32_t)(bench_now_ns() - start);
	}
	qsort(ns, datagrams, sizeof(ns[0]), ascending);
	bench_add(p50_us, ns[datagrams / 2] / 1e3);
	bench_add(p99_us, ns[datagrams * 99 / 100] / 1e3);
	return 0;
}

static int start_datagram(const struct bench *b, struct bench_child *c, struct load **l)
{
	const char *const argv[] = {NULL, "--serve", "echo-recvmmsg", NULL};
	char text[OG_ADDR_TEXT_BYTES];
	struct og_addr at;
	int ret = bench_child_start(c, argv, b->server_cpu);

	if (ret == 0 && (sscanf(c->ready, "%21s", text) != 1 || og_addr_parse(&at, text) < 0))
		ret = -1;
	return ret < 0 ? ret : load_open_socket(l, &at);
}

int suite_echo(const struct bench *b)
{
	struct bench_samples p50_us[PAIRS_MAX] = {0}, p99_us[PAIRS_MAX] = {0}, plain_p50_us = {0},
			     plain_p99_us = {0}, tail = {0}, bare_tail = {0};
	uint32_t messages = b->smoke ? MESSAGES_SMOKE : MESSAGES;
	struct bench_child plain = {0};
	static struct pairs pairs;
	struct load *l = NULL;
	int ret = pairs_start(b, &pairs, true);

	if (ret == 0)
		ret = start_datagram(b, &plain, &l);
	for (uint32_t run = 0; ret == 0 && run < b->runs; run++) {
		ret = run_datagram(l, messages, &plain_p50_us, &plain_p99_us);
		for (uint32_t i = 0; ret == 0 && i < pairs.nb; i++)
			ret = run_pair(&pairs.list[i], messages, &p50_us[i], &p99_us[i]);
		if (ret == 0 && pairs.list[0].polls) {
			bench_add(&tail, p99_us[0].values[run] / p50_us[0].values[run]);
			ret = run_bounce(b, p50_us[0].values[run], messages, &bare_tail);
		}
	}
	if (ret == 0) {
		pairs_report(b, &pairs, "64 B p50", "us", BENCH_LOWER, p50_us, "plain datagram",
			&plain_p50_us);
		pairs_report(b, &pairs, "64 B p99", "us", BENCH_LOWER, p99_us, "plain datagram",
			&plain_p99_us);
	}
	if (ret == 0 && tail.n > 0)
		bench_report(b, &(struct bench_result){"64 B p99 over p50", "x", BENCH_LOWER, &tail,
					"two threads that spin", &bare_tail});
	load_close(l);
	bench_child_stop(&plain);
	pairs_stop(&pairs);
	return ret == 0 ? BENCH_DONE : BENCH_FAILED;
}
