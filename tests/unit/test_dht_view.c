/* What a core beside the owner says must be what the owner would have said. */
#include "dht/view.h"

#include "dht_sim.h"

static struct sim sim;
static struct og_dht_view *view;
static uint8_t said[2][SIM_MTU];
static uint16_t said_bytes[2];

/* A way out that only notes what is said. */
struct note {
	struct og_tx tx;
	int who;
};

static uint8_t *note_reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = SIM_MTU;
	return said[OG_CONTAINER_OF(tx, struct note, tx)->who];
}

static void note_commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	said_bytes[OG_CONTAINER_OF(tx, struct note, tx)->who] = len_bytes;
}

static struct note notes[2] = {{{note_reserve, note_commit}, 0}, {{note_reserve, note_commit}, 1}};

static struct og_dht_rpc *owner_new(bool persistent)
{
	static struct og_rand rand;
	struct og_dht_rpc_opts o = {.local = {{{10, 0, 0, 1}, 4000}},
		.ephemeral = persistent ? OG_NO : OG_YES,
		.tx = &notes[0].tx,
		.rand = &rand};
	struct og_dht_rpc *rpc;

	if (persistent)
		o.public_addr = o.local[0];
	og_rand_seeded(&rand, 11);
	cr_assert_eq(og_dht_rpc_create(&rpc, &o, OG_NS_PER_S), 0);
	og_dht_rpc_tick(rpc, OG_NS_PER_S);
	cr_assert_eq(og_dht_rpc_persistent(rpc), persistent);
	return rpc;
}

static void add_nodes(struct og_dht_rpc *rpc, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++) {
		struct og_addr a = og_addr_from_key((uint64_t)(0x0a010000 + i * 7) << 16 | 5000);
		uint8_t id[OG_DHT_ID_BYTES];

		og_dht_node_id(id, &a);
		if (og_dht_table_add(rpc->table, id, &a, false, 1, NULL) == 0)
			rpc->count.nodes_added++;
	}
}

static struct og_dgram request(
	uint8_t *buf, uint8_t command, const uint8_t *target, const uint8_t *id)
{
	const struct og_dht_msg m = {.internal = true,
		.tid = 77,
		.to = {{10, 0, 0, 1}, 4000},
		.command = command,
		.target = target,
		.id = id};
	struct og_writer w = og_writer_of(buf, SIM_MTU);

	cr_assert_eq(og_dht_msg_encode(&m, &w), 0);
	return (struct og_dgram){
		.data = buf, .len_bytes = (uint16_t)og_writer_len(&w), .src = {{10, 9, 9, 9}, 99}};
}

static void compare(struct og_dht_rpc *rpc, const struct og_dgram *d)
{
	said_bytes[0] = said_bytes[1] = 0;
	cr_assert(og_dht_view_takes(d->data, d->len_bytes));
	cr_assert_eq(
		og_dht_rpc_input(rpc, d->endpoint, &d->src, d->data, d->len_bytes, OG_NS_PER_S), 0);
	og_dht_view_serve(view, 1, &notes[1].tx, d);
	cr_assert_gt(said_bytes[0], 0);
	cr_assert_eq(said_bytes[0], said_bytes[1]);
	cr_assert_arr_eq(said[0], said[1], said_bytes[0]);
}

Test(dht_view, answers_as_the_owner_does)
{
	struct og_rand rand;
	uint8_t buf[SIM_MTU], target[OG_DHT_ID_BYTES];

	(void)sim;
	og_rand_seeded(&rand, 5);
	for (int persistent = 0; persistent < 2; persistent++) {
		struct og_dht_rpc *rpc = owner_new(persistent);

		cr_assert_eq(og_dht_view_create(&view, 2), 0);
		add_nodes(rpc, 0, 300);
		(void)!og_dht_view_publish(view, rpc, OG_NS_PER_S);
		for (int i = 0; i < 200; i++) {
			struct og_dgram d;

			og_rand_fill(&rand, target, sizeof(target));
			d = request(buf, OG_DHT_FIND_NODE, target, NULL);
			compare(rpc, &d);
			d = request(buf, OG_DHT_PING, NULL, NULL);
			d.endpoint = 0;
			compare(rpc, &d);
		}
		cr_assert_eq(og_dht_view_counts(view, 1)->replies, 400);
		og_dht_view_destroy(view);
		og_dht_rpc_destroy(rpc);
	}
}

Test(dht_view, follows_the_owner_but_not_at_every_change)
{
	struct og_dht_rpc *rpc = owner_new(true);
	uint64_t now = OG_NS_PER_S, next;
	uint8_t buf[SIM_MTU], target[OG_DHT_ID_BYTES] = {1};
	struct og_dgram d = request(buf, OG_DHT_FIND_NODE, target, NULL);

	cr_assert_eq(og_dht_view_create(&view, 2), 0);
	cr_assert_eq(og_dht_view_publish(view, rpc, now), OG_NEVER);
	compare(rpc, &d);
	add_nodes(rpc, 0, 10);
	next = og_dht_view_publish(view, rpc, now + OG_NS_PER_MS);
	cr_assert_neq(next, OG_NEVER, "a change waits");
	cr_assert_eq(og_dht_view_publish(view, rpc, next), OG_NEVER);
	compare(rpc, &d);
	cr_assert_eq(og_dht_view_publish(view, rpc, next + OG_NS_PER_S), OG_NEVER);
	add_nodes(rpc, 10, 10);
	cr_assert_eq(og_dht_view_publish(view, rpc, next + 2 * OG_NS_PER_S), OG_NEVER);
	compare(rpc, &d);
	og_dht_view_destroy(view);
	og_dht_rpc_destroy(rpc);
}

Test(dht_view, drops_what_is_wrong)
{
	struct og_dht_rpc *rpc = owner_new(true);
	const struct og_dht_view_counts *c;
	uint8_t buf[SIM_MTU], claimed[OG_DHT_ID_BYTES] = {9};
	struct og_dgram d = request(buf, OG_DHT_PING, NULL, claimed);

	cr_assert_not(og_dht_view_takes(d.data, d.len_bytes), "who has an id is for the owner");
	d = request(buf, OG_DHT_PING, NULL, NULL);

	cr_assert_eq(og_dht_view_create(&view, 2), 0);
	c = og_dht_view_counts(view, 1);
	(void)!og_dht_view_publish(view, rpc, OG_NS_PER_S);
	og_dht_view_serve(view, 1, &notes[1].tx, &d);
	cr_assert_eq(c->replies, 1);
	d.src = (struct og_addr){{10, 0, 0, 1}, 4000};
	og_dht_view_serve(view, 1, &notes[1].tx, &d);
	cr_assert_eq(c->own, 1, "from ourselves");
	d = request(buf, OG_DHT_FIND_NODE, NULL, NULL);
	og_dht_view_serve(view, 1, &notes[1].tx, &d);
	cr_assert_eq(c->malformed, 1, "no target");
	d = request(buf, OG_DHT_PING, NULL, NULL);
	d.src.port = 0;
	og_dht_view_serve(view, 1, &notes[1].tx, &d);
	cr_assert_eq(c->malformed, 2, "no port");
	cr_assert_eq(c->replies, 1);
	og_dht_view_destroy(view);
	og_dht_rpc_destroy(rpc);
}
