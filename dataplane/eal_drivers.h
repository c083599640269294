/*
 * eal_drivers.h: load the drivers that a port needs, instead of the hundred that DPDK comes with.
 *
 * A shared EAL loads every file of its driver folder when it starts, whatever "-d" says: 24 ms on an
 * idle machine, 300 ms on a busy one. It first looks for that folder by stat(); if it is hidden, that
 * one look finds nothing. Where the C library does not let us answer, everything is loaded as
 * before.
 *
 * Source:  DPDK 22.11, eal_plugins_init().
 * Threads: before any other is started.
 * Memory:  none allocated.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>
#include <stddef.h>

enum { OG_EAL_DRIVERS_MAX = 8, OG_EAL_DRIVER_PATH_BYTES = 256 };

/*
 * The files to load for the device that `devargs` name (NULL: none), the ring of the packet pools
 * among them; for a PCI device all those of its vendor. Returns how many, or 0 when only all of them
 * will do: for cards of other vendors, and for names that are not those of a file.
 */
uint32_t og_eal_drivers_of(
	const char *devargs, char out[OG_EAL_DRIVERS_MAX][OG_EAL_DRIVER_PATH_BYTES]);

/* Hide the driver folder from the next look, or show it again. */
void og_eal_drivers_hide(bool hide);
