#include "gpu/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUSY_RETRIES_MAX = 1000 };

/* One load in progress: chunk i covers file offsets start + i * chunk_bytes … */
struct load {
	const struct og_file *file;
	struct og_arena *arena;
	struct og_load_progress *progress;
	uint32_t chunk_bytes;
	uint64_t nb_chunks;
};

int og_file_open(struct og_file *f, const char *path, char *err, size_t err_bytes)
{
	struct stat st;
	int ret;

	/* Non-blocking, so that a named pipe does not hold the open. */
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (f->fd < 0) {
		ret = -errno;
		snprintf(err, err_bytes, "%s: %s", path, strerror(-ret));
		return ret;
	}
	if (fstat(f->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		snprintf(err, err_bytes, "%s: not a regular file", path);
		close(f->fd);
		return -EINVAL;
	}
	f->size_bytes = (uint64_t)st.st_size;
	f->direct_fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT | O_NOCTTY);
	return 0;
}

void og_file_close(struct og_file *f)
{
	if (f->direct_fd >= 0)
		close(f->direct_fd);
	close(f->fd);
	f->fd = f->direct_fd = -1;
}

int og_file_read(const struct og_file *f, uint64_t offset, void *out, size_t len_bytes)
{
	uint8_t *p = out;

	while (len_bytes > 0) {
		ssize_t n = pread(f->fd, p, len_bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		p += n;
		offset += (uint64_t)n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

static uint64_t chunk_offset(const struct load *l, uint64_t chunk)
{
	return l->arena->start + chunk * l->chunk_bytes;
}

/* Bytes of the chunk that must be there: the last one ends with the range. */
static uint32_t chunk_wanted(const struct load *l, uint64_t chunk)
{
	return (uint32_t)OG_MIN((uint64_t)l->chunk_bytes, l->arena->end - chunk_offset(l, chunk));
}

static int read_chunk_plain(const struct load *l, uint64_t chunk, uint32_t have_bytes)
{
	uint64_t offset = chunk_offset(l, chunk) + have_bytes;

	return og_file_read(l->file, offset, l->arena->base + (offset - l->arena->start),
		chunk_wanted(l, chunk) - have_bytes);
}

static void chunk_done(struct load *l, uint64_t chunk)
{
	og_count_add(&l->progress->bytes_done, chunk_wanted(l, chunk));
}

static int load_plain(struct load *l)
{
	for (uint64_t i = 0; i < l->nb_chunks; i++) {
		int ret = read_chunk_plain(l, i, 0);

		if (ret < 0)
			return ret;
		chunk_done(l, i);
	}
	return 0;
}

static void queue_chunk(struct load *l, struct io_uring *ring, int fd, uint64_t chunk)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	uint64_t offset = chunk_offset(l, chunk);
	/* Whole pages: O_DIRECT wants them, and the arena has room for the last. */
	uint32_t len = (chunk_wanted(l, chunk) + OG_LOAD_PAGE_BYTES - 1) / OG_LOAD_PAGE_BYTES *
		       OG_LOAD_PAGE_BYTES;

	OG_ASSERT(sqe); /* never more in flight than the ring is deep */
	io_uring_prep_read(sqe, fd, l->arena->base + (offset - l->arena->start), len, offset);
	sqe->user_data = chunk;
}

/*
 * A read that failed or fell short is completed by a plain one: that settles odd file systems, and
 * where the disk or the file is really at fault it yields the error to report.
 */
static int finish_chunk(struct load *l, const struct io_uring_cqe *cqe)
{
	uint64_t chunk = cqe->user_data;
	int ret = 0;

	if (cqe->res < 0 || (uint32_t)cqe->res < chunk_wanted(l, chunk))
		ret = read_chunk_plain(l, chunk, cqe->res < 0 ? 0 : (uint32_t)cqe->res);
	if (ret == 0)
		chunk_done(l, chunk);
	return ret;
}

/* Submit what is queued and wait for a completion. -EAGAIN: the ring is of no use, read plainly. */
static int wait_one(struct io_uring *ring)
{
	for (unsigned i = 0; i < BUSY_RETRIES_MAX; i++) {
		int ret = io_uring_submit_and_wait(ring, 1);

		if (ret >= 0 || io_uring_cq_ready(ring) > 0)
			return 0;
		if (ret != -EINTR && ret != -EAGAIN && ret != -EBUSY)
			return -EAGAIN;
		sched_yield();
	}
	return -EAGAIN;
}

static int load_uring(struct load *l, struct io_uring *ring, int fd)
{
	uint64_t next = 0;
	uint32_t in_flight = 0;
	int result = 0;

	/* After an error no more is queued, but what is in flight is waited for: it writes to us. */
	while (in_flight > 0 || (result == 0 && next < l->nb_chunks)) {
		struct io_uring_cqe *cqe;
		int ret;

		while (result == 0 && next < l->nb_chunks && in_flight < OG_LOAD_DEPTH) {
			queue_chunk(l, ring, fd, next++);
			in_flight++;
		}
		ret = wait_one(ring);
		if (ret < 0)
			return ret;
		while (io_uring_peek_cqe(ring, &cqe) == 0) {
			ret = finish_chunk(l, cqe);
			if (ret < 0 && result == 0)
				result = ret == -EAGAIN ? -EIO : ret;
			io_uring_cqe_seen(ring, cqe);
			in_flight--;
		}
	}
	return result;
}

static int load_all(struct load *l, const struct og_load_opts *opts)
{
	bool direct = !opts->no_direct && l->file->direct_fd >= 0;
	struct io_uring ring;
	int ret;

	if (opts->no_uring || io_uring_queue_init(OG_LOAD_DEPTH, &ring, 0) < 0)
		return load_plain(l);
	ret = load_uring(l, &ring, direct ? l->file->direct_fd : l->file->fd);
	io_uring_queue_exit(&ring);
	if (ret != -EAGAIN)
		return ret;
	og_count_add(&l->progress->bytes_done, -og_counter_read(&l->progress->bytes_done));
	return load_plain(l);
}

static bool fits_memory(uint64_t bytes)
{
	long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);

	return pages <= 0 || page_bytes <= 0 || bytes / (uint64_t)page_bytes < (uint64_t)pages;
}

static size_t map_bytes(const struct og_arena *a)
{
	uint64_t pages = (a->end - a->start + OG_LOAD_PAGE_BYTES - 1) / OG_LOAD_PAGE_BYTES;

	return OG_MAX(pages, 1u) * OG_LOAD_PAGE_BYTES; /* an empty range is a mapping as well */
}

int og_arena_init(struct og_arena *a, uint64_t from, uint64_t to)
{
	struct og_arena range = {
		.start = from / OG_LOAD_PAGE_BYTES * OG_LOAD_PAGE_BYTES, .end = to};
	void *base;

	if (!fits_memory(to - range.start))
		return -ENOMEM;
	base = mmap(NULL, map_bytes(&range), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return -ENOMEM;
	/* Fewer TLB misses while weights stream; a kernel without huge pages just declines. */
	(void)madvise(base, map_bytes(&range), MADV_HUGEPAGE);
	range.base = base;
	*a = range;
	return 0;
}

void og_arena_fini(struct og_arena *a)
{
	if (a->base)
		munmap(a->base, map_bytes(a));
	memset(a, 0, sizeof(*a));
}

int og_load(struct og_arena *a, const struct og_file *f, const struct og_load_opts *opts,
	struct og_load_progress *progress, char *err, size_t err_bytes)
{
	static const struct og_load_opts defaults;
	struct og_load_progress unseen;
	uint64_t total = a->end - a->start;
	struct load l = {.file = f, .arena = a};
	int ret;

	opts = opts ? opts : &defaults;
	l.progress = progress ? progress : &unseen;
	l.chunk_bytes = opts->chunk_bytes ? opts->chunk_bytes : OG_LOAD_CHUNK_BYTES;
	l.nb_chunks = (total + l.chunk_bytes - 1) / l.chunk_bytes;
	*l.progress = (struct og_load_progress){.bytes_total = total};
	ret = load_all(&l, opts);
	if (ret < 0)
		snprintf(err, err_bytes,
			"reading the weights failed after %" PRIu64 " of %" PRIu64 " bytes: %s",
			og_counter_read(&l.progress->bytes_done), total,
			ret == -EIO ? "I/O error, or the file became shorter" : strerror(-ret));
	return ret;
}
