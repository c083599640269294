/*
 * holepunch.h: the box around hole punching payloads.
 *
 *   24-byte nonce | 16-byte MAC | ciphertext      n + 40 bytes
 *
 * Source:  dht.md 9.4 (the secret) and 9.7; libsodium's secretbox.
 * Units:   bytes.
 * Threads: pure.
 * Memory:  the caller's buffers; opening works in place.
 */
#pragma once
#include "crypto/noise.h"

enum { OG_HOLEPUNCH_NONCE_BYTES = 24, OG_HOLEPUNCH_OVERHEAD = 40 };

void og_holepunch_secret(uint8_t secret[32], const struct og_noise_keys *keys);

/*
 * Writes n + OG_HOLEPUNCH_OVERHEAD bytes that do not overlap `plain`. The nonce is 24 random bytes.
 */
void og_holepunch_seal(uint8_t *out, const uint8_t secret[32],
	const uint8_t nonce[OG_HOLEPUNCH_NONCE_BYTES], const uint8_t *plain, size_t n);

/* In place. Returns 0, or -EBADMSG when it is too short or its MAC is wrong. */
int og_holepunch_open(uint8_t *box, size_t box_bytes, const uint8_t secret[32], uint8_t **plain,
	size_t *plain_bytes) OG_MUST_CHECK;
