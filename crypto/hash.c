#include "crypto/hash.h"

#include <sodium.h>

static void hash_parts(
	uint8_t *out, const uint8_t *key, size_t key_bytes, const struct og_span *parts, size_t n)
{
	crypto_generichash_state st;

	OG_ASSERT(crypto_generichash_init(&st, key, key_bytes, OG_HASH_BYTES) == 0);
	for (size_t i = 0; i < n; i++)
		crypto_generichash_update(&st, parts[i].data, parts[i].len_bytes);
	crypto_generichash_final(&st, out, OG_HASH_BYTES);
	if (key)
		sodium_memzero(&st, sizeof(st));
}

void og_blake2b(uint8_t out[OG_HASH_BYTES], const struct og_span *parts, size_t nb_parts)
{
	hash_parts(out, NULL, 0, parts, nb_parts);
}

void og_blake2b_keyed(uint8_t out[OG_HASH_BYTES], const uint8_t *key, size_t key_bytes,
	const struct og_span *parts, size_t nb_parts)
{
	OG_ASSERT(key_bytes >= crypto_generichash_KEYBYTES_MIN);
	hash_parts(out, key, key_bytes, parts, nb_parts);
}

void og_hash_one(uint8_t out[OG_HASH_BYTES], const void *data, size_t len_bytes)
{
	struct og_span part = {data, len_bytes};

	hash_parts(out, NULL, 0, &part, 1);
}

void og_sha256(uint8_t out[OG_HASH_BYTES], const void *data, size_t len_bytes)
{
	crypto_hash_sha256(out, data, len_bytes);
}
