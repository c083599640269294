/*
 * schedule.c: what one step computes: one token for each running sequence that has its prompt behind
 * it, then parts of the prompts of the others, oldest first, few enough that those do not wait long.
 */
#include "gpu/engine_priv.h"

#include <errno.h>
#include <time.h>

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * OG_NS_PER_S + (uint64_t)t.tv_nsec;
}

static struct og_sequence_list *running(struct og_engine *e)
{
	return &e->lists[OG_SEQUENCE_RUNNING];
}

static uint32_t tokens_left(const struct og_sequence *s)
{
	return s->nb_tokens - s->nb_cached;
}

/* How many of its next tokens each sequence computes: first those that have their prompt behind them. */
static bool plan_decodes(struct og_engine *e)
{
	struct og_sequence *s;
	bool any = false;

	TAILQ_FOREACH(s, running(e), link)
	{
		s->nb_rows = 0;
		if (og_sequence_is_ready(s) && tokens_left(s) == 1 && s->credits > 0)
			s->nb_rows = og_sequence_grow(e, s, 1);
		any |= s->nb_rows > 0;
	}
	return any;
}

static void plan_prefills(struct og_engine *e, bool shared)
{
	uint32_t budget = shared ? OG_PREFILL_ROWS_SHARED : OG_PREFILL_ROWS;
	struct og_sequence *s;

	TAILQ_FOREACH(s, running(e), link)
	{
		uint32_t n;

		if (!og_sequence_is_ready(s) || tokens_left(s) == 1 || budget == 0)
			continue;
		og_sequence_find_prefix(e, s);
		/* Without credits the answer must not begin, but the prompt can be ready. */
		n = OG_MIN(tokens_left(s) - (s->credits == 0), budget);
		if (n > 0)
			s->nb_rows = og_sequence_grow(e, s, n);
		budget -= s->nb_rows;
	}
}

static bool is_decode(const struct og_sequence *s)
{
	return s->nb_rows == 1 && tokens_left(s) == 1;
}

/* The rows of the sequences that decode, or of the others. The last token of all yields logits. */
static uint32_t add_rows(struct og_engine *e, uint32_t at, bool of_decodes)
{
	struct og_sequence *s;

	TAILQ_FOREACH(s, running(e), link)
	{
		if (s->nb_rows == 0 || is_decode(s) != of_decodes)
			continue;
		s->samples = s->nb_rows == tokens_left(s);
		for (uint32_t i = 0; i < s->nb_rows; i++)
			e->rows[at++] = (struct og_row){
				.token = s->tokens[s->nb_cached + i],
				.pos = s->nb_cached + i,
				.slot = s->slot,
				.wants_logits = s->samples && i == s->nb_rows - 1,
			};
	}
	return at;
}

static bool is_stop_token(const struct og_infer_params *params, uint32_t id)
{
	for (uint8_t i = 0; i < params->nb_stop_tokens; i++)
		if (params->stop_tokens[i] == id)
			return true;
	return false;
}

static void take_token(struct og_engine *e, struct og_sequence *s, uint32_t id)
{
	const struct og_infer_params *params = &s->req->params;
	bool is_end = og_tokenizer_is_end(e->tokenizer, id);
	struct og_text none = {"", 0};

	if (s->nb_tokens < e->context)
		s->tokens[s->nb_tokens++] = id;
	og_count(&e->stats.completion_tokens_total);
	if (is_stop_token(params, id) || (is_end && !params->ignore_eos)) {
		s->nb_sampled++;
		s->nb_logprobs = 0; /* it is no part of the answer */
		og_sequence_finish(s, OG_FINISH_STOP);
	} else {
		struct og_text bytes = none;

		if (!is_end)
			bytes = s->nb_sampled == 0 ? og_tokenizer_first_bytes(e->tokenizer, id)
						   : og_tokenizer_bytes(e->tokenizer, id);
		og_sequence_add_text(e, s, bytes);
	}
}

/* The next token, and what is to be told about it. -EDOM: the logits are no numbers. */
static int sample(struct og_engine *e, struct og_sequence *s, const float *logits)
{
	const struct og_infer_params *params = &s->req->params;
	const struct og_sampler_history history = {s->tokens, s->nb_tokens, s->nb_prompt};
	uint32_t vocab = e->model->hp.vocab, id;
	bool adjusted =
		og_sampler_adjust(e->adjusted, params, logits, vocab, &history, e->sampler_scratch);
	int ret = og_sampler_pick(&id, params, adjusted ? e->adjusted : logits, vocab, s->nb_tokens,
		e->sampler_scratch);

	if (ret < 0)
		return ret;
	if (params->logprobs)
		s->nb_logprobs = og_sampler_logprobs(
			s->logprobs, id, params->top_logprobs, logits, vocab, e->sampler_scratch);
	take_token(e, s, id);
	return 0;
}

/* Rows that wanted logits got them in the order of the rows: decodes first, then prefills. */
static void take_results(struct og_engine *e, bool of_decodes, const float **logits)
{
	struct og_sequence *s, *next;
	uint32_t vocab = e->model->hp.vocab;

	for (s = TAILQ_FIRST(running(e)); s; s = next) {
		bool was_decode = is_decode(s);

		next = TAILQ_NEXT(s, link);
		if (s->nb_rows == 0 || was_decode != of_decodes)
			continue;
		s->nb_cached += s->nb_rows;
		if (s->nb_cached <= s->nb_prompt)
			og_count_add(&e->stats.prompt_tokens_total, s->nb_rows);
		s->nb_rows = 0;
		og_sequence_share_prefix(e, s);
		if (!s->samples)
			continue;
		if (sample(e, s, *logits) < 0)
			og_sequence_fail(e, s, -EDOM, "the model produced no usable number");
		if (s->is_finished)
			og_sequence_drop_pages(e, s);
		*logits += vocab;
	}
}

bool og_engine_step_model(struct og_engine *e)
{
	struct og_batch batch = {.rows = e->rows,
		.tables = e->tables,
		.table_pages = e->table_pages,
		.logits = e->logits};
	const float *logits = e->logits;
	uint64_t start_ns = now_ns();
	int ret;

	plan_prefills(e, plan_decodes(e));
	batch.nb_rows = add_rows(e, add_rows(e, 0, true), false);
	if (batch.nb_rows == 0)
		return false;
	ret = e->backend->ops->forward(e->backend, &batch);
	og_count(&e->stats.steps_total);
	og_count_add(&e->stats.busy_ns_total, now_ns() - start_ns);
	if (ret < 0) {
		og_engine_fail_all(e);
		return true;
	}
	take_results(e, true, &logits);
	take_results(e, false, &logits);
	return true;
}
