#include "transport/stream.h"

#include "crypto/secretstream.h"
#include "transport/frame_memory.h"
#include "transport/udx.h"
#include "udx_link.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#define MS OG_NS_PER_MS
#define SEC OG_NS_PER_S

enum { STREAMS_MAX = 1024, PACKETS = 8192 };

/* ---- one core's streams on an end of the link ---- */

struct flow {
	struct og_stream_id id;
	uint32_t udx_id;
	uint64_t to_write, written, received;
	uint32_t write_max; /* bytes in one call */
	bool end_after, end_sent, opened, ended, closed, paused, echo;
	int reason;
	uint32_t nb_frames, nb_messages;
	uint64_t salt, peer_salt;
};

struct stack {
	struct node node; /* first */
	struct og_streams *streams;
	struct flow flows[STREAMS_MAX];
	uint32_t nb_flows;
	uint32_t pause_permille;
	bool close_in_data, manual;
};

static uint8_t byte_at(uint64_t salt, uint64_t pos)
{
	uint64_t x = (pos >> 3) * 0x9e3779b97f4a7c15ull ^ salt;

	x ^= x >> 29;
	return (uint8_t)(x * 0xbf58476d1ce4e5b9ull >> (8 * (pos & 7)) >> 3);
}

static struct flow *flow_of(struct stack *k, struct og_stream_id id)
{
	for (uint32_t i = 0; i < k->nb_flows; i++) {
		if (k->flows[i].id.slot == id.slot && k->flows[i].id.gen == id.gen)
			return &k->flows[i];
	}
	cr_assert(false, "callback for a stream that is not ours");
	return NULL;
}

static void pump(struct stack *k, struct flow *f)
{
	static uint8_t block[300000];

	while (!f->closed && f->written < f->to_write) {
		size_t n = OG_MIN(f->write_max, f->to_write - f->written);
		size_t done;

		n = 1 + og_rand_below(&k->node.rand, (uint32_t)n);
		for (size_t i = 0; i < n; i++)
			block[i] = byte_at(f->salt, f->written + i);
		done = og_stream_write(k->streams, f->id, block, n, k->node.link->now_ns);
		f->written += done;
		if (done < n)
			return;
	}
	if (!f->closed && f->end_after && !f->end_sent && f->written == f->to_write) {
		f->end_sent = true;
		og_stream_end(k->streams, f->id, k->node.link->now_ns);
	}
}

static void on_open(void *ctx, struct og_stream_id id)
{
	struct flow *f = flow_of(ctx, id);

	cr_assert(!f->opened);
	f->opened = true;
}

static void on_data(void *ctx, struct og_stream_id id, const uint8_t *plain, size_t n)
{
	struct stack *k = ctx;
	struct flow *f = flow_of(k, id);

	cr_assert(f->opened && !f->ended && !f->paused);
	cr_assert_gt(n, 0);
	for (size_t i = 0; i < n; i++)
		cr_assert_eq(plain[i], byte_at(f->peer_salt, f->received + i));
	f->received += n;
	f->nb_frames++;
	if (f->echo)
		f->to_write += n;
	if (k->close_in_data) {
		f->closed = true;
		og_stream_close(k->streams, id, k->node.link->now_ns);
	} else if (og_rand_below(&k->node.rand, 1000) < k->pause_permille) {
		f->paused = true;
		og_stream_pause(k->streams, id);
	}
}

static void on_end(void *ctx, struct og_stream_id id)
{
	flow_of(ctx, id)->ended = true;
}

static void on_closed(void *ctx, struct og_stream_id id, int reason)
{
	struct flow *f = flow_of(ctx, id);

	cr_assert(!f->closed);
	cr_assert(!og_stream_is_alive(((struct stack *)ctx)->streams, id));
	f->closed = true;
	f->reason = reason;
}

static void on_writable(void *ctx, struct og_stream_id id)
{
	pump(ctx, flow_of(ctx, id));
}

static void on_message(void *ctx, struct og_stream_id id, const uint8_t *plain, size_t n)
{
	cr_assert_eq(n, 5);
	cr_assert_eq(memcmp(plain, "aside", 5), 0);
	flow_of(ctx, id)->nb_messages++;
}

static const struct og_stream_ops stack_ops = {
	.open = on_open,
	.data = on_data,
	.end = on_end,
	.closed = on_closed,
	.writable = on_writable,
	.message = on_message,
};

static void stack_input(struct node *n, const struct og_addr *src, uint8_t *data, uint16_t len)
{
	if (og_streams_input(((struct stack *)n)->streams, 0, src, data, len, n->link->now_ns) < 0)
		return;
}

static void stack_flush(struct node *n)
{
	og_streams_flush(((struct stack *)n)->streams, n->link->now_ns);
}

static uint64_t stack_tick(struct node *n)
{
	struct stack *k = (struct stack *)n;
	uint64_t next = OG_NEVER;

	for (uint32_t i = 0; i < k->nb_flows && !k->manual; i++) {
		struct flow *f = &k->flows[i];

		if (f->closed)
			continue;
		if (f->paused) {
			next = n->link->now_ns + MS;
			if (og_rand_below(&n->rand, 4) == 0) {
				f->paused = false;
				og_stream_resume(k->streams, f->id);
			}
		}
		pump(k, f);
	}
	return OG_MIN(next, og_streams_tick(k->streams, n->link->now_ns));
}

struct pair {
	struct link link;
	struct stack a, b; /* a initiates */
};

static void stack_open(struct pair *t, struct stack *k, uint8_t idx, uint64_t seed,
	const struct og_streams_opts *extra)
{
	struct og_streams_opts opts = *extra;

	link_attach(&t->link, &k->node, idx, seed);
	opts.nb_streams = opts.nb_streams ? opts.nb_streams : 4;
	opts.nb_packets = PACKETS;
	opts.frame_budget_bytes =
		opts.frame_budget_bytes ? opts.frame_budget_bytes : 64 * 1024 * 1024;
	opts.core_idx = idx;
	opts.tx = &k->node.tx;
	opts.rand = &k->node.rand;
	opts.ops = &stack_ops;
	opts.ctx = k;
	k->node.input = stack_input;
	k->node.flush = stack_flush;
	k->node.tick = stack_tick;
	cr_assert_eq(og_streams_create(&k->streams, &opts), 0);
}

static struct pair *pair_new(uint64_t seed, struct og_streams_opts opts)
{
	struct pair *t = calloc(1, sizeof(*t));

	cr_assert_eq(og_crypto_init(), 0);
	link_init(&t->link, seed);
	t->link.delay_ns = 5 * MS;
	stack_open(t, &t->a, 0, seed, &opts);
	stack_open(t, &t->b, 1, seed, &opts);
	return t;
}

static void pair_free(struct pair *t)
{
	og_streams_destroy(t->a.streams);
	og_streams_destroy(t->b.streams);
	link_fini(&t->link);
	free(t);
}

static void keys_of(struct pair *t, struct og_noise_keys *a, struct og_noise_keys *b)
{
	og_rand_fill(&t->link.rand, a, sizeof(*a));
	memcpy(b->tx, a->rx, sizeof(b->tx));
	memcpy(b->rx, a->tx, sizeof(b->rx));
	memcpy(b->hash, a->hash, sizeof(b->hash));
}

static struct flow *flow_new(struct pair *t, struct stack *k)
{
	struct flow *f = &k->flows[k->nb_flows++];

	f->write_max = 100000;
	f->salt = og_rand_u64(&t->link.rand);
	cr_assert_eq(og_stream_reserve(k->streams, &f->id, &f->udx_id, t->link.now_ns), 0);
	return f;
}

static void flow_start(struct stack *k, struct flow *f, const struct og_noise_keys *keys,
	bool initiator, uint32_t remote_id, const struct og_addr *remote)
{
	cr_assert_eq(og_stream_start(k->streams, f->id, keys, initiator, remote_id, 0, remote,
			     k->node.link->now_ns),
		0);
	k->node.next_ns = 0;
}

/* A stream between the two: flows of the same index. */
static void join(struct pair *t)
{
	struct og_noise_keys ka, kb;
	struct flow *fa = flow_new(t, &t->a), *fb = flow_new(t, &t->b);

	keys_of(t, &ka, &kb);
	fa->peer_salt = fb->salt;
	fb->peer_salt = fa->salt;
	flow_start(&t->b, fb, &kb, false, fa->udx_id, &t->a.node.addr);
	flow_start(&t->a, fa, &ka, true, fb->udx_id, &t->b.node.addr);
}

static void run_to_close(struct pair *t, uint64_t limit_ns)
{
	uint64_t until = t->link.now_ns + limit_ns;

	while (t->link.now_ns < until && !(t->a.flows[0].closed && t->b.flows[0].closed))
		link_run_for(&t->link, 20 * MS);
}

static const struct og_streams_opts usual = {0};

/* ---- two of ours ---- */

Test(stream, delivers_every_byte_once_over_any_link, .timeout = 100)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct pair *t = pair_new(seed, usual);
		struct flow *fa, *fb;
		uint32_t harsh = (uint32_t)(seed % 3);

		t->link.loss_permille = 50 * harsh;
		t->link.dup_permille = 30 * harsh;
		t->link.refuse_permille = 20 * harsh;
		t->link.jitter_ns = harsh * 3 * MS;
		join(t);
		fa = &t->a.flows[0];
		fb = &t->b.flows[0];
		t->a.pause_permille = t->b.pause_permille = 40 * harsh;
		fa->write_max = seed % 2 ? 100 : 250000;
		fa->to_write = og_rand_below(&t->link.rand, 600000);
		fb->to_write = og_rand_below(&t->link.rand, 300000);
		fa->end_after = fb->end_after = true;
		run_to_close(t, 200 * SEC);
		cr_assert(fa->closed && fb->closed, "seed %lu", seed);
		cr_assert_eq(fa->reason, 0);
		cr_assert_eq(fb->reason, 0);
		cr_assert_eq(fa->received, fb->to_write);
		cr_assert_eq(fb->received, fa->to_write);
		cr_assert(fa->ended && fb->ended);
		cr_assert_eq(og_streams_nb_live(t->a.streams), 0);
		pair_free(t);
	}
}

Test(stream, carries_a_thousand_streams_that_speak_at_once, .timeout = 60)
{
	struct og_streams_opts opts = {.nb_streams = 1000};
	struct pair *t = pair_new(3, opts);

	t->link.loss_permille = 20;
	for (uint32_t i = 0; i < 1000; i++) {
		join(t);
		t->a.flows[i].to_write = 1;
		t->b.flows[i].echo = true;
	}
	link_run_for(&t->link, 10 * SEC);
	for (uint32_t i = 0; i < 1000; i++)
		cr_assert_eq(t->a.flows[i].received, 1);
	pair_free(t);
}

Test(stream, small_writes_share_a_packet)
{
	struct pair *t = pair_new(1, usual);
	struct og_stream_info info;

	join(t);
	for (uint32_t i = 0; i < 20; i++)
		cr_assert_eq(
			og_stream_write(t->a.streams, t->a.flows[0].id, "x", 1, t->link.now_ns), 1);
	t->a.manual = t->b.manual = true;
	link_step(&t->link);
	cr_assert_eq(t->a.node.nb_sent, 1);
	cr_assert(og_stream_info(t->a.streams, t->a.flows[0].id, &info));
	cr_assert_eq(info.frames_written, 20);
	cr_assert_eq(info.tx_bytes, OG_FRAME_HEADER_BYTES + 20 * (OG_FRAME_OVERHEAD + 1));
	pair_free(t);
}

Test(stream, opens_to_the_responder_on_proof_and_without_waiting_for_data)
{
	struct pair *t = pair_new(1, usual);

	join(t);
	link_run_for(&t->link, 50 * MS);
	cr_assert(t->a.flows[0].opened);
	cr_assert(t->b.flows[0].opened);
	cr_assert_eq(t->a.flows[0].nb_frames + t->b.flows[0].nb_frames, 0);
	pair_free(t);
}

Test(stream, keeps_alive_when_silent_and_notices_a_dead_peer)
{
	struct pair *t = pair_new(1, usual);
	struct og_stream_info before, after;

	join(t);
	link_run_for(&t->link, SEC);
	cr_assert(og_stream_info(t->b.streams, t->b.flows[0].id, &before));
	link_run_for(&t->link, 60 * SEC);
	cr_assert(og_stream_info(t->b.streams, t->b.flows[0].id, &after));
	cr_assert_eq(after.frames_read - before.frames_read, 12);
	cr_assert_eq(t->b.flows[0].nb_frames, 0, "a keepalive is not data");
	cr_assert_leq(t->link.now_ns - og_stream_last_heard_ns(t->b.streams, t->b.flows[0].id),
		5100 * MS);
	t->link.loss_permille = 1000;
	link_run_for(&t->link, 20 * SEC);
	cr_assert(t->a.flows[0].closed && t->b.flows[0].closed);
	cr_assert_eq(t->a.flows[0].reason, -ETIMEDOUT);
	pair_free(t);
}

Test(stream, a_heartbeat_is_answered_at_once)
{
	struct pair *t = pair_new(1, usual);
	uint64_t asked;

	join(t);
	link_run_for(&t->link, 2 * SEC);
	asked = t->link.now_ns;
	og_stream_heartbeat(t->a.streams, t->a.flows[0].id, asked);
	link_run_for(&t->link, 20 * MS);
	cr_assert_eq(og_stream_last_heard_ns(t->a.streams, t->a.flows[0].id), asked + 10 * MS);
	pair_free(t);
}

Test(stream, destroys_a_stream_whose_peer_never_ends)
{
	struct pair *t = pair_new(1, usual);
	uint64_t ended;

	join(t);
	t->a.flows[0].to_write = 1000;
	t->a.flows[0].end_after = true;
	link_run_for(&t->link, SEC);
	ended = t->link.now_ns;
	cr_assert(t->b.flows[0].ended);
	while (!t->a.flows[0].closed && t->link.now_ns < ended + 60 * SEC)
		link_run_for(&t->link, 100 * MS);
	cr_assert_eq(t->a.flows[0].reason, 0);
	cr_assert_geq(t->link.now_ns - ended, 8 * SEC);
	cr_assert_leq(t->link.now_ns - ended, 13 * SEC);
	link_run_for(&t->link, 100 * MS);
	cr_assert_eq(t->b.flows[0].reason, -ECONNRESET);
	pair_free(t);
}

Test(stream, messages_go_beside_the_stream)
{
	struct pair *t = pair_new(1, usual);
	uint8_t big[1500] = {0};

	join(t);
	link_run_for(&t->link, 50 * MS);
	t->link.dup_permille = 1000;
	cr_assert_eq(
		og_stream_message(t->a.streams, t->a.flows[0].id, "aside", 5, t->link.now_ns), 0);
	cr_assert_eq(
		og_stream_message(t->b.streams, t->b.flows[0].id, "aside", 5, t->link.now_ns), 0);
	cr_assert_eq(
		og_stream_message(t->a.streams, t->a.flows[0].id, big, sizeof(big), t->link.now_ns),
		-EMSGSIZE);
	link_run_for(&t->link, 50 * MS);
	cr_assert_eq(t->a.flows[0].nb_messages, 1);
	cr_assert_eq(t->b.flows[0].nb_messages, 1);
	pair_free(t);
}

Test(stream, may_be_closed_from_inside_a_callback)
{
	for (uint64_t seed = 1; seed < 30; seed++) {
		struct pair *t = pair_new(seed, usual);

		join(t);
		t->link.loss_permille = 50;
		t->a.flows[0].to_write = 500000;
		t->a.flows[0].write_max = seed % 2 ? 500 : 100000;
		link_run_for(&t->link, seed * 4 * MS);
		t->b.close_in_data = true;
		link_run_for(&t->link, 20 * SEC);
		cr_assert(t->a.flows[0].closed || t->a.flows[0].written == 500000);
		pair_free(t);
	}
}

Test(stream, a_slow_reader_stops_its_writer_and_nothing_is_lost)
{
	struct pair *t = pair_new(2, usual);
	uint64_t written;

	join(t);
	link_run_for(&t->link, 100 * MS);
	t->b.manual = true;
	og_stream_pause(t->b.streams, t->b.flows[0].id);
	t->b.flows[0].paused = true;
	t->a.flows[0].to_write = 5000 * 1000;
	t->a.node.next_ns = 0;
	link_run_for(&t->link, 30 * SEC);
	written = t->a.flows[0].written;
	cr_assert_lt(written, 600 * 1000);
	cr_assert_eq(t->b.flows[0].received, 0);
	t->b.flows[0].paused = false;
	og_stream_resume(t->b.streams, t->b.flows[0].id);
	link_run_for(&t->link, 5 * SEC);
	cr_assert_eq(t->b.flows[0].received, 5000 * 1000);
	pair_free(t);
}

Test(stream, calls_for_a_stream_that_is_gone_do_nothing)
{
	struct pair *t = pair_new(2, usual);
	struct og_stream_id id;
	struct og_stream_info info;
	struct og_noise_keys keys = {.tx = {0}};

	join(t);
	id = t->a.flows[0].id;
	og_stream_close(t->a.streams, id, t->link.now_ns);
	cr_assert(!og_stream_is_alive(t->a.streams, id));
	cr_assert_eq(og_stream_write(t->a.streams, id, "x", 1, t->link.now_ns), 0);
	cr_assert(!og_stream_info(t->a.streams, id, &info));
	cr_assert_eq(og_stream_last_heard_ns(t->a.streams, id), 0);
	cr_assert_eq(og_stream_start(t->a.streams, id, &keys, true, 1, 0, NULL, t->link.now_ns),
		-EPROTO);
	og_stream_end(t->a.streams, id, t->link.now_ns);
	og_stream_keepalive(t->a.streams, id, t->link.now_ns);
	og_stream_heartbeat(t->a.streams, id, t->link.now_ns);
	og_stream_pause(t->a.streams, id);
	og_stream_resume(t->a.streams, id);
	og_stream_close(t->a.streams, id, t->link.now_ns);
	pair_free(t);
}

/* ---- a peer that says what we want it to say ---- */

/* b is a responder of ours; the bytes that "a" sends it are made by hand. */
struct forger {
	struct pair *t;
	struct og_noise_keys keys;
	struct og_secretstream_tx tx;
	uint8_t header[OG_FRAME_HEADER_BYTES];
	uint32_t seq;
};

static void forger_init(struct forger *g, struct pair *t)
{
	struct og_noise_keys kb;
	uint8_t random[OG_STREAM_HEADER_BYTES] = {7};
	struct flow *f = flow_new(t, &t->b);

	memset(g, 0, sizeof(*g));
	g->t = t;
	keys_of(t, &g->keys, &kb);
	t->a.manual = true; /* only receives what b answers */
	flow_start(&t->b, f, &kb, false, 99, &t->a.node.addr);
	og_secretstream_tx_init(&g->tx, &g->keys, true, random, g->header);
}

/* Stream bytes, as one packet each 1400. */
static void forge(struct forger *g, uint8_t flags, const void *bytes, size_t n)
{
	struct stack *k = &g->t->b;
	const uint8_t *p = bytes;

	do {
		uint8_t packet[OG_UDX_HEADER_BYTES + 1400];
		size_t len = OG_MIN(n, 1400);
		struct og_udx_header h = {
			.flags = flags,
			.id = k->flows[0].udx_id,
			.window = OG_UDX_WINDOW_BYTES,
			.seq = g->seq++,
		};

		og_udx_encode(packet, &h);
		if (len > 0)
			memcpy(packet + OG_UDX_HEADER_BYTES, p, len);
		cr_assert_eq(og_streams_input(k->streams, 0, &g->t->a.node.addr, packet,
				     (uint16_t)(OG_UDX_HEADER_BYTES + len), g->t->link.now_ns),
			0);
		if (g->seq % 32 == 0)
			og_streams_flush(k->streams, g->t->link.now_ns);
		p += len;
		n -= len;
	} while (n > 0);
}

static size_t sealed(struct forger *g, uint8_t *out, const void *plain, size_t n)
{
	cr_assert_eq(og_secretstream_seal(&g->tx, out, plain, n), 0);
	return n + OG_FRAME_OVERHEAD;
}

static void plain_of(const struct flow *f, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = byte_at(f->peer_salt, f->received + i);
}

Test(stream, a_header_alone_opens_nothing)
{
	struct pair *t = pair_new(1, usual);
	struct forger g;
	uint8_t frame[64], x;

	forger_init(&g, t);
	forge(&g, OG_UDX_DATA, g.header, sizeof(g.header));
	cr_assert(!t->b.flows[0].opened);
	plain_of(&t->b.flows[0], &x, 1);
	forge(&g, OG_UDX_DATA, frame, sealed(&g, frame, &x, 1));
	cr_assert(t->b.flows[0].opened);
	cr_assert_eq(t->b.flows[0].received, 1);
	pair_free(t);
}

Test(stream, takes_the_longest_frame_there_is)
{
	struct og_streams_opts opts = {.frame_budget_bytes = 17 * 1024 * 1024};
	struct pair *t = pair_new(1, opts);
	struct forger g;
	uint8_t *plain = malloc(OG_FRAME_PLAIN_MAX);
	uint8_t *frame = malloc(OG_FRAME_PLAIN_MAX + OG_FRAME_OVERHEAD);

	forger_init(&g, t);
	forge(&g, OG_UDX_DATA, g.header, sizeof(g.header));
	for (int i = 0; i < 2; i++) {
		plain_of(&t->b.flows[0], plain, OG_FRAME_PLAIN_MAX);
		forge(&g, OG_UDX_DATA, frame, sealed(&g, frame, plain, OG_FRAME_PLAIN_MAX));
	}
	cr_assert_eq(t->b.flows[0].received, 2ull * OG_FRAME_PLAIN_MAX);
	cr_assert_eq(t->b.flows[0].nb_frames, 2);
	free(frame);
	free(plain);
	pair_free(t);
}

Test(stream, frames_may_be_cut_into_packets_anywhere)
{
	for (size_t cut = 1; cut < 90; cut += 3) {
		struct pair *t = pair_new(cut, usual);
		struct forger g;
		uint8_t bytes[2000], plain[700];
		size_t n = OG_FRAME_HEADER_BYTES;

		forger_init(&g, t);
		memcpy(bytes, g.header, n);
		plain_of(&t->b.flows[0], plain, sizeof(plain));
		n += sealed(&g, bytes + n, plain, 1);
		n += sealed(&g, bytes + n, plain + 1, 0);
		n += sealed(&g, bytes + n, plain + 1, 600);
		n += sealed(&g, bytes + n, plain + 601, 99);
		for (size_t at = 0; at < n; at += cut)
			forge(&g, OG_UDX_DATA, bytes + at, OG_MIN(cut, n - at));
		cr_assert_eq(t->b.flows[0].received, 700);
		cr_assert_eq(t->b.flows[0].nb_frames, 3);
		pair_free(t);
	}
}

Test(stream, refuses_frames_above_its_limit)
{
	struct og_streams_opts opts = {.frame_max_bytes = 1000};
	struct pair *t = pair_new(1, opts);
	struct forger g;
	uint8_t length[3] = {0xe9, 0x03, 0}; /* 1001 */

	forger_init(&g, t);
	forge(&g, OG_UDX_DATA, g.header, sizeof(g.header));
	forge(&g, OG_UDX_DATA, length, 3);
	cr_assert_eq(t->b.flows[0].reason, -ENOBUFS);
	pair_free(t);
}

Test(stream, closes_when_the_budget_for_frames_is_spent)
{
	struct og_streams_opts opts = {.frame_budget_bytes = 64 * 1024};
	struct pair *t = pair_new(1, opts);
	struct forger g;
	uint8_t claim[3] = {0xff, 0xff, 0xff};
	uint8_t bytes[1400] = {0};

	forger_init(&g, t);
	forge(&g, OG_UDX_DATA, g.header, sizeof(g.header));
	forge(&g, OG_UDX_DATA, claim, 3);
	for (int i = 0; i < 46; i++)
		forge(&g, OG_UDX_DATA, bytes, sizeof(bytes));
	cr_assert(!t->b.flows[0].closed, "a claim costs nothing");
	forge(&g, OG_UDX_DATA, bytes, sizeof(bytes));
	cr_assert(t->b.flows[0].closed);
	cr_assert_eq(t->b.flows[0].reason, -ENOBUFS);
	pair_free(t);
}

Test(stream, frame_memory_goes_back_and_idle_pages_make_room)
{
	struct og_frame_memory m;

	cr_assert_eq(og_frame_memory_create(&m, 8, 1 << 24, 400 * 1024), 0);
	for (uint32_t i = 0; i < 5; i++) {
		cr_assert_eq(og_frame_memory_grow(&m, i, 65000), 0);
		og_frame_memory_at(&m, i)[64999] = 1;
		og_frame_memory_done(&m, i);
	}
	cr_assert_eq(m.used, 5 * 64 * 1024);
	cr_assert_eq(og_frame_memory_grow(&m, 5, 300 * 1024), 0);
	cr_assert_leq(m.used, 400 * 1024);
	cr_assert_eq(og_frame_memory_grow(&m, 6, 300 * 1024), -ENOBUFS);
	og_frame_memory_done(&m, 5);
	cr_assert_eq(og_frame_memory_grow(&m, 6, 300 * 1024), 0);
	for (uint32_t i = 0; i < 8; i++)
		og_frame_memory_release(&m, i);
	cr_assert_eq(m.used, 0);
	og_frame_memory_destroy(&m);
}

/* ---- vectors ---- */

static json_t *load(const char *section)
{
	json_error_t error;
	json_t *all = json_load_file(OG_VECTORS "/stream.json", 0, &error);
	json_t *part;

	cr_assert(all, "%s", error.text);
	part = json_incref(json_object_get(all, section));
	json_decref(all);
	return part;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static size_t unhex(uint8_t *out, const char *hex)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++) {
		unsigned v;

		cr_assert_eq(sscanf(hex + 2 * i, "%2x", &v), 1);
		out[i] = (uint8_t)v;
	}
	return n;
}

/* What the initiator of receiver_errors puts into the stream, one packet per part. */
static void forge_case(struct forger *g, const char *name)
{
	uint8_t f1[64], f2[64], zeros[32] = {0};
	static const uint8_t cut[] = {40, 0, 0, 1, 2};
	size_t n;

	if (strcmp(name, "header with wrong stream id") == 0) {
		g->header[3] ^= 1;
		forge(g, OG_UDX_DATA, g->header, sizeof(g->header));
		return;
	}
	if (strcmp(name, "header of wrong length") == 0) {
		zeros[0] = 55;
		forge(g, OG_UDX_DATA, zeros, 3);
		return;
	}
	if (strcmp(name, "zero length frame before header") == 0) {
		forge(g, OG_UDX_DATA, zeros, 3);
		return;
	}
	forge(g, OG_UDX_DATA, g->header, sizeof(g->header));
	if (strcmp(name, "good frame") == 0) {
		forge(g, OG_UDX_DATA, f1, sealed(g, f1, "x", 1));
	} else if (strcmp(name, "empty plaintext frame") == 0) {
		forge(g, OG_UDX_DATA, f1, sealed(g, f1, NULL, 0));
	} else if (strcmp(name, "frame shorter than 17") == 0) {
		zeros[0] = 16;
		forge(g, OG_UDX_DATA, zeros, 19);
	} else if (strcmp(name, "zero length frame after header") == 0) {
		forge(g, OG_UDX_DATA, zeros, 3);
	} else if (strcmp(name, "bad mac") == 0) {
		n = sealed(g, f1, "x", 1);
		f1[n - 1] ^= 1;
		forge(g, OG_UDX_DATA, f1, n);
	} else if (strcmp(name, "frames swapped") == 0) {
		n = sealed(g, f1, "1", 1);
		sealed(g, f2, "2", 1);
		forge(g, OG_UDX_DATA, f2, n);
	} else if (strcmp(name, "second header frame") == 0) {
		forge(g, OG_UDX_DATA, g->header, sizeof(g->header));
	} else if (strcmp(name, "raw end inside a frame") == 0) {
		forge(g, OG_UDX_DATA, cut, sizeof(cut));
		forge(g, OG_UDX_END, NULL, 0);
	} else {
		cr_assert(false, "new case %s", name);
	}
}

static uint8_t collected[4096];
static size_t nb_collected;

static void collect(void *ctx, struct og_stream_id id, const uint8_t *plain, size_t n)
{
	(void)ctx;
	(void)id;
	cr_assert_leq(nb_collected + n, sizeof(collected));
	memcpy(collected + nb_collected, plain, n);
	nb_collected += n;
}

static const struct og_stream_ops collect_ops = {
	.open = on_open, .data = collect, .end = on_end, .closed = on_closed};

/* Stack b with the collecting callbacks. */
static struct pair *collecting_pair(void)
{
	struct pair *t = pair_new(1, usual);
	struct og_streams_opts opts = {
		.nb_streams = 1,
		.nb_packets = PACKETS,
		.frame_budget_bytes = 1 << 20,
		.tx = &t->b.node.tx,
		.rand = &t->b.node.rand,
		.ops = &collect_ops,
		.ctx = &t->b,
	};

	og_streams_destroy(t->b.streams);
	cr_assert_eq(og_streams_create(&t->b.streams, &opts), 0);
	t->b.manual = true;
	nb_collected = 0;
	return t;
}

Test(stream_vectors, wrong_bytes_end_the_stream_as_in_the_reference)
{
	json_t *cases = load("receiver_errors"), *c, *d;
	size_t i, j;

	json_array_foreach(cases, i, c)
	{
		struct pair *t = collecting_pair();
		struct forger g;
		uint8_t want[64];
		size_t n = 0;

		forger_init(&g, t);
		forge_case(&g, text_of(c, "case"));
		json_array_foreach(json_object_get(c, "delivered"), j, d) n +=
			unhex(want + n, json_string_value(d));
		cr_assert_eq(nb_collected, n, "%s", text_of(c, "case"));
		cr_assert_eq(memcmp(collected, want, n), 0);
		cr_assert_eq(t->b.flows[0].closed, json_is_true(json_object_get(c, "destroyed")),
			"%s", text_of(c, "case"));
		if (t->b.flows[0].closed)
			cr_assert_eq(t->b.flows[0].reason, -EBADMSG);
		cr_assert_eq(t->b.flows[0].ended, json_is_true(json_object_get(c, "end_event")));
		pair_free(t);
	}
	json_decref(cases);
}

/* Our stream in the place of `role`, hearing what the other side of a recorded connection sent. */
static void hear_connection(const char *section, const char *role, const char *want)
{
	json_t *v = load(section), *d;
	const json_t *side = json_object_get(v, role);
	bool initiator = strcmp(role, "client") == 0;
	uint32_t recorded_id = (uint32_t)json_integer_value(json_object_get(side, "local_id"));
	struct pair *t = collecting_pair();
	struct flow *f = flow_new(t, &t->b);
	struct og_noise_keys keys;
	uint8_t packet[2048];
	size_t i;

	unhex(keys.tx, text_of(side, "tx"));
	unhex(keys.rx, text_of(side, "rx"));
	unhex(keys.hash, text_of(side, "hash"));
	flow_start(&t->b, f, &keys, initiator,
		(uint32_t)json_integer_value(json_object_get(side, "remote_id")), &t->a.node.addr);
	json_array_foreach(json_object_get(v, "datagrams"), i, d)
	{
		size_t n;

		if (strcmp(text_of(d, "kind"), "udx") != 0 ||
			strncmp(text_of(d, "to"), role, strlen(role)) != 0)
			continue;
		n = unhex(packet, text_of(d, "hex"));
		cr_assert_eq(og_load_le32(packet + 4), recorded_id);
		og_store_le32(packet + 4, f->udx_id);
		og_streams_tick(t->b.streams, t->link.now_ns);
		cr_assert_eq(og_streams_input(t->b.streams, 0, &t->a.node.addr, packet, (uint16_t)n,
				     t->link.now_ns),
			0);
	}
	cr_assert_eq(nb_collected, strlen(want));
	cr_assert_eq(memcmp(collected, want, nb_collected), 0);
	cr_assert(f->opened && f->ended);
	pair_free(t);
	json_decref(v);
}

Test(stream_vectors, a_recorded_connection_is_understood_from_both_sides)
{
	static const char line[] = "{\"type\":\"peer_hello\",\"node_name\":\"client\","
				   "\"clusters\":[\"demo\"],\"supported_models\":[]}\n";
	char echo[256];

	snprintf(echo, sizeof(echo), "server got: %s", line);
	hear_connection("connection", "server", line);
	hear_connection("connection", "client", echo);
	hear_connection("connection_direct", "server", line);
	hear_connection("connection_direct", "client", echo);
}
