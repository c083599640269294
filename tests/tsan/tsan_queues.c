/*
 * tsan_queues.c: the polling cores of one device for ThreadSanitizer: two dataplanes of two cores each, the
 * ends of a memif, send to each other from every core and echo what reaches them, while all ask for
 * neighbours that are not there.
 */
#include "base/count.h"
#include "dataplane/dataplane.h"
#include "tests/net/echo_core.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CORES = 2, ROUNDS = 3000, CIRCLING = 32 };
/* DPDK's driver may crash where a memif is closed while its interrupt thread hears of the other end's going. */
enum { PARTING_US = 500000 };

/* The driver is not built for ThreadSanitizer, which sees what it opens and closes, but not why in time. */
const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
	return "race:librte_net_memif.so\nrace:librte_eal.so\n";
}

struct end {
	struct og_dataplane *dp;
	struct echo_core echoes[CORES];
	struct og_addr at;
};

static int start(struct end *e, const char *role, uint8_t host)
{
	struct og_core *cores[CORES];
	struct og_dataplane_opts opts = {.bind = {{10, 9, 9, host}, 7000},
		.prefix_bits = 24,
		.lcore_cpu = -1,
		.nb_cores = CORES,
		.command_buffers = 64,
		.memory_mib = 512};
	char driver[160], err[200];

	snprintf(driver, sizeof(driver),
		"ethdev:net_memif%u,role=%s,socket=og-tsan-%d,socket-abstract=yes,mac=02:00:00:00:"
		"09:0%u",
		host, role, (int)getpid(), host);
	opts.driver = driver;
	if (og_dataplane_open(&e->dp, &opts, err, sizeof(err)) < 0) {
		fprintf(stderr, "%s\n", err);
		return -1;
	}
	for (uint16_t i = 0; i < CORES; i++) {
		struct og_core_env env = {0};

		og_dataplane_core_env(e->dp, i, &env);
		echo_init(&e->echoes[i], &env);
		cores[i] = &e->echoes[i].core;
	}
	og_dataplane_local_addr(e->dp, 0, &e->at);
	return og_dataplane_start_cores(e->dp, cores);
}

static void send_from_each(struct end *e, const struct og_addr *to)
{
	const struct og_msg m = {.type = ECHO_SEND,
		.len_bytes = 5,
		.data = (const uint8_t *)"round",
		.arg = og_addr_key(to)};

	for (uint16_t core = 0; core < CORES; core++)
		(void)!og_stage_push(og_dataplane_core_commands(e->dp, core), &m);
}

static uint64_t received(const struct end *e, uint16_t core)
{
	return og_counter_read(&og_dataplane_core_counters(e->dp, core)->rx_packets);
}

static bool all_received(const struct end *a, const struct end *b)
{
	return received(a, 0) > 0 && received(a, 1) > 0 && received(b, 0) > 0 && received(b, 1) > 0;
}

int main(void)
{
	static struct end a, b;
	bool all;

	if (start(&a, "server", 1) < 0 || start(&b, "client", 2) < 0)
		return 1;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		const struct og_addr nobody = {{10, 9, 9, (uint8_t)(100 + i % 100)}, 9};

		/*
		 * What is echoed goes round for ever. The first may go by the first core, which asks for the
		 * neighbour, and stay with it.
		 */
		if (i < CIRCLING || (i % 100 == 0 && !all_received(&a, &b))) {
			send_from_each(&a, &b.at);
			send_from_each(&b, &a.at);
		}
		send_from_each(i % 2 ? &a : &b, &nobody);
		if (i % 500 == 0) {
			og_dataplane_supervise(a.dp);
			og_dataplane_supervise(b.dp);
		}
		usleep(1000);
	}
	all = all_received(&a, &b);
	printf("a received %" PRIu64 " and %" PRIu64 ", b %" PRIu64 " and %" PRIu64 "\n",
		received(&a, 0), received(&a, 1), received(&b, 0), received(&b, 1));
	og_dataplane_stop(b.dp);
	og_dataplane_stop(a.dp);
	og_dataplane_close(b.dp);
	usleep(PARTING_US);
	og_dataplane_close(a.dp);
	return all ? 0 : 1;
}
