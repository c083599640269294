#include "cluster/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 1024 };

void og_line_init(struct og_line_buffer *b, size_t max_bytes)
{
	memset(b, 0, sizeof(*b));
	b->max_bytes = max_bytes;
}

void og_line_fini(struct og_line_buffer *b)
{
	free(b->data);
	b->data = NULL;
	b->used_bytes = b->cap_bytes = 0;
}

/* Room for `n` more bytes and a NUL. */
static int reserve(struct og_line_buffer *b, size_t n)
{
	size_t cap = b->cap_bytes ? b->cap_bytes : FIRST_BYTES;
	char *data;

	while (cap < b->used_bytes + n + 1)
		cap *= 2;
	if (cap == b->cap_bytes)
		return 0;
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap_bytes = cap;
	return 0;
}

static int append(struct og_line_buffer *b, const char *data, size_t n)
{
	int ret;

	if (b->skipping)
		return 0;
	if (n > b->max_bytes - b->used_bytes) {
		b->skipping = true;
		b->skipped++;
		b->used_bytes = 0;
		return 0;
	}
	ret = reserve(b, n);
	if (ret < 0)
		return ret;
	memcpy(b->data + b->used_bytes, data, n);
	b->used_bytes += n;
	return 0;
}

static bool finish(struct og_line_buffer *b, bool (*fn)(void *, char *, size_t), void *ctx)
{
	size_t len = b->used_bytes;
	bool skipped = b->skipping;

	b->used_bytes = 0;
	b->skipping = false;
	if (skipped || len == 0)
		return true;
	if (b->data[len - 1] == '\r' && --len == 0)
		return true;
	b->data[len] = '\0';
	return fn(ctx, b->data, len);
}

int og_line_feed(struct og_line_buffer *b, const void *data, size_t n,
	bool (*fn)(void *ctx, char *line, size_t len), void *ctx)
{
	const char *p = data;

	while (n > 0) {
		const char *newline = memchr(p, '\n', n);
		size_t part = newline ? (size_t)(newline - p) : n;
		int ret = append(b, p, part);

		if (ret < 0)
			return ret;
		if (!newline)
			return 0;
		p += part + 1;
		n -= part + 1;
		if (!finish(b, fn, ctx))
			return 0;
	}
	return 0;
}
