/*
 * loader.h: brings a range of a model file into memory: io_uring, O_DIRECT, many large reads in
 * flight, each byte read once.
 *
 * Where the file system refuses O_DIRECT or the system refuses io_uring the same bytes come through
 * plain reads. The file is never mapped, so one that shrinks or fails while it is read is an error
 * and not a signal.
 *
 * Units:   bytes; offsets are those of the file.
 * Threads: one caller per call; progress may be read by any thread.
 * Memory:  the arena holds the range at the same offset modulo 4096 as the file does, so aligned
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
};

/* What a load may use; zeroed means everything. For tests and odd file systems. */
struct og_load_opts {
	bool no_direct;
	bool no_uring;
	uint32_t chunk_bytes; /* multiple of OG_LOAD_PAGE_BYTES; 0: OG_LOAD_CHUNK_BYTES */
};

struct og_arena {
	uint8_t *base; /* the byte at file offset `start` */
	uint64_t start;
	uint64_t end; /* file offset: one past the last byte wanted */
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
void og_arena_fini(struct og_arena *a);

/*
 * Fill the arena from the file, which must reach its end. Returns 0, or a negative errno with a
 * sentence in `err`. `opts` and `progress` may be NULL.
 */
int og_load(struct og_arena *a, const struct og_file *f, const struct og_load_opts *opts,
	struct og_load_progress *progress, char *err, size_t err_bytes) OG_MUST_CHECK;

/* Where the byte at file offset `offset` lies. */
static inline const uint8_t *og_arena_at(const struct og_arena *a, uint64_t offset)
{
	return a->base + (offset - a->start);
}
