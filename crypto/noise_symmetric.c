#include "crypto/noise_symmetric.h"

#include "base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>

enum { BLOCK_BYTES = 128 }; /* of BLAKE2b */

static_assert(OG_NOISE_TAG_BYTES == crypto_aead_chacha20poly1305_ietf_ABYTES, "tag");
static_assert(OG_NOISE_KEY_BYTES == crypto_aead_chacha20poly1305_ietf_KEYBYTES, "key");

static void hash(uint8_t out[OG_NOISE_HASH_BYTES], const struct og_span *parts, size_t nb_parts)
{
	crypto_generichash_state st;

	crypto_generichash_init(&st, NULL, 0, OG_NOISE_HASH_BYTES);
	for (size_t i = 0; i < nb_parts; i++)
		crypto_generichash_update(&st, parts[i].data, parts[i].len_bytes);
	crypto_generichash_final(&st, out, OG_NOISE_HASH_BYTES);
	sodium_memzero(&st, sizeof(st));
}

/* RFC 2104 */
void og_hmac_blake2b(uint8_t out[OG_NOISE_HASH_BYTES], const uint8_t *key, size_t key_bytes,
	const struct og_span *parts, size_t nb_parts)
{
	crypto_generichash_state st;
	uint8_t pad[BLOCK_BYTES] = {0};
	uint8_t inner[OG_NOISE_HASH_BYTES];

	if (key_bytes > sizeof(pad))
		hash(pad, &(struct og_span){key, key_bytes}, 1);
	else if (key_bytes > 0)
		memcpy(pad, key, key_bytes);

	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36;
	crypto_generichash_init(&st, NULL, 0, sizeof(inner));
	crypto_generichash_update(&st, pad, sizeof(pad));
	for (size_t i = 0; i < nb_parts; i++)
		crypto_generichash_update(&st, parts[i].data, parts[i].len_bytes);
	crypto_generichash_final(&st, inner, sizeof(inner));

	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36 ^ 0x5c;
	hash(out, (struct og_span[]){{pad, sizeof(pad)}, {inner, sizeof(inner)}}, 2);
	sodium_memzero(&st, sizeof(st));
	sodium_memzero(pad, sizeof(pad));
	sodium_memzero(inner, sizeof(inner));
}

void og_hkdf_blake2b(uint8_t out1[OG_NOISE_HASH_BYTES], uint8_t out2[OG_NOISE_HASH_BYTES],
	const uint8_t ck[OG_NOISE_HASH_BYTES], const void *ikm, size_t ikm_bytes)
{
	static const uint8_t one = 1, two = 2;
	uint8_t t[OG_NOISE_HASH_BYTES];
	uint8_t first[OG_NOISE_HASH_BYTES];

	og_hmac_blake2b(t, ck, OG_NOISE_HASH_BYTES, &(struct og_span){ikm, ikm_bytes}, 1);
	og_hmac_blake2b(first, t, sizeof(t), &(struct og_span){&one, 1}, 1);
	og_hmac_blake2b(
		out2, t, sizeof(t), (struct og_span[]){{first, sizeof(first)}, {&two, 1}}, 2);
	memcpy(out1, first, sizeof(first));
	sodium_memzero(t, sizeof(t));
	sodium_memzero(first, sizeof(first));
}

void og_noise_symmetric_init(struct og_noise_symmetric *s, const char *protocol)
{
	size_t len = strlen(protocol);

	OG_ASSERT(len <= sizeof(s->h));
	memset(s, 0, sizeof(*s));
	memcpy(s->h, protocol, len);
	memcpy(s->ck, s->h, sizeof(s->ck));
}

void og_noise_mix_hash(struct og_noise_symmetric *s, const void *data, size_t len_bytes)
{
	hash(s->h, (struct og_span[]){{s->h, sizeof(s->h)}, {data, len_bytes}}, 2);
}

void og_noise_mix_key(struct og_noise_symmetric *s, const uint8_t dh[32])
{
	uint8_t k[OG_NOISE_HASH_BYTES];

	og_hkdf_blake2b(s->ck, k, s->ck, dh, 32);
	memcpy(s->k, k, sizeof(s->k));
	s->counter = 0;
	s->has_key = true;
	sodium_memzero(k, sizeof(k));
}

size_t og_noise_tag_bytes(const struct og_noise_symmetric *s)
{
	return s->has_key ? OG_NOISE_TAG_BYTES : 0;
}

/* 4 zero bytes, then the counter as 64-bit little endian. */
static void make_nonce(const struct og_noise_symmetric *s,
	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES])
{
	memset(nonce, 0, 4);
	og_store_le64(nonce + 4, s->counter);
}

void og_noise_encrypt_and_hash(
	struct og_noise_symmetric *s, uint8_t *out, const uint8_t *plain, size_t n)
{
	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];

	if (s->has_key) {
		make_nonce(s, nonce);
		crypto_aead_chacha20poly1305_ietf_encrypt(
			out, NULL, plain, n, s->h, sizeof(s->h), NULL, nonce, s->k);
		s->counter++;
	} else if (n > 0) {
		memcpy(out, plain, n);
	}
	og_noise_mix_hash(s, out, n + og_noise_tag_bytes(s));
}

int og_noise_decrypt_and_hash(
	struct og_noise_symmetric *s, uint8_t *out, const uint8_t *data, size_t n)
{
	uint8_t nonce[crypto_aead_chacha20poly1305_ietf_NPUBBYTES];

	if (n < og_noise_tag_bytes(s))
		return -EBADMSG;
	if (s->has_key) {
		make_nonce(s, nonce);
		if (crypto_aead_chacha20poly1305_ietf_decrypt(
			    out, NULL, NULL, data, n, s->h, sizeof(s->h), nonce, s->k) != 0)
			return -EBADMSG;
		s->counter++;
	} else if (n > 0) {
		memcpy(out, data, n);
	}
	og_noise_mix_hash(s, data, n);
	return 0;
}

void og_noise_symmetric_split(const struct og_noise_symmetric *s, uint8_t k1[OG_NOISE_KEY_BYTES],
	uint8_t k2[OG_NOISE_KEY_BYTES])
{
	uint8_t o1[OG_NOISE_HASH_BYTES];
	uint8_t o2[OG_NOISE_HASH_BYTES];

	og_hkdf_blake2b(o1, o2, s->ck, NULL, 0);
	memcpy(k1, o1, OG_NOISE_KEY_BYTES);
	memcpy(k2, o2, OG_NOISE_KEY_BYTES);
	sodium_memzero(o1, sizeof(o1));
	sodium_memzero(o2, sizeof(o2));
}
