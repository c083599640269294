/*
 * values.h: what travels in the value field of the hyperdht commands, and inside their boxes.
 *
 * Decoders check every length and leave nothing half filled in: they return 0 or -EBADMSG, ignore
 * bytes after a complete decode, and their pointers lead into the input. Lists of addresses that
 * a peer makes longer than ours are read to their end and cut.
 *
 * Source:  dht.md 7.1 to 7.5, 9.2, 9.3, 9.7.
 * Threads: values; no state.
 * Memory:  decoded pointers borrow the input; encoders write through struct og_writer.
 */
#pragma once
#include "base/bytes.h"

enum {
	OG_DHT_KEY_BYTES = 32,
	OG_DHT_SIGNATURE_BYTES = 64,
	OG_DHT_RECORD_RELAYS = 3, /* relay addresses a record keeps (dht.md 7.1) */
	OG_DHT_RECORD_MAX = 32 + 1 + OG_DHT_RECORD_RELAYS * 6,
	OG_DHT_LOOKUP_PEERS = 20, /* peers in one LOOKUP reply */
	OG_DHT_PAYLOAD_ADDRS = 8, /* addresses kept of each list of a payload */
	OG_DHT_PAYLOAD_MAX = 512, /* bytes of any payload we write */
	OG_DHT_HOLEPUNCH_ADDRS = 8,
};

/* dht.md 7.1. `raw` is the record as it stood on the wire: signatures cover exactly that. */
struct og_dht_peer {
	const uint8_t *public_key;
	const uint8_t *relays; /* nb_relays times 6 bytes */
	uint32_t nb_relays;
	const uint8_t *raw;
	uint32_t raw_bytes;
};

int og_dht_peer_decode(struct og_dht_peer *out, struct og_reader *r) OG_MUST_CHECK;
void og_dht_peer_encode(struct og_writer *w, const uint8_t public_key[OG_DHT_KEY_BYTES],
	const struct og_addr *relays, uint32_t nb_relays);
/* Relay `i` of a decoded record, i < nb_relays. */
struct og_addr og_dht_peer_relay(const struct og_dht_peer *peer, uint32_t i);

/* dht.md 7.2. Read the count, then that many records, then the bump. */
int og_dht_lookup_begin(struct og_reader *r, uint32_t *nb_peers) OG_MUST_CHECK;
uint64_t og_dht_lookup_bump(struct og_reader *r);

/* dht.md 7.3: ANNOUNCE and UNANNOUNCE. */
struct og_dht_announce {
	bool has_peer;
	struct og_dht_peer peer;
	const uint8_t *refresh;   /* NULL when absent */
	const uint8_t *signature; /* NULL when absent */
	uint64_t bump;            /* 0 when absent */
};

int og_dht_announce_decode(
	struct og_dht_announce *out, const uint8_t *data, size_t len_bytes) OG_MUST_CHECK;
/* The peer is taken from peer.raw. */
void og_dht_announce_encode(struct og_writer *w, const struct og_dht_announce *a);

/* dht.md 9.2. */
enum og_dht_mode {
	OG_DHT_FROM_CLIENT,
	OG_DHT_FROM_SERVER,
	OG_DHT_FROM_RELAY,
	OG_DHT_FROM_SECOND_RELAY,
	OG_DHT_REPLY,
};

struct og_dht_handshake {
	uint8_t mode; /* enum og_dht_mode, or a number this node does not know */
	const uint8_t *noise;
	uint32_t noise_bytes;
	bool has_peer, has_relay;
	struct og_addr peer, relay;
};

int og_dht_handshake_decode(
	struct og_dht_handshake *out, const uint8_t *data, size_t len_bytes) OG_MUST_CHECK;
void og_dht_handshake_encode(struct og_writer *w, const struct og_dht_handshake *h);

/* dht.md 9.7, transport. */
struct og_dht_holepunch {
	uint8_t mode;
	uint64_t id;
	const uint8_t *payload;
	uint32_t payload_bytes;
	bool has_peer;
	struct og_addr peer;
};

int og_dht_holepunch_decode(
	struct og_dht_holepunch *out, const uint8_t *data, size_t len_bytes) OG_MUST_CHECK;
void og_dht_holepunch_encode(struct og_writer *w, const struct og_dht_holepunch *h);

/* dht.md 9.3: the plain text inside the two Noise messages. */
enum og_dht_payload_error {
	OG_DHT_PAYLOAD_OK,
	OG_DHT_PAYLOAD_ABORTED,
	OG_DHT_PAYLOAD_VERSION,
	OG_DHT_PAYLOAD_TRY_LATER,
};

enum og_dht_firewall {
	OG_DHT_FIREWALL_UNKNOWN,
	OG_DHT_FIREWALL_OPEN,
	OG_DHT_FIREWALL_CONSISTENT,
	OG_DHT_FIREWALL_RANDOM,
};

struct og_dht_addr6 {
	uint8_t ip[16];
	uint16_t port;
};

struct og_dht_payload {
	uint64_t version; /* anything but 1: nothing else was decoded */
	uint64_t error;
	uint64_t firewall;
	bool has_holepunch, has_udx, has_stream, has_relay_through;
	bool has_relays; /* written also when the list is empty */
	uint64_t holepunch_id;
	uint32_t nb_punch_relays;
	struct {
		struct og_addr relay, peer;
	} punch_relays[OG_DHT_PAYLOAD_ADDRS];
	uint32_t nb_addresses4;
	struct og_addr addresses4[OG_DHT_PAYLOAD_ADDRS];
	uint32_t nb_addresses6;
	struct og_dht_addr6 addresses6[OG_DHT_PAYLOAD_ADDRS];
	uint64_t udx_features; /* bit 0: reusable socket */
	uint32_t udx_id;
	uint64_t udx_seq;
	uint8_t relay_through_key[OG_DHT_KEY_BYTES];
	uint8_t relay_through_token[32];
	uint32_t nb_relays;
	struct og_addr relays[OG_DHT_PAYLOAD_ADDRS];
};

int og_dht_payload_decode(
	struct og_dht_payload *out, const uint8_t *data, size_t len_bytes) OG_MUST_CHECK;
void og_dht_payload_encode(struct og_writer *w, const struct og_dht_payload *p);

/* dht.md 9.7, payload: the plain text inside the box of a PEER_HOLEPUNCH. */
struct og_dht_punch {
	uint64_t error, firewall, round;
	bool connected, punching;
	bool has_addresses; /* written also when the list is empty */
	uint32_t nb_addresses;
	struct og_addr addresses[OG_DHT_HOLEPUNCH_ADDRS];
	bool has_remote;
	struct og_addr remote;
	const uint8_t *token;        /* 32 bytes, or NULL */
	const uint8_t *remote_token; /* 32 bytes, or NULL */
};

int og_dht_punch_decode(
	struct og_dht_punch *out, const uint8_t *data, size_t len_bytes) OG_MUST_CHECK;
void og_dht_punch_encode(struct og_writer *w, const struct og_dht_punch *p);

/* dht.md 7.5. The put carries a key, the answer to a get does not (public_key NULL). */
struct og_dht_mutable {
	const uint8_t *public_key;
	uint64_t seq;
	const uint8_t *value;
	uint32_t value_bytes;
	const uint8_t *signature;
};

int og_dht_mutable_put_decode(
	struct og_dht_mutable *out, const uint8_t *data, size_t len_bytes) OG_MUST_CHECK;
int og_dht_mutable_get_decode(
	struct og_dht_mutable *out, const uint8_t *data, size_t len_bytes) OG_MUST_CHECK;
/* Writes the key if there is one: the put; else the answer to a get. */
void og_dht_mutable_encode(struct og_writer *w, const struct og_dht_mutable *m);
