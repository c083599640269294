/*
 * port_ethdev_watch.c: the main thread looks after the device of a port: says when it has gone, takes it
 * from the polling cores, and opens it again.
 */
#include "dataplane/port_ethdev_priv.h"

#include "base/log.h"
#include "dataplane/eal.h"
#include "dataplane/packet.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum {
	YIELD_TRIES = 2000, /* milliseconds that the main thread waits for the polling cores */
	RETIRED_LOOKS = 2,  /* looks after which no core has a packet of a retired pool */
};

static bool all_have_yielded(const struct og_ethdev *nic)
{
	for (uint16_t i = 0; i < nic->nb_ports; i++)
		/* Acquire: pairs with the release in has_device(). */
		if (__atomic_load_n(&nic->ports[i]->owner, __ATOMIC_ACQUIRE) != OG_ETHDEV_MAIN)
			return false;
	return true;
}

static void set_owner(struct og_ethdev *nic, enum og_ethdev_owner owner)
{
	/* The first core last: it takes what the others have for it. */
	for (uint16_t i = nic->nb_ports; i-- > 0;)
		/* Release: pairs with the acquire in has_device(). */
		__atomic_store_n(&nic->ports[i]->owner, owner, __ATOMIC_RELEASE);
}

/* True once the polling cores keep their hands off the device. */
static bool take_device(struct og_ethdev *nic)
{
	const struct timespec ms = {.tv_nsec = OG_NS_PER_MS};

	if (all_have_yielded(nic))
		return true;
	set_owner(nic, OG_ETHDEV_ASKED);
	for (int i = 0; i < YIELD_TRIES && !all_have_yielded(nic); i++)
		nanosleep(&ms, NULL);
	if (!all_have_yielded(nic)) {
		set_owner(nic, OG_ETHDEV_CORE); /* one of them does not poll */
		return false;
	}
	for (uint16_t i = 1; i < nic->nb_ports; i++)
		og_ethdev_drop_errands(nic->ports[i]);
	return true;
}

static void give_device(struct og_ethdev *nic)
{
	__atomic_store_n(&nic->announce, true, __ATOMIC_RELAXED);
	set_owner(nic, OG_ETHDEV_CORE);
}

static void free_pools(struct rte_mempool **pools, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++) {
		rte_mempool_free(pools[i]);
		pools[i] = NULL;
	}
}

/*
 * A driver that closes may lose packets (af_xdp those it has lent to the kernel), so the next device
 * gets new pools.
 */
static int open_again(struct og_ethdev *nic, struct og_device *dev)
{
	struct rte_mempool *pools[OG_CORES_MAX] = {0};
	int ret = 0;

	for (uint16_t i = 0; i < nic->nb_ports && ret == 0; i++) {
		const struct rte_mempool *before = nic->ports[i]->port.pool;

		ret = og_packet_pool_create(
			&pools[i], before->size, before->socket_id, og_packet_pool_dma(before));
	}
	if (ret == 0)
		ret = og_device_open(dev, nic->devargs, nic->mtu_wanted, pools, nic->nb_ports);
	if (ret < 0) {
		free_pools(pools, nic->nb_ports);
		return ret;
	}
	for (uint16_t i = 0; i < nic->nb_ports; i++) {
		struct og_port *port = &nic->ports[i]->port;

		nic->retired[i] = port->pool;
		/* Relaxed: no packet moves before give_device(). Pairs with the load in the polling core. */
		__atomic_store_n(&port->pool, pools[i], __ATOMIC_RELAXED);
	}
	nic->retired_looks = 0;
	return 0;
}

static const char *name_of(const struct og_ethdev *nic)
{
	return nic->dev.if_name[0] ? nic->dev.if_name : nic->devargs;
}

void og_ethdev_say_why(struct og_ethdev *nic, int ret)
{
	char socket[OG_MEMIF_SOCKET_BYTES];

	if (ret == nic->failed_why || (nic->failed_why != 0 && !og_memif_is(nic->devargs)))
		return;
	nic->failed_why = ret;
	if (og_memif_is(nic->devargs)) {
		og_memif_socket(nic->devargs, socket);
		if (ret == -EAGAIN)
			OG_LOG(port, WARN, "memif: waiting for a server at %s", socket);
		else
			OG_LOG(port, ERR, "memif: the server at %s: %s", socket, strerror(-ret));
		return;
	}
	OG_LOG(port, ERR, "%s does not open again; %s", name_of(nic),
		nic->dev.if_index == 0 || og_device_may_open()
			? "trying on"
			: "this user may not: a restart, from root, will");
}

static int try_to_open(struct og_ethdev *nic, struct og_device *dev)
{
	int ret = og_memif_reach(nic->devargs);

	if (ret < 0)
		return ret;
	og_eal_quiet(nic->failed_why != 0);
	ret = open_again(nic, dev);
	og_eal_quiet(false);
	/* It may have gone again. */
	return ret < 0 && og_memif_reach(nic->devargs) == -EAGAIN ? -EAGAIN : ret;
}

bool og_port_ethdev_absent(const struct og_port *port)
{
	return og_port_ethdev(port)->nic->closed;
}

static void reopen(struct og_ethdev *nic)
{
	struct og_device dev;
	int ret;

	if (!nic->closed) {
		if (!take_device(nic))
			return;
		og_device_close(&nic->dev);
		nic->closed = true;
	}
	/* Who waits for the interface looks for it by name; nothing is tried in vain. */
	if (nic->dev.if_index != 0 && !og_device_makes_interface(nic->devargs) &&
		if_nametoindex(nic->dev.if_name) == 0)
		return;
	if (nic->retired[0])
		return; /* once at a time */
	ret = try_to_open(nic, &dev);
	if (ret < 0) {
		og_ethdev_say_why(nic, ret);
		return;
	}
	nic->dev = dev;
	nic->self.mac = dev.mac;
	nic->closed = false;
	nic->failed_why = 0;
	nic->state = OG_DEVICE_UP;
	__atomic_store_n(&nic->no_link, false, __ATOMIC_RELAXED);
	give_device(nic);
	OG_LOG(port, INFO, "%s is %s", name_of(nic), nic->never ? "up" : "back");
	nic->never = false;
	if (dev.nb_queues < nic->nb_ports)
		OG_LOG(port, WARN, "%s has %u pairs of queues now, not %u", name_of(nic),
			dev.nb_queues, nic->nb_ports);
}

void og_port_ethdev_supervise(struct og_port *port)
{
	struct og_ethdev *nic = og_port_ethdev(port)->nic;
	enum og_device_state state;
	bool lost;

	if (og_port_ethdev(port)->queue != 0)
		return; /* the first one's is for all */
	state = nic->closed ? OG_DEVICE_GONE : og_device_look(&nic->dev);
	lost = state == OG_DEVICE_GONE || state == OG_DEVICE_ANOTHER;
	if (nic->retired[0] && ++nic->retired_looks == RETIRED_LOOKS)
		free_pools(nic->retired, nic->nb_ports);
	if (state != nic->state) {
		if (lost)
			OG_LOG(port, WARN, "%s is gone", name_of(nic));
		else
			OG_LOG(port, WARN, "%s: link %s", name_of(nic),
				state == OG_DEVICE_UP ? "up" : "down");
		__atomic_store_n(&nic->no_link, state != OG_DEVICE_UP, __ATOMIC_RELAXED);
		if (state == OG_DEVICE_UP)
			__atomic_store_n(&nic->announce, true, __ATOMIC_RELAXED);
		nic->state = state;
	}
	if (lost)
		reopen(nic);
}
