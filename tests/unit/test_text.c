#include "cli/text.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

Test(text, sizes_take_binary_units)
{
	static const struct {
		const char *in;
		int ret;
		uint64_t want;
	} cases[] = {
		{"0", 0, 0},
		{"4096", 0, 4096},
		{"4KiB", 0, 4096},
		{"1 MiB", 0, 1 << 20},
		{"4GiB", 0, 4ull << 30},
		{"2T", 0, 2ull << 40},
		{"", -EINVAL, 0},
		{"MiB", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"1.5GiB", -EINVAL, 0},
		{"4XB", -EINVAL, 0},
		{"99999999999999999999", -ERANGE, 0},
		{"99999999999TiB", -ERANGE, 0},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		uint64_t got = 0;

		cr_expect_eq(og_text_size(&got, cases[i].in), cases[i].ret, "%s", cases[i].in);
		cr_expect_eq(got, cases[i].want, "%s", cases[i].in);
	}
}

Test(text, durations_ask_for_a_unit)
{
	uint64_t ms;

	cr_assert_eq(og_text_duration(&ms, "250ms"), 0);
	cr_assert_eq(ms, 250);
	cr_assert_eq(og_text_duration(&ms, "2m"), 0);
	cr_assert_eq(ms, 120000);
	cr_assert_eq(og_text_duration(&ms, "10"), -EINVAL);
	cr_assert_eq(og_text_duration(&ms, "10 weeks"), -EINVAL);
	cr_assert_eq(og_text_duration(&ms, "0"), 0);
}

Test(text, nearest_finds_a_slip_and_no_stranger)
{
	static const char *const words[] = {"bootstrap", "port", "public_address", "peers"};

	cr_assert_str_eq(og_text_nearest("bootsrap", words, 4), "bootstrap");
	cr_assert_str_eq(og_text_nearest("prot", words, 4), "port");
	cr_assert_str_eq(og_text_nearest("peer", words, 4), "peers");
	cr_assert_null(og_text_nearest("temperature", words, 4));
	cr_assert_eq(og_text_distance("ab", "ba"), 1);
}

Test(text, utf8_refuses_overlong_surrogate_and_cut_forms)
{
	cr_assert(og_text_is_utf8("h\xc3\xa9llo \xf0\x9f\x98\x80", 11));
	cr_assert_not(og_text_is_utf8("\xc0\x80", 2));
	cr_assert_not(og_text_is_utf8("\xed\xa0\x80", 3));
	cr_assert_not(og_text_is_utf8("\xf4\x90\x80\x80", 4));
	cr_assert_not(og_text_is_utf8("\xe2\x82", 2));
	cr_assert_not(og_text_is_utf8("\x80", 1));
}

Test(text, copy_cuts_at_a_whole_character)
{
	char out[5];

	og_text_copy(out, sizeof(out), "abc\xc3\xa9");
	cr_assert_str_eq(out, "abc");
	og_text_copy(out, sizeof(out), "ab");
	cr_assert_str_eq(out, "ab");
}
