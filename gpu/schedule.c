/*
 * schedule.c: what one step computes: one token for each running sequence that has its prompt behind
 * it, then parts of the prompts of the others, oldest first, few enough that those do not wait long.
 *
 * A step may begin before the one before has told its tokens: the back end knows what it drew, and
 * goes on from there. Whoever needs the host to pick its token ends that.
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

/* Those included that a step in flight will have drawn by then. */
static uint32_t tokens_left(const struct og_sequence *s)
{
	return s->nb_tokens + s->nb_drawn - s->nb_cached;
}

static bool may_sample(const struct og_sequence *s)
{
	return s->credits > 0 && s->nb_sampled + s->nb_drawn < s->sampled_max;
}

/* The host sees its logits and picks; else the back end draws. */
static bool is_picked_here(const struct og_sequence *s)
{
	return s->req->params.logprobs || og_sampler_adjusts(&s->req->params);
}

/* How many of its next tokens each sequence computes: first those that have their prompt behind them. */
static bool plan_decodes(struct og_engine *e)
{
	struct og_sequence *s;
	bool any = false;

	TAILQ_FOREACH(s, running(e), link)
	{
		s->nb_rows = 0;
		if (og_sequence_is_ready(s) && tokens_left(s) == 1 && may_sample(s))
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

static void add_row(struct og_engine *e, struct og_batch *b, const struct og_flight_part *part,
	uint32_t pos, struct og_draw **draw)
{
	const struct og_sequence *s = part->s;
	struct og_row row = {.pos = pos, .slot = s->slot};

	row.token = pos < s->nb_tokens ? s->tokens[pos] : OG_TOKEN_DRAWN;
	if (part->samples && pos + 1 == s->nb_tokens + s->nb_drawn) {
		row.wants_logits = !part->draws;
		if (part->draws) {
			og_draw_init(*draw, &s->req->params, pos + 1);
			row.draw = (*draw)++;
		}
	}
	e->rows[b->nb_rows++] = row;
}

/* The sequences that decode, or the others: their parts of the step, and their rows. */
static void add_parts(struct og_engine *e, struct og_flight *f, struct og_batch *b, bool of_decodes,
	struct og_draw **draw)
{
	struct og_sequence *s;

	TAILQ_FOREACH(s, running(e), link)
	{
		struct og_flight_part *part = &f->parts[f->nb_parts];

		if (s->nb_rows == 0 || is_decode(s) != of_decodes)
			continue;
		*part = (struct og_flight_part){s, s->order, s->nb_rows, false, false};
		part->samples = s->nb_rows == tokens_left(s);
		part->draws = part->samples && !is_picked_here(s);
		f->nb_parts++;
		for (uint32_t i = 0; i < s->nb_rows; i++)
			add_row(e, b, part, s->nb_cached + i, draw);
	}
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
	struct og_draw draw;
	int ret;

	og_draw_init(&draw, params, s->nb_tokens);
	ret = og_sampler_draw(
		&id, &draw, adjusted ? e->adjusted : logits, vocab, e->sampler_scratch);
	if (ret < 0)
		return ret;
	if (params->logprobs)
		s->nb_logprobs = og_sampler_logprobs(
			s->logprobs, id, params->top_logprobs, logits, vocab, e->sampler_scratch);
	take_token(e, s, id);
	return 0;
}

/* A token that the back end drew. */
static void take_drawn(struct og_engine *e, struct og_sequence *s, uint32_t id)
{
	og_count(&e->stats.drawn_total);
	if (id >= e->model->hp.vocab) {
		og_sequence_fail(e, s, -EDOM, "the model produced no usable number");
		return;
	}
	take_token(e, s, id);
	if (s->is_finished)
		og_sequence_drop_pages(e, s);
}

bool og_sequence_take_held(struct og_engine *e, struct og_sequence *s)
{
	if (!s->has_held || !og_sequence_is_silent(s))
		return false;
	s->has_held = false;
	take_drawn(e, s, s->held);
	return true;
}

static void take_sampled(struct og_engine *e, struct og_sequence *s,
	const struct og_flight_part *part, uint32_t id, const float *logits)
{
	if (!part->draws) {
		if (sample(e, s, logits) < 0)
			og_sequence_fail(e, s, -EDOM, "the model produced no usable number");
		else if (s->is_finished)
			og_sequence_drop_pages(e, s);
	} else if (og_sequence_is_silent(s)) {
		take_drawn(e, s, id);
	} else {
		/* No step goes on from there before it is taken. */
		OG_ASSERT(!s->has_held);
		s->has_held = true;
		s->held = id;
	}
}

/* The results of a step, for those that still are what they were when it began. */
static void take_results(struct og_engine *e, const struct og_flight *f)
{
	uint32_t vocab = e->model->hp.vocab, at = 0;

	for (uint32_t i = 0; i < f->nb_parts; i++) {
		const struct og_flight_part *part = &f->parts[i];
		struct og_sequence *s = part->s;
		uint32_t mine = at;

		at += part->samples;
		if (!s->req || s->order != part->order || s->is_finished)
			continue;
		s->nb_flying -= part->nb_rows;
		s->nb_drawn -= part->draws;
		og_sequence_share_prefix(e, s);
		if (part->samples)
			take_sampled(e, s, part, f->tokens[mine], e->logits + (size_t)mine * vocab);
	}
}

static void begin_parts(struct og_engine *e, const struct og_flight *f)
{
	for (uint32_t i = 0; i < f->nb_parts; i++) {
		const struct og_flight_part *part = &f->parts[i];
		struct og_sequence *s = part->s;

		s->nb_cached += part->nb_rows;
		s->nb_flying += part->nb_rows;
		s->nb_drawn += part->draws;
		if (s->nb_cached <= s->nb_prompt)
			og_count_add(&e->stats.prompt_tokens_total, part->nb_rows);
		/* What follows depends on what the host makes of it. */
		e->must_land |= part->samples && !part->draws;
	}
}

/* Returns how many rows the step has, or a negative errno. */
static int begin_step(struct og_engine *e)
{
	struct og_flight *f = &e->flights[(e->oldest_flight + e->nb_flights) % OG_STEPS_MAX];
	struct og_batch batch = {.rows = e->rows,
		.tables = e->tables,
		.table_pages = e->table_pages,
		.logits = e->logits,
		.tokens = f->tokens};
	struct og_draw *draw = e->draws;
	int ret;

	plan_prefills(e, plan_decodes(e));
	f->nb_parts = f->nb_resting = 0;
	add_parts(e, f, &batch, true, &draw);
	add_parts(e, f, &batch, false, &draw);
	if (batch.nb_rows == 0)
		return 0;
	f->begun_ns = now_ns();
	ret = e->backend->ops->submit(e->backend, &batch);
	og_count(&e->stats.steps_total);
	if (ret < 0)
		return ret;
	if (e->nb_flights++ > 0)
		og_count(&e->stats.steps_ahead_total);
	begin_parts(e, f);
	return (int)batch.nb_rows;
}

/* The oldest step is over: pages that it might have written are free. */
static struct og_flight *retire(struct og_engine *e)
{
	struct og_flight *f = &e->flights[e->oldest_flight];

	e->oldest_flight = (e->oldest_flight + 1) % OG_STEPS_MAX;
	e->nb_flights--;
	for (; f->nb_resting > 0; f->nb_resting--, e->nb_resting--) {
		og_kv_pool_put(&e->kv, e->resting[e->resting_at]);
		e->resting_at = (e->resting_at + 1) % e->kv.nb_pages;
	}
	return f;
}

static int land(struct og_engine *e)
{
	const struct og_flight *f = &e->flights[e->oldest_flight];
	uint64_t begun_ns = OG_MAX(f->begun_ns, e->landed_ns);
	int ret = e->backend->ops->collect(e->backend);

	e->landed_ns = now_ns();
	og_count_add(&e->stats.busy_ns_total, e->landed_ns - begun_ns);
	__atomic_store_n(
		&e->stats.host_bytes_total, e->backend->host_bytes_total, __ATOMIC_RELAXED);
	if (ret == 0)
		take_results(e, retire(e));
	return ret;
}

void og_engine_abandon_flights(struct og_engine *e)
{
	while (e->nb_flights > 0) {
		if (!e->backend->is_lost)
			(void)!e->backend->ops->collect(e->backend);
		retire(e);
	}
	e->must_land = false;
}

bool og_engine_step_model(struct og_engine *e)
{
	int rows = begin_step(e), ret = OG_MIN(rows, 0);
	bool worked = rows != 0;

	while (ret == 0 && e->nb_flights > 0 &&
		(rows == 0 || e->must_land || e->nb_flights == e->steps_max)) {
		ret = land(e);
		worked = true;
	}
	e->must_land = false;
	if (ret < 0)
		og_engine_fail_all(e);
	return worked;
}
