#include "dataplane/devargs.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Drivers that are told of their queues before they are probed, or have few. */
static const struct driver {
	const char *name;
	const char *arg;        /* that says how many; NULL: it is asked when it is configured */
	uint16_t max;           /* pairs of queues */
	bool one_per_interface; /* queue of the interface beneath */
} drivers[] = {
	{"net_af_packet", "qpairs", 16, false},
	{"net_af_xdp", "queue_count", UINT16_MAX, true},
	{"net_tap", NULL, 16, false},
};

static const struct driver *driver_of(const char *devargs)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(drivers); i++)
		if (strncmp(devargs, drivers[i].name, strlen(drivers[i].name)) == 0)
			return &drivers[i];
	return NULL;
}

bool og_devargs_get(const char *devargs, const char *key, char *out, size_t cap)
{
	size_t key_len = strlen(key), len;

	for (const char *p = strchr(devargs, ','); p; p = strchr(p + 1, ',')) {
		if (strncmp(p + 1, key, key_len) != 0 || p[1 + key_len] != '=')
			continue;
		p += 2 + key_len;
		len = strcspn(p, ",");
		if (len >= cap)
			return false;
		memcpy(out, p, len);
		out[len] = '\0';
		return true;
	}
	return false;
}

uint32_t og_devargs_interface_queues(const char *if_name)
{
	char path[PATH_MAX];
	const struct dirent *e;
	uint32_t n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/sys/class/net/%s/queues", if_name);
	d = opendir(path);
	while (d && (e = readdir(d)))
		n += strncmp(e->d_name, "rx-", 3) == 0;
	if (d)
		closedir(d);
	return n;
}

/* A number in the arguments; `otherwise` without one. */
static uint32_t number(const char *devargs, const char *key, uint32_t otherwise)
{
	char text[16];

	if (!key || !og_devargs_get(devargs, key, text, sizeof(text)))
		return otherwise;
	return (uint32_t)strtoul(text, NULL, 10);
}

uint16_t og_devargs_queues(const char *devargs, uint16_t wanted)
{
	const struct driver *d = driver_of(devargs);
	uint32_t n = wanted;
	char name[64];

	if (!d)
		return wanted;
	if (d->one_per_interface && og_devargs_get(devargs, "iface", name, sizeof(name))) {
		uint32_t all = og_devargs_interface_queues(name);
		uint32_t first = number(devargs, "start_queue", 0);

		n = OG_MIN(n, all > first ? all - first : 1);
	}
	n = number(devargs, d->arg, n); /* who says it by himself gets it, or the driver's error */
	return (uint16_t)OG_MAX(OG_MIN(OG_MIN(n, (uint32_t)d->max), (uint32_t)wanted), 1u);
}

int og_devargs_ask(const char *devargs, uint16_t wanted, char *out, size_t cap)
{
	const struct driver *d = driver_of(devargs);
	uint16_t n = og_devargs_queues(devargs, wanted);
	char said[16];
	int len;

	if (!d || !d->arg || n == 1 || og_devargs_get(devargs, d->arg, said, sizeof(said)))
		len = snprintf(out, cap, "%s", devargs);
	else
		len = snprintf(out, cap, "%s,%s=%u", devargs, d->arg, n);
	return len < (int)cap ? 0 : -E2BIG;
}
