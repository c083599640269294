/*
 * shed.h: who floods a socket, and how much of it the kernel is to let in.
 *
 * The kernel queues what comes faster than the polling core takes it: whoever is honest then waits
 * behind the flood, or is lost where the queue is full. So while the queue stands, the sources that
 * most of it comes from are cut, by halves, until it does not; then they get back a little at a
 * time. The rules become a socket filter, so what they drop costs the polling core nothing. What was
 * in the queue before is dropped as it is received, so that the queue is short again soon.
 *
 * A source is an address, or on a loopback or private address one port of it: a test network is one
 * address, a rack of servers one /24. Should no port alone be to blame there, the address is; should
 * no address be, everybody is cut alike, which keeps the streams alive.
 *
 * Datagrams of streams are never cut: their windows bound them, and who is established comes first. What
 * begins like one, but for an id that we never gave to anybody, is cut like all else.
 *
 * Source:  Misra and Gries, "Finding repeated elements", 1982; CoDel's standing queue (RFC 8289).
 * Units:   ns of any monotonic clock.
 * Threads: one owner, the polling core.
 * Memory:  a plain value; embed it.
 */
#pragma once
#include "base/addr.h"
#include "base/stream_tag.h"

#include <linux/filter.h>

enum {
	OG_SHED_RULES = 16,
	OG_SHED_COUNTERS = 16,   /* any source with more than a 17th of all is found */
	OG_SHED_QUEUE_MIN = 256, /* datagrams: a closed loop of requests is no flood */
	OG_SHED_PROGRAM = 8 * OG_SHED_RULES + 16, /* instructions at most */
	OG_SHED_ALL = 1 << 20,                    /* `admit` of everything */
	OG_SHED_TURNS = 8,                        /* that are remembered */
};
#define OG_SHED_TURN_NS (5 * OG_NS_PER_MS)
#define OG_SHED_WAIT_NS OG_NS_PER_MS /* longer is a queue that stands */

struct og_shed_rule {
	struct og_addr from; /* port 0: any; address 0: anybody */
	uint32_t admit;      /* of OG_SHED_ALL */
};

struct og_shed_counter {
	uint64_t key;
	uint32_t count;
};

struct og_shed_past {
	uint64_t lasted_ns;
	uint32_t nb_taken;
};

struct og_shed {
	uint32_t tag_key;   /* of our streams; 0: all that begins like a stream is one */
	uint64_t turned_ns; /* the last turn */
	bool stands;        /* the queue did: count who is in it */
	uint32_t nb_taken;  /* datagrams received since; the owner counts */
	struct og_shed_past past[OG_SHED_TURNS]; /* the newest first */
	uint32_t nb_seen;  /* og_shed_seen() of them, without those of streams */
	uint32_t nb_rules; /* 0: let everything in */
	struct og_shed_rule rules[OG_SHED_RULES];
	uint32_t applied[OG_SHED_RULES]; /* the shares when the rules last changed by much */
	struct og_shed_counter sources[OG_SHED_COUNTERS];
	struct og_shed_counter hosts[OG_SHED_COUNTERS]; /* private ones, whatever their port */
};

/* A datagram that was received. Worth a call only while s->stands. */
void og_shed_seen(
	struct og_shed *s, const struct og_addr *from, const uint8_t *data, size_t len_bytes);
/* Whether such a datagram is to be dropped: the queue stands, and its source has been cut. */
bool og_shed_drops(
	const struct og_shed *s, const struct og_addr *from, const uint8_t *data, size_t len_bytes);
/*
 * Every OG_SHED_TURN_NS or more, with the time that the last datagram waited in the queue. True: the
 * rules have changed so much that the filter is to be replaced.
 */
bool og_shed_turn(struct og_shed *s, uint64_t waited_ns, uint64_t now_ns);
/* The rules as a program of a UDP socket; returns its instructions. */
uint16_t og_shed_program(const struct og_shed *s, struct sock_filter out[OG_SHED_PROGRAM]);
