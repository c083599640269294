/* Where frames go, by the kernel's own tables as /proc shows them. */
#include "dataplane/kernel_net.h"

#include <criterion/criterion.h>
#include <string.h>

static const char routes_text[] =
	"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
	"eth1\t00000000\t0102000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n" /* via 10.0.2.1 */
	"eth0\t00000000\t0102000A\t0003\t0\t0\t200\t00000000\t0\t0\t0\n" /* worse */
	"eth1\t0002000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n" /* 10.0.2.0/24 */
	"tun0\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"   /* 192.168.0.0/16 */
	"eth1\t0003A8C0\tFE02000A\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"   /* .3.0/24 via .254 */
	"*\t00000B0A\t00000000\t0201\t0\t0\t0\t0000FFFF\t0\t0\t0\n"      /* unreachable */
	"eth1\t0000000A\t00000000\t0000\t0\t0\t0\t000000FF\t0\t0\t0\n"   /* not up */
	"nonsense\n";
static const char neighbours_text[] =
	"IP address       HW type     Flags       HW address            Mask     Device\n"
	"10.0.2.1         0x1         0x2         02:00:00:00:00:01     *        eth1\n"
	"10.0.2.7         0x1         0x2         02:00:00:00:00:07     *        eth1\n"
	"10.0.2.8         0x1         0x0         00:00:00:00:00:00     *        eth1\n"
	"10.0.2.9         0x1         0x2         02:00:00:00:00:09     *        eth0\n"
	"10.0.2.254       0x1         0x6         02:00:00:00:00:fe     *        eth1\n"
	"10.0.2.300       0x1         0x2         02:00:00:00:00:aa     *        eth1\n"
	"0.0.0.0          0x1         0x2         02:00:00:00:00:bb     *        eth1\n";

static struct og_kernel_net net;

static void parse(const char *routes, const char *neighbours)
{
	FILE *r = fmemopen((void *)(uintptr_t)routes, strlen(routes), "r");
	FILE *n = fmemopen((void *)(uintptr_t)neighbours, strlen(neighbours), "r");

	og_kernel_net_parse(&net, "eth1", r, n);
	fclose(r);
	fclose(n);
}

/* The last byte of the MAC address for `dst`, -1 when there is none. */
static int way(const char *dst)
{
	const struct og_inet_mac *mac;
	struct og_addr a;
	uint32_t hop;

	cr_assert_eq(og_addr_parse(&a, dst), 0);
	mac = og_kernel_net_find(&net, &a, &hop);
	return mac ? mac->bytes[5] : -1;
}

Test(kernel_net, the_longest_prefix_says_the_neighbour)
{
	static const struct {
		const char *dst;
		int want;
	} rows[] = {
		{"10.0.2.7", 0x07},
		{"203.0.113.5", 0x01}, /* the default route's gateway */
		{"192.168.3.5", 0xfe}, /* a gateway of its own */
		{"192.168.4.5", -1},   /* another interface */
		{"10.11.0.1", -1},     /* no way there, says the kernel */
		{"10.0.2.8", -1},      /* has not answered the kernel */
		{"10.0.2.9", -1},      /* known, but at another interface */
		{"10.0.2.255", -1},
		{"0.0.0.0", -1},
		{"224.0.0.251", -1},
	};

	parse(routes_text, neighbours_text);
	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++)
		cr_expect_eq(way(rows[i].dst), rows[i].want, "%s", rows[i].dst);
}

Test(kernel_net, without_tables_nothing_is_known)
{
	parse("\n", "\n");
	cr_expect_eq(way("10.0.2.7"), -1);
}

Test(kernel_net, of_too_many_routes_the_longest_stay)
{
	char text[16384] = "";
	size_t used = 0;

	used += (size_t)snprintf(text + used, sizeof(text) - used,
		"eth1\t00000000\t0102000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
	for (unsigned i = 0; i < OG_KERNEL_ROUTES; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
			"eth1\t00%02X000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", i);
	parse(text, neighbours_text);
	cr_expect_eq(net.nb_routes, OG_KERNEL_ROUTES);
	cr_expect_eq(way("10.0.2.7"), 0x07);
	cr_expect_eq(way("203.0.113.5"), -1, "the kernel's own way, not a wrong one");
}

Test(kernel_net, of_too_many_neighbours_some_are_left_out)
{
	static char text[200000];
	size_t used = 0;
	int known = 0;

	for (unsigned i = 1; i < 1500; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used,
			"10.1.%u.%u 0x1 0x2 02:00:00:00:00:05 * eth1\n", i >> 8, i & 255);
	parse("eth1\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n", text);
	cr_expect_eq(net.nb_neighbours, OG_KERNEL_NEIGHBOURS);
	for (unsigned i = 1; i < 1500; i++) {
		char dst[32];

		snprintf(dst, sizeof(dst), "10.1.%u.%u", i >> 8, i & 255);
		known += way(dst) == 5;
	}
	cr_expect_eq(known, OG_KERNEL_NEIGHBOURS);
}
