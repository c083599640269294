#include "gpu/cuda/forward_priv.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

/* Schedules of a step as one launch (gpu/cuda/conveyor.c), with no device: addresses are only numbers. */

enum { LAYERS = 3, BLOCKS_MAX = 200 };

static struct og_model model;
static struct og_layer model_layers[LAYERS];
static struct og_cuda_layer layers[LAYERS];
static uint64_t next_address;

static struct og_cuda_matrix matrix(uint32_t n_in, uint32_t n_out, uint32_t rows)
{
	return (struct og_cuda_matrix){.data = next_address += 4096,
		.kp = og_cuda_pad(n_in, OG_CUDA_K_STEP),
		.n_out = n_out,
		.rows = og_cuda_pad(rows, OG_CUDA_ROW_PAD)};
}

static struct og_cuda back_end(uint32_t width, uint32_t ff, uint32_t q, uint32_t kv, uint32_t vocab)
{
	struct og_cuda c = {.model = &model, .x = 1, .h = 2, .delta = 3, .act = 4};

	model = (struct og_model){.layers = model_layers};
	model.hp.nb_layers = LAYERS;
	model.hp.width = width;
	model.hp.vocab = vocab;
	for (uint32_t i = 0; i < LAYERS; i++)
		layers[i] = (struct og_cuda_layer){.qkv = matrix(width, q + 2 * kv, q + 2 * kv),
			.o = matrix(q, width, width),
			.gate_up = matrix(width, ff, 2 * og_cuda_pad(ff, OG_CUDA_GATE_ROWS)),
			.down = matrix(ff, width, width)};
	c.w.layers = layers;
	c.w.output = matrix(width, vocab, vocab);
	return c;
}

static struct og_conveyor_schedule schedule(const struct og_cuda *c, uint32_t nb_blocks)
{
	struct og_conveyor_schedule s;

	cr_assert_eq(og_conveyor_schedule_make(&s, c, nb_blocks), 0);
	return s;
}

/* A count of its own, by tiles: each once, and a block's share of all products together is fair. */
static void count_tiles(const struct og_conveyor_schedule *s, uint32_t nb_blocks)
{
	uint32_t parts[BLOCKS_MAX] = {0}, least = UINT32_MAX, most = 0;

	for (uint32_t i = 0; i < s->nb_products; i++) {
		const struct og_conveyor_product *p = &s->products[i];
		uint8_t *seen = calloc(p->nb_parts, 1);

		for (uint32_t b = 0; b < nb_blocks; b++) {
			uint32_t begin, end;

			og_conveyor_share(p, b, nb_blocks, &begin, &end);
			for (uint32_t k = begin; k < end; k++)
				seen[k]++;
			parts[b] += end - begin;
		}
		for (uint32_t k = 0; k < p->nb_parts; k++)
			cr_assert_eq(seen[k], 1, "part %u of product %u", k, i);
		cr_assert_geq(p->nb_parts * 16, p->n_out);
		cr_assert_lt(p->nb_parts * 16, p->n_out + 16);
		free(seen);
	}
	for (uint32_t b = 0; b < nb_blocks; b++) {
		least = OG_MIN(least, parts[b]);
		most = OG_MAX(most, parts[b]);
	}
	cr_expect_leq(most - least, 1, "%u to %u parts", least, most);
}

Test(cuda_conveyor, covers_each_tile_once_and_shares_them_fairly)
{
	static const uint32_t shapes[][5] = {{4096, 14336, 4096, 1024, 128256},
		{2048, 8192, 2048, 512, 128256}, {64, 96, 64, 32, 288}, {70, 101, 66, 22, 288}};
	static const uint32_t blocks[] = {1, 3, 8, 114, 132, BLOCKS_MAX};

	for (size_t i = 0; i < OG_ARRAY_LEN(shapes); i++) {
		const uint32_t *n = shapes[i];
		struct og_cuda c = back_end(n[0], n[1], n[2], n[3], n[4]);

		for (size_t k = 0; k < OG_ARRAY_LEN(blocks); k++) {
			struct og_conveyor_schedule s = schedule(&c, blocks[k]);

			cr_expect_eq(s.nb_products, 4 * LAYERS + 1);
			cr_expect_eq(og_conveyor_schedule_check(&s, blocks[k]), 0);
			count_tiles(&s, blocks[k]);
			og_conveyor_schedule_fini(&s);
		}
	}
}

Test(cuda_conveyor, meets_seven_times_a_layer)
{
	struct og_cuda c = back_end(4096, 14336, 4096, 1024, 128256);
	struct og_conveyor_schedule s = schedule(&c, 132);
	uint32_t nb_meetings = 0;

	for (uint32_t i = 0; i < s.nb_ops; i++)
		nb_meetings += s.ops[i].meets;
	/* The first norm is of rows that its block has just made; two more before logits. */
	cr_expect_eq(nb_meetings, 7 * LAYERS - 1 + 2);
	og_conveyor_schedule_fini(&s);
}

Test(cuda_conveyor, adds_rows_where_the_model_does_something_before)
{
	struct og_cuda c = back_end(64, 96, 64, 32, 288);
	struct og_conveyor_schedule s;
	uint32_t nb_adds = 0;

	layers[0].o_bias = 5;
	layers[1].ffn_post_norm = 6;
	s = schedule(&c, 8);
	cr_expect_eq(og_conveyor_schedule_check(&s, 8), 0);
	for (uint32_t i = 0; i < s.nb_ops; i++) {
		if (s.ops[i].kind != OG_CONVEYOR_ADD)
			continue;
		nb_adds++;
		cr_expect_eq(s.ops[i - 1].product.out, c.delta);
		cr_expect_eq(s.ops[i - 1].product.epilogue, OG_CUDA_STORE);
		cr_expect_not(s.ops[i + 1].meets);
	}
	cr_expect_eq(nb_adds, 2);
	og_conveyor_schedule_fini(&s);
}

/* What was damaged in memory would make blocks wait for ever, or read what is not theirs. */
Test(cuda_conveyor, refuses_schedules_that_do_not_hold)
{
	struct og_cuda c = back_end(64, 96, 64, 32, 288);
	struct og_conveyor_schedule s;

	s = schedule(&c, 8);
	s.ops[2].product.shift = s.products[0].shift = 8;
	cr_expect_eq(og_conveyor_schedule_check(&s, 8), -EINVAL, "a shift beyond the blocks");
	s.ops[2].product.shift = s.products[0].shift = 0;
	for (uint32_t i = 1; i < s.nb_ops; i++) {
		struct og_conveyor_op was = s.ops[i];

		if (was.meets) {
			s.ops[i].meets = false;
			cr_expect_eq(og_conveyor_schedule_check(&s, 8),
				was.kind == OG_CONVEYOR_NORM && s.ops[i - 1].kind == OG_CONVEYOR_ADD
					? 0
					: -EINVAL,
				"operation %u", i);
		}
		s.ops[i] = was;
		if (was.kind != OG_CONVEYOR_PRODUCT)
			continue;
		s.ops[i].product.nb_parts--;
		cr_expect_eq(og_conveyor_schedule_check(&s, 8), -EINVAL, "operation %u", i);
		s.ops[i] = was;
		s.ops[i].product.kp--;
		cr_expect_eq(og_conveyor_schedule_check(&s, 8), -EINVAL, "operation %u", i);
		s.ops[i] = was;
	}
	s.nb_products--;
	cr_expect_eq(og_conveyor_schedule_check(&s, 8), -EINVAL, "a product that is not loaded");
	s.nb_products++;
	cr_expect_eq(og_conveyor_schedule_check(&s, 8), 0);
	og_conveyor_schedule_fini(&s);
	layers[1].down.rows = 48; /* of 64: not all of its tiles */
	cr_expect_eq(og_conveyor_schedule_make(&s, &c, 8), -EINVAL);
}
