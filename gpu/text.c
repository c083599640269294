#include "gpu/text.h"

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
