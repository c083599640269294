#include "cluster/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int og_outbox_init(struct og_outbox *o, struct og_sink *sink, uint32_t depth)
{
	memset(o, 0, sizeof(*o));
	o->sink = sink;
	o->depth = depth;
	o->queue = calloc(depth, sizeof(*o->queue));
	o->small = calloc(depth, sizeof(*o->small));
	if (!o->queue || !o->small) {
		og_outbox_fini(o);
		return -ENOMEM;
	}
	return 0;
}

void og_outbox_fini(struct og_outbox *o)
{
	free(o->queue);
	free(o->small);
	o->queue = NULL;
	o->small = NULL;
}

bool og_outbox_flush(struct og_outbox *o)
{
	while (o->used > 0) {
		if (o->sink->push(o->sink, &o->queue[o->head]) < 0)
			return false;
		o->head = (o->head + 1) % o->depth;
		o->used--;
	}
	return true;
}

int og_outbox_post(struct og_outbox *o, const struct og_msg *msg)
{
	uint32_t at;

	if (og_outbox_flush(o) && o->sink->push(o->sink, msg) == 0)
		return 0;
	if (msg->len_bytes > sizeof(o->small[0]))
		return -EAGAIN;
	if (o->used == o->depth) {
		o->lost++;
		return -EAGAIN;
	}
	at = (o->head + o->used++) % o->depth;
	o->queue[at] = *msg;
	if (msg->len_bytes > 0) {
		memcpy(o->small[at], msg->data, msg->len_bytes);
		o->queue[at].data = o->small[at];
	}
	return 0;
}
