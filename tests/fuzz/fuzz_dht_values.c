#include "dht/values.h"

/* First byte: which decoder. What decodes must encode, and decode to the same again. */

static void fuzz_announce(const uint8_t *data, size_t n)
{
	struct og_dht_announce a, b;
	uint8_t buf[8192];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	if (og_dht_announce_decode(&a, data, n) < 0)
		return;
	og_dht_announce_encode(&w, &a);
	if (og_writer_ok(&w))
		OG_ASSERT(og_dht_announce_decode(&b, buf, og_writer_len(&w)) == 0);
	for (uint32_t i = 0; a.has_peer && i < a.peer.nb_relays; i++)
		(void)og_dht_peer_relay(&a.peer, i);
}

static void fuzz_lookup(const uint8_t *data, size_t n)
{
	struct og_reader r = og_reader_of(data, n);
	struct og_dht_peer peer;
	uint32_t nb;

	if (og_dht_lookup_begin(&r, &nb) < 0)
		return;
	for (uint32_t i = 0; i < nb; i++) {
		if (og_dht_peer_decode(&peer, &r) < 0)
			return;
	}
	(void)og_dht_lookup_bump(&r);
}

static void fuzz_payload(const uint8_t *data, size_t n)
{
	struct og_dht_payload p, again;
	uint8_t buf[1024];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	if (og_dht_payload_decode(&p, data, n) < 0 || p.version != 1)
		return;
	og_dht_payload_encode(&w, &p);
	OG_ASSERT(og_writer_ok(&w));
	OG_ASSERT(og_dht_payload_decode(&again, buf, og_writer_len(&w)) == 0);
	OG_ASSERT(again.udx_id == p.udx_id && again.nb_relays == p.nb_relays);
}

static void fuzz_punch(const uint8_t *data, size_t n)
{
	struct og_dht_punch p, again;
	uint8_t buf[1024];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	if (og_dht_punch_decode(&p, data, n) < 0)
		return;
	og_dht_punch_encode(&w, &p);
	OG_ASSERT(og_writer_ok(&w));
	OG_ASSERT(og_dht_punch_decode(&again, buf, og_writer_len(&w)) == 0);
}

static void fuzz_relayed(const uint8_t *data, size_t n)
{
	struct og_dht_handshake h;
	struct og_dht_holepunch p;
	struct og_dht_mutable m;
	uint8_t buf[8192];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	if (og_dht_handshake_decode(&h, data, n) == 0)
		og_dht_handshake_encode(&w, &h);
	if (og_dht_holepunch_decode(&p, data, n) == 0)
		og_dht_holepunch_encode(&w, &p);
	if (og_dht_mutable_put_decode(&m, data, n) == 0)
		og_dht_mutable_encode(&w, &m);
	if (og_dht_mutable_get_decode(&m, data, n) == 0)
		og_dht_mutable_encode(&w, &m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static void (*const targets[])(const uint8_t *, size_t) = {
		fuzz_announce, fuzz_lookup, fuzz_payload, fuzz_punch, fuzz_relayed};

	if (len_bytes > 0)
		targets[data[0] % OG_ARRAY_LEN(targets)](data + 1, len_bytes - 1);
	return 0;
}
