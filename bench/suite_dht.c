/*
 * suite_dht.c: what a node answers in a second, and in a second of its processor: PING, FIND_NODE
 * with 20 nodes in the reply, LOOKUP with 20 records, from one core, under a closed loop of 128.
 *
 * The core alone is measured too, in CPU time, called in bursts of 32 with no port: beside an echo.
 *
 * References, under the same requests: echoes over recvmmsg and io_uring, which do nothing but send
 * the request back, and with --peer js an unmodified hyperdht node.
 */
#include "base/rand.h"
#include "bench/bench.h"
#include "bench/dht_requests.h"
#include "bench/echo_core.h"
#include "bench/load_direct.h"
#include "bench/node_setup.h"
#include "bench/servers.h"
#include "cluster/core.h"

#include <string.h>

enum { WINDOW = 128 };

/* The node and JavaScript's answer; echoes give the request back, whatever is asked. */
static int prepare(struct server *s, const uint8_t topic[32], struct og_rand *rand)
{
	int ret;

	if (s->is_echo)
		return 0;
	ret = dht_wait_table(s->load, &s->addr, rand);
	return ret < 0 ? ret : dht_store_records(s->load, &s->addr, topic, rand);
}

static int run_case(const struct bench *b, struct servers *all, const char *name,
	enum dht_request kind, const uint8_t topic[32], struct og_rand *rand)
{
	static struct load_plan plans[SERVERS_MAX];

	for (uint32_t i = 0; i < all->nb; i++) {
		dht_plan(&plans[i], kind, WINDOW, &all->list[i].addr, topic, rand);
		if (all->list[i].is_echo) {
			plans[i].first_byte = -1;
			plans[i].min_bytes = 0;
		}
	}
	return servers_measure(b, all, name, "replies", plans);
}

static const struct {
	const char *name, *core_name;
	enum dht_request kind;
} cases[] = {
	{"ping", "ping, core alone", DHT_PING},
	{"find_node", "find_node, core alone", DHT_FIND_NODE},
	{"lookup", "lookup, core alone", DHT_LOOKUP},
};

/* ---- the core alone ---- */

static int core_case(const struct bench *b, const char *name, struct load *node, struct load *echo,
	const struct load_plan *plan)
{
	struct bench_samples ns[2] = {0};
	struct load_plan any = *plan;

	any.first_byte = -1;
	any.min_bytes = 0;
	for (uint32_t run = 0; run <= b->runs; run++) {
		struct load_result r[2];
		int ret = load_run(node, plan, b->run_ns / 4, &r[0]);

		if (ret == 0)
			ret = load_run(echo, &any, b->run_ns / 4, &r[1]);
		if (ret < 0 || r[0].replies == 0 || r[0].bad > 0 || r[1].replies == 0) {
			fprintf(stderr, "og-bench: %s: wrong answers\n", name);
			return -1;
		}
		for (int i = 0; run > 0 && i < 2; i++) /* the first is to warm up */
			bench_add(&ns[i], (double)r[i].ns / (double)r[i].replies);
	}
	bench_report(b, &(struct bench_result){name, "CPU-ns/request", BENCH_LOWER, &ns[0],
				"echo core alone", &ns[1]});
	return 0;
}

static int run_core(const struct bench *b, const uint8_t topic[32], struct og_rand *rand)
{
	static const struct og_addr local[2] = {
		{{192, 168, 7, 1}, 49737}, {{192, 168, 7, 1}, 5000}};
	static struct node_setup node;
	static struct load_plan plan;
	struct load *loads[2] = {NULL, NULL};
	struct og_core_env env = {0};
	struct echo_core echo;
	int ret = load_open_direct(&loads[0], &env);

	if (ret == 0)
		ret = node_setup_core(&node, &env, local);
	if (ret == 0) {
		load_direct_core(loads[0], &node.neighbours.core);
		ret = load_open_direct(&loads[1], &env);
	}
	if (ret == 0) {
		echo_core_init(&echo, env.tx);
		load_direct_core(loads[1], &echo.core);
		ret = dht_wait_table(loads[0], &local[0], rand);
	}
	if (ret == 0)
		ret = dht_store_records(loads[0], &local[0], topic, rand);
	for (size_t i = 0; ret == 0 && i < OG_ARRAY_LEN(cases); i++) {
		dht_plan(&plan, cases[i].kind, WINDOW, &local[0], topic, rand);
		if (bench_wanted(b, cases[i].core_name))
			ret = core_case(b, cases[i].core_name, loads[0], loads[1], &plan);
	}
	if (node.node)
		og_cluster_core_destroy(node.node);
	load_close(loads[0]);
	load_close(loads[1]);
	return ret;
}

/* ---- all ---- */

static bool any_served(const struct bench *b)
{
	bool any = false;

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++)
		any |= bench_wanted(b, cases[i].name);
	return any;
}

int suite_dht(const struct bench *b)
{
	static struct servers all;
	struct og_rand rand;
	uint8_t topic[32];
	int ret;

	og_rand_system(&rand);
	og_rand_fill(&rand, topic, sizeof(topic));
	ret = run_core(b, topic, &rand);
	if (ret < 0 || !any_served(b))
		return ret == 0 ? BENCH_DONE : BENCH_FAILED;
	ret = servers_start(b, &all, "node");
	for (uint32_t i = 0; ret == 0 && i < all.nb; i++) {
		server_resume(&all.list[i]);
		ret = prepare(&all.list[i], topic, &rand);
		if (ret < 0)
			fprintf(stderr, "og-bench: %s does not answer as it should: %s\n",
				all.list[i].name, strerror(-ret));
		server_pause(&all.list[i]);
	}
	for (size_t i = 0; ret == 0 && i < OG_ARRAY_LEN(cases); i++)
		if (bench_wanted(b, cases[i].name))
			ret = run_case(b, &all, cases[i].name, cases[i].kind, topic, &rand);
	servers_stop(&all);
	return ret == 0 ? BENCH_DONE : BENCH_FAILED;
}
