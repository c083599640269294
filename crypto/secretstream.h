/*
 * secretstream.h: the frames of an encrypted stream, and the box of its unordered messages.
 *
 *   header frame   56 as le24 | 32-byte id of the sender's role | 24-byte header       59 bytes
 *   frame          length as le24 | encrypted tag byte | ciphertext | 16-byte MAC      n + 20 bytes
 *   message        8-byte counter | 16-byte MAC | ciphertext                           n + 24 bytes
 *
 * Source:  noise-stream.md 5, 6 and 8; libsodium's secretstream_xchacha20poly1305 and secretbox.
 * Units:   bytes.
 * Threads: values, one owner each; pure.
 * Memory:  the caller's buffers; opening works in place. Wipe after use.
 */
#pragma once
#include "crypto/bulk.h"
#include "crypto/noise.h"

#include <sodium.h>

enum {
	OG_FRAME_LENGTH_BYTES = 3,
	OG_FRAME_OVERHEAD = 20,
	OG_FRAME_BODY_MIN = 17, /* tag byte and MAC: what the length of an empty frame says */
	OG_FRAME_HEADER_BYTES = 59,
	OG_FRAME_MAX = 0xffffff, /* the largest length */
	OG_FRAME_PLAIN_MAX = OG_FRAME_MAX - OG_FRAME_BODY_MIN,
	OG_STREAM_HEADER_BYTES = 24,
	OG_STREAM_ID_BYTES = 32,
	OG_UNORDERED_OVERHEAD = 24,
};

/* `bulk` is for long frames: NULL after init, set by who has one; the bytes are the same. */
struct og_secretstream_tx {
	crypto_secretstream_xchacha20poly1305_state state;
	struct og_bulk *bulk;
};

struct og_secretstream_rx {
	crypto_secretstream_xchacha20poly1305_state state;
	struct og_bulk *bulk;
};

/* The id that the initiator or the responder of a handshake puts into its header frame. */
void og_stream_role_id(
	uint8_t id[OG_STREAM_ID_BYTES], const struct og_noise_keys *keys, bool initiator);

/*
 * Start sending: fills `frame`, the first bytes to send. `initiator` is the role of this side;
 * `header` is 24 random bytes, drawn by the caller for this stream alone.
 */
void og_secretstream_tx_init(struct og_secretstream_tx *tx, const struct og_noise_keys *keys,
	bool initiator, const uint8_t header[OG_STREAM_HEADER_BYTES],
	uint8_t frame[OG_FRAME_HEADER_BYTES]);

/*
 * Start receiving with the other side's header frame, length included. `initiator` is the role of
 * this side. Returns 0, or -EBADMSG when the length or the id is wrong: close the stream. The
 * header itself proves nothing yet; the first frame that opens does.
 */
int og_secretstream_rx_init(struct og_secretstream_rx *rx, const struct og_noise_keys *keys,
	bool initiator, const uint8_t frame[OG_FRAME_HEADER_BYTES]) OG_MUST_CHECK;

/*
 * Write the whole frame, n + OG_FRAME_OVERHEAD bytes. `plain` either does not overlap `frame` or is
 * exactly frame + 4. Returns 0, or -EMSGSIZE when n is over OG_FRAME_PLAIN_MAX.
 */
int og_secretstream_seal(struct og_secretstream_tx *tx, uint8_t *frame, const uint8_t *plain,
	size_t n) OG_MUST_CHECK;

/*
 * Open what follows a frame's length, in place; `*plain` points into `body` and may be empty (a
 * keepalive). Returns 0, or -EBADMSG: close the stream, nothing of `body` may be used.
 */
int og_secretstream_open(struct og_secretstream_rx *rx, uint8_t *body, size_t body_bytes,
	uint8_t **plain, size_t *plain_bytes) OG_MUST_CHECK;

void og_secretstream_tx_wipe(struct og_secretstream_tx *tx);
void og_secretstream_rx_wipe(struct og_secretstream_rx *rx);

static inline uint32_t og_frame_length_load(const uint8_t p[OG_FRAME_LENGTH_BYTES])
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}

static inline void og_frame_length_store(uint8_t p[OG_FRAME_LENGTH_BYTES], uint32_t length)
{
	p[0] = (uint8_t)length;
	p[1] = (uint8_t)(length >> 8);
	p[2] = (uint8_t)(length >> 16);
}

/* Messages beside the stream: each datagram alone, in any order. */
struct og_unordered {
	uint8_t tx_key[32];
	uint8_t rx_key[32];
	uint64_t tx_counter;
	uint64_t tx_start; /* coming back here would use a nonce twice */
	uint64_t rx_last;  /* the highest counter that opened */
	uint64_t rx_seen;  /* bit i: rx_last - i opened; 0 before the first */
};

/* `counter` is random; `initiator` is the role of this side. */
void og_unordered_init(
	struct og_unordered *u, const struct og_noise_keys *keys, bool initiator, uint64_t counter);

/*
 * Write n + OG_UNORDERED_OVERHEAD bytes that do not overlap `plain`. Returns 0, or -EOVERFLOW when
 * all counters are used: close the stream.
 */
int og_unordered_seal(
	struct og_unordered *u, uint8_t *out, const uint8_t *plain, size_t n) OG_MUST_CHECK;

/*
 * Open in place. Returns 0, -EBADMSG when it is too short or its MAC is wrong, -EALREADY when this
 * message opened before, -ERANGE when it is 64 or more messages older than the newest. Drop those.
 */
int og_unordered_open(struct og_unordered *u, uint8_t *msg, size_t msg_bytes, uint8_t **plain,
	size_t *plain_bytes) OG_MUST_CHECK;

void og_unordered_wipe(struct og_unordered *u);
