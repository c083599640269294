/*
 * suite_load.c: a file read as the loader reads weights, cold: straight into place, and through the
 * ring of buffers from which a device is fed (whose chunks are only looked at here).
 *
 * Reference: fio, where it is installed, with the loader's settings: O_DIRECT, 8 MiB reads, 16 in
 * flight; else 16 threads of our own that pread(2) with O_DIRECT. Either reuses its few buffers and
 * so pays for no new memory, as reading into place does.
 */
#include "bench/bench.h"
#include "gpu/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct file {
	const char *path;
	struct og_load_source source;
	uint64_t checksum;
	char err[256];
};

/* What the page cache holds of it is dropped, so that the device is read. */
static void make_cold(const struct file *f)
{
	(void)!fdatasync(f->source.file.fd);
	(void)!posix_fadvise(f->source.file.fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* ---- ours ---- */

static int look_at(
	void *arg, uint32_t source, uint64_t offset, const uint8_t *data, uint32_t len_bytes)
{
	struct file *f = arg;

	for (uint32_t i = 0; i < len_bytes; i += OG_LOAD_PAGE_BYTES)
		f->checksum += data[i];
	return 0;
}

/* GB/s, or a negative errno. */
static double load(struct file *f, bool in_place)
{
	uint64_t bytes = f->source.file.size_bytes;
	struct og_load_piece piece = {0, 0, 0, bytes};
	struct og_load_plan plan = {&f->source, 1, &piece, 1, 1, NULL, NULL};
	struct og_load_opts opts = {.arg = f, .deliver = in_place ? NULL : look_at};
	struct og_load_progress progress;
	int ret = og_arena_init(&f->source.arena, 0, bytes);

	snprintf(f->err, sizeof(f->err), "%s does not fit in memory", f->path);
	if (ret < 0)
		return ret;
	ret = og_load_run(&plan, &opts, &progress, f->err, sizeof(f->err));
	if (ret == 0 && in_place)
		look_at(f, 0, 0, f->source.arena.base,
			(uint32_t)OG_MIN(bytes, (uint64_t)UINT32_MAX));
	og_arena_fini(&f->source.arena);
	if (ret < 0)
		return ret;
	return (double)progress.bytes_done / (double)(progress.end_ns - progress.start_ns);
}

static double load_in_place(struct file *f)
{
	return load(f, true);
}

static double load_through_ring(struct file *f)
{
	return load(f, false);
}

/* ---- references ---- */

static double fio(struct file *f)
{
	uint64_t whole_pages = f->source.file.size_bytes / OG_LOAD_PAGE_BYTES * OG_LOAD_PAGE_BYTES;
	char block[32], depth[32];
	const char *const argv[] = {"fio", "--name=read", "--filename", f->path, "--rw=read",
		"--readonly", "--direct=1", "--ioengine=io_uring", block, depth,
		"--output-format=json", NULL};
	int pipes[2], status = -1;
	json_t *out = NULL;
	double rate = 0;
	FILE *in;
	pid_t pid;

	snprintf(block, sizeof(block), "--bs=%llu",
		(unsigned long long)OG_MIN(whole_pages, (uint64_t)OG_LOAD_CHUNK_BYTES));
	snprintf(depth, sizeof(depth), "--iodepth=%d", OG_LOAD_DEPTH);
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		dup2(pipes[1], STDOUT_FILENO);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(pipes[1]);
	in = fdopen(pipes[0], "r");
	if (in) {
		out = json_loadf(in, JSON_DISABLE_EOF_CHECK, NULL);
		fclose(in);
	} else {
		close(pipes[0]);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	if (status == 0)
		rate = json_number_value(json_object_get(
			json_object_get(json_array_get(json_object_get(out, "jobs"), 0), "read"),
			"bw_bytes"));
	json_decref(out);
	return rate > 0 ? rate / 1e9 : -ENOENT;
}

struct plain {
	int fd;
	uint64_t size_bytes;
	uint64_t next;
	int ret;
};

static void *read_chunks(void *arg)
{
	struct plain *p = arg;
	void *buffer = aligned_alloc(OG_LOAD_PAGE_BYTES, OG_LOAD_CHUNK_BYTES);
	uint64_t at;

	while (buffer && (at = __atomic_fetch_add(&p->next, OG_LOAD_CHUNK_BYTES,
				  __ATOMIC_RELAXED)) < p->size_bytes) {
		ssize_t want = (ssize_t)OG_MIN((uint64_t)OG_LOAD_CHUNK_BYTES, p->size_bytes - at);

		if (pread(p->fd, buffer, OG_LOAD_CHUNK_BYTES, (off_t)at) < want)
			__atomic_store_n(&p->ret, -EIO, __ATOMIC_RELAXED);
	}
	if (!buffer)
		__atomic_store_n(&p->ret, -ENOMEM, __ATOMIC_RELAXED);
	free(buffer);
	return NULL;
}

static double plain_reads(struct file *f)
{
	const struct og_file *file = &f->source.file;
	struct plain p = {.fd = file->direct_fd >= 0 ? file->direct_fd : file->fd,
		.size_bytes = file->size_bytes};
	pthread_t threads[OG_LOAD_DEPTH];
	uint64_t start = bench_now_ns();
	int n = 0;

	while (n < OG_LOAD_DEPTH && pthread_create(&threads[n], NULL, read_chunks, &p) == 0)
		n++;
	if (n == 0)
		return -EAGAIN;
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return p.ret < 0 ? p.ret : (double)p.size_bytes / (double)(bench_now_ns() - start);
}

/* ---- the suite ---- */

static int run_case(const struct bench *b, struct file *f, const char *name,
	double (*ours)(struct file *), bool has_fio)
{
	double (*const contestants[2])(struct file *) = {ours, has_fio ? fio : plain_reads};
	struct bench_samples samples[2] = {0};

	if (!bench_wanted(b, name))
		return 0;
	/* Who begins changes: disks give the first reader after a pause more than the next. */
	for (uint32_t run = 0; run < b->runs; run++)
		for (uint32_t i = 0; i < 2; i++) {
			uint32_t who = (run + i) % 2;
			double rate;

			make_cold(f);
			rate = contestants[who](f);
			if (rate < 0)
				return (int)rate;
			bench_add(&samples[who], rate);
		}
	bench_report(b, &(struct bench_result){name, "GB/s", BENCH_HIGHER, &samples[0],
				has_fio ? "fio io_uring O_DIRECT 8 MiB x 16"
					: "plain O_DIRECT pread 8 MiB x 16 threads",
				&samples[1]});
	return 0;
}

int suite_load(const struct bench *b)
{
	struct file f = {.path = b->model};
	bool has_fio;
	int ret = og_file_open(&f.source.file, b->model, f.err, sizeof(f.err));

	if (ret < 0) {
		fprintf(stderr, "og-bench: %s\n", f.err);
		return BENCH_FAILED;
	}
	f.source.path = b->model;
	has_fio = fio(&f) > 0;
	bench_note("%s, %.3g GB%s", b->model, (double)f.source.file.size_bytes / 1e9,
		f.source.file.direct_fd < 0 ? "; this file system refuses O_DIRECT" : "");
	ret = run_case(b, &f, "into place", load_in_place, has_fio);
	if (ret == 0)
		ret = run_case(b, &f, "through buffers", load_through_ring, has_fio);
	if (ret < 0)
		fprintf(stderr, "og-bench: %s\n", f.err[0] ? f.err : strerror(-ret));
	else
		bench_note("checksum %lx", (unsigned long)f.checksum);
	og_file_close(&f.source.file);
	return ret == 0 ? BENCH_DONE : BENCH_FAILED;
}
