/*
 * upload.h: the way of weights to the device.
 *
 * A model in memory goes there in chunks of whole rows, through a ring of pinned buffers (upload.c).
 * One whose load is held (og_load_opts.is_held) goes there from its files: io_uring reads into pinned
 * buffers, each is copied to the device as it is, and converted there, so that a byte is read once and
 * moved once, and the host needs no memory for the weights (stream.c). Either way matrices become what
 * weights.h says, with the same bits. What the model unpacks comes by way of memory in any case.
 *
 * Threads: of the caller, but for a held load, whose calls to the device come from the loading thread
 *          while the caller waits for it.
 * Memory:  buffers of the host and the device that exist during the upload only: OG_CUDA_RING_SLOTS of
 *          a size, and for a held load OG_LOAD_DEPTH chunks, each on both sides.
 */
#pragma once
#include "gpu/cuda/weights.h"

enum {
	OG_CUDA_RING_SLOTS = 4,
	OG_CUDA_SLOT_BYTES = 16 * 1024 * 1024, /* less where no matrix has as much */
	OG_CUDA_SEAM_SLOT_BYTES = 1024 * 1024, /* beside chunks that go straight to the device */
};

/* A pinned buffer, the device's copy of it, and what says that both may be used again. */
struct og_cuda_slot {
	void *host;
	CUdeviceptr device;
	CUevent done;
	CUstream stream;
};

struct og_cuda_ring {
	struct og_cuda_device *d;
	struct og_cuda_slot slots[OG_CUDA_RING_SLOTS];
	uint32_t next;
	size_t slot_bytes;
};

/* One matrix of the file, which is rows `offset` … of one on the device, or turns of so many of them. */
struct og_cuda_strip {
	const struct og_cuda_matrix *to;
	const struct og_weight *from;
	uint32_t offset, turn;
	uint32_t stage; /* of the load */
};

struct og_cuda_strips {
	struct og_cuda_strip *of; /* in order of stages */
	uint32_t count;
};

/* Without a host buffer the slot has none; fini() also after a failure. */
int og_cuda_slot_init(struct og_cuda_slot *s, struct og_cuda_device *d, size_t host_bytes,
	size_t device_bytes) OG_MUST_CHECK;
void og_cuda_slot_fini(struct og_cuda_slot *s, struct og_cuda_device *d);
/* What was sent so far makes the slot free. */
int og_cuda_slot_mark(struct og_cuda_slot *s, struct og_cuda_device *d) OG_MUST_CHECK;

/* Of slots that hold any vector and any row in f32: no more than `most_bytes`, if that does. */
size_t og_cuda_slot_bytes(const struct og_model *m, size_t most_bytes);
/* fini() also after a failure */
int og_cuda_ring_init(
	struct og_cuda_ring *r, struct og_cuda_device *d, size_t slot_bytes) OG_MUST_CHECK;
void og_cuda_ring_fini(struct og_cuda_ring *r);
/* Until all that was put is there. */
int og_cuda_ring_wait(struct og_cuda_ring *r) OG_MUST_CHECK;
/* `from` NULL: nothing */
int og_cuda_ring_put_floats(
	struct og_cuda_ring *r, CUdeviceptr to, const float *from, uint32_t n) OG_MUST_CHECK;
/* Rows [first, first + count) of the strip, at `data` as they are in the file. */
int og_cuda_ring_put_rows(struct og_cuda_ring *r, const struct og_cuda_strip *s,
	const uint8_t *data, uint32_t first, uint32_t count) OG_MUST_CHECK;
/* The vectors of a stage, or those that it has. */
int og_cuda_ring_put_vectors(struct og_cuda_ring *r, const struct og_cuda_weights *w,
	const struct og_model *m, uint32_t stage) OG_MUST_CHECK;

/* Do kernels read this type as it is in the file? Others become f32 on the host. */
bool og_cuda_is_plain(enum og_dtype type);
/* Rows at `data`, device memory, of a plain type or f32. */
int og_cuda_convert_rows(struct og_cuda_device *d, CUstream stream, const struct og_cuda_strip *s,
	CUdeviceptr data, enum og_dtype type, uint32_t first, uint32_t count) OG_MUST_CHECK;

/* Of device memory, while og_cuda_upload() is at work. */
uint64_t og_cuda_upload_bytes(const struct og_model *m);
/* The whole model into arrays that are there and zero. */
int og_cuda_upload(struct og_cuda_weights *w, struct og_cuda_device *d,
	const struct og_model *m) OG_MUST_CHECK;
/* Of a held load. */
int og_cuda_stream(const struct og_cuda_weights *w, struct og_cuda_device *d,
	const struct og_model *m, const struct og_cuda_strips *strips) OG_MUST_CHECK;
