#include "dataplane/thread.h"

#include "base/def.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NODES_MAX = 64 };

#define SLICE_NS (300 * OG_NS_PER_US)

/* sched_setattr(2); its own header and that of the C library cannot be had together. */
struct sched_attr_v0 {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

int og_thread_start(pthread_t *out, const char *name, int cpu, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	sigset_t all;
	cpu_set_t set;
	int ret;

	if (cpu >= CPU_SETSIZE)
		return -EINVAL;
	ret = pthread_attr_init(&attr);
	if (ret != 0)
		return -ret;
	sigfillset(&all);
	ret = pthread_attr_setsigmask_np(&attr, &all);
	if (ret == 0 && cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		ret = pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	}
	if (ret == 0)
		ret = pthread_create(out, &attr, run, arg);
	if (ret == 0)
		pthread_setname_np(*out, name);
	pthread_attr_destroy(&attr);
	return -ret;
}

void og_thread_run_promptly(void)
{
	struct sched_attr_v0 attr = {.size = sizeof(attr)};

	/* Older kernels take the slice and do nothing with it. */
	if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) < 0 || attr.policy != SCHED_OTHER)
		return;
	attr.runtime_ns = SLICE_NS;
	(void)syscall(SYS_sched_setattr, 0, &attr, 0);
}

int og_thread_node(int cpu)
{
	char path[64];

	for (int node = 0; cpu >= 0 && node < NODES_MAX; node++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/node%d", cpu, node);
		if (access(path, F_OK) == 0)
			return node;
	}
	return -1;
}
