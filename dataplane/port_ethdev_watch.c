/*
 * port_ethdev_watch.c: the main thread looks after the device of a port: says when it has gone, takes it
 * from the polling core, and opens it again.
 */
#include "dataplane/port_ethdev_priv.h"

#include "base/log.h"
#include "dataplane/packet.h"

#include <time.h>

enum {
	YIELD_TRIES = 2000, /* milliseconds that the main thread waits for the polling core */
	RETIRED_LOOKS = 2,  /* looks after which the core has no packet of the retired pool */
};

/* True once the polling core keeps its hands off the device. */
static bool take_device(struct og_port_ethdev *p)
{
	const struct timespec ms = {.tv_nsec = OG_NS_PER_MS};
	uint32_t asked = OG_ETHDEV_ASKED;

	if (__atomic_load_n(&p->owner, __ATOMIC_RELAXED) == OG_ETHDEV_MAIN)
		return true;
	__atomic_store_n(&p->owner, OG_ETHDEV_ASKED, __ATOMIC_RELAXED);
	for (int i = 0; i < YIELD_TRIES; i++) {
		/* Acquire: pairs with the release in has_device(). */
		if (__atomic_load_n(&p->owner, __ATOMIC_ACQUIRE) == OG_ETHDEV_MAIN)
			return true;
		nanosleep(&ms, NULL);
	}
	/* It does not poll. If it answered only now, the device is ours after all. */
	return !__atomic_compare_exchange_n(
		&p->owner, &asked, OG_ETHDEV_CORE, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE);
}

static void give_device(struct og_port_ethdev *p)
{
	__atomic_store_n(&p->announce, true, __ATOMIC_RELAXED);
	/* Release: pairs with the acquire in has_device(). */
	__atomic_store_n(&p->owner, OG_ETHDEV_CORE, __ATOMIC_RELEASE);
}

/*
 * A driver that closes may lose packets (af_xdp those it has lent to the kernel), so the next device
 * gets a new pool.
 */
static int open_again(struct og_port_ethdev *p, struct og_device *dev)
{
	struct rte_mempool *pool;
	int ret = og_packet_pool_create(&pool, p->port.pool->size);

	if (ret < 0)
		return ret;
	ret = og_device_open(dev, p->devargs, p->mtu_wanted, pool);
	if (ret < 0) {
		rte_mempool_free(pool);
		return ret;
	}
	p->retired = p->port.pool;
	p->retired_looks = 0;
	/* Relaxed: no packet moves before give_device(). Pairs with the load in the polling core. */
	__atomic_store_n(&p->port.pool, pool, __ATOMIC_RELAXED);
	return 0;
}

static void reopen(struct og_port_ethdev *p)
{
	struct og_device dev;

	if (!p->closed) {
		if (!take_device(p))
			return;
		og_device_close(&p->dev);
		p->closed = true;
	}
	/* Who waits for the interface looks for it by name; nothing is tried in vain. */
	if (!og_device_makes_interface(p->devargs) && if_nametoindex(p->dev.if_name) == 0)
		return;
	if (p->retired)
		return; /* once at a time */
	if (open_again(p, &dev) < 0) {
		if (!p->failed)
			OG_LOG(port, ERR, "%s does not open again; %s", p->dev.if_name,
				og_device_may_open()
					? "trying on"
					: "this user may not: a restart, from root, will");
		p->failed = true;
		return;
	}
	p->dev = dev;
	p->closed = p->failed = false;
	p->state = OG_DEVICE_UP;
	__atomic_store_n(&p->no_link, false, __ATOMIC_RELAXED);
	give_device(p);
	OG_LOG(port, INFO, "interface %s is back", dev.if_name);
}

void og_port_ethdev_supervise(struct og_port *port)
{
	struct og_port_ethdev *p = og_port_ethdev(port);
	enum og_device_state state = p->closed ? OG_DEVICE_GONE : og_device_look(&p->dev);
	bool lost = state == OG_DEVICE_GONE || state == OG_DEVICE_ANOTHER;
	const char *name = p->dev.if_name[0] ? p->dev.if_name : p->devargs;

	if (p->retired && ++p->retired_looks == RETIRED_LOOKS) {
		rte_mempool_free(p->retired);
		p->retired = NULL;
	}
	if (state != p->state) {
		if (lost)
			OG_LOG(port, WARN, "interface %s is gone", name);
		else
			OG_LOG(port, WARN, "%s: link %s", name,
				state == OG_DEVICE_UP ? "up" : "down");
		__atomic_store_n(&p->no_link, state != OG_DEVICE_UP, __ATOMIC_RELAXED);
		if (state == OG_DEVICE_UP)
			__atomic_store_n(&p->announce, true, __ATOMIC_RELAXED);
		p->state = state;
	}
	if (lost)
		reopen(p);
}
