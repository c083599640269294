/*
 * message.h: the JSON lines members exchange, read with limits and written as old peers expect.
 *
 * Source:  cluster.md 3 and 5; design.md 6.3 for the member "og" and the types between og-nodes.
 * Threads: any.
 * Memory:  a parsed message owns its JSON; strings point into it until og_message_fini().
 */
#pragma once
#include "base/infer.h"
#include "cluster/router.h"

#include <jansson.h>
#include <stdbool.h>

enum { OG_REQUEST_ID_MAX_BYTES = 1024, OG_MESSAGE_VERSION = 1 };

enum og_message_type {
	OG_MSG_UNKNOWN,
	OG_MSG_HELLO,
	OG_MSG_REQUEST,
	OG_MSG_RESPONSE,
	OG_MSG_CHUNK,
	OG_MSG_CANCEL,
	OG_MSG_STATUS,
};

struct og_message {
	enum og_message_type type;
	json_t *root;
	json_t *og;         /* the "og" member if it is an object, else NULL; borrowed */
	const char *raw_id; /* source bytes of request_id in the line; NULL if null or missing */
	size_t raw_id_bytes;
};

/*
 * Parse one line. Returns 0, or -EBADMSG: not JSON, not an object, nested too deep, or bytes that
 * are not UTF-8. A message of unknown type is OG_MSG_UNKNOWN, not an error. `line` stays alive as
 * long as raw_id is used.
 */
int og_message_parse(struct og_message *out, const char *line, size_t len) OG_MUST_CHECK;
void og_message_fini(struct og_message *m);
/* A string member, or NULL when absent or of another type. */
const char *og_message_string(const json_t *object, const char *name, size_t *len);

/* Sampling parameters of og.params; what is absent or out of range keeps its default. */
void og_message_params(const json_t *og, struct og_infer_params *out);
json_t *og_message_params_json(const struct og_infer_params *p);
/* -EINVAL when og.messages is absent, empty or not a list of {role, content}. */
int og_message_infer_request(
	const struct og_message *m, uint64_t id, struct og_infer_request **out) OG_MUST_CHECK;

/* Lines to send, newline included, malloc'ed; NULL when out of memory. */
char *og_message_hello(
	const char *node_name, const json_t *clusters, const json_t *models, size_t *len);
char *og_message_request(
	const char *uuid, const struct og_ask *ask, uint32_t deadline_ms, size_t *len);
struct og_response {
	const char *raw_id;
	size_t raw_id_bytes;
	const char *text; /* the answer, or what is said behind "[error] " */
	size_t text_bytes;
	const char *model; /* or NULL */
	int error;         /* 0, or a negative errno: text is a message */
	enum og_infer_finish finish;
	uint32_t prompt_tokens, completion_tokens;
};
char *og_message_response(const struct og_response *r, size_t *len);
char *og_message_chunk(const char *raw_id, size_t raw_id_bytes, uint32_t seq, const char *text,
	size_t text_bytes, size_t *len);
char *og_message_cancel(const char *uuid, size_t *len);
char *og_message_status(uint32_t running, uint32_t queued, const uint64_t *kv_free /* or NULL */,
	const json_t *models, size_t *len);

const char *og_finish_name(enum og_infer_finish f);
