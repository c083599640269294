/*
 * schedule.c: what one step computes: one token for each running sequence that has its prompt behind
 * it, then parts of the prompts of the others, oldest first.
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

static uint32_t tokens_left(const struct og_sequence *s)
{
	return s->nb_tokens - s->nb_cached;
}

/* Pages for the next n tokens of the sequence: there is one for each position of each slot. */
static void add_pages(struct og_engine *e, struct og_sequence *s, uint32_t n)
{
	while ((uint64_t)s->nb_pages * OG_KV_PAGE_TOKENS < s->nb_cached + n) {
		int ret = og_kv_pool_take(&e->kv, &og_sequence_pages(e, s)[s->nb_pages++]);

		OG_ASSERT(ret == 0);
	}
}

/* Take the next n tokens of the sequence into the batch. The last one of all yields logits. */
static uint32_t add_rows(struct og_engine *e, uint32_t at, struct og_sequence *s, uint32_t n)
{
	add_pages(e, s, n);
	s->nb_rows = n;
	s->samples = n == tokens_left(s);
	for (uint32_t i = 0; i < n; i++)
		e->rows[at + i] = (struct og_row){
			.token = s->tokens[s->nb_cached + i],
			.pos = s->nb_cached + i,
			.slot = s->slot,
			.wants_logits = s->samples && i == n - 1,
		};
	return at + n;
}

static uint32_t add_decodes(struct og_engine *e)
{
	struct og_sequence *s;
	uint32_t n = 0;

	TAILQ_FOREACH(s, &e->running, link)
	{
		s->nb_rows = 0;
		if (og_sequence_is_ready(s) && tokens_left(s) == 1 && s->credits > 0)
			n = add_rows(e, n, s, 1);
	}
	return n;
}

static uint32_t add_prefills(struct og_engine *e, uint32_t at)
{
	uint32_t budget = at > 0 ? OG_PREFILL_ROWS_SHARED : OG_PREFILL_ROWS;
	struct og_sequence *s;

	TAILQ_FOREACH(s, &e->running, link)
	{
		uint32_t n = tokens_left(s);

		if (!og_sequence_is_ready(s) || n == 1)
			continue;
		/* Without credits the answer must not begin, but the prompt can be ready. */
		n = OG_MIN(n - (s->credits == 0), budget);
		if (n > 0)
			at = add_rows(e, at, s, n);
		budget -= n;
	}
	return at;
}

static void take_token(struct og_engine *e, struct og_sequence *s, uint32_t id)
{
	if (s->nb_tokens < e->context)
		s->tokens[s->nb_tokens++] = id;
	og_count(&e->stats.completion_tokens_total);
	if (og_tokenizer_is_end(e->tokenizer, id)) {
		s->nb_sampled++;
		og_sequence_finish(s, OG_FINISH_STOP);
	} else {
		og_sequence_add_text(e, s, og_tokenizer_bytes(e->tokenizer, id));
	}
}

/* Rows that wanted logits got them in the order of the rows: decodes first, then prefills. */
static void take_results(struct og_engine *e, bool of_decodes, const float **logits)
{
	struct og_sequence *s, *next;
	uint32_t vocab = e->model->hp.vocab, id;

	for (s = TAILQ_FIRST(&e->running); s; s = next) {
		bool was_decode = s->nb_rows == 1 && tokens_left(s) == 1;

		next = TAILQ_NEXT(s, link);
		if (s->nb_rows == 0 || was_decode != of_decodes)
			continue;
		s->nb_cached += s->nb_rows;
		if (s->nb_cached <= s->nb_prompt)
			og_count_add(&e->stats.prompt_tokens_total, s->nb_rows);
		s->nb_rows = 0;
		if (!s->samples)
			continue;
		if (og_sampler_pick(&id, &s->req->params, *logits, vocab, s->nb_tokens,
			    e->sampler_scratch) < 0)
			og_sequence_fail(e, s, -EDOM, "the model produced no usable number");
		else
			take_token(e, s, id);
		*logits += vocab;
	}
}

static void fail_all(struct og_engine *e)
{
	struct og_sequence *s, *next;

	for (s = TAILQ_FIRST(&e->running); s; s = next) {
		next = TAILQ_NEXT(s, link);
		og_sequence_fail(e, s, -EIO, "the device that computes the model failed");
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

	batch.nb_rows = add_prefills(e, add_decodes(e));
	if (batch.nb_rows == 0)
		return false;
	ret = e->backend->ops->forward(e->backend, &batch);
	og_count(&e->stats.steps_total);
	og_count_add(&e->stats.busy_ns_total, now_ns() - start_ns);
	if (ret < 0) {
		fail_all(e);
		return true;
	}
	take_results(e, true, &logits);
	take_results(e, false, &logits);
	return true;
}
