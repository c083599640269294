#include "crypto/bulk.h"

#include "base/bytes.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum {
	BLOCK = 64,
	COUNTER_BYTES = 4, /* of the nonce; the rest is inonce */
	INONCE_BYTES = 8,
	MAC_BYTES = 16,
	TAIL_BYTES = 15 + 8 + 8,
	PIECE = 4096, /* encrypted and authenticated while the nearest cache has it; whole blocks */
};

struct og_bulk {
	EVP_CIPHER_CTX *cipher;
	EVP_MAC_CTX *mac;
};

void og_bulk_destroy(struct og_bulk *b)
{
	if (!b)
		return;
	EVP_MAC_CTX_free(b->mac); /* both wipe what they had */
	EVP_CIPHER_CTX_free(b->cipher);
	free(b);
}

static EVP_MAC_CTX *new_mac(void)
{
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "POLY1305", NULL);
	EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;

	EVP_MAC_free(mac); /* the context has its own reference */
	return ctx;
}

static int set_keys(struct og_bulk *b, const uint8_t key[32], const uint8_t nonce[16])
{
	return EVP_EncryptInit_ex2(b->cipher, NULL, key, nonce, NULL) == 1 ? 0 : -EIO;
}

int og_bulk_create(struct og_bulk **out)
{
	struct og_bulk *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->cipher = EVP_CIPHER_CTX_new();
	b->mac = new_mac();
	if (!b->cipher || !b->mac ||
		EVP_EncryptInit_ex2(b->cipher, EVP_chacha20(), NULL, NULL, NULL) != 1) {
		og_bulk_destroy(b);
		return -ENOTSUP;
	}
	*out = b;
	return 0;
}

void og_bulk_forget(struct og_bulk *b)
{
	static const uint8_t zeros[32];

	(void)set_keys(b, zeros, zeros);
	(void)EVP_MAC_init(b->mac, zeros, sizeof(zeros), NULL);
}

static bool cipher(struct og_bulk *b, uint8_t *out, const uint8_t *in, size_t n)
{
	int len;

	return EVP_EncryptUpdate(b->cipher, out, &len, in, (int)n) == 1 && len == (int)n;
}

static bool authenticate(struct og_bulk *b, const uint8_t *data, size_t n)
{
	return EVP_MAC_update(b->mac, data, n) == 1;
}

/*
 * Begins with block 0, the key of the MAC, and block 1, which hides the tag byte. `*tag` is sent to or
 * received from the peer; all of its block is authenticated as it is on the wire.
 */
static bool begin(struct og_bulk *b, const crypto_secretstream_xchacha20poly1305_state *state,
	uint8_t *tag, bool sealing)
{
	uint8_t nonce[16] = {0}, blocks[2 * BLOCK] = {0};
	uint8_t *block = blocks + BLOCK, other; /* the tag byte, the other way */
	bool good;

	/* libcrypto's nonce begins with the number of the first block. */
	memcpy(nonce + 4, state->nonce, sizeof(state->nonce));
	block[0] = *tag;
	good = set_keys(b, state->k, nonce) == 0 && cipher(b, blocks, blocks, sizeof(blocks));
	other = block[0];
	if (!sealing)
		block[0] = *tag;
	*tag = other;
	good = good && EVP_MAC_init(b->mac, blocks, 32, NULL) == 1 && authenticate(b, block, BLOCK);
	sodium_memzero(blocks, sizeof(blocks));
	return good;
}

static bool finish(struct og_bulk *b, uint8_t mac[MAC_BYTES], size_t n)
{
	uint8_t tail[TAIL_BYTES] = {0};
	size_t padding = n % 16, len;

	og_store_le64(tail + padding + 8, BLOCK + n);
	return authenticate(b, tail, padding + 16) &&
	       EVP_MAC_final(b->mac, mac, &len, MAC_BYTES) == 1 && len == MAC_BYTES;
}

/* The state of the next frame. */
static void advance(crypto_secretstream_xchacha20poly1305_state *state,
	const uint8_t mac[MAC_BYTES], uint8_t tag)
{
	for (int i = 0; i < INONCE_BYTES; i++)
		state->nonce[COUNTER_BYTES + i] ^= mac[i];
	sodium_increment(state->nonce, COUNTER_BYTES);
	if (tag & crypto_secretstream_xchacha20poly1305_TAG_REKEY ||
		sodium_is_zero(state->nonce, COUNTER_BYTES))
		crypto_secretstream_xchacha20poly1305_rekey(state);
}

void og_bulk_push(struct og_bulk *b, crypto_secretstream_xchacha20poly1305_state *state,
	uint8_t *out, const uint8_t *text, size_t n)
{
	uint8_t *sealed = out + 1, tag = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE;
	bool good = begin(b, state, &tag, true);

	out[0] = tag;
	for (size_t i = 0, piece; good && i < n; i += piece) {
		piece = OG_MIN(n - i, (size_t)PIECE);
		good = cipher(b, sealed + i, text + i, piece) && authenticate(b, sealed + i, piece);
	}
	good = good && finish(b, sealed + n, n);
	OG_ASSERT(good);
	advance(state, sealed + n, crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
}

int og_bulk_pull(struct og_bulk *b, crypto_secretstream_xchacha20poly1305_state *state,
	uint8_t *body, size_t len_bytes)
{
	size_t n = len_bytes - crypto_secretstream_xchacha20poly1305_ABYTES;
	uint8_t *text = body + 1, tag = body[0], mac[MAC_BYTES];
	bool good = begin(b, state, &tag, false);

	/* What turns out not to be authentic has been decrypted by then, and goes no further. */
	for (size_t i = 0, piece; good && i < n; i += piece) {
		piece = OG_MIN(n - i, (size_t)PIECE);
		good = authenticate(b, text + i, piece) && cipher(b, text + i, text + i, piece);
	}
	if (!good || !finish(b, mac, n) || sodium_memcmp(mac, text + n, sizeof(mac)) != 0)
		return -EBADMSG;
	advance(state, mac, tag);
	return 0;
}
