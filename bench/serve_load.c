/*
 * serve_load.c: the load of load.h from a data plane of its own, for ports that the kernel has no
 * end of; load_port.c speaks to it.
 *
 *     load DRIVER ADDRESS PREFIX_BITS TARGET:PORT
 *
 * Lines, and what it says to them:
 *
 *     plan WINDOW ID_OFFSET FIRST_BYTE MIN_BYTES   nothing
 *     slot I HEX                                   nothing
 *     run NS                                       done NS REPLIES BAD LOST BUSY_PERCENT
 *     ask HEX MS                                   answer HEX, or late
 */
#include "base/count.h"
#include "bench/bench.h"
#include "bench/load_core.h"
#include "bench/serve.h"
#include "crypto/keys.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 2 * LOAD_REPLY_BYTES + 64 };

struct generator {
	struct og_dataplane *dp;
	struct og_doorbell bell;
	struct load_core load;
};

/* The next event, or false when none comes within `wait_ms`. */
static bool await_event(struct generator *g, struct og_msg *out, int wait_ms)
{
	struct og_stage *events = og_dataplane_events(g->dp);
	struct pollfd p = {g->bell.fd, POLLIN, 0};
	uint64_t end_ns = bench_now_ns() + (uint64_t)wait_ms * OG_NS_PER_MS;

	for (;;) {
		uint64_t now_ns;

		if (og_stage_pop(events, out) == 0)
			return true;
		now_ns = bench_now_ns();
		if (now_ns >= end_ns)
			return false;
		og_doorbell_announce(&g->bell);
		if (og_stage_count(events) == 0)
			poll(&p, 1, (int)((end_ns - now_ns) / OG_NS_PER_MS) + 1);
		og_doorbell_awake(&g->bell);
	}
}

static void give(struct generator *g, const struct og_msg *m)
{
	OG_ASSERT(og_stage_push(og_dataplane_commands(g->dp), m) == 0); /* one at a time */
}

static void run(struct generator *g, uint64_t ns)
{
	const struct og_msg m = {.type = LOAD_RUN, .arg = ns};
	const struct load_result *r = &g->load.result;
	const struct og_lcore_counters *c = og_dataplane_counters(g->dp);
	uint64_t busy_ns = og_counter_read(&c->busy_ns), idle_ns = og_counter_read(&c->idle_ns);
	struct og_msg ev = {0};

	give(g, &m);
	while (ev.type != LOAD_DONE)
		if (await_event(g, &ev, 1000))
			og_stage_release(og_dataplane_events(g->dp), &ev);
	busy_ns = og_counter_read(&c->busy_ns) - busy_ns;
	idle_ns = og_counter_read(&c->idle_ns) - idle_ns;
	printf("done %lu %lu %lu %lu %lu\n", (unsigned long)r->ns, (unsigned long)r->replies,
		(unsigned long)r->bad, (unsigned long)r->lost,
		(unsigned long)(100 * busy_ns / OG_MAX(busy_ns + idle_ns, 1ul)));
}

/* What came too late for an earlier question, or after a run, is no answer to this one. */
static void forget_old(struct generator *g)
{
	struct og_msg ev;

	while (await_event(g, &ev, 0))
		og_stage_release(og_dataplane_events(g->dp), &ev);
}

static void ask(struct generator *g, const char *hex, int wait_ms)
{
	uint8_t data[LOAD_REQUEST_BYTES];
	char text[2 * LOAD_REPLY_BYTES + 1];
	struct og_msg m = {.type = LOAD_ASK, .data = data, .len_bytes = (uint32_t)strlen(hex) / 2};
	struct og_msg ev;

	if (m.len_bytes > sizeof(data) || og_hex_decode(data, m.len_bytes, hex, strlen(hex)) < 0) {
		puts("failed not hexadecimal");
		return;
	}
	forget_old(g);
	give(g, &m);
	if (!await_event(g, &ev, wait_ms)) {
		puts("late");
		return;
	}
	og_hex_encode(text, ev.data, OG_MIN(ev.len_bytes, (uint32_t)LOAD_REPLY_BYTES));
	og_stage_release(og_dataplane_events(g->dp), &ev);
	printf("answer %s\n", text);
}

static void take_slot(struct generator *g, unsigned i, const char *hex)
{
	struct load_slot *slot = &g->load.plan.slots[i % LOAD_WINDOW_MAX];
	size_t n = strlen(hex);

	if (n <= 2 * sizeof(slot->data) && og_hex_decode(slot->data, n / 2, hex, n) == 0)
		slot->len_bytes = (uint16_t)(n / 2);
}

static void obey(struct generator *g)
{
	static char line[LINE_BYTES], hex[LINE_BYTES];
	struct load_plan *plan = &g->load.plan;
	unsigned long ns;
	unsigned i;
	int ms;

	while (serve_line(line, sizeof(line))) {
		if (sscanf(line, "plan %u %hu %d %hu", &plan->window, &plan->id_offset,
			    &plan->first_byte, &plan->min_bytes) == 4)
			plan->window = OG_MIN(plan->window, (uint32_t)LOAD_WINDOW_MAX);
		else if (sscanf(line, "slot %u %s", &i, hex) == 2)
			take_slot(g, i, hex);
		else if (sscanf(line, "run %lu", &ns) == 1)
			run(g, ns);
		else if (sscanf(line, "ask %s %d", hex, &ms) == 2)
			ask(g, hex, ms);
		fflush(stdout);
	}
}

int serve_load(int argc, char **argv)
{
	static struct generator g;
	struct og_dataplane_opts opts = {.nb_endpoints = 1, .router = &g.bell};
	struct og_core_env env = {0};
	struct og_addr to;

	if (argc < 4 || og_addr_parse(&to, argv[3]) < 0 || og_doorbell_init(&g.bell) < 0)
		return BENCH_USAGE;
	if (serve_open(&g.dp, &opts, argc, argv) < 0)
		return BENCH_FAILED;
	og_dataplane_env(g.dp, &env);
	load_core_init(&g.load, &env, &to);
	if (og_dataplane_start(g.dp, &g.load.core) < 0)
		return BENCH_FAILED;
	printf("ready %s\n", og_dataplane_port_name(g.dp));
	fflush(stdout);
	obey(&g);
	og_dataplane_close(g.dp);
	og_doorbell_fini(&g.bell);
	return BENCH_DONE;
}
