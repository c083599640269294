/*
 * complain.h: the first thing that is wrong with a file, as a sentence that starts with its name.
 *
 * Memory:  borrows the buffer that the caller of a reader gave.
 */
#pragma once
#include "base/def.h"

#include <stdarg.h>
#include <stdbool.h>

struct og_complaint {
	const char *file;
	char *err;
	size_t err_bytes;
	int ret; /* 0, or that of the first complaint */
};

/* "WHERE: sentence", as far as there is room. */
OG_PRINTF(4, 0)
void og_complain_at(char *err, size_t err_bytes, const char *where, const char *fmt, va_list args);
/* Keeps `ret` and the sentence unless there is a complaint already. Returns the one kept. */
OG_PRINTF(3, 4) int og_complain(struct og_complaint *c, int ret, const char *fmt, ...);
