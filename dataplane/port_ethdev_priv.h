/*
 * port_ethdev_priv.h: what the files of the ethdev port share: what each polling core does with its
 * queues is in port_ethdev.c, what the first one does for all in port_ethdev_first.c, and what the main
 * thread does when the device goes and comes in port_ethdev_watch.c.
 */
#pragma once
#include "base/core.h"
#include "dataplane/device.h"
#include "dataplane/neigh_board.h"
#include "dataplane/port_ethdev.h"

#include <stdalign.h>

struct rte_ring;

enum { OG_ETHDEV_FRAMES_OUT = 128 }; /* frames that may wait for the device */

/* Whose the device is: the main thread may only replace it while the polling cores keep off. */
enum og_ethdev_owner { OG_ETHDEV_CORE, OG_ETHDEV_ASKED, OG_ETHDEV_MAIN };

/* What another core wants of the first one. */
struct og_ethdev_errand {
	enum { OG_ETHDEV_SEND, OG_ETHDEV_WANTED, OG_ETHDEV_ANSWERED } what;
	uint8_t ip[4];          /* WANTED, ANSWERED: the neighbour */
	struct og_inet_mac mac; /* ANSWERED: it is there */
	struct rte_mbuf *m;     /* SEND */
};

struct og_port_ethdev;

/* A device and the ports of its queues. */
struct og_ethdev {
	struct og_device dev; /* belongs to who the ports' `owner` says, as does `self` */
	struct og_inet self;
	uint16_t nb_ports;
	struct og_port_ethdev *ports[OG_CORES_MAX];
	struct og_doorbell *first_bell;
	struct og_neigh_board board; /* the first core's to write */
	/* The first core. */
	alignas(64) uint64_t walked_ns;
	uint32_t walk;         /* bucket of the neighbour table that is next */
	uint32_t nb_waiting;   /* packets that wait for neighbours */
	uint32_t arp_requests; /* that may still go out */
	struct og_neigh_table neighbours;
	/* Main thread. */
	alignas(64) char *devargs;
	uint16_t mtu_wanted;
	enum og_device_state state;
	bool closed;    /* the device is, until it can be opened (again) */
	bool never;     /* open so far: a memif that waits for its server */
	int failed_why; /* error of the last try to open it, said; 0: none */
	struct rte_mempool
		*retired[OG_CORES_MAX]; /* of the device before; cores may hold packets of them */
	uint32_t retired_looks;
	/* Atomic; written by the main thread, `announce` by the first core too. */
	alignas(64) bool no_link;
	bool announce;
};

/* One core's. */
struct og_port_ethdev {
	struct og_port port;
	struct og_ethdev *nic;
	uint16_t queue;           /* 0: the first */
	uint16_t fragment_id;     /* of the next datagram that may be cut */
	struct rte_ring *errands; /* for the first core; NULL: it is the first */
	uint32_t nb_out;
	struct rte_mbuf *out[OG_ETHDEV_FRAMES_OUT]; /* whole frames, oldest first */
	uint64_t *wanted_ns; /* when the first core last heard of it; by entry of the board */
	alignas(64)
		uint32_t owner; /* enum og_ethdev_owner; atomic; written by core and main thread */
};

static inline struct og_port_ethdev *og_port_ethdev(const struct og_port *port)
{
	return OG_CONTAINER_OF(port, struct og_port_ethdev, port);
}

/* ---- port_ethdev.c ---- */

/* Room for a datagram and the ARP request that it may cost. */
bool og_ethdev_room(struct og_port_ethdev *p);
/* Queue a whole frame; takes ownership. */
void og_ethdev_queue(struct og_port_ethdev *p, struct rte_mbuf *frame);
/* Put the head before a datagram whose next hop is known, and queue the frame. */
void og_ethdev_send_to(struct og_port_ethdev *p, const struct og_inet_mac *mac, struct rte_mbuf *m);
void og_ethdev_give_up(struct og_port_ethdev *p, struct rte_mbuf *m, enum og_drop reason);

/* ---- port_ethdev_first.c: on the first core, but for drop_errands() ---- */

/* Send a datagram to that neighbour, or let it wait for it, or drop it. */
void og_ethdev_first_route(
	struct og_port_ethdev *p, struct rte_mbuf *m, const uint8_t hop[4], uint64_t now_ns);
void og_ethdev_first_learn(struct og_port_ethdev *p, const uint8_t ip[4],
	const struct og_inet_mac *mac, uint64_t now_ns);
/* What others want, and what is due. */
void og_ethdev_first_pass(struct og_port_ethdev *p, uint64_t now_ns);
/* An announcement: switches and neighbours learn of us. */
void og_ethdev_first_announce(struct og_port_ethdev *p);
void og_ethdev_first_forget(struct og_port_ethdev *p);
/* Others want something. */
bool og_ethdev_first_waits(const struct og_ethdev *nic);
/* What this one has for the first core, which has not taken it yet. When no core runs the device. */
void og_ethdev_drop_errands(struct og_port_ethdev *p);

/* ---- port_ethdev_watch.c ---- */

/* See struct og_port_ops. */
void og_port_ethdev_supervise(struct og_port *port);
bool og_port_ethdev_absent(const struct og_port *port);
/* Why it is not opened now, the first time that it is for this reason. */
void og_ethdev_say_why(struct og_ethdev *nic, int ret);
