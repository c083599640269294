#include "base/stream_tag.h"
#include "transport/udx.h"

#include "transport/udx_table.h"
#include "transport/udx_timer.h"
#include "udx_link.h"

#include <errno.h>

#define MS OG_NS_PER_MS
#define SEC OG_NS_PER_S

/* One UDX with one stream that sends and checks bytes which tell their position. */
struct peer {
	struct node node; /* first */
	struct og_udx *udx;
	uint32_t slot, gen, id;
	bool live;
	uint64_t salt;
	uint64_t to_write, written, received, to_read;
	bool end_after; /* end when all is written */
	bool end_sent;
	bool ended;    /* the peer's end was seen */
	bool echo_end; /* end when the peer does */
	bool closed;
	bool close_in_data;      /* from inside the callback */
	uint32_t close_permille; /* from inside any callback, this often */
	int reason;
	uint32_t nb_messages;
	uint32_t pause_permille; /* pause in the middle of data this often */
	bool paused;
	uint32_t first_packets;
	struct peer *other;
};

static uint8_t byte_at(uint64_t salt, uint64_t pos)
{
	uint64_t x = (pos >> 3) * 0x9e3779b97f4a7c15ull ^ salt;

	x ^= x >> 29;
	return (uint8_t)(x * 0xbf58476d1ce4e5b9ull >> (8 * (pos & 7)) >> 3);
}

static void pump(struct peer *p)
{
	uint8_t block[5000];

	while (p->live && p->written < p->to_write) {
		size_t n = OG_MIN(sizeof(block), p->to_write - p->written);
		size_t done;

		n = 1 + og_rand_below(&p->node.rand, (uint32_t)n);
		for (size_t i = 0; i < n; i++)
			block[i] = byte_at(p->salt, p->written + i);
		done = og_udx_write(p->udx, p->slot, block, n, p->node.link->now_ns);
		p->written += done;
		if (done < n)
			return;
	}
	if (p->live && p->end_after && !p->end_sent && p->written == p->to_write) {
		p->end_sent = true;
		og_udx_end(p->udx, p->slot, p->node.link->now_ns);
	}
}

static bool closes_at_random(struct peer *p)
{
	if (!p->live || og_rand_below(&p->node.rand, 1000) >= p->close_permille)
		return false;
	p->live = false;
	og_udx_close(p->udx, p->slot, p->node.link->now_ns);
	return true;
}

static size_t on_data(void *ctx, uint32_t slot, uint8_t *data, size_t n)
{
	struct peer *p = ctx;
	size_t take = n;

	if (closes_at_random(p))
		return og_rand_below(&p->node.rand, (uint32_t)n + 1);
	cr_assert_eq(slot, p->slot);
	cr_assert(!p->ended);
	if (p->close_in_data) {
		p->live = false;
		og_udx_close(p->udx, p->slot, p->node.link->now_ns);
		return 0;
	}
	if (og_rand_below(&p->node.rand, 1000) < p->pause_permille) {
		take = og_rand_below(&p->node.rand, (uint32_t)n + 1);
		p->paused = true;
		og_udx_pause(p->udx, slot);
	}
	for (size_t i = 0; i < take; i++)
		cr_assert_eq(data[i], byte_at(p->other->salt, p->received + i));
	p->received += take;
	return take;
}

static void on_end(void *ctx, uint32_t slot)
{
	struct peer *p = ctx;

	(void)slot;
	p->ended = true;
	if (closes_at_random(p))
		return;
	if (p->echo_end && !p->end_sent) {
		p->end_sent = true;
		og_udx_end(p->udx, p->slot, p->node.link->now_ns);
	}
}

static void on_message(void *ctx, uint32_t slot, const uint8_t *data, size_t n)
{
	(void)slot;
	(void)data;
	(void)n;
	((struct peer *)ctx)->nb_messages++;
}

static void on_writable(void *ctx, uint32_t slot)
{
	(void)slot;
	if (!closes_at_random(ctx))
		pump(ctx);
}

static void on_closed(void *ctx, uint32_t slot, uint32_t gen, int reason)
{
	struct peer *p = ctx;

	cr_assert_eq(slot, p->slot);
	cr_assert_eq(gen, p->gen);
	cr_assert(!og_udx_is_live(p->udx, slot, gen));
	cr_assert(!p->closed);
	p->live = false;
	p->closed = true;
	p->reason = reason;
}

static void on_first_packet(void *ctx, uint32_t slot, uint16_t endpoint, const struct og_addr *src)
{
	(void)slot;
	(void)endpoint;
	(void)src;
	((struct peer *)ctx)->first_packets++;
}

static const struct og_udx_ops peer_ops = {
	.first_packet = on_first_packet,
	.data = on_data,
	.end = on_end,
	.message = on_message,
	.writable = on_writable,
	.closed = on_closed,
};

static void peer_input(struct node *n, const struct og_addr *src, uint8_t *data, uint16_t len)
{
	struct peer *p = (struct peer *)n;

	if (og_udx_input(p->udx, 0, src, data, len, n->link->now_ns) < 0)
		return;
}

static void peer_flush(struct node *n)
{
	og_udx_flush(((struct peer *)n)->udx, n->link->now_ns);
}

static uint64_t peer_tick(struct node *n)
{
	struct peer *p = (struct peer *)n;
	uint64_t next;

	if (p->paused && p->live && og_rand_below(&n->rand, 4) == 0) {
		p->paused = false;
		og_udx_resume(p->udx, p->slot);
	}
	pump(p);
	next = og_udx_tick(p->udx, n->link->now_ns);
	return p->paused ? OG_MIN(next, n->link->now_ns + MS) : next;
}

struct pair {
	struct link link;
	struct peer a, b;
};

struct pair_opts {
	uint64_t seed;
	uint32_t nb_packets;
	uint32_t window_bytes;
	bool unconnected;
};

static void peer_open(struct pair *t, struct peer *p, uint8_t idx, const struct pair_opts *o)
{
	link_attach(&t->link, &p->node, idx, o->seed);
	struct og_udx_opts opts = {
		.nb_streams = 4,
		.nb_packets = o->nb_packets ? o->nb_packets : 8192,
		.window_bytes = o->window_bytes,
		.core_idx = idx,
		.tx = &p->node.tx,
		.rand = &p->node.rand,
		.ops = &peer_ops,
		.ctx = p,
	};

	p->node.input = peer_input;
	p->node.flush = peer_flush;
	p->node.tick = peer_tick;
	p->salt = o->seed * 31 + idx;
	cr_assert_eq(og_udx_create(&p->udx, &opts), 0);
	cr_assert_eq(og_udx_open(p->udx, &p->slot, &p->id, t->link.now_ns), 0);
	p->gen = og_udx_gen(p->udx, p->slot);
	p->live = true;
}

static void connect_to(struct peer *p, const struct og_addr *remote)
{
	og_udx_connect(p->udx, p->slot, p->other->id, 0, remote, p->node.link->now_ns);
}

static struct pair *pair_new(struct pair_opts o)
{
	struct pair *t = calloc(1, sizeof(*t));

	link_init(&t->link, o.seed);
	t->link.delay_ns = 5 * MS;
	t->a.other = &t->b;
	t->b.other = &t->a;
	peer_open(t, &t->a, 0, &o);
	peer_open(t, &t->b, 1, &o);
	if (!o.unconnected) {
		connect_to(&t->a, &t->b.node.addr);
		connect_to(&t->b, &t->a.node.addr);
	}
	return t;
}

static void pair_free(struct pair *t)
{
	og_udx_destroy(t->a.udx);
	og_udx_destroy(t->b.udx);
	link_fini(&t->link);
	free(t);
}

static void peer_transfer(struct peer *p, uint64_t n, bool end)
{
	p->to_write += n;
	p->end_after = end;
	p->node.next_ns = 0;
}

/* Runs until both are closed, or for `limit`. */
static void run_to_close(struct pair *t, uint64_t limit_ns)
{
	uint64_t until = t->link.now_ns + limit_ns;

	while (t->link.now_ns < until && !(t->a.closed && t->b.closed))
		link_run_for(&t->link, 20 * MS);
}

static void assert_clean(struct pair *t)
{
	cr_assert(t->a.closed && t->b.closed);
	cr_assert_eq(t->a.reason, 0);
	cr_assert_eq(t->b.reason, 0);
	cr_assert_eq(t->a.received, t->b.to_write);
	cr_assert_eq(t->b.received, t->a.to_write);
	cr_assert(t->a.ended && t->b.ended);
	cr_assert_eq(og_udx_nb_free_packets(t->a.udx), 8192);
	cr_assert_eq(og_udx_nb_free_packets(t->b.udx), 8192);
}

static struct og_udx_info info_of(const struct peer *p)
{
	struct og_udx_info info;

	og_udx_get_info(p->udx, p->slot, &info);
	return info;
}

/* ---- the model: what was written arrives, whatever the link does ---- */

static void model_run(uint64_t seed)
{
	struct pair *t = pair_new((struct pair_opts){.seed = seed});
	struct link *l = &t->link;
	uint32_t harsh = (uint32_t)(seed % 4);

	l->loss_permille = og_rand_below(&l->rand, 1 + 60 * harsh);
	l->dup_permille = og_rand_below(&l->rand, 1 + 60 * harsh);
	l->refuse_permille = og_rand_below(&l->rand, 1 + 30 * harsh);
	l->delay_ns = (1 + og_rand_below(&l->rand, 40)) * MS;
	l->jitter_ns = harsh ? (1 + og_rand_below(&l->rand, 20)) * MS : 0;
	t->a.pause_permille = og_rand_below(&l->rand, 1 + 50 * harsh);
	t->b.pause_permille = og_rand_below(&l->rand, 1 + 50 * harsh);
	if (seed % 3 == 0) {
		uint32_t at = (uint32_t)-5;

		og_udx_set_sequences(t->a.udx, t->a.slot, at, at + 3);
		og_udx_set_sequences(t->b.udx, t->b.slot, at + 3, at);
	}
	peer_transfer(&t->a, og_rand_below(&l->rand, 300000), true);
	peer_transfer(&t->b, og_rand_below(&l->rand, 300000), true);
	run_to_close(t, 300 * SEC);
	cr_assert(t->a.closed && t->b.closed, "seed %lu: not closed", seed);
	assert_clean(t);
	pair_free(t);
}

Test(udx, delivers_every_byte_once_over_any_link, .timeout = 100)
{
	for (uint64_t seed = 1; seed <= 150; seed++)
		model_run(seed);
}

Test(udx, survives_heavy_loss_for_a_minute)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 7});

	t->link.delay_ns = 2500000;
	t->link.loss_permille = 300;
	peer_transfer(&t->a, 100 * 1000 * 1000, false);
	link_run_for(&t->link, 60 * SEC);
	cr_assert(t->a.live && t->b.live);
	cr_assert_gt(t->b.received, 100 * 1000);
	pair_free(t);
}

/* ---- flow control ---- */

Test(udx, stops_at_a_closed_window_and_goes_on_at_once_when_it_opens)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 3});
	uint64_t stopped_at;

	og_udx_pause(t->b.udx, t->b.slot);
	peer_transfer(&t->a, 1000 * 1000, false);
	link_run_for(&t->link, 30 * SEC);
	cr_assert(t->a.live, "heartbeats keep a waiting stream alive");
	cr_assert_eq(t->b.received, 0);
	cr_assert_eq(info_of(&t->a).peer_window_bytes, 0);
	stopped_at = t->a.written;
	cr_assert_lt(stopped_at, 600 * 1000);
	og_udx_resume(t->b.udx, t->b.slot);
	link_run_for(&t->link, 300 * MS);
	cr_assert_eq(t->b.received, 1000 * 1000);
	pair_free(t);
}

Test(udx, gives_up_probing_a_window_when_nobody_answers)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 3});

	og_udx_pause(t->b.udx, t->b.slot);
	peer_transfer(&t->a, 1000 * 1000, false);
	link_run_for(&t->link, 3 * SEC);
	t->link.loss_permille = 1000;
	link_run_for(&t->link, 20 * SEC);
	cr_assert(t->a.closed);
	cr_assert_eq(t->a.reason, -ETIMEDOUT);
	pair_free(t);
}

Test(udx, small_windows_carry_everything)
{
	for (uint32_t window = 1; window < 60000; window += 5777) {
		struct pair *t =
			pair_new((struct pair_opts){.seed = window, .window_bytes = window});

		t->b.pause_permille = 100;
		peer_transfer(&t->a, 100000, true);
		peer_transfer(&t->b, 100000, true);
		run_to_close(t, 60 * SEC);
		assert_clean(t);
		pair_free(t);
	}
}

/* A reader that leaves `window` bytes. */
Test(udx, no_window_of_any_size_stalls_a_writer)
{
	for (uint32_t window = 0; window <= 3000; window += window < 10 ? 1 : 23) {
		struct pair *t = pair_new((struct pair_opts){.seed = window, .nb_packets = 64});
		uint8_t p[OG_UDX_HEADER_BYTES];
		struct og_udx_header h = {.id = t->a.id, .window = window};
		uint64_t sent;

		og_udx_encode(p, &h);
		cr_assert_eq(
			og_udx_input(t->a.udx, 0, &t->b.node.addr, p, sizeof(p), t->link.now_ns),
			0);
		cr_assert_eq(info_of(&t->a).peer_window_bytes, window);
		sent = t->a.node.nb_sent;
		peer_transfer(&t->a, 20000, true);
		link_run_for(&t->link, MS);
		cr_assert_gt(
			t->a.node.nb_sent, sent, "window %u: neither data nor a probe", window);
		run_to_close(t, 2 * SEC);
		cr_assert_eq(t->b.received, 20000, "window %u: %lu", window, t->b.received);
		pair_free(t);
	}
}

static bool drop_zero(struct link *l, const struct node *from, const uint8_t *data, uint16_t len)
{
	bool *lost = l->ctx;

	if (from->idx == 0 && data[2] & OG_UDX_DATA && og_load_le32(data + 12) == 0 && !*lost)
		return true;
	return false;
}

Test(udx, holds_no_more_than_its_window_behind_a_gap)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 9, .window_bytes = 64 * 1152});
	bool healed = false;

	t->link.drop = drop_zero;
	t->link.ctx = &healed;
	peer_transfer(&t->a, 3000 * 1000, false);
	link_run_for(&t->link, 5 * SEC);
	cr_assert_geq(og_udx_nb_free_packets(t->b.udx), 8192 - OG_UDX_WINDOW_BYTES / 1152);
	cr_assert_eq(t->b.received, 0);
	healed = true;
	link_run_for(&t->link, 10 * SEC);
	cr_assert_eq(t->b.received, 3000 * 1000);
	pair_free(t);
}

/* ---- forged and odd packets ---- */

static int inject(struct peer *to, uint8_t flags, uint32_t seq, uint32_t ack, const void *body,
	uint16_t n, uint8_t offset)
{
	uint8_t p[2048 + 64];
	struct og_udx_header h = {.flags = flags,
		.data_offset = offset,
		.id = to->id,
		.window = OG_UDX_WINDOW_BYTES,
		.seq = seq,
		.ack = ack};

	og_udx_encode(p, &h);
	if (n > 0)
		memcpy(p + OG_UDX_HEADER_BYTES, body, n);
	return og_udx_input(to->udx, 0, &to->other->node.addr, p,
		(uint16_t)(OG_UDX_HEADER_BYTES + n), to->node.link->now_ns);
}

static uint64_t drops(const struct peer *p, enum og_udx_drop why)
{
	return og_udx_counters(p->udx)->drops[why];
}

Test(udx, drops_what_lies_beyond_every_window_announced)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 1});
	uint32_t edge = OG_UDX_WINDOW_BYTES / 1152;

	cr_assert_eq(inject(&t->a, OG_UDX_DATA, edge, 0, "x", 1, 0), 0);
	cr_assert_eq(drops(&t->a, OG_UDX_DROP_BEYOND_WINDOW), 1);
	cr_assert_eq(inject(&t->a, OG_UDX_DATA, edge - 1, 0, "x", 1, 0), 0);
	cr_assert_eq(drops(&t->a, OG_UDX_DROP_BEYOND_WINDOW), 1);
	cr_assert_eq(og_udx_nb_free_packets(t->a.udx), 8191);
	pair_free(t);
}

/* An older peer probes a closed window with its next data, and gives up if nobody acknowledges it. */
Test(udx, takes_and_acknowledges_data_at_a_closed_window)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 3});
	uint32_t seq;

	og_udx_pause(t->b.udx, t->b.slot);
	peer_transfer(&t->a, 1000 * 1000, false);
	link_run_for(&t->link, 3 * SEC);
	cr_assert_eq(info_of(&t->a).peer_window_bytes, 0);
	seq = 8192 - og_udx_nb_free_packets(t->b.udx);
	for (uint32_t i = 0; i < 100; i++) {
		uint32_t free_before = og_udx_nb_free_packets(t->b.udx);
		uint64_t acks = t->b.node.nb_sent;

		cr_assert_eq(inject(&t->b, OG_UDX_DATA, seq + i, 0, "x", 1, 0), 0);
		og_udx_flush(t->b.udx, t->link.now_ns);
		cr_assert_eq(t->b.node.nb_sent, acks + 1);
		cr_assert_eq(og_udx_nb_free_packets(t->b.udx), free_before - 1);
	}
	pair_free(t);
}

Test(udx, a_forged_destroy_needs_the_right_numbers)
{
	enum { FORGED = 1000000, STALE = 1 << 20 };
	struct pair *t = pair_new((struct pair_opts){.seed = 1});
	struct og_rand *rand = &t->link.rand;
	uint32_t edge = OG_UDX_WINDOW_BYTES / 1152;

	for (uint32_t i = 0; i < FORGED; i++) {
		uint32_t seq = og_rand_u32(rand), ack = og_rand_u32(rand);

		/* One of the two is known: then the other is wrong. */
		if (i % 3 == 1) {
			ack = 0;
			seq = edge + 1 + og_rand_below(rand, 0u - 2 * edge);
		} else if (i % 3 == 2) {
			seq = 0;
			ack = 1 + og_rand_below(rand, 0u - STALE);
		}
		cr_assert_eq(inject(&t->a, OG_UDX_DESTROY, seq, ack, NULL, 0, 0), 0);
	}
	cr_assert(t->a.live);
	cr_assert_eq(inject(&t->a, OG_UDX_DESTROY, 0, 1, NULL, 0, 0), 0);
	cr_assert(t->a.live, "it acknowledges what was never sent");
	cr_assert_eq(inject(&t->a, OG_UDX_DESTROY, edge + 1, 0, NULL, 0, 0), 0);
	cr_assert(t->a.live, "it lies beyond the window");
	cr_assert_eq(inject(&t->a, OG_UDX_DESTROY, 0u - 1, 0, NULL, 0, 0), 0);
	cr_assert(t->a.live, "it lies before what has arrived");
	cr_assert_eq(inject(&t->a, OG_UDX_DESTROY, 0, 0, NULL, 0, 0), 0);
	cr_assert(t->a.closed);
	cr_assert_eq(t->a.reason, -ECONNRESET);
	pair_free(t);
}

Test(udx, an_acknowledgement_outside_the_window_tells_nothing)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 5});
	uint32_t edge = OG_UDX_WINDOW_BYTES / 1152;
	struct og_udx_info before;

	t->link.loss_permille = 1000;
	peer_transfer(&t->a, 20000, false);
	link_run_for(&t->link, MS);
	before = info_of(&t->a);
	cr_assert_eq(before.in_flight, 10);
	for (uint32_t i = 1; i < 1000; i++)
		cr_assert_eq(inject(&t->a, 0, edge + i * 1000003u % 0x7fff0000, 10, NULL, 0, 0), 0);
	cr_assert_eq(info_of(&t->a).in_flight, 10);
	cr_assert_eq(inject(&t->a, 0, 0, 10, NULL, 0, 0), 0);
	cr_assert_lt(info_of(&t->a).in_flight, 10);
	pair_free(t);
}

Test(udx, random_acknowledgements_and_blocks_do_no_harm)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 5});

	peer_transfer(&t->a, 3000 * 1000, false);
	for (uint32_t i = 0; i < 20000; i++) {
		uint8_t blocks[8 * 4];

		/* Never inside what is in flight: that would be a lie no sender can see. */
		for (uint32_t j = 0; j < 8; j++)
			og_store_le32(blocks + 4 * j, og_rand_u32(&t->link.rand) | 1u << 20);
		cr_assert_eq(inject(&t->a, OG_UDX_SACK, 0, og_rand_u32(&t->link.rand) | 1u << 20,
				     blocks, sizeof(blocks), 0),
			0);
		if (i % 20 == 0)
			link_run_for(&t->link, MS);
	}
	link_run_for(&t->link, 10 * SEC);
	cr_assert_eq(t->b.received, 3000 * 1000);
	pair_free(t);
}

Test(udx, ignores_blocks_that_are_empty_backwards_or_old)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 5});
	uint8_t packet[OG_UDX_HEADER_BYTES + 3 * 8];

	og_udx_put_block(packet, 0, (struct og_udx_block){3, 3});
	og_udx_put_block(packet, 1, (struct og_udx_block){5, 2});
	og_udx_put_block(packet, 2, (struct og_udx_block){2, 2000});
	t->link.loss_permille = 1000;
	peer_transfer(&t->a, 20000, false);
	link_run_for(&t->link, MS);
	cr_assert_eq(inject(&t->a, OG_UDX_SACK, 0, 0, packet + OG_UDX_HEADER_BYTES, 3 * 8, 0), 0);
	cr_assert_eq(drops(&t->a, OG_UDX_DROP_BAD_BLOCK), 3);
	cr_assert_eq(info_of(&t->a).in_flight, 10);
	pair_free(t);
}

Test(udx, a_block_cannot_take_what_the_acknowledgement_leaves_open)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 5});
	uint8_t packet[OG_UDX_HEADER_BYTES + 8];

	og_udx_put_block(packet, 0, (struct og_udx_block){0, 4});
	t->link.loss_permille = 1000;
	peer_transfer(&t->a, 20000, false);
	link_run_for(&t->link, MS);
	cr_assert_eq(inject(&t->a, OG_UDX_SACK, 0, 0, packet + OG_UDX_HEADER_BYTES, 8, 0), 0);
	cr_assert_eq(info_of(&t->a).in_flight, 10);
	/* Nor does one that leaves open what a block took. */
	og_udx_put_block(packet, 0, (struct og_udx_block){5, 7});
	cr_assert_eq(inject(&t->a, OG_UDX_SACK, 0, 0, packet + OG_UDX_HEADER_BYTES, 8, 0), 0);
	cr_assert_eq(inject(&t->a, 0, 0, 5, NULL, 0, 0), 0);
	cr_assert_eq(info_of(&t->a).in_flight, 3);
	link_run_for(&t->link, 5 * SEC);
	cr_assert(t->a.live);
	t->a.live = false;
	og_udx_close(t->a.udx, t->a.slot, t->link.now_ns);
	cr_assert_eq(og_udx_nb_free_packets(t->a.udx), 8192);
	pair_free(t);
}

Test(udx, nothing_beyond_the_end_is_delivered_even_if_it_came_first)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 5});
	uint8_t first = byte_at(t->a.salt, 0);

	for (uint32_t seq = 2; seq < 6; seq++)
		cr_assert_eq(inject(&t->b, OG_UDX_DATA, seq, 0, "x", 1, 0), 0);
	cr_assert_eq(inject(&t->b, OG_UDX_END, 1, 0, NULL, 0, 0), 0);
	cr_assert_eq(inject(&t->b, OG_UDX_DATA, 0, 0, &first, 1, 0), 0);
	cr_assert_eq(t->b.received, 1);
	cr_assert(t->b.ended);
	cr_assert_eq(og_udx_nb_free_packets(t->b.udx), 8192);
	pair_free(t);
}

Test(udx, takes_packets_from_another_address_and_answers_to_the_known_one)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 2});
	struct og_addr elsewhere = {{10, 9, 8, 7}, 4444};
	uint8_t p[21];
	struct og_udx_header h = {.flags = OG_UDX_DATA, .id = t->b.id};

	og_udx_encode(p, &h);
	p[20] = byte_at(t->a.salt, 0);
	/* node_commit() asserts the destination of the answer. */
	cr_assert_eq(og_udx_input(t->b.udx, 3, &elsewhere, p, 21, t->link.now_ns), 0);
	og_udx_flush(t->b.udx, t->link.now_ns);
	cr_assert_eq(t->b.received, 1);
	cr_assert_eq(t->b.node.nb_sent, 1);
	pair_free(t);
}

Test(udx, leaves_alone_what_is_not_for_a_live_stream)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 2});
	uint8_t p[21] = {0xff, 1, 1};

	og_store_le32(p + 4, t->b.id ^ 64);
	cr_assert_eq(og_udx_input(t->b.udx, 0, &t->a.node.addr, p, 21, t->link.now_ns), -ENOENT);
	og_store_le32(p + 4, t->b.id);
	p[1] = 2;
	cr_assert_eq(og_udx_input(t->b.udx, 0, &t->a.node.addr, p, 21, t->link.now_ns), -ENOENT);
	p[1] = 1;
	cr_assert_eq(og_udx_input(t->b.udx, 0, &t->a.node.addr, p, 19, t->link.now_ns), -ENOENT);
	pair_free(t);
}

/* ---- beginning ---- */

Test(udx, holds_early_packets_until_connected_and_binds_to_their_source)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 4, .unconnected = true});

	connect_to(&t->a, &t->b.node.addr);
	peer_transfer(&t->a, 50000, true);
	link_run_for(&t->link, 400 * MS);
	cr_assert_eq(t->b.first_packets, 1);
	cr_assert_eq(t->b.received, 0);
	cr_assert_eq(t->b.node.nb_sent, 0);
	cr_assert_geq(og_udx_nb_free_packets(t->b.udx), 8192 - 16);
	connect_to(&t->b, NULL);
	peer_transfer(&t->b, 3, true);
	run_to_close(t, 20 * SEC);
	assert_clean(t);
	pair_free(t);
}

Test(udx, connects_to_the_first_source_that_comes_later)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 4, .unconnected = true});

	connect_to(&t->b, NULL);
	peer_transfer(&t->b, 1000, true);
	link_run_for(&t->link, SEC);
	connect_to(&t->a, &t->b.node.addr);
	peer_transfer(&t->a, 1000, true);
	run_to_close(t, 10 * SEC);
	assert_clean(t);
	pair_free(t);
}

Test(udx, gives_up_when_nobody_ever_comes)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 4, .unconnected = true});

	connect_to(&t->b, NULL);
	link_run_for(&t->link, 11 * SEC);
	cr_assert(t->b.closed);
	cr_assert_eq(t->b.reason, -ETIMEDOUT);
	cr_assert_eq(t->b.node.nb_sent, 0);
	pair_free(t);
}

/* ---- the end ---- */

static bool drop_final_acks(
	struct link *l, const struct node *from, const uint8_t *data, uint16_t len)
{
	struct pair *t = l->ctx;
	const struct peer *p = (const struct peer *)from;

	/* Plain acknowledgements of a side that is through, the first time. */
	if (p->closed || (p->ended && p->end_sent)) {
		if (data[2] == 0 && t->a.node.nb_sent + t->b.node.nb_sent < 400)
			return true;
	}
	return false;
}

Test(udx, both_ends_close_cleanly_when_every_last_acknowledgement_is_lost)
{
	for (uint64_t seed = 1; seed < 30; seed++) {
		struct pair *t = pair_new((struct pair_opts){.seed = seed});

		t->link.drop = drop_final_acks;
		t->link.ctx = t;
		t->b.echo_end = true;
		peer_transfer(&t->a, 3000, true);
		peer_transfer(&t->b, 2000, false);
		run_to_close(t, 30 * SEC);
		assert_clean(t);
		pair_free(t);
	}
}

static bool drop_one_last_ack(
	struct link *l, const struct node *from, const uint8_t *data, uint16_t len)
{
	bool *done = l->ctx;
	const struct peer *p = (const struct peer *)from;

	if (*done || from->idx != 0 || data[2] != 0 || !p->ended)
		return false;
	*done = true;
	return true;
}

Test(udx, a_lingering_stream_repeats_its_last_acknowledgement)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 1});
	bool done = false;

	t->link.drop = drop_one_last_ack;
	t->link.ctx = &done;
	t->b.echo_end = true;
	peer_transfer(&t->a, 3000, true);
	run_to_close(t, 3 * SEC);
	cr_assert(done);
	assert_clean(t);
	pair_free(t);
}

Test(udx, destroy_reaches_the_peer_even_when_the_first_one_is_lost)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 1});

	peer_transfer(&t->a, 300 * 1000 * 1000, false);
	link_run_for(&t->link, 100 * MS);
	t->link.loss_permille = 1000;
	t->b.live = false;
	og_udx_close(t->b.udx, t->b.slot, t->link.now_ns);
	link_run_for(&t->link, 20 * MS);
	t->link.loss_permille = 0;
	link_run_for(&t->link, 3 * SEC);
	cr_assert(t->a.closed);
	cr_assert_eq(t->a.reason, -ECONNRESET);
	cr_assert_eq(og_udx_nb_free_packets(t->b.udx), 8192);
	pair_free(t);
}

Test(udx, may_be_closed_from_inside_a_callback)
{
	for (uint64_t seed = 1; seed < 50; seed++) {
		struct pair *t = pair_new((struct pair_opts){.seed = seed});

		t->link.loss_permille = 100;
		peer_transfer(&t->a, 200000, false);
		link_run_for(&t->link, seed * 3 * MS);
		t->b.close_in_data = true;
		link_run_for(&t->link, 5 * SEC);
		cr_assert_eq(og_udx_nb_free_packets(t->b.udx), 8192);
		pair_free(t);
	}
}

Test(udx, may_be_closed_from_any_callback_at_any_time)
{
	uint64_t packets = 0;

	for (uint64_t seed = 1; packets < 60000; seed++) {
		struct pair *t = pair_new((struct pair_opts){.seed = seed});

		t->link.loss_permille = seed % 3 * 30;
		t->link.dup_permille = 50;
		t->link.jitter_ns = 2 * MS;
		t->a.close_permille = t->b.close_permille = 1 + seed % 5;
		t->a.pause_permille = t->b.pause_permille = seed % 4 * 10;
		t->b.echo_end = true;
		peer_transfer(&t->a, 3000 * 1000, true);
		peer_transfer(&t->b, 1000 * 1000, false);
		link_run_for(&t->link, 10 * SEC);
		packets += og_udx_counters(t->a.udx)->rx_packets;
		packets += og_udx_counters(t->b.udx)->rx_packets;
		cr_assert(!t->a.live || !t->b.live || t->a.ended, "seed %lu", seed);
		pair_free(t);
	}
}

Test(udx, dies_after_seven_time_outs)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 1});
	uint64_t start;

	link_run_for(&t->link, 10 * MS);
	t->link.loss_permille = 1000;
	start = t->link.now_ns;
	peer_transfer(&t->a, 10, false);
	while (!t->a.closed && t->link.now_ns < start + 60 * SEC)
		link_run_for(&t->link, 10 * MS);
	cr_assert_eq(t->a.reason, -ETIMEDOUT);
	cr_assert_geq(t->link.now_ns - start, 13 * SEC);
	cr_assert_leq(t->link.now_ns - start, 15 * SEC);
	pair_free(t);
}

/* ---- speed ---- */

static uint64_t received_in(struct pair *t, uint64_t ns)
{
	uint64_t before = t->b.received;

	link_run_for(&t->link, ns);
	return t->b.received - before;
}

Test(udx, is_back_at_its_old_rate_after_an_outage)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 1});
	uint64_t before, after;

	t->link.delay_ns = 5 * MS;
	t->link.rate_bytes_per_s = 20 * 1000 * 1000;
	t->link.queue_ns = 20 * MS;
	peer_transfer(&t->a, 1ull << 40, false);
	link_run_for(&t->link, 3 * SEC);
	before = received_in(t, SEC);
	cr_assert_gt(before, 15 * 1000 * 1000);
	t->link.loss_permille = 1000;
	link_run_for(&t->link, 1300 * MS);
	t->link.loss_permille = 0;
	link_run_for(&t->link, 2 * SEC);
	after = received_in(t, SEC);
	cr_assert_gt(after * 10, before * 9);
	cr_assert_gt(og_udx_counters(t->a.udx)->timeouts, 0);
	pair_free(t);
}

Test(udx, finds_the_size_that_the_path_carries)
{
	const struct {
		uint16_t limit, least, most;
	} paths[] = {{0, 1500, 1500}, {1300, 1268, 1300}, {1200, 1200, 1200}, {1492, 1461, 1492}};

	for (size_t i = 0; i < OG_ARRAY_LEN(paths); i++) {
		struct pair *t = pair_new((struct pair_opts){.seed = i});

		t->link.len_max = paths[i].limit ? (uint16_t)(paths[i].limit - 28) : 0;
		peer_transfer(&t->a, 8 * 1024 * 1024, false);
		link_run_for(&t->link, 20 * SEC);
		cr_assert_eq(t->b.received, 8 * 1024 * 1024);
		cr_assert_geq(info_of(&t->a).path_bytes, paths[i].least);
		cr_assert_leq(info_of(&t->a).path_bytes, paths[i].most);
		pair_free(t);
	}
}

Test(udx, returns_to_the_base_size_when_large_packets_time_out)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 1});

	peer_transfer(&t->a, 1000 * 1000, false);
	link_run_for(&t->link, 5 * SEC);
	cr_assert_eq(info_of(&t->a).path_bytes, 1500);
	/* Already built packets keep their boundaries (their fragmentation is the port's matter). */
	t->link.loss_permille = 1000;
	peer_transfer(&t->a, 1000 * 1000, false);
	link_run_for(&t->link, 4 * SEC);
	cr_assert_eq(info_of(&t->a).path_bytes, 1200);
	t->link.loss_permille = 0;
	link_run_for(&t->link, 20 * SEC);
	cr_assert_eq(t->b.received, 2 * 1000 * 1000);
	pair_free(t);
}

Test(udx, goes_on_when_the_path_becomes_narrower_in_mid_transfer)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 1});

	t->link.rate_bytes_per_s = 2500000;
	t->link.queue_ns = 20 * MS;
	peer_transfer(&t->a, 20 * 1000 * 1000, true);
	link_run_for(&t->link, 3 * SEC);
	cr_assert_eq(info_of(&t->a).path_bytes, 1500);
	cr_assert_gt(info_of(&t->a).in_flight, 10);
	t->link.len_max = 1280 - 28;
	link_run_for(&t->link, 20 * SEC);
	cr_assert_eq(t->b.received, t->a.to_write);
	cr_assert_leq(info_of(&t->a).path_bytes, 1280);
	pair_free(t);
}

Test(udx, acknowledges_once_per_burst)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 1});

	for (uint32_t i = 0; i < 32; i++) {
		uint8_t body = byte_at(t->a.salt, i);

		cr_assert_eq(inject(&t->b, OG_UDX_DATA, i, 0, &body, 1, 0), 0);
	}
	cr_assert_eq(t->b.node.nb_sent, 0);
	og_udx_flush(t->b.udx, t->link.now_ns);
	cr_assert_eq(t->b.node.nb_sent, 1);
	cr_assert_eq(inject(&t->b, OG_UDX_DATA, 40, 0, "x", 1, 0), 0);
	cr_assert_eq(t->b.node.nb_sent, 2, "a gap is told at once");
	cr_assert_eq(inject(&t->b, OG_UDX_DATA, 40, 0, "x", 1, 0), 0);
	cr_assert_eq(t->b.node.nb_sent, 3, "a duplicate too");
	pair_free(t);
}

Test(udx, shares_its_packet_pool)
{
	struct pair *t = pair_new((struct pair_opts){.seed = 1, .nb_packets = 100});
	uint8_t block[1152] = {0};
	uint32_t slot, id;
	size_t first = 0, second = 0;

	while (og_udx_write(t->a.udx, t->a.slot, block, sizeof(block), t->link.now_ns) > 0)
		first++;
	cr_assert_eq(og_udx_open(t->a.udx, &slot, &id, t->link.now_ns), 0);
	while (og_udx_write(t->a.udx, slot, block, sizeof(block), t->link.now_ns) > 0)
		second++;
	cr_assert_eq(first, 50);
	cr_assert_geq(second, 16);
	pair_free(t);
}

/* ---- parts ---- */

Test(udx, ids_are_unique_and_carry_the_core_and_the_tag)
{
	enum { TAG_KEY = 0x1234567 };
	struct og_udx_table table;
	struct og_udx_farewell *farewell;
	struct og_rand rand;
	uint32_t ids[1000];

	og_rand_seeded(&rand, 1);
	cr_assert_eq(og_udx_table_create(&table, 1000, 5, TAG_KEY), 0);
	for (uint32_t i = 0; i < 1000; i++) {
		ids[i] = og_udx_table_new_id(&table, &rand);
		cr_assert_eq(ids[i] % OG_UDX_CORES_MAX, 5);
		cr_assert_eq(og_stream_tag_put(ids[i], TAG_KEY), ids[i]);
		cr_assert_eq(og_udx_table_find(&table, ids[i], &farewell), -1);
		og_udx_table_insert(&table, ids[i], i);
	}
	for (uint32_t i = 0; i < 1000; i += 2) {
		og_udx_table_remove(&table, ids[i]);
		og_udx_table_linger(
			&table, &(struct og_udx_farewell){.id = ids[i], .until_ns = 1000 + i});
	}
	og_udx_table_expire(&table, 1500);
	for (uint32_t i = 0; i < 1000; i++) {
		int64_t slot = og_udx_table_find(&table, ids[i], &farewell);

		cr_assert_eq(slot, i % 2 ? (int64_t)i : -1);
		cr_assert_eq(farewell != NULL, i % 2 == 0 && i > 500);
	}
	og_udx_table_destroy(&table);
}

Test(udx, timers_come_up_in_order_and_never_late)
{
	enum { N = 200 };
	struct og_udx_timers timers;
	struct og_rand rand;
	uint64_t when[N];
	uint32_t slot;

	og_rand_seeded(&rand, 3);
	cr_assert_eq(og_udx_timers_create(&timers, N), 0);
	for (uint32_t i = 0; i < N; i++)
		when[i] = OG_NEVER;
	for (uint64_t now = 0; now < 20000; now++) {
		uint32_t i = og_rand_below(&rand, N);

		if (og_rand_below(&rand, 10) == 0) {
			og_udx_timers_cancel(&timers, i);
			when[i] = OG_NEVER;
		} else {
			uint64_t at = now + og_rand_below(&rand, 500);

			og_udx_timers_arm(&timers, i, at);
			when[i] = OG_MIN(when[i], at);
		}
		while (og_udx_timers_pop(&timers, now, &slot)) {
			cr_assert_leq(when[slot], now);
			when[slot] = OG_NEVER;
		}
		for (i = 0; i < N; i++)
			cr_assert_gt(when[i], now);
	}
	og_udx_timers_destroy(&timers);
}
