#include "crypto/token.h"

#include "base/rand.h"

#include <sodium.h>
#include <string.h>

void og_token_init(struct og_token *t, struct og_rand *rand)
{
	memset(t, 0, sizeof(*t));
	og_rand_fill(rand, t->secrets, sizeof(t->secrets));
}

void og_token_rotate(struct og_token *t, const uint8_t *fresh, size_t fresh_bytes)
{
	uint8_t next[32];
	struct og_span parts[] = {{t->secrets[0], sizeof(t->secrets[0])}, {fresh, fresh_bytes}};

	og_blake2b(next, parts, OG_ARRAY_LEN(parts));
	memcpy(t->secrets[0], t->secrets[1], sizeof(t->secrets[0]));
	memcpy(t->secrets[1], next, sizeof(next));
	sodium_memzero(next, sizeof(next));
}

static void rotate_fresh(struct og_token *t, struct og_rand *rand)
{
	uint8_t fresh[32];

	og_rand_fill(rand, fresh, sizeof(fresh));
	og_token_rotate(t, fresh, sizeof(fresh));
	sodium_memzero(fresh, sizeof(fresh));
}

void og_token_tick(struct og_token *t, struct og_rand *rand, uint64_t now_ns)
{
	if (t->rotate_at_ns == 0) {
		t->rotate_at_ns = now_ns + OG_TOKEN_ROTATE_NS;
		return;
	}
	if (now_ns < t->rotate_at_ns)
		return;
	rotate_fresh(t, rand);
	if (now_ns - t->rotate_at_ns >= OG_TOKEN_ROTATE_NS)
		rotate_fresh(t, rand);
	t->rotate_at_ns = now_ns + OG_TOKEN_ROTATE_NS;
}

void og_token_of_host(
	uint8_t out[OG_TOKEN_BYTES], const uint8_t secret[32], const struct og_addr *addr)
{
	char host[OG_ADDR_TEXT_BYTES];
	struct og_span part = {host, og_addr_format_host(addr, host)};

	og_blake2b_keyed(out, secret, 32, &part, 1);
}

void og_token_issue(
	const struct og_token *t, const struct og_addr *addr, uint8_t out[OG_TOKEN_BYTES])
{
	og_token_of_host(out, t->secrets[1], addr);
}

bool og_token_valid(
	const struct og_token *t, const struct og_addr *addr, const uint8_t token[OG_TOKEN_BYTES])
{
	uint8_t want[2][OG_TOKEN_BYTES];
	int current, previous;

	og_token_of_host(want[1], t->secrets[1], addr);
	og_token_of_host(want[0], t->secrets[0], addr);
	current = sodium_memcmp(want[1], token, OG_TOKEN_BYTES);
	previous = sodium_memcmp(want[0], token, OG_TOKEN_BYTES);
	return (current == 0) | (previous == 0);
}
