#include "cluster/steer.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CORES = 3 };

struct sample {
	const char *what;
	uint8_t data[64];
	uint16_t len_bytes;
	uint16_t want; /* on core 1 */
};

/* Bytes 2 and 3 of a DHT request are its tid: 4 % 3 = 1, which is where PING stays here too. */
static const struct sample samples[] = {
	{"nothing", {0}, 0, 0},
	{"UDX of core 0", {0xff, 1, 1, 0, 0x40, 9, 9, 9}, 20, 0},
	{"UDX of core 1", {0xff, 1, 1, 0, 0xc1, 9, 9, 9}, 20, 1},
	{"UDX of core 2", {0xff, 1, 1, 0, 0x02, 9, 9, 9}, 40, 2},
	{"UDX of another version", {0xff, 2, 1, 0, 0x02, 9, 9, 9}, 20, 0},
	{"PING", {3, 4, 4, 0, 1, 2, 3, 4, 5, 6, 0}, 11, 1},
	{"PING with an id", {3, 5, 4, 0, [42] = 0}, 43, 0},
	{"FIND_NODE", {3, 4 | 8, 4, 0, 1, 2, 3, 4, 5, 6, 2}, 43, 1},
	{"FIND_NODE with an id", {3, 5 | 8, 4, 0, [42] = 2}, 64, 0},
	{"PING_NAT", {3, 4 | 16, 4, 0, 1, 2, 3, 4, 5, 6, 1}, 14, 0},
	{"PING_NAT with an id", {3, 5, 4, 0, [42] = 1}, 46, 0},
	{"DOWN_HINT", {3, 4 | 16, 4, 0, 1, 2, 3, 4, 5, 6, 3}, 18, 0},
	{"PING with a token", {3, 4 | 2, 4, 0, [42] = 0}, 43, 0},
	{"an external command", {3, 0, 4, 0, 1, 2, 3, 4, 5, 6, 2}, 11, 0},
	{"a reply", {0x13, 4, 4, 0, 1, 2, 3, 4, 5, 6, 0}, 11, 0},
	{"a request cut short", {3, 4, 4, 0, 1, 2, 3, 4, 5, 6}, 10, 0},
	{"a request cut short in its id", {3, 5, 4, 0}, 42, 0},
	{"noise", {0x77, 4, 4, 0}, 30, 0},
};

Test(steer, sends_each_kind_to_its_core)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(samples); i++)
		cr_assert_eq(og_steer(samples[i].data, samples[i].len_bytes, 1, CORES),
			samples[i].want, "%s", samples[i].what);
}

Test(steer, keeps_a_stream_of_no_core_where_it_is)
{
	const uint8_t udx[20] = {0xff, 1, 1, 0, 63};

	for (uint16_t self = 0; self < CORES; self++)
		cr_assert_eq(og_steer(udx, sizeof(udx), self, CORES), self);
}

static int shared_socket(struct sockaddr_in *at)
{
	const struct timeval patience = {.tv_sec = 5};
	int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
	socklen_t len = sizeof(*at);

	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)at, &len), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

Test(steer, is_done_by_the_kernel_in_the_same_way)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sock_filter code[OG_STEER_PROGRAM_MAX];
	struct sock_fprog program = {og_steer_program(code, CORES), code};
	int fds[CORES], from = socket(AF_INET, SOCK_DGRAM, 0);

	for (int i = 0; i < CORES; i++)
		fds[i] = shared_socket(&at);
	cr_assert_eq(
		setsockopt(fds[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program)),
		0);
	for (size_t i = 0; i < OG_ARRAY_LEN(samples); i++) {
		const struct sample *s = &samples[i];
		uint8_t got[64];

		cr_assert_eq(
			sendto(from, s->data, s->len_bytes, 0, (struct sockaddr *)&at, sizeof(at)),
			s->len_bytes);
		cr_assert_eq(recv(fds[s->want], got, sizeof(got), 0), s->len_bytes, "%s", s->what);
	}
	for (int i = 0; i < CORES; i++)
		close(fds[i]);
	close(from);
}
