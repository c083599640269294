#include "bench/load_core.h"

#include "bench/load_priv.h"

#include <errno.h>
#include <string.h>

static struct load_core *self(struct og_core *core)
{
	return (struct load_core *)core;
}

static void transmit(struct load_core *l, const uint8_t *data, uint16_t len_bytes)
{
	struct og_tx *tx = l->env.tx;
	uint16_t cap_bytes;
	uint8_t *out = tx->reserve(tx, &cap_bytes);

	if (!out || len_bytes > cap_bytes)
		return; /* as good as lost: sent again after a while */
	memcpy(out, data, len_bytes);
	tx->commit(tx, 0, &l->target, 0, len_bytes);
}

static void send_all(struct load_core *l)
{
	for (uint32_t i = 0; i < l->plan.window; i++)
		transmit(l, l->plan.slots[i].data, l->plan.slots[i].len_bytes);
}

static void input(struct og_core *core, struct og_dgram *burst, uint16_t n, uint64_t now_ns)
{
	struct load_core *l = self(core);

	for (uint16_t i = 0; i < n; i++) {
		int slot;

		if (!l->running) {
			const struct og_msg m = {.type = LOAD_ANSWER,
				.data = burst[i].data,
				.len_bytes = burst[i].len_bytes};

			(void)l->env.events->push(l->env.events, &m);
			continue;
		}
		slot = load_answer(&l->plan, burst[i].data, burst[i].len_bytes, &l->result);
		if (slot >= 0)
			transmit(l, l->plan.slots[slot].data, l->plan.slots[slot].len_bytes);
	}
	l->heard_ns = now_ns;
}

static uint64_t tick(struct og_core *core, uint64_t now_ns)
{
	struct load_core *l = self(core);
	const struct og_msg m = {.type = LOAD_DONE};

	if (!l->running)
		return OG_NEVER;
	if (now_ns >= l->end_ns) {
		l->running = false;
		l->result.ns = now_ns - l->start_ns;
		(void)l->env.events->push(l->env.events, &m);
		return OG_NEVER;
	}
	if (now_ns - l->heard_ns >= LOAD_PATIENCE_NS) {
		l->result.lost += l->plan.window;
		l->heard_ns = now_ns;
		send_all(l);
	}
	return OG_MIN(l->end_ns, l->heard_ns + LOAD_PATIENCE_NS);
}

static int command(struct og_core *core, const struct og_msg *m, uint64_t now_ns)
{
	struct load_core *l = self(core);

	if (m->type == LOAD_ASK) {
		transmit(l, m->data, (uint16_t)m->len_bytes);
		return 0;
	}
	l->result = (struct load_result){0};
	l->start_ns = l->heard_ns = now_ns;
	l->end_ns = now_ns + m->arg;
	l->running = true;
	send_all(l);
	return 0;
}

static void job_done(struct og_core *core, struct og_job *job, uint64_t now_ns)
{
}

static const struct og_core_ops ops = {
	.input = input, .tick = tick, .command = command, .job_done = job_done};

void load_core_init(struct load_core *l, const struct og_core_env *env, const struct og_addr *to)
{
	memset(l, 0, sizeof(*l));
	l->core.ops = &ops;
	l->env = *env;
	l->target = *to;
}
