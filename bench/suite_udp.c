/*
 * suite_udp.c: the port alone: a core that sends every datagram back, under a closed loop of 128
 * datagrams of 22 and of 1200 bytes.
 *
 * References, under the same load: echoes over recvmmsg and sendmmsg, and over io_uring.
 */
#include "bench/bench.h"
#include "bench/servers.h"

enum { WINDOW = 128 };

static int run_case(const struct bench *b, struct servers *all, const char *name, uint16_t bytes)
{
	static struct load_plan plans[SERVERS_MAX];

	if (!bench_wanted(b, name))
		return 0;
	for (uint32_t i = 0; i < all->nb; i++) {
		plans[i] =
			(struct load_plan){.window = WINDOW, .first_byte = -1, .min_bytes = bytes};
		for (uint32_t k = 0; k < WINDOW; k++) {
			plans[i].slots[k].len_bytes = bytes;
			plans[i].slots[k].data[0] = (uint8_t)k;
		}
	}
	return servers_measure(b, all, name, "echoes", plans);
}

int suite_udp(const struct bench *b)
{
	static struct servers all;
	int ret = servers_start(b, &all, "echo");

	if (ret == 0)
		ret = run_case(b, &all, "echo 22 B", 22);
	if (ret == 0)
		ret = run_case(b, &all, "echo 1200 B", 1200);
	servers_stop(&all);
	return ret == 0 ? BENCH_DONE : BENCH_FAILED;
}
