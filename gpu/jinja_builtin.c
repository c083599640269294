#include "gpu/jinja_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <utf8proc.h>

typedef struct og_jinja_value value;
typedef struct og_jinja_string string;
typedef struct og_jinja_run run;
typedef struct og_jinja_args args;

enum { RANGE_MAX = 100 * 1000 }; /* as Jinja's sandbox */

value og_jinja_arg(const args *a, uint32_t i, const char *name, value otherwise)
{
	if (i < a->count)
		return a->values[i];
	for (uint32_t k = 0; k < a->nb_keywords; k++)
		if (og_text_is(a->keywords[k].name, name))
			return a->keywords[k].value;
	return otherwise;
}

int64_t og_jinja_int_arg(run *r, const args *a, uint32_t i, const char *name, int64_t otherwise)
{
	value v = og_jinja_arg(a, i, name, og_jinja_int(otherwise));

	if (v.kind == OG_JINJA_NONE)
		return otherwise;
	if (v.kind == OG_JINJA_BOOL)
		return v.b;
	if (v.kind != OG_JINJA_INT)
		og_jinja_fail(&r->trap, -EBADMSG, "%s is a %s and no number", name,
			og_jinja_type_name(v));
	return v.i;
}

const string *og_jinja_string_arg(run *r, const args *a, uint32_t i, const char *name)
{
	value v = og_jinja_arg(a, i, name, og_jinja_none());

	if (v.kind == OG_JINJA_NONE)
		return NULL;
	if (v.kind != OG_JINJA_STRING)
		og_jinja_fail(&r->trap, -EBADMSG, "%s is a %s and no string", name,
			og_jinja_type_name(v));
	return v.string;
}

static bool flag_arg(const args *a, uint32_t i, const char *name, bool otherwise)
{
	return og_jinja_truth(og_jinja_arg(a, i, name, og_jinja_bool(otherwise)));
}

/* What a filter made that makes a generator in Python: it can only be gone through. */
static bool is_generator(value v)
{
	return v.kind == OG_JINJA_LIST && v.list->is_generator;
}

/* ---- JSON, as json.dumps writes it. ---- */

struct dump {
	run *r;
	struct og_jinja_builder *out;
	int64_t indent; /* -1: on one line */
	bool ascii, sort;
	const string *item, *key; /* separators */
};

static void dump_value(struct dump *d, value v, uint32_t level);

static void dump_string(struct dump *d, const string *s)
{
	static const uint8_t marks[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
	uint32_t len;

	og_jinja_build_text(d->r, d->out, "\"");
	for (uint32_t at = 0; at < s->len; at += len) {
		uint32_t c = og_jinja_char(s, at, &len);
		const char *names = "\"\\\n\r\t\f\b",
			   *name = c && c < 0x80 ? strchr(names, (int)c) : NULL;
		char out[16];

		if (name)
			snprintf(out, sizeof(out), "\\%c", "\"\\nrtfb"[name - names]);
		else if (c < 0x20 || (d->ascii && c > 0x7e && c < 0x10000))
			snprintf(out, sizeof(out), "\\u%04x", c);
		else if (d->ascii && c >= 0x10000)
			snprintf(out, sizeof(out), "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
				0xdc00 + ((c - 0x10000) & 0x3ff));
		else {
			og_jinja_build_part(d->r, d->out, s, at, at + len);
			continue;
		}
		og_jinja_build(d->r, d->out, out, (uint32_t)strlen(out),
			s->foreign && s->foreign[at] ? marks : NULL);
	}
	og_jinja_build_text(d->r, d->out, "\"");
}

static void dump_line(struct dump *d, uint32_t level)
{
	if (d->indent < 0)
		return;
	og_jinja_build_text(d->r, d->out, "\n");
	for (int64_t i = 0; i < d->indent * level; i++)
		og_jinja_build_text(d->r, d->out, " ");
}

static void dump_separator(struct dump *d, const string *own, const char *otherwise)
{
	if (own)
		og_jinja_build_part(d->r, d->out, own, 0, own->len);
	else
		og_jinja_build_text(d->r, d->out, otherwise);
}

static void dump_list(struct dump *d, const struct og_jinja_list *l, uint32_t level)
{
	og_jinja_build_text(d->r, d->out, "[");
	for (uint32_t i = 0; i < l->len; i++) {
		if (i > 0)
			dump_separator(d, d->item, d->indent < 0 ? ", " : ",");
		dump_line(d, level + 1);
		dump_value(d, l->items[i], level + 1);
	}
	if (l->len > 0)
		dump_line(d, level);
	og_jinja_build_text(d->r, d->out, "]");
}

static int by_key(const void *a, const void *b, void *ctx)
{
	return og_jinja_order(ctx, ((const struct og_jinja_member *)a)->key,
		((const struct og_jinja_member *)b)->key);
}

/* Sorting that keeps equals in order and may leave by the trap: no memory of qsort's is lost. */
static void sort(run *r, void *items, uint32_t n, size_t size,
	int (*order)(const void *a, const void *b, void *ctx), void *ctx)
{
	char *spare = og_jinja_alloc(&r->arena, &r->trap, n * size), *from = items, *to = spare,
	     *swap;

	for (uint32_t width = 1; width < n; width *= 2) { /* merges of twice the width */
		for (uint32_t start = 0; start < n; start += 2 * width) {
			uint32_t i = start, middle = OG_MIN(start + width, n), j = middle;
			uint32_t end = OG_MIN(start + 2 * width, n);

			og_jinja_spend(r, end - start);
			for (uint32_t k = start; k < end; k++) {
				bool left = i < middle &&
					    (j == end || order(from + i * size, from + j * size,
								 ctx) <= 0);

				memcpy(to + k * size, from + (left ? i++ : j++) * size, size);
			}
		}
		swap = from;
		from = to;
		to = swap;
	}
	if (from != items && n > 0)
		memcpy(items, from, n * size);
}

static void dump_key(struct dump *d, value key)
{
	struct og_jinja_builder text = {0};

	if (key.kind == OG_JINJA_STRING) {
		dump_string(d, key.string);
		return;
	}
	if (key.kind == OG_JINJA_BOOL)
		og_jinja_build_text(d->r, &text, key.b ? "true" : "false");
	else if (key.kind == OG_JINJA_NONE)
		og_jinja_build_text(d->r, &text, "null");
	else if (og_jinja_is_number(key))
		og_jinja_build_value(d->r, &text, key);
	else
		og_jinja_fail(
			&d->r->trap, -EBADMSG, "a %s as a key of JSON", og_jinja_type_name(key));
	dump_string(d, og_jinja_built(d->r, &text).string);
}

static void dump_dict(struct dump *d, const struct og_jinja_dict *dict, uint32_t level)
{
	struct og_jinja_member *members = dict->members;

	if (d->sort && dict->len > 1) {
		members = og_jinja_alloc(&d->r->arena, &d->r->trap, dict->len * sizeof(*members));
		memcpy(members, dict->members, dict->len * sizeof(*members));
		sort(d->r, members, dict->len, sizeof(*members), by_key, d->r);
	}
	og_jinja_build_text(d->r, d->out, "{");
	for (uint32_t i = 0; i < dict->len; i++) {
		if (i > 0)
			dump_separator(d, d->item, d->indent < 0 ? ", " : ",");
		dump_line(d, level + 1);
		dump_key(d, members[i].key);
		dump_separator(d, d->key, ": ");
		dump_value(d, members[i].value, level + 1);
	}
	if (dict->len > 0)
		dump_line(d, level);
	og_jinja_build_text(d->r, d->out, "}");
}

static void dump_value(struct dump *d, value v, uint32_t level)
{
	og_jinja_spend(d->r, 1);
	if (level > OG_JINJA_DEPTH_MAX)
		og_jinja_fail(&d->r->trap, -E2BIG, "values nest too deep for JSON");
	switch (v.kind) {
	case OG_JINJA_NONE:
		og_jinja_build_text(d->r, d->out, "null");
		return;
	case OG_JINJA_BOOL:
		og_jinja_build_text(d->r, d->out, v.b ? "true" : "false");
		return;
	case OG_JINJA_FLOAT:
		if (isnan(v.f) || isinf(v.f)) {
			og_jinja_build_text(d->r, d->out,
				isnan(v.f) ? "NaN"
				: v.f < 0  ? "-Infinity"
					   : "Infinity");
			return;
		}
		og_jinja_build_value(d->r, d->out, v);
		return;
	case OG_JINJA_INT:
		og_jinja_build_value(d->r, d->out, v);
		return;
	case OG_JINJA_STRING:
		dump_string(d, v.string);
		return;
	case OG_JINJA_LIST:
	case OG_JINJA_TUPLE:
		if (is_generator(v))
			og_jinja_fail(&d->r->trap, -EBADMSG, "a generator cannot be JSON");
		dump_list(d, v.list, level);
		return;
	case OG_JINJA_DICT:
		dump_dict(d, v.dict, level);
		return;
	default:
		og_jinja_fail(&d->r->trap, -EBADMSG, "a %s cannot be JSON", og_jinja_type_name(v));
	}
}

/* transformers: tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False) */
static value f_tojson(run *r, value v, const args *a)
{
	struct og_jinja_builder out = {0};
	value separators = og_jinja_arg(a, 2, "separators", og_jinja_none());
	struct dump d = {.r = r,
		.out = &out,
		.indent = og_jinja_int_arg(r, a, 1, "indent", -1),
		.ascii = flag_arg(a, 0, "ensure_ascii", false),
		.sort = flag_arg(a, 3, "sort_keys", false)};

	if (d.indent > 64)
		og_jinja_fail(&r->trap, -EBADMSG, "indent is too large");
	if ((separators.kind == OG_JINJA_LIST || separators.kind == OG_JINJA_TUPLE) &&
		separators.list->len == 2) {
		d.item = og_jinja_str(r, separators.list->items[0]);
		d.key = og_jinja_str(r, separators.list->items[1]);
	}
	dump_value(&d, v, 0);
	return og_jinja_built(r, &out);
}

/* ---- Text. ---- */

static value f_string(run *r, value v, const args *a)
{
	struct og_jinja_builder b = {0};

	og_jinja_build_value(r, &b, v);
	return og_jinja_built(r, &b);
}

static value f_safe(run *r, value v, const args *a)
{
	return v;
}

static value f_trim(run *r, value v, const args *a)
{
	return og_jinja_strip(r, og_jinja_str(r, v), og_jinja_string_arg(r, a, 0, "chars"),
		STRIP_LEFT | STRIP_RIGHT);
}

static value f_upper(run *r, value v, const args *a)
{
	return og_jinja_recase(r, og_jinja_str(r, v), CASE_UPPER);
}

static value f_lower(run *r, value v, const args *a)
{
	return og_jinja_recase(r, og_jinja_str(r, v), CASE_LOWER);
}

static value f_title(run *r, value v, const args *a)
{
	return og_jinja_recase(r, og_jinja_str(r, v), CASE_TITLE);
}

static value f_capitalize(run *r, value v, const args *a)
{
	return og_jinja_recase(r, og_jinja_str(r, v), CASE_CAPITAL);
}

static value f_replace(run *r, value v, const args *a)
{
	value from = og_jinja_arg(a, 0, "old", OG_JINJA_UNDEF);
	value to = og_jinja_arg(a, 1, "new", OG_JINJA_UNDEF);

	return og_jinja_replace(r, og_jinja_str(r, v), og_jinja_str(r, from), og_jinja_str(r, to),
		og_jinja_int_arg(r, a, 2, "count", -1));
}

static value f_escape(run *r, value v, const args *a)
{
	static const struct {
		char c;
		const char *text;
	} all[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
	static const uint8_t marks[] = {1, 1, 1, 1, 1};
	const string *s = og_jinja_str(r, v);
	struct og_jinja_builder b = {0};

	for (uint32_t at = 0; at < s->len; at++) {
		size_t i = 0;

		while (i < OG_ARRAY_LEN(all) && all[i].c != s->data[at])
			i++;
		if (i < OG_ARRAY_LEN(all))
			og_jinja_build(r, &b, all[i].text, (uint32_t)strlen(all[i].text),
				s->foreign && s->foreign[at] ? marks : NULL);
		else
			og_jinja_build_part(r, &b, s, at, at + 1);
	}
	return og_jinja_built(r, &b);
}

/* Python's "%s" % values. */
value og_jinja_percent(run *r, const string *format, const value *values, uint32_t count)
{
	struct og_jinja_builder b = {0};
	uint32_t used = 0;

	for (uint32_t at = 0; at < format->len; at++) {
		char spec[16] = "%", number[64];
		uint32_t n = 1;

		if (format->data[at] != '%') {
			og_jinja_build_part(r, &b, format, at, at + 1);
			continue;
		}
		while (++at < format->len && strchr("0123456789.-+ ", format->data[at]) &&
			format->data[at] && n < 8)
			spec[n++] = format->data[at];
		if (at >= format->len)
			og_jinja_fail(&r->trap, -EBADMSG, "an incomplete format");
		if (format->data[at] == '%') {
			og_jinja_build_text(r, &b, "%");
			continue;
		}
		if (used == count)
			og_jinja_fail(&r->trap, -EBADMSG, "not enough values for the format");
		if (format->data[at] == 's' && n == 1) {
			og_jinja_build_value(r, &b, values[used++]);
			continue;
		}
		if (format->data[at] == 'r' && n == 1) {
			og_jinja_repr(r, &b, values[used++]);
			continue;
		}
		if (!og_jinja_is_number(values[used]) || atoi(spec + 1) > 40 ||
			atoi(spec + 1) < -40)
			og_jinja_fail(&r->trap, -EBADMSG, "a format that does not fit its value");
		if (format->data[at] == 'd' || format->data[at] == 'i') {
			memcpy(spec + n, "lld", 4);
			snprintf(number, sizeof(number), spec,
				(long long)og_jinja_number(values[used++]));
		} else if (format->data[at] == 'f') {
			memcpy(spec + n, "f", 2);
			snprintf(number, sizeof(number), spec, og_jinja_number(values[used++]));
		} else {
			og_jinja_fail(&r->trap, -EBADMSG, "format %%%c is not supported",
				format->data[at]);
		}
		og_jinja_build_text(r, &b, number);
	}
	if (used < count)
		og_jinja_fail(&r->trap, -EBADMSG, "more values than the format has");
	return og_jinja_built(r, &b);
}

static value f_format(run *r, value v, const args *a)
{
	return og_jinja_percent(r, og_jinja_str(r, v), a->values, a->count);
}

/* Jinja: indent(width=4, first=False, blank=False); lines end as str.splitlines() sees them. */
static value f_indent(run *r, value v, const args *a)
{
	const string *s = og_jinja_str(r, v);
	value width = og_jinja_arg(a, 0, "width", og_jinja_int(4));
	bool first = flag_arg(a, 1, "first", false), blank = flag_arg(a, 2, "blank", false);
	struct og_jinja_builder pad = {0}, b = {0};
	uint32_t at = 0;

	if (width.kind == OG_JINJA_STRING)
		og_jinja_build_value(r, &pad, width);
	else
		for (int64_t i = og_jinja_int_arg(r, a, 0, "width", 4); i > 0 && pad.len < 1024;
			i--)
			og_jinja_build_text(r, &pad, " ");
	for (bool is_first = true; at <= s->len; is_first = false) {
		const char *end = at < s->len ? memchr(s->data + at, '\n', s->len - at) : NULL;
		uint32_t to = end ? (uint32_t)(end - s->data) : s->len;

		if (is_first ? first : (blank || to > at))
			og_jinja_build(r, &b, pad.data, pad.len, pad.foreign);
		og_jinja_build_part(r, &b, s, at, OG_MIN(to + 1, s->len));
		at = to + 1;
	}
	return og_jinja_built(r, &b);
}

/* ---- Numbers. ---- */

static value f_int(run *r, value v, const args *a)
{
	value otherwise = og_jinja_arg(a, 0, "default", og_jinja_int(0));
	char text[32], *end;
	const string *s;
	long long i;

	if (v.kind == OG_JINJA_INT || v.kind == OG_JINJA_BOOL)
		return og_jinja_int((int64_t)og_jinja_number(v));
	if (v.kind == OG_JINJA_FLOAT)
		return fabs(v.f) < 9e18 ? og_jinja_int((int64_t)v.f) : otherwise;
	if (v.kind != OG_JINJA_STRING)
		return otherwise;
	s = og_jinja_strip(r, v.string, NULL, STRIP_LEFT | STRIP_RIGHT).string;
	if (s->len == 0 || s->len >= sizeof(text))
		return otherwise;
	memcpy(text, s->data, s->len);
	text[s->len] = '\0';
	i = strtoll(text, &end, 10);
	if (!*end)
		return og_jinja_int(i);
	return strspn(text, "0123456789.eE+-") == s->len && strtod(text, &end) < 9e18 && !*end
		       ? og_jinja_int((int64_t)strtod(text, NULL))
		       : otherwise;
}

static value f_float(run *r, value v, const args *a)
{
	value otherwise = og_jinja_arg(a, 0, "default", og_jinja_float(0));
	char text[64], *end;
	double f;

	if (og_jinja_is_number(v))
		return og_jinja_float(og_jinja_number(v));
	if (v.kind != OG_JINJA_STRING || v.string->len == 0 || v.string->len >= sizeof(text))
		return otherwise;
	memcpy(text, v.string->data, v.string->len);
	text[v.string->len] = '\0';
	f = strtod(text, &end);
	return *end ? otherwise : og_jinja_float(f);
}

static value f_abs(run *r, value v, const args *a)
{
	if (!og_jinja_is_number(v))
		og_jinja_fail(&r->trap, -EBADMSG, "abs of a %s", og_jinja_type_name(v));
	return og_jinja_number(v) < 0 ? og_jinja_binary(r, OP_SUB, og_jinja_int(0), v) : v;
}

static value f_round(run *r, value v, const args *a)
{
	int64_t precision = og_jinja_int_arg(r, a, 0, "precision", 0);
	const string *method = og_jinja_string_arg(r, a, 1, "method");
	double scale, f;
	char text[400];

	if (!og_jinja_is_number(v) || precision < 0 || precision > 15)
		og_jinja_fail(&r->trap, -EBADMSG, "round of a %s", og_jinja_type_name(v));
	f = og_jinja_number(v);
	scale = pow(10, (double)precision);
	if (method && method->len == 4 && memcmp(method->data, "ceil", 4) == 0)
		return og_jinja_float(ceil(f * scale) / scale);
	if (method && method->len == 5 && memcmp(method->data, "floor", 5) == 0)
		return og_jinja_float(floor(f * scale) / scale);
	snprintf(text, sizeof(text), "%.*f", (int)precision, f); /* half to even, as Python */
	return og_jinja_float(strtod(text, NULL));
}

static value f_sum(run *r, value v, const args *a)
{
	struct og_jinja_list *l = og_jinja_iterate(r, v);
	value sum = og_jinja_arg(a, 1, "start", og_jinja_int(0));
	const string *attribute = og_jinja_string_arg(r, a, 0, "attribute");

	for (uint32_t i = 0; i < l->len; i++) {
		value item = l->items[i];

		if (attribute)
			item = og_jinja_attr(
				r, item, (struct og_text){attribute->data, attribute->len});
		sum = og_jinja_binary(r, OP_ADD, sum, item);
	}
	return sum;
}

/* ---- Lists and dictionaries. ---- */

static value f_length(run *r, value v, const args *a)
{
	int64_t n = is_generator(v) ? -1 : og_jinja_length(v);

	if (n < 0)
		og_jinja_fail(&r->trap, -EBADMSG, "a %s has no length", og_jinja_type_name(v));
	return og_jinja_int(n);
}

static value f_default(run *r, value v, const args *a)
{
	bool if_false = flag_arg(a, 1, "boolean", false);

	if (v.kind == OG_JINJA_UNDEFINED || (if_false && !og_jinja_truth(v)))
		return og_jinja_arg(a, 0, "default_value", og_jinja_text(r, ""));
	return v;
}

/* a.b.0, as Jinja's make_attrgetter */
static value attribute_of(run *r, value v, const string *path)
{
	uint32_t at = 0;

	while (at <= path->len) {
		const char *dot =
			at < path->len ? memchr(path->data + at, '.', path->len - at) : NULL;
		uint32_t to = dot ? (uint32_t)(dot - path->data) : path->len;
		struct og_text name = {path->data + at, to - at};
		value key = og_jinja_part(r, path, at, to), item;
		int64_t i = 0;
		bool number = name.len_bytes > 0 && name.len_bytes < 10;

		for (uint32_t k = 0; k < name.len_bytes && number; k++) {
			number = name.data[k] >= '0' && name.data[k] <= '9';
			i = 10 * i + (name.data[k] - '0');
		}
		item = og_jinja_item(r, v, number ? og_jinja_int(i) : key);
		v = item.kind == OG_JINJA_UNDEFINED && !number ? og_jinja_attr(r, v, name) : item;
		at = to + 1;
	}
	return v;
}

static value f_attr(run *r, value v, const args *a)
{
	const string *name = og_jinja_string_arg(r, a, 0, "name");

	if (!name)
		og_jinja_fail(&r->trap, -EBADMSG, "attr needs a name");
	/* Only what Python has as an attribute: members of dictionaries are not. */
	return v.kind == OG_JINJA_DICT
		       ? OG_JINJA_UNDEF
		       : og_jinja_attr(r, v, (struct og_text){name->data, name->len});
}

static value f_join(run *r, value v, const args *a)
{
	struct og_jinja_list *l = og_jinja_iterate(r, v);
	const string *between = og_jinja_str(r, og_jinja_arg(a, 0, "d", og_jinja_text(r, "")));
	const string *attribute = og_jinja_string_arg(r, a, 1, "attribute");
	struct og_jinja_builder b = {0};

	for (uint32_t i = 0; i < l->len; i++) {
		if (i > 0)
			og_jinja_build_part(r, &b, between, 0, between->len);
		og_jinja_build_value(
			r, &b, attribute ? attribute_of(r, l->items[i], attribute) : l->items[i]);
	}
	return og_jinja_built(r, &b);
}

static value copy_list(run *r, value v)
{
	struct og_jinja_list *from = og_jinja_iterate(r, v), *l = og_jinja_new_list(r, from->len);

	for (uint32_t i = 0; i < from->len; i++)
		og_jinja_push(r, l, from->items[i]);
	return og_jinja_list_value(l, false);
}

static value f_list(run *r, value v, const args *a)
{
	return copy_list(r, v);
}

static value f_first(run *r, value v, const args *a)
{
	struct og_jinja_list *l = og_jinja_iterate(r, v);

	return l->len > 0 ? l->items[0] : OG_JINJA_UNDEF;
}

static value f_last(run *r, value v, const args *a)
{
	struct og_jinja_list *l = og_jinja_iterate(r, v);

	return l->len > 0 ? l->items[l->len - 1] : OG_JINJA_UNDEF;
}

static value f_reverse(run *r, value v, const args *a)
{
	struct og_jinja_list *from = og_jinja_iterate(r, v), *l = og_jinja_new_list(r, from->len);
	struct og_jinja_builder b = {0};

	for (uint32_t i = from->len; i > 0; i--) {
		if (v.kind == OG_JINJA_STRING)
			og_jinja_build_value(r, &b, from->items[i - 1]);
		og_jinja_push(r, l, from->items[i - 1]);
	}
	return v.kind == OG_JINJA_STRING ? og_jinja_built(r, &b) : og_jinja_list_value(l, false);
}

/* How filters compare: strings without their case, unless asked otherwise. */
struct ordering {
	run *r;
	const string *attribute;
	bool with_case, reverse;
	int member; /* of pairs: 0 key, 1 value, -1: the item itself */
};

static value order_key(const struct ordering *o, value v)
{
	if (o->member >= 0)
		v = v.list->items[o->member];
	if (o->attribute)
		v = attribute_of(o->r, v, o->attribute);
	return v.kind == OG_JINJA_STRING && !o->with_case
		       ? og_jinja_recase(o->r, v.string, CASE_LOWER)
		       : v;
}

static int by_ordering(const void *a, const void *b, void *ctx)
{
	const struct ordering *o = ctx;
	int order = og_jinja_order(
		o->r, order_key(o, *(const value *)a), order_key(o, *(const value *)b));

	return o->reverse ? -order : order;
}

static value f_sort(run *r, value v, const args *a)
{
	value l = copy_list(r, v);
	struct ordering o = {r, og_jinja_string_arg(r, a, 2, "attribute"),
		flag_arg(a, 1, "case_sensitive", false), flag_arg(a, 0, "reverse", false), -1};

	sort(r, l.list->items, l.list->len, sizeof(value), by_ordering, &o);
	return l;
}

static value items_of(run *r, value v)
{
	struct og_jinja_list *l = og_jinja_new_list(r, 0);

	if (v.kind == OG_JINJA_UNDEFINED)
		return og_jinja_list_value(l, false);
	if (v.kind != OG_JINJA_DICT)
		og_jinja_fail(&r->trap, -EBADMSG, "a %s has no items", og_jinja_type_name(v));
	for (uint32_t i = 0; i < v.dict->len; i++) {
		struct og_jinja_list *pair = og_jinja_new_list(r, 2);

		og_jinja_push(r, pair, v.dict->members[i].key);
		og_jinja_push(r, pair, v.dict->members[i].value);
		og_jinja_push(r, l, og_jinja_list_value(pair, true));
	}
	return og_jinja_list_value(l, false);
}

static value f_items(run *r, value v, const args *a)
{
	return items_of(r, v);
}

/* dictsort(case_sensitive=False, by='key', reverse=False) */
static value f_dictsort(run *r, value v, const args *a)
{
	value l = items_of(r, v);
	const string *by = og_jinja_string_arg(r, a, 1, "by");
	struct ordering o = {r, NULL, flag_arg(a, 0, "case_sensitive", false),
		flag_arg(a, 2, "reverse", false), by && by->len == 5};

	sort(r, l.list->items, l.list->len, sizeof(value), by_ordering, &o);
	return l;
}

static value extreme(run *r, value v, const args *a, int sign)
{
	struct og_jinja_list *l = og_jinja_iterate(r, v);
	struct ordering o = {r, og_jinja_string_arg(r, a, 1, "attribute"),
		flag_arg(a, 0, "case_sensitive", false), false, -1};
	value best = l->len > 0 ? l->items[0] : OG_JINJA_UNDEF;

	for (uint32_t i = 1; i < l->len; i++)
		if (sign * by_ordering(&l->items[i], &best, &o) > 0)
			best = l->items[i];
	return best;
}

static value f_max(run *r, value v, const args *a)
{
	return extreme(r, v, a, 1);
}

static value f_min(run *r, value v, const args *a)
{
	return extreme(r, v, a, -1);
}

static value f_unique(run *r, value v, const args *a)
{
	struct og_jinja_list *from = og_jinja_iterate(r, v), *l = og_jinja_new_list(r, 0);
	struct og_jinja_list *keys = og_jinja_new_list(r, 0);
	struct ordering o = {r, og_jinja_string_arg(r, a, 1, "attribute"),
		flag_arg(a, 0, "case_sensitive", false), false, -1};

	for (uint32_t i = 0; i < from->len; i++) {
		value key = order_key(&o, from->items[i]);

		if (og_jinja_contains(r, og_jinja_list_value(keys, false), key))
			continue;
		og_jinja_push(r, keys, key);
		og_jinja_push(r, l, from->items[i]);
	}
	return og_jinja_list_value(l, false);
}

/* Arguments without the first `n`. */
static args rest_of(const args *a, uint32_t n)
{
	args rest = *a;

	n = OG_MIN(n, rest.count);
	rest.values += n;
	rest.count -= n;
	return rest;
}

static struct og_text name_arg(run *r, const args *a, uint32_t i)
{
	if (i >= a->count || a->values[i].kind != OG_JINJA_STRING)
		og_jinja_fail(
			&r->trap, -EBADMSG, "the name of a filter, test or attribute is missing");
	return (struct og_text){a->values[i].string->data, a->values[i].string->len};
}

/* As Jinja, which does not look at what is false. */
static struct og_jinja_list *items_if_any(run *r, value v)
{
	return og_jinja_truth(v) ? og_jinja_iterate(r, v) : og_jinja_new_list(r, 0);
}

static value f_map(run *r, value v, const args *a)
{
	struct og_jinja_list *from = items_if_any(r, v), *l = og_jinja_new_list(r, from->len);
	const string *attribute = a->count == 0 ? og_jinja_string_arg(r, a, 0, "attribute") : NULL;
	value otherwise = og_jinja_arg(a, UINT32_MAX, "default", OG_JINJA_UNDEF);
	args rest = rest_of(a, 1);

	l->is_generator = true;
	for (uint32_t i = 0; i < from->len; i++) {
		value item = attribute
				     ? attribute_of(r, from->items[i], attribute)
				     : og_jinja_filter(r, name_arg(r, a, 0), from->items[i], &rest);

		og_jinja_push(
			r, l, attribute && item.kind == OG_JINJA_UNDEFINED ? otherwise : item);
	}
	return og_jinja_list_value(l, false);
}

/* select, reject, and with `attribute` those of an attribute. */
static value pick(run *r, value v, const args *a, bool attribute, bool wanted)
{
	struct og_jinja_list *from = items_if_any(r, v), *l = og_jinja_new_list(r, 0);
	args rest = rest_of(a, 1u + attribute);

	l->is_generator = true;
	for (uint32_t i = 0; i < from->len; i++) {
		value item = from->items[i];
		bool holds;

		if (attribute) {
			name_arg(r, a, 0);
			item = attribute_of(r, item, a->values[0].string);
		}
		holds = a->count > attribute
				? og_jinja_test(r, name_arg(r, a, attribute), item, &rest)
				: og_jinja_truth(item);
		if (holds == wanted)
			og_jinja_push(r, l, from->items[i]);
	}
	return og_jinja_list_value(l, false);
}

static value f_select(run *r, value v, const args *a)
{
	return pick(r, v, a, false, true);
}

static value f_reject(run *r, value v, const args *a)
{
	return pick(r, v, a, false, false);
}

static value f_selectattr(run *r, value v, const args *a)
{
	return pick(r, v, a, true, true);
}

static value f_rejectattr(run *r, value v, const args *a)
{
	return pick(r, v, a, true, false);
}

static const struct og_jinja_builtin filters[] = {{"abs", f_abs}, {"attr", f_attr},
	{"capitalize", f_capitalize}, {"count", f_length}, {"d", f_default}, {"default", f_default},
	{"dictsort", f_dictsort}, {"e", f_escape}, {"escape", f_escape}, {"first", f_first},
	{"float", f_float}, {"format", f_format}, {"indent", f_indent}, {"int", f_int},
	{"items", f_items}, {"join", f_join}, {"last", f_last}, {"length", f_length},
	{"list", f_list}, {"lower", f_lower}, {"map", f_map}, {"max", f_max}, {"min", f_min},
	{"reject", f_reject}, {"rejectattr", f_rejectattr}, {"replace", f_replace},
	{"reverse", f_reverse}, {"round", f_round}, {"safe", f_safe}, {"select", f_select},
	{"selectattr", f_selectattr}, {"sort", f_sort}, {"string", f_string}, {"sum", f_sum},
	{"title", f_title}, {"tojson", f_tojson}, {"trim", f_trim}, {"unique", f_unique},
	{"upper", f_upper}};

static og_jinja_call_fn *find(const struct og_jinja_builtin *all, size_t n, struct og_text name)
{
	for (size_t i = 0; i < n; i++)
		if (og_text_is(name, all[i].name))
			return all[i].fn;
	return NULL;
}

og_jinja_call_fn *og_jinja_find_filter(struct og_text name)
{
	return find(filters, OG_ARRAY_LEN(filters), name);
}

value og_jinja_filter(run *r, struct og_text name, value v, const args *a)
{
	og_jinja_call_fn *fn = og_jinja_find_filter(name);

	og_jinja_spend(r, 1);
	if (!fn)
		og_jinja_fail(&r->trap, -EOPNOTSUPP, "filter %.*s is not known",
			(int)OG_MIN(name.len_bytes, 40u), name.data);
	return fn(r, v, a);
}

/* ---- Functions. ---- */

static value g_range(run *r, value self, const args *a)
{
	int64_t first = a->count > 1 ? og_jinja_int_arg(r, a, 0, "start", 0) : 0;
	int64_t end = og_jinja_int_arg(r, a, a->count > 1, "stop", 0);
	int64_t step = og_jinja_int_arg(r, a, 2, "step", 1);
	struct og_jinja_list *l = og_jinja_new_list(r, 0);

	if (a->count == 0 || step == 0)
		og_jinja_fail(&r->trap, -EBADMSG, "range of nothing, or with step zero");
	for (int64_t i = first; step > 0 ? i < end : i > end;) {
		if (l->len == RANGE_MAX)
			og_jinja_fail(&r->trap, -E2BIG, "range is longer than %d", RANGE_MAX);
		og_jinja_spend(r, 1);
		og_jinja_push(r, l, og_jinja_int(i));
		if (__builtin_add_overflow(i, step, &i))
			break;
	}
	return og_jinja_list_value(l, false);
}

static value g_dict(run *r, value self, const args *a)
{
	value d = og_jinja_dict(r);

	if (a->count > 0 && a->values[0].kind == OG_JINJA_DICT)
		for (uint32_t i = 0; i < a->values[0].dict->len; i++)
			og_jinja_put(r, d.dict, a->values[0].dict->members[i].key,
				a->values[0].dict->members[i].value);
	for (uint32_t i = 0; i < a->nb_keywords; i++)
		og_jinja_put(r, d.dict, og_jinja_string(r, a->keywords[i].name, false),
			a->keywords[i].value);
	return d;
}

static value g_namespace(run *r, value self, const args *a)
{
	value d = g_dict(r, self, a);

	d.kind = OG_JINJA_NAMESPACE;
	return d;
}

static value g_raise_exception(run *r, value self, const args *a)
{
	const string *why =
		og_jinja_str(r, og_jinja_arg(a, 0, "message", og_jinja_text(r, "no reason given")));

	og_jinja_fail(&r->trap, -EINVAL, "%.*s", (int)OG_MIN(why->len, 300u), why->data);
}

static value g_strftime_now(run *r, value self, const args *a)
{
	const string *format = og_jinja_string_arg(r, a, 0, "format");
	struct og_jinja_builder b = {0};
	char spec[128], out[512];
	time_t now = (time_t)r->now_s;
	struct tm tm;

	if (!format || format->len >= sizeof(spec) || !localtime_r(&now, &tm))
		og_jinja_fail(&r->trap, -EBADMSG, "strftime_now needs a short format");
	memcpy(spec, format->data, format->len);
	spec[format->len] = '\0';
	og_jinja_build(r, &b, out, (uint32_t)strftime(out, sizeof(out), spec, &tm), NULL);
	return og_jinja_built(r, &b);
}

og_jinja_call_fn *og_jinja_find_function(struct og_text name)
{
	static const struct og_jinja_builtin functions[] = {{"dict", g_dict},
		{"namespace", g_namespace}, {"raise_exception", g_raise_exception},
		{"range", g_range}, {"strftime_now", g_strftime_now}};

	return find(functions, OG_ARRAY_LEN(functions), name);
}
