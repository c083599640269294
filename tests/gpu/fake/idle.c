#include "tests/gpu/fake/device.h"

#include <stdlib.h>
#include <string.h>

void *fake_device_alloc(size_t bytes)
{
	size_t aligned = (bytes + 255) / 256 * 256;
	void *p = aligned_alloc(256, aligned);

	return p ? memset(p, 0, aligned) : NULL;
}

void fake_device_free(void *p)
{
	free(p);
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
