/*
 * safetensors.h: reads the header of a safetensors file: the table of its tensors.
 *
 * The file is hostile: the header's length is checked against the file before it is read, and the
 * tensors of an accepted file fill the rest of it from its first byte to its last, in the order of
 * their offsets, without hole or overlap, each as large as its type and shape make it.
 *
 * Source:  safetensors format (huggingface/safetensors, README and tensor.rs).
 * Units:   dims are reversed from the file's shape: dims[0] varies fastest (tensor.h).
 * Threads: immutable once parsed.
 * Memory:  borrows the header bytes, which must outlive the struct; names point into them.
 */
#pragma once
#include "gpu/json.h"
#include "gpu/tensor.h"

enum {
	OG_SAFETENSORS_LENGTH_BYTES = 8,                    /* before the header: its length */
	OG_SAFETENSORS_HEADER_MAX_BYTES = 32 * 1024 * 1024, /* the format's own limit is 100 MB */
	OG_SAFETENSORS_TENSORS_MAX = 64 * 1024,
	OG_SAFETENSORS_NAME_MAX_BYTES = 256,
};

struct og_safetensors {
	struct og_tensor *tensors; /* in order of their names */
	uint32_t nb_tensors;
	uint64_t data_offset; /* in the file */
	struct og_json json;  /* names with escapes lie in it */
};

/*
 * The header's length, from the first bytes of a file of `file_bytes`. Returns 0 or -EBADMSG with a
 * sentence that starts with `name`.
 */
int og_safetensors_header_bytes(const char *name, const uint8_t start[OG_SAFETENSORS_LENGTH_BYTES],
	uint64_t file_bytes, uint64_t *out, char *err, size_t err_bytes) OG_MUST_CHECK;

/*
 * Parse a header of `header_bytes`, that og_safetensors_header_bytes() accepted. Tensors get the file
 * number `file`. Returns 0, -EBADMSG with a sentence, or -ENOMEM. On success the caller owes
 * og_safetensors_fini().
 */
int og_safetensors_init(struct og_safetensors *s, const char *name, uint32_t file,
	const uint8_t *header, size_t header_bytes, uint64_t file_bytes, char *err,
	size_t err_bytes) OG_MUST_CHECK;
void og_safetensors_fini(struct og_safetensors *s);
