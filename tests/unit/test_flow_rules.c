/* The rules of a device that is the kernel's and ours, and a driver that has none. */
#include "dataplane/flow_rules.h"

#include "dataplane/device.h"
#include "dataplane/eal.h"
#include "dataplane/packet.h"
#include "dataplane/port_shared.h"

#include <criterion/criterion.h>

static const struct og_addr here = {.ip = {192, 0, 2, 10}, .port = 49737};

Test(flow_rules, a_rule_names_our_address_and_port_and_nothing_more)
{
	static const struct rte_flow_item_ipv4 no_ip;
	static const struct rte_flow_item_udp no_udp;
	struct og_flow_rule r;

	og_flow_rule_build(&r, &here);
	cr_assert(r.attr.ingress && !r.attr.egress && !r.attr.transfer);
	cr_assert_eq(r.items[0].type, RTE_FLOW_ITEM_TYPE_ETH);
	cr_assert_null(r.items[0].spec);
	cr_assert_eq(r.items[1].type, RTE_FLOW_ITEM_TYPE_IPV4);
	cr_assert_eq(r.items[2].type, RTE_FLOW_ITEM_TYPE_UDP);
	cr_assert_eq(r.items[3].type, RTE_FLOW_ITEM_TYPE_END);
	cr_assert_eq(r.actions[0].type, RTE_FLOW_ACTION_TYPE_QUEUE);
	cr_assert_eq(r.actions[1].type, RTE_FLOW_ACTION_TYPE_END);
	cr_assert_eq(((const struct rte_flow_action_queue *)r.actions[0].conf)->index, 0);
	/* As they lie in a frame. */
	cr_assert_arr_eq(&r.ip.hdr.dst_addr, here.ip, 4);
	cr_assert_arr_eq(&r.udp.hdr.dst_port, ((uint8_t[]){49737 >> 8, 49737 & 255}), 2);
	cr_assert_eq(r.ip_mask.hdr.dst_addr, UINT32_MAX);
	cr_assert_eq(r.udp_mask.hdr.dst_port, UINT16_MAX);
	r.ip.hdr.dst_addr = r.ip_mask.hdr.dst_addr = 0;
	r.udp.hdr.dst_port = r.udp_mask.hdr.dst_port = 0;
	cr_assert_arr_eq(&r.ip, &no_ip, sizeof(no_ip));
	cr_assert_arr_eq(&r.ip_mask, &no_ip, sizeof(no_ip));
	cr_assert_arr_eq(&r.udp, &no_udp, sizeof(no_udp));
	cr_assert_arr_eq(&r.udp_mask, &no_udp, sizeof(no_udp));
}

Test(flow_rules, a_driver_without_them_cannot_be_shared)
{
	const struct og_eal_opts eal = {.memory_mib = 64, .device = "net_null0"};
	const struct og_port_shared_opts opts = {
		.devargs = "net_null0", .addr = here, .nb_endpoints = 1};
	struct rte_mempool *pool;
	struct og_port *port;
	struct og_device d;

	cr_assert_eq(og_eal_open(&eal), 0);
	cr_assert_eq(og_packet_pool_create(&pool, 2047, SOCKET_ID_ANY, false), 0);
	cr_assert_lt(og_port_shared_open(&port, pool, &opts), 0);
	/* It has been given back whole. */
	cr_assert_eq(rte_mempool_avail_count(pool), 2047);
	cr_assert_eq(og_device_open(&d, "net_null0", 0, &pool, 1), 0);
	cr_assert_lt(og_flow_take(d.id, &here, 1), 0);
	og_device_close(&d);
}
