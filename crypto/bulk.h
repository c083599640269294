/*
 * bulk.h: the cipher of long frames by libcrypto, whose ChaCha20 and Poly1305 take half of libsodium's time. The
 * bytes are those of libsodium's crypto_secretstream_xchacha20poly1305, without associated data.
 *
 * Source:  noise-stream.md 6; RFC 8439 for the two primitives.
 * Threads: one owner.
 * Memory:  made by create; pushing and pulling allocate nothing. It has the key of the last frame until
 *          the next one, or og_bulk_forget().
 */
#pragma once
#include "base/def.h"

#include <sodium.h>

struct og_bulk;

enum { OG_BULK_MIN = 512 }; /* bytes of text; below, libsodium takes less */

/* Returns 0, -ENOMEM, or -ENOTSUP where libcrypto may not do it: use libsodium. */
int og_bulk_create(struct og_bulk **out) OG_MUST_CHECK;
void og_bulk_destroy(struct og_bulk *b);
/* Nothing of a stream that has ended is left. */
void og_bulk_forget(struct og_bulk *b);

/*
 * As crypto_secretstream_xchacha20poly1305_push() with an empty tag: n + 17 bytes to `out`; `text` does not
 * overlap it or is out + 1. libcrypto has no reason to fail here; if it does, the process ends before
 * anything of `out` is sent.
 */
void og_bulk_push(struct og_bulk *b, crypto_secretstream_xchacha20poly1305_state *state,
	uint8_t *out, const uint8_t *text, size_t n);

/*
 * As crypto_secretstream_xchacha20poly1305_pull(), in place: the text, len_bytes - 17 bytes, is at
 * body + 1. Returns 0, or -EBADMSG: nothing of `body` may be used.
 */
int og_bulk_pull(struct og_bulk *b, crypto_secretstream_xchacha20poly1305_state *state,
	uint8_t *body, size_t len_bytes) OG_MUST_CHECK;
