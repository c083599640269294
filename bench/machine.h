/*
 * machine.h: what the figures were measured on, as an object for each line of JSON.
 *
 * Source:  /proc/cpuinfo, /proc/meminfo, /proc/loadavg, uname(2).
 * Memory:  a new reference for the caller.
 */
#pragma once
#include <jansson.h>

json_t *bench_machine(void);
