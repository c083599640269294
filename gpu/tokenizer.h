/*
 * tokenizer.h: text to tokens and back: byte-pair encoding on bytes or on characters.
 *
 * Added tokens (control tokens among them) are found in the text first; what lies between them is
 * normalized and cut into pieces, and inside each piece the pair of tokens that ranks first is joined
 * until none is left; no merge makes a control token. Ranks are a list of merges, or, in GGUF files of SentencePiece models, the
 * scores of tokens. Tokens are bytes, not characters: text_out.h makes text of them.
 *
 * Any bytes are text: those that are not UTF-8 pass normalizing and cutting untouched and become byte
 * tokens, where the vocabulary has them.
 *
 * Source:  Sennrich et al. 2016; GPT-2's byte-to-character table; SentencePiece's bpe model;
 *          tokenizer.json of Hugging Face tokenizers 0.22; tokenizer.ggml.* of GGUF.
 * Units:   bytes; token ids.
 * Threads: immutable once made: any number of threads may encode at once.
 * Memory:  owns copies of what it needs. Encoding takes at most 64 bytes of scratch for each byte of
 *          the longest piece, and gives it back.
 */
#pragma once
#include "gpu/gguf.h"
#include "gpu/json.h"

enum {
	OG_TOKEN_MAX_BYTES = 1024,
	OG_TOKENIZER_TOKENS_MAX = 4 * 1024 * 1024,
	OG_TOKENIZER_TEXT_MAX_BYTES = 16 * 1024 * 1024,
	OG_TOKENIZER_FILE_MAX_BYTES = 128 * 1024 * 1024,
};

#define OG_NO_TOKEN UINT32_MAX

struct og_tokenizer;

/* Where tokens go: the caller's array of `cap`. */
struct og_tokens {
	uint32_t *ids;
	uint32_t count;
	uint32_t cap;
};

/* Bytes [start, end) of a text. */
struct og_span {
	uint32_t start;
	uint32_t end;
};

/*
 * From the metadata of a GGUF file, from parsed JSON (`config`, of tokenizer_config.json, may be NULL),
 * or from a folder with those files. `file` is for messages. Returns 0, -EBADMSG or -EOPNOTSUPP with a
 * sentence, -ENOMEM, or why a file could not be read.
 */
int og_tokenizer_create(struct og_tokenizer **out, const char *file, const struct og_gguf *g,
	char *err, size_t err_bytes) OG_MUST_CHECK;
int og_tokenizer_create_json(struct og_tokenizer **out, const char *file, const struct og_json *j,
	const struct og_json *config, char *err, size_t err_bytes) OG_MUST_CHECK;
int og_tokenizer_open(
	struct og_tokenizer **out, const char *folder, char *err, size_t err_bytes) OG_MUST_CHECK;
void og_tokenizer_destroy(struct og_tokenizer *t);

/* Ids are below this; some below it may be no tokens. */
uint32_t og_tokenizer_vocab(const struct og_tokenizer *t);
/*
 * The model has embeddings for ids below `nb` only: added tokens beyond are forgotten. Returns 0, or
 * -EBADMSG if ordinary tokens lie beyond, or those that are put around every prompt.
 */
int og_tokenizer_fit(struct og_tokenizer *t, uint32_t nb) OG_MUST_CHECK;
/* What a chat template calls bos_token and eos_token; OG_NO_TOKEN without. */
uint32_t og_tokenizer_bos(const struct og_tokenizer *t);
uint32_t og_tokenizer_eos(const struct og_tokenizer *t);
/* A token after which the answer is over. Any id may be asked for; models have rows without token. */
bool og_tokenizer_is_end(const struct og_tokenizer *t, uint32_t id);
/* Make it one, as generation_config.json may say. Ignored if there is no such token. */
void og_tokenizer_mark_end(struct og_tokenizer *t, uint32_t id);
/* The control token of that text, or OG_NO_TOKEN. */
uint32_t og_tokenizer_find_control(const struct og_tokenizer *t, const char *text);
/* How the token is written in a text, control tokens too. */
struct og_text og_tokenizer_text(const struct og_tokenizer *t, uint32_t id);
/* The bytes that the token stands for in an answer: none for control tokens and unknown ids. */
struct og_text og_tokenizer_bytes(const struct og_tokenizer *t, uint32_t id);
/* The same for the first token of an answer: some vocabularies write a space there that is not meant. */
struct og_text og_tokenizer_first_bytes(const struct og_tokenizer *t, uint32_t id);

/* Returns 0, or -E2BIG when `out` is full. */
int og_tokens_push(struct og_tokens *out, uint32_t id) OG_MUST_CHECK;

enum {
	OG_ENCODE_CONTROL = 1, /* text that spells a control token becomes that token */
	OG_ENCODE_WHOLE = 2,   /* with what the model expects before and after a text (BOS) */
};

/*
 * Append the tokens of the text. Without OG_ENCODE_CONTROL, and wherever a match would touch one of
 * the `foreign` spans (ascending, disjoint), control tokens are not recognized: what a stranger wrote
 * into a message is only text. Returns 0, -E2BIG when `out` is full, the text is longer than
 * OG_TOKENIZER_TEXT_MAX_BYTES, or a pattern of the model takes too long on it, or -ENOMEM.
 */
int og_tokenizer_encode(const struct og_tokenizer *t, struct og_text text, unsigned flags,
	const struct og_span *foreign, uint32_t nb_foreign, struct og_tokens *out) OG_MUST_CHECK;
