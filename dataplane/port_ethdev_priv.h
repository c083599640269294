/*
 * port_ethdev_priv.h: what the files of the ethdev port share: the polling core's part of it is in
 * port_ethdev.c, and what the main thread does when the device goes and comes in port_ethdev_watch.c.
 */
#pragma once
#include "dataplane/device.h"
#include "dataplane/neigh.h"
#include "dataplane/port_ethdev.h"

#include <stdalign.h>

enum { OG_ETHDEV_FRAMES_OUT = 128 }; /* frames that may wait for the device */

/* Whose the device is: the main thread may only replace it while the polling core keeps off. */
enum og_ethdev_owner { OG_ETHDEV_CORE, OG_ETHDEV_ASKED, OG_ETHDEV_MAIN };

struct og_port_ethdev {
	struct og_port port;
	struct og_device dev; /* belongs to who `owner` says */
	struct og_inet self;
	uint64_t walked_ns;
	uint32_t walk;         /* bucket of the neighbour table that is next */
	uint32_t nb_waiting;   /* packets that wait for neighbours */
	uint16_t fragment_id;  /* of the next datagram that may be cut */
	uint32_t arp_requests; /* that may still go out */
	uint32_t nb_out;
	struct rte_mbuf *out[OG_ETHDEV_FRAMES_OUT]; /* whole frames, oldest first */
	struct og_neigh_table neighbours;
	/* Main thread. */
	char *devargs;
	uint16_t mtu_wanted;
	enum og_device_state state;
	bool closed;                 /* the device is, until it can be opened again */
	bool failed;                 /* to open again, and it was said */
	struct rte_mempool *retired; /* of the device before; the core may hold packets of it yet */
	uint32_t retired_looks;
	/* Atomic; written by both. */
	alignas(64) uint32_t owner; /* enum og_ethdev_owner */
	bool no_link;               /* main thread's to say */
	bool announce;              /* main thread's wish */
};

static inline struct og_port_ethdev *og_port_ethdev(const struct og_port *port)
{
	return OG_CONTAINER_OF(port, struct og_port_ethdev, port);
}

/* See struct og_port_ops. */
void og_port_ethdev_supervise(struct og_port *port);
