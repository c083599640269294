#include "bench/probes.h"

#include "base/bytes.h"
#include "bench/dht_requests.h"

#include <stdlib.h>

static const uint64_t lost_ns = OG_NS_PER_S;

void probes_init(struct probes *p, const struct og_addr *to)
{
	p->nb = 0;
	p->to = *to;
	og_rand_system(&p->rand);
}

uint16_t probes_next(struct probes *p, uint8_t out[LOAD_REQUEST_BYTES], uint64_t now_ns)
{
	uint8_t target[32];

	if (p->nb == PROBES_MAX)
		return 0;
	og_rand_fill(&p->rand, target, sizeof(target));
	p->took_ns[p->nb] = 0;
	p->sent_ns[p->nb] = now_ns;
	p->nb++;
	return dht_request(
		out, (enum dht_request)((p->nb - 1) % 3), (uint16_t)(p->nb - 1), &p->to, target);
}

void probes_answer(struct probes *p, const uint8_t *data, size_t len_bytes, uint64_t came_ns)
{
	uint16_t tid;

	if (len_bytes < 4)
		return;
	tid = og_load_le16(data + 2);
	if (tid < p->nb && p->took_ns[tid] == 0)
		p->took_ns[tid] =
			came_ns > p->sent_ns[tid] ? came_ns - p->sent_ns[tid] : 1; /* seen */
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

struct probes_seen probes_result(const struct probes *p)
{
	static uint64_t took[PROBES_MAX];
	uint32_t n = 0;

	for (uint16_t i = 0; i < p->nb; i++)
		if (p->took_ns[i] > 0 && p->took_ns[i] <= lost_ns)
			took[n++] = p->took_ns[i];
	qsort(took, n, sizeof(took[0]), by_value);
	return (struct probes_seen){100.0 * (double)(p->nb - n) / (double)OG_MAX(p->nb, 1),
		n ? (double)took[n / 2] / 1e3 : 0, n ? (double)took[n * 99 / 100] / 1e3 : 0};
}
