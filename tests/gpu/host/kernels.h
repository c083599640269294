/*
 * kernels.h: the kernels of the product, compiled for the host.
 */
#pragma once

struct og_host_kernel {
	const char *name;
	void (*take)(void **params);   /* the arguments of the launch that is to run */
	void **(*keep)(void **params); /* a copy of them, one block of malloc() */
	void (*run)(const void *);     /* one thread, with those */
};

#ifdef __cplusplus
extern "C"
#endif
	/* NULL where there is none. */
	const struct og_host_kernel *
	og_host_find(const char *name);
