/*
 * fuzz_udx.c: a sequence of packets, calls and time steps for two streams of one UDX. The packets are
 * near what the streams expect, else hardly one would get past the first tests. Checks that memory
 * stays within its bounds and comes back.
 */
#include "base/bytes.h"
#include "transport/udx_priv.h"

#include <stdlib.h>
#include <string.h>

enum { STREAMS = 2, PACKETS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

struct fuzz {
	struct og_tx tx; /* first */
	struct og_udx *udx;
	struct og_rand rand;
	uint64_t now_ns;
	uint8_t out[2048];
	bool refuse;
	uint32_t ids[STREAMS], slots[STREAMS], gens[STREAMS];
	uint32_t sent_seq[STREAMS];  /* next sequence it sends, from its own packets */
	uint32_t acked_seq[STREAMS]; /* next sequence it expects */
	bool connected[STREAMS];
	bool close_in_data;
};

static const struct og_addr peer = {{10, 0, 0, 1}, 1000};

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	struct fuzz *f = (struct fuzz *)tx;

	*cap_bytes = 1472;
	return f->refuse ? NULL : f->out;
}

static void commit(
	struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl, uint16_t len)
{
	struct fuzz *f = (struct fuzz *)tx;
	struct og_udx_header h;

	(void)endpoint;
	(void)dst;
	(void)ttl;
	if (len > 1472 || !og_udx_decode(&h, f->out, len) || h.id >= STREAMS)
		abort();
	if (og_udx_nb_blocks(&h, len) > OG_UDX_BLOCKS_MAX)
		abort();
	f->acked_seq[h.id] = h.ack;
	f->sent_seq[h.id] = h.seq + !!(h.flags & (OG_UDX_DATA | OG_UDX_END));
}

static size_t on_data(void *ctx, uint32_t slot, uint8_t *data, size_t n)
{
	struct fuzz *f = ctx;
	uint8_t sum = 0;

	for (size_t i = 0; i < n; i++)
		data[i] = sum += data[i]; /* it is writable, and all of it is there */
	if (f->close_in_data) {
		og_udx_close(f->udx, slot, f->now_ns);
		return 0;
	}
	if (n > 0 && sum == 3) {
		og_udx_pause(f->udx, slot);
		return n / 2;
	}
	return n;
}

static void on_closed(void *ctx, uint32_t slot, uint32_t gen, int reason)
{
	struct fuzz *f = ctx;

	(void)reason;
	if (og_udx_is_live(f->udx, slot, gen))
		abort();
}

static const struct og_udx_ops ops = {.data = on_data, .closed = on_closed};

static void open_stream(struct fuzz *f, uint32_t i)
{
	if (og_udx_is_live(f->udx, f->slots[i], f->gens[i]))
		return;
	if (og_udx_open(f->udx, &f->slots[i], &f->ids[i], f->now_ns) < 0)
		abort();
	f->gens[i] = og_udx_gen(f->udx, f->slots[i]);
	f->sent_seq[i] = f->acked_seq[i] = 0;
	f->connected[i] = false;
}

static void connect_stream(struct fuzz *f, uint32_t i, bool known)
{
	if (f->connected[i])
		return;
	f->connected[i] = true;
	og_udx_connect(f->udx, f->slots[i], i, 0, known ? &peer : NULL, f->now_ns);
}

static void packet(struct fuzz *f, struct og_reader *r, uint32_t i)
{
	uint8_t p[2200] = {0};
	uint8_t *exact;
	uint16_t n = OG_UDX_HEADER_BYTES;
	struct og_udx_header h = {.id = f->ids[i]};
	uint8_t body;

	h.flags = og_read_u8(r);
	h.data_offset = og_read_u8(r) % 16 ? 0 : og_read_u8(r);
	h.window = (uint32_t)og_read_u8(r) << (og_read_u8(r) % 24);
	h.seq = f->acked_seq[i] + (uint32_t)(int8_t)og_read_u8(r);
	h.ack = f->sent_seq[i] - (uint32_t)og_read_u8(r) % 16 + 1;
	body = og_read_u8(r);
	if (h.flags & OG_UDX_SACK) {
		for (uint8_t b = 0; b < body % 64; b++) {
			uint32_t first = f->sent_seq[i] - og_read_u8(r) % 64;
			struct og_udx_block block = {first, first + og_read_u8(r) % 16};

			og_udx_put_block(p, b, block);
			n = (uint16_t)(n + OG_UDX_BLOCK_BYTES);
		}
	} else {
		n = (uint16_t)(n + body * 8);
		memset(p + OG_UDX_HEADER_BYTES, body, n - OG_UDX_HEADER_BYTES);
	}
	og_udx_encode(p, &h);
	exact = malloc(n);
	memcpy(exact, p, n);
	if (og_udx_input(f->udx, 0, &peer, exact, n, f->now_ns) < -4096)
		abort();
	free(exact);
}

static void raw_packet(struct fuzz *f, struct og_reader *r, uint32_t i)
{
	uint32_t n = OG_MIN(og_reader_left(r), (size_t)og_read_u8(r));
	const uint8_t *p = og_read_bytes(r, n);
	uint8_t *exact;

	if (!p)
		return;
	exact = malloc(n ? n : 1);
	memcpy(exact, p, n);
	if (n >= 8)
		og_store_le32(exact + 4, f->ids[i]);
	if (og_udx_input(f->udx, 1, &peer, exact, (uint16_t)n, f->now_ns) < -4096)
		abort();
	free(exact);
}

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* The books of a stream against what its rings and bits say. */
static void audit_stream(const struct og_udx *u, const struct og_udx_stream *s)
{
	const struct og_udx_sender *tx = &s->tx;
	const struct og_udx_receiver *rx = &s->rx;
	uint32_t nb_acked = 0, nb_lost = 0, nb_listed = 0, nb_held = 0;

	for (uint32_t seq = tx->una; seq != tx->nxt; seq++) {
		nb_acked += og_udx_bit(&tx->acked, seq);
		nb_lost += og_udx_bit(&tx->lost, seq);
		check(!(og_udx_bit(&tx->acked, seq) && og_udx_bit(&tx->lost, seq)));
	}
	for (int32_t i = tx->oldest; i != OG_UDX_NIL; i = u->pool.packets[i].newer)
		check(++nb_listed <= PACKETS && u->pool.packets[i].listed);
	for (uint32_t seq = rx->out; seq != rx->top; seq++)
		nb_held += og_udx_bit(&rx->held, seq);
	check(nb_acked == tx->nb_sacked && nb_lost == tx->nb_lost && nb_held == rx->nb_held);
	check(nb_listed == tx->in_flight);
	check(tx->in_flight + tx->nb_lost + tx->nb_sacked == tx->nxt - tx->una);
	check(s->held == tx->end - tx->una - tx->nb_sacked + rx->nb_held);
	check(tx->cc.cwnd > 0 && (tx->srtt_ns == 0 || tx->rto_ns >= OG_UDX_RTO_MIN_NS));
}

static void audit(const struct fuzz *f)
{
	const struct og_udx *u = f->udx;
	uint32_t held = 0;

	for (uint32_t i = 0; i < u->nb_streams; i++) {
		if (u->streams[i].state == OG_UDX_FREE)
			continue;
		audit_stream(u, &u->streams[i]);
		held += u->streams[i].held;
	}
	check(held + u->pool.nb_free == PACKETS);
}

static void step(struct fuzz *f, struct og_reader *r)
{
	static const uint8_t zeros[60000];
	uint8_t op = og_read_u8(r);
	uint32_t i = op >> 7;

	open_stream(f, i);
	switch (op & 15) {
	case 0:
		f->now_ns += og_read_u8(r) * OG_NS_PER_MS;
		og_udx_tick(f->udx, f->now_ns);
		break;
	case 1:
		f->now_ns += og_read_u8(r) * 100 * OG_NS_PER_MS;
		og_udx_tick(f->udx, f->now_ns);
		break;
	case 2:
		raw_packet(f, r, i);
		break;
	case 3:
		og_udx_write(
			f->udx, f->slots[i], zeros, og_read_le16(r) % sizeof(zeros), f->now_ns);
		break;
	case 4:
		og_udx_end(f->udx, f->slots[i], f->now_ns);
		break;
	case 5:
		og_udx_pause(f->udx, f->slots[i]);
		break;
	case 6:
		og_udx_resume(f->udx, f->slots[i]);
		break;
	case 7:
		og_udx_close(f->udx, f->slots[i], f->now_ns);
		break;
	case 8:
		f->refuse = !f->refuse;
		break;
	case 9:
		f->close_in_data = !f->close_in_data;
		break;
	case 10:
		connect_stream(f, i, og_read_u8(r) & 1);
		break;
	case 11:
		og_udx_heartbeat(f->udx, f->slots[i], f->now_ns);
		break;
	default:
		packet(f, r, i);
		og_udx_flush(f->udx, f->now_ns);
		break;
	}
	audit(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static struct fuzz f;
	struct og_reader r = og_reader_of(data, OG_MIN(len_bytes, (size_t)4096));
	struct og_udx_opts opts = {
		.nb_streams = STREAMS,
		.nb_packets = PACKETS,
		.tx = &f.tx,
		.rand = &f.rand,
		.ops = &ops,
		.ctx = &f,
	};

	memset(&f, 0, sizeof(f));
	f.tx = (struct og_tx){reserve, commit};
	f.now_ns = OG_NS_PER_S;
	og_rand_seeded(&f.rand, 1);
	if (og_udx_create(&f.udx, &opts) < 0)
		abort();
	f.gens[0] = f.gens[1] = UINT32_MAX;
	open_stream(&f, 0);
	connect_stream(&f, 0, true);
	while (og_reader_left(&r) > 0)
		step(&f, &r);
	for (uint32_t i = 0; i < STREAMS; i++) {
		if (og_udx_is_live(f.udx, f.slots[i], f.gens[i]))
			og_udx_close(f.udx, f.slots[i], f.now_ns);
	}
	if (og_udx_nb_free_packets(f.udx) != PACKETS)
		abort();
	og_udx_destroy(f.udx);
	return 0;
}
