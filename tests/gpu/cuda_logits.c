/*
 * cuda_logits: logits of a model for given tokens, for comparison with other programs.
 *
 *   cuda_logits cuda|ref MODEL IDS OUT
 *
 * IDS: u32, OUT: f32 (tokens, vocabulary), both little endian without header. Exits 77 without a device.
 */
#include "gpu/cuda/forward.h"
#include "gpu/ref/forward.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_MAX = 1024 };

static char err[512];

static int compute(const struct og_model *m, const uint32_t *ids, uint32_t n, float *logits)
{
	enum { PAGES = TOKENS_MAX / OG_KV_PAGE_TOKENS };
	struct og_backend_opts opts = {
		.model = m, .nb_pages = PAGES, .rows_max = TOKENS_MAX, .context = n};
	struct og_row rows[TOKENS_MAX];
	uint32_t tables[PAGES];
	struct og_batch batch = {rows, n, tables, PAGES, logits, NULL};
	struct og_backend *b;
	int ret = og_cuda_forward_create(&b, &opts, 0, og_log_write, NULL, err, sizeof(err));

	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < PAGES; i++)
		tables[i] = PAGES - 1 - i;
	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct og_row){ids[i], i, 0, true, NULL};
	ret = og_backend_forward(b, &batch);
	b->ops->destroy(b);
	return ret;
}

int main(int argc, char **argv)
{
	uint32_t ids[TOKENS_MAX], n;
	struct og_model *m;
	float *logits;
	size_t count;
	FILE *f;
	int ret;

	if (argc != 5) {
		fprintf(stderr, "usage: cuda_logits cuda|ref MODEL IDS OUT\n");
		return 2;
	}
	f = fopen(argv[3], "rb");
	n = f ? (uint32_t)fread(ids, sizeof(*ids), TOKENS_MAX, f) : 0;
	if (f)
		fclose(f);
	if (n == 0 || og_model_open(&m, argv[2], NULL, NULL, err, sizeof(err)) < 0) {
		fprintf(stderr, "cuda_logits: %s\n", err[0] ? err : "no tokens");
		return 1;
	}
	count = (size_t)n * m->hp.vocab;
	logits = calloc(count, sizeof(*logits));
	ret = !logits                       ? -ENOMEM
	      : strcmp(argv[1], "ref") == 0 ? og_ref_forward(m, ids, n, logits)
					    : compute(m, ids, n, logits);
	f = ret == 0 ? fopen(argv[4], "wb") : NULL;
	if (f && (fwrite(logits, sizeof(*logits), count, f) != count || fclose(f) != 0))
		ret = -EIO;
	if (ret < 0)
		fprintf(stderr, "cuda_logits: %s\n", err[0] ? err : strerror(-ret));
	free(logits);
	og_model_close(m);
	return ret == -ENODEV ? 77 : ret < 0 || !f;
}
