/*
 * regex.h: the regular expressions of tokenizers, on PCRE2.
 *
 * Source:  tokenizer.json's patterns are Oniguruma's: ^ and $ match at lines, classes are Unicode's.
 *          PCRE2 10.42 knows Unicode 14: characters assigned later belong to no class.
 * Threads: a compiled pattern is immutable; a match belongs to one caller.
 * Memory:  owns what PCRE2 allocates. Bytes that are not UTF-8 match nothing.
 */
#pragma once
#include "gpu/text.h"

struct og_match {
	void *data; /* pcre2_match_data */
	size_t start, end;
};

/* Returns 0, -EBADMSG if the pattern is not one, or -ENOMEM. */
int og_regex_compile(void **out, struct og_text pattern, bool is_regex) OG_MUST_CHECK;
void og_regex_free(void *re);

int og_match_init(struct og_match *m) OG_MUST_CHECK;
void og_match_fini(struct og_match *m);

/*
 * The first match at or after `from`: sets m->start and m->end, both to `len` if there is none.
 * Returns 0, or -E2BIG if the pattern takes too long.
 */
int og_regex_find(const void *re, struct og_match *m, const char *text, size_t len,
	size_t from) OG_MUST_CHECK;
