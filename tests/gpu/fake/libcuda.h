/*
 * libcuda.h: the knobs of the driver that only plays one (libcuda.c). A test finds them with
 * dlsym("fake_cuda"); FAKE_CUDA_PROCESSORS in the environment sets nb_processors.
 *
 * Threads: one.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct fake_cuda {
	uint64_t nb_calls; /* so far */
	uint64_t fail_at;  /* number of the call that fails; 0: none */
	int result;        /* what it returns */
	bool sticky;       /* and all after it */
	bool no_device;
	bool no_cooperation;   /* of blocks: the device has no such launches */
	bool hangs;            /* work never ends */
	uint64_t memory_bytes; /* of the device */
	uint32_t nb_processors;
	int64_t nb_live; /* allocations, streams, events… not freed */
};

struct fake_cuda *fake_cuda(void);

/* For what plays other libraries on the device: run() in order with all other work, with its memory. */
void fake_cuda_enqueue(void (*run)(void *arg), void *arg);
