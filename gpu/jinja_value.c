#include "gpu/jinja_priv.h"

#include "gpu/normalize.h"

#include <errno.h>
#include <math.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

enum { CHUNK_BYTES = 32 * 1024, LENGTH_MAX = 1u << 30 };

struct og_jinja_chunk {
	struct og_jinja_chunk *next;
	size_t used, size;
	alignas(16) char data[];
};

void *og_jinja_alloc(struct og_jinja_arena *a, struct og_jinja_trap *trap, size_t bytes)
{
	struct og_jinja_chunk *c = a->chunks;
	size_t size;

	bytes = (bytes + 15) & ~(size_t)15;
	if (bytes > a->left)
		og_jinja_fail(trap, -E2BIG, "the template needs too much memory");
	if (!c || c->size - c->used < bytes) {
		size = OG_MAX(bytes, (size_t)CHUNK_BYTES);
		c = malloc(sizeof(*c) + size);
		if (!c)
			og_jinja_fail(trap, -ENOMEM, "out of memory");
		*c = (struct og_jinja_chunk){.next = a->chunks, .size = size};
		a->chunks = c;
	}
	a->left -= bytes;
	c->used += bytes;
	return c->data + c->used - bytes;
}

void og_jinja_arena_fini(struct og_jinja_arena *a)
{
	while (a->chunks) {
		struct og_jinja_chunk *c = a->chunks;

		a->chunks = c->next;
		free(c);
	}
}

void og_jinja_fail(struct og_jinja_trap *trap, int error, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(trap->why, sizeof(trap->why), fmt, args);
	va_end(args);
	trap->error = error;
	longjmp(trap->back, 1);
}

void og_jinja_spend(struct og_jinja_run *r, uint32_t steps)
{
	if (steps > OG_JINJA_STEPS_MAX - r->steps)
		og_jinja_fail(&r->trap, -E2BIG, "the template takes more than %d steps",
			OG_JINJA_STEPS_MAX);
	r->steps += steps;
}

static void *alloc(struct og_jinja_run *r, size_t bytes)
{
	return og_jinja_alloc(&r->arena, &r->trap, bytes);
}

/* ---- Making values. ---- */

struct og_jinja_value og_jinja_bool(bool b)
{
	return (struct og_jinja_value){.kind = OG_JINJA_BOOL, .b = b};
}

struct og_jinja_value og_jinja_none(void)
{
	return (struct og_jinja_value){.kind = OG_JINJA_NONE};
}

struct og_jinja_value og_jinja_int(int64_t i)
{
	return (struct og_jinja_value){.kind = OG_JINJA_INT, .i = i};
}

struct og_jinja_value og_jinja_float(double f)
{
	return (struct og_jinja_value){.kind = OG_JINJA_FLOAT, .f = f};
}

static struct og_jinja_value string_value(
	struct og_jinja_run *r, const char *data, uint32_t len, const uint8_t *foreign)
{
	struct og_jinja_string *s = alloc(r, sizeof(*s));

	*s = (struct og_jinja_string){data, len, foreign};
	return (struct og_jinja_value){.kind = OG_JINJA_STRING, .string = s};
}

struct og_jinja_value og_jinja_text(struct og_jinja_run *r, const char *text)
{
	return string_value(r, text, (uint32_t)strlen(text), NULL);
}

struct og_jinja_value og_jinja_part(
	struct og_jinja_run *r, const struct og_jinja_string *s, uint32_t from, uint32_t to)
{
	return string_value(r, s->data + from, to - from, s->foreign ? s->foreign + from : NULL);
}

struct og_jinja_list *og_jinja_new_list(struct og_jinja_run *r, uint32_t cap)
{
	struct og_jinja_list *l = alloc(r, sizeof(*l));

	*l = (struct og_jinja_list){.cap = cap};
	if (cap > 0)
		l->items = alloc(r, cap * sizeof(*l->items));
	return l;
}

void og_jinja_push(struct og_jinja_run *r, struct og_jinja_list *l, struct og_jinja_value v)
{
	if (l->len == l->cap) {
		uint32_t cap = l->cap ? 2 * l->cap : 8;
		struct og_jinja_value *items = alloc(r, cap * sizeof(*items));

		if (l->len > 0)
			memcpy(items, l->items, l->len * sizeof(*items));
		l->items = items;
		l->cap = cap;
	}
	l->items[l->len++] = v;
}

struct og_jinja_value og_jinja_list_value(struct og_jinja_list *l, bool tuple)
{
	return (struct og_jinja_value){.kind = tuple ? OG_JINJA_TUPLE : OG_JINJA_LIST, .list = l};
}

struct og_jinja_value *og_jinja_find(
	struct og_jinja_run *r, const struct og_jinja_dict *d, struct og_jinja_value key)
{
	og_jinja_spend(r, d->len / 8);
	for (uint32_t i = 0; i < d->len; i++)
		if (og_jinja_equal(r, d->members[i].key, key))
			return &d->members[i].value;
	return NULL;
}

struct og_jinja_value *og_jinja_find_text(const struct og_jinja_dict *d, struct og_text key)
{
	for (uint32_t i = 0; i < d->len; i++) {
		const struct og_jinja_value *k = &d->members[i].key;

		if (k->kind == OG_JINJA_STRING && k->string->len == key.len_bytes &&
			memcmp(k->string->data, key.data, key.len_bytes) == 0)
			return &d->members[i].value;
	}
	return NULL;
}

void og_jinja_put(struct og_jinja_run *r, struct og_jinja_dict *d, struct og_jinja_value key,
	struct og_jinja_value v)
{
	struct og_jinja_value *old = og_jinja_find(r, d, key);

	if (old) {
		*old = v;
		return;
	}
	if (d->len == d->cap) {
		uint32_t cap = d->cap ? 2 * d->cap : 8;
		struct og_jinja_member *members = alloc(r, cap * sizeof(*members));

		if (d->len > 0)
			memcpy(members, d->members, d->len * sizeof(*members));
		d->members = members;
		d->cap = cap;
	}
	d->members[d->len++] = (struct og_jinja_member){key, v};
}

/* ---- Text that grows. ---- */

static void grow(struct og_jinja_run *r, struct og_jinja_builder *b, uint32_t more)
{
	uint64_t cap = OG_MAX(2 * (uint64_t)b->cap, (uint64_t)b->len + more);
	char *data;
	uint8_t *foreign;

	if (cap > LENGTH_MAX)
		og_jinja_fail(&r->trap, -E2BIG, "the template makes too long a text");
	cap = OG_MAX(cap, 64u);
	data = alloc(r, cap);
	if (b->len > 0)
		memcpy(data, b->data, b->len);
	if (b->foreign) {
		foreign = alloc(r, cap);
		memcpy(foreign, b->foreign, b->len);
		b->foreign = foreign;
	}
	b->data = data;
	b->cap = (uint32_t)cap;
}

void og_jinja_build(struct og_jinja_run *r, struct og_jinja_builder *b, const char *data,
	uint32_t len, const uint8_t *foreign)
{
	if (len == 0)
		return;
	og_jinja_spend(r, len / 256);
	if (len > b->cap - b->len)
		grow(r, b, len);
	if (foreign && !b->foreign) {
		b->foreign = alloc(r, b->cap);
		memset(b->foreign, 0, b->len);
	}
	if (b->foreign && foreign)
		memcpy(b->foreign + b->len, foreign, len);
	else if (b->foreign)
		memset(b->foreign + b->len, 0, len);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void og_jinja_build_text(struct og_jinja_run *r, struct og_jinja_builder *b, const char *text)
{
	og_jinja_build(r, b, text, (uint32_t)strlen(text), NULL);
}

void og_jinja_build_part(struct og_jinja_run *r, struct og_jinja_builder *b,
	const struct og_jinja_string *s, uint32_t from, uint32_t to)
{
	og_jinja_build(r, b, s->data + from, to - from, s->foreign ? s->foreign + from : NULL);
}

struct og_jinja_value og_jinja_built(struct og_jinja_run *r, const struct og_jinja_builder *b)
{
	return string_value(r, b->len > 0 ? b->data : "", b->len, b->foreign);
}

/* ---- Writing values as Python does. ---- */

/* The shortest digits that read back as the same number, as repr(float). */
static void write_float(char out[64], double f)
{
	char digits[32];
	int precision = 1, exponent;
	char *e;

	if (isnan(f) || isinf(f)) {
		strcpy(out, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
		return;
	}
	do
		snprintf(digits, sizeof(digits), "%.*e", precision - 1, f);
	while (strtod(digits, NULL) != f && ++precision <= 17);
	exponent = atoi(strchr(digits, 'e') + 1);
	if (exponent >= -4 && exponent < 16) {
		snprintf(out, 64, "%.*f", OG_MAX(precision - 1 - exponent, 1), f);
		return;
	}
	e = strchr(digits, 'e');
	*e = '\0';
	snprintf(out, 64, "%se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent));
}

uint32_t og_jinja_char(const struct og_jinja_string *s, uint32_t at, uint32_t *len)
{
	int n = og_utf8_first(s->data + at, s->len - at);

	*len = n > 0 ? (uint32_t)n : 1;
	return n > 0 ? og_utf8_decode(s->data + at, n) : 0xfffd;
}

static bool is_printable(uint32_t c)
{
	utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);

	return c == ' ' || (k != UTF8PROC_CATEGORY_CN && k < UTF8PROC_CATEGORY_ZS);
}

static void repr_string(
	struct og_jinja_run *r, struct og_jinja_builder *b, const struct og_jinja_string *s)
{
	bool single = memchr(s->data, '\'', s->len) && !memchr(s->data, '"', s->len);
	char quote = single ? '"' : '\'';
	uint32_t len;

	og_jinja_build(r, b, &quote, 1, NULL);
	for (uint32_t at = 0; at < s->len; at += len) {
		uint32_t c = og_jinja_char(s, at, &len);
		char out[16];

		if (c == (uint32_t)quote || c == '\\')
			snprintf(out, sizeof(out), "\\%c", (char)c);
		else if (c == '\n' || c == '\r' || c == '\t')
			snprintf(out, sizeof(out), "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
		else if (!is_printable(c))
			snprintf(out, sizeof(out),
				c < 0x100     ? "\\x%02x"
				: c < 0x10000 ? "\\u%04x"
					      : "\\U%08x",
				c);
		else {
			og_jinja_build_part(r, b, s, at, at + len);
			continue;
		}
		og_jinja_build(r, b, out, (uint32_t)strlen(out),
			s->foreign && s->foreign[at] ? (const uint8_t *)"\1\1\1\1\1\1\1\1\1\1\1\1"
						     : NULL);
	}
	og_jinja_build(r, b, &quote, 1, NULL);
}

static void enter(struct og_jinja_run *r)
{
	if (++r->depth > OG_JINJA_DEPTH_MAX)
		og_jinja_fail(&r->trap, -E2BIG, "values nest deeper than %d", OG_JINJA_DEPTH_MAX);
}

static void repr_list(struct og_jinja_run *r, struct og_jinja_builder *b, struct og_jinja_value v)
{
	bool tuple = v.kind == OG_JINJA_TUPLE;

	og_jinja_build_text(r, b, tuple ? "(" : "[");
	for (uint32_t i = 0; i < v.list->len; i++) {
		og_jinja_build_text(r, b, i > 0 ? ", " : "");
		og_jinja_repr(r, b, v.list->items[i]);
	}
	og_jinja_build_text(r, b, tuple ? (v.list->len == 1 ? ",)" : ")") : "]");
}

static void repr_dict(struct og_jinja_run *r, struct og_jinja_builder *b, struct og_jinja_value v)
{
	og_jinja_build_text(r, b, v.kind == OG_JINJA_NAMESPACE ? "<Namespace {" : "{");
	for (uint32_t i = 0; i < v.dict->len; i++) {
		og_jinja_build_text(r, b, i > 0 ? ", " : "");
		og_jinja_repr(r, b, v.dict->members[i].key);
		og_jinja_build_text(r, b, ": ");
		og_jinja_repr(r, b, v.dict->members[i].value);
	}
	og_jinja_build_text(r, b, v.kind == OG_JINJA_NAMESPACE ? "}>" : "}");
}

void og_jinja_repr(struct og_jinja_run *r, struct og_jinja_builder *b, struct og_jinja_value v)
{
	enter(r);
	og_jinja_spend(r, 1);
	if (v.kind == OG_JINJA_STRING)
		repr_string(r, b, v.string);
	else if (v.kind == OG_JINJA_LIST || v.kind == OG_JINJA_TUPLE)
		repr_list(r, b, v);
	else if (v.kind == OG_JINJA_DICT || v.kind == OG_JINJA_NAMESPACE)
		repr_dict(r, b, v);
	else if (v.kind == OG_JINJA_UNDEFINED)
		og_jinja_build_text(r, b, "Undefined");
	else
		og_jinja_build_value(r, b, v);
	r->depth--;
}

void og_jinja_build_value(
	struct og_jinja_run *r, struct og_jinja_builder *b, struct og_jinja_value v)
{
	char number[64];

	switch (v.kind) {
	case OG_JINJA_UNDEFINED:
		return;
	case OG_JINJA_NONE:
		og_jinja_build_text(r, b, "None");
		return;
	case OG_JINJA_BOOL:
		og_jinja_build_text(r, b, v.b ? "True" : "False");
		return;
	case OG_JINJA_INT:
		snprintf(number, sizeof(number), "%lld", (long long)v.i);
		og_jinja_build_text(r, b, number);
		return;
	case OG_JINJA_FLOAT:
		write_float(number, v.f);
		og_jinja_build_text(r, b, number);
		return;
	case OG_JINJA_STRING:
		og_jinja_build_part(r, b, v.string, 0, v.string->len);
		return;
	case OG_JINJA_LIST:
	case OG_JINJA_TUPLE:
	case OG_JINJA_DICT:
	case OG_JINJA_NAMESPACE:
		og_jinja_repr(r, b, v);
		return;
	default:
		og_jinja_fail(&r->trap, -EBADMSG, "a %s cannot be written", og_jinja_type_name(v));
	}
}

const struct og_jinja_string *og_jinja_str(struct og_jinja_run *r, struct og_jinja_value v)
{
	struct og_jinja_builder b = {0};

	if (v.kind == OG_JINJA_STRING)
		return v.string;
	og_jinja_build_value(r, &b, v);
	return og_jinja_built(r, &b).string;
}

const char *og_jinja_type_name(struct og_jinja_value v)
{
	static const char *const names[] = {"undefined value", "None", "bool", "int", "float",
		"str", "list", "tuple", "dict", "namespace", "loop", "function", "method", "macro"};

	return names[v.kind];
}

/* ---- What values are. ---- */

bool og_jinja_is_space(uint32_t c)
{
	return og_char_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

bool og_jinja_is_number(struct og_jinja_value v)
{
	return v.kind == OG_JINJA_BOOL || v.kind == OG_JINJA_INT || v.kind == OG_JINJA_FLOAT;
}

double og_jinja_number(struct og_jinja_value v)
{
	return v.kind == OG_JINJA_FLOAT ? v.f : v.kind == OG_JINJA_BOOL ? v.b : (double)v.i;
}

static int64_t integer(struct og_jinja_value v)
{
	return v.kind == OG_JINJA_BOOL ? v.b : v.i;
}

bool og_jinja_truth(struct og_jinja_value v)
{
	switch (v.kind) {
	case OG_JINJA_UNDEFINED:
	case OG_JINJA_NONE:
		return false;
	case OG_JINJA_BOOL:
		return v.b;
	case OG_JINJA_INT:
		return v.i != 0;
	case OG_JINJA_FLOAT:
		return v.f != 0;
	case OG_JINJA_STRING:
		return v.string->len > 0;
	case OG_JINJA_LIST:
	case OG_JINJA_TUPLE:
		return v.list->len > 0;
	case OG_JINJA_DICT:
		return v.dict->len > 0;
	default:
		return true;
	}
}

static bool same_items(
	struct og_jinja_run *r, const struct og_jinja_list *a, const struct og_jinja_list *b)
{
	bool same = a->len == b->len;

	for (uint32_t i = 0; i < a->len && same; i++)
		same = og_jinja_equal(r, a->items[i], b->items[i]);
	return same;
}

static bool same_members(
	struct og_jinja_run *r, const struct og_jinja_dict *a, const struct og_jinja_dict *b)
{
	bool same = a->len == b->len;

	for (uint32_t i = 0; i < a->len && same; i++) {
		struct og_jinja_value *other = og_jinja_find(r, b, a->members[i].key);

		same = other && og_jinja_equal(r, a->members[i].value, *other);
	}
	return same;
}

bool og_jinja_equal(struct og_jinja_run *r, struct og_jinja_value a, struct og_jinja_value b)
{
	bool same = false;

	if (og_jinja_is_number(a) && og_jinja_is_number(b))
		return a.kind == OG_JINJA_FLOAT || b.kind == OG_JINJA_FLOAT
			       ? og_jinja_number(a) == og_jinja_number(b)
			       : integer(a) == integer(b);
	if (a.kind != b.kind)
		return false;
	if (a.kind == OG_JINJA_STRING)
		return a.string->len == b.string->len &&
		       memcmp(a.string->data, b.string->data, a.string->len) == 0;
	enter(r);
	og_jinja_spend(r, 1);
	if (a.kind == OG_JINJA_UNDEFINED || a.kind == OG_JINJA_NONE)
		same = true;
	else if (a.kind == OG_JINJA_LIST || a.kind == OG_JINJA_TUPLE)
		same = same_items(r, a.list, b.list);
	else if (a.kind == OG_JINJA_DICT)
		same = same_members(r, a.dict, b.dict);
	else
		same = a.other == b.other;
	r->depth--;
	return same;
}

int og_jinja_order(struct og_jinja_run *r, struct og_jinja_value a, struct og_jinja_value b)
{
	double x, y;
	int order;

	if (og_jinja_is_number(a) && og_jinja_is_number(b)) {
		x = og_jinja_number(a);
		y = og_jinja_number(b);
		return x < y ? -1 : x > y;
	}
	if (a.kind == OG_JINJA_STRING && b.kind == OG_JINJA_STRING) {
		order = memcmp(
			a.string->data, b.string->data, OG_MIN(a.string->len, b.string->len));
		return order ? order
			     : (a.string->len > b.string->len) - (a.string->len < b.string->len);
	}
	if (a.kind != b.kind || (a.kind != OG_JINJA_LIST && a.kind != OG_JINJA_TUPLE))
		og_jinja_fail(&r->trap, -EBADMSG, "a %s and a %s have no order",
			og_jinja_type_name(a), og_jinja_type_name(b));
	enter(r);
	order = 0;
	for (uint32_t i = 0; i < OG_MIN(a.list->len, b.list->len) && order == 0; i++)
		order = og_jinja_order(r, a.list->items[i], b.list->items[i]);
	r->depth--;
	return order ? order : (a.list->len > b.list->len) - (a.list->len < b.list->len);
}

bool og_jinja_contains(struct og_jinja_run *r, struct og_jinja_value in, struct og_jinja_value v)
{
	switch (in.kind) {
	case OG_JINJA_STRING:
		if (v.kind != OG_JINJA_STRING)
			break;
		og_jinja_spend(r, in.string->len / 64);
		return v.string->len == 0 ||
		       memmem(in.string->data, in.string->len, v.string->data, v.string->len);
	case OG_JINJA_LIST:
	case OG_JINJA_TUPLE:
		og_jinja_spend(r, in.list->len / 8);
		for (uint32_t i = 0; i < in.list->len; i++)
			if (og_jinja_equal(r, in.list->items[i], v))
				return true;
		return false;
	case OG_JINJA_DICT:
		return og_jinja_find(r, in.dict, v) != NULL;
	case OG_JINJA_UNDEFINED:
		return false;
	default:
		break;
	}
	og_jinja_fail(&r->trap, -EBADMSG, "a %s cannot be in a %s", og_jinja_type_name(v),
		og_jinja_type_name(in));
}

int64_t og_jinja_length(struct og_jinja_value v)
{
	int64_t n = 0;
	uint32_t len;

	switch (v.kind) {
	case OG_JINJA_UNDEFINED:
		return 0;
	case OG_JINJA_STRING:
		for (uint32_t at = 0; at < v.string->len; at += len, n++)
			og_jinja_char(v.string, at, &len);
		return n;
	case OG_JINJA_LIST:
	case OG_JINJA_TUPLE:
		return v.list->len;
	case OG_JINJA_DICT:
		return v.dict->len;
	default:
		return -1;
	}
}

struct og_jinja_list *og_jinja_iterate(struct og_jinja_run *r, struct og_jinja_value v)
{
	struct og_jinja_list *l;
	uint32_t len;

	switch (v.kind) {
	case OG_JINJA_LIST:
	case OG_JINJA_TUPLE:
		return v.list;
	case OG_JINJA_UNDEFINED:
		return og_jinja_new_list(r, 0);
	case OG_JINJA_DICT:
		l = og_jinja_new_list(r, v.dict->len);
		for (uint32_t i = 0; i < v.dict->len; i++)
			og_jinja_push(r, l, v.dict->members[i].key);
		return l;
	case OG_JINJA_STRING:
		og_jinja_spend(r, v.string->len / 8);
		l = og_jinja_new_list(r, v.string->len);
		for (uint32_t at = 0; at < v.string->len; at += len) {
			og_jinja_char(v.string, at, &len);
			og_jinja_push(r, l, og_jinja_part(r, v.string, at, at + len));
		}
		return l;
	default:
		og_jinja_fail(&r->trap, -EBADMSG, "a %s cannot be iterated", og_jinja_type_name(v));
	}
}

/* The byte at which character `i` starts. */
static uint32_t char_offset(const struct og_jinja_string *s, int64_t i)
{
	uint32_t at = 0, len;

	for (; i > 0; i--) {
		og_jinja_char(s, at, &len);
		at += len;
	}
	return at;
}

struct og_jinja_value og_jinja_item(
	struct og_jinja_run *r, struct og_jinja_value v, struct og_jinja_value key)
{
	struct og_jinja_value *found;
	int64_t len, i;
	uint32_t at, n;

	if (v.kind == OG_JINJA_DICT) {
		found = og_jinja_find(r, v.dict, key);
		return found ? *found : OG_JINJA_UNDEF;
	}
	if ((key.kind != OG_JINJA_INT && key.kind != OG_JINJA_BOOL) ||
		(v.kind != OG_JINJA_LIST && v.kind != OG_JINJA_TUPLE && v.kind != OG_JINJA_STRING))
		return OG_JINJA_UNDEF;
	len = og_jinja_length(v);
	i = integer(key);
	i += i < 0 ? len : 0;
	if (i < 0 || i >= len)
		return OG_JINJA_UNDEF;
	if (v.kind != OG_JINJA_STRING)
		return v.list->items[i];
	og_jinja_spend(r, v.string->len / 64);
	at = char_offset(v.string, i);
	og_jinja_char(v.string, at, &n);
	return og_jinja_part(r, v.string, at, at + n);
}

/* A bound of a slice, as Python's slice.indices(). */
static int64_t bound(struct og_jinja_run *r, struct og_jinja_value v, int64_t len, int64_t step,
	int64_t otherwise)
{
	int64_t i;

	if (v.kind == OG_JINJA_NONE)
		return otherwise;
	if (v.kind != OG_JINJA_INT && v.kind != OG_JINJA_BOOL)
		og_jinja_fail(&r->trap, -EBADMSG, "a %s in a slice", og_jinja_type_name(v));
	i = integer(v);
	if (i < 0)
		return OG_MAX(i + len, step < 0 ? -1 : 0);
	return OG_MIN(i, step < 0 ? len - 1 : len);
}

struct og_jinja_value og_jinja_slice(struct og_jinja_run *r, struct og_jinja_value v,
	struct og_jinja_value from_value, struct og_jinja_value to_value,
	struct og_jinja_value step_value)
{
	int64_t step = step_value.kind == OG_JINJA_NONE ? 1 : bound(r, step_value, 0, 0, 1);
	struct og_jinja_builder b = {0};
	struct og_jinja_list *l, *source;
	int64_t len, from, to;

	if (v.kind != OG_JINJA_LIST && v.kind != OG_JINJA_TUPLE && v.kind != OG_JINJA_STRING)
		return OG_JINJA_UNDEF;
	if (step_value.kind == OG_JINJA_INT)
		step = step_value.i;
	if (step == 0)
		og_jinja_fail(&r->trap, -EBADMSG, "a slice with step zero");
	len = og_jinja_length(v);
	step = OG_MAX(OG_MIN(step, len + 1), -len - 1);
	from = bound(r, from_value, len, step, step < 0 ? len - 1 : 0);
	to = bound(r, to_value, len, step, step < 0 ? -1 : len);
	if (v.kind == OG_JINJA_STRING && step == 1)
		return og_jinja_part(r, v.string, char_offset(v.string, from),
			char_offset(v.string, OG_MAX(from, to)));
	source = og_jinja_iterate(r, v);
	l = og_jinja_new_list(r, 0);
	for (int64_t i = from; step > 0 ? i < to : i > to; i += step) {
		og_jinja_spend(r, 1);
		if (v.kind == OG_JINJA_STRING)
			og_jinja_build_value(r, &b, source->items[i]);
		else
			og_jinja_push(r, l, source->items[i]);
	}
	return v.kind == OG_JINJA_STRING ? og_jinja_built(r, &b)
					 : og_jinja_list_value(l, v.kind == OG_JINJA_TUPLE);
}

static bool is_among(const struct og_jinja_string *chars, uint32_t c)
{
	uint32_t len;

	for (uint32_t at = 0; chars && at < chars->len; at += len)
		if (og_jinja_char(chars, at, &len) == c)
			return true;
	return !chars && og_jinja_is_space(c);
}

struct og_jinja_value og_jinja_strip(struct og_jinja_run *r, const struct og_jinja_string *s,
	const struct og_jinja_string *chars, unsigned sides)
{
	uint32_t from = 0, to = s->len, len;

	og_jinja_spend(r, chars ? (uint32_t)((uint64_t)s->len * chars->len / 256) : s->len / 256);
	while (sides & STRIP_LEFT && from < to && is_among(chars, og_jinja_char(s, from, &len)))
		from += len;
	while (sides & STRIP_RIGHT && to > from) {
		uint32_t at = to - 1;

		while (at > from && to - at < 4 && (s->data[at] & 0xc0) == 0x80)
			at--;
		if (!is_among(chars, og_jinja_char(s, at, &len)) || at + len != to)
			break;
		to = at;
	}
	return og_jinja_part(r, s, from, OG_MIN(to, s->len));
}

/* ---- Operators. ---- */

_Noreturn static void mismatch(
	struct og_jinja_run *r, const char *what, struct og_jinja_value a, struct og_jinja_value b)
{
	og_jinja_fail(&r->trap, -EBADMSG, "%s of a %s and a %s", what, og_jinja_type_name(a),
		og_jinja_type_name(b));
}

static struct og_jinja_value floor_divide(
	struct og_jinja_run *r, enum og_jinja_op op, int64_t a, int64_t b)
{
	int64_t quotient, rest;

	if (b == 0 || (a == INT64_MIN && b == -1))
		og_jinja_fail(&r->trap, -EBADMSG, "division by zero");
	quotient = a / b;
	rest = a % b;
	if (rest != 0 && (rest < 0) != (b < 0)) {
		quotient--;
		rest += b;
	}
	return og_jinja_int(op == OP_MOD ? rest : quotient);
}

static struct og_jinja_value power(struct og_jinja_run *r, int64_t base, int64_t exponent)
{
	int64_t v = 1;

	if (exponent < 0)
		return og_jinja_float(pow((double)base, (double)exponent));
	for (; exponent > 0; exponent--) {
		og_jinja_spend(r, 1);
		if (__builtin_mul_overflow(v, base, &v))
			og_jinja_fail(&r->trap, -EBADMSG, "a number is too large");
	}
	return og_jinja_int(v);
}

static struct og_jinja_value integers(
	struct og_jinja_run *r, enum og_jinja_op op, int64_t a, int64_t b)
{
	int64_t v;
	bool overflow;

	if (op == OP_FLOORDIV || op == OP_MOD)
		return floor_divide(r, op, a, b);
	if (op == OP_POW)
		return power(r, a, b);
	overflow = op == OP_ADD   ? __builtin_add_overflow(a, b, &v)
		   : op == OP_SUB ? __builtin_sub_overflow(a, b, &v)
				  : __builtin_mul_overflow(a, b, &v);
	if (overflow)
		og_jinja_fail(&r->trap, -EBADMSG, "a number is too large");
	return og_jinja_int(v);
}

static struct og_jinja_value numbers(struct og_jinja_run *r, enum og_jinja_op op,
	struct og_jinja_value a, struct og_jinja_value b)
{
	double x = og_jinja_number(a), y = og_jinja_number(b), rest;

	if (a.kind != OG_JINJA_FLOAT && b.kind != OG_JINJA_FLOAT && op != OP_DIV)
		return integers(r, op, integer(a), integer(b));
	if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && y == 0)
		og_jinja_fail(&r->trap, -EBADMSG, "division by zero");
	switch (op) {
	case OP_ADD:
		return og_jinja_float(x + y);
	case OP_SUB:
		return og_jinja_float(x - y);
	case OP_MUL:
		return og_jinja_float(x * y);
	case OP_DIV:
		return og_jinja_float(x / y);
	case OP_FLOORDIV:
		return og_jinja_float(floor(x / y));
	case OP_MOD:
		rest = fmod(x, y);
		return og_jinja_float(rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest);
	default:
		return og_jinja_float(pow(x, y));
	}
}

static struct og_jinja_value repeat(struct og_jinja_run *r, struct og_jinja_value v, int64_t count)
{
	struct og_jinja_builder b = {0};
	struct og_jinja_list *l = og_jinja_new_list(r, 0);

	for (; count > 0; count--) {
		og_jinja_spend(r, 1);
		if (v.kind == OG_JINJA_STRING)
			og_jinja_build_value(r, &b, v);
		else
			for (uint32_t i = 0; i < v.list->len; i++)
				og_jinja_push(r, l, v.list->items[i]);
	}
	return v.kind == OG_JINJA_STRING ? og_jinja_built(r, &b)
					 : og_jinja_list_value(l, v.kind == OG_JINJA_TUPLE);
}

static struct og_jinja_value add(
	struct og_jinja_run *r, struct og_jinja_value a, struct og_jinja_value b)
{
	struct og_jinja_builder text = {0};
	struct og_jinja_list *l;

	if (a.kind != b.kind ||
		(a.kind != OG_JINJA_STRING && a.kind != OG_JINJA_LIST && a.kind != OG_JINJA_TUPLE))
		mismatch(r, "the sum", a, b);
	if (a.kind == OG_JINJA_STRING) {
		og_jinja_build_value(r, &text, a);
		og_jinja_build_value(r, &text, b);
		return og_jinja_built(r, &text);
	}
	og_jinja_spend(r, (a.list->len + b.list->len) / 8);
	l = og_jinja_new_list(r, a.list->len + b.list->len);
	for (uint32_t i = 0; i < a.list->len; i++)
		og_jinja_push(r, l, a.list->items[i]);
	for (uint32_t i = 0; i < b.list->len; i++)
		og_jinja_push(r, l, b.list->items[i]);
	return og_jinja_list_value(l, a.kind == OG_JINJA_TUPLE);
}

struct og_jinja_value og_jinja_binary(struct og_jinja_run *r, enum og_jinja_op op,
	struct og_jinja_value a, struct og_jinja_value b)
{
	struct og_jinja_builder text = {0};

	if (op == OP_CONCAT) {
		og_jinja_build_value(r, &text, a);
		og_jinja_build_value(r, &text, b);
		return og_jinja_built(r, &text);
	}
	if (og_jinja_is_number(a) && og_jinja_is_number(b))
		return numbers(r, op, a, b);
	if (op == OP_ADD)
		return add(r, a, b);
	if (op == OP_MUL && b.kind == OG_JINJA_INT &&
		(a.kind == OG_JINJA_STRING || a.kind == OG_JINJA_LIST || a.kind == OG_JINJA_TUPLE))
		return repeat(r, a, b.i);
	if (op == OP_MUL && a.kind == OG_JINJA_INT &&
		(b.kind == OG_JINJA_STRING || b.kind == OG_JINJA_LIST || b.kind == OG_JINJA_TUPLE))
		return repeat(r, b, a.i);
	if (op == OP_MOD && a.kind == OG_JINJA_STRING)
		return b.kind == OG_JINJA_TUPLE
			       ? og_jinja_percent(r, a.string, b.list->items, b.list->len)
			       : og_jinja_percent(r, a.string, &b, 1);
	mismatch(r, "an operation", a, b);
}
