/*
 * sim_sleep.c: a member is suspended for two minutes. Meanwhile another one announces itself that dials
 * nobody. Shows that the sleeper looks for members again when it wakes, not at its next refresh.
 */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <string.h>

enum { DHT_NODES = 8, SEEDS = 10 };

static void on_event(struct sim_node *n, const struct og_msg *ev)
{
	if (ev->type == OG_EV_PEER_OPEN)
		*(bool *)n->user = true;
}

static struct sim_node *add(struct sim *s, uint32_t i)
{
	const struct og_addr bootstrap = {{40, 1, 1, 1}, 49737};
	struct sim_node_opts o = {
		.addr = {{(uint8_t)(40 + i), 1, 1, 1}, 49737},
		.first = i == 0,
		.bootstrap = &bootstrap,
		.nb_bootstrap = i > 0,
		.peers_max = 8,
		.no_router = true,
	};
	struct sim_node *n = sim_add(s, &o);

	sim_run(s, sim_now(s) + 300 * OG_NS_PER_MS);
	return n;
}

static void join(struct sim_node *n, uint16_t flags, bool *met)
{
	struct og_msg m = {.type = OG_CMD_JOIN, .flags = flags, .key = "a topic"};

	n->user = met;
	n->on_event = on_event;
	sim_command(n, &m);
}

static const char *run_seed(uint64_t seed)
{
	const struct sim_link link = {0.0, 0.0, 0.0, 2 * OG_NS_PER_MS, 30 * OG_NS_PER_MS};
	struct sim *s = sim_create(seed, &link);
	struct sim_node *sleeper, *other;
	bool sleeper_met = false, other_met = false;
	const char *failure = NULL;

	for (uint32_t i = 0; i < DHT_NODES; i++)
		add(s, i);
	sleeper = add(s, DHT_NODES);
	other = add(s, DHT_NODES + 1);
	join(sleeper, OG_JOIN_SERVER | OG_JOIN_CLIENT, &sleeper_met);
	sim_run(s, sim_now(s) + 60 * OG_NS_PER_S); /* past the early refreshes */
	sleeper->asleep = true;
	join(other, OG_JOIN_SERVER, &other_met);
	sim_run(s, sim_now(s) + 120 * OG_NS_PER_S);
	sleeper->asleep = false;
	sim_run(s, sim_now(s) + 10 * OG_NS_PER_S);
	if (!sleeper_met || !other_met)
		failure = "they did not meet within 10 s of waking";
	sim_destroy(s);
	return failure;
}

int main(void)
{
	int failed = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		const char *failure = run_seed(seed);

		if (failure)
			printf("seed %llu: %s\n", (unsigned long long)seed, failure);
		failed += failure != NULL;
	}
	return failed ? 1 : 0;
}
