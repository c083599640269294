#include "dataplane/stage.h"

#include "base/count.h"
#include "dataplane/ring.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 64 };

struct og_stage {
	/* Set at creation, then read by both ends. */
	struct rte_ring *ring; /* of struct og_msg */
	struct rte_ring *idle; /* of uint32_t: buffers nobody holds */
	uint8_t *buffers;
	uint32_t buffer_bytes;
	uint32_t stride; /* buffer_bytes, rounded up to cache lines */
	struct og_doorbell *doorbell;
	struct og_sink sink;
	bool many_producers;
	size_t secret_bytes; /* of all buffers, when they are secret */
	/*
	 * Several producers take turns. Not the ring's own MP modes: a producer preempted half-way
	 * would make the others spin, and DPDK 22.11's MP, RTS and HTS code lacks an acquire that
	 * C11 asks for.
	 */
	pthread_mutex_t turn;
	/* Written by the producers. */
	alignas(ALIGN) uint64_t pushed;
	uint64_t refused;
	/* Written by the consumer. */
	alignas(ALIGN) uint64_t popped;
};

static int sink_push(struct og_sink *sink, const struct og_msg *msg)
{
	return og_stage_push(OG_CONTAINER_OF(sink, struct og_stage, sink), msg);
}

static int create_buffers(struct og_stage *s, const struct og_stage_opts *opts)
{
	int ret;

	if (opts->buffer_bytes == 0 || opts->buffer_bytes > UINT32_MAX - ALIGN)
		return -EINVAL;
	s->stride = RTE_ALIGN_CEIL(opts->buffer_bytes, (uint32_t)ALIGN);
	s->buffers = aligned_alloc(ALIGN, (size_t)s->stride * opts->nb_buffers);
	if (!s->buffers)
		return -ENOMEM;
	ret = og_ring_create(&s->idle, sizeof(uint32_t), opts->nb_buffers);
	if (ret < 0) {
		free(s->buffers);
		return ret;
	}
	for (uint32_t i = 0; i < opts->nb_buffers; i++)
		rte_ring_sp_enqueue_elem(s->idle, &i, sizeof(i));
	s->buffer_bytes = opts->buffer_bytes;
	if (opts->secret) {
		s->secret_bytes = (size_t)s->stride * opts->nb_buffers;
		(void)mlock(s->buffers, s->secret_bytes); /* a low limit is no reason to stop */
	}
	return 0;
}

int og_stage_create(struct og_stage **out, const struct og_stage_opts *opts)
{
	struct og_stage *s = aligned_alloc(ALIGN, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	memset(s, 0, sizeof(*s));
	s->doorbell = opts->doorbell;
	s->many_producers = opts->many_producers;
	s->sink.push = sink_push;
	pthread_mutex_init(&s->turn, NULL);
	ret = og_ring_create(&s->ring, sizeof(struct og_msg), opts->depth);
	if (ret < 0)
		goto free_stage;
	if (opts->nb_buffers > 0) {
		ret = create_buffers(s, opts);
		if (ret < 0)
			goto free_ring;
	}
	*out = s;
	return 0;

free_ring:
	free(s->ring);
free_stage:
	free(s);
	return ret;
}

void og_stage_destroy(struct og_stage *s)
{
	if (!s)
		return;
	if (s->secret_bytes > 0) {
		explicit_bzero(s->buffers, s->secret_bytes);
		munlock(s->buffers, s->secret_bytes);
	}
	free(s->idle);
	free(s->buffers);
	free(s->ring);
	pthread_mutex_destroy(&s->turn);
	free(s);
}

static int copy_data(struct og_stage *s, struct og_msg *msg)
{
	uint8_t *buffer;
	uint32_t idx;

	if (msg->len_bytes > s->buffer_bytes)
		return -EMSGSIZE;
	if (rte_ring_sc_dequeue_elem(s->idle, &idx, sizeof(idx)) < 0)
		return -EAGAIN;
	buffer = s->buffers + (size_t)idx * s->stride;
	memcpy(buffer, msg->data, msg->len_bytes);
	msg->data = buffer;
	return 0;
}

static int push_one(struct og_stage *s, const struct og_msg *msg)
{
	struct og_msg copy = *msg;

	copy.data = NULL;
	if (og_ring_full(s->ring)) /* before a buffer is taken: a producer cannot give it back */
		return -EAGAIN;
	if (msg->len_bytes > 0) {
		int ret;

		copy.data = msg->data;
		ret = copy_data(s, &copy);
		if (ret < 0)
			return ret;
	}
	rte_ring_sp_enqueue_elem(s->ring, &copy, sizeof(copy));
	return 0;
}

int og_stage_push(struct og_stage *s, const struct og_msg *msg)
{
	int ret;

	if (s->many_producers)
		pthread_mutex_lock(&s->turn);
	ret = push_one(s, msg);
	og_count(ret == 0 ? &s->pushed : &s->refused);
	if (s->many_producers)
		pthread_mutex_unlock(&s->turn);
	if (ret == 0 && s->doorbell)
		og_doorbell_ring(s->doorbell);
	return ret;
}

struct og_sink *og_stage_sink(struct og_stage *s)
{
	return &s->sink;
}

int og_stage_pop(struct og_stage *s, struct og_msg *out)
{
	if (rte_ring_sc_dequeue_elem(s->ring, out, sizeof(*out)) < 0)
		return -EAGAIN;
	og_count(&s->popped);
	return 0;
}

void og_stage_release(struct og_stage *s, const struct og_msg *msg)
{
	uint32_t idx;

	if (!msg->data)
		return;
	idx = (uint32_t)((size_t)(msg->data - s->buffers) / s->stride);
	if (s->secret_bytes > 0)
		explicit_bzero(s->buffers + (size_t)idx * s->stride, msg->len_bytes);
	rte_ring_sp_enqueue_elem(s->idle, &idx, sizeof(idx));
}

uint32_t og_stage_count(const struct og_stage *s)
{
	return og_ring_count(s->ring);
}

struct og_stage_counters og_stage_counters(const struct og_stage *s)
{
	return (struct og_stage_counters){
		.pushed = og_counter_read(&s->pushed),
		.refused = og_counter_read(&s->refused),
		.popped = og_counter_read(&s->popped),
	};
}
