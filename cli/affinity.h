/*
 * affinity.h: lists of CPUs as an operator writes them ("2", "2,4-6"), and threads bound to them.
 *
 * Threads: pure, but for og_cpus_bind(), which binds the calling thread.
 */
#pragma once
#include "base/def.h"

#include <sched.h>

/* "" gives an empty set. 0 or -EINVAL. */
int og_cpus_parse(cpu_set_t *out, const char *text) OG_MUST_CHECK;
/* "" leaves the thread where it is. 0, -EINVAL, or an errno of the kernel. */
int og_cpus_bind(const char *text) OG_MUST_CHECK;
