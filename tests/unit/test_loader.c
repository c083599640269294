#include "base/rand.h"
#include "gpu/loader.h"
#include "refuse.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES = 3 * 1024 * 1024 + 777 };

static char path[64];
static char err[256];
static uint8_t *content;

/* In the temporary folder, or, where that refuses O_DIRECT, in the one of the build. */
static FILE *create_file(void)
{
	int fd, direct;

	snprintf(path, sizeof(path), "/tmp/og_test_loader_XXXXXX");
	fd = mkstemp(path);
	direct = open(path, O_RDONLY | O_DIRECT);
	if (direct >= 0) {
		close(direct);
	} else {
		close(fd);
		unlink(path);
		snprintf(path, sizeof(path), "og_test_loader_XXXXXX");
		fd = mkstemp(path);
	}
	return fdopen(fd, "wb");
}

static void make_file(void)
{
	struct og_rand r;
	FILE *f = create_file();

	content = malloc(FILE_BYTES);
	og_rand_seeded(&r, 3);
	og_rand_fill(&r, content, FILE_BYTES);
	cr_assert_eq(fwrite(content, 1, FILE_BYTES, f), FILE_BYTES);
	fclose(f);
}

static void remove_file(void)
{
	unlink(path);
	free(content);
}

TestSuite(loader, .init = make_file, .fini = remove_file);

/* The whole of an arena as one piece. */
static int load(const struct og_arena *a, const struct og_file *f, const struct og_load_opts *opts,
	struct og_load_progress *progress)
{
	struct og_load_source source = {path, *f, *a};
	struct og_load_piece piece = {0, 0, a->start, a->end};
	struct og_load_plan plan = {&source, 1, &piece, 1, 1, NULL, NULL};

	return og_load_run(&plan, opts, progress, err, sizeof(err));
}

static void expect_range(uint64_t from, uint64_t to, const struct og_load_opts *opts)
{
	struct og_load_progress progress;
	struct og_arena a;
	struct og_file f;

	cr_assert_eq(og_file_open(&f, path, err, sizeof(err)), 0, "%s", err);
	cr_expect_eq(f.size_bytes, FILE_BYTES);
	cr_assert_eq(og_arena_init(&a, from, to), 0);
	cr_assert_eq(load(&a, &f, opts, &progress), 0, "%s", err);
	cr_expect_arr_eq(og_arena_at(&a, from), content + from, to - from);
	cr_expect_eq((uintptr_t)og_arena_at(&a, from) % 4096, from % 4096);
	cr_expect_eq(progress.bytes_done, progress.bytes_total);
	cr_expect_geq(progress.bytes_done, to - from);
	og_arena_fini(&a);
	og_file_close(&f);
}

Test(loader, reads_any_range_the_same_in_every_mode)
{
	static const struct og_load_opts modes[] = {
		{0},
		{.chunk_bytes = 64 * 1024},
		{.chunk_bytes = 4096},
		{.no_direct = true, .chunk_bytes = 64 * 1024},
		{.no_uring = true, .chunk_bytes = 64 * 1024},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(modes); i++) {
		expect_range(0, FILE_BYTES, &modes[i]);
		expect_range(4095, FILE_BYTES - 1, &modes[i]);
		expect_range(4096, 8192, &modes[i]);
		expect_range(1000001, 1000002, &modes[i]);
		expect_range(5000, 5000, &modes[i]);
	}
	expect_range(0, FILE_BYTES, NULL);
}

static void expect_shrunk(const struct og_load_opts *opts)
{
	struct og_arena a;
	struct og_file f;

	cr_assert_eq(og_file_open(&f, path, err, sizeof(err)), 0, "%s", err);
	cr_assert_eq(og_arena_init(&a, 0, FILE_BYTES), 0);
	cr_assert_eq(truncate(path, FILE_BYTES / 2), 0);
	cr_expect_eq(load(&a, &f, opts, NULL), -EIO);
	cr_expect(strstr(err, "shorter") != NULL, "%s", err);
	cr_assert_eq(truncate(path, FILE_BYTES), 0);
	og_arena_fini(&a);
	og_file_close(&f);
}

Test(loader, reports_a_file_that_shrinks_while_it_is_read)
{
	expect_shrunk(&(struct og_load_opts){.chunk_bytes = 64 * 1024});
	expect_shrunk(&(struct og_load_opts){.no_direct = true});
	expect_shrunk(&(struct og_load_opts){.no_uring = true});
}

Test(loader, reports_an_error_of_the_disk)
{
	struct og_arena a;
	struct og_file f;

	/* The first page of a process is never mapped: reading it fails with EIO. */
	cr_assert_eq(og_file_open(&f, "/proc/self/mem", err, sizeof(err)), 0, "%s", err);
	cr_assert_eq(og_arena_init(&a, 0, 100000), 0);
	cr_expect_eq(load(&a, &f, NULL, NULL), -EIO);
	cr_expect(strstr(err, "I/O error") != NULL, "%s", err);
	og_arena_fini(&a);
	og_file_close(&f);
}

Test(loader, refuses_what_is_no_regular_file)
{
	struct og_file f;
	char pipe_path[80];

	snprintf(pipe_path, sizeof(pipe_path), "%s.pipe", path);
	cr_assert_eq(mkfifo(pipe_path, 0600), 0);
	cr_expect_eq(og_file_open(&f, pipe_path, err, sizeof(err)), -EINVAL);
	cr_expect_eq(og_file_open(&f, "/", err, sizeof(err)), -EINVAL);
	cr_expect_eq(og_file_open(&f, "/nonexistent/model.gguf", err, sizeof(err)), -ENOENT);
	cr_expect(strstr(err, "/nonexistent/model.gguf") != NULL);
	unlink(pipe_path);
}

Test(loader, refuses_more_than_the_machine_has)
{
	struct og_arena a;

	cr_expect_eq(og_arena_init(&a, 0, 1ull << 60), -ENOMEM);
}

/* ---- Plans ---- */

enum { CHUNK_BYTES = 64 * 1024 };

struct seen {
	struct og_arena arena;
	uint32_t ready[16]; /* what was reported, in order */
	uint32_t nb_ready;
	uint64_t delivered_bytes;
	uint32_t nb_delivered;
	int fail_at; /* deliver fails at this chunk */
	long refuse; /* system call that fails once a stage is ready, or 0 */
	bool stop;
};

static int note_ready(void *arg, uint32_t ready)
{
	struct seen *s = arg;

	s->ready[s->nb_ready++ % 16] = ready;
	if (s->nb_ready == 1 && s->refuse)
		return og_refuse(s->refuse, EPERM) ? 0 : -ENOSYS;
	return 0;
}

/* Three stages: the last part of the file first, then the middle; between them lies what nobody wants. */
static const struct og_load_piece pieces[] = {
	{0, 1, 1000000, 1500000},
	{0, 0, 2500000, FILE_BYTES},
	{0, 2, 10, 300000},
	{0, 1, 5000, 5000},
};

static int run_plan(struct seen *s, struct og_load_opts *opts, struct og_load_progress *progress)
{
	struct og_load_source source = {.path = path};
	struct og_load_plan plan = {&source, 1, pieces, OG_ARRAY_LEN(pieces), 3, note_ready, s};
	int ret;

	if (!opts->chunk_bytes)
		opts->chunk_bytes = CHUNK_BYTES;
	if (!opts->arg)
		opts->arg = s;
	cr_assert_eq(og_file_open(&source.file, path, err, sizeof(err)), 0);
	cr_assert_eq(og_arena_init(&source.arena, 0, FILE_BYTES), 0);
	s->arena = source.arena;
	ret = og_load_run(&plan, opts, progress, err, sizeof(err));
	og_file_close(&source.file);
	return ret;
}

Test(loader, reports_stages_in_order_and_reads_only_what_is_wanted)
{
	static const struct og_load_opts modes[] = {{0}, {.no_direct = true}, {.no_uring = true}};

	for (size_t i = 0; i < OG_ARRAY_LEN(modes); i++) {
		struct og_load_opts opts = modes[i];
		struct og_load_progress progress;
		struct seen s = {0};

		cr_assert_eq(run_plan(&s, &opts, &progress), 0, "%s", err);
		for (uint32_t r = 1; r < s.nb_ready; r++)
			cr_expect_gt(s.ready[r], s.ready[r - 1]);
		cr_expect_eq(s.ready[s.nb_ready - 1], 3);
		cr_expect_eq(progress.stages_ready, 3);
		cr_expect_eq(progress.bytes_done, progress.bytes_total);
		cr_expect_lt(progress.bytes_total, 2000000);
		cr_expect_geq(progress.end_ns, progress.start_ns);
		for (size_t p = 0; p < OG_ARRAY_LEN(pieces); p++)
			cr_expect_arr_eq(og_arena_at(&s.arena, pieces[p].from),
				content + pieces[p].from, pieces[p].to - pieces[p].from);
		/* Nothing was read between them: pages that never were written are zero. */
		cr_expect_arr_eq(og_arena_at(&s.arena, 2000000), ((uint8_t[4096]){0}), 4096);
		og_arena_fini(&s.arena);
	}
}

static int note_chunk(
	void *arg, uint32_t source, uint64_t offset, const uint8_t *data, uint32_t len_bytes)
{
	struct seen *s = arg;

	cr_assert_eq(source, 0);
	cr_assert_eq(memcmp(data, content + offset, len_bytes), 0);
	s->delivered_bytes += len_bytes;
	if (++s->nb_delivered == (uint32_t)s->fail_at)
		return -ENODEV;
	if (s->nb_delivered == 3 && s->fail_at < 0)
		__atomic_store_n(&s->stop, true, __ATOMIC_RELAXED);
	return 0;
}

Test(loader, delivers_every_chunk_once)
{
	struct og_load_opts opts = {.deliver = note_chunk};
	struct og_load_progress progress;
	struct seen s = {0};

	cr_assert_eq(run_plan(&s, &opts, &progress), 0, "%s", err);
	cr_expect_eq(s.delivered_bytes, progress.bytes_total);
	cr_expect_eq(s.ready[s.nb_ready - 1], 3);
	/* The arena stayed empty. */
	cr_expect_arr_eq(og_arena_at(&s.arena, 1000000), ((uint8_t[4096]){0}), 4096);
	og_arena_fini(&s.arena);
}

Test(loader, delivers_without_the_right_to_lock_memory)
{
	struct og_load_opts opts = {.deliver = note_chunk};
	struct rlimit none = {0, 0};
	struct og_load_progress progress;
	struct seen s = {0};
	bool is_root = geteuid() == 0;

	cr_assert_eq(chmod(path, 0644), 0);
	cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	if (is_root)
		cr_assert_eq(setresuid(65534, 65534, 0), 0);
	cr_assert_eq(run_plan(&s, &opts, &progress), 0, "%s", err);
	if (is_root)
		cr_assert_eq(setresuid(0, 0, 0), 0); /* the file is to be removed */
	cr_expect_eq(s.delivered_bytes, progress.bytes_total);
	og_arena_fini(&s.arena);
}

static const long ring_calls[] = {
	SYS_io_uring_setup,
	SYS_io_uring_register, /* only the registration fails, or all use of what is registered */
	SYS_io_uring_enter,
};

struct refused {
	struct seen seen;
	struct og_load_opts opts;
	struct og_load_progress progress;
	long call;
	bool is_refused; /* before the load; else amid it */
	int ret;
};

/* A filter is for good: it gets a thread of its own. */
static void *run_refused(void *arg)
{
	struct refused *r = arg;

	r->seen.refuse = r->is_refused ? 0 : r->call;
	r->ret = r->is_refused && !og_refuse(r->call, EPERM) ? -ENOSYS : 0;
	if (r->ret == 0)
		r->ret = run_plan(&r->seen, &r->opts, &r->progress);
	return NULL;
}

static void expect_all(struct refused *r)
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, run_refused, r), 0);
	pthread_join(thread, NULL);
	cr_assert_eq(r->ret, 0, "system call %ld: %s", r->call, err);
	cr_expect_eq(r->progress.stages_ready, 3);
	cr_expect_eq(r->progress.bytes_done, r->progress.bytes_total);
	for (size_t p = 0; p < OG_ARRAY_LEN(pieces); p++)
		cr_expect_arr_eq(og_arena_at(&r->seen.arena, pieces[p].from),
			content + pieces[p].from, pieces[p].to - pieces[p].from);
	og_arena_fini(&r->seen.arena);
}

/* Chunks may come twice, with the same bytes. */
static int put_chunk(
	void *arg, uint32_t source, uint64_t offset, const uint8_t *data, uint32_t len_bytes)
{
	struct seen *s = arg;

	(void)source;
	memcpy((uint8_t *)og_arena_at(&s->arena, offset), data, len_bytes);
	return memcmp(data, content + offset, len_bytes) == 0 ? 0 : -EBADMSG;
}

Test(loader, reads_the_same_where_io_uring_is_refused)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(ring_calls); i++)
		for (int amid = 0; amid < 2; amid++)
			for (int delivers = 0; delivers < 2; delivers++) {
				struct refused r = {.call = ring_calls[i], .is_refused = !amid};

				r.opts.deliver = delivers ? put_chunk : NULL;
				expect_all(&r);
			}
}

/* A device that takes what is delivered in its own time, out of buffers of its own. */
struct borrower {
	uint8_t *buffers;
	const uint8_t *data[OG_LOAD_DEPTH]; /* of each buffer, what is still looked at */
	uint64_t offset[OG_LOAD_DEPTH];
	uint32_t len_bytes[OG_LOAD_DEPTH];
	uint64_t total_bytes;
	uint32_t nb_back, fail_at;
	uint32_t chunk_bytes;
};

static int borrow(
	void *arg, uint32_t source, uint64_t offset, const uint8_t *data, uint32_t len_bytes)
{
	struct borrower *b = arg;
	size_t i = (size_t)(data - b->buffers) / b->chunk_bytes;

	(void)source;
	cr_assert_lt(i, OG_LOAD_DEPTH);
	cr_assert_null(b->data[i]);
	b->data[i] = data;
	b->offset[i] = offset;
	b->len_bytes[i] = len_bytes;
	b->total_bytes += len_bytes;
	return 0;
}

static int give_back(void *arg, const uint8_t *data)
{
	struct borrower *b = arg;
	size_t i = (size_t)(data - b->buffers) / b->chunk_bytes;

	cr_assert_eq(b->data[i], data);
	cr_expect_arr_eq(data, content + b->offset[i], b->len_bytes[i]);
	b->data[i] = NULL;
	return ++b->nb_back == b->fail_at ? -EAGAIN : 0;
}

Test(loader, a_lent_buffer_is_read_into_only_when_it_is_given_back)
{
	static struct borrower b;

	b.chunk_bytes = OG_LOAD_PAGE_BYTES;
	b.buffers = aligned_alloc(OG_LOAD_PAGE_BYTES, OG_LOAD_DEPTH * OG_LOAD_PAGE_BYTES);
	for (int plain = 0; plain < 2; plain++) {
		struct og_load_opts opts = {.no_uring = plain,
			.chunk_bytes = b.chunk_bytes,
			.deliver = borrow,
			.reuse = give_back,
			.arg = &b,
			.buffers = b.buffers};
		struct og_load_progress progress;
		struct seen s = {0};

		b.total_bytes = b.nb_back = 0;
		cr_assert_eq(run_plan(&s, &opts, &progress), 0, "%s", err);
		cr_expect_eq(b.total_bytes, progress.bytes_total);
		cr_expect_gt(b.nb_back, OG_LOAD_DEPTH);
		for (size_t i = 0; i < OG_LOAD_DEPTH; i++) {
			if (b.data[i])
				cr_expect_arr_eq(b.data[i], content + b.offset[i], b.len_bytes[i]);
			b.data[i] = NULL;
		}
		og_arena_fini(&s.arena);
		b.fail_at = b.nb_back / 2;
		b.nb_back = 0;
		cr_expect_eq(run_plan(&s, &opts, NULL), -EIO);
		memset(b.data, 0, sizeof(b.data));
		b.fail_at = 0;
		og_arena_fini(&s.arena);
	}
	free(b.buffers);
}

Test(loader, ends_when_the_device_fails_or_the_caller_has_enough)
{
	struct og_load_opts opts = {.deliver = note_chunk};
	struct seen s = {.fail_at = 5};

	cr_expect_eq(run_plan(&s, &opts, NULL), -ENODEV);
	cr_expect(strstr(err, path) != NULL, "%s", err);
	og_arena_fini(&s.arena);
	s = (struct seen){.fail_at = -1};
	opts.stop = &s.stop;
	cr_expect_eq(run_plan(&s, &opts, NULL), -ECANCELED);
	og_arena_fini(&s.arena);
}
