#include "dht/store.h"

#include "dht/shelf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static const uint64_t record_lifetime_ns = 20 * 60 * OG_NS_PER_S;
static const uint64_t value_lifetime_ns = 48 * 3600 * OG_NS_PER_S;
static const uint64_t bump_drift_ms = 60000;

/* As on the wire (dht.md 7.2), so that a reply is copied together. */
struct record {
	uint8_t public_key[OG_DHT_KEY_BYTES];
	uint8_t nb_relays; /* a uint of one byte */
	uint8_t relays[OG_DHT_RECORD_RELAYS * 6];
};
static_assert(sizeof(struct record) == OG_DHT_RECORD_MAX, "a whole record, and no padding");

struct route {
	struct record record;
	struct og_dht_route to;
};

struct refresh {
	uint8_t target[32];
	bool self;
	struct record record;
};

struct mutable_value {
	uint64_t seq;
	uint32_t value_bytes;
	uint8_t signature[OG_DHT_SIGNATURE_BYTES];
	uint8_t value[OG_DHT_STORED_MAX];
};

struct immutable_value {
	uint32_t value_bytes;
	uint8_t value[OG_DHT_STORED_MAX];
};

enum { ANSWERS = 64 }; /* a power of two */

/*
 * A LOOKUP value as it was last made. It holds every record of its topic, so it is right until
 * something stored changes or one of them expires.
 */
struct answer {
	uint64_t version;
	uint64_t until_ns;
	uint32_t value_bytes;
	uint8_t target[32];
	uint8_t value[OG_DHT_LOOKUP_MAX + OG_DHT_RECORD_MAX]; /* records are copied whole */
};

struct og_dht_store {
	struct og_dht_store_opts opts;
	uint64_t created_ns;
	uint64_t version; /* counts the changes of what a LOOKUP answers */
	struct answer *answers;
	bool has_own;
	uint8_t own_target[32];
	struct record own;
	struct og_shelf record_shelf, route_shelf, bump_shelf, refresh_shelf, mutable_shelf,
		immutable_shelf;
	/* Indexed by the shelves' entries. */
	struct record *records;
	struct route *routes;
	uint64_t *bumps;
	struct refresh *refreshes;
	struct mutable_value *mutables;
	struct immutable_value *immutables;
};

/* ---- Life ---- */

static uint32_t or_default(uint32_t v, uint32_t otherwise)
{
	return v ? v : otherwise;
}

static void set_defaults(struct og_dht_store_opts *o)
{
	o->nb_records = or_default(o->nb_records, 65536);
	o->nb_routes = or_default(o->nb_routes, 65536);
	o->nb_bumps = or_default(o->nb_bumps, 4096);
	o->nb_refreshes = or_default(o->nb_refreshes, 4096);
	o->nb_mutables = or_default(o->nb_mutables, 8192);
	o->nb_immutables = or_default(o->nb_immutables, 8192);
	o->per_topic = or_default(o->per_topic, 256);
	o->per_prefix = or_default(o->per_prefix, 256);
	o->per_topic_prefix = or_default(o->per_topic_prefix, 20);
	o->values_per_prefix = or_default(o->values_per_prefix, 64);
}

static int shelf_with_payload(struct og_shelf *s, const struct og_shelf_opts *opts,
	struct og_rand *rand, void **payload, size_t item_bytes)
{
	*payload = calloc((size_t)opts->nb_entries + 1, item_bytes);
	if (!*payload)
		return -ENOMEM;
	return og_shelf_init(s, opts, rand);
}

static int allocate(struct og_dht_store *st)
{
	const struct og_dht_store_opts *o = &st->opts;
	const struct og_shelf_opts records = {.nb_entries = o->nb_records,
		.lifetime_ns = record_lifetime_ns,
		.per_target = o->per_topic,
		.per_prefix = o->per_prefix,
		.per_target_and_prefix = o->per_topic_prefix};
	const struct og_shelf_opts routes = {.nb_entries = o->nb_routes,
		.lifetime_ns = record_lifetime_ns,
		.per_prefix = o->per_prefix};
	const struct og_shelf_opts bumps = {
		.nb_entries = o->nb_bumps, .lifetime_ns = record_lifetime_ns};
	const struct og_shelf_opts refreshes = {.nb_entries = o->nb_refreshes,
		.lifetime_ns = record_lifetime_ns,
		.per_prefix = o->per_prefix};
	const struct og_shelf_opts mutables = {.nb_entries = o->nb_mutables,
		.lifetime_ns = value_lifetime_ns,
		.per_prefix = o->values_per_prefix};
	const struct og_shelf_opts immutables = {.nb_entries = o->nb_immutables,
		.lifetime_ns = value_lifetime_ns,
		.per_prefix = o->values_per_prefix};

	if (shelf_with_payload(&st->record_shelf, &records, o->rand, (void **)&st->records,
		    sizeof(*st->records)) < 0 ||
		shelf_with_payload(&st->route_shelf, &routes, o->rand, (void **)&st->routes,
			sizeof(*st->routes)) < 0 ||
		shelf_with_payload(&st->bump_shelf, &bumps, o->rand, (void **)&st->bumps,
			sizeof(*st->bumps)) < 0 ||
		shelf_with_payload(&st->refresh_shelf, &refreshes, o->rand, (void **)&st->refreshes,
			sizeof(*st->refreshes)) < 0 ||
		shelf_with_payload(&st->mutable_shelf, &mutables, o->rand, (void **)&st->mutables,
			sizeof(*st->mutables)) < 0)
		return -ENOMEM;
	return shelf_with_payload(&st->immutable_shelf, &immutables, o->rand,
		(void **)&st->immutables, sizeof(*st->immutables));
}

int og_dht_store_create(
	struct og_dht_store **out, const struct og_dht_store_opts *opts, uint64_t now_ns)
{
	struct og_dht_store *st = calloc(1, sizeof(*st));

	if (!st)
		return -ENOMEM;
	st->opts = *opts;
	set_defaults(&st->opts);
	st->created_ns = now_ns;
	st->version = 1;
	st->answers = calloc(ANSWERS, sizeof(*st->answers));
	if (!st->answers || allocate(st) < 0) {
		og_dht_store_destroy(st);
		return -ENOMEM;
	}
	*out = st;
	return 0;
}

void og_dht_store_destroy(struct og_dht_store *st)
{
	if (!st)
		return;
	og_shelf_fini(&st->record_shelf);
	og_shelf_fini(&st->route_shelf);
	og_shelf_fini(&st->bump_shelf);
	og_shelf_fini(&st->refresh_shelf);
	og_shelf_fini(&st->mutable_shelf);
	og_shelf_fini(&st->immutable_shelf);
	free(st->answers);
	free(st->records);
	free(st->routes);
	free(st->bumps);
	free(st->refreshes);
	free(st->mutables);
	free(st->immutables);
	free(st);
}

void og_dht_store_tick(struct og_dht_store *st, uint64_t now_ns)
{
	og_shelf_expire(&st->record_shelf, now_ns);
	og_shelf_expire(&st->route_shelf, now_ns);
	og_shelf_expire(&st->bump_shelf, now_ns);
	og_shelf_expire(&st->refresh_shelf, now_ns);
	og_shelf_expire(&st->mutable_shelf, now_ns);
	og_shelf_expire(&st->immutable_shelf, now_ns);
}

struct og_dht_store_counts og_dht_store_counts(const struct og_dht_store *st)
{
	return (struct og_dht_store_counts){
		.records = st->record_shelf.count,
		.routes = st->route_shelf.count,
		.bumps = st->bump_shelf.count,
		.refreshes = st->refresh_shelf.count,
		.mutables = st->mutable_shelf.count,
		.immutables = st->immutable_shelf.count,
		.evicted = st->record_shelf.evicted + st->route_shelf.evicted +
			   st->bump_shelf.evicted + st->refresh_shelf.evicted +
			   st->mutable_shelf.evicted + st->immutable_shelf.evicted,
	};
}

/* ---- Records ---- */

static struct record record_of(const struct og_dht_peer *peer)
{
	struct record rec = {.nb_relays = (uint8_t)OG_MIN(peer->nb_relays, OG_DHT_RECORD_RELAYS)};

	memcpy(rec.public_key, peer->public_key, OG_DHT_KEY_BYTES);
	memcpy(rec.relays, peer->relays, (size_t)rec.nb_relays * 6);
	return rec;
}

static size_t record_bytes(const struct record *rec)
{
	return offsetof(struct record, relays) + (size_t)rec->nb_relays * 6;
}

void og_dht_store_set_own(struct og_dht_store *st, const uint8_t *target, const uint8_t *public_key)
{
	st->version++;
	st->has_own = target != NULL;
	st->own = (struct record){0};
	if (!target)
		return;
	memcpy(st->own_target, target, 32);
	memcpy(st->own.public_key, public_key, OG_DHT_KEY_BYTES);
}

bool og_dht_store_is_own(const struct og_dht_store *st, const uint8_t target[32])
{
	return st->has_own && og_equal32(st->own_target, target);
}

/* The entry of that key under the target. */
static uint32_t find_record(const struct og_dht_store *st, const uint8_t target[32],
	const uint8_t public_key[32], uint64_t now_ns)
{
	uint32_t i = og_shelf_first(&st->record_shelf, target, now_ns);

	while (i && memcmp(st->records[i].public_key, public_key, OG_DHT_KEY_BYTES) != 0)
		i = og_shelf_next(&st->record_shelf, i, now_ns);
	return i;
}

static void remove_record(struct og_dht_store *st, const uint8_t target[32],
	const uint8_t public_key[32], uint64_t now_ns)
{
	uint32_t i = find_record(st, target, public_key, now_ns);

	st->version++;
	if (i)
		og_shelf_remove(&st->record_shelf, i);
}

/* The only live entry of a shelf under `target`: the one there is, renewed, or a new one. */
static uint32_t single_entry(
	struct og_shelf *shelf, const uint8_t target[32], uint32_t prefix, uint64_t now_ns)
{
	uint32_t i = og_shelf_first(shelf, target, now_ns);

	if (!i)
		return og_shelf_insert(shelf, target, prefix, now_ns);
	og_shelf_renew(shelf, i, prefix, now_ns);
	return i;
}

static void put_record(struct og_dht_store *st, const uint8_t target[32], const struct record *rec,
	const struct og_dht_source *src, uint64_t now_ns)
{
	uint32_t i = find_record(st, target, rec->public_key, now_ns);

	st->version++;
	if (i)
		og_shelf_renew(&st->record_shelf, i, src->prefix, now_ns);
	else
		i = og_shelf_insert(&st->record_shelf, target, src->prefix, now_ns);
	st->records[i] = *rec;
}

static void put_route(struct og_dht_store *st, const uint8_t target[32], const struct record *rec,
	const struct og_dht_source *src, uint64_t now_ns)
{
	uint32_t i;

	remove_record(st, target, rec->public_key, now_ns);
	if (og_dht_store_is_own(st, target))
		return;
	i = single_entry(&st->route_shelf, target, src->prefix, now_ns);
	st->routes[i] = (struct route){*rec, {src->addr, src->endpoint}};
}

static void put(struct og_dht_store *st, const uint8_t target[32], bool self,
	const struct record *rec, const struct og_dht_source *src, uint64_t now_ns)
{
	if (self)
		put_route(st, target, rec, src, now_ns);
	else
		put_record(st, target, rec, src, now_ns);
}

void og_dht_store_announce(struct og_dht_store *st, const uint8_t target[32], bool self,
	const struct og_dht_peer *peer, const struct og_dht_source *src, uint64_t now_ns)
{
	struct record rec = record_of(peer);

	put(st, target, self, &rec, src, now_ns);
}

void og_dht_store_unannounce(struct og_dht_store *st, const uint8_t target[32], bool self,
	const uint8_t public_key[32], uint64_t now_ns)
{
	uint32_t i;

	remove_record(st, target, public_key, now_ns);
	i = self ? og_shelf_first(&st->route_shelf, target, now_ns) : OG_SHELF_NONE;
	if (i)
		og_shelf_remove(&st->route_shelf, i);
}

void og_dht_store_bump(
	struct og_dht_store *st, const uint8_t target[32], uint64_t bump_ms, uint64_t now_ns)
{
	uint64_t clock_ms = st->opts.wall_ms + (now_ns - st->created_ns) / OG_NS_PER_MS;
	uint32_t i;

	if (st->opts.wall_ms == 0 || bump_ms == 0 || bump_ms > clock_ms + bump_drift_ms)
		return;
	i = og_shelf_first(&st->bump_shelf, target, now_ns);
	if (i && st->bumps[i] >= bump_ms)
		return;
	i = single_entry(&st->bump_shelf, target, 0, now_ns);
	st->bumps[i] = bump_ms;
	st->version++;
}

/* ---- Refresh chain ---- */

void og_dht_store_expect(struct og_dht_store *st, const uint8_t refresh[32],
	const uint8_t target[32], bool self, const struct og_dht_peer *peer,
	const struct og_dht_source *src, uint64_t now_ns)
{
	uint32_t i = single_entry(&st->refresh_shelf, refresh, src->prefix, now_ns);
	struct refresh *r = &st->refreshes[i];

	r->self = self;
	r->record = record_of(peer);
	memcpy(r->target, target, 32);
}

int og_dht_store_renew(struct og_dht_store *st, const uint8_t target[32],
	const uint8_t refresh_hash[32], const uint8_t preimage[32], const struct og_dht_source *src,
	uint64_t now_ns)
{
	uint32_t i = og_shelf_first(&st->refresh_shelf, refresh_hash, now_ns);
	struct refresh r;

	if (!i || memcmp(st->refreshes[i].target, target, 32) != 0)
		return -ENOENT;
	r = st->refreshes[i];
	og_shelf_remove(&st->refresh_shelf, i);
	i = single_entry(&st->refresh_shelf, preimage, src->prefix, now_ns);
	st->refreshes[i] = r;
	put(st, target, r.self, &r.record, src, now_ns);
	return 0;
}

/* ---- Reading ---- */

bool og_dht_store_route(const struct og_dht_store *st, const uint8_t target[32], uint64_t now_ns,
	struct og_dht_route *out)
{
	uint32_t i = og_shelf_first(&st->route_shelf, target, now_ns);

	if (!i || og_dht_store_is_own(st, target))
		return false;
	*out = st->routes[i].to;
	return true;
}

static uint64_t expiry(const struct og_shelf *s, uint32_t i)
{
	return i ? s->entries[i].renewed_ns + s->opts.lifetime_ns : OG_NEVER;
}

/* The record that FIND_PEER gives: our own, or that of a route. */
static const struct record *server_record(const struct og_dht_store *st, const uint8_t target[32],
	uint64_t now_ns, uint64_t *until_ns)
{
	uint32_t i;

	*until_ns = OG_NEVER;
	if (og_dht_store_is_own(st, target))
		return &st->own;
	i = og_shelf_first(&st->route_shelf, target, now_ns);
	*until_ns = expiry(&st->route_shelf, i);
	return i ? &st->routes[i].record : NULL;
}

uint32_t og_dht_store_find_peer(const struct og_dht_store *st, const uint8_t target[32],
	uint64_t now_ns, uint8_t out[OG_DHT_RECORD_MAX])
{
	uint64_t until_ns;
	const struct record *rec = server_record(st, target, now_ns, &until_ns);

	if (!rec)
		return 0;
	memcpy(out, rec, sizeof(*rec));
	return (uint32_t)record_bytes(rec);
}

/* What a LOOKUP answers with, and until when that is all there is. */
struct found {
	uint32_t nb;
	uint64_t until_ns; /* 0: there is more */
	const struct record *records[OG_DHT_LOOKUP_PEERS];
};

/* Reservoir sampling (Vitter, algorithm R): each record of the topic is equally likely. */
static void sample_records(
	struct og_dht_store *st, const uint8_t target[32], uint64_t now_ns, struct found *f)
{
	uint32_t seen = 0;

	for (uint32_t i = og_shelf_first(&st->record_shelf, target, now_ns); i;
		i = og_shelf_next(&st->record_shelf, i, now_ns)) {
		uint32_t at =
			seen < OG_DHT_LOOKUP_PEERS ? seen : og_rand_below(st->opts.rand, seen + 1);

		f->until_ns = OG_MIN(f->until_ns, expiry(&st->record_shelf, i));
		if (at < OG_DHT_LOOKUP_PEERS)
			f->records[at] = &st->records[i];
		seen++;
	}
	if (seen > OG_DHT_LOOKUP_PEERS)
		f->until_ns = 0;
	f->nb = OG_MIN(seen, (uint32_t)OG_DHT_LOOKUP_PEERS);
}

/* 20 records with 3 relays each would not leave the closer nodes their place in the datagram. */
static uint32_t as_many_as_fit(const struct record *const *found, uint32_t nb)
{
	size_t left = OG_DHT_LOOKUP_MAX - og_uint_bytes(nb) - 9; /* count and bump */

	for (uint32_t i = 0; i < nb; i++) {
		size_t bytes = record_bytes(found[i]);

		if (bytes > left)
			return i;
		left -= bytes;
	}
	return nb;
}

static void write_answer(struct answer *a, const struct found *f, uint64_t bump)
{
	uint8_t *p = a->value;
	struct og_writer w;

	*p++ = (uint8_t)f->nb;
	/* Each whole, for a copy of known length is a few moves; the next overwrites its slack. */
	for (uint32_t i = 0; i < f->nb; i++) {
		memcpy(p, f->records[i], sizeof(*f->records[i]));
		p += record_bytes(f->records[i]);
	}
	w = og_writer_of(p, (size_t)(a->value + sizeof(a->value) - p));
	og_write_uint(&w, bump);
	a->value_bytes = (uint32_t)(w.p - a->value);
}

static void make_answer(
	struct og_dht_store *st, const uint8_t target[32], uint64_t now_ns, struct answer *a)
{
	struct found f = {.until_ns = OG_NEVER};
	uint64_t until_ns;
	const struct record *server = server_record(st, target, now_ns, &until_ns);
	uint32_t bump = og_shelf_first(&st->bump_shelf, target, now_ns), nb;

	sample_records(st, target, now_ns, &f);
	if (server && f.nb < OG_DHT_LOOKUP_PEERS)
		f.records[f.nb++] = server;
	nb = as_many_as_fit(f.records, f.nb);
	a->version = nb < f.nb ? 0 : st->version;
	f.nb = nb;
	a->until_ns = OG_MIN(f.until_ns, OG_MIN(until_ns, expiry(&st->bump_shelf, bump)));
	memcpy(a->target, target, sizeof(a->target));
	a->value_bytes = 0;
	if (nb > 0)
		write_answer(a, &f, bump ? st->bumps[bump] : 0);
}

uint32_t og_dht_store_lookup(
	struct og_dht_store *st, const uint8_t target[32], uint64_t now_ns, const uint8_t **value)
{
	struct answer *a = &st->answers[og_shelf_hash(&st->record_shelf, target) & (ANSWERS - 1)];

	if (a->version != st->version || now_ns >= a->until_ns || !og_equal32(a->target, target))
		make_answer(st, target, now_ns, a);
	*value = a->value;
	return a->value_bytes;
}

/* ---- Values ---- */

static enum og_dht_put judge_mutable(const struct og_dht_store *st, const uint8_t target[32],
	const struct og_dht_mutable *m, uint64_t now_ns)
{
	uint32_t i = og_shelf_first(&st->mutable_shelf, target, now_ns);
	const struct mutable_value *v = &st->mutables[i];

	if (m->value_bytes > OG_DHT_STORED_MAX)
		return OG_DHT_PUT_TOO_LARGE;
	if (!i)
		return OG_DHT_PUT_OK;
	if (m->seq < v->seq)
		return OG_DHT_PUT_SEQ_TOO_LOW;
	if (m->seq == v->seq && (m->value_bytes != v->value_bytes ||
					memcmp(m->value, v->value, v->value_bytes) != 0))
		return OG_DHT_PUT_SEQ_REUSED;
	return OG_DHT_PUT_OK;
}

enum og_dht_put og_dht_store_put_mutable(struct og_dht_store *st, const uint8_t target[32],
	const struct og_dht_mutable *m, const struct og_dht_source *src, uint64_t now_ns)
{
	enum og_dht_put verdict = judge_mutable(st, target, m, now_ns);
	struct mutable_value *v;

	if (verdict != OG_DHT_PUT_OK)
		return verdict;
	v = &st->mutables[single_entry(&st->mutable_shelf, target, src->prefix, now_ns)];
	v->seq = m->seq;
	v->value_bytes = m->value_bytes;
	memcpy(v->value, m->value, m->value_bytes);
	memcpy(v->signature, m->signature, sizeof(v->signature));
	return OG_DHT_PUT_OK;
}

static void renew_same_source(struct og_shelf *s, uint32_t i, uint64_t now_ns)
{
	og_shelf_renew(s, i, s->entries[i].prefix, now_ns);
}

bool og_dht_store_get_mutable(struct og_dht_store *st, const uint8_t target[32], uint64_t now_ns,
	struct og_dht_mutable *out)
{
	uint32_t i = og_shelf_first(&st->mutable_shelf, target, now_ns);
	const struct mutable_value *v = &st->mutables[i];

	if (!i)
		return false;
	renew_same_source(&st->mutable_shelf, i, now_ns);
	*out = (struct og_dht_mutable){.seq = v->seq,
		.value = v->value,
		.value_bytes = v->value_bytes,
		.signature = v->signature};
	return true;
}

enum og_dht_put og_dht_store_put_immutable(struct og_dht_store *st, const uint8_t target[32],
	const uint8_t *value, uint32_t value_bytes, const struct og_dht_source *src,
	uint64_t now_ns)
{
	struct immutable_value *v;

	if (value_bytes > OG_DHT_STORED_MAX)
		return OG_DHT_PUT_TOO_LARGE;
	v = &st->immutables[single_entry(&st->immutable_shelf, target, src->prefix, now_ns)];
	v->value_bytes = value_bytes;
	memcpy(v->value, value, value_bytes);
	return OG_DHT_PUT_OK;
}

bool og_dht_store_get_immutable(struct og_dht_store *st, const uint8_t target[32], uint64_t now_ns,
	const uint8_t **value, uint32_t *value_bytes)
{
	uint32_t i = og_shelf_first(&st->immutable_shelf, target, now_ns);

	if (!i)
		return false;
	renew_same_source(&st->immutable_shelf, i, now_ns);
	*value = st->immutables[i].value;
	*value_bytes = st->immutables[i].value_bytes;
	return true;
}
