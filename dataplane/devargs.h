/*
 * devargs.h: what the arguments of a DPDK device say ("net_af_xdp0,iface=eth1,queue_count=4"), and how
 * many pairs of queues its driver is to be asked for where it wants to know before it is probed.
 *
 * Source:  DPDK 22.11, the guides of its drivers.
 * Threads: any.
 * Memory:  the caller's.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>
#include <stddef.h>

/* The value of key=; false when it is not there, or longer than `out`. */
bool og_devargs_get(const char *devargs, const char *key, char *out, size_t cap) OG_MUST_CHECK;
/* Receive queues of an interface of the kernel; 0: there is none of that name. */
uint32_t og_devargs_interface_queues(const char *if_name);
/*
 * Pairs of queues that the device will have of `wanted`, as far as that is known before it is opened:
 * what its arguments, its driver or its interface allow. At least 1.
 */
uint16_t og_devargs_queues(const char *devargs, uint16_t wanted);
/* `devargs` with the argument that asks for so many, if the driver takes one. Returns 0 or -E2BIG. */
int og_devargs_ask(const char *devargs, uint16_t wanted, char *out, size_t cap) OG_MUST_CHECK;
