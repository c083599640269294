/*
 * sim_cluster.c: 200 nodes in 20 clusters over a network that loses, repeats and reorders; crashes and
 * a partition; then it heals. Shows, for each seed:
 *   every live member of a cluster is found by a newcomer, and connects;
 *   every request gets exactly one answer, the right one, or one error.
 * The same seed twice gives the same trace.
 *
 * One seed in 25 runs with all the nodes, the others with 60 of them.
 *
 *   sim_cluster [first-seed]      OG_SEEDS=n seeds (default 8), OG_SIM_NODES=n (default 200),
 *                                 OG_SIM_CORES=n polling cores of all nodes but the first 12 (default 1)
 */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLUSTERS = 20, DHT_NODES = 24, ASKS = 400, FEW_NODES = 60, FULL_EVERY = 25 };

static const struct sim_link bad_link = {0.05, 0.02, 0.05, 2 * OG_NS_PER_MS, 30 * OG_NS_PER_MS};
static const struct sim_link good_link = {0.0, 0.0, 0.0, 2 * OG_NS_PER_MS, 30 * OG_NS_PER_MS};

struct result {
	uint64_t trace, answers, errors;
	const char *failure;
};

static void cluster_name(char out[32], uint32_t i)
{
	snprintf(out, 32, "cluster-%u", i % CLUSTERS);
}

static struct og_addr addr_of(uint32_t i)
{
	/* A /16 each, so that no subnet cap applies. */
	return (struct og_addr){
		{(uint8_t)(20 + i / 200), (uint8_t)(1 + i % 200), (uint8_t)(7 * i), 1}, 49737};
}

static uint32_t env_number(const char *name, uint32_t fallback)
{
	const char *text = getenv(name);

	return text && *text ? (uint32_t)strtoul(text, NULL, 10) : fallback;
}

static struct sim_node *add_node(struct sim *s, uint32_t i, struct og_addr *bootstrap)
{
	char name[32];
	struct sim_node_opts o = {
		.addr = addr_of(i),
		.name = name,
		.first = i == 0,
		.bootstrap = bootstrap,
		.nb_bootstrap = i == 0 ? 0 : 2,
		.peers_max = 48,
		.nb_cores = (uint16_t)(i < DHT_NODES / 2 ? 1 : env_number("OG_SIM_CORES", 1)),
		/* Two members of each cluster serve. */
		.model = i >= DHT_NODES && (i / CLUSTERS) % 4 == 2 ? "m" : NULL,
	};

	snprintf(name, sizeof(name), "n%u", i);
	return sim_add(s, &o);
}

static void start_all(struct sim *s, uint32_t nodes, struct og_addr bootstrap[2])
{
	for (uint32_t i = 0; i < nodes; i++) {
		struct sim_node *n = add_node(s, i, bootstrap);
		char id[32];

		if (i >= DHT_NODES) {
			cluster_name(id, i);
			sim_join(n, id);
		}
		sim_run(s, sim_now(s) + (i < DHT_NODES ? 300 : 50) * OG_NS_PER_MS);
	}
}

static void ask_somewhere(struct sim *s, uint32_t nodes, uint32_t k)
{
	char prompt[64];
	uint32_t i = DHT_NODES + og_rand_below(sim_rand(s), nodes - DHT_NODES);
	struct sim_node *n = sim_node(s, i);

	if (!n->alive)
		return;
	snprintf(prompt, sizeof(prompt), "question %u of node %u", k, i);
	sim_ask(n, prompt, 20000);
}

/* Crashes, restarts and a partition while prompts are asked. */
static void trouble(struct sim *s, uint32_t nodes)
{
	sim_set_link(s, &bad_link);
	for (uint32_t k = 0; k < ASKS; k++) {
		uint32_t i = DHT_NODES + og_rand_below(sim_rand(s), nodes - DHT_NODES);
		struct sim_node *n = sim_node(s, i);

		if (k % 20 == 7)
			sim_kill(n);
		if (k % 20 == 17)
			for (uint32_t j = 0; j < nodes; j++) {
				char id[32];

				if (sim_node(s, j)->alive)
					continue;
				sim_restart(sim_node(s, j));
				cluster_name(id, j);
				sim_join(sim_node(s, j), id);
			}
		if (k == ASKS / 2)
			for (uint32_t j = 0; j < nodes; j += 3)
				sim_node(s, j)->group = 1;
		if (k == ASKS * 3 / 4)
			for (uint32_t j = 0; j < nodes; j++)
				sim_node(s, j)->group = 0;
		ask_somewhere(s, nodes, k);
		sim_run(s, sim_now(s) + 150 * OG_NS_PER_MS);
	}
}

static uint32_t members_seen(struct sim_node *n)
{
	json_t *peers = og_router_peers_json(n->router, NULL, sim_now(n->sim));
	uint32_t count = (uint32_t)json_array_size(peers);

	json_decref(peers);
	return count;
}

/* A newcomer to each cluster must meet every live member of it. */
static const char *newcomers_find_all(struct sim *s, uint32_t nodes, struct og_addr bootstrap[2])
{
	static char text[160];
	struct sim_node *fresh[CLUSTERS];

	for (uint32_t c = 0; c < CLUSTERS; c++) {
		char id[32];

		fresh[c] = add_node(s, nodes + c, bootstrap);
		cluster_name(id, nodes + c);
		sim_join(fresh[c], id);
	}
	sim_run(s, sim_now(s) + 90 * OG_NS_PER_S);
	for (uint32_t c = 0; c < CLUSTERS; c++) {
		uint32_t want = 0, got = members_seen(fresh[c]);

		for (uint32_t i = DHT_NODES; i < nodes; i++)
			want += sim_node(s, i)->alive && i % CLUSTERS == (nodes + c) % CLUSTERS;
		if (got < want) {
			snprintf(text, sizeof(text),
				"the newcomer to cluster %u met %u of %u members",
				(nodes + c) % CLUSTERS, got, want);
			return text;
		}
	}
	return NULL;
}

static struct result run_seed(uint64_t seed, uint32_t nodes)
{
	struct sim *s = sim_create(seed, &good_link);
	struct og_addr bootstrap[2] = {addr_of(0), addr_of(1)};
	struct result r = {0};
	uint64_t duplicates = 0;

	start_all(s, nodes, bootstrap);
	sim_run(s, sim_now(s) + 10 * OG_NS_PER_S);
	trouble(s, nodes);
	sim_set_link(s, &good_link);
	sim_run(s, sim_now(s) + 60 * OG_NS_PER_S);
	if (sim_asks_open(s) > 0)
		r.failure = "a request got neither an answer nor an error";
	if (!r.failure)
		r.failure = newcomers_find_all(s, nodes, bootstrap);
	for (uint32_t i = 0; i < sim_nodes(s); i++) {
		r.answers += sim_node(s, i)->answers;
		r.errors += sim_node(s, i)->errors;
		duplicates += sim_node(s, i)->duplicates;
	}
	if (!r.failure && duplicates > 0)
		r.failure = "a request was answered twice";
	if (!r.failure && sim_wrong_answers(s) > 0)
		r.failure = "an answer was not the one to its question";
	if (!r.failure && r.answers < r.errors)
		r.failure = "most requests failed";
	r.trace = sim_trace(s);
	sim_destroy(s);
	return r;
}

int main(int argc, char **argv)
{
	uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	uint32_t seeds = argc > 1 ? 1 : env_number("OG_SEEDS", 8);
	uint32_t nodes_max = env_number("OG_SIM_NODES", 200);
	int failed = 0;

	for (uint64_t seed = first; seed < first + seeds; seed++) {
		uint32_t nodes = (seed - first) % FULL_EVERY == 0
					 ? nodes_max
					 : OG_MIN(nodes_max, (uint32_t)FEW_NODES);
		struct result r = run_seed(seed, nodes);

		printf("seed %llu, %u nodes: %llu answers, %llu errors, trace %016llx%s%s\n",
			(unsigned long long)seed, nodes, (unsigned long long)r.answers,
			(unsigned long long)r.errors, (unsigned long long)r.trace,
			r.failure ? ": " : "", r.failure ? r.failure : "");
		fflush(stdout);
		failed += r.failure != NULL;
		if (seed == first && run_seed(seed, nodes).trace != r.trace) {
			printf("seed %llu: a second run gave another trace\n",
				(unsigned long long)seed);
			failed++;
		}
	}
	return failed ? 1 : 0;
}
