/*
 * announcer.h: keeps our server announced on the 3 nodes nearest to it, which relay to it.
 *
 * In rounds: find the nearest, announce there, and only when all have answered replace the relay
 * list. A round that stored nothing is repeated after 1, 2, 4 … 30 s. Relays are pinged every 3 s;
 * one that is gone, or sees us at another address, starts a round.
 *
 * Source:  dht.md 8.2, with the repairs of interop-pitfalls.md 2.
 * Threads: the owner of the node.
 * Memory:  made by create.
 */
#pragma once
#include "dht/env.h"

struct og_dht_announcer;

int og_dht_announcer_create(struct og_dht_announcer **out, struct og_dht_env *env) OG_MUST_CHECK;
void og_dht_announcer_destroy(struct og_dht_announcer *an);

void og_dht_announcer_start(struct og_dht_announcer *an, uint64_t now_ns);
/* Unannounce at the relays; server_state(0) follows within a second. */
void og_dht_announcer_stop(struct og_dht_announcer *an, uint64_t now_ns);
/* Started, and not yet stopped for good. */
bool og_dht_announcer_active(const struct og_dht_announcer *an);
/* OG_DHT_JOB_SERVER_SIGN */
void og_dht_announcer_job_done(
	struct og_dht_announcer *an, const struct og_job *job, uint64_t now_ns);
uint64_t og_dht_announcer_tick(struct og_dht_announcer *an, uint64_t now_ns);
