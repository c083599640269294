#include "dht/values.h"

#include "tests/unit/dht_vectors.h"

#include <errno.h>

static const char *const modes[] = {
	"FROM_CLIENT", "FROM_SERVER", "FROM_RELAY", "FROM_SECOND_RELAY", "REPLY"};

static bool is_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static void expect_written(const struct og_writer *w, json_t *vector, const char *field)
{
	struct vector_bytes want = vector_field(json_object_get(vector, "expected"), field);

	cr_assert(og_writer_ok(w), "%s", vector_name(vector));
	vector_expect(w->start, og_writer_len(w), &want, vector_name(vector));
}

static uint32_t addrs_of(json_t *list, struct og_addr *out)
{
	size_t i;
	json_t *v;

	json_array_foreach(list, i, v) out[i] = vector_addr(v);
	return (uint32_t)json_array_size(list);
}

static void check_peer(json_t *vector)
{
	json_t *in = json_object_get(vector, "input");
	struct vector_bytes key = vector_field(in, "publicKey");
	struct vector_bytes want = vector_field(json_object_get(vector, "expected"), "hex");
	struct og_addr relays[8];
	uint32_t nb = addrs_of(json_object_get(in, "relayAddresses"), relays);
	struct og_reader r = og_reader_of(want.data, want.len);
	struct og_dht_peer peer;
	uint8_t buf[256];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	og_dht_peer_encode(&w, key.data, relays, nb);
	expect_written(&w, vector, "hex");
	cr_assert_eq(og_dht_peer_decode(&peer, &r), 0);
	cr_assert_arr_eq(peer.public_key, key.data, 32);
	cr_assert_eq(peer.nb_relays, nb);
	for (uint32_t i = 0; i < nb; i++) {
		struct og_addr a = og_dht_peer_relay(&peer, i);

		cr_assert(og_addr_eq(&a, &relays[i]));
	}
	cr_assert_eq(peer.raw_bytes, want.len);
}

static void check_announce(json_t *vector)
{
	struct vector_bytes want = vector_field(json_object_get(vector, "expected"), "hex");
	json_t *in = json_object_get(vector, "input");
	struct vector_bytes peer = vector_field(in, "peer"), refresh = vector_field(in, "refresh"),
			    signature = vector_field(in, "signature");
	struct og_dht_announce a;
	uint8_t buf[256];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	cr_assert_eq(og_dht_announce_decode(&a, want.data, want.len), 0);
	cr_assert_eq(a.has_peer, peer.len > 0);
	if (a.has_peer)
		vector_expect(a.peer.raw, a.peer.raw_bytes, &peer, "peer");
	cr_assert_eq(a.refresh != NULL, refresh.len > 0);
	cr_assert_eq(a.signature != NULL, signature.len > 0);
	cr_assert_eq(a.bump, vector_int(in, "bump"));
	og_dht_announce_encode(&w, &a);
	expect_written(&w, vector, "hex");
}

static uint8_t mode_in(const char *name)
{
	for (uint8_t i = (uint8_t)OG_ARRAY_LEN(modes); i-- > 0;) {
		if (strstr(name, modes[i]))
			return i;
	}
	return 255;
}

static void check_handshake(json_t *vector)
{
	struct vector_bytes want = vector_field(json_object_get(vector, "expected"), "hex");
	json_t *in = json_object_get(vector, "input");
	struct vector_bytes noise = vector_field(in, "noise");
	struct og_dht_handshake h;
	uint8_t buf[256];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	cr_assert_eq(og_dht_handshake_decode(&h, want.data, want.len), 0);
	cr_assert_eq(h.mode, vector_int(in, "mode"));
	cr_assert_eq(h.mode, mode_in(vector_name(vector)));
	vector_expect(h.noise, h.noise_bytes, &noise, "noise");
	cr_assert_eq(h.has_peer, json_is_string(json_object_get(in, "peerAddress")));
	cr_assert_eq(h.has_relay, json_is_string(json_object_get(in, "relayAddress")));
	og_dht_handshake_encode(&w, &h);
	expect_written(&w, vector, "hex");
}

static void check_holepunch(json_t *vector)
{
	struct vector_bytes want = vector_field(json_object_get(vector, "expected"), "hex");
	json_t *in = json_object_get(vector, "input");
	struct og_dht_holepunch h;
	uint8_t buf[256];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	cr_assert_eq(og_dht_holepunch_decode(&h, want.data, want.len), 0);
	cr_assert_eq(h.mode, vector_int(in, "mode"));
	cr_assert_eq(h.id, vector_int(in, "id"));
	og_dht_holepunch_encode(&w, &h);
	expect_written(&w, vector, "hex");
}

static void check_lookup(json_t *vector)
{
	struct vector_bytes want = vector_field(json_object_get(vector, "expected"), "hex");
	json_t *in = json_object_get(vector, "input");
	json_t *peers = json_object_get(in, "peers");
	struct og_reader r = og_reader_of(want.data, want.len);
	uint32_t nb;

	cr_assert_eq(og_dht_lookup_begin(&r, &nb), 0);
	cr_assert_eq(nb, json_array_size(peers));
	for (uint32_t i = 0; i < nb; i++) {
		struct vector_bytes raw = vector_hex(json_string_value(json_array_get(peers, i)));
		struct og_dht_peer peer;

		cr_assert_eq(og_dht_peer_decode(&peer, &r), 0);
		vector_expect(peer.raw, peer.raw_bytes, &raw, vector_name(vector));
	}
	cr_assert_eq(og_dht_lookup_bump(&r), vector_int(in, "bump"));
	cr_assert(og_reader_ok(&r));
}

static void check_mutable(json_t *vector, bool put)
{
	struct vector_bytes want = vector_field(json_object_get(vector, "expected"), "hex");
	json_t *in = json_object_get(vector, "input");
	struct vector_bytes value = vector_field(in, "value");
	struct og_dht_mutable m;
	uint8_t buf[256];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	cr_assert_eq(put ? og_dht_mutable_put_decode(&m, want.data, want.len)
			 : og_dht_mutable_get_decode(&m, want.data, want.len),
		0);
	cr_assert_eq(m.seq, vector_int(in, "seq"));
	vector_expect(m.value, m.value_bytes, &value, vector_name(vector));
	og_dht_mutable_encode(&w, &m);
	expect_written(&w, vector, "hex");
}

Test(dht_values, every_value_of_the_vectors_decodes_and_encodes_to_the_same_bytes)
{
	json_t *section = vector_section("values");
	unsigned checked = 0;
	size_t i;
	json_t *v;

	json_array_foreach(section, i, v)
	{
		const char *name = vector_name(v);

		if (is_prefix(name, "peer-"))
			check_peer(v);
		else if (is_prefix(name, "announce-"))
			check_announce(v);
		else if (is_prefix(name, "handshake-"))
			check_handshake(v);
		else if (is_prefix(name, "holepunch-"))
			check_holepunch(v);
		else if (is_prefix(name, "lookup-"))
			check_lookup(v);
		else if (is_prefix(name, "mutable-"))
			check_mutable(v, strcmp(name, "mutable-put") == 0);
		else if (is_prefix(name, "plugin"))
			continue; /* tests/vectors/exceptions.md */
		else
			cr_assert_fail("unknown vector %s", name);
		checked++;
	}
	cr_assert_eq(checked, json_array_size(section) - 2);
}

static void check_payload(json_t *vector)
{
	struct vector_bytes want = vector_field(json_object_get(vector, "expected"), "hex");
	json_t *in = json_object_get(vector, "input");
	json_t *udx = json_object_get(in, "udx");
	struct og_addr addrs[8];
	struct og_dht_payload p;
	uint8_t buf[OG_DHT_PAYLOAD_MAX];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	cr_assert_eq(og_dht_payload_decode(&p, want.data, want.len), 0, "%s", vector_name(vector));
	cr_assert_eq(p.version, 1);
	cr_assert_eq(p.error, vector_int(in, "error"));
	cr_assert_eq(p.firewall, vector_int(in, "firewall"));
	cr_assert_eq(p.has_holepunch, json_is_object(json_object_get(in, "holepunch")));
	cr_assert_eq(p.nb_addresses4, addrs_of(json_object_get(in, "addresses4"), addrs));
	for (uint32_t i = 0; i < p.nb_addresses4; i++)
		cr_assert(og_addr_eq(&p.addresses4[i], &addrs[i]));
	cr_assert(p.has_udx);
	cr_assert_eq(p.udx_id, vector_int(udx, "id"));
	cr_assert_eq(p.udx_seq, vector_int(udx, "seq"));
	cr_assert_eq(p.udx_features & 1, json_is_true(json_object_get(udx, "reusableSocket")));
	cr_assert(p.has_stream);
	cr_assert_eq(p.has_relay_through, json_is_object(json_object_get(in, "relayThrough")));
	cr_assert_eq(p.nb_relays, addrs_of(json_object_get(in, "relayAddresses"), addrs));
	og_dht_payload_encode(&w, &p);
	expect_written(&w, vector, "hex");
}

Test(dht_values, every_noise_payload_of_the_vectors_round_trips)
{
	json_t *section = vector_section("noise_payloads");
	size_t i;
	json_t *v;

	json_array_foreach(section, i, v) check_payload(v);
}

Test(dht_values, a_payload_of_another_version_is_read_no_further)
{
	static const uint8_t v2[] = {2};
	struct og_dht_payload p;

	cr_assert_eq(og_dht_payload_decode(&p, v2, sizeof(v2)), 0);
	cr_assert_eq(p.version, 2);
	cr_assert_not(p.has_udx);
}

Test(dht_values, a_payload_with_more_addresses_than_ours_is_cut_and_read_on)
{
	uint8_t buf[512];
	struct og_writer w = og_writer_of(buf, sizeof(buf));
	struct og_addr a = {{10, 0, 0, 1}, 1};
	struct og_dht_payload p;

	og_write_uint(&w, 1);
	og_write_uint(&w, 0x02 | 0x08);
	og_write_uint(&w, 0);
	og_write_uint(&w, 0);
	og_write_uint(&w, 40);
	for (int i = 0; i < 40; i++)
		og_write_addr4(&w, &a);
	og_write_uint(&w, 1);
	og_write_uint(&w, 0);
	og_write_uint(&w, 77);
	og_write_uint(&w, 0);
	cr_assert_eq(og_dht_payload_decode(&p, buf, og_writer_len(&w)), 0);
	cr_assert_eq(p.nb_addresses4, OG_DHT_PAYLOAD_ADDRS);
	cr_assert_eq(p.udx_id, 77);
}

Test(dht_values, every_punch_payload_of_the_vectors_round_trips)
{
	json_t *section = vector_section("holepunch");
	unsigned checked = 0;
	size_t i;
	json_t *v;

	json_array_foreach(section, i, v)
	{
		struct vector_bytes want = vector_field(json_object_get(v, "expected"), "plain");
		json_t *in = json_object_get(v, "input");
		uint8_t buf[OG_DHT_PAYLOAD_MAX];
		struct og_writer w = og_writer_of(buf, sizeof(buf));
		struct og_dht_punch p;

		if (want.len == 0)
			continue;
		cr_assert_eq(og_dht_punch_decode(&p, want.data, want.len), 0);
		cr_assert_eq(p.error, vector_int(in, "error"));
		cr_assert_eq(p.firewall, vector_int(in, "firewall"));
		cr_assert_eq(p.round, vector_int(in, "round"));
		cr_assert_eq(p.connected, json_is_true(json_object_get(in, "connected")));
		cr_assert_eq(p.punching, json_is_true(json_object_get(in, "punching")));
		cr_assert_eq(p.has_remote, json_is_string(json_object_get(in, "remoteAddress")));
		cr_assert_eq(p.token != NULL, json_is_string(json_object_get(in, "token")));
		og_dht_punch_encode(&w, &p);
		expect_written(&w, v, "plain");
		checked++;
	}
	cr_assert_eq(checked, 9);
}

Test(dht_values, a_value_cut_anywhere_is_refused)
{
	struct vector_bytes all = vector_field(
		json_object_get(
			vector_named(vector_section("noise_payloads"), "everything"), "expected"),
		"hex");

	for (size_t n = 0; n < all.len; n++) {
		struct og_dht_payload p;

		cr_assert_eq(og_dht_payload_decode(&p, all.data, n), -EBADMSG, "%zu", n);
	}
}

Test(dht_values, an_array_count_that_overflows_is_refused)
{
	static const uint8_t huge[] = {1, 2, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0x10, 0};
	struct og_dht_payload p;

	cr_assert_eq(og_dht_payload_decode(&p, huge, sizeof(huge)), -EBADMSG);
}
