/*
 * query.c: the iterative lookup of dht.md 6.2.
 *
 * A query keeps every address it has heard of, each at most once: to be asked, asked, answered or
 * down. The next to be asked is always the nearest known; seeds come before all others.
 */
#include "dht/query.h"

#include "dht/rpc_priv.h"

#include <errno.h>
#include <stdlib.h>

enum {
	SEEN_MAX = 512,
	HASH_SLOTS = 1024,
	REFERRERS_MAX = 4,
	SEEDS_MAX = 64,
	IN_FLIGHT_MAX = 64,
	CLOSER_MAX = OG_DHT_K, /* read of one reply */
	QUERY_SENDS = 6,
	HINT_SENDS = 4,
	CONCURRENCY = 10,
	CONCURRENCY_BACKGROUND = 2,
	CONCURRENCY_SEEDS = 3,
	QUIET_REQUESTS = 3, /* fewer in flight than this: a background query may speed up */
	NO_ENTRY = UINT16_MAX,
};

enum seen_state { SEEN_PENDING, SEEN_ASKED, SEEN_ANSWERED, SEEN_DOWN, SEEN_SKIPPED };

struct seen {
	struct og_addr addr;
	uint8_t state;
	uint8_t nb_referrers;
	bool slow;   /* a second of silence */
	bool silent; /* two */
	uint16_t hash_next;
	uint16_t referrers[REFERRERS_MAX];
	uint64_t rank; /* lowest is asked first: place among the seeds, then distance */
	uint8_t id[OG_DHT_ID_BYTES];
	struct og_dht_req_id request;
};

enum query_state {
	QUERY_FREE,
	QUERY_RUNNING,
	QUERY_LINGERING, /* reported; its last requests may still turn into down hints */
};

struct og_dht_query {
	enum query_state state;
	uint32_t gen;
	struct og_dht_rpc *rpc;
	struct og_dht_query_opts opts; /* value points below; seeds are gone */
	uint8_t value[OG_DHT_VALUE_MAX];

	uint8_t concurrency;
	bool from_table; /* the table was used as a source */
	bool slowdown;
	bool starting;
	bool due; /* wants the next tick */
	uint32_t in_flight;
	uint32_t slow;
	uint32_t silent; /* of the slow ones */
	uint32_t successes;
	uint32_t errors;

	uint32_t nb_closest;
	struct og_dht_closest closest[OG_DHT_K];

	uint32_t nb_seen;
	uint32_t nb_pending;
	uint16_t hash[HASH_SLOTS];
	struct seen seen[SEEN_MAX];
};

static void advance(struct og_dht_query *q, uint64_t now_ns);

int og_dht_queries_create(struct og_dht_rpc *rpc, uint32_t nb_queries)
{
	rpc->queries = calloc(nb_queries, sizeof(rpc->queries[0]));
	if (!rpc->queries)
		return -ENOMEM;
	rpc->nb_queries = nb_queries;
	for (uint32_t i = 0; i < nb_queries; i++)
		rpc->queries[i].rpc = rpc;
	return 0;
}

void og_dht_queries_destroy(struct og_dht_rpc *rpc)
{
	free(rpc->queries);
}

/* ---- distance ---- */

static uint64_t distance(const struct og_dht_query *q, const uint8_t *id)
{
	uint64_t a;
	uint64_t b;

	memcpy(&a, id, sizeof(a));
	memcpy(&b, q->opts.target, sizeof(b));
	return __builtin_bswap64(a ^ b);
}

static int compare(const struct og_dht_query *q, const uint8_t *a, const uint8_t *b)
{
	for (unsigned i = 0; i < OG_DHT_ID_BYTES; i++)
		if (a[i] != b[i])
			return (a[i] ^ q->opts.target[i]) - (b[i] ^ q->opts.target[i]);
	return 0;
}

static bool is_closer(const struct og_dht_query *q, const uint8_t *id)
{
	return q->nb_closest < OG_DHT_K || compare(q, id, q->closest[q->nb_closest - 1].id) < 0;
}

static void insert_closest(struct og_dht_query *q, const struct og_dht_reply *r)
{
	uint32_t i = q->nb_closest;
	struct og_dht_closest *c;

	while (i > 0 && compare(q, r->id, q->closest[i - 1].id) < 0)
		i--;
	if (i > 0 && memcmp(q->closest[i - 1].id, r->id, OG_DHT_ID_BYTES) == 0)
		return;
	if (q->nb_closest == OG_DHT_K)
		q->nb_closest--;
	memmove(&q->closest[i + 1], &q->closest[i], (q->nb_closest - i) * sizeof(q->closest[0]));
	q->nb_closest++;
	c = &q->closest[i];
	*c = (struct og_dht_closest){
		.addr = r->from, .to = r->msg->to, .has_token = r->msg->token != NULL};
	memcpy(c->id, r->id, sizeof(c->id));
	if (r->msg->token)
		memcpy(c->token, r->msg->token, sizeof(c->token));
}

/* ---- what was seen ---- */

static uint32_t hash_slot(const struct og_addr *a)
{
	uint64_t x = og_addr_key(a) * 0x9e3779b97f4a7c15ull;

	return (uint32_t)(x >> 54) % HASH_SLOTS;
}

static struct seen *find_seen(struct og_dht_query *q, const struct og_addr *addr)
{
	uint16_t i = q->hash[hash_slot(addr)];

	while (i != NO_ENTRY && !og_addr_eq(&q->seen[i].addr, addr))
		i = q->seen[i].hash_next;
	return i == NO_ENTRY ? NULL : &q->seen[i];
}

static void add_referrer(struct og_dht_query *q, struct seen *s, const struct seen *referrer)
{
	if (referrer && s->nb_referrers < REFERRERS_MAX)
		s->referrers[s->nb_referrers++] = (uint16_t)(referrer - q->seen);
}

static void add_seen(struct og_dht_query *q, const struct og_addr *addr, const uint8_t *id,
	uint64_t rank, const struct seen *referrer)
{
	uint32_t slot = hash_slot(addr);
	struct seen *s;

	if (q->nb_seen == SEEN_MAX) {
		og_dht_drop(q->rpc, OG_DHT_DROP_QUERY_NODES);
		return;
	}
	s = &q->seen[q->nb_seen];
	*s = (struct seen){.addr = *addr, .rank = rank, .hash_next = q->hash[slot]};
	memcpy(s->id, id, sizeof(s->id));
	q->hash[slot] = (uint16_t)q->nb_seen++;
	q->nb_pending++;
	add_referrer(q, s, referrer);
}

static struct seen *nearest_pending(struct og_dht_query *q)
{
	struct seen *best = NULL;

	for (uint32_t i = 0; i < q->nb_seen && q->nb_pending > 0; i++) {
		struct seen *s = &q->seen[i];

		if (s->state == SEEN_PENDING && (!best || s->rank < best->rank))
			best = s;
	}
	return best;
}

/* ---- sources of nodes ---- */

static void add_start(struct og_dht_query *q, const struct og_addr *addr, uint64_t rank)
{
	uint8_t id[OG_DHT_ID_BYTES];

	if (!og_dht_addr_usable(addr) || og_dht_is_self(q->rpc, addr) || find_seen(q, addr))
		return;
	og_dht_node_id(id, addr);
	add_seen(q, addr, id, rank == UINT64_MAX ? OG_MAX(distance(q, id), SEEDS_MAX) : rank, NULL);
}

/* dht.md 6.2, step 1 */
static void add_from_table(struct og_dht_query *q)
{
	uint8_t closest[OG_DHT_K * OG_DHT_ADDR4_BYTES];
	uint32_t n;

	q->from_table = true;
	if (q->nb_pending >= OG_DHT_K)
		return;
	n = og_dht_table_closest(q->rpc->table, q->opts.target, OG_DHT_K - q->nb_pending, closest);
	for (uint32_t i = 0; i < n; i++) {
		struct og_addr a = og_dht_addr4_load(closest + i * OG_DHT_ADDR4_BYTES);

		add_start(q, &a, UINT64_MAX);
	}
	if (q->nb_pending >= OG_DHT_K)
		return;
	for (uint32_t i = 0; i < q->rpc->nb_bootstrap; i++)
		add_start(q, &q->rpc->bootstrap[i], UINT64_MAX);
}

static bool worth_following(
	const struct og_dht_query *q, const struct og_addr *a, const struct og_addr *referrer)
{
	if (!og_dht_addr_usable(a) || og_dht_is_self(q->rpc, a))
		return false;
	/* A public node has no business sending us to our own network. */
	return !og_addr_is_private(a) || og_addr_is_private(referrer) ||
	       og_addr_is_reserved(referrer);
}

static void send_hint(struct og_dht_rpc *rpc, const struct og_addr *to, const struct og_addr *down,
	uint64_t now_ns)
{
	uint8_t value[OG_DHT_ADDR4_BYTES];
	struct og_dht_request req = {
		.to = *to,
		.internal = true,
		.command = OG_DHT_DOWN_HINT,
		.has_value = true,
		.value = value,
		.value_bytes = sizeof(value),
		.sends = HINT_SENDS,
		.any_endpoint = true,
	};

	if (rpc->hints_this_tick >= OG_DHT_HINTS_PER_TICK || og_dht_requests_room(rpc) == 0) {
		og_dht_drop(rpc, OG_DHT_DROP_HINT_LIMIT);
		return;
	}
	rpc->hints_this_tick++;
	og_count(&rpc->count.hints_out);
	og_dht_addr4_store(value, down);
	og_dht_request_send(rpc, &req, NULL, now_ns);
}

/* dht.md 6.2, step 4: false at the first node that is not nearer. */
static bool follow(struct og_dht_query *q, const struct og_addr *addr, const struct seen *referrer,
	uint64_t now_ns)
{
	uint8_t id[OG_DHT_ID_BYTES];
	struct seen *s = find_seen(q, addr);

	if (s) {
		if (s->state == SEEN_DOWN)
			send_hint(q->rpc, &referrer->addr, addr, now_ns);
		else if (s->state != SEEN_ANSWERED)
			add_referrer(q, s, referrer);
		return is_closer(q, s->id);
	}
	og_dht_node_id(id, addr);
	if (!is_closer(q, id))
		return false;
	add_seen(q, addr, id, OG_MAX(distance(q, id), SEEDS_MAX), referrer);
	return true;
}

static void follow_closer(struct og_dht_query *q, const struct og_dht_msg *msg,
	const struct seen *referrer, uint64_t now_ns)
{
	uint32_t n = OG_MIN(msg->nb_closer, CLOSER_MAX);

	if (q->opts.only_seeds)
		return;
	for (uint32_t i = 0; i < n; i++) {
		struct og_addr a = og_dht_addr4_load(msg->closer + i * OG_DHT_ADDR4_BYTES);

		if (worth_following(q, &a, &referrer->addr) && !follow(q, &a, referrer, now_ns))
			return;
	}
}

/* ---- the end ---- */

static void set_gauge(struct og_dht_rpc *rpc)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < rpc->nb_queries; i++)
		n += rpc->queries[i].state == QUERY_RUNNING;
	og_dht_gauge(&rpc->count.query_slots, n);
}

static void set_due(struct og_dht_query *q, bool due)
{
	if (q->due != due)
		q->rpc->nb_queries_due += due ? 1 : UINT32_MAX;
	q->due = due;
}

static void release(struct og_dht_query *q)
{
	for (uint32_t i = 0; i < q->nb_seen && q->in_flight > 0; i++)
		if (q->seen[i].state == SEEN_ASKED)
			og_dht_request_abandon(q->rpc, q->seen[i].request);
	set_due(q, false);
	q->state = QUERY_FREE;
	q->gen++;
	set_gauge(q->rpc);
}

static void finish(struct og_dht_query *q, uint64_t now_ns)
{
	int status = q->successes > 0 ? 0 : -ENOENT;

	set_due(q, false);
	q->state = QUERY_LINGERING;
	set_gauge(q->rpc);
	if (q->opts.on_done)
		q->opts.on_done(
			q->opts.ctx, q->opts.tag, status, q->closest, q->nb_closest, now_ns);
	if (q->state == QUERY_LINGERING && q->in_flight == 0)
		release(q);
}

/* ---- asking ---- */

static struct seen *asked(struct og_dht_query *q, uint64_t tag)
{
	return &q->seen[tag];
}

static void on_slow(void *ctx, uint64_t tag, uint64_t now_ns)
{
	struct og_dht_query *q = ctx;

	struct seen *s = asked(q, tag);

	q->slow += !s->slow;
	q->silent += s->slow && !s->silent;
	s->silent = s->slow;
	s->slow = true;
	if (q->state == QUERY_RUNNING)
		advance(q, now_ns);
}

static void went_down(struct og_dht_query *q, struct seen *s, uint64_t now_ns)
{
	s->state = SEEN_DOWN;
	for (unsigned i = 0; i < s->nb_referrers; i++)
		send_hint(q->rpc, &q->seen[s->referrers[i]].addr, &s->addr, now_ns);
}

static void take_answer(
	struct og_dht_query *q, struct seen *s, const struct og_dht_reply *r, uint64_t now_ns)
{
	if (r->msg->error == 0)
		q->successes++;
	else
		q->errors++;
	if (r->msg->error == 0 && r->id && is_closer(q, r->id))
		insert_closest(q, r);
	follow_closer(q, r->msg, s, now_ns);
	if (q->opts.background)
		q->concurrency =
			q->rpc->req.nb_used < QUIET_REQUESTS ? CONCURRENCY : CONCURRENCY_BACKGROUND;
	/* dht.md 6.2, step 3 */
	if (!q->from_table && q->successes + q->errors >= q->concurrency)
		q->slowdown = false;
}

static void on_end(void *ctx, uint64_t tag, const struct og_dht_reply *r, uint64_t now_ns)
{
	struct og_dht_query *q = ctx;
	struct seen *s = asked(q, tag);
	uint32_t gen = q->gen;

	q->in_flight--;
	if (s->slow)
		q->slow--;
	if (s->silent)
		q->silent--;
	s->slow = s->silent = false;
	s->state = SEEN_ANSWERED;
	if (r->status == -ETIMEDOUT)
		went_down(q, s, now_ns);
	if (q->state == QUERY_LINGERING) {
		if (q->in_flight == 0)
			release(q);
		return;
	}
	if (r->status == 0)
		take_answer(q, s, r, now_ns);
	else
		q->errors++;
	if (r->status == 0 && r->msg->error == 0 && q->opts.on_reply) {
		q->opts.on_reply(q->opts.ctx, q->opts.tag, r, now_ns);
		if (q->gen != gen || q->state != QUERY_RUNNING)
			return; /* cancelled from inside */
	}
	advance(q, now_ns);
}

static void ask(struct og_dht_query *q, struct seen *s, uint64_t now_ns)
{
	struct og_dht_request req = {
		.to = s->addr,
		.internal = q->opts.internal,
		.command = q->opts.command,
		.target = q->opts.target,
		.has_value = q->opts.has_value,
		.value = q->opts.value,
		.value_bytes = q->opts.value_bytes,
		.sends = q->opts.sends ? q->opts.sends : QUERY_SENDS,
		.any_endpoint = true,
		.fn = on_end,
		.ctx = q,
		.tag = (uint64_t)(s - q->seen),
	};

	s->state = SEEN_ASKED;
	q->in_flight++;
	og_dht_request_start(q->rpc, &req, UINT16_MAX, on_slow, &s->request, now_ns);
}

/* dht.md 6.2, step 2. Waits for the next tick when no request can be sent. */
static void ask_more(struct og_dht_query *q, uint64_t now_ns)
{
	uint32_t limit = (q->slowdown ? CONCURRENCY_SEEDS : q->concurrency) + q->slow;

	limit = OG_MIN(limit, IN_FLIGHT_MAX);
	while (q->in_flight < limit && q->nb_pending > 0) {
		struct seen *s;

		if (og_dht_requests_room(q->rpc) == 0) {
			set_due(q, true);
			return;
		}
		s = nearest_pending(q);
		q->nb_pending--;
		if (is_closer(q, s->id))
			ask(q, s, now_ns);
		else
			s->state = SEEN_SKIPPED;
	}
	if (!q->from_table && q->successes == 0 && q->errors == 0)
		q->slowdown = true;
}

/*
 * dht.md 6.2, step 6. In a network of less than K nodes a dead one would hold every query, and with it a
 * start, for all its repeats: after two seconds it is not waited for any more.
 */
static bool is_over(const struct og_dht_query *q)
{
	if (q->nb_pending > 0)
		return false;
	return q->in_flight == 0 || (q->slow == q->in_flight && q->nb_closest == OG_DHT_K) ||
	       (q->silent == q->in_flight && q->nb_closest > 0);
}

static void advance(struct og_dht_query *q, uint64_t now_ns)
{
	ask_more(q, now_ns);
	if (is_over(q) && !q->from_table && !q->opts.only_seeds && q->successes < OG_DHT_K / 4) {
		q->slowdown = false;
		add_from_table(q);
		ask_more(q, now_ns);
	}
	if (!is_over(q))
		return;
	if (q->starting)
		set_due(q, true);
	else
		finish(q, now_ns);
}

/* ---- start and cancel ---- */

static struct og_dht_query *free_query(struct og_dht_rpc *rpc)
{
	struct og_dht_query *lingering = NULL;

	for (uint32_t i = 0; i < rpc->nb_queries; i++) {
		if (rpc->queries[i].state == QUERY_FREE)
			return &rpc->queries[i];
		if (rpc->queries[i].state == QUERY_LINGERING)
			lingering = &rpc->queries[i];
	}
	if (lingering)
		release(lingering);
	return lingering;
}

static void reset(struct og_dht_query *q, const struct og_dht_query_opts *opts)
{
	q->state = QUERY_RUNNING;
	q->opts = *opts;
	q->opts.seeds = NULL;
	q->opts.value = q->value;
	if (opts->value_bytes > 0)
		memcpy(q->value, opts->value, opts->value_bytes);
	q->concurrency = opts->background    ? CONCURRENCY_BACKGROUND
			 : opts->concurrency ? opts->concurrency
					     : CONCURRENCY;
	q->from_table = q->slowdown = q->due = false;
	q->in_flight = q->slow = q->silent = q->successes = q->errors = 0;
	q->nb_closest = q->nb_seen = q->nb_pending = 0;
	memset(q->hash, 0xff, sizeof(q->hash));
}

int og_dht_query_start(struct og_dht_rpc *rpc, const struct og_dht_query_opts *opts,
	struct og_dht_query_id *id, uint64_t now_ns)
{
	struct og_dht_query *q;

	if (opts->value_bytes > OG_DHT_VALUE_MAX)
		return -EINVAL;
	q = free_query(rpc);
	if (!q)
		return -ENOSPC;
	reset(q, opts);
	*id = (struct og_dht_query_id){(uint32_t)(q - rpc->queries), q->gen};
	rpc->refresh_ticks = OG_DHT_REFRESH_TICKS;
	og_count(&rpc->count.queries);
	set_gauge(rpc);
	for (uint32_t i = 0; i < OG_MIN(opts->nb_seeds, SEEDS_MAX); i++)
		add_start(q, &opts->seeds[i], i);
	if (!opts->only_seeds && q->nb_pending < OG_DHT_K)
		add_from_table(q);
	q->starting = true;
	advance(q, now_ns);
	q->starting = false;
	return 0;
}

void og_dht_query_cancel(struct og_dht_rpc *rpc, struct og_dht_query_id id)
{
	struct og_dht_query *q;

	if (id.slot >= rpc->nb_queries)
		return;
	q = &rpc->queries[id.slot];
	if (q->gen == id.gen && q->state != QUERY_FREE)
		release(q);
}

void og_dht_queries_tick(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	for (uint32_t i = 0; i < rpc->nb_queries && rpc->nb_queries_due > 0; i++) {
		struct og_dht_query *q = &rpc->queries[i];

		if (!q->due)
			continue;
		set_due(q, false);
		advance(q, now_ns);
	}
}
