/*
 * self.h: what this node tells a peer about itself in a Noise payload.
 *
 * Source:  dht.md 9.3, table "What JS puts in"; a node that is not firewalled always declares
 *          itself open, and never offers hole punching.
 * Threads: the owner of the node.
 */
#pragma once
#include "dht/env.h"
#include "dht/values.h"

/* The public address with a port that reaches the server socket; false while unknown. */
bool og_dht_self_public(const struct og_dht_env *env, struct og_addr *out);
bool og_dht_self_is_open(const struct og_dht_env *env);
/* `error` 0: a payload with our stream id. Relay addresses are for servers. */
void og_dht_self_payload(struct og_dht_payload *out, const struct og_dht_env *env, bool server,
	enum og_dht_payload_error error, uint32_t udx_id);
/* dht.md 9.6: the one of `remote` that shares most leading octets with an address of ours. */
bool og_dht_self_match(const struct og_dht_env *env, const struct og_addr *remote,
	uint32_t nb_remote, struct og_addr *out);
