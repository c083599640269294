/*
 * xdp.h: the XDP program of a shared interface as a file that DPDK can load.
 *
 * Units:   addresses and ports in host order, as in struct og_addr.
 * Threads: main thread.
 * Memory:  one descriptor, of a file in memory.
 */
#pragma once
#include "base/addr.h"

/* False where this build was made without clang, and so has no such program. */
bool og_xdp_built(void);

/*
 * The program that takes datagrams to `at`, all of one IP address, as an open file. Returns its
 * descriptor, or -EOPNOTSUPP for a build without the program.
 */
int og_xdp_open(const struct og_addr *at, uint16_t nb) OG_MUST_CHECK;

/*
 * Take away a program of ours that a killed process has left on the interface. Returns 0, -EBUSY if
 * it has one of somebody else's, or the kernel's error.
 */
int og_xdp_clean(unsigned if_index) OG_MUST_CHECK;
