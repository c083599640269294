/*
 * outbox.h: the core's side of the event ring. An event with data goes out now or not at all (the
 * caller holds the stream back); one without data is kept in a small queue while the ring is full, so
 * that no opening or closing of a peer is ever lost, and order is kept. Of some messages the data are kept
 * too: a few bytes of any, and those that an outbox has a vault for, which may be secret.
 *
 * Threads: the core's lcore.
 * Memory:  the queue is allocated at create; the vault is locked if allowed, and wiped after use.
 */
#pragma once
#include "base/msg.h"

#include <stdbool.h>

enum { OG_OUTBOX_SMALL = 32, OG_OUTBOX_LARGE = 256 };

struct og_outbox {
	struct og_sink *sink;
	struct og_msg *queue;
	uint8_t (*small)[OG_OUTBOX_SMALL]; /* data of queued events */
	uint32_t depth, head, used;
	uint64_t lost; /* no room at all; the depth is chosen so that it stays 0 */
	uint8_t (*vault)[OG_OUTBOX_LARGE]; /* a ring too */
	uint32_t vault_depth, vault_head, vault_used;
};

int og_outbox_init(struct og_outbox *o, struct og_sink *sink, uint32_t depth) OG_MUST_CHECK;
/* From here on up to `depth` messages with more data wait too. */
int og_outbox_init_vault(struct og_outbox *o, uint32_t depth) OG_MUST_CHECK;
void og_outbox_fini(struct og_outbox *o);
/* 0, or -EAGAIN: data that does not fit now; try again after og_outbox_flush() returned true. */
int og_outbox_post(struct og_outbox *o, const struct og_msg *msg);
/* Hands over what is queued; true when nothing is left. */
bool og_outbox_flush(struct og_outbox *o);
