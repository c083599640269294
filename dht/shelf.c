#include "dht/shelf.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>

enum { BY_TARGET, BY_PREFIX, BY_AGE };
enum { EXPIRE_BURST = 16 }; /* a bound on the work of one call; expired ones are invisible anyway */

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 m = (unsigned __int128)a * b;

	return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Keyed: targets are chosen by strangers. */
uint64_t og_shelf_hash(const struct og_shelf *s, const uint8_t target[32])
{
	return fold(og_load_le64(target) ^ s->hash_key[0],
		       og_load_le64(target + 8) ^ s->hash_key[1]) ^
	       fold(og_load_le64(target + 16) ^ s->hash_key[2],
		       og_load_le64(target + 24) ^ s->hash_key[3]);
}

static uint32_t *target_head(const struct og_shelf *s, const uint8_t target[32])
{
	return &s->by_target[og_shelf_hash(s, target) & s->mask];
}

static uint32_t *prefix_head(const struct og_shelf *s, uint32_t prefix)
{
	return &s->by_prefix[fold(prefix ^ s->hash_key[0], s->hash_key[1]) & s->mask];
}

static bool is_expired(const struct og_shelf *s, uint32_t i, uint64_t now_ns)
{
	return now_ns - s->entries[i].renewed_ns >= s->opts.lifetime_ns;
}

static void list_push(struct og_shelf *s, int list, uint32_t *head, uint32_t i)
{
	struct og_shelf_entry *e = &s->entries[i];

	e->link[list].prev = OG_SHELF_NONE;
	e->link[list].next = *head;
	if (*head)
		s->entries[*head].link[list].prev = i;
	*head = i;
}

static void list_remove(struct og_shelf *s, int list, uint32_t *head, uint32_t i)
{
	uint32_t prev = s->entries[i].link[list].prev;
	uint32_t next = s->entries[i].link[list].next;

	if (prev)
		s->entries[prev].link[list].next = next;
	else
		*head = next;
	if (next)
		s->entries[next].link[list].prev = prev;
}

static void age_push(struct og_shelf *s, uint32_t i)
{
	list_push(s, BY_AGE, &s->newest, i);
	if (!s->oldest)
		s->oldest = i;
}

static void age_remove(struct og_shelf *s, uint32_t i)
{
	if (s->oldest == i)
		s->oldest = s->entries[i].link[BY_AGE].prev;
	list_remove(s, BY_AGE, &s->newest, i);
}

static void prefix_push(struct og_shelf *s, uint32_t i, uint32_t prefix)
{
	s->entries[i].prefix = prefix;
	if (prefix)
		list_push(s, BY_PREFIX, prefix_head(s, prefix), i);
}

static void prefix_remove(struct og_shelf *s, uint32_t i)
{
	if (s->entries[i].prefix)
		list_remove(s, BY_PREFIX, prefix_head(s, s->entries[i].prefix), i);
}

int og_shelf_init(struct og_shelf *s, const struct og_shelf_opts *opts, struct og_rand *rand)
{
	uint32_t nb_heads = 1;

	while (nb_heads < opts->nb_entries)
		nb_heads *= 2;
	*s = (struct og_shelf){.opts = *opts, .rand = rand, .mask = nb_heads - 1, .fresh = 1};
	og_rand_fill(rand, s->hash_key, sizeof(s->hash_key));
	s->entries = calloc((size_t)opts->nb_entries + 1, sizeof(*s->entries));
	s->by_target = calloc(nb_heads, sizeof(*s->by_target));
	s->by_prefix = calloc(nb_heads, sizeof(*s->by_prefix));
	if (!s->entries || !s->by_target || !s->by_prefix) {
		og_shelf_fini(s);
		return -ENOMEM;
	}
	return 0;
}

void og_shelf_fini(struct og_shelf *s)
{
	free(s->entries);
	free(s->by_target);
	free(s->by_prefix);
	*s = (struct og_shelf){0};
}

/* From `i` on along its chain, the first live entry of `target`. */
static uint32_t match_from(
	const struct og_shelf *s, uint32_t i, const uint8_t target[32], uint64_t now_ns)
{
	while (i && (!og_equal32(s->entries[i].target, target) || is_expired(s, i, now_ns)))
		i = s->entries[i].link[BY_TARGET].next;
	return i;
}

uint32_t og_shelf_first(const struct og_shelf *s, const uint8_t target[32], uint64_t now_ns)
{
	return match_from(s, *target_head(s, target), target, now_ns);
}

uint32_t og_shelf_next(const struct og_shelf *s, uint32_t i, uint64_t now_ns)
{
	const struct og_shelf_entry *e = &s->entries[i];

	return match_from(s, e->link[BY_TARGET].next, e->target, now_ns);
}

void og_shelf_remove(struct og_shelf *s, uint32_t i)
{
	struct og_shelf_entry *e = &s->entries[i];

	list_remove(s, BY_TARGET, target_head(s, e->target), i);
	prefix_remove(s, i);
	age_remove(s, i);
	e->link[BY_AGE].next = s->free;
	s->free = i;
	s->count--;
}

static void evict(struct og_shelf *s, uint32_t i)
{
	og_shelf_remove(s, i);
	s->evicted++;
}

void og_shelf_expire(struct og_shelf *s, uint64_t now_ns)
{
	for (int n = 0; n < EXPIRE_BURST && s->oldest && is_expired(s, s->oldest, now_ns); n++)
		og_shelf_remove(s, s->oldest);
}

/* Walks the entries of a target that are of `prefix` (0: of any); the n-th of them, or NONE. */
static uint32_t nth_of_target(const struct og_shelf *s, const uint8_t target[32], uint32_t prefix,
	uint32_t n, uint64_t now_ns, uint32_t *count)
{
	*count = 0;
	for (uint32_t i = og_shelf_first(s, target, now_ns); i; i = og_shelf_next(s, i, now_ns)) {
		if (prefix && s->entries[i].prefix != prefix)
			continue;
		if ((*count)++ == n)
			return i;
	}
	return OG_SHELF_NONE;
}

/* One entry more of `prefix` under `target` must not make it more than `max`. */
static void make_room_in_target(struct og_shelf *s, const uint8_t target[32], uint32_t prefix,
	uint32_t max, uint64_t now_ns)
{
	uint32_t count;

	nth_of_target(s, target, prefix, UINT32_MAX, now_ns, &count);
	if (count >= max)
		evict(s, nth_of_target(
				 s, target, prefix, og_rand_below(s->rand, count), now_ns, &count));
}

static uint32_t nth_of_prefix(
	const struct og_shelf *s, uint32_t prefix, uint32_t n, uint32_t *count)
{
	*count = 0;
	for (uint32_t i = *prefix_head(s, prefix); i; i = s->entries[i].link[BY_PREFIX].next) {
		if (s->entries[i].prefix == prefix && (*count)++ == n)
			return i;
	}
	return OG_SHELF_NONE;
}

static void make_room_in_prefix(struct og_shelf *s, uint32_t prefix)
{
	uint32_t count;

	nth_of_prefix(s, prefix, UINT32_MAX, &count);
	if (count >= s->opts.per_prefix)
		evict(s, nth_of_prefix(s, prefix, og_rand_below(s->rand, count), &count));
}

static uint32_t take_free(struct og_shelf *s)
{
	uint32_t i;

	if (!s->free && s->fresh > s->opts.nb_entries)
		evict(s, s->oldest);
	i = s->free;
	if (i) {
		s->free = s->entries[i].link[BY_AGE].next;
		return i;
	}
	return s->fresh++;
}

uint32_t og_shelf_insert(
	struct og_shelf *s, const uint8_t target[32], uint32_t prefix, uint64_t now_ns)
{
	uint32_t i;

	og_shelf_expire(s, now_ns);
	if (prefix && s->opts.per_target_and_prefix)
		make_room_in_target(s, target, prefix, s->opts.per_target_and_prefix, now_ns);
	if (prefix && s->opts.per_prefix)
		make_room_in_prefix(s, prefix);
	if (s->opts.per_target)
		make_room_in_target(s, target, 0, s->opts.per_target, now_ns);

	i = take_free(s);
	memcpy(s->entries[i].target, target, 32);
	s->entries[i].renewed_ns = now_ns;
	list_push(s, BY_TARGET, target_head(s, target), i);
	prefix_push(s, i, prefix);
	age_push(s, i);
	s->count++;
	return i;
}

void og_shelf_renew(struct og_shelf *s, uint32_t i, uint32_t prefix, uint64_t now_ns)
{
	if (prefix != s->entries[i].prefix) {
		prefix_remove(s, i);
		prefix_push(s, i, prefix);
	}
	s->entries[i].renewed_ns = now_ns;
	age_remove(s, i);
	age_push(s, i);
}
