/*
 * dyn_cuda.h: the functions of the CUDA driver that this back end calls, found by dlopen.
 *
 * Nothing links against CUDA: a table is filled from libcuda.so.1 where the driver is installed.
 *
 * Source:  CUDA driver API, 12 and later; versioned names as cuda.h maps them.
 * Threads: filled once, then read only.
 */
#pragma once
#include "base/def.h"

#include <cuda.h>

/* The name in the library is what the macros of cuda.h make of it (cuMemAlloc: cuMemAlloc_v2). */
#define OG_CU_FUNCTIONS(X)                                                                         \
	X(cuInit)                                                                                  \
	X(cuGetErrorName)                                                                          \
	X(cuGetErrorString)                                                                        \
	X(cuDeviceGet)                                                                             \
	X(cuDeviceGetCount)                                                                        \
	X(cuDeviceGetName)                                                                         \
	X(cuDeviceGetAttribute)                                                                    \
	X(cuDevicePrimaryCtxRetain)                                                                \
	X(cuDevicePrimaryCtxRelease)                                                               \
	X(cuCtxSetCurrent)                                                                         \
	X(cuMemGetInfo)                                                                            \
	X(cuMemAlloc)                                                                              \
	X(cuMemFree)                                                                               \
	X(cuMemAllocHost)                                                                          \
	X(cuMemFreeHost)                                                                           \
	X(cuMemsetD8Async)                                                                         \
	X(cuMemcpyHtoDAsync)                                                                       \
	X(cuMemcpyDtoHAsync)                                                                       \
	X(cuMemcpyDtoDAsync)                                                                       \
	X(cuStreamCreate)                                                                          \
	X(cuStreamDestroy)                                                                         \
	X(cuStreamWaitEvent)                                                                       \
	X(cuEventCreate)                                                                           \
	X(cuEventDestroy)                                                                          \
	X(cuEventRecord)                                                                           \
	X(cuEventQuery)                                                                            \
	X(cuEventElapsedTime)                                                                      \
	X(cuModuleLoadData)                                                                        \
	X(cuModuleUnload)                                                                          \
	X(cuModuleGetFunction)                                                                     \
	X(cuFuncSetAttribute)                                                                      \
	X(cuLaunchKernel)                                                                          \
	X(cuLaunchCooperativeKernel)                                                               \
	X(cuOccupancyMaxActiveBlocksPerMultiprocessor)

struct og_cu {
	void *library;
#define OG_CU_MEMBER(name) __typeof__(&name) name;
	OG_CU_FUNCTIONS(OG_CU_MEMBER)
#undef OG_CU_MEMBER
};

/*
 * Returns 0, -ENODEV with a sentence where there is no driver, or -EOPNOTSUPP where it is too old.
 * Needs no clean-up: the driver stays loaded.
 */
int og_cu_open(struct og_cu *cu, char *err, size_t err_bytes) OG_MUST_CHECK;
