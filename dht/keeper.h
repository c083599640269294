/*
 * keeper.h: the storing side of the DHT: answers FIND_PEER to IMMUTABLE_GET (commands 2 to 9).
 *
 * What carries a signature waits for its verification in a bounded table and is answered then;
 * more than fits is shed in silence, and the asker sends again a second later.
 *
 * Source:  dht.md 7, table "What each answers", including what is met with silence.
 * Threads: the owner of the node.
 * Memory:  made by create.
 */
#pragma once
#include "dht/env.h"

struct og_dht_keeper;

/* Registers its handlers with env->rpc. */
int og_dht_keeper_create(struct og_dht_keeper **out, struct og_dht_env *env,
	const struct og_dht_opts *opts) OG_MUST_CHECK;
void og_dht_keeper_destroy(struct og_dht_keeper *keeper);
/* OG_DHT_JOB_KEEPER_VERIFY */
void og_dht_keeper_job_done(
	struct og_dht_keeper *keeper, const struct og_job *job, uint64_t now_ns);
