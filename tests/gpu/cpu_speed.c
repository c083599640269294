/*
 * cpu_speed: the CPU back end on a stop-watch, for cpu_speed.mjs.
 *
 *   cpu_speed --make DTYPE FILE      writes a model of TinyLlama 1.1B's shape with random weights
 *   cpu_speed MODEL < requests       JSON lines:
 *
 * {"threads": n, "prefill": n}               -> {"seconds": s}   n tokens of one sequence
 * {"threads": n, "decode": n, "batch": b}    -> {"seconds": s}   n tokens of each of b sequences
 * {"threads": n, "bandwidth": true}          -> {"seconds": s, "bytes": n}  reading all weights once
 * {"peak": true}                             -> {"bytes": n}     most memory that was ever resident
 */
#include "../unit/gguf_writer.h"
#include "gpu/backend.h"
#include "gpu/cpu/pool.h"

#include <jansson.h>
#include <sys/resource.h>
#include <time.h>

enum { THREADS_MAX = 64, SLOTS = 16, CONTEXT = 1024, TABLE_PAGES = CONTEXT / OG_KV_PAGE_TOKENS };

struct cli {
	struct og_model *model;
	struct og_backend *backends[THREADS_MAX + 1]; /* of so many threads */
	uint32_t tables[SLOTS * TABLE_PAGES];
	float *logits;
};

/* ---- The model ---- */

/* Random values once, then repeated: what they are does not change how fast they are multiplied. */
static void write_weight(FILE *f, const struct og_gw_plan *p, struct og_rand *r)
{
	uint64_t bytes = og_gw_plan_bytes(p), left = bytes;
	struct og_gw_plan some = *p;
	struct og_gw w = {0};

	some.dims[1] = OG_MIN(p->dims[1], 61u); /* no multiple of anything */
	og_gw_weights(&w, &some, r);
	for (; left > 0; left -= OG_MIN(left, w.len))
		fwrite(w.data, 1, OG_MIN(left, w.len), f);
	while (bytes++ % 32 != 0)
		fputc(0, f);
	og_gw_fini(&w);
}

static int make(const char *dtype, const char *path)
{
	struct og_gw_model m = og_gw_small();
	struct og_gw_plan *plan;
	uint32_t nb_tensors;
	struct og_rand r;
	struct og_gw head;
	FILE *f = fopen(path, "wb");

	m.type = OG_F32;
	while (m.type < OG_DTYPES && strcmp(dtype, og_dtype_name(m.type)) != 0)
		m.type++;
	if (!f || m.type == OG_DTYPES) {
		fprintf(stderr, "cpu_speed: cannot make %s of type %s\n", path, dtype);
		return 1;
	}
	m.layers = 22;
	m.width = 2048;
	m.heads = 32;
	m.kv_heads = 4;
	m.head_dim = 64;
	m.ff = 5632;
	m.vocab = 32000;
	m.context = 2048;
	plan = og_gw_model_plan(&m, &nb_tensors);
	head = og_gw_model_head(&m, plan, nb_tensors);
	og_gw_pad(&head, 32);
	fwrite(head.data, 1, head.len, f);
	og_rand_seeded(&r, 1);
	for (uint32_t i = 0; i < nb_tensors; i++)
		write_weight(f, &plan[i], &r);
	og_gw_fini(&head);
	free(plan);
	return fclose(f) == 0 ? 0 : 1;
}

/* ---- The watch ---- */

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct og_backend *backend(struct cli *c, uint32_t threads)
{
	struct og_backend_opts opts = {.model = c->model,
		.nb_pages = SLOTS * TABLE_PAGES,
		.rows_max = CONTEXT,
		.nb_threads = threads,
		.context = CONTEXT};

	if (!c->backends[threads] && og_cpu_backend_create(&c->backends[threads], &opts, NULL) < 0)
		return NULL;
	return c->backends[threads];
}

/* Positions from … from + count - 1 of each of `batch` sequences; logits of the last. */
static int forward(
	struct cli *c, struct og_backend *b, uint32_t from, uint32_t count, uint32_t batch)
{
	struct og_row rows[CONTEXT];
	struct og_batch all = {rows, 0, c->tables, TABLE_PAGES, c->logits, NULL};

	for (uint32_t slot = 0; slot < batch; slot++)
		for (uint32_t i = 0; i < count; i++) {
			uint32_t token = (slot * 131 + (from + i) * 7919) % c->model->hp.vocab;

			rows[all.nb_rows++] =
				(struct og_row){token, from + i, slot, i == count - 1, NULL};
		}
	return og_backend_forward(b, &all);
}

static json_t *time_forward(
	struct cli *c, uint32_t threads, uint32_t prefill, uint32_t decode, uint32_t batch)
{
	struct og_backend *b = backend(c, threads);
	double start = now_s();
	int ret = b ? 0 : -1;

	if (ret == 0 && prefill > 0)
		ret = forward(c, b, 0, prefill, 1);
	for (uint32_t i = 0; i < decode && ret == 0; i++)
		ret = forward(c, b, i, 1, batch);
	return ret == 0 ? json_pack("{s:f}", "seconds", now_s() - start)
			: json_pack("{s:s}", "error", "the back end failed");
}

/* ---- Bandwidth ---- */

typedef uint64_t words __attribute__((vector_size(64)));

struct reader {
	const uint8_t *from;
	uint64_t bytes;
	uint64_t sum;
};

enum { READ_BYTES = 1024 * 1024 };

static void read_item(void *arg, uint32_t item)
{
	struct reader *r = arg;
	const uint8_t *p = r->from + (uint64_t)item * READ_BYTES;
	words sum[2] = {0}, got;

	for (uint32_t i = 0; i < READ_BYTES; i += 2 * sizeof(got))
		for (int s = 0; s < 2; s++) {
			__builtin_prefetch(p + i + s * sizeof(got) + 2048);
			memcpy(&got, p + i + s * sizeof(got), sizeof(got));
			sum[s] += got;
		}
	sum[0] += sum[1];
	__atomic_add_fetch(&r->sum, sum[0][0] ^ sum[0][7], __ATOMIC_RELAXED);
}

static json_t *time_reading(struct cli *c, uint32_t threads)
{
	const struct og_arena *a = &c->model->files[0].arena;
	struct reader r = {a->base, a->end - a->start, 0};
	struct og_pool *pool;
	double start, end;

	if (og_pool_create(&pool, threads) < 0)
		return json_pack("{s:s}", "error", "no threads");
	r.bytes -= r.bytes % READ_BYTES;
	start = now_s();
	og_pool_run(pool, read_item, &r, (uint32_t)(r.bytes / READ_BYTES));
	end = now_s();
	og_pool_destroy(pool);
	return json_pack("{s:f,s:I,s:b}", "seconds", end - start, "bytes", (json_int_t)r.bytes,
		"odd", (int)(r.sum & 1));
}

/* ---- Requests ---- */

static uint32_t number(const json_t *request, const char *key, uint32_t max)
{
	json_int_t v = json_integer_value(json_object_get(request, key));

	return (uint32_t)OG_MAX((json_int_t)0, OG_MIN(v, (json_int_t)max));
}

static json_t *serve(struct cli *c, const json_t *request)
{
	uint32_t threads = OG_MAX(number(request, "threads", THREADS_MAX), 1u);
	struct rusage use;

	if (json_is_true(json_object_get(request, "peak"))) {
		getrusage(RUSAGE_SELF, &use);
		return json_pack("{s:I}", "bytes", (json_int_t)use.ru_maxrss * 1024);
	}
	if (json_is_true(json_object_get(request, "bandwidth")))
		return time_reading(c, threads);
	return time_forward(c, threads, number(request, "prefill", CONTEXT),
		number(request, "decode", CONTEXT), OG_MAX(number(request, "batch", SLOTS), 1u));
}

static void serve_lines(struct cli *c)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&line, &cap, stdin)) > 0) {
		json_t *request = json_loadb(line, (size_t)n, 0, NULL);
		json_t *reply = serve(c, request);

		json_dumpf(reply, stdout, JSON_COMPACT);
		putchar('\n');
		fflush(stdout);
		json_decref(reply);
		json_decref(request);
	}
	free(line);
}

int main(int argc, char **argv)
{
	struct og_load_opts load = {.panel_threads = 2};
	static struct cli c;
	char err[512];

	if (argc == 4 && strcmp(argv[1], "--make") == 0)
		return make(argv[2], argv[3]);
	if (argc != 2) {
		fprintf(stderr, "usage: cpu_speed MODEL | --make DTYPE FILE\n");
		return 2;
	}
	if (og_model_open(&c.model, argv[1], &load, NULL, err, sizeof(err)) < 0) {
		fprintf(stderr, "cpu_speed: %s\n", err);
		return 1;
	}
	for (uint32_t i = 0; i < OG_ARRAY_LEN(c.tables); i++)
		c.tables[i] = i;
	c.logits = malloc(SLOTS * c.model->hp.vocab * sizeof(float));
	if (c.logits)
		serve_lines(&c);
	for (uint32_t i = 0; i <= THREADS_MAX; i++)
		if (c.backends[i])
			c.backends[i]->ops->destroy(c.backends[i]);
	free(c.logits);
	og_model_close(c.model);
	return 0;
}
