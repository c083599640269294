#include "gpu/tokenizer_priv.h"

#include <errno.h>
#include <stdlib.h>

/* What starts at a byte of the piece: a character, and later a token; a list, so joining is cheap. */
struct og_bpe_symbol {
	uint32_t id; /* OG_NO_TOKEN: characters that are no token yet */
	int32_t prev, next;
};

struct og_bpe_candidate {
	uint32_t rank;
	int32_t at; /* the left symbol */
	uint32_t left, right;
};

/* One piece. */
struct piece {
	const struct og_tokenizer *t;
	struct og_bpe_scratch *s;
	const char *data;
	int32_t len;
	int32_t first, last; /* symbols, -1: none */
};

static bool comes_first(const struct og_bpe_candidate *a, const struct og_bpe_candidate *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct og_bpe_scratch *s, struct og_bpe_candidate c)
{
	size_t i = s->heap_len++;

	while (i > 0 && comes_first(&c, &s->heap[(i - 1) / 2])) {
		s->heap[i] = s->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	s->heap[i] = c;
}

static struct og_bpe_candidate heap_pop(struct og_bpe_scratch *s)
{
	struct og_bpe_candidate top = s->heap[0], last = s->heap[--s->heap_len];
	size_t i = 0;

	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < s->heap_len && comes_first(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (child >= s->heap_len || !comes_first(&s->heap[child], &last))
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = last;
	return top;
}

/* Numbers that ascend while scores fall. */
static uint32_t rank_of_score(float score)
{
	uint32_t bits;

	score += 0.0f; /* the two zeros are one */
	memcpy(&bits, &score, 4);
	return bits & 0x80000000 ? bits : 0x7fffffff - bits;
}

/* What the symbol at `i` and its successor become, or OG_NO_TOKEN. */
static uint32_t joined(const struct piece *p, int32_t i, uint32_t *rank)
{
	const struct og_bpe_symbol *symbols = p->s->symbols;
	int32_t next = symbols[i].next, end;
	const struct og_merge *m;
	uint32_t id;

	if (p->t->merges) {
		m = og_tokenizer_merge(p->t, symbols[i].id, symbols[next].id);
		*rank = m->rank;
		return m->joined;
	}
	end = symbols[next].next < 0 ? p->len : symbols[next].next;
	id = og_tokenizer_find(p->t, p->data + i, (size_t)(end - i));
	if (id != OG_NO_TOKEN)
		*rank = rank_of_score(p->t->scores[id]);
	return id;
}

/* If the symbol at `i` and its successor can be joined, that is a candidate. */
static void consider(struct piece *p, int32_t i)
{
	const struct og_bpe_symbol *symbols = p->s->symbols;
	uint32_t rank;

	if (i < 0 || symbols[i].next < 0 || joined(p, i, &rank) == OG_NO_TOKEN)
		return;
	heap_push(p->s,
		(struct og_bpe_candidate){rank, i, symbols[i].id, symbols[symbols[i].next].id});
}

static void join(struct piece *p, const struct og_bpe_candidate *c)
{
	struct og_bpe_symbol *symbols = p->s->symbols, *left = &symbols[c->at];
	int32_t right = left->next;
	uint32_t rank;

	/* Either side may have been joined to something else since: then it is longer and another. */
	if (left->id != c->left || right < 0 || left->prev == -2 || symbols[right].id != c->right)
		return;
	left->id = joined(p, c->at, &rank);
	left->next = symbols[right].next;
	symbols[right].prev = -2; /* is no symbol any more */
	if (left->next >= 0)
		symbols[left->next].prev = c->at;
	consider(p, left->prev);
	consider(p, c->at);
}

/*
 * Room for a piece of `len` bytes: a symbol each; n-1 candidates at first, and while one leaves for
 * each join two may come.
 */
static int make_room(struct og_bpe_scratch *s, size_t len)
{
	struct og_bpe_symbol *symbols;
	struct og_bpe_candidate *heap;

	if (len <= s->room)
		return 0;
	if (len > 2 * OG_TOKENIZER_TEXT_MAX_BYTES)
		return -E2BIG;
	symbols = realloc(s->symbols, len * sizeof(*symbols));
	if (symbols)
		s->symbols = symbols;
	heap = realloc(s->heap, 2 * len * sizeof(*heap));
	if (heap)
		s->heap = heap;
	if (!symbols || !heap)
		return -ENOMEM;
	s->room = len;
	return 0;
}

static void add_symbol(struct piece *p, int32_t at, uint32_t id)
{
	struct og_bpe_symbol *symbols = p->s->symbols;

	symbols[at] = (struct og_bpe_symbol){id, p->last, -1};
	if (p->last >= 0)
		symbols[p->last].next = at;
	else
		p->first = at;
	p->last = at;
}

static bool has_bytes(const struct og_tokenizer *t, const char *data, int len)
{
	for (int i = 0; i < len; i++)
		if (t->byte_tokens[(uint8_t)data[i]] == OG_NO_TOKEN)
			return false;
	return true;
}

/* A character that is no token: its bytes, or the unknown token, or nothing. */
static void add_unknown(struct piece *p, int32_t at, int len, bool *fuses)
{
	const struct og_tokenizer *t = p->t;

	if (!t->is_byte_level && has_bytes(t, p->data + at, len)) {
		*fuses = false;
		for (int32_t i = 0; i < len; i++)
			add_symbol(p, at + i, t->byte_tokens[(uint8_t)p->data[at + i]]);
		return;
	}
	if (t->unknown != OG_NO_TOKEN && !(*fuses && t->fuses_unknown))
		add_symbol(p, at, t->unknown);
	*fuses = true;
}

static void start_symbols(struct piece *p)
{
	const struct og_tokenizer *t = p->t;
	bool fuses = false; /* the character before was unknown */

	for (int32_t at = 0; at < p->len;) {
		int len = 1;
		uint32_t id;

		if (t->is_byte_level) {
			id = t->byte_tokens[(uint8_t)p->data[at]];
		} else {
			len = og_utf8_first(p->data + at, (size_t)(p->len - at));
			if (len <= 0)
				len = len < 0 ? -len : p->len - at;
			id = og_tokenizer_find(t, p->data + at, (size_t)len);
		}
		if (id != OG_NO_TOKEN || t->scores) {
			add_symbol(p, at, id);
			fuses = false;
		} else {
			add_unknown(p, at, len, &fuses);
		}
		at += len;
	}
}

/* Characters that scores have joined to nothing: their bytes, or the unknown token. */
static int push_bytes(const struct piece *p, int32_t at, struct og_tokens *out)
{
	int32_t next = p->s->symbols[at].next, end = next < 0 ? p->len : next;
	int ret = 0;

	if (!has_bytes(p->t, p->data + at, end - at))
		return p->t->unknown == OG_NO_TOKEN ? 0 : og_tokens_push(out, p->t->unknown);
	for (; at < end && ret == 0; at++)
		ret = og_tokens_push(out, p->t->byte_tokens[(uint8_t)p->data[at]]);
	return ret;
}

int og_bpe_encode(const struct og_tokenizer *t, struct og_bpe_scratch *s, const char *data,
	size_t len, struct og_tokens *out)
{
	struct piece p = {t, s, data, (int32_t)len, -1, -1};
	int ret = make_room(s, len);
	uint32_t id;

	if (ret < 0)
		return ret;
	if (t->whole_pieces) {
		id = og_tokenizer_find(t, data, len);
		if (id != OG_NO_TOKEN)
			return og_tokens_push(out, id);
	}
	start_symbols(&p);
	s->heap_len = 0;
	for (int32_t i = p.last; i >= 0; i = s->symbols[i].prev)
		consider(&p, i);
	while (s->heap_len > 0) {
		struct og_bpe_candidate c = heap_pop(s);

		join(&p, &c);
	}
	for (int32_t i = p.first; i >= 0 && ret == 0; i = s->symbols[i].next)
		ret = s->symbols[i].id != OG_NO_TOKEN ? og_tokens_push(out, s->symbols[i].id)
						      : push_bytes(&p, i, out);
	return ret;
}

void og_bpe_scratch_fini(struct og_bpe_scratch *s)
{
	free(s->symbols);
	free(s->heap);
}
