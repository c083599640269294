/*
 * serve_streams.c: one end of many streams (stream_core.h) on a data plane.
 *
 *     streams DRIVER ADDRESS PREFIX_BITS NUMBER initiator|responder
 *
 * Says "ready ADDRESS:PORT ID,ID,…", is told the same of the other end, and says "started". Then it
 * obeys lines, answering each: "write" and "stop" with "done"; "counts" with "counts NS BYTES,…",
 * "written" with "counts NS BYTES" of what this end wrote in all.
 */
#include "base/count.h"
#include "bench/bench.h"
#include "bench/serve.h"
#include "bench/stream_core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 2048 };

/* "ADDRESS:PORT ID,ID,…": starts all. */
static int start_all(struct stream_core *c, char *line, bool initiator)
{
	char *ids = strchr(line, ' ');
	struct og_addr remote;
	char *end;

	if (!ids)
		return -EINVAL;
	*ids++ = '\0';
	if (og_addr_parse(&remote, line) < 0)
		return -EINVAL;
	for (uint32_t i = 0; i < c->nb; i++, ids = end + 1) {
		uint32_t id = (uint32_t)strtoul(ids, &end, 10);
		int ret = end == ids
				  ? -EINVAL
				  : stream_core_start(c, i, id, &remote, initiator, bench_now_ns());

		if (ret < 0)
			return ret;
	}
	return 0;
}

static void print_counts(const struct stream_core *c)
{
	printf("counts %lu ", (unsigned long)bench_now_ns());
	for (uint32_t i = 0; i < c->nb; i++)
		printf("%lu%c", (unsigned long)og_counter_read(&c->received[i]),
			i + 1 < c->nb ? ',' : '\n');
}

static void obey(struct og_dataplane *dp, const struct stream_core *c)
{
	char line[64];

	while (serve_line(line, sizeof(line))) {
		struct og_msg m = {.type = STREAM_WRITE, .arg = strcmp(line, "write\n") == 0};

		if (strcmp(line, "counts\n") == 0)
			print_counts(c);
		else if (strcmp(line, "written\n") == 0)
			printf("counts %lu %lu\n", (unsigned long)bench_now_ns(),
				(unsigned long)og_counter_read(&c->written));
		else
			puts(og_stage_push(og_dataplane_commands(dp), &m) == 0 ? "done" : "failed");
		fflush(stdout);
	}
}

int serve_streams(int argc, char **argv)
{
	static struct stream_core c;
	struct og_dataplane_opts opts = {.nb_endpoints = 1};
	struct og_core_env env = {0};
	char text[OG_ADDR_TEXT_BYTES], line[LINE_BYTES];
	struct og_dataplane *dp;
	struct og_addr at;

	if (argc != 5)
		return BENCH_USAGE;
	if (serve_open(&dp, &opts, argc, argv) < 0)
		return BENCH_FAILED;
	og_dataplane_env(dp, &env);
	og_dataplane_local_addr(dp, 0, &at);
	if (stream_core_create(&c, &env, (uint32_t)atoi(argv[3]), bench_now_ns()) < 0)
		return BENCH_FAILED;
	printf("ready %s ", og_addr_format(&at, text));
	for (uint32_t i = 0; i < c.nb; i++)
		printf("%u%c", c.udx_ids[i], i + 1 < c.nb ? ',' : '\n');
	fflush(stdout);
	if (!serve_line(line, sizeof(line)) ||
		start_all(&c, line, strcmp(argv[4], "initiator") == 0) < 0 ||
		og_dataplane_start(dp, &c.core) < 0)
		return BENCH_FAILED;
	puts("started");
	fflush(stdout);
	obey(dp, &c);
	og_dataplane_stop(dp);
	stream_core_destroy(&c);
	og_dataplane_close(dp);
	return BENCH_DONE;
}
