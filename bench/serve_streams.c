/*
 * serve_streams.c: one end of many streams (stream_core.h) on a data plane.
 *
 *     streams DRIVER ADDRESS PREFIX_BITS NUMBER initiator|responder [CORES CPU,CPU,…]
 *
 * With several polling cores stream i is on core i mod CORES.
 *
 * Says "ready ADDRESS:PORT ID,ID,…", is told the same of the other end, and says "started". Then it
 * obeys lines, answering each: "write" and "stop" with "done"; "counts" with "counts NS BYTES,…",
 * "written" with "counts NS BYTES" of what this end wrote in all.
 */
#include "base/count.h"
#include "bench/bench.h"
#include "bench/serve.h"
#include "bench/stream_core.h"
#include "cluster/steer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 2048 };

static struct stream_core cores[OG_CORES_MAX];
static uint16_t nb_cores = 1;
static uint32_t nb_streams;

/* "ADDRESS:PORT ID,ID,…": starts all. */
static int start_all(char *line, bool initiator)
{
	char *ids = strchr(line, ' ');
	struct og_addr remote;
	char *end;

	if (!ids)
		return -EINVAL;
	*ids++ = '\0';
	if (og_addr_parse(&remote, line) < 0)
		return -EINVAL;
	for (uint32_t i = 0; i < nb_streams; i++, ids = end + 1) {
		uint32_t id = (uint32_t)strtoul(ids, &end, 10);
		int ret = end == ids ? -EINVAL
				     : stream_core_start(&cores[i % nb_cores], i / nb_cores, id,
					       &remote, initiator, bench_now_ns());

		if (ret < 0)
			return ret;
	}
	return 0;
}

static void print_counts(void)
{
	printf("counts %lu ", (unsigned long)bench_now_ns());
	for (uint32_t i = 0; i < nb_streams; i++) {
		const struct stream_core *c = &cores[i % nb_cores];

		printf("%lu%c", (unsigned long)og_counter_read(&c->received[i / nb_cores]),
			i + 1 < nb_streams ? ',' : '\n');
	}
}

static void print_written(void)
{
	uint64_t written = 0;

	for (uint16_t i = 0; i < nb_cores; i++)
		written += og_counter_read(&cores[i].written);
	printf("counts %lu %lu\n", (unsigned long)bench_now_ns(), (unsigned long)written);
}

static int command_all(struct og_dataplane *dp, const struct og_msg *m)
{
	int ret = 0;

	for (uint16_t i = 0; i < nb_cores && ret == 0; i++)
		ret = og_stage_push(og_dataplane_core_commands(dp, i), m);
	return ret;
}

static void obey(struct og_dataplane *dp)
{
	char line[64];

	while (serve_line(line, sizeof(line))) {
		struct og_msg m = {.type = STREAM_WRITE, .arg = strcmp(line, "write\n") == 0};

		if (strcmp(line, "counts\n") == 0)
			print_counts();
		else if (strcmp(line, "written\n") == 0)
			print_written();
		else
			puts(command_all(dp, &m) == 0 ? "done" : "failed");
		fflush(stdout);
	}
}

static void parse_cpus(int cpus[OG_CORES_MAX], const char *text)
{
	for (int i = 0; i < OG_CORES_MAX; i++) {
		cpus[i] = *text ? atoi(text) : -1;
		text += strcspn(text, ",");
		text += *text == ',';
	}
}

static int create_cores(struct og_dataplane *dp, struct og_core **list)
{
	int ret = 0;

	for (uint16_t i = 0; i < nb_cores && ret == 0; i++) {
		struct og_core_env env = {0};
		uint32_t nb = nb_streams / nb_cores + (i < nb_streams % nb_cores);

		og_dataplane_core_env(dp, i, &env);
		ret = stream_core_create(&cores[i], &env, nb, i, nb_cores, bench_now_ns());
		list[i] = &cores[i].core;
	}
	return ret;
}

int serve_streams(int argc, char **argv)
{
	struct sock_filter steering[OG_STEER_PROGRAM_MAX];
	struct og_dataplane_opts opts = {.nb_endpoints = 1, .steering = steering};
	struct og_core *list[OG_CORES_MAX];
	char text[OG_ADDR_TEXT_BYTES], line[LINE_BYTES];
	int cpus[OG_CORES_MAX];
	struct og_dataplane *dp;
	struct og_addr at;

	if (argc < 5)
		return BENCH_USAGE;
	nb_streams = OG_MIN((uint32_t)atoi(argv[3]), (uint32_t)STREAMS_MAX);
	if (argc > 5)
		nb_cores = (uint16_t)OG_MIN(OG_MAX(atoi(argv[5]), 1), (int)OG_CORES_MAX);
	if (nb_cores > 1) {
		parse_cpus(cpus, argc > 6 ? argv[6] : "");
		bench_pin(cpus[0]); /* the first core is where the process is */
		opts.more_cpus = cpus + 1;
	}
	opts.nb_cores = nb_cores;
	opts.nb_steering = og_steer_program(steering, nb_cores);
	if (serve_open(&dp, &opts, argc, argv) < 0)
		return BENCH_FAILED;
	og_dataplane_local_addr(dp, 0, &at);
	if (create_cores(dp, list) < 0)
		return BENCH_FAILED;
	printf("ready %s ", og_addr_format(&at, text));
	for (uint32_t i = 0; i < nb_streams; i++)
		printf("%u%c", cores[i % nb_cores].udx_ids[i / nb_cores],
			i + 1 < nb_streams ? ',' : '\n');
	fflush(stdout);
	if (!serve_line(line, sizeof(line)) ||
		start_all(line, strcmp(argv[4], "initiator") == 0) < 0 ||
		og_dataplane_start_cores(dp, list) < 0)
		return BENCH_FAILED;
	puts("started");
	fflush(stdout);
	obey(dp);
	og_dataplane_stop(dp);
	for (uint16_t i = 0; i < nb_cores; i++)
		stream_core_destroy(&cores[i]);
	og_dataplane_close(dp);
	return BENCH_DONE;
}
