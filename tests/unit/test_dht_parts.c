/* The small parts of the hyperdht layer, and handshakes captured from the reference. */
#include "crypto/namespaces.h"
#include "dht/challenge.h"
#include "dht/relay_cache.h"
#include "dht/replay.h"
#include "dht/self.h"
#include "dht/work.h"

#include "dht_vectors.h"

#include <errno.h>

Test(dht_parts, the_local_address_that_shares_most_octets_is_chosen)
{
	json_t *v;
	size_t i, k;

	json_array_foreach(vector_section("local_address_match"), i, v)
	{
		json_t *in = json_object_get(v, "input");
		json_t *want = json_object_get(json_object_get(v, "expected"), "chosen");
		struct og_dht_env env = {0};
		struct og_addr theirs[4], chosen;
		json_t *item;
		uint32_t nb = 0;
		bool found;

		json_array_foreach(json_object_get(in, "mine"), k, item)
			env.local_addrs[env.nb_local_addrs++] = vector_addr(item);
		json_array_foreach(json_object_get(in, "theirs"), k, item)
		{
			theirs[nb] = vector_addr(item);
			theirs[nb].port = (uint16_t)(100 + nb);
			nb++;
		}
		found = og_dht_self_match(&env, theirs, nb, &chosen);
		cr_assert_eq(found, json_is_string(want), "%s", vector_name(v));
		if (found) {
			struct og_addr a = vector_addr(want);

			cr_assert(og_addr_eq(&a, &chosen), "%s", vector_name(v));
		}
	}
}

Test(dht_parts, the_relay_cache_keeps_the_last_512_keys)
{
	static struct og_dht_relay_cache cache;
	struct og_addr relays[4] = {{{1, 1, 1, 1}, 0}, {{1, 1, 1, 1}, 1}, {{1, 1, 1, 1}, 2}},
		       got[OG_DHT_CACHE_RELAYS];
	uint8_t key[32] = {0};
	uint32_t kept = 0;

	for (uint32_t i = 0; i < 5000; i++) {
		key[0] = (uint8_t)i;
		key[1] = (uint8_t)(i >> 8);
		og_dht_relay_cache_put(&cache, key, relays, 3);
		cr_assert_eq(og_dht_relay_cache_get(&cache, key, got), 2, "port 0 is no relay");
	}
	for (uint32_t i = 0; i < 5000; i++) {
		key[0] = (uint8_t)i;
		key[1] = (uint8_t)(i >> 8);
		kept += og_dht_relay_cache_get(&cache, key, got) > 0;
	}
	cr_assert_eq(kept, 512);
}

Test(dht_parts, the_replay_filter_remembers_for_one_to_two_minutes)
{
	static struct og_dht_replay r;
	const uint64_t minute = 60 * OG_NS_PER_S;
	const uint8_t a[32] = "aaaa bbbb cccc dddd", b[32] = "other digest, 16 b";

	og_dht_replay_add(&r, a, minute);
	for (uint64_t s = 0; s < 60; s++)
		cr_assert(og_dht_replay_has(&r, a, minute + s * OG_NS_PER_S));
	cr_assert_not(og_dht_replay_has(&r, b, minute));
	cr_assert_not(og_dht_replay_has(&r, a, 4 * minute));
	og_dht_replay_add(&r, a, 100 * minute);
	cr_assert_not(og_dht_replay_has(&r, a, 200 * minute));
}

Test(dht_parts, a_challenge_is_met_once_with_its_tid_from_its_address)
{
	const struct og_addr a = {{8, 8, 8, 8}, 5}, other_port = {{8, 8, 8, 8}, 6};
	struct og_dht_challenges *c;
	uint64_t now_ns = 7 * OG_NS_PER_S;

	cr_assert_eq(og_dht_challenges_create(&c, 1024, 1), 0);
	cr_assert_not(og_dht_challenge_met(c, &a, 0, 77, now_ns), "nobody asked");
	cr_assert_eq(og_dht_challenge_add(c, &a, 1, 77, false, now_ns), 0);
	cr_assert_eq(og_dht_challenge_add(c, &a, 1, 78, false, now_ns), -EALREADY);
	cr_assert_not(og_dht_challenge_met(c, &other_port, 1, 77, now_ns));
	cr_assert_not(og_dht_challenge_met(c, &a, 0, 77, now_ns), "another endpoint");
	cr_assert(og_dht_challenge_met(c, &a, 1, 77, now_ns + OG_NS_PER_S));
	cr_assert_not(og_dht_challenge_met(c, &a, 1, 77, now_ns + OG_NS_PER_S), "once");
	cr_assert_eq(og_dht_challenge_add(c, &a, 1, 79, false, now_ns + OG_NS_PER_S), 0);
	cr_assert_not(og_dht_challenge_met(c, &a, 1, 79, now_ns + 4 * OG_NS_PER_S), "late");
	og_dht_challenges_destroy(c);
}

Test(dht_parts, the_tid_of_a_challenge_cannot_be_found_by_trying)
{
	const struct og_addr a = {{8, 8, 8, 8}, 5};
	struct og_dht_challenges *c;
	uint64_t now_ns = 0;

	cr_assert_eq(og_dht_challenges_create(&c, 1024, 1), 0);
	cr_assert_eq(og_dht_challenge_add(c, &a, 0, 65535, false, now_ns), 0);
	for (uint32_t tid = 0; tid <= UINT16_MAX; tid++)
		cr_assert_not(og_dht_challenge_met(c, &a, 0, (uint16_t)tid, now_ns));
	now_ns += OG_NS_PER_S;
	cr_assert_eq(og_dht_challenge_add(c, &a, 0, 9, false, now_ns), 0);
	cr_assert(og_dht_challenge_met(c, &a, 0, 9, now_ns), "the next one counts");
	og_dht_challenges_destroy(c);
}

Test(dht_parts, who_is_challenged_is_not_forgotten_for_a_net_that_floods)
{
	const struct og_addr honest = {{8, 8, 8, 8}, 5};
	struct og_dht_challenges *c;
	uint32_t taken = 0, limited = 0;

	cr_assert_eq(og_dht_challenges_create(&c, 65536, 1), 0);
	cr_assert_eq(og_dht_challenge_add(c, &honest, 0, 9, false, 0), 0);
	for (uint32_t i = 0; i < 200000; i++) {
		struct og_addr a = {{9, 9, 9, (uint8_t)i}, (uint16_t)(1 + i / 256)};
		int ret = og_dht_challenge_add(c, &a, 0, 9, false, i * OG_NS_PER_S / 200000);

		taken += ret == 0;
		limited += ret == -EDQUOT;
	}
	cr_assert_leq(taken, 2 * 256);
	cr_assert_eq(taken + limited, 200000);
	cr_assert(og_dht_challenge_met(c, &honest, 0, 9, OG_NS_PER_S));
	/* Exempt ones, as in a network of tests, have no rate, and the table its bound. */
	cr_assert_eq(og_dht_challenge_add(c, &honest, 0, 9, false, OG_NS_PER_S), 0);
	for (uint32_t i = 0; i < 20000; i++) {
		struct og_addr a = {{10, 9, (uint8_t)(i >> 8), (uint8_t)i}, 1};

		cr_assert_eq(og_dht_challenge_add(c, &a, 0, 9, true, OG_NS_PER_S), 0);
	}
	cr_assert(og_dht_challenge_met(c, &honest, 0, 9, OG_NS_PER_S));
	og_dht_challenges_destroy(c);
}

/* ---- stream.json: handshakes of the reference, through relays and direct ---- */

/* The Noise bytes of the n-th PEER_HANDSHAKE datagram of a mode. */
static struct vector_bytes captured(json_t *connection, uint8_t mode, struct og_dht_handshake *h)
{
	json_t *d;
	size_t i;

	json_array_foreach(json_object_get(connection, "datagrams"), i, d)
	{
		struct vector_bytes bytes = vector_field(d, "hex"), noise = {0};
		struct og_dht_msg m;

		if (og_dht_msg_decode(&m, bytes.data, bytes.len) < 0 || !m.has_value ||
			(!m.reply && m.command != 0) ||
			og_dht_handshake_decode(h, m.value, m.value_bytes) < 0 || h->mode != mode ||
			h->noise_bytes < 64)
			continue;
		noise.len = h->noise_bytes;
		memcpy(noise.data, h->noise, h->noise_bytes);
		return noise;
	}
	cr_assert_fail("no datagram of mode %u", mode);
	return (struct vector_bytes){0};
}

static struct og_keypair keypair_of(json_t *seed)
{
	struct vector_bytes bytes = vector_hex(json_string_value(seed));
	struct og_keypair kp;

	og_keypair_from_seed(&kp, bytes.data);
	return kp;
}

static void replay_connection(const char *name, bool direct)
{
	json_t *c = json_object_get(vector_file("stream.json"), name);
	json_t *ours = json_object_get(c, "server"), *theirs = json_object_get(c, "client");
	struct og_keypair server =
		keypair_of(json_object_get(json_object_get(c, "server_static"), "seed"));
	struct vector_bytes ephemeral = vector_field(c, "server_ephemeral_seed");
	struct vector_bytes client_key =
		vector_field(json_object_get(c, "client_static"), "public");
	struct og_dht_handshake h1, h2;
	struct vector_bytes n1 = captured(c, OG_DHT_FROM_CLIENT, &h1);
	struct vector_bytes n2 = captured(c, OG_DHT_REPLY, &h2);
	struct vector_bytes tx = vector_field(ours, "tx"), rx = vector_field(ours, "rx");
	struct og_rand rng;
	struct og_job *job = calloc(1, sizeof(*job));
	struct og_job_noise_accept *accept = OG_JOB_BODY(job, noise_accept);
	struct og_job_noise_reply *reply = OG_JOB_BODY(job, noise_reply);
	struct og_dht_payload p;
	struct og_noise state;
	uint8_t plain[200] = {0};
	uint32_t plain_bytes = (uint32_t)n2.len - OG_NOISE_IK_2_OVERHEAD;

	og_rand_seeded(&rng, 1);
	cr_assert_eq(h2.has_peer, !direct);
	og_dht_work_accept(job, &server, &rng, n1.data, (uint32_t)n1.len);
	memcpy(accept->ephemeral_seed, ephemeral.data, 32);
	job->run(job);
	cr_assert_eq(job->result, 0);
	cr_assert_arr_eq(accept->remote_key, client_key.data, 32);
	cr_assert_eq(og_dht_payload_decode(&p, accept->payload, accept->payload_bytes), 0);
	cr_assert_eq(p.version, 1);
	cr_assert_eq(p.udx_id, vector_int(theirs, "local_id"));
	cr_assert_eq(p.udx_id, vector_int(ours, "remote_id"));

	/* The same length of payload gives the same keys; its bytes are the other side's. */
	state = accept->state;
	og_dht_work_reply(job, &state, plain, plain_bytes);
	job->run(job);
	cr_assert_eq(job->result, 0);
	cr_assert_eq(reply->message_bytes, n2.len);
	cr_assert_arr_eq(reply->message, n2.data, 32, "the ephemeral key");
	cr_assert_arr_eq(reply->keys.tx, tx.data, 32);
	cr_assert_arr_eq(reply->keys.rx, rx.data, 32);
	free(job);
}

Test(dht_parts, a_captured_handshake_through_relays_is_read)
{
	cr_assert_eq(og_crypto_init(), 0);
	replay_connection("connection", false);
}

Test(dht_parts, a_captured_direct_handshake_is_read)
{
	cr_assert_eq(og_crypto_init(), 0);
	replay_connection("connection_direct", true);
}

/* The client's half: message 1 byte for byte, then the reply of the reference. */
Test(dht_parts, a_captured_reply_is_read_by_the_client)
{
	json_t *c = json_object_get(vector_file("stream.json"), "connection");
	json_t *us = json_object_get(c, "client"), *them = json_object_get(c, "server");
	struct og_keypair client =
		keypair_of(json_object_get(json_object_get(c, "client_static"), "seed"));
	struct og_keypair server =
		keypair_of(json_object_get(json_object_get(c, "server_static"), "seed"));
	struct vector_bytes ephemeral = vector_field(c, "client_ephemeral_seed");
	struct vector_bytes tx = vector_field(us, "tx"), hash = vector_field(us, "hash");
	struct og_dht_handshake h;
	struct vector_bytes n1 = captured(c, OG_DHT_FROM_CLIENT, &h);
	struct vector_bytes n2 = captured(c, OG_DHT_REPLY, &h);
	struct og_job *job = calloc(1, sizeof(*job));
	struct og_job_noise_accept *accept = OG_JOB_BODY(job, noise_accept);
	struct og_job_noise_connect *connect = OG_JOB_BODY(job, noise_connect);
	struct og_job_noise_finish *finish = OG_JOB_BODY(job, noise_finish);
	struct og_dht_payload p;
	struct og_noise state;
	struct og_rand rng;
	uint8_t plain[200];
	uint32_t plain_bytes;

	cr_assert_eq(og_crypto_init(), 0);
	og_rand_seeded(&rng, 1);
	og_dht_work_accept(job, &server, &rng, n1.data, (uint32_t)n1.len);
	job->run(job);
	cr_assert_eq(job->result, 0);
	plain_bytes = accept->payload_bytes;
	memcpy(plain, accept->payload, plain_bytes);

	og_dht_work_connect(job, &client, &rng, server.public_key, plain, plain_bytes);
	memcpy(connect->ephemeral_seed, ephemeral.data, 32);
	job->run(job);
	cr_assert_eq(job->result, 0);
	vector_expect(connect->message, connect->message_bytes, &n1, "message 1");
	state = connect->state;
	og_dht_work_finish(job, &state, n2.data, (uint32_t)n2.len);
	job->run(job);
	cr_assert_eq(job->result, 0);
	cr_assert_arr_eq(finish->keys.tx, tx.data, 32);
	cr_assert_arr_eq(finish->keys.hash, hash.data, 64);
	cr_assert_eq(og_dht_payload_decode(&p, finish->payload, finish->payload_bytes), 0);
	cr_assert_eq(p.firewall, OG_DHT_FIREWALL_OPEN);
	cr_assert_eq(p.udx_id, vector_int(them, "local_id"));
	cr_assert_not(p.has_holepunch);
	free(job);
}
