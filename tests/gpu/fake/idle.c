#include "tests/gpu/fake/device.h"

#include <stdint.h>
#include <stdlib.h>

enum { ALIGN = 256 };

void *fake_device_alloc(size_t bytes)
{
	/* Before it lies what is to be freed. Zeros that nobody touches cost nothing. */
	char *all = calloc(1, bytes + 2 * ALIGN);
	void **p = (void *)(((uintptr_t)all + 2 * ALIGN - 1) / ALIGN * ALIGN);

	if (!all)
		return NULL;
	p[-1] = all;
	return p;
}

void fake_device_free(void *p)
{
	if (p)
		free(((void **)p)[-1]);
}

bool fake_device_holds(const void *p, size_t bytes)
{
	return p != NULL; /* it does not keep account of them */
}

void fake_device_show(void)
{
}

void fake_device_hide(void)
{
}

const void *fake_device_find(const char *name)
{
	return name;
}

void **fake_device_keep(const void *kernel, void **params)
{
	return NULL;
}

bool fake_device_run(const struct fake_launch *launch)
{
	return true;
}
