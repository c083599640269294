#include "dataplane/dataplane.h"

#include "base/count.h"
#include "base/metrics.h"
#include "refuse.h"
#include "tests/net/echo_core.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct mode {
	bool no_io_uring;
	enum og_poll poll;
};

struct node {
	struct og_dataplane *dp;
	struct echo_core echo;
	struct og_doorbell router;
	struct og_addr at[2];
};

static const struct mode modes[] = {
	{false, OG_POLL_ADAPTIVE},
	{true, OG_POLL_ADAPTIVE},
	{false, OG_POLL_BUSY},
	{true, OG_POLL_BUSY},
};

static const struct mode usual = {false, OG_POLL_ADAPTIVE};

static struct og_dataplane_opts options(const struct mode *mode)
{
	return (struct og_dataplane_opts){
		.driver = "socket",
		.bind = {{127, 0, 0, 1}, 0},
		.nb_endpoints = 2,
		.lcore_cpu = -1,
		.poll = mode->poll,
		.nb_workers = 1,
		.no_io_uring = mode->no_io_uring,
		.memory_mib = 64,
		.command_buffers = 64,
	};
}

static void start(struct node *n, const struct mode *mode)
{
	struct og_dataplane_opts opts = options(mode);
	struct og_core_env env = {0};
	char err[200] = "";

	cr_assert_eq(og_doorbell_init(&n->router), 0);
	opts.router = &n->router;
	cr_assert_eq(og_dataplane_open(&n->dp, &opts, err, sizeof(err)), 0, "%s", err);
	cr_assert_str_eq(
		og_dataplane_port_name(n->dp), mode->no_io_uring ? "recvmmsg" : "io_uring");
	og_dataplane_env(n->dp, &env);
	echo_init(&n->echo, &env);
	for (uint16_t i = 0; i < 2; i++)
		og_dataplane_local_addr(n->dp, i, &n->at[i]);
	cr_assert_eq(og_dataplane_start(n->dp, &n->echo.core), 0);
}

static void stop(struct node *n)
{
	og_dataplane_stop(n->dp);
	og_dataplane_close(n->dp);
	og_doorbell_fini(&n->router);
}

static int peer_socket(const struct og_addr *to)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(to->port)};
	const struct timeval patience = {.tv_sec = 5};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	memcpy(&sin.sin_addr, to->ip, 4);
	cr_assert_eq(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

static void expect_echo(int fd, size_t len_bytes)
{
	uint8_t out[4096], in[4096];

	for (size_t i = 0; i < len_bytes; i++)
		out[i] = (uint8_t)(i * 7 + len_bytes);
	cr_assert_eq(send(fd, out, len_bytes, 0), (ssize_t)len_bytes);
	cr_assert_eq(recv(fd, in, sizeof(in), 0), (ssize_t)len_bytes);
	cr_assert_eq(memcmp(in, out, len_bytes), 0);
}

static void command(struct node *n, const struct og_msg *msg)
{
	cr_assert_eq(og_stage_push(og_dataplane_commands(n->dp), msg), 0);
}

static void expect_event(struct node *n, struct og_msg *out)
{
	struct og_stage *events = og_dataplane_events(n->dp);

	for (int tries = 0; og_stage_pop(events, out) < 0; tries++) {
		cr_assert_lt(tries, 50, "no event came");
		og_doorbell_announce(&n->router);
		if (og_stage_count(events) == 0)
			og_doorbell_wait(&n->router, 100 * OG_NS_PER_MS);
		og_doorbell_awake(&n->router);
	}
}

ParameterizedTestParameters(dataplane, echoes_datagrams_of_every_size)
{
	return cr_make_param_array(struct mode, (struct mode *)modes, OG_ARRAY_LEN(modes));
}

ParameterizedTest(struct mode *mode, dataplane, echoes_datagrams_of_every_size)
{
	struct node n;

	start(&n, mode);
	for (uint16_t endpoint = 0; endpoint < 2; endpoint++) {
		int fd = peer_socket(&n.at[endpoint]);

		for (size_t len = 0; len <= 2048; len += len < 64 ? 1 : 61)
			expect_echo(fd, len);
		expect_echo(fd, 2048);
		close(fd);
	}
	cr_assert_eq(n.echo.unsent, 0);
	stop(&n);
}

ParameterizedTestParameters(dataplane, echoes_bursts)
{
	return cr_make_param_array(struct mode, (struct mode *)modes, OG_ARRAY_LEN(modes));
}

ParameterizedTest(struct mode *mode, dataplane, echoes_bursts)
{
	enum { BURST = 100, ROUNDS = 100 };
	struct node n;
	int fd;

	start(&n, mode);
	fd = peer_socket(&n.at[0]);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		bool seen[BURST] = {false};

		for (uint32_t i = 0; i < BURST; i++)
			cr_assert_eq(send(fd, &i, sizeof(i), 0), (ssize_t)sizeof(i));
		for (uint32_t i = 0; i < BURST; i++) {
			uint32_t back = BURST;

			cr_assert_eq(recv(fd, &back, sizeof(back), 0), (ssize_t)sizeof(back));
			cr_assert(back < BURST && !seen[back], "each comes back once");
			seen[back] = true;
		}
	}
	og_dataplane_stop(n.dp);
	cr_assert_eq(og_dataplane_counters(n.dp)->rx_packets, BURST * ROUNDS);
	cr_assert_eq(og_dataplane_counters(n.dp)->tx_packets, BURST * ROUNDS);
	cr_assert_eq(og_dataplane_counters(n.dp)->rx_bytes, BURST * ROUNDS * sizeof(uint32_t));
	close(fd);
	stop(&n);
}

ParameterizedTestParameters(dataplane, echoes_bursts_of_all_sizes_to_several_peers)
{
	return cr_make_param_array(struct mode, (struct mode *)modes, OG_ARRAY_LEN(modes));
}

/* What goes to one peer is sent together where sizes allow: no datagram may gain or lose by it. */
ParameterizedTest(struct mode *mode, dataplane, echoes_bursts_of_all_sizes_to_several_peers)
{
	static const uint16_t sizes[] = {
		40, 40, 40, 30, 40, 1400, 1400, 1, 0, 1, 1400, 2048, 2048, 7};
	enum { PEERS = 3, ROUNDS = 30 };
	uint8_t data[2048], back[4096];
	struct node n;
	int fds[PEERS];

	start(&n, mode);
	for (int i = 0; i < PEERS; i++)
		fds[i] = peer_socket(&n.at[0]);
	for (int round = 0; round < ROUNDS; round++) {
		for (size_t k = 0; k < OG_ARRAY_LEN(sizes); k++)
			for (int i = 0; i < PEERS; i++) {
				/* One peer after the other, or by turns. */
				int to = round % 2 ? i
						   : (int)(k * PEERS + (size_t)i) /
							     (int)OG_ARRAY_LEN(sizes);
				uint16_t size = sizes[round % 2 ? k
								: (k * PEERS + (size_t)i) %
									  OG_ARRAY_LEN(sizes)];

				memset(data, to + (int)size, size);
				cr_assert_eq(send(fds[to], data, size, 0), (ssize_t)size);
			}
		for (int i = 0; i < PEERS; i++)
			for (size_t k = 0; k < OG_ARRAY_LEN(sizes); k++) {
				memset(data, i + (int)sizes[k], sizes[k]);
				cr_assert_eq(
					recv(fds[i], back, sizeof(back), 0), (ssize_t)sizes[k]);
				cr_assert_arr_eq(back, data, sizes[k]);
			}
	}
	for (int i = 0; i < PEERS; i++)
		close(fds[i]);
	cr_assert_eq(og_dataplane_drops(n.dp, OG_DROP_TX_ERROR), 0);
	stop(&n);
}

ParameterizedTestParameters(dataplane, drops_and_counts_datagrams_that_are_too_long)
{
	return cr_make_param_array(struct mode, (struct mode *)modes, 2);
}

ParameterizedTest(struct mode *mode, dataplane, drops_and_counts_datagrams_that_are_too_long)
{
	uint8_t data[9000] = {0};
	struct node n;
	int fd;

	start(&n, mode);
	fd = peer_socket(&n.at[0]);
	for (int i = 0; i < 40; i++) {
		cr_assert_eq(send(fd, data, i % 2 ? 2049 : sizeof(data), 0),
			i % 2 ? 2049 : (ssize_t)sizeof(data));
		expect_echo(fd, 100);
	}
	cr_assert_eq(og_dataplane_drops(n.dp, OG_DROP_RX_TOO_LONG), 40);
	cr_assert_eq(og_dataplane_counters(n.dp)->rx_packets, 40);
	close(fd);
	stop(&n);
}

ParameterizedTestParameters(dataplane, errors_of_sends_disturb_nothing)
{
	return cr_make_param_array(struct mode, (struct mode *)modes, 2);
}

ParameterizedTest(struct mode *mode, dataplane, errors_of_sends_disturb_nothing)
{
	struct og_addr closed = {{127, 0, 0, 1}, 1}, unreachable = {{255, 255, 255, 255}, 9};
	struct og_msg msg = {.type = ECHO_SEND, .len_bytes = 3, .data = (const uint8_t *)"abc"};
	struct og_msg mark = {.type = ECHO_EVENT}, event;
	struct node n;
	int fd;

	start(&n, mode);
	fd = peer_socket(&n.at[0]);
	for (int i = 0; i < 50; i++) {
		msg.arg = og_addr_key(i % 2 ? &closed : &unreachable); /* ICMP error; EACCES */
		command(&n, &msg);
		command(&n, &mark);
		expect_event(&n, &event);
		expect_echo(fd, 50);
	}
	cr_assert_eq(og_dataplane_drops(n.dp, OG_DROP_TX_ERROR), 25);
	close(fd);
	stop(&n);
}

ParameterizedTestParameters(dataplane, sends_with_the_time_to_live_asked_for)
{
	return cr_make_param_array(struct mode, (struct mode *)modes, 2);
}

ParameterizedTest(struct mode *mode, dataplane, sends_with_the_time_to_live_asked_for)
{
	static const struct {
		uint16_t asked;
		int want;
	} cases[] = {{0, 64}, {5, 5}, {0, 64}, {OG_TX_TTL_MAX, OG_TX_TTL_MAX},
		{5 | OG_TX_MAY_FRAGMENT, 5}};
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t sin_len = sizeof(sin);
	const int on = 1;
	struct node n;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	start(&n, mode);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&sin, &sin_len), 0);
	cr_assert_eq(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof(on)), 0);
	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		struct og_addr to = {{127, 0, 0, 1}, ntohs(sin.sin_port)};
		struct og_msg msg = {.type = ECHO_SEND,
			.flags = cases[i].asked,
			.slot = i % 2,
			.len_bytes = 1,
			.data = (const uint8_t *)"x",
			.arg = og_addr_key(&to)};
		uint8_t byte, control[64] = {0};
		struct sockaddr_in from;
		struct iovec iov = {&byte, 1};
		struct msghdr h = {.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control)};
		int ttl;

		command(&n, &msg);
		cr_assert_eq(recvmsg(fd, &h, 0), 1);
		cr_assert_not_null(CMSG_FIRSTHDR(&h));
		memcpy(&ttl, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof(ttl));
		cr_assert_eq(ttl, cases[i].want);
		cr_assert_eq(ntohs(from.sin_port), n.at[i % 2].port, "from the endpoint asked for");
	}
	close(fd);
	stop(&n);
}

Test(dataplane, takes_the_next_free_port)
{
	struct og_dataplane_opts opts = options(&usual);
	struct og_dataplane *dp[7];
	struct og_addr at[7];
	char err[200];

	opts.nb_endpoints = 1;
	opts.bind.port = 41000;
	opts.memory_mib = 256;
	opts.event_buffers = 16;
	for (size_t i = 0; i < OG_ARRAY_LEN(dp); i++) {
		cr_assert_eq(og_dataplane_open(&dp[i], &opts, err, sizeof(err)), 0, "%s", err);
		og_dataplane_local_addr(dp[i], 0, &at[i]);
	}
	for (size_t i = 0; i < 5; i++)
		cr_assert_geq(at[i].port, 41000);
	cr_assert(at[6].port < 41000 || at[6].port > 41004, "any port once those are taken");
	for (size_t i = 0; i < OG_ARRAY_LEN(dp); i++)
		og_dataplane_close(dp[i]);
}

Test(dataplane, an_address_that_is_not_ours_is_refused_with_a_reason)
{
	struct og_dataplane_opts opts = options(&usual);
	struct og_dataplane *dp;
	char err[200] = "";

	opts.bind = (struct og_addr){{192, 0, 2, 1}, 0};
	cr_assert_eq(og_dataplane_open(&dp, &opts, err, sizeof(err)), -EADDRNOTAVAIL);
	cr_assert(strstr(err, "socket") != NULL, "%s", err);
	opts.driver = "carrier pigeon";
	cr_assert_eq(og_dataplane_open(&dp, &opts, err, sizeof(err)), -EINVAL);
}

ParameterizedTestParameters(dataplane, commands_jobs_and_timers_come_back_as_events)
{
	return cr_make_param_array(struct mode, (struct mode *)modes, OG_ARRAY_LEN(modes));
}

ParameterizedTest(struct mode *mode, dataplane, commands_jobs_and_timers_come_back_as_events)
{
	struct og_msg event;
	struct node n;

	start(&n, mode);
	for (uint32_t i = 0; i < 50; i++) {
		struct og_msg hello = {.type = ECHO_EVENT,
			.slot = i,
			.len_bytes = 5,
			.data = (const uint8_t *)"hello"};
		struct og_msg job = {.type = ECHO_JOB, .slot = i, .arg = i};

		command(&n, &hello);
		expect_event(&n, &event);
		cr_assert_eq(event.slot, i);
		cr_assert_eq(memcmp(event.data, "hello", 5), 0);
		og_stage_release(og_dataplane_events(n.dp), &event);

		command(&n, &job);
		expect_event(&n, &event);
		cr_assert_eq(event.arg, 2 * i);
		og_stage_release(og_dataplane_events(n.dp), &event);
	}
	for (int i = 0; i < 5; i++) {
		struct og_msg timer = {.type = ECHO_TIMER, .arg = 20 * OG_NS_PER_MS};

		command(&n, &timer);
		expect_event(&n, &event);
		cr_assert_geq(event.arg, 20 * OG_NS_PER_MS);
		cr_assert_lt(event.arg, 5 * OG_NS_PER_S); /* it slept, and woke by itself */
	}
	stop(&n);
}

Test(dataplane, a_refused_command_is_offered_again_in_order)
{
	struct og_msg refused = {.type = ECHO_REFUSE, .arg = 10}, next = {.type = ECHO_EVENT},
		      event;
	struct node n;

	start(&n, &usual);
	command(&n, &refused);
	command(&n, &next);
	expect_event(&n, &event);
	cr_assert_eq(event.type, ECHO_REFUSE);
	expect_event(&n, &event);
	cr_assert_eq(event.type, ECHO_EVENT);
	stop(&n);
}

ParameterizedTestParameters(dataplane, an_idle_adaptive_core_sleeps)
{
	return cr_make_param_array(struct mode, (struct mode *)modes, 2);
}

ParameterizedTest(struct mode *mode, dataplane, an_idle_adaptive_core_sleeps)
{
	const struct timespec wait = {.tv_nsec = 300000000};
	const struct og_lcore_counters *c;
	struct node n;
	int fd;

	start(&n, mode);
	fd = peer_socket(&n.at[0]);
	expect_echo(fd, 10);
	nanosleep(&wait, NULL);
	expect_echo(fd, 10);
	og_dataplane_stop(n.dp);
	c = og_dataplane_counters(n.dp);
	cr_assert_gt(c->sleep_ns, 200 * OG_NS_PER_MS, "slept %lu us", c->sleep_ns / 1000);
	cr_assert_lt(c->busy_ns + c->idle_ns, 50 * OG_NS_PER_MS);
	close(fd);
	stop(&n);
}

Test(dataplane, falls_back_where_io_uring_is_forbidden)
{
	struct og_dataplane_opts opts = options(&usual);
	struct og_dataplane *dp;
	char err[200];

	cr_assert(og_refuse(SYS_io_uring_setup, EPERM));
	cr_assert_eq(og_dataplane_open(&dp, &opts, err, sizeof(err)), 0, "%s", err);
	cr_assert_str_eq(og_dataplane_port_name(dp), "recvmmsg");
	og_dataplane_close(dp);
}

Test(dataplane, runs_as_nobody)
{
	struct node n;
	int fd;

	unsetenv("XDG_RUNTIME_DIR");
	if (getuid() == 0)
		cr_assert_eq(setuid(65534), 0);
	start(&n, &usual);
	fd = peer_socket(&n.at[0]);
	expect_echo(fd, 1200);
	close(fd);
	stop(&n);
}

Test(dataplane, registers_its_metrics)
{
	struct node n;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int fd;

	start(&n, &usual);
	og_dataplane_register_metrics(n.dp);
	fd = peer_socket(&n.at[0]);
	expect_echo(fd, 1000);
	og_metrics_render(out);
	fclose(out);
	cr_assert(
		strstr(text, "og_dataplane_rx_packets_total{lcore=\"0\"} 1\n") != NULL, "%s", text);
	cr_assert(strstr(text, "og_dataplane_drops_total{lcore=\"0\",reason=\"rx_too_long\"} 0\n"));
	free(text);
	close(fd);
	stop(&n);
}
