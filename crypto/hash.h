/*
 * hash.h: BLAKE2b-256 over parts, and SHA-256.
 *
 * Source:  RFC 7693 (dht.md writes B2 and B2k for the unkeyed and the keyed form); FIPS 180-4.
 * Units:   bytes; a key is 16 to 64 bytes.
 * Threads: pure.
 * Memory:  borrowed; `out` may be one of the parts.
 */
#pragma once
#include "base/def.h"

enum { OG_HASH_BYTES = 32 };

/* A piece of what is hashed; the hash is over the pieces joined. data may be NULL when empty. */
struct og_span {
	const void *data;
	size_t len_bytes;
};

void og_blake2b(uint8_t out[OG_HASH_BYTES], const struct og_span *parts, size_t nb_parts);
void og_blake2b_keyed(uint8_t out[OG_HASH_BYTES], const uint8_t *key, size_t key_bytes,
	const struct og_span *parts, size_t nb_parts);
/* B2 of one piece: the target of a public key or of an immutable value. */
void og_hash_one(uint8_t out[OG_HASH_BYTES], const void *data, size_t len_bytes);
void og_sha256(uint8_t out[OG_HASH_BYTES], const void *data, size_t len_bytes);
