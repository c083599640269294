/*
 * connect.h: the client side of PEER_HANDSHAKE: find relays of a key, shake hands through them,
 * and choose the way to the peer.
 *
 * One Noise message 1 and one stream per attempt; the same bytes go to every relay, at most three
 * at a time, and each reply is read with its own copy of the Noise state, so a bad one spoils
 * nothing. The first good reply stops the rest. A UDX packet for the stream fixes the peer's
 * address whenever it comes, also before the reply.
 *
 * Source:  dht.md 9.6; hole punching (row 5) ends in -EOPNOTSUPP.
 * Threads: the owner of the node.
 * Memory:  made by create.
 */
#pragma once
#include "dht/env.h"

struct og_dht_connect;

int og_dht_connect_create(struct og_dht_connect **out, struct og_dht_env *env,
	const struct og_dht_opts *opts) OG_MUST_CHECK;
void og_dht_connect_destroy(struct og_dht_connect *c);

/* As og_dht_connect(), without its checks of the key. */
int og_dht_connect_start(struct og_dht_connect *c, const uint8_t remote_key[32],
	const struct og_addr *relays, uint32_t nb_relays, uint64_t tag,
	uint64_t now_ns) OG_MUST_CHECK;
void og_dht_connect_abort(struct og_dht_connect *c, uint64_t tag, uint64_t now_ns);
/* OG_DHT_JOB_CONNECT_WRITE, OG_DHT_JOB_CONNECT_READ */
void og_dht_connect_job_done(struct og_dht_connect *c, struct og_job *job, uint64_t now_ns);
bool og_dht_connect_stream_seen(struct og_dht_connect *c, uint64_t stream, uint16_t endpoint,
	const struct og_addr *src, uint64_t now_ns);
uint64_t og_dht_connect_tick(struct og_dht_connect *c, uint64_t now_ns);
uint32_t og_dht_connect_count(const struct og_dht_connect *c);
