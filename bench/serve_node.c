/*
 * serve_node.c: a node's core on the data plane with a full routing table, which answers whoever
 * asks, as a persistent node of a large network does.
 *
 *     node DRIVER ADDRESS[:PORT] [PREFIX_BITS]
 *
 * Prints "ready ADDRESS:PORT PUBLIC_KEY PORT_NAME".
 */
#include "base/bytes.h"
#include "bench/bench.h"
#include "bench/neighbours.h"
#include "bench/serve.h"
#include "cluster/core.h"
#include "crypto/keys.h"

#include <stdlib.h>
#include <string.h>

int serve_node(int argc, char **argv)
{
	static struct neighbours neighbours;
	struct og_dataplane_opts opts = {.nb_endpoints = 2};
	struct og_cluster_core_opts co = {
		.nb_bootstrap = 1, .ephemeral = OG_CORE_NO, .firewalled = OG_CORE_NO};
	char text[OG_ADDR_TEXT_BYTES], key[2 * OG_KEY_BYTES + 1];
	struct og_addr bootstrap = neighbours_addr(0);
	struct og_keypair keys;
	struct og_dataplane *dp;
	struct og_core *core;
	struct og_rand rand;
	uint8_t seed[OG_SEED_BYTES];

	if (serve_open(&dp, &opts, argc, argv) < 0)
		return BENCH_FAILED;
	og_rand_system(&rand);
	og_rand_fill(&rand, seed, sizeof(seed));
	og_keypair_from_seed(&keys, seed);
	og_dataplane_local_addr(dp, 0, &co.local[0]);
	og_dataplane_local_addr(dp, 1, &co.local[1]);
	og_dataplane_env(dp, &co.env);
	neighbours_init(&neighbours, co.env.tx, co.local);
	co.env.tx = &neighbours.tx;
	co.env.rand = &rand;
	co.keys = &keys;
	co.bootstrap = &bootstrap;
	co.public_addr = co.local[0];
	if (og_cluster_core_create(&core, &co, bench_now_ns()) < 0)
		return BENCH_FAILED;
	neighbours_wrap(&neighbours, core);
	if (og_dataplane_start(dp, &neighbours.core) < 0)
		return BENCH_FAILED;
	og_hex_encode(key, keys.public_key, sizeof(keys.public_key));
	serve_until_told(
		"%s %s %s", og_addr_format(&co.local[0], text), key, og_dataplane_port_name(dp));
	og_dataplane_stop(dp);
	og_cluster_core_destroy(core);
	og_dataplane_close(dp);
	return BENCH_DONE;
}
