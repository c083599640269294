/*
 * Two cores of one node, driven in one thread, and a peer of one core: the handshake is core 0's, the
 * stream core 1's, and datagrams arrive at the one or the other.
 */
#include "base/bytes.h"
#include "cluster/stream_core.h"
#include "dht/view.h"
#include "transport/stream.h"
#include "transport/udx_wire.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

enum { PEERS = 8, QUEUE = 4096, DATAGRAM = 1500, A0 = 0, A1 = 1, B = 2, NB_BOXES = 3 };
enum { TAG_KEY = 0x1234567 };

struct message {
	struct og_msg m;
	uint8_t data[DATAGRAM];
};

/* One core and all that it is given. */
struct box {
	struct og_tx tx;
	struct og_jobs jobs;
	struct og_sink events, link;
	struct og_core *core;
	struct og_addr addr;
	struct og_rand rand;
	struct og_job *job, *done[64];
	uint32_t nb_done;
	uint8_t buf[DATAGRAM];
	/* To this core from the other one, in order. */
	struct message *inbox;
	uint32_t head, tail;
	bool deaf; /* its inbox waits */
	/* What it did. */
	uint32_t udx_out, values_out; /* of the DHT: replies with a value, as a handshake's */
	uint32_t nb_open, nb_closed, nb_data;
	struct og_msg open;
	char text[64];
};

static struct box boxes[NB_BOXES];
static struct og_keypair keys[2];
static struct og_dht_view *view;
static uint64_t now;
static uint32_t arrivals, handed_over, offers, withdrawn, keys_refused;
static bool all_at_core_0;

/* Datagrams under way. */
static struct packet {
	struct og_addr src, dst;
	uint16_t len_bytes;
	uint8_t data[DATAGRAM];
} * packets;
static uint32_t packets_head, packets_tail;

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = DATAGRAM;
	return OG_CONTAINER_OF(tx, struct box, tx)->buf;
}

static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct box *b = OG_CONTAINER_OF(tx, struct box, tx);
	struct packet *p = &packets[packets_tail++ % QUEUE];

	b->udx_out += b->buf[0] == 0xff;
	b->values_out += b->buf[0] == 0x13 && (b->buf[1] & 0x10);
	p->src = b->addr;
	p->dst = *dst;
	p->len_bytes = len_bytes;
	memcpy(p->data, b->buf, len_bytes);
}

static struct og_job *begin(struct og_jobs *jobs)
{
	struct box *b = OG_CONTAINER_OF(jobs, struct box, jobs);

	if (!b->job)
		b->job = calloc(1, sizeof(*b->job));
	return b->job;
}

static void post(struct og_jobs *jobs, struct og_job *job)
{
	struct box *b = OG_CONTAINER_OF(jobs, struct box, jobs);

	cr_assert_lt(b->nb_done, OG_ARRAY_LEN(b->done));
	job->run(job);
	b->done[b->nb_done++] = job;
	b->job = NULL;
}

static int on_event(struct og_sink *sink, const struct og_msg *m)
{
	struct box *b = OG_CONTAINER_OF(sink, struct box, events);

	if (m->type == OG_EV_PEER_OPEN) {
		b->nb_open++;
		b->open = *m;
	}
	b->nb_closed += m->type == OG_EV_PEER_CLOSED;
	if (m->type == OG_EV_PEER_DATA) {
		b->nb_data++;
		memcpy(b->text, m->data, OG_MIN(m->len_bytes, sizeof(b->text) - 1));
	}
	return 0;
}

/* Into the inbox of the box it belongs to. */
static int on_link(struct og_sink *sink, const struct og_msg *m)
{
	struct box *b = OG_CONTAINER_OF(sink, struct box, link);
	struct message *slot;

	if (m->type == OG_LINK_CONNECTED && keys_refused > 0) {
		keys_refused--;
		return -EAGAIN;
	}
	slot = &b->inbox[b->tail++ % QUEUE];
	offers += m->type == OG_LINK_OFFER;
	withdrawn += m->type == OG_LINK_WITHDRAWN;
	slot->m = *m;
	if (m->len_bytes > 0)
		memcpy(slot->data, m->data, m->len_bytes);
	return 0;
}

static void deliver(const struct packet *p)
{
	uint8_t data[DATAGRAM];
	struct og_dgram d = {.data = data, .len_bytes = p->len_bytes, .src = p->src};
	uint32_t to = B;

	memcpy(data, p->data, p->len_bytes);
	if (og_addr_eq(&p->dst, &boxes[A0].addr)) {
		uint32_t at = all_at_core_0 ? A0 : arrivals++ % 2;

		to = boxes[at].core->ops->steer(boxes[at].core, &d);
		handed_over += to != at;
	} else if (!og_addr_eq(&p->dst, &boxes[B].addr)) {
		return;
	}
	boxes[to].core->ops->input(boxes[to].core, &d, 1, now);
}

static void pump(struct box *b)
{
	uint32_t n = b->nb_done;

	for (; !b->deaf && b->head != b->tail; b->head++) {
		struct message *msg = &b->inbox[b->head % QUEUE];

		msg->m.data = msg->m.len_bytes > 0 ? msg->data : NULL;
		cr_assert_eq(b->core->ops->command(b->core, &msg->m, now), 0);
	}
	b->nb_done = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct og_job *job = b->done[i];

		b->core->ops->job_done(b->core, job, now);
		free(job);
	}
	b->core->ops->tick(b->core, now);
}

static void run_for(uint64_t ns)
{
	for (uint64_t end = now + ns; now < end; now += OG_NS_PER_MS) {
		uint32_t last = packets_tail;

		while (packets_head != last)
			deliver(&packets[packets_head++ % QUEUE]);
		for (int i = 0; i < NB_BOXES; i++)
			pump(&boxes[i]);
	}
}

static void command(int box, struct og_msg m, const char *text)
{
	m.data = (const uint8_t *)text;
	m.len_bytes = text ? (uint32_t)strlen(text) : 0;
	cr_assert_eq(boxes[box].core->ops->command(boxes[box].core, &m, now), 0);
}

static void box_init(struct box *b, struct og_addr addr, uint64_t seed)
{
	memset(b, 0, sizeof(*b));
	b->tx = (struct og_tx){reserve, commit};
	b->jobs = (struct og_jobs){begin, post};
	b->events.push = on_event;
	b->link.push = on_link;
	b->addr = addr;
	b->inbox = calloc(QUEUE, sizeof(*b->inbox));
	og_rand_seeded(&b->rand, seed);
}

static void create(uint8_t peer_seed)
{
	const struct og_addr a = {{10, 0, 0, 1}, 4000}, b = {{10, 0, 0, 2}, 4000};
	const uint8_t seeds[2][32] = {{1}, {2, peer_seed}};
	struct og_cluster_core_opts co = {.local = {a},
		.public_addr = a,
		.ephemeral = OG_CORE_NO,
		.peers_max = PEERS,
		.packets = 512,
		.nb_cores = 2};
	struct og_stream_core_opts so = {
		.idx = 1, .nb_cores = 2, .peers_max = PEERS, .packets = 512};

	cr_assert_eq(og_crypto_init(), 0);
	now = OG_NS_PER_S;
	packets = calloc(QUEUE, sizeof(*packets));
	packets_head = packets_tail = 0;
	box_init(&boxes[A0], a, 1);
	box_init(&boxes[A1], a, 2);
	box_init(&boxes[B], b, 3);
	for (int i = 0; i < 2; i++)
		og_keypair_from_seed(&keys[i], seeds[i]);
	cr_assert_eq(og_dht_view_create(&view, 2), 0);
	co.env = (struct og_core_env){
		&boxes[A0].tx, &boxes[A0].jobs, &boxes[A0].events, &boxes[A0].rand, TAG_KEY};
	co.keys = &keys[0];
	co.links[1] = &boxes[A1].link;
	co.view = view;
	cr_assert_eq(og_cluster_core_create(&boxes[A0].core, &co, now), 0);
	so.env = (struct og_core_env){
		&boxes[A1].tx, NULL, &boxes[A1].events, &boxes[A1].rand, TAG_KEY};
	so.home = &boxes[A0].link;
	so.view = view;
	so.own_key = keys[0].public_key;
	cr_assert_eq(og_stream_core_create(&boxes[A1].core, &so, now), 0);
	co = (struct og_cluster_core_opts){
		.env = {&boxes[B].tx, &boxes[B].jobs, &boxes[B].events, &boxes[B].rand, 0},
		.keys = &keys[1],
		.local = {b},
		.bootstrap = &a,
		.nb_bootstrap = 1,
		.ephemeral = OG_CORE_NO,
		.peers_max = PEERS,
		.packets = 512};
	cr_assert_eq(og_cluster_core_create(&boxes[B].core, &co, now), 0);
	run_for(500 * OG_NS_PER_MS);
}

static void destroy(void)
{
	og_stream_core_destroy(boxes[A1].core);
	og_cluster_core_destroy(boxes[A0].core);
	og_cluster_core_destroy(boxes[B].core);
	og_dht_view_destroy(view);
	for (int i = 0; i < NB_BOXES; i++) {
		for (uint32_t k = 0; k < boxes[i].nb_done; k++)
			free(boxes[i].done[k]);
		free(boxes[i].job);
		free(boxes[i].inbox);
	}
	free(packets);
}

/* `from` calls the other one, which serves a topic for it. */
static void dial(int from)
{
	const struct og_addr *there = &boxes[from == B ? A0 : B].addr;
	uint8_t at[6];
	struct og_writer w = og_writer_of(at, sizeof(at));
	struct og_msg m = {.type = OG_CMD_DIAL, .data = at, .len_bytes = sizeof(at)};
	struct og_msg join = {.type = OG_CMD_JOIN, .flags = OG_JOIN_SERVER};

	command(from == B ? A0 : B, join, NULL);
	run_for(200 * OG_NS_PER_MS);
	og_write_addr4(&w, there);
	memcpy(m.key, keys[from == B ? 0 : 1].public_key, 32);
	cr_assert_eq(boxes[from].core->ops->command(boxes[from].core, &m, now), 0);
}

/* A peer whose key lives on core 1. */
static void create_for_core_1(int from)
{
	for (uint8_t seed = 0;; seed++) {
		cr_assert_lt(seed, 64, "chance would have to be very bad");
		create(seed);
		dial(from);
		run_for(OG_NS_PER_S);
		cr_assert_eq(boxes[B].nb_open, 1);
		cr_assert_eq(boxes[A0].nb_open + boxes[A1].nb_open, 1);
		if (boxes[A1].nb_open == 1)
			return;
		destroy();
	}
}

static struct og_msg about(int box, enum og_core_command type)
{
	return (struct og_msg){
		.type = (uint16_t)type, .slot = boxes[box].open.slot, .gen = boxes[box].open.gen};
}

static void talk(void)
{
	cr_assert_geq(boxes[A1].open.slot, og_slots_per_core(PEERS, 2), "slots go on");
	command(B, about(B, OG_CMD_WRITE), "to core 1");
	run_for(100 * OG_NS_PER_MS);
	cr_assert_str_eq(boxes[A1].text, "to core 1");
	command(A1, about(A1, OG_CMD_WRITE), "from core 1");
	run_for(100 * OG_NS_PER_MS);
	cr_assert_str_eq(boxes[B].text, "from core 1");
	cr_assert_eq(boxes[A0].udx_out, 0, "core 0 has no part in it");
	cr_assert_gt(boxes[A1].udx_out, 0);
}

Test(cores, a_peer_that_calls_is_served_by_core_1_wherever_its_datagrams_arrive)
{
	create_for_core_1(B);
	cr_assert_eq(boxes[A1].open.flags & 1, 0);
	cr_assert_eq(boxes[A1].values_out, 1, "the answer of the handshake left by core 1");
	talk();
	all_at_core_0 = true;
	handed_over = 0;
	talk();
	cr_assert_gt(handed_over, 0);
	command(B, about(B, OG_CMD_END), NULL);
	run_for(100 * OG_NS_PER_MS);
	command(A1, about(A1, OG_CMD_END), NULL);
	run_for(OG_NS_PER_S);
	cr_assert_eq(boxes[A1].nb_closed, 1);
	cr_assert_eq(boxes[B].nb_closed, 1);
	destroy();
}

Test(cores, a_peer_that_core_0_calls_is_served_by_core_1)
{
	create_for_core_1(A0);
	cr_assert_eq(boxes[A1].open.flags & 1, 1);
	talk();
	command(A0, (struct og_msg){.type = OG_CMD_STOP}, NULL);
	run_for(OG_NS_PER_S);
	cr_assert_eq(boxes[A1].nb_closed, 1, "a node that stops takes all its cores along");
	cr_assert_eq(boxes[B].nb_closed, 1);
	destroy();
}

Test(cores, nobody_is_answered_before_core_1_has_the_stream)
{
	create_for_core_1(B);
	command(B, about(B, OG_CMD_CLOSE), NULL);
	boxes[A1].deaf = true;
	run_for(4 * OG_NS_PER_S); /* B calls again */
	cr_assert_eq(boxes[B].nb_open, 1, "the answer waits with the stream");
	boxes[A1].deaf = false;
	run_for(10 * OG_NS_PER_S);
	cr_assert_geq(boxes[B].nb_open, 2);
	cr_assert_eq(boxes[A1].nb_open, boxes[B].nb_open);
	destroy();
}

Test(cores, keys_wait_while_the_way_to_core_1_is_full)
{
	keys_refused = 20;
	create_for_core_1(B);
	cr_assert_eq(keys_refused, 0);
	cr_assert_eq(boxes[B].nb_open, 1);
	talk();
	destroy();
}

Test(cores, an_offered_id_that_is_guessed_is_taken_back)
{
	struct packet p = {.dst = {{10, 0, 0, 1}, 4000}, .src = {{10, 0, 0, 9}, 9}};
	uint32_t offers_before;

	create(0);
	/* Its first offers are still in the inbox's memory. */
	cr_assert_eq(boxes[A0].inbox[0].m.type, OG_LINK_OFFER);
	cr_assert_eq(og_stream_core_of((uint32_t)boxes[A0].inbox[0].m.arg), 1);
	og_udx_encode(p.data, &(struct og_udx_header){.flags = OG_UDX_DATA,
				      .id = (uint32_t)boxes[A0].inbox[0].m.arg});
	p.len_bytes = OG_UDX_HEADER_BYTES + 4;
	offers_before = offers;
	withdrawn = 0;
	deliver(&p);
	run_for(10 * OG_NS_PER_MS);
	cr_assert_eq(withdrawn, 1);
	cr_assert_eq(offers, offers_before + 1, "and another one takes its place");
	destroy();
}

/* PING at either core, with the same answer. */
Test(cores, either_core_answers_a_ping)
{
	uint8_t ping[] = {3, 4, 7, 0, 10, 0, 0, 1, 0xa0, 0x0f, 0};
	uint8_t answers[2][DATAGRAM];

	create(0);
	for (int i = 0; i < 2; i++) {
		struct og_dgram d = {
			.data = ping, .len_bytes = sizeof(ping), .src = {{10, 0, 0, 9}, 9}};
		struct og_core *core = boxes[A0 + i].core;

		cr_assert_eq(core->ops->steer(core, &d), i);
		core->ops->input(core, &d, 1, now);
		cr_assert_eq(boxes[A0 + i].buf[0], 0x13);
		memcpy(answers[i], boxes[A0 + i].buf, 42);
	}
	cr_assert_arr_eq(answers[0], answers[1], 42);
	destroy();
}
