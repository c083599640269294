/*
 * wire.h: DHT request and reply datagrams, and node ids.
 *
 * Source:  dht.md 2.2, 3.1 to 3.3.
 * Units:   addresses as struct og_addr; closer nodes stay raw addr4 (6 bytes each).
 * Threads: pure functions.
 * Memory:  a decoded message points into the datagram; a message to encode borrows its parts.
 */
#pragma once
#include "base/addr.h"
#include "base/bytes.h"

enum {
	OG_DHT_ID_BYTES = 32,
	OG_DHT_TOKEN_BYTES = 32,
	OG_DHT_ADDR4_BYTES = 6,
	OG_DHT_VERSION = 3,
	OG_DHT_K = 20,                /* nodes per bucket, closer nodes per reply */
	OG_DHT_DATAGRAM_BYTES = 1200, /* most that is ever sent */
};

/* Internal commands, dht.md 4. */
enum og_dht_internal {
	OG_DHT_PING = 0,
	OG_DHT_PING_NAT = 1,
	OG_DHT_FIND_NODE = 2,
	OG_DHT_DOWN_HINT = 3,
	OG_DHT_DELAYED_PING = 4,
};

/* dht.md 3.3. */
enum og_dht_error {
	OG_DHT_OK = 0,
	OG_DHT_UNKNOWN_COMMAND = 1,
	OG_DHT_INVALID_TOKEN = 2,
	OG_DHT_SEQ_REUSED = 16,
	OG_DHT_SEQ_TOO_LOW = 17,
};

/* id, token, target and value are NULL when absent; an empty value is present with 0 bytes. */
struct og_dht_msg {
	bool reply;
	bool internal; /* requests */
	bool has_value;
	uint16_t tid;
	uint32_t error; /* replies; 0: fine */
	struct og_addr to;
	const uint8_t *id;
	const uint8_t *token;
	const uint8_t *target; /* requests */
	uint64_t command;      /* requests */
	const uint8_t *closer; /* replies: nb_closer times addr4 */
	uint32_t nb_closer;
	uint32_t value_bytes;
	const uint8_t *value;
};

/* Returns 0, or -EBADMSG: not version 3, or cut short. Bytes left over are ignored. */
int og_dht_msg_decode(struct og_dht_msg *out, const uint8_t *data, size_t len_bytes) OG_MUST_CHECK;
/* Appends the datagram. Returns 0, or -ENOBUFS when it does not fit. */
int og_dht_msg_encode(const struct og_dht_msg *m, struct og_writer *w) OG_MUST_CHECK;

/* BLAKE2b-256 of addr4. */
void og_dht_node_id(uint8_t id[OG_DHT_ID_BYTES], const struct og_addr *a);

static inline struct og_addr og_dht_addr4_load(const uint8_t *p)
{
	return (struct og_addr){{p[0], p[1], p[2], p[3]}, og_load_le16(p + 4)};
}

static inline void og_dht_addr4_store(uint8_t *p, const struct og_addr *a)
{
	memcpy(p, a->ip, 4);
	og_store_le16(p + 4, a->port);
}
