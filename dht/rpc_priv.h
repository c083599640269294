/*
 * rpc_priv.h: the state of a node, shared by the rpc_*.c files and query.c.
 */
#pragma once
#include "base/count.h"
#include "base/metrics.h"
#include "crypto/token.h"
#include "dht/challenge.h"
#include "dht/limits.h"
#include "dht/nat.h"
#include "dht/query.h"
#include "dht/rpc.h"
#include "dht/table.h"

enum {
	OG_DHT_REFUSED_MAX = 4096,
	OG_DHT_SWAPS_MAX = 3,
	OG_DHT_NEWCOMERS_MAX = 16,
	OG_DHT_CHECKS_MAX = 10,
	OG_DHT_HINTS_PER_TICK = 50,
	OG_DHT_WINDOW_SLOTS = 4,
	OG_DHT_FIREWALL_NODES = 5,
	OG_DHT_REQUEST_BYTES = 1216, /* a request with every part and the largest value */
	OG_DHT_TABLE_NODES = 2048,
	OG_DHT_PROVEN_ENTRIES = 16384,
	OG_DHT_CHALLENGE_ENTRIES = 65536,
	OG_DHT_BUDGET_ENTRIES = 4096,
	OG_DHT_ISSUED_TOKENS = 512, /* a power of two */

	/* Background ticks, dht.md 5.7. */
	OG_DHT_RECENT_TICKS = 12,
	OG_DHT_OLD_TICKS = 360,
	OG_DHT_STABLE_TICKS = 240,
	OG_DHT_RETRY_STABLE_TICKS = 720,
	OG_DHT_REFRESH_TICKS = 60,
};

#define OG_DHT_TICK_NS (5 * OG_NS_PER_S)
#define OG_DHT_SLEEP_NS (15 * OG_NS_PER_S)
#define OG_DHT_RESEND_NS OG_NS_PER_S
#define OG_DHT_WINDOW_NS (750 * OG_NS_PER_MS)
#define OG_DHT_PROVEN_NS (600 * OG_NS_PER_S)

enum { OG_DHT_NONE = UINT32_MAX }; /* end of a list of slots */

/* Why a datagram, or a part of one, was not taken or not sent. */
enum og_dht_drop {
	OG_DHT_DROP_MALFORMED,      /* not a DHT datagram, or cut short */
	OG_DHT_DROP_BAD_SOURCE,     /* port 0, or no unicast address */
	OG_DHT_DROP_OWN,            /* our own request came back to us */
	OG_DHT_DROP_UNKNOWN_REPLY,  /* no such tid outstanding: late, duplicate or forged */
	OG_DHT_DROP_FORGED_REPLY,   /* tid outstanding, but not to that address or endpoint */
	OG_DHT_DROP_BAD_ARGUMENT,   /* internal command without its target or value */
	OG_DHT_DROP_NAT_PING_LIMIT, /* PING_NAT from an address that asks too often */
	OG_DHT_DROP_DELAYED_LIMIT,  /* DELAYED_PING with all timers taken */
	OG_DHT_DROP_TX_FULL,        /* transmit queue full, or a reply that is too large */
	OG_DHT_DROP_REQUEST_LIMIT,  /* own request refused: table of requests full */
	OG_DHT_DROP_VALUE_BUDGET,   /* value left out of a reply to an unproven address */
	OG_DHT_DROP_CLOSER_CUT,     /* closer nodes cut in a reply to an unproven address */
	OG_DHT_DROP_BAD_ID,         /* a sender's id is not that of its address */
	OG_DHT_DROP_NEWCOMER_LIMIT, /* newcomer not asked: too many at once */
	OG_DHT_DROP_SUBNET_LIMIT,   /* node not added: too many of its /24 */
	OG_DHT_DROP_QUERY_NODES,    /* closer node not followed: query has seen too many */
	OG_DHT_DROP_HINT_LIMIT,     /* down hint not sent */
	OG_DHT_DROP_CHALLENGE_NET,  /* stranger not challenged: too many of its /24 */
	OG_DHT_NB_DROPS,
};

struct og_dht_counters {
	uint64_t drops[OG_DHT_NB_DROPS];
	uint64_t requests_in;
	uint64_t replies_in;
	uint64_t requests_out; /* without repeats */
	uint64_t repeats_out;
	uint64_t replies_out;
	uint64_t errors_out; /* replies with an error among them */
	uint64_t timeouts;
	uint64_t queries;
	uint64_t nodes_added;
	uint64_t nodes_removed;
	uint64_t swaps;
	uint64_t hints_out;
	uint64_t challenges_out;
	uint64_t challenges_met;
	uint64_t wakeups;
	uint64_t table_nodes; /* gauge */
	uint64_t outstanding; /* gauge: requests */
	uint64_t persistent;  /* gauge: 0 or 1 */
	uint64_t query_slots; /* gauge: running queries */
	struct og_hist rtt;
};

enum og_dht_slot_state { OG_DHT_SLOT_FREE, OG_DHT_SLOT_WAITING, OG_DHT_SLOT_SENT };

/* Told of the first repeat of a request; only queries care. */
typedef void (*og_dht_slow_fn)(void *ctx, uint64_t tag, uint64_t now_ns);

struct og_dht_slot {
	uint8_t state;
	uint8_t sends_left;
	uint8_t sends_done;
	uint16_t endpoint;
	uint16_t reply_endpoint;
	uint16_t tid;
	uint16_t len_bytes;
	uint32_t gen;
	uint32_t prev;
	uint32_t next;
	uint64_t deadline_ns;
	uint64_t first_ns;
	uint64_t sent_ns;
	struct og_addr to;
	og_dht_reply_fn fn;
	og_dht_slow_fn slow;
	void *ctx;
	uint64_t tag;
	uint8_t data[OG_DHT_REQUEST_BYTES];
};

struct og_dht_list {
	uint32_t head;
	uint32_t tail;
};

struct og_dht_refused {
	og_dht_reply_fn fn;
	void *ctx;
	uint64_t tag;
	struct og_addr to;
	uint32_t id; /* rises by one with each; what a cancel names */
};

struct og_dht_requests {
	struct og_dht_slot *slots;
	uint16_t *slot_of_tid; /* slot + 1; 0: tid is free */
	uint32_t nb_slots;
	uint32_t nb_used;
	uint32_t nb_sent; /* in flight */
	uint32_t free;
	struct og_dht_list sent;    /* by deadline: each send waits equally long */
	struct og_dht_list waiting; /* for the congestion window */

	struct og_dht_refused *refused; /* ring */
	uint32_t refused_head;
	uint32_t refused_tail;

	/* Congestion window, dht.md 6.4. */
	uint32_t window[OG_DHT_WINDOW_SLOTS];
	uint32_t window_total;
	uint32_t window_slot_max;
	uint32_t window_total_max;
	uint64_t window_no; /* of the current slot, counted from time 0 */
};

struct og_dht_swap {
	bool busy;
	struct og_addr old;
	struct og_addr newcomer;
	uint8_t newcomer_id[OG_DHT_ID_BYTES];
};

struct og_dht_delayed {
	uint64_t at_ns;
	struct og_addr src;
	uint16_t endpoint;
	uint16_t tid;
};

enum og_dht_boot { OG_DHT_BOOT_NEW, OG_DHT_BOOT_SAVED, OG_DHT_BOOT_RUNNING, OG_DHT_BOOT_DONE };

/* The firewall test in progress, dht.md 5.4. */
struct og_dht_firewall_test {
	bool running;
	bool only_firewall; /* do not become persistent after it */
	bool boot;          /* part of the bootstrap */
	uint8_t nb_asked;
	uint8_t nb_ended;
	uint8_t nb_counted;
	struct og_addr before; /* own address when it began */
	struct og_dht_nat nat;
};

struct og_dht_self {
	enum og_auto ephemeral_opt;
	enum og_auto firewalled_opt;
	struct og_addr public_addr; /* configured; port 0: not */
	bool persistent;
	bool firewalled;
	struct og_addr addr; /* the id is made of it, while persistent */
	struct og_dht_nat nat;
	struct og_addr sampled[OG_DHT_BOOTSTRAP_MAX]; /* nodes without id that gave a sample */
	uint32_t nb_sampled;

	enum og_dht_boot boot;
	uint8_t boot_round;
	bool quick_sent;
	bool quick_passed;
	bool recheck; /* after a sleep: the address may have changed */
	uint8_t nb_saved_left;
	uint64_t boot_deadline_ns;
	int32_t stable_ticks;
	int32_t retry_ticks; /* until the next attempt to become persistent by force */
	uint32_t nb_failed_tests;
	bool tested_host_known;
	struct og_addr tested_host;
	struct og_dht_firewall_test test;
};

/* A token that was issued in the running period, to be issued again without another hash. */
struct og_dht_issued {
	uint64_t period; /* when it ends */
	uint32_t host;
	uint8_t token[OG_DHT_TOKEN_BYTES];
};

struct og_dht_query;

struct og_dht_rpc {
	struct og_addr local[2];
	struct og_addr bootstrap[OG_DHT_BOOTSTRAP_MAX];
	uint32_t nb_bootstrap;
	struct og_addr saved[OG_DHT_SAVED_MAX];
	uint32_t nb_saved;
	struct og_dht_net exempt[OG_DHT_EXEMPT_MAX];
	uint32_t nb_exempt;
	bool limit_private;
	struct og_tx *tx;
	struct og_rand *rand;
	struct og_token token;
	struct og_dht_issued issued[OG_DHT_ISSUED_TOKENS];

	struct og_dht_table *table;
	uint32_t tick; /* starts at 51 … 100 */
	uint64_t next_tick_ns;
	uint64_t last_call_ns; /* of og_dht_rpc_tick() */
	int32_t refresh_ticks;
	bool refreshing;
	uint32_t hints_this_tick;
	uint64_t last_reply_ns; /* anything at all answered us */

	uint32_t nb_checks;
	struct og_dht_swap swaps[OG_DHT_SWAPS_MAX];
	struct og_addr newcomers[OG_DHT_NEWCOMERS_MAX]; /* port 0: free */

	struct og_dht_requests req;
	struct og_dht_self self;

	struct og_dht_proven *proven;
	struct og_dht_challenges *challenges;
	struct og_dht_budget *value_subnets;
	struct og_dht_rate value_total;
	struct og_dht_budget *nat_pings;
	struct og_dht_delayed *delayed; /* heap by at_ns */
	uint32_t nb_delayed;
	uint32_t delayed_max;

	struct {
		og_dht_handler_fn fn;
		void *ctx;
		bool needs_persistent;
	} handlers[OG_DHT_COMMANDS];

	struct og_dht_query *queries;
	uint32_t nb_queries;
	uint32_t nb_queries_due; /* have something for the next tick */

	struct og_dht_counters count;
};

static inline void og_dht_drop(struct og_dht_rpc *rpc, enum og_dht_drop reason)
{
	og_count(&rpc->count.drops[reason]);
}

static inline void og_dht_gauge(uint64_t *gauge, uint64_t value)
{
	__atomic_store_n(gauge, value, __ATOMIC_RELAXED);
}

/* rpc.c */
bool og_dht_is_self(const struct og_dht_rpc *rpc, const struct og_addr *a);
/* A unicast address with a port: something that can be a node. */
bool og_dht_addr_usable(const struct og_addr *a);
/* The id of `a` if `claimed` is it; else NULL. Hashes only for addresses not in the table. */
const uint8_t *og_dht_check_id(
	struct og_dht_rpc *rpc, const struct og_addr *a, const uint8_t *claimed);

/* rpc_request.c */
int og_dht_requests_create(
	struct og_dht_requests *r, uint32_t nb_slots, uint32_t slot_max, uint32_t total_max);
void og_dht_requests_destroy(struct og_dht_requests *r);
/* How many requests can be sent now without one being refused. */
uint32_t og_dht_requests_room(const struct og_dht_rpc *rpc);
/* As og_dht_request_send(); the answer must arrive on `reply_endpoint`. */
void og_dht_request_start(struct og_dht_rpc *rpc, const struct og_dht_request *req,
	uint16_t reply_endpoint, og_dht_slow_fn slow, struct og_dht_req_id *id_out,
	uint64_t now_ns);
/* A PING from the expected endpoint. */
void og_dht_ping(struct og_dht_rpc *rpc, const struct og_addr *to, uint8_t sends,
	og_dht_reply_fn fn, uint64_t tag, uint64_t now_ns);
/* The request goes on, but nobody listens any more. */
void og_dht_request_abandon(struct og_dht_rpc *rpc, struct og_dht_req_id id);
void og_dht_requests_input(struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *src,
	const struct og_dht_msg *msg, uint64_t now_ns);
/* It is byte for byte one of our own outstanding requests. */
bool og_dht_requests_is_own(
	const struct og_dht_rpc *rpc, uint16_t tid, const uint8_t *data, uint16_t len_bytes);
void og_dht_requests_tick(struct og_dht_rpc *rpc, uint64_t now_ns);
uint64_t og_dht_requests_deadline(const struct og_dht_rpc *rpc, uint64_t now_ns);
/* After a sleep: nothing times out for the time slept through. */
void og_dht_requests_woke(struct og_dht_rpc *rpc, uint64_t now_ns);

/* rpc_reply.c */
void og_dht_reply_error(struct og_dht_rpc *rpc, const struct og_dht_incoming *in, unsigned flags,
	uint32_t error, uint64_t now_ns);
/* A reply with nothing but the id, to `dst`, which may be another port of the requester. */
void og_dht_reply_empty(
	struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *dst, uint16_t tid);

/* rpc_server.c */
void og_dht_serve(struct og_dht_rpc *rpc, const struct og_dht_incoming *in, uint64_t now_ns);
void og_dht_delayed_tick(struct og_dht_rpc *rpc, uint64_t now_ns);
uint64_t og_dht_delayed_deadline(const struct og_dht_rpc *rpc);

/* rpc_nodes.c */
void og_dht_learn_request(
	struct og_dht_rpc *rpc, const struct og_addr *src, const uint8_t *id, uint64_t now_ns);
void og_dht_learn_reply(struct og_dht_rpc *rpc, const struct og_addr *src, const uint8_t *id,
	const struct og_addr *to, bool expected, uint64_t now_ns);
/* A request to `to`, sent `sends` times since `first_ns`, got no answer. */
void og_dht_learn_timeout(
	struct og_dht_rpc *rpc, const struct og_addr *to, uint8_t sends, uint64_t first_ns);
/* Sends the PING_NAT of dht.md 5.4; the answer counts only on the server socket. */
void og_dht_ping_nat(
	struct og_dht_rpc *rpc, const struct og_addr *to, og_dht_reply_fn fn, uint64_t now_ns);
void og_dht_check_node(struct og_dht_rpc *rpc, struct og_dht_node *node, uint64_t now_ns);

/* rpc_self.c */
void og_dht_self_start(struct og_dht_rpc *rpc, uint64_t now_ns);
void og_dht_self_sample(struct og_dht_rpc *rpc, const struct og_addr *to);
void og_dht_self_sample_idless(
	struct og_dht_rpc *rpc, const struct og_addr *src, const struct og_addr *to);
void og_dht_self_tick(struct og_dht_rpc *rpc, uint64_t now_ns); /* every background tick */
void og_dht_self_woke(struct og_dht_rpc *rpc);
void og_dht_self_timer(struct og_dht_rpc *rpc, uint64_t now_ns);
uint64_t og_dht_self_deadline(const struct og_dht_rpc *rpc);

/* rpc_tick.c */
void og_dht_background(struct og_dht_rpc *rpc, uint64_t now_ns);
void og_dht_refresh(struct og_dht_rpc *rpc, uint64_t now_ns);

/* query.c */
int og_dht_queries_create(struct og_dht_rpc *rpc, uint32_t nb_queries);
void og_dht_queries_destroy(struct og_dht_rpc *rpc);
void og_dht_queries_tick(struct og_dht_rpc *rpc, uint64_t now_ns);
