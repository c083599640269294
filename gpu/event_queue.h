/*
 * event_queue.h: events on their way out of the engine, with a place kept for the last event of each
 * outstanding request, so that it can always be queued.
 *
 * Threads: one owner.
 * Memory:  one array made at init.
 */
#pragma once
#include "base/infer.h"

struct og_event_queue {
	struct og_infer_event *events;
	uint32_t cap;
	uint32_t head; /* the oldest */
	uint32_t count;
	uint32_t reserved; /* last events to come */
};

int og_event_queue_init(struct og_event_queue *q, uint32_t cap) OG_MUST_CHECK;
void og_event_queue_fini(struct og_event_queue *q);

/* Keep a place for a request's last event. False when there is none. */
bool og_event_queue_reserve(struct og_event_queue *q);
/* A place for an event that is not a last one, zeroed; NULL when there is none. */
struct og_infer_event *og_event_queue_push(struct og_event_queue *q);
/* The place that was reserved, zeroed. */
struct og_infer_event *og_event_queue_push_last(struct og_event_queue *q);
uint32_t og_event_queue_take(struct og_event_queue *q, struct og_infer_event *out, uint32_t n);
