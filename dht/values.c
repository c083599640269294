#include "dht/values.h"

#include <errno.h>

enum { ADDR4_BYTES = 6, ADDR6_BYTES = 18, ARRAY_MAX = 0x100000 };

static int result_of(const struct og_reader *r)
{
	return og_reader_ok(r) ? 0 : -EBADMSG;
}

/* An array<addr4>: fills at most `max`, reads all. */
static uint32_t read_addrs(struct og_reader *r, struct og_addr *out, uint32_t max)
{
	uint64_t nb = og_read_uint_max(r, ARRAY_MAX);
	const uint8_t *raw = og_read_bytes(r, nb * ADDR4_BYTES);
	struct og_reader items;
	uint32_t kept;

	if (!raw)
		return 0;
	items = og_reader_of(raw, nb * ADDR4_BYTES);
	kept = (uint32_t)OG_MIN(nb, max);
	for (uint32_t i = 0; i < kept; i++)
		out[i] = og_read_addr4(&items);
	return kept;
}

static void write_addrs(struct og_writer *w, const struct og_addr *addrs, uint32_t nb)
{
	og_write_uint(w, nb);
	for (uint32_t i = 0; i < nb; i++)
		og_write_addr4(w, &addrs[i]);
}

int og_dht_peer_decode(struct og_dht_peer *out, struct og_reader *r)
{
	const uint8_t *start = r->p;
	struct og_dht_peer peer = {0};
	uint64_t nb;

	peer.public_key = og_read_bytes(r, OG_DHT_KEY_BYTES);
	nb = og_read_uint_max(r, ARRAY_MAX);
	peer.relays = og_read_bytes(r, nb * ADDR4_BYTES);
	if (!og_reader_ok(r))
		return -EBADMSG;
	peer.nb_relays = (uint32_t)nb;
	peer.raw = start;
	peer.raw_bytes = (uint32_t)(r->p - start);
	*out = peer;
	return 0;
}

void og_dht_peer_encode(struct og_writer *w, const uint8_t public_key[OG_DHT_KEY_BYTES],
	const struct og_addr *relays, uint32_t nb_relays)
{
	og_write_bytes(w, public_key, OG_DHT_KEY_BYTES);
	write_addrs(w, relays, nb_relays);
}

struct og_addr og_dht_peer_relay(const struct og_dht_peer *peer, uint32_t i)
{
	struct og_reader r = og_reader_of(peer->relays + (size_t)i * ADDR4_BYTES, ADDR4_BYTES);

	return og_read_addr4(&r);
}

int og_dht_lookup_begin(struct og_reader *r, uint32_t *nb_peers)
{
	uint64_t nb = og_read_uint_max(r, ARRAY_MAX);

	if (!og_reader_ok(r))
		return -EBADMSG;
	*nb_peers = (uint32_t)nb;
	return 0;
}

uint64_t og_dht_lookup_bump(struct og_reader *r)
{
	return og_reader_left(r) > 0 ? og_read_uint(r) : 0;
}

enum { ANNOUNCE_PEER = 1, ANNOUNCE_REFRESH = 2, ANNOUNCE_SIGNATURE = 4, ANNOUNCE_BUMP = 8 };

int og_dht_announce_decode(struct og_dht_announce *out, const uint8_t *data, size_t len_bytes)
{
	struct og_reader r = og_reader_of(data, len_bytes);
	struct og_dht_announce a = {0};
	uint64_t flags = og_read_uint(&r);

	a.has_peer = flags & ANNOUNCE_PEER;
	if (a.has_peer && og_dht_peer_decode(&a.peer, &r) < 0)
		return -EBADMSG;
	if (flags & ANNOUNCE_REFRESH)
		a.refresh = og_read_bytes(&r, 32);
	if (flags & ANNOUNCE_SIGNATURE)
		a.signature = og_read_bytes(&r, OG_DHT_SIGNATURE_BYTES);
	if (flags & ANNOUNCE_BUMP)
		a.bump = og_read_uint(&r);
	if (!og_reader_ok(&r))
		return -EBADMSG;
	*out = a;
	return 0;
}

void og_dht_announce_encode(struct og_writer *w, const struct og_dht_announce *a)
{
	og_write_uint(w, (a->has_peer ? ANNOUNCE_PEER : 0) | (a->refresh ? ANNOUNCE_REFRESH : 0) |
				 (a->signature ? ANNOUNCE_SIGNATURE : 0) |
				 (a->bump ? ANNOUNCE_BUMP : 0));
	if (a->has_peer)
		og_write_bytes(w, a->peer.raw, a->peer.raw_bytes);
	if (a->refresh)
		og_write_bytes(w, a->refresh, 32);
	if (a->signature)
		og_write_bytes(w, a->signature, OG_DHT_SIGNATURE_BYTES);
	if (a->bump)
		og_write_uint(w, a->bump);
}

enum { HAS_PEER = 1, HAS_RELAY = 2 };

int og_dht_handshake_decode(struct og_dht_handshake *out, const uint8_t *data, size_t len_bytes)
{
	struct og_reader r = og_reader_of(data, len_bytes);
	struct og_dht_handshake h = {0};
	uint64_t flags = og_read_uint(&r);

	h.mode = (uint8_t)og_read_uint_max(&r, UINT8_MAX);
	h.noise = og_read_buffer(&r, &h.noise_bytes);
	h.has_peer = flags & HAS_PEER;
	if (h.has_peer)
		h.peer = og_read_addr4(&r);
	h.has_relay = flags & HAS_RELAY;
	if (h.has_relay)
		h.relay = og_read_addr4(&r);
	if (!og_reader_ok(&r))
		return -EBADMSG;
	*out = h;
	return 0;
}

void og_dht_handshake_encode(struct og_writer *w, const struct og_dht_handshake *h)
{
	og_write_uint(w, (h->has_peer ? HAS_PEER : 0) | (h->has_relay ? HAS_RELAY : 0));
	og_write_uint(w, h->mode);
	og_write_buffer(w, h->noise, h->noise_bytes);
	if (h->has_peer)
		og_write_addr4(w, &h->peer);
	if (h->has_relay)
		og_write_addr4(w, &h->relay);
}

int og_dht_holepunch_decode(struct og_dht_holepunch *out, const uint8_t *data, size_t len_bytes)
{
	struct og_reader r = og_reader_of(data, len_bytes);
	struct og_dht_holepunch h = {0};
	uint64_t flags = og_read_uint(&r);

	h.mode = (uint8_t)og_read_uint_max(&r, UINT8_MAX);
	h.id = og_read_uint(&r);
	h.payload = og_read_buffer(&r, &h.payload_bytes);
	h.has_peer = flags & HAS_PEER;
	if (h.has_peer)
		h.peer = og_read_addr4(&r);
	if (!og_reader_ok(&r))
		return -EBADMSG;
	*out = h;
	return 0;
}

void og_dht_holepunch_encode(struct og_writer *w, const struct og_dht_holepunch *h)
{
	og_write_uint(w, h->has_peer ? HAS_PEER : 0);
	og_write_uint(w, h->mode);
	og_write_uint(w, h->id);
	og_write_buffer(w, h->payload, h->payload_bytes);
	if (h->has_peer)
		og_write_addr4(w, &h->peer);
}

enum {
	PAYLOAD_HOLEPUNCH = 0x01,
	PAYLOAD_ADDRESSES4 = 0x02,
	PAYLOAD_ADDRESSES6 = 0x04,
	PAYLOAD_UDX = 0x08,
	PAYLOAD_STREAM = 0x10,
	PAYLOAD_RELAY_THROUGH = 0x20,
	PAYLOAD_RELAYS = 0x40,
};

static void read_punch_relays(struct og_reader *r, struct og_dht_payload *p)
{
	uint64_t nb;
	const uint8_t *raw;

	p->holepunch_id = og_read_uint(r);
	nb = og_read_uint_max(r, ARRAY_MAX);
	raw = og_read_bytes(r, nb * 2 * ADDR4_BYTES);
	if (!raw)
		return;
	p->nb_punch_relays = (uint32_t)OG_MIN(nb, (uint64_t)OG_DHT_PAYLOAD_ADDRS);
	for (uint32_t i = 0; i < p->nb_punch_relays; i++) {
		struct og_reader item =
			og_reader_of(raw + (size_t)i * 2 * ADDR4_BYTES, 2 * ADDR4_BYTES);

		p->punch_relays[i].relay = og_read_addr4(&item);
		p->punch_relays[i].peer = og_read_addr4(&item);
	}
}

static void read_addresses6(struct og_reader *r, struct og_dht_payload *p)
{
	uint64_t nb = og_read_uint_max(r, ARRAY_MAX);
	const uint8_t *raw = og_read_bytes(r, nb * ADDR6_BYTES);

	if (!raw)
		return;
	p->nb_addresses6 = (uint32_t)OG_MIN(nb, (uint64_t)OG_DHT_PAYLOAD_ADDRS);
	for (uint32_t i = 0; i < p->nb_addresses6; i++) {
		memcpy(p->addresses6[i].ip, raw + (size_t)i * ADDR6_BYTES, 16);
		p->addresses6[i].port = og_load_le16(raw + (size_t)i * ADDR6_BYTES + 16);
	}
}

/* A part whose version this node does not know is one it does not have. */
static void read_udx(struct og_reader *r, struct og_dht_payload *p)
{
	uint64_t version = og_read_uint(r);

	p->udx_features = og_read_uint(r);
	p->udx_id = (uint32_t)og_read_uint_max(r, UINT32_MAX);
	p->udx_seq = og_read_uint(r);
	p->has_udx = version == 1;
}

static void read_relay_through(struct og_reader *r, struct og_dht_payload *p)
{
	const uint8_t *key, *token;

	og_read_uint(r); /* version */
	og_read_uint(r); /* flags */
	key = og_read_bytes(r, sizeof(p->relay_through_key));
	token = og_read_bytes(r, sizeof(p->relay_through_token));
	if (!key || !token)
		return;
	p->has_relay_through = true;
	memcpy(p->relay_through_key, key, sizeof(p->relay_through_key));
	memcpy(p->relay_through_token, token, sizeof(p->relay_through_token));
}

int og_dht_payload_decode(struct og_dht_payload *out, const uint8_t *data, size_t len_bytes)
{
	struct og_reader r = og_reader_of(data, len_bytes);
	struct og_dht_payload p = {0};
	uint64_t flags;

	p.version = og_read_uint(&r);
	if (p.version != 1)
		goto done;
	flags = og_read_uint(&r);
	p.error = og_read_uint(&r);
	p.firewall = og_read_uint(&r);
	p.has_holepunch = flags & PAYLOAD_HOLEPUNCH;
	if (p.has_holepunch)
		read_punch_relays(&r, &p);
	if (flags & PAYLOAD_ADDRESSES4)
		p.nb_addresses4 = read_addrs(&r, p.addresses4, OG_DHT_PAYLOAD_ADDRS);
	if (flags & PAYLOAD_ADDRESSES6)
		read_addresses6(&r, &p);
	if (flags & PAYLOAD_UDX)
		read_udx(&r, &p);
	p.has_stream = flags & PAYLOAD_STREAM;
	if (p.has_stream)
		og_read_uint(&r); /* version */
	if (flags & PAYLOAD_RELAY_THROUGH)
		read_relay_through(&r, &p);
	p.has_relays = flags & PAYLOAD_RELAYS;
	if (p.has_relays)
		p.nb_relays = read_addrs(&r, p.relays, OG_DHT_PAYLOAD_ADDRS);
done:
	if (result_of(&r) < 0)
		return -EBADMSG;
	*out = p;
	return 0;
}

static void write_addresses6(struct og_writer *w, const struct og_dht_payload *p)
{
	og_write_uint(w, p->nb_addresses6);
	for (uint32_t i = 0; i < p->nb_addresses6; i++) {
		og_write_bytes(w, p->addresses6[i].ip, 16);
		og_write_le16(w, p->addresses6[i].port);
	}
}

void og_dht_payload_encode(struct og_writer *w, const struct og_dht_payload *p)
{
	og_write_uint(w, 1);
	og_write_uint(w, (p->has_holepunch ? PAYLOAD_HOLEPUNCH : 0) |
				 (p->nb_addresses4 ? PAYLOAD_ADDRESSES4 : 0) |
				 (p->nb_addresses6 ? PAYLOAD_ADDRESSES6 : 0) |
				 (p->has_udx ? PAYLOAD_UDX : 0) |
				 (p->has_stream ? PAYLOAD_STREAM : 0) |
				 (p->has_relay_through ? PAYLOAD_RELAY_THROUGH : 0) |
				 (p->has_relays ? PAYLOAD_RELAYS : 0));
	og_write_uint(w, p->error);
	og_write_uint(w, p->firewall);
	if (p->has_holepunch) {
		og_write_uint(w, p->holepunch_id);
		og_write_uint(w, p->nb_punch_relays);
		for (uint32_t i = 0; i < p->nb_punch_relays; i++) {
			og_write_addr4(w, &p->punch_relays[i].relay);
			og_write_addr4(w, &p->punch_relays[i].peer);
		}
	}
	if (p->nb_addresses4)
		write_addrs(w, p->addresses4, p->nb_addresses4);
	if (p->nb_addresses6)
		write_addresses6(w, p);
	if (p->has_udx) {
		og_write_uint(w, 1);
		og_write_uint(w, p->udx_features);
		og_write_uint(w, p->udx_id);
		og_write_uint(w, p->udx_seq);
	}
	if (p->has_stream)
		og_write_uint(w, 1);
	if (p->has_relay_through) {
		og_write_uint(w, 1);
		og_write_uint(w, 0);
		og_write_bytes(w, p->relay_through_key, sizeof(p->relay_through_key));
		og_write_bytes(w, p->relay_through_token, sizeof(p->relay_through_token));
	}
	if (p->has_relays)
		write_addrs(w, p->relays, p->nb_relays);
}

enum {
	PUNCH_CONNECTED = 0x01,
	PUNCH_PUNCHING = 0x02,
	PUNCH_ADDRESSES = 0x04,
	PUNCH_REMOTE = 0x08,
	PUNCH_TOKEN = 0x10,
	PUNCH_REMOTE_TOKEN = 0x20,
};

int og_dht_punch_decode(struct og_dht_punch *out, const uint8_t *data, size_t len_bytes)
{
	struct og_reader r = og_reader_of(data, len_bytes);
	struct og_dht_punch p = {0};
	uint64_t flags = og_read_uint(&r);

	p.error = og_read_uint(&r);
	p.firewall = og_read_uint(&r);
	p.round = og_read_uint(&r);
	p.connected = flags & PUNCH_CONNECTED;
	p.punching = flags & PUNCH_PUNCHING;
	p.has_addresses = flags & PUNCH_ADDRESSES;
	if (p.has_addresses)
		p.nb_addresses = read_addrs(&r, p.addresses, OG_DHT_HOLEPUNCH_ADDRS);
	p.has_remote = flags & PUNCH_REMOTE;
	if (p.has_remote)
		p.remote = og_read_addr4(&r);
	if (flags & PUNCH_TOKEN)
		p.token = og_read_bytes(&r, 32);
	if (flags & PUNCH_REMOTE_TOKEN)
		p.remote_token = og_read_bytes(&r, 32);
	if (!og_reader_ok(&r))
		return -EBADMSG;
	*out = p;
	return 0;
}

void og_dht_punch_encode(struct og_writer *w, const struct og_dht_punch *p)
{
	og_write_uint(w, (p->connected ? PUNCH_CONNECTED : 0) | (p->punching ? PUNCH_PUNCHING : 0) |
				 (p->has_addresses ? PUNCH_ADDRESSES : 0) |
				 (p->has_remote ? PUNCH_REMOTE : 0) | (p->token ? PUNCH_TOKEN : 0) |
				 (p->remote_token ? PUNCH_REMOTE_TOKEN : 0));
	og_write_uint(w, p->error);
	og_write_uint(w, p->firewall);
	og_write_uint(w, p->round);
	if (p->has_addresses)
		write_addrs(w, p->addresses, p->nb_addresses);
	if (p->has_remote)
		og_write_addr4(w, &p->remote);
	if (p->token)
		og_write_bytes(w, p->token, 32);
	if (p->remote_token)
		og_write_bytes(w, p->remote_token, 32);
}

static int mutable_decode(struct og_dht_mutable *out, struct og_reader *r, bool has_key)
{
	struct og_dht_mutable m = {0};

	if (has_key)
		m.public_key = og_read_bytes(r, OG_DHT_KEY_BYTES);
	m.seq = og_read_uint(r);
	m.value = og_read_buffer(r, &m.value_bytes);
	m.signature = og_read_bytes(r, OG_DHT_SIGNATURE_BYTES);
	if (!og_reader_ok(r))
		return -EBADMSG;
	*out = m;
	return 0;
}

int og_dht_mutable_put_decode(struct og_dht_mutable *out, const uint8_t *data, size_t len_bytes)
{
	struct og_reader r = og_reader_of(data, len_bytes);

	return mutable_decode(out, &r, true);
}

int og_dht_mutable_get_decode(struct og_dht_mutable *out, const uint8_t *data, size_t len_bytes)
{
	struct og_reader r = og_reader_of(data, len_bytes);

	return mutable_decode(out, &r, false);
}

void og_dht_mutable_encode(struct og_writer *w, const struct og_dht_mutable *m)
{
	if (m->public_key)
		og_write_bytes(w, m->public_key, OG_DHT_KEY_BYTES);
	og_write_uint(w, m->seq);
	og_write_buffer(w, m->value, m->value_bytes);
	og_write_bytes(w, m->signature, OG_DHT_SIGNATURE_BYTES);
}
