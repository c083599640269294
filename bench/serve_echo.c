/*
 * serve_echo.c: three servers that send every datagram back: on our data plane, with recvmmsg and
 * sendmmsg, and with io_uring. The last two are references: what the kernel's UDP costs, bare.
 */
#include "bench/bench.h"
#include "bench/echo_core.h"
#include "bench/serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, DATAGRAM_BYTES = 2048, RING = 1024, SOCKET_BUFFER_BYTES = 4 * 1024 * 1024 };

/* ---- on the data plane ---- */

int serve_echo(int argc, char **argv)
{
	struct og_dataplane_opts opts = {.nb_endpoints = 1};
	struct echo_core echo;
	struct og_core_env env = {0};
	char text[OG_ADDR_TEXT_BYTES];
	struct og_dataplane *dp;
	struct og_addr at;

	if (serve_open(&dp, &opts, argc, argv) < 0)
		return BENCH_FAILED;
	og_dataplane_env(dp, &env);
	echo_core_init(&echo, env.tx);
	og_dataplane_local_addr(dp, 0, &at);
	if (og_dataplane_start(dp, &echo.core) < 0)
		return BENCH_FAILED;
	serve_until_told("%s %s", og_addr_format(&at, text), og_dataplane_port_name(dp));
	og_dataplane_close(dp);
	return BENCH_DONE;
}

/* ---- bare ---- */

static int open_socket(char text[OG_ADDR_TEXT_BYTES])
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), bytes = SOCKET_BUFFER_BYTES;
	struct og_addr at = {{127, 0, 0, 1}, 0};
	socklen_t len = sizeof(sin);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	if (bind(fd, (struct sockaddr *)&sin, len) < 0 ||
		getsockname(fd, (struct sockaddr *)&sin, &len) < 0) {
		close(fd);
		return -errno;
	}
	at.port = ntohs(sin.sin_port);
	og_addr_format(&at, text);
	return fd;
}

static void *recvmmsg_loop(void *arg)
{
	static uint8_t data[BATCH][DATAGRAM_BYTES];
	int fd = *(int *)arg;
	struct sockaddr_in src[BATCH];
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];

	for (;;) {
		int got;

		for (int i = 0; i < BATCH; i++) {
			iov[i] = (struct iovec){data[i], sizeof(data[i])};
			msgs[i].msg_hdr = (struct msghdr){.msg_name = &src[i],
				.msg_namelen = sizeof(src[i]),
				.msg_iov = &iov[i],
				.msg_iovlen = 1};
		}
		got = recvmmsg(fd, msgs, BATCH, MSG_WAITFORONE, NULL);
		for (int i = 0; i < got; i++)
			iov[i].iov_len = msgs[i].msg_len;
		if (got > 0)
			(void)!sendmmsg(fd, msgs, (unsigned)got, 0);
	}
	return NULL;
}

static int serve_bare(int fd, void *(*loop)(void *), const char *address)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, loop, &fd) != 0)
		return BENCH_FAILED;
	serve_until_told("%s", address);
	_exit(BENCH_DONE); /* the loop has no end */
}

int serve_echo_recvmmsg(void)
{
	char text[OG_ADDR_TEXT_BYTES];
	int fd = open_socket(text);

	return fd < 0 ? BENCH_FAILED : serve_bare(fd, recvmmsg_loop, text);
}

/* ---- io_uring: multishot receive into provided buffers, one send a datagram ---- */

enum { HEAD_BYTES = sizeof(struct io_uring_recvmsg_out) + sizeof(struct sockaddr_in) };
enum { SLOT_BYTES = HEAD_BYTES + DATAGRAM_BYTES };

struct uring_echo {
	int fd;
	struct io_uring ring;
	struct io_uring_buf_ring *buffers;
	struct msghdr rx; /* says that we want the source */
	struct msghdr tx[RING];
	struct iovec iov[RING];
	uint8_t data[RING][SLOT_BYTES];
};

static const uint64_t received = UINT64_MAX; /* user data of the receive */

static void uring_arm(struct uring_echo *e)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&e->ring);

	io_uring_prep_recvmsg_multishot(sqe, e->fd, &e->rx, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	io_uring_sqe_set_data64(sqe, received);
}

static void uring_give_back(struct uring_echo *e, uint16_t id)
{
	io_uring_buf_ring_add(
		e->buffers, e->data[id], SLOT_BYTES, id, io_uring_buf_ring_mask(RING), 0);
	io_uring_buf_ring_advance(e->buffers, 1);
}

static void uring_send(struct uring_echo *e, uint16_t id, uint32_t len_bytes)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&e->ring);

	if (!sqe) {
		io_uring_submit(&e->ring);
		sqe = io_uring_get_sqe(&e->ring);
	}
	if (!sqe) {
		uring_give_back(e, id);
		return;
	}
	e->iov[id] = (struct iovec){e->data[id] + HEAD_BYTES, len_bytes};
	e->tx[id] = (struct msghdr){.msg_name = e->data[id] + sizeof(struct io_uring_recvmsg_out),
		.msg_namelen = sizeof(struct sockaddr_in),
		.msg_iov = &e->iov[id],
		.msg_iovlen = 1};
	io_uring_prep_sendmsg(sqe, e->fd, &e->tx[id], 0);
	io_uring_sqe_set_data64(sqe, id);
}

static void uring_completion(struct uring_echo *e, const struct io_uring_cqe *cqe)
{
	if (cqe->user_data != received) {
		uring_give_back(e, (uint16_t)cqe->user_data);
		return;
	}
	if (cqe->flags & IORING_CQE_F_BUFFER && cqe->res >= (int)HEAD_BYTES)
		uring_send(e, (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT),
			(uint32_t)cqe->res - HEAD_BYTES);
	if (!(cqe->flags & IORING_CQE_F_MORE))
		uring_arm(e);
}

static int uring_open(struct uring_echo *e)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
			 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
		.cq_entries = 4 * RING,
	};
	struct io_uring_buf_reg reg = {.ring_entries = RING};
	int ret = io_uring_queue_init_params(RING, &e->ring, &params);

	if (ret < 0)
		return ret;
	e->buffers = mmap(NULL, RING * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (e->buffers == MAP_FAILED)
		return -errno;
	reg.ring_addr = (uintptr_t)e->buffers;
	ret = io_uring_register_buf_ring(&e->ring, &reg, 0);
	if (ret < 0)
		return ret;
	io_uring_buf_ring_init(e->buffers);
	for (uint16_t i = 0; i < RING; i++)
		uring_give_back(e, i);
	e->rx.msg_namelen = sizeof(struct sockaddr_in);
	return 0;
}

static void *uring_loop(void *arg)
{
	static struct uring_echo e;
	struct io_uring_cqe *cqes[BATCH];

	e.fd = *(int *)arg;
	if (uring_open(&e) < 0) {
		fprintf(stderr, "og-bench --serve: io_uring is not to be had here\n");
		exit(BENCH_FAILED);
	}
	uring_arm(&e);
	for (;;) {
		unsigned n;

		io_uring_submit_and_wait(&e.ring, 1);
		n = io_uring_peek_batch_cqe(&e.ring, cqes, BATCH);
		for (unsigned i = 0; i < n; i++)
			uring_completion(&e, cqes[i]);
		io_uring_cq_advance(&e.ring, n);
	}
	return NULL;
}

int serve_echo_uring(void)
{
	char text[OG_ADDR_TEXT_BYTES];
	int fd = open_socket(text);

	return fd < 0 ? BENCH_FAILED : serve_bare(fd, uring_loop, text);
}
