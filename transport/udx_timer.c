#include "transport/udx_timer.h"

#include <errno.h>
#include <stdlib.h>

int og_udx_timers_create(struct og_udx_timers *t, uint32_t nb_slots)
{
	*t = (struct og_udx_timers){0};
	t->heap = calloc(nb_slots, sizeof(*t->heap));
	t->position = calloc(nb_slots, sizeof(*t->position));
	if (!t->heap || !t->position) {
		og_udx_timers_destroy(t);
		return -ENOMEM;
	}
	return 0;
}

void og_udx_timers_destroy(struct og_udx_timers *t)
{
	free(t->heap);
	free(t->position);
	*t = (struct og_udx_timers){0};
}

static void place(struct og_udx_timers *t, uint32_t i, struct og_udx_timer timer)
{
	t->heap[i] = timer;
	t->position[timer.slot] = i + 1;
}

static void sift_up(struct og_udx_timers *t, uint32_t i, struct og_udx_timer timer)
{
	while (i > 0 && t->heap[(i - 1) / 2].when_ns > timer.when_ns) {
		place(t, i, t->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(t, i, timer);
}

static void sift_down(struct og_udx_timers *t, uint32_t i, struct og_udx_timer timer)
{
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= t->nb)
			break;
		if (child + 1 < t->nb && t->heap[child + 1].when_ns < t->heap[child].when_ns)
			child++;
		if (t->heap[child].when_ns >= timer.when_ns)
			break;
		place(t, i, t->heap[child]);
		i = child;
	}
	place(t, i, timer);
}

void og_udx_timers_arm(struct og_udx_timers *t, uint32_t slot, uint64_t when_ns)
{
	uint32_t at = t->position[slot];
	struct og_udx_timer timer = {when_ns, slot};

	if (at > 0) {
		if (when_ns < t->heap[at - 1].when_ns)
			sift_up(t, at - 1, timer);
	} else if (when_ns != OG_NEVER) {
		sift_up(t, t->nb++, timer);
	}
}

void og_udx_timers_cancel(struct og_udx_timers *t, uint32_t slot)
{
	uint32_t at = t->position[slot];
	struct og_udx_timer last;

	if (at == 0)
		return;
	t->position[slot] = 0;
	last = t->heap[--t->nb];
	if (last.slot == slot)
		return;
	sift_down(t, at - 1, last);
	sift_up(t, t->position[last.slot] - 1, last);
}

bool og_udx_timers_pop(struct og_udx_timers *t, uint64_t now_ns, uint32_t *slot)
{
	if (t->nb == 0 || t->heap[0].when_ns > now_ns)
		return false;
	*slot = t->heap[0].slot;
	og_udx_timers_cancel(t, *slot);
	return true;
}
