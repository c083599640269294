/*
 * libcuda.c: plays the CUDA driver for tests: device memory is host memory, streams are synchronous,
 * and the call that a test names fails the way the real one does. What kernels do: device.h. With
 * FAKE_CUDA_LATE in the environment nothing is done before somebody waits for it, and an event is
 * over a little after the work before it.
 *
 * It is found as libcuda.so.1 through LD_LIBRARY_PATH, so what runs is the product as it is.
 */
#include "tests/gpu/fake/libcuda.h"

#include "tests/gpu/fake/device.h"

#include <cuda.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
	SHARED_BYTES = 48 * 1024, /* that a block has without asking */
	THREADS_MAX = 1024,
	FUNCTIONS_MAX = 256,
};

/* That a block can ask for, on the smallest of the devices served, unless FAKE_CUDA_SHARED_KB says it. */
static int shared_bytes_max = 99 * 1024;

static struct fake_cuda state = {.memory_bytes = 1ull << 30, .nb_processors = 132};

static struct function {
	const void *kernel;
	unsigned shared_bytes_max;
} functions[FUNCTIONS_MAX];
static size_t nb_functions;
static bool is_broken; /* a kernel went wrong: nothing works after that */

struct fake_cuda *fake_cuda(void)
{
	return &state;
}

/* ---- Work that waits to be done; streams keep to one order. ---- */

struct work {
	enum { SET, COPY, LAUNCH, CALL } what;
	void *to;
	const void *from;
	size_t bytes;
	unsigned char value;
	struct fake_launch launch;
	void (*run)(void *);
};

struct event {
	uint64_t behind; /* so much work */
	uint32_t nb_asked;
};

static struct work *queue;
static uint64_t nb_queued, nb_done, nb_dropped; /* nb_dropped: before the queue's first */
static size_t queue_room;
static bool is_late;

static void do_work(const struct work *w)
{
	fake_device_show();
	if (w->what == SET)
		memset(w->to, w->value, w->bytes);
	else if (w->what == COPY)
		memcpy(w->to, w->from, w->bytes);
	else if (w->what == CALL)
		w->run(w->to);
	else if (!is_broken)
		is_broken = !fake_device_run(&w->launch);
	fake_device_hide();
}

static void do_until(uint64_t end)
{
	for (; nb_done < end; nb_done++) {
		struct work *w = &queue[nb_done - nb_dropped];

		do_work(w);
		if (w->what == LAUNCH)
			free(w->launch.params);
	}
	if (nb_done == nb_queued)
		nb_dropped = nb_done;
}

static void do_all(void)
{
	if (!state.hangs)
		do_until(nb_queued);
}

static void begin(struct work w)
{
	if (!is_late) {
		do_work(&w);
		return;
	}
	if (w.what == LAUNCH)
		w.launch.params = fake_device_keep(w.launch.kernel, w.launch.params);
	if (nb_queued - nb_dropped == queue_room) {
		queue_room = queue_room ? 2 * queue_room : 64;
		queue = realloc(queue, queue_room * sizeof(*queue));
		if (!queue)
			abort();
	}
	queue[nb_queued++ - nb_dropped] = w;
}

void fake_cuda_enqueue(void (*run)(void *arg), void *arg)
{
	begin((struct work){.what = CALL, .to = arg, .run = run});
}

static _Thread_local CUcontext current; /* contexts belong to threads */

/* Counts the call; what it is to return. */
static CUresult call(void)
{
	state.nb_calls++;
	if (is_broken)
		return CUDA_ERROR_LAUNCH_FAILED;
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

	do_all();
	/* What fails still frees: this driver must not leak under a leak checker. */
	free(p);
	state.nb_live--;
	return ret;
}

CUresult cuInit(unsigned flags)
{
	const char *processors = getenv("FAKE_CUDA_PROCESSORS");
	const char *shared_kb = getenv("FAKE_CUDA_SHARED_KB");

	is_late = getenv("FAKE_CUDA_LATE") != NULL;
	if (shared_kb)
		shared_bytes_max = 1024 * atoi(shared_kb);
	if (processors)
		state.nb_processors = (uint32_t)strtoul(processors, NULL, 10);
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
	strncpy(name, "a device of a test", (size_t)len);
	return call();
}

CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attribute, CUdevice dev)
{
	switch (attribute) {
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
		*pi = 9;
		break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
		*pi = 0;
		break;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
		*pi = (int)state.nb_processors;
		break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
		*pi = shared_bytes_max;
		break;
	case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH:
		*pi = !state.no_cooperation;
		break;
	case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
		*pi = 1000 * 1000; /* kHz */
		break;
	default:
		*pi = 132;
	}
	return call();
}

static void *primary;
static uint32_t nb_retained;

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice dev)
{
	CUresult ret = primary ? call() : make(&primary, 1);

	if (ret != CUDA_SUCCESS)
		return ret;
	nb_retained++;
	*context = primary;
	return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev)
{
	CUresult ret;

	if (--nb_retained > 0)
		return call();
	ret = drop(primary);
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
	CUresult ret = call();
	void *p;

	if (ret != CUDA_SUCCESS)
		return ret;
	p = bytesize > state.memory_bytes ? NULL : fake_device_alloc(bytesize);
	if (!p)
		return CUDA_ERROR_OUT_OF_MEMORY;
	*dptr = (CUdeviceptr)p;
	state.nb_live++;
	return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr dptr)
{
	do_all();
	fake_device_free((void *)dptr);
	state.nb_live--;
	return call();
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
	begin((struct work){.what = SET, .to = (void *)dst, .value = uc, .bytes = n});
	return call();
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr dst, const void *src, size_t n, CUstream stream)
{
	begin((struct work){.what = COPY, .to = (void *)dst, .from = src, .bytes = n});
	return call();
}

CUresult cuMemcpyDtoHAsync(void *dst, CUdeviceptr src, size_t n, CUstream stream)
{
	begin((struct work){.what = COPY, .to = dst, .from = (const void *)src, .bytes = n});
	return call();
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr dst, CUdeviceptr src, size_t n, CUstream stream)
{
	begin((struct work){
		.what = COPY, .to = (void *)dst, .from = (const void *)src, .bytes = n});
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
	return make((void **)event, sizeof(struct event));
}

CUresult cuEventDestroy(CUevent event)
{
	return drop(event);
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
	*(struct event *)(void *)event = (struct event){.behind = nb_queued};
	return call();
}

CUresult cuEventQuery(CUevent event)
{
	struct event *e = (struct event *)(void *)event;

	if (state.hangs || (is_late && e->nb_asked++ == 0))
		return CUDA_ERROR_NOT_READY;
	do_until(e->behind);
	return is_late && e->nb_asked == 2 ? CUDA_ERROR_NOT_READY : call();
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
	do_all();
	nb_functions = 0;
	return drop(module);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
	CUresult ret = call();
	struct function *f = &functions[nb_functions];

	if (ret != CUDA_SUCCESS)
		return ret;
	if (nb_functions == FUNCTIONS_MAX)
		return CUDA_ERROR_OUT_OF_MEMORY;
	f->kernel = fake_device_find(name);
	f->shared_bytes_max = SHARED_BYTES;
	if (!f->kernel)
		return CUDA_ERROR_NOT_FOUND;
	nb_functions++;
	*function = (CUfunction)(void *)f;
	return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value)
{
	struct function *f = (struct function *)(void *)function;
	CUresult ret = call();

	if (ret != CUDA_SUCCESS)
		return ret;
	if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
		value > shared_bytes_max)
		return CUDA_ERROR_INVALID_VALUE;
	f->shared_bytes_max = (unsigned)value > SHARED_BYTES ? (unsigned)value : SHARED_BYTES;
	return CUDA_SUCCESS;
}

/* What the hardware would refuse is refused. */
static CUresult launch(CUfunction function, struct fake_launch *l)
{
	struct function *f = (struct function *)(void *)function;
	CUresult ret = call();

	if (ret != CUDA_SUCCESS)
		return ret;
	if (!current)
		return CUDA_ERROR_INVALID_CONTEXT;
	for (int i = 0; i < 3; i++)
		if (l->grid[i] == 0 || l->grid[i] > (i == 0 ? 0x7fffffff : 65535) ||
			l->block[i] == 0 || l->block[i] > (i == 2 ? 64 : THREADS_MAX))
			return CUDA_ERROR_INVALID_VALUE;
	if ((unsigned long)l->block[0] * l->block[1] * l->block[2] > THREADS_MAX ||
		l->shared_bytes > f->shared_bytes_max || !l->params)
		return CUDA_ERROR_INVALID_VALUE;
	l->kernel = f->kernel;
	begin((struct work){.what = LAUNCH, .launch = *l});
	return is_broken ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
	unsigned by, unsigned bz, unsigned shared_bytes, CUstream stream, void **params,
	void **extra)
{
	struct fake_launch l = {NULL, {gx, gy, gz}, {bx, by, bz}, shared_bytes, false, params};

	return launch(f, &l);
}

/* As if one block of it filled a processor. */
CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
	unsigned by, unsigned bz, unsigned shared_bytes, CUstream stream, void **params)
{
	struct fake_launch l = {NULL, {gx, gy, gz}, {bx, by, bz}, shared_bytes, true, params};

	if ((unsigned long)gx * gy * gz > state.nb_processors)
		return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
	return launch(f, &l);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(
	int *nb_blocks, CUfunction f, int block_size, size_t shared_bytes)
{
	*nb_blocks = 1;
	return call();
}
