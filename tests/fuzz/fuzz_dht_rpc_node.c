/*
 * A live node fed a sequence of steps. Each step is one byte and its arguments:
 *   0  endpoint, addr4, u16 length, datagram         a datagram of anybody
 *   1  u16 ms                                         time passes
 *   2  u8 which, u8 parts, u16 length, rest           an answer to a request the node has sent
 *   3  32 bytes                                       the layer above starts a query
 *   4  addr4, u8 sends                                or sends a request
 *   5  u8 which                                       or cancels one
 */
#include "dht/query.h"

#include <stdlib.h>

enum { SENT = 64, OPEN = 64 };

struct sent {
	uint16_t endpoint;
	uint16_t tid;
	struct og_addr dst;
};

static struct sent sent[SENT];
static unsigned nb_sent;
static uint8_t out[1472];
static unsigned outcomes[OPEN];
static struct og_dht_req_id open_id[OPEN];
static unsigned nb_open;

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = sizeof(out);
	return out;
}

static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct og_dht_msg m;

	OG_ASSERT(len_bytes <= sizeof(out) && endpoint < 2 && dst->port != 0);
	OG_ASSERT(og_dht_msg_decode(&m, out, len_bytes) == 0);
	if (!m.reply)
		sent[nb_sent++ % SENT] = (struct sent){endpoint, m.tid, *dst};
}

static void on_outcome(void *ctx, uint64_t tag, const struct og_dht_reply *r, uint64_t now_ns)
{
	OG_ASSERT(outcomes[tag]++ == 0);
	OG_ASSERT((r->msg != NULL) == (r->status == 0));
}

static void on_done(void *ctx, uint64_t tag, int status, const struct og_dht_closest *closest,
	uint32_t n, uint64_t now_ns)
{
	OG_ASSERT(n <= OG_DHT_K);
}

static void answer_value(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns)
{
	static const uint8_t value[1000];

	og_dht_rpc_reply(
		ctx, in, OG_REPLY_TOKEN | OG_REPLY_CLOSER, 0, value, sizeof(value), now_ns);
}

static struct og_dht_rpc *make(
	struct og_tx *tx, struct og_rand *rand, uint8_t kind, uint64_t now_ns)
{
	static const struct og_addr bootstrap[] = {{{127, 0, 0, 1}, 10001}};
	struct og_dht_rpc_opts opts = {
		.local = {{{127, 0, 0, 1}, 4000}, {{127, 0, 0, 1}, 4001}},
		.bootstrap = bootstrap,
		.nb_bootstrap = kind & 1,
		.ephemeral = kind >> 1 & 1 ? OG_NO : OG_AUTO,
		.firewalled = kind >> 2 & 1 ? OG_NO : OG_AUTO,
		.limit_private = kind >> 3 & 1,
		.tx = tx,
		.rand = rand,
		.nb_requests = 32,
		.nb_queries = 4,
		.nb_delayed_pings = 16,
	};
	struct og_dht_rpc *rpc;

	if (kind >> 4 & 1)
		opts.public_addr = opts.local[0];
	OG_ASSERT(og_dht_rpc_create(&rpc, &opts, now_ns) == 0);
	for (uint8_t c = 2; c < 10; c++)
		og_dht_rpc_handle(rpc, c, true, answer_value, rpc);
	return rpc;
}

/* In a block of its exact size, so that an over-read is seen. */
static void feed(struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *src,
	const uint8_t *data, size_t n, uint64_t now_ns)
{
	uint8_t *copy = malloc(n ? n : 1);

	if (n > 0)
		memcpy(copy, data, n);
	og_dht_rpc_input(rpc, endpoint, src, copy, (uint16_t)n, now_ns);
	free(copy);
}

static void feed_answer(struct og_dht_rpc *rpc, struct og_reader *r, uint64_t now_ns)
{
	uint8_t which = og_read_u8(r);
	uint8_t parts = og_read_u8(r);
	uint16_t n = og_read_le16(r) % 1400;
	const uint8_t *rest = og_read_bytes(r, n);
	uint8_t buf[1500] = {0x13, parts};
	struct og_writer w = og_writer_of(buf + 2, sizeof(buf) - 2);
	uint8_t id[32];
	const struct sent *s = &sent[which % SENT];

	if (!rest || nb_sent == 0)
		return;
	if (nb_sent < SENT)
		s = &sent[which % nb_sent];
	og_write_le16(&w, s->tid);
	og_write_addr4(&w, &(struct og_addr){{127, 0, 0, 1}, (uint16_t)(4000 + s->endpoint)});
	if (parts & 1) {
		og_dht_node_id(id, &s->dst);
		og_write_bytes(&w, id, sizeof(id));
	}
	og_write_bytes(&w, rest, OG_MIN(n, og_writer_left(&w)));
	feed(rpc, s->endpoint, &s->dst, buf, 2 + og_writer_len(&w), now_ns);
}

static void start_query(struct og_dht_rpc *rpc, const uint8_t *target, uint64_t now_ns)
{
	struct og_dht_query_opts q = {
		.internal = true, .command = OG_DHT_FIND_NODE, .on_done = on_done};
	struct og_dht_query_id id;

	memcpy(q.target, target, sizeof(q.target));
	(void)!og_dht_query_start(rpc, &q, &id, now_ns);
}

static void send_request(
	struct og_dht_rpc *rpc, const struct og_addr *to, uint8_t sends, uint64_t now_ns)
{
	struct og_dht_request req = {.to = *to,
		.internal = true,
		.sends = sends % 8,
		.any_endpoint = true,
		.fn = on_outcome,
		.tag = nb_open};

	if (nb_open == OPEN || to->port == 0)
		return;
	og_dht_request_send(rpc, &req, &open_id[nb_open++], now_ns);
}

static void step(struct og_dht_rpc *rpc, struct og_reader *r, uint64_t *now_ns)
{
	const uint8_t *bytes;
	struct og_addr addr;
	uint16_t n;
	uint8_t b;

	switch (og_read_u8(r) % 6) {
	case 0:
		b = og_read_u8(r);
		addr = og_read_addr4(r);
		n = og_read_le16(r) % 2049;
		bytes = og_read_bytes(r, n);
		if (bytes)
			feed(rpc, b % 2, &addr, bytes, n, *now_ns);
		break;
	case 1:
		*now_ns += og_read_le16(r) * OG_NS_PER_MS;
		break;
	case 2:
		feed_answer(rpc, r, *now_ns);
		break;
	case 3:
		bytes = og_read_bytes(r, 32);
		if (bytes)
			start_query(rpc, bytes, *now_ns);
		break;
	case 4:
		addr = og_read_addr4(r);
		b = og_read_u8(r);
		if (og_reader_ok(r))
			send_request(rpc, &addr, b, *now_ns);
		break;
	case 5:
		b = og_read_u8(r);
		if (nb_open > 0) {
			og_dht_request_cancel(rpc, open_id[b % nb_open]);
			outcomes[b % nb_open] |= 1; /* none may come after it */
		}
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct og_reader r = og_reader_of(data, len_bytes);
	struct og_tx tx = {reserve, commit};
	uint64_t now_ns = 1000 * OG_NS_PER_S;
	struct og_rand rand;
	struct og_dht_rpc *rpc;
	uint64_t end;

	nb_sent = nb_open = 0;
	memset(outcomes, 0, sizeof(outcomes));
	og_rand_seeded(&rand, 1);
	rpc = make(&tx, &rand, og_read_u8(&r), now_ns);
	og_dht_rpc_tick(rpc, now_ns);
	for (unsigned i = 0; i < 1000 && og_reader_left(&r) > 0; i++) {
		step(rpc, &r, &now_ns);
		og_dht_rpc_tick(rpc, now_ns);
	}
	/* Every request has one outcome in the end. */
	for (end = now_ns + 20 * OG_NS_PER_S; now_ns < end; now_ns += 250 * OG_NS_PER_MS)
		og_dht_rpc_tick(rpc, now_ns);
	for (unsigned i = 0; i < nb_open; i++)
		OG_ASSERT(outcomes[i] == 1);
	og_dht_rpc_destroy(rpc);
	return 0;
}
