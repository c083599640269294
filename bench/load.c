#include "bench/load.h"

#include "base/bytes.h"
#include "bench/load_priv.h"

#include <errno.h>

enum { TRIES = 3, TRY_MS = 1000 };

int load_answer(
	const struct load_plan *plan, const uint8_t *data, size_t len_bytes, struct load_result *r)
{
	uint16_t slot;

	if (len_bytes < plan->id_offset + 2u)
		return -1;
	slot = og_load_le16(data + plan->id_offset);
	if (slot >= plan->window)
		return -1;
	if (len_bytes < plan->min_bytes || (plan->first_byte >= 0 && data[0] != plan->first_byte))
		r->bad++;
	else
		r->replies++;
	return slot;
}

int load_run(struct load *l, const struct load_plan *plan, uint64_t ns, struct load_result *out)
{
	return l->ops->run(l, plan, ns, out);
}

int load_ask(struct load *l, const uint8_t *request, uint16_t len_bytes,
	uint8_t answer[LOAD_REPLY_BYTES])
{
	for (int i = 0; i < TRIES; i++) {
		int n = l->ops->ask(l, request, len_bytes, answer, TRY_MS);

		if (n != -EAGAIN)
			return n;
	}
	return -ETIMEDOUT;
}

void load_close(struct load *l)
{
	if (l)
		l->ops->close(l);
}
