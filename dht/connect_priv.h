/*
 * connect_priv.h: an outgoing attempt, shared by connect.c (finding and shaking hands) and
 * connect_path.c (choosing the way).
 */
#pragma once
#include "dht/connect.h"
#include "dht/relay_cache.h"
#include "dht/values.h"

enum {
	OG_DHT_TRIES = 3,       /* handshakes in flight; one of them through candidates */
	OG_DHT_FOUND_TRIES = 2, /* at most so many through relays that the query found */
	OG_DHT_CANDIDATES = 8,
	OG_DHT_RELAYS_KNOWN = 32, /* relays of one attempt, candidates included */
	OG_DHT_MESSAGE_1_MAX = 400,
	OG_DHT_MESSAGE_2_MAX = 800,
};

enum og_dht_attempt_state {
	OG_DHT_ATTEMPT_FREE,
	OG_DHT_ATTEMPT_PREPARING, /* message 1 is being written; relays are sought meanwhile */
	OG_DHT_ATTEMPT_SHAKING,   /* message 1 is out */
	OG_DHT_ATTEMPT_WAITING,   /* keys known; the peer sends the first packet */
	OG_DHT_ATTEMPT_LAN,       /* keys known; its local address is being pinged */
};

enum og_dht_try_state {
	OG_DHT_TRY_FREE,
	OG_DHT_TRY_SENT,
	OG_DHT_TRY_ANSWERED, /* waits for a job to read message 2 */
	OG_DHT_TRY_READING,
};

struct og_dht_try {
	uint8_t state; /* enum og_dht_try_state */
	bool is_candidate;
	bool has_peer;
	uint16_t endpoint; /* the reply arrived on */
	uint16_t message_bytes;
	struct og_addr relay;  /* the node asked */
	struct og_addr server; /* peerAddress of its reply, or the relay */
	struct og_addr client; /* our address as the relay saw it */
	struct og_dht_req_id request;
	uint8_t message[OG_DHT_MESSAGE_2_MAX];
};

struct og_dht_attempt {
	uint32_t gen;
	uint8_t state; /* enum og_dht_attempt_state */
	bool writing;  /* the job of message 1 is out */
	bool querying;
	bool seeded; /* the running or last query had seeds */
	bool found;  /* some node had a record */
	bool shed;   /* some step found no room here */
	bool seen;   /* a UDX packet came for the stream */
	uint16_t seen_endpoint;
	struct og_addr seen_addr;
	uint64_t tag;
	uint64_t expires_ns;
	uint64_t stream;
	uint32_t udx_id;
	uint32_t remote_udx_id;
	uint8_t remote_key[32];
	uint8_t target[32];
	struct og_dht_query_id query;
	struct og_dht_req_id lan_ping;
	struct og_addr lan_addr;
	uint32_t nb_candidates, next_candidate;
	uint32_t nb_known, next_known; /* relays[0 … nb_candidates-1] are the candidates */
	struct og_addr relays[OG_DHT_RELAYS_KNOWN];
	struct og_dht_try tries[OG_DHT_TRIES];
	uint16_t message_bytes;
	uint8_t message[OG_DHT_MESSAGE_1_MAX];
	struct og_noise noise;
	struct og_noise_keys keys;
};

struct og_dht_connect {
	struct og_dht_env *env;
	uint32_t nb_attempts;
	uint32_t nb_used;
	struct og_dht_attempt *attempts;
	struct og_dht_relay_cache cache;
};

/* The tag of requests and queries: which attempt, and its generation. */
static inline uint64_t og_dht_attempt_tag(
	const struct og_dht_connect *c, const struct og_dht_attempt *a)
{
	return (uint64_t)a->gen << 32 | (uint32_t)(a - c->attempts);
}

/* The attempt of a tag, or NULL when it is over. */
struct og_dht_attempt *og_dht_attempt_of(struct og_dht_connect *c, uint64_t tag);
/* The two ways an attempt ends. */
void og_dht_attempt_fail(
	struct og_dht_connect *c, struct og_dht_attempt *a, int reason, uint64_t now_ns);
void og_dht_attempt_connected(struct og_dht_connect *c, struct og_dht_attempt *a, uint16_t endpoint,
	const struct og_addr *remote, uint64_t now_ns);
/* Handshakes and query stop: one reply was good. */
void og_dht_attempt_settle(struct og_dht_connect *c, struct og_dht_attempt *a);

/* connect_path.c: message 2 is read and the keys are known; every row of the table of 9.6. */
void og_dht_attempt_choose_path(struct og_dht_connect *c, struct og_dht_attempt *a,
	const struct og_dht_try *via, const struct og_dht_payload *peer, uint64_t now_ns);
