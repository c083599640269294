/*
 * model_priv.h: the parts of opening a model: files and headers (model_files.c), names and shapes of
 * weights (model_bind.c), the load (model.c), weights in 8-bit floats (model_unpack.c), the layout in
 * memory (model_pack.c).
 */
#pragma once
#include "gpu/complain.h"
#include "gpu/model.h"
#include "gpu/safetensors.h"

#include <pthread.h>

/* A vector of the model in plain floats, filled when its stage has arrived. */
struct og_model_vector {
	struct og_model_vector *next;
	const uint8_t *from;
	enum og_dtype type;
	uint32_t stage;
	uint32_t n;
	float add;
	const char
		*positive; /* its name, where anything else would poison every position; or NULL */
	float *out;        /* `values`, or a place in the hparams */
	float values[];
};

/*
 * A matrix in e4m3, and a scale of each block of it: value times scale is the weight. Made BF16 when
 * its stage has arrived, in memory of its own; that of the codes is given back.
 */
struct og_model_unpack {
	struct og_model_unpack *next;
	const struct og_tensor *tensor, *scale;
	const uint8_t *codes, *scale_data;
	uint32_t stage;
	uint64_t n_in, n_rows;
	uint64_t block_rows, block_cols, scales_per_row; /* of blocks */
	struct og_arena out;
};

/* Start before the first stage arrives. Returns 0, or an errno of og_pool_create(). */
int og_model_unpack_start(struct og_model *m) OG_MUST_CHECK;
/* Matrices of stages from_stage … to_stage - 1. Returns 0, -EBADMSG and m->bad_scale, or -ENOMEM. */
int og_model_unpack(struct og_model *m, uint32_t from_stage, uint32_t to_stage) OG_MUST_CHECK;
void og_model_unpack_stop(struct og_model *m);
void og_model_unpack_free(struct og_model *m);

/* Who loads, and how others wait for it. */
struct og_model_thread {
	pthread_t id;
	bool is_running;
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

/*
 * Lay the weights of a stage that has just arrived out in panels, where they lie, with threads of its
 * own. Returns 0 or -ENOMEM.
 */
int og_model_packer_create(struct og_model *m) OG_MUST_CHECK;
int og_model_pack(struct og_model *m, uint32_t stage) OG_MUST_CHECK;
void og_model_packer_destroy(struct og_model *m);

/* Open the files, read their headers and shape. Fill hp, tensors and files; arenas are made. */
int og_model_read_gguf(
	struct og_model *m, const char *path, char *err, size_t err_bytes) OG_MUST_CHECK;
int og_model_read_folder(
	struct og_model *m, const char *path, char *err, size_t err_bytes) OG_MUST_CHECK;

/* One more file of the model. Takes ownership of `header` and `name`, also on failure. */
int og_model_add_file(
	struct og_model *m, const struct og_file *f, char *name, uint8_t *header) OG_MUST_CHECK;

/*
 * Find each weight by its name, check its shape, and note which stage its bytes belong to. Pointers
 * into the arenas are set; the bytes need not have arrived.
 */
int og_model_bind(struct og_model *m, const char *path, char *err, size_t err_bytes) OG_MUST_CHECK;
