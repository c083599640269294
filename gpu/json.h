/*
 * json.h: reads a JSON document: tokenizer.json, config.json, the header of a safetensors file.
 *
 * The document becomes an array of nodes in the order of the text, found by walking: members and
 * elements are linked, nothing is hashed, text stays where it is. The bytes are hostile: nesting and
 * the number of nodes are bounded, strings are checked to be UTF-8, numbers are read on demand.
 *
 *     for (uint32_t key = og_json_first(j, object); key; key = og_json_next(j, key))
 *             use(og_json_text(j, key), key + 1); // a member is its key, then its value
 *     for (uint32_t item = og_json_first(j, array); item; item = og_json_next(j, item))
 *             use(item);
 *
 * Source:  RFC 8259; NaN, Infinity and -Infinity are numbers too, as Python writes them.
 * Units:   bytes. A node is its index; 0 is the root, OG_JSON_NONE none, and every call takes that
 *          as an absent value, so a path of lookups is checked once, at its end.
 * Threads: immutable once parsed.
 * Memory:  borrows the document, which must outlive the struct; 16 bytes a node, of which there is at
 *          most one for every second byte and never more than the caller allows; strings with escapes
 *          are copied.
 */
#pragma once
#include "gpu/text.h"

enum {
	OG_JSON_DEPTH_MAX = 64,
	OG_JSON_MAX_BYTES = 1024 * 1024 * 1024,
};

#define OG_JSON_ROOT 0u
#define OG_JSON_NONE UINT32_MAX

enum og_json_kind {
	OG_JSON_ABSENT,
	OG_JSON_NULL,
	OG_JSON_FALSE,
	OG_JSON_TRUE,
	OG_JSON_NUMBER,
	OG_JSON_STRING,
	OG_JSON_ARRAY,
	OG_JSON_OBJECT,
};

struct og_json_node {
	uint32_t at;   /* text: where; containers: the node of the first item, 0 if empty */
	uint32_t len;  /* text: bytes; containers: members or elements */
	uint32_t next; /* the next element, or the key of the next member; 0 at the last */
	uint8_t kind;  /* enum og_json_kind */
	bool is_copy;  /* text lies in `copies`, otherwise in the document */
};

struct og_json {
	const char *data;
	struct og_json_node *nodes;
	uint32_t nb_nodes;
	char *copies;
};

/*
 * Parse a document; `file` is for messages. Returns 0, -EBADMSG with a sentence that names the byte,
 * -E2BIG with one if there are more than `nodes_max` values and keys or the document is larger than
 * OG_JSON_MAX_BYTES, or -ENOMEM. On success the caller owes og_json_fini().
 */
int og_json_init(struct og_json *j, const char *file, const void *data, size_t len_bytes,
	uint32_t nodes_max, char *err, size_t err_bytes) OG_MUST_CHECK;
void og_json_fini(struct og_json *j);

enum og_json_kind og_json_kind(const struct og_json *j, uint32_t node);
/* Elements of an array, members of an object, otherwise 0. */
uint32_t og_json_count(const struct og_json *j, uint32_t node);
/* The first element, or the key of the first member; 0 if there is none or `node` has no items. */
uint32_t og_json_first(const struct og_json *j, uint32_t node);
/* The element or key after this one; 0 after the last. */
uint32_t og_json_next(const struct og_json *j, uint32_t node);

/* The value of a member, the last of that name; looks at each. OG_JSON_NONE if there is none. */
uint32_t og_json_get(const struct og_json *j, uint32_t object, const char *key);
/* The text of a key or string, or "" for anything else. May hold NUL. */
struct og_text og_json_text(const struct og_json *j, uint32_t node);
/* The characters of a number in the document, otherwise "". */
struct og_text og_json_digits(const struct og_json *j, uint32_t node);

/*
 * Typed reads. Return 0, -ENOENT if the node is absent or null, or -EBADMSG if its value has another
 * type or does not fit; *out is written on success only. Integers are written without fraction or
 * exponent. f64 takes any number; beyond the range it is infinite.
 */
int og_json_u64(const struct og_json *j, uint32_t node, uint64_t *out) OG_MUST_CHECK;
int og_json_i64(const struct og_json *j, uint32_t node, int64_t *out) OG_MUST_CHECK;
int og_json_f64(const struct og_json *j, uint32_t node, double *out) OG_MUST_CHECK;
int og_json_bool(const struct og_json *j, uint32_t node, bool *out) OG_MUST_CHECK;
int og_json_string(const struct og_json *j, uint32_t node, struct og_text *out) OG_MUST_CHECK;
