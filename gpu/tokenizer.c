#include "gpu/tokenizer.h"

#include "gpu/pretokenize.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	SPECIALS_MAX = 64 * 1024,
	BYTE_CHARS = 0x144, /* GPT-2 stands for bytes by characters below this one */
};

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER_DEFINED, TYPE_UNUSED, TYPE_BYTE };

struct token {
	uint32_t at; /* in pool */
	uint16_t len_bytes;
	uint8_t type;
	bool is_end;
	bool is_bytes; /* spelled in GPT-2's characters, so merges can make it */
};

struct merge {
	uint32_t left, right;
	uint32_t rank;
	uint32_t joined; /* OG_NO_TOKEN: empty place */
};

/* One byte, and later one token, of the piece being merged: a list, so that joining is cheap. */
struct symbol {
	uint32_t id;
	int32_t prev, next;
};

struct candidate {
	uint32_t rank;
	int32_t at; /* the left symbol */
	uint32_t left, right, joined;
};

struct og_tokenizer {
	struct token *tokens;
	uint32_t nb_tokens;
	char *pool;
	uint32_t *by_bytes; /* hash table of ids, OG_NO_TOKEN: empty */
	uint32_t by_bytes_mask;
	struct merge *merges; /* hash table by (left, right) */
	uint32_t merges_mask;
	uint32_t *specials;              /* ids by first byte, then longest first */
	uint32_t special_start[256 + 1]; /* where each first byte starts in it */
	uint32_t byte_tokens[256];
	uint32_t bos, unknown;
	bool adds_bos;
	struct og_pretokenizer pre;
	/* Scratch of one piece. */
	struct symbol *symbols;
	struct candidate *heap;
	size_t scratch_len; /* symbols there is room for */
	size_t heap_len;
};

/* What create works with. */
struct loading {
	const char *file;
	const struct og_gguf *gguf;
	char *err;
	size_t err_bytes;
};

OG_PRINTF(3, 4) static int refuse(struct loading *l, int ret, const char *fmt, ...)
{
	int n = snprintf(l->err, l->err_bytes, "%s: ", l->file);
	va_list args;

	if (n >= 0 && (size_t)n < l->err_bytes) {
		va_start(args, fmt);
		vsnprintf(l->err + n, l->err_bytes - (size_t)n, fmt, args);
		va_end(args);
	}
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

/*
 * Undo GPT-2's table; characters outside it are kept as they are, and *all says whether there were
 * none. Returns the length.
 */
static uint32_t unmap_bytes(const char *text, uint32_t len, char *out, bool *all)
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

static uint32_t hash_bytes(const char *data, size_t len)
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

	while (size < 2 * n) /* n is at most OG_GGUF_ARRAY_MAX */
		size *= 2;
	return size;
}

static bool token_is(const struct og_tokenizer *t, uint32_t id, const char *data, size_t len)
{
	const struct token *k = &t->tokens[id];

	return k->len_bytes == len && memcmp(t->pool + k->at, data, len) == 0;
}

static uint32_t *bytes_place(const struct og_tokenizer *t, const char *data, size_t len)
{
	uint32_t i = hash_bytes(data, len) & t->by_bytes_mask;

	while (t->by_bytes[i] != OG_NO_TOKEN && !token_is(t, t->by_bytes[i], data, len))
		i = (i + 1) & t->by_bytes_mask;
	return &t->by_bytes[i];
}

static struct merge *merge_place(const struct og_tokenizer *t, uint32_t left, uint32_t right)
{
	uint32_t i = hash_pair(left, right) & t->merges_mask;

	while (t->merges[i].joined != OG_NO_TOKEN &&
		(t->merges[i].left != left || t->merges[i].right != right))
		i = (i + 1) & t->merges_mask;
	return &t->merges[i];
}

static int read_type(struct loading *l, const struct og_gguf_kv *types, uint32_t i, uint8_t *type)
{
	int32_t v;

	*type = TYPE_NORMAL;
	if (!types)
		return 0;
	v = (int32_t)og_load_le32(types->value + 4 * (size_t)i);
	if (v < TYPE_NORMAL || v > TYPE_BYTE)
		return refuse(l, -EBADMSG, "token %u has type %d", i, v);
	*type = (uint8_t)v;
	return 0;
}

static int read_tokens(struct og_tokenizer *t, struct loading *l)
{
	const struct og_gguf_kv *texts, *types = NULL;
	struct og_reader r;
	uint32_t used = 0;
	int ret = og_gguf_array(l->gguf, "tokenizer.ggml.tokens", OG_GGUF_STRING, &texts);

	if (ret < 0 || texts->count == 0)
		return refuse(
			l, -EBADMSG, "tokenizer.ggml.tokens is missing or no list of strings");
	ret = og_gguf_array(l->gguf, "tokenizer.ggml.token_type", OG_GGUF_I32, &types);
	if (ret == -EBADMSG || (types && types->count != texts->count))
		return refuse(l, -EBADMSG,
			"tokenizer.ggml.token_type is not one 32-bit number per token");
	t->nb_tokens = (uint32_t)texts->count;
	t->tokens = calloc(t->nb_tokens, sizeof(*t->tokens));
	t->pool = malloc(texts->value_bytes); /* tokens only shrink */
	if (!t->tokens || !t->pool)
		return -ENOMEM;
	r = og_gguf_strings(texts);
	for (uint32_t i = 0; i < t->nb_tokens; i++) {
		struct og_text text = og_gguf_next_string(&r);
		struct token *k = &t->tokens[i];

		ret = read_type(l, types, i, &k->type);
		if (ret < 0)
			return ret;
		if (text.len_bytes > OG_TOKEN_MAX_BYTES)
			return refuse(l, -EBADMSG, "token %u is longer than %u bytes", i,
				OG_TOKEN_MAX_BYTES);
		k->at = used;
		k->len_bytes = (uint16_t)text.len_bytes;
		if (k->type == TYPE_NORMAL)
			k->len_bytes = (uint16_t)unmap_bytes(
				text.data, text.len_bytes, t->pool + used, &k->is_bytes);
		else if (text.len_bytes > 0)
			memcpy(t->pool + used, text.data, text.len_bytes);
		k->is_bytes |= k->type == TYPE_USER_DEFINED;
		used += k->len_bytes;
	}
	return 0;
}

/* Only ordinary tokens come out of merges; where two have the same bytes the first is meant. */
static int index_tokens(struct og_tokenizer *t)
{
	uint32_t size = table_size(t->nb_tokens);

	t->by_bytes = malloc(size * sizeof(*t->by_bytes));
	if (!t->by_bytes)
		return -ENOMEM;
	t->by_bytes_mask = size - 1;
	memset(t->by_bytes, 0xff, size * sizeof(*t->by_bytes));
	for (int type = TYPE_NORMAL; type <= TYPE_USER_DEFINED; type++)
		for (uint32_t i = 0; i < t->nb_tokens; i++) {
			const struct token *k = &t->tokens[i];
			uint32_t *place;

			if (k->type != type || k->len_bytes == 0 || !k->is_bytes)
				continue;
			place = bytes_place(t, t->pool + k->at, k->len_bytes);
			if (*place == OG_NO_TOKEN)
				*place = i;
		}
	for (uint32_t b = 0; b < 256; b++)
		t->byte_tokens[b] = *bytes_place(t, &(char){(char)b}, 1);
	return 0;
}

/* "left right" in GPT-2's characters; the space is the only one, bytes of tokens have none. */
static void add_merge(struct og_tokenizer *t, struct og_text text, uint32_t rank)
{
	char bytes[2 * OG_TOKEN_MAX_BYTES];
	const char *space =
		text.len_bytes > 1 ? memchr(text.data + 1, ' ', text.len_bytes - 1) : NULL;
	uint32_t left_len, len, left, right, joined;
	bool left_all, right_all;
	struct merge *place;

	if (!space || text.len_bytes > sizeof(bytes))
		return;
	left_len = unmap_bytes(text.data, (uint32_t)(space - text.data), bytes, &left_all);
	len = (uint32_t)(text.data + text.len_bytes - space - 1);
	len = left_len + unmap_bytes(space + 1, len, bytes + left_len, &right_all);
	if (!left_all || !right_all)
		return;
	left = *bytes_place(t, bytes, left_len);
	right = *bytes_place(t, bytes + left_len, len - left_len);
	joined = *bytes_place(t, bytes, len);
	/* A merge with tokens that the vocabulary lacks can never be the one to apply. */
	if (left == OG_NO_TOKEN || right == OG_NO_TOKEN || joined == OG_NO_TOKEN)
		return;
	place = merge_place(t, left, right);
	if (place->joined == OG_NO_TOKEN)
		*place = (struct merge){left, right, rank, joined};
}

static int read_merges(struct og_tokenizer *t, struct loading *l)
{
	const struct og_gguf_kv *texts;
	struct og_reader r;
	uint32_t size;

	if (og_gguf_array(l->gguf, "tokenizer.ggml.merges", OG_GGUF_STRING, &texts) < 0)
		return refuse(
			l, -EBADMSG, "tokenizer.ggml.merges is missing or no list of strings");
	size = table_size((uint32_t)texts->count);
	t->merges = malloc(size * sizeof(*t->merges));
	if (!t->merges)
		return -ENOMEM;
	t->merges_mask = size - 1;
	memset(t->merges, 0xff, size * sizeof(*t->merges));
	r = og_gguf_strings(texts);
	for (uint32_t rank = 0; rank < texts->count; rank++)
		add_merge(t, og_gguf_next_string(&r), rank);
	return 0;
}

static bool is_special(const struct token *k)
{
	return k->len_bytes > 0 && (k->type == TYPE_CONTROL || k->type == TYPE_USER_DEFINED);
}

static int compare_specials(const void *a, const void *b, void *ctx)
{
	const struct og_tokenizer *t = ctx;
	uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	const struct token *x = &t->tokens[i], *y = &t->tokens[j];
	int first = (int)(uint8_t)t->pool[x->at] - (int)(uint8_t)t->pool[y->at];

	if (first != 0)
		return first;
	if (x->len_bytes != y->len_bytes)
		return y->len_bytes - x->len_bytes;
	return i < j ? -1 : 1;
}

static int index_specials(struct og_tokenizer *t, struct loading *l)
{
	uint32_t n = 0, b = 0;

	for (uint32_t i = 0; i < t->nb_tokens; i++)
		n += is_special(&t->tokens[i]);
	if (n > SPECIALS_MAX)
		return refuse(l, -EBADMSG, "%u special tokens are too many", n);
	t->specials = malloc((n + 1) * sizeof(*t->specials));
	if (!t->specials)
		return -ENOMEM;
	n = 0;
	for (uint32_t i = 0; i < t->nb_tokens; i++)
		if (is_special(&t->tokens[i]))
			t->specials[n++] = i;
	qsort_r(t->specials, n, sizeof(*t->specials), compare_specials, t);
	for (uint32_t i = 0; i < n; i++)
		while (b <= (uint8_t)t->pool[t->tokens[t->specials[i]].at])
			t->special_start[b++] = i;
	while (b <= 256)
		t->special_start[b++] = n;
	return 0;
}

static int read_id(struct og_tokenizer *t, struct loading *l, const char *key, uint32_t *out)
{
	uint64_t id;
	int ret = og_gguf_u64(l->gguf, key, &id);

	*out = OG_NO_TOKEN;
	if (ret == -ENOENT)
		return 0;
	if (ret < 0)
		return refuse(l, ret, "%s is not a token", key);
	/* Converters write -1 for "none" as a 32-bit number. */
	if (id == UINT32_MAX)
		return 0;
	if (id >= t->nb_tokens)
		return refuse(l, -EBADMSG, "%s is token %llu of %u", key, (unsigned long long)id,
			t->nb_tokens);
	*out = (uint32_t)id;
	return 0;
}

/* Files name one end token; models use others too, known by their text. */
static int mark_ends(struct og_tokenizer *t, struct loading *l)
{
	static const char *const keys[] = {"tokenizer.ggml.eos_token_id",
		"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
	static const char *const texts[] = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>",
		"<|end_of_text|>", "<|endoftext|>", "</s>", "<|end|>"};

	for (size_t i = 0; i < OG_ARRAY_LEN(keys); i++) {
		uint32_t id;
		int ret = read_id(t, l, keys[i], &id);

		if (ret < 0)
			return ret;
		if (id != OG_NO_TOKEN)
			t->tokens[id].is_end = true;
	}
	for (size_t i = 0; i < OG_ARRAY_LEN(texts); i++) {
		uint32_t id = og_tokenizer_find_control(t, texts[i]);

		if (id != OG_NO_TOKEN)
			t->tokens[id].is_end = true;
	}
	return 0;
}

static int read_options(struct og_tokenizer *t, struct loading *l)
{
	int ret = read_id(t, l, "tokenizer.ggml.bos_token_id", &t->bos);

	if (ret == 0)
		ret = read_id(t, l, "tokenizer.ggml.unknown_token_id", &t->unknown);
	if (ret < 0)
		return ret;
	t->adds_bos = t->pre.adds_bos;
	ret = og_gguf_bool(l->gguf, "tokenizer.ggml.add_bos_token", &t->adds_bos);
	if (ret == -EBADMSG)
		return refuse(l, ret, "tokenizer.ggml.add_bos_token is not a boolean");
	return mark_ends(t, l);
}

static int check_kind(struct og_tokenizer *t, struct loading *l)
{
	struct og_text model, pre = {"default", 7};
	int ret;

	if (og_gguf_text(l->gguf, "tokenizer.ggml.model", &model) < 0)
		return refuse(l, -EBADMSG, "tokenizer.ggml.model is missing");
	if (!og_text_is(model, "gpt2"))
		return refuse(l, -EOPNOTSUPP,
			"tokenizer %.*s is not supported (byte-level BPE, gpt2, is)",
			(int)OG_MIN(model.len_bytes, 64u), model.data);
	ret = og_gguf_text(l->gguf, "tokenizer.ggml.pre", &pre);
	if (ret == -EBADMSG)
		return refuse(l, ret, "tokenizer.ggml.pre is not a string");
	ret = og_pretokenizer_init(&t->pre, pre);
	if (ret == -EOPNOTSUPP)
		return refuse(l, ret, "pre-tokenizer %.*s is not known",
			(int)OG_MIN(pre.len_bytes, 64u), pre.data);
	return ret;
}

int og_tokenizer_create(struct og_tokenizer **out, const char *file, const struct og_gguf *g,
	char *err, size_t err_bytes)
{
	struct loading l = {file, g, err, err_bytes};
	struct og_tokenizer *t = calloc(1, sizeof(*t));
	int ret;

	snprintf(err, err_bytes, "%s: out of memory", file);
	if (!t)
		return -ENOMEM;
	ret = check_kind(t, &l);
	if (ret == 0)
		ret = read_tokens(t, &l);
	if (ret == 0)
		ret = index_tokens(t);
	if (ret == 0)
		ret = read_merges(t, &l);
	if (ret == 0)
		ret = index_specials(t, &l);
	if (ret == 0)
		ret = read_options(t, &l);
	if (ret < 0) {
		og_tokenizer_destroy(t);
		return ret;
	}
	*out = t;
	return 0;
}

void og_tokenizer_destroy(struct og_tokenizer *t)
{
	og_pretokenizer_fini(&t->pre);
	free(t->tokens);
	free(t->pool);
	free(t->by_bytes);
	free(t->merges);
	free(t->specials);
	free(t->symbols);
	free(t->heap);
	free(t);
}

uint32_t og_tokenizer_vocab(const struct og_tokenizer *t)
{
	return t->nb_tokens;
}

uint32_t og_tokenizer_bos(const struct og_tokenizer *t, bool *wanted)
{
	*wanted = t->adds_bos && t->bos != OG_NO_TOKEN;
	return t->bos;
}

bool og_tokenizer_is_end(const struct og_tokenizer *t, uint32_t id)
{
	return t->tokens[id].is_end;
}

/* The longest special token at the start of the text. */
static uint32_t special_at(const struct og_tokenizer *t, const char *text, size_t len, bool control)
{
	uint8_t first = (uint8_t)text[0];

	for (uint32_t i = t->special_start[first]; i < t->special_start[first + 1]; i++) {
		const struct token *k = &t->tokens[t->specials[i]];

		if (k->type == TYPE_CONTROL && !control)
			continue;
		if (k->len_bytes <= len && memcmp(t->pool + k->at, text, k->len_bytes) == 0)
			return t->specials[i];
	}
	return OG_NO_TOKEN;
}

uint32_t og_tokenizer_find_control(const struct og_tokenizer *t, const char *text)
{
	size_t len = strlen(text);
	uint32_t id = special_at(t, text, len, true);

	if (id == OG_NO_TOKEN || t->tokens[id].len_bytes != len ||
		t->tokens[id].type != TYPE_CONTROL)
		return OG_NO_TOKEN;
	return id;
}

struct og_text og_tokenizer_bytes(const struct og_tokenizer *t, uint32_t id)
{
	const struct token *k = &t->tokens[id];

	if (k->type != TYPE_NORMAL && k->type != TYPE_USER_DEFINED)
		return (struct og_text){"", 0};
	return (struct og_text){t->pool + k->at, k->len_bytes};
}

int og_tokens_push(struct og_tokens *out, uint32_t id)
{
	if (out->count == out->cap)
		return -E2BIG;
	out->ids[out->count++] = id;
	return 0;
}

static bool comes_first(const struct candidate *a, const struct candidate *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct og_tokenizer *t, struct candidate c)
{
	size_t i = t->heap_len++;

	while (i > 0 && comes_first(&c, &t->heap[(i - 1) / 2])) {
		t->heap[i] = t->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	t->heap[i] = c;
}

static struct candidate heap_pop(struct og_tokenizer *t)
{
	struct candidate top = t->heap[0], last = t->heap[--t->heap_len];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < t->heap_len && comes_first(&t->heap[child + 1], &t->heap[child]))
			child++;
		if (child >= t->heap_len || !comes_first(&t->heap[child], &last))
			break;
		t->heap[i] = t->heap[child];
		i = child;
	}
	t->heap[i] = last;
	return top;
}

/* If the symbol at `i` and its successor can be joined, that is a candidate. */
static void consider(struct og_tokenizer *t, int32_t i)
{
	const struct merge *m;
	int32_t next = i < 0 ? -1 : t->symbols[i].next;

	if (next < 0)
		return;
	m = merge_place(t, t->symbols[i].id, t->symbols[next].id);
	if (m->joined != OG_NO_TOKEN)
		heap_push(t, (struct candidate){m->rank, i, m->left, m->right, m->joined});
}

/* Room for a piece of `len` symbols: n-1 candidates at first and two more for each join. */
static int make_room(struct og_tokenizer *t, size_t len)
{
	struct symbol *symbols;
	struct candidate *heap;

	if (len <= t->scratch_len)
		return 0;
	if (len > INT32_MAX)
		return -E2BIG;
	symbols = realloc(t->symbols, len * sizeof(*symbols));
	if (symbols)
		t->symbols = symbols;
	heap = realloc(t->heap, 3 * len * sizeof(*heap));
	if (heap)
		t->heap = heap;
	if (!symbols || !heap)
		return -ENOMEM;
	t->scratch_len = len;
	return 0;
}

/* One symbol per byte; bytes that the vocabulary lacks are unknown, or left out. */
static int32_t start_symbols(struct og_tokenizer *t, const char *data, size_t len)
{
	int32_t n = 0;

	for (size_t i = 0; i < len; i++) {
		uint32_t id = t->byte_tokens[(uint8_t)data[i]];

		if (id == OG_NO_TOKEN)
			id = t->unknown;
		if (id == OG_NO_TOKEN)
			continue;
		t->symbols[n] = (struct symbol){id, n - 1, n + 1};
		n++;
	}
	if (n > 0)
		t->symbols[n - 1].next = -1;
	return n;
}

static void join(struct og_tokenizer *t, const struct candidate *c)
{
	struct symbol *left = &t->symbols[c->at];
	int32_t right = left->next;

	/* Either side may have been joined to something else since. */
	if (left->id != c->left || right < 0 || t->symbols[right].id != c->right)
		return;
	left->id = c->joined;
	left->next = t->symbols[right].next;
	t->symbols[right].id = OG_NO_TOKEN;
	if (left->next >= 0)
		t->symbols[left->next].prev = c->at;
	consider(t, left->prev);
	consider(t, c->at);
}

struct encoding {
	struct og_tokenizer *t;
	struct og_tokens *out;
};

static int encode_piece(void *ctx, const char *data, size_t len)
{
	struct encoding *e = ctx;
	struct og_tokenizer *t = e->t;
	int32_t n;
	int ret = make_room(t, len);

	if (ret < 0)
		return ret;
	if (t->pre.whole_pieces) {
		uint32_t id = *bytes_place(t, data, len);

		if (id != OG_NO_TOKEN)
			return og_tokens_push(e->out, id);
	}
	n = start_symbols(t, data, len);
	t->heap_len = 0;
	for (int32_t i = 0; i < n; i++)
		consider(t, i);
	while (t->heap_len > 0) {
		struct candidate c = heap_pop(t);

		join(t, &c);
	}
	for (int32_t i = n > 0 ? 0 : -1; i >= 0 && ret == 0; i = t->symbols[i].next)
		ret = og_tokens_push(e->out, t->symbols[i].id);
	return ret;
}

int og_tokenizer_encode(struct og_tokenizer *t, const char *text, size_t len_bytes, bool control,
	struct og_tokens *out)
{
	struct encoding e = {t, out};
	size_t start = 0, at = 0;
	int ret;

	while (at < len_bytes) {
		uint32_t special = special_at(t, text + at, len_bytes - at, control);

		if (special == OG_NO_TOKEN) {
			at++;
			continue;
		}
		ret = og_pretokenize(&t->pre, text + start, at - start, encode_piece, &e);
		if (ret == 0)
			ret = og_tokens_push(out, special);
		if (ret < 0)
			return ret;
		at += t->tokens[special].len_bytes;
		start = at;
	}
	return og_pretokenize(&t->pre, text + start, at - start, encode_piece, &e);
}
