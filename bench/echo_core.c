#include "bench/echo_core.h"

#include <string.h>

static void echo_input(struct og_core *core, struct og_dgram *burst, uint16_t n, uint64_t now_ns)
{
	struct og_tx *tx = ((struct echo_core *)core)->tx;

	for (uint16_t i = 0; i < n; i++) {
		uint16_t cap_bytes;
		uint8_t *out = tx->reserve(tx, &cap_bytes);

		if (!out || burst[i].len_bytes > cap_bytes)
			continue; /* counted by the core that drives us */
		memcpy(out, burst[i].data, burst[i].len_bytes);
		tx->commit(tx, burst[i].endpoint, &burst[i].src, 0, burst[i].len_bytes);
	}
}

static uint64_t echo_tick(struct og_core *core, uint64_t now_ns)
{
	return OG_NEVER;
}

static int echo_command(struct og_core *core, const struct og_msg *msg, uint64_t now_ns)
{
	return 0;
}

static void echo_job_done(struct og_core *core, struct og_job *job, uint64_t now_ns)
{
}

static const struct og_core_ops echo_ops = {
	.input = echo_input,
	.tick = echo_tick,
	.command = echo_command,
	.job_done = echo_job_done,
};

void echo_core_init(struct echo_core *e, struct og_tx *tx)
{
	*e = (struct echo_core){{&echo_ops}, tx};
}
