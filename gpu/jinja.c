#include "gpu/jinja_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct og_jinja_node node;
typedef struct og_jinja_value value;

/* What ends a body early. */
enum jump { GO_ON, JUMP_BREAK, JUMP_CONTINUE };

static value eval(struct og_jinja_run *r, const node *n);
static enum jump run_body(struct og_jinja_run *r, const node *n);

static void enter(struct og_jinja_run *r, const node *n)
{
	r->trap.line = n->line;
	og_jinja_spend(r, 1);
	if (++r->depth > OG_JINJA_DEPTH_MAX)
		og_jinja_fail(&r->trap, -E2BIG, "nested deeper than %d", OG_JINJA_DEPTH_MAX);
}

/* ---- Names. ---- */

static value *find_here(struct og_jinja_frame *f, struct og_text name)
{
	for (struct og_jinja_variable *v = f->variables; v; v = v->next)
		if (og_text_equal(v->name, name))
			return &v->value;
	return NULL;
}

static void assign_name(struct og_jinja_run *r, struct og_text name, value v)
{
	value *old = find_here(r->frame, name);
	struct og_jinja_variable *new;

	if (old) {
		*old = v;
		return;
	}
	new = og_jinja_alloc(&r->arena, &r->trap, sizeof(*new));
	*new = (struct og_jinja_variable){name, v, r->frame->variables};
	r->frame->variables = new;
}

static value function(struct og_jinja_run *r, value self, og_jinja_call_fn *fn, bool method)
{
	struct og_jinja_method *m = og_jinja_alloc(&r->arena, &r->trap, sizeof(*m));

	*m = (struct og_jinja_method){self, fn};
	return (value){.kind = method ? OG_JINJA_METHOD : OG_JINJA_FUNCTION, .other = m};
}

static value eval_name(struct og_jinja_run *r, const node *n)
{
	og_jinja_call_fn *fn;
	value *v = NULL;

	for (struct og_jinja_frame *f = r->frame; f && !v; f = f->parent) {
		og_jinja_spend(r, 1);
		v = find_here(f, n->name);
	}
	if (!v && r->vars.kind == OG_JINJA_DICT)
		v = og_jinja_find_text(r->vars.dict, n->name);
	if (v)
		return *v;
	fn = og_jinja_find_function(n->name);
	return fn ? function(r, OG_JINJA_UNDEF, fn, false) : OG_JINJA_UNDEF;
}

_Noreturn static void undefined(struct og_jinja_run *r, const node *n)
{
	if (n && n->name.len_bytes > 0)
		og_jinja_fail(&r->trap, -EBADMSG, "'%.*s' is undefined",
			(int)OG_MIN(n->name.len_bytes, 60u), n->name.data);
	og_jinja_fail(&r->trap, -EBADMSG, "an undefined value is used");
}

static void assign(struct og_jinja_run *r, const node *target, value v)
{
	struct og_jinja_list *items;
	const node *t;
	uint32_t n = 0;
	value space;

	if (target->type == NODE_NAME) {
		assign_name(r, target->name, v);
		return;
	}
	if (target->type == NODE_ATTR) {
		space = eval(r, target->a);
		if (space.kind != OG_JINJA_NAMESPACE)
			og_jinja_fail(&r->trap, -EBADMSG, "only namespaces have members to assign");
		og_jinja_put(r, space.dict, og_jinja_string(r, target->name, false), v);
		return;
	}
	items = og_jinja_iterate(r, v);
	for (t = target->first; t; t = t->next)
		n++;
	if (items->len != n)
		og_jinja_fail(&r->trap, -EBADMSG, "%u values for %u names", items->len, n);
	n = 0;
	for (t = target->first; t; t = t->next)
		assign(r, t, items->items[n++]);
}

/* ---- Expressions. ---- */

static value eval_list(struct og_jinja_run *r, const node *n)
{
	struct og_jinja_list *l = og_jinja_new_list(r, 0);

	for (const node *i = n->first; i; i = i->next)
		og_jinja_push(r, l, eval(r, i));
	return og_jinja_list_value(l, n->type == NODE_TUPLE);
}

static value eval_dict(struct og_jinja_run *r, const node *n)
{
	value d = og_jinja_dict(r);

	for (const node *i = n->first; i; i = i->next) {
		value key = eval(r, i->b);

		if (key.kind > OG_JINJA_STRING && key.kind != OG_JINJA_TUPLE)
			og_jinja_fail(&r->trap, -EBADMSG, "a %s as a key", og_jinja_type_name(key));
		og_jinja_put(r, d.dict, key, eval(r, i->a));
	}
	return d;
}

static value loop_attr(struct og_jinja_run *r, const struct og_jinja_loop *l, struct og_text name)
{
	const struct {
		const char *name;
		value v;
	} numbers[] = {{"index", og_jinja_int((int64_t)l->index + 1)},
		{"index0", og_jinja_int(l->index)},
		{"revindex", og_jinja_int((int64_t)l->items->len - l->index)},
		{"revindex0", og_jinja_int((int64_t)l->items->len - l->index - 1)},
		{"first", og_jinja_bool(l->index == 0)},
		{"last", og_jinja_bool(l->index + 1 == l->items->len)},
		{"length", og_jinja_int(l->items->len)},
		/* Of recursion, which there is not. */
		{"depth", og_jinja_int(1)}, {"depth0", og_jinja_int(0)}};

	for (size_t i = 0; i < OG_ARRAY_LEN(numbers); i++)
		if (og_text_is(name, numbers[i].name))
			return numbers[i].v;
	if (og_text_is(name, "previtem") && l->index > 0)
		return l->items->items[l->index - 1];
	if (og_text_is(name, "nextitem") && l->index + 1 < l->items->len)
		return l->items->items[l->index + 1];
	return OG_JINJA_UNDEF;
}

/* Sandboxed getattr: what Python has as an attribute comes before an item of that name. */
value og_jinja_attr(struct og_jinja_run *r, value v, struct og_text name)
{
	og_jinja_call_fn *method = og_jinja_find_method(v, name);
	value *found = NULL;

	if (method)
		return function(r, v, method, true);
	if (v.kind == OG_JINJA_DICT || v.kind == OG_JINJA_NAMESPACE)
		found = og_jinja_find_text(v.dict, name);
	if (v.kind == OG_JINJA_LOOP)
		return loop_attr(r, v.other, name);
	return found ? *found : OG_JINJA_UNDEF;
}

static value eval_attr(struct og_jinja_run *r, const node *n)
{
	value v = eval(r, n->a);

	if (v.kind == OG_JINJA_UNDEFINED)
		undefined(r, n->a);
	return og_jinja_attr(r, v, n->name);
}

static value eval_item(struct og_jinja_run *r, const node *n)
{
	value v = eval(r, n->a), key = eval(r, n->b), item;

	if (v.kind == OG_JINJA_UNDEFINED)
		undefined(r, n->a);
	item = og_jinja_item(r, v, key);
	if (item.kind == OG_JINJA_UNDEFINED && key.kind == OG_JINJA_STRING &&
		!(v.kind == OG_JINJA_DICT && og_jinja_find(r, v.dict, key)))
		return og_jinja_attr(r, v, (struct og_text){key.string->data, key.string->len});
	return item;
}

static value eval_slice(struct og_jinja_run *r, const node *n)
{
	value v = eval(r, n->a), none = og_jinja_none();
	value from = n->b ? eval(r, n->b) : none, to = n->c ? eval(r, n->c) : none;

	if (v.kind == OG_JINJA_UNDEFINED)
		undefined(r, n->a);
	return og_jinja_slice(r, v, from, to, n->d ? eval(r, n->d) : none);
}

static void eval_arguments(struct og_jinja_run *r, const node *first, struct og_jinja_args *args)
{
	uint32_t n = 0;

	*args = (struct og_jinja_args){0};
	for (const node *i = first; i; i = i->next)
		n++;
	args->values = og_jinja_alloc(&r->arena, &r->trap, n * sizeof(*args->values));
	args->keywords = og_jinja_alloc(&r->arena, &r->trap, n * sizeof(*args->keywords));
	for (const node *i = first; i; i = i->next) {
		value v = eval(r, i->a);

		if (i->name.len_bytes > 0)
			args->keywords[args->nb_keywords++] = (struct og_jinja_keyword){i->name, v};
		else
			args->values[args->count++] = v;
	}
}

/* A body as a text of its own. */
static value capture(struct og_jinja_run *r, const node *body, struct og_jinja_frame *frame)
{
	struct og_jinja_builder text = {0}, *out = r->out;
	struct og_jinja_frame *outer = r->frame;

	r->out = &text;
	r->frame = frame;
	run_body(r, body);
	r->out = out;
	r->frame = outer;
	return og_jinja_built(r, &text);
}

static value *keyword(const struct og_jinja_args *args, struct og_text name)
{
	for (uint32_t i = 0; i < args->nb_keywords; i++)
		if (og_text_equal(args->keywords[i].name, name))
			return &args->keywords[i].value;
	return NULL;
}

static value call_macro(
	struct og_jinja_run *r, const struct og_jinja_macro *m, const struct og_jinja_args *args)
{
	struct og_jinja_frame *frame = og_jinja_alloc(&r->arena, &r->trap, sizeof(*frame));
	struct og_jinja_frame *outer = r->frame;
	struct og_jinja_list *rest = og_jinja_new_list(r, 0);
	value *caller = keyword(args, (struct og_text){"caller", 6});
	uint32_t i = 0;

	*frame = (struct og_jinja_frame){.parent = m->frame};
	r->frame = frame;
	for (const node *p = m->node->second; p; p = p->next, i++) {
		value *named = keyword(args, p->name);

		assign_name(r, p->name,
			i < args->count ? args->values[i]
			: named         ? *named
			: p->a          ? eval(r, p->a)
					: OG_JINJA_UNDEF);
	}
	for (; i < args->count; i++)
		og_jinja_push(r, rest, args->values[i]);
	assign_name(r, (struct og_text){"varargs", 7}, og_jinja_list_value(rest, true));
	if (caller)
		assign_name(r, (struct og_text){"caller", 6}, *caller);
	r->frame = outer;
	return capture(r, m->node->first, frame);
}

value og_jinja_call(struct og_jinja_run *r, value fn, const struct og_jinja_args *args)
{
	const struct og_jinja_method *m = fn.other;

	if (fn.kind == OG_JINJA_MACRO)
		return call_macro(r, fn.other, args);
	if (fn.kind != OG_JINJA_FUNCTION && fn.kind != OG_JINJA_METHOD)
		og_jinja_fail(&r->trap, -EBADMSG, "a %s cannot be called", og_jinja_type_name(fn));
	return m->fn(r, m->self, args);
}

static value eval_call(struct og_jinja_run *r, const node *n, const value *caller)
{
	value fn = eval(r, n->a);
	struct og_jinja_args args;

	if (fn.kind == OG_JINJA_UNDEFINED)
		undefined(r, n->a);
	eval_arguments(r, n->first, &args);
	if (caller) {
		struct og_jinja_keyword *keywords = og_jinja_alloc(
			&r->arena, &r->trap, (args.nb_keywords + 1) * sizeof(*keywords));

		for (uint32_t i = 0; i < args.nb_keywords; i++)
			keywords[i] = args.keywords[i];
		keywords[args.nb_keywords++] = (struct og_jinja_keyword){{"caller", 6}, *caller};
		args.keywords = keywords;
	}
	r->trap.line = n->line;
	return og_jinja_call(r, fn, &args);
}

/* The filter `n`, and those before it, of `v`, which stands for a missing operand. */
static value eval_filter(struct og_jinja_run *r, const node *n, value v)
{
	struct og_jinja_args args;

	if (n->a)
		v = n->a->type == NODE_FILTER ? eval_filter(r, n->a, v) : eval(r, n->a);
	eval_arguments(r, n->first, &args);
	r->trap.line = n->line;
	return og_jinja_filter(r, n->name, v, &args);
}

static bool compare(struct og_jinja_run *r, enum og_jinja_op op, value a, value b)
{
	switch (op) {
	case OP_EQ:
		return og_jinja_equal(r, a, b);
	case OP_NE:
		return !og_jinja_equal(r, a, b);
	case OP_IN:
		return og_jinja_contains(r, b, a);
	case OP_NOT_IN:
		return !og_jinja_contains(r, b, a);
	case OP_LT:
		return og_jinja_order(r, a, b) < 0;
	case OP_LE:
		return og_jinja_order(r, a, b) <= 0;
	case OP_GT:
		return og_jinja_order(r, a, b) > 0;
	default:
		return og_jinja_order(r, a, b) >= 0;
	}
}

static value eval_compare(struct og_jinja_run *r, const node *n)
{
	value left = eval(r, n->a);

	for (const node *i = n->first; i; i = i->next) {
		value right = eval(r, i->a);

		r->trap.line = n->line;
		if (!compare(r, i->op, left, right))
			return og_jinja_bool(false);
		left = right;
	}
	return og_jinja_bool(true);
}

static value eval_test(struct og_jinja_run *r, const node *n)
{
	value v = eval(r, n->a);
	struct og_jinja_args args;

	eval_arguments(r, n->first, &args);
	return og_jinja_bool(og_jinja_test(r, n->name, v, &args) != n->flag);
}

static value eval_sign(struct og_jinja_run *r, const node *n)
{
	value v = eval(r, n->a);

	if (!og_jinja_is_number(v))
		og_jinja_fail(&r->trap, -EBADMSG, "the sign of a %s", og_jinja_type_name(v));
	return og_jinja_binary(r, n->type == NODE_NEG ? OP_SUB : OP_ADD, og_jinja_int(0), v);
}

static value eval_binary(struct og_jinja_run *r, const node *n)
{
	value a = eval(r, n->a), b = eval(r, n->b);

	r->trap.line = n->line;
	if (n->op != OP_CONCAT && a.kind == OG_JINJA_UNDEFINED)
		undefined(r, n->a);
	if (n->op != OP_CONCAT && b.kind == OG_JINJA_UNDEFINED)
		undefined(r, n->b);
	return og_jinja_binary(r, n->op, a, b);
}

static value eval_any(struct og_jinja_run *r, const node *n)
{
	value v;

	switch (n->type) {
	case NODE_CONST:
		return n->value;
	case NODE_NAME:
		return eval_name(r, n);
	case NODE_LIST:
	case NODE_TUPLE:
		return eval_list(r, n);
	case NODE_DICT:
		return eval_dict(r, n);
	case NODE_ATTR:
		return eval_attr(r, n);
	case NODE_ITEM:
		return eval_item(r, n);
	case NODE_SLICE:
		return eval_slice(r, n);
	case NODE_CALL:
		return eval_call(r, n, NULL);
	case NODE_FILTER:
		return eval_filter(r, n, OG_JINJA_UNDEF);
	case NODE_TEST:
		return eval_test(r, n);
	case NODE_NOT:
		return og_jinja_bool(!og_jinja_truth(eval(r, n->a)));
	case NODE_NEG:
	case NODE_POS:
		return eval_sign(r, n);
	case NODE_AND:
		v = eval(r, n->a);
		return og_jinja_truth(v) ? eval(r, n->b) : v;
	case NODE_OR:
		v = eval(r, n->a);
		return og_jinja_truth(v) ? v : eval(r, n->b);
	case NODE_IF_EXPR:
		if (og_jinja_truth(eval(r, n->a)))
			return eval(r, n->b);
		return n->c ? eval(r, n->c) : OG_JINJA_UNDEF;
	case NODE_BINARY:
		return eval_binary(r, n);
	case NODE_COMPARE:
		return eval_compare(r, n);
	default:
		og_jinja_fail(&r->trap, -EBADMSG, "not an expression");
	}
}

static value eval(struct og_jinja_run *r, const node *n)
{
	value v;

	enter(r, n);
	v = eval_any(r, n);
	r->depth--;
	return v;
}

/* ---- Statements. ---- */

/* The items for which the loop's condition holds. */
static struct og_jinja_list *select_items(struct og_jinja_run *r, const node *n)
{
	struct og_jinja_list *all = og_jinja_iterate(r, eval(r, n->b)), *some;
	struct og_jinja_frame frame = {.parent = r->frame};

	if (!n->c)
		return all;
	some = og_jinja_new_list(r, 0);
	r->frame = &frame;
	for (uint32_t i = 0; i < all->len; i++) {
		frame.variables = NULL;
		assign(r, n->a, all->items[i]);
		if (og_jinja_truth(eval(r, n->c)))
			og_jinja_push(r, some, all->items[i]);
	}
	r->frame = frame.parent;
	return some;
}

static enum jump run_for(struct og_jinja_run *r, const node *n)
{
	struct og_jinja_frame *frame = og_jinja_alloc(&r->arena, &r->trap, sizeof(*frame));
	struct og_jinja_loop *loop = og_jinja_alloc(&r->arena, &r->trap, sizeof(*loop));
	enum jump jump = GO_ON;
	bool finished = false; /* some iteration came to its end: `else` is passed over */

	*loop = (struct og_jinja_loop){.items = select_items(r, n)};
	*frame = (struct og_jinja_frame){.parent = r->frame};
	r->frame = frame;
	for (; loop->index < loop->items->len && jump != JUMP_BREAK; loop->index++) {
		og_jinja_spend(r, 1);
		frame->variables = NULL; /* what an iteration sets ends with it */
		assign_name(r, (struct og_text){"loop", 4},
			(value){.kind = OG_JINJA_LOOP, .other = loop});
		assign(r, n->a, loop->items->items[loop->index]);
		jump = run_body(r, n->first);
		finished |= jump == GO_ON;
	}
	r->frame = frame->parent;
	return finished ? GO_ON : run_body(r, n->second);
}

static value macro(struct og_jinja_run *r, const node *n)
{
	struct og_jinja_macro *m = og_jinja_alloc(&r->arena, &r->trap, sizeof(*m));

	*m = (struct og_jinja_macro){n, r->frame};
	return (value){.kind = OG_JINJA_MACRO, .other = m};
}

static value capture_inner(struct og_jinja_run *r, const node *body)
{
	struct og_jinja_frame *frame = og_jinja_alloc(&r->arena, &r->trap, sizeof(*frame));

	*frame = (struct og_jinja_frame){.parent = r->frame};
	return capture(r, body, frame);
}

static enum jump run_scope(struct og_jinja_run *r, const node *n)
{
	struct og_jinja_frame *frame = og_jinja_alloc(&r->arena, &r->trap, sizeof(*frame));
	enum jump jump;

	*frame = (struct og_jinja_frame){.parent = r->frame};
	for (const node *set = n->second; set; set = set->next) {
		value v = eval(r, set->b);

		r->frame = frame;
		assign(r, set->a, v);
		r->frame = frame->parent;
	}
	r->frame = frame;
	jump = run_body(r, n->first);
	r->frame = frame->parent;
	return jump;
}

static enum jump run_statement(struct og_jinja_run *r, const node *n)
{
	value v;

	switch (n->type) {
	case NODE_TEXT:
		og_jinja_build_value(r, r->out, n->value);
		break;
	case NODE_OUTPUT:
		og_jinja_build_value(r, r->out, eval(r, n->a));
		break;
	case NODE_IF:
		return run_body(r, og_jinja_truth(eval(r, n->a)) ? n->first : n->second);
	case NODE_FOR:
		return run_for(r, n);
	case NODE_SET:
		assign(r, n->a, eval(r, n->b));
		break;
	case NODE_SET_BLOCK:
		v = capture_inner(r, n->first);
		assign(r, n->a, n->b ? eval_filter(r, n->b, v) : v);
		break;
	case NODE_MACRO:
		assign_name(r, n->name, macro(r, n));
		break;
	case NODE_CALL_BLOCK:
		v = macro(r, n);
		og_jinja_build_value(r, r->out, eval_call(r, n->a, &v));
		break;
	case NODE_FILTER_BLOCK:
		v = capture_inner(r, n->first);
		og_jinja_build_value(r, r->out, eval_filter(r, n->a, v));
		break;
	case NODE_WITH:
	case NODE_SCOPE:
		return run_scope(r, n);
	case NODE_BREAK:
		return JUMP_BREAK;
	case NODE_CONTINUE:
		return JUMP_CONTINUE;
	default:
		og_jinja_fail(&r->trap, -EBADMSG, "not a statement");
	}
	return GO_ON;
}

static enum jump run_body(struct og_jinja_run *r, const node *n)
{
	enum jump jump = GO_ON;

	for (; n && jump == GO_ON; n = n->next) {
		enter(r, n);
		jump = run_statement(r, n);
		r->depth--;
	}
	return jump;
}

/* ---- The calls from outside. ---- */

static int report(const struct og_jinja_trap *trap, const char *file, char *err, size_t err_bytes)
{
	if (trap->error == -EINVAL) /* the template's own words */
		snprintf(err, err_bytes, "%s", trap->why);
	else if (trap->line > 0)
		snprintf(err, err_bytes, "%s: line %u of the chat template: %s", file, trap->line,
			trap->why);
	else
		snprintf(err, err_bytes, "%s: chat template: %s", file, trap->why);
	return trap->error;
}

int og_jinja_compile(
	struct og_jinja **out, const char *file, struct og_text source, char *err, size_t err_bytes)
{
	struct og_jinja *j = calloc(1, sizeof(*j));
	size_t len = strlen(file) + 1;
	char *name;
	int ret;

	snprintf(err, err_bytes, "%s: out of memory", file);
	if (!j)
		return -ENOMEM;
	j->arena.left = OG_JINJA_MEMORY_MAX_BYTES;
	if (setjmp(j->trap.back) != 0) {
		ret = report(&j->trap, file, err, err_bytes);
		og_jinja_destroy(j);
		return ret;
	}
	if (source.len_bytes > OG_JINJA_SOURCE_MAX_BYTES)
		og_jinja_fail(
			&j->trap, -EBADMSG, "longer than %d bytes", OG_JINJA_SOURCE_MAX_BYTES);
	name = og_jinja_alloc(&j->arena, &j->trap, len);
	memcpy(name, file, len);
	j->file = name;
	j->body = og_jinja_parse(j, og_jinja_lex(j, source));
	*out = j;
	return 0;
}

void og_jinja_destroy(struct og_jinja *j)
{
	if (!j)
		return;
	og_jinja_arena_fini(&j->arena);
	free(j);
}

int og_jinja_run_create(struct og_jinja_run **out, int64_t now_s)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->arena.left = OG_JINJA_MEMORY_MAX_BYTES;
	(*out)->now_s = now_s;
	return 0;
}

void og_jinja_run_destroy(struct og_jinja_run *r)
{
	if (!r)
		return;
	og_jinja_arena_fini(&r->arena);
	free(r);
}

static value dict_of(struct og_jinja_run *r)
{
	struct og_jinja_dict *d = og_jinja_alloc(&r->arena, &r->trap, sizeof(*d));

	*d = (struct og_jinja_dict){0};
	return (value){.kind = OG_JINJA_DICT, .dict = d};
}

static value string_of(struct og_jinja_run *r, struct og_text text, bool foreign)
{
	struct og_jinja_builder b = {0};
	uint8_t *marks = NULL;

	if (foreign && text.len_bytes > 0) {
		marks = og_jinja_alloc(&r->arena, &r->trap, text.len_bytes);
		memset(marks, 1, text.len_bytes);
	}
	og_jinja_build(r, &b, text.data, text.len_bytes, marks);
	return og_jinja_built(r, &b);
}

/* Values are made inside of a rendering, where a trap is set, and before one. */
#define OUTSIDE(r, expression, otherwise)                                                          \
	do {                                                                                       \
		if ((r)->out)                                                                      \
			return (expression);                                                       \
		if ((r)->failed || setjmp((r)->trap.back) != 0) {                                  \
			(r)->failed = true;                                                        \
			return (otherwise);                                                        \
		}                                                                                  \
		return (expression);                                                               \
	} while (0)

value og_jinja_string(struct og_jinja_run *r, struct og_text text, bool foreign)
{
	OUTSIDE(r, string_of(r, text, foreign), OG_JINJA_UNDEF);
}

value og_jinja_list(struct og_jinja_run *r)
{
	OUTSIDE(r, og_jinja_list_value(og_jinja_new_list(r, 0), false), OG_JINJA_UNDEF);
}

value og_jinja_dict(struct og_jinja_run *r)
{
	OUTSIDE(r, dict_of(r), OG_JINJA_UNDEF);
}

void og_jinja_append(struct og_jinja_run *r, value list, value item)
{
	if (list.kind != OG_JINJA_LIST || r->failed || setjmp(r->trap.back) != 0)
		r->failed = true;
	else
		og_jinja_push(r, list.list, item);
}

void og_jinja_set(struct og_jinja_run *r, value dict, const char *key, value v)
{
	if (dict.kind != OG_JINJA_DICT || r->failed || setjmp(r->trap.back) != 0)
		r->failed = true;
	else
		og_jinja_put(r, dict.dict,
			string_of(r, (struct og_text){key, (uint32_t)strlen(key)}, false), v);
}

static value number_of(const struct og_json *j, uint32_t node_id)
{
	int64_t i;
	double f = 0;

	if (og_json_i64(j, node_id, &i) == 0)
		return og_jinja_int(i);
	return og_json_f64(j, node_id, &f) == 0 ? og_jinja_float(f) : OG_JINJA_UNDEF;
}

static value from_json(struct og_jinja_run *r, const struct og_json *j, uint32_t id, bool foreign)
{
	struct og_jinja_list *l;
	value v;

	switch (og_json_kind(j, id)) {
	case OG_JSON_NULL:
		return og_jinja_none();
	case OG_JSON_TRUE:
	case OG_JSON_FALSE:
		return og_jinja_bool(og_json_kind(j, id) == OG_JSON_TRUE);
	case OG_JSON_NUMBER:
		return number_of(j, id);
	case OG_JSON_STRING:
		return string_of(r, og_json_text(j, id), foreign);
	case OG_JSON_ARRAY:
		l = og_jinja_new_list(r, og_json_count(j, id));
		for (uint32_t i = og_json_first(j, id); i; i = og_json_next(j, i))
			og_jinja_push(r, l, from_json(r, j, i, foreign));
		return og_jinja_list_value(l, false);
	case OG_JSON_OBJECT:
		v = dict_of(r);
		for (uint32_t i = og_json_first(j, id); i; i = og_json_next(j, i))
			og_jinja_put(r, v.dict, string_of(r, og_json_text(j, i), foreign),
				from_json(r, j, i + 1, foreign));
		return v;
	default:
		return OG_JINJA_UNDEF;
	}
}

value og_jinja_from_json(struct og_jinja_run *r, const struct og_json *j, uint32_t id, bool foreign)
{
	OUTSIDE(r, from_json(r, j, id, foreign), OG_JINJA_UNDEF);
}

/* The marks of the output as spans. */
static void finish(
	struct og_jinja_run *r, const struct og_jinja_builder *b, struct og_jinja_output *out)
{
	struct og_span *spans;
	uint32_t n = 0;

	*out = (struct og_jinja_output){{b->len > 0 ? b->data : "", b->len}, NULL, 0};
	for (uint32_t i = 0; b->foreign && i < b->len; i++)
		n += b->foreign[i] && (i == 0 || !b->foreign[i - 1]);
	spans = og_jinja_alloc(&r->arena, &r->trap, n * sizeof(*spans));
	n = 0;
	for (uint32_t i = 0; b->foreign && i < b->len; i++) {
		if (!b->foreign[i])
			continue;
		if (i == 0 || !b->foreign[i - 1])
			spans[n++].start = i;
		spans[n - 1].end = i + 1;
	}
	out->foreign = spans;
	out->nb_foreign = n;
}

int og_jinja_render(const struct og_jinja *j, struct og_jinja_run *r, struct og_jinja_value vars,
	struct og_jinja_output *out, char *err, size_t err_bytes)
{
	struct og_jinja_builder text = {0};
	struct og_jinja_frame top = {0};

	if (r->failed) {
		snprintf(err, err_bytes, "%s: the messages are too long for the chat template",
			j->file);
		return -E2BIG;
	}
	if (setjmp(r->trap.back) != 0)
		return report(&r->trap, j->file, err, err_bytes);
	r->vars = vars;
	r->frame = &top;
	r->out = &text;
	run_body(r, j->body);
	if (text.len > OG_JINJA_OUTPUT_MAX_BYTES)
		og_jinja_fail(&r->trap, -E2BIG, "the output is longer than %d bytes",
			OG_JINJA_OUTPUT_MAX_BYTES);
	finish(r, &text, out);
	return 0;
}
