/*
 * pretokenize.h: cuts text into the pieces within which byte-pair merges happen.
 *
 * A rule is a row of stages, each working on the pieces that the one before left: an expression that
 * cuts, or a change of the text (a space in front, spaces written as U+2581). tokenizer.json spells
 * the stages out; a GGUF file names its rule (`tokenizer.ggml.pre`), from a table.
 *
 * Source:  pre_tokenizer of tokenizer.json; for names, what the models' authors publish there.
 * Threads: immutable once its stages were added.
 * Memory:  owns compiled expressions. Bytes that are not UTF-8 match nothing and are kept.
 */
#pragma once
#include "gpu/text.h"

enum { OG_PRETOKEN_STAGES_MAX = 8 };

/* What becomes of a match; the text between matches is a piece in any case. */
enum og_split_behaviour {
	OG_SPLIT_ISOLATED,
	OG_SPLIT_REMOVED,
	OG_SPLIT_MERGED_WITH_PREVIOUS,
	OG_SPLIT_MERGED_WITH_NEXT,
	OG_SPLIT_CONTIGUOUS, /* neighbouring matches are one piece */
};

enum og_prefix_scheme { OG_PREFIX_NEVER, OG_PREFIX_FIRST, OG_PREFIX_ALWAYS };

struct og_pretoken_stage {
	void *re; /* cuts; NULL: changes the text */
	enum og_split_behaviour behaviour;
	bool invert;  /* what lies between matches is the match */
	bool is_meta; /* spaces become U+2581; otherwise a space is put in front */
	enum og_prefix_scheme prefix;
};

struct og_pretokenizer {
	struct og_pretoken_stage stages[OG_PRETOKEN_STAGES_MAX];
	uint32_t nb_stages;
	/* What else a name implies. */
	bool whole_pieces; /* a piece that is itself a token is taken without merging */
	bool adds_bos;     /* unless the file says otherwise */
};

typedef int og_piece_fn(void *ctx, const char *data, size_t len_bytes);

/* -EOPNOTSUPP for a name that is not known, -ENOMEM. The caller owes og_pretokenizer_fini(). */
int og_pretokenizer_init(struct og_pretokenizer *p, struct og_text name) OG_MUST_CHECK;
void og_pretokenizer_fini(struct og_pretokenizer *p);

/* Append a stage to an empty or initialized rule. Return 0, -E2BIG, -EBADMSG (the pattern), -ENOMEM. */
int og_pretokenizer_add_split(struct og_pretokenizer *p, struct og_text pattern, bool is_regex,
	enum og_split_behaviour behaviour, bool invert) OG_MUST_CHECK;
/* GPT-2's expression, which byte-level rules use when they name none. */
int og_pretokenizer_add_gpt2(struct og_pretokenizer *p) OG_MUST_CHECK;
int og_pretokenizer_add_digits(struct og_pretokenizer *p, bool individual) OG_MUST_CHECK;
/* A space in front of a piece that does not start with one. */
int og_pretokenizer_add_space(struct og_pretokenizer *p) OG_MUST_CHECK;
/* Spaces become U+2581, one is put in front by the scheme, and pieces start at them if `split`. */
int og_pretokenizer_add_metaspace(
	struct og_pretokenizer *p, enum og_prefix_scheme prefix, bool split) OG_MUST_CHECK;

/*
 * Calls fn for each piece in order; stops at the first that it does not answer with 0. `is_first`:
 * the text is the beginning of what is tokenized. Returns fn's answer, -ENOMEM, or -E2BIG if an
 * expression takes too long.
 */
int og_pretokenize(const struct og_pretokenizer *p, struct og_text text, bool is_first,
	og_piece_fn *fn, void *ctx) OG_MUST_CHECK;
