/*
 * peer_core.h: an application on the polling core: it hears a node's events and gives its commands
 * without a stage between, as one thread of JavaScript does with its peers.
 *
 * As a server it serves each connection by what comes first on it, 8 bytes little endian: a count,
 * then that many bytes follow, which it counts and answers with the same 8 bytes; or all ones: from
 * there on it sends everything back. It waits for the next count after that.
 *
 * As a client it does one task at a time, asked for by a command; the end of it is an event.
 *
 * Units:   ns, bytes.
 * Threads: as any core; `rtt_ns` may be read by whoever has popped PEER_DONE.
 * Memory:  embedded.
 */
#pragma once
#include "cluster/core.h"

#include <stdbool.h>

enum peer_command {
	PEER_CONNECT = 1000, /* key, data = addr4: a connection that the other tasks use */
	PEER_SEND,           /* slot = bytes of a write, arg = bytes in all */
	PEER_ECHO,           /* slot = bytes of a message, arg = how many, one after the other */
	PEER_CONNECTS,       /* arg = how many, one after the other; key, data as PEER_CONNECT */
};

/* The event: flags 0 or a positive errno, arg = ns that it took. */
enum { PEER_DONE = 2000 };

enum {
	PEER_CONNS = 1024, /* as many as a node has by default */
	PEER_HEADER_BYTES = 8,
	PEER_ECHO_BYTES = 4096,
	PEER_WRITE_MAX = 1 << 20,
	PEER_RTTS = 1 << 16,
};

struct peer_conn {
	bool open, echoing, dirty;
	uint32_t gen;
	uint32_t header_bytes;
	uint8_t header[PEER_HEADER_BYTES];
	uint64_t expected; /* bytes until the answer is due */
	uint64_t unread;   /* not yet reported as consumed */
	uint64_t credit;
	uint32_t out_bytes; /* to be sent as they are: answers and echoes */
	uint8_t out[PEER_ECHO_BYTES];
};

enum peer_task { TASK_NONE, TASK_CONNECT, TASK_SEND, TASK_ECHO, TASK_CONNECTS };

struct peer_core {
	struct og_core core; /* what the data plane runs */
	struct og_core *inner;
	struct og_sink sink;    /* where the inner core's events go */
	struct og_sink *report; /* where ours go */
	struct peer_conn conns[PEER_CONNS];
	uint32_t dirty[PEER_CONNS];
	uint32_t nb_dirty;

	/* The task. */
	enum peer_task task;
	uint32_t slot; /* of the connection */
	uint64_t start_ns, step_ns;
	uint64_t left; /* bytes to write, messages or connections to go */
	uint32_t piece_bytes;
	uint32_t awaited_bytes; /* of the answer or echo */
	bool dial_wanted, end_wanted;
	uint8_t key[32];
	uint8_t addr[6];
	uint32_t nb_rtts;
	uint32_t rtt_ns[PEER_RTTS];
	uint8_t pattern[PEER_WRITE_MAX];
};

/* Give `p->sink` to the inner core as its events, then wrap it. */
void peer_core_init(struct peer_core *p, struct og_sink *report);
void peer_core_wrap(struct peer_core *p, struct og_core *inner);
