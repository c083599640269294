/*
 * noise.h: Noise handshakes IK (over the DHT) and XX (inside a stream), with Ed25519 keys.
 *
 * Each side calls init, set_ephemeral before its first write, and then write and read in turn until
 * done. Any failed read or write ends the handshake: every later call is -EPROTO.
 *
 *   IK: initiator writes 1, responder 2.    XX: initiator writes 1 and 3, responder 2.
 *
 * Source:  Noise rev 34; noise-stream.md 1 and 2 (the group, HASHLEN 64, the HMAC block).
 * Units:   bytes.
 * Threads: a value; pure. Up to 4 scalar multiplications a message: on a crypto worker, see job.h.
 * Memory:  a plain value that may be copied: a client keeps one after message 1 and reads each
 *          reply that arrives with a copy. Holds secrets: og_noise_wipe() on every exit.
 */
#pragma once
#include "crypto/keys.h"
#include "crypto/noise_symmetric.h"

enum og_noise_pattern { OG_NOISE_IK, OG_NOISE_XX };

enum {
	OG_NOISE_MESSAGE_MAX = 65535,
	/* What a message of IK is longer than its payload. */
	OG_NOISE_IK_1_OVERHEAD = 96,
	OG_NOISE_IK_2_OVERHEAD = 48,
};

/* What is left of a handshake: the keys of the two directions as this side sees them. */
struct og_noise_keys {
	uint8_t tx[32];
	uint8_t rx[32];
	uint8_t hash[64];
};

struct og_noise {
	struct og_noise_symmetric sym;
	struct og_keypair s;      /* local static */
	struct og_keypair e;      /* local ephemeral */
	uint8_t rs[OG_KEY_BYTES]; /* remote static */
	uint8_t re[OG_KEY_BYTES]; /* remote ephemeral */
	uint8_t pattern;
	uint8_t step; /* messages handled */
	bool initiator;
	bool has_ephemeral;
	bool has_remote_static;
	bool failed;
};

/*
 * `remote_static` for an initiator of IK, else NULL. Returns 0, or -EINVAL when it is there or
 * missing against that rule.
 */
int og_noise_init(struct og_noise *n, enum og_noise_pattern p, bool initiator,
	const struct og_keypair *local, const uint8_t *remote_static, const uint8_t *prologue,
	size_t prologue_bytes) OG_MUST_CHECK;

/* Before the first write. The seed is 32 random bytes that are used for nothing else, ever. */
void og_noise_set_ephemeral(struct og_noise *n, const uint8_t seed[OG_SEED_BYTES]);

/*
 * The next message with `payload`. Returns 0, -EPROTO when it is not this side's turn, -ENOBUFS
 * when `cap_bytes` is too small and -EMSGSIZE when it would be longer than 65535 (n is unchanged
 * and may be used again), -EBADMSG when a key of the other side is no valid point. `out` and
 * `payload` do not overlap.
 */
int og_noise_write(struct og_noise *n, const uint8_t *payload, size_t payload_bytes, uint8_t *out,
	size_t cap_bytes, size_t *out_bytes) OG_MUST_CHECK;

/*
 * The other side's next message. Returns 0, -EPROTO when it is not its turn, -ENOBUFS when the
 * payload does not fit (n is unchanged), -EBADMSG for anything wrong with the bytes. `payload` and
 * `msg` do not overlap; `payload` may be NULL when `cap_bytes` is 0.
 */
int og_noise_read(struct og_noise *n, const uint8_t *msg, size_t msg_bytes, uint8_t *payload,
	size_t cap_bytes, size_t *payload_bytes) OG_MUST_CHECK;

bool og_noise_done(const struct og_noise *n);
/*
 * NULL until it is known and proven by a read that succeeded (an initiator of IK knows it from the
 * start).
 */
const uint8_t *og_noise_remote_static(const struct og_noise *n);
/* Only when done. */
void og_noise_split(const struct og_noise *n, struct og_noise_keys *out);
void og_noise_wipe(struct og_noise *n);
