#include "gpu/json.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static char err[256];
static char *kept;

/* A copy of the exact size, so that a sanitizer sees a read beyond it. */
static int parse(struct og_json *j, const char *text, size_t len)
{
	free(kept);
	kept = malloc(len + !len);
	memcpy(kept, text, len);
	err[0] = '\0';
	return og_json_init(j, "f.json", kept, len, 1000, err, sizeof(err));
}

Test(json, reads_values_of_every_kind)
{
	static const char text[] = " {\"a\": [1, -2.5e3, true, false, null, \"x\\u00e9\\n\"],\n"
				   "\"b\":{}, \"c\" : [ ] , \"a\": {\"d\": 18446744073709551615}} ";
	struct og_json j;
	uint32_t first, item;
	uint64_t u = 0;
	int64_t i = 0;
	double f = 0;
	bool b = false;
	struct og_text s;

	cr_assert_eq(parse(&j, text, strlen(text)), 0, "%s", err);
	cr_expect_eq(og_json_count(&j, OG_JSON_ROOT), 4);
	first = og_json_first(&j, OG_JSON_ROOT);
	cr_expect(og_text_is(og_json_text(&j, first), "a"));
	cr_expect_eq(og_json_count(&j, first + 1), 6);
	item = og_json_first(&j, first + 1);
	cr_expect_eq(og_json_u64(&j, item, &u), 0);
	cr_expect_eq(u, 1);
	item = og_json_next(&j, item);
	cr_expect_eq(og_json_u64(&j, item, &u), -EBADMSG);
	cr_expect_eq(og_json_f64(&j, item, &f), 0);
	cr_expect_eq(f, -2500);
	item = og_json_next(&j, item);
	cr_expect_eq(og_json_bool(&j, item, &b), 0);
	cr_expect(b);
	item = og_json_next(&j, og_json_next(&j, item));
	cr_expect_eq(og_json_bool(&j, item, &b), -ENOENT);
	item = og_json_next(&j, item);
	cr_expect_eq(og_json_string(&j, item, &s), 0);
	cr_expect(og_text_is(s, "xé\n"));
	cr_expect_eq(og_json_next(&j, item), 0);
	item = og_json_get(&j, OG_JSON_ROOT, "a");
	cr_expect_eq(og_json_kind(&j, item), OG_JSON_OBJECT, "the last of two members wins");
	cr_expect_eq(og_json_u64(&j, og_json_get(&j, item, "d"), &u), 0);
	cr_expect_eq(u, UINT64_MAX);
	cr_expect_eq(og_json_i64(&j, og_json_get(&j, item, "d"), &i), -EBADMSG);
	cr_expect_eq(og_json_u64(&j, og_json_get(&j, item, "none"), &u), -ENOENT);
	item = og_json_get(&j, og_json_get(&j, OG_JSON_ROOT, "no"), "where");
	cr_expect_eq(item, OG_JSON_NONE);
	cr_expect_eq(og_json_first(&j, og_json_get(&j, OG_JSON_ROOT, "c")), 0);
	og_json_fini(&j);
}

Test(json, bounds_integers)
{
	static const struct {
		const char *text;
		int u_ret, i_ret;
		int64_t i;
	} cases[] = {
		{"0", 0, 0, 0},
		{"-1", -EBADMSG, 0, -1},
		{"9223372036854775807", 0, 0, INT64_MAX},
		{"9223372036854775808", 0, -EBADMSG, 0},
		{"-9223372036854775808", -EBADMSG, 0, INT64_MIN},
		{"-9223372036854775809", -EBADMSG, -EBADMSG, 0},
		{"18446744073709551616", -EBADMSG, -EBADMSG, 0},
		{"1.0", -EBADMSG, -EBADMSG, 0},
		{"1e3", -EBADMSG, -EBADMSG, 0},
		{"NaN", -EBADMSG, -EBADMSG, 0},
	};

	for (size_t c = 0; c < OG_ARRAY_LEN(cases); c++) {
		struct og_json j;
		uint64_t u;
		int64_t i = 0;

		cr_assert_eq(parse(&j, cases[c].text, strlen(cases[c].text)), 0, "%s", err);
		cr_expect_eq(
			og_json_u64(&j, OG_JSON_ROOT, &u), cases[c].u_ret, "%s", cases[c].text);
		cr_expect_eq(
			og_json_i64(&j, OG_JSON_ROOT, &i), cases[c].i_ret, "%s", cases[c].text);
		cr_expect(cases[c].i_ret < 0 || i == cases[c].i, "%s", cases[c].text);
		og_json_fini(&j);
	}
}

Test(json, refuses_what_is_no_json)
{
	static const struct {
		const char *text;
		const char *why;
	} cases[] = {
		{"", "byte 0: the document ends where a value is missing"},
		{"[1,]", "byte 3: a value is missing"},
		{"[1 2]", "byte 3: a comma or ] is missing"},
		{"[1}", "byte 2: a comma or ] is missing"},
		{"{\"a\":1]", "byte 6: a comma or } is missing"},
		{"{a:1}", "byte 1: a member's name is missing"},
		{"{\"a\" 1}", "byte 5: a colon is missing"},
		{"{\"a\":1,}", "byte 7: a member's name is missing"},
		{"{\"a\":}", "byte 5: a value is missing"},
		{"{\"a\"", "byte 4: a colon is missing"},
		{"[\"a", "ends inside a string"},
		{"[\"a\\", "ends inside a string"},
		{"\"\\q\"", "an unknown escape"},
		{"\"\\u12g4\"", "four hexadecimal digits"},
		{"\"\\u12\"", "four hexadecimal digits"},
		{"\"\\ud800\"", "half of a surrogate pair"},
		{"\"\\ud800\\n\"", "half of a surrogate pair"},
		{"\"\\udc00\\ud800\"", "half of a surrogate pair"},
		{"\"a\nb\"", "a control character"},
		{"\"\xc0\x80\"", "not UTF-8"},
		{"\"\xed\xa0\x80\"", "not UTF-8"},
		{"\"\xf0\x9f\x99\"", "not UTF-8"},
		{"\"12345678\x80\"", "not UTF-8"},
		{"\"\\\xff\"", "not UTF-8"},
		{"01", "more follows"},
		{"-", "not a number"},
		{"1.", "not a number"},
		{"1e", "not a number"},
		{".5", "a value is missing"},
		{"tru", "a value is missing"},
		{"[] []", "byte 3: more follows"},
		{"\xef\xbb\xbf{}", "a value is missing"},
	};
	struct og_json j;

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		cr_expect_eq(parse(&j, cases[i].text, strlen(cases[i].text)), -EBADMSG, "%s",
			cases[i].text);
		cr_expect(strstr(err, cases[i].why) != NULL, "%s: %s", cases[i].text, err);
		cr_expect(strncmp(err, "f.json: byte ", 13) == 0, "%s", err);
	}
}

Test(json, bounds_depth_and_nodes)
{
	char text[4096];
	struct og_json j;

	memset(text, '[', OG_JSON_DEPTH_MAX);
	memset(text + OG_JSON_DEPTH_MAX, ']', OG_JSON_DEPTH_MAX);
	cr_expect_eq(parse(&j, text, 2 * OG_JSON_DEPTH_MAX), 0, "%s", err);
	og_json_fini(&j);
	memset(text, '[', OG_JSON_DEPTH_MAX + 1);
	cr_expect_eq(parse(&j, text, OG_JSON_DEPTH_MAX + 1), -EBADMSG);
	cr_expect(strstr(err, "deeper") != NULL, "%s", err);
	for (int i = 0; i < 1001; i++)
		memcpy(text + 2 * i, "1,", 2);
	text[0] = '[';
	text[1] = ' ';
	text[2000] = '1';
	text[2001] = ']';
	cr_expect_eq(parse(&j, text, 2002), -E2BIG);
	cr_expect(strstr(err, "more than 1000 values") != NULL, "%s", err);
	memmove(text + 2, text + 4, 1998);
	cr_expect_eq(parse(&j, text, 2000), 0, "%s", err);
	cr_expect_eq(og_json_count(&j, OG_JSON_ROOT), 999);
	og_json_fini(&j);
}

/* ---- Against jansson: the same documents, refused or read as the same values. ---- */

static void expect_same(const struct og_json *j, uint32_t node, json_t *want)
{
	uint32_t item = og_json_first(j, node);
	struct og_text s = og_json_text(j, node);
	const char *name;
	json_t *v;
	double f;
	size_t i;

	switch (json_typeof(want)) {
	case JSON_OBJECT:
		cr_assert_eq(og_json_kind(j, node), OG_JSON_OBJECT);
		json_object_foreach(want, name, v)
		{
			expect_same(j, og_json_get(j, node, name), v);
		}
		break;
	case JSON_ARRAY:
		cr_assert_eq(og_json_count(j, node), json_array_size(want));
		json_array_foreach(want, i, v)
		{
			expect_same(j, item, v);
			item = og_json_next(j, item);
		}
		break;
	case JSON_STRING:
		cr_assert_eq(s.len_bytes, json_string_length(want));
		cr_assert_eq(memcmp(s.data, json_string_value(want), s.len_bytes), 0);
		break;
	case JSON_INTEGER:
	case JSON_REAL:
		cr_assert_eq(og_json_f64(j, node, &f), 0);
		cr_assert_eq(f, json_number_value(want));
		break;
	default:
		cr_assert_eq(og_json_kind(j, node), json_is_true(want)    ? OG_JSON_TRUE
						    : json_is_false(want) ? OG_JSON_FALSE
									  : OG_JSON_NULL);
	}
}

/* Bytes from a small alphabet that often make JSON. */
static size_t make_up(char *out, uint64_t *seed)
{
	static const char *const parts[] = {"{", "}", "[", "]", ",", ":", "\"a\"", "\"b\"", "1",
		"-0.5e-2", "true", "null", "\"\\u00e9\"", "\"é\"", "\"\\ud83d\\ude00\"", " ",
		"{\"a\":", "[1,", "\"", "\\", "\xc3", "\n"};
	size_t len = 0;
	uint32_t nb;

	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	nb = 1 + (uint32_t)(*seed >> 60);
	for (uint32_t i = 0; i < nb; i++) {
		const char *part;

		*seed = *seed * 6364136223846793005u + 1442695040888963407u;
		part = parts[(*seed >> 33) % OG_ARRAY_LEN(parts)];
		memcpy(out + len, part, strlen(part));
		len += strlen(part);
	}
	return len;
}

Test(json, agrees_with_jansson)
{
	uint64_t seed = 1;
	uint32_t accepted = 0;
	char text[512];

	for (int i = 0; i < 200000; i++) {
		size_t len = make_up(text, &seed);
		json_t *want = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		struct og_json j;
		int ret = parse(&j, text, len);

		cr_assert_eq(ret == 0, want != NULL, "%.*s: %s", (int)len, text, err);
		if (ret == 0) {
			expect_same(&j, OG_JSON_ROOT, want);
			og_json_fini(&j);
			accepted++;
		}
		json_decref(want);
	}
	cr_expect_gt(accepted, 5000, "%u", accepted);
}
