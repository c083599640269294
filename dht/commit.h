/*
 * commit.h: one ANNOUNCE or UNANNOUNCE to one node: signed for exactly that node, then sent.
 *
 * The owner keeps the slot, moves it through its states and counts; this is the part that the
 * announcer of our server and the topics share.
 *
 * Source:  dht.md 7.3: the signature covers the id and the token of the node.
 * Threads: the owner of the node.
 * Memory:  embedded.
 */
#pragma once
#include "dht/env.h"

enum og_dht_commit_state {
	OG_DHT_COMMIT_FREE,
	OG_DHT_COMMIT_UNSIGNED, /* waits for a job */
	OG_DHT_COMMIT_SIGNING,
	OG_DHT_COMMIT_SENT,
};

struct og_dht_commit {
	uint8_t state; /* enum og_dht_commit_state */
	bool unannounce;
	struct og_addr to;
	uint8_t id[OG_DHT_ID_BYTES];
	uint8_t token[OG_DHT_TOKEN_BYTES];
	struct og_dht_req_id request;
};

/* What is announced, the same for all commits of a round. */
struct og_dht_announcement {
	uint8_t target[32];
	uint32_t record_bytes;
	uint8_t record[OG_DHT_RECORD_MAX];
};

/* `relays` of an UNANNOUNCE is empty. */
void og_dht_announcement_init(struct og_dht_announcement *a, const struct og_dht_env *env,
	const uint8_t target[32], const struct og_addr *relays, uint32_t nb_relays);
void og_dht_commit_init(struct og_dht_commit *c, bool unannounce, const struct og_addr *to,
	const uint8_t id[OG_DHT_ID_BYTES], const uint8_t token[OG_DHT_TOKEN_BYTES]);
/* UNSIGNED to SIGNING; stays UNSIGNED when no job is free: try again later. */
void og_dht_commit_sign(struct og_dht_commit *c, struct og_dht_env *env,
	const struct og_dht_announcement *a, enum og_dht_job kind, uint32_t slot, uint32_t gen);
/* SIGNING to SENT; to, token and value of `req` are filled in, the rest is the caller's. */
void og_dht_commit_send(struct og_dht_commit *c, struct og_dht_env *env,
	const struct og_dht_announcement *a, const struct og_job *job, struct og_dht_request req,
	uint64_t now_ns);
/* Whatever its state: nothing more comes of it. */
void og_dht_commit_cancel(struct og_dht_commit *c, struct og_dht_env *env);
