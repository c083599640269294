/*
 * flood_make.h: the datagrams of a flood. They differ where their kind depends on it, so that no
 * cache of the target's helps.
 *
 * Threads: one owner.
 * Memory:  embedded.
 */
#pragma once
#include "base/rand.h"
#include "bench/load.h"
#include "crypto/job.h"
#include "crypto/keys.h"
#include "dht/wire.h"

enum { FLOOD_BYTES = 512, FLOOD_REAL_PER_S = 2000 };

enum flood_kind {
	FLOOD_GARBAGE,    /* random bytes */
	FLOOD_HALF_VALID, /* the first byte of a request, then random bytes */
	FLOOD_STRAY,      /* packets of streams that there are not */
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

struct flood_maker {
	enum flood_kind kind;
	struct og_rand rand;
	struct og_addr to;
	uint8_t public_key[OG_KEY_BYTES];
	uint8_t token[OG_DHT_TOKEN_BYTES]; /* for announces */
	uint64_t counter;
	uint16_t vary_at;  /* where the counter goes; 0: nowhere */
	struct og_job job; /* for real handshakes */
};

/* From words of a command line. 0 or -EINVAL. */
int flood_init(struct flood_maker *f, const char *kind, const char *to,
	const char *public_key) OG_MUST_CHECK;
/* FLOOD_BAD_ANNOUNCE needs a token first: the request for one, and its answer. */
uint16_t flood_ask_token(struct flood_maker *f, uint8_t out[LOAD_REQUEST_BYTES]);
int flood_take_token(struct flood_maker *f, const uint8_t *answer, size_t len_bytes) OG_MUST_CHECK;
/* One datagram; returns its bytes. */
uint16_t flood_make(struct flood_maker *f, uint8_t out[FLOOD_BYTES]);
/* Makes it another one of the kind. */
void flood_vary(struct flood_maker *f, uint8_t *data);
