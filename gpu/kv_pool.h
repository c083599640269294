/*
 * kv_pool.h: which pages of the KV cache are in use, by how many sequences, and what the full pages
 * of prompts hold, so that a later prompt that begins alike takes them over.
 *
 * A shared page is found by its 64 tokens and by the shared page before it, that is by the whole
 * prompt up to its end. Tokens are compared, not only hashes, so a collision costs time and never
 * gives one prompt the keys of another. Only pages whose tokens are all of a prompt are shared.
 * What no sequence holds stays findable until its room is needed; the longest unused goes first.
 *
 * Threads: one engine thread.
 * Memory:  tables made at init. The pages themselves are the back end's.
 */
#pragma once
#include "gpu/backend.h"

struct og_kv_page {
	uint32_t nb_users;   /* sequences that hold it */
	uint32_t next, prev; /* among the idle: shared, and held by nobody */
	uint32_t chain;      /* the next of its bucket */
	uint64_t serial;     /* unlike that of any other page ever shared; 0: not shared */
	uint64_t parent;     /* serial of the page before it; 0: the first of a prompt */
	uint32_t tokens[OG_KV_PAGE_TOKENS];
};

struct og_kv_pool {
	struct og_kv_page *pages; /* and one more: the head of the ring of idle ones */
	uint32_t nb_pages;
	uint32_t *free; /* a stack */
	uint32_t nb_free;
	uint32_t nb_idle;
	uint32_t *buckets;
	uint32_t nb_buckets; /* a power of two */
	uint64_t last_serial;
};

int og_kv_pool_init(struct og_kv_pool *p, uint32_t nb_pages) OG_MUST_CHECK;
void og_kv_pool_fini(struct og_kv_pool *p);

/* How many og_kv_pool_take() can give. */
static inline uint32_t og_kv_pool_available(const struct og_kv_pool *p)
{
	return p->nb_free + p->nb_idle;
}

/* A page for one sequence. Returns 0, or -ENOBUFS when all are held. */
int og_kv_pool_take(struct og_kv_pool *p, uint32_t *page) OG_MUST_CHECK;
/* One sequence lets it go. */
void og_kv_pool_put(struct og_kv_pool *p, uint32_t page);

/*
 * The shared page that follows `parent` (a serial, or 0) with these tokens, taken for one more
 * sequence. Returns 0 or -ENOENT.
 */
int og_kv_pool_find(struct og_kv_pool *p, uint64_t parent, const uint32_t tokens[OG_KV_PAGE_TOKENS],
	uint32_t *page) OG_MUST_CHECK;
/*
 * Share a page that is filled with these tokens behind `parent`. Where there is such a page already
 * the caller gets that one in exchange. Returns the page that the caller holds from now on.
 */
uint32_t og_kv_pool_share(struct og_kv_pool *p, uint32_t page, uint64_t parent,
	const uint32_t tokens[OG_KV_PAGE_TOKENS]);
