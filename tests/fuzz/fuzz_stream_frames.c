/*
 * fuzz_stream_frames.c: stream bytes for a responder: good frames, broken ones and plain noise, cut
 * into packets anywhere. What is delivered must be what was sealed, in order; memory stays bounded.
 */
#include "base/bytes.h"
#include "crypto/keys.h"
#include "crypto/secretstream.h"
#include "transport/stream.h"
#include "transport/udx_wire.h"

#include <stdlib.h>
#include <string.h>

enum { BUDGET = 256 * 1024, BYTES_MAX = 400000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

struct fuzz {
	struct og_tx tx; /* first */
	struct og_streams *streams;
	struct og_rand rand;
	struct og_stream_id id;
	uint32_t udx_id, seq;
	uint64_t now_ns;
	uint64_t sealed_bytes, delivered_bytes;
	bool closed, opened;
	uint8_t out[2048];
	uint8_t *bytes; /* of the stream, before they are cut */
	size_t nb_bytes;
};

static const struct og_addr peer = {{10, 0, 0, 1}, 1000};

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = 1472;
	return ((struct fuzz *)tx)->out;
}

static void commit(
	struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl, uint16_t len)
{
	(void)tx;
	(void)endpoint;
	(void)dst;
	(void)ttl;
	if (len > 1472)
		abort();
}

static void on_open(void *ctx, struct og_stream_id id)
{
	(void)id;
	((struct fuzz *)ctx)->opened = true;
}

static void on_data(void *ctx, struct og_stream_id id, const uint8_t *plain, size_t n)
{
	struct fuzz *f = ctx;

	(void)id;
	if (f->closed || !f->opened || n == 0)
		abort();
	for (size_t i = 0; i < n; i++) {
		if (plain[i] != (uint8_t)(f->delivered_bytes++ % 251))
			abort();
	}
	if (f->delivered_bytes > f->sealed_bytes)
		abort();
}

static void on_closed(void *ctx, struct og_stream_id id, int reason)
{
	(void)id;
	(void)reason;
	((struct fuzz *)ctx)->closed = true;
}

static const struct og_stream_ops ops = {.open = on_open, .data = on_data, .closed = on_closed};

static void add(struct fuzz *f, const uint8_t *bytes, size_t n)
{
	n = OG_MIN(n, BYTES_MAX - f->nb_bytes);
	memcpy(f->bytes + f->nb_bytes, bytes, n);
	f->nb_bytes += n;
}

static void add_frame(struct fuzz *f, struct og_secretstream_tx *tx, size_t n)
{
	uint8_t plain[66000], frame[66000 + OG_FRAME_OVERHEAD];

	for (size_t i = 0; i < n; i++)
		plain[i] = (uint8_t)((f->sealed_bytes + i) % 251);
	if (og_secretstream_seal(tx, frame, plain, n) < 0)
		abort();
	f->sealed_bytes += n;
	add(f, frame, n + OG_FRAME_OVERHEAD);
}

/* The stream as the input tells: up to 32 pieces. */
static void make_bytes(struct fuzz *f, struct og_reader *r, struct og_secretstream_tx *tx)
{
	for (uint32_t i = 0; i < 32 && og_reader_left(r) > 8; i++) {
		uint8_t what = og_read_u8(r);

		if (what < 128) {
			add_frame(f, tx, what);
		} else if (what < 160) {
			add_frame(f, tx, og_read_le16(r));
		} else if (what < 170) {
			uint8_t noise[256];

			memset(noise, og_read_u8(r), sizeof(noise));
			add(f, noise, og_read_u8(r));
		} else if (what < 180) {
			uint8_t length[3] = {og_read_u8(r), og_read_u8(r), og_read_u8(r)};

			add(f, length, sizeof(length));
		} else if (what < 190 && f->nb_bytes > 0) {
			f->bytes[og_read_le16(r) % f->nb_bytes] ^= og_read_u8(r);
		} else {
			break;
		}
	}
}

static void send_packet(struct fuzz *f, uint8_t flags, const uint8_t *bytes, size_t n)
{
	uint8_t *p = malloc(OG_UDX_HEADER_BYTES + n);
	struct og_udx_header h = {
		.flags = flags, .id = f->udx_id, .window = 1 << 22, .seq = f->seq++};

	og_udx_encode(p, &h);
	if (n > 0)
		memcpy(p + OG_UDX_HEADER_BYTES, bytes, n);
	if (og_streams_input(f->streams, 0, &peer, p, (uint16_t)(OG_UDX_HEADER_BYTES + n),
		    f->now_ns) < -4096)
		abort();
	free(p);
}

static void send_all(struct fuzz *f, struct og_reader *r)
{
	size_t at = 0;

	while (at < f->nb_bytes && !f->closed) {
		uint8_t how = og_read_u8(r);
		size_t n = how == 0 || !og_reader_ok(r) ? 1400 : how;

		n = OG_MIN(n, f->nb_bytes - at);
		send_packet(f, OG_UDX_DATA, f->bytes + at, n);
		at += n;
		if (how == 7)
			og_stream_pause(f->streams, f->id);
		if (how == 9) {
			og_stream_resume(f->streams, f->id);
			f->now_ns += 100 * OG_NS_PER_MS;
			og_streams_tick(f->streams, f->now_ns);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static struct fuzz f;
	struct og_reader r = og_reader_of(data, len_bytes);
	struct og_noise_keys ours = {.tx = {1}, .rx = {2}, .hash = {3}};
	struct og_noise_keys theirs = {.tx = {2}, .rx = {1}, .hash = {3}};
	struct og_secretstream_tx tx;
	uint8_t header[OG_STREAM_HEADER_BYTES] = {4}, frame[OG_FRAME_HEADER_BYTES];
	struct og_streams_opts opts = {
		.nb_streams = 1,
		.nb_packets = 64,
		.frame_budget_bytes = BUDGET,
		.tx = &f.tx,
		.rand = &f.rand,
		.ops = &ops,
		.ctx = &f,
	};

	memset(&f, 0, sizeof(f));
	f.tx = (struct og_tx){reserve, commit};
	f.now_ns = OG_NS_PER_S;
	f.bytes = malloc(BYTES_MAX);
	og_rand_seeded(&f.rand, 1);
	if (og_crypto_init() < 0 || og_streams_create(&f.streams, &opts) < 0 ||
		og_stream_reserve(f.streams, &f.id, &f.udx_id, f.now_ns) < 0 ||
		og_stream_start(f.streams, f.id, &ours, false, 5, 0, &peer, f.now_ns) < 0)
		abort();
	og_secretstream_tx_init(&tx, &theirs, true, header, frame);
	if (len_bytes == 0 || data[0] != 0xff)
		add(&f, frame, sizeof(frame));
	make_bytes(&f, &r, &tx);
	send_all(&f, &r);
	send_packet(&f, OG_UDX_END, NULL, 0);
	og_stream_close(f.streams, f.id, f.now_ns);
	og_streams_destroy(f.streams);
	free(f.bytes);
	return 0;
}
