/*
 * device.h: one DPDK device: probing, configuring and closing it, and whether it is still there.
 *
 * Source:  DPDK 22.11 ethdev.
 * Units:   bytes.
 * Threads: main thread only, but for `id`, `mac`, `mtu` and `tx_sums`, which the polling core reads
 *          while the device is its own.
 * Memory:  the driver's; freed by close.
 */
#pragma once
#include "dataplane/inet.h"

#include <net/if.h>

struct rte_device;

struct og_device {
	uint16_t id; /* of DPDK */
	uint16_t mtu;
	unsigned tx_sums; /* checksums that it makes: a set of OG_INET_*_SUM */
	struct og_inet_mac mac;
	struct rte_device *device;
	/* The kernel's interface behind it, if there is one. */
	uint32_t if_index; /* 0: none */
	char if_name[IF_NAMESIZE];
};

enum og_device_state {
	OG_DEVICE_UP,
	OG_DEVICE_DOWN,    /* no link */
	OG_DEVICE_GONE,    /* the interface does not exist any more */
	OG_DEVICE_ANOTHER, /* one of the same name exists instead */
};

/* Returns 0, -ENODEV when DPDK finds no such device, or its error; the reason is logged. */
int og_device_open(struct og_device *out, const char *devargs, uint16_t mtu,
	struct rte_mempool *pool) OG_MUST_CHECK;
/* Packets that the driver holds go back to the pool. */
void og_device_close(struct og_device *d);

enum og_device_state og_device_look(const struct og_device *d);
/* False once the rights to open an interface are given up, as by a change of user. */
bool og_device_may_open(void);
/* True if opening it again makes the interface, instead of waiting for somebody to make it. */
bool og_device_makes_interface(const char *devargs);
