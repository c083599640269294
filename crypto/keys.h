/*
 * keys.h: Ed25519 key pairs, the file that keeps one, Diffie-Hellman with them, and hex.
 *
 * A key file is the 64 hex digits of the seed and a newline. It is a secret: mode 0600, owned by
 * the user that runs the node or by root, a regular file, never reached through a symlink as its
 * last step.
 *
 * Source:  RFC 8032; noise-stream.md 1.
 * Threads: pure, but og_crypto_init() comes first, once, before any thread is started.
 * Memory:  the caller's. A pair that lives long belongs into og_keypair_alloc(); all are wiped by
 *          og_keypair_wipe().
 */
#pragma once
#include "base/def.h"

struct og_rand;

enum { OG_KEY_BYTES = 32, OG_SEED_BYTES = 32, OG_SECRET_KEY_BYTES = 64, OG_SIGNATURE_BYTES = 64 };

struct og_keypair {
	uint8_t public_key[OG_KEY_BYTES];
	uint8_t secret_key[OG_SECRET_KEY_BYTES]; /* seed, then the public key */
};

/* Returns 0, or -EIO when the crypto library cannot start. More calls than one are harmless. */
int og_crypto_init(void) OG_MUST_CHECK;

void og_keypair_from_seed(struct og_keypair *kp, const uint8_t seed[OG_SEED_BYTES]);
void og_keypair_wipe(struct og_keypair *kp);

/*
 * A pair in pages of its own, between guard pages, locked and left out of core dumps where the
 * system allows. Returns 0 or -ENOMEM. og_keypair_free() wipes; NULL is fine.
 */
int og_keypair_alloc(struct og_keypair **out) OG_MUST_CHECK;
void og_keypair_free(struct og_keypair *kp);

/*
 * Read a key file. Returns 0, -ELOOP for a symlink, -EINVAL when it is no regular file, -EPERM when
 * it belongs to another user, -EACCES when group or world have any right to it (or it cannot be
 * opened), -EBADMSG when it holds anything but a seed, or the error of open or read.
 */
int og_keypair_load(struct og_keypair *out, const char *path) OG_MUST_CHECK;

/*
 * Make a new pair and its file: written beside `path`, synced, and put in place in one step, so
 * that the file is never seen half written. Returns 0, -EEXIST when there is a file already (it
 * stays as it is), -ENAMETOOLONG, or the error of the system call.
 */
int og_keypair_create(struct og_keypair *out, const char *path, struct og_rand *rand) OG_MUST_CHECK;

/*
 * Shared secret of two pairs in the Edwards group, not hashed: the scalar of `secret_key` times the
 * point `public_key`. Returns 0, or -EBADMSG for a point that is not canonical, not on the curve or
 * not in the prime-order subgroup. `out` is written only on success.
 */
int og_dh(uint8_t out[32], const uint8_t secret_key[OG_SECRET_KEY_BYTES],
	const uint8_t public_key[OG_KEY_BYTES]) OG_MUST_CHECK;

/* Lower case, with a final NUL: `out` has room for 2 * len_bytes + 1. In constant time. */
void og_hex_encode(char *out, const void *data, size_t len_bytes);
/* Exactly 2 * len_bytes digits of either case. Returns 0 or -EINVAL. In constant time. */
int og_hex_decode(
	uint8_t *out, size_t len_bytes, const char *text, size_t text_bytes) OG_MUST_CHECK;
