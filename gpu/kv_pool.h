/*
 * kv_pool.h: which pages of the KV cache are in use, and by how many sequences.
 *
 * Threads: one engine thread.
 * Memory:  tables made at init. The pages themselves are the back end's.
 */
#pragma once
#include "gpu/backend.h"

struct og_kv_page {
	uint32_t nb_users; /* sequences that hold it */
};

struct og_kv_pool {
	struct og_kv_page *pages;
	uint32_t nb_pages;
	uint32_t *free; /* a stack */
	uint32_t nb_free;
};

int og_kv_pool_init(struct og_kv_pool *p, uint32_t nb_pages) OG_MUST_CHECK;
void og_kv_pool_fini(struct og_kv_pool *p);

/* A page for one sequence. Returns 0, or -ENOBUFS when all are held. */
int og_kv_pool_take(struct og_kv_pool *p, uint32_t *page) OG_MUST_CHECK;
/* One sequence lets it go. */
void og_kv_pool_put(struct og_kv_pool *p, uint32_t page);
