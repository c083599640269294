#include "base/bytes.h"

#include <criterion/criterion.h>

Test(bytes, uint_takes_the_shortest_form_and_comes_back)
{
	static const struct {
		uint64_t v;
		size_t len;
	} cases[] = {{0, 1}, {252, 1}, {253, 3}, {65535, 3}, {65536, 5}, {0xffffffff, 5},
		{0x100000000, 9}, {(1ull << 53) - 1, 9}};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		uint8_t buf[9];
		struct og_writer w = og_writer_of(buf, sizeof(buf));
		struct og_reader r;

		og_write_uint(&w, cases[i].v);
		cr_assert(og_writer_ok(&w));
		cr_assert_eq(og_writer_len(&w), cases[i].len);
		cr_assert_eq(og_uint_bytes(cases[i].v), cases[i].len);
		r = og_reader_of(buf, og_writer_len(&w));
		cr_assert_eq(og_read_uint(&r), cases[i].v);
		cr_assert(og_reader_ok(&r));
	}
}

Test(bytes, uint_above_2_to_53_fails)
{
	static const uint8_t over[] = {0xff, 0, 0, 0, 0, 0, 0, 0x20, 0};
	struct og_reader r = og_reader_of(over, sizeof(over));

	og_read_uint(&r);
	cr_assert_not(og_reader_ok(&r));
}

Test(bytes, a_failed_reader_stays_failed_and_gives_zero)
{
	static const uint8_t two[] = {1, 2};
	struct og_reader r = og_reader_of(two, sizeof(two));

	cr_assert_eq(og_read_le32(&r), 0);
	cr_assert_not(og_reader_ok(&r));
	cr_assert_eq(og_read_u8(&r), 0);
	cr_assert_null(og_read_bytes(&r, 0));
}

Test(bytes, a_length_near_2_to_64_does_not_wrap)
{
	static const uint8_t two[] = {1, 2};
	struct og_reader r = og_reader_of(two, sizeof(two));

	cr_assert_null(og_read_bytes(&r, UINT64_MAX));
	cr_assert_not(og_reader_ok(&r));
}

Test(bytes, buffer_longer_than_the_rest_fails)
{
	static const uint8_t three[] = {3, 1, 2};
	struct og_reader r = og_reader_of(three, sizeof(three));
	uint32_t n = 7;

	cr_assert_null(og_read_buffer(&r, &n));
	cr_assert_eq(n, 0);
	cr_assert_not(og_reader_ok(&r));
}

Test(bytes, a_full_writer_writes_nothing_more)
{
	uint8_t buf[3] = {0};
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	og_write_le16(&w, 0x0102);
	og_write_le16(&w, 0x0304);
	og_write_u8(&w, 9);
	cr_assert_not(og_writer_ok(&w));
	cr_assert_eq(og_writer_len(&w), 2);
	cr_assert_eq(buf[2], 0);
}
