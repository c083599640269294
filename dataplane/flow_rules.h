/*
 * flow_rules.h: what a device whose driver leaves it to the kernel is told to give to us: the datagrams to
 * our UDP ports, and nothing else. An mlx5 card can, and a tap that stands before an interface.
 *
 * A rule sees ports, so the first of several fragments may match and is of no use to us, as are the others:
 * datagrams are no longer than the MTU.
 *
 * Source:  DPDK 22.11, rte_flow: isolated mode.
 * Threads: main thread.
 * Memory:  the driver's; rules go with the device.
 */
#pragma once
#include "base/addr.h"

#include <rte_flow.h>

/* It points into itself: not to be copied. */
struct og_flow_rule {
	struct rte_flow_attr attr;
	struct rte_flow_item items[4];
	struct rte_flow_action actions[2];
	struct rte_flow_item_ipv4 ip, ip_mask;
	struct rte_flow_item_udp udp, udp_mask;
	struct rte_flow_action_queue queue;
};

/* Whole IPv4 UDP datagrams to that address and port, into the first queue. */
void og_flow_rule_build(struct og_flow_rule *out, const struct og_addr *to);

/*
 * From now on the device receives what rules name. Before it is started. Returns 0, or the driver's error,
 * e.g. -ENOSYS: it has no such mode; logged.
 */
int og_flow_isolate(uint16_t device) OG_MUST_CHECK;
/* A rule for each of `to`. When it is started. Returns 0, or the driver's error, logged. */
int og_flow_take(uint16_t device, const struct og_addr *to, uint16_t nb) OG_MUST_CHECK;
