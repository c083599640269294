/*
 * file.h: small files as a whole: read with a bound, written so that a crash leaves the old or the new.
 *
 * Threads: any but polling cores; blocks on the disk.
 * Memory:  what read gives is malloc'ed.
 */
#pragma once
#include "base/def.h"

/* Whole file by tmp + fsync + rename, mode 0644 or as given. */
int og_file_save(const char *path, const void *data, size_t len_bytes, unsigned mode) OG_MUST_CHECK;
/* Whole file, NUL added; malloc'ed. -EFBIG beyond `max_bytes`. */
int og_file_load(const char *path, size_t max_bytes, char **out, size_t *len_bytes) OG_MUST_CHECK;
