/* Who calls us, and what it can cost: connections made by hand from the handshake on. */
#include "cluster/peers.h"

#include "crypto/keys.h"
#include "crypto/secretstream.h"
#include "transport/udx.h"
#include "transport/udx_wire.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define SEC OG_NS_PER_S

enum { DATAGRAM_MAX = 1500, IP_UDP_BYTES = 28 };

static struct world {
	struct og_tx tx;
	struct og_jobs jobs;
	struct og_sink sink;
	struct og_rand rand;
	struct og_keypair keys;
	struct og_outbox outbox;
	struct og_cluster_core_stats stats;
	struct og_dht *dht;
	struct og_swarm *swarm;
	struct og_peers *peers;
	uint64_t now;
	uint32_t opened, closed, data_bytes;
	uint8_t last_open[32];
	uint64_t nb_out, bytes_out; /* UDX datagrams, with IP and UDP headers */
	uint8_t buf[DATAGRAM_MAX];
} w;

static uint8_t *tx_reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = sizeof(w.buf);
	return w.buf;
}

static void tx_commit(
	struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl, uint16_t n)
{
	if (w.buf[0] != 0xff)
		return;
	w.nb_out++;
	w.bytes_out += n + IP_UDP_BYTES;
}

static struct og_job *no_job(struct og_jobs *jobs)
{
	return NULL;
}

static int on_event(struct og_sink *sink, const struct og_msg *m)
{
	if (m->type == OG_EV_PEER_OPEN) {
		w.opened++;
		memcpy(w.last_open, m->key, 32);
	}
	w.closed += m->type == OG_EV_PEER_CLOSED;
	if (m->type == OG_EV_PEER_DATA)
		w.data_bytes += m->len_bytes;
	return 0;
}

static int swarm_started(void *ctx, const uint8_t topic[32], unsigned flags, uint64_t now_ns)
{
	return 0;
}

static int swarm_unannounce(void *ctx, const uint8_t topic[32], uint64_t now_ns)
{
	return 0;
}

static int swarm_dial(void *ctx, const uint8_t key[32], const struct og_addr *relays, uint32_t n,
	uint64_t tag, uint64_t now_ns)
{
	return 0;
}

static void swarm_cancel(void *ctx, uint64_t tag, uint64_t now_ns)
{
}

static bool swarm_allowed(void *ctx, const uint8_t key[32])
{
	return true;
}

static const struct og_swarm_ops swarm_ops = {.refresh = swarm_started,
	.unannounce = swarm_unannounce,
	.dial = swarm_dial,
	.dial_cancel = swarm_cancel,
	.allowed = swarm_allowed};
static const struct og_dht_ops dht_ops = {0};

static void world_new(uint32_t nb_conns)
{
	struct og_dht_opts dht = {
		.rpc = {.local[0] = {{10, 0, 0, 1}, 4000}, .tx = &w.tx, .rand = &w.rand},
		.keypair = &w.keys,
		.ops = &dht_ops,
		.jobs = &w.jobs};
	struct og_swarm_opts swarm = {&swarm_ops, &w, &w.rand, w.keys.public_key, 4096};
	struct og_peers_opts peers = {.own_key = w.keys.public_key,
		.nb_conns = nb_conns,
		.nb_packets = 4096,
		.frame_budget_bytes = 256 << 20,
		.tx = &w.tx,
		.rand = &w.rand,
		.outbox = &w.outbox,
		.stats = &w.stats};

	memset(&w, 0, sizeof(w));
	cr_assert_eq(og_crypto_init(), 0);
	w.now = 1000 * SEC;
	w.tx = (struct og_tx){tx_reserve, tx_commit};
	w.jobs.begin = no_job;
	w.sink.push = on_event;
	og_rand_seeded(&w.rand, 7); /* our key is 00…: every other one is larger, and wins */
	cr_assert_eq(og_outbox_init(&w.outbox, &w.sink, 4 * nb_conns + 256), 0);
	cr_assert_eq(og_dht_create(&w.dht, &dht, w.now), 0);
	cr_assert_eq(og_swarm_create(&w.swarm, &swarm), 0);
	cr_assert_eq(og_peers_create(&w.peers, &peers), 0);
	og_peers_wire(w.peers, w.dht, w.swarm);
}

static void world_free(void)
{
	og_dht_destroy(w.dht);
	og_peers_destroy(w.peers);
	og_swarm_destroy(w.swarm);
	og_outbox_fini(&w.outbox);
}

static void run_for(uint64_t ns)
{
	uint64_t end = w.now + ns;

	while (w.now < end) {
		uint64_t next = og_peers_tick(w.peers, w.now);

		w.now = OG_MIN(end, OG_MAX(next, w.now + OG_NS_PER_MS));
	}
	og_outbox_flush(&w.outbox);
}

/* Somebody whose handshake went well. */
struct caller {
	struct og_addr addr;
	uint32_t udx_id, seq;
	struct og_noise_keys keys;
	struct og_secretstream_tx tx;
	uint8_t header[OG_FRAME_HEADER_BYTES];
};

static int call(struct caller *c, uint32_t key_no, struct og_addr addr)
{
	static const uint8_t random[OG_STREAM_HEADER_BYTES] = {7};
	struct og_noise_keys ours;
	struct og_dht_conn conn = {.keys = &ours, .remote_udx_id = 99, .has_remote = true};
	int ret;

	memset(c, 0, sizeof(*c));
	c->addr = conn.remote = addr;
	og_store_le32(conn.remote_key + 4, key_no);
	conn.remote_key[0] = 0xee;
	ret = og_peers_reserve(w.peers, &conn.stream, &c->udx_id, w.now);
	if (ret < 0)
		return ret;
	og_rand_fill(&w.rand, &c->keys, sizeof(c->keys));
	ours = c->keys;
	memcpy(ours.tx, c->keys.rx, sizeof(ours.tx));
	memcpy(ours.rx, c->keys.tx, sizeof(ours.rx));
	og_secretstream_tx_init(&c->tx, &c->keys, true, random, c->header);
	og_peers_connected(w.peers, &conn, w.now);
	return 0;
}

static void send_stream(struct caller *c, const void *bytes, uint16_t n)
{
	uint8_t packet[OG_UDX_HEADER_BYTES + 1400];
	struct og_udx_header h = {.flags = OG_UDX_DATA,
		.id = c->udx_id,
		.window = OG_UDX_WINDOW_BYTES,
		.seq = c->seq++};
	struct og_dgram d = {
		.data = packet, .len_bytes = (uint16_t)(OG_UDX_HEADER_BYTES + n), .src = c->addr};

	og_udx_encode(packet, &h);
	memcpy(packet + OG_UDX_HEADER_BYTES, bytes, n);
	(void)!og_peers_input(w.peers, &d, w.now);
	og_peers_flush(w.peers, w.now);
}

static void prove(struct caller *c)
{
	uint8_t frame[OG_FRAME_OVERHEAD];

	send_stream(c, c->header, sizeof(c->header));
	cr_assert_eq(og_secretstream_seal(&c->tx, frame, NULL, 0), 0);
	send_stream(c, frame, sizeof(frame));
}

static struct og_addr lan(uint32_t n)
{
	return og_addr_from_key((uint64_t)(0x0a000100 + n) << 16 | 5000);
}

static struct og_addr wan(uint32_t ip)
{
	return og_addr_from_key((uint64_t)ip << 16 | 5000);
}

Test(peers, nobody_is_seen_before_his_first_authenticated_bytes)
{
	struct caller c, forger;
	uint8_t noise[64] = {OG_FRAME_OVERHEAD};

	world_new(16);
	cr_assert_eq(call(&forger, 2, lan(2)), 0);
	send_stream(&forger, forger.header, sizeof(forger.header));
	send_stream(&forger, noise, sizeof(noise));
	run_for(SEC);
	cr_assert_eq(call(&c, 1, lan(1)), 0);
	run_for(SEC);
	send_stream(&c, c.header, sizeof(c.header));
	run_for(SEC);
	cr_assert_eq(w.opened + w.closed, 0);
	c.seq = 0;
	prove(&c);
	cr_assert_eq(w.opened, 1);
	run_for(60 * SEC);
	cr_assert_eq(og_peers_count(w.peers), 0, "the silent are gone after a while");
	world_free();
}

Test(peers, a_key_has_one_open_connection_however_often_it_calls)
{
	struct caller c;

	world_new(256);
	for (uint32_t i = 0; i < 500; i++) {
		cr_assert_eq(call(&c, 1, lan(1)), 0);
		if (i % 2)
			prove(&c);
		cr_assert_leq(og_peers_count(w.peers), 4);
		cr_assert_leq(w.opened - w.closed, 1, "%u are open", w.opened - w.closed);
	}
	cr_assert_eq(w.opened, 250, "each new one that proves itself wins");
	for (uint32_t i = 0; i < 100; i++)
		cr_assert_eq(call(&c, 1, lan(1)), 0);
	cr_assert_eq(og_peers_count(w.peers), 4);
	cr_assert_eq(w.opened - w.closed, 1);
	world_free();
}

Test(peers, a_net_on_the_internet_has_a_share)
{
	struct caller c;

	world_new(1024);
	for (uint32_t i = 0; i < 10; i++) {
		cr_assert_eq(call(&c, i, wan(0x05050500 + i)), 0);
		prove(&c);
	}
	for (uint32_t i = 100; i < 300; i++)
		cr_assert_eq(call(&c, i, wan(0x05050500 + i % 256)), 0);
	cr_assert_eq(og_peers_count(w.peers), 64);
	cr_assert_eq(w.opened - w.closed, 10, "who has proved himself stays");
	cr_assert_eq(call(&c, 5000, wan(0x05050501)), 0);
	prove(&c);
	cr_assert_eq(w.opened, 11, "and the next one gets in");
	for (uint32_t i = 1000; w.opened < 64; i++) {
		cr_assert_eq(call(&c, i, wan(0x05050500)), 0);
		prove(&c);
	}
	cr_assert_eq(call(&c, 6000, wan(0x05050501)), 0);
	prove(&c);
	cr_assert_eq(w.opened, 64);
	cr_assert_gt(w.stats.refused_limit, 0);
	for (uint32_t i = 0; i < 200; i++)
		cr_assert_eq(call(&c, 10000 + i, lan(i)), 0);
	cr_assert_eq(og_peers_count(w.peers), 264, "private ranges are exempt");
	world_free();
}

Test(peers, a_full_table_gives_up_who_never_proved_himself)
{
	struct caller c;

	world_new(32);
	for (uint32_t i = 0; i < 8; i++) {
		cr_assert_eq(call(&c, i, lan(i)), 0);
		prove(&c);
	}
	for (uint32_t i = 0; i < 10000; i++) {
		cr_assert_eq(call(&c, 100 + i, wan(0x14000001 + (i << 8))), 0);
		run_for(OG_NS_PER_MS);
	}
	cr_assert_eq(og_peers_count(w.peers), 32);
	cr_assert_eq(w.opened - w.closed, 8);
	cr_assert_geq(w.stats.half_open_evicted, 9000);
	cr_assert_eq(call(&c, 50000, lan(99)), 0);
	prove(&c);
	cr_assert_eq(w.opened, 9);
	for (uint32_t i = 0; w.opened < 32; i++) {
		cr_assert_eq(call(&c, 60000 + i, lan(i)), 0);
		prove(&c);
	}
	cr_assert_eq(call(&c, 70000, lan(1)), -ENOSPC);
	cr_assert_eq(w.opened - w.closed, 32);
	world_free();
}

Test(peers, little_is_sent_to_an_address_where_nobody_has_answered)
{
	struct caller c;

	world_new(4);
	cr_assert_eq(call(&c, 1, wan(0x05050505)), 0);
	run_for(30 * SEC);
	/* Its header frame, three times. */
	cr_assert_eq(w.nb_out, OG_UDX_UNPROVEN_PACKETS);
	cr_assert_leq(w.bytes_out, OG_UDX_UNPROVEN_PACKETS * (IP_UDP_BYTES + OG_UDX_HEADER_BYTES +
								     OG_FRAME_HEADER_BYTES));
	cr_assert_eq(og_peers_count(w.peers), 0);
	/* Somebody else who has the number of the stream does not change that. */
	w.nb_out = 0;
	cr_assert_eq(call(&c, 1, wan(0x05050505)), 0);
	c.addr = wan(0x06060606);
	send_stream(&c, c.header, 8);
	run_for(30 * SEC);
	cr_assert_leq(w.nb_out, OG_UDX_UNPROVEN_PACKETS + 2);
	/* Who answers gets what is missing. */
	w.nb_out = 0;
	cr_assert_eq(call(&c, 1, wan(0x05050505)), 0);
	run_for(5 * SEC);
	prove(&c);
	run_for(5 * SEC);
	cr_assert_gt(w.nb_out, OG_UDX_UNPROVEN_PACKETS + 2);
	world_free();
}

static uint64_t resident_bytes(void)
{
	unsigned long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	cr_assert(f);
	cr_assert_eq(fscanf(f, "%lu %lu", &size, &resident), 2);
	fclose(f);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

Test(peers, a_thousand_frames_that_claim_16_MiB_cost_next_to_nothing)
{
	enum { NB = 1000 };
	static struct caller c[NB];
	static const uint8_t claim[3] = {0xff, 0xff, 0xff};
	uint64_t before;

	world_new(NB);
	for (uint32_t i = 0; i < NB; i++) {
		cr_assert_eq(call(&c[i], i, lan(i)), 0);
		prove(&c[i]);
	}
	run_for(SEC);
	before = resident_bytes();
	for (uint32_t i = 0; i < NB; i++) {
		send_stream(&c[i], claim, 3);
		send_stream(&c[i], "x", 1);
	}
	run_for(SEC);
	cr_assert_eq(w.opened, NB);
	cr_assert_eq(w.closed, 0);
	cr_assert_leq(resident_bytes() - before, 16 << 20);
	world_free();
}

Test(peers, lists_of_keys_say_who_may_connect)
{
	uint8_t friend[32] = {1}, foe[32] = {2}, other[32] = {3};

	world_new(4);
	cr_assert(og_peers_allowed(w.peers, friend));
	cr_assert_not(og_peers_allowed(w.peers, w.keys.public_key), "not ourselves");
	cr_assert_eq(og_peers_list_add(w.peers, false, foe), 0);
	cr_assert_not(og_peers_allowed(w.peers, foe));
	cr_assert(og_peers_allowed(w.peers, other));
	cr_assert_eq(og_peers_list_add(w.peers, true, friend), 0);
	cr_assert_eq(og_peers_list_add(w.peers, true, foe), 0);
	cr_assert(og_peers_allowed(w.peers, friend));
	cr_assert_not(og_peers_allowed(w.peers, other));
	cr_assert_not(og_peers_allowed(w.peers, foe), "denied is denied");
	for (uint32_t i = 0; i < 1022; i++) {
		og_store_le32(other + 4, i);
		cr_assert_eq(og_peers_list_add(w.peers, true, other), 0);
	}
	other[0] = 9;
	cr_assert_eq(og_peers_list_add(w.peers, true, other), -ENOSPC);
	world_free();
}
