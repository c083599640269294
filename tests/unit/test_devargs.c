#include "dataplane/devargs.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(devargs, values_by_key)
{
	char out[8];

	cr_assert(og_devargs_get("net_x0,iface=va,q=3", "iface", out, sizeof(out)));
	cr_assert_str_eq(out, "va");
	cr_assert(og_devargs_get("net_x0,iface=va,q=3", "q", out, sizeof(out)));
	cr_assert_str_eq(out, "3");
	cr_assert(og_devargs_get("net_x0,iface=", "iface", out, sizeof(out)));
	cr_assert_str_eq(out, "");
	cr_assert(!og_devargs_get("net_x0,iface=va", "ifac", out, sizeof(out)));
	cr_assert(!og_devargs_get("net_x0", "iface", out, sizeof(out)));
	cr_assert(!og_devargs_get("net_x0,iface=abcdefgh", "iface", out, sizeof(out)), "too long");
}

Test(devargs, asks_for_queues_where_the_driver_is_told_of_them)
{
	static const struct {
		const char *devargs;
		uint16_t wanted, queues;
		const char *asked;
	} rows[] = {
		{"net_af_packet0,iface=lo", 1, 1, "net_af_packet0,iface=lo"},
		{"net_af_packet0,iface=lo", 4, 4, "net_af_packet0,iface=lo,qpairs=4"},
		{"net_af_packet0,iface=lo,qpairs=2", 4, 2, "net_af_packet0,iface=lo,qpairs=2"},
		{"net_af_packet0,qpairs=8,iface=lo", 4, 4, "net_af_packet0,qpairs=8,iface=lo"},
		{"net_af_packet0,qpairs=0,iface=lo", 4, 1, "net_af_packet0,qpairs=0,iface=lo"},
		{"net_af_packet0,iface=lo", 99, 16, "net_af_packet0,iface=lo,qpairs=16"},
		/* The loopback interface has one queue. */
		{"net_af_xdp0,iface=lo", 4, 1, "net_af_xdp0,iface=lo"},
		{"net_af_xdp0,iface=no-such-one", 4, 1, "net_af_xdp0,iface=no-such-one"},
		{"net_af_xdp0,iface=lo,start_queue=3", 4, 1, "net_af_xdp0,iface=lo,start_queue=3"},
		{"net_tap0,iface=t", 99, 16, "net_tap0,iface=t"},
		{"net_memif0,role=client", 3, 3, "net_memif0,role=client"},
		{"0000:3b:00.0", 3, 3, "0000:3b:00.0"},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++) {
		char out[80];

		cr_expect_eq(og_devargs_queues(rows[i].devargs, rows[i].wanted), rows[i].queues,
			"%s", rows[i].devargs);
		cr_expect_eq(og_devargs_ask(rows[i].devargs, rows[i].wanted, out, sizeof(out)), 0);
		cr_expect_str_eq(out, rows[i].asked);
	}
	cr_assert_eq(og_devargs_ask("net_af_packet0", 4, (char[16]){0}, 16), -E2BIG);
}
