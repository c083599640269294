#include "bench/peer_core.h"

#include "base/bytes.h"
#include "bench/bench.h"

#include <errno.h>
#include <string.h>

enum { CONSUMED_STEP = 64 * 1024, ATTENDED = 2 * PEER_CONNS };

static struct peer_core *self(struct og_core *core)
{
	return OG_CONTAINER_OF(core, struct peer_core, core);
}

static void tell(struct peer_core *p, struct og_msg *m, uint64_t now_ns)
{
	/* The node's core refuses no command. */
	OG_ASSERT(p->inner->ops->command(p->inner, m, now_ns) == 0);
}

static void touch(struct peer_core *p, uint32_t slot)
{
	if (p->conns[slot].dirty)
		return;
	p->conns[slot].dirty = true;
	p->dirty[p->nb_dirty++] = slot;
}

static void done(struct peer_core *p, int error)
{
	const struct og_msg m = {
		.type = PEER_DONE, .flags = (uint16_t)error, .arg = bench_now_ns() - p->start_ns};

	p->task = TASK_NONE;
	(void)p->report->push(p->report, &m); /* one at a time: there is room */
}

static void queue(struct peer_core *p, uint32_t slot, const uint8_t *data, size_t n)
{
	struct peer_conn *c = &p->conns[slot];

	n = OG_MIN(n, sizeof(c->out) - c->out_bytes);
	memcpy(c->out + c->out_bytes, data, n);
	c->out_bytes += (uint32_t)n;
	touch(p, slot);
}

/* ---- server ---- */

static void serve(struct peer_core *p, uint32_t slot, const uint8_t *data, size_t n)
{
	struct peer_conn *c = &p->conns[slot];

	while (n > 0) {
		size_t take;

		if (c->echoing) {
			queue(p, slot, data, n);
			return;
		}
		if (c->header_bytes < PEER_HEADER_BYTES) {
			take = OG_MIN(n, (size_t)PEER_HEADER_BYTES - c->header_bytes);
			memcpy(c->header + c->header_bytes, data, take);
			c->header_bytes += (uint32_t)take;
			if (c->header_bytes == PEER_HEADER_BYTES) {
				c->expected = og_load_le64(c->header);
				c->echoing = c->expected == UINT64_MAX;
			}
		} else {
			take = (size_t)OG_MIN(c->expected, (uint64_t)n);
			c->expected -= take;
		}
		if (c->header_bytes == PEER_HEADER_BYTES && c->expected == 0) {
			c->header_bytes = 0;
			queue(p, slot, c->header, sizeof(c->header));
		}
		data += take;
		n -= take;
	}
}

/* ---- client ---- */

static void send_echo(struct peer_core *p)
{
	p->awaited_bytes = p->piece_bytes;
	p->step_ns = bench_now_ns();
	queue(p, p->slot, p->pattern, p->piece_bytes);
}

static void note_rtt(struct peer_core *p)
{
	if (p->nb_rtts < PEER_RTTS)
		p->rtt_ns[p->nb_rtts++] = (uint32_t)(bench_now_ns() - p->step_ns);
}

static void hear(struct peer_core *p, size_t n)
{
	if (p->task != TASK_SEND && p->task != TASK_ECHO)
		return;
	p->awaited_bytes -= (uint32_t)OG_MIN(n, (size_t)p->awaited_bytes);
	if (p->awaited_bytes > 0)
		return;
	if (p->task == TASK_SEND) {
		done(p, 0);
		return;
	}
	note_rtt(p);
	if (--p->left == 0)
		done(p, 0);
	else
		send_echo(p);
}

/* ---- events of the node's core ---- */

static void on_open(struct peer_core *p, const struct og_msg *ev)
{
	struct peer_conn *c = &p->conns[ev->slot];

	c->open = true;
	c->gen = ev->gen;
	c->echoing = false;
	c->header_bytes = c->out_bytes = 0;
	c->expected = c->unread = 0;
	c->credit = OG_PEER_CREDIT_BYTES;
	if (!(ev->flags & 1))
		return;
	p->slot = ev->slot;
	if (p->task == TASK_CONNECT)
		done(p, 0);
	else if (p->task == TASK_CONNECTS)
		p->end_wanted = true; /* its end is for the next tick: we are inside the core */
}

static int on_event(struct og_sink *sink, const struct og_msg *ev)
{
	struct peer_core *p = OG_CONTAINER_OF(sink, struct peer_core, sink);
	struct peer_conn *c = &p->conns[ev->slot % PEER_CONNS];

	switch (ev->type) {
	case OG_EV_PEER_OPEN:
		if (ev->slot < PEER_CONNS)
			on_open(p, ev);
		break;
	case OG_EV_PEER_DATA:
		c->unread += ev->len_bytes;
		touch(p, ev->slot);
		if (p->task == TASK_NONE)
			serve(p, ev->slot, ev->data, ev->len_bytes);
		else
			hear(p, ev->len_bytes);
		break;
	case OG_EV_PEER_CREDIT:
		c->credit += ev->arg;
		touch(p, ev->slot);
		break;
	case OG_EV_PEER_CLOSED:
		c->open = false;
		if (p->task == TASK_SEND || p->task == TASK_ECHO)
			done(p, ECONNRESET);
		break;
	default:
		break;
	}
	return 0;
}

/* ---- what the events asked for ---- */

static void write_piece(
	struct peer_core *p, uint32_t slot, const uint8_t *data, uint32_t n, uint64_t now_ns)
{
	struct peer_conn *c = &p->conns[slot];
	struct og_msg m = {.type = OG_CMD_WRITE, .slot = slot, .gen = c->gen};

	m.data = data;
	m.len_bytes = n;
	tell(p, &m, now_ns);
	c->credit -= n;
}

/* The bytes of the task, in writes of piece_bytes, each cut as commands are. */
static void write_task(struct peer_core *p, uint32_t slot, uint64_t now_ns)
{
	struct peer_conn *c = &p->conns[slot];

	while (p->left > 0 && c->open) {
		uint64_t into = p->left % p->piece_bytes;
		uint64_t n = into ? into : p->piece_bytes;

		n = OG_MIN(n, (uint64_t)OG_WRITE_MAX_BYTES);
		if (c->credit < n)
			return;
		write_piece(p, slot, p->pattern, (uint32_t)n, now_ns);
		p->left -= n;
	}
}

static void attend(struct peer_core *p, uint32_t slot, uint64_t now_ns)
{
	struct peer_conn *c = &p->conns[slot];
	struct og_msg m = {.type = OG_CMD_CONSUMED, .slot = slot, .gen = c->gen};

	c->dirty = false;
	if (!c->open)
		return;
	if (c->unread >= CONSUMED_STEP) {
		m.arg = c->unread;
		c->unread = 0;
		tell(p, &m, now_ns);
	}
	if (c->out_bytes > 0 && c->credit >= c->out_bytes) {
		write_piece(p, slot, c->out, c->out_bytes, now_ns);
		c->out_bytes = 0;
	}
	if (p->task == TASK_SEND && slot == p->slot)
		write_task(p, slot, now_ns);
}

static void dial(struct peer_core *p, uint64_t now_ns)
{
	struct og_msg m = {.type = OG_CMD_DIAL, .data = p->addr, .len_bytes = sizeof(p->addr)};

	memcpy(m.key, p->key, sizeof(m.key));
	p->step_ns = bench_now_ns();
	tell(p, &m, now_ns);
}

/* One connection is open: note it, close it, and ask for the next. */
static void next_connect(struct peer_core *p, uint64_t now_ns)
{
	struct og_msg m = {.type = OG_CMD_CLOSE, .slot = p->slot, .gen = p->conns[p->slot].gen};

	p->end_wanted = false;
	note_rtt(p);
	tell(p, &m, now_ns);
	m = (struct og_msg){.type = OG_CMD_UNDIAL};
	memcpy(m.key, p->key, sizeof(m.key));
	tell(p, &m, now_ns);
	if (--p->left == 0)
		done(p, 0);
	else
		dial(p, now_ns);
}

/* ---- struct og_core_ops ---- */

static void input(struct og_core *core, struct og_dgram *burst, uint16_t n, uint64_t now_ns)
{
	struct og_core *inner = self(core)->inner;

	inner->ops->input(inner, burst, n, now_ns);
}

static uint64_t tick(struct og_core *core, uint64_t now_ns)
{
	struct peer_core *p = self(core);
	uint64_t next;

	/* What is attended to may become dirty again: the next pass sees to it. */
	for (uint32_t i = 0; i < ATTENDED && p->nb_dirty > 0; i++)
		attend(p, p->dirty[--p->nb_dirty], now_ns);
	if (p->end_wanted)
		next_connect(p, now_ns);
	next = p->inner->ops->tick(p->inner, now_ns);
	return p->nb_dirty > 0 || p->end_wanted ? now_ns : next;
}

static void begin(struct peer_core *p, const struct og_msg *m, uint64_t now_ns)
{
	uint8_t header[PEER_HEADER_BYTES];

	p->start_ns = bench_now_ns();
	p->left = m->arg;
	p->piece_bytes = OG_MAX(m->slot, 1u);
	p->nb_rtts = 0;
	memcpy(p->key, m->key, sizeof(p->key));
	if (m->len_bytes == sizeof(p->addr))
		memcpy(p->addr, m->data, sizeof(p->addr));
	switch ((enum peer_command)m->type) {
	case PEER_CONNECT:
		p->task = TASK_CONNECT;
		dial(p, now_ns);
		break;
	case PEER_SEND:
		p->task = TASK_SEND;
		p->awaited_bytes = PEER_HEADER_BYTES;
		og_store_le64(header, p->left);
		queue(p, p->slot, header, sizeof(header));
		break;
	case PEER_ECHO:
		p->task = TASK_ECHO;
		og_store_le64(header, UINT64_MAX);
		if (!p->conns[p->slot].echoing)
			queue(p, p->slot, header, sizeof(header));
		p->conns[p->slot].echoing = true;
		send_echo(p);
		break;
	case PEER_CONNECTS:
		p->task = TASK_CONNECTS;
		dial(p, now_ns);
		break;
	}
}

static int command(struct og_core *core, const struct og_msg *m, uint64_t now_ns)
{
	struct peer_core *p = self(core);

	if (m->type < PEER_CONNECT)
		return p->inner->ops->command(p->inner, m, now_ns);
	begin(p, m, now_ns);
	return 0;
}

static void job_done(struct og_core *core, struct og_job *job, uint64_t now_ns)
{
	struct og_core *inner = self(core)->inner;

	inner->ops->job_done(inner, job, now_ns);
}

static const struct og_core_ops ops = {
	.input = input, .tick = tick, .command = command, .job_done = job_done};

void peer_core_init(struct peer_core *p, struct og_sink *report)
{
	memset(p, 0, sizeof(*p));
	p->core.ops = &ops;
	p->sink.push = on_event;
	p->report = report;
	for (uint32_t i = 0; i < PEER_WRITE_MAX; i++)
		p->pattern[i] = (uint8_t)(i * 31 + (i >> 8));
}

void peer_core_wrap(struct peer_core *p, struct og_core *inner)
{
	p->inner = inner;
}
