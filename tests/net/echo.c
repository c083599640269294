/*
 * echo.c: a dataplane that echoes datagrams, for network tests and rate measurements.
 *
 *     net_echo DRIVER ADDRESS:PORT [PREFIX_BITS [GATEWAY]]
 *
 * OG_POLL=busy polls without sleeping, OG_IO_URING=no takes recvmmsg. Prints "ready ADDRESS:PORT",
 * runs until its standard input ends, then prints its metrics.
 */
#include "base/count.h"
#include "base/metrics.h"
#include "dataplane/dataplane.h"
#include "tests/net/echo_core.h"

#include <stdio.h>
#include <stdlib.h>

static int parse(struct og_dataplane_opts *opts, int argc, char **argv)
{
	if (argc < 3 || argc > 5 || og_addr_parse(&opts->bind, argv[2]) < 0)
		return -1;
	opts->driver = argv[1];
	if (argc > 3)
		opts->prefix_bits = (uint8_t)atoi(argv[3]);
	if (argc > 4 && og_addr_parse(&opts->gateway, argv[4]) < 0)
		return -1;
	return 0;
}

static bool env_is(const char *name, const char *value)
{
	const char *is = getenv(name);

	return is && strcmp(is, value) == 0;
}

int main(int argc, char **argv)
{
	struct og_dataplane_opts opts = {.lcore_cpu = -1};
	struct og_core_env env = {0};
	struct og_dataplane *dp;
	struct echo_core echo;
	struct og_addr at;
	char err[200], text[OG_ADDR_TEXT_BYTES];

	if (parse(&opts, argc, argv) < 0) {
		fprintf(stderr, "usage: %s DRIVER ADDRESS:PORT [PREFIX_BITS [GATEWAY]]\n", argv[0]);
		return 2;
	}
	opts.poll = env_is("OG_POLL", "busy") ? OG_POLL_BUSY : OG_POLL_ADAPTIVE;
	opts.no_io_uring = env_is("OG_IO_URING", "no");
	if (og_dataplane_open(&dp, &opts, err, sizeof(err)) < 0) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	og_dataplane_register_metrics(dp);
	og_dataplane_env(dp, &env);
	echo_init(&echo, &env);
	if (og_dataplane_start(dp, &echo.core) < 0)
		return 1;
	og_dataplane_local_addr(dp, 0, &at);
	printf("ready %s\n", og_addr_format(&at, text));
	fflush(stdout);
	while (getchar() != EOF)
		continue;
	og_dataplane_stop(dp);
	og_metrics_render(stdout);
	og_dataplane_close(dp);
	return 0;
}
