#include "dataplane/kernel_net.h"

#include <arpa/inet.h>
#include <assert.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <string.h>

enum { LINE_BYTES = 256 };

/* IFNAMSIZ without its NUL, as a width of scanf. */
#define NAME_WIDTH "15"
static_assert(IFNAMSIZ == 16, "NAME_WIDTH");

/* Kept in order as they come: the kernel lists the best of equals first. */
static void add_route(struct og_kernel_net *net, const struct og_kernel_route *r)
{
	uint32_t at = net->nb_routes;

	while (at > 0 && net->routes[at - 1].mask < r->mask)
		at--;
	if (at == OG_KERNEL_ROUTES)
		return;
	if (net->nb_routes == OG_KERNEL_ROUTES)
		net->nb_routes--;
	memmove(&net->routes[at + 1], &net->routes[at],
		(net->nb_routes - at) * sizeof(net->routes[0]));
	net->routes[at] = *r;
	net->nb_routes++;
}

static void parse_route(struct og_kernel_net *net, const char *if_name, const char *line)
{
	char name[IFNAMSIZ];
	unsigned dst, gateway, flags, mask;

	if (sscanf(line, "%" NAME_WIDTH "s %x %x %x %*u %*u %*u %x", name, &dst, &gateway, &flags,
		    &mask) != 5 ||
		!(flags & RTF_UP))
		return;
	add_route(net, &(struct og_kernel_route){
			       .net = ntohl(dst),
			       .mask = ntohl(mask),
			       .gateway = flags & RTF_GATEWAY ? ntohl(gateway) : 0,
			       .ours = !(flags & RTF_REJECT) && strcmp(name, if_name) == 0,
		       });
}

/* The slot of `ip`, or the empty one where it belongs: a quarter and more are empty. */
static uint32_t slot_of(const struct og_kernel_net *net, uint32_t ip)
{
	uint32_t at = (ip * 2654435761u) >> 16; /* Knuth: multiplicative */

	while (net->neighbours[at % OG_KERNEL_SLOTS].ip != ip &&
		net->neighbours[at % OG_KERNEL_SLOTS].ip != 0)
		at++;
	return at % OG_KERNEL_SLOTS;
}

static void parse_neighbour(struct og_kernel_net *net, const char *if_name, const char *line)
{
	unsigned type, flags, m[6];
	struct og_kernel_neigh *n;
	struct og_addr addr;
	char ip[16], name[IFNAMSIZ];

	if (sscanf(line, "%15s 0x%x 0x%x %2x:%2x:%2x:%2x:%2x:%2x %*s %" NAME_WIDTH "s", ip, &type,
		    &flags, &m[0], &m[1], &m[2], &m[3], &m[4], &m[5], name) != 10 ||
		type != ARPHRD_ETHER || !(flags & ATF_COM) || strcmp(name, if_name) != 0 ||
		og_addr_parse(&addr, ip) < 0 || og_addr_u32(&addr) == 0 ||
		net->nb_neighbours == OG_KERNEL_NEIGHBOURS)
		return;
	n = &net->neighbours[slot_of(net, og_addr_u32(&addr))];
	net->nb_neighbours += n->ip == 0;
	n->ip = og_addr_u32(&addr);
	for (int i = 0; i < 6; i++)
		n->mac.bytes[i] = (uint8_t)m[i];
}

static void for_each_line(struct og_kernel_net *net, const char *if_name, FILE *f,
	void (*parse)(struct og_kernel_net *net, const char *if_name, const char *line))
{
	char line[LINE_BYTES];

	while (fgets(line, sizeof(line), f))
		parse(net, if_name, line);
}

void og_kernel_net_parse(
	struct og_kernel_net *out, const char *if_name, FILE *routes, FILE *neighbours)
{
	memset(out, 0, sizeof(*out));
	for_each_line(out, if_name, routes, parse_route);
	for_each_line(out, if_name, neighbours, parse_neighbour);
}

void og_kernel_net_read(struct og_kernel_net *out, const char *if_name)
{
	FILE *routes = fopen("/proc/net/route", "re"), *neighbours = fopen("/proc/net/arp", "re");

	if (routes && neighbours)
		og_kernel_net_parse(out, if_name, routes, neighbours);
	else
		memset(out, 0, sizeof(*out));
	if (routes)
		fclose(routes);
	if (neighbours)
		fclose(neighbours);
}

const struct og_inet_mac *og_kernel_net_find(
	const struct og_kernel_net *net, const struct og_addr *dst, uint32_t *hop)
{
	uint32_t ip = og_addr_u32(dst);
	const struct og_kernel_neigh *n;

	if (dst->ip[0] == 0 || dst->ip[0] == 127 || dst->ip[0] >= 224)
		return NULL; /* no single host elsewhere */
	for (uint32_t i = 0; i < net->nb_routes; i++) {
		const struct og_kernel_route *r = &net->routes[i];

		if ((ip & r->mask) != r->net)
			continue;
		if (!r->ours)
			return NULL;
		*hop = r->gateway != 0 ? r->gateway : ip;
		n = &net->neighbours[slot_of(net, *hop)];
		return *hop != 0 && n->ip == *hop ? &n->mac : NULL;
	}
	return NULL;
}
