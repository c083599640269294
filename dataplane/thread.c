#include "dataplane/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>

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
