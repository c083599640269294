/*
 * udx_link.h: a simulated link between two transports, for their tests: delay, jitter, rate, queue,
 * loss, duplication, size limit, and a hook that drops what a test wants dropped. One seed, one run.
 */
#pragma once
#include "base/core.h"
#include "base/rand.h"
#include "transport/udx_wire.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { LINK_QUEUE = 16384, LINK_DGRAM = 2304 };

struct dgram {
	uint64_t at_ns;
	uint64_t order;
	uint16_t len_bytes;
	uint8_t to;
	struct og_addr src;
	uint8_t data[LINK_DGRAM];
};

/* What hangs on an end of the link. */
struct node {
	struct og_tx tx; /* first: a tx is its node */
	struct link *link;
	uint8_t idx;
	struct og_addr addr;
	struct og_rand rand;
	void (*input)(struct node *n, const struct og_addr *src, uint8_t *data, uint16_t len);
	void (*flush)(struct node *n);
	uint64_t (*tick)(struct node *n);
	uint64_t next_ns;
	uint64_t busy_until_ns; /* of the link out of here */
	uint32_t refuse;        /* reservations to refuse in a row */
	uint64_t nb_sent;
	uint8_t out[LINK_DGRAM];
};

struct link {
	struct og_rand rand;
	uint64_t now_ns;
	uint32_t loss_permille, dup_permille, refuse_permille;
	uint64_t delay_ns, jitter_ns;
	uint64_t rate_bytes_per_s; /* 0: no limit */
	uint64_t queue_ns;         /* drops what would wait longer */
	uint16_t len_max;          /* drops longer ones that must not be cut; 0: no limit */
	/* Sees every datagram that leaves; true drops it. */
	bool (*drop)(struct link *l, const struct node *from, const uint8_t *data, uint16_t len);
	void *ctx;
	struct node *nodes[2];
	struct dgram *queue; /* a heap by at_ns, then order */
	uint32_t nb_queued;
	uint64_t order;
};

static inline bool dgram_before(const struct dgram *a, const struct dgram *b)
{
	return a->at_ns < b->at_ns || (a->at_ns == b->at_ns && a->order < b->order);
}

static inline void link_push(struct link *l, const struct dgram *d)
{
	uint32_t i = l->nb_queued++;

	cr_assert_lt(i, LINK_QUEUE);
	while (i > 0 && dgram_before(d, &l->queue[(i - 1) / 2])) {
		l->queue[i] = l->queue[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	l->queue[i] = *d;
}

static inline void link_pop(struct link *l, struct dgram *out)
{
	const struct dgram *last;
	uint32_t i = 0;

	*out = l->queue[0];
	last = &l->queue[--l->nb_queued];
	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= l->nb_queued)
			break;
		if (child + 1 < l->nb_queued &&
			dgram_before(&l->queue[child + 1], &l->queue[child]))
			child++;
		if (!dgram_before(&l->queue[child], last))
			break;
		l->queue[i] = l->queue[child];
		i = child;
	}
	l->queue[i] = *last;
}

static inline uint8_t *node_reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	struct node *n = (struct node *)tx;
	struct link *l = n->link;

	if (n->refuse > 0) {
		n->refuse--;
		return NULL;
	}
	if (l->refuse_permille && og_rand_below(&l->rand, 1000) < l->refuse_permille)
		return NULL;
	*cap_bytes = 1472;
	return n->out;
}

static inline void node_commit(
	struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl, uint16_t len)
{
	struct node *n = (struct node *)tx;
	struct link *l = n->link;
	struct dgram d = {.len_bytes = len, .src = n->addr, .to = !n->idx};
	uint32_t copies;

	(void)endpoint;
	cr_assert_leq(len, 1472);
	n->nb_sent++;
	cr_assert(og_addr_eq(dst, &l->nodes[!n->idx]->addr));
	if (l->drop && l->drop(l, n, n->out, len))
		return;
	if (l->len_max && len > l->len_max && !(ttl & OG_TX_MAY_FRAGMENT))
		return;
	if (og_rand_below(&l->rand, 1000) < l->loss_permille)
		return;
	memcpy(d.data, n->out, len);
	d.at_ns = l->now_ns;
	if (l->rate_bytes_per_s) {
		uint64_t start = OG_MAX(n->busy_until_ns, l->now_ns);

		if (l->queue_ns && start - l->now_ns > l->queue_ns)
			return;
		n->busy_until_ns = start + len * OG_NS_PER_S / l->rate_bytes_per_s;
		d.at_ns = n->busy_until_ns;
	}
	d.at_ns += l->delay_ns;
	copies = 1 + (og_rand_below(&l->rand, 1000) < l->dup_permille);
	while (copies-- > 0) {
		struct dgram copy = d;

		if (l->jitter_ns)
			copy.at_ns += og_rand_u64(&l->rand) % l->jitter_ns;
		copy.order = l->order++;
		link_push(l, &copy);
	}
}

static inline void link_init(struct link *l, uint64_t seed)
{
	memset(l, 0, sizeof(*l));
	og_rand_seeded(&l->rand, seed);
	l->now_ns = 1000 * OG_NS_PER_S;
	l->queue = malloc(LINK_QUEUE * sizeof(*l->queue));
}

static inline void link_attach(struct link *l, struct node *n, uint8_t idx, uint64_t seed)
{
	n->tx = (struct og_tx){node_reserve, node_commit};
	n->link = l;
	n->idx = idx;
	n->addr = (struct og_addr){{127, 0, 0, 1}, (uint16_t)(1000 + idx)};
	n->next_ns = 0;
	og_rand_seeded(&n->rand, seed * 2 + idx);
	l->nodes[idx] = n;
}

static inline void link_fini(struct link *l)
{
	free(l->queue);
}

/* Delivers all that is due now, as one burst per node, then ticks both. */
static inline void link_step(struct link *l)
{
	static struct dgram d;
	bool got[2] = {false, false};

	while (l->nb_queued > 0 && l->queue[0].at_ns <= l->now_ns) {
		uint8_t *exact;

		link_pop(l, &d);
		exact = malloc(d.len_bytes); /* an over-read is seen by ASan */
		memcpy(exact, d.data, d.len_bytes);
		l->nodes[d.to]->input(l->nodes[d.to], &d.src, exact, d.len_bytes);
		free(exact);
		got[d.to] = true;
	}
	for (int i = 0; i < 2; i++) {
		struct node *n = l->nodes[i];

		if (got[i])
			n->flush(n);
		n->next_ns = n->tick(n);
	}
}

/* Until `until` is reached. Steps from event to event; a refused send is retried 10 us later. */
static inline void link_run(struct link *l, uint64_t until_ns)
{
	for (;;) {
		uint64_t next = until_ns;

		link_step(l);
		if (l->nb_queued > 0)
			next = OG_MIN(next, l->queue[0].at_ns);
		for (int i = 0; i < 2; i++)
			next = OG_MIN(next, OG_MAX(l->nodes[i]->next_ns, l->now_ns + 10000));
		if (l->now_ns >= until_ns)
			return;
		l->now_ns = OG_MAX(l->now_ns, next);
	}
}

static inline void link_run_for(struct link *l, uint64_t ns)
{
	link_run(l, l->now_ns + ns);
}
