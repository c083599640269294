#include "cli/affinity.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

static int parse_cpu(const char **p, unsigned *out)
{
	char *end;
	unsigned long v;

	if (!isdigit((unsigned char)**p))
		return -EINVAL;
	v = strtoul(*p, &end, 10);
	if (v >= CPU_SETSIZE)
		return -EINVAL;
	*p = end;
	*out = (unsigned)v;
	return 0;
}

int og_cpus_parse(cpu_set_t *out, const char *text)
{
	CPU_ZERO(out);
	while (*text) {
		unsigned first, last;

		if (parse_cpu(&text, &first) < 0)
			return -EINVAL;
		last = first;
		if (*text == '-') {
			text++;
			if (parse_cpu(&text, &last) < 0 || last < first)
				return -EINVAL;
		}
		for (unsigned i = first; i <= last; i++)
			CPU_SET(i, out);
		while (*text == ' ')
			text++;
		if (*text == ',') {
			text++;
			while (*text == ' ')
				text++;
		} else if (*text) {
			return -EINVAL;
		}
	}
	return 0;
}

int og_cpus_bind(const char *text)
{
	cpu_set_t set;
	int ret = og_cpus_parse(&set, text);

	if (ret < 0 || CPU_COUNT(&set) == 0)
		return ret;
	return -pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}
