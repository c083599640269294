/*
 * machine.h: what this machine has, read from /proc and /sys: CPUs, memory, huge pages, network cards,
 * GPUs.
 *
 * Source:  Documentation/ABI/stable/sysfs-devices-system-cpu and sysfs-class-net of Linux; NVML for
 *          the memory of NVIDIA's GPUs, where its library is installed.
 * Units:   bytes, Mbit/s.
 * Threads: any; each call reads anew.
 * Memory:  the caller's arrays.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

enum { OG_MACHINE_LIST_MAX = 64, OG_MACHINE_WORD_BYTES = 64 };

struct og_machine_cpu {
	char model[96];
	uint32_t online, usable; /* by this process */
	uint32_t nodes;          /* of NUMA */
	char features[96];       /* those that kernels here choose by, blank separated */
};

struct og_machine_pages {
	uint64_t size_bytes, total, free;
};

struct og_machine_nic {
	char name
		[OG_MACHINE_WORD_BYTES]; /* of the kernel's interface; "" if a PCI device has none */
	char pci[OG_MACHINE_WORD_BYTES]; /* "0000:3b:00.0", or "" */
	char driver[OG_MACHINE_WORD_BYTES];
	bool up;
	int64_t speed_mbit; /* -1: unknown */
	int32_t numa;       /* -1: unknown */
	uint32_t mtu;
};

struct og_machine_gpu {
	char name[96];
	char pci[OG_MACHINE_WORD_BYTES];
	char driver[OG_MACHINE_WORD_BYTES];
	uint64_t memory_bytes, memory_free_bytes; /* 0: unknown */
};

/* The first line of a small file without its newline; "" when there is none. */
void og_machine_read(const char *path, char *out, size_t cap);
/* The last part of where a link leads; "" when there is none. */
void og_machine_link(const char *path, char *out, size_t cap);

void og_machine_cpu(struct og_machine_cpu *out);
void og_machine_memory(uint64_t *total_bytes, uint64_t *available_bytes);
/* Each returns how many it wrote, at most `max`. */
uint32_t og_machine_pages(struct og_machine_pages *out, uint32_t max);
uint32_t og_machine_nics(struct og_machine_nic *out, uint32_t max);
uint32_t og_machine_gpus(struct og_machine_gpu *out, uint32_t max);
