/*
 * engine_priv.h: the engine's state, shared by engine.c (requests in and out), admit.c (who runs),
 * schedule.c (steps of the model) and echo.c (a step without one).
 */
#pragma once
#include "gpu/backend.h"
#include "gpu/chat.h"
#include "gpu/engine.h"
#include "gpu/event_queue.h"
#include "gpu/kv_pool.h"
#include "gpu/kv_swap.h"
#include "gpu/sampler.h"
#include "gpu/text_out.h"

#include <sys/queue.h>

enum {
	OG_PREFILL_ROWS = 128,       /* prompt tokens in one step */
	OG_PREFILL_ROWS_SHARED = 32, /* of them while others wait for their next token */
};

enum og_sequence_state {
	OG_SEQUENCE_FREE,
	OG_SEQUENCE_QUEUED,  /* not yet begun */
	OG_SEQUENCE_RUNNING, /* has a slot */
	OG_SEQUENCE_PARKED,  /* had to give way; its pages are in host memory */
	OG_SEQUENCE_STATES,
};

/* A request from submit to its last event. */
struct og_sequence {
	TAILQ_ENTRY(og_sequence) link; /* in the list of its state */
	enum og_sequence_state state;
	uint64_t order; /* of arrival */
	struct og_infer_request *req;
	uint32_t *tokens; /* (context): the prompt, then what was sampled */
	uint32_t nb_tokens;
	uint32_t nb_prompt;
	/* Tokens whose keys and values are in the cache, or swapped out; of them, from steps in flight. */
	uint32_t nb_cached, nb_flying;
	uint32_t nb_drawn; /* tokens behind these that steps in flight draw */
	uint32_t held;     /* one that came while text waits to be read */
	bool has_held;
	uint32_t nb_sampled;
	uint32_t sampled_max;
	uint32_t slot;      /* which block table, while running */
	uint32_t nb_pages;  /* in it */
	uint32_t nb_shared; /* of them, from the first, that others may find */
	uint64_t parent;    /* serial of the last of those */
	uint32_t *swapped;  /* (table_pages): places of its pages, while parked */
	uint32_t nb_swapped;
	uint32_t idle_passes; /* since somebody read from it, while others waited */
	uint32_t credits;
	uint32_t echo_at; /* bytes of the echo already sent */
	bool is_finished; /* nothing more is computed; text may remain to be sent */
	uint8_t finish;   /* enum og_infer_finish */
	struct og_text_out text;
	/* Log probabilities of the last token, to be sent before its text. */
	struct og_sampler_item logprobs[1 + OG_INFER_TOP_LOGPROBS_MAX];
	uint32_t nb_logprobs;
	uint32_t nb_logprobs_sent;
	uint32_t nb_rows; /* in the step that is being put together */
};

TAILQ_HEAD(og_sequence_list, og_sequence);

/* What a step computes for a sequence. */
struct og_flight_part {
	struct og_sequence *s;
	uint64_t order; /* of s when it began: s may have ended, and be another by now */
	uint32_t nb_rows;
	bool samples, draws;
};

/* A step from its submit to its results. */
struct og_flight {
	struct og_flight_part *parts; /* (slots) in the order of the rows */
	uint32_t nb_parts;
	uint32_t nb_resting; /* pages left while it was the last that had begun */
	uint32_t *tokens;    /* (slots) of the parts that sample */
	uint64_t begun_ns;
};

struct og_engine {
	enum og_engine_backend backend_kind; /* never AUTO */
	char name[128];
	char refusal[256];
	struct og_model *model;
	struct og_tokenizer *tokenizer;
	struct og_chat chat;
	struct og_backend *backend;
	uint32_t context;
	uint32_t nb_slots;
	uint32_t *free_slots;
	uint32_t nb_free_slots;
	struct og_kv_pool kv;
	struct og_kv_swap swap;
	bool no_prefix_reuse;
	uint32_t *tables; /* (slots, table_pages): the block tables */
	uint32_t table_pages;

	struct og_sequence *sequences;
	uint32_t nb_sequences;
	uint32_t *token_store; /* (sequences, context) */
	uint32_t *swap_store;  /* (sequences, table_pages) */
	uint64_t nb_submitted;
	struct og_sequence_list lists[OG_SEQUENCE_STATES];
	struct og_event_queue events;

	struct og_flight flights[OG_STEPS_MAX];
	uint32_t oldest_flight, nb_flights;
	uint32_t steps_max; /* in flight */
	bool must_land;     /* before anything can go on: all flights */
	uint64_t landed_ns;
	uint32_t *resting; /* (pages): a queue of those that a step in flight may still write */
	uint32_t resting_at, nb_resting;
	struct og_row *rows;   /* of the batch */
	struct og_draw *draws; /* (slots) */
	float *logits;         /* (slots, vocab) */
	/* How the back end is started, by create or by the first step. */
	struct {
		char *path;
		bool is_pending, falls_back; /* to the CPU */
		bool fp8_weights, fp8_kv;
		bool cublaslt;
		bool conveyor;
		uint32_t device, threads;
	} start;
	int start_ret; /* released after start_err; 1: started */
	char start_err[512];
	struct og_load_progress progress;
	float *adjusted; /* logits of one row under its request's penalties */
	struct og_sampler_item *sampler_scratch;
	struct og_engine_stats stats;
};

static inline uint32_t *og_sequence_pages(const struct og_engine *e, const struct og_sequence *s)
{
	return e->tables + (size_t)s->slot * e->table_pages;
}

/* Let those begin, or go on, for whom there is room. */
void og_engine_admit(struct og_engine *e);
/* To another state and its list; takes or leaves a slot. */
void og_sequence_move(struct og_engine *e, struct og_sequence *s, enum og_sequence_state to);
/*
 * Pages for up to n more tokens of a running sequence; others may have to give way, also in the step
 * that is being put together. Returns for how many tokens there is room.
 */
uint32_t og_sequence_grow(struct og_engine *e, struct og_sequence *s, uint32_t n);
/* All its pages, wherever they are: nothing more is computed. */
void og_sequence_drop_pages(struct og_engine *e, struct og_sequence *s);
/* Take over what others have computed of the prompt's next pages, and let others find its own. */
void og_sequence_find_prefix(struct og_engine *e, struct og_sequence *s);
void og_sequence_share_prefix(struct og_engine *e, struct og_sequence *s);

/* engine_load.c: opens the model, or begins to; and starts the back end, which waits for weights. */
int og_engine_open_model(struct og_engine *e, const struct og_engine_opts *opts, char *err,
	size_t err_bytes) OG_MUST_CHECK;
int og_engine_start_backend(struct og_engine *e) OG_MUST_CHECK;
/* Ends all requests with why: that of a load that failed, or of the device. */
void og_engine_fail_all(struct og_engine *e);

/*
 * Begin a step of the running sequences, and take the results of the oldest one in flight where no
 * more may be. A sequence that turns out to have ended has one row too many then, whose result is
 * thrown away.
 */
bool og_engine_step_model(struct og_engine *e);
/* Forget the steps in flight; their sequences fail. */
void og_engine_abandon_flights(struct og_engine *e);
/* The token that came while text waited. Returns false where there is none or text still waits. */
bool og_sequence_take_held(struct og_engine *e, struct og_sequence *s);
bool og_engine_step_echo(struct og_engine *e);

/* What it has to say has left. */
static inline bool og_sequence_is_silent(const struct og_sequence *s)
{
	return s->text.ready_bytes == 0 && s->nb_logprobs == 0;
}
/* May this sequence be worked on: it is silent and not over. */
bool og_sequence_is_ready(const struct og_sequence *s);
void og_sequence_finish(struct og_sequence *s, enum og_infer_finish finish);
/* Ends it with an ERROR event. */
void og_sequence_fail(struct og_engine *e, struct og_sequence *s, int error, const char *why);
/* The bytes of one more token of the answer. Finishes at a stop string or the last token allowed. */
void og_sequence_add_text(struct og_engine *e, struct og_sequence *s, struct og_text bytes);
