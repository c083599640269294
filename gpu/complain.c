#include "gpu/complain.h"

#include <stdarg.h>
#include <stdio.h>

int og_complain(struct og_complaint *c, int ret, const char *fmt, ...)
{
	va_list args;
	int n;

	if (c->ret < 0)
		return c->ret;
	c->ret = ret;
	n = snprintf(c->err, c->err_bytes, "%s: ", c->file);
	if (n < 0 || (size_t)n >= c->err_bytes)
		return ret;
	va_start(args, fmt);
	vsnprintf(c->err + n, c->err_bytes - (size_t)n, fmt, args);
	va_end(args);
	return ret;
}
