/*
 * infer.h: what an engine is asked and what it reports. Plain structs that cross threads by pointer
 * (requests) or by value (events); neither side knows the other's ring.
 *
 * Units:   counts are tokens; text is UTF-8 and not NUL-terminated unless said.
 * Memory:  a request is one heap block made by og_infer_request_create(); whoever holds it frees it
 *          with og_infer_request_free(). The submitter gives it to the engine.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

enum {
	OG_INFER_STOP_MAX = 4,
	OG_INFER_STOP_BYTES = 64,
	OG_INFER_TEXT_BYTES = 256, /* text in one event */
	OG_INFER_MESSAGES_MAX = 256,
	OG_INFER_STOP_TOKENS_MAX = 8,
	OG_INFER_BIASES_MAX = 64,
	OG_INFER_TOP_LOGPROBS_MAX = 20,
	OG_INFER_REPETITION_MAX = 10, /* of that penalty; its least is 1 over it */
};

struct og_infer_bias {
	uint32_t token;
	float bias; /* added to its logit; -100 and below: never */
};

struct og_infer_params {
	uint32_t max_tokens; /* 0: what the context leaves */
	float temperature;   /* 0: greedy */
	float top_p;         /* 1: off */
	uint32_t top_k;      /* 0: off */
	float min_p;         /* of the likeliest one's probability; 0: off */
	/* Of a token seen before: logit divided (multiplied where negative); 1: off. */
	float repetition_penalty;
	float frequency_penalty; /* subtracted for each time that it was generated */
	float presence_penalty;  /* subtracted if it was generated at all */
	uint64_t seed;           /* same seed, same tokens */
	bool ignore_eos;         /* go on where the model would end */
	bool logprobs;           /* a LOGPROB event for each token */
	uint8_t top_logprobs;    /* and for so many of the likeliest ones in its place */
	uint8_t nb_stop_tokens;
	uint8_t nb_biases;
	uint32_t stop_tokens[OG_INFER_STOP_TOKENS_MAX];
	struct og_infer_bias biases[OG_INFER_BIASES_MAX]; /* ids beyond the vocabulary: no effect */
	uint8_t nb_stop;
	char stop[OG_INFER_STOP_MAX][OG_INFER_STOP_BYTES]; /* NUL-terminated */
};

struct og_infer_message {
	const char *role; /* NUL-terminated */
	const char *content;
	uint32_t content_bytes;
};

struct og_infer_request {
	uint64_t id; /* unique among the submitter's outstanding requests */
	struct og_infer_params params;
	/* Either messages (the model's chat template applies) or raw text (completion). */
	bool raw;
	uint32_t nb_messages; /* raw: exactly one, its role is ignored */
	uint32_t credits;     /* events of text that may be sent before og_engine_credit() */
	struct og_infer_message messages[]; /* strings live in the same block */
};

enum og_infer_event_type {
	OG_INFER_TEXT,    /* some text of the answer */
	OG_INFER_LOGPROB, /* of a token, before its text; rank 0, then those of its alternatives */
	OG_INFER_DONE,    /* the last event of the request: finish says why */
	OG_INFER_ERROR,   /* the last event: error says why */
};

enum og_infer_finish { OG_FINISH_STOP, OG_FINISH_LENGTH, OG_FINISH_CANCELLED };

struct og_infer_event {
	uint64_t id;
	uint8_t type;   /* enum og_infer_event_type */
	uint8_t finish; /* enum og_infer_finish */
	uint8_t rank;   /* LOGPROB: 0 the token taken, 1 … the likeliest */
	uint16_t text_bytes;
	uint32_t token;             /* LOGPROB */
	float logprob;              /* LOGPROB: by the model, before penalties and temperature */
	uint32_t prompt_tokens;     /* DONE */
	uint32_t completion_tokens; /* so far */
	int32_t error; /* ERROR: negative errno: -EBUSY queue full, -E2BIG prompt too long */
	char text
		[OG_INFER_TEXT_BYTES]; /* TEXT: whole characters; ERROR: a sentence, NUL-terminated;
					* LOGPROB: the token's bytes, cut where it is longer */
};

/* Copies everything. Returns 0, -ENOMEM, or -EINVAL for more than OG_INFER_MESSAGES_MAX messages. */
int og_infer_request_create(struct og_infer_request **out, uint64_t id,
	const struct og_infer_params *params, bool raw, const struct og_infer_message *messages,
	uint32_t nb_messages) OG_MUST_CHECK;
void og_infer_request_free(struct og_infer_request *req);
void og_infer_params_default(struct og_infer_params *p);
