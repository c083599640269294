#include "gpu/event_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int og_event_queue_init(struct og_event_queue *q, uint32_t cap)
{
	*q = (struct og_event_queue){.cap = cap, .events = calloc(cap, sizeof(*q->events))};
	return q->events ? 0 : -ENOMEM;
}

void og_event_queue_fini(struct og_event_queue *q)
{
	free(q->events);
	q->events = NULL;
}

static bool has_room(const struct og_event_queue *q)
{
	return q->count + q->reserved < q->cap;
}

static struct og_infer_event *push(struct og_event_queue *q)
{
	struct og_infer_event *e = &q->events[(q->head + q->count++) % q->cap];

	memset(e, 0, sizeof(*e));
	return e;
}

bool og_event_queue_reserve(struct og_event_queue *q)
{
	if (!has_room(q))
		return false;
	q->reserved++;
	return true;
}

struct og_infer_event *og_event_queue_push(struct og_event_queue *q)
{
	return has_room(q) ? push(q) : NULL;
}

struct og_infer_event *og_event_queue_push_last(struct og_event_queue *q)
{
	OG_ASSERT(q->reserved > 0);
	q->reserved--;
	return push(q);
}

uint32_t og_event_queue_take(struct og_event_queue *q, struct og_infer_event *out, uint32_t n)
{
	n = OG_MIN(n, q->count);
	for (uint32_t i = 0; i < n; i++)
		out[i] = q->events[(q->head + i) % q->cap];
	q->head = (q->head + n) % q->cap;
	q->count -= n;
	return n;
}
