/*
 * udx_peer.c: one UDX stream over a UDP socket of the kernel, for a peer of another implementation
 * (udx_peer.mjs starts both). Sends bytes of a fixed pattern, checks those that come, and tells how
 * fast and at what cost that was.
 *
 *   udx_peer BYTES [FAULT_PERCENT] [SECONDS]
 *
 * Prints "PORT ID" and reads "PORT ID" of the peer on 127.0.0.1. With FAULT_PERCENT that many of the
 * datagrams are lost, that many doubled and that many held back, in each direction.
 */
#include "transport/udx.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

enum { BURST = 64, DGRAM = 2048, PATTERN = 65521, HELD_MAX = 64 };

struct burst {
	struct mmsghdr msgs[BURST];
	struct iovec iovs[BURST];
	struct sockaddr_in addrs[BURST];
	uint8_t data[BURST][DGRAM];
	uint32_t nb;
};

struct held {
	uint64_t until_ns;
	uint16_t len_bytes;
	struct sockaddr_in addr;
	uint8_t data[DGRAM];
};

/* One direction of the faulty path. */
struct faults {
	struct held held[HELD_MAX];
	uint32_t nb_held;
};

struct peer {
	struct og_tx tx; /* first */
	int fd;
	struct og_udx *udx;
	struct og_rand rand;
	uint32_t slot;
	uint32_t fault_percent;
	struct burst in, out;
	struct faults faults_in, faults_out;
	uint64_t to_write, written, received;
	bool end_sent, ended, closed;
	int reason;
	uint8_t pattern[2 * PATTERN];
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * OG_NS_PER_S + (uint64_t)t.tv_nsec;
}

static bool chance(struct peer *p)
{
	return p->fault_percent > 0 && og_rand_below(&p->rand, 100) < p->fault_percent;
}

/* ---- datagrams out ---- */

static void send_burst(struct peer *p)
{
	uint32_t done = 0;

	while (done < p->out.nb) {
		int n = sendmmsg(p->fd, p->out.msgs + done, p->out.nb - done, 0);

		if (n <= 0)
			break; /* a full socket is a loss */
		done += (uint32_t)n;
	}
	p->out.nb = 0;
}

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	struct peer *p = (struct peer *)tx;

	if (p->out.nb == BURST)
		send_burst(p);
	*cap_bytes = DGRAM;
	return p->out.data[p->out.nb];
}

static void hold_back(struct faults *f, const uint8_t *data, size_t n, const struct sockaddr_in *a)
{
	struct held *h = &f->held[f->nb_held];

	if (f->nb_held == HELD_MAX)
		return;
	f->nb_held++;
	h->until_ns = now_ns() + OG_NS_PER_MS;
	h->len_bytes = (uint16_t)n;
	h->addr = *a;
	memcpy(h->data, data, n);
}

static void push_out(struct peer *p, const struct sockaddr_in *to, size_t n)
{
	p->out.addrs[p->out.nb] = *to;
	p->out.iovs[p->out.nb].iov_len = n;
	p->out.nb++;
}

static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct peer *p = (struct peer *)tx;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(dst->port)};
	const uint8_t *data = p->out.data[p->out.nb];

	(void)endpoint;
	(void)ttl;
	memcpy(&to.sin_addr, dst->ip, 4);
	if (chance(p))
		return;
	if (chance(p)) {
		hold_back(&p->faults_out, data, len_bytes, &to);
		return;
	}
	if (chance(p))
		hold_back(&p->faults_out, data, len_bytes, &to);
	push_out(p, &to, len_bytes);
}

static void release_out(struct peer *p)
{
	struct faults *f = &p->faults_out;

	while (f->nb_held > 0 && f->held[0].until_ns <= now_ns()) {
		uint16_t cap_bytes;

		memcpy(reserve(&p->tx, &cap_bytes), f->held[0].data, f->held[0].len_bytes);
		push_out(p, &f->held[0].addr, f->held[0].len_bytes);
		memmove(f->held, f->held + 1, --f->nb_held * sizeof(f->held[0]));
	}
}

/* ---- datagrams in ---- */

static void input(struct peer *p, uint8_t *data, size_t n, const struct sockaddr_in *from)
{
	struct og_addr src = {.port = ntohs(from->sin_port)};

	memcpy(src.ip, &from->sin_addr, 4);
	if (og_udx_input(p->udx, 0, &src, data, (uint16_t)n, now_ns()) == -ENOENT)
		fprintf(stderr, "%zu bytes for nobody\n", n);
}

static void receive(struct peer *p)
{
	struct faults *f = &p->faults_in;
	int n = recvmmsg(p->fd, p->in.msgs, BURST, MSG_DONTWAIT, NULL);

	for (int i = 0; i < n; i++) {
		uint8_t *data = p->in.data[i];
		size_t len = p->in.msgs[i].msg_len;

		if (chance(p))
			continue;
		if (chance(p)) {
			hold_back(f, data, len, &p->in.addrs[i]);
			continue;
		}
		if (chance(p))
			hold_back(f, data, len, &p->in.addrs[i]);
		input(p, data, len, &p->in.addrs[i]);
	}
	while (f->nb_held > 0 && f->held[0].until_ns <= now_ns()) {
		struct held h = f->held[0];

		memmove(f->held, f->held + 1, --f->nb_held * sizeof(f->held[0]));
		input(p, h.data, h.len_bytes, &h.addr);
	}
	og_udx_flush(p->udx, now_ns());
}

/* ---- the stream ---- */

static void pump(struct peer *p)
{
	while (p->written < p->to_write && !p->closed) {
		size_t want = OG_MIN(p->to_write - p->written, PATTERN);
		size_t done = og_udx_write(
			p->udx, p->slot, p->pattern + p->written % PATTERN, want, now_ns());

		p->written += done;
		if (done < want)
			break;
	}
	if (p->written == p->to_write && !p->end_sent && !p->closed) {
		p->end_sent = true;
		og_udx_end(p->udx, p->slot, now_ns());
	}
}

static void on_writable(void *ctx, uint32_t slot)
{
	(void)slot;
	pump(ctx);
}

static size_t on_data(void *ctx, uint32_t slot, uint8_t *data, size_t n)
{
	struct peer *p = ctx;

	(void)slot;
	if (memcmp(data, p->pattern + p->received % PATTERN, n) != 0) {
		fprintf(stderr, "wrong bytes near %lu\n", (unsigned long)p->received);
		exit(1);
	}
	p->received += n;
	return n;
}

static void on_end(void *ctx, uint32_t slot)
{
	(void)slot;
	((struct peer *)ctx)->ended = true;
}

static void on_closed(void *ctx, uint32_t slot, uint32_t gen, int reason)
{
	struct peer *p = ctx;

	(void)slot;
	(void)gen;
	p->closed = true;
	p->reason = reason;
}

static const struct og_udx_ops ops = {
	.data = on_data, .end = on_end, .writable = on_writable, .closed = on_closed};

/* ---- set up and report ---- */

static void init_burst(struct burst *b)
{
	for (uint32_t i = 0; i < BURST; i++) {
		b->iovs[i] = (struct iovec){b->data[i], DGRAM};
		b->msgs[i].msg_hdr = (struct msghdr){.msg_name = &b->addrs[i],
			.msg_namelen = sizeof(b->addrs[i]),
			.msg_iov = &b->iovs[i],
			.msg_iovlen = 1};
	}
}

static int open_socket(uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	int bytes = 4 * 1024 * 1024;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	if (bind(fd, (struct sockaddr *)&a, n) < 0 ||
		getsockname(fd, (struct sockaddr *)&a, &n) < 0) {
		perror("socket");
		exit(1);
	}
	*port = ntohs(a.sin_port);
	return fd;
}

static void run(struct peer *p, uint64_t seconds)
{
	uint64_t until = now_ns() + seconds * OG_NS_PER_S;

	while (!p->closed && now_ns() < until) {
		struct pollfd pfd = {p->fd, POLLIN, 0};
		uint64_t next, now;

		pump(p);
		next = og_udx_tick(p->udx, now_ns());
		release_out(p);
		send_burst(p);
		now = now_ns();
		if (p->faults_in.nb_held + p->faults_out.nb_held > 0)
			next = OG_MIN(next, now + OG_NS_PER_MS / 4);
		if (next > now) {
			uint64_t wait = OG_MIN(next - now, OG_NS_PER_S);
			struct timespec t = {
				(time_t)(wait / OG_NS_PER_S), (long)(wait % OG_NS_PER_S)};

			ppoll(&pfd, 1, &t, NULL);
		}
		receive(p);
	}
	send_burst(p);
}

static void report(const struct peer *p, uint64_t start_ns)
{
	const struct og_udx_counters *c = og_udx_counters(p->udx);
	double s = (double)(now_ns() - start_ns) / 1e9;
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	printf("{\"seconds\":%.3f,\"cpu_s\":%.3f,\"sent\":%lu,\"received\":%lu,\"mb_per_s\":%.1f,"
	       "\"retransmits\":%lu,\"losses\":%lu,\"timeouts\":%lu,\"tx_packets\":%lu,"
	       "\"rx_packets\":%lu,\"reason\":%d,\"clean\":%s}\n",
		s,
		(double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
			(double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6,
		(unsigned long)p->written, (unsigned long)p->received,
		(double)(p->written + p->received) / s / 1e6, (unsigned long)c->retransmits,
		(unsigned long)c->losses, (unsigned long)c->timeouts, (unsigned long)c->tx_packets,
		(unsigned long)c->rx_packets, p->reason,
		p->closed && p->ended && p->reason == 0 ? "true" : "false");
}

int main(int argc, char **argv)
{
	struct peer *p = calloc(1, sizeof(*p));
	struct og_udx_opts opts = {.nb_streams = 4,
		.nb_packets = 16384,
		.tx = &p->tx,
		.rand = &p->rand,
		.ops = &ops,
		.ctx = p};
	struct og_addr remote = {{127, 0, 0, 1}, 0};
	unsigned remote_port, remote_id;
	uint64_t start;
	uint32_t id;
	uint16_t port;
	bool clean;

	if (argc < 2) {
		fprintf(stderr, "usage: udx_peer BYTES [FAULT_PERCENT] [SECONDS]\n");
		return 2;
	}
	p->tx = (struct og_tx){reserve, commit};
	p->to_write = strtoull(argv[1], NULL, 10);
	p->fault_percent = argc > 2 ? (uint32_t)atoi(argv[2]) : 0;
	og_rand_system(&p->rand);
	for (uint32_t i = 0; i < 2 * PATTERN; i++)
		p->pattern[i] = (uint8_t)((i % PATTERN) * 31 + ((i % PATTERN) >> 8));
	init_burst(&p->in);
	init_burst(&p->out);
	p->fd = open_socket(&port);
	if (og_udx_create(&p->udx, &opts) < 0 || og_udx_open(p->udx, &p->slot, &id, now_ns()) < 0)
		return 1;
	printf("%u %u\n", port, id);
	fflush(stdout);
	if (scanf("%u %u", &remote_port, &remote_id) != 2)
		return 1;
	remote.port = (uint16_t)remote_port;
	og_udx_connect(p->udx, p->slot, remote_id, 0, &remote, now_ns());
	start = now_ns();
	run(p, argc > 3 ? strtoull(argv[3], NULL, 10) : 60);
	report(p, start);
	clean = p->closed && p->ended && p->reason == 0;
	og_udx_destroy(p->udx);
	free(p);
	return clean ? 0 : 1;
}
