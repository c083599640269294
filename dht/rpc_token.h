/* rpc_token.h: until crypto/token.h is merged. */
#pragma once
#include "base/addr.h"
#include "base/rand.h"

#include <sodium.h>

struct og_token {
	uint8_t secret[2][32];
	uint64_t rotate_ns;
};

static inline void og_token_init(struct og_token *t, struct og_rand *rand)
{
	og_rand_fill(rand, t->secret, sizeof(t->secret));
	t->rotate_ns = 0;
}

static inline void og_token_tick(struct og_token *t, struct og_rand *rand, uint64_t now_ns)
{
	if (t->rotate_ns == 0)
		t->rotate_ns = now_ns + 7500 * OG_NS_PER_MS;
	if (now_ns < t->rotate_ns)
		return;
	t->rotate_ns = now_ns + 7500 * OG_NS_PER_MS;
	memcpy(t->secret[0], t->secret[1], 32);
	og_rand_fill(rand, t->secret[1], 32);
}

static inline void token_under(const uint8_t secret[32], const struct og_addr *a, uint8_t out[32])
{
	char text[OG_ADDR_TEXT_BYTES];
	size_t n = og_addr_format_host(a, text);

	crypto_generichash(out, 32, (const uint8_t *)text, n, secret, 32);
}

static inline void og_token_issue(
	const struct og_token *t, const struct og_addr *a, uint8_t out[32])
{
	token_under(t->secret[1], a, out);
}

static inline bool og_token_valid(
	const struct og_token *t, const struct og_addr *a, const uint8_t token[32])
{
	uint8_t want[2][32];

	token_under(t->secret[0], a, want[0]);
	token_under(t->secret[1], a, want[1]);
	return sodium_memcmp(want[0], token, 32) == 0 || sodium_memcmp(want[1], token, 32) == 0;
}
