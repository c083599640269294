#include "bench/node_setup.h"

#include "bench/bench.h"
#include "bench/serve.h"
#include "cluster/core.h"

int node_setup_core(
	struct node_setup *n, const struct og_core_env *env, const struct og_addr local[2])
{
	struct og_cluster_core_opts co = {
		.env = *env, .nb_bootstrap = 1, .ephemeral = OG_CORE_NO, .firewalled = OG_CORE_NO};
	struct og_addr bootstrap = neighbours_addr(0);
	uint8_t seed[OG_SEED_BYTES];
	int ret;

	og_rand_system(&n->rand);
	og_rand_fill(&n->rand, seed, sizeof(seed));
	og_keypair_from_seed(&n->keys, seed);
	n->addr = co.local[0] = local[0];
	co.local[1] = local[1];
	neighbours_init(&n->neighbours, env->tx, local);
	co.env.tx = &n->neighbours.tx;
	co.env.rand = &n->rand;
	co.keys = &n->keys;
	co.bootstrap = &bootstrap;
	co.public_addr = n->addr;
	co.lan_addrs = &n->addr;
	co.nb_lan_addrs = 1;
	ret = og_cluster_core_create(&n->node, &co, bench_now_ns());
	if (ret == 0)
		neighbours_wrap(&n->neighbours, n->node);
	return ret;
}

int node_setup_open(struct node_setup *n, struct og_sink *events, int argc, char **argv)
{
	struct og_dataplane_opts opts = {.nb_endpoints = 2, .router = n->router};
	struct og_core_env env = {0};
	struct og_addr local[2];

	if (serve_open(&n->dp, &opts, argc, argv) < 0)
		return -1;
	og_dataplane_local_addr(n->dp, 0, &local[0]);
	og_dataplane_local_addr(n->dp, 1, &local[1]);
	og_dataplane_env(n->dp, &env);
	if (events)
		env.events = events;
	if (node_setup_core(n, &env, local) < 0) {
		og_dataplane_close(n->dp);
		return -1;
	}
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
