#include "gpu/text_out.h"

#include <criterion/criterion.h>

static struct og_infer_params params;
static struct og_text_out out;
static char shown[4096];
static size_t shown_bytes;

static void start(const char *stop_a, const char *stop_b)
{
	og_infer_params_default(&params);
	params.nb_stop = (uint8_t)(!!stop_a + !!stop_b);
	if (stop_a)
		strcpy(params.stop[0], stop_a);
	if (stop_b)
		strcpy(params.stop[1], stop_b);
	og_text_out_init(&out, &params);
	shown_bytes = 0;
	shown[0] = '\0';
}

static void take(uint32_t cap)
{
	uint32_t n;

	while ((n = og_text_out_take(&out, shown + shown_bytes, cap)) > 0)
		shown_bytes += n;
	shown[shown_bytes] = '\0';
}

static bool push(const char *bytes)
{
	bool stopped = og_text_out_push(&out, (struct og_text){bytes, (uint32_t)strlen(bytes)});

	take(256);
	return stopped;
}

Test(text_out, holds_bytes_back_until_the_character_is_whole)
{
	start(NULL, NULL);
	push("a\xf0\x9f");
	cr_expect_str_eq(shown, "a");
	push("\x98");
	cr_expect_str_eq(shown, "a");
	push("\x80!");
	cr_expect_str_eq(shown, "a😀!");
}

Test(text_out, replaces_what_is_no_character)
{
	static const struct {
		const char *in;
		const char *want;
	} cases[] = {
		{"\x80z", "\ufffdz"}, {"\xc0\xaf", "\ufffd\ufffd"}, {"\xe2\x82z", "\ufffdz"},
		{"\xe0\x80\x80", "\ufffd\ufffd\ufffd"},           /* overlong */
		{"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},           /* a surrogate */
		{"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"}, /* beyond U+10FFFF */
		{"\xf0\x9f\x98\xc3\xa9", "\ufffdé"}, {"\xff", "\ufffd"},
		{"\xe2\x82", "\ufffd"}, /* cut off by the end */
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		start(NULL, NULL);
		push(cases[i].in);
		og_text_out_finish(&out);
		take(256);
		cr_expect_str_eq(shown, cases[i].want, "case %zu", i);
	}
}

Test(text_out, never_cuts_a_character_between_events)
{
	start(NULL, NULL);
	og_text_out_push(&out, (struct og_text){"ééé😀é", 12});
	take(5);
	cr_expect_str_eq(shown, "ééé😀é");
	og_text_out_push(&out, (struct og_text){"é😀", 6});
	cr_expect_eq(og_text_out_take(&out, shown, 5), 2);
}

Test(text_out, shows_the_text_before_a_stop_string_only)
{
	start("END", NULL);
	cr_expect_not(push("one "));
	cr_expect_str_eq(shown, "one ");
	cr_expect_not(push("two E"));
	cr_expect_str_eq(shown, "one two ");
	cr_expect_not(push("N"));
	cr_expect(push("D three"));
	og_text_out_finish(&out);
	take(256);
	cr_expect_str_eq(shown, "one two ");
}

Test(text_out, shows_what_only_looked_like_a_stop_string)
{
	start("aab", "x\ny");
	cr_expect_not(push("a"));
	cr_expect_not(push("a"));
	cr_expect_str_eq(shown, "");
	cr_expect_not(push("a"));
	cr_expect_str_eq(shown, "a");
	cr_expect_not(push("c x\n"));
	cr_expect_str_eq(shown, "aaac ");
	cr_expect_not(push("z"));
	og_text_out_finish(&out);
	take(256);
	cr_expect_str_eq(shown, "aaac x\nz");
}

Test(text_out, cuts_at_the_first_of_several_stop_strings)
{
	start("later", "now");
	cr_expect(push("do it now, not later"));
	cr_expect_str_eq(shown, "do it ");
}

Test(text_out, shows_what_was_held_back_at_the_end)
{
	start("END", NULL);
	push("the EN");
	og_text_out_finish(&out);
	take(256);
	cr_expect_str_eq(shown, "the EN");
}

Test(text_out, has_room_for_the_worst_token)
{
	char bytes[OG_TOKEN_MAX_BYTES];

	start("\xf0\x9f\x98\x80nostop", NULL);
	memset(bytes, 0xff, sizeof(bytes));
	for (int i = 0; i < 3; i++) {
		og_text_out_push(&out, (struct og_text){bytes, sizeof(bytes)});
		cr_expect_eq(out.ready_bytes, 3 * sizeof(bytes) + (i > 0 ? 9 : 0));
		shown_bytes = 0;
		take(256);
		og_text_out_push(&out, (struct og_text){"\xf0\x9f\x98\x80nosto", 9});
		cr_expect_eq(out.ready_bytes, 0);
	}
}
