/*
 * fuzz_secretstream.c: hostile header frames, frames, unordered messages and hole punching boxes.
 * The first byte chooses the scene.
 */
#include "crypto/holepunch.h"
#include "crypto/secretstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum scene { HEADER, FRAMES, FLIPPED, UNORDERED, HOLEPUNCH, NB_SCENES };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static uint8_t *copy_of(const uint8_t *data, size_t n)
{
	uint8_t *copy = malloc(n > 0 ? n : 1);

	if (n > 0)
		memcpy(copy, data, n);
	return copy;
}

static struct og_noise_keys fixed_keys(void)
{
	struct og_noise_keys keys;

	memset(&keys, 7, sizeof(keys));
	return keys;
}

static void start(struct og_secretstream_tx *tx, struct og_secretstream_rx *rx)
{
	static struct og_bulk *bulk;
	struct og_noise_keys keys = fixed_keys(); /* the same both ways */
	uint8_t header[OG_STREAM_HEADER_BYTES] = {9};
	uint8_t frame[OG_FRAME_HEADER_BYTES];

	og_secretstream_tx_init(tx, &keys, true, header, frame);
	OG_ASSERT(og_secretstream_rx_init(rx, &keys, false, frame) == 0);
	/* libsodium writes, libcrypto reads. */
	if (!bulk)
		OG_ASSERT(og_bulk_create(&bulk) == 0);
	rx->bulk = bulk;
}

static void header_scene(const uint8_t *data, size_t n)
{
	struct og_noise_keys keys = fixed_keys();
	struct og_secretstream_rx rx;
	int ret;

	if (n < OG_FRAME_HEADER_BYTES)
		return;
	ret = og_secretstream_rx_init(&rx, &keys, false, data);
	OG_ASSERT(ret == 0 || ret == -EBADMSG);
}

/* The input cut into frames as a stream would be. None can be genuine, but for one in 2^128. */
static void frames_scene(const uint8_t *data, size_t n)
{
	struct og_secretstream_tx tx;
	struct og_secretstream_rx rx;

	start(&tx, &rx);
	while (n >= OG_FRAME_LENGTH_BYTES) {
		size_t body_bytes = OG_MIN(og_frame_length_load(data), n - OG_FRAME_LENGTH_BYTES);
		uint8_t *body = copy_of(data + OG_FRAME_LENGTH_BYTES, body_bytes);
		uint8_t *plain;
		size_t plain_bytes;

		OG_ASSERT(og_secretstream_open(&rx, body, body_bytes, &plain, &plain_bytes) ==
			  -EBADMSG);
		free(body);
		data += OG_FRAME_LENGTH_BYTES + body_bytes;
		n -= OG_FRAME_LENGTH_BYTES + body_bytes;
	}
}

/* A genuine frame with the rest of the input as text; two bytes choose what is flipped in it. */
static void flipped_scene(const uint8_t *data, size_t n)
{
	struct og_secretstream_tx tx;
	struct og_secretstream_rx rx;
	size_t at, body_bytes, plain_bytes;
	uint8_t *frame, *plain;
	int want;

	if (n < 3)
		return;
	start(&tx, &rx);
	frame = malloc(n - 3 + OG_FRAME_OVERHEAD);
	OG_ASSERT(og_secretstream_seal(&tx, frame, data + 3, n - 3) == 0);
	body_bytes = n - 3 + OG_FRAME_BODY_MIN;
	at = (data[0] | (size_t)data[1] << 8) % body_bytes;
	frame[OG_FRAME_LENGTH_BYTES + at] ^= data[2];
	want = data[2] == 0 ? 0 : -EBADMSG;
	OG_ASSERT(og_secretstream_open(&rx, frame + OG_FRAME_LENGTH_BYTES, body_bytes, &plain,
			  &plain_bytes) == want);
	if (want == 0)
		OG_ASSERT(plain_bytes == n - 3 && memcmp(plain, data + 3, n - 3) == 0);
	free(frame);
}

static void unordered_scene(const uint8_t *data, size_t n)
{
	struct og_noise_keys keys = fixed_keys();
	struct og_unordered u;
	uint8_t *msg = copy_of(data, n);
	uint8_t *plain;
	size_t plain_bytes;

	og_unordered_init(&u, &keys, true, 3);
	OG_ASSERT(og_unordered_open(&u, msg, n, &plain, &plain_bytes) == -EBADMSG);
	free(msg);
}

static void holepunch_scene(const uint8_t *data, size_t n)
{
	struct og_noise_keys keys = fixed_keys();
	uint8_t secret[32];
	uint8_t *box = copy_of(data, n);
	uint8_t *plain;
	size_t plain_bytes;

	og_holepunch_secret(secret, &keys);
	OG_ASSERT(og_holepunch_open(box, n, secret, &plain, &plain_bytes) == -EBADMSG);
	free(box);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static void (*const scenes[NB_SCENES])(const uint8_t *, size_t) = {
		[HEADER] = header_scene,
		[FRAMES] = frames_scene,
		[FLIPPED] = flipped_scene,
		[UNORDERED] = unordered_scene,
		[HOLEPUNCH] = holepunch_scene,
	};

	if (len_bytes > 0 && og_crypto_init() == 0)
		scenes[data[0] % NB_SCENES](data + 1, len_bytes - 1);
	return 0;
}
