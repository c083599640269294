#include "dht/store.h"

#include "dht/shelf.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static const uint64_t minute = 60 * OG_NS_PER_S;
static const uint8_t topic[32] = "topic";
static struct og_rand rng;
static struct og_dht_store *store;

static void setup(void)
{
	struct og_dht_store_opts opts = {.rand = &rng,
		.wall_ms = 1700000000000ull,
		.nb_records = 1000,
		.nb_routes = 100,
		.nb_mutables = 10,
		.nb_immutables = 10};

	og_rand_seeded(&rng, 1);
	cr_assert_eq(og_dht_store_create(&store, &opts, 0), 0);
}

static void teardown(void)
{
	og_dht_store_destroy(store);
}

TestSuite(dht_store, .init = setup, .fini = teardown);

static struct og_dht_peer peer_of(uint8_t key[32], uint32_t n)
{
	static uint8_t relays[5 * 6];

	memset(key, 0, 32);
	memcpy(key, &n, 4);
	return (struct og_dht_peer){.public_key = key, .relays = relays};
}

static struct og_dht_source source_of(uint32_t prefix)
{
	return (struct og_dht_source){.addr = {{127, 0, 0, 1}, 1000}, .prefix = prefix};
}

static void announce(const uint8_t *target, bool self, uint32_t n, uint32_t prefix, uint64_t now)
{
	uint8_t key[32];
	struct og_dht_peer peer = peer_of(key, n);
	struct og_dht_source src = source_of(prefix);

	og_dht_store_announce(store, target, self, &peer, &src, now);
}

static struct og_reader lookup(const uint8_t *target, uint64_t now)
{
	const uint8_t *value;
	uint32_t n = og_dht_store_lookup(store, target, now, &value);

	return og_reader_of(value, n);
}

static uint32_t found(const uint8_t *target, uint64_t now)
{
	const uint8_t *buf;
	uint32_t len = og_dht_store_lookup(store, target, now, &buf), nb = 0;
	struct og_reader r = og_reader_of(buf, len);

	if (len == 0)
		return 0;
	cr_assert_eq(og_dht_lookup_begin(&r, &nb), 0);
	return nb;
}

Test(dht_store, gives_twenty_of_many_at_random_and_each_of_them_in_time)
{
	bool seen[100] = {false};
	uint32_t nb_seen = 0;

	for (uint32_t i = 0; i < 100; i++)
		announce(topic, false, i, 0, 0);
	for (int round = 0; round < 100; round++) {
		struct og_reader r = lookup(topic, 1);
		uint32_t nb;

		cr_assert_eq(og_dht_lookup_begin(&r, &nb), 0);
		cr_assert_eq(nb, 20);
		for (uint32_t i = 0; i < nb; i++) {
			struct og_dht_peer peer;

			cr_assert_eq(og_dht_peer_decode(&peer, &r), 0);
			if (!seen[peer.public_key[0]])
				nb_seen++;
			seen[peer.public_key[0]] = true;
		}
	}
	cr_assert_eq(nb_seen, 100);
}

Test(dht_store, an_answer_follows_what_is_stored)
{
	uint8_t key[32];

	cr_assert_eq(found(topic, 0), 0);
	for (uint32_t i = 0; i < 20; i++) {
		announce(topic, false, i, 0, i);
		cr_assert_eq(found(topic, i), i + 1);
		cr_assert_eq(found(topic, i), i + 1, "asked again");
	}
	peer_of(key, 7);
	og_dht_store_unannounce(store, topic, false, key, 20);
	cr_assert_eq(found(topic, 20), 19);
	cr_assert_eq(found(topic, 20 * minute - 1), 19);
	cr_assert_eq(found(topic, 20 * minute), 18, "the first has expired");
	cr_assert_eq(found(topic, 20 * minute + 19), 0);
}

Test(dht_store, keeps_the_first_three_relays_and_replaces_a_record_at_once)
{
	const uint8_t *buf;
	uint8_t key[32];
	struct og_dht_peer peer = peer_of(key, 1), back;
	struct og_dht_source src = source_of(0);
	struct og_reader r;
	uint32_t nb;

	peer.nb_relays = 5;
	og_dht_store_announce(store, topic, false, &peer, &src, 0);
	r = lookup(topic, 0);
	cr_assert_eq(og_dht_lookup_begin(&r, &nb), 0);
	cr_assert_eq(og_dht_peer_decode(&back, &r), 0);
	cr_assert_eq(back.nb_relays, 3);

	peer.nb_relays = 0;
	og_dht_store_announce(store, topic, false, &peer, &src, 1);
	cr_assert_eq(og_dht_store_lookup(store, topic, 1, &buf), 1 + 33 + 1);
}

Test(dht_store, a_record_expires_by_age_however_often_it_is_read)
{
	announce(topic, false, 1, 0, 0);
	for (uint64_t t = 0; t < 20; t++)
		cr_assert_eq(found(topic, t * minute), 1, "%lu", t);
	cr_assert_eq(found(topic, 20 * minute), 0);
}

Test(dht_store, a_record_is_gone_after_unannounce)
{
	uint8_t key[32];

	announce(topic, false, 1, 0, 0);
	announce(topic, false, 2, 0, 0);
	peer_of(key, 1);
	og_dht_store_unannounce(store, topic, false, key, 1);
	cr_assert_eq(found(topic, 1), 1);
	og_dht_store_unannounce(store, topic, false, key, 1);
	cr_assert_eq(og_dht_store_counts(store).records, 1);
}

Test(dht_store, a_self_announce_makes_a_route_and_drops_the_topic_record)
{
	uint8_t buf[OG_DHT_RECORD_MAX];
	struct og_dht_route route;

	announce(topic, false, 1, 0, 0);
	announce(topic, true, 1, 0, 1);
	cr_assert_eq(og_dht_store_counts(store).records, 0);
	cr_assert(og_dht_store_route(store, topic, 2, &route));
	cr_assert_eq(route.addr.port, 1000);
	cr_assert_eq(og_dht_store_find_peer(store, topic, 2, buf), 33);
	cr_assert_eq(found(topic, 2), 1);
	cr_assert_not(og_dht_store_route(store, topic, 21 * minute, &route));
}

Test(dht_store, local_entries_win_over_remote_announces)
{
	uint8_t key[32], buf[OG_DHT_RECORD_MAX];
	struct og_dht_route route;

	peer_of(key, 7);
	og_dht_store_set_own(store, topic, key);
	announce(topic, true, 7, 0, 0);
	cr_assert_not(og_dht_store_route(store, topic, 1, &route));
	cr_assert_eq(og_dht_store_find_peer(store, topic, 100 * minute, buf), 33);
	cr_assert_eq(og_dht_store_counts(store).routes, 0);
	og_dht_store_set_own(store, NULL, NULL);
	cr_assert_eq(og_dht_store_find_peer(store, topic, 1, buf), 0);
}

Test(dht_store, a_subnet_over_its_share_evicts_only_itself)
{
	announce(topic, false, 0, 0, 0);
	for (uint32_t i = 1; i <= 10; i++)
		announce(topic, false, i, 0x010203, 0); /* honest */
	for (uint32_t i = 100; i < 5000; i++)
		announce(topic, false, i, 0x090909, i);
	cr_assert_eq(og_dht_store_counts(store).records, 11 + 20);
	for (uint32_t i = 100; i < 5000; i++) {
		uint8_t target[32] = {0};

		memcpy(target, &i, 4);
		announce(target, false, i, 0x090909, i);
	}
	cr_assert_eq(og_dht_store_counts(store).records, 11 + 256);
}

Test(dht_store, a_full_store_gives_up_the_oldest)
{
	uint8_t first[32] = "first";

	announce(first, false, 1, 0, 0);
	for (uint32_t i = 0; i < 1000; i++) {
		uint8_t target[32] = {1};

		memcpy(target + 1, &i, 4);
		announce(target, false, i, 0, 1 + i);
	}
	cr_assert_eq(og_dht_store_counts(store).records, 1000);
	cr_assert_eq(found(first, 2000), 0);
	cr_assert_eq(og_dht_store_counts(store).evicted, 1);
}

Test(dht_store, a_bump_is_kept_if_newer_and_not_far_ahead)
{
	static const struct {
		uint64_t bump, want;
	} cases[] = {{1700000000000ull, 1700000000000ull}, {1600000000000ull, 1700000000000ull},
		{9000000000000ull, 1700000000000ull}, {1700000060000ull, 1700000060000ull}};

	announce(topic, false, 1, 0, 0);
	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		struct og_reader r;
		struct og_dht_peer peer;
		uint32_t nb;

		og_dht_store_bump(store, topic, cases[i].bump, 0);
		r = lookup(topic, 0);
		cr_assert_eq(og_dht_lookup_begin(&r, &nb), 0);
		cr_assert_eq(og_dht_peer_decode(&peer, &r), 0);
		cr_assert_eq(og_dht_lookup_bump(&r), cases[i].want);
	}
}

Test(dht_store, each_link_of_a_refresh_chain_works_once)
{
	uint8_t key[32];
	const uint8_t x0[32] = "x0", x1[32] = "x1", x2[32] = "x2";
	struct og_dht_peer peer = peer_of(key, 1);
	struct og_dht_source src = source_of(0);

	og_dht_store_expect(store, x0, topic, false, &peer, &src, 0);
	cr_assert_eq(og_dht_store_renew(store, topic, x0, x1, &src, minute), 0);
	cr_assert_eq(found(topic, minute), 1);
	cr_assert_eq(og_dht_store_renew(store, topic, x0, x1, &src, minute), -ENOENT);
	cr_assert_eq(og_dht_store_renew(store, topic, x1, x2, &src, 19 * minute), 0);
	cr_assert_eq(found(topic, 30 * minute), 1);
}

Test(dht_store, a_mutable_put_follows_the_sequence_rules)
{
	static const uint8_t sig[64];
	static const struct {
		uint64_t seq;
		const char *value;
		enum og_dht_put want;
	} cases[] = {{5, "five", OG_DHT_PUT_OK}, {5, "FIVE", OG_DHT_PUT_SEQ_REUSED},
		{5, "five", OG_DHT_PUT_OK}, {4, "four", OG_DHT_PUT_SEQ_TOO_LOW},
		{6, "", OG_DHT_PUT_OK}};
	struct og_dht_source src = source_of(0);
	struct og_dht_mutable m;

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		m = (struct og_dht_mutable){.seq = cases[i].seq,
			.value = (const uint8_t *)cases[i].value,
			.value_bytes = (uint32_t)strlen(cases[i].value),
			.signature = sig};
		cr_assert_eq(og_dht_store_put_mutable(store, topic, &m, &src, i), cases[i].want);
	}
	m.value_bytes = OG_DHT_STORED_MAX + 1;
	m.seq = 100;
	cr_assert_eq(og_dht_store_put_mutable(store, topic, &m, &src, 9), OG_DHT_PUT_TOO_LARGE);
	cr_assert(og_dht_store_get_mutable(store, topic, 10, &m));
	cr_assert_eq(m.seq, 6);
}

Test(dht_store, a_value_lives_48_hours_after_its_last_read)
{
	static const uint8_t value[OG_DHT_STORED_MAX];
	const uint64_t hour = 60 * minute;
	struct og_dht_source src = source_of(0);
	const uint8_t *got;
	uint32_t n;

	cr_assert_eq(og_dht_store_put_immutable(store, topic, value, sizeof(value), &src, 0),
		OG_DHT_PUT_OK);
	cr_assert(og_dht_store_get_immutable(store, topic, 47 * hour, &got, &n));
	cr_assert_eq(n, sizeof(value));
	cr_assert(og_dht_store_get_immutable(store, topic, 94 * hour, &got, &n));
	cr_assert_not(og_dht_store_get_immutable(store, topic, 143 * hour, &got, &n));
	cr_assert_eq(og_dht_store_put_immutable(store, topic, value, sizeof(value) + 1, &src, 0),
		OG_DHT_PUT_TOO_LARGE);
}

Test(dht_store, a_shelf_agrees_with_a_naive_model_under_random_use)
{
	enum { N = 64, OPS = 200000 };
	struct og_shelf s;
	const struct og_shelf_opts opts = {.nb_entries = N, .lifetime_ns = 1000};
	uint64_t model[N + 1] = {0}; /* renewed at, + 1; 0: not there */
	uint64_t now = 0;

	cr_assert_eq(og_shelf_init(&s, &opts, &rng), 0);
	for (int op = 0; op < OPS; op++) {
		uint32_t k = og_rand_below(&rng, N);
		uint8_t target[32] = {0};
		uint32_t i;

		now += og_rand_below(&rng, 20);
		target[31] = (uint8_t)k;
		i = og_shelf_first(&s, target, now);
		cr_assert_eq(i != 0, model[k] != 0 && now - (model[k] - 1) < 1000);
		switch (og_rand_below(&rng, 3)) {
		case 0:
			if (!i)
				og_shelf_insert(&s, target, og_rand_below(&rng, 4), now);
			else
				og_shelf_renew(&s, i, og_rand_below(&rng, 4), now);
			model[k] = now + 1;
			break;
		case 1:
			if (i)
				og_shelf_remove(&s, i);
			model[k] = 0;
			break;
		default:
			og_shelf_expire(&s, now);
		}
		cr_assert_leq(s.count, N);
	}
	cr_assert_eq(s.evicted, 0);
	og_shelf_fini(&s);
}
