#include "cluster/core.h"

#include <criterion/criterion.h>

static uint8_t buffer[2048];
static uint32_t refreshed;

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = sizeof(buffer);
	return buffer;
}

static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
}

static struct og_job *begin(struct og_jobs *jobs)
{
	return NULL;
}

static void post(struct og_jobs *jobs, struct og_job *job)
{
}

static int push(struct og_sink *sink, const struct og_msg *msg)
{
	refreshed += msg->type == OG_EV_JOINED || msg->type == OG_EV_JOIN_RETRY;
	return 0;
}

/* The first node of a network has nobody to ask, so a join is over as soon as it is driven. */
Test(core, asks_to_be_ticked_again_when_the_swarm_has_given_the_dht_work)
{
	struct og_tx tx = {reserve, commit};
	struct og_jobs jobs = {begin, post};
	struct og_sink events = {push};
	struct og_rand rand;
	struct og_keypair keys;
	struct og_cluster_core_opts opts = {.env = {&tx, &jobs, &events, &rand, 0},
		.keys = &keys,
		.local = {{{127, 0, 0, 1}, 7000}},
		.public_addr = {{127, 0, 0, 1}, 7000},
		.ephemeral = OG_CORE_NO,
		.peers_max = 4};
	const struct og_msg join = {.type = OG_CMD_JOIN, .flags = OG_JOIN_CLIENT};
	const uint8_t seed[32] = {1};
	uint64_t start = OG_NS_PER_S, now = start, next = start;
	struct og_core *core;

	cr_assert_eq(og_crypto_init(), 0);
	og_rand_seeded(&rand, 1);
	og_keypair_from_seed(&keys, seed);
	cr_assert_eq(og_cluster_core_create(&core, &opts, now), 0);
	cr_assert_eq(core->ops->command(core, &join, now), 0);
	for (int i = 0; i < 1000 && refreshed == 0; i++) {
		now = OG_MAX(now, next);
		next = core->ops->tick(core, now);
	}
	cr_assert_eq(refreshed, 1);
	cr_assert_lt(now - start, 100 * OG_NS_PER_MS);
	og_cluster_core_destroy(core);
}
