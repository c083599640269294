/*
 * forward.h: the back end itself, inside the module; programs come in through open.h.
 *
 * A step is one stream of launches: embedding; per layer norm, q|k|v, rotation with the KV append,
 * attention, output with the residual, norm, gate|up, down with the residual; then the rows that want
 * logits or a token. The residual stream is f32, what is multiplied is bf16, keys and values are fp16
 * in the layout of kv_cache.h, or e4m3 in that of shapes.h: attention makes fp16 of them, exactly. Their
 * scale is a power of two for each token and head, as keys of some models reach far beyond 448, and
 * values of others stay far below 1.
 *
 * A step of up to 16 rows, each of a sequence of its own, may be one launch instead (conveyor.cuh), with
 * the same bits: where the options say so, weights and pages are not fp8, the device has cooperative launches, and rows times
 * splits of the longest are within OG_CUDA_SPLIT_UNITS.
 *
 * Tokens are drawn in the same stream: each goes to pinned memory, and stays on the device for the
 * next step. Each step in flight has buffers of its own for what it is given. Rows that want logits
 * make the submit wait for them.
 *
 * Prompts can be multiplied by cuBLASLt instead of our own kernels (og_backend_opts.cublaslt): runs of
 * two rows and more of a sequence are, by themselves; rows that come alone, as all do that follow a
 * drawn token, keep our kernels and their bits. Where the library does not start, that is logged, and
 * our kernels multiply.
 *
 * Errors:  any failure in a step loses the device: this step and all later ones return an errno.
 */
#pragma once
#include "gpu/backend.h"
#include "gpu/cuda/kernels.h"

/* For tests and benches. */
struct og_cuda_tuning {
	enum og_cuda_matmul matmul;
	int attention; /* 0: by shape, 1: serial, 2: split */
	int decode;    /* 0: as the options say, 1: plain, 2: by conveyor, if it was so at create */
	bool cublaslt; /* at create as if the options said so; later, whether it is used */
	uint32_t wait_ms;    /* until a device is given up; 0: OG_CUDA_WAIT_MS */
	bool random_weights; /* of this seed's shape instead of the model's: its data is not read */
};

int og_cuda_forward_create(struct og_backend **out, const struct og_backend_opts *opts, int device,
	og_cuda_log_fn *log, const struct og_cuda_tuning *tuning, char *err,
	size_t err_bytes) OG_MUST_CHECK;
/* Steps that were one launch. */
uint64_t og_cuda_forward_conveyor_steps(const struct og_backend *b);
/*
 * The device of a back end made above, for benches; whether cuBLASLt started; and changed tuning, but
 * for random_weights.
 */
struct og_cuda_device *og_cuda_forward_device(struct og_backend *b);
bool og_cuda_forward_has_cublaslt(struct og_backend *b);
void og_cuda_forward_tune(struct og_backend *b, const struct og_cuda_tuning *tuning);
