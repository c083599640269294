#include "gpu/tokenizer_priv.h"

#include <errno.h>
#include <stdlib.h>

static int compare(const void *a, const void *b, void *ctx)
{
	const struct og_added_token *x = a, *y = b;
	const char *pool = ctx;
	int order = memcmp(pool + x->at, pool + y->at, OG_MIN(x->len, y->len));

	if (order != 0)
		return order;
	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return x->id < y->id ? -1 : 1;
}

static bool belongs(const struct og_token *k, bool normalized)
{
	if (k->len_bytes == 0)
		return false;
	/* Control tokens are what a template writes, and normalizing is not to change that. */
	if (k->type == OG_TOKEN_CONTROL)
		return !normalized;
	return k->type == OG_TOKEN_USER_DEFINED && !(k->flags & OG_TOKEN_NORMALIZED) == !normalized;
}

/* What is looked for: the token as it is written, or that normalized. Empty: nothing is. */
static int add_item(struct og_added_tokens *a, struct og_tokenizer *t, uint32_t id, bool normalized)
{
	struct og_added_token item = {id, t->tokens[id].at, t->tokens[id].len_bytes};
	struct og_buf text = {0}, spare = {0};
	int ret = 0;

	if (normalized && t->normalizer.nb_steps > 0) {
		ret = og_normalize(&t->normalizer, (struct og_text){og_token_data(t, id), item.len},
			&text, &spare);
		item.at = (uint32_t)t->pool.len;
		item.len = (uint32_t)text.len;
		if (ret == 0)
			ret = og_buf_append(&t->pool, text.data, text.len);
		if (t->pool.len > UINT32_MAX / 2)
			ret = -ENOMEM;
		free(text.data);
		free(spare.data);
	}
	if (ret == 0 && item.len > 0)
		a->items[a->count++] = item;
	return ret;
}

int og_added_init(struct og_added_tokens *a, struct og_tokenizer *t, bool normalized)
{
	uint32_t n = 0, b = 0;

	for (uint32_t i = 0; i < t->nb_tokens; i++)
		n += belongs(&t->tokens[i], normalized);
	free(a->items);
	a->count = 0;
	a->items = malloc((n + 1) * sizeof(*a->items));
	if (!a->items)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->nb_tokens; i++) {
		int ret = belongs(&t->tokens[i], normalized) ? add_item(a, t, i, normalized) : 0;

		if (ret < 0)
			return ret;
	}
	qsort_r(a->items, a->count, sizeof(*a->items), compare, t->pool.data);
	for (uint32_t i = 0; i < a->count; i++)
		while (b <= (uint8_t)t->pool.data[a->items[i].at])
			a->start[b++] = i;
	while (b <= 256)
		a->start[b++] = a->count;
	return 0;
}

void og_added_fini(struct og_added_tokens *a)
{
	free(a->items);
}

/* The first of the items [low, high), which agree up to `depth`, whose byte there is at least `byte`. */
static uint32_t lower_bound(const struct og_added_tokens *a, const struct og_tokenizer *t,
	uint32_t low, uint32_t high, uint32_t depth, unsigned byte)
{
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct og_added_token *item = &a->items[middle];

		if (item->len <= depth || (uint8_t)t->pool.data[item->at + depth] < byte)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_foreign(const struct og_added_scope *scope, uint32_t start, uint32_t end)
{
	uint32_t low = 0, high = scope->nb_foreign;

	while (low < high) { /* the first span that ends behind `start` */
		uint32_t middle = low + (high - low) / 2;

		if (scope->foreign[middle].end <= start)
			low = middle + 1;
		else
			high = middle;
	}
	return low < scope->nb_foreign && scope->foreign[low].start < end;
}

/* The longest token that starts at `at` and is allowed there. */
static const struct og_added_token *longest_at(const struct og_added_tokens *a,
	const struct og_tokenizer *t, struct og_text text, uint32_t at,
	const struct og_added_scope *scope)
{
	uint8_t first = (uint8_t)text.data[at];
	uint32_t low = a->start[first], high = a->start[first + 1];
	const struct og_added_token *found = NULL;

	for (uint32_t depth = 1; low < high; depth++) {
		const struct og_added_token *item = &a->items[low];
		unsigned byte;

		if (item->len == depth &&
			(t->tokens[item->id].type != OG_TOKEN_CONTROL ||
				(scope->control && !is_foreign(scope, at, at + depth))))
			found = item;
		if (at + depth == text.len_bytes)
			break;
		byte = (uint8_t)text.data[at + depth];
		low = lower_bound(a, t, low, high, depth, byte);
		high = lower_bound(a, t, low, high, depth, byte + 1);
	}
	return found;
}

/* The character that ends at `at`, as bytes [return, at). */
static uint32_t char_before(struct og_text text, uint32_t at)
{
	uint32_t from = at - 1;

	while (from > 0 && at - from < 4 && (text.data[from] & 0xc0) == 0x80)
		from--;
	return og_utf8_first(text.data + from, at - from) == (int)(at - from) ? from : at - 1;
}

static bool is_class_at(
	struct og_text text, uint32_t at, uint32_t end, bool (*is)(uint32_t c), uint32_t *len)
{
	int n = at < end ? og_utf8_first(text.data + at, end - at) : 0;

	*len = n > 0 ? (uint32_t)n : 0;
	return n > 0 && is(og_utf8_decode(text.data + at, n));
}

static bool stands_alone(struct og_text text, uint32_t start, uint32_t end)
{
	uint32_t len;

	return !(start > 0 &&
		       is_class_at(text, char_before(text, start), start, og_char_is_word, &len)) &&
	       !is_class_at(text, end, text.len_bytes, og_char_is_word, &len);
}

/* Grow the match over white space, but not over what came before `from`. */
static void strip(
	const struct og_token *k, struct og_text text, uint32_t from, struct og_added_match *m)
{
	uint32_t len;

	while ((k->flags & OG_TOKEN_LSTRIP) && m->start > from) {
		uint32_t before = char_before(text, m->start);

		if (before < from || !is_class_at(text, before, m->start, og_char_is_space, &len))
			break;
		m->start = before;
	}
	while ((k->flags & OG_TOKEN_RSTRIP) &&
		is_class_at(text, m->end, text.len_bytes, og_char_is_space, &len))
		m->end += len;
}

struct og_added_match og_added_find(const struct og_added_tokens *a, const struct og_tokenizer *t,
	struct og_text text, uint32_t from, const struct og_added_scope *scope)
{
	for (uint32_t at = from; at < text.len_bytes && a->count > 0;) {
		const struct og_added_token *item = longest_at(a, t, text, at, scope);
		struct og_added_match m;

		if (!item) {
			at++;
			continue;
		}
		m = (struct og_added_match){item->id, at, at + item->len};
		if (!(t->tokens[m.id].flags & OG_TOKEN_SINGLE_WORD) ||
			stands_alone(text, m.start, m.end)) {
			strip(&t->tokens[m.id], text, from, &m);
			return m;
		}
		at = m.end;
	}
	return (struct og_added_match){OG_NO_TOKEN, text.len_bytes, text.len_bytes};
}
