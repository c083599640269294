/*
 * accept.h: the server side of PEER_HANDSHAKE: from message 1 to a stream that is handed over.
 *
 * One session per first message N. It is made when N is first seen, so copies that come through
 * other relays while the jobs run, or later, get the same bytes or the same silence. A session is
 * half-open from the answer until the client's first packet names its address; half-open ones
 * are bounded, and the oldest gives way.
 *
 * Source:  dht.md 9.5; design.md 7 "Handshakes".
 * Threads: the owner of the node.
 * Memory:  made by create.
 */
#pragma once
#include "dht/env.h"
#include "dht/values.h"

struct og_dht_accept;

int og_dht_accept_create(struct og_dht_accept **out, struct og_dht_env *env,
	const struct og_dht_opts *opts) OG_MUST_CHECK;
void og_dht_accept_destroy(struct og_dht_accept *acc);

/* A handshake for our own target. in->msg->target is there. */
void og_dht_accept_handshake(struct og_dht_accept *acc, const struct og_dht_incoming *in,
	const struct og_dht_handshake *h, uint64_t now_ns);
/* OG_DHT_JOB_ACCEPT_READ, OG_DHT_JOB_ACCEPT_WRITE */
void og_dht_accept_job_done(struct og_dht_accept *acc, struct og_job *job, uint64_t now_ns);
/* Returns false when the stream is not one of ours. */
bool og_dht_accept_stream_seen(struct og_dht_accept *acc, uint64_t stream, uint16_t endpoint,
	const struct og_addr *src, uint64_t now_ns);
uint64_t og_dht_accept_tick(struct og_dht_accept *acc, uint64_t now_ns);
/* Forget all sessions: the server stopped listening. */
void og_dht_accept_reset(struct og_dht_accept *acc, uint64_t now_ns);
uint32_t og_dht_accept_count(const struct og_dht_accept *acc);
uint32_t og_dht_accept_half_open(const struct og_dht_accept *acc);
