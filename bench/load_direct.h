/*
 * load_direct.h: the load of load.h on a core that it calls itself. Its time is the thread's CPU
 * time, answers and their making included.
 */
#pragma once
#include "base/core.h"
#include "bench/load.h"

/* Fills what a core is created with, but for rand. 0 or -ENOMEM. */
int load_open_direct(struct load **out, struct og_core_env *env) OG_MUST_CHECK;
/* Once created; stays the caller's. */
void load_direct_core(struct load *l, struct og_core *core);
