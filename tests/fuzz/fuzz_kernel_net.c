/*
 * fuzz_kernel_net.c: tables in the form of /proc/net/route and /proc/net/arp, which a NUL parts.
 */
#include "dataplane/kernel_net.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static struct og_kernel_net net;
	const uint8_t *nul = memchr(data, 0, len_bytes);
	size_t first = nul ? (size_t)(nul - data) : len_bytes;
	FILE *routes, *neighbours;
	uint32_t hop;

	if (len_bytes > 65536 || !nul || first == 0 || first + 1 == len_bytes)
		return 0;
	routes = fmemopen((void *)(uintptr_t)data, first, "r");
	neighbours = fmemopen((void *)(uintptr_t)(nul + 1), len_bytes - first - 1, "r");
	if (routes && neighbours)
		og_kernel_net_parse(&net, "eth1", routes, neighbours);
	if (routes)
		fclose(routes);
	if (neighbours)
		fclose(neighbours);
	OG_ASSERT(net.nb_routes <= OG_KERNEL_ROUTES && net.nb_neighbours <= OG_KERNEL_NEIGHBOURS);
	for (uint32_t i = 0; i < net.nb_routes; i++) {
		const uint32_t ip = net.routes[i].net;
		const struct og_addr dst = og_addr_from_key((uint64_t)ip << 16);

		(void)og_kernel_net_find(&net, &dst, &hop);
	}
	return 0;
}
