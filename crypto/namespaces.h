/*
 * namespaces.h: the constants that keep signatures and derived keys of different uses apart.
 *
 * Source:  dht.md 7.6, noise-stream.md 9.
 * Threads: constants; pure.
 */
#pragma once
#include "crypto/hash.h"

/* "hyperswarm/dht" */
extern const uint8_t og_ns_peer_handshake[OG_HASH_BYTES]; /* 0, the Noise prologue */
extern const uint8_t og_ns_peer_holepunch[OG_HASH_BYTES]; /* 1 */
extern const uint8_t og_ns_announce[OG_HASH_BYTES];       /* 4 */
extern const uint8_t og_ns_unannounce[OG_HASH_BYTES];     /* 5 */
extern const uint8_t og_ns_mutable_put[OG_HASH_BYTES];    /* 6 */

/* "hyperswarm/secret-stream" */
extern const uint8_t og_ns_stream_initiator[OG_HASH_BYTES]; /* 0 */
extern const uint8_t og_ns_stream_responder[OG_HASH_BYTES]; /* 1 */
extern const uint8_t og_ns_stream_send[OG_HASH_BYTES];      /* 2 */

/* How they are made: B2(B2(name) || number). */
void og_namespace(uint8_t out[OG_HASH_BYTES], const char *name, uint8_t number);
