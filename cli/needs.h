/*
 * needs.h: what a configuration that is right in itself needs of this machine and does not find there:
 * files, users, free addresses, huge pages, CPUs, cards, drivers, privileges. Each lack is one line
 * with where it was asked for and how to get it. What is there but less than one might think is a note.
 *
 * Source:  DPDK 22.11, Linux drivers guide and the guides of its drivers; capabilities(7).
 * Threads: any; nothing on the machine is changed.
 * Memory:  none kept.
 */
#pragma once
#include "cli/config.h"

/* Model and API key files, without which a start makes no sense. Counts in problems->nb. */
void og_needs_files(const struct og_config *cfg, struct og_problems *lacks);
/* All of it. Call after og_config_finish(). */
void og_needs_all(const struct og_config *cfg, struct og_problems *lacks);
