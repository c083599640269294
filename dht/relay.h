/*
 * relay.h: passes PEER_HANDSHAKE and PEER_HOLEPUNCH on for servers that other people run.
 *
 * A leg towards a server, or from it to its relay, is a new request with the same tid; only the
 * last leg, relay to client, is a reply. That tid is all that ties them together, so the relay
 * remembers for a few seconds whom it forwarded what: an answer that nobody asked for goes nowhere.
 *
 * Source:  dht.md 9.2 and 9.7 "Transport", rows "other". Forwards go only where an announce of
 *          the target came from, or to an address that has answered us.
 * Threads: the owner of the node.
 * Memory:  made by create.
 */
#pragma once
#include "dht/env.h"
#include "dht/values.h"

struct og_dht_relay;

int og_dht_relay_create(struct og_dht_relay **out, struct og_dht_env *env,
	const struct og_dht_opts *opts) OG_MUST_CHECK;
void og_dht_relay_destroy(struct og_dht_relay *relay);

/* A message for a target that is not our own server. in->msg->target is there. */
void og_dht_relay_handshake(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_dht_handshake *h, uint64_t now_ns);
void og_dht_relay_holepunch(struct og_dht_relay *relay, const struct og_dht_incoming *in,
	const struct og_dht_holepunch *h, uint64_t now_ns);
