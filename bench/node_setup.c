#include "bench/node_setup.h"

#include "bench/bench.h"
#include "bench/serve.h"
#include "cluster/core.h"

int node_setup_open(struct node_setup *n, struct og_sink *events, int argc, char **argv)
{
	struct og_dataplane_opts opts = {.nb_endpoints = 2, .router = n->router};
	struct og_cluster_core_opts co = {
		.nb_bootstrap = 1, .ephemeral = OG_CORE_NO, .firewalled = OG_CORE_NO};
	struct og_addr bootstrap = neighbours_addr(0);
	uint8_t seed[OG_SEED_BYTES];

	if (serve_open(&n->dp, &opts, argc, argv) < 0)
		return -1;
	og_rand_system(&n->rand);
	og_rand_fill(&n->rand, seed, sizeof(seed));
	og_keypair_from_seed(&n->keys, seed);
	og_dataplane_local_addr(n->dp, 0, &co.local[0]);
	og_dataplane_local_addr(n->dp, 1, &co.local[1]);
	n->addr = co.local[0];
	og_dataplane_env(n->dp, &co.env);
	neighbours_init(&n->neighbours, co.env.tx, co.local);
	co.env.tx = &n->neighbours.tx;
	co.env.rand = &n->rand;
	if (events)
		co.env.events = events;
	co.keys = &n->keys;
	co.bootstrap = &bootstrap;
	co.public_addr = n->addr;
	co.lan_addrs = &n->addr;
	co.nb_lan_addrs = 1;
	if (og_cluster_core_create(&n->node, &co, bench_now_ns()) < 0) {
		og_dataplane_close(n->dp);
		return -1;
	}
	neighbours_wrap(&n->neighbours, n->node);
	return 0;
}

int node_setup_start(struct node_setup *n, struct og_core *core)
{
	return og_dataplane_start(n->dp, core);
}

void node_setup_close(struct node_setup *n)
{
	og_dataplane_stop(n->dp);
	og_cluster_core_destroy(n->node);
	og_dataplane_close(n->dp);
	og_keypair_wipe(&n->keys);
}
