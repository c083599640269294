/*
 * nodes_file.h: ROOT/nodes: good DHT nodes of the last run, so that a node finds its network again
 * when the bootstrap nodes are gone.
 *
 * Text, one "IP:port" a line; a file that is damaged gives the lines that are not.
 *
 * Threads: control threads.
 */
#pragma once
#include "base/addr.h"

enum { OG_NODES_FILE_MAX = 64 };

/* Returns how many were read; no file gives 0. */
uint32_t og_nodes_file_load(const char *root, struct og_addr *out, uint32_t max);
int og_nodes_file_save(const char *root, const struct og_addr *nodes, uint32_t nb) OG_MUST_CHECK;
