/*
 * probe.c: the kernel's side of a network test: pings an address and expects its UDP echoes.
 *
 *     net_probe ADDRESS:PORT [SOURCE]         ping, then UDP echoes of many sizes
 *     net_probe --rate SECONDS ADDRESS:PORT   closed loop of 256 datagrams; prints the rate
 *     net_probe --echo ADDRESS:PORT           the reference: a plain recvmmsg echo, until killed
 *
 * Exit status 0: every ping and every datagram came back as it was sent.
 */
#include "base/addr.h"

#include <arpa/inet.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PINGS = 5, LARGEST = 1472, WINDOW = 256, RATE_BYTES = 22 };

static struct sockaddr_in to_sockaddr(const struct og_addr *a)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(a->port)};

	memcpy(&sin.sin_addr, a->ip, sizeof(a->ip));
	return sin;
}

static int open_socket(int type, int protocol, const struct og_addr *to, const struct og_addr *from)
{
	struct sockaddr_in dst = to_sockaddr(to), src = to_sockaddr(from);
	const struct timeval patience = {.tv_sec = 3};
	int fd = socket(AF_INET, type, protocol);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
		bind(fd, (struct sockaddr *)&src, sizeof(src)) < 0 ||
		connect(fd, (struct sockaddr *)&dst, sizeof(dst)) < 0) {
		perror("socket");
		exit(1);
	}
	return fd;
}

static uint16_t checksum(const uint8_t *data, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += (uint32_t)data[i] << (i % 2 ? 0 : 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* True if the echo reply to number `seq` comes back with its data; other packets are passed over. */
static int ping_once(int fd, uint16_t seq, size_t len)
{
	uint8_t out[2048] = {0}, in[2048];
	struct icmphdr head = {.type = ICMP_ECHO};
	ssize_t got;

	head.un.echo.id = htons(77);
	head.un.echo.sequence = htons(seq);
	memset(out + sizeof(head), seq + 1, len - sizeof(head));
	memcpy(out, &head, sizeof(head));
	head.checksum = checksum(out, len);
	memcpy(out, &head, sizeof(head));
	if (send(fd, out, len, 0) != (ssize_t)len)
		return 0;
	while ((got = recv(fd, in, sizeof(in), 0)) > 0) {
		const uint8_t *icmp = in + (in[0] & 15) * 4;

		if (got == (ssize_t)len + (icmp - in) && icmp[0] == ICMP_ECHOREPLY &&
			memcmp(icmp + 4, out + 4, len - 4) == 0 && checksum(icmp, len) == 0)
			return 1;
	}
	return 0;
}

static int ping(const struct og_addr *to, const struct og_addr *from)
{
	int fd = open_socket(SOCK_RAW, IPPROTO_ICMP, to, from), good = 0;

	for (uint16_t seq = 0; seq < PINGS; seq++)
		good += ping_once(fd, seq, 64 + seq);
	close(fd);
	printf("ping: %d of %d\n", good, PINGS);
	return good == PINGS ? 0 : -1;
}

static int echo_sizes(const struct og_addr *to, const struct og_addr *from)
{
	int fd = open_socket(SOCK_DGRAM, 0, to, from), sent = 0, good = 0;
	uint8_t out[LARGEST], in[LARGEST + 1];

	for (size_t len = 0; len <= LARGEST; len += len < 64 ? 1 : 64, sent++) {
		for (size_t i = 0; i < len; i++)
			out[i] = (uint8_t)(i * 13 + len);
		good += send(fd, out, len, 0) == (ssize_t)len &&
			recv(fd, in, sizeof(in), 0) == (ssize_t)len && memcmp(in, out, len) == 0;
	}
	close(fd);
	printf("udp: %d of %d\n", good, sent);
	return good == sent ? 0 : -1;
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Keep WINDOW datagrams under way, in batches, for `seconds`. */
static int rate(const struct og_addr *to, double seconds)
{
	const struct og_addr any = {.port = 0};
	int fd = open_socket(SOCK_DGRAM, 0, to, &any);
	static uint8_t data[WINDOW][RATE_BYTES];
	struct mmsghdr msgs[WINDOW] = {0};
	struct iovec iov[WINDOW];
	double start = now_s(), end;
	unsigned long echoes = 0;
	int due = WINDOW;

	for (int i = 0; i < WINDOW; i++) {
		iov[i] = (struct iovec){data[i], RATE_BYTES};
		msgs[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	}
	while ((end = now_s()) - start < seconds) {
		int got;

		if (due > 0 && sendmmsg(fd, msgs, (unsigned)due, 0) != due)
			return -1;
		got = recvmmsg(fd, msgs, WINDOW, MSG_WAITFORONE, NULL);
		if (got <= 0) {
			fprintf(stderr, "echoes were lost\n");
			return -1;
		}
		echoes += (unsigned long)got;
		due = got;
	}
	close(fd);
	printf("rate: %.0f echoes per second\n", (double)echoes / (end - start));
	return 0;
}

static int reference_echo(const struct og_addr *at)
{
	struct sockaddr_in sin = to_sockaddr(at), src[64];
	static uint8_t data[64][2048];
	struct mmsghdr msgs[64];
	struct iovec iov[64];
	int fd = socket(AF_INET, SOCK_DGRAM, 0), got;

	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		return -1;
	for (;;) {
		for (int i = 0; i < 64; i++) {
			iov[i] = (struct iovec){data[i], sizeof(data[i])};
			msgs[i].msg_hdr = (struct msghdr){.msg_name = &src[i],
				.msg_namelen = sizeof(src[i]),
				.msg_iov = &iov[i],
				.msg_iovlen = 1};
		}
		got = recvmmsg(fd, msgs, 64, MSG_WAITFORONE, NULL);
		for (int i = 0; i < got; i++)
			iov[i].iov_len = msgs[i].msg_len;
		if (got <= 0 || sendmmsg(fd, msgs, (unsigned)got, 0) != got)
			return -1;
	}
}

int main(int argc, char **argv)
{
	struct og_addr to, from = {.port = 0};

	if (argc == 4 && strcmp(argv[1], "--rate") == 0 && og_addr_parse(&to, argv[3]) == 0)
		return rate(&to, atof(argv[2])) < 0;
	if (argc == 3 && strcmp(argv[1], "--echo") == 0 && og_addr_parse(&to, argv[2]) == 0)
		return reference_echo(&to) < 0;
	if (argc < 2 || argc > 3 || og_addr_parse(&to, argv[1]) < 0 ||
		(argc == 3 && og_addr_parse(&from, argv[2]) < 0)) {
		fprintf(stderr, "usage: %s ADDRESS:PORT [SOURCE]\n", argv[0]);
		return 2;
	}
	return ping(&to, &from) < 0 || echo_sizes(&to, &from) < 0;
}
