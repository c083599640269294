/*
 * bench.h: what the suites of og-bench share: options, samples, the report, waiting and time.
 *
 * A suite measures each of its cases in rounds: one run of ours, one of each reference, and again,
 * so that what disturbs the machine disturbs both. It reports medians and their ratio.
 *
 * Units:   as the case says; a ratio above 1 is better for us.
 * Threads: one; a suite starts what it measures in processes or threads of its own.
 * Memory:  the caller's.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>
#include <stdio.h>

enum { BENCH_SAMPLES_MAX = 64, BENCH_RUNS = 11, BENCH_RUNS_SMOKE = 2 };

/* Exit statuses; 77 is what meson and automake call skipped. */
enum { BENCH_DONE = 0, BENCH_FAILED = 1, BENCH_USAGE = 2, BENCH_SKIPPED = 77 };

enum bench_port {
	BENCH_SOCKET,
	BENCH_RECVMMSG,
	BENCH_MEMIF,
	BENCH_AF_PACKET,
	BENCH_AF_XDP,
	BENCH_PATH
};

enum { BENCH_CPUS_MAX = 64 };

struct bench {
	const char *port_name;
	const char *suite;
	enum bench_port port;
	bool js;
	bool smoke;
	const char *only; /* the case to run; NULL: all */
	FILE *json;       /* stdout, or the file asked for */
	uint32_t runs;    /* of each case */
	uint64_t run_ns;  /* length of one run that is measured by time */
	int server_cpu;   /* what is measured runs here */
	int load_cpu;     /* and what loads it, here */
	uint32_t cores;   /* polling cores at each end of a case that may have several; 0: 1 */
	uint32_t nb_cpus; /* that we may use */
	int cpus[BENCH_CPUS_MAX];
	/* Of infer and load; 0 and NULL: the suite's choice. */
	const char *model;
	const char *backend; /* "cpu" or "cuda" */
	uint32_t threads, prefill, decode, batch;
};

struct bench_samples {
	uint32_t n;
	double values[BENCH_SAMPLES_MAX];
};

enum bench_better { BENCH_HIGHER, BENCH_LOWER };

struct bench_result {
	const char *name; /* of the case */
	const char *unit;
	enum bench_better better;
	const struct bench_samples *ours;
	const char *ref; /* the program that is the reference, or "" */
	const struct bench_samples *theirs;
};

uint64_t bench_now_ns(void);
uint64_t bench_thread_cpu_ns(void); /* of the calling thread */
/* Whether a case is to be run. */
bool bench_wanted(const struct bench *b, const char *name);
void bench_add(struct bench_samples *s, double value);
/* The value that a fraction of the samples lies at or below; 0 of none. */
double bench_quantile(const struct bench_samples *s, double fraction);
static inline double bench_median(const struct bench_samples *s)
{
	return bench_quantile(s, 0.5);
}

/* One line of the table on stderr, one JSON object. */
void bench_report(const struct bench *b, const struct bench_result *result);
/* A remark between the lines of the table. */
void bench_note(const char *fmt, ...) OG_PRINTF(1, 2);

/* Bind the calling thread, and those it starts, to one CPU. */
void bench_pin(int cpu);

/* `og-bench compare A B`: ratios of the cases of two files. Returns an exit status. */
int bench_compare(const char *path_a, const char *path_b);

/* The suites. Each returns an exit status. */
int suite_dht(const struct bench *b);
int suite_stream(const struct bench *b);
int suite_handshake(const struct bench *b);
int suite_echo(const struct bench *b);
int suite_ring(const struct bench *b);
int suite_udp(const struct bench *b);
int suite_floods(const struct bench *b);
int suite_load(const struct bench *b);
int suite_infer(const struct bench *b);
