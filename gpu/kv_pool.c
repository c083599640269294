#include "gpu/kv_pool.h"

#include <errno.h>
#include <stdlib.h>

int og_kv_pool_init(struct og_kv_pool *p, uint32_t nb_pages)
{
	p->pages = calloc(nb_pages, sizeof(*p->pages));
	p->free = calloc(nb_pages, sizeof(*p->free));
	if (!p->pages || !p->free)
		return -ENOMEM;
	p->nb_pages = nb_pages;
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
	*p = (struct og_kv_pool){0};
}

int og_kv_pool_take(struct og_kv_pool *p, uint32_t *page)
{
	if (p->nb_free == 0)
		return -ENOBUFS;
	*page = p->free[--p->nb_free];
	p->pages[*page].nb_users = 1;
	return 0;
}

void og_kv_pool_put(struct og_kv_pool *p, uint32_t page)
{
	OG_ASSERT(p->pages[page].nb_users > 0);
	if (--p->pages[page].nb_users == 0)
		p->free[p->nb_free++] = page;
}
