/*
 * eal.h: start DPDK's environment once per process, as any user, without touching the machine.
 *
 * No PCI device is probed unless the operator names one, nothing is shared with other processes
 * (so two nodes run side by side), and what DPDK has to say reaches our log only when the start
 * fails, or later when a driver reports an error.
 *
 * Source:  DPDK 22.11, EAL parameters.
 * Units:   memory in MiB.
 * Threads: og_eal_open() from the main thread before others start. The CPU affinity of the caller
 *          is what it was before. Fork before, not after.
 * Memory:  EAL's own, for the life of the process.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

enum { OG_EAL_MEMORY_MIB = 256 };

struct og_eal_opts {
	bool hugepages;         /* anonymous huge pages instead of ordinary memory */
	uint32_t memory_mib;    /* 0: OG_EAL_MEMORY_MIB, or what is needed with hugepages */
	const char *device;     /* devargs of the only device that will be used; NULL: none. A PCI
	                       device is probed, a virtual one only gets its driver loaded */
	const char *extra_args; /* more EAL arguments, separated by blanks; NULL: none */
};

/*
 * Returns 0 (also when EAL runs already, with whatever options), -E2BIG for too many arguments, or
 * EAL's error, its reasons logged.
 */
int og_eal_open(const struct og_eal_opts *opts) OG_MUST_CHECK;

/* What fails again and again need not be said each time: only critical words get through. */
void og_eal_quiet(bool quiet);
bool og_eal_is_quiet(void);

/* True for devargs that name a PCI device ("0000:00:02.0", "3b:00.0,x=y", "pci:..."). */
bool og_eal_is_pci(const char *devargs);
