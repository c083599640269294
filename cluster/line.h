/*
 * line.h: cuts a byte stream into lines, whatever the pieces it comes in.
 *
 * Source:  cluster.md 2: bytes up to 0x0A; an unterminated last line does not count.
 * Threads: one owner.
 * Memory:  grows with the bytes that arrive, to `max_bytes`; a longer line is skipped to its end.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

struct og_line_buffer {
	char *data;
	size_t used_bytes, cap_bytes, max_bytes;
	bool skipping;
	uint64_t skipped; /* lines over the limit */
};

void og_line_init(struct og_line_buffer *b, size_t max_bytes);
void og_line_fini(struct og_line_buffer *b);

/*
 * Feed `n` bytes; `fn` gets each complete line without its newline (and without a `\r` before it),
 * NUL-terminated behind its length. Empty lines are not handed out. Stops early when fn returns
 * false. Returns 0 or -ENOMEM.
 */
int og_line_feed(struct og_line_buffer *b, const void *data, size_t n,
	bool (*fn)(void *ctx, char *line, size_t len), void *ctx) OG_MUST_CHECK;
