/*
 * device.h: one DPDK device: probing, configuring and closing it, and whether it is still there.
 *
 * It is given a pair of queues for each polling core, as far as it has them, and spreads what arrives over
 * them by flow (RSS; what its driver does by itself; with memif the peer's choice).
 *
 * Source:  DPDK 22.11 ethdev.
 * Units:   bytes.
 * Threads: main thread only, but for `id`, `mac`, `mtu`, `tx_sums` and the numbers of queues, which the
 *          polling cores read while the device is theirs.
 * Memory:  the driver's; freed by close.
 */
#pragma once
#include "dataplane/inet.h"
#include "dataplane/memif_rings.h"

#include <net/if.h>

struct rte_device;

struct og_device {
	uint16_t id; /* of DPDK */
	uint16_t mtu;
	uint16_t nb_queues; /* pairs of them */
	unsigned tx_sums;   /* checksums that it makes: a set of OG_INET_*_SUM */
	struct og_inet_mac mac;
	struct rte_device *device;
	struct og_memif_rings *memif; /* NULL: not one */
	bool was_up;                  /* since it was opened */
	/* The kernel's interface behind it, if there is one. */
	uint32_t if_index; /* 0: none */
	char if_name[IF_NAMESIZE];
};

enum og_device_state {
	OG_DEVICE_UP,
	OG_DEVICE_DOWN,    /* no link */
	OG_DEVICE_GONE,    /* the interface does not exist any more, or a memif's server */
	OG_DEVICE_ANOTHER, /* one of the same name exists instead */
};

/*
 * One pair of queues for each of `pools`, which it receives into, or as many as it has; at least one.
 * Returns 0, -ENODEV when DPDK finds no such device, or its error; the reason is logged.
 */
int og_device_open(struct og_device *out, const char *devargs, uint16_t mtu,
	struct rte_mempool *const *pools, uint16_t nb_pools) OG_MUST_CHECK;
/* One pair of queues, which receives nothing until flow rules say what; the MTU stays. */
int og_device_open_isolated(
	struct og_device *out, const char *devargs, struct rte_mempool *pool) OG_MUST_CHECK;
/* Packets that the driver holds go back to the pool. */
void og_device_close(struct og_device *d);

enum og_device_state og_device_look(struct og_device *d);
/* False once the rights to open an interface are given up, as by a change of user. */
bool og_device_may_open(void);
/* True if opening it again makes the interface, instead of waiting for somebody to make it. */
bool og_device_makes_interface(const char *devargs);

/* Whether the queue of that number may be used now: a memif has what its peer has too. The first may always. */
static inline bool og_device_receives(const struct og_device *d, uint16_t queue)
{
	return queue == 0 || queue < (d->memif ? __atomic_load_n(&d->memif->nb_rx, __ATOMIC_RELAXED)
					       : d->nb_queues);
}

static inline bool og_device_sends(const struct og_device *d, uint16_t queue)
{
	return queue == 0 || queue < (d->memif ? __atomic_load_n(&d->memif->nb_tx, __ATOMIC_RELAXED)
					       : d->nb_queues);
}
