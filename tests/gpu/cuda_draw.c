/*
 * cuda_draw: what a device draws is what the host draws, from rows of logits of every kind and with
 * parameters of every kind. Prints how many rows, and those that differ; exits 0, 1, or 77 without a
 * device.
 *
 *   cuda_draw [--small]    small: fewer and shorter rows, for where a device
 *                          is only played
 */
#include "base/rand.h"
#include "gpu/cuda/kernels.h"
#include "gpu/sampler.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB_MAX = 262144, ROWS = 32 };

static char err[512];
static struct og_cuda_device dev;
static float *logits;
static struct og_cuda_draw draws[ROWS];
static uint64_t *results;
static struct og_sampler_item *scratch;
static CUdeviceptr scratch_of_device;

static void must(int ret, const char *what)
{
	if (ret == 0)
		return;
	fprintf(stderr, "cuda_draw: %s: %s\n", what, strerror(-ret));
	exit(1);
}

static float uniform(struct og_rand *r)
{
	return (float)(og_rand_u32(r) >> 8) * 0x1p-24f;
}

/* Near a normal one. */
static float bell(struct og_rand *r)
{
	float sum = -6;

	for (int i = 0; i < 12; i++)
		sum += uniform(r);
	return sum;
}

/* What models say, and what none should. */
static void make_row(float *row, uint32_t n, struct og_rand *r)
{
	uint32_t kind = og_rand_below(r, 12), peak = og_rand_below(r, n);
	float width = 0.1f + 10 * uniform(r);

	for (uint32_t i = 0; i < n; i++) {
		row[i] = width * bell(r);
		switch (kind) {
		case 0: /* many of the same */
			row[i] = roundf(row[i]);
			break;
		case 1:
			row[i] = 3;
			break;
		case 2: /* some are barred, or no numbers */
			if (og_rand_below(r, 3) == 0)
				row[i] = og_rand_below(r, 2) ? -INFINITY : NAN;
			break;
		case 3: /* any bits at all */
			*(uint32_t *)(void *)&row[i] = og_rand_u32(r);
			break;
		case 4: /* zeros of both signs, and what is hardly more */
			row[i] = og_rand_below(r, 3) == 0 ? 1e-41f
				 : og_rand_below(r, 2)    ? 0.0f
							  : -0.0f;
			break;
		case 5:
			row[i] = NAN;
			break;
		case 6: /* all below zero */
			row[i] = -fabsf(row[i]) * 1e4f;
			break;
		default:
			break;
		}
	}
	if (kind >= 9)
		row[peak] = 12 * width;
	if (kind == 7 && og_rand_below(r, 2))
		row[peak] = INFINITY;
	if (kind == 8) /* few of any weight */
		for (uint32_t i = 0; i < n; i++)
			row[i] = i % 97 == peak % 97 ? row[i] : -1000;
}

static struct og_infer_params make_params(struct og_rand *r)
{
	static const float temperatures[] = {0, 1e-30f, 0.1f, 0.7f, 1, 2, 50};
	static const float shares[] = {0, 1e-6f, 0.1f, 0.5f, 0.9f, 0.95f, 0.99999994f};
	static const float least[] = {1e-9f, 0.001f, 0.05f, 0.5f, 1, 3};
	struct og_infer_params p;

	og_infer_params_default(&p);
	p.seed = og_rand_u64(r);
	p.temperature = temperatures[og_rand_below(r, OG_ARRAY_LEN(temperatures))];
	p.top_k = og_rand_below(r, 2) ? 1 + og_rand_below(r, 2u << og_rand_below(r, 12)) : 0;
	p.top_p = og_rand_below(r, 2) ? shares[og_rand_below(r, OG_ARRAY_LEN(shares))] : 1;
	p.min_p = og_rand_below(r, 3) ? 0 : least[og_rand_below(r, OG_ARRAY_LEN(least))];
	return p;
}

static uint32_t on_host(const struct og_draw *how, const float *row, uint32_t vocab)
{
	uint32_t id;

	return og_sampler_draw(&id, how, row, vocab, scratch) == 0 ? id : OG_CUDA_NO_TOKEN;
}

/* A batch of rows, each drawn from by so many blocks; 0: by shape. Returns how many differ. */
static uint32_t check_rows(
	uint32_t nb_rows, uint32_t nb_blocks, uint32_t vocab, uint32_t number, struct og_rand *r)
{
	struct og_cuda_drawing g = {.results = results,
		.scratch = scratch_of_device,
		.nb_rows = nb_rows,
		.vocab = vocab,
		.number = number,
		.nb_blocks = nb_blocks};
	uint32_t drawn[ROWS], nb_wrong = 0;
	size_t bytes = sizeof(float) * nb_rows * vocab;
	int ret;

	for (uint32_t i = 0; i < nb_rows; i++) {
		struct og_infer_params p = make_params(r);

		make_row(logits + (size_t)i * vocab, vocab, r);
		og_draw_init(&draws[i].how, &p, og_rand_u32(r));
		draws[i].slot = ROWS - 1 - i;
		draws[i].result = i * 7 % ROWS;
	}
	ret = og_cuda_alloc(&dev, &g.logits, bytes);
	if (ret == 0)
		ret = og_cuda_alloc(&dev, &g.draws, sizeof(draws));
	if (ret == 0)
		ret = og_cuda_alloc(&dev, &g.drawn, sizeof(drawn));
	must(ret, "memory");
	must(og_cuda_check(
		     &dev, dev.cu.cuMemcpyHtoDAsync(g.logits, logits, bytes, dev.stream), "logits"),
		"copy");
	must(og_cuda_check(&dev,
		     dev.cu.cuMemcpyHtoDAsync(g.draws, draws, sizeof(draws), dev.stream), "draws"),
		"copy");
	must(og_cuda_draw_tokens(&dev, &g), "draw");
	must(og_cuda_check(&dev,
		     dev.cu.cuMemcpyDtoHAsync(drawn, g.drawn, sizeof(drawn), dev.stream), "drawn"),
		"copy");
	must(og_cuda_wait(&dev, dev.stream), "wait");
	for (uint32_t i = 0; i < nb_rows; i++) {
		const struct og_draw *how = &draws[i].how;
		uint32_t want = on_host(how, logits + (size_t)i * vocab, vocab);
		uint64_t word = results[draws[i].result];
		uint32_t kept = drawn[draws[i].slot];

		if (word == ((uint64_t)number << 32 | want) &&
			kept == (want == OG_CUDA_NO_TOKEN ? 0 : want))
			continue;
		nb_wrong++;
		printf("FAIL: of %u, blocks %u, scale %g, top_k %u, top_p %u, min %llu: %u, not "
		       "%u\n",
			vocab, nb_blocks, (double)how->scale, how->top_k, how->top_p,
			(unsigned long long)how->weight_min, (uint32_t)word, want);
	}
	og_cuda_free(&dev, g.logits);
	og_cuda_free(&dev, g.draws);
	og_cuda_free(&dev, g.drawn);
	return nb_wrong;
}

/* Several blocks to a row, where there are processors enough; the later meet where the others did. */
static uint32_t check_blocks(uint32_t vocab, uint32_t *number, struct og_rand *r, uint32_t *nb_rows)
{
	static const struct {
		uint32_t rows, blocks;
	} shapes[] = {{1, 8}, {2, 4}, {3, 2}, {1, 5}, {4, 32}, {2, 31}, {1, 1}};
	uint32_t nb_wrong = 0;

	for (size_t i = 0; i < OG_ARRAY_LEN(shapes); i++) {
		if (shapes[i].rows * shapes[i].blocks > (uint32_t)dev.nb_processors)
			continue;
		nb_wrong += check_rows(shapes[i].rows, shapes[i].blocks, vocab, ++*number, r);
		*nb_rows += shapes[i].rows;
	}
	return nb_wrong;
}

int main(int argc, char **argv)
{
	bool is_small = argc > 1 && strcmp(argv[1], "--small") == 0;
	static const uint32_t vocabs[] = {1, 2, 17, 512, 513, 1000, 4099, 32000, 128256, VOCAB_MAX};
	size_t scratch_bytes = sizeof(struct og_cuda_draw_scratch) * ROWS;
	uint32_t nb_rows = 0, nb_wrong = 0, number = 0;
	struct og_rand r;
	int ret = og_cuda_device_open(&dev, 0, og_log_write, err, sizeof(err));

	if (ret == -ENODEV) {
		printf("skipped: %s\n", err);
		return 77;
	}
	must(ret, err);
	logits = malloc(sizeof(*logits) * ROWS * VOCAB_MAX);
	scratch = malloc(sizeof(*scratch) * VOCAB_MAX);
	if (!logits || !scratch)
		must(-ENOMEM, "start");
	must(og_cuda_alloc(&dev, &scratch_of_device, scratch_bytes), "memory");
	must(og_cuda_check(&dev,
		     dev.cu.cuMemsetD8Async(scratch_of_device, 0, scratch_bytes, dev.stream),
		     "zeros"),
		"memory");
	must(og_cuda_alloc_host(&dev, &results, sizeof(*results) * ROWS), "memory");
	og_rand_seeded(&r, 11);
	for (size_t v = 0; v < OG_ARRAY_LEN(vocabs); v++) {
		uint32_t rounds = vocabs[v] <= 1000 ? 20 : 4;

		if (is_small && vocabs[v] > 4099)
			break;
		if (is_small)
			rounds = OG_MIN(rounds, 3);
		for (uint32_t i = 0; i < rounds; i++) {
			nb_wrong += check_rows(ROWS, 0, vocabs[v], ++number, &r);
			nb_rows += ROWS;
			nb_wrong += check_blocks(vocabs[v], &number, &r, &nb_rows);
		}
	}
	og_cuda_free(&dev, scratch_of_device);
	og_cuda_free_host(&dev, results);
	og_cuda_device_close(&dev);
	free(logits);
	free(scratch);
	printf("%u rows: %u differ\n", nb_rows, nb_wrong);
	return nb_wrong == 0 ? 0 : 1;
}
