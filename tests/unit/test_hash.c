#include "crypto/hash.h"

#include "crypto/namespaces.h"
#include "crypto_vectors.h"

Test(hash, targets_match_the_vectors)
{
	json_t *all = vec_dht("targets");
	uint8_t got[OG_HASH_BYTES];
	struct vec_bytes in;
	json_t *v;

	v = vec_named(all, "server-target");
	in = vec_hex(vec_get(v, "input"), "publicKey");
	og_hash_one(got, in.data, in.n);
	VEC_EQ_HEX(got, vec_get(v, "expected"), "target");

	v = vec_named(all, "immutable-target");
	in = vec_hex(vec_get(v, "input"), "value");
	og_hash_one(got, in.data, in.n);
	VEC_EQ_HEX(got, vec_get(v, "expected"), "target");

	v = vec_named(all, "topic-from-string");
	const char *name = vec_text(vec_get(v, "input"), "utf8");

	og_sha256(got, name, strlen(name));
	VEC_EQ_HEX(got, vec_get(v, "expected"), "target");
}

Test(hash, a_refresh_chain_is_hashes_of_hashes)
{
	json_t *v = vec_named(vec_dht("holepunch"), "refresh-chain");
	json_t *blocks = vec_get(vec_get(v, "expected"), "blocks");
	struct vec_bytes seed = vec_hex(vec_get(v, "input"), "seed");
	uint8_t x[OG_HASH_BYTES];

	cr_assert_eq(json_array_size(blocks), 4);
	memcpy(x, seed.data, sizeof(x));
	for (size_t i = json_array_size(blocks); i-- > 0;) {
		struct vec_bytes want = vec_unhex(json_string_value(json_array_get(blocks, i)));

		og_hash_one(x, x, sizeof(x));
		VEC_EQ(x, want, "block");
	}
}

Test(hash, parts_hash_as_if_joined)
{
	static const char text[] = "one two three";
	uint8_t whole[OG_HASH_BYTES], parts[OG_HASH_BYTES];
	struct og_span spans[] = {{text, 3}, {NULL, 0}, {text + 3, sizeof(text) - 4}};

	og_hash_one(whole, text, sizeof(text) - 1);
	og_blake2b(parts, spans, OG_ARRAY_LEN(spans));
	cr_assert_arr_eq(whole, parts, sizeof(whole));
	og_blake2b_keyed(parts, whole, sizeof(whole), spans, OG_ARRAY_LEN(spans));
	cr_assert_arr_neq(whole, parts, sizeof(whole));
}

Test(hash, namespaces_match_the_vectors)
{
	static const struct {
		const char *name;
		const uint8_t *constant;
	} ours[] = {{"ANNOUNCE", og_ns_announce}, {"UNANNOUNCE", og_ns_unannounce},
		{"MUTABLE_PUT", og_ns_mutable_put}, {"PEER_HANDSHAKE", og_ns_peer_handshake},
		{"PEER_HOLEPUNCH", og_ns_peer_holepunch},
		{"SECRET_STREAM_INITIATOR", og_ns_stream_initiator},
		{"SECRET_STREAM_RESPONDER", og_ns_stream_responder},
		{"SECRET_STREAM_SEND", og_ns_stream_send}};
	json_t *all = vec_dht("namespaces");
	uint8_t got[OG_HASH_BYTES];
	size_t i;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		json_t *in = vec_get(v, "input");

		og_namespace(got, vec_text(in, "name"),
			(uint8_t)json_integer_value(vec_get(in, "command")));
		VEC_EQ_HEX(got, vec_get(v, "expected"), "hex");
	}
	for (i = 0; i < OG_ARRAY_LEN(ours); i++)
		VEC_EQ_HEX(
			ours[i].constant, vec_get(vec_named(all, ours[i].name), "expected"), "hex");
}

Test(hash, stream_namespaces_match_the_vectors)
{
	json_t *ns = vec_get(vec_stream("primitives"), "namespaces");

	VEC_EQ_HEX(og_ns_stream_initiator, vec_get(ns, "secret_stream"), "initiator_0");
	VEC_EQ_HEX(og_ns_stream_responder, vec_get(ns, "secret_stream"), "responder_1");
	VEC_EQ_HEX(og_ns_stream_send, vec_get(ns, "secret_stream"), "send_2");
	VEC_EQ_HEX(og_ns_peer_handshake, vec_get(ns, "dht_peer_handshake"), "value");
	VEC_EQ_HEX(og_ns_peer_holepunch, vec_get(ns, "dht_peer_holepunch"), "value");
}
