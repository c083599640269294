/*
 * cuda_conveyor: steps as one launch (gpu/cuda/conveyor.cuh) against the same steps by the plain path. Prints
 * one line per check; exits 0, 1, or 77 without a device.
 *
 *   cuda_conveyor [--small | --tiny]    of shapes, rows and contexts fewer, or fewest
 *
 *   families   the same bits of every family: logits, drawn tokens, and what later steps read
 *   shapes     the same, of every kind of head, with 1, 2, 7 and 16 rows, around the ends of pages and splits
 *   declined   what is none of its steps is computed the plain way
 *   given up   a meeting to which nobody comes ends in an error, and the device is lost
 */
#include "tests/gpu/checks.h"
#include "tests/unit/model_writer.h"

#include "gpu/cuda/forward_priv.h"
#include "gpu/sampler.h"

#include <errno.h>

enum {
	ROWS_MAX = 640,
	SLOTS = OG_CONVEYOR_ROWS + 2, /* slot 0 has the prompt; the last is spare */
	STEPS = 3,
	BY_PLAIN = 1,
	BY_CONVEYOR = 2,
};

/* Less where a device is only played. */
static bool is_small, is_tiny;
static char err[512];
static uint32_t tokens[ROWS_MAX + STEPS];

struct run {
	struct og_model *m;
	struct og_backend *b;
	uint32_t per_slot, length;
	uint32_t *tables; /* (SLOTS, per_slot) */
};

static struct og_model *load(struct og_gw w)
{
	struct og_model *m;
	char path[64];

	og_gw_save(&w, path);
	og_gw_fini(&w);
	if (og_model_open(&m, path, NULL, NULL, err, sizeof(err)) < 0) {
		fprintf(stderr, "cuda_conveyor: %s\n", err);
		exit(1);
	}
	unlink(path);
	return m;
}

/* Room for `length` tokens and the steps behind them. */
static struct run begin(struct og_model *m, uint32_t length, uint32_t wait_ms)
{
	struct run r = {.m = m, .length = length};
	struct og_cuda_tuning tuning = {.wait_ms = wait_ms};
	struct og_backend_opts opts = {
		.model = m, .rows_max = ROWS_MAX, .context = 300, .decode = OG_DECODE_CONVEYOR};
	struct og_rand rand;
	int ret;

	r.per_slot = (length + STEPS) / OG_KV_PAGE_TOKENS + 1;
	opts.nb_pages = r.per_slot * SLOTS;
	while (opts.nb_pages % 7 == 0)
		opts.nb_pages++;
	ret = og_cuda_forward_create(&r.b, &opts, 0, og_log_write, &tuning, err, sizeof(err));
	if (ret < 0) {
		printf("%s: %s\n", ret == -ENODEV ? "skipped" : "FAIL", err);
		exit(ret == -ENODEV ? 77 : 1);
	}
	r.tables = malloc(r.per_slot * SLOTS * sizeof(*r.tables));
	for (uint32_t i = 0; i < r.per_slot * SLOTS; i++)
		r.tables[i] = i * 7 % opts.nb_pages;
	og_rand_seeded(&rand, 9);
	for (uint32_t i = 0; i < ROWS_MAX + STEPS; i++)
		tokens[i] = og_rand_below(&rand, m->hp.vocab);
	return r;
}

static void end(struct run *r)
{
	r->b->ops->destroy(r->b);
	og_model_close(r->m);
	free(r->tables);
}

static int forward(
	const struct run *r, const struct og_row *rows, uint32_t n, float *logits, uint32_t *drawn)
{
	struct og_batch batch = {rows, n, r->tables, r->per_slot, logits, drawn};

	return og_backend_forward(r->b, &batch);
}

/* The prompt goes to slot 0. */
static bool prefill(const struct run *r)
{
	struct og_row rows[ROWS_MAX];

	for (uint32_t i = 0; i < r->length; i++)
		rows[i] = (struct og_row){tokens[i], i, 0, false, NULL};
	return forward(r, rows, r->length, NULL, NULL) == 0;
}

/* Slot `slot` has the first n tokens: whole pages together with slot 0, and a copy of the one it writes. */
static bool share(const struct run *r, uint32_t slot, uint32_t n)
{
	uint32_t own = n / OG_KV_PAGE_TOKENS;
	uint32_t *table = r->tables + slot * r->per_slot;
	void *page = malloc(og_kv_page_bytes(&r->m->hp, false));
	int ret = r->b->ops->save_page(r->b, r->tables[own], page);

	if (ret == 0)
		ret = r->b->ops->load_page(r->b, table[own], page);
	for (uint32_t i = 0; i < own; i++)
		table[i] = r->tables[i];
	free(page);
	return ret == 0;
}

/* What a few steps of `nb_rows` sequences give, the one after the other. */
struct results {
	float *logits; /* (STEPS, rows, vocab) */
	uint32_t drawn[STEPS][OG_CONVEYOR_ROWS];
};

/*
 * Of each three rows one wants logits, one draws, and the third wants logits in the last step only; in
 * the first step of several rows nobody wants anything.
 */
static bool take_steps(
	const struct run *r, const uint32_t *at, uint32_t nb_rows, int by, struct results *out)
{
	size_t vocab = r->m->hp.vocab;
	struct og_cuda_tuning tuning = {.decode = by};
	uint64_t before = og_cuda_forward_conveyor_steps(r->b), taken;
	struct og_draw draws[OG_CONVEYOR_ROWS];
	struct og_infer_params p;
	int ret = 0;

	out->logits = calloc(STEPS * nb_rows * vocab, sizeof(float));
	memset(out->drawn, 0, sizeof(out->drawn));
	og_cuda_forward_tune(r->b, &tuning);
	og_infer_params_default(&p);
	for (uint32_t k = 0; k < STEPS && ret == 0; k++) {
		struct og_row rows[OG_CONVEYOR_ROWS];
		bool any = k > 0 || nb_rows == 1;

		for (uint32_t i = 0; i < nb_rows; i++) {
			p.seed = 100 * k + i;
			og_draw_init(&draws[i], &p, at[i] + k);
			rows[i] = (struct og_row){tokens[at[i] + k], at[i] + k, 1 + i,
				any && (i % 3 == 0 || (i % 3 == 2 && k == STEPS - 1)),
				any && i % 3 == 1 ? &draws[i] : NULL};
			/* Who drew in the step before goes on with that. */
			if (k == STEPS - 1 && i % 3 == 1)
				rows[i].token = OG_TOKEN_DRAWN;
		}
		ret = forward(r, rows, nb_rows, out->logits + k * nb_rows * vocab, out->drawn[k]);
	}
	taken = og_cuda_forward_conveyor_steps(r->b) - before;
	return ret == 0 && taken == (by == BY_CONVEYOR ? STEPS : 0);
}

static void check_steps(const struct run *r, const uint32_t *at, uint32_t nb_rows, const char *what)
{
	size_t bytes = (size_t)STEPS * nb_rows * r->m->hp.vocab * sizeof(float);
	struct results got, want;
	bool ok = true;

	for (uint32_t i = 0; i < nb_rows; i++)
		ok &= share(r, 1 + i, at[i]);
	ok &= take_steps(r, at, nb_rows, BY_CONVEYOR, &got);
	ok &= take_steps(r, at, nb_rows, BY_PLAIN, &want);
	ok &= memcmp(got.logits, want.logits, bytes) == 0;
	ok &= memcmp(got.drawn, want.drawn, sizeof(got.drawn)) == 0;
	for (size_t i = 0; i < bytes / sizeof(float); i++)
		ok &= want.logits[i] < INFINITY; /* no NaN either */
	expect(ok, "%s, %u rows at %u to %u", what, nb_rows, at[0], at[nb_rows - 1]);
	free(got.logits);
	free(want.logits);
}

static void check_families(void)
{
	static const uint32_t at[] = {1, 33, 7, 12, 30, 8, 20};

	for (size_t i = 0; i <= OG_ARRAY_LEN(og_mw_families); i++) {
		struct og_mw m = og_mw_make(i % OG_ARRAY_LEN(og_mw_families));
		struct run r;

		m.dtype = m.folder_dtype = OG_BF16;
		m.out_bias = i == OG_ARRAY_LEN(og_mw_families);
		r = begin(load(og_mw_gguf(&m)), 40, 0);
		if (!prefill(&r))
			expect(false, "%s: a prompt", m.name);
		check_steps(&r, at, is_tiny ? 3 : OG_ARRAY_LEN(at), m.name);
		end(&r);
	}
}

/* `n` rows, their positions around the ends of pages and splits. */
static void choose_positions(uint32_t *at, uint32_t n, uint32_t length)
{
	static const uint32_t around[] = {256, 64, 512, 128, 320};

	for (uint32_t i = 0; i < n; i++) {
		at[i] = around[i % OG_ARRAY_LEN(around)] + i / 2 % 3;
		at[i] = at[i] > 2 ? at[i] - 2 : at[i];
		while (at[i] >= length)
			at[i] -= OG_MIN(at[i] - 1, 200 + i);
	}
}

static void check_shape(uint32_t heads, uint32_t kv_heads, uint32_t head_dim, uint32_t width)
{
	static const uint32_t rows[] = {1, 16, 7, 2, 9};
	struct og_gw_model m = og_gw_small();
	uint32_t at[OG_CONVEYOR_ROWS], length = is_tiny ? 70 : is_small ? 330 : ROWS_MAX;
	struct run r;
	char what[64];

	m.type = OG_BF16;
	m.context = ROWS_MAX + STEPS;
	m.width = width;
	m.heads = heads;
	m.kv_heads = kv_heads;
	m.head_dim = head_dim;
	m.ff = 3 * width / 2 + 5;
	if (is_small)
		m.layers = 1;
	r = begin(load(og_gw_model_file(&m)), length, 0);
	snprintf(what, sizeof(what), "heads %u/%u of %u, width %u", heads, kv_heads, head_dim,
		width);
	if (!prefill(&r))
		expect(false, "%s: a prompt", what);
	for (size_t i = 0; i < (is_tiny ? 2 : is_small ? 3 : OG_ARRAY_LEN(rows)); i++) {
		choose_positions(at, rows[i], length);
		check_steps(&r, at, rows[i], what);
	}
	end(&r);
}

static void check_shapes(void)
{
	static const uint32_t shapes[][4] = {{4, 2, 16, 128}, {8, 2, 64, 576}, {3, 1, 22, 70},
		{4, 1, 128, 128}, {32, 2, 64, 128}, {64, 1, 32, 1100}, {4, 4, 32, 128},
		{2, 1, 80, 256}, {8, 1, 96, 256}, {14, 2, 64, 896}};

	for (size_t i = 0; i < (is_small ? 6 : OG_ARRAY_LEN(shapes)); i++)
		check_shape(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3]);
}

/* A window that ends within pages and splits, and a cap. */
static void check_window(uint32_t window)
{
	static const uint32_t at[] = {320, 257, 64, 255, 200, 3, 130};
	struct og_mw m = og_mw_make(0);
	struct run r;
	char what[64];

	m.name = m.arch = "gemma2";
	m.gemma = m.tied = m.post_norms = true;
	m.pattern = 2; /* the first of two layers has a window */
	m.head_dim = m.rope_dims = 32;
	m.context = 512;
	m.window = window;
	m.attn_cap = 20;
	m.dtype = m.folder_dtype = OG_BF16;
	r = begin(load(og_mw_gguf(&m)), 330, 0);
	snprintf(what, sizeof(what), "a window of %u", window);
	if (!prefill(&r))
		expect(false, "%s: a prompt", what);
	check_steps(&r, at, OG_ARRAY_LEN(at), what);
	end(&r);
}

/* Weights and pages in 8 bits. */
static void check_fp8(void)
{
	struct og_gw_model m = og_gw_small();
	struct og_model *model = load(og_gw_model_file(&m));
	float *logits = calloc(m.vocab, sizeof(*logits));
	struct og_row row = {1, 0, 0, true, NULL};
	uint32_t table = 0;
	struct og_batch batch = {&row, 1, &table, 1, logits, NULL};

	for (int i = 0; i < 2; i++) {
		struct og_backend_opts opts = {.model = model,
			.nb_pages = 1,
			.rows_max = 1,
			.fp8_weights = i == 0,
			.fp8_kv = i == 1,
			.decode = OG_DECODE_CONVEYOR};
		struct og_backend *b;
		bool ok = og_cuda_forward_create(
				  &b, &opts, 0, og_log_write, NULL, err, sizeof(err)) == 0;

		ok = ok && og_backend_forward(b, &batch) == 0;
		expect(ok && og_cuda_forward_conveyor_steps(b) == 0, "%s in fp8: the plain way",
			i == 0 ? "weights" : "pages");
		if (ok)
			b->ops->destroy(b);
	}
	free(logits);
	og_model_close(model);
}

/* Rows that share a sequence, and too many rows. */
static void check_declined(void)
{
	struct og_gw_model m = og_gw_small();
	struct run r = begin(load(og_gw_model_file(&m)), 20, 0);
	struct og_row rows[OG_CONVEYOR_ROWS + 1];
	float *logits = calloc((OG_CONVEYOR_ROWS + 1) * m.vocab, sizeof(*logits));
	bool ok;

	for (uint32_t i = 0; i <= OG_CONVEYOR_ROWS; i++)
		rows[i] = (struct og_row){i, 0, i, true, NULL};
	ok = forward(&r, rows, OG_CONVEYOR_ROWS + 1, logits, NULL) == 0;
	expect(ok && og_cuda_forward_conveyor_steps(r.b) == 0,
		"17 rows are computed the plain way");
	for (uint32_t i = 0; i < 3; i++)
		rows[i] = (struct og_row){i, i / 2, i % 2, true, NULL};
	ok = forward(&r, rows, 3, logits, NULL) == 0;
	expect(ok && og_cuda_forward_conveyor_steps(r.b) == 0,
		"and so are two rows of a sequence that do not follow each other");
	ok = forward(&r, rows, 2, logits, NULL) == 0;
	expect(ok && og_cuda_forward_conveyor_steps(r.b) == 1, "two sequences are one launch");
	free(logits);
	end(&r);
}

/* The counter is set back, as if blocks were missing. */
static void check_given_up(bool draws)
{
	struct og_gw_model m = og_gw_small();
	struct run r = begin(load(og_gw_model_file(&m)), 20, 4000);
	struct og_cuda *c = OG_CONTAINER_OF(r.b, struct og_cuda, base);
	float *logits = calloc(m.vocab, sizeof(*logits));
	struct og_infer_params p;
	struct og_draw draw;
	struct og_row row = {1, 0, 0, !draws, draws ? &draw : NULL};
	uint32_t drawn;
	int ret;

	og_infer_params_default(&p);
	og_draw_init(&draw, &p, 0);
	if (forward(&r, &row, 1, logits, &drawn) < 0 ||
		c->d.cu.cuMemsetD8Async(c->conveyor.args.counter, 0xf0, 4, c->d.stream) !=
			CUDA_SUCCESS)
		expect(false, "a step before one that is given up");
	ret = forward(&r, &row, 1, logits, &drawn);
	expect(ret == -EIO && r.b->is_lost, "a step that waits in vain, %s, is given up: %s",
		draws ? "drawn" : "with logits", strerror(-ret));
	expect(forward(&r, &row, 1, logits, &drawn) == -EIO, "and so are all after it");
	free(logits);
	end(&r);
}

int main(int argc, char **argv)
{
	is_tiny = argc > 1 && strcmp(argv[1], "--tiny") == 0;
	is_small = argc > 1;
	check_families();
	check_shapes();
	check_window(70);
	if (!is_tiny) {
		check_window(1);
		check_window(256);
	}
	check_declined();
	check_fp8();
	check_given_up(false);
	check_given_up(true);
	printf("%u passed, %u failed\n", nb_passed, nb_failed);
	return nb_failed > 0;
}
