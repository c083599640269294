/*
 * fiber.h: stacks, and the switch between them, without a system call.
 *
 * Units:   bytes.
 * Threads: all fibers of a process run on one thread at a time.
 */
#pragma once
#include <stddef.h>

struct og_fiber {
	void *sp;
	char *stack; /* lowest byte; NULL: the thread's own */
	size_t stack_bytes;
	void *fake_stack; /* of AddressSanitizer */
};

/* A fiber that will run `enter`, which must not return. Its stack is kept if it has one. */
void og_fiber_init(struct og_fiber *f, void (*enter)(void));
/* It will not come to its end. */
void og_fiber_abandon(struct og_fiber *f);
/* From the fiber that runs, `from`, to `to`. `ends`: `from` does not come back. */
void og_fiber_switch(struct og_fiber *from, struct og_fiber *to, int ends);
/* First of all in a new fiber, which came from `from`. */
void og_fiber_entered(struct og_fiber *from);
/* Has the stack of `f` been too small? */
int og_fiber_overflowed(const struct og_fiber *f);
