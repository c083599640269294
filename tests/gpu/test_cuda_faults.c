#include "engine_run.h"
#include "gpu/cuda/forward.h"
#include "tests/gpu/fake/cublaslt.h"
#include "tests/gpu/fake/libcuda.h"

#include <dlfcn.h>
#include <pthread.h>

/*
 * The engine on a device that fails: at every single driver call, in the ways that drivers fail.
 * Every request ends, nothing hangs, and what follows is refused with a reason.
 */

enum { REQUESTS = 3, CALLS_MAX = 20000 };

static struct fake_cuda *driver(void)
{
	static struct fake_cuda *(*get)(void);
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	cr_assert(library, "%s", dlerror());
	*(void **)&get = dlsym(library, "fake_cuda");
	cr_assert(get, "a real driver is in the way of the one that plays it");
	return get();
}

static bool by_conveyor;

static int try_start(struct og_engine **e, uint64_t kv_memory_bytes)
{
	struct og_gw_model m = og_gw_small();
	struct og_gw w = og_gw_model_file(&m);
	struct og_engine_opts opts = {.backend = OG_BACKEND_CUDA,
		.max_batch = 2,
		.kv_memory_bytes = kv_memory_bytes,
		.conveyor = by_conveyor,
		.threads = 1};
	char path[64];
	int ret;

	og_gw_save(&w, path);
	og_gw_fini(&w);
	opts.path = path;
	err[0] = '\0';
	ret = og_engine_create(e, &opts, err, sizeof(err));
	unlink(path);
	memset(outcomes, 0, sizeof(outcomes));
	return ret;
}

static void ask_all(struct og_engine *e)
{
	for (uint64_t i = 0; i < REQUESTS; i++)
		cr_assert_eq(
			ask(e, i, (struct ask){.text = "hello", .max_tokens = 3, .raw = true}), 0);
}

/* Returns how many ended in an error. */
static uint32_t count_ends(void)
{
	uint32_t errors = 0;

	for (uint32_t i = 0; i < REQUESTS; i++) {
		cr_assert_eq(outcomes[i].dones + outcomes[i].errors, 1, "request %u", i);
		errors += outcomes[i].errors;
	}
	return errors;
}

/* One life of an engine. Returns false where it did not start. */
static bool live(struct fake_cuda *d, uint64_t fail_at, int result, bool sticky)
{
	struct og_engine *e;
	uint32_t errors;
	int ret;

	d->nb_calls = 0;
	d->nb_live = 0;
	d->fail_at = fail_at;
	d->result = result;
	d->sticky = sticky;
	ret = try_start(&e, 0);
	if (ret < 0) {
		cr_expect_gt(strlen(err), 0);
		cr_expect_eq(d->nb_live, 0, "call %lu", (unsigned long)fail_at);
		return false;
	}
	ask_all(e);
	run(e);
	errors = count_ends();
	if (errors > 0) {
		cr_expect_eq(og_engine_stats(e)->lost, 1);
		cr_expect_eq(errors, og_engine_stats(e)->failed_total);
		cr_expect_eq(ask(e, 9, (struct ask){.text = "x", .max_tokens = 1, .raw = true}),
			-ENODEV);
		cr_expect_gt(strlen(og_engine_refusal(e)), 0);
		cr_expect_eq(og_engine_stats(e)->kv_tokens_used, 0);
	}
	og_engine_destroy(e);
	cr_expect_eq(d->nb_live, 0, "call %lu", (unsigned long)fail_at);
	return true;
}

static void fail_at_each_call(int result, bool sticky)
{
	struct fake_cuda *d = driver();
	uint64_t nb_calls, starts = 0;

	cr_assert(live(d, 0, 0, false));
	nb_calls = d->nb_calls;
	cr_assert_lt(nb_calls, CALLS_MAX);
	for (uint64_t i = 1; i <= nb_calls; i++)
		starts += live(d, i, result, sticky);
	/* Both kinds of failure were met: while it starts, and while it runs. */
	cr_expect_gt(starts, 50);
	cr_expect_lt(starts, nb_calls - 50);
}

Test(cuda_faults, out_of_memory_at_any_call)
{
	fail_at_each_call(2, false);
}

Test(cuda_faults, out_of_memory_at_any_call_by_conveyor)
{
	by_conveyor = true;
	fail_at_each_call(2, false);
}

Test(cuda_faults, no_device_from_any_call_on)
{
	fail_at_each_call(100, true);
}

Test(cuda_faults, launch_failed_from_any_call_on)
{
	fail_at_each_call(719, true);
}

Test(cuda_faults, without_a_device_cuda_is_refused_and_auto_takes_the_cpu)
{
	struct fake_cuda *d = driver();
	struct og_gw_model m = og_gw_small();
	struct og_gw w = og_gw_model_file(&m);
	struct og_engine_opts opts = {.threads = 1};
	struct og_engine *e;
	char path[64];

	d->no_device = true;
	cr_expect_eq(try_start(&e, 0), -ENODEV);
	cr_expect_gt(strlen(err), 0);
	og_gw_save(&w, path);
	opts.path = path;
	cr_assert_eq(og_engine_create(&e, &opts, err, sizeof(err)), 0, "%s", err);
	cr_expect_str_eq(og_engine_backend_name(e), "cpu");
	og_engine_destroy(e);
	d->no_device = false;
	cr_assert_eq(og_engine_create(&e, &opts, err, sizeof(err)), 0, "%s", err);
	cr_expect_str_eq(og_engine_backend_name(e), "cuda");
	og_engine_destroy(e);
	unlink(path);
	og_gw_fini(&w);
}

Test(cuda_faults, a_cache_larger_than_the_device_is_refused_with_both_sizes)
{
	struct fake_cuda *d = driver();
	struct og_engine *e;

	cr_expect_eq(try_start(&e, 2ull << 30), -ENOMEM);
	cr_expect(strstr(err, "1.1 GB free"), "%s", err);
	cr_expect_eq(d->nb_live, 0);
}

static void *run_to_the_end(void *arg)
{
	struct og_engine *e = arg;

	while (og_engine_step(e))
		collect(e);
	collect(e);
	return NULL;
}

/* As in a node: one thread loads, another computes. */
Test(cuda_faults, another_thread_than_the_one_that_loaded_may_compute)
{
	struct og_engine *e;
	pthread_t thread;

	driver();
	cr_assert_eq(try_start(&e, 0), 0, "%s", err);
	ask_all(e);
	cr_assert_eq(pthread_create(&thread, NULL, run_to_the_end, e), 0);
	pthread_join(thread, NULL);
	cr_expect_eq(count_ends(), 0);
	og_engine_destroy(e);
}

static struct og_backend *start_backend(struct og_model **m, const struct og_cuda_tuning *tuning)
{
	struct og_gw_model opts = og_gw_small();
	struct og_gw w = og_gw_model_file(&opts);
	struct og_backend *b;
	char path[64];

	og_gw_save(&w, path);
	cr_assert_eq(og_model_open_background(m, path, NULL, NULL, err, sizeof(err)), 0, "%s", err);
	unlink(path);
	og_gw_fini(&w);
	cr_assert_eq(og_cuda_forward_create(&b,
			     &(struct og_backend_opts){.model = *m, .nb_pages = 4, .rows_max = 8},
			     0, NULL, tuning, err, sizeof(err)),
		0, "%s", err);
	return b;
}

/* Work that never ends is given up; nothing is freed then, for that could block. */
Test(cuda_faults, work_that_never_ends_is_given_up)
{
	struct fake_cuda *d = driver();
	struct og_cuda_tuning tuning = {.wait_ms = 20};
	struct og_row row = {1, 0, 0, true, NULL};
	uint32_t table[1] = {0};
	struct og_batch batch = {&row, 1, table, 1, NULL, NULL};
	struct og_model *m;
	struct og_backend *b = start_backend(&m, &tuning);

	batch.logits = calloc(m->hp.vocab, sizeof(float));
	cr_expect_eq(og_backend_forward(b, &batch), 0);
	d->hangs = true;
	cr_expect_eq(og_backend_forward(b, &batch), -ETIMEDOUT);
	cr_expect(b->is_lost);
	cr_expect_eq(og_backend_forward(b, &batch), -EIO);
	cr_expect_eq(b->ops->save_page(b, 0, batch.logits), -EIO);
	b->ops->destroy(b);
	cr_expect_gt(d->nb_live, 0);
	free(batch.logits);
	og_model_close(m);
}

/* Two steps are begun without a wait; the first that is waited for says that the device is gone. */
Test(cuda_faults, steps_in_flight_that_never_end_are_given_up)
{
	struct fake_cuda *d = driver();
	struct og_cuda_tuning tuning = {.wait_ms = 20};
	struct og_draw draw = {.top_k = OG_DRAW_ALL, .top_p = OG_DRAW_ALL};
	struct og_row row = {1, 0, 7, false, &draw};
	uint32_t tables[9] = {0}, token = 99;
	struct og_batch batch = {&row, 1, tables, 1, NULL, &token};
	struct og_model *m;
	struct og_backend *b = start_backend(&m, &tuning);

	cr_expect_eq(b->ops->collect(b), -EINVAL);
	row.slot = 8; /* beyond rows_max */
	cr_expect_eq(b->ops->submit(b, &batch), -ERANGE);
	row.slot = 7;
	cr_expect_eq(og_backend_forward(b, &batch), 0);
	cr_expect_eq(token, 0); /* what kernels that compute nothing draw */
	cr_expect_eq(b->host_bytes_total, sizeof(uint64_t));
	d->hangs = true;
	cr_expect_eq(b->ops->submit(b, &batch), 0);
	row.token = OG_TOKEN_DRAWN;
	row.pos = 1;
	cr_expect_eq(b->ops->submit(b, &batch), 0);
	cr_expect_eq(b->ops->submit(b, &batch), -EBUSY);
	cr_expect_not(b->is_lost);
	cr_expect_eq(b->ops->collect(b), -ETIMEDOUT);
	cr_expect(b->is_lost);
	cr_expect_eq(b->ops->collect(b), -EIO);
	b->ops->destroy(b);
	og_model_close(m);
}

/* Requests with two steps in flight end with an error each, and the engine is lost. */
Test(cuda_faults, a_device_that_hangs_ends_the_requests_in_flight)
{
	struct fake_cuda *d = driver();
	struct og_engine *e;

	cr_assert_eq(try_start(&e, 0), 0, "%s", err);
	ask_all(e);
	og_engine_step(e);
	og_engine_step(e);
	cr_expect_gt(og_engine_stats(e)->steps_ahead_total, 0);
	d->fail_at = d->nb_calls + 1; /* the wait, or what begins the next step */
	d->result = 719;
	d->sticky = true;
	run(e);
	cr_expect_gt(count_ends(), 0);
	cr_expect_eq(og_engine_stats(e)->lost, 1);
	cr_expect_eq(og_engine_stats(e)->kv_tokens_used, 0);
	og_engine_destroy(e);
}

/* Whoever asks for steps as one launch gets plain ones where the device has none. */
Test(cuda_faults, a_device_that_cannot_convey_decodes_the_plain_way)
{
	struct fake_cuda *d = driver();
	struct og_cuda_tuning tuning = {.decode = 2};
	struct og_row row = {1, 0, 0, true, NULL};
	uint32_t table[1] = {0};
	struct og_batch batch = {&row, 1, table, 1, NULL, NULL};

	for (int i = 0; i < 2; i++) {
		struct og_model *m;
		struct og_backend *b;

		d->no_cooperation = i == 1;
		b = start_backend(&m, &tuning);
		batch.logits = calloc(m->hp.vocab, sizeof(float));
		cr_expect_eq(og_backend_forward(b, &batch), 0);
		cr_expect_eq(og_cuda_forward_conveyor_steps(b), d->no_cooperation ? 0 : 1);
		b->ops->destroy(b);
		cr_expect_eq(d->nb_live, 0);
		free(batch.logits);
		og_model_close(m);
	}
}

/* ---- cuBLASLt, which fails too. ---- */

static char warning[256];

static void keep_warning(enum og_log_level level, const char *module, const char *fmt, ...)
{
	va_list args;

	if (level != OG_LOG_WARN)
		return;
	va_start(args, fmt);
	vsnprintf(warning, sizeof(warning), fmt, args);
	va_end(args);
}

static struct fake_cublaslt *library(void)
{
	static struct fake_cublaslt *(*get)(void);
	void *found = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);

	cr_assert(found, "%s", dlerror());
	*(void **)&get = dlsym(found, "fake_cublaslt");
	cr_assert(get, "a real cuBLASLt is in the way of the one that plays it");
	return get();
}

/* A prompt of two rows, with that library; what the step returned. */
static int ask_library(bool expected)
{
	struct og_gw_model opts = og_gw_small();
	struct og_gw w = og_gw_model_file(&opts);
	struct og_row rows[] = {{1, 0, 0, false, NULL}, {2, 1, 0, false, NULL}};
	uint32_t table[1] = {0};
	struct og_batch batch = {rows, 2, table, 1, NULL, NULL};
	struct og_backend_opts of = {.nb_pages = 4, .rows_max = 8, .cublaslt = true};
	struct og_backend *b;
	struct og_model *m;
	char path[64];
	int ret;

	warning[0] = '\0';
	og_gw_save(&w, path);
	cr_assert_eq(og_model_open(&m, path, NULL, NULL, err, sizeof(err)), 0, "%s", err);
	unlink(path);
	og_gw_fini(&w);
	of.model = m;
	cr_assert_eq(og_cuda_forward_create(&b, &of, 0, keep_warning, NULL, err, sizeof(err)), 0,
		"%s", err);
	cr_expect_eq(og_cuda_forward_has_cublaslt(b), expected);
	cr_expect_eq(warning[0] == '\0', expected, "%s", warning);
	ret = og_backend_forward(b, &batch);
	cr_expect_eq(b->is_lost, ret < 0);
	if (ret < 0)
		cr_expect_eq(og_backend_forward(b, &batch), -EIO);
	b->ops->destroy(b);
	og_model_close(m);
	return ret;
}

Test(cuda_faults, a_library_that_does_not_start_leaves_products_to_our_kernels)
{
	struct fake_cuda *d = driver();
	struct fake_cublaslt *lt = library();

	lt->no_start = true;
	cr_expect_eq(ask_library(false), 0);
	cr_expect(strstr(warning, "does not start"), "%s", warning);
	lt->no_start = false;
	lt->no_algorithm = true;
	cr_expect_eq(ask_library(false), 0);
	cr_expect(strstr(warning, "has no algorithm"), "%s", warning);
	lt->no_algorithm = false;
	d->memory_bytes = 24 << 20; /* enough for the model, but not to work in */
	cr_expect_eq(ask_library(false), 0);
	cr_expect(strstr(warning, "no device memory"), "%s", warning);
	cr_expect_eq(lt->nb_products, 0);
	cr_expect_eq(lt->nb_live, 0);
	cr_expect_eq(d->nb_live, 0);
}

/* Four products of a layer, of two. */
Test(cuda_faults, a_product_of_the_library_that_fails_loses_the_device)
{
	struct fake_cuda *d = driver();
	struct fake_cublaslt *lt = library();

	cr_expect_eq(ask_library(true), 0);
	cr_expect_eq(lt->nb_products, 8);
	lt->fails = true;
	cr_expect_eq(ask_library(true), -EIO);
	cr_expect_eq(lt->nb_products, 9);
	cr_expect_eq(lt->nb_live, 0);
	cr_expect_eq(d->nb_live, 0);
}

/* Run where none is, or one without a device: it is one sentence. */
Test(cuda_faults_alone, without_the_library_our_kernels_multiply)
{
	driver();
	cr_expect_eq(ask_library(false), 0);
	cr_expect(strstr(warning, "matmul = cublaslt: "), "%s", warning);
}
