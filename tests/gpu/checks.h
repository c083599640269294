/*
 * checks.h: what the programs that check a device against a reference share: a line for each check,
 * and how far apart two results are.
 *
 * Threads: one.
 */
#pragma once
#include "base/def.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static uint32_t nb_passed, nb_failed;

OG_PRINTF(2, 3) static void expect(bool ok, const char *fmt, ...)
{
	va_list args;

	printf("%s: ", ok ? "ok  " : "FAIL");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	nb_passed += ok;
	nb_failed += !ok;
}

static inline double relative_error(const float *got, const float *want, size_t n)
{
	double diff = 0, size = 0;

	for (size_t i = 0; i < n; i++) {
		diff += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
		size += (double)want[i] * want[i];
	}
	return sqrt(diff / size); /* NaN compares as a failure */
}
