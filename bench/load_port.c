/*
 * load_port.c: a load that runs in a process of its own on a port of its own; see serve_load.c.
 */
#include "bench/load_priv.h"
#include "crypto/keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct load_port {
	struct load load; /* first */
	struct bench_child *child;
	char line[2 * LOAD_REPLY_BYTES + 64];
};

static struct load_port *self(struct load *l)
{
	return (struct load_port *)l;
}

static int send_plan(struct load_port *p, const struct load_plan *plan)
{
	int ret;

	snprintf(p->line, sizeof(p->line), "plan %u %u %d %u", plan->window, plan->id_offset,
		plan->first_byte, plan->min_bytes);
	ret = bench_child_tell(p->child, p->line);
	for (uint32_t i = 0; ret == 0 && i < plan->window; i++) {
		int n = snprintf(p->line, sizeof(p->line), "slot %u ", i);

		og_hex_encode(p->line + n, plan->slots[i].data, plan->slots[i].len_bytes);
		ret = bench_child_tell(p->child, p->line);
	}
	return ret;
}

static int port_run(
	struct load *l, const struct load_plan *plan, uint64_t ns, struct load_result *out)
{
	struct load_port *p = self(l);
	int ret = send_plan(p, plan);

	if (ret < 0)
		return ret;
	snprintf(p->line, sizeof(p->line), "run %lu", (unsigned long)ns);
	ret = bench_child_tell(p->child, p->line);
	if (ret == 0)
		ret = bench_child_hear(p->child, p->line, sizeof(p->line));
	if (ret == 0 && sscanf(p->line, "done %lu %lu %lu %lu %u", &out->ns, &out->replies,
				&out->bad, &out->lost, &out->busy_percent) != 5)
		ret = -EPROTO;
	return ret;
}

static int port_ask(
	struct load *l, const uint8_t *request, uint16_t len_bytes, uint8_t *answer, int wait_ms)
{
	struct load_port *p = self(l);
	char hex[2 * LOAD_REQUEST_BYTES + 1];
	size_t n;
	int ret;

	og_hex_encode(hex, request, len_bytes);
	snprintf(p->line, sizeof(p->line), "ask %s %d", hex, wait_ms);
	ret = bench_child_tell(p->child, p->line);
	if (ret == 0)
		ret = bench_child_hear(p->child, p->line, sizeof(p->line));
	if (ret < 0)
		return ret;
	if (strncmp(p->line, "answer ", 7) != 0)
		return strcmp(p->line, "late") == 0 ? -EAGAIN : -EPROTO;
	n = strlen(p->line + 7);
	if (n > 2 * LOAD_REPLY_BYTES || og_hex_decode(answer, n / 2, p->line + 7, n) < 0)
		return -EPROTO;
	return (int)(n / 2);
}

static void port_close(struct load *l)
{
	free(l);
}

static const struct load_ops port_ops = {port_run, port_ask, port_close};

int load_open_port(struct load **out, struct bench_child *generator)
{
	struct load_port *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->load.ops = &port_ops;
	p->child = generator;
	*out = &p->load;
	return 0;
}
