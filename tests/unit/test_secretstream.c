#include "crypto/secretstream.h"

#include "base/bytes.h"
#include "crypto_vectors.h"

#include <errno.h>

/* The keys of the initiator and of the responder, from its vector's point of view. */
static struct og_noise_keys keys_from(
	struct vec_bytes tx, struct vec_bytes rx, struct vec_bytes hash)
{
	struct og_noise_keys k = {0};

	memcpy(k.tx, tx.data, sizeof(k.tx));
	memcpy(k.rx, rx.data, sizeof(k.rx));
	memcpy(k.hash, hash.data, sizeof(k.hash));
	return k;
}

static struct og_noise_keys swapped(const struct og_noise_keys *a)
{
	struct og_noise_keys b = *a;

	memcpy(b.tx, a->rx, sizeof(b.tx));
	memcpy(b.rx, a->tx, sizeof(b.rx));
	return b;
}

Test(secretstream, frame_vectors_seal_and_open)
{
	json_t *v = vec_stream("secretstream");
	struct vec_bytes key = vec_hex(v, "key");
	struct og_noise_keys a = keys_from(key, key, vec_hex(v, "handshake_hash"));
	struct og_secretstream_tx tx;
	struct og_secretstream_rx rx;
	uint8_t first[OG_FRAME_HEADER_BYTES];
	size_t i;
	json_t *f;

	og_secretstream_tx_init(&tx, &a, true, vec_hex(v, "header").data, first);
	VEC_EQ_HEX(first, v, "header_frame_of_initiator");
	cr_assert_eq(og_secretstream_rx_init(&rx, &a, false, first), 0);
	json_array_foreach(vec_get(v, "frames"), i, f)
	{
		struct vec_bytes plain = vec_hex(f, "plaintext");
		struct vec_bytes want = vec_hex(f, "frame");
		uint8_t *frame = malloc(want.n);
		uint8_t *text;
		size_t n;

		cr_assert_eq(want.n, plain.n + OG_FRAME_OVERHEAD);
		cr_assert_eq(og_secretstream_seal(&tx, frame, plain.data, plain.n), 0);
		VEC_EQ(frame, want, "frame");
		cr_assert_eq(og_frame_length_load(frame), want.n - OG_FRAME_LENGTH_BYTES);
		cr_assert_eq(og_secretstream_open(&rx, frame + OG_FRAME_LENGTH_BYTES,
				     want.n - OG_FRAME_LENGTH_BYTES, &text, &n),
			0);
		cr_assert_eq(n, plain.n);
		VEC_EQ(text, plain, "plaintext");
		free(frame);
	}
	cr_assert_eq(i, 8);
	json_array_foreach(vec_get(v, "tags_after_frames"), i, f)
	{
		struct vec_bytes body = vec_hex(f, "ciphertext");
		struct vec_bytes plain = vec_hex(f, "receiver_plaintext");
		uint8_t *text;
		size_t n;

		cr_assert_eq(og_secretstream_open(&rx, body.data, body.n, &text, &n), 0);
		cr_assert_eq(n, plain.n);
		VEC_EQ(text, plain, "plaintext");
	}
	cr_assert_eq(i, 5);
}

/* Checks one frame of Noise against the bytes on the stream and gives it to the other side. */
static void pass_noise(
	struct og_noise *from, struct og_noise *to, const uint8_t **wire, const uint8_t *end)
{
	uint8_t msg[128];
	size_t n, got;

	cr_assert_eq(og_noise_write(from, NULL, 0, msg, sizeof(msg), &n), 0);
	cr_assert_leq(n + OG_FRAME_LENGTH_BYTES, (size_t)(end - *wire));
	cr_assert_eq(og_frame_length_load(*wire), n);
	cr_assert_arr_eq(msg, *wire + OG_FRAME_LENGTH_BYTES, n);
	cr_assert_eq(og_noise_read(to, *wire + OG_FRAME_LENGTH_BYTES, n, NULL, 0, &got), 0);
	*wire += OG_FRAME_LENGTH_BYTES + n;
}

/* Everything after the handshake: the header frame, then frames to the end. Both made and read. */
static void check_stream(const struct og_noise_keys *from, const struct og_noise_keys *to,
	bool initiator, const uint8_t *wire, const uint8_t *end, json_t *received)
{
	struct og_secretstream_tx tx;
	struct og_secretstream_rx rx;
	uint8_t frame[OG_FRAME_HEADER_BYTES];
	size_t i;
	json_t *v;

	cr_assert_geq(end - wire, OG_FRAME_HEADER_BYTES);
	cr_assert_eq(og_secretstream_rx_init(&rx, to, !initiator, wire), 0);
	og_secretstream_tx_init(
		&tx, from, initiator, wire + OG_FRAME_HEADER_BYTES - OG_STREAM_HEADER_BYTES, frame);
	cr_assert_arr_eq(frame, wire, sizeof(frame));
	wire += OG_FRAME_HEADER_BYTES;
	json_array_foreach(received, i, v)
	{
		struct vec_bytes want = vec_unhex(json_string_value(v));
		size_t body_bytes = og_frame_length_load(wire);
		uint8_t copy[64], sealed[64];
		uint8_t *text;
		size_t n;

		cr_assert_leq(body_bytes + OG_FRAME_LENGTH_BYTES, (size_t)(end - wire));
		cr_assert_leq(body_bytes, sizeof(copy));
		memcpy(copy, wire + OG_FRAME_LENGTH_BYTES, body_bytes);
		cr_assert_eq(og_secretstream_open(&rx, copy, body_bytes, &text, &n), 0);
		cr_assert_eq(n, want.n);
		VEC_EQ(text, want, "plaintext");
		cr_assert_eq(og_secretstream_seal(&tx, sealed, want.data, want.n), 0);
		cr_assert_arr_eq(sealed, wire, body_bytes + OG_FRAME_LENGTH_BYTES);
		wire += OG_FRAME_LENGTH_BYTES + body_bytes;
	}
	cr_assert_eq(wire, end);
}

Test(secretstream, whole_xx_stream_matches_the_vectors)
{
	json_t *v = vec_stream("stream_xx_bytes");
	struct og_keypair a_static = vec_keypair(vec_hex(v, "initiator_static_seed"));
	struct og_keypair b_static = vec_keypair(vec_hex(v, "responder_static_seed"));
	struct vec_bytes to_b = vec_hex(v, "initiator_to_responder");
	struct vec_bytes to_a = vec_hex(v, "responder_to_initiator");
	const uint8_t *at_b = to_b.data, *at_a = to_a.data;
	struct og_noise_keys a_keys, b_keys;
	struct og_noise a, b;

	cr_assert_eq(og_noise_init(&a, OG_NOISE_XX, true, &a_static, NULL, NULL, 0), 0);
	cr_assert_eq(og_noise_init(&b, OG_NOISE_XX, false, &b_static, NULL, NULL, 0), 0);
	og_noise_set_ephemeral(&a, vec_hex(v, "initiator_ephemeral_seed").data);
	og_noise_set_ephemeral(&b, vec_hex(v, "responder_ephemeral_seed").data);
	pass_noise(&a, &b, &at_b, to_b.data + to_b.n);
	pass_noise(&b, &a, &at_a, to_a.data + to_a.n);
	pass_noise(&a, &b, &at_b, to_b.data + to_b.n);
	og_noise_split(&a, &a_keys);
	og_noise_split(&b, &b_keys);
	VEC_EQ_HEX(a_keys.tx, v, "initiator_tx");
	VEC_EQ_HEX(a_keys.rx, v, "initiator_rx");
	VEC_EQ_HEX(a_keys.hash, v, "handshake_hash");
	check_stream(&a_keys, &b_keys, true, at_b, to_b.data + to_b.n,
		vec_get(v, "received_by_responder"));
	check_stream(&b_keys, &a_keys, false, at_a, to_a.data + to_a.n,
		vec_get(v, "received_by_initiator"));
}

/* A stream from an initiator to a responder, its header frame taken. */
struct one_way {
	struct og_noise_keys a, b;
	struct og_secretstream_tx tx;
	struct og_secretstream_rx rx;
	uint8_t first[OG_FRAME_HEADER_BYTES];
};

static struct one_way one_way(void)
{
	struct one_way w;
	uint8_t header[OG_STREAM_HEADER_BYTES] = {5};

	cr_assert_eq(og_crypto_init(), 0);
	memset(w.a.tx, 1, sizeof(w.a.tx));
	memset(w.a.rx, 2, sizeof(w.a.rx));
	memset(w.a.hash, 3, sizeof(w.a.hash));
	w.b = swapped(&w.a);
	og_secretstream_tx_init(&w.tx, &w.a, true, header, w.first);
	cr_assert_eq(og_secretstream_rx_init(&w.rx, &w.b, false, w.first), 0);
	return w;
}

static int open_frame(struct og_secretstream_rx *rx, const uint8_t *frame, size_t frame_bytes)
{
	uint8_t copy[256];
	uint8_t *text;
	size_t n;

	memcpy(copy, frame + OG_FRAME_LENGTH_BYTES, frame_bytes - OG_FRAME_LENGTH_BYTES);
	return og_secretstream_open(rx, copy, frame_bytes - OG_FRAME_LENGTH_BYTES, &text, &n);
}

Test(secretstream, header_frames_with_a_wrong_length_or_id_are_refused)
{
	struct one_way w = one_way();

	for (size_t i = 0; i < OG_FRAME_LENGTH_BYTES + OG_STREAM_ID_BYTES; i++) {
		w.first[i] ^= 1;
		cr_assert_eq(og_secretstream_rx_init(&w.rx, &w.b, false, w.first), -EBADMSG);
		w.first[i] ^= 1;
	}
	/* One's own header frame, sent back. */
	cr_assert_eq(og_secretstream_rx_init(&w.rx, &w.a, true, w.first), -EBADMSG);
}

Test(secretstream, every_changed_byte_of_a_frame_is_refused)
{
	struct one_way w = one_way();
	uint8_t frame[OG_FRAME_OVERHEAD + 5];

	cr_assert_eq(og_secretstream_seal(&w.tx, frame, (const uint8_t *)"hello", 5), 0);
	for (size_t i = OG_FRAME_LENGTH_BYTES; i < sizeof(frame); i++) {
		struct og_secretstream_rx rx = w.rx;

		frame[i] ^= 1;
		cr_assert_eq(open_frame(&rx, frame, sizeof(frame)), -EBADMSG);
		frame[i] ^= 1;
	}
	cr_assert_eq(open_frame(&w.rx, frame, sizeof(frame)), 0);
}

Test(secretstream, frames_out_of_order_or_twice_are_refused)
{
	struct one_way w = one_way();
	uint8_t one[OG_FRAME_OVERHEAD + 1], two[OG_FRAME_OVERHEAD + 1];

	cr_assert_eq(og_secretstream_seal(&w.tx, one, (const uint8_t *)"1", 1), 0);
	cr_assert_eq(og_secretstream_seal(&w.tx, two, (const uint8_t *)"2", 1), 0);
	cr_assert_eq(open_frame(&w.rx, two, sizeof(two)), -EBADMSG);
	cr_assert_eq(open_frame(&w.rx, one, sizeof(one)), 0);
	cr_assert_eq(open_frame(&w.rx, one, sizeof(one)), -EBADMSG);
	cr_assert_eq(open_frame(&w.rx, w.first, sizeof(w.first)), -EBADMSG);
	cr_assert_eq(open_frame(&w.rx, two, sizeof(two)), 0);
}

Test(secretstream, bodies_outside_the_legal_lengths_are_refused)
{
	struct one_way w = one_way();
	uint8_t body[OG_FRAME_BODY_MIN] = {0};
	uint8_t *text;
	size_t n;

	for (size_t len = 0; len < OG_FRAME_BODY_MIN; len++)
		cr_assert_eq(og_secretstream_open(&w.rx, body, len, &text, &n), -EBADMSG);
	cr_assert_eq(
		og_secretstream_open(&w.rx, body, (size_t)OG_FRAME_MAX + 1, &text, &n), -EBADMSG);
}

Test(secretstream, the_largest_frame_passes_and_one_more_byte_does_not)
{
	struct one_way w = one_way();
	uint8_t *frame = malloc((size_t)OG_FRAME_PLAIN_MAX + OG_FRAME_OVERHEAD);
	uint8_t *text;
	size_t n;

	cr_assert_not_null(frame);
	memset(frame, 0x5a, (size_t)OG_FRAME_PLAIN_MAX + OG_FRAME_OVERHEAD);
	cr_assert_eq(og_secretstream_seal(&w.tx, frame, frame, (size_t)OG_FRAME_PLAIN_MAX + 1),
		-EMSGSIZE);
	/* In place: the plaintext already lies where the ciphertext goes. */
	cr_assert_eq(og_secretstream_seal(&w.tx, frame, frame + 4, OG_FRAME_PLAIN_MAX), 0);
	cr_assert_eq(og_frame_length_load(frame), OG_FRAME_MAX);
	cr_assert_eq(
		og_secretstream_open(&w.rx, frame + OG_FRAME_LENGTH_BYTES, OG_FRAME_MAX, &text, &n),
		0);
	cr_assert_eq(n, OG_FRAME_PLAIN_MAX);
	for (size_t i = 0; i < n; i++)
		if (text[i] != 0x5a)
			cr_assert_fail("byte %zu", i);
	free(frame);
}

Test(secretstream, sealing_in_place_gives_the_same_frame)
{
	struct one_way w = one_way();
	struct og_secretstream_tx again = w.tx;
	uint8_t plain[200], apart[OG_FRAME_OVERHEAD + 200], in_place[OG_FRAME_OVERHEAD + 200];

	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)i;
	memcpy(in_place + 4, plain, sizeof(plain));
	cr_assert_eq(og_secretstream_seal(&w.tx, apart, plain, sizeof(plain)), 0);
	cr_assert_eq(og_secretstream_seal(&again, in_place, in_place + 4, sizeof(plain)), 0);
	cr_assert_arr_eq(apart, in_place, sizeof(apart));
}

Test(unordered, vectors_seal_and_open)
{
	json_t *v = vec_stream("unordered");
	struct og_noise_keys keys = {0};
	size_t i;
	json_t *m;

	memcpy(keys.hash, vec_hex(v, "handshake_hash").data, sizeof(keys.hash));
	json_array_foreach(vec_get(v, "messages"), i, m)
	{
		bool initiator = strcmp(vec_text(m, "from"), "initiator") == 0;
		struct vec_bytes plain = vec_hex(m, "plaintext");
		struct vec_bytes want = vec_hex(m, "wire");
		uint8_t *wire = malloc(want.n);
		struct og_unordered from, to;
		uint8_t *text;
		size_t n;

		og_unordered_init(
			&from, &keys, initiator, og_load_le64(vec_hex(m, "counter_before").data));
		og_unordered_init(&to, &keys, !initiator, 77);
		VEC_EQ_HEX(from.tx_key, v,
			initiator ? "key_initiator_to_responder" : "key_responder_to_initiator");
		cr_assert_eq(og_unordered_seal(&from, wire, plain.data, plain.n), 0);
		VEC_EQ(wire, want, "wire");
		cr_assert_eq(og_unordered_open(&to, wire, want.n, &text, &n), 0);
		cr_assert_eq(n, plain.n);
		VEC_EQ(text, plain, "plaintext");
		free(wire);
	}
	cr_assert_eq(i, 4);
}

enum { NB_SEALED = 200 };

struct sealed {
	struct og_unordered from, to;
	uint8_t wire[NB_SEALED][OG_UNORDERED_OVERHEAD + 1];
};

static struct sealed *seal_many(uint64_t counter)
{
	static struct sealed s;
	static const struct og_noise_keys keys;

	cr_assert_eq(og_crypto_init(), 0);
	og_unordered_init(&s.from, &keys, true, counter);
	og_unordered_init(&s.to, &keys, false, 0);
	for (size_t i = 0; i < NB_SEALED; i++)
		cr_assert_eq(og_unordered_seal(&s.from, s.wire[i], &(uint8_t){(uint8_t)i}, 1), 0);
	return &s;
}

static int open_one(struct sealed *s, size_t i)
{
	uint8_t copy[sizeof(s->wire[0])];
	uint8_t *text;
	size_t n;
	int ret;

	memcpy(copy, s->wire[i], sizeof(copy));
	ret = og_unordered_open(&s->to, copy, sizeof(copy), &text, &n);
	if (ret == 0)
		cr_assert(n == 1 && *text == (uint8_t)i);
	return ret;
}

Test(unordered, any_order_opens_and_each_message_once)
{
	/* The counter wraps on the way. */
	struct sealed *s = seal_many(UINT64_MAX - 20);
	static const uint8_t order[] = {3, 1, 2, 0, 63, 10, 62, 9};

	for (size_t i = 0; i < sizeof(order); i++)
		cr_assert_eq(open_one(s, order[i]), 0, "%u", order[i]);
	for (size_t i = 0; i < sizeof(order); i++)
		cr_assert_eq(open_one(s, order[i]), -EALREADY, "%u", order[i]);
	cr_assert_eq(open_one(s, 64), 0);
	cr_assert_eq(open_one(s, 0), -ERANGE);
	cr_assert_eq(open_one(s, 1), -EALREADY);
	cr_assert_eq(open_one(s, 199), 0);
	cr_assert_eq(open_one(s, 64), -ERANGE);
	cr_assert_eq(open_one(s, 136), 0);
	cr_assert_eq(open_one(s, 135), -ERANGE);
}

Test(unordered, changed_and_short_messages_are_dropped_and_change_nothing)
{
	struct sealed *s = seal_many(5);
	size_t len = sizeof(s->wire[0]);
	uint8_t copy[sizeof(s->wire[0])];
	uint8_t *text;
	size_t n;

	for (size_t i = 0; i < len; i++) {
		memcpy(copy, s->wire[0], len);
		copy[i] ^= 0x80;
		cr_assert_eq(og_unordered_open(&s->to, copy, len, &text, &n), -EBADMSG);
		if (i >= OG_UNORDERED_OVERHEAD)
			continue;
		memcpy(copy, s->wire[0], len);
		cr_assert_eq(og_unordered_open(&s->to, copy, i, &text, &n), -EBADMSG);
	}
	cr_assert_eq(open_one(s, 0), 0);
}

Test(unordered, a_counter_is_never_used_twice)
{
	struct sealed *s = seal_many(9);
	uint8_t wire[OG_UNORDERED_OVERHEAD];

	s->from.tx_counter = 7;
	cr_assert_eq(og_unordered_seal(&s->from, wire, NULL, 0), 0);
	cr_assert_eq(og_unordered_seal(&s->from, wire, NULL, 0), -EOVERFLOW);
	cr_assert_eq(og_unordered_seal(&s->from, wire, NULL, 0), -EOVERFLOW);
}
