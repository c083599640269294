/*
 * device.h: what plays the device behind the driver of tests (libcuda.c): idle.c, whose kernels compute
 * nothing, or tests/gpu/host, which runs them.
 */
#pragma once
#include <cuda.h>
#include <stdbool.h>
#include <stddef.h>

struct fake_launch {
	const void *kernel;
	unsigned grid[3], block[3], shared_bytes;
	bool cooperative;
	void **params;
};

/* Device memory, which the host may only touch between show and hide; NULL where there is no more. */
void *fake_device_alloc(size_t bytes);
void fake_device_free(void *p);
void fake_device_show(void);
void fake_device_hide(void);
/* Do these bytes lie in one allocation? */
bool fake_device_holds(const void *p, size_t bytes);
/* NULL where the image has no such kernel. */
const void *fake_device_find(const char *name);
/* A copy of a launch's arguments, one block of malloc(). */
void **fake_device_keep(const void *kernel, void **params);
/* Returns false where the kernel went wrong. */
bool fake_device_run(const struct fake_launch *launch);
