#include "crypto/noise.h"

#include "crypto/holepunch.h"
#include "crypto/namespaces.h"
#include "crypto/secretstream.h"
#include "crypto_vectors.h"

#include <errno.h>

Test(noise, hmac_vectors_match)
{
	json_t *all = vec_get(vec_stream("primitives"), "hmac_blake2b");
	uint8_t got[OG_NOISE_HASH_BYTES];
	size_t i;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		struct vec_bytes key = vec_hex(v, "key");
		struct vec_bytes data = vec_hex(v, "data");

		og_hmac_blake2b(got, key.data, key.n, &(struct og_span){data.data, data.n}, 1);
		VEC_EQ_HEX(got, v, "out");
	}
	cr_assert_eq(i, 4);
}

Test(noise, hkdf_vectors_match)
{
	json_t *all = vec_get(vec_stream("primitives"), "hkdf_blake2b");
	uint8_t out1[OG_NOISE_HASH_BYTES], out2[OG_NOISE_HASH_BYTES];
	size_t i;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		struct vec_bytes ikm = vec_hex(v, "ikm");

		og_hkdf_blake2b(out1, out2, vec_hex(v, "chaining_key").data, ikm.data, ikm.n);
		VEC_EQ_HEX(out1, v, "out1");
		VEC_EQ_HEX(out2, v, "out2");
	}
	cr_assert_eq(i, 2);
}

/* Each step of a transcript, applied to one symmetric state, gives the h, ck and k listed. */
static void follow(struct og_noise_symmetric *s, json_t *steps)
{
	size_t i;
	json_t *step;

	json_array_foreach(steps, i, step)
	{
		const char *op = vec_text(step, "op");
		bool old_names = json_object_get(step, "plain") != NULL;
		uint8_t buf[2048];

		if (strcmp(op, "mixHash") == 0) {
			struct vec_bytes data = vec_hex(step, "data");

			og_noise_mix_hash(s, data.data, data.n);
		} else if (strcmp(op, "mixKey") == 0) {
			og_noise_mix_key(s, vec_hex(step, "dh").data);
			VEC_EQ_HEX(s->ck, step, "ck");
			VEC_EQ_HEX(s->k, step, "k");
			continue; /* h stays as it is and is not listed */
		} else {
			struct vec_bytes plain = vec_hex(step, old_names ? "plain" : "plaintext");
			struct vec_bytes text = vec_hex(step, old_names ? "cipher" : "ciphertext");

			cr_assert_eq(text.n, plain.n + og_noise_tag_bytes(s));
			if (!old_names)
				cr_assert_eq(
					s->counter, json_integer_value(vec_get(step, "nonce")));
			if (strcmp(op, "encryptAndHash") == 0) {
				og_noise_encrypt_and_hash(s, buf, plain.data, plain.n);
				VEC_EQ(buf, text, op);
			} else {
				cr_assert_str_eq(op, "decryptAndHash");
				cr_assert_eq(
					og_noise_decrypt_and_hash(s, buf, text.data, text.n), 0);
				VEC_EQ(buf, plain, op);
			}
		}
		VEC_EQ_HEX(s->h, step, "h");
	}
}

Test(noise, stream_transcripts_match_step_by_step)
{
	json_t *all = vec_stream("noise");
	size_t i;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		struct og_noise_symmetric s;
		uint8_t k1[32], k2[32];

		og_noise_symmetric_init(&s, vec_text(v, "protocol"));
		follow(&s, vec_get(v, "initiator_steps"));
		og_noise_symmetric_init(&s, vec_text(v, "protocol"));
		follow(&s, vec_get(v, "responder_steps"));
		og_noise_symmetric_split(&s, k1, k2);
		VEC_EQ_HEX(k1, v, "initiator_tx");
		VEC_EQ_HEX(k2, v, "initiator_rx");
		VEC_EQ_HEX(s.h, v, "handshake_hash");
	}
	cr_assert_eq(i, 4);
}

Test(noise, dht_transcripts_match_step_by_step)
{
	static const char *const names[] = {"ik-firewalled", "ik-open"};
	json_t *all = vec_dht("noise");

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		json_t *v = vec_named(all, names[i]);
		json_t *want = vec_get(v, "expected");
		struct og_noise_symmetric s;
		uint8_t k1[32], k2[32];

		og_noise_symmetric_init(&s, vec_text(vec_get(v, "input"), "protocol_name"));
		follow(&s, vec_get(want, "message1_transcript"));
		follow(&s, vec_get(want, "message2_transcript"));
		og_noise_symmetric_split(&s, k1, k2);
		VEC_EQ_HEX(k1, want, "initiator_tx");
		VEC_EQ_HEX(k2, want, "initiator_rx");
	}
}

/* Two ends of one handshake. */
struct pair {
	struct og_keypair a_static, b_static;
	struct og_noise a, b;
};

static struct pair pair_of(enum og_noise_pattern p, struct vec_bytes a_static,
	struct vec_bytes a_ephemeral, struct vec_bytes b_static, struct vec_bytes b_ephemeral,
	struct vec_bytes prologue)
{
	struct pair x;

	x.a_static = vec_keypair(a_static);
	x.b_static = vec_keypair(b_static);
	cr_assert_eq(
		og_noise_init(&x.a, p, true, &x.a_static,
			p == OG_NOISE_IK ? x.b_static.public_key : NULL, prologue.data, prologue.n),
		0);
	cr_assert_eq(
		og_noise_init(&x.b, p, false, &x.b_static, NULL, prologue.data, prologue.n), 0);
	og_noise_set_ephemeral(&x.a, a_ephemeral.data);
	og_noise_set_ephemeral(&x.b, b_ephemeral.data);
	return x;
}

/* One message from one end to the other, its bytes as the vector has them. */
static void pass(struct og_noise *from, struct og_noise *to, struct vec_bytes payload,
	struct vec_bytes message)
{
	uint8_t *msg = malloc(message.n);
	uint8_t *got = malloc(payload.n + 1);
	size_t n;

	cr_assert_eq(og_noise_write(from, payload.data, payload.n, msg, message.n, &n), 0);
	cr_assert_eq(n, message.n);
	VEC_EQ(msg, message, "message");
	cr_assert_eq(og_noise_read(to, msg, n, got, payload.n, &n), 0);
	cr_assert_eq(n, payload.n);
	VEC_EQ(got, payload, "payload");
	free(msg);
	free(got);
}

static void check_keys(
	const struct pair *x, json_t *want, const char *initiator_id, const char *responder_id)
{
	struct og_noise_keys a, b;
	uint8_t value[32];

	cr_assert(og_noise_done(&x->a) && og_noise_done(&x->b));
	og_noise_split(&x->a, &a);
	og_noise_split(&x->b, &b);
	VEC_EQ_HEX(a.tx, want, "initiator_tx");
	VEC_EQ_HEX(a.rx, want, "initiator_rx");
	VEC_EQ_HEX(a.hash, want, "handshake_hash");
	cr_assert_arr_eq(a.tx, b.rx, 32);
	cr_assert_arr_eq(a.rx, b.tx, 32);
	cr_assert_arr_eq(a.hash, b.hash, 64);
	cr_assert_arr_eq(og_noise_remote_static(&x->a), x->b_static.public_key, 32);
	cr_assert_arr_eq(og_noise_remote_static(&x->b), x->a_static.public_key, 32);

	og_stream_role_id(value, &a, true);
	VEC_EQ_HEX(value, want, initiator_id);
	og_stream_role_id(value, &b, false);
	VEC_EQ_HEX(value, want, responder_id);
	og_holepunch_secret(value, &b);
	VEC_EQ_HEX(value, want, "holepunch_secret");
}

Test(noise, stream_handshakes_match_the_vectors)
{
	json_t *all = vec_stream("noise");
	size_t i;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		bool ik = strcmp(vec_text(v, "pattern"), "IK") == 0;
		struct pair x = pair_of(ik ? OG_NOISE_IK : OG_NOISE_XX,
			vec_hex(vec_get(v, "initiator_static"), "seed"),
			vec_hex(vec_get(v, "initiator_ephemeral"), "seed"),
			vec_hex(vec_get(v, "responder_static"), "seed"),
			vec_hex(vec_get(v, "responder_ephemeral"), "seed"), vec_hex(v, "prologue"));
		size_t k;
		json_t *m;

		json_array_foreach(vec_get(v, "messages"), k, m)
		{
			bool from_a = strcmp(vec_text(m, "from"), "initiator") == 0;

			pass(from_a ? &x.a : &x.b, from_a ? &x.b : &x.a, vec_hex(m, "payload"),
				vec_hex(m, "message"));
		}
		check_keys(&x, v, "stream_id_initiator", "stream_id_responder");
	}
	cr_assert_eq(i, 4);
}

static struct pair dht_pair(json_t *v)
{
	json_t *in = vec_get(v, "input");

	return pair_of(OG_NOISE_IK, vec_hex(in, "initiator_static_seed"),
		vec_hex(in, "initiator_ephemeral_seed"), vec_hex(in, "responder_static_seed"),
		vec_hex(in, "responder_ephemeral_seed"), vec_hex(in, "prologue"));
}

Test(noise, dht_handshakes_match_the_vectors)
{
	static const char *const names[] = {"ik-firewalled", "ik-open"};
	json_t *all = vec_dht("noise");

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		json_t *v = vec_named(all, names[i]);
		json_t *in = vec_get(v, "input");
		json_t *want = vec_get(v, "expected");
		struct pair x = dht_pair(v);

		pass(&x.a, &x.b, vec_hex(in, "payload1"), vec_hex(want, "message1"));
		pass(&x.b, &x.a, vec_hex(in, "payload2"), vec_hex(want, "message2"));
		check_keys(&x, want, "secret_stream_id_initiator", "secret_stream_id_responder");
	}
}

/* A handshake of the vectors' keys, for the tests of behaviour. */
static struct pair some_pair(void)
{
	return dht_pair(vec_named(vec_dht("noise"), "ik-open"));
}

static const uint8_t hello[] = "hello";

static size_t write_hello(struct og_noise *n, uint8_t *msg, size_t cap)
{
	size_t got;

	cr_assert_eq(og_noise_write(n, hello, sizeof(hello), msg, cap, &got), 0);
	return got;
}

Test(noise, every_changed_byte_of_message_1_is_refused)
{
	struct pair x = some_pair();
	uint8_t msg[OG_NOISE_IK_1_OVERHEAD + sizeof(hello)], out[64];
	size_t n = write_hello(&x.a, msg, sizeof(msg));
	size_t got;

	cr_assert_eq(n, sizeof(msg));
	for (size_t i = 0; i < n; i++) {
		struct og_noise b = x.b;

		msg[i] ^= 1;
		cr_assert_eq(og_noise_read(&b, msg, n, out, sizeof(out), &got), -EBADMSG);
		cr_assert_null(og_noise_remote_static(&b));
		msg[i] ^= 1;
		/* The end: even the right bytes do not bring it back. */
		cr_assert_eq(og_noise_read(&b, msg, n, out, sizeof(out), &got), -EPROTO);
		cr_assert_not(og_noise_done(&b));
	}
	cr_assert_eq(og_noise_read(&x.b, msg, n, out, sizeof(out), &got), 0);
	cr_assert_eq(got, sizeof(hello));
}

Test(noise, every_changed_byte_of_message_2_is_refused_and_a_copy_still_reads_the_right_one)
{
	struct pair x = some_pair();
	uint8_t msg[128], out[64];
	size_t n = write_hello(&x.a, msg, sizeof(msg));
	size_t got;

	cr_assert_eq(og_noise_read(&x.b, msg, n, out, sizeof(out), &got), 0);
	n = write_hello(&x.b, msg, sizeof(msg));
	cr_assert_eq(n, OG_NOISE_IK_2_OVERHEAD + sizeof(hello));
	for (size_t i = 0; i < n; i++) {
		struct og_noise a = x.a;

		msg[i] ^= 1;
		cr_assert_eq(og_noise_read(&a, msg, n, out, sizeof(out), &got), -EBADMSG);
		msg[i] ^= 1;
	}
	cr_assert_eq(og_noise_read(&x.a, msg, n, out, sizeof(out), &got), 0);
}

Test(noise, every_shorter_message_is_refused)
{
	struct pair x = some_pair();
	uint8_t msg[128], out[64];
	size_t n = write_hello(&x.a, msg, sizeof(msg));
	size_t got;

	for (size_t len = 0; len < n; len++) {
		struct og_noise b = x.b;
		uint8_t *exact = malloc(len > 0 ? len : 1);

		memcpy(exact, msg, len);
		cr_assert_eq(og_noise_read(&b, exact, len, out, sizeof(out), &got), -EBADMSG);
		free(exact);
	}
}

Test(noise, another_responder_or_prologue_cannot_read)
{
	struct pair x = some_pair();
	uint8_t msg[128], out[64];
	size_t n = write_hello(&x.a, msg, sizeof(msg));
	struct og_noise b;
	size_t got;

	cr_assert_eq(og_noise_init(&b, OG_NOISE_IK, false, &x.a_static, NULL, og_ns_peer_handshake,
			     OG_HASH_BYTES),
		0);
	cr_assert_eq(og_noise_read(&b, msg, n, out, sizeof(out), &got), -EBADMSG);
	cr_assert_eq(og_noise_init(&b, OG_NOISE_IK, false, &x.b_static, NULL, NULL, 0), 0);
	cr_assert_eq(og_noise_read(&b, msg, n, out, sizeof(out), &got), -EBADMSG);
}

Test(noise, a_bad_point_of_either_side_ends_the_handshake)
{
	json_t *all = vec_get(vec_stream("primitives"), "dh_bad_points");
	size_t i;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		struct pair x = some_pair();
		struct vec_bytes point = vec_hex(v, "point");
		struct og_noise a;
		uint8_t msg[128], out[64];
		size_t got;

		/* a server key that is no key */
		cr_assert_eq(
			og_noise_init(&a, OG_NOISE_IK, true, &x.a_static, point.data, NULL, 0), 0);
		og_noise_set_ephemeral(&a, x.b_static.secret_key);
		cr_assert_eq(
			og_noise_write(&a, hello, sizeof(hello), msg, sizeof(msg), &got), -EBADMSG);
		/* an ephemeral that is no key */
		memset(msg, 0, sizeof(msg));
		memcpy(msg, point.data, point.n);
		cr_assert_eq(og_noise_read(&x.b, msg, 96, out, sizeof(out), &got), -EBADMSG);
	}
}

Test(noise, turns_are_kept)
{
	struct pair x = some_pair();
	uint8_t msg[128], out[64];
	size_t n, got;

	cr_assert_eq(og_noise_read(&x.a, msg, 96, out, sizeof(out), &got), -EPROTO);
	cr_assert_eq(og_noise_write(&x.b, NULL, 0, msg, sizeof(msg), &got), -EPROTO);
	n = write_hello(&x.a, msg, sizeof(msg));
	cr_assert_eq(og_noise_write(&x.a, NULL, 0, out, sizeof(out), &got), -EPROTO);
	cr_assert_eq(og_noise_read(&x.b, msg, n, out, sizeof(out), &got), 0);
	cr_assert_eq(og_noise_read(&x.b, msg, n, out, sizeof(out), &got), -EPROTO);
	n = write_hello(&x.b, msg, sizeof(msg));
	cr_assert(og_noise_done(&x.b));
	cr_assert_eq(og_noise_write(&x.b, NULL, 0, msg, sizeof(msg), &got), -EPROTO);
	cr_assert_eq(og_noise_read(&x.a, msg, n, out, sizeof(out), &got), 0);
	cr_assert(og_noise_done(&x.a));
	cr_assert_eq(og_noise_read(&x.a, msg, n, out, sizeof(out), &got), -EPROTO);
}

Test(noise, nothing_is_written_without_an_ephemeral)
{
	struct pair x = some_pair();
	struct og_noise a;
	uint8_t msg[128];
	size_t got;

	cr_assert_eq(
		og_noise_init(&a, OG_NOISE_IK, true, &x.a_static, x.b_static.public_key, NULL, 0),
		0);
	cr_assert_eq(og_noise_write(&a, NULL, 0, msg, sizeof(msg), &got), -EPROTO);
}

Test(noise, a_small_buffer_costs_nothing)
{
	struct pair x = some_pair();
	uint8_t msg[128], out[64];
	size_t n, got;

	cr_assert_eq(og_noise_write(&x.a, hello, sizeof(hello), msg,
			     OG_NOISE_IK_1_OVERHEAD + sizeof(hello) - 1, &got),
		-ENOBUFS);
	n = write_hello(&x.a, msg, sizeof(msg));
	cr_assert_eq(og_noise_read(&x.b, msg, n, out, sizeof(hello) - 1, &got), -ENOBUFS);
	cr_assert_eq(og_noise_read(&x.b, msg, n, out, sizeof(hello), &got), 0);
}

Test(noise, messages_end_at_65535_bytes)
{
	struct pair x = some_pair();
	static uint8_t payload[OG_NOISE_MESSAGE_MAX], msg[OG_NOISE_MESSAGE_MAX + 1];
	static uint8_t out[sizeof(msg)];
	size_t most = OG_NOISE_MESSAGE_MAX - OG_NOISE_IK_1_OVERHEAD;
	struct og_noise b = x.b;
	size_t n, got;

	cr_assert_eq(og_noise_write(&x.a, payload, most + 1, msg, sizeof(msg), &n), -EMSGSIZE);
	cr_assert_eq(og_noise_write(&x.a, payload, most, msg, sizeof(msg), &n), 0);
	cr_assert_eq(n, OG_NOISE_MESSAGE_MAX);
	cr_assert_eq(og_noise_read(&b, msg, n + 1, out, sizeof(out), &got), -EBADMSG);
	cr_assert_eq(og_noise_read(&x.b, msg, n, out, sizeof(out), &got), 0);
	cr_assert_eq(got, most);
}

Test(noise, a_remote_key_goes_with_the_initiator_of_ik_only)
{
	struct pair x = some_pair();
	struct og_noise n;
	const uint8_t *pk = x.b_static.public_key;

	cr_assert_eq(og_noise_init(&n, OG_NOISE_IK, true, &x.a_static, NULL, NULL, 0), -EINVAL);
	cr_assert_eq(og_noise_init(&n, OG_NOISE_IK, false, &x.a_static, pk, NULL, 0), -EINVAL);
	cr_assert_eq(og_noise_init(&n, OG_NOISE_XX, true, &x.a_static, pk, NULL, 0), -EINVAL);
}
