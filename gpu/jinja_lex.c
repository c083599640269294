#include "gpu/jinja_priv.h"

#include "gpu/normalize.h"

#include <errno.h>
#include <stdlib.h>

/* Jinja 3.1, lexer.py: text up to a tag, the tag's tokens, and the white space that tags take away. */
struct lexer {
	struct og_jinja *j;
	const char *p, *end;
	uint32_t line;
	bool at_line_start; /* what came before ended with a newline */
	struct og_jinja_token *tokens;
	uint32_t count, cap;
};

_Noreturn static void bad(struct lexer *x, const char *why)
{
	x->j->trap.line = x->line;
	og_jinja_fail(&x->j->trap, -EBADMSG, "%s", why);
}

static struct og_jinja_token *add(
	struct lexer *x, enum og_jinja_token_type type, const char *data, size_t len)
{
	struct og_jinja_token *t;

	if (x->count == x->cap) {
		uint32_t cap = x->cap ? 2 * x->cap : 64;

		t = og_jinja_alloc(&x->j->arena, &x->j->trap, cap * sizeof(*t));
		if (x->count > 0)
			memcpy(t, x->tokens, x->count * sizeof(*t));
		x->tokens = t;
		x->cap = cap;
	}
	t = &x->tokens[x->count++];
	*t = (struct og_jinja_token){type, x->line, {data, (uint32_t)len}, OG_JINJA_UNDEF};
	return t;
}

static bool starts(const struct lexer *x, const char *s)
{
	size_t len = strlen(s);

	return (size_t)(x->end - x->p) >= len && memcmp(x->p, s, len) == 0;
}

static void advance(struct lexer *x, size_t n)
{
	for (; n > 0; n--)
		x->line += *x->p++ == '\n';
}

static uint32_t space_at(const char *p, const char *end)
{
	int n = p < end ? og_utf8_first(p, (size_t)(end - p)) : 0;

	return n > 0 && og_jinja_is_space(og_utf8_decode(p, n)) ? (uint32_t)n : 0;
}

static void skip_space(struct lexer *x)
{
	uint32_t n;

	while ((n = space_at(x->p, x->end)) > 0)
		advance(x, n);
}

/* Where the white space at the end of [start, end) begins. */
static const char *rstrip(const char *start, const char *end)
{
	while (end > start) {
		const char *p = end - 1;

		while (p > start && end - p < 4 && (*p & 0xc0) == 0x80)
			p--;
		if (space_at(p, end) != (uint32_t)(end - p))
			break;
		end = p;
	}
	return end;
}

/* Text before a tag, whose sign follows its two characters. */
static void add_text(struct lexer *x, const char *start, const char *end, bool is_output)
{
	char sign = x->end - x->p > 2 ? x->p[2] : '\0';
	const char *line = end;

	if (sign == '-') {
		end = rstrip(start, end);
	} else if (sign != '+' && !is_output) { /* lstrip_blocks */
		while (line > start && line[-1] != '\n')
			line--;
		if ((line > start || x->at_line_start) && rstrip(line, end) == line)
			end = line;
	}
	if (end > start)
		add(x, TOKEN_TEXT, start, (size_t)(end - start));
}

/* Behind a tag that ended with `sign`: "-" takes white space, otherwise blocks take one newline. */
static void after_tag(struct lexer *x, char sign, bool is_output)
{
	const char *start = x->p;

	if (sign == '-')
		skip_space(x);
	else if (sign != '+' && !is_output && x->p < x->end && *x->p == '\n')
		advance(x, 1);
	x->at_line_start = x->p > start && x->p[-1] == '\n';
}

static void skip_comment(struct lexer *x)
{
	const char *close;
	char sign;

	close = memmem(x->p + 2, (size_t)(x->end - x->p - 2), "#}", 2);
	if (!close)
		bad(x, "a comment has no end");
	sign = close > x->p + 2 ? close[-1] : '\0';
	advance(x, (size_t)(close + 2 - x->p));
	after_tag(x, sign, false);
}

/* Is `{%- name -%}` here? Then *sign is the one at its end and *end is behind it. */
static bool is_tag(struct lexer *x, const char *p, const char *name, char *sign, const char **end)
{
	uint32_t n;

	p += 2;
	if (p < x->end && (*p == '-' || *p == '+'))
		p++;
	while ((n = space_at(p, x->end)) > 0)
		p += n;
	if ((size_t)(x->end - p) < strlen(name) || memcmp(p, name, strlen(name)) != 0)
		return false;
	p += strlen(name);
	while ((n = space_at(p, x->end)) > 0)
		p += n;
	*sign = p < x->end && (*p == '-' || *p == '+') ? *p++ : '\0';
	if (x->end - p < 2 || p[0] != '%' || p[1] != '}')
		return false;
	*end = p + 2;
	return true;
}

/* The tag {% raw %} has been passed: text up to {% endraw %}. */
static void lex_raw(struct lexer *x)
{
	const char *start = x->p, *close = x->p, *behind;
	char sign;

	for (;; close += 2) {
		close = memmem(close, (size_t)(x->end - close), "{%", 2);
		if (!close)
			bad(x, "a raw block has no end");
		if (is_tag(x, close, "endraw", &sign, &behind))
			break;
	}
	advance(x, (size_t)(close - x->p));
	add_text(x, start, close, false);
	advance(x, (size_t)(behind - x->p));
	after_tag(x, sign, false);
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c & 0x80;
}

static void lex_number(struct lexer *x)
{
	char digits[64], *end;
	uint32_t n = 0;
	bool is_float = false;
	struct og_jinja_token *t;
	const char *start = x->p;

	while (x->p < x->end) {
		bool exponent = n > 0 && (digits[n - 1] == 'e' || digits[n - 1] == 'E');
		bool fraction = *x->p == '.' && !is_float && x->end - x->p > 1 && x->p[1] >= '0' &&
				x->p[1] <= '9';

		if (*x->p != '_' && !fraction && !(*x->p >= '0' && *x->p <= '9') &&
			!(*x->p == 'e' || *x->p == 'E') &&
			!(exponent && (*x->p == '+' || *x->p == '-')))
			break;
		is_float |= fraction || *x->p == 'e' || *x->p == 'E';
		if (n == sizeof(digits) - 1)
			bad(x, "a number is too long");
		if (*x->p != '_')
			digits[n++] = *x->p;
		x->p++;
	}
	digits[n] = '\0';
	t = add(x, is_float ? TOKEN_FLOAT : TOKEN_INT, start, (size_t)(x->p - start));
	errno = 0;
	t->value = is_float ? og_jinja_float(strtod(digits, &end))
			    : og_jinja_int(strtoll(digits, &end, 10));
	if (*end || (errno == ERANGE && !is_float) || (x->p < x->end && is_word(*x->p)))
		bad(x, "not a number");
}

/* p is behind "\x", "\u" or "\U"; -1 if there are not `n` hexadecimal digits. */
static int64_t hex(const char *p, const char *end, int n)
{
	int64_t v = 0;

	if (end - p < n)
		return -1;
	for (int i = 0; i < n; i++) {
		int c = p[i] | 0x20;

		if (p[i] >= '0' && p[i] <= '9')
			v = v << 4 | (p[i] - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (c - 'a' + 10);
		else
			return -1;
	}
	return v;
}

/* Python's escapes; p is behind the backslash. Returns how many bytes it took, 0: none of them. */
static int unescape(struct lexer *x, const char *p, const char *end, char *out, uint32_t *len)
{
	static const char names[] = "\\'\"abfnrtv", values[] = "\\'\"\a\b\f\n\r\t\v";
	const char *name = *p ? strchr(names, *p) : NULL;
	int digits = *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0, n = 0;
	int64_t c = 0;

	*len = 1;
	if (name) {
		*out = values[name - names];
		return 1;
	}
	if (*p == '\n') {
		*len = 0;
		return 1;
	}
	if (digits > 0) {
		c = hex(p + 1, end, digits);
		n = 1 + digits;
		if (c < 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			bad(x, "an escape that is no character");
	}
	for (; digits == 0 && n < 3 && p + n < end && p[n] >= '0' && p[n] <= '7'; n++)
		c = c << 3 | (p[n] - '0');
	if (n > 0)
		*len = og_utf8_encode((uint32_t)c, out);
	return n;
}

static void lex_string(struct lexer *x)
{
	char quote = *x->p;
	const char *p = x->p + 1, *close = p;
	char *out;
	uint32_t n = 0;

	while (close < x->end && *close != quote)
		close += *close == '\\' ? 2 : 1;
	if (close >= x->end)
		bad(x, "a string has no end");
	out = og_jinja_alloc(&x->j->arena, &x->j->trap, (size_t)(close - p) + 1);
	while (p < close) {
		uint32_t len = 0;
		int taken = *p == '\\' ? unescape(x, p + 1, close, out + n, &len) : 0;

		if (taken > 0)
			p += 1 + taken;
		else
			out[n] = *p++, len = 1;
		n += len;
	}
	add(x, TOKEN_STRING, out, n);
	advance(x, (size_t)(close + 1 - x->p));
}

static void lex_operator(struct lexer *x)
{
	static const char *const two[] = {"==", "!=", "<=", ">=", "//", "**"};
	size_t len = 1;

	for (size_t i = 0; i < OG_ARRAY_LEN(two); i++)
		if (starts(x, two[i]))
			len = 2;
	if (!strchr("+-*/%~()[]{}=<>|.,:;", *x->p) && len == 1)
		bad(x, "an unexpected character");
	add(x, TOKEN_OPERATOR, x->p, len);
	x->p += len;
}

/* The tokens of a tag up to its end; brackets hide what looks like one. */
static void lex_tag(struct lexer *x, const char *close, bool is_output)
{
	uint32_t depth = 0;

	for (;;) {
		skip_space(x);
		if (x->p == x->end || *x->p == '\0')
			bad(x, "a tag has no end");
		if (depth == 0 &&
			(starts(x, close) ||
				((*x->p == '-' || (*x->p == '+' && !is_output)) &&
					x->end - x->p > 2 && memcmp(x->p + 1, close, 2) == 0))) {
			char sign = starts(x, close) ? '\0' : *x->p;

			add(x, is_output ? TOKEN_OUTPUT_END : TOKEN_BLOCK_END, x->p, 0);
			advance(x, sign ? 3 : 2);
			after_tag(x, sign, is_output);
			return;
		}
		if (*x->p == '\'' || *x->p == '"') {
			lex_string(x);
		} else if (*x->p >= '0' && *x->p <= '9') {
			lex_number(x);
		} else if (is_word(*x->p)) {
			const char *start = x->p;

			while (x->p < x->end && is_word(*x->p))
				x->p++;
			add(x, TOKEN_NAME, start, (size_t)(x->p - start));
		} else {
			depth += strchr("([{", *x->p) != NULL;
			depth -= depth > 0 && strchr(")]}", *x->p);
			lex_operator(x);
		}
	}
}

/* x->p is at a tag. */
static void lex_any_tag(struct lexer *x)
{
	bool is_output = x->p[1] == '{';
	const char *behind;
	char sign;

	if (x->p[1] == '#') {
		skip_comment(x);
		return;
	}
	if (!is_output && is_tag(x, x->p, "raw", &sign, &behind)) {
		advance(x, (size_t)(behind - x->p));
		after_tag(x, sign == '-' ? '-' : '+', false);
		lex_raw(x);
		return;
	}
	add(x, is_output ? TOKEN_OUTPUT_BEGIN : TOKEN_BLOCK_BEGIN, x->p, 0);
	x->p += 2;
	if (x->p < x->end && (*x->p == '-' || (*x->p == '+' && !is_output)))
		x->p++;
	lex_tag(x, is_output ? "}}" : "%}", is_output);
}

/* All line ends become newlines, and one at the end of the source is dropped. */
static struct og_text normalize(struct og_jinja *j, struct og_text source)
{
	char *out = og_jinja_alloc(&j->arena, &j->trap, source.len_bytes + 1);
	uint32_t n = 0;

	for (uint32_t i = 0; i < source.len_bytes; i++) {
		char c = source.data[i];

		if (c == '\r') {
			i += i + 1 < source.len_bytes && source.data[i + 1] == '\n';
			c = '\n';
		}
		out[n++] = c;
	}
	n -= n > 0 && out[n - 1] == '\n';
	out[n] = '\0';
	return (struct og_text){out, n};
}

struct og_jinja_token *og_jinja_lex(struct og_jinja *j, struct og_text source)
{
	struct og_text text = normalize(j, source);
	struct lexer x = {.j = j,
		.p = text.data,
		.end = text.data + text.len_bytes,
		.line = 1,
		.at_line_start = true};

	while (x.p < x.end) {
		const char *start = x.p, *tag = x.p;
		uint32_t line = x.line;

		while (tag < x.end &&
			!(tag[0] == '{' && x.end - tag > 1 && strchr("{%#", tag[1]) && tag[1]))
			tag++;
		advance(&x, (size_t)(tag - x.p));
		if (x.p == x.end) {
			x.line = line;
			add(&x, TOKEN_TEXT, start, (size_t)(tag - start));
			break;
		}
		add_text(&x, start, tag, tag[1] == '{');
		lex_any_tag(&x);
	}
	add(&x, TOKEN_END, x.end, 0);
	return x.tokens;
}
