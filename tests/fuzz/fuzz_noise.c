/*
 * fuzz_noise.c: hostile Noise messages. The first byte chooses the scene, the rest is the message
 * (or, in the last scene, the payload of a handshake that must succeed).
 */
#include "crypto/namespaces.h"
#include "crypto/noise.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum scene { IK_1, IK_2, XX_1, XX_2, XX_3, HONEST, NB_SCENES };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

/*
 * The keys of the vectors "dht-ik" and "stream-xx", so that their messages are seeds that get far.
 */
static struct og_keypair keypair(uint8_t byte)
{
	uint8_t seed[OG_SEED_BYTES];
	struct og_keypair kp;

	memset(seed, byte, sizeof(seed));
	og_keypair_from_seed(&kp, seed);
	return kp;
}

static void both(struct og_noise *a, struct og_noise *b, enum og_noise_pattern p)
{
	struct og_keypair a_static = keypair(0x11), b_static = keypair(0x33);
	const uint8_t *prologue = p == OG_NOISE_IK ? og_ns_peer_handshake : NULL;
	size_t prologue_bytes = prologue ? OG_HASH_BYTES : 0;
	uint8_t seed[OG_SEED_BYTES];

	OG_ASSERT(
		og_noise_init(a, p, true, &a_static, p == OG_NOISE_IK ? b_static.public_key : NULL,
			prologue, prologue_bytes) == 0);
	OG_ASSERT(og_noise_init(b, p, false, &b_static, NULL, prologue, prologue_bytes) == 0);
	memset(seed, 0x22, sizeof(seed));
	og_noise_set_ephemeral(a, seed);
	memset(seed, 0x44, sizeof(seed));
	og_noise_set_ephemeral(b, seed);
}

static void honest_message(
	struct og_noise *from, struct og_noise *to, const uint8_t *payload, size_t n)
{
	static uint8_t msg[OG_NOISE_MESSAGE_MAX], got[OG_NOISE_MESSAGE_MAX];
	size_t msg_bytes, got_bytes;

	OG_ASSERT(og_noise_write(from, payload, n, msg, sizeof(msg), &msg_bytes) == 0);
	OG_ASSERT(og_noise_read(to, msg, msg_bytes, got, sizeof(got), &got_bytes) == 0);
	OG_ASSERT(got_bytes == n && (n == 0 || memcmp(got, payload, n) == 0));
}

static void hostile_message(struct og_noise *to, const uint8_t *msg, size_t n)
{
	uint8_t *payload = malloc(n > 0 ? n : 1);
	struct og_noise before = *to;
	size_t payload_bytes = 0;
	int ret = og_noise_read(to, msg, n, payload, n, &payload_bytes);

	OG_ASSERT(ret == 0 || ret == -EBADMSG);
	OG_ASSERT(to->step == before.step + (ret == 0));
	if (ret < 0)
		OG_ASSERT(og_noise_read(to, msg, n, payload, n, &payload_bytes) == -EPROTO);
	else
		OG_ASSERT(payload_bytes <= n);
	free(payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct og_noise a, b;
	enum scene scene;

	if (len_bytes == 0 || og_crypto_init() < 0)
		return 0;
	scene = data[0] % NB_SCENES;
	data++;
	len_bytes--;
	both(&a, &b, scene == XX_1 || scene == XX_2 || scene == XX_3 ? OG_NOISE_XX : OG_NOISE_IK);
	switch (scene) {
	case IK_1:
	case XX_1:
		hostile_message(&b, data, len_bytes);
		break;
	case IK_2:
		honest_message(&a, &b, (const uint8_t *)"\x01\x1a", 2);
		hostile_message(&a, data, len_bytes);
		break;
	case XX_2:
		honest_message(&a, &b, NULL, 0);
		hostile_message(&a, data, len_bytes);
		break;
	case XX_3:
		honest_message(&a, &b, NULL, 0);
		honest_message(&b, &a, NULL, 0);
		hostile_message(&b, data, len_bytes);
		break;
	default:
		len_bytes = OG_MIN(len_bytes, OG_NOISE_MESSAGE_MAX - OG_NOISE_IK_1_OVERHEAD);
		honest_message(&a, &b, data, len_bytes);
		honest_message(&b, &a, data, len_bytes / 2);
		OG_ASSERT(og_noise_done(&a) && og_noise_done(&b));
	}
	return 0;
}
