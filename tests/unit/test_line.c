#include "cluster/line.h"

#include <criterion/criterion.h>
#include <string.h>

struct got {
	char lines[16][64];
	int n;
};

static bool collect(void *ctx, char *line, size_t len)
{
	struct got *g = ctx;

	cr_assert_eq(strlen(line), len);
	memcpy(g->lines[g->n++], line, len + 1);
	return true;
}

static void feed(struct og_line_buffer *b, struct got *g, const char *text)
{
	cr_assert_eq(og_line_feed(b, text, strlen(text), collect, g), 0);
}

Test(line, is_the_same_whatever_the_pieces)
{
	static const char text[] = "one\r\n\n\r\ntwo\nthree";

	for (size_t cut = 0; cut < sizeof(text); cut++) {
		struct og_line_buffer b;
		struct got g = {0};

		og_line_init(&b, 100);
		cr_assert_eq(og_line_feed(&b, text, cut, collect, &g), 0);
		cr_assert_eq(og_line_feed(&b, text + cut, sizeof(text) - 1 - cut, collect, &g), 0);
		cr_assert_eq(g.n, 2); /* an unterminated last line does not count */
		cr_assert_str_eq(g.lines[0], "one");
		cr_assert_str_eq(g.lines[1], "two");
		og_line_fini(&b);
	}
}

Test(line, too_long_is_skipped_to_its_end_and_counted)
{
	struct og_line_buffer b;
	struct got g = {0};

	og_line_init(&b, 4);
	feed(&b, &g, "123");
	feed(&b, &g, "45");
	feed(&b, &g, "6789");
	cr_assert_eq(b.skipped, 1);
	feed(&b, &g, "x\nabcd\nabcde\nef\n");
	cr_assert_eq(b.skipped, 2);
	cr_assert_eq(g.n, 2);
	cr_assert_str_eq(g.lines[0], "abcd");
	cr_assert_str_eq(g.lines[1], "ef");
	cr_assert_leq(b.cap_bytes, 1024);
	og_line_fini(&b);
}
