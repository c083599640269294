#include "bench/neighbours.h"

#include <string.h>

enum { NET_0 = 10, NET_1 = 64, PORT_BASE = 40000, NEAREST = OG_DHT_K };

struct og_addr neighbours_addr(uint32_t i)
{
	return (struct og_addr){{NET_0, NET_1, (uint8_t)(1 + i / 8), (uint8_t)(1 + i % 8)},
		(uint16_t)(PORT_BASE + i)};
}

/* The number of the neighbour at an address, or -1. */
static int number_of(const struct og_addr *a)
{
	struct og_addr same;

	if (a->ip[0] != NET_0 || a->ip[1] != NET_1 || a->port < PORT_BASE ||
		a->port >= PORT_BASE + NEIGHBOURS)
		return -1;
	same = neighbours_addr((uint32_t)(a->port - PORT_BASE));
	return og_addr_eq(a, &same) ? a->port - PORT_BASE : -1;
}

static bool is_nearer(const uint8_t *target, const uint8_t *a, const uint8_t *b)
{
	for (int i = 0; i < OG_DHT_ID_BYTES; i++)
		if (a[i] != b[i])
			return (a[i] ^ target[i]) < (b[i] ^ target[i]);
	return false;
}

/* The neighbours nearest to `target`, by insertion: this is off the path that is measured. */
static uint32_t nearest(const struct neighbours *n, const uint8_t *target, uint8_t *closer)
{
	uint32_t best[NEAREST], count = 0;

	for (uint32_t i = 0; i < NEIGHBOURS; i++) {
		uint32_t at = count;

		while (at > 0 && is_nearer(target, n->ids[i], n->ids[best[at - 1]]))
			at--;
		if (at == NEAREST)
			continue;
		count = OG_MIN(count + 1, (uint32_t)NEAREST);
		memmove(&best[at + 1], &best[at], (count - 1 - at) * sizeof(best[0]));
		best[at] = i;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct og_addr a = neighbours_addr(best[i]);

		og_dht_addr4_store(closer + i * OG_DHT_ADDR4_BYTES, &a);
	}
	return count;
}

/* Neighbour `i` answers what the node sent to it from `endpoint`. */
static void answer(struct neighbours *n, uint32_t i, uint16_t endpoint, const uint8_t *data,
	uint16_t len_bytes)
{
	uint8_t closer[NEAREST * OG_DHT_ADDR4_BYTES];
	struct og_dht_msg request, reply;
	struct neighbours_reply *r;
	struct og_writer w;

	if (n->nb_replies == NEIGHBOURS_REPLIES ||
		og_dht_msg_decode(&request, data, len_bytes) < 0 || request.reply)
		return;
	reply = (struct og_dht_msg){
		.reply = true, .tid = request.tid, .to = n->local[endpoint], .id = n->ids[i]};
	/* Whoever asks for more than nodes may store: it needs a token. */
	if (!request.internal)
		reply.token = n->ids[i];
	if (request.target) {
		reply.nb_closer = nearest(n, request.target, closer);
		reply.closer = closer;
	}
	r = &n->replies[n->nb_replies];
	w = og_writer_of(r->data, sizeof(r->data));
	if (og_dht_msg_encode(&reply, &w) < 0)
		return;
	r->src = neighbours_addr(i);
	r->endpoint = endpoint;
	r->len_bytes = (uint16_t)og_writer_len(&w);
	n->nb_replies++;
}

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	struct neighbours *n = OG_CONTAINER_OF(tx, struct neighbours, tx);

	n->reserved = n->port->reserve(n->port, cap_bytes);
	return n->reserved;
}

static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct neighbours *n = OG_CONTAINER_OF(tx, struct neighbours, tx);
	int i = number_of(dst);

	if (i < 0)
		n->port->commit(n->port, endpoint, dst, ttl, len_bytes);
	else
		answer(n, (uint32_t)i, endpoint, n->reserved, len_bytes);
}

static struct neighbours *self(struct og_core *core)
{
	return OG_CONTAINER_OF(core, struct neighbours, core);
}

static void input(struct og_core *core, struct og_dgram *burst, uint16_t n, uint64_t now_ns)
{
	struct og_core *inner = self(core)->inner;

	inner->ops->input(inner, burst, n, now_ns);
}

static void deliver(struct neighbours *n, uint64_t now_ns)
{
	while (n->nb_replies > 0) {
		struct neighbours_reply r = n->replies[--n->nb_replies];
		struct og_dgram d = {r.data, r.len_bytes, r.endpoint, r.src};

		n->inner->ops->input(n->inner, &d, 1, now_ns);
	}
}

static uint64_t tick(struct og_core *core, uint64_t now_ns)
{
	struct neighbours *n = self(core);
	uint64_t next;

	if (n->nb_replies > 0)
		deliver(n, now_ns);
	next = n->inner->ops->tick(n->inner, now_ns);
	return n->nb_replies > 0 ? now_ns : next;
}

static int command(struct og_core *core, const struct og_msg *msg, uint64_t now_ns)
{
	struct og_core *inner = self(core)->inner;

	return inner->ops->command(inner, msg, now_ns);
}

static void job_done(struct og_core *core, struct og_job *job, uint64_t now_ns)
{
	struct og_core *inner = self(core)->inner;

	inner->ops->job_done(inner, job, now_ns);
}

static const struct og_core_ops ops = {
	.input = input, .tick = tick, .command = command, .job_done = job_done};

void neighbours_init(struct neighbours *n, struct og_tx *port, const struct og_addr local[2])
{
	memset(n, 0, sizeof(*n));
	n->core.ops = &ops;
	n->tx = (struct og_tx){reserve, commit};
	n->port = port;
	n->local[0] = local[0];
	n->local[1] = local[1];
	for (uint32_t i = 0; i < NEIGHBOURS; i++) {
		struct og_addr a = neighbours_addr(i);

		og_dht_node_id(n->ids[i], &a);
	}
}

void neighbours_wrap(struct neighbours *n, struct og_core *inner)
{
	n->inner = inner;
}
