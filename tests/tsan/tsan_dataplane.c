/*
 * tsan_dataplane.c: a whole dataplane under load for ThreadSanitizer: datagrams from a socket,
 * commands and jobs from the main thread as router, two crypto workers.
 */
#include "base/count.h"
#include "dataplane/dataplane.h"
#include "tests/net/echo_core.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROUNDS = 20000 };

static int peer_socket(const struct og_addr *to)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(to->port)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	memcpy(&sin.sin_addr, to->ip, sizeof(to->ip));
	return connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ? -1 : fd;
}

static void send_round(int fd, struct og_stage *commands, uint32_t i)
{
	struct og_msg job = {.type = ECHO_JOB, .slot = i, .arg = i};
	struct og_msg event = {
		.type = ECHO_EVENT, .slot = i, .len_bytes = sizeof(i), .data = (const uint8_t *)&i};
	char back[64];

	(void)!send(fd, &i, sizeof(i), 0);
	while (recv(fd, back, sizeof(back), 0) > 0)
		continue;
	(void)!og_stage_push(commands, i % 2 ? &job : &event);
}

static uint32_t take_events(struct og_stage *events)
{
	struct og_msg msg;
	uint32_t n = 0;

	while (og_stage_pop(events, &msg) == 0) {
		og_stage_release(events, &msg);
		n++;
	}
	return n;
}

static int run(bool no_io_uring)
{
	struct og_dataplane_opts opts = {
		.driver = "socket",
		.bind = {{127, 0, 0, 1}, 0},
		.lcore_cpu = -1,
		.nb_workers = 2,
		.no_io_uring = no_io_uring,
	};
	struct og_dataplane *dp;
	struct og_core_env env = {0};
	struct echo_core echo;
	struct og_addr at;
	char err[200];
	uint32_t events = 0;
	int fd;

	if (og_dataplane_open(&dp, &opts, err, sizeof(err)) < 0) {
		fprintf(stderr, "%s\n", err);
		return -1;
	}
	og_dataplane_env(dp, &env);
	echo_init(&echo, &env);
	og_dataplane_local_addr(dp, 0, &at);
	fd = peer_socket(&at);
	if (fd < 0 || og_dataplane_start(dp, &echo.core) < 0)
		return -1;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		send_round(fd, og_dataplane_commands(dp), i);
		events += take_events(og_dataplane_events(dp));
	}
	og_dataplane_stop(dp);
	events += take_events(og_dataplane_events(dp));
	printf("%s: %" PRIu64 " datagrams, %u events\n", og_dataplane_port_name(dp),
		og_counter_read(&og_dataplane_counters(dp)->rx_packets), events);
	og_dataplane_close(dp);
	close(fd);
	return events > 0 ? 0 : -1;
}

int main(void)
{
	return run(false) < 0 || run(true) < 0;
}
