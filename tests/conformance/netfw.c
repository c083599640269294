/*
 * netfw.c: a path between two network namespaces that loses, repeats, delays and reorders packets.
 *
 *   netfw PID LOSS% DUP% REORDER%      this namespace gets 10.77.0.1, that of PID gets 10.77.0.2
 *
 * Two TUN devices, one a side; addresses stay as they are, so what runs on top sees a plain network.
 * Prints "ready" when both are up; ends with its stdin. The kernel of small machines has no netem.
 */
#include "base/def.h"
#include "base/rand.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { HELD = 64, PACKET_BYTES = 2048 };

struct held {
	int to;
	uint64_t at;
	ssize_t len;
	char data[PACKET_BYTES];
};

static struct held held[HELD];
static struct og_rand prng;
static unsigned loss, duplicate, reorder; /* per 1000 */
static uint64_t forwarded, lost, repeated, delayed;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static int tun_open(const char *address)
{
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	char cmd[160];
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	strcpy(ifr.ifr_name, "fw0");
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0) {
		perror("netfw: /dev/net/tun");
		exit(1);
	}
	snprintf(cmd, sizeof(cmd),
		"ip addr add %s/24 dev fw0 && ip link set fw0 up txqueuelen 10000 && ip link set "
		"lo up",
		address);
	if (system(cmd) != 0)
		exit(1);
	return fd;
}

static bool happens(unsigned per_mille)
{
	return og_rand_below(&prng, 1000) < per_mille;
}

static void pass_on(int to, const char *data, ssize_t len)
{
	for (int i = 0; happens(reorder) && i < HELD; i++) {
		if (held[i].len > 0)
			continue;
		held[i].to = to;
		held[i].len = len;
		held[i].at = now_ns() + (1 + og_rand_below(&prng, 8)) * OG_NS_PER_MS;
		memcpy(held[i].data, data, (size_t)len);
		delayed++;
		return;
	}
	(void)!write(to, data, (size_t)len);
	forwarded++;
}

static void forward(int from, int to)
{
	char data[PACKET_BYTES];
	ssize_t len;

	for (int i = 0; i < 64 && (len = read(from, data, sizeof(data))) > 0; i++) {
		if (happens(loss)) {
			lost++;
			continue;
		}
		pass_on(to, data, len);
		if (happens(duplicate)) {
			repeated++;
			pass_on(to, data, len);
		}
	}
}

int main(int argc, char **argv)
{
	struct pollfd fds[3] = {{0, POLLIN, 0}, {0, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
	char path[64];
	int ns;

	if (argc != 5) {
		fprintf(stderr, "usage: netfw PID LOSS%% DUP%% REORDER%%\n");
		return 2;
	}
	og_rand_seeded(&prng, 7);
	loss = (unsigned)(atof(argv[2]) * 10);
	duplicate = (unsigned)(atof(argv[3]) * 10);
	reorder = (unsigned)(atof(argv[4]) * 10);
	fds[0].fd = tun_open("10.77.0.1");
	snprintf(path, sizeof(path), "/proc/%d/ns/net", atoi(argv[1]));
	ns = open(path, O_RDONLY);
	if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) {
		perror("netfw: setns");
		return 1;
	}
	fds[1].fd = tun_open("10.77.0.2");
	puts("ready");
	fflush(stdout);
	for (;;) {
		uint64_t now;

		poll(fds, 3, 1);
		if (fds[0].revents)
			forward(fds[0].fd, fds[1].fd);
		if (fds[1].revents)
			forward(fds[1].fd, fds[0].fd);
		now = now_ns();
		for (int i = 0; i < HELD; i++)
			if (held[i].len > 0 && now >= held[i].at) {
				(void)!write(held[i].to, held[i].data, (size_t)held[i].len);
				held[i].len = 0;
			}
		if (fds[2].revents && read(STDIN_FILENO, path, sizeof(path)) <= 0)
			break;
	}
	fprintf(stderr, "netfw: %llu forwarded, %llu lost, %llu repeated, %llu delayed\n",
		(unsigned long long)forwarded, (unsigned long long)lost,
		(unsigned long long)repeated, (unsigned long long)delayed);
	return 0;
}
