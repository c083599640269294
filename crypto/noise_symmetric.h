/*
 * noise_symmetric.h: the symmetric half of a Noise handshake: hash, chaining key, cipher key.
 *
 * Source:  Noise rev 34, sections 4 and 5.2; noise-stream.md 2 for BLAKE2b, HMAC with blocks of 128
 *          bytes and ChaCha20-Poly1305.
 * Units:   bytes.
 * Threads: values; pure.
 * Memory:  borrowed; plain values, wiped by their owner.
 */
#pragma once
#include "crypto/hash.h"

#include <stdbool.h>

enum { OG_NOISE_HASH_BYTES = 64, OG_NOISE_KEY_BYTES = 32, OG_NOISE_TAG_BYTES = 16 };

struct og_noise_symmetric {
	uint8_t h[OG_NOISE_HASH_BYTES];
	uint8_t ck[OG_NOISE_HASH_BYTES];
	uint8_t k[OG_NOISE_KEY_BYTES];
	uint32_t counter; /* of k */
	bool has_key;
};

void og_hmac_blake2b(uint8_t out[OG_NOISE_HASH_BYTES], const uint8_t *key, size_t key_bytes,
	const struct og_span *parts, size_t nb_parts);
/* The HKDF of Noise with two outputs. `ck` may be out1. */
void og_hkdf_blake2b(uint8_t out1[OG_NOISE_HASH_BYTES], uint8_t out2[OG_NOISE_HASH_BYTES],
	const uint8_t ck[OG_NOISE_HASH_BYTES], const void *ikm, size_t ikm_bytes);

/* `protocol` is at most 64 bytes: it is padded, not hashed. */
void og_noise_symmetric_init(struct og_noise_symmetric *s, const char *protocol);
void og_noise_mix_hash(struct og_noise_symmetric *s, const void *data, size_t len_bytes);
void og_noise_mix_key(struct og_noise_symmetric *s, const uint8_t dh[32]);

/* What a tag adds: 0 before the first mix_key, then 16. */
size_t og_noise_tag_bytes(const struct og_noise_symmetric *s);
/* `out` has room for n + og_noise_tag_bytes() and does not overlap `plain`. */
void og_noise_encrypt_and_hash(
	struct og_noise_symmetric *s, uint8_t *out, const uint8_t *plain, size_t n);
/*
 * `out` has room for n - og_noise_tag_bytes() and does not overlap `data`. Returns 0, or -EBADMSG
 * when it is too short or its tag is wrong; then s is as before.
 */
int og_noise_decrypt_and_hash(
	struct og_noise_symmetric *s, uint8_t *out, const uint8_t *data, size_t n) OG_MUST_CHECK;

/* k1: initiator to responder; k2: responder to initiator. */
void og_noise_symmetric_split(const struct og_noise_symmetric *s, uint8_t k1[OG_NOISE_KEY_BYTES],
	uint8_t k2[OG_NOISE_KEY_BYTES]);
