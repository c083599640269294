/*
 * process.h: the process around a node: its lock, limits, privileges, and what systemd is told.
 *
 * Threads: main thread, before others start, unless said.
 */
#pragma once
#include "base/def.h"

#include <sys/types.h>

/*
 * Locks ROOT/og-node.pid and writes our pid into it. Returns a descriptor that holds the lock until
 * it is closed, -EBUSY with the other's pid in `*holder` (0: unknown), or an errno of the disk.
 */
int og_process_lock(const char *root, pid_t *holder) OG_MUST_CHECK;
/* The pid that holds ROOT's lock: 0 when none does, or a negative errno. */
pid_t og_process_holder(const char *root);

/* No core dumps, no ptrace by others, no new privileges; as many descriptors as are allowed. */
void og_process_harden(void);
/* Become `user` with its groups for good. 0, -ENOENT: no such user, -EPERM: not root. */
int og_process_become(const char *user) OG_MUST_CHECK;

/* Where systemd asked for it ("READY=1", "STOPPING=1", "WATCHDOG=1"); else nothing. Any thread. */
void og_process_notify(const char *state);

/* Folders of `path` that are missing, mode 0700. */
int og_make_dirs(const char *path) OG_MUST_CHECK;
