#include "gpu/kv_cache.h"

#include <errno.h>
#include <sys/mman.h>

uint64_t og_kv_page_bytes(const struct og_hparams *hp, bool in_fp8)
{
	uint64_t bytes = 2 * OG_KV_PAGE_TOKENS; /* a key and a value */
	/* Codes, and in two bytes the scale of each head. */
	uint64_t head_bytes = in_fp8 ? hp->head_dim + 2ull : 2ull * hp->head_dim;

	if (__builtin_mul_overflow(bytes, head_bytes * hp->nb_kv_heads, &bytes) ||
		__builtin_mul_overflow(bytes, (uint64_t)hp->nb_layers, &bytes))
		return UINT64_MAX;
	return bytes;
}

int og_kv_cache_init(struct og_kv_cache *kv, const struct og_hparams *hp, uint32_t nb_pages)
{
	uint64_t page_bytes = og_kv_page_bytes(hp, false), bytes;
	void *base;

	if (__builtin_mul_overflow(page_bytes, (uint64_t)nb_pages, &bytes) || bytes == 0 ||
		bytes > SIZE_MAX / 2)
		return -ENOMEM;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -ENOMEM;
	*kv = (struct og_kv_cache){
		.base = base,
		.map_bytes = bytes,
		.head_values = (size_t)OG_KV_PAGE_TOKENS * hp->head_dim,
		.layer_values = (size_t)OG_KV_PAGE_TOKENS * hp->head_dim * hp->nb_kv_heads * 2,
		.page_values = page_bytes / sizeof(uint16_t),
	};
	return 0;
}

void og_kv_cache_fini(struct og_kv_cache *kv)
{
	if (kv->base)
		munmap(kv->base, kv->map_bytes);
	kv->base = NULL;
}
