#define PCRE2_CODE_UNIT_WIDTH 8
#include "gpu/regex.h"

#include <errno.h>
#include <pcre2.h>

enum {
	PATTERN_MAX = 16 * 1024,
	STEPS_MAX = 10 * 1000 * 1000, /* of PCRE2, for one match */
};

int og_regex_compile(void **out, struct og_text pattern, bool is_regex)
{
	uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF |
			   (is_regex ? PCRE2_MULTILINE : PCRE2_LITERAL);
	PCRE2_SIZE at;
	int code;
	pcre2_code *re;

	/* PCRE2 takes time and memory in proportion; an empty pattern cuts between all characters. */
	if (pattern.len_bytes == 0 || pattern.len_bytes > PATTERN_MAX)
		return -EBADMSG;
	if (!is_regex)
		options &= ~(uint32_t)PCRE2_UCP;
	re = pcre2_compile((PCRE2_SPTR)pattern.data, pattern.len_bytes, options, &code, &at, NULL);
	if (!re)
		return code == PCRE2_ERROR_HEAP_FAILED ? -ENOMEM : -EBADMSG;
	(void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* without, it is interpreted */
	*out = re;
	return 0;
}

void og_regex_free(void *re)
{
	pcre2_code_free(re);
}

int og_match_init(struct og_match *m)
{
	m->data = pcre2_match_data_create(1, NULL);
	return m->data ? 0 : -ENOMEM;
}

void og_match_fini(struct og_match *m)
{
	pcre2_match_data_free(m->data);
	m->data = NULL;
}

/* Where the JIT's stack is too small, the interpreter has the heap. */
static int find_slowly(
	const void *re, struct og_match *m, const char *text, size_t len, size_t from)
{
	pcre2_match_context *limits = pcre2_match_context_create(NULL);
	int n;

	if (!limits)
		return PCRE2_ERROR_HEAPLIMIT;
	pcre2_set_match_limit(limits, STEPS_MAX);
	pcre2_set_heap_limit(limits, 64 * 1024); /* KiB */
	n = pcre2_match(re, (PCRE2_SPTR)text, len, from, PCRE2_NO_JIT, m->data, limits);
	pcre2_match_context_free(limits);
	return n;
}

int og_regex_find(const void *re, struct og_match *m, const char *text, size_t len, size_t from)
{
	const PCRE2_SIZE *bounds;
	int n = pcre2_match(re, (PCRE2_SPTR)text, len, from, 0, m->data, NULL);

	if (n == PCRE2_ERROR_JIT_STACKLIMIT)
		n = find_slowly(re, m, text, len, from);
	m->start = m->end = len;
	if (n == PCRE2_ERROR_NOMATCH)
		return 0;
	if (n < 0)
		return -E2BIG;
	bounds = pcre2_get_ovector_pointer(m->data);
	if (bounds[0] >= from && bounds[1] >= bounds[0]) { /* \K can move either */
		m->start = bounds[0];
		m->end = bounds[1];
	}
	return 0;
}
