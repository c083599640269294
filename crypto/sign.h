/*
 * sign.h: the signatures of announcements and of mutable values.
 *
 * Source:  dht.md 7.3 and 7.5.
 * Threads: pure. A signature costs a scalar multiplication: on a crypto worker, see job.h.
 * Memory:  borrowed.
 */
#pragma once
#include "crypto/keys.h"

/*
 * `ns` is og_ns_announce or og_ns_unannounce, `peer_record` the encoded peer field exactly as in
 * the value, `refresh` 32 bytes or NULL. Signing returns 0; verifying 0 or -EBADMSG.
 */
int og_sign_announce(uint8_t sig[OG_SIGNATURE_BYTES], const struct og_keypair *kp,
	const uint8_t ns[32], const uint8_t target[32], const uint8_t node_id[32],
	const uint8_t token[32], const uint8_t *peer_record, size_t peer_record_bytes,
	const uint8_t *refresh) OG_MUST_CHECK;
int og_verify_announce(const uint8_t sig[OG_SIGNATURE_BYTES], const uint8_t pk[OG_KEY_BYTES],
	const uint8_t ns[32], const uint8_t target[32], const uint8_t node_id[32],
	const uint8_t token[32], const uint8_t *peer_record, size_t peer_record_bytes,
	const uint8_t *refresh) OG_MUST_CHECK;

/*
 * seq and the length are at most 2^53-1, the largest `uint`: else -EINVAL. Verifying: 0 or
 * -EBADMSG.
 */
int og_sign_mutable(uint8_t sig[OG_SIGNATURE_BYTES], const struct og_keypair *kp, uint64_t seq,
	const uint8_t *value, size_t value_bytes) OG_MUST_CHECK;
int og_verify_mutable(const uint8_t sig[OG_SIGNATURE_BYTES], const uint8_t pk[OG_KEY_BYTES],
	uint64_t seq, const uint8_t *value, size_t value_bytes) OG_MUST_CHECK;
