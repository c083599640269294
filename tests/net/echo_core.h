/*
 * echo_core.h: the smallest og_core: every datagram goes back to where it came from. For tests of
 * what drives a core. Commands let a test reach the other contracts: events, sending, jobs, timers.
 */
#pragma once
#include "base/core.h"

#include <errno.h>
#include <string.h>

enum echo_command {
	ECHO_EVENT = 1, /* the same message comes back as an event */
	ECHO_SEND,      /* data to the address arg (og_addr_key), endpoint slot, ttl flags */
	ECHO_JOB,       /* a job doubles arg, the result comes back as an event */
	ECHO_TIMER,     /* an event after arg ns */
	ECHO_REFUSE,    /* refused arg times before it comes back as an event */
};

struct echo_core {
	struct og_core core; /* first */
	struct og_core_env env;
	uint64_t datagrams;
	uint64_t unsent; /* replies given up because there was no buffer */
	uint64_t refusals;
	uint64_t timer_ns;
	struct og_msg timer;
};

static inline struct echo_core *echo_of(struct og_core *core)
{
	return OG_CONTAINER_OF(core, struct echo_core, core);
}

static inline void echo_send(struct echo_core *e, uint16_t endpoint, const struct og_addr *dst,
	uint8_t ttl, const uint8_t *data, uint16_t len_bytes)
{
	uint16_t cap_bytes;
	uint8_t *out = e->env.tx->reserve(e->env.tx, &cap_bytes);

	if (!out || len_bytes > cap_bytes) {
		e->unsent++;
		return;
	}
	memcpy(out, data, len_bytes);
	e->env.tx->commit(e->env.tx, endpoint, dst, ttl, len_bytes);
}

static inline void echo_input(
	struct og_core *core, struct og_dgram *burst, uint16_t n, uint64_t now)
{
	struct echo_core *e = echo_of(core);

	(void)now;
	for (uint16_t i = 0; i < n; i++)
		echo_send(
			e, burst[i].endpoint, &burst[i].src, 0, burst[i].data, burst[i].len_bytes);
	e->datagrams += n;
}

static inline uint64_t echo_tick(struct og_core *core, uint64_t now_ns)
{
	struct echo_core *e = echo_of(core);

	if (now_ns >= e->timer_ns) {
		e->timer.arg += now_ns - e->timer_ns; /* how long it took, in the core's time */
		e->timer_ns = OG_NEVER;
		(void)e->env.events->push(e->env.events, &e->timer);
	}
	return e->timer_ns;
}

static inline void echo_double(struct og_job *job)
{
	uint64_t value;

	memcpy(&value, job->body, sizeof(value));
	value *= 2;
	memcpy(job->body, &value, sizeof(value));
	job->result = 0;
}

static inline int echo_post(struct echo_core *e, const struct og_msg *msg)
{
	struct og_job *job = e->env.jobs->begin(e->env.jobs);

	if (!job)
		return -EAGAIN;
	job->run = echo_double;
	job->slot = msg->slot;
	memcpy(job->body, &msg->arg, sizeof(msg->arg));
	e->env.jobs->post(e->env.jobs, job);
	return 0;
}

static inline void echo_job_done(struct og_core *core, struct og_job *job, uint64_t now_ns)
{
	struct echo_core *e = echo_of(core);
	struct og_msg msg = {.type = ECHO_JOB, .slot = job->slot};

	(void)now_ns;
	memcpy(&msg.arg, job->body, sizeof(msg.arg));
	(void)e->env.events->push(e->env.events, &msg);
}

static inline int echo_do(struct og_core *core, const struct og_msg *msg, uint64_t now_ns)
{
	struct echo_core *e = echo_of(core);
	struct og_addr dst = og_addr_from_key(msg->arg);

	switch ((enum echo_command)msg->type) {
	case ECHO_EVENT:
		return e->env.events->push(e->env.events, msg);
	case ECHO_SEND:
		echo_send(e, (uint16_t)msg->slot, &dst, (uint8_t)msg->flags, msg->data,
			(uint16_t)msg->len_bytes);
		return 0;
	case ECHO_JOB:
		return echo_post(e, msg);
	case ECHO_TIMER:
		e->timer = *msg;
		e->timer_ns = now_ns + msg->arg;
		return 0;
	case ECHO_REFUSE:
		if (e->refusals++ < msg->arg)
			return -EAGAIN;
		return e->env.events->push(e->env.events, msg);
	}
	return 0;
}

/* With several cores: it is answered where it arrives. */
static inline uint16_t echo_steer(const struct og_core *core, const struct og_dgram *d)
{
	(void)core;
	(void)d;
	return UINT16_MAX;
}

static const struct og_core_ops echo_ops = {
	.steer = echo_steer,
	.input = echo_input,
	.tick = echo_tick,
	.command = echo_do,
	.job_done = echo_job_done,
};

static inline void echo_init(struct echo_core *e, const struct og_core_env *env)
{
	*e = (struct echo_core){.core = {&echo_ops}, .env = *env, .timer_ns = OG_NEVER};
}
