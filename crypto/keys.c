#include "crypto/keys.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

static_assert(OG_KEY_BYTES == crypto_sign_PUBLICKEYBYTES, "Ed25519 public key");
static_assert(OG_SECRET_KEY_BYTES == crypto_sign_SECRETKEYBYTES, "Ed25519 secret key");
static_assert(OG_SEED_BYTES == crypto_sign_SEEDBYTES, "Ed25519 seed");
static_assert(OG_SIGNATURE_BYTES == crypto_sign_BYTES, "Ed25519 signature");

int og_crypto_init(void)
{
	return sodium_init() < 0 ? -EIO : 0;
}

void og_keypair_from_seed(struct og_keypair *kp, const uint8_t seed[OG_SEED_BYTES])
{
	crypto_sign_seed_keypair(kp->public_key, kp->secret_key, seed);
}

void og_keypair_wipe(struct og_keypair *kp)
{
	sodium_memzero(kp, sizeof(*kp));
}

int og_keypair_alloc(struct og_keypair **out)
{
	struct og_keypair *kp = sodium_malloc(sizeof(*kp));

	if (!kp)
		return -ENOMEM;
	memset(kp, 0, sizeof(*kp));
	*out = kp;
	return 0;
}

void og_keypair_free(struct og_keypair *kp)
{
	sodium_free(kp);
}

int og_dh(uint8_t out[32], const uint8_t secret_key[OG_SECRET_KEY_BYTES],
	const uint8_t public_key[OG_KEY_BYTES])
{
	uint8_t scalar[crypto_hash_sha512_BYTES];
	uint8_t shared[crypto_scalarmult_ed25519_BYTES];
	int ret = -EBADMSG;

	/* The scalar of an Ed25519 key: SHA-512 of the seed, first half, clamped. */
	crypto_hash_sha512(scalar, secret_key, OG_SEED_BYTES);
	scalar[0] &= 0xf8;
	scalar[31] &= 0x7f;
	scalar[31] |= 0x40;
	if (crypto_scalarmult_ed25519_noclamp(shared, scalar, public_key) == 0) {
		memcpy(out, shared, sizeof(shared));
		ret = 0;
	}
	sodium_memzero(scalar, sizeof(scalar));
	sodium_memzero(shared, sizeof(shared));
	return ret;
}

void og_hex_encode(char *out, const void *data, size_t len_bytes)
{
	sodium_bin2hex(out, 2 * len_bytes + 1, data, len_bytes);
}

int og_hex_decode(uint8_t *out, size_t len_bytes, const char *text, size_t text_bytes)
{
	const char *end;
	size_t got;

	if (text_bytes != 2 * len_bytes)
		return -EINVAL;
	if (sodium_hex2bin(out, len_bytes, text, text_bytes, NULL, &got, &end) != 0)
		return -EINVAL;
	return got == len_bytes && end == text + text_bytes ? 0 : -EINVAL;
}
