/*
 * tokenizer_priv.h: the tables of a tokenizer, filled by one of its loaders (tokenizer_gguf.c,
 * tokenizer_json.c) and read by encoding (tokenizer.c, added_tokens.c, bpe.c).
 */
#pragma once
#include "gpu/normalize.h"
#include "gpu/pretokenize.h"
#include "gpu/tokenizer.h"

enum { OG_TOKENIZER_WRAP_MAX = 8 };

/* Numbers as in tokenizer.ggml.token_type; NONE: no token has this id. */
enum og_token_type {
	OG_TOKEN_NONE,
	OG_TOKEN_NORMAL,
	OG_TOKEN_UNKNOWN,
	OG_TOKEN_CONTROL,
	OG_TOKEN_USER_DEFINED,
	OG_TOKEN_UNUSED,
	OG_TOKEN_BYTE,
};

enum {
	OG_TOKEN_IS_END = 1,
	OG_TOKEN_MERGES = 2, /* pieces and merges may become it */
	/* Of added tokens. */
	OG_TOKEN_LSTRIP = 4, /* takes the white space before it */
	OG_TOKEN_RSTRIP = 8,
	OG_TOKEN_SINGLE_WORD = 16, /* only where no word character is next to it */
	OG_TOKEN_NORMALIZED = 32,  /* is looked for in normalized text */
};

struct og_token {
	uint32_t at; /* in pool: how it is written; on bytes, what it stands for */
	uint32_t out_at;
	uint16_t len_bytes;
	uint16_t out_bytes; /* what it stands for in an answer */
	uint8_t type;       /* enum og_token_type */
	uint8_t flags;
};

struct og_merge {
	uint32_t left, right;
	uint32_t rank;
	uint32_t joined; /* OG_NO_TOKEN: empty place */
};

struct og_added_token {
	uint32_t id;
	uint32_t at, len; /* in pool: what is looked for */
};

/* Tokens that are found in a text as they are written, sorted by their bytes. */
struct og_added_tokens {
	struct og_added_token *items;
	uint32_t count;
	uint32_t start[256 + 1]; /* where each first byte begins in items */
};

struct og_tokenizer {
	struct og_token *tokens;
	uint32_t nb_tokens;
	uint32_t longest_bytes; /* of any token */
	struct og_buf pool;
	uint32_t *by_text; /* hash table of the tokens that merge, OG_NO_TOKEN: empty */
	uint32_t by_text_mask;
	struct og_merge *merges; /* hash table by (left, right); NULL: scores rank tokens */
	uint32_t merges_mask;
	float *scores;
	uint32_t byte_tokens[256];
	uint32_t bos, eos, unknown;
	bool is_byte_level;
	bool fuses_unknown;         /* neighbouring unknown characters are one token */
	bool whole_pieces;          /* a piece that is itself a token is taken without merging */
	bool strips_first;          /* an answer's first space is not meant */
	struct og_added_tokens raw; /* looked for in the text itself */
	struct og_added_tokens normalized; /* looked for in normalized text */
	struct og_normalizer normalizer;
	struct og_pretokenizer pre;
	uint32_t before[OG_TOKENIZER_WRAP_MAX], after[OG_TOKENIZER_WRAP_MAX];
	uint32_t nb_before, nb_after;
};

/* What a loader works with. */
struct og_tokenizer_loading {
	struct og_tokenizer *t;
	const char *file;
	char *err;
	size_t err_bytes;
};

/* Writes "FILE: sentence" and returns `ret`. */
OG_PRINTF(3, 4)
int og_tokenizer_refuse(struct og_tokenizer_loading *l, int ret, const char *fmt, ...);

/* Room for ids below `nb`. */
int og_tokenizer_reserve(struct og_tokenizer_loading *l, uint64_t nb) OG_MUST_CHECK;
/* Writes token `id` < nb_tokens; ordinary tokens of byte-level vocabularies in GPT-2's characters. */
int og_tokenizer_put(struct og_tokenizer_loading *l, uint32_t id, struct og_text text,
	enum og_token_type type) OG_MUST_CHECK;
/* The bytes that GPT-2's characters stand for; `all`: there were no others. Returns how many. */
uint32_t og_unmap_bytes(const char *text, uint32_t len, char *out, bool *all);
/* After all tokens: the table by text, and byte tokens. */
int og_tokenizer_index(struct og_tokenizer_loading *l) OG_MUST_CHECK;
/* After that: room for `nb` merges, then each. Of two for a pair, `later_wins`. */
int og_tokenizer_reserve_merges(struct og_tokenizer_loading *l, uint32_t nb) OG_MUST_CHECK;
void og_tokenizer_add_merge(struct og_tokenizer *t, struct og_text left, struct og_text right,
	uint32_t rank, bool later_wins);
/* Last: added tokens, and the texts that are known to end answers. */
int og_tokenizer_finish(struct og_tokenizer_loading *l) OG_MUST_CHECK;

uint32_t og_tokenizer_find(const struct og_tokenizer *t, const char *data, size_t len);
const struct og_merge *og_tokenizer_merge(
	const struct og_tokenizer *t, uint32_t left, uint32_t right);

static inline const char *og_token_data(const struct og_tokenizer *t, uint32_t id)
{
	return t->pool.data + t->tokens[id].at;
}

/* ---- added_tokens.c ---- */

/* Those that are looked for in the text itself, or `normalized`, whose own text then is so too. */
int og_added_init(struct og_added_tokens *a, struct og_tokenizer *t, bool normalized) OG_MUST_CHECK;
void og_added_fini(struct og_added_tokens *a);

struct og_added_match {
	uint32_t id; /* OG_NO_TOKEN: none left */
	uint32_t start, end;
};

/* What a search may take for a control token. */
struct og_added_scope {
	bool control;
	const struct og_span *foreign;
	uint32_t nb_foreign;
};

/* The leftmost longest match at or after `from`. */
struct og_added_match og_added_find(const struct og_added_tokens *a, const struct og_tokenizer *t,
	struct og_text text, uint32_t from, const struct og_added_scope *scope);

/* ---- bpe.c ---- */

struct og_bpe_scratch {
	struct og_bpe_symbol *symbols;
	struct og_bpe_candidate *heap;
	size_t room; /* bytes of a piece */
	size_t heap_len;
};

/* Append the tokens of one piece. */
int og_bpe_encode(const struct og_tokenizer *t, struct og_bpe_scratch *s, const char *data,
	size_t len, struct og_tokens *out) OG_MUST_CHECK;
void og_bpe_scratch_fini(struct og_bpe_scratch *s);
