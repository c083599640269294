#include "crypto/token.h"

#include "base/rand.h"
#include "crypto_vectors.h"

static struct og_addr host_of(json_t *input)
{
	struct og_addr a;

	cr_assert_eq(og_addr_parse(&a, vec_text(input, "host")), 0);
	a.port = 4711;
	return a;
}

Test(token, vectors_of_issued_and_previous_tokens_match)
{
	json_t *all = vec_dht("tokens");
	struct og_token t = {0};
	uint8_t got[OG_TOKEN_BYTES];
	size_t i, nb = 0;
	json_t *v;

	memset(t.secrets[0], 0xa0, 32);
	memset(t.secrets[1], 0xa1, 32);
	json_array_foreach(all, i, v)
	{
		const char *name = vec_text(v, "name");
		struct og_addr addr;
		struct vec_bytes want;

		if (strcmp(name, "rotation") == 0)
			continue;
		addr = host_of(vec_get(v, "input"));
		want = vec_hex(vec_get(v, "expected"), "token");
		cr_assert(og_token_valid(&t, &addr, want.data), "%s", name);
		if (strncmp(name, "issued", 6) == 0) {
			og_token_issue(&t, &addr, got);
			VEC_EQ(got, want, name);
		}
		nb++;
	}
	cr_assert_eq(nb, 6);
}

Test(token, rotation_without_fresh_bytes_is_the_vectors)
{
	json_t *pairs =
		vec_get(vec_get(vec_named(vec_dht("tokens"), "rotation"), "expected"), "pairs");
	struct og_token t = {0};
	size_t i;
	json_t *pair;

	memset(t.secrets[0], 0xa0, 32);
	memset(t.secrets[1], 0xa1, 32);
	json_array_foreach(pairs, i, pair)
	{
		for (size_t k = 0; k < 2; k++) {
			struct vec_bytes want =
				vec_unhex(json_string_value(json_array_get(pair, k)));

			VEC_EQ(t.secrets[k], want, "secret");
		}
		og_token_rotate(&t, NULL, 0);
	}
	cr_assert_eq(i, 4);
}

Test(token, address_tokens_of_hole_punching_match_the_vectors)
{
	json_t *all = vec_dht("holepunch");
	uint8_t got[OG_TOKEN_BYTES];
	size_t i, nb = 0;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		struct og_addr addr;

		if (strncmp(vec_text(v, "name"), "token-", 6) != 0)
			continue;
		addr = host_of(vec_get(v, "input"));
		og_token_of_host(got, vec_hex(vec_get(v, "input"), "local_secret").data, &addr);
		VEC_EQ_HEX(got, vec_get(v, "expected"), "token");
		nb++;
	}
	cr_assert_eq(nb, 2);
}

struct fixture {
	struct og_rand rand;
	struct og_token t;
	struct og_addr addr;
	uint8_t token[OG_TOKEN_BYTES];
};

static struct fixture issued(void)
{
	struct fixture f;

	cr_assert_eq(og_crypto_init(), 0);
	og_rand_seeded(&f.rand, 1);
	og_token_init(&f.t, &f.rand);
	cr_assert_eq(og_addr_parse(&f.addr, "10.1.2.3:4"), 0);
	og_token_tick(&f.t, &f.rand, 1000);
	og_token_issue(&f.t, &f.addr, f.token);
	return f;
}

Test(token, is_bound_to_the_host_and_not_to_the_port)
{
	struct fixture f = issued();
	struct og_addr other = f.addr;

	other.port = 5;
	cr_assert(og_token_valid(&f.t, &other, f.token));
	other.ip[3] ^= 1;
	cr_assert_not(og_token_valid(&f.t, &other, f.token));
}

Test(token, any_changed_bit_is_refused)
{
	struct fixture f = issued();

	for (size_t bit = 0; bit < 8 * sizeof(f.token); bit++) {
		f.token[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert_not(og_token_valid(&f.t, &f.addr, f.token));
		f.token[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

Test(token, lives_at_least_one_and_at_most_two_periods)
{
	struct fixture f = issued();

	og_token_tick(&f.t, &f.rand, 1000 + OG_TOKEN_ROTATE_NS - 1);
	cr_assert(og_token_valid(&f.t, &f.addr, f.token));
	og_token_tick(&f.t, &f.rand, 1000 + OG_TOKEN_ROTATE_NS);
	cr_assert(og_token_valid(&f.t, &f.addr, f.token));
	og_token_tick(&f.t, &f.rand, 1000 + 2 * OG_TOKEN_ROTATE_NS);
	cr_assert_not(og_token_valid(&f.t, &f.addr, f.token));
}

Test(token, does_not_outlive_a_long_silence)
{
	struct fixture f = issued();

	og_token_tick(&f.t, &f.rand, 1000 + 3600 * OG_NS_PER_S);
	cr_assert_not(og_token_valid(&f.t, &f.addr, f.token));
}

Test(token, the_same_secrets_rotate_differently)
{
	struct fixture a = issued();
	struct fixture b = a;

	og_rand_seeded(&b.rand, 2);
	og_token_tick(&a.t, &a.rand, 1000 + OG_TOKEN_ROTATE_NS);
	og_token_tick(&b.t, &b.rand, 1000 + OG_TOKEN_ROTATE_NS);
	cr_assert_arr_eq(a.t.secrets[0], b.t.secrets[0], 32);
	cr_assert_arr_neq(a.t.secrets[1], b.t.secrets[1], 32);
}
