/*
 * cublaslt.h: products by NVIDIA's cuBLASLt, for the many rows of prompts.
 *
 * bf16 in, sums in f32. For each shape of matrix an algorithm is chosen once, for the most rows there
 * can be, of those that take a sum in one go: no split of it, no reduction. The same is used for any
 * number of rows, so that a row's bits do not depend on what is computed beside it, as far as the
 * library keeps to that: it promises the same bits for the same call only. cuda_check looks. They are
 * not the bits of our own kernels.
 *
 * Threads: the engine thread.
 * Memory:  device memory for the library's work, taken at open.
 * Errors:  those of device.h; at open and add a sentence in `err`, and nothing is lost; a failure of
 *          a product loses the device.
 */
#pragma once
#include "gpu/cuda/kernels.h"

struct og_cuda_lt;

int og_cuda_lt_open(struct og_cuda_lt **out, struct og_cuda_device *d, char *err,
	size_t err_bytes) OG_MUST_CHECK;
void og_cuda_lt_close(struct og_cuda_lt *lt); /* NULL is ignored */

/* Choose for matrices of this shape: og_cuda_product_cols() of a product, and rows of w->kp values. */
int og_cuda_lt_add(struct og_cuda_lt *lt, uint32_t kp, uint32_t cols, uint32_t rows_max, char *err,
	size_t err_bytes) OG_MUST_CHECK;

/*
 * As og_cuda_multiply(), with `how` of no meaning, and ld the number of columns where the epilogue is
 * STORE or ADD. For the others gates (rows, og_cuda_product_cols()) f32 takes what is between.
 */
int og_cuda_lt_multiply(
	struct og_cuda_lt *lt, const struct og_cuda_product *p, CUdeviceptr gates) OG_MUST_CHECK;
