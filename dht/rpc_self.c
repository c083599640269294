/*
 * rpc_self.c: who we are: own address, firewall test, bootstrap and becoming persistent.
 * dht.md 5.3 to 5.5 and 5.8.
 */
#include "dht/rpc_priv.h"

#include <errno.h>

enum {
	SAVED_SENDS = 2,
	SAVED_ENOUGH = 8, /* answers that make waiting for the rest pointless */
	PASS_FEW = 1,
	PASS_MANY = 3,
	RETRY_TICKS = 12,
	RETRY_DOUBLINGS = 4,
	RECHECK_SAMPLES = 3,
};

#define SAVED_WAIT_NS (2 * OG_NS_PER_S)

static void boot_query(struct og_dht_rpc *rpc, uint64_t now_ns);
static void boot_attempt_done(struct og_dht_rpc *rpc, bool passed, uint64_t now_ns);

/* ---- own address ---- */

void og_dht_self_sample(struct og_dht_rpc *rpc, const struct og_addr *to)
{
	if (og_dht_addr_usable(to))
		og_dht_nat_add(&rpc->self.nat, to);
}

void og_dht_self_sample_idless(
	struct og_dht_rpc *rpc, const struct og_addr *src, const struct og_addr *to)
{
	struct og_dht_self *self = &rpc->self;

	if (self->nb_sampled >= OG_MAX(1, rpc->nb_bootstrap))
		return;
	for (uint32_t i = 0; i < self->nb_sampled; i++)
		if (og_addr_eq(&self->sampled[i], src))
			return;
	self->sampled[self->nb_sampled++] = *src;
	og_dht_self_sample(rpc, to);
}

static bool address_consistent(const struct og_dht_self *self)
{
	return self->nat.known && self->nat.addr.port != 0;
}

/* Seen from outside as we see it ourselves: no address translation lies between. */
static bool address_is_local(const struct og_dht_rpc *rpc)
{
	const struct og_addr *local = &rpc->local[og_dht_rpc_expected_endpoint(rpc)];
	const struct og_addr *seen = &rpc->self.nat.addr;

	if (!address_consistent(&rpc->self) || seen->port != local->port)
		return false;
	if (og_addr_u32(local) == 0) /* bound to every address */
		return og_addr_is_private(seen);
	return og_addr_same_host(seen, local);
}

/* Persistent as soon as possible, not after the 20 minutes of an adaptive node. */
static bool wants_now(const struct og_dht_rpc *rpc)
{
	const struct og_dht_self *self = &rpc->self;

	if (self->firewalled_opt == OG_YES || self->ephemeral_opt == OG_YES)
		return false;
	return self->ephemeral_opt == OG_NO || address_is_local(rpc);
}

static bool adaptive(const struct og_dht_self *self)
{
	return self->ephemeral_opt == OG_AUTO && self->firewalled_opt != OG_YES &&
	       self->public_addr.port == 0;
}

static void become_persistent(struct og_dht_rpc *rpc, const struct og_addr *addr, uint64_t now_ns)
{
	uint8_t id[OG_DHT_ID_BYTES];

	og_dht_node_id(id, addr);
	rpc->self.addr = *addr;
	rpc->self.persistent = true;
	og_dht_gauge(&rpc->count.persistent, 1);
	og_dht_table_set_center(rpc->table, id);
	og_dht_gauge(&rpc->count.table_nodes, og_dht_table_size(rpc->table));
	if (rpc->self.boot == OG_DHT_BOOT_DONE)
		og_dht_refresh(rpc, now_ns);
}

static void become_ephemeral(struct og_dht_rpc *rpc)
{
	rpc->self.persistent = false;
	og_dht_gauge(&rpc->count.persistent, 0);
}

/* ---- an attempt: firewall test if need be, then persistent ---- */

static void attempt_done(struct og_dht_rpc *rpc, bool passed, uint64_t now_ns)
{
	struct og_dht_self *self = &rpc->self;

	if (passed)
		self->nb_failed_tests = 0;
	else if (self->nb_failed_tests < RETRY_DOUBLINGS)
		self->nb_failed_tests++;
	self->retry_ticks = RETRY_TICKS << self->nb_failed_tests;
	if (self->test.boot)
		boot_attempt_done(rpc, passed, now_ns);
}

static void conclude(struct og_dht_rpc *rpc, const struct og_dht_nat *nat, uint64_t now_ns)
{
	struct og_dht_self *self = &rpc->self;
	const struct og_dht_firewall_test *test = &self->test;
	struct og_addr addr = nat->addr;

	self->firewalled = false;
	if (!address_consistent(self) || !og_addr_eq(&self->nat.addr, &test->before) ||
		!nat->known || addr.port == 0 || !og_addr_same_host(&addr, &test->before)) {
		attempt_done(rpc, false, now_ns);
		return;
	}
	if (nat != &self->nat) {
		self->nat = *nat;
		self->nb_sampled = 0;
	}
	if (!test->only_firewall)
		become_persistent(rpc, &addr, now_ns);
	attempt_done(rpc, true, now_ns);
}

/* dht.md 5.4, steps 3 and 4 */
static void test_end(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_self *self = &rpc->self;
	struct og_dht_firewall_test *test = &self->test;
	const struct og_dht_nat *nat = &test->nat;
	uint8_t need = test->nb_asked >= OG_DHT_FIREWALL_NODES ? PASS_MANY : PASS_FEW;

	test->running = false;
	if (test->nb_counted < need || !nat->known || !self->nat.known ||
		!og_addr_same_host(&nat->addr, &self->nat.addr) ||
		nat->addr.port != rpc->local[0].port)
		attempt_done(rpc, false, now_ns);
	else
		conclude(rpc, nat, now_ns);
}

static void test_answer(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = ctx;
	struct og_dht_firewall_test *test = &rpc->self.test;

	if (!test->running)
		return;
	if (reply->status == 0 && og_dht_addr_usable(&reply->msg->to)) {
		test->nb_counted++;
		og_dht_nat_add(&test->nat, &reply->msg->to);
	}
	if (++test->nb_ended == test->nb_asked)
		test_end(rpc, now_ns);
}

void og_dht_ping_nat(
	struct og_dht_rpc *rpc, const struct og_addr *to, og_dht_reply_fn fn, uint64_t now_ns)
{
	uint8_t port[2];
	struct og_dht_request req = {
		.to = *to,
		.internal = true,
		.command = OG_DHT_PING_NAT,
		.has_value = true,
		.value = port,
		.value_bytes = sizeof(port),
		.endpoint = 1,
		.fn = fn,
		.ctx = rpc,
	};

	og_store_le16(port, rpc->local[0].port);
	og_dht_request_start(rpc, &req, 0, NULL, NULL, now_ns);
}

static uint8_t test_nodes(const struct og_dht_rpc *rpc, struct og_addr *nodes)
{
	uint8_t n = 0;

	for (struct og_dht_node *node = og_dht_table_newest(rpc->table);
		node && n < OG_DHT_FIREWALL_NODES; node = og_dht_table_older(rpc->table, node))
		nodes[n++] = node->addr;
	for (uint32_t i = 0; i < rpc->nb_bootstrap && n < OG_DHT_FIREWALL_NODES; i++)
		if (!og_dht_table_find(rpc->table, &rpc->bootstrap[i]))
			nodes[n++] = rpc->bootstrap[i];
	return n;
}

static void test_start(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_firewall_test *test = &rpc->self.test;
	struct og_addr nodes[OG_DHT_FIREWALL_NODES];
	uint8_t n = test_nodes(rpc, nodes);

	if (n == 0 || rpc->local[1].port == 0 || rpc->self.firewalled_opt == OG_YES ||
		og_dht_requests_room(rpc) < n) {
		attempt_done(rpc, false, now_ns);
		return;
	}
	test->running = true;
	test->nb_asked = n;
	test->nb_ended = test->nb_counted = 0;
	og_dht_nat_init(&test->nat);
	for (uint8_t i = 0; i < n; i++)
		og_dht_ping_nat(rpc, &nodes[i], test_answer, now_ns);
}

static void attempt(struct og_dht_rpc *rpc, bool only_firewall, bool boot, uint64_t now_ns)
{
	struct og_dht_self *self = &rpc->self;

	self->test.only_firewall = only_firewall;
	self->test.boot = boot;
	self->test.before = self->nat.addr;
	if (!address_consistent(self))
		attempt_done(rpc, false, now_ns);
	else if (self->firewalled)
		test_start(rpc, now_ns);
	else
		conclude(rpc, &self->nat, now_ns);
}

/* ---- bootstrap, dht.md 5.8 ---- */

static void boot_end(struct og_dht_rpc *rpc)
{
	rpc->self.boot = OG_DHT_BOOT_DONE;
	rpc->self.retry_ticks = 0;
}

static void boot_attempt_done(struct og_dht_rpc *rpc, bool passed, uint64_t now_ns)
{
	rpc->self.test.boot = false;
	if (passed)
		boot_query(rpc, now_ns); /* again: from the server socket, or around the own id */
	else
		boot_end(rpc);
}

static void quick_answer(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = ctx;

	if (reply->status == 0)
		rpc->self.quick_passed = true;
}

static void boot_reply(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = ctx;
	struct og_dht_self *self = &rpc->self;

	if (self->quick_sent || !self->firewalled || self->firewalled_opt == OG_YES ||
		self->ephemeral_opt == OG_NO || rpc->local[1].port == 0)
		return;
	self->quick_sent = true;
	og_dht_ping_nat(rpc, &reply->from, quick_answer, now_ns);
}

static void boot_done(void *ctx, uint64_t tag, int status, const struct og_dht_closest *closest,
	uint32_t n, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = ctx;
	struct og_dht_self *self = &rpc->self;

	if (self->boot_round > 1 || self->persistent)
		boot_end(rpc);
	else if (wants_now(rpc))
		attempt(rpc, false, true, now_ns);
	else if (self->quick_passed && self->firewalled)
		attempt(rpc, true, true, now_ns);
	else
		boot_end(rpc);
}

static void boot_query(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_query_opts opts = {
		.internal = true,
		.command = OG_DHT_FIND_NODE,
		.background = true,
		.on_reply = boot_reply,
		.on_done = boot_done,
		.ctx = rpc,
	};
	struct og_dht_query_id id;

	rpc->self.boot_round++;
	rpc->self.boot = OG_DHT_BOOT_RUNNING;
	memcpy(opts.target, og_dht_table_center(rpc->table), sizeof(opts.target));
	if (rpc->nb_bootstrap == 0 && og_dht_table_size(rpc->table) == 0)
		boot_end(rpc); /* the first node of a network */
	else if (og_dht_query_start(rpc, &opts, &id, now_ns) < 0)
		boot_end(rpc);
}

static void saved_answer(void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns)
{
	struct og_dht_rpc *rpc = ctx;

	rpc->self.nb_saved_left--;
	if (rpc->self.boot != OG_DHT_BOOT_SAVED)
		return;
	if (rpc->self.nb_saved_left == 0 || og_dht_table_size(rpc->table) >= SAVED_ENOUGH)
		boot_query(rpc, now_ns);
}

void og_dht_self_start(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_self *self = &rpc->self;

	if (self->public_addr.port != 0 && self->ephemeral_opt != OG_YES &&
		self->firewalled_opt != OG_YES) {
		self->firewalled = false;
		become_persistent(rpc, &self->public_addr, now_ns);
	}
	if (rpc->nb_saved == 0) {
		boot_query(rpc, now_ns);
		return;
	}
	self->boot = OG_DHT_BOOT_SAVED;
	self->boot_deadline_ns = now_ns + SAVED_WAIT_NS;
	self->nb_saved_left = (uint8_t)rpc->nb_saved;
	for (uint32_t i = 0; i < rpc->nb_saved; i++)
		og_dht_ping(rpc, &rpc->saved[i], SAVED_SENDS, saved_answer, i, now_ns);
}

void og_dht_self_timer(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	if (rpc->self.boot == OG_DHT_BOOT_SAVED && now_ns >= rpc->self.boot_deadline_ns)
		boot_query(rpc, now_ns);
}

uint64_t og_dht_self_deadline(const struct og_dht_rpc *rpc)
{
	return rpc->self.boot == OG_DHT_BOOT_SAVED ? rpc->self.boot_deadline_ns : OG_NEVER;
}

/* ---- later ---- */

/* After a sleep a forced node may sit at another address. */
static void recheck(struct og_dht_rpc *rpc)
{
	struct og_dht_self *self = &rpc->self;

	if (!self->recheck || !address_consistent(self) || self->nat.nb_samples < RECHECK_SAMPLES)
		return;
	self->recheck = false;
	if (!og_addr_eq(&self->nat.addr, &self->addr)) {
		become_ephemeral(rpc);
		self->retry_ticks = 0;
	}
}

static void adaptive_tick(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_self *self = &rpc->self;
	bool same_host = self->tested_host_known && self->nat.known &&
			 og_addr_same_host(&self->tested_host, &self->nat.addr);

	if (--self->stable_ticks > 0)
		return;
	self->stable_ticks = OG_DHT_RETRY_STABLE_TICKS;
	if (same_host)
		return;
	self->tested_host_known = self->nat.known;
	self->tested_host = self->nat.addr;
	attempt(rpc, false, false, now_ns);
}

void og_dht_self_tick(struct og_dht_rpc *rpc, uint64_t now_ns)
{
	struct og_dht_self *self = &rpc->self;

	if (self->persistent)
		recheck(rpc);
	if (self->persistent || self->test.running)
		return;
	if (wants_now(rpc)) {
		if (--self->retry_ticks < 0 && address_consistent(self))
			attempt(rpc, false, false, now_ns);
	} else if (adaptive(self)) {
		adaptive_tick(rpc, now_ns);
	}
}

void og_dht_self_woke(struct og_dht_rpc *rpc)
{
	struct og_dht_self *self = &rpc->self;

	og_dht_nat_init(&self->nat);
	self->nb_sampled = 0;
	self->stable_ticks = OG_DHT_RETRY_STABLE_TICKS;
	self->tested_host_known = false;
	self->retry_ticks = 0;
	for (struct og_dht_node *n = og_dht_table_newest(rpc->table); n;
		n = og_dht_table_older(rpc->table, n))
		n->sampled = 0;
	if (adaptive(self))
		become_ephemeral(rpc);
	else
		self->recheck = self->persistent && self->public_addr.port == 0;
}
