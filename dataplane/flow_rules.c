#include "dataplane/flow_rules.h"

#include "base/log.h"

#include <errno.h>
#include <netinet/in.h>
#include <rte_errno.h>
#include <string.h>

void og_flow_rule_build(struct og_flow_rule *out, const struct og_addr *to)
{
	*out = (struct og_flow_rule){
		.attr = {.ingress = 1},
		.items = {{.type = RTE_FLOW_ITEM_TYPE_ETH},
			{.type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &out->ip, .mask = &out->ip_mask},
			{.type = RTE_FLOW_ITEM_TYPE_UDP, .spec = &out->udp, .mask = &out->udp_mask},
			{.type = RTE_FLOW_ITEM_TYPE_END}},
		.actions = {{.type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &out->queue},
			{.type = RTE_FLOW_ACTION_TYPE_END}},
		.ip_mask.hdr.dst_addr = UINT32_MAX,
		.udp.hdr.dst_port = htons(to->port),
		.udp_mask.hdr.dst_port = UINT16_MAX,
	};
	memcpy(&out->ip.hdr.dst_addr, to->ip, sizeof(to->ip));
}

/* DPDK's own word for it, which says more than the number. */
static const char *why(const struct rte_flow_error *error, int ret)
{
	return error->message ? error->message : rte_strerror(-ret);
}

int og_flow_isolate(uint16_t device)
{
	struct rte_flow_error error = {0};
	int ret = rte_flow_isolate(device, 1, &error);

	if (ret < 0)
		OG_LOG(port, ERR,
			"this device's driver cannot leave the rest to the kernel (%s): use shared "
			"with ethdev:net_af_xdp0,iface=NAME, or give the node its own port",
			why(&error, ret));
	return ret;
}

int og_flow_take(uint16_t device, const struct og_addr *to, uint16_t nb)
{
	struct rte_flow_error error = {0};
	struct og_flow_rule rule;
	char addr[OG_ADDR_TEXT_BYTES];

	for (uint16_t i = 0; i < nb; i++) {
		og_flow_rule_build(&rule, &to[i]);
		if (rte_flow_create(device, &rule.attr, rule.items, rule.actions, &error))
			continue;
		OG_LOG(port, ERR,
			"this device's driver refused the rule for UDP to %s (%s): use shared with "
			"ethdev:net_af_xdp0,iface=NAME, or give the node its own port",
			og_addr_format(&to[i], addr), why(&error, -rte_errno));
		return rte_errno > 0 ? -rte_errno : -EIO;
	}
	return 0;
}
