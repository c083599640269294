#include "gpu/jinja_priv.h"

#include <errno.h>
#include <utf8proc.h>

typedef struct og_jinja_value value;
typedef struct og_jinja_string string;
typedef struct og_jinja_run run;
typedef struct og_jinja_args args;

/* ---- Strings. ---- */

static bool is_cased(uint32_t c)
{
	utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);

	return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT;
}

/* The mappings of one character to several, of those that texts have. */
static const char *special_upper(uint32_t c)
{
	static const struct {
		uint32_t c;
		const char *upper;
	} all[] = {{0xdf, "SS"}, {0x149, "\u02bcN"}, {0xfb00, "FF"}, {0xfb01, "FI"}, {0xfb02, "FL"},
		{0xfb03, "FFI"}, {0xfb04, "FFL"}, {0xfb05, "ST"}, {0xfb06, "ST"}};

	for (size_t i = 0; i < OG_ARRAY_LEN(all); i++)
		if (all[i].c == c)
			return all[i].upper;
	return NULL;
}

/* Greek's final sigma: behind a letter, and no letter behind it. */
static bool ends_word(const string *s, uint32_t at, uint32_t len)
{
	uint32_t before = at, n;

	while (before > 0 && (s->data[--before] & 0xc0) == 0x80)
		;
	return at > 0 && is_cased(og_jinja_char(s, before, &n)) &&
	       !(at + len < s->len && is_cased(og_jinja_char(s, at + len, &n)));
}

value og_jinja_recase(run *r, const string *s, enum og_jinja_case how)
{
	static const uint8_t marks[] = {1, 1, 1, 1, 1, 1, 1, 1};
	struct og_jinja_builder b = {0};
	bool in_word = false;
	uint32_t len;

	og_jinja_spend(r, s->len / 16);
	for (uint32_t at = 0; at < s->len; at += len) {
		uint32_t c = og_jinja_char(s, at, &len), n;
		bool upper = how == CASE_UPPER || (how == CASE_TITLE && !in_word) ||
			     (how == CASE_CAPITAL && at == 0);
		const char *special = upper ? special_upper(c) : NULL;
		const uint8_t *foreign = s->foreign && s->foreign[at] ? marks : NULL;
		char out[4];

		in_word = is_cased(c);
		if (len == 1 && c == 0xfffd) {
			og_jinja_build_part(r, &b, s, at, at + 1);
			continue;
		}
		if (special) {
			og_jinja_build(r, &b, special, (uint32_t)strlen(special), foreign);
			continue;
		}
		if (!upper && c == 0x130) {
			og_jinja_build(r, &b, "i\xcc\x87", 3, foreign);
			continue;
		}
		if (!upper && c == 0x3a3 && ends_word(s, at, len))
			c = 0x3c2;
		else if (how == CASE_UPPER)
			c = (uint32_t)utf8proc_toupper((utf8proc_int32_t)c);
		else
			c = (uint32_t)(upper ? utf8proc_totitle((utf8proc_int32_t)c)
					     : utf8proc_tolower((utf8proc_int32_t)c));
		n = og_utf8_encode(c, out);
		og_jinja_build(r, &b, out, n, foreign);
	}
	return og_jinja_built(r, &b);
}

/* Where `what` next is in s at or after `from`, or s->len + 1. */
static uint32_t find(run *r, const string *s, const string *what, uint32_t from)
{
	const char *at;

	if (from > s->len)
		return s->len + 1;
	at = memmem(s->data + from, s->len - from, what->data, what->len);
	og_jinja_spend(r, 1 + (at ? (uint32_t)(at - s->data) - from : s->len - from) / 256);
	return what->len == 0 ? from : at ? (uint32_t)(at - s->data) : s->len + 1;
}

value og_jinja_replace(run *r, const string *s, const string *from, const string *to, int64_t count)
{
	struct og_jinja_builder b = {0};
	uint32_t at = 0, len;

	while (count != 0 && at <= s->len) {
		uint32_t next = find(r, s, from, at);

		if (next > s->len)
			break;
		og_jinja_build_part(r, &b, s, at, next);
		og_jinja_build_part(r, &b, to, 0, to->len);
		at = next + from->len;
		count--;
		if (from->len == 0) { /* between all characters */
			if (at == s->len) {
				at++;
				break;
			}
			og_jinja_char(s, at, &len);
			og_jinja_build_part(r, &b, s, at, at + len);
			at += len;
		}
	}
	if (at < s->len)
		og_jinja_build_part(r, &b, s, at, s->len);
	return og_jinja_built(r, &b);
}

static value m_strip(run *r, value self, const args *a)
{
	return og_jinja_strip(
		r, self.string, og_jinja_string_arg(r, a, 0, "chars"), STRIP_LEFT | STRIP_RIGHT);
}

static value m_lstrip(run *r, value self, const args *a)
{
	return og_jinja_strip(r, self.string, og_jinja_string_arg(r, a, 0, "chars"), STRIP_LEFT);
}

static value m_rstrip(run *r, value self, const args *a)
{
	return og_jinja_strip(r, self.string, og_jinja_string_arg(r, a, 0, "chars"), STRIP_RIGHT);
}

static value m_upper(run *r, value self, const args *a)
{
	return og_jinja_recase(r, self.string, CASE_UPPER);
}

static value m_lower(run *r, value self, const args *a)
{
	return og_jinja_recase(r, self.string, CASE_LOWER);
}

static value m_title(run *r, value self, const args *a)
{
	return og_jinja_recase(r, self.string, CASE_TITLE);
}

static value m_capitalize(run *r, value self, const args *a)
{
	return og_jinja_recase(r, self.string, CASE_CAPITAL);
}

static const string *need_string(run *r, const args *a, uint32_t i)
{
	const string *s = og_jinja_string_arg(r, a, i, "argument");

	if (!s)
		og_jinja_fail(&r->trap, -EBADMSG, "a method needs a string");
	return s;
}

static value m_replace(run *r, value self, const args *a)
{
	return og_jinja_replace(r, self.string, need_string(r, a, 0), need_string(r, a, 1),
		og_jinja_int_arg(r, a, 2, "count", -1));
}

static bool has_affix(const string *s, const string *affix, bool end)
{
	return affix->len <= s->len &&
	       memcmp(s->data + (end ? s->len - affix->len : 0), affix->data, affix->len) == 0;
}

static value affix(run *r, value self, const args *a, bool end)
{
	if (a->count > 0 && a->values[0].kind == OG_JINJA_TUPLE) {
		for (uint32_t i = 0; i < a->values[0].list->len; i++) {
			value v = a->values[0].list->items[i];

			if (v.kind == OG_JINJA_STRING && has_affix(self.string, v.string, end))
				return og_jinja_bool(true);
		}
		return og_jinja_bool(false);
	}
	return og_jinja_bool(has_affix(self.string, need_string(r, a, 0), end));
}

static value m_startswith(run *r, value self, const args *a)
{
	return affix(r, self, a, false);
}

static value m_endswith(run *r, value self, const args *a)
{
	return affix(r, self, a, true);
}

static value m_removeprefix(run *r, value self, const args *a)
{
	const string *s = self.string, *affix = need_string(r, a, 0);

	return og_jinja_part(r, s, has_affix(s, affix, false) ? affix->len : 0, s->len);
}

static value m_removesuffix(run *r, value self, const args *a)
{
	const string *s = self.string, *affix = need_string(r, a, 0);

	return og_jinja_part(r, s, 0, s->len - (has_affix(s, affix, true) ? affix->len : 0));
}

/* split() without a separator: at runs of white space. */
static value split_words(run *r, const string *s, int64_t most)
{
	struct og_jinja_list *l = og_jinja_new_list(r, 0);
	uint32_t at = 0, start, len;

	og_jinja_spend(r, s->len / 16);
	for (;;) {
		while (at < s->len && og_jinja_is_space(og_jinja_char(s, at, &len)))
			at += len;
		if (at == s->len)
			return og_jinja_list_value(l, false);
		if (most-- == 0) {
			og_jinja_push(r, l,
				og_jinja_strip(r, og_jinja_part(r, s, at, s->len).string, NULL,
					STRIP_RIGHT));
			return og_jinja_list_value(l, false);
		}
		start = at;
		while (at < s->len && !og_jinja_is_space(og_jinja_char(s, at, &len)))
			at += len;
		og_jinja_push(r, l, og_jinja_part(r, s, start, at));
	}
}

static value m_split(run *r, value self, const args *a)
{
	const string *s = self.string, *at_what = og_jinja_string_arg(r, a, 0, "sep");
	int64_t most = og_jinja_int_arg(r, a, 1, "maxsplit", -1);
	struct og_jinja_list *l = og_jinja_new_list(r, 0);
	uint32_t at = 0, next;

	if (!at_what)
		return split_words(r, s, most);
	if (at_what->len == 0)
		og_jinja_fail(&r->trap, -EBADMSG, "split at nothing");
	while (most-- != 0 && (next = find(r, s, at_what, at)) <= s->len) {
		og_jinja_push(r, l, og_jinja_part(r, s, at, next));
		at = next + at_what->len;
	}
	og_jinja_push(r, l, og_jinja_part(r, s, at, s->len));
	return og_jinja_list_value(l, false);
}

static uint32_t find_last(run *r, const string *s, const string *what, uint32_t end)
{
	og_jinja_spend(r, 1 + end / 64);
	for (uint32_t at = end >= what->len ? end - what->len + 1 : 0; at > 0; at--)
		if (memcmp(s->data + at - 1, what->data, what->len) == 0)
			return at - 1;
	return s->len + 1;
}

static value m_rsplit(run *r, value self, const args *a)
{
	const string *s = self.string, *at_what = og_jinja_string_arg(r, a, 0, "sep");
	int64_t most = og_jinja_int_arg(r, a, 1, "maxsplit", -1);
	struct og_jinja_list *l = og_jinja_new_list(r, 0), *back;
	uint32_t end = s->len, at;

	if (most < 0)
		return m_split(r, self, a);
	if (!at_what || at_what->len == 0)
		og_jinja_fail(&r->trap, -EOPNOTSUPP, "rsplit without a separator");
	while (most-- != 0 && (at = find_last(r, s, at_what, end)) <= s->len) {
		og_jinja_push(r, l, og_jinja_part(r, s, at + at_what->len, end));
		end = at;
	}
	og_jinja_push(r, l, og_jinja_part(r, s, 0, end));
	back = og_jinja_new_list(r, l->len);
	for (uint32_t i = l->len; i > 0; i--)
		og_jinja_push(r, back, l->items[i - 1]);
	return og_jinja_list_value(back, false);
}

static value m_splitlines(run *r, value self, const args *a)
{
	const string *s = self.string;
	bool keep = og_jinja_truth(og_jinja_arg(a, 0, "keepends", og_jinja_bool(false)));
	struct og_jinja_list *l = og_jinja_new_list(r, 0);
	uint32_t start = 0, len;

	og_jinja_spend(r, s->len / 16);
	for (uint32_t at = 0; at < s->len; at += len) {
		uint32_t c = og_jinja_char(s, at, &len);

		if (!((c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 ||
			    c == 0x2028 || c == 0x2029))
			continue;
		len += c == '\r' && at + 1 < s->len && s->data[at + 1] == '\n';
		og_jinja_push(r, l, og_jinja_part(r, s, start, keep ? at + len : at));
		start = at + len;
	}
	if (start < s->len)
		og_jinja_push(r, l, og_jinja_part(r, s, start, s->len));
	return og_jinja_list_value(l, false);
}

static value partition(run *r, const string *s, const string *what, uint32_t at, bool last)
{
	struct og_jinja_list *l = og_jinja_new_list(r, 3);
	bool none = at > s->len;

	og_jinja_push(r, l, og_jinja_part(r, s, 0, none ? (last ? 0 : s->len) : at));
	og_jinja_push(r, l, none ? og_jinja_text(r, "") : og_jinja_part(r, s, at, at + what->len));
	og_jinja_push(
		r, l, og_jinja_part(r, s, none ? (last ? 0 : s->len) : at + what->len, s->len));
	return og_jinja_list_value(l, true);
}

static value m_partition(run *r, value self, const args *a)
{
	const string *what = need_string(r, a, 0);

	return partition(r, self.string, what, find(r, self.string, what, 0), false);
}

static value m_rpartition(run *r, value self, const args *a)
{
	const string *what = need_string(r, a, 0);

	return partition(
		r, self.string, what, find_last(r, self.string, what, self.string->len), true);
}

static value char_index(run *r, const string *s, uint32_t at)
{
	return at > s->len ? og_jinja_int(-1)
			   : og_jinja_int(og_jinja_length(og_jinja_part(r, s, 0, at)));
}

static value m_find(run *r, value self, const args *a)
{
	return char_index(r, self.string, find(r, self.string, need_string(r, a, 0), 0));
}

static value m_rfind(run *r, value self, const args *a)
{
	return char_index(
		r, self.string, find_last(r, self.string, need_string(r, a, 0), self.string->len));
}

static value m_index(run *r, value self, const args *a)
{
	value at = m_find(r, self, a);

	if (at.i < 0)
		og_jinja_fail(&r->trap, -EBADMSG, "the text to find is not there");
	return at;
}

static value m_count(run *r, value self, const args *a)
{
	const string *what = need_string(r, a, 0);
	int64_t n = 0;

	if (what->len == 0)
		return og_jinja_int(og_jinja_length(self) + 1);
	for (uint32_t at = 0; (at = find(r, self.string, what, at)) <= self.string->len;
		at += what->len)
		n++;
	return og_jinja_int(n);
}

static value m_join(run *r, value self, const args *a)
{
	struct og_jinja_list *l =
		og_jinja_iterate(r, og_jinja_arg(a, 0, "iterable", OG_JINJA_UNDEF));
	struct og_jinja_builder b = {0};

	for (uint32_t i = 0; i < l->len; i++) {
		if (l->items[i].kind != OG_JINJA_STRING)
			og_jinja_fail(&r->trap, -EBADMSG, "join of a %s",
				og_jinja_type_name(l->items[i]));
		if (i > 0)
			og_jinja_build_value(r, &b, self);
		og_jinja_build_value(r, &b, l->items[i]);
	}
	return og_jinja_built(r, &b);
}

static value m_zfill(run *r, value self, const args *a)
{
	int64_t width = og_jinja_int_arg(r, a, 0, "width", 0), n = og_jinja_length(self);
	uint32_t sign =
		self.string->len > 0 && strchr("+-", self.string->data[0]) && self.string->data[0];
	struct og_jinja_builder b = {0};

	og_jinja_build_part(r, &b, self.string, 0, sign);
	for (; n < width; n++) {
		og_jinja_spend(r, 1);
		og_jinja_build_text(r, &b, "0");
	}
	og_jinja_build_part(r, &b, self.string, sign, self.string->len);
	return og_jinja_built(r, &b);
}

/* What a field of str.format() stands for: a number, a name, or nothing for the next one. */
static value field_value(run *r, const args *a, struct og_text field, uint32_t *next)
{
	uint32_t i = field.len_bytes == 0 ? (*next)++ : 0;
	bool is_number = true;

	for (uint32_t k = 0; k < field.len_bytes && is_number; k++) {
		is_number = field.data[k] >= '0' && field.data[k] <= '9' && i < 1000;
		i = 10 * i + (uint32_t)(field.data[k] - '0');
	}
	for (uint32_t k = 0; !is_number && k < a->nb_keywords; k++)
		if (og_text_equal(a->keywords[k].name, field))
			return a->keywords[k].value;
	if (!is_number || i >= a->count)
		og_jinja_fail(&r->trap, -EBADMSG, "a field of format() has no value");
	return a->values[i];
}

/* "{} {0} {name}".format(…), without specifications. */
static value m_format(run *r, value self, const args *a)
{
	const string *s = self.string;
	struct og_jinja_builder b = {0};
	uint32_t next = 0;

	for (uint32_t at = 0; at < s->len; at++) {
		char c = s->data[at];
		const char *close;
		struct og_text field;

		if (c != '{' && c != '}') {
			og_jinja_build_part(r, &b, s, at, at + 1);
			continue;
		}
		if (at + 1 < s->len && s->data[at + 1] == c) {
			og_jinja_build_part(r, &b, s, at, at + 1);
			at++;
			continue;
		}
		close = c == '{' ? memchr(s->data + at, '}', s->len - at) : NULL;
		if (!close)
			og_jinja_fail(&r->trap, -EBADMSG, "a brace of format() stands alone");
		field = (struct og_text){s->data + at + 1, (uint32_t)(close - s->data) - at - 1};
		if (memchr(field.data, ':', field.len_bytes) ||
			memchr(field.data, '!', field.len_bytes) ||
			memchr(field.data, '.', field.len_bytes) ||
			memchr(field.data, '[', field.len_bytes))
			og_jinja_fail(&r->trap, -EOPNOTSUPP,
				"format() with specifications is not supported");
		og_jinja_build_value(r, &b, field_value(r, a, field, &next));
		at += field.len_bytes + 1;
	}
	return og_jinja_built(r, &b);
}

typedef bool class_fn(utf8proc_category_t k);

static bool is_letter(utf8proc_category_t k)
{
	return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

static bool is_digit(utf8proc_category_t k)
{
	return k == UTF8PROC_CATEGORY_ND;
}

static bool is_alnum(utf8proc_category_t k)
{
	return is_letter(k) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

static value all_are(const string *s, class_fn *is)
{
	uint32_t len;
	bool all = s->len > 0;

	for (uint32_t at = 0; at < s->len && all; at += len)
		all = is(utf8proc_category((utf8proc_int32_t)og_jinja_char(s, at, &len)));
	return og_jinja_bool(all);
}

static value m_isalpha(run *r, value self, const args *a)
{
	return all_are(self.string, is_letter);
}

static value m_isdigit(run *r, value self, const args *a)
{
	return all_are(self.string, is_digit);
}

static value m_isalnum(run *r, value self, const args *a)
{
	return all_are(self.string, is_alnum);
}

static value m_isspace(run *r, value self, const args *a)
{
	value rest = og_jinja_strip(r, self.string, NULL, STRIP_LEFT);

	return og_jinja_bool(self.string->len > 0 && rest.string->len == 0);
}

/* Some letter is cased, and all that are have the one case. */
static bool has_case(const string *s, utf8proc_category_t wanted)
{
	bool any = false;
	uint32_t len;

	for (uint32_t at = 0; at < s->len; at += len) {
		uint32_t c = og_jinja_char(s, at, &len);

		if (is_cased(c) && utf8proc_category((utf8proc_int32_t)c) != wanted)
			return false;
		any |= is_cased(c);
	}
	return any;
}

static value m_isupper(run *r, value self, const args *a)
{
	return og_jinja_bool(has_case(self.string, UTF8PROC_CATEGORY_LU));
}

static value m_islower(run *r, value self, const args *a)
{
	return og_jinja_bool(has_case(self.string, UTF8PROC_CATEGORY_LL));
}

/* ---- Dictionaries, lists, loops. ---- */

static value m_get(run *r, value self, const args *a)
{
	value *found;

	if (a->count == 0)
		og_jinja_fail(&r->trap, -EBADMSG, "get needs a key");
	found = og_jinja_find(r, self.dict, a->values[0]);
	return found ? *found : og_jinja_arg(a, 1, "default", og_jinja_none());
}

static value m_keys(run *r, value self, const args *a)
{
	return og_jinja_list_value(og_jinja_iterate(r, self), false);
}

static value m_values(run *r, value self, const args *a)
{
	struct og_jinja_list *l = og_jinja_new_list(r, self.dict->len);

	for (uint32_t i = 0; i < self.dict->len; i++)
		og_jinja_push(r, l, self.dict->members[i].value);
	return og_jinja_list_value(l, false);
}

static value m_items(run *r, value self, const args *a)
{
	return og_jinja_filter(r, (struct og_text){"items", 5}, self, &(args){0});
}

static value m_forbidden(run *r, value self, const args *a)
{
	og_jinja_fail(&r->trap, -EBADMSG, "a %s cannot be changed", og_jinja_type_name(self));
}

static value m_list_index(run *r, value self, const args *a)
{
	for (uint32_t i = 0; a->count > 0 && i < self.list->len; i++)
		if (og_jinja_equal(r, self.list->items[i], a->values[0]))
			return og_jinja_int(i);
	og_jinja_fail(&r->trap, -EBADMSG, "the value to find is not in the list");
}

static value m_list_count(run *r, value self, const args *a)
{
	int64_t n = 0;

	for (uint32_t i = 0; a->count > 0 && i < self.list->len; i++)
		n += og_jinja_equal(r, self.list->items[i], a->values[0]);
	return og_jinja_int(n);
}

static value m_cycle(run *r, value self, const args *a)
{
	const struct og_jinja_loop *loop = self.other;

	if (a->count == 0)
		og_jinja_fail(&r->trap, -EBADMSG, "cycle needs values");
	return a->values[loop->index % a->count];
}

static value m_changed(run *r, value self, const args *a)
{
	struct og_jinja_loop *loop = (void *)(uintptr_t)self.other;
	struct og_jinja_list *l = og_jinja_new_list(r, a->count);
	value now;
	bool changed;

	for (uint32_t i = 0; i < a->count; i++)
		og_jinja_push(r, l, a->values[i]);
	now = og_jinja_list_value(l, true);
	changed = !loop->has_changed || !og_jinja_equal(r, loop->last_changed, now);
	loop->has_changed = true;
	loop->last_changed = now;
	return og_jinja_bool(changed);
}

og_jinja_call_fn *og_jinja_find_method(value self, struct og_text name)
{
	static const struct og_jinja_builtin of_strings[] = {{"strip", m_strip},
		{"lstrip", m_lstrip}, {"rstrip", m_rstrip}, {"split", m_split},
		{"rsplit", m_rsplit}, {"splitlines", m_splitlines}, {"startswith", m_startswith},
		{"endswith", m_endswith}, {"replace", m_replace}, {"upper", m_upper},
		{"lower", m_lower}, {"title", m_title}, {"capitalize", m_capitalize},
		{"find", m_find}, {"format", m_format}, {"rfind", m_rfind}, {"index", m_index},
		{"count", m_count}, {"join", m_join}, {"zfill", m_zfill},
		{"partition", m_partition}, {"rpartition", m_rpartition},
		{"removeprefix", m_removeprefix}, {"removesuffix", m_removesuffix},
		{"isalpha", m_isalpha}, {"isdigit", m_isdigit}, {"isalnum", m_isalnum},
		{"isspace", m_isspace}, {"isupper", m_isupper}, {"islower", m_islower},
		{NULL, NULL}};
	static const struct og_jinja_builtin of_dicts[] = {{"get", m_get}, {"keys", m_keys},
		{"values", m_values}, {"items", m_items}, {"pop", m_forbidden},
		{"update", m_forbidden}, {"clear", m_forbidden}, {"setdefault", m_forbidden},
		{"popitem", m_forbidden}, {NULL, NULL}};
	static const struct og_jinja_builtin of_lists[] = {{"index", m_list_index},
		{"count", m_list_count}, {"append", m_forbidden}, {"extend", m_forbidden},
		{"insert", m_forbidden}, {"pop", m_forbidden}, {"remove", m_forbidden},
		{"reverse", m_forbidden}, {"sort", m_forbidden}, {"clear", m_forbidden},
		{NULL, NULL}};
	static const struct og_jinja_builtin of_loops[] = {
		{"cycle", m_cycle}, {"changed", m_changed}, {NULL, NULL}};
	const struct og_jinja_builtin *all = NULL;

	if (self.kind == OG_JINJA_STRING)
		all = of_strings;
	else if (self.kind == OG_JINJA_DICT)
		all = of_dicts;
	else if (self.kind == OG_JINJA_LIST)
		all = of_lists;
	else if (self.kind == OG_JINJA_LOOP)
		all = of_loops;
	for (; all && all->name; all++)
		if (og_text_is(name, all->name))
			return all->fn;
	return NULL;
}

/* ---- Tests. ---- */

static int64_t whole(run *r, value v)
{
	if (v.kind != OG_JINJA_INT && v.kind != OG_JINJA_BOOL)
		og_jinja_fail(&r->trap, -EBADMSG, "a %s is no whole number", og_jinja_type_name(v));
	return v.kind == OG_JINJA_BOOL ? v.b : v.i;
}

/* What a value is; -1 for a name that says nothing of the kind. */
static int test_kind(struct og_text name, value v)
{
	static const struct {
		const char *name;
		unsigned kinds; /* bits */
	} all[] = {
		{"undefined", 1u << OG_JINJA_UNDEFINED},
		{"defined", ~(1u << OG_JINJA_UNDEFINED)},
		{"none", 1u << OG_JINJA_NONE},
		{"boolean", 1u << OG_JINJA_BOOL},
		{"integer", 1u << OG_JINJA_INT},
		{"float", 1u << OG_JINJA_FLOAT},
		{"number", 1u << OG_JINJA_BOOL | 1u << OG_JINJA_INT | 1u << OG_JINJA_FLOAT},
		{"string", 1u << OG_JINJA_STRING},
		{"mapping", 1u << OG_JINJA_DICT},
		{"sequence", 1u << OG_JINJA_STRING | 1u << OG_JINJA_LIST | 1u << OG_JINJA_TUPLE |
				     1u << OG_JINJA_DICT | 1u << OG_JINJA_UNDEFINED},
		{"iterable", 1u << OG_JINJA_STRING | 1u << OG_JINJA_LIST | 1u << OG_JINJA_TUPLE |
				     1u << OG_JINJA_DICT | 1u << OG_JINJA_UNDEFINED},
		{"callable", 1u << OG_JINJA_FUNCTION | 1u << OG_JINJA_METHOD |
				     1u << OG_JINJA_MACRO | 1u << OG_JINJA_UNDEFINED},
		{"escaped", 0},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(all); i++)
		if (og_text_is(name, all[i].name))
			return (all[i].kinds >> v.kind) & 1;
	return -1;
}

/* Tests that compare with an argument; -1 for another name. */
static int test_with(run *r, struct og_text name, value v, value other)
{
	static const struct {
		const char *name;
		enum og_jinja_op op;
	} all[] = {{"eq", OP_EQ}, {"equalto", OP_EQ}, {"==", OP_EQ}, {"ne", OP_NE}, {"!=", OP_NE},
		{"lt", OP_LT}, {"lessthan", OP_LT}, {"<", OP_LT}, {"le", OP_LE}, {"<=", OP_LE},
		{"gt", OP_GT}, {"greaterthan", OP_GT}, {">", OP_GT}, {"ge", OP_GE}, {">=", OP_GE},
		{"in", OP_IN}};
	size_t i = 0;

	while (i < OG_ARRAY_LEN(all) && !og_text_is(name, all[i].name))
		i++;
	if (i == OG_ARRAY_LEN(all))
		return -1;
	switch (all[i].op) {
	case OP_EQ:
		return og_jinja_equal(r, v, other);
	case OP_NE:
		return !og_jinja_equal(r, v, other);
	case OP_IN:
		return og_jinja_contains(r, other, v);
	case OP_LT:
		return og_jinja_order(r, v, other) < 0;
	case OP_LE:
		return og_jinja_order(r, v, other) <= 0;
	case OP_GT:
		return og_jinja_order(r, v, other) > 0;
	default:
		return og_jinja_order(r, v, other) >= 0;
	}
}

bool og_jinja_test(run *r, struct og_text name, value v, const args *a)
{
	value other = og_jinja_arg(a, 0, "other", OG_JINJA_UNDEF);
	int holds = test_kind(name, v);

	og_jinja_spend(r, 1);
	if (holds < 0)
		holds = test_with(r, name, v, other);
	if (holds >= 0)
		return holds;
	if (og_text_is(name, "true") || og_text_is(name, "false"))
		return v.kind == OG_JINJA_BOOL && v.b == og_text_is(name, "true");
	if (og_text_is(name, "odd"))
		return whole(r, v) % 2 != 0;
	if (og_text_is(name, "even"))
		return whole(r, v) % 2 == 0;
	if (og_text_is(name, "divisibleby"))
		return whole(r, og_jinja_binary(r, OP_MOD, v, other)) == 0;
	if (og_text_is(name, "sameas"))
		return v.kind == other.kind && og_jinja_equal(r, v, other);
	if (og_text_is(name, "upper"))
		return has_case(og_jinja_str(r, v), UTF8PROC_CATEGORY_LU);
	if (og_text_is(name, "lower"))
		return has_case(og_jinja_str(r, v), UTF8PROC_CATEGORY_LL);
	og_jinja_fail(&r->trap, -EOPNOTSUPP, "test %.*s is not known",
		(int)OG_MIN(name.len_bytes, 40u), name.data);
}
