#include "dht_sim.h"

#include <errno.h>

enum { LAN = 0x0a000000, PORT = 4000 };

/* n nodes 10.0.0.1 …, the first one as bootstrap of the others, all forced persistent and open. */
static void make_network(struct sim *sim, uint32_t n, uint64_t seed)
{
	struct og_addr bootstrap = sim_addr(LAN + 1, PORT);
	struct og_dht_rpc_opts opts = {.bootstrap = &bootstrap,
		.nb_bootstrap = 1,
		.ephemeral = OG_NO,
		.firewalled = OG_NO};

	sim_init(sim, seed);
	sim_add_first(sim, LAN + 1, PORT);
	for (uint32_t i = 2; i <= n; i++) {
		sim_add(sim, LAN + i, PORT, &opts);
		sim_run(sim, 200 * OG_NS_PER_MS);
	}
	sim_run(sim, 10 * OG_NS_PER_S);
}

struct found {
	bool done;
	int status;
	uint32_t n;
	uint32_t replies;
	struct og_dht_closest closest[OG_DHT_K];
};

static void query_reply(void *ctx, uint64_t tag, const struct og_dht_reply *r, uint64_t now_ns)
{
	struct found *f = ctx;

	cr_assert_eq(r->status, 0);
	f->replies++;
}

static void query_done(void *ctx, uint64_t tag, int status, const struct og_dht_closest *closest,
	uint32_t n, uint64_t now_ns)
{
	struct found *f = ctx;

	cr_assert_not(f->done, "reported twice");
	f->done = true;
	f->status = status;
	f->n = n;
	memcpy(f->closest, closest, n * sizeof(closest[0]));
}

static struct og_dht_query_opts find_node(struct sim *sim, struct found *f)
{
	struct og_dht_query_opts q = {.internal = true,
		.command = OG_DHT_FIND_NODE,
		.on_reply = query_reply,
		.on_done = query_done,
		.ctx = f};

	memset(f, 0, sizeof(*f));
	og_rand_fill(&sim->rand, q.target, sizeof(q.target));
	return q;
}

static void run_query(struct sim *sim, struct sim_node *n, const struct og_dht_query_opts *q)
{
	struct found *f = q->ctx;
	struct og_dht_query_id id;

	cr_assert_eq(og_dht_query_start(n->rpc, q, &id, sim->now_ns), 0);
	cr_assert_not(f->done, "reported from inside start");
	sim_kick(n);
	for (unsigned i = 0; i < 600 && !f->done; i++)
		sim_run(sim, 50 * OG_NS_PER_MS);
	cr_assert(f->done, "query did not end in 30 s");
}

static bool nearer(const uint8_t *target, const uint8_t *a, const uint8_t *b)
{
	for (unsigned i = 0; i < 32; i++)
		if (a[i] != b[i])
			return (a[i] ^ target[i]) < (b[i] ^ target[i]);
	return false;
}

/* The true nearest live persistent nodes, `asker` left out. */
static uint32_t true_closest(const struct sim *sim, const struct sim_node *asker,
	const uint8_t *target, const struct sim_node **out)
{
	const struct sim_node *all[SIM_NODES_MAX];
	uint32_t n = 0;

	for (uint32_t i = 0; i < sim->nb_nodes; i++) {
		const struct sim_node *x = sim->nodes[i];
		uint32_t j = n;

		if (x == asker || x->down || !og_dht_rpc_id(x->rpc))
			continue;
		while (j > 0 &&
			nearer(target, og_dht_rpc_id(x->rpc), og_dht_rpc_id(all[j - 1]->rpc))) {
			all[j] = all[j - 1];
			j--;
		}
		all[j] = x;
		n++;
	}
	n = OG_MIN(n, OG_DHT_K);
	memcpy(out, all, n * sizeof(all[0]));
	return n;
}

static uint32_t nb_true_found(const struct sim *sim, const struct sim_node *asker,
	const uint8_t *target, const struct found *f)
{
	const struct sim_node *want[OG_DHT_K];
	uint32_t n = true_closest(sim, asker, target, want);
	uint32_t hits = 0;

	for (uint32_t i = 0; i < n; i++)
		for (uint32_t j = 0; j < f->n; j++)
			hits += og_addr_eq(&want[i]->local[0], &f->closest[j].addr);
	return hits;
}

/* What a table could hold at most: 20 per bucket. */
static uint32_t full_table_size(const struct sim *sim, const struct sim_node *n)
{
	uint32_t in_bucket[256] = {0};
	const uint8_t *own = og_dht_rpc_id(n->rpc);
	uint32_t size = 0;

	for (uint32_t i = 0; i < sim->nb_nodes; i++) {
		const uint8_t *id = og_dht_rpc_id(sim->nodes[i]->rpc);
		unsigned bit = 0;

		if (sim->nodes[i] == n || sim->nodes[i]->down || !id)
			continue;
		while (((own[bit / 8] ^ id[bit / 8]) >> (7 - bit % 8) & 1) == 0)
			bit++;
		in_bucket[bit]++;
	}
	for (unsigned i = 0; i < 256; i++)
		size += OG_MIN(in_bucket[i], OG_DHT_K);
	return size;
}

Test(dht_rpc, every_query_among_50_nodes_finds_the_true_closest)
{
	struct sim sim;
	struct found f;

	make_network(&sim, 50, 1);
	for (uint32_t i = 0; i < sim.nb_nodes; i++) {
		cr_assert(og_dht_rpc_bootstrapped(sim.nodes[i]->rpc), "node %u", i);
		cr_assert(og_dht_rpc_persistent(sim.nodes[i]->rpc), "node %u", i);
		cr_assert_not(og_dht_rpc_firewalled(sim.nodes[i]->rpc));
	}
	for (unsigned i = 0; i < 100; i++) {
		struct sim_node *n = sim.nodes[og_rand_below(&sim.rand, sim.nb_nodes)];
		struct og_dht_query_opts q = find_node(&sim, &f);
		const struct sim_node *want[OG_DHT_K];

		run_query(&sim, n, &q);
		cr_assert_eq(f.status, 0);
		cr_assert_eq(f.n, true_closest(&sim, n, q.target, want));
		for (uint32_t j = 0; j < f.n; j++) {
			cr_assert(og_addr_eq(&f.closest[j].addr, &want[j]->local[0]),
				"query %u, place %u", i, j);
			cr_assert_arr_eq(f.closest[j].id, og_dht_rpc_id(want[j]->rpc), 32);
			cr_assert(og_addr_eq(&f.closest[j].to, &n->local[0]));
		}
	}
	sim_fini(&sim);
}

Test(dht_rpc, tables_stay_full_at_20_percent_loss)
{
	struct sim sim;
	struct found f;
	uint32_t have = 0;
	uint32_t full = 0;
	uint32_t hits = 0;

	make_network(&sim, 50, 2);
	sim.loss_percent = 20;
	sim_run(&sim, 1800 * OG_NS_PER_S);
	for (uint32_t i = 0; i < sim.nb_nodes; i++) {
		uint32_t size = og_dht_rpc_table_size(sim.nodes[i]->rpc);
		uint32_t max = full_table_size(&sim, sim.nodes[i]);

		cr_assert_geq(size * 10, max * 8, "node %u: %u of %u", i, size, max);
		have += size;
		full += max;
	}
	cr_assert_geq(have * 100, full * 95, "all: %u of %u", have, full);
	for (unsigned i = 0; i < 20; i++) {
		struct og_dht_query_opts q = find_node(&sim, &f);

		run_query(&sim, sim.nodes[i], &q);
		hits += nb_true_found(&sim, sim.nodes[i], q.target, &f);
	}
	/* A query does not wait for the last slow node once it has 20, so a few are missed. */
	cr_assert_geq(hits, 20 * 20 * 90 / 100, "%u of 400", hits);
	sim_fini(&sim);
}

Test(dht_rpc, a_single_node_is_bootstrapped_and_a_second_joins_it)
{
	struct sim sim;
	struct og_addr first = sim_addr(LAN + 1, PORT);
	struct og_dht_rpc_opts alone = {.ephemeral = OG_NO, .firewalled = OG_NO};
	struct og_dht_rpc_opts opts = {
		.bootstrap = &first, .nb_bootstrap = 1, .ephemeral = OG_NO, .firewalled = OG_NO};
	struct sim_node *a;
	struct sim_node *b;

	sim_init(&sim, 3);
	a = sim_add(&sim, LAN + 1, PORT, &alone); /* not even told its own address */
	sim_run(&sim, 100 * OG_NS_PER_MS);
	cr_assert(og_dht_rpc_bootstrapped(a->rpc));
	cr_assert_not(og_dht_rpc_persistent(a->rpc));
	b = sim_add(&sim, LAN + 2, PORT, &opts);
	sim_run(&sim, 30 * OG_NS_PER_S);
	cr_assert(og_dht_rpc_persistent(b->rpc));
	cr_assert(og_dht_rpc_persistent(a->rpc), "learns its address from the newcomer's answer");
	cr_assert_eq(og_dht_rpc_table_size(a->rpc), 1);
	sim_run(&sim, 60 * OG_NS_PER_S);
	cr_assert_eq(og_dht_rpc_table_size(b->rpc), 1);
	sim_fini(&sim);
}

Test(dht_rpc, a_hundred_nodes_behind_one_address_bootstrap_in_2_s)
{
	struct sim sim;
	struct og_addr bootstrap = sim_addr(0x08080808, PORT);
	struct og_dht_rpc_opts opts = {
		.bootstrap = &bootstrap, .nb_bootstrap = 1, .firewalled = OG_NO};

	sim_init(&sim, 4);
	sim_add_first(&sim, 0x08080808, PORT);
	for (uint32_t i = 0; i < 20; i++) {
		struct og_dht_rpc_opts far = opts;

		far.ephemeral = OG_NO;
		sim_add(&sim, 0x01010101 + (i << 16), PORT, &far);
		sim_run(&sim, 500 * OG_NS_PER_MS);
	}
	for (uint32_t i = 0; i < 100; i++)
		sim_add(&sim, 0x09090909, (uint16_t)(20000 + i), &opts);
	sim_run(&sim, 2 * OG_NS_PER_S);
	for (uint32_t i = 21; i < sim.nb_nodes; i++) {
		cr_assert(og_dht_rpc_bootstrapped(sim.nodes[i]->rpc), "node %u", i);
		cr_assert_geq(og_dht_rpc_table_size(sim.nodes[i]->rpc), 20);
	}
	sim_fini(&sim);
}

Test(dht_rpc, a_dead_node_leaves_all_tables_and_a_restarted_one_returns)
{
	struct sim sim;
	struct sim_node *dead;

	make_network(&sim, 20, 5);
	dead = sim.nodes[7];
	dead->down = true;
	sim_run(&sim, 600 * OG_NS_PER_S);
	for (uint32_t i = 0; i < sim.nb_nodes; i++)
		if (i != 7)
			cr_assert_null(og_dht_table_find(sim.nodes[i]->rpc->table, &dead->local[0]),
				"node %u", i);
	dead->down = false;
	dead->next_ns = sim.now_ns;
	sim_run(&sim, 900 * OG_NS_PER_S);
	for (uint32_t i = 0; i < sim.nb_nodes; i++)
		if (i != 7)
			cr_assert_not_null(
				og_dht_table_find(sim.nodes[i]->rpc->table, &dead->local[0]),
				"node %u", i);
	sim_fini(&sim);
}

Test(dht_rpc, a_network_without_its_bootstrap_node_comes_back_from_saved_nodes)
{
	struct sim sim;
	struct og_addr saved[3][OG_DHT_SAVED_MAX];
	struct og_addr bootstrap = sim_addr(LAN + 1, PORT);

	make_network(&sim, 4, 6);
	for (unsigned i = 0; i < 3; i++) {
		struct og_dht_rpc_opts opts = {.bootstrap = &bootstrap,
			.nb_bootstrap = 1,
			.ephemeral = OG_NO,
			.firewalled = OG_NO};

		opts.nb_saved = og_dht_rpc_nodes(sim.nodes[i + 1]->rpc, saved[i], OG_DHT_SAVED_MAX);
		opts.saved_nodes = saved[i];
		cr_assert_eq(opts.nb_saved, 3);
	}
	for (unsigned i = 0; i < 4; i++) {
		sim.nodes[i]->down = true;
		sim.nodes[i]->local[0].port = sim.nodes[i]->local[1].port = 1;
	}
	for (unsigned i = 0; i < 3; i++) {
		struct og_dht_rpc_opts opts = {.bootstrap = &bootstrap,
			.nb_bootstrap = 1,
			.ephemeral = OG_NO,
			.firewalled = OG_NO,
			.saved_nodes = saved[i],
			.nb_saved = 3};

		sim_add(&sim, LAN + 2 + i, PORT, &opts);
		sim_run(&sim, 3 * OG_NS_PER_S);
	}
	sim_run(&sim, 60 * OG_NS_PER_S);
	for (unsigned i = 4; i < 7; i++) {
		cr_assert(og_dht_rpc_bootstrapped(sim.nodes[i]->rpc));
		cr_assert(og_dht_rpc_persistent(sim.nodes[i]->rpc));
		cr_assert_eq(og_dht_rpc_table_size(sim.nodes[i]->rpc), 2, "node %u: %u", i,
			og_dht_rpc_table_size(sim.nodes[i]->rpc));
	}
	sim_fini(&sim);
}

Test(dht_rpc, the_firewall_test_tells_open_from_firewalled)
{
	struct sim sim;
	struct og_addr bootstrap = sim_addr(LAN + 1, PORT);
	struct og_dht_rpc_opts opts = {.bootstrap = &bootstrap, .nb_bootstrap = 1};
	struct sim_node *open;
	struct sim_node *closed;
	struct sim_node *forced;

	make_network(&sim, 20, 7);
	open = sim_add(&sim, LAN + 100, PORT, &opts);
	closed = sim_add(&sim, LAN + 101, PORT, &opts);
	closed->firewalled = true;
	opts.ephemeral = OG_NO;
	forced = sim_add(&sim, LAN + 102, PORT, &opts);
	forced->firewalled = true;
	sim_run(&sim, 10 * OG_NS_PER_S);
	cr_assert_not(og_dht_rpc_firewalled(open->rpc));
	cr_assert(og_dht_rpc_persistent(open->rpc), "no translation between: at once");
	cr_assert_eq(og_dht_rpc_expected_endpoint(open->rpc), 0);
	cr_assert(og_dht_rpc_firewalled(closed->rpc));
	cr_assert_not(og_dht_rpc_persistent(closed->rpc));
	cr_assert_eq(og_dht_rpc_expected_endpoint(closed->rpc), 1);
	cr_assert_not(og_dht_rpc_persistent(forced->rpc));
	forced->firewalled = false;
	sim_run(&sim, 900 * OG_NS_PER_S);
	cr_assert(og_dht_rpc_persistent(forced->rpc), "a forced node tries again");
	sim_fini(&sim);
}

Test(dht_rpc, a_minute_without_any_network_does_not_empty_the_tables)
{
	struct sim sim;
	uint32_t before[20];

	make_network(&sim, 20, 15);
	for (unsigned i = 0; i < 20; i++)
		before[i] = og_dht_rpc_table_size(sim.nodes[i]->rpc);
	sim.loss_percent = 100;
	sim_run(&sim, 70 * OG_NS_PER_S);
	sim.loss_percent = 0;
	sim_run(&sim, OG_NS_PER_S);
	for (unsigned i = 0; i < 20; i++)
		cr_assert_geq(og_dht_rpc_table_size(sim.nodes[i]->rpc) + 1, before[i]);
	sim_fini(&sim);
}

Test(dht_rpc, an_adaptive_node_on_a_public_address_waits_20_minutes)
{
	struct sim sim;
	struct og_addr bootstrap = sim_addr(LAN + 1, PORT);
	struct og_dht_rpc_opts opts = {.bootstrap = &bootstrap, .nb_bootstrap = 1};
	struct sim_node *n;

	make_network(&sim, 20, 8);
	n = sim_add(&sim, 0x08080808, PORT, &opts);
	n->rpc->local[0].ip[0] = n->rpc->local[1].ip[0] = 0; /* bound to all addresses */
	memset(n->rpc->local[0].ip, 0, 4);
	memset(n->rpc->local[1].ip, 0, 4);
	sim_run(&sim, 1100 * OG_NS_PER_S);
	cr_assert_not(og_dht_rpc_persistent(n->rpc));
	sim_run(&sim, 200 * OG_NS_PER_S);
	cr_assert(og_dht_rpc_persistent(n->rpc));
	sim_fini(&sim);
}

Test(dht_rpc, an_ephemeral_node_sends_no_id_and_enters_no_table)
{
	struct sim sim;
	struct og_addr bootstrap = sim_addr(LAN + 1, PORT);
	struct og_dht_rpc_opts opts = {.bootstrap = &bootstrap,
		.nb_bootstrap = 1,
		.ephemeral = OG_YES,
		.firewalled = OG_NO};
	struct sim_node *n;

	make_network(&sim, 10, 9);
	n = sim_add(&sim, LAN + 100, PORT, &opts);
	sim_run(&sim, 2000 * OG_NS_PER_S);
	cr_assert_null(og_dht_rpc_id(n->rpc));
	cr_assert_eq(og_dht_rpc_table_size(n->rpc), 10);
	for (unsigned i = 0; i < 10; i++)
		cr_assert_null(og_dht_table_find(sim.nodes[i]->rpc->table, &n->local[0]));
	sim_fini(&sim);
}

Test(dht_rpc, a_sleep_is_noticed_and_nothing_is_lost_by_it)
{
	struct sim sim;
	struct sim_node *n;
	uint32_t before;

	make_network(&sim, 20, 10);
	n = sim.nodes[5];
	before = og_dht_rpc_table_size(n->rpc);
	n->down = true;
	sim_run(&sim, 40 * OG_NS_PER_S);
	n->down = false;
	sim_kick(n);
	sim_run(&sim, 30 * OG_NS_PER_S);
	cr_assert_eq(og_dht_rpc_wakeups(n->rpc), 1);
	cr_assert(og_dht_rpc_persistent(n->rpc), "forced: stays persistent");
	cr_assert_geq(og_dht_rpc_table_size(n->rpc), before);
	sim_fini(&sim);
}

Test(dht_rpc, a_query_without_any_node_ends_with_enoent)
{
	struct sim sim;
	struct sim_node *n;
	struct found f;
	struct og_dht_query_opts q;

	sim_init(&sim, 11);
	n = sim_add_first(&sim, LAN + 1, PORT);
	sim_run(&sim, OG_NS_PER_S);
	q = find_node(&sim, &f);
	run_query(&sim, n, &q);
	cr_assert_eq(f.status, -ENOENT);
	cr_assert_eq(f.n, 0);
	sim_fini(&sim);
}

Test(dht_rpc, a_query_that_only_asks_its_seeds_asks_nobody_else)
{
	struct sim sim;
	struct found f;
	struct og_dht_query_opts q;
	struct og_addr seeds[2];

	make_network(&sim, 20, 12);
	seeds[0] = sim.nodes[3]->local[0];
	seeds[1] = sim.nodes[4]->local[0];
	q = find_node(&sim, &f);
	q.seeds = seeds;
	q.nb_seeds = 2;
	q.only_seeds = true;
	run_query(&sim, sim.nodes[9], &q);
	cr_assert_eq(f.replies, 2);
	cr_assert_eq(f.n, 2);
	sim_fini(&sim);
}

Test(dht_rpc, a_cancelled_query_reports_nothing)
{
	struct sim sim;
	struct found f;
	struct og_dht_query_opts q;
	struct og_dht_query_id id;

	make_network(&sim, 20, 13);
	q = find_node(&sim, &f);
	cr_assert_eq(og_dht_query_start(sim.nodes[9]->rpc, &q, &id, sim.now_ns), 0);
	sim_kick(sim.nodes[9]);
	sim_run(&sim, 10 * OG_NS_PER_MS);
	og_dht_query_cancel(sim.nodes[9]->rpc, id);
	og_dht_query_cancel(sim.nodes[9]->rpc, id);
	sim_run(&sim, 10 * OG_NS_PER_S);
	cr_assert_eq(f.replies, 0);
	cr_assert_not(f.done);
	sim_fini(&sim);
}

static void count_hints(struct sim *sim, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	struct og_dht_msg m;

	if (og_dht_msg_decode(&m, data, len_bytes) == 0 && !m.reply && m.internal &&
		m.command == OG_DHT_DOWN_HINT && m.value_bytes == 6)
		++*(uint32_t *)sim->tap_ctx;
}

Test(dht_rpc, a_query_hints_at_dead_nodes_after_a_real_timeout)
{
	struct sim sim;
	struct found f;
	struct og_dht_query_opts q;
	uint32_t hints = 0;

	make_network(&sim, 30, 14);
	sim.tap = count_hints;
	sim.tap_ctx = &hints;
	q = find_node(&sim, &f);
	run_query(&sim, sim.nodes[9], &q);
	cr_assert_eq(hints, 0);
	for (unsigned i = 20; i < 30; i++)
		sim.nodes[i]->down = true;
	q = find_node(&sim, &f);
	run_query(&sim, sim.nodes[9], &q);
	sim_run(&sim, 7 * OG_NS_PER_S);
	cr_assert_gt(hints, 0);
	/* Every table lists the same nearest 20, the dead among them. */
	cr_assert_eq(f.n, nb_true_found(&sim, sim.nodes[9], q.target, &f));
	cr_assert_geq(f.n, 10);
	sim_fini(&sim);
}

/* ---- one node, driven by hand ---- */

static const uint32_t stranger_ip = 0x05050505;

struct inbox {
	uint32_t n;
	struct {
		struct og_addr dst;
		struct og_dht_msg m;
		uint16_t len_bytes;
		uint8_t data[SIM_MTU];
	} item[4096];
};

static void keep(struct sim *sim, const struct og_addr *src, const struct og_addr *dst,
	const uint8_t *data, uint16_t len_bytes)
{
	struct inbox *in = sim->tap_ctx;

	if (in->n == OG_ARRAY_LEN(in->item))
		return;
	in->item[in->n].dst = *dst;
	in->item[in->n].len_bytes = len_bytes;
	memcpy(in->item[in->n].data, data, len_bytes);
	cr_assert_eq(og_dht_msg_decode(&in->item[in->n].m, in->item[in->n].data, len_bytes), 0);
	in->n++;
}

static struct inbox inbox;

static struct sim_node *one_node(struct sim *sim, uint64_t seed)
{
	struct sim_node *n;

	sim_init(sim, seed);
	sim->tap = keep;
	sim->tap_ctx = &inbox;
	inbox.n = 0;
	n = sim_add_first(sim, 0x08080808, PORT);
	sim_run(sim, OG_NS_PER_S);
	cr_assert(og_dht_rpc_persistent(n->rpc));
	return n;
}

static void feed(struct sim_node *n, uint16_t endpoint, const struct og_addr *src,
	const struct og_dht_msg *m)
{
	uint8_t buf[SIM_MTU];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	cr_assert_eq(og_dht_msg_encode(m, &w), 0);
	og_dht_rpc_input(n->rpc, endpoint, src, buf, (uint16_t)og_writer_len(&w), n->sim->now_ns);
	n->next_ns = og_dht_rpc_tick(n->rpc, n->sim->now_ns);
}

/* Puts nodes with public addresses, each in its own /16, into the table. */
static void fill_table(struct sim_node *n, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct og_addr a = sim_addr(0x20000001 + (i << 16), PORT);
		uint8_t id[32];

		og_dht_node_id(id, &a);
		(void)!og_dht_table_add(n->rpc->table, id, &a, true, n->rpc->tick, NULL);
	}
}

struct outcome {
	unsigned calls;
	int status;
};

static void on_outcome(void *ctx, uint64_t tag, const struct og_dht_reply *r, uint64_t now_ns)
{
	struct outcome *o = ctx;

	o[tag].calls++;
	o[tag].status = r->status;
}

static struct og_dht_request ping_to(const struct og_addr *to, struct outcome *o, uint64_t tag)
{
	return (struct og_dht_request){.to = *to,
		.internal = true,
		.command = OG_DHT_PING,
		.any_endpoint = true,
		.fn = on_outcome,
		.ctx = o,
		.tag = tag};
}

Test(dht_rpc, an_unanswered_request_is_sent_four_times_and_fails_once)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 20);
	struct og_addr to = sim_addr(stranger_ip, 5000);
	struct outcome o[1] = {{0}};
	struct og_dht_request req = ping_to(&to, o, 0);
	uint64_t start = sim.now_ns;

	og_dht_request_send(n->rpc, &req, NULL, sim.now_ns);
	sim_kick(n);
	sim_run_until(&sim, start + 3999 * OG_NS_PER_MS);
	cr_assert_eq(o[0].calls, 0);
	sim_run_until(&sim, start + 4001 * OG_NS_PER_MS);
	cr_assert_eq(o[0].calls, 1);
	cr_assert_eq(o[0].status, -ETIMEDOUT);
	cr_assert_eq(inbox.n, 4);
	for (unsigned i = 1; i < 4; i++) {
		cr_assert_eq(inbox.item[i].len_bytes, inbox.item[0].len_bytes);
		cr_assert_arr_eq(inbox.item[i].data, inbox.item[0].data, inbox.item[0].len_bytes);
	}
	sim_fini(&sim);
}

Test(dht_rpc, forged_answers_change_nothing)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 21);
	struct og_addr to = sim_addr(stranger_ip, 5000);
	struct og_addr others[] = {sim_addr(stranger_ip, 5001), sim_addr(stranger_ip + 1, 5000)};
	struct outcome o[1] = {{0}};
	struct og_dht_request req = ping_to(&to, o, 0);
	uint8_t ids[3][32];
	struct og_dht_msg m = {.reply = true};
	uint16_t tid;

	og_dht_request_send(n->rpc, &req, NULL, sim.now_ns);
	cr_assert_eq(inbox.n, 1);
	tid = inbox.item[0].m.tid;
	m.to = sim_addr(0x01020304, 12345);
	og_dht_node_id(ids[0], &others[0]);
	og_dht_node_id(ids[1], &others[1]);
	og_dht_node_id(ids[2], &to);
	/* Right tid, wrong source. */
	m.tid = tid;
	for (unsigned i = 0; i < 2; i++) {
		m.id = ids[i];
		feed(n, 0, &others[i], &m);
	}
	/* Right source and tid, wrong endpoint. */
	m.id = ids[2];
	feed(n, 1, &to, &m);
	cr_assert_eq(n->rpc->count.drops[OG_DHT_DROP_FORGED_REPLY], 3);
	/* Right source, every other tid. */
	for (uint32_t t = 0; t <= UINT16_MAX; t++) {
		if (t == tid)
			continue;
		m.tid = (uint16_t)t;
		feed(n, 0, &to, &m);
	}
	cr_assert_eq(n->rpc->count.drops[OG_DHT_DROP_UNKNOWN_REPLY], UINT16_MAX);
	cr_assert_eq(o[0].calls, 0);
	cr_assert_eq(og_dht_rpc_table_size(n->rpc), 0);
	cr_assert_not(og_dht_rpc_address_proven(n->rpc, &to, sim.now_ns));
	cr_assert_eq(n->rpc->self.nat.nb_samples, 0);
	/* The true one. */
	m.tid = tid;
	feed(n, 0, &to, &m);
	cr_assert_eq(o[0].calls, 1);
	cr_assert_eq(o[0].status, 0);
	cr_assert_eq(og_dht_rpc_table_size(n->rpc), 1);
	cr_assert(og_dht_rpc_address_proven(n->rpc, &to, sim.now_ns));
	cr_assert_not(og_dht_rpc_address_proven(n->rpc, &to, sim.now_ns + 601 * OG_NS_PER_S));
	/* And again: nothing. */
	feed(n, 0, &to, &m);
	cr_assert_eq(o[0].calls, 1);
	sim_fini(&sim);
}

Test(dht_rpc, a_tid_in_use_is_never_drawn_again_and_a_full_table_refuses)
{
	enum { MORE = 300 };
	struct sim sim;
	struct sim_node *n = one_node(&sim, 22);
	static struct outcome o[MORE];
	static bool taken[UINT16_MAX + 1];
	struct og_dht_req_id last;

	for (unsigned i = 0; i < MORE; i++) {
		struct og_addr to = sim_addr(stranger_ip, (uint16_t)(5000 + i));
		struct og_dht_request req = ping_to(&to, o, i);

		og_dht_request_send(n->rpc, &req, &last, sim.now_ns);
		cr_assert_eq(o[i].calls, 0, "never from inside send");
	}
	cr_assert_eq(inbox.n, 256);
	for (unsigned i = 0; i < 256; i++) {
		cr_assert_not(taken[inbox.item[i].m.tid]);
		taken[inbox.item[i].m.tid] = true;
	}
	og_dht_request_cancel(n->rpc, last); /* one of the refused */
	sim_kick(n);
	sim_run(&sim, 10 * OG_NS_PER_S);
	for (unsigned i = 0; i < 256; i++)
		cr_assert(o[i].calls == 1 && o[i].status == -ETIMEDOUT, "request %u", i);
	for (unsigned i = 256; i < MORE - 1; i++)
		cr_assert(o[i].calls == 1 && o[i].status == -ENOBUFS, "request %u", i);
	cr_assert_eq(o[MORE - 1].calls, 0);
	sim_fini(&sim);
}

Test(dht_rpc, the_congestion_window_holds_requests_back)
{
	struct sim sim;
	struct og_dht_rpc_opts opts = {.public_addr = sim_addr(0x08080808, PORT),
		.ephemeral = OG_NO,
		.window_slot = 80,
		.window_total = 160};
	static struct outcome o[200];
	struct sim_node *n;

	sim_init(&sim, 23);
	sim.tap = keep;
	sim.tap_ctx = &inbox;
	inbox.n = 0;
	n = sim_add(&sim, 0x08080808, PORT, &opts);
	sim_run(&sim, OG_NS_PER_S);
	for (unsigned i = 0; i < 200; i++) {
		struct og_addr to = sim_addr(stranger_ip, (uint16_t)(5000 + i));
		struct og_dht_request req = ping_to(&to, o, i);

		og_dht_request_send(n->rpc, &req, NULL, sim.now_ns);
	}
	cr_assert_eq(inbox.n, 80);
	sim_kick(n);
	sim_run(&sim, 60 * OG_NS_PER_S);
	for (unsigned i = 0; i < 200; i++)
		cr_assert_eq(o[i].calls, 1, "request %u", i);
	sim_fini(&sim);
}

Test(dht_rpc, one_way_requests_do_not_fill_the_table)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 24);

	for (unsigned i = 0; i < 60; i++) {
		struct og_addr src = sim_addr(0x20000001 + (i << 16), PORT);
		struct og_dht_msg m = {
			.internal = true, .tid = (uint16_t)i, .to = sim_addr(0x01020304, 12345)};
		uint8_t id[32];

		og_dht_node_id(id, &src);
		m.id = id;
		feed(n, 0, &src, &m);
	}
	sim_run(&sim, 10 * OG_NS_PER_S);
	cr_assert_eq(og_dht_rpc_table_size(n->rpc), 0);
	cr_assert_eq(n->rpc->self.nat.nb_samples, 0, "no address is learned from requests");
	/* 60 answers and at most 16 PINGs, each sent once. */
	cr_assert_leq(inbox.n, 60 + 16);
	cr_assert_gt(n->rpc->count.drops[OG_DHT_DROP_NEWCOMER_LIMIT], 0);
	sim_fini(&sim);
}

Test(dht_rpc, a_newcomer_that_answers_its_ping_is_added)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 25);
	struct og_addr src = sim_addr(stranger_ip, 5000);
	struct og_dht_msg m = {.internal = true, .tid = 7, .to = n->local[0]};
	struct og_dht_msg pong = {.reply = true, .to = n->local[0]};
	uint8_t id[32];

	og_dht_node_id(id, &src);
	m.id = pong.id = id;
	feed(n, 0, &src, &m);
	cr_assert_eq(inbox.n, 2);
	for (unsigned i = 0; i < 2; i++)
		if (!inbox.item[i].m.reply)
			pong.tid = inbox.item[i].m.tid;
	feed(n, 0, &src, &pong);
	cr_assert_not_null(og_dht_table_find(n->rpc->table, &src));
	sim_fini(&sim);
}

/* Addresses whose ids fall into bucket 0 of node n, each in its own /16. */
static struct og_addr in_first_bucket(struct sim_node *n, uint32_t *seed, uint8_t id[32])
{
	for (;;) {
		struct og_addr a = sim_addr(0x20000001 + (++*seed << 16), PORT);

		og_dht_node_id(id, &a);
		if (((id[0] ^ og_dht_rpc_id(n->rpc)[0]) & 0x80) != 0)
			return a;
	}
}

Test(dht_rpc, a_silent_node_of_a_full_bucket_gives_way_to_a_newcomer)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 34);
	uint32_t seed = 0;
	struct og_addr first = {{0}, 0};
	struct og_addr newcomer;
	uint8_t id[32];

	for (unsigned i = 0; i < 20; i++) {
		struct og_addr a = in_first_bucket(n, &seed, id);

		if (i == 0)
			first = a;
		og_dht_learn_reply(n->rpc, &a, id, &n->local[0], true, sim.now_ns);
	}
	n->rpc->tick++;
	newcomer = in_first_bucket(n, &seed, id);
	for (unsigned answered = 2; answered-- > 0;) {
		sim_run(&sim, OG_NS_PER_MS);
		inbox.n = 0;
		n->rpc->tick++;
		og_dht_learn_reply(n->rpc, &newcomer, id, &n->local[0], true, sim.now_ns);
		cr_assert_eq(inbox.n, 1);
		cr_assert_null(og_dht_table_find(n->rpc->table, &newcomer));
		if (answered) {
			struct og_addr asked = inbox.item[0].dst;
			uint8_t asked_id[32];
			struct og_dht_msg pong = {
				.reply = true, .tid = inbox.item[0].m.tid, .id = asked_id};

			cr_assert(og_addr_eq(&asked, &first), "the oldest is asked");
			og_dht_node_id(asked_id, &asked);
			feed(n, 0, &asked, &pong);
			cr_assert_not_null(og_dht_table_find(n->rpc->table, &first));
			cr_assert_null(og_dht_table_find(n->rpc->table, &newcomer));
		} else {
			struct og_addr asked = inbox.item[0].dst;

			sim_kick(n);
			sim_run(&sim, OG_NS_PER_S);
			n->rpc->last_reply_ns = sim.now_ns; /* somebody answers: it is not us */
			sim_run(&sim, 5 * OG_NS_PER_S);
			cr_assert_null(og_dht_table_find(n->rpc->table, &asked));
			cr_assert_not_null(og_dht_table_find(n->rpc->table, &newcomer));
		}
	}
	sim_fini(&sim);
}

Test(dht_rpc, a_down_hint_about_a_dead_node_removes_it_and_a_live_one_stays)
{
	struct sim sim;
	struct og_addr from = sim_addr(LAN + 200, PORT);
	uint8_t value[6];
	struct og_dht_msg hint = {.internal = true,
		.command = OG_DHT_DOWN_HINT,
		.has_value = true,
		.value = value,
		.value_bytes = 6};

	make_network(&sim, 10, 35);
	sim.nodes[4]->down = true;
	for (unsigned i = 4; i < 6; i++) {
		og_dht_addr4_store(value, &sim.nodes[i]->local[0]);
		hint.to = sim.nodes[2]->local[0];
		hint.tid = (uint16_t)i;
		feed(sim.nodes[2], 0, &from, &hint);
	}
	sim_run(&sim, 5 * OG_NS_PER_S);
	cr_assert_null(og_dht_table_find(sim.nodes[2]->rpc->table, &sim.nodes[4]->local[0]));
	cr_assert_not_null(og_dht_table_find(sim.nodes[2]->rpc->table, &sim.nodes[5]->local[0]));
	sim_fini(&sim);
}

Test(dht_rpc, at_most_two_of_a_public_subnet_enter_a_bucket)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 26);
	unsigned public = 0;

	for (unsigned i = 0; i < 200; i++) {
		struct og_addr a = sim_addr(stranger_ip + i / 50, (uint16_t)(5000 + i));
		uint8_t id[32];

		og_dht_node_id(id, &a);
		og_dht_learn_reply(n->rpc, &a, id, &n->local[0], true, sim.now_ns);
	}
	public = og_dht_rpc_table_size(n->rpc);
	cr_assert_leq(public, OG_DHT_SUBNET_TABLE_MAX);
	for (unsigned i = 0; i < 200; i++) {
		struct og_addr a = sim_addr(LAN + 1, (uint16_t)(5000 + i));
		uint8_t id[32];

		og_dht_node_id(id, &a);
		og_dht_learn_reply(n->rpc, &a, id, &n->local[0], true, sim.now_ns);
	}
	cr_assert_gt(og_dht_rpc_table_size(n->rpc), public + 50, "private ranges are exempt");
	sim_fini(&sim);
}

static void big_value(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	static const uint8_t value[1024];

	og_dht_rpc_reply(
		ctx, in, OG_REPLY_TOKEN | OG_REPLY_CLOSER, 0, value, sizeof(value), now_ns);
}

static void no_value(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	og_dht_rpc_reply(ctx, in, OG_REPLY_TOKEN | OG_REPLY_CLOSER, 0, NULL, 0, now_ns);
}

/* One request of every kind a stranger can send, as small as it can be. */
static unsigned every_request(struct og_dht_msg *out, const uint8_t *target, const uint8_t *token)
{
	static const uint8_t value[6] = {0x49, 0xc2, 0, 0, 1, 1};
	unsigned n = 0;

	for (unsigned internal = 0; internal < 2; internal++)
		for (unsigned command = 0; command < (internal ? 6 : 13); command++)
			for (unsigned parts = 0; parts < 8; parts++)
				out[n++] = (struct og_dht_msg){.internal = internal,
					.command = command,
					.to = sim_addr(0x08080808, PORT),
					.target = parts & 1 ? target : NULL,
					.token = parts & 2 ? token : NULL,
					.has_value = parts & 4,
					.value = value,
					.value_bytes = parts & 4 ? sizeof(value) : 0};
	return n;
}

Test(dht_rpc, no_request_of_an_unproven_address_is_answered_with_more_than_three_times_its_size)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 27);
	struct og_dht_msg reqs[256];
	uint8_t target[32] = {0x55};
	uint8_t token[32] = {0x66};
	unsigned nb = every_request(reqs, target, token);
	struct og_addr src = sim_addr(stranger_ip, 5000);
	uint8_t id[32];

	fill_table(n, 60);
	for (unsigned c = 2; c <= 9; c++)
		og_dht_rpc_handle(n->rpc, (uint8_t)c, true, no_value, n->rpc);
	for (unsigned with_id = 0; with_id < 2; with_id++)
		for (unsigned i = 0; i < nb; i++) {
			uint8_t buf[SIM_MTU];
			struct og_writer w = og_writer_of(buf, sizeof(buf));
			size_t in;
			size_t out = 0;

			src.port++; /* a new address each time, so that none is under way */
			og_dht_node_id(id, &src);
			reqs[i].id = with_id ? id : NULL;
			reqs[i].tid = (uint16_t)i;
			cr_assert_eq(og_dht_msg_encode(&reqs[i], &w), 0);
			in = og_writer_len(&w) + 28;
			inbox.n = 0;
			og_dht_rpc_input(
				n->rpc, 0, &src, buf, (uint16_t)og_writer_len(&w), sim.now_ns);
			sim_kick(n);
			sim_run(&sim, 5 * OG_NS_PER_S);
			for (unsigned j = 0; j < inbox.n; j++)
				if (og_addr_same_host(&inbox.item[j].dst, &src))
					out += inbox.item[j].len_bytes + 28;
			cr_assert_leq(
				out, 3 * in, "request %u id %u: %zu for %zu", i, with_id, out, in);
		}
	cr_assert_gt(n->rpc->count.drops[OG_DHT_DROP_CLOSER_CUT], 0);
	sim_fini(&sim);
}

Test(dht_rpc, values_to_unproven_addresses_stay_within_a_budget_and_then_get_small_answers)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 28);
	struct og_addr src = sim_addr(stranger_ip, 5000);
	uint8_t target[32] = {1};
	struct og_dht_msg m = {.command = 9, .target = target, .to = n->local[0]};
	uint64_t bytes = 0;
	unsigned answers = 0;
	unsigned values = 0;

	fill_table(n, 60);
	og_dht_rpc_handle(n->rpc, 9, true, big_value, n->rpc);
	for (unsigned i = 0; i < 10000; i++) {
		m.tid = (uint16_t)i;
		inbox.n = 0;
		feed(n, 0, &src, &m);
		cr_assert_eq(inbox.n, 1, "never nothing");
		values += inbox.item[0].m.has_value;
		bytes += inbox.item[0].m.has_value ? inbox.item[0].len_bytes + 28 : 0;
		answers++;
		if (!inbox.item[0].m.has_value)
			cr_assert_leq(inbox.item[0].len_bytes + 28, 3 * (43 + 28));
		sim_run(&sim, OG_NS_PER_MS);
	}
	cr_assert_eq(answers, 10000);
	cr_assert_gt(values, 0);
	cr_assert_leq(bytes, 11 * (64 << 10), "%lu bytes in 10 s", bytes);
	/* Who answers us gets values always. */
	og_dht_proven_add(n->rpc->proven, &src, sim.now_ns);
	for (unsigned i = 0; i < 200; i++) {
		inbox.n = 0;
		feed(n, 0, &src, &m);
		cr_assert(inbox.item[0].m.has_value);
	}
	/* So do loopback and private ranges. */
	src = sim_addr(0x7f000001, 5000);
	for (unsigned i = 0; i < 200; i++) {
		inbox.n = 0;
		feed(n, 0, &src, &m);
		cr_assert(inbox.item[0].m.has_value);
		cr_assert_leq(inbox.item[0].len_bytes, OG_DHT_DATAGRAM_BYTES);
	}
	sim_fini(&sim);
}

Test(dht_rpc, an_ephemeral_node_answers_error_1_with_closer_nodes)
{
	struct sim sim;
	struct og_dht_rpc_opts opts = {.ephemeral = OG_YES, .firewalled = OG_NO};
	struct og_addr src = sim_addr(LAN + 9, 5000);
	uint8_t target[32] = {1};
	struct sim_node *n;

	sim_init(&sim, 29);
	sim.tap = keep;
	sim.tap_ctx = &inbox;
	n = sim_add(&sim, LAN + 1, PORT, &opts);
	sim_run(&sim, OG_NS_PER_S);
	fill_table(n, 30);
	og_dht_rpc_handle(n->rpc, 0, false, no_value, n->rpc);
	og_dht_rpc_handle(n->rpc, 3, true, no_value, n->rpc);
	for (unsigned command = 0; command < 13; command++) {
		struct og_dht_msg m = {.command = command, .target = target, .to = n->local[0]};

		inbox.n = 0;
		feed(n, 0, &src, &m);
		cr_assert_eq(inbox.n, 1);
		cr_assert_eq(inbox.item[0].m.error, command == 0 ? 0 : 1);
		cr_assert_eq(inbox.item[0].m.nb_closer, 20);
		cr_assert_eq(inbox.item[0].m.token != NULL, command == 0);
		cr_assert_null(inbox.item[0].m.id);
	}
	sim_fini(&sim);
}

Test(dht_rpc, delayed_pings_are_bounded_in_all_and_per_address)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 30);
	uint8_t value[4] = {0xe8, 3, 0, 0};
	struct og_dht_msg m = {.internal = true,
		.command = OG_DHT_DELAYED_PING,
		.has_value = true,
		.value = value,
		.value_bytes = 4};

	for (unsigned i = 0; i < 100; i++) {
		struct og_addr src = sim_addr(stranger_ip, (uint16_t)(5000 + i));

		m.tid = (uint16_t)i;
		feed(n, 0, &src, &m);
	}
	cr_assert_eq(n->rpc->nb_delayed, 4);
	for (unsigned i = 0; i < 3000; i++) {
		struct og_addr src = sim_addr(stranger_ip + i, 5000);

		feed(n, 0, &src, &m);
	}
	cr_assert_eq(n->rpc->nb_delayed, 1024);
	cr_assert_eq(inbox.n, 0);
	sim_run(&sim, 1001 * OG_NS_PER_MS);
	cr_assert_eq(n->rpc->nb_delayed, 0);
	cr_assert_eq(inbox.n, 1024);
	sim_fini(&sim);
}

Test(dht_rpc, our_own_request_coming_back_is_dropped)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 31);
	struct og_addr to = sim_addr(0x7f000001, PORT);
	struct outcome o[1] = {{0}};
	struct og_dht_request req = ping_to(&to, o, 0);

	og_dht_request_send(n->rpc, &req, NULL, sim.now_ns);
	og_dht_rpc_input(n->rpc, 0, &to, inbox.item[0].data, inbox.item[0].len_bytes, sim.now_ns);
	cr_assert_eq(inbox.n, 1);
	cr_assert_eq(n->rpc->count.drops[OG_DHT_DROP_OWN], 1);
	sim_fini(&sim);
}

Test(dht_rpc, garbage_is_dropped_and_counted)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 32);
	static const uint8_t bytes[3][4] = {{0x03}, {0x04, 0, 0, 0}, {0x13, 0, 0, 0}};
	struct og_addr src = sim_addr(stranger_ip, 5000);
	struct og_addr no_port = sim_addr(stranger_ip, 0);
	struct og_addr group = sim_addr(0xe0000001, 5000);

	cr_assert_eq(og_dht_rpc_input(n->rpc, 0, &src, bytes[0], 1, sim.now_ns), -EBADMSG);
	cr_assert_eq(og_dht_rpc_input(n->rpc, 0, &src, bytes[1], 4, sim.now_ns), -EBADMSG);
	cr_assert_eq(og_dht_rpc_input(n->rpc, 0, &src, bytes[2], 4, sim.now_ns), -EBADMSG);
	cr_assert_eq(og_dht_rpc_input(n->rpc, 0, &no_port, bytes[2], 4, sim.now_ns), -EBADMSG);
	cr_assert_eq(og_dht_rpc_input(n->rpc, 0, &group, bytes[2], 4, sim.now_ns), -EBADMSG);
	cr_assert_eq(n->rpc->count.drops[OG_DHT_DROP_MALFORMED], 3);
	cr_assert_eq(n->rpc->count.drops[OG_DHT_DROP_BAD_SOURCE], 2);
	cr_assert_eq(inbox.n, 0);
	sim_fini(&sim);
}

Test(dht_rpc, counters_render_as_metrics)
{
	struct sim sim;
	struct sim_node *n = one_node(&sim, 33);
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	og_dht_rpc_metrics_register(n->rpc);
	og_metrics_render(f);
	fclose(f);
	cr_assert_not_null(strstr(text, "og_dht_drops_total{reason=\"forged_reply\"} 0"));
	cr_assert_not_null(strstr(text, "og_dht_persistent 1"));
	free(text);
	sim_fini(&sim);
}
