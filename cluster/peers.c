#include "cluster/peers.h"

#include "base/bytes.h"
#include "base/count.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	NONE = -1,
	LISTED_KEYS_MAX = 1024,
	PER_KEY_DEFAULT = 4,
	PER_NET_DEFAULT = 64,
	BLOCKS_MAX = 1024, /* of OG_WRITE_MAX_BYTES: what streams did not take yet, all together */
	BLOCKS_PER_CONN = 34, /* the credit of one, in pieces of any size */
	PACKETS_PER_CONN = 48,
	PACKETS_MIN = 32768,
	UNREAD_ALL_BYTES = 8 * 1024 * 1024, /* beyond it every stream that delivers is held back */
	CREDIT_STEP_BYTES = 64 * 1024,
};

static const uint64_t open_wait_ns = 10 * OG_NS_PER_S;
static const uint64_t watch_step_ns = 250 * OG_NS_PER_MS;
static const uint64_t watch_silence_ns = 500 * OG_NS_PER_MS;
static const uint64_t watch_dead_ns = 1600 * OG_NS_PER_MS;

enum conn_state { CONN_FREE, CONN_RESERVED, CONN_STARTED, CONN_OPEN };

struct conn {
	struct og_stream_id id;
	uint8_t key[32];
	struct og_addr remote;
	uint64_t dial_tag;
	uint64_t due; /* STARTED: must be open by then; OPEN and watched: look again */
	uint64_t watched_since;
	int32_t next; /* in its hash chain, the newest first; only when started */
	int32_t first_block, last_block;
	uint32_t staged_bytes;
	uint32_t credit_owed_bytes;
	uint32_t unread_bytes;
	uint8_t state;
	bool initiator, end_wanted, watched, paused;
};

struct block {
	int32_t next;
	uint32_t off, len;
	uint8_t data[OG_WRITE_MAX_BYTES];
};

struct og_peers {
	struct og_peers_opts opts;
	struct og_streams *streams;
	const struct og_peers_ops *ops;
	void *ctx;
	struct og_dht *dht; /* of the core that has one */
	struct og_swarm *swarm;
	struct conn *conns;
	int32_t *buckets;
	uint32_t bucket_mask;
	struct block *blocks;
	int32_t free_blocks;
	uint64_t hash_seed;
	uint64_t unread_bytes;
	uint64_t due;
	uint64_t now_ns; /* of the call under way, for callbacks of the streams */
	uint32_t nb_started;
	uint32_t nb_allowed, nb_denied;
	uint8_t (*allowed)[32];
	uint8_t (*denied)[32];
};

/* To others a slot is counted through all cores. */
static struct og_stream_id id_of(const struct og_peers *p, uint64_t handle)
{
	return (struct og_stream_id){
		(uint32_t)handle - p->opts.slot_base, (uint32_t)(handle >> 32)};
}

static uint64_t handle_of(const struct og_peers *p, struct og_stream_id id)
{
	return (uint64_t)id.gen << 32 | (id.slot + p->opts.slot_base);
}

static struct conn *conn_get(struct og_peers *p, struct og_stream_id id)
{
	struct conn *c;

	if (id.slot >= p->opts.nb_conns)
		return NULL;
	c = &p->conns[id.slot];
	return c->state != CONN_FREE && c->id.gen == id.gen ? c : NULL;
}

static struct conn *conn_of_msg(struct og_peers *p, const struct og_msg *m)
{
	struct conn *c = conn_get(p, id_of(p, (uint64_t)m->gen << 32 | m->slot));

	return c && c->state == CONN_OPEN ? c : NULL;
}

static uint32_t bucket_of(const struct og_peers *p, const uint8_t key[32])
{
	uint64_t v;

	memcpy(&v, key, sizeof(v));
	return (uint32_t)(((v ^ p->hash_seed) * 0x9e3779b97f4a7c15ull) >> 32) & p->bucket_mask;
}

/* The newest started connection to a key. */
static struct conn *conn_find(struct og_peers *p, const uint8_t key[32])
{
	int32_t i = p->buckets[bucket_of(p, key)];

	while (i != NONE && memcmp(p->conns[i].key, key, 32) != 0)
		i = p->conns[i].next;
	return i == NONE ? NULL : &p->conns[i];
}

static void conn_link(struct og_peers *p, struct conn *c)
{
	int32_t *head = &p->buckets[bucket_of(p, c->key)];

	c->next = *head;
	*head = (int32_t)(c - p->conns);
	p->nb_started++;
}

static void conn_unlink(struct og_peers *p, struct conn *c)
{
	int32_t *link = &p->buckets[bucket_of(p, c->key)];
	int32_t idx = (int32_t)(c - p->conns);

	while (*link != idx)
		link = &p->conns[*link].next;
	*link = c->next;
	p->nb_started--;
}

static void due_at(struct og_peers *p, struct conn *c, uint64_t when_ns)
{
	c->due = when_ns;
	p->due = OG_MIN(p->due, when_ns);
}

static struct og_msg event(const struct og_peers *p, const struct conn *c, enum og_core_event type)
{
	struct og_msg m = {
		.type = (uint16_t)type, .slot = c->id.slot + p->opts.slot_base, .gen = c->id.gen};

	memcpy(m.key, c->key, sizeof(m.key));
	return m;
}

/* ---- staged writes ---- */

static void block_free(struct og_peers *p, struct conn *c)
{
	int32_t i = c->first_block;

	c->first_block = p->blocks[i].next;
	if (c->first_block == NONE)
		c->last_block = NONE;
	p->blocks[i].next = p->free_blocks;
	p->free_blocks = i;
}

static int stage(struct og_peers *p, struct conn *c, const uint8_t *data, uint32_t n)
{
	int32_t i = p->free_blocks;
	struct block *b = c->last_block == NONE ? NULL : &p->blocks[c->last_block];

	if (b && b->len + n <= sizeof(b->data)) {
		memcpy(b->data + b->len, data, n);
		b->len += n;
		c->staged_bytes += n;
		return 0;
	}
	if (i == NONE)
		return -ENOBUFS;
	b = &p->blocks[i];
	p->free_blocks = b->next;
	b->next = NONE;
	b->off = 0;
	b->len = n;
	memcpy(b->data, data, n);
	if (c->last_block == NONE)
		c->first_block = i;
	else
		p->blocks[c->last_block].next = i;
	c->last_block = i;
	c->staged_bytes += n;
	return 0;
}

static void return_credit(struct og_peers *p, struct conn *c, uint32_t n)
{
	struct og_msg m;

	c->credit_owed_bytes += n;
	if (c->credit_owed_bytes < CREDIT_STEP_BYTES)
		return;
	m = event(p, c, OG_EV_PEER_CREDIT);
	m.arg = c->credit_owed_bytes;
	if (og_outbox_post(p->opts.outbox, &m) == 0)
		c->credit_owed_bytes = 0;
}

static void unstage(struct og_peers *p, struct conn *c, uint64_t now_ns)
{
	while (c->first_block != NONE) {
		struct block *b = &p->blocks[c->first_block];
		uint32_t n = (uint32_t)og_stream_write(
			p->streams, c->id, b->data + b->off, b->len - b->off, now_ns);

		b->off += n;
		c->staged_bytes -= n;
		return_credit(p, c, n);
		if (b->off < b->len)
			return;
		block_free(p, c);
	}
	if (c->end_wanted) {
		c->end_wanted = false;
		og_stream_end(p->streams, c->id, now_ns);
	}
}

/* ---- life of a connection ---- */

/* The stream is gone: whatever the reason, every table forgets it here. */
static void conn_forget(struct og_peers *p, struct conn *c, int reason, uint64_t now_ns)
{
	enum conn_state state = c->state;

	while (c->first_block != NONE)
		block_free(p, c);
	p->unread_bytes -= c->unread_bytes;
	if (state >= CONN_STARTED)
		conn_unlink(p, c);
	c->state = CONN_FREE;
	if (state == CONN_OPEN) {
		struct og_msg m = event(p, c, OG_EV_PEER_CLOSED);

		m.arg = (uint64_t)(int64_t)reason;
		og_outbox_post(p->opts.outbox, &m);
		og_count(&p->opts.stats->peers_closed);
		og_count_add(&p->opts.stats->peers, (uint64_t)-1);
		if (!conn_find(p, c->key) || conn_find(p, c->key)->state != CONN_OPEN)
			p->ops->down(p->ctx, c->key, now_ns);
	} else if (state == CONN_STARTED && c->initiator) {
		og_count(&p->opts.stats->dials_failed);
		p->ops->dial_failed(p->ctx, c->dial_tag, now_ns);
	}
	if (p->ops->freed)
		p->ops->freed(p->ctx, handle_of(p, c->id), now_ns);
}

static void conn_close(struct og_peers *p, struct conn *c, int reason, uint64_t now_ns)
{
	struct og_stream_id id = c->id;

	conn_forget(p, c, reason, now_ns);
	og_stream_close(p->streams, id, now_ns);
}

/* ---- limits ---- */

static bool same_net(const struct og_addr *a, const struct og_addr *b)
{
	return og_addr_u32(a) >> 8 == og_addr_u32(b) >> 8;
}

/* Called, but not yet proved to be there: who has been so for longest is worth least. */
static bool is_unproven(const struct conn *c)
{
	return c->state == CONN_STARTED && !c->initiator;
}

static bool older(const struct conn *c, const struct conn *than)
{
	return is_unproven(c) && (!than || c->due < than->due);
}

static bool evict(struct og_peers *p, struct conn *c, uint64_t now_ns)
{
	if (!c)
		return false;
	og_count(&p->opts.stats->half_open_evicted);
	conn_close(p, c, -ENOSPC, now_ns);
	return true;
}

static bool evict_any(struct og_peers *p, uint64_t now_ns)
{
	struct conn *oldest = NULL;

	for (uint32_t i = 0; i < p->opts.nb_conns; i++)
		if (older(&p->conns[i], oldest))
			oldest = &p->conns[i];
	return evict(p, oldest, now_ns);
}

/* Room for one more connection of this key. */
static bool key_has_room(struct og_peers *p, const uint8_t key[32], uint64_t now_ns)
{
	struct conn *oldest = NULL;
	uint32_t n = 0;

	for (int32_t i = p->buckets[bucket_of(p, key)]; i != NONE; i = p->conns[i].next) {
		struct conn *c = &p->conns[i];

		if (memcmp(c->key, key, 32) != 0)
			continue;
		n++;
		if (older(c, oldest))
			oldest = c;
	}
	return n < p->opts.per_key_max || evict(p, oldest, now_ns);
}

/* Room for one more connection from this /24. */
static bool net_has_room(struct og_peers *p, const struct og_addr *remote, uint64_t now_ns)
{
	struct conn *oldest = NULL;
	uint32_t n = 0;

	if (p->ops->exempt(p->ctx, remote))
		return true;
	for (uint32_t i = 0; i < p->opts.nb_conns; i++) {
		struct conn *c = &p->conns[i];

		if (c->state < CONN_STARTED || !same_net(&c->remote, remote))
			continue;
		n++;
		if (older(c, oldest))
			oldest = c;
	}
	return n < p->opts.per_net_max || evict(p, oldest, now_ns);
}

/* What we dial is bounded where it is dialled. */
static bool has_room(struct og_peers *p, const struct og_dht_conn *n, uint64_t now_ns)
{
	if (n->initiator)
		return true;
	if (key_has_room(p, n->remote_key, now_ns) &&
		(!n->has_remote || net_has_room(p, &n->remote, now_ns)))
		return true;
	og_count(&p->opts.stats->refused_limit);
	return false;
}

bool og_peers_evict(struct og_peers *p, uint64_t now_ns)
{
	return evict_any(p, now_ns);
}

uint32_t og_peers_held(const struct og_peers *p)
{
	return og_streams_nb_live(p->streams);
}

int og_peers_reserve(struct og_peers *p, uint64_t *stream, uint32_t *udx_id, uint64_t now_ns)
{
	struct og_stream_id id;
	struct conn *c;
	int ret = og_stream_reserve(p->streams, &id, udx_id, now_ns);

	if (ret < 0 && evict_any(p, now_ns))
		ret = og_stream_reserve(p->streams, &id, udx_id, now_ns);
	if (ret < 0) {
		og_count(&p->opts.stats->refused_full);
		return ret;
	}
	c = &p->conns[id.slot];
	memset(c, 0, sizeof(*c));
	c->id = id;
	c->state = CONN_RESERVED;
	c->first_block = c->last_block = NONE;
	c->due = OG_NEVER;
	*stream = handle_of(p, id);
	return 0;
}

void og_peers_release(struct og_peers *p, uint64_t stream, uint64_t now_ns)
{
	struct conn *c = conn_get(p, id_of(p, stream));

	if (c)
		conn_close(p, c, 0, now_ns);
}

static bool has_talked(struct og_peers *p, const struct conn *c)
{
	struct og_stream_info info;

	og_stream_info(p->streams, c->id, &info);
	return info.frames_read > 0 && info.frames_written > 0;
}

/* dht.md 10.3. The existing one may be a connection or, when NULL, an attempt of ours under way. */
static bool new_one_wins(
	struct og_peers *p, const struct conn *existing, const struct og_dht_conn *n)
{
	bool local_is_smaller = memcmp(p->opts.own_key, n->remote_key, 32) < 0;

	if (n->initiator)
		return !local_is_smaller;
	if (existing && existing->state == CONN_OPEN && has_talked(p, existing))
		return true; /* considered dead: the peer would not call us otherwise */
	return local_is_smaller;
}

void og_peers_connected(struct og_peers *p, const struct og_dht_conn *n, uint64_t now_ns)
{
	struct conn *c = conn_get(p, id_of(p, n->stream));
	struct conn *existing;
	bool contested;

	if (!c)
		return;
	if (!has_room(p, n, now_ns)) {
		conn_close(p, c, 0, now_ns);
		return;
	}
	existing = conn_find(p, n->remote_key);
	contested = existing || (!n->initiator && p->ops->dialling(p->ctx, n->remote_key));
	memcpy(c->key, n->remote_key, sizeof(c->key));
	c->initiator = n->initiator;
	c->dial_tag = n->tag;
	c->remote = n->remote;
	og_count(&p->opts.stats->handshakes);
	if (contested && !new_one_wins(p, existing, n)) {
		og_count(&p->opts.stats->duplicates_closed);
		if (existing)
			og_stream_keepalive(p->streams, existing->id, now_ns);
		if (n->initiator)
			p->ops->dial_abandon(p->ctx, n->remote_key, now_ns);
		conn_close(p, c, 0, now_ns);
		return;
	}
	c->state = CONN_STARTED;
	conn_link(p, c);
	due_at(p, c, now_ns + open_wait_ns);
	if (og_stream_start(p->streams, c->id, n->keys, n->initiator, n->remote_udx_id, n->endpoint,
		    n->has_remote ? &n->remote : NULL, now_ns) < 0)
		conn_close(p, c, -EPROTO, now_ns);
}

static void on_first_packet(
	void *ctx, struct og_stream_id id, uint16_t endpoint, const struct og_addr *src)
{
	struct og_peers *p = ctx;

	p->ops->first_packet(p->ctx, handle_of(p, id), endpoint, src, p->now_ns);
}

/* One connection per key: those that this one won against. */
static void close_older(struct og_peers *p, const struct conn *c)
{
	int32_t i = c->next;

	while (i != NONE) {
		struct conn *rival = &p->conns[i];

		i = rival->next;
		if (memcmp(rival->key, c->key, 32) != 0)
			continue;
		og_count(&p->opts.stats->duplicates_closed);
		conn_close(p, rival, -EALREADY, p->now_ns);
	}
}

static void on_open(void *ctx, struct og_stream_id id)
{
	struct og_peers *p = ctx;
	struct conn *c = conn_get(p, id);
	struct og_stream_info info;
	struct og_msg m;
	uint8_t addr[6];

	if (!c || c->state != CONN_STARTED)
		return;
	c->state = CONN_OPEN;
	c->due = OG_NEVER;
	close_older(p, c);
	if (!c->initiator)
		p->ops->dial_abandon(p->ctx, c->key, p->now_ns);
	p->ops->up(p->ctx, c->key, c->initiator, p->now_ns);
	og_count(&p->opts.stats->peers_opened);
	og_count(&p->opts.stats->peers);
	og_stream_info(p->streams, id, &info);
	c->remote = info.remote;
	memcpy(addr, c->remote.ip, 4);
	og_store_be16(addr + 4, c->remote.port);
	m = event(p, c, OG_EV_PEER_OPEN);
	m.flags = c->initiator;
	m.data = addr;
	m.len_bytes = sizeof(addr);
	og_outbox_post(p->opts.outbox, &m);
}

static void hold_back(struct og_peers *p, struct conn *c)
{
	bool hold = c->unread_bytes > OG_PEER_UNREAD_BYTES || p->unread_bytes > UNREAD_ALL_BYTES;

	if (hold == c->paused)
		return;
	c->paused = hold;
	if (hold)
		og_stream_pause(p->streams, c->id);
	else
		og_stream_resume(p->streams, c->id);
}

static void on_data(void *ctx, struct og_stream_id id, const uint8_t *plain, size_t n)
{
	struct og_peers *p = ctx;
	struct conn *c = conn_get(p, id);

	if (!c || c->state != CONN_OPEN)
		return;
	for (size_t off = 0; off < n; off += OG_WRITE_MAX_BYTES) {
		struct og_msg m = event(p, c, OG_EV_PEER_DATA);

		m.data = plain + off;
		m.len_bytes = (uint32_t)OG_MIN(n - off, (size_t)OG_WRITE_MAX_BYTES);
		if (og_outbox_post(p->opts.outbox, &m) < 0) {
			/* A gap in the stream would be worse than its end. */
			og_count(&p->opts.stats->events_dropped);
			conn_close(p, c, -ENOBUFS, p->now_ns);
			return;
		}
		c->unread_bytes += m.len_bytes;
		p->unread_bytes += m.len_bytes;
	}
	hold_back(p, c);
}

static void on_end(void *ctx, struct og_stream_id id)
{
	struct og_peers *p = ctx;
	struct conn *c = conn_get(p, id);
	struct og_msg m;

	if (!c || c->state != CONN_OPEN)
		return;
	m = event(p, c, OG_EV_PEER_END);
	og_outbox_post(p->opts.outbox, &m);
}

static void on_closed(void *ctx, struct og_stream_id id, int reason)
{
	struct og_peers *p = ctx;
	struct conn *c = conn_get(p, id);

	if (c)
		conn_forget(p, c, reason, p->now_ns);
}

static void on_writable(void *ctx, struct og_stream_id id)
{
	struct og_peers *p = ctx;
	struct conn *c = conn_get(p, id);

	if (c && c->state == CONN_OPEN)
		unstage(p, c, p->now_ns);
}

/* ---- commands ---- */

static void peer_write(struct og_peers *p, const struct og_msg *m, uint64_t now_ns)
{
	struct conn *c = conn_of_msg(p, m);
	uint32_t taken = 0;

	if (!c)
		return;
	if (c->staged_bytes + m->len_bytes > OG_PEER_CREDIT_BYTES) {
		conn_close(p, c, -ENOBUFS, now_ns);
		return;
	}
	if (c->first_block == NONE)
		taken = (uint32_t)og_stream_write(p->streams, c->id, m->data, m->len_bytes, now_ns);
	if (taken > 0)
		return_credit(p, c, taken);
	if (taken < m->len_bytes && stage(p, c, m->data + taken, m->len_bytes - taken) < 0)
		conn_close(p, c, -ENOBUFS, now_ns);
}

static void peer_end(struct og_peers *p, const struct og_msg *m, uint64_t now_ns)
{
	struct conn *c = conn_of_msg(p, m);

	if (!c)
		return;
	c->end_wanted = true;
	unstage(p, c, now_ns);
}

static void peer_close(struct og_peers *p, const struct og_msg *m, uint64_t now_ns)
{
	struct conn *c = conn_of_msg(p, m);

	if (c)
		conn_close(p, c, 0, now_ns);
}

static void peer_watch(struct og_peers *p, const struct og_msg *m, uint64_t now_ns)
{
	struct conn *c = conn_of_msg(p, m);

	if (!c || c->watched == (m->arg != 0))
		return;
	c->watched = m->arg != 0;
	c->watched_since = now_ns;
	if (c->watched)
		due_at(p, c, now_ns + watch_step_ns);
	else
		c->due = OG_NEVER;
}

static void peer_consumed(struct og_peers *p, const struct og_msg *m, uint64_t now_ns)
{
	struct conn *c = conn_of_msg(p, m);
	uint32_t n;

	if (!c)
		return;
	n = (uint32_t)OG_MIN(m->arg, (uint64_t)c->unread_bytes);
	c->unread_bytes -= n;
	p->unread_bytes -= n;
	p->now_ns = now_ns;
	hold_back(p, c);
}

static bool listed(uint8_t (*list)[32], uint32_t n, const uint8_t key[32])
{
	for (uint32_t i = 0; i < n; i++)
		if (memcmp(list[i], key, 32) == 0)
			return true;
	return false;
}

bool og_peers_allowed(const struct og_peers *p, const uint8_t key[32])
{
	if (memcmp(key, p->opts.own_key, 32) == 0 || listed(p->denied, p->nb_denied, key))
		return false;
	return p->nb_allowed == 0 || listed(p->allowed, p->nb_allowed, key);
}

int og_peers_list_add(struct og_peers *p, bool allow, const uint8_t key[32])
{
	uint8_t(*list)[32] = allow ? p->allowed : p->denied;
	uint32_t *n = allow ? &p->nb_allowed : &p->nb_denied;

	if (listed(list, *n, key))
		return 0;
	if (*n == LISTED_KEYS_MAX)
		return -ENOSPC;
	memcpy(list[(*n)++], key, 32);
	return 0;
}

static void list_remove(struct og_peers *p, bool allow, const uint8_t key[32])
{
	uint8_t(*list)[32] = allow ? p->allowed : p->denied;
	uint32_t *n = allow ? &p->nb_allowed : &p->nb_denied;

	for (uint32_t i = 0; i < *n; i++)
		if (memcmp(list[i], key, 32) == 0) {
			memmove(list[i], list[--*n], 32);
			return;
		}
}

static void enforce(struct og_peers *p, uint64_t now_ns)
{
	for (uint32_t i = 0; i < p->opts.nb_conns; i++) {
		struct conn *c = &p->conns[i];

		if (c->state == CONN_OPEN && !og_peers_allowed(p, c->key))
			conn_close(p, c, -EACCES, now_ns);
	}
}

bool og_peers_command(struct og_peers *p, const struct og_msg *m, uint64_t now_ns)
{
	switch ((enum og_core_command)m->type) {
	case OG_CMD_WRITE:
		peer_write(p, m, now_ns);
		return true;
	case OG_CMD_END:
		peer_end(p, m, now_ns);
		return true;
	case OG_CMD_CLOSE:
		peer_close(p, m, now_ns);
		return true;
	case OG_CMD_WATCH:
		peer_watch(p, m, now_ns);
		return true;
	case OG_CMD_CONSUMED:
		peer_consumed(p, m, now_ns);
		return true;
	case OG_CMD_ALLOW:
	case OG_CMD_DENY:
		if (og_peers_list_add(p, m->type == OG_CMD_ALLOW, m->key) < 0)
			og_count(&p->opts.stats->refused_full);
		return true;
	case OG_CMD_UNALLOW:
	case OG_CMD_UNDENY:
		list_remove(p, m->type == OG_CMD_UNALLOW, m->key);
		return true;
	case OG_CMD_ENFORCE:
		enforce(p, now_ns);
		return true;
	default:
		return false;
	}
}

void og_peers_end_all(struct og_peers *p, uint64_t now_ns)
{
	for (uint32_t i = 0; i < p->opts.nb_conns; i++) {
		struct conn *c = &p->conns[i];

		if (c->state == CONN_OPEN) {
			c->end_wanted = true;
			unstage(p, c, now_ns);
		} else if (c->state != CONN_FREE) {
			conn_close(p, c, 0, now_ns);
		}
	}
}

void og_peers_close_all(struct og_peers *p, uint64_t now_ns)
{
	for (uint32_t i = 0; i < p->opts.nb_conns; i++)
		if (p->conns[i].state != CONN_FREE)
			conn_close(p, &p->conns[i], 0, now_ns);
}

uint32_t og_peers_count(const struct og_peers *p)
{
	return p->nb_started;
}

/* ---- time ---- */

static void watch(struct og_peers *p, struct conn *c, uint64_t now_ns)
{
	uint64_t heard = OG_MAX(og_stream_last_heard_ns(p->streams, c->id), c->watched_since);
	uint64_t silent = now_ns - OG_MIN(heard, now_ns);

	if (silent >= watch_dead_ns) {
		conn_close(p, c, -ETIMEDOUT, now_ns);
		return;
	}
	if (silent >= watch_silence_ns)
		og_stream_heartbeat(p->streams, c->id, now_ns);
	due_at(p, c, now_ns + watch_step_ns);
}

uint64_t og_peers_tick(struct og_peers *p, uint64_t now_ns)
{
	uint64_t streams;

	p->now_ns = now_ns;
	if (now_ns >= p->due) {
		p->due = OG_NEVER;
		for (uint32_t i = 0; i < p->opts.nb_conns; i++) {
			struct conn *c = &p->conns[i];

			if (c->state < CONN_STARTED || c->due == OG_NEVER)
				continue;
			if (now_ns < c->due)
				p->due = OG_MIN(p->due, c->due);
			else if (c->state == CONN_STARTED)
				conn_close(p, c, -ETIMEDOUT, now_ns);
			else
				watch(p, c, now_ns);
		}
	}
	streams = og_streams_tick(p->streams, now_ns);
	return OG_MIN(streams, p->due);
}

int og_peers_input(struct og_peers *p, const struct og_dgram *d, uint64_t now_ns)
{
	p->now_ns = now_ns;
	return og_streams_input(p->streams, d->endpoint, &d->src, d->data, d->len_bytes, now_ns);
}

void og_peers_flush(struct og_peers *p, uint64_t now_ns)
{
	p->now_ns = now_ns;
	og_streams_flush(p->streams, now_ns);
}

/* ---- metrics ---- */

void og_peers_metrics_register(struct og_peers *const *peers, uint32_t nb)
{
	struct og_streams *streams[OG_CORES_MAX];

	for (uint32_t i = 0; i < nb; i++)
		streams[i] = peers[i]->streams;
	og_streams_metrics_register(streams, nb);
}

/* ---- neighbours on the same core ---- */

static bool near_dialling(void *ctx, const uint8_t key[32])
{
	struct og_peers *p = ctx;

	return og_swarm_dialling(p->swarm, key);
}

static bool near_exempt(void *ctx, const struct og_addr *a)
{
	struct og_peers *p = ctx;

	return og_dht_rpc_address_exempt(og_dht_rpc(p->dht), a);
}

static void near_first_packet(
	void *ctx, uint64_t stream, uint16_t endpoint, const struct og_addr *src, uint64_t now_ns)
{
	struct og_peers *p = ctx;

	og_dht_stream_seen(p->dht, stream, endpoint, src, now_ns);
}

static void near_up(void *ctx, const uint8_t key[32], bool initiator, uint64_t now_ns)
{
	struct og_peers *p = ctx;

	og_swarm_connected(p->swarm, key, initiator, now_ns);
}

static void near_down(void *ctx, const uint8_t key[32], uint64_t now_ns)
{
	struct og_peers *p = ctx;

	og_swarm_disconnected(p->swarm, key, now_ns);
}

static void near_dial_failed(void *ctx, uint64_t tag, uint64_t now_ns)
{
	struct og_peers *p = ctx;

	og_swarm_dial_failed(p->swarm, tag, now_ns);
}

static void near_dial_abandon(void *ctx, const uint8_t key[32], uint64_t now_ns)
{
	struct og_peers *p = ctx;

	og_swarm_dial_abandon(p->swarm, key, now_ns);
}

static const struct og_peers_ops near_ops = {
	.dialling = near_dialling,
	.exempt = near_exempt,
	.first_packet = near_first_packet,
	.up = near_up,
	.down = near_down,
	.dial_failed = near_dial_failed,
	.dial_abandon = near_dial_abandon,
};

void og_peers_wire(struct og_peers *p, struct og_dht *dht, struct og_swarm *swarm)
{
	p->dht = dht;
	p->swarm = swarm;
	og_peers_wire_far(p, &near_ops, p);
}

void og_peers_wire_far(struct og_peers *p, const struct og_peers_ops *ops, void *ctx)
{
	p->ops = ops;
	p->ctx = ctx;
}

/* ---- create ---- */

static const struct og_stream_ops stream_ops = {
	.first_packet = on_first_packet,
	.open = on_open,
	.data = on_data,
	.end = on_end,
	.closed = on_closed,
	.writable = on_writable,
};

int og_peers_create(struct og_peers **out, const struct og_peers_opts *opts)
{
	struct og_streams_opts so = {
		.nb_streams = opts->nb_conns,
		.nb_packets = opts->nb_packets ? opts->nb_packets
					       : OG_MAX(opts->nb_conns * PACKETS_PER_CONN,
							 (uint32_t)PACKETS_MIN),
		.frame_budget_bytes = opts->frame_budget_bytes,
		.frame_max_bytes = 0xffffff,
		.core_idx = opts->core_idx,
		.tag_key = opts->tag_key,
		.tx = opts->tx,
		.rand = opts->rand,
		.ops = &stream_ops,
	};
	struct og_peers *p = calloc(1, sizeof(*p));
	int32_t nb_blocks = (int32_t)OG_MIN(opts->nb_conns * BLOCKS_PER_CONN, (uint32_t)BLOCKS_MAX);
	uint32_t buckets = 64;
	int ret = -ENOMEM;

	if (!p)
		return -ENOMEM;
	p->opts = *opts;
	p->opts.per_key_max = opts->per_key_max ? opts->per_key_max : PER_KEY_DEFAULT;
	p->opts.per_net_max = opts->per_net_max ? opts->per_net_max : PER_NET_DEFAULT;
	p->due = OG_NEVER;
	while (buckets < opts->nb_conns * 2)
		buckets *= 2;
	p->bucket_mask = buckets - 1;
	p->hash_seed = og_rand_u64(opts->rand);
	p->conns = calloc(opts->nb_conns, sizeof(*p->conns));
	p->buckets = malloc(buckets * sizeof(*p->buckets));
	p->blocks = calloc(nb_blocks, sizeof(*p->blocks));
	p->allowed = calloc(LISTED_KEYS_MAX, sizeof(*p->allowed));
	p->denied = calloc(LISTED_KEYS_MAX, sizeof(*p->denied));
	if (!p->conns || !p->buckets || !p->blocks || !p->allowed || !p->denied)
		goto destroy;
	memset(p->buckets, 0xff, buckets * sizeof(*p->buckets));
	for (int32_t i = 0; i < nb_blocks; i++)
		p->blocks[i].next = i + 1 < nb_blocks ? i + 1 : NONE;
	so.ctx = p;
	ret = og_streams_create(&p->streams, &so);
	if (ret < 0)
		goto destroy;
	*out = p;
	return 0;

destroy:
	og_peers_destroy(p);
	return ret;
}

void og_peers_destroy(struct og_peers *p)
{
	if (!p)
		return;
	og_streams_destroy(p->streams);
	free(p->conns);
	free(p->buckets);
	free(p->blocks);
	free(p->allowed);
	free(p->denied);
	free(p);
}
