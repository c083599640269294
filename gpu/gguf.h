/*
 * gguf.h: reads the header of a GGUF model file: metadata and the table of tensors.
 *
 * The file is hostile: every count, size and offset is checked in 64 bits against the size of the
 * file before it is used, and memory is asked for only in proportion to bytes that are present. The
 * tensors of an accepted file lie inside it, aligned, without overlap, and their sizes follow from
 * their shapes.
 *
 * Source:  GGUF specification, versions 2 and 3, little endian (ggml docs/gguf.md).
 * Units:   dims[0] varies fastest: a matrix of n_out rows of n_in values has dims {n_in, n_out}.
 * Threads: immutable once parsed.
 * Memory:  borrows the header bytes, which must outlive the struct; strings point into them.
 */
#pragma once
#include "base/bytes.h"
#include "gpu/tensor.h"

enum {
	OG_GGUF_NAME_MAX_BYTES = 64,
	OG_GGUF_STRING_MAX_BYTES = 64 * 1024,
	OG_GGUF_KV_MAX = 64 * 1024,
	OG_GGUF_TENSORS_MAX = 64 * 1024,
	OG_GGUF_ARRAY_MAX = 4 * 1024 * 1024,
	OG_GGUF_HEADER_MAX_BYTES = 100 * 1024 * 1024,
	OG_GGUF_ALIGNMENT_MAX = 4096,
};

/* Numbers as in the file. */
enum og_gguf_kind {
	OG_GGUF_U8,
	OG_GGUF_I8,
	OG_GGUF_U16,
	OG_GGUF_I16,
	OG_GGUF_U32,
	OG_GGUF_I32,
	OG_GGUF_F32,
	OG_GGUF_BOOL,
	OG_GGUF_STRING,
	OG_GGUF_ARRAY,
	OG_GGUF_U64,
	OG_GGUF_I64,
	OG_GGUF_F64,
	OG_GGUF_KINDS,
};

struct og_gguf_kv {
	struct og_text key;
	enum og_gguf_kind kind;
	enum og_gguf_kind item_kind; /* arrays only */
	uint64_t count;              /* items of an array, otherwise 1 */
	const uint8_t *value;        /* the first item, as in the file */
	uint64_t value_bytes;
};

struct og_gguf {
	uint32_t nb_kvs;
	uint32_t nb_tensors;
	uint64_t data_offset; /* in the file: where tensor data starts */
	uint64_t data_end;    /* in the file: one past the last byte of any tensor */
	struct og_gguf_kv *kvs;
	struct og_tensor *tensors; /* in order of their names */
};

/*
 * Parse the first `data_bytes` of a file of `file_bytes`. `name` is the file's name for messages.
 * Returns 0, -EAGAIN if the header goes on beyond `data_bytes` (call again with more of the file),
 * -EBADMSG with a sentence in `err`, or -ENOMEM. On success the caller owes og_gguf_fini().
 */
int og_gguf_init(struct og_gguf *g, const char *name, const uint8_t *data, size_t data_bytes,
	uint64_t file_bytes, char *err, size_t err_bytes) OG_MUST_CHECK;
void og_gguf_fini(struct og_gguf *g);

/* NULL if absent. */
const struct og_gguf_kv *og_gguf_find(const struct og_gguf *g, const char *key);

/*
 * Typed reads. Return 0, -ENOENT if the key is absent, or -EBADMSG if its value has another type or
 * does not fit. Any integer kind serves for u64; F32 and F64 for f32.
 */
int og_gguf_u64(const struct og_gguf *g, const char *key, uint64_t *out) OG_MUST_CHECK;
int og_gguf_f32(const struct og_gguf *g, const char *key, float *out) OG_MUST_CHECK;
int og_gguf_bool(const struct og_gguf *g, const char *key, bool *out) OG_MUST_CHECK;
int og_gguf_text(const struct og_gguf *g, const char *key, struct og_text *out) OG_MUST_CHECK;
/* An array of `item_kind`; -EBADMSG for any other. */
int og_gguf_array(const struct og_gguf *g, const char *key, enum og_gguf_kind item_kind,
	const struct og_gguf_kv **out) OG_MUST_CHECK;

/* Walk the strings of an array: start with the array's bytes, then call once per item. */
struct og_reader og_gguf_strings(const struct og_gguf_kv *array);
struct og_text og_gguf_next_string(struct og_reader *r);
