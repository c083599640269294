/*
 * model.h: a model: its shape, its weights and the header they came with, from a GGUF file or from a
 * folder as Hugging Face publishes it (config.json, safetensors in one or many files; weights in e4m3
 * with scales beside them too, as fp8, compressed-tensors and modelopt have them).
 *
 * Source:  GGUF tensor names of llama.cpp; tensor names of transformers.
 * Units:   shapes in values; a weight has n_out rows of n_in values. Stages: 0 is what the first
 *          layer needs (the embedding), 1 + i layer i, 1 + nb_layers the output.
 * Threads: immutable once open, but for the bytes that a background load still brings: wait for a
 *          stage before its weights are read.
 * Memory:  owns the headers and the weights; everything else points into them. Ranges and types are
 *          checked at open, so users of the struct need not. Matrices that a folder has in e4m3 become
 *          BF16 as they arrive, in twice their bytes, and only that is kept.
 */
#pragma once
#include "gpu/gguf.h"
#include "gpu/hparams.h"
#include "gpu/loader.h"

enum {
	OG_MODEL_FILES_MAX = 1024,
	OG_MODEL_TENSORS_MAX = 64 * 1024,
	OG_MODEL_JSON_MAX_BYTES = 16 * 1024 * 1024, /* of config.json, the index and the like */
};

struct og_weight {
	const uint8_t *data;
	enum og_dtype type;
	uint32_t n_in;
	uint32_t n_out;
	uint32_t panel_rows; /* so many, the first ones, lie in panels (gpu/panels.h) */
	size_t row_bytes;
};

/* Pointers are NULL, and weights without data, where the model has none of that. */
struct og_layer {
	const float *attn_norm;
	struct og_weight q, k, v, o;
	const float *q_bias, *k_bias, *v_bias, *o_bias;
	const float *q_norm, *k_norm; /* (head_dim) */
	const float *attn_post_norm;  /* of what attention adds to the stream */
	const float *ffn_norm;
	struct og_weight gate, up, down;
	const float *ffn_post_norm;
};

struct og_model_vector;
struct og_model_thread;
struct og_model_packer;
struct og_model_unpack;
struct og_pool;

struct og_model {
	struct og_hparams hp;
	struct og_weight embedding;
	struct og_weight output; /* the embedding where the model ties them */
	const float *output_norm;
	struct og_layer *layers;
	struct og_generation generation; /* folders only: a GGUF's tokenizer knows its end tokens */
	uint64_t weight_bytes;
	bool is_folder;
	struct og_gguf gguf; /* empty for a folder */

	/* Private to model*.c. */
	uint8_t **headers; /* of each file */
	struct og_load_source *files;
	char **names;
	uint32_t nb_files;
	const struct og_tensor *tensors; /* of all files, in order of names */
	struct og_tensor *own_tensors;
	uint32_t nb_tensors;
	struct og_safetensors *safetensors;
	struct og_load_piece *pieces;
	uint32_t nb_pieces;
	struct og_model_vector *vectors;
	const char *bad_tensor; /* whose values are refused */
	struct og_model_unpack *unpacks;
	struct og_pool *unpack_pool; /* while weights arrive */
	const struct og_tensor *bad_scale;
	/* The background load. */
	struct og_model_thread *thread;
	struct og_model_packer *packer; /* while weights arrive that it lays out */
	bool stop;
	uint32_t stages_ready; /* released by the loading thread */
	int load_ret;
	char load_err[256];
	struct og_load_opts load_opts;
	struct og_load_progress *progress;
	const struct og_model_sink *sink;
};

/*
 * Who takes the weights in place of host memory, as they lie in the file: what deliver() gets of a
 * chunk is at og_model_place() of each weight. The model's vectors and factors are host memory all the
 * same. All is called by the loading thread; a negative errno ends the load.
 */
struct og_model_sink {
	/* As in og_load_opts. */
	uint8_t *buffers;
	int (*deliver)(void *arg, uint32_t source, uint64_t offset, const uint8_t *data,
		uint32_t len_bytes);
	int (*reuse)(void *arg, const uint8_t *data);
	/* The vectors of stages [from, to) are here, and all their weights have been delivered. */
	int (*ready)(void *arg, uint32_t from, uint32_t to);
	void *arg;
};

/*
 * Read and check a GGUF file, or the files of a folder, and load the weights. Returns 0 or a negative
 * errno with a sentence in `err`. `load` and `progress` may be NULL. The caller owes
 * og_model_close().
 */
int og_model_open(struct og_model **out, const char *path, const struct og_load_opts *load,
	struct og_load_progress *progress, char *err, size_t err_bytes) OG_MUST_CHECK;
/* The same, but returns when the headers are checked; a thread then brings the weights. */
int og_model_open_background(struct og_model **out, const char *path,
	const struct og_load_opts *load, struct og_load_progress *progress, char *err,
	size_t err_bytes) OG_MUST_CHECK;
/* Are there weights in e4m3, which become BF16 in host memory? */
bool og_model_is_unpacked(const struct og_model *m);
/*
 * Begins the load of a model that was opened with `is_held`, once: to a sink, which lives until
 * og_model_finish(), and only if nothing is unpacked; or with NULL to memory, laid out by
 * `panel_threads`. Returns 0 or a negative errno: then og_model_load_error() says why, and the load
 * has failed.
 */
int og_model_begin(const struct og_model *m, const struct og_model_sink *sink,
	uint32_t panel_threads) OG_MUST_CHECK;
/* Waits for the loading thread to end; nothing of it is at work then. Of who began or opened. */
void og_model_finish(const struct og_model *m);
/* Where in its file a weight begins, or any byte of the arenas. */
struct og_model_place {
	uint32_t source;
	uint64_t offset;
};
struct og_model_place og_model_place(const struct og_model *m, const uint8_t *data);
/* Ends a load in progress. */
void og_model_close(struct og_model *m);
/* The same without closing: what waits for a stage gets -ECANCELED. From any thread. */
void og_model_stop(struct og_model *m);
/* Of a background load, from any thread: 1 all is here, 0 on its way, or its error. */
int og_model_load_state(const struct og_model *m) OG_MUST_CHECK;

/* Waits until the stage's weights are here. Returns 0 or the load's error. */
int og_model_wait_slow(struct og_model *m, uint32_t stage) OG_MUST_CHECK;
static inline int og_model_wait(const struct og_model *m, uint32_t stage)
{
	/* pairs with the release in model.c */
	if (__atomic_load_n(&m->stages_ready, __ATOMIC_ACQUIRE) > stage)
		return 0;
	return og_model_wait_slow((struct og_model *)m, stage);
}
/* The sentence of a load that failed; "" otherwise. Call after og_model_wait(). */
const char *og_model_load_error(const struct og_model *m);

/* Row `row` as plain floats; out has n_in of them. */
void og_weight_row(const struct og_weight *w, uint32_t row, float *out);
