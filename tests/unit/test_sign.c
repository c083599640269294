#include "crypto/sign.h"

#include "crypto_vectors.h"

#include <errno.h>

/* "01" in the vectors is the seed of 32 such bytes. */
static struct og_keypair keypair_of(json_t *input)
{
	struct vec_bytes byte = vec_hex(input, "seed");
	uint8_t seed[OG_SEED_BYTES];
	struct og_keypair kp;

	memset(seed, byte.data[0], sizeof(seed));
	og_keypair_from_seed(&kp, seed);
	return kp;
}

Test(sign, announce_vectors_match_and_verify)
{
	static const char *const names[] = {"announce", "announce-refresh", "unannounce"};
	json_t *all = vec_dht("signatures");

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		json_t *v = vec_named(all, names[i]);
		json_t *in = vec_get(v, "input");
		struct og_keypair kp = keypair_of(in);
		struct vec_bytes peer = vec_hex(in, "peer");
		uint8_t *ns = vec_hex(in, "namespace").data;
		uint8_t *target = vec_hex(in, "target").data;
		uint8_t *id = vec_hex(in, "node_id").data;
		uint8_t *token = vec_hex(in, "token").data;
		const uint8_t *refresh = vec_hex_or_null(in, "refresh");
		uint8_t sig[OG_SIGNATURE_BYTES];

		cr_assert_eq(og_sign_announce(
				     sig, &kp, ns, target, id, token, peer.data, peer.n, refresh),
			0);
		VEC_EQ_HEX(sig, vec_get(v, "expected"), "signature");
		cr_assert_eq(og_verify_announce(sig, kp.public_key, ns, target, id, token,
				     peer.data, peer.n, refresh),
			0);
	}
}

Test(sign, mutable_vectors_match_and_verify)
{
	static const char *const names[] = {"mutable-seq-0", "mutable-seq-1", "mutable-seq-70000"};
	json_t *all = vec_dht("signatures");

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		json_t *v = vec_named(all, names[i]);
		json_t *in = vec_get(v, "input");
		struct og_keypair kp = keypair_of(in);
		struct vec_bytes value = vec_hex(in, "value");
		uint64_t seq = (uint64_t)json_integer_value(vec_get(in, "seq"));
		uint8_t sig[OG_SIGNATURE_BYTES];

		cr_assert_eq(og_sign_mutable(sig, &kp, seq, value.data, value.n), 0);
		VEC_EQ_HEX(sig, vec_get(v, "expected"), "signature");
		cr_assert_eq(og_verify_mutable(sig, kp.public_key, seq, value.data, value.n), 0);
	}
}

Test(sign, every_signed_field_of_an_announce_counts)
{
	struct {
		uint8_t ns[32], target[32], node_id[32], token[32], record[45], refresh[32];
	} f;
	uint8_t *bytes = (uint8_t *)&f;
	uint8_t seed[OG_SEED_BYTES] = {7};
	struct og_keypair kp;
	uint8_t sig[OG_SIGNATURE_BYTES];

	cr_assert_eq(og_crypto_init(), 0);
	og_keypair_from_seed(&kp, seed);
	memset(&f, 9, sizeof(f));
	cr_assert_eq(og_sign_announce(sig, &kp, f.ns, f.target, f.node_id, f.token, f.record,
			     sizeof(f.record), f.refresh),
		0);
	for (size_t i = 0; i < sizeof(f); i++) {
		bytes[i] ^= 0x80;
		cr_assert_eq(og_verify_announce(sig, kp.public_key, f.ns, f.target, f.node_id,
				     f.token, f.record, sizeof(f.record), f.refresh),
			-EBADMSG, "byte %zu", i);
		bytes[i] ^= 0x80;
	}
	cr_assert_eq(og_verify_announce(sig, kp.public_key, f.ns, f.target, f.node_id, f.token,
			     f.record, sizeof(f.record), NULL),
		-EBADMSG);
	for (size_t i = 0; i < sizeof(sig); i++) {
		sig[i] ^= 1;
		cr_assert_eq(og_verify_announce(sig, kp.public_key, f.ns, f.target, f.node_id,
				     f.token, f.record, sizeof(f.record), f.refresh),
			-EBADMSG);
		sig[i] ^= 1;
	}
}

Test(sign, a_mutable_signature_holds_for_its_seq_and_value_only)
{
	static const uint8_t value[] = {0, 1, 2, 3};
	uint8_t seed[OG_SEED_BYTES] = {7};
	struct og_keypair kp;
	uint8_t sig[OG_SIGNATURE_BYTES];

	cr_assert_eq(og_crypto_init(), 0);
	og_keypair_from_seed(&kp, seed);
	cr_assert_eq(og_sign_mutable(sig, &kp, 5, value, 4), 0);
	cr_assert_eq(og_verify_mutable(sig, kp.public_key, 5, value, 4), 0);
	cr_assert_eq(og_verify_mutable(sig, kp.public_key, 6, value, 4), -EBADMSG);
	cr_assert_eq(og_verify_mutable(sig, kp.public_key, 5, value, 3), -EBADMSG);
	cr_assert_eq(og_verify_mutable(sig, kp.public_key, 5, value + 1, 3), -EBADMSG);
}

Test(sign, a_seq_beyond_the_wire_is_refused)
{
	uint8_t seed[OG_SEED_BYTES] = {7};
	struct og_keypair kp;
	uint8_t sig[OG_SIGNATURE_BYTES] = {0};

	cr_assert_eq(og_crypto_init(), 0);
	og_keypair_from_seed(&kp, seed);
	cr_assert_eq(og_sign_mutable(sig, &kp, 1ull << 53, NULL, 0), -EINVAL);
	cr_assert_eq(og_verify_mutable(sig, kp.public_key, 1ull << 53, NULL, 0), -EBADMSG);
	cr_assert_eq(og_sign_mutable(sig, &kp, (1ull << 53) - 1, NULL, 0), 0);
}

Test(sign, a_small_order_key_verifies_nothing)
{
	uint8_t pk[OG_KEY_BYTES] = {1}; /* the identity */
	uint8_t sig[OG_SIGNATURE_BYTES] = {1};

	cr_assert_eq(og_crypto_init(), 0);
	cr_assert_eq(og_verify_mutable(sig, pk, 0, NULL, 0), -EBADMSG);
}
