#include "cluster/swarm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	NONE = -1,
	ATTEMPTS_TOPIC = 3,    /* more, and the peer waits to be found again */
	ATTEMPTS_EXPLICIT = 5, /* more, and only the long timer is left */
	EARLY_REFRESHES = 3,
};

static const uint64_t proven_after_ns = 15 * OG_NS_PER_S; /* connected so long: attempts reset */
static const uint64_t refresh_timeout_ns = 60 * OG_NS_PER_S;

enum peer_state {
	PEER_FREE,
	PEER_IDLE,    /* known, nothing planned */
	PEER_WAITING, /* until retry_at */
	PEER_QUEUED,  /* wants a dial slot */
	PEER_DIALLING,
	PEER_CONNECTED,
};

struct peer {
	uint8_t key[32];
	uint64_t topics; /* bit per joined topic it was found on */
	uint64_t retry_at;
	uint64_t connected_at;
	uint32_t gen; /* part of the dial tag: a late report of an older attempt is ignored */
	struct og_addr relays[OG_SWARM_RELAYS_MAX];
	uint8_t nb_relays;
	uint8_t state;
	uint8_t attempts;
	bool proven, banned, explicit_peer, outgoing;
	int32_t next; /* in its hash chain */
};

enum topic_state { TOPIC_FREE, TOPIC_WAITING, TOPIC_REFRESHING, TOPIC_LEAVING };

struct topic {
	uint8_t topic[32];
	uint8_t state;
	uint8_t flags;
	uint8_t early;   /* early refreshes done */
	uint8_t backoff; /* refreshes in a row that reached nobody */
	bool reported;   /* joined() was called */
	bool announced;
	bool again;   /* refresh once more when the running one ends */
	bool running; /* the layer below works on a refresh, also while leaving */
	uint64_t due;
};

struct og_swarm {
	struct og_swarm_opts opts;
	struct topic topics[OG_SWARM_TOPICS_MAX];
	struct peer *peers;
	int32_t *buckets;
	uint32_t bucket_mask;
	uint32_t nb_used; /* peers[0 … nb_used) may be in use */
	uint32_t nb_dialling, nb_outgoing;
	uint64_t hash_seed;
	uint64_t peers_due; /* earliest moment the peers need a scan */
};

int og_swarm_create(struct og_swarm **out, const struct og_swarm_opts *opts)
{
	struct og_swarm *s = calloc(1, sizeof(*s));
	uint32_t buckets = 64;

	if (!s)
		return -ENOMEM;
	s->opts = *opts;
	while (buckets < opts->peers_max * 2)
		buckets *= 2;
	s->bucket_mask = buckets - 1;
	s->peers = calloc(opts->peers_max, sizeof(*s->peers));
	s->buckets = malloc(buckets * sizeof(*s->buckets));
	if (!s->peers || !s->buckets) {
		og_swarm_destroy(s);
		return -ENOMEM;
	}
	memset(s->buckets, 0xff, buckets * sizeof(*s->buckets));
	s->hash_seed = og_rand_u64(opts->rand);
	s->peers_due = OG_NEVER;
	*out = s;
	return 0;
}

void og_swarm_destroy(struct og_swarm *s)
{
	if (!s)
		return;
	free(s->peers);
	free(s->buckets);
	free(s);
}

/* ---- peers ---- */

static uint32_t bucket_of(const struct og_swarm *s, const uint8_t key[32])
{
	uint64_t v;

	memcpy(&v, key + 8, sizeof(v));
	v = (v ^ s->hash_seed) * 0x9e3779b97f4a7c15ull;
	return (uint32_t)(v >> 32) & s->bucket_mask;
}

static struct peer *peer_find(const struct og_swarm *s, const uint8_t key[32])
{
	int32_t i = s->buckets[bucket_of(s, key)];

	while (i != NONE && memcmp(s->peers[i].key, key, 32) != 0)
		i = s->peers[i].next;
	return i == NONE ? NULL : &s->peers[i];
}

static void peer_unlink(struct og_swarm *s, struct peer *p)
{
	int32_t *link = &s->buckets[bucket_of(s, p->key)];
	int32_t idx = (int32_t)(p - s->peers);

	while (*link != idx)
		link = &s->peers[*link].next;
	*link = p->next;
	p->state = PEER_FREE;
	p->gen++;
}

/* Nobody misses it: not connected, not being dialled, not asked for by key, not banned. */
static bool peer_is_spare(const struct peer *p)
{
	return p->state < PEER_DIALLING && !p->explicit_peer && !p->banned;
}

static struct peer *peer_slot(struct og_swarm *s)
{
	struct peer *victim = NULL;

	for (uint32_t i = 0; i < s->nb_used; i++) {
		struct peer *p = &s->peers[i];

		if (p->state == PEER_FREE)
			return p;
		if (peer_is_spare(p) &&
			(!victim || p->topics == 0 || p->attempts > victim->attempts))
			victim = p;
	}
	if (s->nb_used < s->opts.peers_max)
		return &s->peers[s->nb_used++];
	if (victim)
		peer_unlink(s, victim);
	return victim;
}

static struct peer *peer_get(struct og_swarm *s, const uint8_t key[32])
{
	struct peer *p = peer_find(s, key);
	uint32_t gen;
	int32_t *head;

	if (p)
		return p;
	p = peer_slot(s);
	if (!p)
		return NULL;
	gen = p->gen;
	memset(p, 0, sizeof(*p));
	memcpy(p->key, key, 32);
	p->gen = gen + 1;
	p->state = PEER_IDLE;
	head = &s->buckets[bucket_of(s, key)];
	p->next = *head;
	*head = (int32_t)(p - s->peers);
	return p;
}

static uint64_t tag_of(const struct og_swarm *s, const struct peer *p)
{
	return (uint64_t)p->gen << 32 | (uint32_t)(p - s->peers);
}

static struct peer *peer_of_tag(const struct og_swarm *s, uint64_t tag)
{
	uint32_t idx = (uint32_t)tag;
	struct peer *p;

	if (idx >= s->nb_used)
		return NULL;
	p = &s->peers[idx];
	return p->gen == (uint32_t)(tag >> 32) && p->state == PEER_DIALLING ? p : NULL;
}

static void set_relays(struct peer *p, const struct og_addr *relays, uint32_t nb_relays)
{
	p->nb_relays = (uint8_t)OG_MIN(nb_relays, (uint32_t)OG_SWARM_RELAYS_MAX);
	for (uint32_t i = 0; i < p->nb_relays; i++)
		p->relays[i] = relays[i];
}

static bool wanted(const struct peer *p)
{
	return !p->banned && (p->topics || p->explicit_peer);
}

static uint64_t jitter(struct og_swarm *s, uint64_t base_ms, uint64_t spread_ms)
{
	return (base_ms + og_rand_below(s->opts.rand, (uint32_t)spread_ms + 500)) * OG_NS_PER_MS;
}

/* dht.md 10.2: S, M, L and X by the attempts made and whether it was ever connected. */
static uint64_t retry_wait(struct og_swarm *s, const struct peer *p)
{
	if (p->explicit_peer && p->attempts <= ATTEMPTS_EXPLICIT)
		return jitter(s, p->attempts * 1000ull, 500);
	if (p->attempts > ATTEMPTS_TOPIC)
		return p->explicit_peer ? jitter(s, 600000, 120000) : OG_NEVER;
	switch (p->attempts + (p->proven ? 0 : 1)) {
	case 0:
	case 1:
		return jitter(s, 1000, 500);
	case 2:
		return jitter(s, 5000, 1000);
	default:
		return jitter(s, 15000, 2000);
	}
}

static void plan_retry(struct og_swarm *s, struct peer *p, uint64_t now_ns)
{
	uint64_t wait = wanted(p) ? retry_wait(s, p) : OG_NEVER;

	p->gen++;
	if (wait == OG_NEVER) {
		p->state = PEER_IDLE;
		return;
	}
	p->state = PEER_WAITING;
	p->retry_at = now_ns + wait;
	s->peers_due = OG_MIN(s->peers_due, p->retry_at);
}

static void queue_peer(struct og_swarm *s, struct peer *p)
{
	if (!wanted(p) || p->state >= PEER_QUEUED || !s->opts.ops->allowed(s->opts.ctx, p->key))
		return;
	p->state = PEER_QUEUED;
	s->peers_due = 0;
}

/* 4 very high … 0 very low; dht.md 10.2. */
static int priority(const struct peer *p)
{
	static const int by_attempts[] = {2, 4, 3, 1};

	if (p->explicit_peer)
		return 5;
	return p->attempts < OG_ARRAY_LEN(by_attempts) ? by_attempts[p->attempts] : 0;
}

void og_swarm_found(struct og_swarm *s, const uint8_t topic[32], const uint8_t key[32],
	const struct og_addr *relays, uint32_t nb_relays, uint64_t now_ns)
{
	struct peer *p;

	if (memcmp(key, s->opts.own_key, 32) == 0)
		return;
	for (uint32_t i = 0; i < OG_SWARM_TOPICS_MAX; i++) {
		const struct topic *t = &s->topics[i];

		if (t->state == TOPIC_FREE || t->state == TOPIC_LEAVING ||
			memcmp(t->topic, topic, 32) != 0)
			continue;
		if (!(t->flags & OG_TOPIC_CLIENT))
			return;
		p = peer_get(s, key);
		if (!p)
			return;
		p->topics |= 1ull << i;
		set_relays(p, relays, nb_relays);
		if (p->state == PEER_IDLE && (priority(p) <= 1 || !p->outgoing))
			p->attempts = 0;
		if (p->state == PEER_IDLE)
			queue_peer(s, p);
		return;
	}
}

int og_swarm_dial(struct og_swarm *s, const uint8_t key[32], const struct og_addr *relays,
	uint32_t nb_relays, uint64_t now_ns)
{
	struct peer *p;

	if (memcmp(key, s->opts.own_key, 32) == 0)
		return -EINVAL;
	p = peer_get(s, key);
	if (!p)
		return -ENOSPC;
	p->explicit_peer = true;
	p->attempts = 0;
	if (nb_relays > 0)
		set_relays(p, relays, nb_relays);
	if (p->state == PEER_WAITING)
		p->state = PEER_IDLE;
	queue_peer(s, p);
	return 0;
}

static void stop_dial(struct og_swarm *s, struct peer *p, uint64_t now_ns)
{
	if (p->state != PEER_DIALLING)
		return;
	s->opts.ops->dial_cancel(s->opts.ctx, tag_of(s, p), now_ns);
	s->nb_dialling--;
	p->gen++;
	p->state = PEER_IDLE;
	s->peers_due = 0;
}

/* No longer wanted: an attempt or a plan for one ends; a connection is the application's. */
static void drop_unwanted(struct og_swarm *s, struct peer *p, uint64_t now_ns)
{
	if (wanted(p))
		return;
	stop_dial(s, p, now_ns);
	if (p->state == PEER_WAITING || p->state == PEER_QUEUED)
		p->state = PEER_IDLE;
}

void og_swarm_undial(struct og_swarm *s, const uint8_t key[32], uint64_t now_ns)
{
	struct peer *p = peer_find(s, key);

	if (!p)
		return;
	p->explicit_peer = false;
	drop_unwanted(s, p, now_ns);
}

void og_swarm_ban(struct og_swarm *s, const uint8_t key[32], uint64_t now_ns)
{
	struct peer *p = peer_get(s, key);

	if (!p)
		return;
	p->banned = true;
	drop_unwanted(s, p, now_ns);
}

/* It is dialled again when a refresh finds it. */
void og_swarm_unban(struct og_swarm *s, const uint8_t key[32])
{
	struct peer *p = peer_find(s, key);

	if (p)
		p->banned = false;
}

bool og_swarm_dialling(const struct og_swarm *s, const uint8_t key[32])
{
	const struct peer *p = peer_find(s, key);

	return p && p->state == PEER_DIALLING;
}

void og_swarm_dial_abandon(struct og_swarm *s, const uint8_t key[32], uint64_t now_ns)
{
	struct peer *p = peer_find(s, key);

	if (p)
		stop_dial(s, p, now_ns);
}

void og_swarm_dial_failed(struct og_swarm *s, uint64_t tag, uint64_t now_ns)
{
	struct peer *p = peer_of_tag(s, tag);

	if (!p)
		return;
	s->nb_dialling--;
	plan_retry(s, p, now_ns);
	s->peers_due = 0;
}

void og_swarm_connected(struct og_swarm *s, const uint8_t key[32], bool outgoing, uint64_t now_ns)
{
	struct peer *p = peer_get(s, key);

	if (!p)
		return;
	if (p->state == PEER_DIALLING) {
		s->nb_dialling--;
		s->peers_due = 0;
	}
	if (p->state == PEER_CONNECTED && p->outgoing)
		s->nb_outgoing--;
	p->gen++;
	p->state = PEER_CONNECTED;
	p->proven = true;
	p->outgoing = outgoing;
	p->connected_at = now_ns;
	if (outgoing)
		s->nb_outgoing++;
}

void og_swarm_disconnected(struct og_swarm *s, const uint8_t key[32], uint64_t now_ns)
{
	struct peer *p = peer_find(s, key);

	if (!p || p->state != PEER_CONNECTED)
		return;
	if (now_ns - p->connected_at >= proven_after_ns)
		p->attempts = 0;
	if (!p->outgoing) {
		/* The one who called calls again; we do so too, a little later, in case it cannot. */
		p->attempts = OG_MAX(p->attempts, 2);
		plan_retry(s, p, now_ns);
		return;
	}
	s->nb_outgoing--;
	p->attempts++;
	plan_retry(s, p, now_ns);
}

/* ---- topics ---- */

static struct topic *topic_find(struct og_swarm *s, const uint8_t topic[32])
{
	for (uint32_t i = 0; i < OG_SWARM_TOPICS_MAX; i++)
		if (s->topics[i].state != TOPIC_FREE && memcmp(s->topics[i].topic, topic, 32) == 0)
			return &s->topics[i];
	return NULL;
}

uint32_t og_swarm_topics(const struct og_swarm *s)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < OG_SWARM_TOPICS_MAX; i++)
		n += s->topics[i].state != TOPIC_FREE;
	return n;
}

int og_swarm_join(struct og_swarm *s, const uint8_t topic[32], unsigned flags, uint64_t now_ns)
{
	struct topic *t = topic_find(s, topic);

	for (uint32_t i = 0; !t && i < OG_SWARM_TOPICS_MAX; i++)
		if (s->topics[i].state == TOPIC_FREE) {
			t = &s->topics[i];
			memset(t, 0, sizeof(*t));
			memcpy(t->topic, topic, 32);
			t->state = TOPIC_WAITING;
		}
	if (!t)
		return -ENOSPC;
	t->flags = (uint8_t)flags;
	t->due = now_ns;
	if (t->state == TOPIC_LEAVING)
		t->again = true;
	return 0;
}

static void forget_topic(struct og_swarm *s, struct topic *t, uint64_t now_ns)
{
	uint64_t bit = 1ull << (t - s->topics);

	t->state = TOPIC_FREE;
	for (uint32_t i = 0; i < s->nb_used; i++) {
		if (s->peers[i].state == PEER_FREE)
			continue;
		s->peers[i].topics &= ~bit;
		drop_unwanted(s, &s->peers[i], now_ns);
	}
	s->opts.ops->left(s->opts.ctx, t->topic);
}

void og_swarm_leave(struct og_swarm *s, const uint8_t topic[32], uint64_t now_ns)
{
	struct topic *t = topic_find(s, topic);

	if (!t || t->state == TOPIC_LEAVING) {
		if (t)
			t->again = false;
		return;
	}
	if (!t->announced && t->state != TOPIC_REFRESHING) {
		forget_topic(s, t, now_ns);
		return;
	}
	t->state = TOPIC_LEAVING;
	t->again = false;
	t->due = now_ns + refresh_timeout_ns;
	/* One operation at a time: a running refresh ends first. */
	if (!t->running && s->opts.ops->unannounce(s->opts.ctx, topic, now_ns) < 0)
		forget_topic(s, t, now_ns);
}

void og_swarm_leave_all(struct og_swarm *s, uint64_t now_ns)
{
	for (uint32_t i = 0; i < OG_SWARM_TOPICS_MAX; i++)
		if (s->topics[i].state != TOPIC_FREE)
			og_swarm_leave(s, s->topics[i].topic, now_ns);
}

void og_swarm_unannounce_done(struct og_swarm *s, const uint8_t topic[32], uint64_t now_ns)
{
	struct topic *t = topic_find(s, topic);
	unsigned flags;

	if (!t || t->state != TOPIC_LEAVING)
		return;
	if (!t->again) {
		forget_topic(s, t, now_ns);
		return;
	}
	flags = t->flags;
	memset(t, 0, sizeof(*t));
	memcpy(t->topic, topic, 32);
	t->flags = (uint8_t)flags;
	t->state = TOPIC_WAITING;
	t->due = now_ns;
}

void og_swarm_refresh_all(struct og_swarm *s, uint64_t now_ns)
{
	for (uint32_t i = 0; i < OG_SWARM_TOPICS_MAX; i++) {
		struct topic *t = &s->topics[i];

		if (t->state == TOPIC_WAITING)
			t->due = now_ns;
		else if (t->state == TOPIC_REFRESHING)
			t->again = true;
	}
}

static uint64_t next_refresh(struct og_swarm *s, struct topic *t)
{
	static const uint32_t early_ms[EARLY_REFRESHES] = {1000, 5000, 20000};

	if (t->early < EARLY_REFRESHES)
		return jitter(s, early_ms[t->early++], 500);
	if (t->flags & OG_TOPIC_SERVER)
		return jitter(s, 300000, 60000);
	return jitter(s, 600000, 120000);
}

void og_swarm_refresh_done(
	struct og_swarm *s, const uint8_t topic[32], uint32_t stored_on, uint64_t now_ns)
{
	struct topic *t = topic_find(s, topic);
	uint64_t wait;

	if (!t || !t->running)
		return;
	t->running = false;
	if (t->state == TOPIC_LEAVING) {
		if (s->opts.ops->unannounce(s->opts.ctx, topic, now_ns) < 0)
			forget_topic(s, t, now_ns);
		return;
	}
	t->state = TOPIC_WAITING;
	if (stored_on == 0) {
		wait = OG_MIN(1000ull << OG_MIN(t->backoff, 5), 30000ull) * OG_NS_PER_MS;
		wait += og_rand_below(s->opts.rand, 250) * OG_NS_PER_MS;
		t->backoff = (uint8_t)OG_MIN(t->backoff + 1, 10);
		t->due = now_ns + (t->again ? 0 : wait);
		t->again = false;
		s->opts.ops->join_retry(s->opts.ctx, topic, wait);
		return;
	}
	t->backoff = 0;
	if (t->flags & OG_TOPIC_SERVER)
		t->announced = true;
	t->due = now_ns + (t->again ? 0 : next_refresh(s, t));
	t->again = false;
	if (!t->reported) {
		t->reported = true;
		s->opts.ops->joined(s->opts.ctx, topic, stored_on);
	}
}

/* ---- time ---- */

static uint64_t tick_topics(struct og_swarm *s, uint64_t now_ns)
{
	uint64_t next = OG_NEVER;

	for (uint32_t i = 0; i < OG_SWARM_TOPICS_MAX; i++) {
		struct topic *t = &s->topics[i];

		if (t->state == TOPIC_FREE)
			continue;
		if (now_ns < t->due) {
			next = OG_MIN(next, t->due);
			continue;
		}
		if (t->state == TOPIC_LEAVING) {
			og_swarm_unannounce_done(s, t->topic, now_ns);
			next = now_ns;
		} else if (t->state == TOPIC_REFRESHING) {
			/* It never reported: counted as one that reached nobody. */
			og_swarm_refresh_done(s, t->topic, 0, now_ns);
			next = OG_MIN(next, t->due);
		} else {
			t->state = TOPIC_REFRESHING;
			t->running = true;
			t->due = now_ns + refresh_timeout_ns;
			if (s->opts.ops->refresh(s->opts.ctx, t->topic, t->flags, now_ns) < 0)
				og_swarm_refresh_done(s, t->topic, 0, now_ns);
			next = OG_MIN(next, t->due);
		}
	}
	return next;
}

static struct peer *most_urgent(struct og_swarm *s)
{
	struct peer *best = NULL;
	uint32_t ties = 0;

	for (uint32_t i = 0; i < s->nb_used; i++) {
		struct peer *p = &s->peers[i];

		if (p->state != PEER_QUEUED)
			continue;
		if (!best || priority(p) > priority(best)) {
			best = p;
			ties = 1;
		} else if (priority(p) == priority(best) &&
			   og_rand_below(s->opts.rand, ++ties) == 0) {
			best = p;
		}
	}
	return best;
}

static void start_dials(struct og_swarm *s, uint64_t now_ns)
{
	while (s->nb_dialling < OG_SWARM_DIALS_MAX) {
		struct peer *p = most_urgent(s);
		int ret;

		if (!p || (s->nb_outgoing >= OG_SWARM_OUTGOING_MAX && !p->explicit_peer))
			return;
		p->gen++;
		p->state = PEER_DIALLING;
		p->attempts = (uint8_t)OG_MIN(p->attempts + 1, 200);
		p->outgoing = true;
		s->nb_dialling++;
		ret = s->opts.ops->dial(
			s->opts.ctx, p->key, p->relays, p->nb_relays, tag_of(s, p), now_ns);
		if (ret < 0)
			og_swarm_dial_failed(s, tag_of(s, p), now_ns);
	}
}

static uint64_t tick_peers(struct og_swarm *s, uint64_t now_ns)
{
	if (now_ns < s->peers_due)
		return s->peers_due;
	for (uint32_t i = 0; i < s->nb_used; i++) {
		struct peer *p = &s->peers[i];

		if (p->state != PEER_WAITING || now_ns < p->retry_at)
			continue;
		p->state = PEER_IDLE;
		queue_peer(s, p);
	}
	start_dials(s, now_ns);
	s->peers_due = OG_NEVER;
	for (uint32_t i = 0; i < s->nb_used; i++)
		if (s->peers[i].state == PEER_WAITING)
			s->peers_due = OG_MIN(s->peers_due, s->peers[i].retry_at);
	return s->peers_due;
}

uint64_t og_swarm_tick(struct og_swarm *s, uint64_t now_ns)
{
	uint64_t topics = tick_topics(s, now_ns);
	uint64_t peers = tick_peers(s, now_ns);

	return OG_MIN(topics, peers);
}
