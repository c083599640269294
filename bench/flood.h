/*
 * flood.h: floods of hostile datagrams, as a process of its own: `og-bench --serve flood …`.
 *
 *     flood KIND TARGET:PORT PUBLIC_KEY
 *
 * Says "ready", then obeys "run NS" with "done NS SENT ANSWERS". What it sends differs from datagram
 * to datagram where the kind depends on it, so that no cache of the target's helps.
 */
#pragma once

enum flood_kind {
	FLOOD_GARBAGE,    /* random bytes */
	FLOOD_HALF_VALID, /* the first byte of a request, then random bytes */
	FLOOD_PING,
	FLOOD_FIND_NODE,
	FLOOD_LOOKUP,
	FLOOD_BOGUS_HANDSHAKE, /* random bytes where the first message is due */
	FLOOD_POINT_HANDSHAKE, /* the same with a valid point: it costs a curve operation */
	FLOOD_BAD_ANNOUNCE,    /* a valid token and a signature that is not */
	FLOOD_REAL_HANDSHAKE,  /* 2,000 a second that are what they should be, and go no further */
	FLOOD_KINDS
};

extern const char *const flood_names[FLOOD_KINDS];

int serve_flood(int argc, char **argv);
