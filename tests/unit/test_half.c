#include "gpu/half.h"

#include <criterion/criterion.h>
#include <math.h>

Test(half, keeps_every_fp16_value)
{
	for (uint32_t h = 0; h <= 0xffff; h++) {
		float f = og_f16_to_f32((uint16_t)h);

		if (isnan(f))
			cr_assert((h & 0x7fff) > 0x7c00);
		else
			cr_assert_eq(og_f32_to_f16(f), h, "%04x became %04x", h, og_f32_to_f16(f));
	}
}

Test(half, rounds_to_the_nearest_fp16_and_ties_to_even)
{
	static const struct {
		float in;
		uint16_t want;
	} cases[] = {
		{1.0f, 0x3c00},
		{1.0f + 0x1p-11f, 0x3c00}, /* a tie: even below */
		{1.0f + 0x3p-11f, 0x3c02}, /* a tie: even above */
		{65504.0f, 0x7bff},
		{65519.996f, 0x7bff},
		{65520.0f, 0x7c00},
		{0x1p-24f, 0x0001},
		{0x1p-25f, 0x0000},
		{-0x1.8p-24f, 0x8002},
		{0x1.ff8p-15f, 0x03ff},
		{0x1.ffcp-15f, 0x0400}, /* a tie: up into the normal range */
		{-INFINITY, 0xfc00},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		cr_expect_eq(og_f32_to_f16(cases[i].in), cases[i].want, "%a gave %04x",
			(double)cases[i].in, og_f32_to_f16(cases[i].in));
	cr_expect(isnan(og_f16_to_f32(og_f32_to_f16(NAN))));
}

Test(half, rounds_to_the_nearest_bf16)
{
	cr_expect_eq(og_f32_to_bf16(1.0f), 0x3f80);
	cr_expect_eq(og_f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);
	cr_expect_eq(og_f32_to_bf16(1.0f + 0x3p-8f), 0x3f82);
	cr_expect_eq(og_bf16_to_f32(0xc000), -2.0f);
	cr_expect(isnan(og_bf16_to_f32(og_f32_to_bf16(NAN))));
}
