#include "cli/node_priv.h"

#include "base/bytes.h"
#include "base/log.h"
#include "cli/resolve.h"
#include "cluster/core.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>

static void add_endpoint(struct og_addr *list, uint32_t *nb, uint32_t max, const char *text)
{
	struct og_endpoint e;
	int n;

	if (*nb >= max || og_endpoint_parse(&e, text) < 0)
		return;
	n = e.has_ip ? 1 : og_endpoint_resolve(&e, list + *nb, max - *nb);
	if (e.has_ip)
		list[*nb] = e.ip;
	if (n <= 0)
		OG_LOG(dht, WARN, "%s: the name has no IPv4 address now", text);
	else
		*nb += (uint32_t)n;
}

static void add_bootstrap(struct og_node_net *net, const char *text)
{
	if (strcmp(text, "none") == 0) {
		net->first_node = true;
		return;
	}
	if (strcmp(text, "public") != 0) {
		add_endpoint(net->bootstrap, &net->nb_bootstrap, OG_BOOTSTRAP_MAX, text);
		return;
	}
	for (size_t i = 0; i < OG_ARRAY_LEN(og_public_bootstrap); i++)
		add_endpoint(net->bootstrap, &net->nb_bootstrap, OG_BOOTSTRAP_MAX,
			og_public_bootstrap[i]);
}

int og_node_net_resolve(struct og_node_net *net, const struct og_config *cfg)
{
	net->nb_known = og_nodes_file_load(cfg->root, net->known, OG_NODES_FILE_MAX);
	for (uint32_t i = 0; i < cfg->bootstrap.nb_items; i++)
		add_bootstrap(net, cfg->bootstrap.items[i].text);
	for (uint32_t i = 0; i < cfg->peers.nb_items; i++) {
		struct og_endpoint e;

		if (og_endpoint_parse(&e, cfg->peers.items[i].text) == 0 && !e.has_key)
			add_endpoint(net->known, &net->nb_known, OG_ARRAY_LEN(net->known),
				cfg->peers.items[i].text);
	}
	if (net->nb_bootstrap > 0 || net->nb_known > 0 || net->first_node)
		return 0;
	OG_LOG(dht, ERR,
		"no bootstrap node has an address: is DNS up? [dht] bootstrap takes IP:port too");
	return -EHOSTUNREACH;
}

void og_node_net_lan(struct og_node_net *net, const struct og_addr *local)
{
	struct ifaddrs *list;

	if (og_addr_u32(local) != 0) {
		net->lan[net->nb_lan++] = *local;
		return;
	}
	if (getifaddrs(&list) < 0)
		return;
	for (const struct ifaddrs *p = list; p && net->nb_lan < OG_ARRAY_LEN(net->lan);
		p = p->ifa_next) {
		struct og_addr a = {.port = local->port};
		struct sockaddr_in in;

		if (!p->ifa_addr || p->ifa_addr->sa_family != AF_INET || !(p->ifa_flags & IFF_UP) ||
			(p->ifa_flags & IFF_LOOPBACK))
			continue;
		memcpy(&in, p->ifa_addr, sizeof(in));
		memcpy(a.ip, &in.sin_addr, sizeof(a.ip));
		net->lan[net->nb_lan++] = a;
	}
	freeifaddrs(list);
}

static int push_keys(
	struct og_stage *stage, const struct og_config_list *list, enum og_core_command type)
{
	for (uint32_t i = 0; i < list->nb_items; i++) {
		struct og_msg cmd = {.type = (uint16_t)type};
		int ret = og_hex_decode(
			cmd.key, sizeof(cmd.key), list->items[i].text, strlen(list->items[i].text));

		if (ret == 0)
			ret = og_stage_push(stage, &cmd);
		if (ret < 0)
			return ret;
	}
	return 0;
}

static int push_dial(struct og_stage *stage, const char *text)
{
	struct og_msg cmd = {.type = OG_CMD_DIAL};
	struct og_addr places[4];
	uint8_t bytes[sizeof(places)];
	struct og_writer w = og_writer_of(bytes, sizeof(bytes));
	struct og_endpoint e;
	int nb;

	if (og_endpoint_parse(&e, text) < 0 || !e.has_key)
		return 0;
	nb = og_endpoint_resolve(&e, places, OG_ARRAY_LEN(places));
	for (int i = 0; i < nb; i++)
		og_write_addr4(&w, &places[i]);
	memcpy(cmd.key, e.key, sizeof(cmd.key));
	cmd.data = bytes;
	cmd.len_bytes = (uint32_t)og_writer_len(&w);
	return og_stage_push(stage, &cmd);
}

int og_node_net_commands(struct og_node *n)
{
	struct og_stage *stage = og_dataplane_commands(n->dp);
	int ret = push_keys(stage, &n->cfg->allow, OG_CMD_ALLOW);

	if (ret == 0)
		ret = push_keys(stage, &n->cfg->deny, OG_CMD_DENY);
	for (uint32_t i = 0; ret == 0 && i < n->cfg->peers.nb_items; i++)
		ret = push_dial(stage, n->cfg->peers.items[i].text);
	return ret;
}
