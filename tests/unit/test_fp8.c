#include "gpu/fp8.h"

#include "base/def.h"
#include "base/rand.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>

/* By the definition. */
static double value_of(uint32_t code)
{
	uint32_t exponent = code >> 3 & 15, mantissa = code & 7;
	double size = exponent ? ldexp(1 + mantissa / 8.0, (int)exponent - 7) : ldexp(mantissa, -9);

	return code & 0x80 ? -size : size;
}

Test(fp8, every_code_is_its_value_and_goes_back)
{
	for (uint32_t code = 0; code < 256; code++) {
		float v = og_e4m3_to_f32((uint8_t)code);

		if ((code & 0x7f) == OG_E4M3_NAN) {
			cr_expect(isnan(v));
			continue;
		}
		cr_expect_eq((double)v, value_of(code), "code %#x: %g", code, (double)v);
		cr_expect_eq(signbit(v) != 0, code >= 0x80);
		cr_expect_eq(og_f32_to_e4m3(v), code);
	}
}

Test(fp8, the_middle_of_two_codes_goes_to_the_even_one)
{
	for (uint32_t code = 0; code < 0x7e; code++) {
		float low = og_e4m3_to_f32((uint8_t)code),
		      high = og_e4m3_to_f32((uint8_t)(code + 1));
		float middle = (low + high) / 2;
		uint32_t even = code + code % 2;

		cr_expect_eq(og_f32_to_e4m3(middle), even, "after %#x", code);
		cr_expect_eq(og_f32_to_e4m3(-middle), even | 0x80, "after %#x", code);
		cr_expect_eq(og_f32_to_e4m3(nextafterf(middle, 0)), code);
		cr_expect_eq(og_f32_to_e4m3(nextafterf(middle, 1000)), code + 1);
	}
}

Test(fp8, what_is_too_large_saturates_and_nan_stays)
{
	static const float large[] = {448, 449, 464, 480, 1e9f, INFINITY};

	for (size_t i = 0; i < OG_ARRAY_LEN(large); i++) {
		cr_expect_eq(og_f32_to_e4m3(large[i]), 0x7e);
		cr_expect_eq(og_f32_to_e4m3(-large[i]), 0xfe);
	}
	cr_expect_eq(og_f32_to_e4m3(NAN), OG_E4M3_NAN);
	cr_expect_eq(og_f32_to_e4m3(1e-30f), 0);
	cr_expect_eq(og_f32_to_e4m3(-1e-45f), 0x80);
}

/* No code is nearer than the one that is chosen. */
Test(fp8, any_value_goes_to_the_nearest_code)
{
	struct og_rand r;

	og_rand_seeded(&r, 1);
	for (int i = 0; i < 20000; i++) {
		float v = og_f32_from_bits(og_rand_below(&r, og_f32_bits(500.0f)));
		double got = fabs(value_of(og_f32_to_e4m3(v)) - (double)v);

		for (uint32_t code = 0; code < OG_E4M3_NAN; code++)
			cr_assert_leq(got, fabs(value_of(code) - (double)v), "%g", (double)v);
	}
}

Test(fp8, the_scale_of_a_row_makes_its_largest_value_the_largest_code)
{
	float row[3] = {0.5f, -7, 3};
	float scale = og_e4m3_row_scale(row, 3);

	cr_expect_eq(og_f32_to_e4m3(row[1] / scale), 0xfe);
	row[1] = row[0] = row[2] = 0;
	cr_expect_eq(og_e4m3_row_scale(row, 3), 0);
	row[2] = INFINITY;
	cr_expect(isnan(og_e4m3_row_scale(row, 3)));
	row[2] = NAN;
	cr_expect(isnan(og_e4m3_row_scale(row, 3)));
}

Test(fp8, the_scale_of_a_key_is_the_least_power_of_two_that_fits)
{
	static const struct {
		float largest, scale;
	} cases[] = {{448, 1}, {449, 2}, {224, 0.5f}, {225, 1}, {0, 0x1p-24f}, {1e-9f, 0x1p-24f},
		{57344, 128}, {60000, 128}, {INFINITY, 128}, {1, 0x1p-8f}};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		float head[2] = {0.1f * cases[i].largest, -cases[i].largest};

		cr_expect_eq(og_e4m3_kv_scale(head + 1, 1), cases[i].scale, "%g",
			(double)cases[i].largest);
	}
}
