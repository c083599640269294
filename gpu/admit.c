/*
 * admit.c: who runs. Requests are admitted in order of arrival as far as there are slots and pages
 * for their prompts. Where pages run short later, the youngest gives way: its pages are copied to
 * host memory, and back when there is room again. A sequence whose reader does not read gives way
 * before all others.
 *
 * The oldest sequence that can be worked on never gives way and one sequence always fits the pool,
 * so something always moves.
 */
#include "gpu/engine_priv.h"

#include <errno.h>

/* Passes in which nobody read what it has to say, before it makes room for one that waits. */
enum { IDLE_PASSES_MAX = 32 };

static bool is_paused(const struct og_sequence *s)
{
	return s->credits == 0 || !og_sequence_is_ready(s);
}

static uint32_t pages_for(uint32_t nb_tokens)
{
	return (nb_tokens + OG_KV_PAGE_TOKENS - 1) / OG_KV_PAGE_TOKENS;
}

void og_sequence_move(struct og_engine *e, struct og_sequence *s, enum og_sequence_state to)
{
	struct og_sequence_list *lists = e->lists;
	uint64_t *const gauges[] = {
		[OG_SEQUENCE_QUEUED] = &e->stats.queued,
		[OG_SEQUENCE_RUNNING] = &e->stats.running,
		[OG_SEQUENCE_PARKED] = &e->stats.parked,
		[OG_SEQUENCE_FREE] = NULL,
	};
	struct og_sequence *at;

	TAILQ_REMOVE(&lists[s->state], s, link);
	if (gauges[s->state])
		og_count_add(gauges[s->state], -1ull);
	if (s->state == OG_SEQUENCE_RUNNING)
		e->free_slots[e->nb_free_slots++] = s->slot;
	s->state = to;
	if (to == OG_SEQUENCE_RUNNING)
		s->slot = e->free_slots[--e->nb_free_slots];
	if (gauges[to])
		og_count(gauges[to]);
	/* The lists of those that are served stay in order of arrival. */
	TAILQ_FOREACH_REVERSE(at, &lists[to], og_sequence_list, link)
	if (to == OG_SEQUENCE_FREE || at->order < s->order)
		break;
	if (at)
		TAILQ_INSERT_AFTER(&lists[to], at, s, link);
	else
		TAILQ_INSERT_HEAD(&lists[to], s, link);
}

/* A page that a step in flight may still write rests until that is over. */
static void put_page(struct og_engine *e, uint32_t page)
{
	uint32_t last = (e->oldest_flight + e->nb_flights - 1) % OG_STEPS_MAX;

	if (e->nb_flights == 0 || e->kv.pages[page].serial != 0) { /* nobody writes a shared page */
		og_kv_pool_put(&e->kv, page);
		return;
	}
	e->resting[(e->resting_at + e->nb_resting++) % e->kv.nb_pages] = page;
	e->flights[last].nb_resting++;
}

/* Last pages first, so that among the idle the beginning of a prompt outlives its end. */
void og_sequence_drop_pages(struct og_engine *e, struct og_sequence *s)
{
	while (s->nb_pages > 0)
		put_page(e, og_sequence_pages(e, s)[--s->nb_pages]);
	while (s->nb_swapped > 0)
		og_kv_swap_put(&e->swap, s->swapped[--s->nb_swapped]);
	s->nb_shared = 0;
	s->parent = 0;
}

/*
 * Leave the step that is being put together and the pool. Where the host has no room it is computed
 * anew later. Returns false while steps are in flight: what they draw would be lost.
 */
static bool park(struct og_engine *e, struct og_sequence *s)
{
	bool saved = s->nb_pages <= e->swap.nb_free;
	uint32_t n = s->nb_pages;

	if (e->nb_flights > 0) {
		e->must_land = true;
		return false;
	}
	s->nb_rows = 0;
	for (uint32_t i = 0; saved && i < n; i++) {
		s->swapped[s->nb_swapped] = og_kv_swap_take(&e->swap);
		saved = e->backend->ops->save_page(e->backend, og_sequence_pages(e, s)[i],
				og_kv_swap_at(&e->swap, s->swapped[s->nb_swapped++])) == 0;
	}
	while (saved && s->nb_pages > 0)
		og_kv_pool_put(&e->kv, og_sequence_pages(e, s)[--s->nb_pages]);
	if (!saved) {
		og_sequence_drop_pages(e, s);
		s->nb_cached = 0;
		og_count(&e->stats.recomputed_total);
	}
	s->nb_shared = 0;
	s->parent = 0;
	og_sequence_move(e, s, OG_SEQUENCE_PARKED);
	og_count(&e->stats.parked_total);
	return true;
}

/* Who gives way: one that is not read from, else the youngest behind `s` (NULL: nobody else). */
static struct og_sequence *find_victim(struct og_engine *e, const struct og_sequence *s)
{
	struct og_sequence *v;

	TAILQ_FOREACH_REVERSE(v, &e->lists[OG_SEQUENCE_RUNNING], og_sequence_list, link)
	if (v != s && v->nb_pages > 0 && is_paused(v))
		return v;
	TAILQ_FOREACH_REVERSE(v, &e->lists[OG_SEQUENCE_RUNNING], og_sequence_list, link)
	{
		if (!s || v == s)
			return NULL;
		if (v->nb_pages > 0)
			return v;
	}
	return NULL;
}

static bool make_room(struct og_engine *e, const struct og_sequence *s, uint32_t nb_pages)
{
	struct og_sequence *v;

	while (og_kv_pool_available(&e->kv) < nb_pages && (v = find_victim(e, s)) && park(e, v))
		;
	return og_kv_pool_available(&e->kv) >= nb_pages;
}

static void append_page(struct og_engine *e, struct og_sequence *s, uint32_t page)
{
	og_sequence_pages(e, s)[s->nb_pages++] = page;
}

static void take_page(struct og_engine *e, struct og_sequence *s)
{
	uint32_t page;
	int ret = og_kv_pool_take(&e->kv, &page);

	OG_ASSERT(ret == 0); /* make_room() said so */
	append_page(e, s, page);
}

uint32_t og_sequence_grow(struct og_engine *e, struct og_sequence *s, uint32_t n)
{
	/* One that is not read from takes only what nobody else needs. */
	while (s->nb_pages < pages_for(s->nb_cached + n) &&
		(is_paused(s) ? og_kv_pool_available(&e->kv) > 0 : make_room(e, s, 1)))
		take_page(e, s);
	return OG_MIN(n, s->nb_pages * OG_KV_PAGE_TOKENS - s->nb_cached);
}

/* The next page of the prompt is one that is shared already. */
static bool find_page(struct og_engine *e, struct og_sequence *s)
{
	uint32_t page;

	if (e->no_prefix_reuse || s->nb_shared != s->nb_pages ||
		og_kv_pool_find(&e->kv, s->parent,
			s->tokens + (size_t)s->nb_pages * OG_KV_PAGE_TOKENS, &page) < 0)
		return false;
	append_page(e, s, page);
	s->nb_shared++;
	s->parent = e->kv.pages[page].serial;
	return true;
}

void og_sequence_find_prefix(struct og_engine *e, struct og_sequence *s)
{
	/* One token of the prompt remains to be computed: it yields the first logits. */
	while (s->nb_cached == s->nb_pages * OG_KV_PAGE_TOKENS &&
		s->nb_cached + OG_KV_PAGE_TOKENS < s->nb_prompt && find_page(e, s)) {
		s->nb_cached += OG_KV_PAGE_TOKENS;
		og_count_add(&e->stats.prefix_hit_tokens_total, OG_KV_PAGE_TOKENS);
	}
}

void og_sequence_share_prefix(struct og_engine *e, struct og_sequence *s)
{
	uint32_t filled = OG_MIN(s->nb_cached - s->nb_flying, s->nb_prompt) / OG_KV_PAGE_TOKENS;
	uint32_t *pages = og_sequence_pages(e, s);

	while (!e->no_prefix_reuse && s->nb_shared < filled) {
		uint32_t i = s->nb_shared++;

		pages[i] = og_kv_pool_share(
			&e->kv, pages[i], s->parent, s->tokens + (size_t)i * OG_KV_PAGE_TOKENS);
		s->parent = e->kv.pages[pages[i]].serial;
	}
}

/* Copy the pages of a parked sequence back, or find those that are still there. */
static void restore(struct og_engine *e, struct og_sequence *s)
{
	uint32_t filled = OG_MIN(s->nb_cached, s->nb_prompt) / OG_KV_PAGE_TOKENS;
	int ret = 0;

	for (uint32_t i = 0; ret == 0 && i < s->nb_swapped; i++) {
		if (i < filled && find_page(e, s))
			continue;
		take_page(e, s);
		ret = e->backend->ops->load_page(e->backend, og_sequence_pages(e, s)[i],
			og_kv_swap_at(&e->swap, s->swapped[i]));
	}
	while (s->nb_swapped > 0)
		og_kv_swap_put(&e->swap, s->swapped[--s->nb_swapped]);
	if (ret < 0)
		og_sequence_fail(e, s, -EIO, "the device that computes the model failed");
	else
		og_sequence_share_prefix(e, s);
}

/* Pages that those who run will need before they have their first token. */
static uint32_t promised_pages(const struct og_engine *e)
{
	const struct og_sequence *s;
	uint32_t sum = 0;

	TAILQ_FOREACH(s, &e->lists[OG_SEQUENCE_RUNNING], link)
	{
		uint32_t wanted = pages_for(s->nb_tokens + s->nb_drawn + 1);

		if (!is_paused(s) && wanted > s->nb_pages)
			sum += wanted - s->nb_pages;
	}
	return sum;
}

/* Is anybody computing? If not, whoever comes next may take all there is. */
static bool is_busy(const struct og_engine *e)
{
	const struct og_sequence *s;

	TAILQ_FOREACH(s, &e->lists[OG_SEQUENCE_RUNNING], link)
	if (!is_paused(s))
		return true;
	return false;
}

/* One that nobody reads from leaves its slot to one that waits. */
static bool free_slot(struct og_engine *e, bool busy)
{
	struct og_sequence *s;

	if (e->nb_free_slots > 0)
		return true;
	TAILQ_FOREACH_REVERSE(s, &e->lists[OG_SEQUENCE_RUNNING], og_sequence_list, link)
	if (is_paused(s) && (!busy || s->idle_passes >= IDLE_PASSES_MAX))
		return park(e, s);
	return false;
}

/* Returns false where it has to wait, and with it all that come after. */
static bool try_start(struct og_engine *e, struct og_sequence *s)
{
	bool busy = is_busy(e);
	uint32_t wanted = pages_for(s->nb_tokens + 1);

	wanted = OG_MIN(wanted, e->table_pages);
	if (busy)
		wanted += promised_pages(e);
	if (!free_slot(e, busy) || !make_room(e, NULL, wanted))
		return false;
	og_sequence_move(e, s, OG_SEQUENCE_RUNNING);
	if (s->nb_swapped > 0)
		restore(e, s);
	return true;
}

static void count_idle_passes(struct og_engine *e)
{
	struct og_sequence *s;

	TAILQ_FOREACH(s, &e->lists[OG_SEQUENCE_RUNNING], link)
	s->idle_passes = is_paused(s) ? s->idle_passes + 1 : 0;
}

void og_engine_admit(struct og_engine *e)
{
	struct og_sequence *s, *next;

	if (!e->model) {
		while (e->nb_free_slots > 0 && (s = TAILQ_FIRST(&e->lists[OG_SEQUENCE_QUEUED])))
			og_sequence_move(e, s, OG_SEQUENCE_RUNNING);
		return;
	}
	count_idle_passes(e);
	for (s = TAILQ_FIRST(&e->lists[OG_SEQUENCE_PARKED]); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (!is_paused(s) && !try_start(e, s))
			return;
	}
	while ((s = TAILQ_FIRST(&e->lists[OG_SEQUENCE_QUEUED])) && try_start(e, s))
		;
}
