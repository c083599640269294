/*
 * text.h: text by pointer and length, and the characters of UTF-8.
 *
 * Source:  Unicode 15, 3.9, table 3-7: well-formed sequences, maximal parts of ill-formed ones.
 * Threads: values; no state.
 * Memory:  borrowed.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>
#include <string.h>

struct og_text {
	const char *data; /* not NUL-terminated */
	uint32_t len_bytes;
};

static inline bool og_text_is(struct og_text t, const char *s)
{
	return t.len_bytes == strlen(s) && memcmp(t.data, s, t.len_bytes) == 0;
}

static inline bool og_text_equal(struct og_text a, struct og_text b)
{
	return a.len_bytes == b.len_bytes &&
	       (a.len_bytes == 0 || memcmp(a.data, b.data, a.len_bytes) == 0);
}

/* As memcmp(), a shorter text before those that begin with it. */
static inline int og_text_compare(struct og_text a, struct og_text b)
{
	uint32_t n = OG_MIN(a.len_bytes, b.len_bytes);
	int c = n > 0 ? memcmp(a.data, b.data, n) : 0;

	return c != 0 ? c : (a.len_bytes > b.len_bytes) - (a.len_bytes < b.len_bytes);
}

/*
 * Looks at the first of n > 0 bytes: the length of the character that starts there, 0 if more bytes
 * may complete one, or minus the number of bytes that can never be part of one.
 */
int og_utf8_first(const char *p, size_t n);
/* The character of a sequence of `len` bytes that og_utf8_first() found well-formed. */
uint32_t og_utf8_decode(const char *p, int len);
/* Writes a character below U+110000. Returns its length. */
uint32_t og_utf8_encode(uint32_t c, char out[4]);

/* A growing buffer; start it with zeros, free(data) at the end. */
struct og_buf {
	char *data;
	size_t len;
	size_t cap;
};

/* Room for `more` bytes behind len. Returns 0 or -ENOMEM. */
int og_buf_reserve(struct og_buf *b, size_t more) OG_MUST_CHECK;
int og_buf_append(struct og_buf *b, const void *data, size_t len) OG_MUST_CHECK;
/* Append a file of at most max_bytes. Returns 0, -EFBIG, -ENOMEM, or why it cannot be read. */
int og_buf_read_file(struct og_buf *b, const char *path, size_t max_bytes) OG_MUST_CHECK;
