/*
 * jinja.h: renders chat templates: Jinja's language, as far as the templates of models use it.
 *
 * Statements if, for, set, macro, call, filter, with, raw, generation, break and continue;
 * expressions, filters, tests and methods of strings and dictionaries as in Jinja and Python.
 * Loading and inheriting templates is left out. trim_blocks and lstrip_blocks are on, nothing is
 * escaped, objects cannot be changed except namespaces. A filter that makes a generator in Python
 * makes a list here that can only be gone through.
 *
 * A template is a program from a file, so it runs within limits of steps, memory, output and depth.
 *
 * Every text knows which of its bytes are foreign, that is, came from a message and not from the
 * template, through whatever the template does with them: only the template's own may spell control
 * tokens.
 *
 * Source:  Jinja 3.1 with transformers' settings; transformers' tojson, raise_exception, strftime_now.
 * Units:   bytes of UTF-8; indexes and lengths in a template are characters.
 * Threads: a compiled template is immutable; a run and its values belong to one caller.
 * Memory:  a run owns its values and its output.
 */
#pragma once
#include "gpu/json.h"
#include "gpu/tokenizer.h"

enum {
	OG_JINJA_SOURCE_MAX_BYTES = 1024 * 1024,
	OG_JINJA_DEPTH_MAX = 400, /* nested expressions, statements and calls */
	OG_JINJA_STEPS_MAX = 4 * 1000 * 1000,
	OG_JINJA_OUTPUT_MAX_BYTES = OG_TOKENIZER_TEXT_MAX_BYTES,
	OG_JINJA_MEMORY_MAX_BYTES = 192 * 1024 * 1024,
};

struct og_jinja;
struct og_jinja_run;

enum og_jinja_kind {
	OG_JINJA_UNDEFINED,
	OG_JINJA_NONE,
	OG_JINJA_BOOL,
	OG_JINJA_INT,
	OG_JINJA_FLOAT,
	OG_JINJA_STRING,
	OG_JINJA_LIST,
	OG_JINJA_TUPLE,
	OG_JINJA_DICT,
	OG_JINJA_NAMESPACE,
	OG_JINJA_LOOP,
	OG_JINJA_FUNCTION,
	OG_JINJA_METHOD,
	OG_JINJA_MACRO,
};

struct og_jinja_value {
	enum og_jinja_kind kind;
	union {
		bool b;
		int64_t i;
		double f;
		struct og_jinja_string *string;
		struct og_jinja_list *list; /* tuples too */
		struct og_jinja_dict *dict; /* namespaces too */
		const void *other;
	};
};

struct og_jinja_output {
	struct og_text text;
	const struct og_span *foreign; /* ascending, disjoint */
	uint32_t nb_foreign;
};

/* `file` is for messages. Returns 0, -EBADMSG or -EOPNOTSUPP with a sentence, or -ENOMEM. */
int og_jinja_compile(struct og_jinja **out, const char *file, struct og_text source, char *err,
	size_t err_bytes) OG_MUST_CHECK;
void og_jinja_destroy(struct og_jinja *j);

/* `now_s`: seconds since 1970, for strftime_now. */
int og_jinja_run_create(struct og_jinja_run **out, int64_t now_s) OG_MUST_CHECK;
void og_jinja_run_destroy(struct og_jinja_run *run);

/*
 * Values. When memory runs out they are undefined, and rendering will say so. Text is copied;
 * `foreign`: it comes from a message.
 */
struct og_jinja_value og_jinja_bool(bool b);
struct og_jinja_value og_jinja_none(void);
struct og_jinja_value og_jinja_string(struct og_jinja_run *run, struct og_text text, bool foreign);
struct og_jinja_value og_jinja_list(struct og_jinja_run *run);
struct og_jinja_value og_jinja_dict(struct og_jinja_run *run);
void og_jinja_append(
	struct og_jinja_run *run, struct og_jinja_value list, struct og_jinja_value item);
void og_jinja_set(struct og_jinja_run *run, struct og_jinja_value dict, const char *key,
	struct og_jinja_value v);
struct og_jinja_value og_jinja_from_json(
	struct og_jinja_run *run, const struct og_json *j, uint32_t node, bool foreign);

/*
 * Render with the variables of a dictionary; `out` lives as long as the run. Once per run. Returns 0,
 * -EINVAL with the message that the template raised about the conversation, -EBADMSG with a sentence if it
 * fails otherwise, -E2BIG at a limit, or -ENOMEM.
 */
int og_jinja_render(const struct og_jinja *j, struct og_jinja_run *run, struct og_jinja_value vars,
	struct og_jinja_output *out, char *err, size_t err_bytes) OG_MUST_CHECK;
