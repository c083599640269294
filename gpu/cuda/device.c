#include "gpu/cuda/device.h"

#include "gpu/cuda/shapes.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The compiled kernels: see image.S. */
extern const unsigned char og_cuda_fatbin[];

enum {
	SPIN_NS = 5 * 1000 * 1000,
	NAP_NS = 100 * 1000,
	CAPABILITY_MIN = 80, /* asynchronous copies to shared memory, bf16 */
};

static int errno_of(CUresult result)
{
	switch (result) {
	case CUDA_SUCCESS:
		return 0;
	case CUDA_ERROR_OUT_OF_MEMORY:
		return -ENOMEM;
	case CUDA_ERROR_NO_DEVICE:
	case CUDA_ERROR_INVALID_DEVICE:
	case CUDA_ERROR_DEVICE_UNAVAILABLE:
	case CUDA_ERROR_SYSTEM_NOT_READY:
		return -ENODEV;
	case CUDA_ERROR_NO_BINARY_FOR_GPU:
	case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
	case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
		return -EOPNOTSUPP;
	case CUDA_ERROR_LAUNCH_TIMEOUT:
		return -ETIMEDOUT;
	default:
		return -EIO;
	}
}

int og_cuda_check(struct og_cuda_device *d, CUresult result, const char *what)
{
	const char *name = NULL, *text = NULL;

	if (result == CUDA_SUCCESS)
		return 0;
	if (d->cu.cuGetErrorName(result, &name) != CUDA_SUCCESS)
		name = NULL;
	if (d->cu.cuGetErrorString(result, &text) != CUDA_SUCCESS)
		text = NULL;
	if (d->log)
		d->log(OG_LOG_ERR, "cuda", "%s: %s (%d): %s", what, name ? name : "unknown error",
			(int)result, text ? text : "no description");
	return errno_of(result);
}

int og_cuda_check_work(struct og_cuda_device *d, CUresult result, const char *what)
{
	int ret = og_cuda_check(d, result, what);

	d->is_lost |= ret < 0;
	return ret;
}

int og_cuda_attribute(struct og_cuda_device *d, CUdevice_attribute attribute, int *out)
{
	return og_cuda_check(
		d, d->cu.cuDeviceGetAttribute(out, attribute, d->device), "cuDeviceGetAttribute");
}

static int find_device(struct og_cuda_device *d, int index, char *err, size_t err_bytes)
{
	int count = 0, major = 0, minor = 0;
	int ret = og_cuda_check(d, d->cu.cuInit(0), "cuInit");

	if (ret == 0)
		ret = og_cuda_check(d, d->cu.cuDeviceGetCount(&count), "cuDeviceGetCount");
	if (ret == 0 && (index < 0 || index >= count))
		ret = -ENODEV;
	if (ret == 0)
		ret = og_cuda_check(d, d->cu.cuDeviceGet(&d->device, index), "cuDeviceGet");
	if (ret < 0) {
		snprintf(err, err_bytes, "no CUDA device %d: the driver offers %d", index, count);
		return ret;
	}
	ret = og_cuda_check(
		d, d->cu.cuDeviceGetName(d->name, sizeof(d->name), d->device), "cuDeviceGetName");
	if (ret == 0)
		ret = og_cuda_attribute(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major);
	if (ret == 0)
		ret = og_cuda_attribute(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor);
	if (ret == 0)
		ret = og_cuda_attribute(
			d, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &d->nb_processors);
	d->compute_capability = 10 * major + minor;
	if (ret < 0) {
		snprintf(err, err_bytes, "CUDA device %d does not describe itself", index);
	} else if (d->compute_capability < CAPABILITY_MIN) {
		snprintf(err, err_bytes, "%s has compute capability %d.%d; 8.0 is the least",
			d->name, major, minor);
		ret = -EOPNOTSUPP;
	}
	return ret;
}

/* Kernels that use more shared memory than a block gets without asking. */
static int raise_shared_limits(struct og_cuda_device *d)
{
	/* Of pages in e4m3, the scales of two stages of keys and values. */
	enum { SCALES_BYTES = 2 * 2 * 2 * OG_CUDA_BLOCK_TOKENS };
	static const struct {
		enum og_cuda_kernel kernel;
		int bytes;
	} limits[] = {
		{OG_K_matmul_128x128, 3 * 256 * OG_CUDA_K_STEP * 2},
		{OG_K_attention_split_128, 512 * 128},
		{OG_K_attention_serial_64, 768 * 64},
		{OG_K_attention_serial_128, 768 * 128},
		{OG_K_attention_split_128_e4m3, 512 * 128 + SCALES_BYTES},
		{OG_K_attention_serial_64_e4m3, 768 * 64 + SCALES_BYTES},
		{OG_K_attention_serial_128_e4m3, 768 * 128 + SCALES_BYTES},
		{OG_K_attention_serial_256, (192 + 128) * 256},
		{OG_K_matmul_64x64, 3 * 128 * OG_CUDA_K_STEP * 2},
		{OG_K_matmul_64x64_e4m3, 3 * 128 * OG_CUDA_K_STEP * 2},
		{OG_K_matmul_128x128_e4m3, 3 * 256 * OG_CUDA_K_STEP * 2},
	};
	int ret = 0;

	for (size_t i = 0; i < OG_ARRAY_LEN(limits) && ret == 0; i++)
		ret = og_cuda_check(d,
			d->cu.cuFuncSetAttribute(d->kernels[limits[i].kernel],
				CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, limits[i].bytes),
			"cuFuncSetAttribute");
	return ret;
}

static const char *const kernel_names[] = {
#define OG_CUDA_NAME(name) #name,
	OG_CUDA_KERNELS(OG_CUDA_NAME)
#undef OG_CUDA_NAME
};

static int load_kernels(struct og_cuda_device *d)
{
	int ret = og_cuda_check(
		d, d->cu.cuModuleLoadData(&d->module, og_cuda_fatbin), "cuModuleLoadData");

	for (size_t i = 0; i < OG_ARRAY_LEN(kernel_names) && ret == 0; i++)
		ret = og_cuda_check(d,
			d->cu.cuModuleGetFunction(&d->kernels[i], d->module, kernel_names[i]),
			kernel_names[i]);
	return ret == 0 ? raise_shared_limits(d) : ret;
}

int og_cuda_device_open(
	struct og_cuda_device *d, int index, og_cuda_log_fn *log, char *err, size_t err_bytes)
{
	int ret;

	*d = (struct og_cuda_device){.log = log, .wait_ms = OG_CUDA_WAIT_MS};
	ret = og_cu_open(&d->cu, err, err_bytes);
	if (ret == 0)
		ret = find_device(d, index, err, err_bytes);
	if (ret < 0)
		return ret;
	ret = og_cuda_check(d, d->cu.cuDevicePrimaryCtxRetain(&d->context, d->device),
		"cuDevicePrimaryCtxRetain");
	if (ret == 0)
		ret = og_cuda_check(d, d->cu.cuCtxSetCurrent(d->context), "cuCtxSetCurrent");
	if (ret == 0)
		ret = load_kernels(d);
	if (ret == 0)
		ret = og_cuda_check(d, d->cu.cuStreamCreate(&d->stream, CU_STREAM_NON_BLOCKING),
			"cuStreamCreate");
	if (ret == 0)
		ret = og_cuda_make_event(d, &d->done);
	if (ret < 0) {
		snprintf(err, err_bytes, "%s could not be opened: %s", d->name, strerror(-ret));
		og_cuda_device_close(d);
	}
	return ret;
}

int og_cuda_device_enter(struct og_cuda_device *d)
{
	if (d->is_stuck)
		return -EIO;
	return og_cuda_check_work(d, d->cu.cuCtxSetCurrent(d->context), "cuCtxSetCurrent");
}

void og_cuda_device_close(struct og_cuda_device *d)
{
	if (d->is_stuck || !d->context)
		return;
	if (d->done)
		(void)d->cu.cuEventDestroy(d->done);
	if (d->stream)
		(void)d->cu.cuStreamDestroy(d->stream);
	if (d->module)
		(void)d->cu.cuModuleUnload(d->module);
	(void)d->cu.cuDevicePrimaryCtxRelease(d->device);
	d->context = NULL;
}

int og_cuda_free_bytes(struct og_cuda_device *d, size_t *free_bytes)
{
	size_t total;

	return og_cuda_check(d, d->cu.cuMemGetInfo(free_bytes, &total), "cuMemGetInfo");
}

int og_cuda_alloc(struct og_cuda_device *d, CUdeviceptr *out, size_t bytes)
{
	return og_cuda_check(d, d->cu.cuMemAlloc(out, OG_MAX(bytes, 1u)), "cuMemAlloc");
}

void og_cuda_free(struct og_cuda_device *d, CUdeviceptr p)
{
	if (p && !d->is_stuck)
		(void)d->cu.cuMemFree(p);
}

int og_cuda_alloc_host(struct og_cuda_device *d, void *out, size_t bytes)
{
	return og_cuda_check(d, d->cu.cuMemAllocHost(out, OG_MAX(bytes, 1u)), "cuMemAllocHost");
}

void og_cuda_free_host(struct og_cuda_device *d, void *p)
{
	if (p && !d->is_stuck)
		(void)d->cu.cuMemFreeHost(p);
}

int og_cuda_make_event(struct og_cuda_device *d, CUevent *out)
{
	return og_cuda_check(d, d->cu.cuEventCreate(out, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
}

void og_cuda_free_event(struct og_cuda_device *d, CUevent event)
{
	if (event && !d->is_stuck)
		(void)d->cu.cuEventDestroy(event);
}

int og_cuda_launch(struct og_cuda_device *d, CUstream stream, enum og_cuda_kernel kernel,
	struct og_cuda_grid g, void **args)
{
	return og_cuda_check_work(d,
		d->cu.cuLaunchKernel(d->kernels[kernel], g.x, g.y, g.z, g.threads, 1, 1,
			g.shared_bytes, stream, args, NULL),
		kernel_names[kernel]);
}

int og_cuda_launch_together(struct og_cuda_device *d, CUstream stream, enum og_cuda_kernel kernel,
	struct og_cuda_grid g, void **args)
{
	return og_cuda_check_work(d,
		d->cu.cuLaunchCooperativeKernel(d->kernels[kernel], g.x, g.y, g.z, g.threads, 1, 1,
			g.shared_bytes, stream, args),
		kernel_names[kernel]);
}

int og_cuda_fit(struct og_cuda_device *d, enum og_cuda_kernel kernel, uint32_t threads,
	uint32_t shared_bytes, int *nb_blocks)
{
	int ret = og_cuda_check(d,
		d->cu.cuFuncSetAttribute(d->kernels[kernel],
			CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)shared_bytes),
		"cuFuncSetAttribute");

	if (ret < 0)
		return ret;
	return og_cuda_check(d,
		d->cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(
			nb_blocks, d->kernels[kernel], (int)threads, shared_bytes),
		"cuOccupancyMaxActiveBlocksPerMultiprocessor");
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * OG_NS_PER_S + (uint64_t)t.tv_nsec;
}

static bool have_come(const struct og_cuda_words *w)
{
	if (!w || w->nb_draws == 0)
		return false;
	for (uint32_t i = 0; i < w->nb_draws; i++) {
		/* Written by the device as one. */
		uint64_t word = __atomic_load_n(&w->words[w->draws[i].result], __ATOMIC_ACQUIRE);

		if (word >> 32 != w->number)
			return false;
	}
	return true;
}

/* Short waits are spun, for a step takes milliseconds; long ones sleep; none is for ever. */
int og_cuda_wait_event(struct og_cuda_device *d, CUevent event, const struct og_cuda_words *words)
{
	static const struct timespec nap = {0, NAP_NS};
	uint64_t start_ns = now_ns(), waited_ns;
	CUresult result;

	while ((result = d->cu.cuEventQuery(event)) == CUDA_ERROR_NOT_READY) {
		if (have_come(words))
			return 0;
		waited_ns = now_ns() - start_ns;
		if (waited_ns > d->wait_ms * OG_NS_PER_MS) {
			d->is_lost = d->is_stuck = true;
			if (d->log)
				d->log(OG_LOG_ERR, "cuda", "%s did not answer within %u ms",
					d->name, d->wait_ms);
			return -ETIMEDOUT;
		}
		if (waited_ns > SPIN_NS)
			nanosleep(&nap, NULL);
		else
			sched_yield();
	}
	return og_cuda_check_work(d, result, "work on the device");
}

int og_cuda_wait(struct og_cuda_device *d, CUstream stream)
{
	int ret = og_cuda_check_work(d, d->cu.cuEventRecord(d->done, stream), "cuEventRecord");

	return ret < 0 ? ret : og_cuda_wait_event(d, d->done, NULL);
}
