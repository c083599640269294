#include "gpu/kv_pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { NO_PAGE = UINT32_MAX };

int og_kv_pool_init(struct og_kv_pool *p, uint32_t nb_pages)
{
	uint32_t nb_buckets = 1;

	while (nb_buckets < nb_pages && nb_buckets < 1u << 31)
		nb_buckets *= 2;
	p->pages = calloc((size_t)nb_pages + 1, sizeof(*p->pages));
	p->free = calloc(nb_pages, sizeof(*p->free));
	p->buckets = calloc(nb_buckets, sizeof(*p->buckets));
	if (!p->pages || !p->free || !p->buckets)
		return -ENOMEM;
	p->nb_pages = nb_pages;
	p->nb_buckets = nb_buckets;
	memset(p->buckets, 0xff, nb_buckets * sizeof(*p->buckets)); /* NO_PAGE */
	p->pages[nb_pages].next = p->pages[nb_pages].prev = nb_pages;
	while (p->nb_free < nb_pages) {
		p->free[p->nb_free] = nb_pages - 1 - p->nb_free;
		p->nb_free++;
	}
	return 0;
}

void og_kv_pool_fini(struct og_kv_pool *p)
{
	free(p->pages);
	free(p->free);
	free(p->buckets);
	*p = (struct og_kv_pool){0};
}

static uint32_t *bucket_of(struct og_kv_pool *p, uint64_t parent, const uint32_t *tokens)
{
	uint64_t h = parent * 0x9e3779b97f4a7c15u;

	for (uint32_t i = 0; i < OG_KV_PAGE_TOKENS; i++) {
		h = (h ^ tokens[i]) * 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	return &p->buckets[h & (p->nb_buckets - 1)];
}

static void idle_add(struct og_kv_pool *p, uint32_t page)
{
	uint32_t head = p->nb_pages, last = p->pages[head].prev;

	p->pages[page].next = head;
	p->pages[page].prev = last;
	p->pages[last].next = p->pages[head].prev = page;
	p->nb_idle++;
}

static void idle_remove(struct og_kv_pool *p, uint32_t page)
{
	p->pages[p->pages[page].prev].next = p->pages[page].next;
	p->pages[p->pages[page].next].prev = p->pages[page].prev;
	p->nb_idle--;
}

/* Nobody finds it any more. */
static void forget(struct og_kv_pool *p, uint32_t page)
{
	struct og_kv_page *g = &p->pages[page];
	uint32_t *at = bucket_of(p, g->parent, g->tokens);

	while (*at != page)
		at = &p->pages[*at].chain;
	*at = g->chain;
	g->serial = 0;
}

int og_kv_pool_take(struct og_kv_pool *p, uint32_t *page)
{
	if (og_kv_pool_available(p) == 0)
		return -ENOBUFS;
	if (p->nb_free > 0) {
		*page = p->free[--p->nb_free];
	} else {
		*page = p->pages[p->nb_pages].next;
		idle_remove(p, *page);
		forget(p, *page);
	}
	p->pages[*page].nb_users = 1;
	return 0;
}

void og_kv_pool_put(struct og_kv_pool *p, uint32_t page)
{
	OG_ASSERT(p->pages[page].nb_users > 0);
	if (--p->pages[page].nb_users > 0)
		return;
	if (p->pages[page].serial)
		idle_add(p, page);
	else
		p->free[p->nb_free++] = page;
}

int og_kv_pool_find(struct og_kv_pool *p, uint64_t parent, const uint32_t tokens[OG_KV_PAGE_TOKENS],
	uint32_t *page)
{
	uint32_t at = *bucket_of(p, parent, tokens);

	while (at != NO_PAGE &&
		(p->pages[at].parent != parent ||
			memcmp(p->pages[at].tokens, tokens, sizeof(p->pages[at].tokens)) != 0))
		at = p->pages[at].chain;
	if (at == NO_PAGE)
		return -ENOENT;
	if (p->pages[at].nb_users++ == 0)
		idle_remove(p, at);
	*page = at;
	return 0;
}

uint32_t og_kv_pool_share(struct og_kv_pool *p, uint32_t page, uint64_t parent,
	const uint32_t tokens[OG_KV_PAGE_TOKENS])
{
	struct og_kv_page *g = &p->pages[page];
	uint32_t *bucket, same;

	if (og_kv_pool_find(p, parent, tokens, &same) == 0) {
		og_kv_pool_put(p, page);
		return same;
	}
	bucket = bucket_of(p, parent, tokens);
	memcpy(g->tokens, tokens, sizeof(g->tokens));
	g->parent = parent;
	g->serial = ++p->last_serial;
	g->chain = *bucket;
	*bucket = page;
	return page;
}
