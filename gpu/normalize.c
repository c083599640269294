#include "gpu/normalize.h"

#include "gpu/regex.h"

#include <errno.h>
#include <stdlib.h>
#include <utf8proc.h>

bool og_char_is_space(uint32_t c)
{
	utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);

	return (c >= 9 && c <= 13) || c == 0x85 || k == UTF8PROC_CATEGORY_ZS ||
	       k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

bool og_char_is_word(uint32_t c)
{
	utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);

	return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) ||
	       k == UTF8PROC_CATEGORY_PC || c == 0x200c || c == 0x200d;
}

static int add_step(
	struct og_normalizer *n, enum og_normalize_kind kind, void *pattern, struct og_text content)
{
	struct og_normalize_step *s = &n->steps[n->nb_steps];

	if (n->nb_steps == OG_NORMALIZER_STEPS_MAX || content.len_bytes > sizeof(s->content))
		return -E2BIG;
	s->kind = kind;
	s->pattern = pattern;
	s->content_bytes = content.len_bytes;
	if (content.len_bytes > 0)
		memcpy(s->content, content.data, content.len_bytes);
	n->nb_steps++;
	return 0;
}

int og_normalizer_add(struct og_normalizer *n, enum og_normalize_kind kind, struct og_text content)
{
	return add_step(n, kind, NULL, content);
}

int og_normalizer_add_replace(
	struct og_normalizer *n, struct og_text pattern, bool is_regex, struct og_text content)
{
	void *re;
	int ret = og_regex_compile(&re, pattern, is_regex);

	if (ret == 0)
		ret = add_step(n, OG_NORMALIZE_REPLACE, re, content);
	if (ret == -E2BIG)
		og_regex_free(re);
	return ret;
}

void og_normalizer_fini(struct og_normalizer *n)
{
	for (uint32_t i = 0; i < n->nb_steps; i++)
		if (n->steps[i].pattern)
			og_regex_free(n->steps[i].pattern);
	n->nb_steps = 0;
}

/* Text up to `c` is normalized by itself: nothing composes with it or moves across it. */
static bool starts_afresh(uint32_t c)
{
	return c < 0x300 || (c >= 0x3400 && c < 0xa000) || (c >= 0xac00 && c < 0xd7a4);
}

/*
 * The length of the first part that is normalized on its own: characters, no broken bytes. Marks are
 * put in order by a method that takes the square of their number, so parts are kept short.
 */
static size_t part_length(const char *p, size_t n, int *broken)
{
	size_t at = 0;
	uint32_t chars = 0;

	*broken = 0;
	while (at < n) {
		int len = og_utf8_first(p + at, n - at);
		uint32_t c;

		if (len <= 0) {
			*broken = len < 0 ? -len : (int)(n - at);
			break;
		}
		c = og_utf8_decode(p + at, len);
		if (chars >= OG_MARKS_MAX && (starts_afresh(c) || chars >= 2 * OG_MARKS_MAX))
			break;
		at += (size_t)len;
		chars++;
	}
	return at;
}

static int compose_part(struct og_buf *out, const char *p, size_t n, utf8proc_option_t options)
{
	utf8proc_uint8_t *mapped = NULL;
	utf8proc_ssize_t len =
		utf8proc_map((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, &mapped, options);
	int ret = -ENOMEM;

	if (len >= 0)
		ret = og_buf_append(out, mapped, (size_t)len);
	free(mapped);
	return ret;
}

static bool is_settled(struct og_text t)
{
	for (uint32_t i = 0; i < t.len_bytes; i++)
		if (t.data[i] & 0x80)
			return false;
	return true;
}

static int normalize_unicode(enum og_normalize_kind kind, struct og_text t, struct og_buf *out)
{
	static const utf8proc_option_t options[] = {
		[OG_NORMALIZE_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
		[OG_NORMALIZE_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
		[OG_NORMALIZE_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
		[OG_NORMALIZE_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
	};
	size_t at = 0;

	if (is_settled(t))
		return og_buf_append(out, t.data, t.len_bytes);
	while (at < t.len_bytes) {
		int broken;
		size_t n = part_length(t.data + at, t.len_bytes - at, &broken);
		int ret = n > 0 ? compose_part(out, t.data + at, n, options[kind]) : 0;

		if (ret == 0)
			ret = og_buf_append(out, t.data + at + n, (size_t)broken);
		if (ret < 0)
			return ret;
		at += n + (size_t)broken;
	}
	return 0;
}

static int lowercase(struct og_text t, struct og_buf *out)
{
	size_t at = 0;
	int ret = 0;

	while (at < t.len_bytes && ret == 0) {
		int len = og_utf8_first(t.data + at, t.len_bytes - at);
		char c[4];

		if (len <= 0) {
			len = len < 0 ? -len : (int)(t.len_bytes - at);
			ret = og_buf_append(out, t.data + at, (size_t)len);
		} else if (og_utf8_decode(t.data + at, len) == 0x130) {
			ret = og_buf_append(out, "i\xcc\x87", 3); /* the one that becomes two */
		} else {
			utf8proc_int32_t v = utf8proc_tolower(
				(utf8proc_int32_t)og_utf8_decode(t.data + at, len));

			ret = og_buf_append(out, c, og_utf8_encode((uint32_t)v, c));
		}
		at += (size_t)len;
	}
	return ret;
}

static int replace(const struct og_normalize_step *s, struct og_text t, struct og_buf *out)
{
	struct og_match m = {0};
	size_t at = 0;
	int ret = og_match_init(&m);

	while (ret == 0 && at < t.len_bytes) {
		ret = og_regex_find(s->pattern, &m, t.data, t.len_bytes, at);
		if (ret == 0)
			ret = og_buf_append(out, t.data + at, m.start - at);
		if (ret == 0 && m.end > m.start)
			ret = og_buf_append(out, s->content, s->content_bytes);
		if (ret == 0 && m.end == m.start && m.start < t.len_bytes) {
			ret = og_buf_append(out, t.data + m.start, 1);
			m.end++;
		}
		at = m.end;
	}
	og_match_fini(&m);
	return ret;
}

static int apply(const struct og_normalize_step *s, struct og_text t, struct og_buf *out)
{
	int ret = 0;

	switch (s->kind) {
	case OG_NORMALIZE_PREPEND:
		if (t.len_bytes > 0)
			ret = og_buf_append(out, s->content, s->content_bytes);
		return ret < 0 ? ret : og_buf_append(out, t.data, t.len_bytes);
	case OG_NORMALIZE_REPLACE:
		return replace(s, t, out);
	case OG_NORMALIZE_LOWERCASE:
		return lowercase(t, out);
	default:
		return normalize_unicode(s->kind, t, out);
	}
}

int og_normalize(const struct og_normalizer *n, struct og_text text, struct og_buf *out,
	struct og_buf *spare)
{
	int ret = 0;

	out->len = 0;
	if (n->nb_steps == 0)
		return og_buf_append(out, text.data, text.len_bytes);
	for (uint32_t i = 0; i < n->nb_steps && ret == 0; i++) {
		struct og_buf swap = *out;

		*out = *spare;
		*spare = swap;
		out->len = 0;
		if (i > 0)
			text = (struct og_text){spare->data, (uint32_t)spare->len};
		if (text.len_bytes > 0)
			ret = apply(&n->steps[i], text, out);
		if (out->len > UINT32_MAX / 2)
			ret = -E2BIG;
	}
	return ret;
}
