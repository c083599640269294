#include "crypto/secretstream.h"

#include "crypto/namespaces.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { HEADER_LENGTH = OG_STREAM_ID_BYTES + OG_STREAM_HEADER_BYTES };

static_assert(OG_FRAME_BODY_MIN == crypto_secretstream_xchacha20poly1305_ABYTES, "frame");
static_assert(
	OG_STREAM_HEADER_BYTES == crypto_secretstream_xchacha20poly1305_HEADERBYTES, "header");
static_assert(OG_FRAME_HEADER_BYTES == OG_FRAME_LENGTH_BYTES + HEADER_LENGTH, "header frame");
static_assert(OG_FRAME_OVERHEAD == OG_FRAME_LENGTH_BYTES + OG_FRAME_BODY_MIN, "overhead");

static const uint8_t *role_namespace(bool initiator)
{
	return initiator ? og_ns_stream_initiator : og_ns_stream_responder;
}

void og_stream_role_id(
	uint8_t id[OG_STREAM_ID_BYTES], const struct og_noise_keys *keys, bool initiator)
{
	struct og_span part = {role_namespace(initiator), OG_HASH_BYTES};

	og_blake2b_keyed(id, keys->hash, sizeof(keys->hash), &part, 1);
}

void og_secretstream_tx_init(struct og_secretstream_tx *tx, const struct og_noise_keys *keys,
	bool initiator, const uint8_t header[OG_STREAM_HEADER_BYTES],
	uint8_t frame[OG_FRAME_HEADER_BYTES])
{
	/*
	 * init_pull derives the same state as init_push from a given header; push would draw the
	 * header itself, and randomness comes from the caller here.
	 */
	crypto_secretstream_xchacha20poly1305_init_pull(&tx->state, header, keys->tx);
	tx->bulk = NULL;
	og_frame_length_store(frame, HEADER_LENGTH);
	og_stream_role_id(frame + OG_FRAME_LENGTH_BYTES, keys, initiator);
	memcpy(frame + OG_FRAME_LENGTH_BYTES + OG_STREAM_ID_BYTES, header, OG_STREAM_HEADER_BYTES);
}

int og_secretstream_rx_init(struct og_secretstream_rx *rx, const struct og_noise_keys *keys,
	bool initiator, const uint8_t frame[OG_FRAME_HEADER_BYTES])
{
	uint8_t id[OG_STREAM_ID_BYTES];
	const uint8_t *body = frame + OG_FRAME_LENGTH_BYTES;

	if (og_frame_length_load(frame) != HEADER_LENGTH)
		return -EBADMSG;
	og_stream_role_id(id, keys, !initiator);
	if (sodium_memcmp(id, body, sizeof(id)) != 0)
		return -EBADMSG;
	crypto_secretstream_xchacha20poly1305_init_pull(
		&rx->state, body + OG_STREAM_ID_BYTES, keys->rx);
	rx->bulk = NULL;
	return 0;
}

int og_secretstream_seal(
	struct og_secretstream_tx *tx, uint8_t *frame, const uint8_t *plain, size_t n)
{
	if (n > OG_FRAME_PLAIN_MAX)
		return -EMSGSIZE;
	og_frame_length_store(frame, (uint32_t)n + OG_FRAME_BODY_MIN);
	if (tx->bulk && n >= OG_BULK_MIN)
		og_bulk_push(tx->bulk, &tx->state, frame + OG_FRAME_LENGTH_BYTES, plain, n);
	else
		crypto_secretstream_xchacha20poly1305_push(&tx->state,
			frame + OG_FRAME_LENGTH_BYTES, NULL, plain, n, NULL, 0,
			crypto_secretstream_xchacha20poly1305_TAG_MESSAGE);
	return 0;
}

int og_secretstream_open(struct og_secretstream_rx *rx, uint8_t *body, size_t body_bytes,
	uint8_t **plain, size_t *plain_bytes)
{
	uint8_t tag; /* rekeys inside; the reference looks at it no further */

	if (body_bytes < OG_FRAME_BODY_MIN || body_bytes > OG_FRAME_MAX)
		return -EBADMSG;
	*plain = body + 1;
	*plain_bytes = body_bytes - OG_FRAME_BODY_MIN;
	if (rx->bulk && *plain_bytes >= OG_BULK_MIN)
		return og_bulk_pull(rx->bulk, &rx->state, body, body_bytes);
	if (crypto_secretstream_xchacha20poly1305_pull(
		    &rx->state, body + 1, NULL, &tag, body, body_bytes, NULL, 0) != 0)
		return -EBADMSG;
	return 0;
}

void og_secretstream_tx_wipe(struct og_secretstream_tx *tx)
{
	sodium_memzero(tx, sizeof(*tx));
}

void og_secretstream_rx_wipe(struct og_secretstream_rx *rx)
{
	sodium_memzero(rx, sizeof(*rx));
}
