#include "gpu/complain.h"

#include <stdio.h>

void og_complain_at(char *err, size_t err_bytes, const char *where, const char *fmt, va_list args)
{
	int n = snprintf(err, err_bytes, "%s: ", where);

	if (n >= 0 && (size_t)n < err_bytes)
		vsnprintf(err + n, err_bytes - (size_t)n, fmt, args);
}

int og_complain(struct og_complaint *c, int ret, const char *fmt, ...)
{
	va_list args;

	if (c->ret < 0)
		return c->ret;
	c->ret = ret;
	va_start(args, fmt);
	og_complain_at(c->err, c->err_bytes, c->file, fmt, args);
	va_end(args);
	return ret;
}
