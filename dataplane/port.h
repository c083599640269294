/*
 * port.h: where bursts of UDP datagrams come from and go to: sockets of the kernel, or a device.
 *
 * Units:   bytes, ns; endpoints as in base/core.h: 0 the server's address, 1 the client's.
 * Threads: opened and closed by the main thread; start(), the bursts and wait_fds() belong to the
 *          one polling core that runs it. Drop counters: written by that core.
 * Memory:  everything at open. A received mbuf belongs to the caller; a sent one to the port. Who
 *          keeps an mbuf of its own from pass to pass gives it back when the pool changes.
 */
#pragma once
#include "base/addr.h"
#include "base/count.h"

#include <stdbool.h>

struct rte_mbuf;
struct rte_mempool;

enum {
	OG_BURST = 32,
	OG_PORT_ENDPOINTS_MAX = 2,
	OG_PORT_FDS_MAX = 4,
	OG_PORT_TTL_DEFAULT = 64,
	OG_PACKET_BYTES = 2048, /* a longer datagram is counted and dropped */
};

enum og_drop {
	OG_DROP_RX_TOO_LONG,   /* above OG_PACKET_BYTES */
	OG_DROP_RX_NO_MBUF,    /* packet pool empty */
	OG_DROP_RX_ERROR,      /* receive failed */
	OG_DROP_RX_QUEUE_FULL, /* the kernel's queue was full */
	OG_DROP_RX_SHED,       /* of a source that floods us */
	OG_DROP_TX_TOO_LONG,   /* above the MTU */
	OG_DROP_TX_ERROR,      /* send failed */
	OG_DROP_NOT_OURS,      /* frame for another host, or of a protocol that we do not speak */
	OG_DROP_BAD_FRAME,     /* malformed Ethernet, ARP, IPv4, ICMP or UDP */
	OG_DROP_BAD_CHECKSUM,  /* IPv4, ICMP or UDP */
	OG_DROP_FRAGMENT,      /* IPv4 fragments are not reassembled */
	OG_DROP_NO_ENDPOINT,   /* UDP port that is not open */
	OG_DROP_NO_ROUTE,      /* neighbour does not answer, or no gateway */
	OG_DROP_NO_LINK,       /* to send while the device is down or gone */
	OG_DROP_OWN_ADDRESS,   /* from our own IP address: forged, or somebody else has it too */
	OG_DROP_UNASKED,       /* ARP reply that nobody asked for */
	OG_DROP_ARP_LIMITED,   /* our own ARP request, above the limit */
	OG_DROP_COUNT
};

struct og_port;

struct og_port_ops {
	/* On the polling core, once, before the first burst. */
	int (*start)(struct og_port *port);
	/* Up to `n` datagrams; og_packet() of each says its source and endpoint. */
	uint16_t (*rx_burst)(struct og_port *port, struct rte_mbuf **pkts, uint16_t n);
	/* Takes the first datagrams of `pkts`, as many as it returns; the rest is offered again. */
	uint16_t (*tx_burst)(struct og_port *port, struct rte_mbuf **pkts, uint16_t n);
	void (*local_addr)(const struct og_port *port, uint16_t endpoint, struct og_addr *out);
	/* Descriptors that are readable while datagrams wait; 0 of them: the core sleeps instead. */
	uint32_t (*wait_fds)(const struct og_port *port, int fds[OG_PORT_FDS_MAX]);
	/* Other cores want something of this one's port: not to sleep now. NULL: they never do. */
	bool (*waits)(const struct og_port *port);
	/*
	 * On the main thread, every half second or so while the core polls: notice what has become
	 * of the device, say it once, and open it again when it is back. NULL: nothing to look at.
	 */
	void (*supervise)(struct og_port *port);
	/* On the main thread: it has no device now, but waits for it. NULL: it always has. */
	bool (*absent)(const struct og_port *port);
	/* What only this kind counts. NULL: nothing. The port lives as long as the process. */
	void (*register_metrics)(const struct og_port *port);
	void (*close)(struct og_port *port);
};

struct og_port {
	const struct og_port_ops *ops;
	const char *name; /* "io_uring", "recvmmsg", "ethdev" */
	struct rte_mempool
		*pool; /* atomic; supervise() may replace it, and frees the old one late */
	uint16_t nb_endpoints;
	bool behind; /* port_behind.h: nothing arrives here by itself */
	uint64_t drops[OG_DROP_COUNT];
};

/* The label of a reason, e.g. "rx_too_long". */
const char *og_drop_name(enum og_drop reason);

static inline void og_port_drop(struct og_port *port, enum og_drop reason)
{
	og_count(&port->drops[reason]);
}
