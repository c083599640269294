#include "gpu/json.h"

#include "gpu/complain.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	NODES_START = 64,
	DIGITS_MAX = 128, /* longer numbers are in no file that means them */
};

struct level {
	uint32_t node; /* the container */
	uint32_t last; /* its latest item, 0: none yet */
};

struct parse {
	struct og_json *j;
	const char *file;
	const char *p, *end;
	uint32_t cap, nodes_max;
	uint32_t copies_len, copies_cap;
	uint32_t depth;
	struct level levels[OG_JSON_DEPTH_MAX];
	char *err;
	size_t err_bytes;
};

OG_PRINTF(2, 3) static int bad(struct parse *p, const char *fmt, ...)
{
	char where[512];
	va_list args;

	snprintf(where, sizeof(where), "%s: byte %zu", p->file, (size_t)(p->p - p->j->data));
	va_start(args, fmt);
	og_complain_at(p->err, p->err_bytes, where, fmt, args);
	va_end(args);
	return -EBADMSG;
}

static void skip_space(struct parse *p)
{
	while (p->p < p->end && (*p->p == ' ' || *p->p == '\n' || *p->p == '\r' || *p->p == '\t'))
		p->p++;
}

static bool next_is(const struct parse *p, char c)
{
	return p->p < p->end && *p->p == c;
}

static int grow_nodes(struct parse *p)
{
	uint32_t cap = p->cap == 0 ? NODES_START : p->cap * 2; /* at most 2 * OG_JSON_MAX_BYTES */
	struct og_json_node *nodes;

	if (p->cap >= p->nodes_max) {
		bad(p, "more than %u values", p->nodes_max);
		return -E2BIG;
	}
	cap = OG_MIN(cap, p->nodes_max);
	nodes = realloc(p->j->nodes, cap * sizeof(*nodes));
	if (!nodes)
		return -ENOMEM;
	p->j->nodes = nodes;
	p->cap = cap;
	return 0;
}

static int add_node(struct parse *p, enum og_json_kind kind, const char *at, size_t len)
{
	if (p->j->nb_nodes == p->cap) {
		int ret = grow_nodes(p);

		if (ret < 0)
			return ret;
	}
	p->j->nodes[p->j->nb_nodes++] = (struct og_json_node){
		(uint32_t)(at - p->j->data), (uint32_t)len, 0, (uint8_t)kind, false};
	return 0;
}

static struct og_json_node *newest(struct parse *p)
{
	return &p->j->nodes[p->j->nb_nodes - 1];
}

/* The newest node is the next item of the innermost container: an element, or a member's key. */
static void link_item(struct parse *p)
{
	struct level *in = &p->levels[p->depth - 1];
	struct og_json_node *container = &p->j->nodes[in->node];
	uint32_t id = p->j->nb_nodes - 1;

	if (in->last)
		p->j->nodes[in->last].next = id;
	else
		container->at = id;
	in->last = id;
	container->len++;
}

/* Past bytes that need no look: printable ASCII without quote and backslash, eight at a time. */
static const char *skip_plain(const char *s, const char *end)
{
	const uint64_t ones = 0x0101010101010101u, high = 0x80 * ones;

	while (end - s >= 8) {
		uint64_t v, quote, backslash;

		memcpy(&v, s, 8);
		quote = v ^ '"' * ones;
		backslash = v ^ '\\' * ones;
		/* The high bit of a byte of (x - ones) & ~x is set if x has a byte of zero. */
		if ((((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) |
			    (v - 0x20 * ones) | v) &
			high)
			break;
		s += 8;
	}
	return s;
}

/* p->p is behind the opening quote: moves it to the closing one. */
static int scan_string(struct parse *p, bool *escapes)
{
	*escapes = false;
	for (;;) {
		int n;

		p->p = skip_plain(p->p, p->end);
		if (p->p == p->end)
			return bad(p, "the document ends inside a string");
		if (*p->p == '"')
			return 0;
		if ((uint8_t)*p->p < 0x20)
			return bad(p, "a control character in a string");
		if (*p->p == '\\') {
			*escapes = true;
			p->p++; /* what it escapes is checked when it is undone */
			if (p->p == p->end)
				return bad(p, "the document ends inside a string");
		}
		n = og_utf8_first(p->p, (size_t)(p->end - p->p));
		if (n <= 0)
			return bad(p, "a string is not UTF-8");
		p->p += n;
	}
}

static int hex4(struct parse *p, uint32_t *out)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++, p->p++) {
		int c = *p->p | 0x20; /* a string ends with its quote, so this is in it */

		if (*p->p >= '0' && *p->p <= '9')
			v = v << 4 | (uint32_t)(*p->p - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint32_t)(c - 'a' + 10);
		else
			return bad(p, "\\u needs four hexadecimal digits");
	}
	*out = v;
	return 0;
}

/* p->p is behind "\u". */
static int undo_unicode(struct parse *p, char out[4], uint32_t *len)
{
	uint32_t c, low;
	int ret = hex4(p, &c);

	if (ret < 0)
		return ret;
	if (c >= 0xd800 && c < 0xe000) {
		if (c >= 0xdc00 || p->p[0] != '\\' || p->p[1] != 'u')
			return bad(p, "half of a surrogate pair");
		p->p += 2;
		ret = hex4(p, &low);
		if (ret < 0)
			return ret;
		if (low < 0xdc00 || low >= 0xe000)
			return bad(p, "half of a surrogate pair");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	*len = og_utf8_encode(c, out);
	return 0;
}

/* p->p is behind a backslash inside a string. */
static int undo_escape(struct parse *p, char out[4], uint32_t *len)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	const char *name;

	if (*p->p == 'u') {
		p->p++;
		return undo_unicode(p, out, len);
	}
	name = *p->p ? strchr(names, *p->p) : NULL;
	if (!name)
		return bad(p, "an unknown escape");
	out[0] = values[name - names];
	*len = 1;
	p->p++;
	return 0;
}

static int grow_copies(struct parse *p, size_t more)
{
	size_t need = p->copies_len + more;
	size_t cap = OG_MAX(need, 2 * (size_t)p->copies_cap);
	char *copies;

	if (need <= p->copies_cap)
		return 0;
	cap = OG_MIN(cap, OG_JSON_MAX_BYTES); /* copies are shorter than their strings */
	copies = realloc(p->j->copies, cap);
	if (!copies)
		return -ENOMEM;
	p->j->copies = copies;
	p->copies_cap = (uint32_t)cap;
	return 0;
}

/* The newest node is a string with escapes: copy it without. p->p is at its closing quote. */
static int copy_string(struct parse *p)
{
	struct og_json_node *node = newest(p);
	const char *end = p->p;
	uint32_t start = p->copies_len;
	int ret = grow_copies(p, node->len);

	p->p = p->j->data + node->at;
	while (ret == 0 && p->p < end) {
		char *out = p->j->copies + p->copies_len;
		uint32_t len = 1;

		if (*p->p == '\\') {
			char c[4];

			p->p++;
			ret = undo_escape(p, c, &len);
			if (ret < 0)
				return ret;
			memcpy(out, c, len);
		} else {
			*out = *p->p++;
		}
		p->copies_len += len;
	}
	node->at = start;
	node->len = p->copies_len - start;
	node->is_copy = true;
	return ret;
}

/* p->p is at the opening quote. */
static int parse_string(struct parse *p)
{
	const char *start = ++p->p;
	bool escapes;
	int ret = scan_string(p, &escapes);

	if (ret == 0)
		ret = add_node(p, OG_JSON_STRING, start, (size_t)(p->p - start));
	if (ret == 0 && escapes)
		ret = copy_string(p);
	if (ret == 0)
		p->p++;
	return ret;
}

static bool skip_digits(struct parse *p)
{
	const char *start = p->p;

	while (p->p < p->end && *p->p >= '0' && *p->p <= '9')
		p->p++;
	return p->p > start;
}

/* RFC 8259, 6 */
static int parse_number(struct parse *p)
{
	const char *start = p->p;
	bool ok;

	p->p += *p->p == '-';
	ok = next_is(p, '0');
	if (ok)
		p->p++;
	else
		ok = skip_digits(p);
	if (ok && next_is(p, '.')) {
		p->p++;
		ok = skip_digits(p);
	}
	if (ok && (next_is(p, 'e') || next_is(p, 'E'))) {
		p->p++;
		if (next_is(p, '+') || next_is(p, '-'))
			p->p++;
		ok = skip_digits(p);
	}
	return ok ? add_node(p, OG_JSON_NUMBER, start, (size_t)(p->p - start))
		  : bad(p, "not a number");
}

static int parse_word(struct parse *p)
{
	static const struct {
		const char *word;
		enum og_json_kind kind;
	} words[] = {{"null", OG_JSON_NULL}, {"true", OG_JSON_TRUE}, {"false", OG_JSON_FALSE},
		{"NaN", OG_JSON_NUMBER}, {"Infinity", OG_JSON_NUMBER},
		{"-Infinity", OG_JSON_NUMBER}};

	for (size_t i = 0; i < OG_ARRAY_LEN(words); i++) {
		size_t len = strlen(words[i].word);

		if ((size_t)(p->end - p->p) < len || memcmp(p->p, words[i].word, len) != 0)
			continue;
		p->p += len;
		return add_node(p, words[i].kind, p->p - len, len);
	}
	return *p->p == '-' ? parse_number(p) : bad(p, "a value is missing");
}

static int open_container(struct parse *p, enum og_json_kind kind)
{
	int ret;

	if (p->depth == OG_JSON_DEPTH_MAX)
		return bad(p, "nested deeper than %u", OG_JSON_DEPTH_MAX);
	ret = add_node(p, kind, p->j->data, 0);
	p->p++;
	return ret;
}

static int parse_scalar(struct parse *p)
{
	if (*p->p == '"')
		return parse_string(p);
	return *p->p >= '0' && *p->p <= '9' ? parse_number(p) : parse_word(p);
}

static char closer(const struct parse *p)
{
	return p->j->nodes[p->levels[p->depth - 1].node].kind == OG_JSON_ARRAY ? ']' : '}';
}

/* The key of a member and its colon. */
static int parse_key(struct parse *p)
{
	int ret;

	skip_space(p);
	if (!next_is(p, '"'))
		return bad(p, "a member's name is missing");
	ret = parse_string(p);
	if (ret < 0)
		return ret;
	link_item(p);
	skip_space(p);
	if (!next_is(p, ':'))
		return bad(p, "a colon is missing");
	p->p++;
	return 0;
}

/* One value, or the start of a container, which then is the innermost level. */
static int parse_value(struct parse *p, bool *opened)
{
	bool is_element = p->depth > 0 && closer(p) == ']';
	int ret;

	skip_space(p);
	if (p->p == p->end)
		return bad(p, "the document ends where a value is missing");
	*opened = *p->p == '{' || *p->p == '[';
	if (*opened)
		ret = open_container(p, *p->p == '{' ? OG_JSON_OBJECT : OG_JSON_ARRAY);
	else
		ret = parse_scalar(p);
	if (ret < 0)
		return ret;
	if (is_element)
		link_item(p);
	if (*opened)
		p->levels[p->depth++] = (struct level){p->j->nb_nodes - 1, 0};
	return 0;
}

/* Behind a value: past closing brackets, up to a comma or the end. */
static int parse_after(struct parse *p)
{
	while (p->depth > 0) {
		skip_space(p);
		if (next_is(p, ',')) {
			p->p++;
			return 0;
		}
		if (!next_is(p, closer(p)))
			return bad(p, "a comma or %c is missing", closer(p));
		p->p++;
		p->depth--;
	}
	return 0;
}

static int parse_document(struct parse *p)
{
	bool opened = false;
	int ret;

	do {
		ret = p->depth > 0 && closer(p) == '}' ? parse_key(p) : 0;
		if (ret == 0)
			ret = parse_value(p, &opened);
		if (ret < 0)
			return ret;
		if (opened) {
			skip_space(p);
			if (!next_is(p, closer(p)))
				continue;
		}
		ret = parse_after(p);
	} while (ret == 0 && p->depth > 0);
	skip_space(p);
	return ret == 0 && p->p < p->end ? bad(p, "more follows the document") : ret;
}

int og_json_init(struct og_json *j, const char *file, const void *data, size_t len_bytes,
	uint32_t nodes_max, char *err, size_t err_bytes)
{
	struct parse p = {.j = j,
		.file = file,
		.p = data,
		.end = (const char *)data + len_bytes,
		.nodes_max = nodes_max,
		.err = err,
		.err_bytes = err_bytes};
	int ret;

	*j = (struct og_json){.data = data};
	if (len_bytes > OG_JSON_MAX_BYTES) {
		bad(&p, "a document of %zu bytes is larger than %u", len_bytes, OG_JSON_MAX_BYTES);
		return -E2BIG;
	}
	ret = parse_document(&p);
	if (ret == -ENOMEM)
		snprintf(err, err_bytes, "%s: out of memory", file);
	if (ret < 0)
		og_json_fini(j);
	return ret;
}

void og_json_fini(struct og_json *j)
{
	free(j->nodes);
	free(j->copies);
	memset(j, 0, sizeof(*j));
}

enum og_json_kind og_json_kind(const struct og_json *j, uint32_t node)
{
	return node == OG_JSON_NONE ? OG_JSON_ABSENT : j->nodes[node].kind;
}

static bool has_items(const struct og_json *j, uint32_t node)
{
	enum og_json_kind kind = og_json_kind(j, node);

	return kind == OG_JSON_ARRAY || kind == OG_JSON_OBJECT;
}

uint32_t og_json_count(const struct og_json *j, uint32_t node)
{
	return has_items(j, node) ? j->nodes[node].len : 0;
}

uint32_t og_json_first(const struct og_json *j, uint32_t node)
{
	return og_json_count(j, node) > 0 ? j->nodes[node].at : 0;
}

uint32_t og_json_next(const struct og_json *j, uint32_t node)
{
	return j->nodes[node].next;
}

static struct og_text node_text(const struct og_json *j, uint32_t node)
{
	const struct og_json_node *n = &j->nodes[node];

	return (struct og_text){(n->is_copy ? j->copies : j->data) + n->at, n->len};
}

uint32_t og_json_get(const struct og_json *j, uint32_t object, const char *key)
{
	size_t len = strlen(key);
	uint32_t found = OG_JSON_NONE;

	if (og_json_kind(j, object) != OG_JSON_OBJECT)
		return OG_JSON_NONE;
	for (uint32_t k = og_json_first(j, object); k; k = og_json_next(j, k))
		if (j->nodes[k].len == len && memcmp(node_text(j, k).data, key, len) == 0)
			found = k + 1;
	return found;
}

struct og_text og_json_text(const struct og_json *j, uint32_t node)
{
	return og_json_kind(j, node) == OG_JSON_STRING ? node_text(j, node)
						       : (struct og_text){"", 0};
}

struct og_text og_json_digits(const struct og_json *j, uint32_t node)
{
	return og_json_kind(j, node) == OG_JSON_NUMBER ? node_text(j, node)
						       : (struct og_text){"", 0};
}

/* What a typed read of another kind gives. */
static int mismatch(const struct og_json *j, uint32_t node)
{
	enum og_json_kind kind = og_json_kind(j, node);

	return kind == OG_JSON_ABSENT || kind == OG_JSON_NULL ? -ENOENT : -EBADMSG;
}

int og_json_u64(const struct og_json *j, uint32_t node, uint64_t *out)
{
	struct og_text t = og_json_digits(j, node);
	uint64_t v = 0;

	if (t.len_bytes == 0)
		return mismatch(j, node);
	for (uint32_t i = 0; i < t.len_bytes; i++) {
		if (t.data[i] < '0' || t.data[i] > '9')
			return -EBADMSG;
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, (uint64_t)(t.data[i] - '0'), &v))
			return -EBADMSG;
	}
	*out = v;
	return 0;
}

int og_json_i64(const struct og_json *j, uint32_t node, int64_t *out)
{
	struct og_text t = og_json_digits(j, node);
	bool negative = t.len_bytes > 0 && t.data[0] == '-';
	int64_t v = 0;

	if (t.len_bytes == 0)
		return mismatch(j, node);
	for (uint32_t i = negative; i < t.len_bytes; i++) {
		int digit = t.data[i] - '0';

		if (digit < 0 || digit > 9)
			return -EBADMSG;
		if (__builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, negative ? -digit : digit, &v))
			return -EBADMSG;
	}
	*out = v;
	return 0;
}

int og_json_f64(const struct og_json *j, uint32_t node, double *out)
{
	struct og_text t = og_json_digits(j, node);
	char digits[DIGITS_MAX + 1];

	if (t.len_bytes == 0)
		return mismatch(j, node);
	if (t.len_bytes > DIGITS_MAX)
		return -EBADMSG;
	memcpy(digits, t.data, t.len_bytes);
	digits[t.len_bytes] = '\0';
	*out = strtod(digits, NULL);
	return 0;
}

int og_json_bool(const struct og_json *j, uint32_t node, bool *out)
{
	enum og_json_kind kind = og_json_kind(j, node);

	if (kind != OG_JSON_TRUE && kind != OG_JSON_FALSE)
		return mismatch(j, node);
	*out = kind == OG_JSON_TRUE;
	return 0;
}

int og_json_string(const struct og_json *j, uint32_t node, struct og_text *out)
{
	if (og_json_kind(j, node) != OG_JSON_STRING)
		return mismatch(j, node);
	*out = node_text(j, node);
	return 0;
}
