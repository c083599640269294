#include "dataplane/device.h"

#include "base/log.h"
#include "dataplane/devargs.h"
#include "dataplane/eal.h"
#include "dataplane/fanout.h"
#include "dataplane/flow_rules.h"

#include <errno.h>
#include <linux/capability.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RX_DESCRIPTORS = 1024, TX_DESCRIPTORS = 1024, MTU_DEFAULT = 1500, DEVARGS_BYTES = 512 };
enum { RETA_MAX = RTE_ETH_RSS_RETA_SIZE_512, RETA_GROUPS = RETA_MAX / RTE_ETH_RETA_GROUP_SIZE };

static const uint64_t rx_checksums = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;

/* DPDK's number of the device that `devargs` name, probing it if EAL has not. */
static int find(const char *devargs, uint16_t *id)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	int ret;

	if (strncmp(devargs, "pci:", 4) == 0)
		devargs += 4;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(devargs, ","), devargs);
	if (!og_eal_is_pci(devargs)) {
		og_fanout_begin();
		ret = rte_dev_probe(devargs);
		og_fanout_end();
		if (ret < 0) {
			OG_LOG(port, ERR, "device %s: %s", name, rte_strerror(-ret));
			return ret;
		}
	}
	if (rte_eth_dev_get_port_by_name(name, id) == 0)
		return 0;
	/* A PCI name may be short of its domain; EAL probes only that device. */
	*id = (uint16_t)rte_eth_find_next_owned_by(0, RTE_ETH_DEV_NO_OWNER);
	if (og_eal_is_pci(devargs) && *id < RTE_MAX_ETHPORTS)
		return 0;
	OG_LOG(port, ERR, "device %s: DPDK has no driver for it, or it is not bound", name);
	return -ENODEV;
}

static int set_mtu(struct og_device *d, uint16_t mtu)
{
	int ret = 0;

	if (mtu != 0) {
		ret = rte_eth_dev_get_mtu(d->id, &d->mtu);
		if (ret < 0 || d->mtu != mtu)
			ret = rte_eth_dev_set_mtu(d->id, mtu);
		if (ret < 0)
			return ret;
	}
	if (rte_eth_dev_get_mtu(d->id, &d->mtu) < 0)
		d->mtu = MTU_DEFAULT;
	return 0;
}

static int set_up_queues(struct og_device *d, struct rte_mempool *const *pools)
{
	uint16_t nb_rx = RX_DESCRIPTORS, nb_tx = TX_DESCRIPTORS;
	int ret = rte_eth_dev_adjust_nb_rx_tx_desc(d->id, &nb_rx, &nb_tx);

	for (uint16_t i = 0; i < d->nb_queues && ret == 0; i++) {
		unsigned node = (unsigned)pools[i]->socket_id;

		ret = rte_eth_rx_queue_setup(d->id, i, nb_rx, node, NULL, pools[i]);
		if (ret == 0)
			ret = rte_eth_tx_queue_setup(d->id, i, nb_tx, node, NULL);
	}
	return ret;
}

/* Drivers spread over all queues by themselves; those that do not are told. */
static void spread(const struct og_device *d)
{
	struct rte_eth_rss_reta_entry64 reta[RETA_GROUPS] = {0};
	struct rte_eth_dev_info info;

	if (d->nb_queues == 1 || rte_eth_dev_info_get(d->id, &info) < 0 || info.reta_size == 0 ||
		info.reta_size > RETA_MAX)
		return;
	for (uint16_t i = 0; i < info.reta_size; i++) {
		struct rte_eth_rss_reta_entry64 *group = &reta[i / RTE_ETH_RETA_GROUP_SIZE];

		group->mask |= 1ull << i % RTE_ETH_RETA_GROUP_SIZE;
		group->reta[i % RTE_ETH_RETA_GROUP_SIZE] = i % d->nb_queues;
	}
	(void)rte_eth_dev_rss_reta_update(d->id, reta, info.reta_size);
}

static void choose_queues(struct og_device *d, const char *devargs, uint16_t wanted,
	const struct rte_eth_dev_info *info, struct rte_eth_conf *conf)
{
	const uint64_t flows =
		info->flow_type_rss_offloads & (RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_UDP);

	wanted = OG_MIN(wanted, OG_MIN(info->max_rx_queues, info->max_tx_queues));
	if (og_memif_is(devargs)) {
		d->memif = og_memif_open(devargs, wanted);
		if (!d->memif)
			wanted = 1;
	}
	d->nb_queues = OG_MAX(wanted, (uint16_t)1);
	if (d->nb_queues > 1 && flows != 0) {
		conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf->rx_adv_conf.rss_conf.rss_hf = flows;
	}
}

static int configure(struct og_device *d, const char *devargs, uint16_t mtu,
	struct rte_mempool *const *pools, uint16_t nb_pools)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = {0};
	int ret = rte_eth_dev_info_get(d->id, &info);

	if (ret < 0)
		return ret;
	d->device = info.device;
	if (info.if_index != 0 && if_indextoname(info.if_index, d->if_name))
		d->if_index = info.if_index;
	if (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) {
		d->tx_sums |= OG_INET_IP_SUM;
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
	}
	if (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) {
		d->tx_sums |= OG_INET_UDP_SUM;
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
	}
	conf.rxmode.offloads = info.rx_offload_capa & rx_checksums;
	choose_queues(d, devargs, nb_pools, &info, &conf);
	ret = rte_eth_dev_configure(d->id, d->nb_queues, d->nb_queues, &conf);
	if (ret == 0)
		ret = set_mtu(d, mtu);
	return ret < 0 ? ret : set_up_queues(d, pools);
}

static int start(struct og_device *d)
{
	struct rte_ether_addr mac;
	int ret = rte_eth_macaddr_get(d->id, &mac);

	if (ret < 0)
		return ret;
	memcpy(d->mac.bytes, mac.addr_bytes, sizeof(d->mac.bytes));
	ret = rte_eth_dev_start(d->id);
	if (ret == 0)
		spread(d);
	return ret;
}

static int open_device(struct og_device *out, const char *devargs, uint16_t mtu,
	struct rte_mempool *const *pools, uint16_t nb_pools, bool isolated)
{
	char asking[DEVARGS_BYTES];
	struct og_device d = {0};
	int ret = og_devargs_ask(devargs, nb_pools, asking, sizeof(asking));

	og_memif_make_way(devargs);
	if (ret == 0)
		ret = find(asking, &d.id);
	if (ret < 0)
		return ret < -200 ? -EIO : ret;
	ret = configure(&d, devargs, mtu, pools, nb_pools);
	if (ret == 0 && isolated)
		ret = og_flow_isolate(d.id);
	if (ret == 0)
		ret = start(&d);
	if (ret == 0) {
		*out = d;
		return 0;
	}
	if (!og_eal_is_quiet())
		OG_LOG(port, ERR, "device %s: %s", devargs, rte_strerror(-ret));
	rte_eth_dev_close(d.id);
	if (d.device)
		(void)rte_dev_remove(d.device);
	og_memif_close(d.memif);
	return ret < -200 ? -EIO : ret; /* DPDK's own numbers mean nothing to others */
}

int og_device_open(struct og_device *out, const char *devargs, uint16_t mtu,
	struct rte_mempool *const *pools, uint16_t nb_pools)
{
	return open_device(out, devargs, mtu, pools, nb_pools, false);
}

int og_device_open_isolated(struct og_device *out, const char *devargs, struct rte_mempool *pool)
{
	return open_device(out, devargs, 0, &pool, 1, true);
}

void og_device_close(struct og_device *d)
{
	int ret = rte_eth_dev_stop(d->id);

	if (ret < 0)
		OG_LOG(port, WARN, "device does not stop: %s", rte_strerror(-ret));
	rte_eth_dev_close(d->id);
	(void)rte_dev_remove(d->device);
	og_memif_close(d->memif);
}

/* The kernel's word for it: not every driver asks. */
static enum og_device_state look_at_interface(const struct og_device *d)
{
	struct ifreq ifr = {0};
	unsigned now = if_nametoindex(d->if_name);
	int fd, ret;

	if (now != d->if_index)
		return now == 0 ? OG_DEVICE_GONE : OG_DEVICE_ANOTHER;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return OG_DEVICE_UP;
	memcpy(ifr.ifr_name, d->if_name, sizeof(ifr.ifr_name));
	ret = ioctl(fd, SIOCGIFFLAGS, &ifr);
	close(fd);
	if (ret < 0)
		return OG_DEVICE_GONE;
	return (ifr.ifr_flags & IFF_UP) && (ifr.ifr_flags & IFF_RUNNING) ? OG_DEVICE_UP
									 : OG_DEVICE_DOWN;
}

enum og_device_state og_device_look(struct og_device *d)
{
	struct rte_eth_link link;

	if (d->if_index != 0)
		return look_at_interface(d);
	if (rte_eth_link_get_nowait(d->id, &link) < 0)
		return OG_DEVICE_UP;
	if (link.link_status == RTE_ETH_LINK_UP) {
		d->was_up = true;
		return OG_DEVICE_UP;
	}
	/* The driver connects once only, when it is started. */
	return d->was_up && d->memif && !d->memif->server ? OG_DEVICE_GONE : OG_DEVICE_DOWN;
}

bool og_device_may_open(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {0};
	const uint32_t needed = 1u << CAP_NET_RAW | 1u << CAP_NET_ADMIN;

	return syscall(SYS_capget, &head, caps) < 0 || (caps[0].effective & needed) == needed;
}

bool og_device_makes_interface(const char *devargs)
{
	return strncmp(devargs, "net_tap", 7) == 0 || strncmp(devargs, "net_tun", 7) == 0;
}
