#include "cluster/peers.h"

#include "cluster/core.h"
#include "cluster/outbox.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

enum { CONNS = 4 };

static uint8_t buffer[2048];
static const uint8_t own_key[32] = {9};
static struct og_peers *peers;
static struct og_cluster_core_stats stats;
static uint64_t handles[CONNS + 1];

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = sizeof(buffer);
	return buffer;
}

static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
}

static int push(struct og_sink *sink, const struct og_msg *msg)
{
	return 0;
}

static void setup(void)
{
	static struct og_tx tx = {reserve, commit};
	static struct og_sink sink = {push};
	static struct og_outbox outbox;
	static struct og_rand rand;
	static const struct og_swarm_ops nothing;
	struct og_swarm_opts so = {
		.ops = &nothing, .rand = &rand, .own_key = own_key, .peers_max = 16};
	struct og_peers_opts po = {.own_key = own_key,
		.nb_conns = CONNS,
		.frame_budget_bytes = 1 << 20,
		.tx = &tx,
		.rand = &rand,
		.outbox = &outbox,
		.stats = &stats};
	struct og_swarm *swarm;

	cr_assert_eq(og_crypto_init(), 0);
	og_rand_seeded(&rand, 1);
	cr_assert_eq(og_outbox_init(&outbox, &sink, 16), 0);
	cr_assert_eq(og_swarm_create(&swarm, &so), 0);
	cr_assert_eq(og_peers_create(&peers, &po), 0);
	og_peers_wire(peers, NULL, swarm);
}

/* A handshake is done with peer `i`, and nothing has been heard of it since. */
static void connect_peer(uint32_t i, bool initiator, uint64_t now_ns)
{
	static struct og_noise_keys keys;
	struct og_dht_conn conn = {.keys = &keys,
		.initiator = initiator,
		.remote_udx_id = i,
		.has_remote = true,
		.remote = {{10, 0, 0, 1}, 7},
		.remote_key = {(uint8_t)(100 + i)}};
	uint32_t udx_id;

	cr_assert_eq(og_peers_reserve(peers, &handles[i], &udx_id, now_ns), 0);
	conn.stream = handles[i];
	og_peers_connected(peers, &conn, now_ns);
}

Test(peers, when_all_is_full_who_was_accepted_first_and_is_silent_gives_way, .init = setup)
{
	uint64_t now = OG_NS_PER_S, extra;
	uint32_t udx_id;

	for (uint32_t i = 0; i < CONNS; i++, now += OG_NS_PER_MS)
		connect_peer(i, false, now);
	cr_assert_eq(og_peers_count(peers), CONNS);
	cr_assert_eq(og_peers_reserve(peers, &extra, &udx_id, now), 0);
	cr_assert_eq(og_peers_count(peers), CONNS - 1);
	cr_assert_eq(stats.silent_evicted, 1);
	og_peers_release(peers, handles[0], now); /* it has passed: nothing happens */
	cr_assert_eq(og_peers_count(peers), CONNS - 1);
	og_peers_release(peers, handles[1], now);
	cr_assert_eq(og_peers_count(peers), CONNS - 2);
}

Test(peers, our_own_calls_do_not_give_way, .init = setup)
{
	uint64_t now = OG_NS_PER_S, extra;
	uint32_t udx_id;

	for (uint32_t i = 0; i < CONNS; i++)
		connect_peer(i, true, now);
	cr_assert_eq(og_peers_reserve(peers, &extra, &udx_id, now), -ENOSPC);
	cr_assert_eq(stats.silent_evicted, 0);
	cr_assert_eq(og_peers_count(peers), CONNS);
}
