/*
 * openai.h: OpenAI's request bodies read and checked, and its answers written. No sockets here.
 *
 * Source:  api/openai-trimmed.json (OpenAPI 3.1): CreateChatCompletionRequest and -Response,
 *          CreateCompletionRequest and -Response, their streams, ListModelsResponse.
 * Units:   tokens, seconds since 1970 for `created`.
 * Threads: pure functions.
 * Memory:  what is given is malloc'ed; an ask belongs to the caller until it is handed on.
 *
 * Members that are unknown are ignored. Those that ask for something that is not done here (more
 * than one choice, images, a forced schema) are refused rather than ignored,
 * since the answer would be read as if they had been honoured.
 */
#pragma once
#include "cluster/router.h"

#include <stdio.h>

struct og_openai_error {
	unsigned status;  /* of HTTP */
	const char *type; /* "invalid_request_error", "server_error"… */
	const char *code; /* or NULL */
	char param[64];   /* or "" */
	char message[320];
	unsigned retry_after_s; /* 0: no such header */
};

struct og_openai_request {
	bool chat; /* else a plain completion */
	bool stream;
	bool include_usage;
	bool has_seed;
	bool logprobs;
	struct og_ask *ask; /* face and deadline are the caller's to fill */
};

/* Body of POST /v1/chat/completions (`chat`) or /v1/completions. 0, or -EINVAL with `err` filled. */
int og_openai_parse(struct og_openai_request *out, struct og_openai_error *err, bool chat,
	const char *body, size_t len_bytes) OG_MUST_CHECK;
void og_openai_request_fini(struct og_openai_request *req);
void og_ask_free(struct og_ask *ask);

void og_openai_fail(struct og_openai_error *err, unsigned status, const char *type,
	const char *code, const char *param, const char *fmt, ...) OG_PRINTF(6, 7);
/* What an error of the router is to a client of HTTP. */
void og_openai_from_answer(struct og_openai_error *err, const struct og_answer *answer);
/* {"error":{"message","type","param","code"}} */
char *og_openai_error_body(const struct og_openai_error *err);

/* What all answers to one request share. */
struct og_openai_reply {
	bool chat;
	bool include_usage;
	bool logprobs;
	char id[48];
	int64_t created;
	char model[OG_MODEL_NAME_BYTES];
};

/* How a request ended: a copy of the final answer. */
struct og_openai_end {
	char node_name[OG_NODE_NAME_BYTES];
	char node_key[65];
	uint32_t prompt_tokens, completion_tokens, attempts;
	enum og_infer_finish finish;
};

void og_openai_reply_init(
	struct og_openai_reply *reply, const struct og_openai_request *req, struct og_rand *rand);
/*
 * Add one LOGPROB answer to a list, which holds an entry for each token. The functions below read
 * such a list, NULL for an empty one, where the request asked for it. Returns 0 or -ENOMEM.
 */
int og_openai_add_logprob(json_t *list, const struct og_answer *a) OG_MUST_CHECK;
/* The whole answer as one body. */
char *og_openai_body(const struct og_openai_reply *reply, const struct og_openai_end *end,
	const char *text, size_t text_bytes, const json_t *logprobs);

/* Server-sent events, each "data: …\n\n". */
void og_openai_stream_start(FILE *out, const struct og_openai_reply *reply);
void og_openai_stream_text(FILE *out, const struct og_openai_reply *reply, const char *text,
	size_t text_bytes, const json_t *logprobs);
void og_openai_stream_end(
	FILE *out, const struct og_openai_reply *reply, const struct og_openai_end *end);
void og_openai_stream_error(FILE *out, const struct og_openai_error *err);

/* ListModelsResponse, or with `id` the Model of that name (NULL when there is none). `models` is
 * og_router_models_json(). */
char *og_openai_models(const json_t *models, const char *id, int64_t created);
