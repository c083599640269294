/*
 * model_priv.h: the parts of opening a model: files and headers (model_files.c), names and shapes of
 * weights (model_bind.c), the load (model.c), the layout in memory
 * (model_pack.c).
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
