/*
 * node.h: a whole node in this process, from its configuration to its end.
 *
 * Threads: the main thread.
 */
#pragma once
#include "cli/config.h"

#define OG_VERSION "0.1.0"

enum {
	OG_EXIT_DONE = 0,
	OG_EXIT_FAILED = 1,
	OG_EXIT_USAGE = 2,
	OG_EXIT_NOT_RUNNING = 3,
	OG_EXIT_CANNOT_SERVE = 4,
	OG_EXIT_TIMED_OUT = 5,
	OG_EXIT_CONFIG = 78,
};

/* [log] of the configuration takes effect. */
void og_node_set_up_log(const struct og_config *cfg);
/*
 * Runs until a signal or `opengateway stop`; says why it fails in the log. `reload` reads the
 * configuration again (SIGHUP): 0, or negative when it is bad and the old one stays.
 */
int og_node_run(
	const struct og_config *cfg, int (*reload)(void *ctx, struct og_config *out), void *ctx);
