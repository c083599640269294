#include "crypto/holepunch.h"

#include "crypto/namespaces.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

static_assert(OG_HOLEPUNCH_NONCE_BYTES == crypto_secretbox_NONCEBYTES, "nonce");
static_assert(
	OG_HOLEPUNCH_OVERHEAD == crypto_secretbox_NONCEBYTES + crypto_secretbox_MACBYTES, "box");

void og_holepunch_secret(uint8_t secret[32], const struct og_noise_keys *keys)
{
	struct og_span part = {og_ns_peer_holepunch, OG_HASH_BYTES};

	og_blake2b_keyed(secret, keys->hash, sizeof(keys->hash), &part, 1);
}

void og_holepunch_seal(uint8_t *out, const uint8_t secret[32],
	const uint8_t nonce[OG_HOLEPUNCH_NONCE_BYTES], const uint8_t *plain, size_t n)
{
	memcpy(out, nonce, OG_HOLEPUNCH_NONCE_BYTES);
	crypto_secretbox_easy(out + OG_HOLEPUNCH_NONCE_BYTES, plain, n, nonce, secret);
}

int og_holepunch_open(uint8_t *box, size_t box_bytes, const uint8_t secret[32], uint8_t **plain,
	size_t *plain_bytes)
{
	uint8_t *text;

	if (box_bytes < OG_HOLEPUNCH_OVERHEAD)
		return -EBADMSG;
	text = box + OG_HOLEPUNCH_OVERHEAD;
	if (crypto_secretbox_open_detached(text, text, box + OG_HOLEPUNCH_NONCE_BYTES,
		    box_bytes - OG_HOLEPUNCH_OVERHEAD, box, secret) != 0)
		return -EBADMSG;
	*plain = text;
	*plain_bytes = box_bytes - OG_HOLEPUNCH_OVERHEAD;
	return 0;
}
