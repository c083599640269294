/*
 * loader.h: brings model files into memory: io_uring, O_DIRECT, many large reads in flight, each byte
 * read once.
 *
 * What is read is cut into chunks, which are read in the order in which they are needed: a piece
 * belongs to a stage (the embedding, then each layer), and a stage is ready when its chunks and those
 * of all stages before it have arrived. Chunks that no piece touches are not read.
 *
 * Memory of the host is read into where it stays. For a device, og_load_opts.deliver gets each chunk
 * from a ring of buffers, registered with io_uring where the limit on locked memory allows; where they
 * are the device's own, pinned, it copies from there and no byte is moved twice.
 *
 * Where the file system refuses O_DIRECT or the system refuses io_uring the same bytes come through
 * plain reads. The file is never mapped, so one that shrinks or fails while it is read is an error
 * and not a signal.
 *
 * Units:   bytes; offsets are those of the file.
 * Threads: one caller per call; progress may be read by any thread.
 * Memory:  the arena holds its range at the same offset modulo 4096 as the file does, so aligned
 *          reads land in place and tensors are views of it.
 */
#pragma once
#include "base/count.h"
#include "base/def.h"

#include <stdbool.h>

enum {
	OG_LOAD_CHUNK_BYTES = 8 * 1024 * 1024,
	OG_LOAD_DEPTH = 16, /* reads in flight */
	OG_LOAD_PAGE_BYTES = 4096,
};

struct og_file {
	int fd;        /* buffered */
	int direct_fd; /* O_DIRECT, or -1 where that is refused */
	uint64_t size_bytes;
};

/* Written by the loading thread. */
struct og_load_progress {
	uint64_t bytes_total;
	uint64_t bytes_done;
	uint64_t stages_total;
	uint64_t stages_ready;
	uint64_t start_ns; /* monotonic */
	uint64_t end_ns;   /* 0 while it runs */
};

struct og_arena {
	uint8_t *base; /* the byte at file offset `start` */
	uint64_t start;
	uint64_t end; /* file offset: one past the last byte wanted */
};

/* What a load may use; zeroed means everything. */
struct og_load_opts {
	/* For tests and odd file systems. */
	bool no_direct;
	bool no_uring;
	uint32_t chunk_bytes; /* multiple of OG_LOAD_PAGE_BYTES; 0: OG_LOAD_CHUNK_BYTES */
	/*
	 * The bytes of each chunk in place of leaving them in the arena; borrowed for the call, or where
	 * there is `reuse`, until that has returned for the same `data`. What was delivered of stages that
	 * are not ready may be delivered again.
	 */
	int (*deliver)(void *arg, uint32_t source, uint64_t offset, const uint8_t *data,
		uint32_t len_bytes);
	int (*reuse)(void *arg, const uint8_t *data);
	void *arg;
	uint8_t *buffers; /* OG_LOAD_DEPTH chunks to deliver from; NULL: the loader's own */
	const bool *stop; /* set by any thread: ends the load with -ECANCELED; may be NULL */
	/* Of a model: so many threads lay its weights out for the CPU's products; 0: as in the file. */
	uint32_t panel_threads;
	uint32_t unpack_threads; /* so many make BF16 of its weights in e4m3; 0: one */
	/* Of a model in the background: nothing is read before og_model_begin(). */
	bool is_held;
};

struct og_load_source {
	const char *path; /* for messages */
	struct og_file file;
	struct og_arena arena;
};

/* [from, to) of a source, needed from stage `stage` on. */
struct og_load_piece {
	uint32_t source;
	uint32_t stage;
	uint64_t from;
	uint64_t to;
};

struct og_load_plan {
	const struct og_load_source *sources;
	uint32_t nb_sources;
	const struct og_load_piece *pieces;
	uint32_t nb_pieces;
	uint32_t nb_stages;
	/* Called by the loading thread whenever more stages are ready; may be NULL. Returns 0, or a
	 * negative errno that ends the load. */
	int (*ready)(void *arg, uint32_t stages_ready);
	void *arg;
};

/* Opens a regular file. Returns 0 or a negative errno with a sentence in `err`. */
int og_file_open(struct og_file *f, const char *path, char *err, size_t err_bytes) OG_MUST_CHECK;
void og_file_close(struct og_file *f);
/* Exactly `len_bytes` at `offset`, buffered. -EIO if the file ends before. */
int og_file_read(
	const struct og_file *f, uint64_t offset, void *out, size_t len_bytes) OG_MUST_CHECK;

/*
 * Address space for [from, to) of a file; memory is used as bytes arrive. Returns 0, or -ENOMEM where
 * the range is larger than the machine's memory. The caller owes og_arena_fini().
 */
int og_arena_init(struct og_arena *a, uint64_t from, uint64_t to) OG_MUST_CHECK;
/* In two steps: only addresses; then, if the range is to be filled, the check, and huge pages. */
int og_arena_reserve(struct og_arena *a, uint64_t from, uint64_t to) OG_MUST_CHECK;
int og_arena_settle(const struct og_arena *a) OG_MUST_CHECK;
void og_arena_fini(struct og_arena *a);

/*
 * Read all pieces. Returns 0, or a negative errno with a sentence that names the file. `opts` and
 * `progress` may be NULL.
 */
int og_load_run(const struct og_load_plan *plan, const struct og_load_opts *opts,
	struct og_load_progress *progress, char *err, size_t err_bytes) OG_MUST_CHECK;

/* Where the byte at file offset `offset` lies. */
static inline const uint8_t *og_arena_at(const struct og_arena *a, uint64_t offset)
{
	return a->base + (offset - a->start);
}
