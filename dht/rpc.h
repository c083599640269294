/*
 * rpc.h: one DHT node: requests and replies, routing table, own address, persistence.
 *
 * Sans-I/O: datagrams come in by og_dht_rpc_input(), leave through struct og_tx, time is an
 * argument. Everything is allocated by create. The layer above registers handlers for the external
 * commands and sends its own requests here.
 *
 * Source:  dht.md 2 to 6. Answers are matched by tid, source address and endpoint; table entries
 *          and the own address come from answers to our own requests only; replies to addresses
 *          that never answered us are limited.
 * Units:   times ns of the driver's monotonic clock; sizes bytes.
 * Threads: one owner; the counters may be read by any thread.
 * Memory:  all made by create; datagrams, messages and replies are borrowed for the call.
 *
 * Call og_dht_rpc_tick() whenever the time it returned has come, and after a call that sends.
 */
#pragma once
#include "base/core.h"
#include "base/rand.h"
#include "dht/wire.h"

struct og_token;
struct og_dht_rpc;

enum {
	OG_DHT_VALUE_MAX = 1100,
	OG_DHT_COMMANDS = 16,
	OG_DHT_BOOTSTRAP_MAX = 16,
	OG_DHT_SAVED_MAX = 64,
	OG_DHT_EXEMPT_MAX = 16
};

enum og_auto { OG_AUTO, OG_YES, OG_NO };

/* Addresses that the limits per address and per /24 do not apply to. */
struct og_dht_net {
	struct og_addr net; /* its port is ignored */
	uint8_t bits;       /* 0 … 32 */
};

struct og_dht_rpc_opts {
	struct og_addr local[2]; /* 0 the server socket, 1 the client socket (port 0: absent) */
	const struct og_addr *bootstrap; /* none: the first node of a network */
	uint32_t nb_bootstrap;           /* more than OG_DHT_BOOTSTRAP_MAX are ignored */
	struct og_addr public_addr;      /* port 0: unknown */
	enum og_auto ephemeral;          /* OG_NO: persistent as soon as the own address is known */
	enum og_auto firewalled;         /* OG_NO: trusted, never tested */
	const struct og_addr *saved_nodes; /* from og_dht_rpc_nodes() of an earlier life */
	uint32_t nb_saved;                 /* more than OG_DHT_SAVED_MAX are ignored */
	struct og_tx *tx;
	struct og_rand *rand;

	/* Limits; 0 takes the default in brackets. */
	uint32_t nb_requests;              /* outstanding [1024], at most 16384 */
	uint32_t nb_queries;               /* running [64] */
	uint32_t window_slot;              /* sends per 750 ms [1024]; 80 protects a home router */
	uint32_t window_total;             /* sends per 3 s [2048]; likewise 160 */
	uint32_t value_subnet_bytes_per_s; /* value replies to an unproven /24 [64 KiB] */
	uint32_t value_total_bytes_per_s;  /* and to all unproven addresses [4 MiB] */
	uint32_t nb_delayed_pings;         /* waiting [1024] */
	bool limit_private; /* apply address limits to loopback and private ranges too */
	const struct og_dht_net *exempt; /* more ranges that they do not apply to */
	uint32_t nb_exempt;              /* more than OG_DHT_EXEMPT_MAX are ignored */
};

/* Returns 0, -ENOMEM, or -EINVAL. Nothing is sent before the first tick. */
int og_dht_rpc_create(
	struct og_dht_rpc **out, const struct og_dht_rpc_opts *opts, uint64_t now_ns) OG_MUST_CHECK;
void og_dht_rpc_destroy(struct og_dht_rpc *rpc);

/* Returns 0 when it was a DHT datagram and consumed, -EBADMSG when dropped (and counted). */
int og_dht_rpc_input(struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *src,
	const uint8_t *data, uint16_t len_bytes, uint64_t now_ns);
/* Timers, retransmission, background work. Returns when it next wants to be called. */
uint64_t og_dht_rpc_tick(struct og_dht_rpc *rpc, uint64_t now_ns);

/* The first bootstrap has ended, with or without an answer. */
bool og_dht_rpc_bootstrapped(const struct og_dht_rpc *rpc);
bool og_dht_rpc_persistent(const struct og_dht_rpc *rpc);
bool og_dht_rpc_firewalled(const struct og_dht_rpc *rpc);
/* NULL unless persistent. */
const uint8_t *og_dht_rpc_id(const struct og_dht_rpc *rpc);
/* False while unknown; the port is 0 when the host is known and the port is not consistent. */
bool og_dht_rpc_public_addr(const struct og_dht_rpc *rpc, struct og_addr *out);
/* Requests leave from it: the client socket while firewalled, else the server socket. */
uint16_t og_dht_rpc_expected_endpoint(const struct og_dht_rpc *rpc);
uint32_t og_dht_rpc_table_size(const struct og_dht_rpc *rpc);
/* Nodes that answered, most recently seen first; returns how many. */
uint32_t og_dht_rpc_nodes(const struct og_dht_rpc *rpc, struct og_addr *out, uint32_t max);
/* The nearest nodes of the own table, nearest first; returns how many. */
uint32_t og_dht_rpc_closest(
	const struct og_dht_rpc *rpc, const uint8_t target[32], struct og_addr *out, uint32_t max);
const struct og_token *og_dht_rpc_tokens(const struct og_dht_rpc *rpc);
struct og_rand *og_dht_rpc_rand(struct og_dht_rpc *rpc);
/* It answered one of our requests within the last 10 min. */
bool og_dht_rpc_address_proven(
	const struct og_dht_rpc *rpc, const struct og_addr *a, uint64_t now_ns);
/*
 * Ask a stranger for a proof with one PING, which takes no room from other requests. A source or a /24 of
 * which many come is asked now and then only.
 */
void og_dht_rpc_challenge(
	struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *to, uint64_t now_ns);
/* The limits per address do not apply to it: loopback, private and listed ranges. */
bool og_dht_rpc_address_exempt(const struct og_dht_rpc *rpc, const struct og_addr *a);
/* How often a sleep (a gap of more than 15 s between ticks) was noticed. */
uint32_t og_dht_rpc_wakeups(const struct og_dht_rpc *rpc);

/* Send by another way for a while; returns the way until now. */
struct og_tx *og_dht_rpc_swap_tx(struct og_dht_rpc *rpc, struct og_tx *tx);

/* ---- Outgoing requests ---- */

struct og_dht_reply {
	int status; /* 0, -ETIMEDOUT, -ENOBUFS refused here; an error of the remote is msg->error */
	struct og_addr from;
	uint16_t endpoint;
	const struct og_dht_msg *msg; /* NULL unless status is 0 */
	const uint8_t *id;            /* of the sender, checked against its address; else NULL */
	uint64_t rtt_ns;              /* since the last send */
};

typedef void (*og_dht_reply_fn)(
	void *ctx, uint64_t tag, const struct og_dht_reply *reply, uint64_t now_ns);

struct og_dht_request {
	struct og_addr to;
	bool internal;
	uint8_t command;
	const uint8_t *target; /* 32 bytes or NULL; all parts are copied */
	const uint8_t *token;  /* 32 bytes or NULL */
	const uint8_t *value;
	uint32_t value_bytes; /* at most OG_DHT_VALUE_MAX */
	bool has_value;
	uint8_t sends;      /* in all, one second apart; 0: 4 */
	bool forced;        /* past the congestion window, and sent once only */
	bool any_endpoint;  /* true: from the expected endpoint, `endpoint` is ignored */
	uint16_t endpoint;  /* any_endpoint false: from this one */
	og_dht_reply_fn fn; /* NULL: nobody listens */
	void *ctx;
	uint64_t tag;
};

struct og_dht_req_id {
	uint32_t slot;
	uint32_t gen;
};

/*
 * Ends in exactly one call of fn, never from inside this function: what is refused here is reported
 * by the next tick. (If more than 4096 refusals wait for that tick, further ones are reported at
 * once.) `id_out` may be NULL.
 */
void og_dht_request_send(struct og_dht_rpc *rpc, const struct og_dht_request *req,
	struct og_dht_req_id *id_out, uint64_t now_ns);
/* fn is not called any more. An id that has ended is ignored. */
void og_dht_request_cancel(struct og_dht_rpc *rpc, struct og_dht_req_id id);

/* ---- Incoming external commands ---- */

struct og_dht_incoming {
	uint16_t endpoint;
	uint16_t len_bytes; /* of the datagram; limits the reply to an unproven source */
	bool token_ok;      /* a token was present and valid */
	struct og_addr src;
	const struct og_dht_msg *msg;
};

typedef void (*og_dht_handler_fn)(void *ctx, const struct og_dht_incoming *in, uint64_t now_ns);

/*
 * A command below OG_DHT_COMMANDS without a handler, or one that needs a persistent node while
 * this one is not, is answered with error 1. A token that is not valid never reaches a handler.
 */
void og_dht_rpc_handle(struct og_dht_rpc *rpc, uint8_t command, bool needs_persistent,
	og_dht_handler_fn fn, void *ctx);

enum { OG_REPLY_TOKEN = 1, OG_REPLY_CLOSER = 2 };

/*
 * Answers a request from the endpoint it came in on. Of in->msg only tid and target are used, so a
 * handler that answers later may keep just these. To an unproven address the reply stays within
 * three times the request: a value draws on the byte budget or is left out, closer nodes are cut.
 */
void og_dht_rpc_reply(struct og_dht_rpc *rpc, const struct og_dht_incoming *in, unsigned flags,
	uint32_t error, const uint8_t *value /* NULL: absent */, uint32_t value_bytes,
	uint64_t now_ns);
/* Relaying, last leg: a reply with only a value to the client whose tid is given. */
void og_dht_rpc_reply_to(struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *dst,
	uint16_t tid, const uint8_t *value, uint32_t value_bytes);
/* Relaying: a request with a given tid, sent once, that nobody here waits for. */
void og_dht_rpc_relay(struct og_dht_rpc *rpc, uint16_t endpoint, const struct og_addr *dst,
	uint16_t tid, uint8_t command, const uint8_t *target, const uint8_t *value,
	uint32_t value_bytes);

/* Registers the node's counters; once per process and node, before threads start. */
void og_dht_rpc_metrics_register(struct og_dht_rpc *rpc);
