/*
 * jinja_priv.h: what the parts of the interpreter share: jinja_lex.c (text to tokens), jinja_parse.c
 * (tokens to a tree), jinja.c (walks the tree), jinja_value.c (values as Python has them),
 * jinja_builtin.c (filters and functions), jinja_method.c (methods and tests).
 *
 * Everything lives in an arena. Whatever fails leaves by one jump to the call from outside, with the
 * sentence written: a walk over a tree has too many ways back to check each.
 */
#pragma once
#include "gpu/jinja.h"

#include <setjmp.h>

struct og_jinja_arena {
	struct og_jinja_chunk *chunks;
	size_t left; /* bytes that may still be taken */
};

/* Where failures go. Part of compiling and of a run. */
struct og_jinja_trap {
	jmp_buf back;
	int error;
	uint32_t line; /* of the template, 0: none */
	char why[384];
};

struct og_jinja_string {
	const char *data;
	uint32_t len;
	const uint8_t *foreign; /* one for each byte, 0 or 1; NULL: none is */
};

struct og_jinja_list {
	struct og_jinja_value *items;
	uint32_t len, cap;
	bool is_generator; /* would be one in Python */
};

struct og_jinja_member {
	struct og_jinja_value key, value;
};

struct og_jinja_dict {
	struct og_jinja_member *members;
	uint32_t len, cap;
};

/* ---- The tree. ---- */

enum og_jinja_op {
	OP_ADD,
	OP_SUB,
	OP_MUL,
	OP_DIV,
	OP_FLOORDIV,
	OP_MOD,
	OP_POW,
	OP_CONCAT,
	OP_EQ,
	OP_NE,
	OP_LT,
	OP_LE,
	OP_GT,
	OP_GE,
	OP_IN,
	OP_NOT_IN,
};

enum og_jinja_node_type {
	/* Expressions. */
	NODE_CONST,  /* value */
	NODE_NAME,   /* name */
	NODE_LIST,   /* first: items */
	NODE_TUPLE,  /* first: items */
	NODE_DICT,   /* first: keys, each with its value as `a` */
	NODE_ATTR,   /* a.name */
	NODE_ITEM,   /* a[b] */
	NODE_SLICE,  /* a[b:c:d] */
	NODE_CALL,   /* a(first) */
	NODE_FILTER, /* a | name(first) */
	NODE_TEST,   /* a is name(first); flag: is not */
	NODE_NOT,
	NODE_NEG,
	NODE_POS, /* a */
	NODE_AND,
	NODE_OR,       /* a, b */
	NODE_IF_EXPR,  /* b if a else c */
	NODE_BINARY,   /* a op b */
	NODE_COMPARE,  /* a, then first: operands, each with its op */
	NODE_ARGUMENT, /* name = a; without name: positional */
	/* Statements. */
	NODE_TEXT,         /* value */
	NODE_OUTPUT,       /* a */
	NODE_IF,           /* if a: first, else: second */
	NODE_FOR,          /* for a in b if c: first, else: second */
	NODE_SET,          /* a = b */
	NODE_SET_BLOCK,    /* a = first, through the filters b */
	NODE_MACRO,        /* name(second) : first */
	NODE_CALL_BLOCK,   /* a: the call; second: parameters; first: body */
	NODE_FILTER_BLOCK, /* a: filters; first: body */
	NODE_WITH,         /* second: parameters with values; first: body */
	NODE_SCOPE,        /* first: body */
	NODE_BREAK,
	NODE_CONTINUE,
};

struct og_jinja_node {
	enum og_jinja_node_type type;
	enum og_jinja_op op;
	uint32_t line;
	bool flag;
	struct og_text name;
	struct og_jinja_value value;
	struct og_jinja_node *a, *b, *c, *d;
	struct og_jinja_node *first, *second; /* lists */
	struct og_jinja_node *next;           /* in the list that holds this one */
};

enum og_jinja_token_type {
	TOKEN_END,
	TOKEN_TEXT,
	TOKEN_OUTPUT_BEGIN,
	TOKEN_OUTPUT_END,
	TOKEN_BLOCK_BEGIN,
	TOKEN_BLOCK_END,
	TOKEN_NAME,
	TOKEN_STRING,
	TOKEN_INT,
	TOKEN_FLOAT,
	TOKEN_OPERATOR,
};

struct og_jinja_token {
	enum og_jinja_token_type type;
	uint32_t line;
	struct og_text text; /* of strings: without quotes and escapes */
	struct og_jinja_value value;
};

struct og_jinja {
	struct og_jinja_arena arena;
	struct og_jinja_trap trap; /* while compiling */
	struct og_jinja_node *body;
	const char *file;
};

/* ---- A run. ---- */

struct og_jinja_variable {
	struct og_text name;
	struct og_jinja_value value;
	struct og_jinja_variable *next;
};

struct og_jinja_frame {
	struct og_jinja_frame *parent;
	struct og_jinja_variable *variables;
};

/* Text that grows, with its marks. */
struct og_jinja_builder {
	char *data;
	uint8_t *foreign; /* NULL: none so far */
	uint32_t len, cap;
};

struct og_jinja_loop {
	struct og_jinja_list *items;
	uint32_t index;
	struct og_jinja_value last_changed;
	bool has_changed;
};

struct og_jinja_run {
	struct og_jinja_arena arena;
	struct og_jinja_trap trap;
	bool failed; /* a value could not be made */
	int64_t now_s;
	uint32_t steps;
	uint32_t depth;
	struct og_jinja_value vars;
	struct og_jinja_frame *frame;
	struct og_jinja_builder *out;
};

struct og_jinja_keyword {
	struct og_text name;
	struct og_jinja_value value;
};

struct og_jinja_args {
	struct og_jinja_value *values;
	uint32_t count;
	struct og_jinja_keyword *keywords;
	uint32_t nb_keywords;
};

typedef struct og_jinja_value og_jinja_call_fn(
	struct og_jinja_run *r, struct og_jinja_value self, const struct og_jinja_args *args);

struct og_jinja_builtin {
	const char *name;
	og_jinja_call_fn *fn;
};

struct og_jinja_method {
	struct og_jinja_value self;
	og_jinja_call_fn *fn;
};

struct og_jinja_macro {
	const struct og_jinja_node *node; /* NODE_MACRO or NODE_CALL_BLOCK */
	struct og_jinja_frame *frame;     /* where it was defined */
};

/* ---- jinja_value.c ---- */

void *og_jinja_alloc(struct og_jinja_arena *a, struct og_jinja_trap *trap, size_t bytes);
void og_jinja_arena_fini(struct og_jinja_arena *a);
OG_PRINTF(3, 4)
_Noreturn void og_jinja_fail(struct og_jinja_trap *trap, int error, const char *fmt, ...);
/* Counts work against the limit. */
void og_jinja_spend(struct og_jinja_run *r, uint32_t steps);

#define OG_JINJA_UNDEF ((struct og_jinja_value){.kind = OG_JINJA_UNDEFINED})

struct og_jinja_value og_jinja_int(int64_t i);
struct og_jinja_value og_jinja_float(double f);
struct og_jinja_value og_jinja_text(struct og_jinja_run *r, const char *text);
/* Bytes [from, to) of a string, which share its memory. */
struct og_jinja_value og_jinja_part(
	struct og_jinja_run *r, const struct og_jinja_string *s, uint32_t from, uint32_t to);
struct og_jinja_list *og_jinja_new_list(struct og_jinja_run *r, uint32_t cap);
void og_jinja_push(struct og_jinja_run *r, struct og_jinja_list *l, struct og_jinja_value v);
struct og_jinja_value og_jinja_list_value(struct og_jinja_list *l, bool tuple);
struct og_jinja_value *og_jinja_find(
	struct og_jinja_run *r, const struct og_jinja_dict *d, struct og_jinja_value key);
struct og_jinja_value *og_jinja_find_text(const struct og_jinja_dict *d, struct og_text key);
void og_jinja_put(struct og_jinja_run *r, struct og_jinja_dict *d, struct og_jinja_value key,
	struct og_jinja_value v);

void og_jinja_build(struct og_jinja_run *r, struct og_jinja_builder *b, const char *data,
	uint32_t len, const uint8_t *foreign);
void og_jinja_build_text(struct og_jinja_run *r, struct og_jinja_builder *b, const char *text);
void og_jinja_build_part(struct og_jinja_run *r, struct og_jinja_builder *b,
	const struct og_jinja_string *s, uint32_t from, uint32_t to);
/* str(v) */
void og_jinja_build_value(
	struct og_jinja_run *r, struct og_jinja_builder *b, struct og_jinja_value v);
struct og_jinja_value og_jinja_built(struct og_jinja_run *r, const struct og_jinja_builder *b);
/* v as a string, as str() makes it. */
const struct og_jinja_string *og_jinja_str(struct og_jinja_run *r, struct og_jinja_value v);
void og_jinja_repr(struct og_jinja_run *r, struct og_jinja_builder *b, struct og_jinja_value v);

bool og_jinja_truth(struct og_jinja_value v);
bool og_jinja_is_number(struct og_jinja_value v); /* bool, int, float */
double og_jinja_number(struct og_jinja_value v);
bool og_jinja_equal(struct og_jinja_run *r, struct og_jinja_value a, struct og_jinja_value b);
/* <0, 0, >0; fails where Python would. */
int og_jinja_order(struct og_jinja_run *r, struct og_jinja_value a, struct og_jinja_value b);
bool og_jinja_contains(struct og_jinja_run *r, struct og_jinja_value in, struct og_jinja_value v);
struct og_jinja_value og_jinja_binary(struct og_jinja_run *r, enum og_jinja_op op,
	struct og_jinja_value a, struct og_jinja_value b);
/* What a loop goes over. */
struct og_jinja_list *og_jinja_iterate(struct og_jinja_run *r, struct og_jinja_value v);
/* -1: has none. */
int64_t og_jinja_length(struct og_jinja_value v);
struct og_jinja_value og_jinja_item(
	struct og_jinja_run *r, struct og_jinja_value v, struct og_jinja_value key);
struct og_jinja_value og_jinja_slice(struct og_jinja_run *r, struct og_jinja_value v,
	struct og_jinja_value from, struct og_jinja_value to, struct og_jinja_value step);
const char *og_jinja_type_name(struct og_jinja_value v);
/* White space as Python's str.isspace(). */
bool og_jinja_is_space(uint32_t c);
/* The character at `at` and its length; a byte that is none is U+FFFD of length 1. */
uint32_t og_jinja_char(const struct og_jinja_string *s, uint32_t at, uint32_t *len);
/* s[from:to] without the white space, or the characters of `chars`, at the ends. */
enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };
struct og_jinja_value og_jinja_strip(struct og_jinja_run *r, const struct og_jinja_string *s,
	const struct og_jinja_string *chars, unsigned sides);

/* ---- jinja_lex.c, jinja_parse.c ---- */

struct og_jinja_token *og_jinja_lex(struct og_jinja *j, struct og_text source);
struct og_jinja_node *og_jinja_parse(struct og_jinja *j, struct og_jinja_token *tokens);

/* ---- jinja.c ---- */

struct og_jinja_value og_jinja_call(
	struct og_jinja_run *r, struct og_jinja_value fn, const struct og_jinja_args *args);
struct og_jinja_value og_jinja_attr(
	struct og_jinja_run *r, struct og_jinja_value v, struct og_text name);

/* ---- jinja_builtin.c, jinja_method.c ---- */

/* Argument `i` or keyword `name`, otherwise `otherwise`. */
struct og_jinja_value og_jinja_arg(const struct og_jinja_args *args, uint32_t i, const char *name,
	struct og_jinja_value otherwise);
int64_t og_jinja_int_arg(struct og_jinja_run *r, const struct og_jinja_args *args, uint32_t i,
	const char *name, int64_t otherwise);
/* The argument must be a string; NULL if it is left out or none. */
const struct og_jinja_string *og_jinja_string_arg(
	struct og_jinja_run *r, const struct og_jinja_args *args, uint32_t i, const char *name);

og_jinja_call_fn *og_jinja_find_filter(struct og_text name);
og_jinja_call_fn *og_jinja_find_function(struct og_text name);
/* A method of strings or dictionaries, or NULL. */
og_jinja_call_fn *og_jinja_find_method(struct og_jinja_value self, struct og_text name);
/* Does the test hold? Fails for an unknown one. */
bool og_jinja_test(struct og_jinja_run *r, struct og_text name, struct og_jinja_value v,
	const struct og_jinja_args *args);
struct og_jinja_value og_jinja_filter(struct og_jinja_run *r, struct og_text name,
	struct og_jinja_value v, const struct og_jinja_args *args);
struct og_jinja_value og_jinja_replace(struct og_jinja_run *r, const struct og_jinja_string *s,
	const struct og_jinja_string *from, const struct og_jinja_string *to, int64_t count);
enum og_jinja_case { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL };
struct og_jinja_value og_jinja_recase(
	struct og_jinja_run *r, const struct og_jinja_string *s, enum og_jinja_case c);
struct og_jinja_value og_jinja_percent(struct og_jinja_run *r, const struct og_jinja_string *format,
	const struct og_jinja_value *values, uint32_t count);
