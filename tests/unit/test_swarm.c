#include "cluster/swarm.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

struct world {
	struct og_swarm *s;
	struct og_rand rand;
	int refreshes, unannounces, dials, cancels, joined, retried, left;
	uint64_t tag;
	uint64_t now;
	uint8_t dialled[32];
	bool refuse;
};

static int on_refresh(void *ctx, const uint8_t topic[32], unsigned flags, uint64_t now_ns)
{
	((struct world *)ctx)->refreshes++;
	return 0;
}

static int on_unannounce(void *ctx, const uint8_t topic[32], uint64_t now_ns)
{
	((struct world *)ctx)->unannounces++;
	return 0;
}

static int on_dial(void *ctx, const uint8_t key[32], const struct og_addr *relays, uint32_t n,
	uint64_t tag, uint64_t now_ns)
{
	struct world *w = ctx;

	w->dials++;
	w->tag = tag;
	memcpy(w->dialled, key, 32);
	return 0;
}

static void on_cancel(void *ctx, uint64_t tag, uint64_t now_ns)
{
	((struct world *)ctx)->cancels++;
}

static bool on_allowed(void *ctx, const uint8_t key[32])
{
	return !((struct world *)ctx)->refuse;
}

static void on_joined(void *ctx, const uint8_t topic[32], uint32_t stored_on)
{
	((struct world *)ctx)->joined++;
}

static void on_retry(void *ctx, const uint8_t topic[32], uint64_t wait_ns)
{
	((struct world *)ctx)->retried++;
}

static void on_left(void *ctx, const uint8_t topic[32])
{
	((struct world *)ctx)->left++;
}

static const struct og_swarm_ops ops = {
	on_refresh, on_unannounce, on_dial, on_cancel, on_allowed, on_joined, on_retry, on_left};
static const uint8_t own[32] = {1}, topic[32] = {2};

static void setup(struct world *w, uint32_t peers_max)
{
	struct og_swarm_opts o = {&ops, w, &w->rand, own, peers_max};

	memset(w, 0, sizeof(*w));
	og_rand_seeded(&w->rand, 3);
	w->now = OG_NS_PER_S;
	cr_assert_eq(og_swarm_create(&w->s, &o), 0);
}

/* Run the clock to `until`, stopping at each deadline the swarm names. */
static void run(struct world *w, uint64_t until)
{
	for (int i = 0; i < 100000; i++) {
		uint64_t next = og_swarm_tick(w->s, w->now);

		if (next > until)
			break;
		w->now = next > w->now ? next : w->now + 1;
	}
	w->now = until;
}

Test(swarm, a_refresh_that_reached_nobody_is_repeated_soon_until_one_does)
{
	struct world w;

	setup(&w, 16);
	cr_assert_eq(og_swarm_join(w.s, topic, OG_TOPIC_SERVER | OG_TOPIC_CLIENT, w.now), 0);
	for (int i = 0; i < 6; i++) {
		uint64_t before = w.now;

		run(&w, w.now + 40 * OG_NS_PER_S);
		cr_assert_eq(w.refreshes, i + 1);
		w.now = before + OG_NS_PER_S; /* it fails after a second */
		og_swarm_refresh_done(w.s, topic, 0, w.now);
		cr_assert_eq(w.joined, 0);
	}
	run(&w, w.now + 40 * OG_NS_PER_S);
	og_swarm_refresh_done(w.s, topic, 3, w.now);
	cr_assert_eq(w.joined, 1);
	cr_assert_eq(w.retried, 6);
	og_swarm_destroy(w.s);
}

Test(swarm, own_topics_are_announced_again_before_records_expire)
{
	struct world w;
	uint64_t end;
	int last;

	setup(&w, 16);
	cr_assert_eq(og_swarm_join(w.s, topic, OG_TOPIC_SERVER, w.now), 0);
	end = w.now + 3600 * OG_NS_PER_S;
	for (last = -1; w.now < end;) {
		w.now = OG_MAX(og_swarm_tick(w.s, w.now), w.now + 1);
		if (w.refreshes != last) {
			last = w.refreshes;
			og_swarm_refresh_done(w.s, topic, 20, w.now);
		}
	}
	/* Every 5 to 6 minutes, and three early ones. */
	cr_assert(last >= 12 && last <= 18, "%d refreshes", last);
	og_swarm_destroy(w.s);
}

Test(swarm, one_lost_refresh_leaves_no_gap_that_a_record_could_expire_in)
{
	const uint64_t record_lives = 800 * OG_NS_PER_S; /* at least, at any node */
	struct world w;
	uint64_t end, stored_at = 0, gap = 0;
	int last = 0;

	setup(&w, 16);
	cr_assert_eq(og_swarm_join(w.s, topic, OG_TOPIC_SERVER, w.now), 0);
	end = w.now + 7200 * OG_NS_PER_S;
	while (w.now < end) {
		uint64_t next = og_swarm_tick(w.s, w.now);

		if (w.refreshes == last) {
			w.now = OG_MAX(next, w.now + 1);
			continue;
		}
		last = w.refreshes;
		og_swarm_refresh_done(w.s, topic, 20, w.now);
		if (last % 2 == 0) /* it only seemed to be stored */
			continue;
		if (stored_at)
			gap = OG_MAX(gap, w.now - stored_at);
		stored_at = w.now;
	}
	cr_assert_gt(gap, 300 * OG_NS_PER_S);
	cr_assert_lt(gap, record_lives, "%lu s", gap / OG_NS_PER_S);
	og_swarm_destroy(w.s);
}

Test(swarm, a_failing_peer_is_retried_three_times_then_waits_to_be_found)
{
	struct world w;
	uint8_t key[32] = {9};

	setup(&w, 16);
	cr_assert_eq(og_swarm_join(w.s, topic, OG_TOPIC_CLIENT, w.now), 0);
	og_swarm_found(w.s, topic, own, NULL, 0, w.now);
	og_swarm_found(w.s, topic, key, NULL, 0, w.now);
	og_swarm_found(w.s, topic, key, NULL, 0, w.now);
	for (int i = 1; i <= 4; i++) {
		run(&w, w.now + 30 * OG_NS_PER_S);
		cr_assert_eq(w.dials, i);
		og_swarm_dial_failed(w.s, w.tag, w.now);
		og_swarm_dial_failed(w.s, w.tag, w.now); /* a late report of the same attempt */
	}
	run(&w, w.now + 300 * OG_NS_PER_S);
	cr_assert_eq(w.dials, 4);
	og_swarm_found(w.s, topic, key, NULL, 0, w.now);
	run(&w, w.now + OG_NS_PER_S);
	cr_assert_eq(w.dials, 5);
	og_swarm_destroy(w.s);
}

Test(swarm, a_lost_connection_is_dialled_again_within_seconds)
{
	struct world w;
	uint8_t key[32] = {9};

	setup(&w, 16);
	cr_assert_eq(og_swarm_join(w.s, topic, OG_TOPIC_CLIENT, w.now), 0);
	og_swarm_found(w.s, topic, key, NULL, 0, w.now);
	run(&w, w.now + OG_NS_PER_S);
	og_swarm_connected(w.s, key, true, w.now);
	run(&w, w.now + 60 * OG_NS_PER_S);
	cr_assert_eq(w.dials, 1);
	og_swarm_disconnected(w.s, key, w.now);
	run(&w, w.now + 3 * OG_NS_PER_S);
	cr_assert_eq(w.dials, 2);
	og_swarm_destroy(w.s);
}

Test(swarm, at_most_three_dials_at_a_time)
{
	struct world w;

	setup(&w, 64);
	cr_assert_eq(og_swarm_join(w.s, topic, OG_TOPIC_CLIENT, w.now), 0);
	for (uint8_t i = 10; i < 40; i++) {
		uint8_t key[32] = {i};

		og_swarm_found(w.s, topic, key, NULL, 0, w.now);
	}
	run(&w, w.now + 5 * OG_NS_PER_S);
	cr_assert_eq(w.dials, 3);
	og_swarm_connected(w.s, w.dialled, true, w.now);
	run(&w, w.now + OG_NS_PER_S);
	cr_assert_eq(w.dials, 4);
	og_swarm_destroy(w.s);
}

Test(swarm, leaving_ends_the_attempts_for_its_peers)
{
	struct world w;
	uint8_t key[32] = {9};

	setup(&w, 16);
	cr_assert_eq(og_swarm_join(w.s, topic, OG_TOPIC_SERVER | OG_TOPIC_CLIENT, w.now), 0);
	run(&w, w.now + OG_NS_PER_S);
	og_swarm_refresh_done(w.s, topic, 1, w.now);
	og_swarm_found(w.s, topic, key, NULL, 0, w.now);
	run(&w, w.now + OG_NS_PER_MS);
	cr_assert_eq(w.dials, 1);
	og_swarm_leave(w.s, topic, w.now);
	cr_assert_eq(w.unannounces, 1);
	og_swarm_unannounce_done(w.s, topic, w.now);
	cr_assert_eq(w.left, 1);
	cr_assert_eq(w.cancels, 1);
	cr_assert_eq(og_swarm_topics(w.s), 0);
	run(&w, w.now + 100 * OG_NS_PER_S);
	cr_assert_eq(w.dials, 1);
	og_swarm_destroy(w.s);
}

Test(swarm, a_full_table_of_peers_makes_room_and_keeps_the_connected)
{
	struct world w;
	uint8_t kept[32] = {9};

	setup(&w, 8);
	cr_assert_eq(og_swarm_join(w.s, topic, OG_TOPIC_CLIENT, w.now), 0);
	og_swarm_connected(w.s, kept, true, w.now);
	w.refuse = true; /* nobody is dialled: all stay idle */
	for (int i = 0; i < 1000; i++) {
		uint8_t key[32] = {10, (uint8_t)i, (uint8_t)(i >> 8), 0, 0, 0, 0, 0, (uint8_t)i};

		og_swarm_found(w.s, topic, key, NULL, 0, w.now);
	}
	w.refuse = false;
	og_swarm_disconnected(w.s, kept, w.now);
	og_swarm_found(w.s, topic, kept, NULL, 0, w.now);
	run(&w, w.now + 10 * OG_NS_PER_S);
	cr_assert_gt(w.dials, 0);
	og_swarm_destroy(w.s);
}
