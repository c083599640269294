/*
 * tokenizer.h: byte-level BPE: text to tokens and back.
 *
 * Special tokens that the file lists are found in the text first; what lies between them is cut by
 * the pre-tokenizer, and inside each piece the pair of tokens that the merge list ranks first is
 * joined until none is left. Tokens are bytes, not characters: text_out.h makes text of them.
 *
 * Source:  Sennrich et al. 2016; GPT-2's byte-to-character table; tokenizer.ggml.* of GGUF.
 * Units:   bytes; token ids.
 * Threads: one caller at a time (scratch lives in the tokenizer).
 * Memory:  owns copies of what it needs. Scratch grows with the longest piece of a text.
 */
#pragma once
#include "gpu/gguf.h"

enum { OG_TOKEN_MAX_BYTES = 1024 };

#define OG_NO_TOKEN UINT32_MAX

struct og_tokenizer;

/* Where tokens go: the caller's array of `cap`. */
struct og_tokens {
	uint32_t *ids;
	uint32_t count;
	uint32_t cap;
};

/* `file` is for messages. Returns 0, -EBADMSG or -EOPNOTSUPP with a sentence, or -ENOMEM. */
int og_tokenizer_create(struct og_tokenizer **out, const char *file, const struct og_gguf *g,
	char *err, size_t err_bytes) OG_MUST_CHECK;
void og_tokenizer_destroy(struct og_tokenizer *t);

uint32_t og_tokenizer_vocab(const struct og_tokenizer *t);
/* OG_NO_TOKEN without; `wanted`: the model expects it before the first token. */
uint32_t og_tokenizer_bos(const struct og_tokenizer *t, bool *wanted);
/* A token after which the answer is over. */
bool og_tokenizer_is_end(const struct og_tokenizer *t, uint32_t id);
/* The control token of that text, or OG_NO_TOKEN. */
uint32_t og_tokenizer_find_control(const struct og_tokenizer *t, const char *text);
/* The bytes that the token stands for: none for control tokens. id < vocab. */
struct og_text og_tokenizer_bytes(const struct og_tokenizer *t, uint32_t id);

/* Returns 0, or -E2BIG when `out` is full. */
int og_tokens_push(struct og_tokens *out, uint32_t id) OG_MUST_CHECK;
/*
 * Append the tokens of the text. `control`: text that spells a control token becomes that token; never
 * for what a stranger wrote into a message. Returns 0, -E2BIG when `out` is full, or -ENOMEM.
 */
int og_tokenizer_encode(struct og_tokenizer *t, const char *text, size_t len_bytes, bool control,
	struct og_tokens *out) OG_MUST_CHECK;
