/*
 * pretokenize.h: cuts text into the pieces within which byte-pair merges happen.
 *
 * A GGUF file names its rule (`tokenizer.ggml.pre`); a rule is one or more regular expressions
 * applied in turn, each cutting the pieces that the one before left: what matches is a piece, and so
 * is what lies between matches.
 *
 * Source:  the pre_tokenizer entries that the models' authors publish in tokenizer.json.
 * Threads: one caller at a time.
 * Memory:  owns compiled expressions. Bytes that are not UTF-8 match nothing and are kept.
 */
#pragma once
#include "gpu/gguf.h"

enum { OG_PRETOKEN_STAGES_MAX = 4 };

struct og_pretokenizer {
	void *stages[OG_PRETOKEN_STAGES_MAX]; /* pcre2_code */
	void *match[OG_PRETOKEN_STAGES_MAX];  /* pcre2_match_data */
	uint32_t nb_stages;
	/* What else the name implies. */
	bool whole_pieces; /* a piece that is itself a token is taken without merging */
	bool adds_bos;     /* unless the file says otherwise */
};

typedef int og_piece_fn(void *ctx, const char *data, size_t len_bytes);

/* -EOPNOTSUPP for a name that is not known, -ENOMEM. The caller owes og_pretokenizer_fini(). */
int og_pretokenizer_init(struct og_pretokenizer *p, struct og_text name) OG_MUST_CHECK;
void og_pretokenizer_fini(struct og_pretokenizer *p);

/* Calls fn for each piece in order; stops at the first that it does not answer with 0. */
int og_pretokenize(
	struct og_pretokenizer *p, const char *text, size_t len_bytes, og_piece_fn *fn, void *ctx);
