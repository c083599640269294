#include "cli/text.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static int parse_number(uint64_t *out, const char *text, const char **rest)
{
	uint64_t v = 0;
	const char *p = text;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++) {
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return -ERANGE;
	}
	*out = v;
	*rest = p;
	return 0;
}

static int parse_with_unit(uint64_t *out, const char *text, const struct unit *units, size_t nb)
{
	const char *rest;
	uint64_t v;
	int ret = parse_number(&v, text, &rest);

	if (ret < 0)
		return ret;
	while (*rest == ' ')
		rest++;
	for (size_t i = 0; i < nb; i++) {
		if (strcasecmp(rest, units[i].name) != 0)
			continue;
		if (__builtin_mul_overflow(v, units[i].factor, &v))
			return -ERANGE;
		*out = v;
		return 0;
	}
	return -EINVAL;
}

int og_text_size(uint64_t *bytes, const char *text)
{
	static const struct unit units[] = {
		{"", 1},
		{"B", 1},
		{"K", 1ull << 10},
		{"KiB", 1ull << 10},
		{"M", 1ull << 20},
		{"MiB", 1ull << 20},
		{"G", 1ull << 30},
		{"GiB", 1ull << 30},
		{"T", 1ull << 40},
		{"TiB", 1ull << 40},
	};

	return parse_with_unit(bytes, text, units, OG_ARRAY_LEN(units));
}

int og_text_duration(uint64_t *ms, const char *text)
{
	static const struct unit units[] = {
		{"ms", 1},
		{"s", 1000},
		{"m", 60 * 1000},
		{"min", 60 * 1000},
		{"h", 3600 * 1000},
		{"d", 86400 * 1000},
	};

	if (strcmp(text, "0") == 0) {
		*ms = 0;
		return 0;
	}
	return parse_with_unit(ms, text, units, OG_ARRAY_LEN(units));
}

int og_text_uint(uint64_t *out, const char *text)
{
	const char *rest;
	uint64_t v;
	int ret = parse_number(&v, text, &rest);

	if (ret < 0)
		return ret;
	if (*rest != '\0')
		return -EINVAL;
	*out = v;
	return 0;
}

uint32_t og_text_distance(const char *a, const char *b)
{
	uint32_t row[3][OG_TEXT_WORD_MAX + 1];
	size_t na = strlen(a), nb = strlen(b);

	if (na > OG_TEXT_WORD_MAX || nb > OG_TEXT_WORD_MAX)
		return UINT32_MAX;
	for (size_t j = 0; j <= nb; j++)
		row[0][j] = (uint32_t)j;
	for (size_t i = 1; i <= na; i++) {
		uint32_t *cur = row[i % 3], *prev = row[(i - 1) % 3], *before = row[(i + 1) % 3];

		cur[0] = (uint32_t)i;
		for (size_t j = 1; j <= nb; j++) {
			uint32_t best = prev[j - 1] + (a[i - 1] != b[j - 1]);

			best = OG_MIN(best, prev[j] + 1);
			best = OG_MIN(best, cur[j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = OG_MIN(best, before[j - 2] + 1);
			cur[j] = best;
		}
	}
	return row[na % 3][nb];
}

const char *og_text_nearest(const char *word, const char *const *words, size_t nb)
{
	uint32_t limit = (uint32_t)(strlen(word) / 3) + 1, best = limit + 1;
	const char *found = NULL;

	for (size_t i = 0; i < nb; i++) {
		uint32_t d = og_text_distance(word, words[i]);

		if (d < best && d < strlen(words[i])) {
			best = d;
			found = words[i];
		}
	}
	return found;
}

/* Length of the character at `p`, or 0 when it is malformed. */
static size_t utf8_char(const uint8_t *p, size_t left)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = p[0] < 0x80       ? 1
		   : p[0] >> 5 == 6  ? 2
		   : p[0] >> 4 == 14 ? 3
		   : p[0] >> 3 == 30 ? 4
				     : 0;
	uint32_t c;

	if (n == 0 || n > left)
		return 0;
	if (n == 1)
		return 1;
	c = p[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	return n;
}

bool og_text_is_utf8(const char *text, size_t len_bytes)
{
	for (size_t i = 0, n; i < len_bytes; i += n) {
		n = utf8_char((const uint8_t *)text + i, len_bytes - i);
		if (n == 0)
			return false;
	}
	return true;
}

void og_text_copy(char *out, size_t cap_bytes, const char *text)
{
	size_t n = strlen(text);

	if (n >= cap_bytes) {
		n = cap_bytes - 1;
		while (n > 0 && ((uint8_t)text[n] & 0xc0) == 0x80)
			n--;
	}
	memcpy(out, text, n);
	out[n] = '\0';
}

const char *og_text_format_bytes(char out[32], uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	size_t i = 0;

	while (v >= 1024.0 && i + 1 < OG_ARRAY_LEN(units)) {
		v /= 1024.0;
		i++;
	}
	snprintf(out, 32, i == 0 ? "%.0f %s" : "%.1f %s", v, units[i]);
	return out;
}

const char *og_text_format_ms(char out[32], uint64_t ms)
{
	if (ms < 1000)
		snprintf(out, 32, "%" PRIu64 " ms", ms);
	else if (ms < 60 * 1000)
		snprintf(out, 32, "%.1f s", (double)ms / 1000.0);
	else if (ms < 3600 * 1000)
		snprintf(out, 32, "%" PRIu64 " min %" PRIu64 " s", ms / 60000, ms / 1000 % 60);
	else
		snprintf(out, 32, "%" PRIu64 " h %" PRIu64 " min", ms / 3600000, ms / 60000 % 60);
	return out;
}
