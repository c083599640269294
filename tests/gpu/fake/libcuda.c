/*
 * libcuda.c: plays the CUDA driver for tests of faults: device memory is host memory, kernels compute
 * nothing, and the call that a test names fails the way the real one does.
 *
 * It is found as libcuda.so.1 through LD_LIBRARY_PATH, so what runs is the product as it is.
 */
#include "tests/gpu/fake/libcuda.h"

#include <cuda.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static struct fake_cuda state = {.memory_bytes = 1ull << 30};

struct fake_cuda *fake_cuda(void)
{
	return &state;
}

static _Thread_local CUcontext current; /* contexts belong to threads */

/* Counts the call; what it is to return. */
static CUresult call(void)
{
	state.nb_calls++;
	if (state.nb_calls == state.fail_at ||
		(state.sticky && state.fail_at && state.nb_calls > state.fail_at))
		return (CUresult)state.result;
	return CUDA_SUCCESS;
}

static CUresult make(void **out, size_t bytes)
{
	CUresult ret = call();

	if (ret != CUDA_SUCCESS)
		return ret;
	if (bytes > state.memory_bytes)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*out = calloc(1, bytes ? bytes : 1);
	state.nb_live++;
	return CUDA_SUCCESS;
}

static CUresult drop(void *p)
{
	CUresult ret = call();

	/* What fails still frees: this driver must not leak under a leak checker. */
	free(p);
	state.nb_live--;
	return ret;
}

CUresult cuInit(unsigned flags)
{
	return call();
}

CUresult cuGetErrorName(CUresult error, const char **text)
{
	*text = "CUDA_ERROR_OF_A_TEST";
	return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
	*text = "the test wanted it";
	return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
	*device = ordinal;
	return call();
}

CUresult cuDeviceGetCount(int *count)
{
	*count = state.no_device ? 0 : 1;
	return call();
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{
	strncpy(name, "a device that computes nothing", (size_t)len);
	return call();
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attribute, CUdevice dev)
{
	*pi = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? 9
	      : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? 0
									  : 132;
	return call();
}

static void *primary;

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice dev)
{
	CUresult ret = make(&primary, 1);

	if (ret == CUDA_SUCCESS)
		*context = primary;
	return ret;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev)
{
	CUresult ret = drop(primary);

	primary = NULL;
	return ret;
}

CUresult cuCtxSetCurrent(CUcontext ctx)
{
	current = ctx;
	return call();
}

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total)
{
	*free_bytes = *total = state.memory_bytes;
	return call();
}

CUresult cuMemAlloc(CUdeviceptr *dptr, size_t bytesize)
{
	return make((void **)dptr, bytesize);
}

CUresult cuMemFree(CUdeviceptr dptr)
{
	return drop((void *)dptr);
}

CUresult cuMemAllocHost(void **pp, size_t bytesize)
{
	return make(pp, bytesize);
}

CUresult cuMemFreeHost(void *p)
{
	return drop(p);
}

CUresult cuMemsetD8Async(CUdeviceptr dst, unsigned char uc, size_t n, CUstream stream)
{
	memset((void *)dst, uc, n);
	return call();
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t n, CUstream stream)
{
	memcpy((void *)dst, src, n);
	return call();
}

CUresult cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t n, CUstream stream)
{
	memcpy(dst, (const void *)src, n);
	return call();
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream stream)
{
	memcpy((void *)dst, (const void *)src, n);
	return call();
}

CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
	return make((void **)stream, 1);
}

CUresult cuStreamDestroy(CUstream stream)
{
	return drop(stream);
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags)
{
	return call();
}

CUresult cuEventCreate(CUevent *event, unsigned flags)
{
	return make((void **)event, 1);
}

CUresult cuEventDestroy(CUevent event)
{
	return drop(event);
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	return call();
}

CUresult cuEventQuery(CUevent event)
{
	return state.hangs ? CUDA_ERROR_NOT_READY : call();
}

CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to)
{
	*ms = 1;
	return call();
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
	/* The magic number of a fat binary: the image really is one. */
	if (*(const unsigned *)image != 0xba55ed50)
		return CUDA_ERROR_INVALID_IMAGE;
	return make((void **)module, 1);
}

CUresult cuModuleUnload(CUmodule module)
{
	return drop(module);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
	*function = (CUfunction)(size_t)1;
	return call();
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value)
{
	return call();
}

CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
	unsigned by, unsigned bz, unsigned shared_bytes, CUstream stream, void **params,
	void **extra)
{
	CUresult ret = call();

	/* What the hardware would refuse. */
	if (!current)
		return CUDA_ERROR_INVALID_CONTEXT;
	if (gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535 || bx == 0 || bx > 1024 ||
		shared_bytes > 99 * 1024)
		return CUDA_ERROR_INVALID_VALUE;
	return ret;
}
