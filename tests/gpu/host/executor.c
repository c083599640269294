#include "tests/gpu/host/executor.h"

#include "tests/gpu/host/fiber.h"

#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)0)
#endif

enum {
	WARP = OG_HOST_WARP,
	WARPS_MAX = OG_HOST_THREADS_MAX / OG_HOST_WARP,
	COPIES_MAX = 256,        /* in flight of one thread */
	IDLE_ROUNDS_MAX = 20000, /* in which all that runs only looks whether it may go on */
	DYNAMIC_BYTES = 228 * 1024,
	UNWRITTEN = 0xff, /* NaN in every float type */
};

/* What waits for what. */
enum wait { RUNS, AT_MEETING, AT_BARRIER, ENDED };

struct copy {
	void *to;
	const void *from;
	uint32_t n, group;
};

struct thread {
	struct og_fiber fiber;
	struct og_host_idx idx;
	uint32_t id;
	enum wait wait;
	const char *name; /* of what it waits at, with its line */
	int line;
	uint32_t mask;
	void *brought;
	struct copy *copies; /* (COPIES_MAX) */
	uint32_t nb_copies, group;
};

struct warp {
	uint32_t lanes;   /* that there are */
	uint32_t ready;   /* can go on */
	uint32_t yielded; /* can go on, after all others */
	uint32_t meeting;
};

struct block {
	struct og_host_idx idx;
	struct thread *threads; /* (OG_HOST_THREADS_MAX), made when first used */
	struct warp warps[WARPS_MAX];
	uint32_t nb_threads, nb_warps, nb_ended, nb_at_barrier;
	uint32_t warp, turn; /* which is looked at first */
	bool backwards;
	char *shared; /* its shared memory while another block runs; NULL where blocks do not take turns */
};

/* ---- Shared memory: the thread-local variables of this library. ---- */

/* Where every `extern __shared__` array begins; their names are made equal below. */
_Thread_local _Alignas(1024) char og_host_dynamic[DYNAMIC_BYTES];

#define DYNAMIC(name)                                                                              \
	__asm__(".globl " #name "\n.hidden " #name "\n.type " #name ", @tls_object\n.set " #name   \
		", og_host_dynamic\n");
DYNAMIC(pages)
DYNAMIC(stages)

static struct {
	char *begin, *end; /* all of it; the part for dynamic shared memory is in the middle */
} segment;

static int find_segment(struct dl_phdr_info *info, size_t size, void *arg)
{
	for (int i = 0; i < info->dlpi_phnum && info->dlpi_tls_data; i++) {
		const ElfW(Phdr) *h = &info->dlpi_phdr[i];
		char *begin = info->dlpi_tls_data;

		if (h->p_type != PT_TLS || og_host_dynamic < begin ||
			og_host_dynamic >= begin + h->p_memsz)
			continue;
		segment.begin = begin;
		segment.end = begin + h->p_memsz;
		return 1;
	}
	return 0;
}

/* ---- State of the launch in progress. ---- */

struct og_host_idx threadIdx, blockIdx, blockDim, gridDim;

static const struct og_host_launch *launch;
static struct og_fiber main_fiber;
static struct block *blocks; /* live ones */
static uint32_t blocks_made;
static struct block *block;   /* whose threads run */
static struct thread *thread; /* that runs; NULL: the scheduler */
static struct og_fiber *came_from;
static bool has_failed;
static bool turn_is_over; /* of the block, whatever of it could go on */
static uint64_t progress; /* meetings, barriers, ends */

static void describe(const struct block *b, const struct thread *t, const char *what)
{
	fprintf(stderr, "  block (%u,%u,%u) thread (%u,%u,%u) %s", b->idx.x, b->idx.y, b->idx.z,
		t->idx.x, t->idx.y, t->idx.z, what);
	if (t->wait == AT_MEETING)
		fprintf(stderr, " %s, mask %#x", t->name, t->mask);
	if (t->wait != ENDED && t->line > 0)
		fprintf(stderr, ", line %d", t->line);
	fputc('\n', stderr);
}

static void begin_complaint(void)
{
	has_failed = true;
	fprintf(stderr, "kernel %s: ", launch->name);
}

/* To a thread, or with NULL to the scheduler. */
static void switch_to(struct thread *to, bool ends)
{
	struct og_fiber *from = thread ? &thread->fiber : &main_fiber;

	came_from = from;
	thread = to;
	if (to)
		threadIdx = to->idx;
	og_fiber_switch(from, to ? &to->fiber : &main_fiber, ends);
}

void og_host_fail(const char *fmt, ...)
{
	va_list args;

	if (!has_failed) {
		begin_complaint();
		va_start(args, fmt);
		vfprintf(stderr, fmt, args);
		va_end(args);
		fputc('\n', stderr);
		describe(block, thread, "did it");
	}
	has_failed = true;
	for (;;)
		switch_to(NULL, true);
}

/* ---- Who runs next. ---- */

static uint32_t hash(uint32_t x)
{
	x = (x ^ x >> 16) * 0x85ebca6bu;
	x = (x ^ x >> 13) * 0xc2b2ae35u;
	return x ^ x >> 16;
}

static uint32_t pick_lane(const struct block *b, uint32_t ready)
{
	uint32_t turn = b->turn % WARP,
		 turned = turn ? ready >> turn | ready << (WARP - turn) : ready;
	uint32_t lane = b->backwards ? 31 - (uint32_t)__builtin_clz(turned)
				     : (uint32_t)__builtin_ctz(turned);

	return (lane + turn) % WARP;
}

/* The warp stays as long as it can. */
static struct thread *pick(struct block *b)
{
	for (uint32_t i = 0; i < b->nb_warps; i++) {
		uint32_t w = b->backwards ? (b->warp + b->nb_warps - i) % b->nb_warps
					  : (b->warp + i) % b->nb_warps;
		uint32_t ready = b->warps[w].ready, lane;

		if (!ready)
			continue;
		lane = pick_lane(b, ready);
		b->warp = w;
		b->warps[w].ready &= ~(1u << lane);
		return &b->threads[w * WARP + lane];
	}
	return NULL;
}

/* The thread that runs goes no further for now. */
static void leave(bool ends)
{
	switch_to(pick(block), ends);
}

static void set_ready(struct thread *t)
{
	t->wait = RUNS;
	block->warps[t->id / WARP].ready |= 1u << t->id % WARP;
}

static void wait_at(enum wait wait, const char *name, int line)
{
	thread->wait = wait;
	thread->name = name;
	thread->line = line;
}

uint32_t og_host_lane(void)
{
	return thread->id % WARP;
}

/* Sometimes other blocks go on before the rest of this one. */
void og_host_yield(void)
{
	static uint32_t nb_yields;

	block->warps[thread->id / WARP].yielded |= 1u << thread->id % WARP;
	turn_is_over = launch->cooperative && hash(++nb_yields) % 2;
	if (turn_is_over)
		switch_to(NULL, false);
	else
		leave(false);
}

void og_host_barrier(int line)
{
	struct block *b = block;

	wait_at(AT_BARRIER, "__syncthreads", line);
	if (++b->nb_at_barrier < b->nb_threads) {
		leave(false);
		return;
	}
	for (uint32_t i = 0; i < b->nb_threads; i++)
		if (b->threads[i].line != line)
			og_host_fail("threads wait at different barriers: lines %d and %d", line,
				b->threads[i].line);
	for (uint32_t i = 0; i < b->nb_threads; i++)
		if (&b->threads[i] != thread)
			set_ready(&b->threads[i]);
	thread->wait = RUNS;
	b->nb_at_barrier = 0;
	progress++;
}

void og_host_meet(uint32_t mask, const char *name, int line,
	void (*run)(void *const of[OG_HOST_WARP], uint32_t mask), void *brought)
{
	struct thread *lanes = &block->threads[thread->id / WARP * WARP];
	struct warp *w = &block->warps[thread->id / WARP];
	void *of[WARP];

	if (!(mask >> thread->id % WARP & 1))
		og_host_fail("%s without itself in mask %#x, line %d", name, mask, line);
	if (mask & ~w->lanes)
		og_host_fail("%s with lanes in mask %#x that there are not", name, mask);
	wait_at(AT_MEETING, name, line);
	thread->mask = mask;
	thread->brought = brought;
	w->meeting |= 1u << thread->id % WARP;
	if (mask & ~w->meeting) {
		leave(false);
		return;
	}
	for (uint32_t i = 0; i < WARP; i++) {
		if (!(mask >> i & 1))
			continue;
		if (lanes[i].mask != mask || lanes[i].line != line ||
			strcmp(lanes[i].name, name) != 0)
			og_host_fail(
				"lanes of a warp are at %s, line %d, mask %#x, and at %s, line "
				"%d, mask %#x",
				name, line, mask, lanes[i].name, lanes[i].line, lanes[i].mask);
		of[i] = lanes[i].brought;
		lanes[i].wait = RUNS;
	}
	run(of, mask);
	w->meeting &= ~mask;
	w->ready |= mask & ~(1u << thread->id % WARP);
	progress++;
}

/* ---- cp.async. ---- */

static bool is_shared(const char *p, uint32_t n)
{
	const char *dynamic_end = og_host_dynamic + launch->shared_bytes;

	if (p < segment.begin || p + n > segment.end)
		return false;
	return p + n <= dynamic_end || p >= og_host_dynamic + DYNAMIC_BYTES;
}

void og_host_check_shared(const void *p, uint32_t n, uint32_t align, const char *what)
{
	if (!is_shared(p, n))
		og_host_fail("%s of what is not shared memory (%u bytes of it are the block's)",
			what, launch->shared_bytes);
	if ((uintptr_t)p % align != 0)
		og_host_fail("%s is not at a multiple of %u", what, align);
}

void og_host_copy(void *to, const void *from, uint32_t n)
{
	struct thread *t = thread;

	og_host_check_shared(to, n, n, "cp.async");
	if ((uintptr_t)from % n != 0)
		og_host_fail("cp.async is not from a multiple of %u", n);
	if (t->nb_copies == COPIES_MAX)
		og_host_fail("more than %d cp.async in flight of one thread", COPIES_MAX);
	t->copies[t->nb_copies++] = (struct copy){to, from, n, t->group};
	memset(to, UNWRITTEN, n);
}

void og_host_copy_commit(void)
{
	thread->group++;
}

void og_host_copy_wait(uint32_t nb_left)
{
	struct thread *t = thread;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < t->nb_copies; i++) {
		struct copy *c = &t->copies[i];

		if (c->group + nb_left >= t->group)
			t->copies[kept++] = *c;
		else if (c->from)
			memcpy(c->to, c->from, c->n);
		else
			memset(c->to, 0, c->n);
	}
	t->nb_copies = kept;
}

/* ---- Blocks. ---- */

static void enter(void)
{
	og_fiber_entered(came_from);
	launch->run(launch->args);
	if (og_fiber_overflowed(&thread->fiber))
		og_host_fail("a thread's stack is too small for it");
	thread->wait = ENDED;
	block->nb_ended++;
	progress++;
	for (;;)
		leave(true);
}

static struct og_host_idx nth(uint64_t i, struct og_host_idx size)
{
	return (struct og_host_idx){(unsigned)(i % size.x), (unsigned)(i / size.x % size.y),
		(unsigned)(i / size.x / size.y)};
}

static void poison_shared(void)
{
	char *dynamic_end = og_host_dynamic + DYNAMIC_BYTES;

	memset(segment.begin, UNWRITTEN, (size_t)(og_host_dynamic - segment.begin));
	memset(og_host_dynamic, UNWRITTEN, launch->shared_bytes);
	memset(dynamic_end, UNWRITTEN, (size_t)(segment.end - dynamic_end));
}

static void make_threads(struct block *b)
{
	struct copy *copies;

	if (b->threads)
		return;
	b->threads = calloc(OG_HOST_THREADS_MAX, sizeof(*b->threads));
	copies = calloc((size_t)OG_HOST_THREADS_MAX * COPIES_MAX, sizeof(*copies));
	if (!b->threads || !copies)
		abort();
	for (uint32_t i = 0; i < OG_HOST_THREADS_MAX; i++)
		b->threads[i].copies = copies + (size_t)i * COPIES_MAX;
}

static void begin_block(struct block *b, uint64_t number)
{
	const struct og_host_idx *size = &launch->block;
	uint32_t seed = hash((uint32_t)number + 1);

	make_threads(b);
	b->idx = nth(number, launch->grid);
	b->nb_threads = size->x * size->y * size->z;
	b->nb_warps = (b->nb_threads + WARP - 1) / WARP;
	b->nb_ended = b->nb_at_barrier = 0;
	b->turn = seed % WARP;
	b->warp = seed / WARP % b->nb_warps;
	b->backwards = seed >> 20 & 1;
	for (uint32_t i = 0; i < b->nb_warps; i++) {
		uint32_t n = b->nb_threads - i * WARP;

		b->warps[i].lanes = n >= WARP ? ~0u : (1u << n) - 1;
		b->warps[i].ready = b->warps[i].lanes;
		b->warps[i].yielded = b->warps[i].meeting = 0;
	}
	for (uint32_t i = 0; i < b->nb_threads; i++) {
		struct thread *t = &b->threads[i];

		t->id = i;
		t->idx = nth(i, *size);
		t->wait = RUNS;
		t->line = 0;
		t->nb_copies = t->group = 0;
		og_fiber_init(&t->fiber, enter);
	}
}

/* Nothing of the block can go on, and not all has ended. */
static void complain_of_deadlock(const struct block *b)
{
	uint32_t told = 0;

	begin_complaint();
	fprintf(stderr, "threads wait for others that ended or wait elsewhere\n");
	for (uint32_t i = 0; i < b->nb_threads; i++) {
		const struct thread *t = &b->threads[i];
		const struct thread *last = i > 0 ? t - 1 : NULL;

		/* One line for all that are alike. */
		if (last && last->wait == t->wait && last->line == t->line && told > 0 &&
			(t->wait != AT_MEETING || last->mask == t->mask))
			continue;
		describe(b, t,
			t->wait == ENDED        ? "has ended"
			: t->wait == AT_BARRIER ? "waits at a barrier"
						: "waits at");
		if (++told == 16)
			break;
	}
}

/* As far as it comes. Returns false where that is the end of the launch. */
static bool run_block(struct block *b)
{
	struct thread *next;

	block = b;
	blockIdx = b->idx;
	turn_is_over = false;
	while (!turn_is_over && (next = pick(b)))
		switch_to(next, false);
	if (has_failed)
		return false;
	if (b->nb_ended == b->nb_threads)
		return true;
	for (uint32_t i = 0; i < b->nb_warps; i++) {
		b->warps[i].ready |= b->warps[i].yielded;
		b->warps[i].yielded = 0;
	}
	for (uint32_t i = 0; i < b->nb_warps; i++)
		if (b->warps[i].ready)
			return true;
	complain_of_deadlock(b);
	return false;
}

static bool is_idle(uint64_t before, uint32_t *rounds)
{
	if (progress != before)
		*rounds = 0;
	if (++*rounds < IDLE_ROUNDS_MAX)
		return false;
	begin_complaint();
	fprintf(stderr, "a loop waits for what no thread that runs will do\n");
	return true;
}

static bool make_blocks(uint64_t n)
{
	struct block *more;

	if (n <= blocks_made)
		return true;
	more = realloc(blocks, n * sizeof(*more));
	if (!more)
		return false;
	blocks = more;
	memset(blocks + blocks_made, 0, (n - blocks_made) * sizeof(*more));
	blocks_made = (uint32_t)n;
	return true;
}

/* One after the other. */
static void run_serially(uint64_t nb_blocks)
{
	for (uint64_t i = 0; i < nb_blocks && !has_failed; i++) {
		struct block *b = &blocks[0];
		uint32_t rounds = 0;
		uint64_t before;

		begin_block(b, i);
		poison_shared();
		do {
			before = progress;
			if (!run_block(b))
				return;
		} while (b->nb_ended < b->nb_threads && !is_idle(before, &rounds));
	}
}

/*
 * All in turns, each with its own shared memory. Now and then one misses its turn, so that none keeps step
 * with others by luck.
 */
static void run_together(uint64_t nb_blocks)
{
	size_t bytes = (size_t)(segment.end - segment.begin);
	uint64_t nb_ended = 0, before = 0;
	uint32_t rounds = 0, turn = 0;

	for (uint64_t i = 0; i < nb_blocks; i++) {
		begin_block(&blocks[i], i);
		blocks[i].shared = malloc(bytes);
		memset(blocks[i].shared, UNWRITTEN, bytes);
	}
	while (nb_ended < nb_blocks && !has_failed && !is_idle(before, &rounds)) {
		before = progress;
		for (uint64_t i = 0; i < nb_blocks && !has_failed; i++) {
			struct block *b = &blocks[i];

			if (b->nb_ended == b->nb_threads || hash(++turn) % 3 == 0)
				continue;
			memcpy(segment.begin, b->shared, bytes);
			if (!run_block(b))
				break;
			memcpy(b->shared, segment.begin, bytes);
			nb_ended += b->nb_ended == b->nb_threads;
		}
	}
	for (uint64_t i = 0; i < nb_blocks; i++)
		free(blocks[i].shared);
}

bool og_host_run(const struct og_host_launch *l)
{
	uint64_t nb_blocks = (uint64_t)l->grid.x * l->grid.y * l->grid.z;

	*(volatile char *)og_host_dynamic = 0; /* that there is a segment of this thread */
	if (!dl_iterate_phdr(find_segment, NULL) || l->shared_bytes > DYNAMIC_BYTES ||
		!make_blocks(l->cooperative ? nb_blocks : 1))
		return false;
	launch = l;
	has_failed = false;
	blockDim = l->block;
	gridDim = l->grid;
	if (l->cooperative) {
		run_together(nb_blocks);
	} else {
		ASAN_POISON_MEMORY_REGION(
			og_host_dynamic + l->shared_bytes, DYNAMIC_BYTES - l->shared_bytes);
		run_serially(nb_blocks);
		ASAN_UNPOISON_MEMORY_REGION(og_host_dynamic, DYNAMIC_BYTES);
	}
	for (uint32_t i = 0; i < blocks_made && has_failed; i++)
		for (uint32_t k = 0; k < OG_HOST_THREADS_MAX && blocks[i].threads; k++)
			og_fiber_abandon(&blocks[i].threads[k].fiber);
	launch = NULL;
	return !has_failed;
}
