#include "crypto/holepunch.h"

#include "crypto_vectors.h"

#include <errno.h>

Test(holepunch, box_vectors_seal_and_open)
{
	json_t *all = vec_dht("holepunch");
	size_t i, nb = 0;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		json_t *in = vec_get(v, "input");
		struct vec_bytes plain, want;
		uint8_t *secret, *box, *text;
		size_t n;

		if (!json_object_get(in, "secret"))
			continue;
		secret = vec_hex(in, "secret").data;
		plain = vec_hex(vec_get(v, "expected"), "plain");
		want = vec_hex(vec_get(v, "expected"), "encrypted");
		cr_assert_eq(want.n, plain.n + OG_HOLEPUNCH_OVERHEAD);
		box = malloc(want.n);
		og_holepunch_seal(box, secret, vec_hex(in, "nonce").data, plain.data, plain.n);
		VEC_EQ(box, want, "box");
		cr_assert_eq(og_holepunch_open(box, want.n, secret, &text, &n), 0);
		cr_assert_eq(n, plain.n);
		VEC_EQ(text, plain, "plain");
		free(box);
		nb++;
	}
	cr_assert_eq(nb, 9);
}

Test(holepunch, changed_and_short_boxes_are_refused)
{
	uint8_t secret[32] = {1}, nonce[OG_HOLEPUNCH_NONCE_BYTES] = {2};
	uint8_t box[OG_HOLEPUNCH_OVERHEAD + 4], copy[sizeof(box)];
	uint8_t *text;
	size_t n;

	cr_assert_eq(og_crypto_init(), 0);
	og_holepunch_seal(box, secret, nonce, (const uint8_t *)"abcd", 4);
	for (size_t i = 0; i < sizeof(box); i++) {
		memcpy(copy, box, sizeof(box));
		copy[i] ^= 0x40;
		cr_assert_eq(og_holepunch_open(copy, sizeof(copy), secret, &text, &n), -EBADMSG);
		memcpy(copy, box, sizeof(box));
		cr_assert_eq(og_holepunch_open(copy, i, secret, &text, &n), -EBADMSG);
	}
}
