#include "cluster/steer.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CORES = 3, ANY = UINT16_MAX };

struct sample {
	const char *what;
	uint8_t data[64];
	uint16_t len_bytes;
	uint16_t want; /* ANY: it stays where the kernel put it */
};

/* Bytes 2 and 3 of a DHT request are its tid. */
static const struct sample samples[] = {
	{"nothing", {0}, 0, 0},
	{"UDX of core 0", {0xff, 1, 1, 0, 0x40, 9, 9, 9}, 20, 0},
	{"UDX of core 1", {0xff, 1, 1, 0, 0xc1, 9, 9, 9}, 20, 1},
	{"UDX of core 2", {0xff, 1, 1, 0, 0x02, 9, 9, 9}, 40, 2},
	{"UDX of another version", {0xff, 2, 1, 0, 0x02, 9, 9, 9}, 20, 0},
	{"PING", {3, 4, 4, 0, 1, 2, 3, 4, 5, 6, 0}, 11, ANY},
	{"PING with an id", {3, 5, 4, 0, [42] = 0}, 43, 0},
	{"FIND_NODE", {3, 4 | 8, 4, 0, 1, 2, 3, 4, 5, 6, 2}, 43, ANY},
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
			samples[i].want == ANY ? 1 : samples[i].want, "%s", samples[i].what);
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

struct kernel {
	struct sockaddr_in at;
	int fds[CORES], from;
	uint16_t port; /* of `from` */
};

static void kernel_init(struct kernel *k)
{
	struct sockaddr_in from = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sock_filter code[OG_STEER_PROGRAM_MAX];
	struct sock_fprog program = {og_steer_program(code, CORES), code};
	socklen_t len = sizeof(from);

	k->at = from;
	for (int i = 0; i < CORES; i++)
		k->fds[i] = shared_socket(&k->at);
	cr_assert_eq(setsockopt(k->fds[0], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program,
			     sizeof(program)),
		0);
	k->from = socket(AF_INET, SOCK_DGRAM, 0);
	cr_assert_eq(bind(k->from, (struct sockaddr *)&from, len), 0);
	cr_assert_eq(getsockname(k->from, (struct sockaddr *)&from, &len), 0);
	k->port = ntohs(from.sin_port);
}

static void kernel_send(const struct kernel *k, const uint8_t *data, uint16_t len_bytes)
{
	cr_assert_eq(
		sendto(k->from, data, len_bytes, 0, (const struct sockaddr *)&k->at, sizeof(k->at)),
		len_bytes);
}

static void kernel_fini(struct kernel *k)
{
	for (int i = 0; i < CORES; i++)
		close(k->fds[i]);
	close(k->from);
}

/* What the kernel is to do with PING and FIND_NODE. */
static uint16_t spread(uint16_t port, const uint8_t *data)
{
	uint32_t x = (uint32_t)port << 16 | (uint32_t)(data[2] << 8 | data[3]);

	x *= 0x9e3779b1;
	x = (x ^ x >> 16) * 0x85ebca6b;
	return (uint16_t)((x >> 16) % CORES);
}

Test(steer, is_done_by_the_kernel_in_the_same_way)
{
	struct kernel k;

	kernel_init(&k);
	for (size_t i = 0; i < OG_ARRAY_LEN(samples); i++) {
		const struct sample *s = &samples[i];
		uint16_t want = s->want == ANY ? spread(k.port, s->data) : s->want;
		uint8_t got[64];

		kernel_send(&k, s->data, s->len_bytes);
		cr_assert_eq(recv(k.fds[want], got, sizeof(got), 0), s->len_bytes, "%s", s->what);
	}
	kernel_fini(&k);
}

/* tids in steps that share a factor with the cores or with a byte, as clients count them. */
Test(steer, a_client_that_counts_its_ids_in_step_meets_all_cores)
{
	enum { SENT = 300 };
	static const uint16_t steps[] = {1, 2, 3, 6, 15, 64, 255, 256, 768, 1021};
	struct kernel k;

	kernel_init(&k);
	for (size_t i = 0; i < OG_ARRAY_LEN(steps); i++) {
		uint32_t seen[CORES] = {0};

		for (uint16_t n = 0; n < SENT; n++) {
			uint16_t tid = (uint16_t)(77 + n * steps[i]);
			uint8_t ping[11] = {3, 4, (uint8_t)tid, (uint8_t)(tid >> 8)}, got[16];
			uint16_t to = spread(k.port, ping);

			kernel_send(&k, ping, sizeof(ping));
			cr_assert_eq(recv(k.fds[to], got, sizeof(got), 0), sizeof(ping));
			seen[to]++;
		}
		for (int core = 0; core < CORES; core++)
			cr_expect_geq(seen[core], SENT / CORES / 2, "%u of %u, step %u", seen[core],
				SENT, steps[i]);
	}
	kernel_fini(&k);
}
