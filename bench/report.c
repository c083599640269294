#include "bench/bench.h"

#include "bench/commit.h"
#include "bench/machine.h"

#include <jansson.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t read_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t bench_now_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t bench_thread_cpu_ns(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

bool bench_wanted(const struct bench *b, const char *name)
{
	return !b->only || strcmp(b->only, name) == 0;
}

void bench_add(struct bench_samples *s, double value)
{
	if (s->n < BENCH_SAMPLES_MAX)
		s->values[s->n++] = value;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_quantile(const struct bench_samples *s, double fraction)
{
	struct bench_samples sorted = *s;
	uint32_t at = (uint32_t)(fraction * (double)s->n);

	if (s->n == 0)
		return 0;
	qsort(sorted.values, s->n, sizeof(sorted.values[0]), ascending);
	return sorted.values[OG_MIN(at, s->n - 1)];
}

/* The bad end: what 95 % of the runs were better than. */
static double bad_end(const struct bench_result *r, const struct bench_samples *s)
{
	return bench_quantile(s, r->better == BENCH_HIGHER ? 0.05 : 0.95);
}

/* Negative: there is none, since what it would be divided by is 0. */
static double ratio_of(const struct bench_result *r)
{
	double ours = bench_median(r->ours), theirs = bench_median(r->theirs);
	double over = r->better == BENCH_LOWER ? theirs : ours;
	double under = r->better == BENCH_LOWER ? ours : theirs;

	if (ours == theirs)
		return 1;
	return under > 0 ? over / under : -1;
}

static void print_row(const struct bench *b, const struct bench_result *r)
{
	static bool headed;

	if (!headed)
		fprintf(stderr, "%-10s %-40s %14s %14s %-16s %14s %7s  %s\n", "suite", "case",
			"median", "p95", "unit", "reference", "ratio", "of");
	headed = true;
	fprintf(stderr, "%-10s %-40s %14.6g %14.6g %-16s", b->suite, r->name, bench_median(r->ours),
		bad_end(r, r->ours), r->unit);
	if (r->theirs && ratio_of(r) < 0)
		fprintf(stderr, " %14.6g %7s  %s", bench_median(r->theirs), "-", r->ref);
	else if (r->theirs)
		fprintf(stderr, " %14.6g %7.2f  %s", bench_median(r->theirs), ratio_of(r), r->ref);
	fputc('\n', stderr);
}

void bench_report(const struct bench *b, const struct bench_result *r)
{
	json_t *o = json_pack("{s:s, s:s, s:f, s:s, s:f, s:i, s:s}", "bench", b->suite, "case",
		r->name, "median", bench_median(r->ours), "unit", r->unit, "p95",
		bad_end(r, r->ours), "runs", (int)r->ours->n, "ref", r->ref);

	if (r->theirs)
		json_object_set_new(o, "ref_median", json_real(bench_median(r->theirs)));
	json_object_set_new(
		o, "ratio", r->theirs && ratio_of(r) >= 0 ? json_real(ratio_of(r)) : json_null());
	json_object_set_new(o, "port", json_string(b->port_name));
	json_object_set_new(o, "commit", json_string(BENCH_COMMIT));
	json_object_set_new(o, "machine", bench_machine());
	json_dumpf(o, b->json, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(7));
	fputc('\n', b->json);
	fflush(b->json);
	json_decref(o);
	print_row(b, r);
}

void bench_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("           ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
}

void bench_pin(int cpu)
{
	cpu_set_t set;

	if (cpu < 0)
		return;
	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		perror("og-bench: cannot pin");
}
