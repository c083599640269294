#include "gpu/cuda/forward_priv.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

enum { SPLIT_TOKENS = OG_CUDA_SPLIT_BLOCKS * OG_CUDA_BLOCK_TOKENS };

static_assert((int)OG_CUDA_BLOCK_TOKENS == OG_KV_PAGE_TOKENS, "a block of attention is a page");

static bool continues(const struct og_row *row)
{
	return row->slot == row[-1].slot && row->pos == row[-1].pos + 1;
}

/* The pages of a slot up to position `last`, at the end of the tables. */
static int add_table(struct og_cuda *c, const struct og_batch *b, uint32_t slot, uint32_t last,
	uint32_t *used, uint32_t *at)
{
	uint32_t n = last / OG_KV_PAGE_TOKENS + 1;
	const uint32_t *from = b->tables + (size_t)slot * b->table_pages;

	if (n > b->table_pages || n > c->tables_max - *used)
		return -E2BIG;
	for (uint32_t i = 0; i < n; i++)
		if (from[i] >= c->nb_pages)
			return -ERANGE;
	memcpy(c->now->in.tables + *used, from, n * sizeof(*from));
	*at = *used;
	*used += n;
	return 0;
}

/* What the rows yield, in the order in which it is computed: tokens first, then logits. */
static int plan_results(struct og_cuda *c, const struct og_batch *b)
{
	struct og_cuda_step *s = c->now;
	uint32_t at = 0;

	for (uint32_t i = 0; i < b->nb_rows; i++) {
		const struct og_row *row = &b->rows[i];

		if (row->draw) {
			if (row->slot >= c->rows_max)
				return -ERANGE;
			s->in.wanted[s->nb_draws] = i;
			s->in.draws[s->nb_draws++] =
				(struct og_cuda_draw){*row->draw, row->slot, at++};
		} else if (row->wants_logits) {
			c->logits_at[s->nb_logits++] = at++;
		}
	}
	for (uint32_t i = 0, k = s->nb_draws; i < b->nb_rows; i++)
		if (b->rows[i].wants_logits && !b->rows[i].draw)
			s->in.wanted[k++] = i;
	return 0;
}

static int check_token(const struct og_cuda *c, const struct og_row *row)
{
	if (row->token == OG_TOKEN_DRAWN)
		return row->slot < c->rows_max ? 0 : -ERANGE;
	return row->token < c->model->hp.vocab ? 0 : -ERANGE;
}

/* Rows [first, end) are a run. What goes on like the part before it is of that. */
static void add_part(struct og_cuda *c, uint32_t first, uint32_t end)
{
	bool by_library = c->lt && c->tuning.cublaslt && end - first > 1;

	if (c->nb_parts == 0 || c->parts[c->nb_parts - 1].by_library != by_library)
		c->parts[c->nb_parts++] = (struct og_cuda_part){first, 0, by_library};
	c->parts[c->nb_parts - 1].nb_rows += end - first;
}

/* Tiles: runs of rows at consecutive positions, cut where a block of attention is full. */
int og_cuda_plan(struct og_cuda *c, const struct og_batch *b)
{
	uint32_t per_tile = OG_CUDA_TILE_QUERIES / (c->heads.nb_heads / c->heads.nb_kv_heads);
	uint32_t used = 0, at = 0, end;
	struct og_cuda_step *s = c->now;
	int ret;

	s->nb_rows = b->nb_rows;
	s->nb_tiles = s->nb_draws = s->nb_logits = s->nb_splits = 0;
	s->has_logits = false;
	s->tokens = b->tokens;
	c->nb_parts = 0;
	for (uint32_t i = 0; i < b->nb_rows; i = end) {
		for (end = i + 1; end < b->nb_rows && continues(&b->rows[end]); end++)
			;
		ret = add_table(c, b, b->rows[i].slot, b->rows[end - 1].pos, &used, &at);
		if (ret < 0)
			return ret;
		add_part(c, i, end);
		s->nb_splits = OG_MAX(s->nb_splits, b->rows[end - 1].pos / SPLIT_TOKENS + 1);
		for (uint32_t k = i; k < end; k++) {
			const struct og_row *row = &b->rows[k];

			ret = check_token(c, row);
			if (ret < 0)
				return ret;
			if ((k - i) % per_tile == 0)
				s->in.tiles[s->nb_tiles++] = (struct og_cuda_tile){
					k, OG_MIN(per_tile, end - k), row->pos, at};
			s->in.rows[k] = (struct og_cuda_row){row->token == OG_TOKEN_DRAWN
								     ? OG_CUDA_DRAWN | row->slot
								     : row->token,
				row->pos, at, s->nb_tiles - 1};
		}
	}
	s->in_use = c->tables_at + used * sizeof(*s->in.tables);
	return plan_results(c, b);
}
