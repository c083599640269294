#include "gpu/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int og_utf8_first(const char *text, size_t n)
{
	const uint8_t *p = (const uint8_t *)text;
	/* Bounds of the second byte keep out overlong forms, surrogates and beyond U+10FFFF. */
	uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
	uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
	uint32_t len = p[0] < 0x80   ? 1
		       : p[0] < 0xc2 ? 0
		       : p[0] < 0xe0 ? 2
		       : p[0] < 0xf0 ? 3
		       : p[0] < 0xf5 ? 4
				     : 0;

	if (len == 0)
		return -1;
	for (uint32_t i = 1; i < len; i++) {
		if (i == n)
			return 0;
		if (p[i] < (i == 1 ? low : 0x80) || p[i] > (i == 1 ? high : 0xbf))
			return -(int)i;
	}
	return (int)len;
}

uint32_t og_utf8_decode(const char *text, int len)
{
	const uint8_t *p = (const uint8_t *)text;
	uint32_t c = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));

	for (int i = 1; i < len; i++)
		c = c << 6 | (p[i] & 0x3f);
	return c;
}

uint32_t og_utf8_encode(uint32_t c, char out[4])
{
	uint32_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	if (len == 1) {
		out[0] = (char)c;
		return 1;
	}
	for (uint32_t i = len - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)((0xf00u >> len) | c);
	return len;
}

int og_buf_reserve(struct og_buf *b, size_t more)
{
	size_t need, cap;
	char *data;

	if (__builtin_add_overflow(b->len, more, &need) || need > SIZE_MAX / 2)
		return -ENOMEM;
	if (need <= b->cap)
		return 0;
	cap = OG_MAX(OG_MAX(need, 2 * b->cap), (size_t)256);
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

int og_buf_append(struct og_buf *b, const void *data, size_t len)
{
	int ret = og_buf_reserve(b, len);

	if (ret == 0 && len > 0) {
		memcpy(b->data + b->len, data, len);
		b->len += len;
	}
	return ret;
}

int og_buf_read_file(struct og_buf *b, const char *path, size_t max_bytes)
{
	enum { CHUNK = 1024 * 1024 };
	size_t total = 0;
	ssize_t n = -1;
	int ret = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (ret == 0 && n != 0) {
		ret = og_buf_reserve(b, CHUNK);
		n = ret == 0 ? read(fd, b->data + b->len, CHUNK) : 0;
		if (n < 0 && errno != EINTR)
			ret = -errno;
		b->len += n > 0 ? (size_t)n : 0;
		total += n > 0 ? (size_t)n : 0;
		if (total > max_bytes)
			ret = -EFBIG;
	}
	close(fd);
	return ret;
}
