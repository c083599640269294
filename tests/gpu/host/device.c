#include "tests/gpu/fake/device.h"
#include "tests/gpu/host/executor.h"
#include "tests/gpu/host/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)0)
#endif

/*
 * Each allocation is a mapping of its own between pages that nobody may touch, and ends where its last
 * page ends, as near as its alignment allows. It holds NaN until it is written.
 */
enum { PAGE = 4096, ALIGN = 256, ALLOCATIONS_MAX = 4096 };

static struct allocation {
	char *begin; /* what was given */
	char *pages;
	size_t pages_bytes;
} allocations[ALLOCATIONS_MAX];
static size_t nb_allocations;

void *fake_device_alloc(size_t bytes)
{
	size_t aligned = (bytes + ALIGN - 1) / ALIGN * ALIGN;
	size_t pages_bytes = (aligned + PAGE - 1) / PAGE * PAGE;
	struct allocation *a = &allocations[nb_allocations];
	char *p;

	if (nb_allocations == ALLOCATIONS_MAX)
		return NULL;
	p = mmap(NULL, pages_bytes + 2 * PAGE, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	a->pages = p + PAGE;
	a->pages_bytes = pages_bytes;
	a->begin = a->pages + pages_bytes - aligned;
	if (mprotect(a->pages, pages_bytes, PROT_READ | PROT_WRITE) < 0)
		abort();
	memset(a->pages, 0xff, pages_bytes);
	ASAN_POISON_MEMORY_REGION(a->pages, (size_t)(a->begin - a->pages));
	ASAN_POISON_MEMORY_REGION(a->begin + bytes, aligned - bytes);
	nb_allocations++;
	fake_device_hide();
	return a->begin;
}

void fake_device_free(void *p)
{
	size_t i = 0;

	while (i < nb_allocations && allocations[i].begin != p)
		i++;
	if (i == nb_allocations) {
		fprintf(stderr, "cuMemFree of what is not allocated\n");
		abort();
	}
	ASAN_UNPOISON_MEMORY_REGION(allocations[i].pages, allocations[i].pages_bytes);
	munmap(allocations[i].pages - PAGE, allocations[i].pages_bytes + 2 * PAGE);
	allocations[i] = allocations[--nb_allocations];
}

bool fake_device_holds(const void *p, size_t bytes)
{
	const char *at = p;

	for (size_t i = 0; i < nb_allocations; i++) {
		const struct allocation *a = &allocations[i];

		if (at >= a->begin && at <= a->pages + a->pages_bytes &&
			bytes <= (size_t)(a->pages + a->pages_bytes - at))
			return true;
	}
	return false;
}

/* Dear with much memory, so only where it is asked for. */
static bool hides(void)
{
	static int asked = -1;

	if (asked < 0)
		asked = getenv("FAKE_CUDA_HIDE") != NULL;
	return asked;
}

static void protect(int how)
{
	if (!hides())
		return;
	for (size_t i = 0; i < nb_allocations; i++)
		if (mprotect(allocations[i].pages, allocations[i].pages_bytes, how) < 0)
			abort();
}

void fake_device_show(void)
{
	protect(PROT_READ | PROT_WRITE);
}

void fake_device_hide(void)
{
	protect(PROT_NONE);
}

const void *fake_device_find(const char *name)
{
	return og_host_find(name);
}

void **fake_device_keep(const void *kernel, void **params)
{
	return ((const struct og_host_kernel *)kernel)->keep(params);
}

bool fake_device_run(const struct fake_launch *l)
{
	const struct og_host_kernel *kernel = l->kernel;
	struct og_host_launch launch = {
		.name = kernel->name,
		.run = kernel->run,
		.grid = {l->grid[0], l->grid[1], l->grid[2]},
		.block = {l->block[0], l->block[1], l->block[2]},
		.shared_bytes = l->shared_bytes,
		.cooperative = l->cooperative,
	};

	kernel->take(l->params);
	return og_host_run(&launch);
}
