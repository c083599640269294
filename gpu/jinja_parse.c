#include "gpu/jinja_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* Jinja 3.1, parser.py, by recursive descent. */
struct parser {
	struct og_jinja *j;
	const struct og_jinja_token *t; /* the next token */
	uint32_t depth;
	uint32_t loops; /* that break and continue may end */
};

typedef struct og_jinja_node node;

OG_PRINTF(3, 4)
_Noreturn static void bad(struct parser *p, int error, const char *fmt, ...)
{
	char why[200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, sizeof(why), fmt, args);
	va_end(args);
	p->j->trap.line = p->t->line;
	og_jinja_fail(&p->j->trap, error, "%s", why);
}

static node *make(struct parser *p, enum og_jinja_node_type type)
{
	node *n = og_jinja_alloc(&p->j->arena, &p->j->trap, sizeof(*n));

	memset(n, 0, sizeof(*n));
	n->type = type;
	n->line = p->t->line;
	return n;
}

static node *make2(struct parser *p, enum og_jinja_node_type type, node *a, node *b)
{
	node *n = make(p, type);

	n->a = a;
	n->b = b;
	return n;
}

static void enter(struct parser *p)
{
	if (++p->depth > OG_JINJA_DEPTH_MAX)
		bad(p, -EBADMSG, "nested deeper than %d", OG_JINJA_DEPTH_MAX);
}

static bool is_op(const struct parser *p, const char *op)
{
	return p->t->type == TOKEN_OPERATOR && og_text_is(p->t->text, op);
}

static bool is_name(const struct parser *p, const char *name)
{
	return p->t->type == TOKEN_NAME && og_text_is(p->t->text, name);
}

static bool take_op(struct parser *p, const char *op)
{
	bool is = is_op(p, op);

	p->t += is;
	return is;
}

static bool take_name(struct parser *p, const char *name)
{
	bool is = is_name(p, name);

	p->t += is;
	return is;
}

static void need_op(struct parser *p, const char *op)
{
	if (!take_op(p, op))
		bad(p, -EBADMSG, "%s is missing", op);
}

static struct og_text need_name(struct parser *p)
{
	if (p->t->type != TOKEN_NAME)
		bad(p, -EBADMSG, "a name is missing");
	return p->t++->text;
}

static void need_block_end(struct parser *p)
{
	if (p->t->type != TOKEN_BLOCK_END)
		bad(p, -EBADMSG, "a statement goes on where it should end");
	p->t++;
}

/* A list that nodes are put at the end of. */
struct tail {
	node **end;
};

static void append(struct tail *l, node *n)
{
	*l->end = n;
	l->end = &n->next;
}

static node *parse_expression(struct parser *p, bool conditional);

static bool ends_tuple(const struct parser *p)
{
	return p->t->type == TOKEN_OUTPUT_END || p->t->type == TOKEN_BLOCK_END || is_op(p, ")") ||
	       is_op(p, "=") || is_name(p, "recursive") || is_name(p, "in");
}

/* One expression, or with commas a tuple. */
static node *parse_tuple(struct parser *p, bool conditional, bool parentheses)
{
	node *tuple = make(p, NODE_TUPLE);
	struct tail items = {&tuple->first};
	bool comma = false;

	while (!ends_tuple(p)) {
		append(&items, parse_expression(p, conditional));
		if (!take_op(p, ","))
			break;
		comma = true;
	}
	if (!comma && tuple->first)
		return tuple->first;
	if (!tuple->first && !parentheses)
		bad(p, -EBADMSG, "an expression is missing");
	return tuple;
}

static node *parse_list(struct parser *p)
{
	node *list = make(p, NODE_LIST);
	struct tail items = {&list->first};

	while (!take_op(p, "]")) {
		if (list->first)
			need_op(p, ",");
		if (take_op(p, "]"))
			break;
		append(&items, parse_expression(p, true));
	}
	return list;
}

static node *parse_dict(struct parser *p)
{
	node *dict = make(p, NODE_DICT);
	struct tail items = {&dict->first};

	while (!take_op(p, "}")) {
		node *key;

		if (dict->first)
			need_op(p, ",");
		if (take_op(p, "}"))
			break;
		key = make2(p, NODE_ARGUMENT, NULL, NULL);
		key->b = parse_expression(p, true);
		need_op(p, ":");
		key->a = parse_expression(p, true);
		append(&items, key);
	}
	return dict;
}

static node *parse_const(struct parser *p, struct og_jinja_value v)
{
	node *n = make(p, NODE_CONST);

	n->value = v;
	p->t++;
	return n;
}

static struct og_jinja_value string_of(struct parser *p, struct og_text text)
{
	struct og_jinja_string *s = og_jinja_alloc(&p->j->arena, &p->j->trap, sizeof(*s));

	*s = (struct og_jinja_string){text.data, text.len_bytes, NULL};
	return (struct og_jinja_value){.kind = OG_JINJA_STRING, .string = s};
}

/* Strings that follow one another are one. */
static node *parse_strings(struct parser *p)
{
	node *n = make(p, NODE_CONST);
	const struct og_jinja_token *start = p->t;
	size_t len = 0;
	char *data;

	for (; p->t->type == TOKEN_STRING; p->t++)
		len += p->t->text.len_bytes;
	data = og_jinja_alloc(&p->j->arena, &p->j->trap, len + 1);
	len = 0;
	for (; start < p->t; len += start++->text.len_bytes)
		memcpy(data + len, start->text.data, start->text.len_bytes);
	n->value = string_of(p, (struct og_text){data, (uint32_t)len});
	return n;
}

static node *parse_name(struct parser *p)
{
	static const struct {
		const char *name;
		enum og_jinja_kind kind;
		bool b;
	} words[] = {{"true", OG_JINJA_BOOL, true}, {"True", OG_JINJA_BOOL, true},
		{"false", OG_JINJA_BOOL, false}, {"False", OG_JINJA_BOOL, false},
		{"none", OG_JINJA_NONE, false}, {"None", OG_JINJA_NONE, false}};
	node *n;

	for (size_t i = 0; i < OG_ARRAY_LEN(words); i++)
		if (is_name(p, words[i].name))
			return parse_const(
				p, (struct og_jinja_value){.kind = words[i].kind, .b = words[i].b});
	n = make(p, NODE_NAME);
	n->name = need_name(p);
	return n;
}

static node *parse_primary(struct parser *p)
{
	node *n;

	switch (p->t->type) {
	case TOKEN_NAME:
		return parse_name(p);
	case TOKEN_STRING:
		return parse_strings(p);
	case TOKEN_INT:
	case TOKEN_FLOAT:
		return parse_const(p, p->t->value);
	default:
		break;
	}
	if (take_op(p, "(")) {
		n = parse_tuple(p, true, true);
		need_op(p, ")");
		return n;
	}
	if (take_op(p, "["))
		return parse_list(p);
	if (take_op(p, "{"))
		return parse_dict(p);
	bad(p, -EBADMSG, "an expression is missing");
}

/* Behind "(". */
static node *parse_arguments(struct parser *p)
{
	node *first = NULL;
	struct tail items = {&first};

	while (!take_op(p, ")")) {
		node *arg;

		if (first)
			need_op(p, ",");
		if (take_op(p, ")"))
			break;
		if (is_op(p, "*") || is_op(p, "**"))
			bad(p, -EOPNOTSUPP, "unpacking of arguments is not supported");
		arg = make(p, NODE_ARGUMENT);
		if (p->t->type == TOKEN_NAME && p->t[1].type == TOKEN_OPERATOR &&
			og_text_is(p->t[1].text, "=")) {
			arg->name = need_name(p);
			p->t++;
		}
		arg->a = parse_expression(p, true);
		append(&items, arg);
	}
	return first;
}

/* Behind "[": an index or a slice. */
static node *parse_subscript(struct parser *p, node *of)
{
	node *n = make2(p, NODE_ITEM, of, NULL);

	if (!is_op(p, ":"))
		n->b = parse_expression(p, true);
	if (take_op(p, ":")) {
		n->type = NODE_SLICE;
		if (!is_op(p, ":") && !is_op(p, "]"))
			n->c = parse_expression(p, true);
		if (take_op(p, ":") && !is_op(p, "]"))
			n->d = parse_expression(p, true);
	}
	need_op(p, "]");
	return n;
}

static node *parse_postfix(struct parser *p, node *n)
{
	for (;;) {
		node *outer;

		if (take_op(p, ".")) {
			outer = make2(p, NODE_ATTR, n, NULL);
			if (p->t->type == TOKEN_INT) {
				outer->type = NODE_ITEM;
				outer->b = parse_const(p, p->t->value);
			} else {
				outer->name = need_name(p);
			}
		} else if (take_op(p, "[")) {
			outer = parse_subscript(p, n);
		} else if (take_op(p, "(")) {
			outer = make2(p, NODE_CALL, n, NULL);
			outer->first = parse_arguments(p);
		} else {
			return n;
		}
		n = outer;
	}
}

/* Behind "|" or a block's keyword. */
static node *parse_filter(struct parser *p, node *of)
{
	node *n = make2(p, NODE_FILTER, of, NULL);

	n->name = need_name(p);
	if (take_op(p, "("))
		n->first = parse_arguments(p);
	return n;
}

/* May start the one argument of a test that is written without parentheses. */
static bool starts_argument(const struct parser *p)
{
	if (p->t->type == TOKEN_NAME)
		return !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and") &&
		       !is_name(p, "if") && !is_name(p, "is") && !is_name(p, "not") &&
		       !is_name(p, "in");
	return p->t->type == TOKEN_STRING || p->t->type == TOKEN_INT || p->t->type == TOKEN_FLOAT ||
	       is_op(p, "[") || is_op(p, "{");
}

/* Behind "is". */
static node *parse_test(struct parser *p, node *of)
{
	node *n = make2(p, NODE_TEST, of, NULL);

	n->flag = take_name(p, "not");
	n->name = need_name(p);
	if (take_op(p, "(")) {
		n->first = parse_arguments(p);
	} else if (starts_argument(p)) {
		n->first = make(p, NODE_ARGUMENT);
		n->first->a = parse_postfix(p, parse_primary(p));
	}
	return n;
}

static node *parse_unary(struct parser *p, bool filters)
{
	node *n;

	enter(p);
	if (take_op(p, "-"))
		n = make2(p, NODE_NEG, parse_unary(p, false), NULL);
	else if (take_op(p, "+"))
		n = make2(p, NODE_POS, parse_unary(p, false), NULL);
	else
		n = parse_primary(p);
	n = parse_postfix(p, n);
	while (filters) {
		if (take_op(p, "|"))
			n = parse_filter(p, n);
		else if (take_name(p, "is"))
			n = parse_test(p, n);
		else if (take_op(p, "(")) {
			n = make2(p, NODE_CALL, n, NULL);
			n->first = parse_arguments(p);
		} else
			break;
	}
	p->depth--;
	return n;
}

/* Operators from the loosest to the tightest. */
static const struct {
	const char *text;
	enum og_jinja_op op;
	int level;
} operators[] = {{"+", OP_ADD, 0}, {"-", OP_SUB, 0}, {"~", OP_CONCAT, 1}, {"*", OP_MUL, 2},
	{"/", OP_DIV, 2}, {"//", OP_FLOORDIV, 2}, {"%", OP_MOD, 2}, {"**", OP_POW, 3}};

static node *parse_binary(struct parser *p, int level)
{
	node *n;

	if (level > 3)
		return parse_unary(p, true);
	n = parse_binary(p, level + 1);
	for (size_t i = 0; i < OG_ARRAY_LEN(operators);) {
		if (operators[i].level != level || !take_op(p, operators[i].text)) {
			i++;
			continue;
		}
		n = make2(p, NODE_BINARY, n, NULL);
		n->op = operators[i].op;
		n->b = parse_binary(p, level + 1);
		i = 0;
	}
	return n;
}

static bool take_comparison(struct parser *p, enum og_jinja_op *op)
{
	static const struct {
		const char *text;
		enum og_jinja_op op;
	} all[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT}, {"<=", OP_LE}, {">", OP_GT},
		{">=", OP_GE}};

	for (size_t i = 0; i < OG_ARRAY_LEN(all); i++)
		if (take_op(p, all[i].text)) {
			*op = all[i].op;
			return true;
		}
	*op = OP_IN;
	if (take_name(p, "in"))
		return true;
	*op = OP_NOT_IN;
	if (!is_name(p, "not") || p->t[1].type != TOKEN_NAME || !og_text_is(p->t[1].text, "in"))
		return false;
	p->t += 2;
	return true;
}

static node *parse_compare(struct parser *p)
{
	node *left = parse_binary(p, 0), *n = NULL;
	struct tail operands = {NULL};
	enum og_jinja_op op;

	while (take_comparison(p, &op)) {
		node *operand = make(p, NODE_ARGUMENT);

		if (!n) {
			n = make2(p, NODE_COMPARE, left, NULL);
			operands.end = &n->first;
		}
		operand->op = op;
		operand->a = parse_binary(p, 0);
		append(&operands, operand);
	}
	return n ? n : left;
}

static node *parse_not(struct parser *p)
{
	node *n;

	enter(p);
	n = take_name(p, "not") ? make2(p, NODE_NOT, parse_not(p), NULL) : parse_compare(p);
	p->depth--;
	return n;
}

static node *parse_and(struct parser *p)
{
	node *n = parse_not(p);

	while (take_name(p, "and"))
		n = make2(p, NODE_AND, n, parse_not(p));
	return n;
}

static node *parse_or(struct parser *p)
{
	node *n = parse_and(p);

	while (take_name(p, "or"))
		n = make2(p, NODE_OR, n, parse_and(p));
	return n;
}

static node *parse_expression(struct parser *p, bool conditional)
{
	node *n;

	enter(p);
	n = parse_or(p);
	while (conditional && take_name(p, "if")) {
		node *outer = make2(p, NODE_IF_EXPR, NULL, n);

		outer->a = parse_or(p);
		if (take_name(p, "else"))
			outer->c = parse_expression(p, true);
		n = outer;
	}
	p->depth--;
	return n;
}

/* ---- Statements. ---- */

static node *parse_body(struct parser *p, const char *const *ends);

/* A body up to `{% end %}`, and past that. */
static node *parse_block(struct parser *p, const char *end)
{
	const char *const ends[] = {end, NULL};
	node *body;

	need_block_end(p);
	body = parse_body(p, ends);
	p->t++;
	need_block_end(p);
	return body;
}

static node *parse_if(struct parser *p)
{
	static const char *const ends[] = {"elif", "else", "endif", NULL};
	node *n = make(p, NODE_IF), *inner = n;

	for (;;) {
		inner->a = parse_tuple(p, true, false);
		need_block_end(p);
		inner->first = parse_body(p, ends);
		if (!take_name(p, "elif"))
			break;
		inner->second = make(p, NODE_IF);
		inner = inner->second;
	}
	if (take_name(p, "else")) {
		inner->second = parse_block(p, "endif");
		return n;
	}
	p->t++;
	need_block_end(p);
	return n;
}

/* A name, names with commas, or with `members` ns.name. */
static node *parse_target(struct parser *p, bool members)
{
	node *tuple = make(p, NODE_TUPLE);
	struct tail items = {&tuple->first};
	bool comma = false;

	if (members && p->t->type == TOKEN_NAME && p->t[1].type == TOKEN_OPERATOR &&
		og_text_is(p->t[1].text, ".")) {
		node *n = make(p, NODE_ATTR);

		n->a = parse_name(p);
		p->t++;
		n->name = need_name(p);
		return n;
	}
	do {
		node *n;
		bool parentheses = take_op(p, "(");

		if (p->t->type != TOKEN_NAME && comma)
			break;
		enter(p);
		n = parentheses ? parse_target(p, false) : parse_name(p);
		p->depth--;
		if (parentheses)
			need_op(p, ")");
		if (n->type != NODE_NAME && n->type != NODE_TUPLE)
			bad(p, -EBADMSG, "a constant cannot be assigned");
		append(&items, n);
		comma |= is_op(p, ",");
	} while (take_op(p, ","));
	return comma ? tuple : tuple->first;
}

static node *parse_for(struct parser *p)
{
	static const char *const ends[] = {"else", "endfor", NULL};
	node *n = make(p, NODE_FOR);

	n->a = parse_target(p, false);
	if (!take_name(p, "in"))
		bad(p, -EBADMSG, "in is missing");
	n->b = parse_tuple(p, false, false);
	if (take_name(p, "if"))
		n->c = parse_expression(p, true);
	if (is_name(p, "recursive"))
		bad(p, -EOPNOTSUPP, "recursive loops are not supported");
	need_block_end(p);
	p->loops++;
	n->first = parse_body(p, ends);
	p->loops--;
	if (take_name(p, "else")) {
		n->second = parse_block(p, "endfor");
		return n;
	}
	p->t++;
	need_block_end(p);
	return n;
}

static node *parse_set(struct parser *p)
{
	node *n = make(p, NODE_SET);

	n->a = parse_target(p, true);
	if (take_op(p, "=")) {
		n->b = parse_tuple(p, true, false);
		need_block_end(p);
		return n;
	}
	n->type = NODE_SET_BLOCK;
	while (take_op(p, "|"))
		n->b = parse_filter(p, n->b);
	n->first = parse_block(p, "endset");
	return n;
}

/* (a, b=1), as far as there are parentheses. */
static node *parse_parameters(struct parser *p)
{
	node *first = NULL;
	struct tail items = {&first};

	if (!take_op(p, "("))
		return NULL;
	while (!take_op(p, ")")) {
		node *n = make(p, NODE_ARGUMENT);

		if (first)
			need_op(p, ",");
		if (take_op(p, ")"))
			break;
		n->name = need_name(p);
		if (take_op(p, "="))
			n->a = parse_expression(p, true);
		append(&items, n);
	}
	return first;
}

/* The body of a function: loops around its definition are not its own. */
static node *parse_function_body(struct parser *p, const char *end)
{
	uint32_t loops = p->loops;
	node *body;

	p->loops = 0;
	body = parse_block(p, end);
	p->loops = loops;
	return body;
}

static node *parse_macro(struct parser *p)
{
	node *n = make(p, NODE_MACRO);

	n->name = need_name(p);
	n->second = parse_parameters(p);
	n->first = parse_function_body(p, "endmacro");
	return n;
}

static node *parse_call_block(struct parser *p)
{
	node *n = make(p, NODE_CALL_BLOCK);

	n->name = (struct og_text){"caller", 6};
	n->second = parse_parameters(p);
	n->a = parse_expression(p, true);
	if (n->a->type != NODE_CALL)
		bad(p, -EBADMSG, "a call is missing");
	n->first = parse_function_body(p, "endcall");
	return n;
}

static node *parse_filter_block(struct parser *p)
{
	node *n = make(p, NODE_FILTER_BLOCK);

	n->a = parse_filter(p, NULL);
	while (take_op(p, "|"))
		n->a = parse_filter(p, n->a);
	n->first = parse_block(p, "endfilter");
	return n;
}

static node *parse_with(struct parser *p)
{
	node *n = make(p, NODE_WITH);
	struct tail items = {&n->second};

	while (p->t->type != TOKEN_BLOCK_END) {
		node *set = make(p, NODE_SET);

		if (n->second)
			need_op(p, ",");
		set->a = parse_target(p, false);
		need_op(p, "=");
		set->b = parse_expression(p, true);
		append(&items, set);
	}
	n->first = parse_block(p, "endwith");
	return n;
}

/* Parts of a conversation that were generated: they only mark, and have names of their own. */
static node *parse_generation(struct parser *p)
{
	node *n = make(p, NODE_SCOPE);

	n->first = parse_function_body(p, "endgeneration");
	return n;
}

static node *parse_jump(struct parser *p, enum og_jinja_node_type type)
{
	node *n = make(p, type);

	if (p->loops == 0)
		bad(p, -EBADMSG, "break or continue outside of a loop");
	need_block_end(p);
	return n;
}

static node *parse_break(struct parser *p)
{
	return parse_jump(p, NODE_BREAK);
}

static node *parse_continue(struct parser *p)
{
	return parse_jump(p, NODE_CONTINUE);
}

static node *parse_statement(struct parser *p)
{
	static const struct {
		const char *name;
		node *(*parse)(struct parser *p);
	} all[] = {{"if", parse_if}, {"for", parse_for}, {"set", parse_set}, {"macro", parse_macro},
		{"call", parse_call_block}, {"filter", parse_filter_block}, {"with", parse_with},
		{"generation", parse_generation}, {"break", parse_break},
		{"continue", parse_continue}};
	struct og_text name = p->t->text;
	node *n;

	for (size_t i = 0; i < OG_ARRAY_LEN(all); i++) {
		if (!take_name(p, all[i].name))
			continue;
		enter(p);
		n = all[i].parse(p);
		p->depth--;
		return n;
	}
	bad(p, -EOPNOTSUPP, "statement %.*s is not supported", (int)OG_MIN(name.len_bytes, 40u),
		name.data);
}

static bool is_end(const struct parser *p, const char *const *ends)
{
	for (; ends && *ends; ends++)
		if (is_name(p, *ends))
			return true;
	return false;
}

/* Up to a statement of one of those names, whose name is next, or to the end of the template. */
static node *parse_body(struct parser *p, const char *const *ends)
{
	node *first = NULL, *n;
	struct tail body = {&first};

	for (;;) {
		switch (p->t->type) {
		case TOKEN_TEXT:
			n = make(p, NODE_TEXT);
			n->value = string_of(p, p->t->text);
			p->t++;
			break;
		case TOKEN_OUTPUT_BEGIN:
			p->t++;
			n = make(p, NODE_OUTPUT);
			n->a = parse_tuple(p, true, false);
			if (p->t->type != TOKEN_OUTPUT_END)
				bad(p, -EBADMSG, "an expression goes on where it should end");
			p->t++;
			break;
		case TOKEN_BLOCK_BEGIN:
			p->t++;
			if (is_end(p, ends))
				return first;
			n = parse_statement(p);
			break;
		default:
			if (ends || p->t->type != TOKEN_END)
				bad(p, -EBADMSG, "%s is missing", ends ? ends[0] : "the end");
			return first;
		}
		append(&body, n);
	}
}

struct og_jinja_node *og_jinja_parse(struct og_jinja *j, struct og_jinja_token *tokens)
{
	struct parser p = {.j = j, .t = tokens};

	return parse_body(&p, NULL);
}
