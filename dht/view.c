#include "dht/view.h"

#include "dht/rpc_priv.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	TYPE_REQUEST = 0x03,
	FLAG_ID = 0x01,
	FLAG_TOKEN = 0x02,
	FLAG_INTERNAL = 0x04,
	HEAD_BYTES = 10, /* type, flags, tid, to */
	IP_UDP_BYTES = 28,
	FIND_NODE_BYTES = HEAD_BYTES + 1 + OG_DHT_ID_BYTES,
	FIND_NODE_REPLY_BYTES = HEAD_BYTES + OG_DHT_ID_BYTES + 1 + OG_DHT_K * OG_DHT_ADDR4_BYTES,
	PING_BYTES = HEAD_BYTES + 1,
	PING_REPLY_BYTES = HEAD_BYTES + OG_DHT_ID_BYTES,
	NOBODY = 2, /* which copy a reader reads: none */
	READERS_MAX = OG_CORES_MAX,
};

static_assert(FIND_NODE_REPLY_BYTES + IP_UDP_BYTES <= 3 * (FIND_NODE_BYTES + IP_UDP_BYTES),
	"no amplifier: the longest reply to the shortest request");
static_assert(PING_REPLY_BYTES + IP_UDP_BYTES <= 3 * (PING_BYTES + IP_UDP_BYTES), "nor PING");

#define PUBLISH_STEP_NS (20 * OG_NS_PER_MS)

/* What makes another copy necessary. */
struct version {
	uint64_t nodes_added, nodes_removed;
	bool persistent;
	struct og_addr own[4];
};

struct copy {
	struct og_dht_table *table;
	struct version version;
};

struct reader {
	alignas(64) uint32_t reads; /* index of a copy, or NOBODY */
	struct og_dht_view_counts counts;
};

struct og_dht_view {
	struct copy copies[2];
	uint16_t nb_readers;
	/* Written by the owner. */
	uint64_t published_ns;
	alignas(64) uint32_t newer; /* index of a copy */
	struct reader readers[READERS_MAX];
};

int og_dht_view_create(struct og_dht_view **out, uint16_t nb_readers)
{
	struct og_dht_view *v;
	int ret = 0;

	if (nb_readers > READERS_MAX)
		return -EINVAL;
	v = aligned_alloc(64, sizeof(*v));
	if (!v)
		return -ENOMEM;
	memset(v, 0, sizeof(*v));
	v->nb_readers = nb_readers;
	for (uint16_t i = 0; i < READERS_MAX; i++)
		v->readers[i].reads = NOBODY;
	for (int i = 0; i < 2 && ret == 0; i++) {
		static const uint8_t center[OG_DHT_ID_BYTES];

		ret = og_dht_table_create(&v->copies[i].table, OG_DHT_TABLE_NODES, center, 0);
	}
	if (ret < 0) {
		og_dht_view_destroy(v);
		return ret;
	}
	*out = v;
	return 0;
}

void og_dht_view_destroy(struct og_dht_view *v)
{
	if (!v)
		return;
	og_dht_table_destroy(v->copies[0].table);
	og_dht_table_destroy(v->copies[1].table);
	free(v);
}

/* ---- the owner ---- */

static struct version version_of(const struct og_dht_rpc *rpc)
{
	const struct og_dht_self *self = &rpc->self;
	struct version now;

	memset(&now, 0, sizeof(now)); /* compared as bytes */
	now.nodes_added = rpc->count.nodes_added;
	now.nodes_removed = rpc->count.nodes_removed;
	now.persistent = self->persistent;
	now.own[0] = rpc->local[0];
	now.own[1] = rpc->local[1];
	now.own[2] = self->public_addr;
	if (self->persistent)
		now.own[3] = self->addr;
	return now;
}

static bool is_read(const struct og_dht_view *v, uint32_t copy)
{
	for (uint16_t i = 0; i < v->nb_readers; i++)
		/*
		 * In one order with the store of `newer` before it, and pairs with the release in
		 * leave(): what that reader read lies behind.
		 */
		if (__atomic_load_n(&v->readers[i].reads, __ATOMIC_SEQ_CST) == copy)
			return true;
	return false;
}

uint64_t og_dht_view_publish(struct og_dht_view *v, const struct og_dht_rpc *rpc, uint64_t now_ns)
{
	uint32_t newer = v->newer, older = 1 - newer; /* only we write it */
	struct version now = version_of(rpc);

	if (v->published_ns != 0 && memcmp(&now, &v->copies[newer].version, sizeof(now)) == 0)
		return OG_NEVER;
	if (v->published_ns != 0 && now_ns - v->published_ns < PUBLISH_STEP_NS)
		return v->published_ns + PUBLISH_STEP_NS;
	if (is_read(v, older))
		return now_ns + OG_NS_PER_MS;
	og_dht_table_copy(v->copies[older].table, rpc->table);
	v->copies[older].version = now;
	/* In one order with the readers' stores and their second look; releases the copy. */
	__atomic_store_n(&v->newer, older, __ATOMIC_SEQ_CST);
	v->published_ns = now_ns;
	return OG_NEVER;
}

/* ---- readers ---- */

static const struct copy *enter(struct og_dht_view *v, uint16_t reader)
{
	uint32_t copy = __atomic_load_n(&v->newer, __ATOMIC_ACQUIRE), again;

	for (;;) {
		/* Before the second look, in one order with publish(): one of the two sees the other. */
		__atomic_store_n(&v->readers[reader].reads, copy, __ATOMIC_SEQ_CST);
		again = __atomic_load_n(&v->newer, __ATOMIC_SEQ_CST);
		if (again == copy)
			return &v->copies[copy];
		copy = again; /* at most once in 20 ms */
	}
}

static void leave(struct og_dht_view *v, uint16_t reader)
{
	/* Pairs with the load in is_read(). */
	__atomic_store_n(&v->readers[reader].reads, NOBODY, __ATOMIC_RELEASE);
}

bool og_dht_view_takes(const uint8_t *data, uint16_t len_bytes)
{
	if (len_bytes <= HEAD_BYTES || data[0] != TYPE_REQUEST ||
		(data[1] & (FLAG_INTERNAL | FLAG_TOKEN | FLAG_ID)) != FLAG_INTERNAL)
		return false;
	return data[HEAD_BYTES] == OG_DHT_PING || data[HEAD_BYTES] == OG_DHT_FIND_NODE;
}

static bool is_own(const struct copy *c, const struct og_addr *src)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(c->version.own); i++)
		if (c->version.own[i].port != 0 && og_addr_eq(&c->version.own[i], src))
			return true;
	return false;
}

static bool send_reply(struct og_tx *tx, const struct og_dgram *d, const struct og_dht_msg *m)
{
	uint16_t cap;
	uint8_t *buf = tx->reserve(tx, &cap);
	struct og_writer w;

	if (!buf)
		return false;
	w = og_writer_of(buf, cap);
	if (og_dht_msg_encode(m, &w) < 0)
		return false;
	tx->commit(tx, d->endpoint, &d->src, 0, (uint16_t)og_writer_len(&w));
	return true;
}

static void answer(const struct copy *c, struct og_dht_view_counts *count, struct og_tx *tx,
	const struct og_dgram *d, const struct og_dht_msg *request)
{
	uint8_t closer[OG_DHT_K * OG_DHT_ADDR4_BYTES];
	struct og_dht_msg m = {.reply = true, .tid = request->tid, .to = d->src};

	if (is_own(c, &d->src)) {
		og_count(&count->own);
		return;
	}
	if (c->version.persistent && d->endpoint == 0) /* dht.md 2.2 */
		m.id = og_dht_table_center(c->table);
	if (request->command == OG_DHT_FIND_NODE) {
		m.nb_closer = og_dht_table_closest(c->table, request->target, OG_DHT_K, closer);
		m.closer = closer;
	}
	og_count(send_reply(tx, d, &m) ? &count->replies : &count->tx_full);
}

void og_dht_view_serve(
	struct og_dht_view *v, uint16_t reader, struct og_tx *tx, const struct og_dgram *d)
{
	struct og_dht_view_counts *count = &v->readers[reader].counts;
	struct og_dht_msg m;

	og_count(&count->requests);
	if (!og_dht_addr_usable(&d->src) || og_dht_msg_decode(&m, d->data, d->len_bytes) < 0 ||
		m.reply || (m.command == OG_DHT_FIND_NODE && !m.target)) {
		og_count(&count->malformed);
		return;
	}
	answer(enter(v, reader), count, tx, d, &m);
	leave(v, reader);
}

const struct og_dht_view_counts *og_dht_view_counts(const struct og_dht_view *v, uint16_t reader)
{
	return &v->readers[reader].counts;
}

void og_dht_view_metrics_register(const struct og_dht_view *v)
{
	static const struct {
		const char *name, *reason, *help;
		size_t offset;
	} rows[] = {
#define COUNT(field) offsetof(struct og_dht_view_counts, field)
		{"og_dht_view_requests_total", NULL,
			"PING and FIND_NODE taken by cores beside core 0.", COUNT(requests)},
		{"og_dht_view_replies_total", NULL, "And answered.", COUNT(replies)},
		{"og_dht_view_drops_total", "malformed", "And not answered.", COUNT(malformed)},
		{"og_dht_view_drops_total", "own_request", "And not answered.", COUNT(own)},
		{"og_dht_view_drops_total", "tx_full", "And not answered.", COUNT(tx_full)},
#undef COUNT
	};
	enum { LABEL_BYTES = 40 };
	char(*labels)[LABEL_BYTES] = calloc(OG_ARRAY_LEN(rows) * v->nb_readers, sizeof(*labels));

	OG_ASSERT(labels); /* alive as long as the process */
	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++)
		for (uint16_t core = 1; core < v->nb_readers; core++) {
			const uint8_t *counts = (const uint8_t *)&v->readers[core].counts;
			char *label = *labels++;

			snprintf(label, LABEL_BYTES,
				rows[i].reason ? "core=\"%u\",reason=\"%s\"" : "core=\"%u\"", core,
				rows[i].reason);
			og_metrics_register(&(struct og_metric){.name = rows[i].name,
				.labels = label,
				.help = rows[i].help,
				.type = OG_METRIC_COUNTER,
				.value = counts + rows[i].offset});
		}
}
