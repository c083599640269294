#include "gpu/backend.h"
#include "gpu/ref/forward.h"
#include "model_writer.h"

#include <criterion/criterion.h>

enum { TOKENS = 40, PAGES = 1 };

static char err[256];
static uint32_t tokens[TOKENS];

static void make_tokens(void)
{
	struct og_rand r;

	og_rand_seeded(&r, 9);
	for (uint32_t i = 0; i < TOKENS; i++)
		tokens[i] = og_rand_below(&r, 256);
}

TestSuite(families, .init = make_tokens);

static struct og_model *open_gguf(const struct og_mw *m)
{
	struct og_gw w = og_mw_gguf(m);
	struct og_model *model;
	char path[64];

	og_gw_save(&w, path);
	cr_assert_eq(og_model_open(&model, path, NULL, NULL, err, sizeof(err)), 0, "%s: %s",
		m->name, err);
	unlink(path);
	og_gw_fini(&w);
	return model;
}

static struct og_model *open_folder_with(const struct og_mw *m, const struct og_load_opts *opts)
{
	char folder[] = "/tmp/og_test_XXXXXX";
	struct og_model *model;

	cr_assert_not_null(mkdtemp(folder));
	og_mw_folder(m, folder);
	cr_assert_eq(og_model_open(&model, folder, opts, NULL, err, sizeof(err)), 0, "%s: %s",
		m->name, err);
	og_mw_remove(folder);
	return model;
}

static struct og_model *open_folder(const struct og_mw *m)
{
	return open_folder_with(m, NULL);
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

static float *reference(const struct og_model *m)
{
	float *logits = malloc((size_t)TOKENS * m->hp.vocab * sizeof(float));

	cr_assert_eq(og_ref_forward(m, tokens, TOKENS, logits), 0);
	return logits;
}

/* All tokens as one prompt on the CPU back end. */
static float *computed(const struct og_model *m)
{
	float *logits = malloc((size_t)TOKENS * m->hp.vocab * sizeof(float));
	struct og_backend_opts opts = {.model = m,
		.nb_pages = PAGES,
		.rows_max = TOKENS,
		.nb_threads = 2,
		.context = TOKENS};
	struct og_row rows[TOKENS];
	uint32_t table[PAGES] = {0};
	struct og_batch batch = {rows, TOKENS, table, PAGES, logits, NULL};
	struct og_backend *b;

	for (uint32_t i = 0; i < TOKENS; i++)
		rows[i] = (struct og_row){tokens[i], i, 0, true, NULL};
	cr_assert_eq(og_cpu_backend_create(&b, &opts, NULL), 0);
	cr_assert_eq(og_backend_forward(b, &batch), 0);
	b->ops->destroy(b);
	return logits;
}

static double spread(const float *logits, size_t n)
{
	double sum = 0, squares = 0;

	for (size_t i = 0; i < n; i++) {
		sum += logits[i];
		squares += (double)logits[i] * logits[i];
	}
	return sqrt(squares / (double)n - sum / (double)n * (sum / (double)n));
}

static void expect_family(const struct og_mw *m)
{
	struct og_model *gguf = open_gguf(m), *folder = open_folder(m);
	size_t n = (size_t)TOKENS * m->vocab;
	float *want = reference(gguf), *same = reference(folder);
	float *a = computed(gguf), *b = computed(folder);
	double width = spread(want, n);

	cr_expect(width > 1.5 && width < 6, "%s: logits spread over %g", m->name, width);
	cr_expect_lt(relative_error(same, want, n), 1e-5, "%s: folder and GGUF differ by %g",
		m->name, relative_error(same, want, n));
	/* The cache is fp16. */
	cr_expect_lt(relative_error(a, want, n), 1.5e-3, "%s: GGUF on the CPU is off by %g",
		m->name, relative_error(a, want, n));
	cr_expect_lt(relative_error(b, same, n), 1.5e-3, "%s: folder on the CPU is off by %g",
		m->name, relative_error(b, same, n));
	free(want);
	free(same);
	free(a);
	free(b);
	og_model_close(gguf);
	og_model_close(folder);
}

Test(families, agree_with_the_reference_in_both_formats)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(og_mw_families); i++) {
		struct og_mw m = og_mw_make(i);

		expect_family(&m);
	}
}

/* Weights in e4m3 become those of the GGUF file, whatever has a scale, and whoever unpacks them. */
Test(families, agree_in_published_fp8)
{
	static const struct og_load_opts threads = {.panel_threads = 2, .unpack_threads = 3};

	for (size_t i = 0; i < OG_ARRAY_LEN(og_mw_families); i++) {
		struct og_mw m = og_mw_make(i);
		struct og_model *a, *b;
		float *want, *got;

		m.folder_dtype = m.dtype = OG_BF16;
		m.fp8 = OG_MW_FP8_TENSOR + i % 3;
		expect_family(&m);
		a = open_folder(&m);
		b = open_folder_with(&m, &threads);
		want = reference(a);
		got = reference(b);
		cr_expect_eq(memcmp(got, want, (size_t)TOKENS * m.vocab * sizeof(*got)), 0, "%s",
			m.name);
		free(want);
		free(got);
		og_model_close(a);
		og_model_close(b);
	}
}

Test(families, agree_in_half_precision)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(og_mw_families); i++) {
		struct og_mw m = og_mw_make(i);

		m.folder_dtype = m.dtype = i % 2 ? OG_BF16 : OG_F16;
		expect_family(&m);
	}
}

static struct og_mw family(const char *name)
{
	size_t i = 0;

	while (strcmp(og_mw_families[i].name, name) != 0)
		i++;
	return og_mw_make(i);
}

/* How far two models' logits lie apart. */
static double distance(const struct og_mw *m, const struct og_mw *other)
{
	struct og_model *a = open_gguf(m), *b = open_gguf(other);
	float *x = reference(a), *y = reference(b);
	double error = relative_error(y, x, (size_t)TOKENS * m->vocab);

	free(x);
	free(y);
	og_model_close(a);
	og_model_close(b);
	return error;
}

/* Where a variation does not show in the logits, agreement says nothing about it. */
#define EXPECT_EFFECT(name, change)                                                                \
	do {                                                                                       \
		struct og_mw m = family(name), changed = m;                                        \
		changed.change;                                                                    \
		cr_expect_gt(distance(&m, &changed), 1e-3, "%s, %s", name, #change);               \
	} while (0)

Test(families, every_variation_shows_in_the_logits)
{
	EXPECT_EFFECT("mistral", window = 0);
	EXPECT_EFFECT("llama3", llama3 = false);
	EXPECT_EFFECT("phi3", original_context = 100); /* short factors */
	EXPECT_EFFECT("phi3", rope_dims = 16);
	EXPECT_EFFECT("gemma2", attn_cap = 2);
	EXPECT_EFFECT("gemma2", logit_cap = 5);
	EXPECT_EFFECT("gemma3", window = 30);
	EXPECT_EFFECT("gemma3", rope_base = 10000);
}

static struct og_model *open_named(const char *name)
{
	struct og_mw m = family(name);

	return open_folder(&m);
}

Test(families, folders_say_how_answers_end_and_how_to_sample)
{
	struct og_model *m = open_named("llama3");

	cr_expect_eq(m->generation.nb_eos, 2);
	cr_expect_eq(m->generation.eos[0], 265);
	cr_expect_eq(m->generation.eos[1], 266);
	cr_expect(m->generation.has_sampling);
	cr_expect_float_eq(m->generation.temperature, 0.6, 1e-6);
	cr_expect_float_eq(m->generation.top_p, 0.9, 1e-6);
	cr_expect_eq(m->generation.top_k, 20);
	og_model_close(m);
}

Test(families, gemma_3_alternates_windows_and_ropes)
{
	struct og_model *m = open_named("gemma3");

	for (uint32_t i = 0; i < 7; i++)
		cr_expect_eq(m->hp.windowed[i], i != 5);
	cr_expect_float_eq(m->hp.rope[0].base, 1e6, 1);
	cr_expect_float_eq(m->hp.rope[1].base, 1e4, 1);
	cr_expect_eq(og_window_start(&m->hp, 0, 20), 13);
	cr_expect_eq(og_window_start(&m->hp, 5, 20), 0);
	og_model_close(m);
}
