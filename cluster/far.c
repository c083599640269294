#include "cluster/far.h"

#include "cluster/outbox.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* Messages of a stream that may have to wait: TAKE, RELEASE, and the lists of keys all at once. */
enum { MESSAGES_PER_SLOT = 4, MESSAGES_MORE = 4096, DATAGRAM_MAX = 1500 };
/*
 * Keys that may have to wait: the peer has been answered, and would wait for a stream that is not there until
 * it gave up.
 */
enum { CONNECTED_WAITING = 256 };
static_assert(sizeof(struct og_link_connected) <= (int)OG_OUTBOX_LARGE, "keys can wait");

struct offer {
	uint32_t slot, gen, udx_id;
};

struct far_core {
	struct og_tx tx; /* sends by that core */
	struct og_outbox outbox;
	struct offer offers[OG_OFFERS_MAX];
	uint32_t nb_offers;
	uint8_t datagram[DATAGRAM_MAX];
};

struct og_far {
	uint16_t nb_cores;
	uint32_t slots_per_core;
	uint32_t held;
	uint64_t seed;
	struct far_core cores[OG_CORES_MAX];
};

uint16_t og_far_core_of_key(const struct og_far *f, const uint8_t key[32])
{
	uint64_t v;

	memcpy(&v, key, sizeof(v));
	v = (v ^ f->seed) * 0x9e3779b97f4a7c15ull;
	v = (v ^ v >> 29) * 0xbf58476d1ce4e5b9ull;
	return (uint16_t)((v >> 32) * f->nb_cores >> 32);
}

uint16_t og_far_core_of_stream(const struct og_far *f, uint64_t stream)
{
	return (uint16_t)OG_MIN((uint32_t)stream / f->slots_per_core, f->nb_cores - 1u);
}

static struct og_msg about(enum og_link_message type, uint64_t stream)
{
	return (struct og_msg){
		.type = (uint16_t)type, .slot = (uint32_t)stream, .gen = (uint32_t)(stream >> 32)};
}

void og_far_tell(struct og_far *f, uint16_t core, const struct og_msg *m)
{
	og_outbox_post(&f->cores[core].outbox, m);
}

void og_far_tell_all(struct og_far *f, const struct og_msg *m)
{
	for (uint16_t i = 1; i < f->nb_cores; i++)
		og_far_tell(f, i, m);
}

int og_far_reserve(struct og_far *f, uint16_t core, uint64_t *stream, uint32_t *udx_id)
{
	struct far_core *c = &f->cores[core];
	const struct offer *o;
	struct og_msg take;

	if (c->nb_offers == 0)
		return -ENOSPC;
	o = &c->offers[--c->nb_offers];
	*stream = (uint64_t)o->gen << 32 | o->slot;
	*udx_id = o->udx_id;
	take = about(OG_LINK_TAKE, *stream);
	og_far_tell(f, core, &take);
	f->held++;
	return 0;
}

void og_far_release(struct og_far *f, uint64_t stream)
{
	const struct og_msg release = about(OG_LINK_RELEASE, stream);

	og_far_tell(f, og_far_core_of_stream(f, stream), &release);
}

int og_far_connected(struct og_far *f, const struct og_dht_conn *n, bool dialling, bool exempt)
{
	uint16_t core = og_far_core_of_stream(f, n->stream);
	struct og_link_connected c = {
		.tag = n->tag,
		.slot = (uint32_t)n->stream,
		.gen = (uint32_t)(n->stream >> 32),
		.remote_udx_id = n->remote_udx_id,
		.endpoint = n->endpoint,
		.initiator = n->initiator,
		.has_remote = n->has_remote,
		.dialling = dialling,
		.exempt = exempt,
		.remote = n->remote,
		.keys = *n->keys,
	};
	const struct og_msg m = {
		.type = OG_LINK_CONNECTED, .data = (const uint8_t *)&c, .len_bytes = sizeof(c)};
	int ret;

	memcpy(c.remote_key, n->remote_key, sizeof(c.remote_key));
	ret = og_outbox_post(&f->cores[core].outbox, &m);
	sodium_memzero(&c, sizeof(c));
	if (ret < 0)
		og_far_release(f, n->stream);
	return ret;
}

/* ---- datagrams that another core sends ---- */

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	struct far_core *c = OG_CONTAINER_OF(tx, struct far_core, tx);

	*cap_bytes = sizeof(c->datagram);
	return c->datagram;
}

/* What finds no room is lost, as on any other way. */
static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct far_core *c = OG_CONTAINER_OF(tx, struct far_core, tx);
	const struct og_msg m = {.type = OG_LINK_SEND,
		.flags = ttl,
		.slot = endpoint,
		.arg = og_addr_key(dst),
		.data = c->datagram,
		.len_bytes = len_bytes};

	og_outbox_post(&c->outbox, &m);
}

struct og_tx *og_far_tx(struct og_far *f, uint64_t stream)
{
	return &f->cores[og_far_core_of_stream(f, stream)].tx;
}

/* ---- what they say ---- */

static void add_offer(struct og_far *f, struct far_core *c, const struct og_msg *m)
{
	struct og_msg release = about(OG_LINK_RELEASE, (uint64_t)m->gen << 32 | m->slot);

	if (c->nb_offers < OG_OFFERS_MAX)
		c->offers[c->nb_offers++] = (struct offer){m->slot, m->gen, (uint32_t)m->arg};
	else
		og_outbox_post(&c->outbox, &release);
}

static void drop_offer(struct far_core *c, const struct og_msg *m)
{
	for (uint32_t i = 0; i < c->nb_offers; i++)
		if (c->offers[i].slot == m->slot && c->offers[i].gen == m->gen) {
			c->offers[i] = c->offers[--c->nb_offers];
			return;
		}
}

void og_far_note(struct og_far *f, const struct og_msg *m)
{
	struct far_core *c = &f->cores[og_far_core_of_stream(f, m->slot)];

	switch ((enum og_link_message)m->type) {
	case OG_LINK_OFFER:
		add_offer(f, c, m);
		break;
	case OG_LINK_WITHDRAWN:
		drop_offer(c, m);
		break;
	case OG_LINK_FREED:
		f->held -= f->held > 0;
		break;
	default:
		break;
	}
}

uint32_t og_far_held(const struct og_far *f)
{
	return f->held;
}

bool og_far_flush(struct og_far *f)
{
	bool all = true;

	for (uint16_t i = 1; i < f->nb_cores; i++)
		all &= og_outbox_flush(&f->cores[i].outbox);
	return all;
}

/* ---- create ---- */

int og_far_create(struct og_far **out, uint16_t nb_cores, uint32_t slots_per_core,
	struct og_sink *const *links, uint64_t seed)
{
	struct og_far *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->nb_cores = nb_cores;
	f->slots_per_core = slots_per_core;
	f->seed = seed;
	for (uint16_t i = 1; i < nb_cores; i++) {
		struct far_core *c = &f->cores[i];

		c->tx = (struct og_tx){.reserve = reserve, .commit = commit};
		if (og_outbox_init(&c->outbox, links[i],
			    slots_per_core * MESSAGES_PER_SLOT + MESSAGES_MORE) < 0 ||
			og_outbox_init_vault(&c->outbox, CONNECTED_WAITING) < 0) {
			og_far_destroy(f);
			return -ENOMEM;
		}
	}
	*out = f;
	return 0;
}

void og_far_destroy(struct og_far *f)
{
	if (!f)
		return;
	for (uint16_t i = 1; i < f->nb_cores; i++)
		og_outbox_fini(&f->cores[i].outbox);
	free(f);
}
