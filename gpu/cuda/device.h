/*
 * device.h: one CUDA device: context, kernels, memory, copies, launches, and waits that end.
 *
 * Each driver call passes through og_cuda_check(), the one place where a CUresult becomes an errno
 * and its text is logged. A failure while computing loses the device: nothing more is asked of it.
 *
 * Units:   bytes; device addresses are CUdeviceptr.
 * Threads: one engine thread.
 * Memory:  allocated at create only. After a wait that timed out nothing is freed: the driver may
 *          block on work that does not end.
 * Errors:  -ENOMEM out of device memory, -ENODEV no such device, -EOPNOTSUPP no kernels for it,
 *          -ETIMEDOUT a wait longer than wait_ms, -EIO anything else.
 */
#pragma once
#include "base/log.h"
#include "gpu/cuda/dyn_cuda.h"

#include <stdbool.h>

enum { OG_CUDA_WAIT_MS = 30 * 1000 };

/* All kernels, in the order of enum og_cuda_kernel. */
#define OG_CUDA_KERNELS(X)                                                                         \
	X(embed_rows)                                                                              \
	X(rope_angles)                                                                             \
	X(rms_norm)                                                                                \
	X(add_rows)                                                                                \
	X(cap_values)                                                                              \
	X(gate_rows)                                                                               \
	X(rope_append)                                                                             \
	X(rope_append_e4m3)                                                                        \
	X(convert_rows)                                                                            \
	X(quantize_rows)                                                                           \
	X(random_bf16)                                                                             \
	X(random_e4m3)                                                                             \
	X(matmul_8x16)                                                                             \
	X(matmul_8x32)                                                                             \
	X(matmul_16x16)                                                                            \
	X(matmul_16x32)                                                                            \
	X(matmul_32x32)                                                                            \
	X(matmul_64x32)                                                                            \
	X(matmul_64x64)                                                                            \
	X(matmul_128x128)                                                                          \
	X(matmul_8x16_e4m3)                                                                        \
	X(matmul_8x32_e4m3)                                                                        \
	X(matmul_16x16_e4m3)                                                                       \
	X(matmul_16x32_e4m3)                                                                       \
	X(matmul_32x32_e4m3)                                                                       \
	X(matmul_64x32_e4m3)                                                                       \
	X(matmul_64x64_e4m3)                                                                       \
	X(matmul_128x128_e4m3)                                                                     \
	X(attention_serial_32)                                                                     \
	X(attention_serial_64)                                                                     \
	X(attention_serial_128)                                                                    \
	X(attention_serial_256)                                                                    \
	X(attention_split_32)                                                                      \
	X(attention_split_64)                                                                      \
	X(attention_split_128)                                                                     \
	X(attention_serial_32_e4m3)                                                                \
	X(attention_serial_64_e4m3)                                                                \
	X(attention_serial_128_e4m3)                                                               \
	X(attention_split_32_e4m3)                                                                 \
	X(attention_split_64_e4m3)                                                                 \
	X(attention_split_128_e4m3)                                                                \
	X(attention_split_256)                                                                     \
	X(attention_merge)                                                                         \
	X(conveyor_32)                                                                             \
	X(conveyor_64)                                                                             \
	X(conveyor_128)                                                                            \
	X(draw_tokens)

enum og_cuda_kernel {
#define OG_CUDA_ENUM(name) OG_K_##name,
	OG_CUDA_KERNELS(OG_CUDA_ENUM)
#undef OG_CUDA_ENUM
		OG_CUDA_NB_KERNELS
};

typedef void og_cuda_log_fn(enum og_log_level level, const char *module, const char *fmt, ...);

struct og_cuda_device {
	struct og_cu cu;
	og_cuda_log_fn *log;
	CUdevice device;
	CUcontext context;
	CUmodule module;
	CUfunction kernels[OG_CUDA_NB_KERNELS];
	CUstream stream; /* of computation; uploads have their own */
	CUevent done;
	char name[128];
	int nb_processors;
	int compute_capability; /* 90 is 9.0 */
	uint32_t wait_ms;
	bool is_lost;
	bool is_stuck;
};

struct og_cuda_grid {
	uint32_t x, y, z;
	uint32_t threads;
	uint32_t shared_bytes;
};

/* Driver, context of device `index`, kernels, stream. `log` may be NULL. On error `err` has a sentence. */
int og_cuda_device_open(struct og_cuda_device *d, int index, og_cuda_log_fn *log, char *err,
	size_t err_bytes) OG_MUST_CHECK;
void og_cuda_device_close(struct og_cuda_device *d);
/* The calling thread works on this device from here on: contexts belong to threads. */
int og_cuda_device_enter(struct og_cuda_device *d) OG_MUST_CHECK;

/* 0, or the errno of `result` after logging what the driver calls it. */
int og_cuda_check(struct og_cuda_device *d, CUresult result, const char *what) OG_MUST_CHECK;
/* The same for work in progress: an error loses the device. */
int og_cuda_check_work(struct og_cuda_device *d, CUresult result, const char *what) OG_MUST_CHECK;

int og_cuda_free_bytes(struct og_cuda_device *d, size_t *free_bytes) OG_MUST_CHECK;
int og_cuda_alloc(struct og_cuda_device *d, CUdeviceptr *out, size_t bytes) OG_MUST_CHECK;
void og_cuda_free(struct og_cuda_device *d, CUdeviceptr p); /* 0 is ignored */
int og_cuda_alloc_host(struct og_cuda_device *d, void *out, size_t bytes) OG_MUST_CHECK;
void og_cuda_free_host(struct og_cuda_device *d, void *p);

/* `args`: a pointer to each of the kernel's parameters. */
int og_cuda_launch(struct og_cuda_device *d, CUstream stream, enum og_cuda_kernel kernel,
	struct og_cuda_grid grid, void **args) OG_MUST_CHECK;
/* The same, with all blocks there at once. */
int og_cuda_launch_together(struct og_cuda_device *d, CUstream stream, enum og_cuda_kernel kernel,
	struct og_cuda_grid grid, void **args) OG_MUST_CHECK;
/* *nb_blocks: so many of them a processor holds, with shared memory that is allowed from here on. */
int og_cuda_fit(struct og_cuda_device *d, enum og_cuda_kernel kernel, uint32_t threads,
	uint32_t shared_bytes, int *nb_blocks) OG_MUST_CHECK;
int og_cuda_attribute(
	struct og_cuda_device *d, CUdevice_attribute attribute, int *out) OG_MUST_CHECK;
/* Until all of `stream` up to now is done. */
int og_cuda_wait(struct og_cuda_device *d, CUstream stream) OG_MUST_CHECK;
/*
 * Until `event`, or until the words that kernels before it write to pinned memory are there: those
 * whose upper half is `number`. `words` may be NULL.
 */
struct og_cuda_words {
	const uint64_t *words;
	const struct og_cuda_draw *draws; /* say which words */
	uint32_t nb_draws;
	uint32_t number;
};
int og_cuda_wait_event(
	struct og_cuda_device *d, CUevent event, const struct og_cuda_words *words) OG_MUST_CHECK;

int og_cuda_make_event(struct og_cuda_device *d, CUevent *out) OG_MUST_CHECK;
void og_cuda_free_event(struct og_cuda_device *d, CUevent event); /* NULL is ignored */
