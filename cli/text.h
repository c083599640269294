/*
 * text.h: small readings of text that people write: sizes, durations, near misses.
 *
 * Threads: pure functions.
 * Memory:  none kept.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

enum { OG_TEXT_WORD_MAX = 64 }; /* longer words are never suggested */

/* "4GiB", "512MiB", "64K", "1000" (bytes). Binary units only. Returns 0, -EINVAL or -ERANGE. */
int og_text_size(uint64_t *bytes, const char *text) OG_MUST_CHECK;
/* "250ms", "10s", "5m", "1h". A bare number is refused: it says no unit. 0, -EINVAL or -ERANGE. */
int og_text_duration(uint64_t *ms, const char *text) OG_MUST_CHECK;
/* Decimal digits only. Returns 0, -EINVAL or -ERANGE. */
int og_text_uint(uint64_t *out, const char *text) OG_MUST_CHECK;

/* Insertions, deletions, substitutions and swaps of neighbours from `a` to `b`. */
uint32_t og_text_distance(const char *a, const char *b);
/* The word nearest to `word` among `nb` words, or NULL when none is near enough to be meant. */
const char *og_text_nearest(const char *word, const char *const *words, size_t nb);

/* Well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates). */
bool og_text_is_utf8(const char *text, size_t len_bytes);
/* Copies with truncation at a whole character; always NUL-terminated. */
void og_text_copy(char *out, size_t cap_bytes, const char *text);

/* "1.5 GiB" into `out`, which it returns. */
const char *og_text_format_bytes(char out[32], uint64_t bytes);
/* "350 ms", "12.3 s", "2 h 5 min" into `out`, which it returns. */
const char *og_text_format_ms(char out[32], uint64_t ms);
