#include "gpu/tokenizer_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define META "\xe2\x96\x81" /* U+2581, how SentencePiece writes a space */

static int read_type(
	struct og_tokenizer_loading *l, const struct og_gguf_kv *types, uint32_t i, uint8_t *type)
{
	int32_t v;

	*type = OG_TOKEN_NORMAL;
	if (!types)
		return 0;
	v = (int32_t)og_load_le32(types->value + 4 * (size_t)i);
	if (v < OG_TOKEN_NORMAL || v > OG_TOKEN_BYTE)
		return og_tokenizer_refuse(l, -EBADMSG, "token %u has type %d", i, v);
	*type = (uint8_t)v;
	return 0;
}

static int read_tokens(struct og_tokenizer_loading *l, const struct og_gguf *g)
{
	const struct og_gguf_kv *texts, *types = NULL;
	struct og_reader r;
	int ret = og_gguf_array(g, "tokenizer.ggml.tokens", OG_GGUF_STRING, &texts);

	if (ret < 0 || texts->count == 0)
		return og_tokenizer_refuse(
			l, -EBADMSG, "tokenizer.ggml.tokens is missing or no list of strings");
	ret = og_gguf_array(g, "tokenizer.ggml.token_type", OG_GGUF_I32, &types);
	if (ret == -EBADMSG || (types && types->count != texts->count))
		return og_tokenizer_refuse(l, -EBADMSG,
			"tokenizer.ggml.token_type is not one 32-bit number per token");
	ret = og_tokenizer_reserve(l, texts->count);
	r = og_gguf_strings(texts);
	for (uint32_t i = 0; i < texts->count && ret == 0; i++) {
		struct og_text text = og_gguf_next_string(&r);
		uint8_t type;

		ret = read_type(l, types, i, &type);
		if (ret == 0)
			ret = og_tokenizer_put(l, i, text, type);
	}
	return ret;
}

/* "left right" in GPT-2's characters; the space is the only one, bytes of tokens have none. */
static int read_merges(struct og_tokenizer_loading *l, const struct og_gguf *g)
{
	const struct og_gguf_kv *texts;
	struct og_reader r;
	int ret;

	if (og_gguf_array(g, "tokenizer.ggml.merges", OG_GGUF_STRING, &texts) < 0)
		return og_tokenizer_refuse(
			l, -EBADMSG, "tokenizer.ggml.merges is missing or no list of strings");
	ret = og_tokenizer_reserve_merges(l, (uint32_t)texts->count);
	r = og_gguf_strings(texts);
	for (uint32_t rank = 0; rank < texts->count && ret == 0; rank++) {
		struct og_text text = og_gguf_next_string(&r);
		const char *space =
			text.len_bytes > 1 ? memchr(text.data + 1, ' ', text.len_bytes - 1) : NULL;
		uint32_t left;

		if (!space)
			continue;
		left = (uint32_t)(space - text.data);
		og_tokenizer_add_merge(l->t, (struct og_text){text.data, left},
			(struct og_text){space + 1, text.len_bytes - left - 1}, rank, false);
	}
	return ret;
}

static int read_scores(struct og_tokenizer_loading *l, const struct og_gguf *g)
{
	const struct og_gguf_kv *scores;

	if (og_gguf_array(g, "tokenizer.ggml.scores", OG_GGUF_F32, &scores) < 0 ||
		scores->count != l->t->nb_tokens)
		return og_tokenizer_refuse(
			l, -EBADMSG, "tokenizer.ggml.scores is not one number per token");
	l->t->scores = malloc(scores->count * sizeof(*l->t->scores));
	if (!l->t->scores)
		return -ENOMEM;
	for (uint32_t i = 0; i < scores->count; i++) {
		uint32_t bits = og_load_le32(scores->value + 4 * (size_t)i);

		memcpy(&l->t->scores[i], &bits, 4);
		if (isnan(l->t->scores[i]))
			return og_tokenizer_refuse(
				l, -EBADMSG, "the score of token %u is no number", i);
	}
	return 0;
}

static int read_id(
	struct og_tokenizer_loading *l, const struct og_gguf *g, const char *key, uint32_t *out)
{
	uint64_t id;
	int ret = og_gguf_u64(g, key, &id);

	*out = OG_NO_TOKEN;
	if (ret == -ENOENT)
		return 0;
	if (ret < 0)
		return og_tokenizer_refuse(l, ret, "%s is not a token", key);
	/* Converters write -1 for "none" as a 32-bit number. */
	if (id == UINT32_MAX)
		return 0;
	if (id >= l->t->nb_tokens)
		return og_tokenizer_refuse(l, -EBADMSG, "%s is token %llu of %u", key,
			(unsigned long long)id, l->t->nb_tokens);
	*out = (uint32_t)id;
	return 0;
}

static int read_flag(
	struct og_tokenizer_loading *l, const struct og_gguf *g, const char *key, bool *flag)
{
	return og_gguf_bool(g, key, flag) == -EBADMSG
		       ? og_tokenizer_refuse(l, -EBADMSG, "%s is not a boolean", key)
		       : 0;
}

static int read_options(struct og_tokenizer_loading *l, const struct og_gguf *g)
{
	struct og_tokenizer *t = l->t;
	bool adds_bos = t->pre.adds_bos || t->scores, adds_eos = false;
	uint32_t eot, eom;
	int ret = read_id(l, g, "tokenizer.ggml.bos_token_id", &t->bos);

	if (ret == 0)
		ret = read_id(l, g, "tokenizer.ggml.eos_token_id", &t->eos);
	if (ret == 0)
		ret = read_id(l, g, "tokenizer.ggml.eot_token_id", &eot);
	if (ret == 0)
		ret = read_id(l, g, "tokenizer.ggml.eom_token_id", &eom);
	if (ret == 0)
		ret = read_id(l, g, "tokenizer.ggml.unknown_token_id", &t->unknown);
	if (ret == 0)
		ret = read_flag(l, g, "tokenizer.ggml.add_bos_token", &adds_bos);
	if (ret == 0)
		ret = read_flag(l, g, "tokenizer.ggml.add_eos_token", &adds_eos);
	if (ret < 0)
		return ret;
	og_tokenizer_mark_end(t, eot);
	og_tokenizer_mark_end(t, eom);
	if (adds_bos && t->bos != OG_NO_TOKEN)
		t->before[t->nb_before++] = t->bos;
	if (adds_eos && t->eos != OG_NO_TOKEN)
		t->after[t->nb_after++] = t->eos;
	return 0;
}

/* SentencePiece: a space in front of each text, and spaces are a character of their own. */
static int set_up_scores(struct og_tokenizer_loading *l, const struct og_gguf *g)
{
	static const struct og_text meta = {META, 3}, space = {" ", 1};
	bool adds_space = true;
	int ret = read_flag(l, g, "tokenizer.ggml.add_space_prefix", &adds_space);

	if (ret == 0 && adds_space)
		ret = og_normalizer_add(&l->t->normalizer, OG_NORMALIZE_PREPEND, meta);
	if (ret == 0)
		ret = og_normalizer_add_replace(&l->t->normalizer, space, false, meta);
	l->t->strips_first = adds_space;
	return ret;
}

static int set_up_bytes(struct og_tokenizer_loading *l, const struct og_gguf *g)
{
	struct og_text pre = {"default", 7};
	int ret = og_gguf_text(g, "tokenizer.ggml.pre", &pre);

	if (ret == -EBADMSG)
		return og_tokenizer_refuse(l, ret, "tokenizer.ggml.pre is not a string");
	ret = og_pretokenizer_init(&l->t->pre, pre);
	if (ret == -EOPNOTSUPP)
		return og_tokenizer_refuse(l, ret, "pre-tokenizer %.*s is not known",
			(int)OG_MIN(pre.len_bytes, 64u), pre.data);
	l->t->is_byte_level = true;
	l->t->whole_pieces = l->t->pre.whole_pieces;
	return ret;
}

static int read_all(struct og_tokenizer_loading *l, const struct og_gguf *g)
{
	struct og_text model;
	bool scores;
	int ret;

	if (og_gguf_text(g, "tokenizer.ggml.model", &model) < 0)
		return og_tokenizer_refuse(l, -EBADMSG, "tokenizer.ggml.model is missing");
	scores = og_text_is(model, "llama");
	if (!scores && !og_text_is(model, "gpt2"))
		return og_tokenizer_refuse(l, -EOPNOTSUPP,
			"tokenizer %.*s is not supported (gpt2 and llama are)",
			(int)OG_MIN(model.len_bytes, 64u), model.data);
	ret = scores ? set_up_scores(l, g) : set_up_bytes(l, g);
	if (ret == 0)
		ret = read_tokens(l, g);
	if (ret == 0)
		ret = og_tokenizer_index(l);
	if (ret == 0)
		ret = scores ? read_scores(l, g) : read_merges(l, g);
	if (ret == 0)
		ret = read_options(l, g);
	return ret < 0 ? ret : og_tokenizer_finish(l);
}

int og_tokenizer_create(struct og_tokenizer **out, const char *file, const struct og_gguf *g,
	char *err, size_t err_bytes)
{
	struct og_tokenizer *t = calloc(1, sizeof(*t));
	struct og_tokenizer_loading l = {t, file, err, err_bytes};
	int ret;

	snprintf(err, err_bytes, "%s: out of memory", file);
	if (!t)
		return -ENOMEM;
	ret = read_all(&l, g);
	if (ret < 0)
		og_tokenizer_destroy(t);
	else
		*out = t;
	return ret;
}
