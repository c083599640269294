#include "gguf_writer.h"
#include "gpu/backend.h"
#include "gpu/cpu/kernels.h"
#include "gpu/ref/forward.h"
#include "gpu/sampler.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>

enum { TOKENS = 40, SLOTS = 3, SLOT_PAGES = 10 };

static const char *const isas[] = {"generic", "avx2", "avx512"};
static char err[256];
static uint32_t tokens[TOKENS];

static struct og_model *load(const struct og_gw_model *opts)
{
	struct og_load_opts panels = {.panel_threads = 2};
	struct og_gw w = og_gw_model_file(opts);
	struct og_model *m;
	char path[64];
	struct og_rand r;

	og_gw_save(&w, path);
	cr_assert_eq(og_model_open(&m, path, &panels, NULL, err, sizeof(err)), 0, "%s", err);
	unlink(path);
	og_gw_fini(&w);
	og_rand_seeded(&r, 9);
	for (uint32_t i = 0; i < TOKENS; i++)
		tokens[i] = og_rand_below(&r, opts->vocab);
	return m;
}

static struct og_backend *start(const struct og_model *m, const char *isa, uint32_t threads)
{
	struct og_backend_opts opts = {.model = m,
		.nb_pages = SLOTS * SLOT_PAGES,
		.rows_max = 600,
		.nb_threads = threads,
		.context = TOKENS};
	struct og_backend *b;

	cr_assert_eq(og_cpu_backend_create(&b, &opts, isa), 0);
	return b;
}

static float *forward(
	struct og_backend *b, const struct og_model *m, const struct og_row *rows, uint32_t n)
{
	float *logits = calloc((size_t)n * m->hp.vocab, sizeof(float));
	uint32_t tables[SLOTS * SLOT_PAGES];
	struct og_batch batch = {rows, n, tables, SLOT_PAGES, logits, NULL};

	/* Neighbours in a sequence are none in memory. */
	for (uint32_t i = 0; i < OG_ARRAY_LEN(tables); i++)
		tables[i] = i * 7 % OG_ARRAY_LEN(tables);
	cr_assert_eq(og_backend_forward(b, &batch), 0);
	return logits;
}

/* All tokens as one prompt, logits of each. */
static float *forward_all(struct og_backend *b, const struct og_model *m, uint32_t slot)
{
	struct og_row rows[TOKENS];

	for (uint32_t i = 0; i < TOKENS; i++)
		rows[i] = (struct og_row){tokens[i], i, slot, true, NULL};
	return forward(b, m, rows, TOKENS);
}

static double relative_error(const float *got, const float *want, size_t n)
{
	double diff = 0, size = 0;

	for (size_t i = 0; i < n; i++) {
		diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
		size += (double)want[i] * want[i];
	}
	return sqrt(diff / size);
}

/* Widths of whole blocks of the type of the weights. */
static void fit_blocks(struct og_gw_model *opts, uint32_t width)
{
	opts->width = width;
	if (og_dtype_values(opts->type) < OG_K_VALUES)
		return;
	opts->width = OG_K_VALUES;
	opts->ff = 3 * OG_K_VALUES;
	opts->head_dim = OG_K_VALUES / opts->heads;
}

/* What the cache in fp16 costs; the products themselves are exact to 1e-5. */
static const double tolerance = 1e-3;

static void expect_agreement(const struct og_gw_model *opts, const char *isa)
{
	struct og_model *m = load(opts);
	size_t n = (size_t)TOKENS * m->hp.vocab;
	float *want = malloc(n * sizeof(float)), *got;
	struct og_backend *b = start(m, isa, 2);
	double error;

	cr_assert_eq(og_ref_forward(m, tokens, TOKENS, want), 0);
	got = forward_all(b, m, 1);
	error = relative_error(got, want, n);
	cr_expect(error < tolerance, "%s, type %s: relative error %g", isa,
		og_dtype_name(opts->type), error);
	b->ops->destroy(b);
	og_model_close(m);
	free(want);
	free(got);
}

Test(forward, agrees_with_the_reference_for_every_type_and_instruction_set)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(isas); i++)
		for (int type = 0; type < OG_DTYPES && og_cpu_kernels_pick(isas[i]); type++) {
			struct og_gw_model opts = og_gw_small();

			opts.type = (enum og_dtype)type;
			fit_blocks(&opts, 96); /* an odd number of blocks of 32 */
			opts.tied = type % 2;
			expect_agreement(&opts, isas[i]);
		}
}

Test(forward, agrees_with_the_reference_for_odd_shapes)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(isas) && og_cpu_kernels_pick(isas[i]); i++) {
		struct og_gw_model opts = og_gw_small();

		opts.width = 70; /* no multiple of any vector */
		opts.heads = 3;
		opts.kv_heads = 1;
		opts.head_dim = 22;
		opts.ff = 101;
		expect_agreement(&opts, isas[i]);
		opts.type = OG_F16;
		expect_agreement(&opts, isas[i]);
		opts.type = OG_BF16;
		expect_agreement(&opts, isas[i]);
	}
}

Test(forward, agrees_with_the_reference_for_biases_and_both_kinds_of_rope)
{
	struct og_gw_model opts = og_gw_small();

	opts.rope_factors = true;
	expect_agreement(&opts, NULL);
	opts.arch = "qwen2";
	opts.biases = true;
	expect_agreement(&opts, NULL);
}

Test(forward, refuses_an_instruction_set_that_it_does_not_have)
{
	struct og_gw_model opts = og_gw_small();
	struct og_model *m = load(&opts);
	struct og_backend_opts b = {
		.model = m, .nb_pages = 1, .rows_max = 16, .nb_threads = 1, .context = 64};
	struct og_backend *out;

	cr_expect_eq(og_cpu_backend_create(&out, &b, "sse9"), -EOPNOTSUPP);
	og_model_close(m);
}

/* The bits of the prompt's logits when it is computed by pieces of the given size. */
static void expect_same_by_pieces(struct og_backend *b, const struct og_model *m, const float *want,
	uint32_t piece, uint32_t slot)
{
	struct og_row rows[TOKENS];

	for (uint32_t at = 0; at < TOKENS; at += piece) {
		uint32_t n = OG_MIN(piece, TOKENS - at);
		float *got;

		for (uint32_t i = 0; i < n; i++)
			rows[i] = (struct og_row){tokens[at + i], at + i, slot, true, NULL};
		got = forward(b, m, rows, n);
		cr_expect_arr_eq(got, want + (size_t)at * m->hp.vocab,
			(size_t)n * m->hp.vocab * sizeof(float), "pieces of %u at %u", piece, at);
		free(got);
	}
}

Test(forward, gives_the_same_bits_however_a_prompt_is_cut)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(isas); i++)
		for (int type = 0; type < OG_DTYPES && og_cpu_kernels_pick(isas[i]); type++) {
			struct og_gw_model opts = og_gw_small();
			struct og_model *m;
			struct og_backend *b;
			float *want;

			opts.type = (enum og_dtype)type;
			fit_blocks(&opts, opts.width);
			m = load(&opts);
			b = start(m, isas[i], 1);
			want = forward_all(b, m, 0);
			expect_same_by_pieces(b, m, want, 1, 1);
			expect_same_by_pieces(b, m, want, 3, 2);
			expect_same_by_pieces(b, m, want, 7, 0);
			b->ops->destroy(b);
			b = start(m, isas[i], 3);
			expect_same_by_pieces(b, m, want, 4, 1);
			b->ops->destroy(b);
			free(want);
			og_model_close(m);
		}
}

Test(forward, gives_the_same_bits_alone_and_in_company)
{
	struct og_gw_model opts = og_gw_small();
	struct og_row rows[2 * TOKENS];
	struct og_model *m;
	struct og_backend *b;
	float *want, *got;

	opts.type = OG_Q8_0;
	m = load(&opts);
	b = start(m, NULL, 2);
	want = forward_all(b, m, 0);
	/* The same tokens, row by row among those of another sequence. */
	for (uint32_t i = 0; i < TOKENS; i++) {
		rows[2 * i] = (struct og_row){tokens[TOKENS - 1 - i], i, 2, false, NULL};
		rows[2 * i + 1] = (struct og_row){tokens[i], i, 1, true, NULL};
	}
	got = forward(b, m, rows, 2 * TOKENS);
	cr_expect_arr_eq(got, want, (size_t)TOKENS * m->hp.vocab * sizeof(float));
	free(want);
	free(got);
	b->ops->destroy(b);
	og_model_close(m);
}

Test(forward, attends_over_more_than_one_block_of_positions)
{
	enum { LONG = 560 };
	struct og_gw_model opts = og_gw_small();
	struct og_row *rows = calloc(LONG, sizeof(*rows));
	uint32_t *text = calloc(LONG, sizeof(*text));
	struct og_model *m;
	struct og_backend *b;
	float *want, *got;

	opts.context = 600;
	opts.layers = 1;
	m = load(&opts);
	b = start(m, NULL, 1);
	for (uint32_t i = 0; i < LONG; i++) {
		text[i] = tokens[i * 7 % TOKENS];
		rows[i] = (struct og_row){text[i], i, 0, true, NULL};
	}
	want = malloc((size_t)LONG * m->hp.vocab * sizeof(float));
	cr_assert_eq(og_ref_forward(m, text, LONG, want), 0);
	got = forward(b, m, rows, LONG);
	cr_expect_lt(relative_error(got, want, (size_t)LONG * m->hp.vocab), tolerance);
	free(want);
	free(got);
	free(rows);
	free(text);
	b->ops->destroy(b);
	og_model_close(m);
}

Test(forward, gives_the_same_bits_from_whatever_pages)
{
	enum { LONG = 300, PAGES = (LONG + OG_KV_PAGE_TOKENS - 1) / OG_KV_PAGE_TOKENS };
	uint32_t there[PAGES] = {0, 1, 2, 3, 4}, elsewhere[PAGES] = {9, 12, 7, 5, 11};
	struct og_gw_model opts = og_gw_small();
	uint64_t page_bytes;
	struct og_row rows[LONG];
	struct og_batch batch = {.rows = rows, .table_pages = PAGES};
	struct og_model *m;
	struct og_backend *b;
	float *want, *got;
	void *host;

	opts.context = LONG;
	m = load(&opts);
	b = start(m, NULL, 2);
	page_bytes = og_kv_page_bytes(&m->hp, false);
	host = malloc(page_bytes);
	want = calloc(m->hp.vocab, sizeof(float));
	got = calloc(m->hp.vocab, sizeof(float));
	for (uint32_t i = 0; i < LONG; i++)
		rows[i] = (struct og_row){tokens[i * 7 % TOKENS], i, 0, i == LONG - 1, NULL};
	batch.nb_rows = LONG;
	batch.tables = there;
	batch.logits = want;
	cr_assert_eq(og_backend_forward(b, &batch), 0);
	/* All of it by way of the host to other pages, and the last row once more. */
	for (uint32_t i = 0; i < PAGES; i++) {
		cr_assert_eq(b->ops->save_page(b, there[i], host), 0);
		cr_assert_eq(b->ops->load_page(b, elsewhere[i], host), 0);
		memset(host, 0xff, page_bytes);
		cr_assert_eq(b->ops->load_page(b, there[i], host), 0);
	}
	batch.rows = rows + LONG - 1;
	batch.nb_rows = 1;
	batch.tables = elsewhere;
	batch.logits = got;
	cr_assert_eq(og_backend_forward(b, &batch), 0);
	cr_expect_arr_eq(got, want, m->hp.vocab * sizeof(float));
	free(want);
	free(got);
	free(host);
	b->ops->destroy(b);
	og_model_close(m);
}

/* A row of the next step goes on from what this one drew, before anybody has looked. */
Test(forward, draws_as_the_sampler_does_and_goes_on_from_there)
{
	enum { STEPS = 6 };
	struct og_gw_model opts = og_gw_small();
	struct og_model *m = load(&opts);
	struct og_backend *b = start(m, NULL, 2), *other = start(m, NULL, 1);
	float *scratch = calloc(2 * m->hp.vocab, sizeof(float));
	struct og_sampler_item *items = calloc(m->hp.vocab, sizeof(*items));
	uint32_t table[2 * SLOT_PAGES], drawn[STEPS][2], token = tokens[0];
	struct og_infer_params p;

	for (uint32_t i = 0; i < OG_ARRAY_LEN(table); i++)
		table[i] = i;
	og_infer_params_default(&p);
	p.temperature = 1.5f;
	p.top_p = 0.9f;
	for (uint32_t i = 0; i < STEPS; i++) {
		struct og_draw draw;
		struct og_row rows[2] = {{tokens[0], i, 1, true, NULL},
			{i ? OG_TOKEN_DRAWN : tokens[0], i, 0, false, &draw}};
		struct og_batch batch = {rows, 2, table, SLOT_PAGES, scratch, drawn[i]};

		og_draw_init(&draw, &p, i);
		cr_assert_eq(b->ops->submit(b, &batch), 0);
		if (i > 0)
			cr_assert_eq(b->ops->collect(b), 0);
	}
	cr_assert_eq(b->ops->collect(b), 0);
	for (uint32_t i = 0; i < STEPS; i++) {
		struct og_row row = {token, i, 0, true, NULL};
		float *logits = forward(other, m, &row, 1);
		struct og_draw draw;

		og_draw_init(&draw, &p, i);
		cr_assert_eq(og_sampler_draw(&token, &draw, logits, m->hp.vocab, items), 0);
		cr_expect_eq(drawn[i][1], token, "step %u", i);
		free(logits);
	}
	free(scratch);
	free(items);
	b->ops->destroy(b);
	other->ops->destroy(other);
	og_model_close(m);
}
