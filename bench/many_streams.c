/*
 * many_streams.c: 64 streams at once between two polling cores, transport alone: what they carry in
 * sum, and how evenly. The reference of the sum is one stream of the same kind in the same run. With
 * --cores N the same between N polling cores and N others; the reference is then one core at each end.
 */
#include "bench/many_streams.h"

#include "bench/child.h"
#include "bench/ports.h"
#include "bench/stream_core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_BYTES = 2048, DRAIN_STEPS = 40, CPUS_TEXT = 128 };

#define DRAIN_STEP_NS (50 * OG_NS_PER_MS)
/* The windows open; and what was lost while its neighbour was asked for is repeated after a second. */
#define WARM_NS (1500 * OG_NS_PER_MS)

struct ends {
	uint32_t nb;
	uint32_t nb_cores; /* of each */
	struct ports ports;
	struct bench_child server, client; /* the client writes */
	char cores[8], cpus[2][CPUS_TEXT];
};

struct counts {
	uint64_t at_ns;
	uint64_t bytes[STREAMS_MAX];
};

static int expect(struct bench_child *c, const char *tell, const char *hear)
{
	char line[LINE_BYTES];
	int ret = tell ? bench_child_tell(c, tell) : 0;

	if (ret == 0)
		ret = bench_child_hear(c, line, sizeof(line));
	return ret == 0 && strcmp(line, hear) != 0 ? -EPROTO : ret;
}

/* "N" and the CPUs of one end's cores, those after the `from`-th that we may use. */
static int add_cores(const struct bench *b, const char **argv, int n, struct ends *e, int end)
{
	char *text = e->cpus[end];
	size_t used = 0;

	snprintf(e->cores, sizeof(e->cores), "%u", e->nb_cores);
	for (uint32_t i = 0; i < e->nb_cores; i++)
		used += (size_t)snprintf(text + used, CPUS_TEXT - used, "%s%d", i ? "," : "",
			b->cpus[(e->nb_cores * (uint32_t)end + i) % b->nb_cpus]);
	argv[n++] = e->cores;
	argv[n++] = text;
	return n;
}

static int open_ends(const struct bench *b, struct ends *e, uint32_t nb, uint32_t nb_cores)
{
	const char *server[PORTS_ARGS], *client[PORTS_ARGS] = {NULL};
	char number[16];
	int n = 0, ret;

	memset(e, 0, sizeof(*e));
	e->nb = nb;
	e->nb_cores = nb_cores;
	snprintf(number, sizeof(number), "%u", nb);
	ret = ports_open(&e->ports, b);
	if (ret < 0)
		return ret;
	ports_serve(&e->ports, server, "streams");
	while (server[n])
		n++;
	server[n++] = number;
	server[n++] = "responder";
	if (nb_cores > 1)
		n = add_cores(b, server, n, e, 0);
	server[n] = NULL;
	client[1] = "--serve";
	client[2] = "streams";
	client[3] = e->ports.client.driver;
	client[4] = e->ports.client.address;
	client[5] = e->ports.client.prefix_bits;
	client[6] = number;
	client[7] = "initiator";
	n = 8;
	if (nb_cores > 1)
		n = add_cores(b, client, n, e, 1);
	client[n] = NULL;
	ret = bench_child_start(&e->server, server, b->server_cpu);
	if (ret == 0)
		ret = bench_child_start(&e->client, client, b->load_cpu);
	if (ret == 0)
		ret = expect(&e->server, e->client.ready, "started");
	if (ret == 0)
		ret = expect(&e->client, e->server.ready, "started");
	bench_child_pause(&e->client);
	bench_child_pause(&e->server);
	return ret;
}

static void close_ends(struct ends *e)
{
	bench_child_resume(&e->server);
	bench_child_stop(&e->client);
	bench_child_stop(&e->server);
	ports_close(&e->ports);
}

static int read_counts(struct ends *e, struct counts *out)
{
	char line[LINE_BYTES], *p = line + 7, *end;
	int ret = bench_child_tell(&e->server, "counts");

	if (ret == 0)
		ret = bench_child_hear(&e->server, line, sizeof(line));
	if (ret < 0 || strncmp(line, "counts ", 7) != 0)
		return ret < 0 ? ret : -EPROTO;
	out->at_ns = strtoull(p, &end, 10);
	for (uint32_t i = 0; i < e->nb; i++) {
		p = end + 1;
		out->bytes[i] = strtoull(p, &end, 10);
		if (end == p)
			return -EPROTO;
	}
	return 0;
}

static void wait_ns(uint64_t ns)
{
	const struct timespec ts = {(time_t)(ns / OG_NS_PER_S), (long)(ns % OG_NS_PER_S)};

	nanosleep(&ts, NULL);
}

static uint64_t sum_of(const struct ends *e, const struct counts *c)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < e->nb; i++)
		sum += c->bytes[i];
	return sum;
}

/* Until nothing more arrives: ends that are paused with packets under way lose them. */
static int drain(struct ends *e)
{
	struct counts c = {0};
	uint64_t before;

	for (int i = 0; i < DRAIN_STEPS; i++) {
		int ret = read_counts(e, &c);

		if (ret < 0)
			return ret;
		before = sum_of(e, &c);
		wait_ns(DRAIN_STEP_NS);
		ret = read_counts(e, &c);
		if (ret < 0 || sum_of(e, &c) == before)
			return ret;
	}
	return 0;
}

/* MB/s in sum, and the slowest over the fastest. */
static int run_once(const struct bench *b, struct ends *e, struct bench_samples *mb_s,
	struct bench_samples *evenness)
{
	uint64_t least = UINT64_MAX, most = 0;
	struct counts before, after;
	int ret;

	bench_child_resume(&e->server);
	bench_child_resume(&e->client);
	ret = expect(&e->client, "write", "done");
	wait_ns(WARM_NS);
	if (ret == 0)
		ret = read_counts(e, &before);
	wait_ns(4 * b->run_ns); /* long enough for each to have many frames */
	if (ret == 0)
		ret = read_counts(e, &after);
	if (ret == 0)
		ret = expect(&e->client, "stop", "done");
	if (ret == 0)
		ret = drain(e);
	bench_child_pause(&e->client);
	bench_child_pause(&e->server);
	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < e->nb; i++) {
		uint64_t n = after.bytes[i] - before.bytes[i];

		least = OG_MIN(least, n);
		most = OG_MAX(most, n);
	}
	bench_add(mb_s, (double)(sum_of(e, &after) - sum_of(e, &before)) * 1e3 /
				(double)(after.at_ns - before.at_ns));
	bench_add(evenness, (double)least / (double)OG_MAX(most, 1ull));
	return 0;
}

/*
 * Two kinds of ends by turns, the second the reference of the first: how many streams, on how many
 * cores.
 */
static int compare(const struct bench *b, const uint32_t nb[2], const uint32_t nb_cores[2],
	struct bench_samples mb_s[2], struct bench_samples evenness[2])
{
	static struct ends ends[2];
	/* What both pairs would want for themselves, such as an interface, goes from one to the other. */
	bool in_turns = b->port <= BENCH_MEMIF;
	int ret = 0;

	memset(ends, 0, sizeof(ends));
	for (int k = 0; ret == 0 && in_turns && k < 2; k++)
		ret = open_ends(b, &ends[k], nb[k], nb_cores[k]);
	for (uint32_t run = 0; ret == 0 && in_turns && run < b->runs; run++)
		for (int k = 0; ret == 0 && k < 2; k++)
			ret = run_once(b, &ends[k], &mb_s[k], &evenness[k]);
	for (int k = 0; ret == 0 && !in_turns && k < 2; k++) {
		ret = open_ends(b, &ends[k], nb[k], nb_cores[k]);
		for (uint32_t run = 0; ret == 0 && run < b->runs; run++)
			ret = run_once(b, &ends[k], &mb_s[k], &evenness[k]);
		close_ends(&ends[k]);
	}
	for (int k = 0; k < 2; k++)
		close_ends(&ends[k]);
	return ret;
}

static int one_core(const struct bench *b)
{
	static const uint32_t nb[2] = {STREAMS_MAX, 1}, nb_cores[2] = {1, 1};
	struct bench_samples mb_s[2] = {0}, evenness[2] = {0}, even = {0};
	int ret;

	if (!bench_wanted(b, "64 streams"))
		return 0;
	ret = compare(b, nb, nb_cores, mb_s, evenness);
	bench_add(&even, 1);
	if (ret < 0)
		return ret;
	bench_report(b, &(struct bench_result){"64 streams", "MB/s", BENCH_HIGHER, &mb_s[0],
				"one stream, transport alone", &mb_s[1]});
	bench_report(b, &(struct bench_result){"64 streams, slowest over fastest", "x",
				BENCH_HIGHER, &evenness[0], "equal shares", &even});
	return 0;
}

static int several_cores(const struct bench *b)
{
	const uint32_t nb[2] = {STREAMS_MAX, STREAMS_MAX}, nb_cores[2] = {b->cores, 1};
	struct bench_samples mb_s[2] = {0}, evenness[2] = {0};
	char name[48];
	int ret;

	snprintf(name, sizeof(name), "64 streams, %u cores", b->cores);
	if (b->cores < 2 || !bench_wanted(b, name))
		return 0;
	if (b->nb_cpus < 2 * b->cores)
		bench_note("%u cores at each end and %u CPUs: shows that it works, not how fast",
			b->cores, b->nb_cpus);
	ret = compare(b, nb, nb_cores, mb_s, evenness);
	if (ret == 0)
		bench_report(b, &(struct bench_result){name, "MB/s", BENCH_HIGHER, &mb_s[0],
					"64 streams, one core", &mb_s[1]});
	return ret;
}

int many_streams(const struct bench *b)
{
	int ret = one_core(b);

	if (ret == 0)
		ret = several_cores(b);
	if (ret < 0)
		fprintf(stderr, "og-bench: 64 streams: %s\n", strerror(-ret));
	return ret;
}
