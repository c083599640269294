/*
 * echo.c: a dataplane that echoes datagrams, for network tests and rate measurements.
 *
 *     net_echo DRIVER ADDRESS:PORT [PREFIX_BITS [GATEWAY]]
 *
 * OG_POLL=busy polls without sleeping, OG_IO_URING=no takes recvmmsg, OG_CORES=N has N polling cores that
 * echo what reaches them, OG_SPRAY=ADDRESS:PORT sends 32 datagrams a millisecond there, from each. Prints "ready ADDRESS:PORT", and its metrics at a newline of its
 * standard input and when that ends, as it does then.
 */
#include "base/count.h"
#include "base/metrics.h"
#include "dataplane/dataplane.h"
#include "tests/net/echo_core.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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

static void spray(struct og_dataplane *dp, const struct og_addr *to)
{
	static const uint8_t data[64];
	const struct og_msg send = {
		.type = ECHO_SEND, .arg = og_addr_key(to), .data = data, .len_bytes = sizeof(data)};

	for (uint16_t core = 0; core < og_dataplane_nb_cores(dp); core++)
		for (int i = 0; i < OG_BURST; i++)
			if (og_stage_push(og_dataplane_core_commands(dp, core), &send) < 0)
				break;
}

static void until_input_ends(struct og_dataplane *dp)
{
	const char *text = getenv("OG_SPRAY");
	struct pollfd in = {STDIN_FILENO, POLLIN, 0};
	struct og_addr to = {.port = 0};
	char line[64];

	if (text && og_addr_parse(&to, text) < 0)
		fprintf(stderr, "OG_SPRAY: not an address\n");
	for (uint32_t ms = 0;; ms += to.port != 0 ? 1 : 500) {
		int ret = poll(&in, 1, to.port != 0 ? 1 : 500);

		if (ms % 500 == 0)
			og_dataplane_supervise(dp);
		if (to.port != 0)
			spray(dp, &to);
		if (ret <= 0)
			continue;
		if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
			return;
		og_metrics_render(stdout);
		printf("-- \n");
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	struct og_dataplane_opts opts = {.lcore_cpu = -1};
	static struct echo_core echoes[OG_CORES_MAX];
	struct og_core *cores[OG_CORES_MAX];
	struct og_dataplane *dp;
	struct og_addr at;
	char err[200], text[OG_ADDR_TEXT_BYTES];

	if (parse(&opts, argc, argv) < 0) {
		fprintf(stderr, "usage: %s DRIVER ADDRESS:PORT [PREFIX_BITS [GATEWAY]]\n", argv[0]);
		return 2;
	}
	opts.poll = env_is("OG_POLL", "busy") ? OG_POLL_BUSY : OG_POLL_ADAPTIVE;
	opts.no_io_uring = env_is("OG_IO_URING", "no");
	opts.nb_cores = getenv("OG_CORES") ? (uint16_t)atoi(getenv("OG_CORES")) : 1;
	if (og_dataplane_open(&dp, &opts, err, sizeof(err)) < 0) {
		fprintf(stderr, "%s\n", err);
		return 1;
	}
	og_dataplane_register_metrics(dp);
	for (uint16_t i = 0; i < opts.nb_cores; i++) {
		struct og_core_env env = {0};

		og_dataplane_core_env(dp, i, &env);
		echo_init(&echoes[i], &env);
		cores[i] = &echoes[i].core;
	}
	if (og_dataplane_start_cores(dp, cores) < 0)
		return 1;
	og_dataplane_local_addr(dp, 0, &at);
	printf("ready %s\n", og_addr_format(&at, text));
	fflush(stdout);
	until_input_ends(dp);
	og_dataplane_stop(dp);
	og_metrics_render(stdout);
	og_dataplane_close(dp);
	return 0;
}
