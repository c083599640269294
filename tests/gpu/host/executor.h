/*
 * executor.h: runs CUDA kernels, compiled as C++, on the host. For tests: slow, strict, exact.
 *
 * Each thread of a block is a fiber. It runs until it has to wait: at a barrier for all threads of
 * the block, at an operation of the warp for the lanes of its mask. Blocks run one after another;
 * those of a cooperative launch take turns, which some miss. The order of warps and lanes changes from block to block,
 * so what lacks a barrier does not work by luck.
 *
 * What a device would do silently is an error here, with kernel, block and thread: threads that wait
 * for others that ended or wait elsewhere, shared memory that is misaligned or out of bounds, a
 * loop that waits for what nobody does. Shared memory holds NaN until it is written, and what
 * cp.async brings is NaN until the thread waits for it.
 *
 * Threads: one launch at a time.
 * Memory:  stacks are kept from launch to launch.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { OG_HOST_WARP = 32, OG_HOST_THREADS_MAX = 1024 };

struct og_host_idx {
	unsigned x, y, z;
};

struct og_host_launch {
	const char *name;
	void (*run)(const void *args); /* one thread */
	const void *args;
	struct og_host_idx grid, block;
	uint32_t shared_bytes;
	bool cooperative; /* all blocks are live at once */
};

/* Returns false after a complaint on stderr. */
bool og_host_run(const struct og_host_launch *launch);

/* ---- What a kernel's thread calls. ---- */

/*
 * The lanes of `mask` meet; the last to come calls run() with what each brought, and all go on. All
 * bring the same `name`, `mask` and `line`.
 */
void og_host_meet(uint32_t mask, const char *name, int line,
	void (*run)(void *const of[OG_HOST_WARP], uint32_t mask), void *brought);
void og_host_barrier(int line);
/* In a loop that waits for another thread. */
void og_host_yield(void);
/* cp.async: `n` bytes from `from`, or zeros where that is NULL. */
void og_host_copy(void *to, const void *from, uint32_t n);
void og_host_copy_commit(void);
void og_host_copy_wait(uint32_t nb_left);
/* Does [p, p + n) lie in shared memory, p a multiple of `align`? Else the launch ends. */
void og_host_check_shared(const void *p, uint32_t n, uint32_t align, const char *what);
/* Ends the launch. */
void og_host_fail(const char *fmt, ...) __attribute__((noreturn, cold, format(printf, 1, 2)));
uint32_t og_host_lane(void);

#ifdef __cplusplus
}
#endif
