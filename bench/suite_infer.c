/*
 * suite_infer.c: the forward pass alone, without tokenizer and sampling: a prompt of N tokens read in
 * steps of 128, and N steps of one token for each sequence of a batch, from empty caches on.
 *
 * Reference on the CPU: the tokens per second if each step took just the time in which as many
 * threads read, from memory, the weights that the step needs; so `ratio` is the share of the read
 * bandwidth that the weights stream at. Prefill computes 128 rows for one reading and is bound by
 * arithmetic, so its share is small. A model that fits the caches may stream faster than memory.
 * On a GPU no reference is measured here; tests/gpu/run.sh does that.
 */
#include "bench/bench.h"
#include "gpu/backend.h"
#include "gpu/cpu/pool.h"
#include "gpu/cuda/open.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	PREFILL_ROWS = 128,
	PREFILL_DEFAULT = 512,
	DECODE_DEFAULT = 64,
	SMOKE_TOKENS = 8,
	READ_BYTES = 512 * 1024 * 1024,
	READ_SMOKE_BYTES = 16 * 1024 * 1024,
	READ_PIECE_BYTES = 1024 * 1024,
	READ_LANES = 8,
};

struct infer {
	const struct bench *b;
	struct og_model *model;
	struct og_backend *backend;
	bool is_cuda;
	uint32_t threads, prefill, decode, batch;
	uint32_t table_pages;
	struct og_row *rows;
	uint32_t *tables;
	float *logits;
	double checksum;
};

/* ---- the reference ---- */

typedef uint64_t lanes __attribute__((vector_size(64)));

struct reader {
	struct og_pool *pool;
	uint8_t *data;
	size_t bytes;
	uint64_t sum; /* of all words, so that the reads are not optimised away */
};

static void read_piece(void *arg, uint32_t item)
{
	struct reader *r = arg;
	const lanes *at = (const void *)(r->data + (size_t)item * READ_PIECE_BYTES);
	lanes sum[4] = {0};
	uint64_t total = 0;

	for (size_t i = 0; i < READ_PIECE_BYTES / sizeof(lanes); i += 4)
		for (int k = 0; k < 4; k++)
			sum[k] += at[i + k];
	sum[0] += sum[1] + sum[2] + sum[3];
	for (int k = 0; k < READ_LANES; k++)
		total += sum[0][k];
	__atomic_fetch_add(&r->sum, total, __ATOMIC_RELAXED);
}

static int reader_init(struct reader *r, const struct infer *f)
{
	void *data;
	int ret;

	r->bytes = f->b->smoke ? READ_SMOKE_BYTES : READ_BYTES;
	data = mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED)
		return -ENOMEM;
	(void)madvise(data, r->bytes, MADV_HUGEPAGE);
	memset(data, 1, r->bytes);
	r->data = data;
	ret = og_pool_create(&r->pool, f->threads);
	if (ret < 0)
		munmap(data, r->bytes);
	return ret;
}

static void reader_fini(struct reader *r)
{
	if (!r->data)
		return;
	og_pool_destroy(r->pool);
	munmap(r->data, r->bytes);
}

/* Bytes per second. */
static double read_all(struct reader *r)
{
	uint64_t start = bench_now_ns();

	og_pool_run(r->pool, read_piece, r, (uint32_t)(r->bytes / READ_PIECE_BYTES));
	return (double)r->bytes * 1e9 / (double)(bench_now_ns() - start);
}

/* ---- ours ---- */

static uint64_t weight_bytes(const struct og_weight *w)
{
	return (uint64_t)w->row_bytes * w->n_out;
}

/* What a step reads, whatever its rows: of the embedding it needs only theirs. */
static uint64_t step_bytes(const struct og_model *m)
{
	uint64_t sum = weight_bytes(&m->output);

	for (uint32_t i = 0; i < m->hp.nb_layers; i++) {
		const struct og_layer *l = &m->layers[i];
		const struct og_weight *all[] = {
			&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};

		for (size_t k = 0; k < OG_ARRAY_LEN(all); k++)
			sum += weight_bytes(all[k]);
	}
	return sum;
}

static int step(struct infer *f, uint32_t nb_rows)
{
	struct og_batch batch = {f->rows, nb_rows, f->tables, f->table_pages, f->logits, NULL};
	int ret = og_backend_forward(f->backend, &batch);

	f->checksum += f->logits[0];
	return ret;
}

static uint32_t token(const struct infer *f, uint32_t i)
{
	return (i * 7919u + 13) % f->model->hp.vocab;
}

/* Tokens per second, or a negative errno. */
static double prefill(struct infer *f)
{
	uint64_t start = bench_now_ns();

	for (uint32_t at = 0; at < f->prefill;) {
		uint32_t n = OG_MIN(f->prefill - at, (uint32_t)PREFILL_ROWS);
		int ret;

		for (uint32_t i = 0; i < n; i++)
			f->rows[i] = (struct og_row){
				token(f, at + i), at + i, 0, at + i + 1 == f->prefill, NULL};
		ret = step(f, n);
		if (ret < 0)
			return ret;
		at += n;
	}
	return (double)f->prefill * 1e9 / (double)(bench_now_ns() - start);
}

static double decode(struct infer *f)
{
	uint64_t start = bench_now_ns();

	for (uint32_t at = 0; at < f->decode; at++) {
		int ret;

		for (uint32_t i = 0; i < f->batch; i++)
			f->rows[i] = (struct og_row){token(f, at + i), at, i, true, NULL};
		ret = step(f, f->batch);
		if (ret < 0)
			return ret;
	}
	return (double)f->decode * f->batch * 1e9 / (double)(bench_now_ns() - start);
}

/* `rows_per_step`: how many tokens one reading of the weights serves. */
static int run_case(struct infer *f, const char *name, double (*measure)(struct infer *),
	double rows_per_step, struct reader *reader)
{
	struct bench_samples ours = {0}, theirs = {0}, bandwidth = {0};
	char ref[96];

	if (!bench_wanted(f->b, name))
		return 0;
	for (uint32_t run = 0; run <= f->b->runs; run++) {
		double rate = measure(f), read = reader->data ? read_all(reader) : 0;

		if (rate < 0)
			return (int)rate;
		if (run == 0) /* to warm up */
			continue;
		bench_add(&ours, rate);
		bench_add(&bandwidth, read / 1e9);
		bench_add(&theirs, read / (double)step_bytes(f->model) * rows_per_step);
	}
	snprintf(ref, sizeof(ref), "weights at %.1f GB/s, read bandwidth of %u threads",
		bench_median(&bandwidth), f->threads);
	bench_report(f->b, &(struct bench_result){name, "tokens/s", BENCH_HIGHER, &ours,
				   reader->data ? ref : "", reader->data ? &theirs : NULL});
	return 0;
}

/* ---- the set-up ---- */

static uint32_t count_processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (uint32_t)CPU_COUNT(&set);
}

static uint32_t choose(uint32_t asked, uint32_t normal, const struct bench *b)
{
	return asked ? asked : b->smoke ? OG_MIN(normal, (uint32_t)SMOKE_TOKENS) : normal;
}

static int make_batch(struct infer *f, uint32_t *nb_pages)
{
	uint32_t rows = OG_MAX((uint32_t)PREFILL_ROWS, f->batch);
	uint32_t tokens = OG_MAX(f->prefill, f->decode);

	f->table_pages = (tokens + OG_KV_PAGE_TOKENS - 1) / OG_KV_PAGE_TOKENS;
	*nb_pages = f->table_pages * f->batch;
	f->rows = calloc(rows, sizeof(*f->rows));
	f->tables = calloc(*nb_pages, sizeof(*f->tables));
	f->logits = calloc((size_t)f->batch * f->model->hp.vocab, sizeof(*f->logits));
	for (uint32_t i = 0; f->tables && i < *nb_pages; i++)
		f->tables[i] = i;
	return f->rows && f->tables && f->logits ? 0 : -ENOMEM;
}

static int open_all(struct infer *f, char *err, size_t err_bytes)
{
	struct og_backend_opts opts = {.nb_threads = f->threads};
	int ret = og_model_open(&f->model, f->b->model, NULL, NULL, err, err_bytes);

	if (ret < 0)
		return ret;
	opts.model = f->model;
	opts.rows_max = OG_MAX((uint32_t)PREFILL_ROWS, f->batch);
	opts.context = OG_MAX(f->prefill, f->decode);
	snprintf(err, err_bytes, "no memory for %u sequences of %u tokens", f->batch, opts.context);
	ret = make_batch(f, &opts.nb_pages);
	if (ret < 0)
		return ret;
	if (f->is_cuda)
		return og_cuda_backend_create(&f->backend, &opts, 0, err, err_bytes);
	return og_cpu_backend_create(&f->backend, &opts, NULL);
}

static void close_all(struct infer *f)
{
	if (f->backend)
		f->backend->ops->destroy(f->backend);
	if (f->model)
		og_model_close(f->model);
	free(f->rows);
	free(f->tables);
	free(f->logits);
}

int suite_infer(const struct bench *b)
{
	struct infer f = {.b = b,
		.is_cuda = b->backend && strcmp(b->backend, "cuda") == 0,
		.threads = b->threads ? b->threads : count_processors(),
		.prefill = choose(b->prefill, PREFILL_DEFAULT, b),
		.decode = choose(b->decode, DECODE_DEFAULT, b),
		.batch = b->batch ? b->batch : 1};
	struct reader reader = {0};
	char err[256] = "";
	int ret, status = BENCH_DONE;

	if (f.is_cuda && !og_cuda_is_present()) {
		fprintf(stderr, "og-bench: no CUDA driver with a device on this machine\n");
		return BENCH_SKIPPED;
	}
	ret = open_all(&f, err, sizeof(err));
	if (ret == 0 && !f.is_cuda)
		ret = reader_init(&reader, &f);
	if (ret == 0) {
		bench_note("%s, %s, %.3g GB a step", b->model, f.backend->ops->name,
			(double)step_bytes(f.model) / 1e9);
		ret = run_case(
			&f, "prefill", prefill, OG_MIN(f.prefill, (uint32_t)PREFILL_ROWS), &reader);
	}
	if (ret == 0)
		ret = run_case(&f, "decode", decode, f.batch, &reader);
	if (ret < 0) {
		fprintf(stderr, "og-bench: %s\n", err[0] ? err : strerror(-ret));
		status = BENCH_FAILED;
	} else {
		bench_note("checksum %g %lx", f.checksum, (unsigned long)reader.sum);
	}
	reader_fini(&reader);
	close_all(&f);
	return status;
}
