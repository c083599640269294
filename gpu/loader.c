#include "gpu/loader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BUSY_RETRIES_MAX = 1000, DRAIN_MAX_MS = 60000, NO_SLOT = UINT32_MAX };

struct chunk {
	uint32_t source;
	uint32_t stage;
	uint64_t offset;
	uint32_t len_bytes; /* that must be there: the last chunk ends with the range */
};

/* One load in progress. */
struct load {
	const struct og_load_plan *plan;
	const struct og_load_opts *opts;
	struct og_load_progress *progress;
	uint32_t chunk_bytes;
	struct chunk *chunks; /* in the order of reading */
	uint32_t nb_chunks;
	uint32_t *missing;     /* (nb_stages): chunks that have not arrived */
	uint32_t stages_ready; /* reported */
	/* With io_uring. */
	struct io_uring ring;
	bool fixed_files; /* registered: numbers are those of the sources */
	bool fixed_buffers;
	uint32_t nb_slots;                  /* reads in flight */
	uint8_t *buffers;                   /* a chunk for each, to deliver from */
	uint32_t slot_chunk[OG_LOAD_DEPTH]; /* what is read into each, or NO_SLOT */
	bool was_delivered[OG_LOAD_DEPTH];  /* from this slot */
	uint32_t next_slot;
	/* For the message. */
	uint32_t failed_source;
	/* Makes the pages ahead of the reads. */
	pthread_t populator;
	bool is_populating;
	bool is_over; /* nothing more is read */
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
	if (f->fd >= 0)
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

static const struct og_load_source *source_of(const struct load *l, const struct chunk *c)
{
	return &l->plan->sources[c->source];
}

/* Where the chunk's bytes go: its place in the arena, or the slot's buffer. */
static uint8_t *target(const struct load *l, const struct chunk *c, uint32_t slot)
{
	const struct og_arena *a = &source_of(l, c)->arena;

	return l->buffers ? l->buffers + (size_t)slot * l->chunk_bytes
			  : a->base + (c->offset - a->start);
}

static uint32_t whole_pages(uint32_t len_bytes)
{
	return (len_bytes + OG_LOAD_PAGE_BYTES - 1) / OG_LOAD_PAGE_BYTES * OG_LOAD_PAGE_BYTES;
}

static int read_plain(const struct load *l, const struct chunk *c, uint32_t slot, uint32_t have)
{
	return og_file_read(&source_of(l, c)->file, c->offset + have, target(l, c, slot) + have,
		c->len_bytes - have);
}

static bool is_stopped(const struct load *l)
{
	return l->opts->stop && __atomic_load_n(l->opts->stop, __ATOMIC_RELAXED);
}

/* The chunk is here: count it, pass it on, and report the stages that it completes. */
static int chunk_done(struct load *l, const struct chunk *c, uint32_t slot)
{
	uint32_t ready = l->stages_ready;
	int ret = 0;

	if (l->buffers) {
		ret = l->opts->deliver(
			l->opts->arg, c->source, c->offset, target(l, c, slot), c->len_bytes);
		l->was_delivered[slot] = true;
	}
	og_count_add(&l->progress->bytes_done, c->len_bytes);
	l->missing[c->stage]--;
	while (ready < l->plan->nb_stages && l->missing[ready] == 0)
		ready++;
	if (ret < 0 || ready == l->stages_ready)
		return ret;
	l->stages_ready = ready;
	if (l->plan->ready)
		ret = l->plan->ready(l->plan->arg, ready);
	og_count_add(&l->progress->stages_ready, ready - l->progress->stages_ready);
	return ret;
}

/* What was reported as ready is in use, and may have been laid out anew: it is not read again. */
static bool is_used(const struct load *l, const struct chunk *c)
{
	return c->stage < l->stages_ready;
}

/* Before `slot` is read into. */
static int reuse(struct load *l, uint32_t slot)
{
	int ret;

	if (!l->was_delivered[slot] || !l->opts->reuse)
		return 0;
	l->was_delivered[slot] = false;
	ret = l->opts->reuse(l->opts->arg, l->buffers + (size_t)slot * l->chunk_bytes);
	return ret == -EAGAIN ? -EIO : ret; /* the former would begin again, with plain reads */
}

/* Chunks from the first that is not in use on, one after the other. */
static int load_plain(struct load *l)
{
	uint32_t first = 0;

	while (first < l->nb_chunks && is_used(l, &l->chunks[first]))
		first++;
	for (uint32_t i = first; i < l->nb_chunks; i++) {
		uint32_t slot = i % l->nb_slots;
		int ret = is_stopped(l) ? -ECANCELED : reuse(l, slot);

		if (ret == 0)
			ret = read_plain(l, &l->chunks[i], slot, 0);
		if (ret == 0)
			ret = chunk_done(l, &l->chunks[i], slot);
		if (ret < 0) {
			l->failed_source = l->chunks[i].source;
			return ret;
		}
	}
	return 0;
}

/* In turns, so that who took what was delivered from it has had the longest time. */
static uint32_t free_slot(struct load *l)
{
	uint32_t slot;

	do
		slot = l->next_slot++ % l->nb_slots;
	while (l->slot_chunk[slot] != NO_SLOT);
	return slot;
}

static int fd_of(const struct load *l, uint32_t source)
{
	const struct og_file *f = &l->plan->sources[source].file;

	return !l->opts->no_direct && f->direct_fd >= 0 ? f->direct_fd : f->fd;
}

static int queue_chunk(struct load *l, uint32_t chunk)
{
	const struct chunk *c = &l->chunks[chunk];
	uint32_t slot = free_slot(l);
	struct io_uring_sqe *sqe;
	/* O_DIRECT wants whole pages, and arena and buffers have room for the last. */
	uint32_t len = whole_pages(c->len_bytes);
	int fd = l->fixed_files ? (int)c->source : fd_of(l, c->source);
	int ret = reuse(l, slot);

	if (ret < 0)
		return ret;
	sqe = io_uring_get_sqe(&l->ring);
	OG_ASSERT(sqe); /* never more in flight than the ring is deep */
	if (l->fixed_buffers)
		io_uring_prep_read_fixed(sqe, fd, target(l, c, slot), len, c->offset, (int)slot);
	else
		io_uring_prep_read(sqe, fd, target(l, c, slot), len, c->offset);
	if (l->fixed_files)
		sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = slot;
	l->slot_chunk[slot] = chunk;
	return 0;
}

/*
 * A read that failed or fell short is completed by a plain one: that settles odd file systems, and
 * where the disk or the file is really at fault it yields the error to report.
 */
static int finish_read(struct load *l, const struct io_uring_cqe *cqe)
{
	uint32_t slot = (uint32_t)cqe->user_data;
	const struct chunk *c = &l->chunks[l->slot_chunk[slot]];
	int ret = 0;

	if (cqe->res < 0 || (uint32_t)cqe->res < c->len_bytes)
		ret = read_plain(l, c, slot, cqe->res < 0 ? 0 : (uint32_t)cqe->res);
	if (ret == 0)
		ret = chunk_done(l, c, slot);
	if (ret < 0)
		l->failed_source = c->source;
	l->slot_chunk[slot] = NO_SLOT;
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

/*
 * The ring is given up, but what it has accepted still writes to us: the buffers, and weights that a
 * plain read brings and a stage lays out anew, are not safe before that has ended. Returns -EAGAIN, or
 * -EIO where it does not end.
 */
static int drain(struct load *l, uint32_t in_flight)
{
	struct io_uring_cqe *cqe;

	in_flight -= io_uring_sq_ready(&l->ring); /* never accepted */
	for (unsigned ms = 0; in_flight > 0 && ms < DRAIN_MAX_MS; ms++) {
		for (; io_uring_peek_cqe(&l->ring, &cqe) == 0; in_flight--)
			io_uring_cqe_seen(&l->ring, cqe);
		if (in_flight > 0)
			usleep(1000);
	}
	return in_flight == 0 ? -EAGAIN : -EIO;
}

static int load_uring(struct load *l)
{
	uint32_t next = 0, in_flight = 0;
	int result = 0;

	/* After an error no more is queued, but what is in flight is waited for: it writes to us. */
	while (in_flight > 0 || (result == 0 && next < l->nb_chunks)) {
		struct io_uring_cqe *cqe;
		int ret;

		if (result == 0 && is_stopped(l))
			result = -ECANCELED;
		while (result == 0 && next < l->nb_chunks && in_flight < l->nb_slots) {
			result = queue_chunk(l, next);
			next += result == 0;
			in_flight += result == 0;
		}
		if (in_flight == 0)
			break;
		ret = wait_one(&l->ring);
		if (ret < 0) {
			ret = drain(l, in_flight);
			return result == 0 ? ret : result;
		}
		while (io_uring_peek_cqe(&l->ring, &cqe) == 0) {
			ret = finish_read(l, cqe);
			if (ret < 0 && result == 0)
				result = ret == -EAGAIN ? -EIO : ret;
			io_uring_cqe_seen(&l->ring, cqe);
			in_flight--;
		}
	}
	return result;
}

/* Both save work on every read; a system that refuses them, or 8 MiB of locked memory, does not. */
static void register_all(struct load *l)
{
	struct iovec iov[OG_LOAD_DEPTH];
	int *fds = calloc(l->plan->nb_sources, sizeof(*fds));

	for (uint32_t i = 0; fds && i < l->plan->nb_sources; i++)
		fds[i] = fd_of(l, i);
	l->fixed_files = fds && io_uring_register_files(&l->ring, fds, l->plan->nb_sources) == 0;
	free(fds);
	for (uint32_t i = 0; l->buffers && i < l->nb_slots; i++)
		iov[i] = (struct iovec){l->buffers + (size_t)i * l->chunk_bytes, l->chunk_bytes};
	l->fixed_buffers = l->buffers && io_uring_register_buffers(&l->ring, iov, l->nb_slots) == 0;
	for (uint32_t i = 0; i < OG_LOAD_DEPTH; i++)
		l->slot_chunk[i] = NO_SLOT;
}

static void start_counting(struct load *l)
{
	memset(l->missing, 0, (l->plan->nb_stages + 1) * sizeof(*l->missing));
	og_count_add(&l->progress->bytes_done, -og_counter_read(&l->progress->bytes_done));
	for (uint32_t i = 0; i < l->nb_chunks; i++) {
		if (is_used(l, &l->chunks[i]))
			og_count_add(&l->progress->bytes_done, l->chunks[i].len_bytes);
		else
			l->missing[l->chunks[i].stage]++;
	}
}

/*
 * The kernel clears each page that it gives, at about the speed of a fast disk. Left to the reads that
 * work comes between them, on the thread that keeps them in flight; here it runs beside them. Pages
 * that this is too late for are made by the read: nothing depends on it.
 */
static void *populate(void *arg)
{
	struct load *l = arg;

	for (uint32_t i = 0; i < l->nb_chunks && !is_stopped(l) &&
			     !__atomic_load_n(&l->is_over, __ATOMIC_RELAXED);
		i++) {
		const struct chunk *c = &l->chunks[i];

		if (madvise(target(l, c, 0), whole_pages(c->len_bytes), MADV_POPULATE_WRITE) < 0)
			break; /* before Linux 5.14, or no memory: the read will say so */
	}
	return NULL;
}

static void start_populating(struct load *l)
{
	if (!l->buffers && l->nb_chunks > OG_LOAD_DEPTH)
		l->is_populating = pthread_create(&l->populator, NULL, populate, l) == 0;
}

static void stop_populating(struct load *l)
{
	if (!l->is_populating)
		return;
	__atomic_store_n(&l->is_over, true, __ATOMIC_RELAXED);
	pthread_join(l->populator, NULL);
}

static int load_all(struct load *l)
{
	int ret;

	start_counting(l);
	if (l->opts->no_uring || io_uring_queue_init(OG_LOAD_DEPTH, &l->ring, 0) < 0)
		return load_plain(l);
	register_all(l);
	ret = load_uring(l);
	io_uring_queue_exit(&l->ring);
	if (ret != -EAGAIN)
		return ret;
	/* What was delivered of a stage that is not ready is delivered again, to the same places. */
	start_counting(l);
	return load_plain(l);
}

static int compare_pieces(const void *a, const void *b)
{
	const struct og_load_piece *x = a, *y = b;

	if (x->source != y->source)
		return x->source < y->source ? -1 : 1;
	return (x->from > y->from) - (x->from < y->from);
}

static int compare_chunks(const void *a, const void *b)
{
	const struct chunk *x = a, *y = b;

	if (x->stage != y->stage)
		return x->stage < y->stage ? -1 : 1;
	if (x->source != y->source)
		return x->source < y->source ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Mark the chunks of a piece with the earliest stage that needs them. */
static void mark_chunks(struct load *l, const struct og_load_piece *p, struct chunk *of_source)
{
	const struct og_arena *a = &l->plan->sources[p->source].arena;

	for (uint64_t i = (p->from - a->start) / l->chunk_bytes;
		p->to > p->from && i <= (p->to - 1 - a->start) / l->chunk_bytes; i++)
		of_source[i].stage = OG_MIN(of_source[i].stage, p->stage);
}

static uint64_t chunks_of(const struct load *l, uint32_t source)
{
	const struct og_arena *a = &l->plan->sources[source].arena;

	return (a->end - a->start + l->chunk_bytes - 1) / l->chunk_bytes;
}

static int plan_chunks(struct load *l)
{
	struct og_load_piece *pieces = calloc(l->plan->nb_pieces + 1, sizeof(*pieces));
	uint64_t total = 0, first = 0, wanted = 0;

	for (uint32_t s = 0; s < l->plan->nb_sources; s++)
		total += chunks_of(l, s);
	l->chunks = total < UINT32_MAX ? calloc(total + 1, sizeof(*l->chunks)) : NULL;
	l->missing = calloc(l->plan->nb_stages + 1, sizeof(*l->missing));
	if (!pieces || !l->chunks || !l->missing) {
		free(pieces);
		return -ENOMEM;
	}
	if (l->plan->nb_pieces > 0)
		memcpy(pieces, l->plan->pieces, l->plan->nb_pieces * sizeof(*pieces));
	qsort(pieces, l->plan->nb_pieces, sizeof(*pieces), compare_pieces);
	for (uint32_t s = 0, p = 0; s < l->plan->nb_sources; first += chunks_of(l, s++)) {
		const struct og_arena *a = &l->plan->sources[s].arena;

		for (uint64_t i = 0; i < chunks_of(l, s); i++) {
			uint64_t offset = a->start + i * l->chunk_bytes;

			l->chunks[first + i] = (struct chunk){s, l->plan->nb_stages, offset,
				(uint32_t)OG_MIN((uint64_t)l->chunk_bytes, a->end - offset)};
		}
		for (; p < l->plan->nb_pieces && pieces[p].source == s; p++)
			mark_chunks(l, &pieces[p], l->chunks + first);
	}
	free(pieces);
	qsort(l->chunks, total, sizeof(*l->chunks), compare_chunks);
	for (; l->nb_chunks < total && l->chunks[l->nb_chunks].stage < l->plan->nb_stages;
		l->nb_chunks++)
		wanted += l->chunks[l->nb_chunks].len_bytes;
	l->nb_slots = OG_MIN(l->nb_chunks, (uint32_t)OG_LOAD_DEPTH);
	l->progress->bytes_total = wanted;
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * OG_NS_PER_S + (uint64_t)t.tv_nsec;
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

int og_arena_reserve(struct og_arena *a, uint64_t from, uint64_t to)
{
	struct og_arena range = {
		.start = from / OG_LOAD_PAGE_BYTES * OG_LOAD_PAGE_BYTES, .end = to};
	void *base = mmap(NULL, map_bytes(&range), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return -ENOMEM;
	range.base = base;
	*a = range;
	return 0;
}

int og_arena_settle(const struct og_arena *a)
{
	if (!fits_memory(a->end - a->start))
		return -ENOMEM;
	/* Fewer TLB misses while weights stream; a kernel without huge pages just declines. */
	(void)madvise(a->base, map_bytes(a), MADV_HUGEPAGE);
	return 0;
}

int og_arena_init(struct og_arena *a, uint64_t from, uint64_t to)
{
	int ret = og_arena_reserve(a, from, to);

	if (ret < 0)
		return ret;
	ret = og_arena_settle(a);
	if (ret < 0)
		og_arena_fini(a);
	return ret;
}

void og_arena_fini(struct og_arena *a)
{
	if (a->base)
		munmap(a->base, map_bytes(a));
	memset(a, 0, sizeof(*a));
}

static int make_buffers(struct load *l)
{
	size_t bytes = (size_t)l->nb_slots * l->chunk_bytes;
	void *buffers;

	l->buffers = l->opts->buffers;
	if (l->buffers)
		return 0;
	buffers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffers == MAP_FAILED)
		return -ENOMEM;
	(void)madvise(buffers, bytes, MADV_HUGEPAGE);
	l->buffers = buffers;
	return 0;
}

static const char *reason(int ret)
{
	return ret == -EIO      ? "I/O error, or the file became shorter"
	       : ret == -ENODEV ? "the device that takes them failed"
				: strerror(-ret);
}

int og_load_run(const struct og_load_plan *plan, const struct og_load_opts *opts,
	struct og_load_progress *progress, char *err, size_t err_bytes)
{
	static const struct og_load_opts defaults;
	struct og_load_progress unseen;
	struct load l = {.plan = plan, .opts = opts ? opts : &defaults};
	int ret;

	l.progress = progress ? progress : &unseen;
	l.chunk_bytes = l.opts->chunk_bytes ? l.opts->chunk_bytes : OG_LOAD_CHUNK_BYTES;
	*l.progress =
		(struct og_load_progress){.stages_total = plan->nb_stages, .start_ns = now_ns()};
	ret = plan_chunks(&l);
	if (ret == 0 && l.opts->deliver && l.nb_chunks > 0)
		ret = make_buffers(&l);
	if (ret == 0) {
		start_populating(&l);
		ret = load_all(&l);
		stop_populating(&l);
	}
	if (ret == 0 && l.stages_ready < plan->nb_stages && plan->ready) /* nothing to read */
		ret = plan->ready(plan->arg, plan->nb_stages);
	if (ret < 0)
		snprintf(err, err_bytes,
			"%s: reading the weights failed after %" PRIu64 " of %" PRIu64 " bytes: %s",
			plan->sources[l.failed_source].path,
			og_counter_read(&l.progress->bytes_done), l.progress->bytes_total,
			reason(ret));
	else
		l.progress->stages_ready = plan->nb_stages;
	__atomic_store_n(&l.progress->end_ns, now_ns(), __ATOMIC_RELAXED);
	if (l.buffers && l.buffers != l.opts->buffers)
		munmap(l.buffers, (size_t)l.nb_slots * l.chunk_bytes);
	free(l.chunks);
	free(l.missing);
	return ret;
}
