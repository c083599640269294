/*
 * child.h: the processes that a suite measures and loads: started, pinned, paused and ended.
 *
 * A child prints "ready WORD…" once it serves and ends when its standard input does, so that
 * nothing stays behind when the bench is killed.
 *
 * Threads: one owner.
 * Memory:  the caller's.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

struct bench_child {
	pid_t pid;
	int in;    /* our end of its standard input */
	FILE *out; /* and of its standard output */
	clockid_t cpu_clock;
	char ready[2048]; /* what it said after "ready " */
};

/*
 * Start `argv`, bound to `cpu` (-1: wherever), and wait until it is ready, 60 s at most. argv[0]
 * NULL stands for this program itself. Returns 0 or a negative errno, told on stderr.
 */
int bench_child_start(struct bench_child *c, const char *const *argv, int cpu) OG_MUST_CHECK;
/* Ends its input, waits a while, then ends it by force. A child that was never started is fine. */
void bench_child_stop(struct bench_child *c);
/* Not scheduled until resumed: it burns nothing while another is measured. */
void bench_child_pause(struct bench_child *c);
void bench_child_resume(struct bench_child *c);
bool bench_child_alive(struct bench_child *c);

/* One line to it, and one from it without its newline. 0 or a negative errno. */
int bench_child_tell(struct bench_child *c, const char *line) OG_MUST_CHECK;
int bench_child_hear(struct bench_child *c, char *line, size_t line_bytes) OG_MUST_CHECK;

/* CPU time of all its threads, and resident memory. */
uint64_t bench_child_cpu_ns(const struct bench_child *c);
uint64_t bench_child_rss_bytes(const struct bench_child *c);
