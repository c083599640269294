#include "gpu/kv_swap.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

int og_kv_swap_init(struct og_kv_swap *w, uint64_t page_bytes, uint32_t nb_places)
{
	uint64_t bytes;
	void *base;

	if (nb_places == 0)
		return 0;
	if (__builtin_mul_overflow(page_bytes, (uint64_t)nb_places, &bytes) || bytes > SIZE_MAX / 2)
		return -ENOMEM;
	w->free = calloc(nb_places, sizeof(*w->free));
	if (!w->free)
		return -ENOMEM;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -ENOMEM;
	w->base = base;
	w->page_bytes = page_bytes;
	w->nb_places = nb_places;
	while (w->nb_free < nb_places) {
		w->free[w->nb_free] = nb_places - 1 - w->nb_free;
		w->nb_free++;
	}
	return 0;
}

void og_kv_swap_fini(struct og_kv_swap *w)
{
	if (w->base)
		munmap(w->base, w->page_bytes * w->nb_places);
	free(w->free);
	*w = (struct og_kv_swap){0};
}

uint32_t og_kv_swap_take(struct og_kv_swap *w)
{
	OG_ASSERT(w->nb_free > 0);
	return w->free[--w->nb_free];
}

void og_kv_swap_put(struct og_kv_swap *w, uint32_t place)
{
	OG_ASSERT(w->nb_free < w->nb_places);
	w->free[w->nb_free++] = place;
}
