#include "tests/gpu/host/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
enum { STACK_BYTES = 256 * 1024, ENTRY_BYTES = 4096 };
#else
enum { STACK_BYTES = 64 * 1024 };
#endif
/* Tops of stacks lie so far apart that they do not meet in the cache. */
enum { CANARY_BYTES = 16, CANARY = 0x5a, COLOURS = 32, COLOUR_BYTES = 21 * 64 };

/* What a called function leaves as it found it goes to the old stack and comes from the new one. */
void og_fiber_swap(void **save, void *sp);
__asm__(".text\n"
	".globl og_fiber_swap\n"
	".hidden og_fiber_swap\n"
	".type og_fiber_swap, @function\n"
	"og_fiber_swap:\n"
	"	push %rbp\n"
	"	push %rbx\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	mov %rsp, (%rdi)\n"
	"	mov %rsi, %rsp\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbx\n"
	"	pop %rbp\n"
	"	ret\n"
	".size og_fiber_swap, . - og_fiber_swap\n");

void og_fiber_init(struct og_fiber *f, void (*enter)(void))
{
	static size_t nb_made;
	void **top;

	if (!f->stack) {
		f->stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
		if (f->stack == MAP_FAILED)
			abort();
		f->stack_bytes = STACK_BYTES - nb_made++ % COLOURS * COLOUR_BYTES;
		memset(f->stack, CANARY, CANARY_BYTES);
	}
#if defined(__SANITIZE_ADDRESS__)
	/* Who ended on it did so from within its first functions. */
	__asan_unpoison_memory_region(f->stack + f->stack_bytes - ENTRY_BYTES, ENTRY_BYTES);
#endif
	top = (void **)(void *)(f->stack + f->stack_bytes) - 8;
	memset(top - 6, 0, 14 * sizeof(*top));
	*top = (void *)(uintptr_t)enter; /* the address that `ret` takes */
	f->sp = top - 6;
	f->fake_stack = NULL;
}

void og_fiber_abandon(struct og_fiber *f)
{
#if defined(__SANITIZE_ADDRESS__)
	if (f->stack)
		__asan_unpoison_memory_region(f->stack, f->stack_bytes);
#endif
}

void og_fiber_switch(struct og_fiber *from, struct og_fiber *to, int ends)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(ends ? NULL : &from->fake_stack, to->stack, to->stack_bytes);
#endif
	og_fiber_swap(&from->sp, to->sp);
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

void og_fiber_entered(struct og_fiber *from)
{
#if defined(__SANITIZE_ADDRESS__)
	const void *stack;
	size_t bytes;

	__sanitizer_finish_switch_fiber(NULL, &stack, &bytes);
	if (!from->stack) { /* the thread's own: known from here on */
		from->stack = (char *)(uintptr_t)stack;
		from->stack_bytes = bytes;
	}
#endif
}

int og_fiber_overflowed(const struct og_fiber *f)
{
	for (int i = 0; i < CANARY_BYTES; i++)
		if (f->stack[i] != CANARY)
			return 1;
	return 0;
}
