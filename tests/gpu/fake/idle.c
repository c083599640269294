#include "tests/gpu/fake/device.h"

#include <stdlib.h>

void *fake_device_alloc(size_t bytes)
{
	return calloc(1, bytes);
}

void fake_device_free(void *p)
{
	free(p);
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
