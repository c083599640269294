/*
 * shared_xdp.h: what the XDP program of a shared interface is told, in its read-only data.
 *
 * Units:   addresses and ports in network order.
 * Threads: constant once the program is loaded.
 */
#pragma once
#include <linux/types.h>

/* Found by its mark in the compiled program, and filled in before that is loaded. */
#define OG_SHARED_XDP_MARK "og-node: steer!"

enum { OG_SHARED_XDP_PORTS = 2 };

struct og_shared_xdp_config {
	char mark[16]; /* OG_SHARED_XDP_MARK */
	__u32 ip;
	__u16 ports[OG_SHARED_XDP_PORTS]; /* 0: none */
};
