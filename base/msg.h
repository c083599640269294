/*
 * msg.h: the fixed-size message that joins stages: polling core, router, faces.
 *
 * By value it is one cache line, so a ring element is a message. `data` is borrowed for the call
 * that hands the message over; a stage that must keep it copies it into a buffer of its own and
 * gives that buffer back when the receiver has handled the message.
 *
 * Threads: values.
 */
#pragma once
#include "base/def.h"

#include <assert.h>

struct og_msg {
	uint16_t type; /* enum of the two ends, e.g. enum og_core_command */
	uint16_t flags;
	uint32_t slot; /* what it is about, with the generation that makes a late one harmless */
	uint32_t gen;
	uint32_t len_bytes; /* of data */
	const uint8_t *data;
	uint8_t key[32]; /* public key, topic or target */
	uint64_t arg;
};
static_assert(sizeof(struct og_msg) == 64, "one cache line");

/* Where messages go. push() returns 0 or -EAGAIN when the ring is full; it never waits. */
struct og_sink {
	int (*push)(struct og_sink *sink, const struct og_msg *msg);
};
