#include "cluster/outbox.h"

#include <errno.h>
#include <sodium.h>
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

int og_outbox_init_vault(struct og_outbox *o, uint32_t depth)
{
	o->vault = calloc(depth, sizeof(*o->vault));
	if (!o->vault)
		return -ENOMEM;
	o->vault_depth = depth;
	(void)sodium_mlock(o->vault, depth * sizeof(*o->vault));
	return 0;
}

void og_outbox_fini(struct og_outbox *o)
{
	free(o->queue);
	free(o->small);
	if (o->vault)
		sodium_munlock(o->vault, o->vault_depth * sizeof(*o->vault)); /* and wiped */
	free(o->vault);
	*o = (struct og_outbox){0};
}

/* First in, first out, as the messages are. */
static void vault_give_back(struct og_outbox *o)
{
	sodium_memzero(o->vault[o->vault_head], sizeof(*o->vault));
	o->vault_head = (o->vault_head + 1) % o->vault_depth;
	o->vault_used--;
}

bool og_outbox_flush(struct og_outbox *o)
{
	while (o->used > 0) {
		const struct og_msg *m = &o->queue[o->head];

		if (o->sink->push(o->sink, m) < 0)
			return false;
		if (m->len_bytes > OG_OUTBOX_SMALL)
			vault_give_back(o);
		o->head = (o->head + 1) % o->depth;
		o->used--;
	}
	return true;
}

/* Where the data of the message that is queued at `at` waits, or NULL. */
static uint8_t *room_for(struct og_outbox *o, uint32_t at, uint32_t len_bytes)
{
	if (len_bytes <= OG_OUTBOX_SMALL)
		return o->small[at];
	if (len_bytes > OG_OUTBOX_LARGE || o->vault_used == o->vault_depth)
		return NULL;
	return o->vault[(o->vault_head + o->vault_used++) % o->vault_depth];
}

int og_outbox_post(struct og_outbox *o, const struct og_msg *msg)
{
	uint32_t at;
	uint8_t *data;

	if (og_outbox_flush(o) && o->sink->push(o->sink, msg) == 0)
		return 0;
	if (o->used == o->depth) {
		o->lost += msg->len_bytes <= OG_OUTBOX_SMALL;
		return -EAGAIN;
	}
	at = (o->head + o->used) % o->depth;
	data = room_for(o, at, msg->len_bytes);
	if (!data)
		return -EAGAIN;
	o->queue[at] = *msg;
	o->used++;
	if (msg->len_bytes > 0) {
		memcpy(data, msg->data, msg->len_bytes);
		o->queue[at].data = data;
	}
	return 0;
}
