#include "gpu/tokenizer_priv.h"

#include "gpu/complain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define META "\xe2\x96\x81" /* U+2581, how SentencePiece writes a space */

int og_tokenizer_refuse(struct og_tokenizer_loading *l, int ret, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	og_complain_at(l->err, l->err_bytes, l->file, fmt, args);
	va_end(args);
	return ret;
}

/* The byte that character `c` stands for, or -1 (GPT-2's table: printable bytes are themselves). */
static int byte_of_char(uint32_t c)
{
	if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff))
		return (int)c;
	if (c >= 0x100 && c <= 0x120)
		return (int)(c - 0x100); /* 00 … 20 */
	if (c >= 0x121 && c <= 0x142)
		return (int)(c - 0x121 + 0x7f); /* 7f … a0 */
	return c == 0x143 ? 0xad : -1;
}

uint32_t og_unmap_bytes(const char *text, uint32_t len, char *out, bool *all)
{
	uint32_t n = 0;

	*all = true;
	for (uint32_t i = 0; i < len; i++) {
		uint8_t a = (uint8_t)text[i];
		uint8_t b = i + 1 < len ? (uint8_t)text[i + 1] : 0;
		int byte = a < 0x80 ? byte_of_char(a) : -1;

		/* The table ends below U+0800, so two bytes of UTF-8 are the longest. */
		if (a >= 0xc2 && a <= 0xdf && (b & 0xc0) == 0x80) {
			byte = byte_of_char((uint32_t)(a & 0x1f) << 6 | (b & 0x3f));
			i += byte >= 0;
		}
		*all &= byte >= 0;
		out[n++] = byte >= 0 ? (char)byte : text[i];
	}
	return n;
}

static uint32_t hash_text(const char *data, size_t len)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a, then spread */

	for (size_t i = 0; i < len; i++)
		h = (h ^ (uint8_t)data[i]) * 0x100000001b3u;
	return (uint32_t)(h ^ h >> 32);
}

static uint32_t hash_pair(uint32_t left, uint32_t right)
{
	uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;

	return (uint32_t)(h >> 32);
}

/* A power of two at least twice `n`: tables stay half empty. */
static uint32_t table_size(uint32_t n)
{
	uint32_t size = 16;

	while (size < 2 * n) /* n is at most OG_TOKENIZER_TOKENS_MAX */
		size *= 2;
	return size;
}

static bool token_is(const struct og_tokenizer *t, uint32_t id, const char *data, size_t len)
{
	return t->tokens[id].len_bytes == len && memcmp(og_token_data(t, id), data, len) == 0;
}

static uint32_t text_place(const struct og_tokenizer *t, const char *data, size_t len)
{
	uint32_t i = hash_text(data, len) & t->by_text_mask;

	while (t->by_text[i] != OG_NO_TOKEN && !token_is(t, t->by_text[i], data, len))
		i = (i + 1) & t->by_text_mask;
	return i;
}

uint32_t og_tokenizer_find(const struct og_tokenizer *t, const char *data, size_t len)
{
	return len > t->longest_bytes ? OG_NO_TOKEN : t->by_text[text_place(t, data, len)];
}

static struct og_merge *merge_place(const struct og_tokenizer *t, uint32_t left, uint32_t right)
{
	uint32_t i = hash_pair(left, right) & t->merges_mask;

	while (t->merges[i].joined != OG_NO_TOKEN &&
		(t->merges[i].left != left || t->merges[i].right != right))
		i = (i + 1) & t->merges_mask;
	return &t->merges[i];
}

const struct og_merge *og_tokenizer_merge(
	const struct og_tokenizer *t, uint32_t left, uint32_t right)
{
	return merge_place(t, left, right);
}

int og_tokenizer_reserve(struct og_tokenizer_loading *l, uint64_t nb)
{
	if (nb == 0 || nb > OG_TOKENIZER_TOKENS_MAX)
		return og_tokenizer_refuse(
			l, -EBADMSG, "a vocabulary of %llu tokens", (unsigned long long)nb);
	l->t->nb_tokens = (uint32_t)nb;
	l->t->tokens = calloc(nb, sizeof(*l->t->tokens));
	return l->t->tokens ? 0 : -ENOMEM;
}

/* "<0x0A>" -> 10, or -1. */
static int byte_of_name(struct og_text text)
{
	char digits[3] = {0};
	char *end;
	long v;

	if (text.len_bytes != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>' ||
		text.data[3] == '+' || text.data[3] == '-' || text.data[3] == ' ')
		return -1;
	memcpy(digits, text.data + 3, 2);
	v = strtol(digits, &end, 16);
	return *end == '\0' ? (int)v : -1;
}

/* What SentencePiece's tokens stand for: U+2581 is a space. */
static uint32_t write_spaces(const char *text, uint32_t len, char *out)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < len;) {
		if (len - i >= 3 && memcmp(text + i, META, 3) == 0) {
			out[n++] = ' ';
			i += 3;
		} else {
			out[n++] = text[i++];
		}
	}
	return n;
}

static void put_characters(struct og_tokenizer *t, struct og_token *k, struct og_text text)
{
	char *out;
	int byte = k->type == OG_TOKEN_BYTE ? byte_of_name(text) : -1;

	memcpy(t->pool.data + t->pool.len, text.data, text.len_bytes);
	t->pool.len += text.len_bytes;
	out = t->pool.data + t->pool.len;
	k->out_at = (uint32_t)t->pool.len;
	if (byte >= 0)
		*out = (char)byte;
	k->out_bytes = byte >= 0 ? 1 : (uint16_t)write_spaces(text.data, text.len_bytes, out);
	t->pool.len += k->out_bytes;
}

static void put_bytes(struct og_tokenizer *t, struct og_token *k, struct og_text text)
{
	char *out = t->pool.data + t->pool.len;
	bool all = k->type == OG_TOKEN_USER_DEFINED;

	if (k->type == OG_TOKEN_NORMAL)
		k->len_bytes = (uint16_t)og_unmap_bytes(text.data, text.len_bytes, out, &all);
	else
		memcpy(out, text.data, text.len_bytes);
	if (!all) /* no merge can make it */
		k->flags &= (uint8_t)~OG_TOKEN_MERGES;
	k->out_at = k->at;
	k->out_bytes = k->len_bytes;
	t->pool.len += k->len_bytes;
}

int og_tokenizer_put(
	struct og_tokenizer_loading *l, uint32_t id, struct og_text text, enum og_token_type type)
{
	struct og_tokenizer *t = l->t;
	struct og_token *k = &t->tokens[id];
	int ret;

	if (text.len_bytes > OG_TOKEN_MAX_BYTES)
		return og_tokenizer_refuse(
			l, -EBADMSG, "token %u is longer than %u bytes", id, OG_TOKEN_MAX_BYTES);
	ret = og_buf_reserve(&t->pool, 2 * (size_t)text.len_bytes + 1);
	if (ret < 0)
		return ret;
	if (t->pool.len > UINT32_MAX / 2)
		return og_tokenizer_refuse(l, -EBADMSG, "the vocabulary's text is too long");
	*k = (struct og_token){.at = (uint32_t)t->pool.len,
		.len_bytes = (uint16_t)text.len_bytes,
		.type = (uint8_t)type,
		.flags = type == OG_TOKEN_NORMAL || type == OG_TOKEN_USER_DEFINED ? OG_TOKEN_MERGES
										  : 0};
	if (text.len_bytes == 0)
		return 0;
	if (t->is_byte_level)
		put_bytes(t, k, text);
	else
		put_characters(t, k, text);
	t->longest_bytes = OG_MAX(t->longest_bytes, k->len_bytes);
	return 0;
}

/* Where two tokens have the same bytes, the first ordinary one is meant. */
int og_tokenizer_index(struct og_tokenizer_loading *l)
{
	struct og_tokenizer *t = l->t;
	uint32_t size = table_size(t->nb_tokens);

	t->by_text = malloc(size * sizeof(*t->by_text));
	if (!t->by_text)
		return -ENOMEM;
	t->by_text_mask = size - 1;
	memset(t->by_text, 0xff, size * sizeof(*t->by_text));
	for (int type = OG_TOKEN_NORMAL; type <= OG_TOKEN_USER_DEFINED; type++)
		for (uint32_t i = 0; i < t->nb_tokens; i++) {
			const struct og_token *k = &t->tokens[i];
			uint32_t place;

			if (k->type != type || k->len_bytes == 0 || !(k->flags & OG_TOKEN_MERGES))
				continue;
			place = text_place(t, og_token_data(t, i), k->len_bytes);
			if (t->by_text[place] == OG_NO_TOKEN)
				t->by_text[place] = i;
		}
	for (uint32_t b = 0; b < 256; b++)
		t->byte_tokens[b] =
			t->is_byte_level ? og_tokenizer_find(t, &(char){(char)b}, 1) : OG_NO_TOKEN;
	for (uint32_t i = 0; i < t->nb_tokens && !t->is_byte_level; i++)
		if (t->tokens[i].type == OG_TOKEN_BYTE && t->tokens[i].out_bytes == 1)
			t->byte_tokens[(uint8_t)t->pool.data[t->tokens[i].out_at]] = i;
	return 0;
}

int og_tokenizer_reserve_merges(struct og_tokenizer_loading *l, uint32_t nb)
{
	uint32_t size;

	if (nb > OG_TOKENIZER_TOKENS_MAX)
		return og_tokenizer_refuse(l, -EBADMSG, "%u merges are too many", nb);
	size = table_size(nb);
	l->t->merges = malloc(size * sizeof(*l->t->merges));
	if (!l->t->merges)
		return -ENOMEM;
	l->t->merges_mask = size - 1;
	memset(l->t->merges, 0xff, size * sizeof(*l->t->merges));
	return 0;
}

/* As the vocabulary has it: on bytes, without GPT-2's table. */
static bool write_part(const struct og_tokenizer *t, struct og_text text, char *out, uint32_t *len)
{
	bool all = true;

	if (text.len_bytes > OG_TOKEN_MAX_BYTES)
		return false;
	if (t->is_byte_level) {
		*len = og_unmap_bytes(text.data, text.len_bytes, out, &all);
		return all;
	}
	memcpy(out, text.data, text.len_bytes);
	*len = text.len_bytes;
	return true;
}

void og_tokenizer_add_merge(struct og_tokenizer *t, struct og_text left_text,
	struct og_text right_text, uint32_t rank, bool later_wins)
{
	char text[2 * OG_TOKEN_MAX_BYTES];
	uint32_t left_len, right_len, left, right, whole;
	struct og_merge *place;

	if (!write_part(t, left_text, text, &left_len) ||
		!write_part(t, right_text, text + left_len, &right_len))
		return;
	left = og_tokenizer_find(t, text, left_len);
	right = og_tokenizer_find(t, text + left_len, right_len);
	whole = og_tokenizer_find(t, text, left_len + right_len);
	/* A merge with tokens that the vocabulary lacks can never be the one to apply. */
	if (left == OG_NO_TOKEN || right == OG_NO_TOKEN || whole == OG_NO_TOKEN)
		return;
	place = merge_place(t, left, right);
	if (place->joined == OG_NO_TOKEN || later_wins)
		*place = (struct og_merge){left, right, rank, whole};
}

/* Files name one end token or a few; models use others too, known by their text. */
int og_tokenizer_finish(struct og_tokenizer_loading *l)
{
	static const char *const ends[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>",
		"<|end_of_text|>", "<|endoftext|>", "</s>", "<|end|>", "<end_of_turn>", "<eos>"};
	struct og_tokenizer *t = l->t;
	int ret = og_added_init(&t->raw, t, false);

	if (ret == 0)
		ret = og_added_init(&t->normalized, t, true);
	if (ret < 0)
		return ret;
	for (size_t i = 0; i < OG_ARRAY_LEN(ends); i++)
		og_tokenizer_mark_end(t, og_tokenizer_find_control(t, ends[i]));
	og_tokenizer_mark_end(t, t->eos);
	return 0;
}

void og_tokenizer_destroy(struct og_tokenizer *t)
{
	og_pretokenizer_fini(&t->pre);
	og_normalizer_fini(&t->normalizer);
	og_added_fini(&t->raw);
	og_added_fini(&t->normalized);
	free(t->tokens);
	free(t->pool.data);
	free(t->by_text);
	free(t->merges);
	free(t->scores);
	free(t);
}

uint32_t og_tokenizer_vocab(const struct og_tokenizer *t)
{
	return t->nb_tokens;
}

/* Is a token that prompts get without containing it one of those from `nb` on? */
static bool adds_beyond(const struct og_tokenizer *t, uint32_t nb)
{
	bool beyond = t->unknown != OG_NO_TOKEN && t->unknown >= nb;

	for (uint32_t i = 0; i < t->nb_before; i++)
		beyond |= t->before[i] >= nb;
	for (uint32_t i = 0; i < t->nb_after; i++)
		beyond |= t->after[i] >= nb;
	return beyond;
}

int og_tokenizer_fit(struct og_tokenizer *t, uint32_t nb)
{
	int ret;

	if (t->nb_tokens <= nb)
		return 0;
	if (adds_beyond(t, nb))
		return -EBADMSG;
	for (uint32_t i = nb; i < t->nb_tokens; i++)
		if (t->tokens[i].type == OG_TOKEN_NORMAL || t->tokens[i].type == OG_TOKEN_BYTE)
			return -EBADMSG;
	for (uint32_t i = nb; i < t->nb_tokens; i++)
		t->tokens[i] = (struct og_token){0};
	for (uint32_t i = 0; i <= t->by_text_mask; i++) /* nothing ordinary hangs on their places */
		if (t->by_text[i] != OG_NO_TOKEN && t->by_text[i] >= nb)
			return -EBADMSG;
	ret = og_added_init(&t->raw, t, false);
	if (ret == 0)
		ret = og_added_init(&t->normalized, t, true);
	t->nb_tokens = nb;
	if (t->bos >= nb)
		t->bos = OG_NO_TOKEN;
	if (t->eos >= nb)
		t->eos = OG_NO_TOKEN;
	return ret;
}

uint32_t og_tokenizer_bos(const struct og_tokenizer *t)
{
	return t->bos;
}

uint32_t og_tokenizer_eos(const struct og_tokenizer *t)
{
	return t->eos;
}

bool og_tokenizer_is_end(const struct og_tokenizer *t, uint32_t id)
{
	return id < t->nb_tokens && t->tokens[id].flags & OG_TOKEN_IS_END;
}

void og_tokenizer_mark_end(struct og_tokenizer *t, uint32_t id)
{
	if (id < t->nb_tokens)
		t->tokens[id].flags |= OG_TOKEN_IS_END;
}

uint32_t og_tokenizer_find_control(const struct og_tokenizer *t, const char *text)
{
	size_t len = strlen(text);

	for (uint32_t i = 0; i < t->raw.count; i++) {
		uint32_t id = t->raw.items[i].id;

		if (t->tokens[id].type == OG_TOKEN_CONTROL && token_is(t, id, text, len))
			return id;
	}
	return OG_NO_TOKEN;
}

struct og_text og_tokenizer_text(const struct og_tokenizer *t, uint32_t id)
{
	if (id >= t->nb_tokens || t->tokens[id].len_bytes == 0)
		return (struct og_text){"", 0};
	return (struct og_text){og_token_data(t, id), t->tokens[id].len_bytes};
}

struct og_text og_tokenizer_bytes(const struct og_tokenizer *t, uint32_t id)
{
	const struct og_token *k = &t->tokens[id < t->nb_tokens ? id : 0];

	if (id >= t->nb_tokens || k->out_bytes == 0 ||
		(k->type != OG_TOKEN_NORMAL && k->type != OG_TOKEN_USER_DEFINED &&
			k->type != OG_TOKEN_BYTE))
		return (struct og_text){"", 0};
	return (struct og_text){t->pool.data + k->out_at, k->out_bytes};
}

struct og_text og_tokenizer_first_bytes(const struct og_tokenizer *t, uint32_t id)
{
	struct og_text bytes = og_tokenizer_bytes(t, id);

	if (t->strips_first && bytes.len_bytes > 0 && bytes.data[0] == ' ') {
		bytes.data++;
		bytes.len_bytes--;
	}
	return bytes;
}

int og_tokens_push(struct og_tokens *out, uint32_t id)
{
	if (out->count == out->cap)
		return -E2BIG;
	out->ids[out->count++] = id;
	return 0;
}

/* One call of encode. */
struct encoding {
	const struct og_tokenizer *t;
	struct og_tokens *out;
	struct og_bpe_scratch bpe;
	struct og_buf normal, spare;
};

static int encode_piece(void *ctx, const char *data, size_t len)
{
	struct encoding *e = ctx;

	return og_bpe_encode(e->t, &e->bpe, data, len, e->out);
}

static int encode_part(struct encoding *e, struct og_text text, bool is_first)
{
	if (text.len_bytes == 0)
		return 0;
	return og_pretokenize(&e->t->pre, text, is_first, encode_piece, e);
}

/* What lies between added tokens: normalize it, and look for those that are found after that. */
static int encode_segment(struct encoding *e, struct og_text text, bool is_first)
{
	static const struct og_added_scope anything = {.control = true};
	uint32_t at = 0;
	int ret = 0;

	if (text.len_bytes == 0)
		return 0;
	if (e->t->normalizer.nb_steps > 0) {
		ret = og_normalize(&e->t->normalizer, text, &e->normal, &e->spare);
		text = (struct og_text){e->normal.data, (uint32_t)e->normal.len};
	}
	while (at < text.len_bytes && ret == 0) {
		struct og_added_match m =
			og_added_find(&e->t->normalized, e->t, text, at, &anything);

		ret = encode_part(
			e, (struct og_text){text.data + at, m.start - at}, is_first && at == 0);
		if (ret == 0 && m.id != OG_NO_TOKEN)
			ret = og_tokens_push(e->out, m.id);
		at = m.end;
	}
	return ret;
}

static int push_all(struct og_tokens *out, const uint32_t *ids, uint32_t nb)
{
	int ret = 0;

	for (uint32_t i = 0; i < nb && ret == 0; i++)
		ret = og_tokens_push(out, ids[i]);
	return ret;
}

static int encode_text(struct encoding *e, struct og_text text, const struct og_added_scope *scope)
{
	uint32_t at = 0;
	int ret = 0;

	while (at < text.len_bytes && ret == 0) {
		struct og_added_match m = og_added_find(&e->t->raw, e->t, text, at, scope);

		ret = encode_segment(e, (struct og_text){text.data + at, m.start - at}, at == 0);
		if (ret == 0 && m.id != OG_NO_TOKEN)
			ret = og_tokens_push(e->out, m.id);
		at = m.end;
	}
	return ret;
}

int og_tokenizer_encode(const struct og_tokenizer *t, struct og_text text, unsigned flags,
	const struct og_span *foreign, uint32_t nb_foreign, struct og_tokens *out)
{
	struct og_added_scope scope = {flags & OG_ENCODE_CONTROL, foreign, nb_foreign};
	struct encoding e = {.t = t, .out = out};
	int ret = 0;

	if (text.len_bytes > OG_TOKENIZER_TEXT_MAX_BYTES)
		return -E2BIG;
	if (flags & OG_ENCODE_WHOLE)
		ret = push_all(out, t->before, t->nb_before);
	if (ret == 0)
		ret = encode_text(&e, text, &scope);
	if (ret == 0 && flags & OG_ENCODE_WHOLE)
		ret = push_all(out, t->after, t->nb_after);
	og_bpe_scratch_fini(&e.bpe);
	free(e.normal.data);
	free(e.spare.data);
	return ret;
}
