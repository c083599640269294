/*
 * normalize.h: what a tokenizer does to text before it is cut: canonical composition, replacements,
 * a prefix.
 *
 * Source:  the normalizer entry of tokenizer.json; Unicode 15, UAX 15.
 * Units:   bytes of UTF-8. Bytes that are not UTF-8 are kept as they are.
 * Threads: immutable after its steps were added.
 * Memory:  owns its steps. More than OG_MARKS_MAX combining marks in a row are normalized in parts.
 */
#pragma once
#include "gpu/text.h"

enum { OG_NORMALIZER_STEPS_MAX = 8, OG_NORMALIZER_TEXT_MAX = 64, OG_MARKS_MAX = 1024 };

enum og_normalize_kind {
	OG_NORMALIZE_NFC,
	OG_NORMALIZE_NFD,
	OG_NORMALIZE_NFKC,
	OG_NORMALIZE_NFKD,
	OG_NORMALIZE_LOWERCASE,
	OG_NORMALIZE_PREPEND,
	OG_NORMALIZE_REPLACE,
};

struct og_normalize_step {
	enum og_normalize_kind kind;
	char content[OG_NORMALIZER_TEXT_MAX]; /* PREPEND, REPLACE: what is put there */
	uint32_t content_bytes;
	void *pattern; /* REPLACE: pcre2_code */
};

struct og_normalizer {
	struct og_normalize_step steps[OG_NORMALIZER_STEPS_MAX];
	uint32_t nb_steps;
};

/* Append a step. Returns 0, -E2BIG for too many or too long, -EBADMSG for a bad pattern, -ENOMEM. */
int og_normalizer_add(
	struct og_normalizer *n, enum og_normalize_kind kind, struct og_text content) OG_MUST_CHECK;
/* Matches of the pattern become `content`. */
int og_normalizer_add_replace(struct og_normalizer *n, struct og_text pattern, bool is_regex,
	struct og_text content) OG_MUST_CHECK;
void og_normalizer_fini(struct og_normalizer *n);

/* *out becomes the text after all steps; `out` and `spare` are overwritten. Returns 0, -ENOMEM, or
 * -E2BIG if a pattern takes too long. */
int og_normalize(const struct og_normalizer *n, struct og_text text, struct og_buf *out,
	struct og_buf *spare) OG_MUST_CHECK;

/* White_Space, and what \w means, of Unicode. */
bool og_char_is_space(uint32_t c);
bool og_char_is_word(uint32_t c);
