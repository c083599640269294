#include "bench/machine.h"

#include "base/def.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* What follows `key` and a colon in a file of /proc, or "" */
static void proc_value(char *out, size_t out_bytes, const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	char line[256];

	out[0] = '\0';
	if (!f)
		return;
	while (out[0] == '\0' && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');

		if (!colon || strncmp(line, key, strlen(key)) != 0)
			continue;
		colon[strcspn(colon, "\n")] = '\0';
		snprintf(out, out_bytes, "%s", colon + 1 + strspn(colon + 1, " \t"));
	}
	fclose(f);
}

/* How many were running or waiting when this was asked: figures of a shared machine show it. */
static double load_average(void)
{
	FILE *f = fopen("/proc/loadavg", "re");
	double load = 0;

	if (f) {
		if (fscanf(f, "%lf", &load) != 1)
			load = 0;
		fclose(f);
	}
	return load;
}

json_t *bench_machine(void)
{
	struct utsname u;
	char cpu[128], memory[64];
	long memory_kib = 0;

	proc_value(cpu, sizeof(cpu), "/proc/cpuinfo", "model name");
	proc_value(memory, sizeof(memory), "/proc/meminfo", "MemTotal");
	if (sscanf(memory, "%ld", &memory_kib) != 1)
		memory_kib = 0;
	if (uname(&u) < 0)
		memset(&u, 0, sizeof(u));
	return json_pack("{s:s, s:I, s:s, s:I, s:s, s:f}", "cpu", cpu, "cores",
		(json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "kernel", u.release, "memory_mib",
		(json_int_t)(memory_kib / 1024), "dpdk", BENCH_DPDK_VERSION, "load",
		load_average());
}
