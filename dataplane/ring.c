#include "dataplane/ring.h"

#include <errno.h>
#include <rte_common.h>
#include <stdlib.h>

enum { DEPTH_MAX = 1 << 24 };

int og_ring_create(struct rte_ring **out, uint32_t elem_bytes, uint32_t depth)
{
	struct rte_ring *r;
	ssize_t bytes;
	int ret;

	if (depth == 0 || depth > DEPTH_MAX)
		return -EINVAL;
	bytes = rte_ring_get_memsize_elem(elem_bytes, rte_align32pow2(depth + 1));
	if (bytes < 0)
		return (int)bytes;
	r = aligned_alloc(RTE_CACHE_LINE_SIZE, RTE_ALIGN_CEIL((size_t)bytes, RTE_CACHE_LINE_SIZE));
	if (!r)
		return -ENOMEM;
	ret = rte_ring_init(r, "", depth, RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
	if (ret < 0) {
		free(r);
		return ret;
	}
	*out = r;
	return 0;
}
