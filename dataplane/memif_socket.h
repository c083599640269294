/*
 * memif_socket.h: the socket at which a memif's server meets its clients, before the driver has it: whether
 * somebody listens there, and what a server that is gone has left behind.
 *
 * Nobody there notices that he is looked at: a connection that ends at once makes DPDK's driver write to
 * what is closed, and a program that lets SIGPIPE end it would be ended.
 *
 * Source:  unix(7), proc(5); DPDK 22.11, drivers/net/memif.
 * Threads: any.
 * Memory:  none.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

/* With its zero byte. */
enum { OG_MEMIF_SOCKET_BYTES = 108 };

/* True for devargs of a memif. */
bool og_memif_is(const char *devargs);
bool og_memif_is_server(const char *devargs);
/* Its name, as far as the driver uses it: a path, or an abstract one. */
void og_memif_socket(const char *devargs, char out[OG_MEMIF_SOCKET_BYTES]);

/*
 * Whether the server that a client's devargs name can be connected to. Returns 0, and for other devargs;
 * -EAGAIN while nobody listens there; or the reason, e.g. -EACCES.
 */
int og_memif_reach(const char *devargs) OG_MUST_CHECK;
/* Removes the socket that a server which did not end well has left at our path, if nobody listens there. */
void og_memif_make_way(const char *devargs);
