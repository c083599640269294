/*
 * token.h: round-trip tokens, which prove that a requester receives at the address it sends from.
 *
 * A token is a MAC of the requester's host. It is good for at least one and at most two rotation
 * periods. Fresh randomness enters at each rotation, so one leaked secret tells nothing about
 * tokens two periods away.
 *
 * Source:  dht.md 5.1.
 * Units:   now_ns as everywhere.
 * Threads: one owner.
 * Memory:  a plain value; embed it.
 */
#pragma once
#include "base/addr.h"
#include "crypto/hash.h"

struct og_rand;

enum { OG_TOKEN_BYTES = 32 };
#define OG_TOKEN_ROTATE_NS (7500 * OG_NS_PER_MS)

struct og_token {
	uint8_t secrets[2][32]; /* previous, current */
	uint64_t rotate_at_ns;  /* 0: the first tick starts the period */
};

void og_token_init(struct og_token *t, struct og_rand *rand);
/* Rotate if it is time. After a long silence nothing issued before it is valid any more. */
void og_token_tick(struct og_token *t, struct og_rand *rand, uint64_t now_ns);
void og_token_issue(
	const struct og_token *t, const struct og_addr *addr, uint8_t out[OG_TOKEN_BYTES]);
/* Under the current or the previous secret; the port plays no part. In constant time. */
bool og_token_valid(
	const struct og_token *t, const struct og_addr *addr, const uint8_t token[OG_TOKEN_BYTES]);

/* One rotation: the new current secret is B2(previous || fresh). */
void og_token_rotate(struct og_token *t, const uint8_t *fresh, size_t fresh_bytes);
/* The MAC itself; with a secret of its own it is also the address token of hole punching (9.7). */
void og_token_of_host(
	uint8_t out[OG_TOKEN_BYTES], const uint8_t secret[32], const struct og_addr *addr);
