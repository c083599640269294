/* Queues of a device, on the one driver that has an RSS table everywhere: the one that goes nowhere. */
#include "dataplane/device.h"

#include "dataplane/eal.h"
#include "dataplane/packet.h"

#include <criterion/criterion.h>
#include <rte_ethdev.h>

enum { CORES = 3, PACKETS = 2047 };

static struct rte_mempool *pools[CORES];

static void open_pools(void)
{
	const struct og_eal_opts eal = {.memory_mib = 64, .device = "net_null0"};

	cr_assert_eq(og_eal_open(&eal), 0);
	for (int i = 0; i < CORES; i++)
		cr_assert_eq(og_packet_pool_create(&pools[i], PACKETS, SOCKET_ID_ANY, false), 0);
}

Test(device, flows_are_spread_over_a_queue_for_each_pool, .init = open_pools)
{
	struct rte_eth_rss_reta_entry64 reta[2] = {{.mask = UINT64_MAX}, {.mask = UINT64_MAX}};
	struct rte_eth_rss_conf rss = {0};
	struct rte_mbuf *pkts[OG_BURST];
	struct rte_eth_dev_info info;
	struct og_device d;

	cr_assert_eq(og_device_open(&d, "net_null0", 0, pools, CORES), 0);
	cr_assert_eq(d.nb_queues, CORES);
	cr_assert_eq(rte_eth_dev_info_get(d.id, &info), 0);
	cr_assert_eq(info.nb_rx_queues, CORES);
	cr_assert_eq(info.nb_tx_queues, CORES);
	cr_assert_eq(info.reta_size, 128);
	cr_assert_eq(rte_eth_dev_rss_reta_query(d.id, reta, info.reta_size), 0);
	for (int i = 0; i < 128; i++)
		cr_assert_eq(reta[i / 64].reta[i % 64], i % CORES);
	cr_assert_eq(rte_eth_dev_rss_hash_conf_get(d.id, &rss), 0);
	cr_assert_neq(rss.rss_hf & RTE_ETH_RSS_NONFRAG_IPV4_UDP, 0);
	for (uint16_t i = 0; i < CORES; i++) {
		uint16_t n = rte_eth_rx_burst(d.id, i, pkts, OG_BURST);

		cr_assert(og_device_receives(&d, i) && og_device_sends(&d, i));
		cr_assert_gt(n, 0);
		for (uint16_t k = 0; k < n; k++)
			cr_assert_eq(pkts[k]->pool, pools[i], "each from its own pool");
		rte_pktmbuf_free_bulk(pkts, n);
	}
	cr_assert(!og_device_receives(&d, CORES) && !og_device_sends(&d, CORES));
	og_device_close(&d);
}

Test(device, one_pool_is_one_queue, .init = open_pools)
{
	struct og_device d;

	cr_assert_eq(og_device_open(&d, "net_null0", 0, pools, 1), 0);
	cr_assert_eq(d.nb_queues, 1);
	og_device_close(&d);
}
