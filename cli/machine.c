#include "cli/machine.h"

#include "cli/text.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void og_machine_read(const char *path, char *out, size_t cap)
{
	FILE *f = fopen(path, "re");

	out[0] = '\0';
	if (!f)
		return;
	if (fgets(out, (int)cap, f))
		out[strcspn(out, "\n")] = '\0';
	fclose(f);
}

void og_machine_link(const char *path, char *out, size_t cap)
{
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	const char *slash;

	out[0] = '\0';
	if (n <= 0)
		return;
	target[n] = '\0';
	slash = strrchr(target, '/');
	og_text_copy(out, cap, slash ? slash + 1 : target);
}

static int64_t read_number(const char *path, int64_t unknown)
{
	char text[32], *end;
	long long v;

	og_machine_read(path, text, sizeof(text));
	v = strtoll(text, &end, 10);
	return end != text ? v : unknown;
}

/* Entries of a folder whose names begin with `prefix`, sorted as the folder has them. */
static uint32_t entries(
	const char *dir, const char *prefix, char out[][OG_MACHINE_WORD_BYTES], uint32_t max)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	uint32_t n = 0;

	while (d && n < max && (e = readdir(d))) {
		if (e->d_name[0] == '.' || strncmp(e->d_name, prefix, strlen(prefix)) != 0 ||
			strlen(e->d_name) >= OG_MACHINE_WORD_BYTES)
			continue;
		og_text_copy(out[n++], OG_MACHINE_WORD_BYTES, e->d_name);
	}
	if (d)
		closedir(d);
	return n;
}

/* ---- CPUs and memory ---- */

static void note_features(char *out, size_t cap, const char *flags)
{
	static const char *const known[] = {
		"avx2", "f16c", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16"};
	size_t used = 0;

	for (size_t i = 0; i < OG_ARRAY_LEN(known); i++) {
		char word[32];

		snprintf(word, sizeof(word), " %s ", known[i]);
		if (strstr(flags, word) && used < cap)
			used += (size_t)snprintf(
				out + used, cap - used, used ? " %s" : "%s", known[i]);
	}
}

void og_machine_cpu(struct og_machine_cpu *out)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	static char nodes[OG_MACHINE_LIST_MAX][OG_MACHINE_WORD_BYTES];
	char line[8192];
	cpu_set_t set;

	memset(out, 0, sizeof(*out));
	while (f && fgets(line, sizeof(line), f)) {
		const char *value = strchr(line, ':');

		line[strcspn(line, "\n")] = ' ';
		if (value && strncmp(line, "model name", 10) == 0 && !out->model[0])
			og_text_copy(out->model, sizeof(out->model), value + 2);
		if (value && strncmp(line, "flags", 5) == 0 && !out->features[0])
			note_features(out->features, sizeof(out->features), value + 1);
	}
	if (f)
		fclose(f);
	for (size_t n = strlen(out->model); n > 0 && out->model[n - 1] == ' '; n--)
		out->model[n - 1] = '\0';
	out->online = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	out->usable = sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)CPU_COUNT(&set)
								   : out->online;
	out->nodes = entries("/sys/devices/system/node", "node", nodes, OG_MACHINE_LIST_MAX);
}

void og_machine_memory(uint64_t *total_bytes, uint64_t *available_bytes)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	unsigned long long kib;

	*total_bytes = *available_bytes = 0;
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "MemTotal: %llu kB", &kib) == 1)
			*total_bytes = kib * 1024;
		else if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			*available_bytes = kib * 1024;
	}
	if (f)
		fclose(f);
}

uint32_t og_machine_pages(struct og_machine_pages *out, uint32_t max)
{
	static const char dir[] = "/sys/kernel/mm/hugepages";
	char names[8][OG_MACHINE_WORD_BYTES], path[PATH_MAX];
	uint32_t n = entries(dir, "hugepages-", names, OG_MIN(max, 8u));

	for (uint32_t i = 0; i < n; i++) {
		out[i].size_bytes = strtoull(names[i] + strlen("hugepages-"), NULL, 10) * 1024;
		snprintf(path, sizeof(path), "%s/%s/nr_hugepages", dir, names[i]);
		out[i].total = (uint64_t)read_number(path, 0);
		snprintf(path, sizeof(path), "%s/%s/free_hugepages", dir, names[i]);
		out[i].free = (uint64_t)read_number(path, 0);
	}
	return n;
}

/* ---- network cards ---- */

/* The PCI function that a device hangs from, itself or some floors up (virtio): "" when none. */
static void pci_above(const char *device, char *out, size_t cap)
{
	char *path = realpath(device, NULL), *slash;
	unsigned domain, bus, dev, fn;
	int end = 0;

	out[0] = '\0';
	while (path && out[0] == '\0' && (slash = strrchr(path, '/'))) {
		if (sscanf(slash, "/%x:%x:%x.%x%n", &domain, &bus, &dev, &fn, &end) == 4 &&
			slash[end] == '\0')
			og_text_copy(out, cap, slash + 1);
		*slash = '\0';
	}
	free(path);
}

static void read_nic(struct og_machine_nic *nic, const char *name)
{
	char path[PATH_MAX], text[32];

	memset(nic, 0, sizeof(*nic));
	og_text_copy(nic->name, sizeof(nic->name), name);
	snprintf(path, sizeof(path), "/sys/class/net/%s/device", name);
	pci_above(path, nic->pci, sizeof(nic->pci));
	snprintf(path, sizeof(path), "/sys/class/net/%s/device/driver", name);
	og_machine_link(path, nic->driver, sizeof(nic->driver));
	snprintf(path, sizeof(path), "/sys/class/net/%s/operstate", name);
	og_machine_read(path, text, sizeof(text));
	nic->up = strcmp(text, "up") == 0 || strcmp(text, "unknown") == 0;
	snprintf(path, sizeof(path), "/sys/class/net/%s/speed", name);
	nic->speed_mbit = read_number(path, -1);
	snprintf(path, sizeof(path), "/sys/class/net/%s/device/numa_node", name);
	nic->numa = (int32_t)read_number(path, -1);
	snprintf(path, sizeof(path), "/sys/class/net/%s/mtu", name);
	nic->mtu = (uint32_t)read_number(path, 0);
}

/* PCI functions of a class (0x02: network, 0x03: display), each with its driver. */
static uint32_t pci_of_class(const char *class, char out[][OG_MACHINE_WORD_BYTES], uint32_t max)
{
	static char all[1024][OG_MACHINE_WORD_BYTES];
	uint32_t nb = entries("/sys/bus/pci/devices", "", all, OG_ARRAY_LEN(all)), n = 0;
	char path[PATH_MAX], text[32];

	for (uint32_t i = 0; i < nb && n < max; i++) {
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class", all[i]);
		og_machine_read(path, text, sizeof(text));
		if (strncmp(text, class, strlen(class)) == 0)
			og_text_copy(out[n++], OG_MACHINE_WORD_BYTES, all[i]);
	}
	return n;
}

uint32_t og_machine_nics(struct og_machine_nic *out, uint32_t max)
{
	static char names[OG_MACHINE_LIST_MAX][OG_MACHINE_WORD_BYTES];
	uint32_t nb = entries("/sys/class/net", "", names, OG_MACHINE_LIST_MAX), n = 0;
	char path[PATH_MAX];

	for (uint32_t i = 0; i < nb && n < max; i++) {
		if (strcmp(names[i], "bonding_masters") != 0)
			read_nic(&out[n++], names[i]);
	}
	/* Cards without an interface: given to vfio-pci, or to nobody. */
	nb = pci_of_class("0x02", names, OG_MACHINE_LIST_MAX);
	for (uint32_t i = 0; i < nb && n < max; i++) {
		bool seen = false;

		for (uint32_t k = 0; k < n; k++)
			seen |= strcmp(out[k].pci, names[i]) == 0;
		if (seen)
			continue;
		memset(&out[n], 0, sizeof(out[n]));
		og_text_copy(out[n].pci, sizeof(out[n].pci), names[i]);
		out[n].speed_mbit = -1;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", names[i]);
		og_machine_link(path, out[n].driver, sizeof(out[n].driver));
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/numa_node", names[i]);
		out[n].numa = (int32_t)read_number(path, -1);
		n++;
	}
	return n;
}

/* ---- GPUs ---- */

struct nvml {
	int (*init)(void);
	int (*shutdown)(void);
	int (*count)(unsigned *nb);
	int (*by_index)(unsigned i, void **device);
	int (*name)(void *device, char *out, unsigned cap);
	int (*memory)(void *device, unsigned long long out[3]); /* total, free, used */
};

static void *symbol(void *library, const char *name, bool *all)
{
	void *p = dlsym(library, name);

	*all = *all && p;
	return p;
}

/* NVIDIA's own library, where the driver is installed. Returns 0 without one. */
static uint32_t nvml_gpus(struct og_machine_gpu *out, uint32_t max)
{
	void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL), *device;
	unsigned nb = 0, n = 0;
	unsigned long long memory[3];
	bool all = library != NULL;
	struct nvml m = {0};

	if (!library)
		return 0;
	*(void **)&m.init = symbol(library, "nvmlInit_v2", &all);
	*(void **)&m.shutdown = symbol(library, "nvmlShutdown", &all);
	*(void **)&m.count = symbol(library, "nvmlDeviceGetCount_v2", &all);
	*(void **)&m.by_index = symbol(library, "nvmlDeviceGetHandleByIndex_v2", &all);
	*(void **)&m.name = symbol(library, "nvmlDeviceGetName", &all);
	*(void **)&m.memory = symbol(library, "nvmlDeviceGetMemoryInfo", &all);
	if (all && m.init() == 0) {
		if (m.count(&nb) != 0)
			nb = 0;
		for (unsigned i = 0; i < nb && n < max; i++) {
			struct og_machine_gpu *g = &out[n];

			memset(g, 0, sizeof(*g));
			if (m.by_index(i, &device) != 0)
				continue;
			if (m.name(device, g->name, sizeof(g->name)) != 0)
				g->name[0] = '\0';
			if (m.memory(device, memory) == 0) {
				g->memory_bytes = memory[0];
				g->memory_free_bytes = memory[1];
			}
			og_text_copy(g->driver, sizeof(g->driver), "nvidia");
			n++;
		}
		m.shutdown();
	}
	dlclose(library);
	return n;
}

static const char *vendor_name(const char *id)
{
	return strcmp(id, "0x10de") == 0   ? "NVIDIA"
	       : strcmp(id, "0x1002") == 0 ? "AMD"
	       : strcmp(id, "0x8086") == 0 ? "Intel"
					   : id;
}

uint32_t og_machine_gpus(struct og_machine_gpu *out, uint32_t max)
{
	static char devices[OG_MACHINE_LIST_MAX][OG_MACHINE_WORD_BYTES];
	uint32_t n = nvml_gpus(out, max), known = n;
	uint32_t nb = pci_of_class("0x03", devices, OG_MACHINE_LIST_MAX);
	char path[PATH_MAX], vendor[16], device[16];

	for (uint32_t i = 0; i < nb && n < max; i++) {
		struct og_machine_gpu *g = &out[n];

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vendor", devices[i]);
		og_machine_read(path, vendor, sizeof(vendor));
		if (known > 0 && strcmp(vendor, "0x10de") == 0)
			continue; /* its library has told of it */
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", devices[i]);
		og_machine_read(path, device, sizeof(device));
		memset(g, 0, sizeof(*g));
		snprintf(g->name, sizeof(g->name), "%s %s", vendor_name(vendor), device);
		og_text_copy(g->pci, sizeof(g->pci), devices[i]);
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", devices[i]);
		og_machine_link(path, g->driver, sizeof(g->driver));
		n++;
	}
	return n;
}
