#include "bench/stream_core.h"

#include "base/count.h"
#include "cluster/steer.h"

#include <errno.h>
#include <string.h>

enum { PACKETS = 32768, FRAME_BUDGET = 64 << 20 };

static void write_one(struct stream_core *c, uint32_t slot)
{
	const struct og_stream_id id = c->ids[c->order_of_slot[slot]];
	size_t n = og_stream_write(c->streams, id, c->pattern, sizeof(c->pattern), c->now_ns);

	og_count_add(&c->written, n);
	c->full[slot] = n < sizeof(c->pattern);
}

static void on_open(void *ctx, struct og_stream_id id)
{
	((struct stream_core *)ctx)->open[id.slot] = true;
}

static void on_data(void *ctx, struct og_stream_id id, const uint8_t *plain, size_t n)
{
	struct stream_core *c = ctx;

	og_count_add(&c->received[c->order_of_slot[id.slot]], n);
}

static void on_closed(void *ctx, struct og_stream_id id, int reason)
{
	((struct stream_core *)ctx)->open[id.slot] = false;
}

static void on_writable(void *ctx, struct og_stream_id id)
{
	((struct stream_core *)ctx)->full[id.slot] = false;
}

static const struct og_stream_ops stream_ops = {
	.open = on_open, .data = on_data, .closed = on_closed, .writable = on_writable};

static struct stream_core *self(struct og_core *core)
{
	return (struct stream_core *)core;
}

static void input(struct og_core *core, struct og_dgram *burst, uint16_t n, uint64_t now_ns)
{
	struct stream_core *c = self(core);

	c->now_ns = now_ns;
	for (uint16_t i = 0; i < n; i++)
		(void)!og_streams_input(c->streams, burst[i].endpoint, &burst[i].src, burst[i].data,
			burst[i].len_bytes, now_ns);
	og_streams_flush(c->streams, now_ns);
}

static uint64_t tick(struct og_core *core, uint64_t now_ns)
{
	struct stream_core *c = self(core);
	uint64_t next;
	bool more = false;

	c->now_ns = now_ns;
	/* One piece for each stream by turns. */
	for (uint32_t slot = 0; c->writing && slot < c->nb; slot++)
		if (c->open[slot] && !c->full[slot])
			write_one(c, slot);
	next = og_streams_tick(c->streams, now_ns);
	for (uint32_t slot = 0; c->writing && slot < c->nb; slot++)
		more |= c->open[slot] && !c->full[slot];
	return more ? now_ns : next;
}

static int command(struct og_core *core, const struct og_msg *m, uint64_t now_ns)
{
	self(core)->writing = m->arg != 0;
	return 0;
}

static void job_done(struct og_core *core, struct og_job *job, uint64_t now_ns)
{
}

static uint16_t steer(const struct og_core *core, const struct og_dgram *d)
{
	const struct stream_core *c = (const struct stream_core *)core;

	return og_steer(d->data, d->len_bytes, c->idx, c->nb_cores);
}

static const struct og_core_ops ops = {
	.input = input, .tick = tick, .command = command, .job_done = job_done, .steer = steer};

int stream_core_create(struct stream_core *c, const struct og_core_env *env, uint32_t nb,
	uint16_t idx, uint16_t nb_cores, uint64_t now_ns)
{
	struct og_streams_opts opts = {.nb_streams = STREAMS_MAX,
		.nb_packets = PACKETS,
		.frame_budget_bytes = FRAME_BUDGET,
		.core_idx = (uint8_t)idx,
		.tag_key = env->tag_key,
		.tx = env->tx,
		.rand = &c->rand,
		.ops = &stream_ops,
		.ctx = c};
	int ret;

	memset(c, 0, sizeof(*c));
	c->core.ops = &ops;
	c->idx = idx;
	c->nb_cores = nb_cores;
	c->nb = OG_MIN(nb, (uint32_t)STREAMS_MAX);
	og_rand_system(&c->rand);
	ret = og_streams_create(&c->streams, &opts);
	for (uint32_t i = 0; ret == 0 && i < c->nb; i++) {
		ret = og_stream_reserve(c->streams, &c->ids[i], &c->udx_ids[i], now_ns);
		if (ret == 0)
			c->order_of_slot[c->ids[i].slot] = i;
	}
	return ret;
}

void stream_core_destroy(struct stream_core *c)
{
	og_streams_destroy(c->streams);
}

int stream_core_start(struct stream_core *c, uint32_t i, uint32_t remote_udx_id,
	const struct og_addr *remote, bool initiator, uint64_t now_ns)
{
	struct og_noise_keys keys;

	if (i >= c->nb)
		return -EINVAL;
	/* Both ends know these keys and so does whoever reads this: nothing here is secret. */
	memset(&keys, 0x5a, sizeof(keys));
	keys.tx[0] = initiator;
	keys.rx[0] = !initiator;
	return og_stream_start(
		c->streams, c->ids[i], &keys, initiator, remote_udx_id, 0, remote, now_ns);
}
