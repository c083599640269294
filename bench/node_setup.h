/*
 * node_setup.h: a node's core on the data plane, its neighbours around it, as the servers of
 * og-bench run it.
 *
 * Threads: the main thread's.
 * Memory:  the struct lives until close.
 */
#pragma once
#include "base/rand.h"
#include "bench/neighbours.h"
#include "crypto/keys.h"
#include "dataplane/dataplane.h"

struct node_setup {
	struct og_doorbell *router; /* set before open: rung at each event; or NULL */
	struct og_dataplane *dp;
	struct og_core *node;         /* the real one */
	struct neighbours neighbours; /* around it; neighbours.core is what to run */
	struct og_keypair keys;
	struct og_rand rand;
	struct og_addr addr;
};

/* The core alone, for whoever drives it himself; og_cluster_core_destroy(n->node) ends it. */
int node_setup_core(struct node_setup *n, const struct og_core_env *env,
	const struct og_addr local[2]) OG_MUST_CHECK;
/*
 * As serve_open() reads argv. `events`: where the node's go; NULL: into the data plane's stage. 0,
 * or -1 with the reason told on stderr.
 */
int node_setup_open(struct node_setup *n, struct og_sink *events, int argc, char **argv);
/* Runs `core`, which is neighbours.core or wraps it. */
int node_setup_start(struct node_setup *n, struct og_core *core) OG_MUST_CHECK;
void node_setup_close(struct node_setup *n);
