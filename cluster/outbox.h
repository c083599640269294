/*
 * outbox.h: the core's side of the event ring. An event with data goes out now or not at all (the
 * caller holds the stream back); one without data is kept in a small queue while the ring is full, so
 * that no opening or closing of a peer is ever lost, and order is kept.
 *
 * Threads: the core's lcore.
 * Memory:  the queue is allocated at create.
 */
#pragma once
#include "base/msg.h"

#include <stdbool.h>

struct og_outbox {
	struct og_sink *sink;
	struct og_msg *queue;
	uint8_t (*small)[32]; /* data of queued events, up to 32 bytes each */
	uint32_t depth, head, used;
	uint64_t lost; /* no room at all; the depth is chosen so that it stays 0 */
};

int og_outbox_init(struct og_outbox *o, struct og_sink *sink, uint32_t depth) OG_MUST_CHECK;
void og_outbox_fini(struct og_outbox *o);
/* 0, or -EAGAIN: data that does not fit now; try again after og_outbox_flush() returned true. */
int og_outbox_post(struct og_outbox *o, const struct og_msg *msg);
/* Hands over what is queued; true when nothing is left. */
bool og_outbox_flush(struct og_outbox *o);
