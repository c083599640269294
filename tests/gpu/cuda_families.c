/*
 * cuda_families: tiny models of every family on the CUDA back end, against gpu/ref. Prints one line per
 * check; exits 0, 1, or 77 without a device.
 *
 *   cuda_families [--small | --tiny]    of windows fewer, or one, and of tokens fewer
 *
 *   logits   the error against the fp32 reference is at most 1.25 times that of the reference in bf16
 *   windows  the same bits in one piece and in many, from serial and split attention
 */
#include "tests/gpu/checks.h"
#include "tests/unit/model_writer.h"

#include "gpu/cuda/forward.h"
#include "gpu/ref/forward.h"

#include <errno.h>

enum { ROWS_MAX = 400, PAGES = ROWS_MAX / OG_KV_PAGE_TOKENS + 1 };
static const double ratio_max = 1.25;

/* Less where a device is only played. */
static uint32_t nb_windows = 5, nb_pieces = 3, nb_tokens = 40;

static char err[512];
static uint32_t tokens[ROWS_MAX];

static struct og_model *load(const struct og_mw *m)
{
	struct og_gw w = og_mw_gguf(m);
	struct og_model *model;
	char path[64];

	og_gw_save(&w, path);
	og_gw_fini(&w);
	if (og_model_open(&model, path, NULL, NULL, err, sizeof(err)) < 0) {
		fprintf(stderr, "cuda_families: %s: %s\n", m->name, err);
		exit(1);
	}
	unlink(path);
	return model;
}

static bool with_cublaslt;

static struct og_backend *start(const struct og_model *m, uint32_t context)
{
	struct og_backend_opts opts = {.model = m,
		.nb_pages = PAGES,
		.rows_max = ROWS_MAX,
		.context = context,
		.cublaslt = with_cublaslt};
	struct og_backend *b;
	int ret = og_cuda_forward_create(&b, &opts, 0, og_log_write, NULL, err, sizeof(err));

	if (ret == 0)
		return b;
	printf("%s: %s\n", ret == -ENODEV ? "skipped" : "FAIL", err);
	exit(ret == -ENODEV ? 77 : 1);
}

/* Logits of the first n tokens, `piece` at a time. */
static float *compute(struct og_backend *b, const struct og_model *m, uint32_t n, uint32_t piece)
{
	float *logits = calloc((size_t)n * m->hp.vocab, sizeof(float));
	uint32_t table[PAGES];

	for (uint32_t i = 0; i < PAGES; i++)
		table[i] = PAGES - 1 - i;
	for (uint32_t at = 0; at < n; at += piece) {
		uint32_t count = OG_MIN(piece, n - at);
		struct og_row rows[ROWS_MAX];
		struct og_batch batch = {
			rows, count, table, PAGES, logits + (size_t)at * m->hp.vocab, NULL};

		for (uint32_t i = 0; i < count; i++)
			rows[i] = (struct og_row){tokens[at + i], at + i, 0, true, NULL};
		if (og_backend_forward(b, &batch) < 0)
			memset(logits, 0xff, (size_t)n * m->hp.vocab * sizeof(float));
	}
	return logits;
}

static void check_logits(const struct og_mw *m, uint32_t n, const char *what)
{
	struct og_model *model = load(m);
	struct og_backend *b = start(model, n);
	size_t count = (size_t)n * model->hp.vocab;
	float *want = malloc(count * sizeof(float)), *low = malloc(count * sizeof(float));
	float *got = compute(b, model, n, n);
	double ours, theirs;

	if (og_ref_forward(model, tokens, n, want) < 0 ||
		og_ref_forward_bf16(model, tokens, n, low) < 0)
		exit(1);
	ours = relative_error(got, want, count);
	theirs = relative_error(low, want, count);
	expect(ours <= ratio_max * theirs, "%s%s, %u tokens: error %.2g, in bf16 %.2g, ratio %.2f",
		m->name, what, n, ours, theirs, ours / theirs);
	free(want);
	free(low);
	free(got);
	b->ops->destroy(b);
	og_model_close(model);
}

static void check_families(void)
{
	struct og_mw biased = og_mw_make(0);

	biased.dtype = biased.folder_dtype = OG_BF16;
	biased.out_bias = true;
	check_logits(&biased, nb_tokens, ", a bias after attention");
	for (size_t i = 0; i < OG_ARRAY_LEN(og_mw_families); i++) {
		struct og_mw m = og_mw_make(i);

		m.dtype = m.folder_dtype = OG_BF16;
		check_logits(&m, nb_tokens, "");
		if (!m.gemma || m.new_spelling)
			continue;
		m.head_dim = m.rope_dims = 256;
		check_logits(&m, nb_tokens, ", heads of 256");
		with_cublaslt = true; /* our own kernels, where it is not installed */
		check_logits(&m, nb_tokens, ", by cublaslt");
		with_cublaslt = false;
	}
}

/* Windows and caps where attention has several pages and splits. */
static void check_window(uint32_t window, float cap, uint32_t head_dim)
{
	enum { N = 330 };
	static const uint32_t pieces[] = {37, 64, 200};
	struct og_mw m = og_mw_make(0);
	struct og_model *model;
	struct og_backend *b;
	size_t bytes;
	float *want;

	m.name = "gemma2";
	m.arch = "gemma2";
	m.gemma = m.tied = m.post_norms = true;
	m.pattern = 2; /* the first of two layers has a window */
	m.kv_heads = 2;
	m.head_dim = m.rope_dims = head_dim;
	m.context = 512;
	m.window = window;
	m.attn_cap = cap;
	m.dtype = m.folder_dtype = OG_BF16;
	check_logits(&m, N,
		head_dim > 32 ? ", a window, heads of 256"
		: window == 1 ? ", a window of one"
			      : ", a window");
	model = load(&m);
	b = start(model, N);
	bytes = (size_t)N * model->hp.vocab * sizeof(float);
	want = compute(b, model, N, N);
	for (size_t i = 0; i < nb_pieces; i++) {
		float *got = compute(b, model, N, pieces[i]);

		expect(memcmp(got, want, bytes) == 0,
			"a window of %u, heads of %u: the same bits in pieces of %u", window,
			head_dim, pieces[i]);
		free(got);
	}
	for (int attention = 1; attention <= 2; attention++) {
		struct og_cuda_tuning t = {.attention = attention};
		float *got;

		og_cuda_forward_tune(b, &t);
		got = compute(b, model, N, N);
		expect(memcmp(got, want, bytes) == 0,
			"a window of %u, heads of %u: the same bits, attention %s", window,
			head_dim, attention == 1 ? "serial" : "split");
		free(got);
	}
	free(want);
	b->ops->destroy(b);
	og_model_close(model);
}

int main(int argc, char **argv)
{
	static const uint32_t windows[] = {70, 1, 256, 64, 300};
	struct og_rand r;

	og_rand_seeded(&r, 9);
	for (uint32_t i = 0; i < ROWS_MAX; i++)
		tokens[i] = og_rand_below(&r, 256);
	if (argc > 1 && strcmp(argv[1], "--small") == 0) {
		nb_windows = 3;
		nb_pieces = 1;
	} else if (argc > 1) {
		nb_windows = 1;
		nb_pieces = 0;
		nb_tokens = 12;
	}
	check_families();
	for (uint32_t i = 0; i < nb_windows; i++)
		check_window(windows[i], i % 2 ? 0 : 20, 32);
	check_window(70, 20, 256);
	if (nb_windows == 5)
		check_window(300, 0, 256);
	printf("%u passed, %u failed\n", nb_passed, nb_failed);
	return nb_failed > 0;
}
