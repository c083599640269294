/*
 * stage.h: the ring that joins two threads: messages by value, their data in buffers of the stage.
 *
 * push() copies the message and its data; pop() lends both until release(). A full ring, or none
 * of the buffers free, is a counted refusal and never a wait.
 *
 * Units:   depth in messages, buffers in bytes.
 * Threads: one producer and one consumer; create and destroy when neither runs. With
 *          many_producers they take turns under a mutex, so a polling core has a stage of its own.
 * Memory:  everything at create: depth * 64 + nb_buffers * buffer_bytes.
 */
#pragma once
#include "base/msg.h"
#include "dataplane/doorbell.h"

#include <stdbool.h>

struct og_stage;

struct og_stage_opts {
	uint32_t depth;
	uint32_t nb_buffers;   /* 0: messages without data only */
	uint32_t buffer_bytes; /* most data of one message */
	bool many_producers;
	bool secret; /* data is keys: wiped when released, in memory that is locked if allowed */
	struct og_doorbell
		*doorbell; /* of the consumer, rung at each push; NULL: it never sleeps */
};

/* Counts since create; any thread may read them with og_counter_read(). */
struct og_stage_counters {
	uint64_t pushed;
	uint64_t refused; /* ring full or no buffer free */
	uint64_t popped;
};

int og_stage_create(struct og_stage **out, const struct og_stage_opts *opts) OG_MUST_CHECK;
void og_stage_destroy(struct og_stage *stage);

/*
 * Returns 0, -EAGAIN when the stage is full, or -EMSGSIZE when the data is longer than a buffer.
 */
int og_stage_push(struct og_stage *stage, const struct og_msg *msg) OG_MUST_CHECK;
/* The same as a sink. Lives as long as the stage. */
struct og_sink *og_stage_sink(struct og_stage *stage);

/* The oldest message, or -EAGAIN. `out->data` is lent until og_stage_release(stage, out). */
int og_stage_pop(struct og_stage *stage, struct og_msg *out) OG_MUST_CHECK;
/* Every popped message, once, in any order, with `data` as pop() gave it. */
void og_stage_release(struct og_stage *stage, const struct og_msg *msg);

/* Messages waiting; exact only to the consumer, who finds it 0 when the stage is empty. */
uint32_t og_stage_count(const struct og_stage *stage);
struct og_stage_counters og_stage_counters(const struct og_stage *stage);
