/*
 * serve_flood.c: a flood and its probes from a data plane; see flood.h.
 */
#include "bench/bench.h"
#include "bench/flood.h"
#include "bench/flood_core.h"
#include "bench/serve.h"

#include <poll.h>
#include <string.h>

static int kind_of(const char *name)
{
	for (int i = 0; i < FLOOD_KINDS; i++)
		if (strcmp(flood_names[i], name) == 0)
			return i;
	return -1;
}

static void await_done(struct og_stage *events, struct og_doorbell *bell)
{
	struct pollfd p = {bell->fd, POLLIN, 0};
	struct og_msg ev;

	while (og_stage_pop(events, &ev) < 0) {
		og_doorbell_announce(bell);
		if (og_stage_count(events) == 0 && poll(&p, 1, SERVE_SUPERVISE_MS) == 0)
			serve_supervise();
		og_doorbell_awake(bell);
	}
	og_stage_release(events, &ev);
}

static void obey(struct og_dataplane *dp, struct og_doorbell *bell, const struct flood_core *f)
{
	char line[128], kind[32];
	unsigned long ns;
	unsigned rate;

	while (serve_line(line, sizeof(line))) {
		struct og_msg m = {.type = FLOOD_RUN};
		struct probes_seen seen;

		if (sscanf(line, "run %31s %lu %u", kind, &ns, &rate) != 3 || kind_of(kind) < 0)
			continue;
		m.slot = (uint32_t)kind_of(kind);
		m.arg = ns;
		m.gen = rate;
		OG_ASSERT(og_stage_push(og_dataplane_commands(dp), &m) == 0); /* one at a time */
		await_done(og_dataplane_events(dp), bell);
		seen = probes_result(&f->probes);
		printf("done %lu %lu %lu %u %f %f %f %lu\n", (unsigned long)f->run_ns,
			(unsigned long)f->sent, (unsigned long)f->answers, f->probes.nb,
			seen.lost_percent, seen.p50_us, seen.p99_us, (unsigned long)f->recovery_ns);
		fflush(stdout);
	}
}

int serve_flood_port(int argc, char **argv)
{
	static struct flood_core f;
	struct og_doorbell bell;
	struct og_dataplane_opts opts = {.nb_endpoints = 2, .router = &bell};
	struct og_core_env env = {0};
	struct og_dataplane *dp;

	if (argc != 5 || flood_init(&f.maker, flood_names[0], argv[3], argv[4]) < 0 ||
		og_doorbell_init(&bell) < 0)
		return BENCH_USAGE;
	if (serve_open(&dp, &opts, argc, argv) < 0)
		return BENCH_FAILED;
	og_dataplane_env(dp, &env);
	flood_core_init(&f, &env);
	if (og_dataplane_start(dp, &f.core) < 0)
		return BENCH_FAILED;
	puts("ready flood");
	fflush(stdout);
	obey(dp, &bell, &f);
	og_dataplane_close(dp);
	og_doorbell_fini(&bell);
	return BENCH_DONE;
}
