#include "dataplane/shed.h"

#include <assert.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <string.h>

enum {
	HEAVY_PART = 8, /* a source is heavy with an eighth of what is seen */
	SEEN_MIN = 64,  /* less in a turn is no flood */
	CUT_FIRST = 4,  /* a new rule lets in a quarter */
	CUT_AGAIN = 2,  /* and half of that while the queue stands */
	ADMIT_MIN = OG_SHED_ALL / 1024,
	GROW_PART = 32,  /* and back, a thirty-second more each turn: all of it in a second */
	SLOW_PART = 128, /* while there is a queue at all */
	TURNS_MAX = 512,
	CHANGE_PART = 8, /* a filter that is wrong by an eighth is replaced */
};
#define SOME_WAIT_NS (200 * OG_NS_PER_US)

/* ---- who is in the queue ---- */

static void count(struct og_shed_counter *c, uint64_t key)
{
	struct og_shed_counter *free = NULL;

	for (int i = 0; i < OG_SHED_COUNTERS; i++) {
		if (c[i].count == 0) {
			free = &c[i];
		} else if (c[i].key == key) {
			c[i].count++;
			return;
		}
	}
	if (free) {
		*free = (struct og_shed_counter){key, 1};
		return;
	}
	for (int i = 0; i < OG_SHED_COUNTERS; i++)
		c[i].count--;
}

static struct og_addr host_of(const struct og_addr *a)
{
	struct og_addr host = *a;

	host.port = 0;
	return host;
}

void og_shed_seen(
	struct og_shed *s, const struct og_addr *from, const uint8_t *data, size_t len_bytes)
{
	const struct og_addr host = host_of(from);
	bool private = og_addr_is_private(from);

	if (og_stream_tag_fits(data, len_bytes, s->tag_key))
		return;
	s->nb_seen++;
	count(s->sources, og_addr_key(private ? from : &host));
	if (private)
		count(s->hosts, og_addr_key(&host));
}

static bool rule_is_for(const struct og_shed_rule *r, const struct og_addr *from)
{
	return (og_addr_u32(&r->from) == 0 || og_addr_same_host(&r->from, from)) &&
	       (r->from.port == 0 || r->from.port == from->port);
}

bool og_shed_drops(
	const struct og_shed *s, const struct og_addr *from, const uint8_t *data, size_t len_bytes)
{
	if (!s->stands || og_stream_tag_fits(data, len_bytes, s->tag_key))
		return false;
	for (uint32_t i = 0; i < s->nb_rules; i++)
		if (rule_is_for(&s->rules[i], from))
			return true;
	return false;
}

/* ---- rules ---- */

/* The rule of a source, or one made for it: a free one, else the one that cuts least. */
static struct og_shed_rule *rule_of(struct og_shed *s, const struct og_addr *from)
{
	struct og_shed_rule *mildest = s->rules;

	for (uint32_t i = 0; i < s->nb_rules; i++) {
		if (og_addr_eq(&s->rules[i].from, from))
			return &s->rules[i];
		if (s->rules[i].admit > mildest->admit)
			mildest = &s->rules[i];
	}
	if (s->nb_rules < OG_SHED_RULES) {
		s->applied[s->nb_rules] = 0;
		mildest = &s->rules[s->nb_rules++];
	}
	*mildest = (struct og_shed_rule){*from, OG_SHED_ALL * CUT_AGAIN / CUT_FIRST};
	return mildest;
}

static void cut(struct og_shed *s, const struct og_addr *from)
{
	struct og_shed_rule *r = rule_of(s, from);

	r->admit = OG_MAX(r->admit / CUT_AGAIN, (uint32_t)ADMIT_MIN);
}

static bool cut_heavy(struct og_shed *s, const struct og_shed_counter *c)
{
	bool any = false;

	for (int i = 0; i < OG_SHED_COUNTERS; i++) {
		struct og_addr from = og_addr_from_key(c[i].key);

		if (c[i].count < s->nb_seen / HEAVY_PART)
			continue;
		cut(s, &from);
		any = true;
	}
	return any;
}

static void cut_those_to_blame(struct og_shed *s)
{
	const struct og_addr anybody = {.port = 0};

	if (!cut_heavy(s, s->sources) && !cut_heavy(s, s->hosts))
		cut(s, &anybody);
}

/* At the first look it is not known yet who is in the queue, but who was in the last one. */
static void cut_known(struct og_shed *s)
{
	for (uint32_t i = 0; i < s->nb_rules; i++)
		s->rules[i].admit = OG_MAX(s->rules[i].admit / CUT_AGAIN, (uint32_t)ADMIT_MIN);
}

static void give_back(struct og_shed *s, uint64_t turns, uint32_t part)
{
	for (uint32_t i = 0; i < s->nb_rules;) {
		struct og_shed_rule *r = &s->rules[i];

		for (uint64_t n = 0; n < turns && r->admit < OG_SHED_ALL; n++)
			r->admit += r->admit / part;
		if (r->admit < OG_SHED_ALL) {
			i++;
			continue;
		}
		s->nb_rules--;
		*r = s->rules[s->nb_rules];
		s->applied[i] = 0; /* it stood elsewhere */
	}
}

static bool far_apart(uint32_t a, uint32_t b)
{
	return (a > b ? a - b : b - a) > b / CHANGE_PART;
}

/* Whether the filter in use is too far from the rules; if so it will be made anew. */
static bool changed(struct og_shed *s, uint32_t nb_before)
{
	bool any = s->nb_rules != nb_before;

	for (uint32_t i = 0; i < s->nb_rules; i++)
		any |= far_apart(s->rules[i].admit, s->applied[i]);
	for (uint32_t i = 0; any && i < s->nb_rules; i++)
		s->applied[i] = s->rules[i].admit;
	return any;
}

/*
 * How many were taken while the last datagram waited: Little's law, but for a core that was kept from
 * its processor, and then finds little that has waited long.
 */
static uint64_t queue_length(const struct og_shed *s, uint64_t waited_ns)
{
	uint64_t length = 0;

	for (int i = 0; i < OG_SHED_TURNS && waited_ns > 0; i++) {
		uint64_t part_ns = OG_MIN(waited_ns, s->past[i].lasted_ns);

		if (part_ns > 0)
			length += s->past[i].nb_taken * part_ns / s->past[i].lasted_ns;
		waited_ns -= part_ns;
	}
	return length;
}

static void remember_turn(struct og_shed *s, uint64_t now_ns)
{
	memmove(s->past + 1, s->past, sizeof(s->past) - sizeof(s->past[0]));
	s->past[0] = (struct og_shed_past){OG_MAX(now_ns - s->turned_ns, 1ull), s->nb_taken};
	s->turned_ns = now_ns;
	s->nb_taken = 0;
}

bool og_shed_turn(struct og_shed *s, uint64_t waited_ns, uint64_t now_ns)
{
	const uint32_t nb_before = s->nb_rules;
	const bool stood = s->stands;

	remember_turn(s, now_ns);
	s->stands = waited_ns > OG_SHED_WAIT_NS && waited_ns < OG_NS_PER_S &&
		    queue_length(s, waited_ns) > OG_SHED_QUEUE_MIN;
	if (!s->stands)
		give_back(s, OG_MIN(s->past[0].lasted_ns / OG_SHED_TURN_NS, (uint64_t)TURNS_MAX),
			waited_ns < SOME_WAIT_NS ? GROW_PART : SLOW_PART);
	else if (stood && s->nb_seen >= SEEN_MIN)
		cut_those_to_blame(s);
	else
		cut_known(s);
	s->nb_seen = 0;
	memset(s->sources, 0, sizeof(s->sources));
	memset(s->hosts, 0, sizeof(s->hosts));
	return changed(s, nb_before);
}

/* ---- the filter ---- */

struct program {
	struct sock_filter *at;
	uint16_t n;
};

static void emit(struct program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	p->at[p->n++] = (struct sock_filter){code, jt, jf, k};
}

/* What a UDP socket's filter sees begins with the UDP head. */
enum { AT_PORT = 0, AT_DATA = sizeof(struct udphdr), AT_HOST = offsetof(struct iphdr, saddr) };
enum { STREAM_STEPS = 11 };
enum { RULE_STEPS = 8 };
static_assert(
	STREAM_STEPS + RULE_STEPS * OG_SHED_RULES + 1 <= (int)OG_SHED_PROGRAM, "all rules fit");

static void emit_rule(struct program *p, const struct og_shed_rule *r)
{
	const uint32_t host = og_addr_u32(&r->from);
	const uint16_t end = (uint16_t)(p->n + (host ? 2 : 0) + (r->from.port ? 2 : 0) + 4);

	if (host) {
		emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_NET_OFF + AT_HOST), 0, 0);
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, host, 0, (uint8_t)(end - p->n - 1));
	}
	if (r->from.port) {
		emit(p, BPF_LD | BPF_H | BPF_ABS, AT_PORT, 0, 0);
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, r->from.port, 0, (uint8_t)(end - p->n - 1));
	}
	emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM), 0, 0);
	emit(p, BPF_ALU | BPF_AND | BPF_K, OG_SHED_ALL - 1, 0, 0);
	emit(p, BPF_JMP | BPF_JGE | BPF_K, r->admit, 0, 1);
	emit(p, BPF_RET | BPF_K, 0, 0, 0);
}

/* Streams are let in: og_stream_tag_fits(). */
static void emit_streams(struct program *p, uint32_t tag_key)
{
	/* A datagram that has not so many bytes ends at a load, dropped, and is no loss. */
	emit(p, BPF_LD | BPF_B | BPF_ABS, AT_DATA, 0, 0);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, OG_STREAM_BYTE, 0, tag_key ? STREAM_STEPS - 2 : 1);
	if (tag_key) {
		emit(p, BPF_LD | BPF_W | BPF_ABS, AT_DATA + OG_STREAM_ID_AT, 0, 0);
		emit(p, BPF_MISC | BPF_TAX, 0, 0, 0);
		emit(p, BPF_ALU | BPF_AND | BPF_K, ~(uint32_t)OG_STREAM_TAG_MASK, 0, 0);
		emit(p, BPF_ALU | BPF_MUL | BPF_K, tag_key, 0, 0);
		emit(p, BPF_ALU | BPF_RSH | BPF_K, OG_STREAM_TAG_SHIFT, 0, 0);
		emit(p, BPF_ALU | BPF_XOR | BPF_X, 0, 0, 0);
		emit(p, BPF_ALU | BPF_AND | BPF_K, OG_STREAM_TAG_MASK, 0, 0);
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1);
	}
	emit(p, BPF_RET | BPF_K, UINT32_MAX, 0, 0);
}

uint16_t og_shed_program(const struct og_shed *s, struct sock_filter out[OG_SHED_PROGRAM])
{
	struct program p = {out, 0};

	emit_streams(&p, s->tag_key);
	for (uint32_t i = 0; i < s->nb_rules; i++)
		emit_rule(&p, &s->rules[i]);
	emit(&p, BPF_RET | BPF_K, UINT32_MAX, 0, 0);
	return p.n;
}
