#include "bench/serve.h"

#include "base/log.h"
#include "bench/bench.h"
#include "bench/flood.h"
#include "bench/path.h"
#include "crypto/keys.h"

#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct og_dataplane *supervised; /* that of this process, if it has one */

void serve_supervise(void)
{
	if (supervised)
		og_dataplane_supervise(supervised);
}

char *serve_line(char *line, int line_bytes)
{
	struct pollfd p = {STDIN_FILENO, POLLIN, 0};

	while (poll(&p, 1, SERVE_SUPERVISE_MS) == 0)
		serve_supervise();
	return fgets(line, line_bytes, stdin);
}

int serve_open(struct og_dataplane **out, struct og_dataplane_opts *opts, int argc, char **argv)
{
	char err[256];

	if (argc < 2 || og_addr_parse(&opts->bind, argv[1]) < 0) {
		fprintf(stderr, "og-bench --serve: DRIVER ADDRESS:PORT [PREFIX_BITS]\n");
		return -1;
	}
	opts->no_io_uring = strcmp(argv[0], "recvmmsg") == 0;
	opts->driver = opts->no_io_uring ? "socket" : argv[0];
	opts->prefix_bits = (uint8_t)(argc > 2 ? atoi(argv[2]) : 0);
	opts->lcore_cpu = -1; /* that of the process */
	/* A port that cannot wake a sleeping core is polled, as on dedicated cores. */
	opts->poll = strcmp(opts->driver, "socket") == 0 ? OG_POLL_ADAPTIVE : OG_POLL_BUSY;
	if (og_dataplane_open(out, opts, err, sizeof(err)) < 0) {
		fprintf(stderr, "og-bench --serve: %s\n", err);
		return -1;
	}
	supervised = *out;
	return 0;
}

void serve_until_told(const char *fmt, ...)
{
	char buf[256];
	va_list args;

	fputs("ready ", stdout);
	va_start(args, fmt);
	vfprintf(stdout, fmt, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	while (serve_line(buf, sizeof(buf)))
		continue;
}

int bench_serve(int argc, char **argv)
{
	if (og_crypto_init() < 0)
		return BENCH_FAILED;
	setvbuf(stdin, NULL, _IONBF, 0); /* a line in a buffer is none that poll() sees */
	og_log_setup(OG_LOG_ERR, false);
	if (argc >= 1 && strcmp(argv[0], "echo-recvmmsg") == 0)
		return serve_echo_recvmmsg();
	if (argc >= 1 && strcmp(argv[0], "echo-io_uring") == 0)
		return serve_echo_uring();
	if (argc >= 1 && strcmp(argv[0], "echo") == 0)
		return serve_echo(argc - 1, argv + 1);
	if (argc >= 1 && strcmp(argv[0], "node") == 0)
		return serve_node(argc - 1, argv + 1);
	if (argc >= 1 && strcmp(argv[0], "peer") == 0)
		return serve_peer(argc - 1, argv + 1);
	if (argc >= 1 && strcmp(argv[0], "hold") == 0) {
		serve_until_told("here");
		return BENCH_DONE;
	}
	if (argc >= 1 && strcmp(argv[0], "path") == 0)
		return serve_path(argc - 1, argv + 1);
	if (argc >= 1 && strcmp(argv[0], "tcp-sink") == 0)
		return serve_tcp_sink(argc - 1, argv + 1);
	if (argc >= 1 && strcmp(argv[0], "streams") == 0)
		return serve_streams(argc - 1, argv + 1);
	if (argc >= 1 && strcmp(argv[0], "flood") == 0)
		return serve_flood(argc - 1, argv + 1);
	if (argc >= 1 && strcmp(argv[0], "flood-port") == 0)
		return serve_flood_port(argc - 1, argv + 1);
	if (argc >= 1 && strcmp(argv[0], "load") == 0)
		return serve_load(argc - 1, argv + 1);
	return BENCH_USAGE;
}
