/*
 * kernel_net.h: what the kernel knows of an interface's routes and neighbours, as a table that tells
 * where a frame goes without asking the kernel.
 *
 * Source:  proc_net(5): /proc/net/route and /proc/net/arp. Rules that choose among routing tables
 *          are not seen: the main table counts.
 * Units:   addresses in network order.
 * Threads: read by one thread into a table that nobody else reads meanwhile.
 * Memory:  about 32 KiB, the caller's. What does not fit is left out; its datagrams take the
 *          kernel's own way.
 */
#pragma once
#include "dataplane/inet.h"

#include <stdio.h>

enum { OG_KERNEL_ROUTES = 64, OG_KERNEL_NEIGHBOURS = 1024, OG_KERNEL_SLOTS = 2048 };

struct og_kernel_route {
	uint32_t net, mask; /* host order */
	uint32_t gateway;   /* host order; 0: the destination is a neighbour */
	bool ours;          /* by the interface */
};

struct og_kernel_neigh {
	uint32_t ip; /* host order; 0: empty */
	struct og_inet_mac mac;
};

struct og_kernel_net {
	uint32_t nb_routes;
	uint32_t nb_neighbours;
	struct og_kernel_route routes[OG_KERNEL_ROUTES];    /* longest prefix first */
	struct og_kernel_neigh neighbours[OG_KERNEL_SLOTS]; /* hashed by IP */
};

/* Read both tables of the kernel; without them, nothing is known. */
void og_kernel_net_read(struct og_kernel_net *out, const char *if_name);
/* The same from open files in the form of /proc/net/route and /proc/net/arp. */
void og_kernel_net_parse(
	struct og_kernel_net *out, const char *if_name, FILE *routes, FILE *neighbours);

/*
 * Whose MAC address a datagram to `dst` goes to. NULL: unknown, or not by this interface. `*hop` is
 * the neighbour's IP address, host order.
 */
const struct og_inet_mac *og_kernel_net_find(
	const struct og_kernel_net *net, const struct og_addr *dst, uint32_t *hop);
