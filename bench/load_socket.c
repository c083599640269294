/*
 * load_socket.c: the closed loop over a connected UDP socket, with sendmmsg and recvmmsg.
 */
#include "base/bytes.h"
#include "bench/bench.h"
#include "bench/load_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, SOCKET_BUFFER_BYTES = 4 * 1024 * 1024, QUIET_MS = 20 };

struct load_socket {
	struct load load; /* first */
	int fd;
	struct mmsghdr out[LOAD_WINDOW_MAX], in[BATCH];
	struct iovec out_iov[LOAD_WINDOW_MAX], in_iov[BATCH];
	uint8_t data[BATCH][LOAD_REPLY_BYTES];
};

static struct load_socket *self(struct load *l)
{
	return (struct load_socket *)l;
}

/* Send the slots that `due` names. */
static int send_due(
	struct load_socket *s, const struct load_plan *plan, const uint16_t *due, uint32_t nb_due)
{
	uint32_t sent = 0;

	for (uint32_t i = 0; i < nb_due; i++) {
		const struct load_slot *slot = &plan->slots[due[i]];

		s->out_iov[i] = (struct iovec){(void *)slot->data, slot->len_bytes};
		s->out[i].msg_hdr = (struct msghdr){.msg_iov = &s->out_iov[i], .msg_iovlen = 1};
	}
	while (sent < nb_due) {
		int n = sendmmsg(s->fd, &s->out[sent], nb_due - sent, 0);

		if (n < 0 && errno != ECONNREFUSED && errno != EAGAIN)
			return -errno;
		sent += (uint32_t)OG_MAX(n, 0);
	}
	return 0;
}

/* What came; -EAGAIN when nothing did within LOAD_PATIENCE_NS. */
static int receive(struct load_socket *s)
{
	struct pollfd p = {s->fd, POLLIN, 0};
	int n = recvmmsg(s->fd, s->in, BATCH, MSG_DONTWAIT, NULL);

	if (n < 0 && errno == EAGAIN) {
		if (poll(&p, 1, (int)(LOAD_PATIENCE_NS / OG_NS_PER_MS)) == 0)
			return -EAGAIN;
		n = recvmmsg(s->fd, s->in, BATCH, MSG_DONTWAIT, NULL);
	}
	return n < 0 && (errno == ECONNREFUSED || errno == EAGAIN) ? 0 : n < 0 ? -errno : n;
}

static void drain(struct load_socket *s)
{
	struct pollfd p = {s->fd, POLLIN, 0};

	while (poll(&p, 1, QUIET_MS) > 0)
		if (recvmmsg(s->fd, s->in, BATCH, MSG_DONTWAIT, NULL) < 0 && errno != EAGAIN)
			break;
}

static uint32_t all_slots(const struct load_plan *plan, uint16_t *due)
{
	for (uint32_t i = 0; i < plan->window; i++)
		due[i] = (uint16_t)i;
	return plan->window;
}

static int socket_run(
	struct load *l, const struct load_plan *plan, uint64_t ns, struct load_result *out)
{
	struct load_socket *s = self(l);
	uint16_t due[LOAD_WINDOW_MAX];
	uint64_t start = bench_now_ns(), now = start;
	uint32_t nb_due = all_slots(plan, due);
	struct load_result r = {0};

	while (now - start < ns) {
		int ret = send_due(s, plan, due, nb_due);
		int n = ret < 0 ? ret : receive(s);

		now = bench_now_ns();
		nb_due = 0;
		if (n == -EAGAIN) {
			r.lost += plan->window;
			nb_due = all_slots(plan, due);
		} else if (n < 0) {
			return n;
		}
		for (int i = 0; i < n; i++) {
			int slot = load_answer(plan, s->data[i], s->in[i].msg_len, &r);

			if (slot >= 0 && nb_due < LOAD_WINDOW_MAX)
				due[nb_due++] = (uint16_t)slot;
		}
	}
	r.ns = now - start;
	drain(s);
	*out = r;
	return 0;
}

static int socket_ask(
	struct load *l, const uint8_t *request, uint16_t len_bytes, uint8_t *answer, int wait_ms)
{
	struct load_socket *s = self(l);
	struct pollfd p = {s->fd, POLLIN, 0};
	ssize_t n;

	if (send(s->fd, request, len_bytes, 0) < 0 && errno != ECONNREFUSED)
		return -errno;
	if (poll(&p, 1, wait_ms) == 0)
		return -EAGAIN;
	n = recv(s->fd, answer, LOAD_REPLY_BYTES, 0);
	return n < 0 ? -EAGAIN : (int)n;
}

static void socket_close(struct load *l)
{
	close(self(l)->fd);
	free(l);
}

static const struct load_ops socket_ops = {socket_run, socket_ask, socket_close};

int load_open_socket(struct load **out, const struct og_addr *target)
{
	struct load_socket *s = calloc(1, sizeof(*s));
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(target->port)};
	int bytes = SOCKET_BUFFER_BYTES;

	if (!s)
		return -ENOMEM;
	s->load.ops = &socket_ops;
	memcpy(&to.sin_addr, target->ip, 4);
	s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
		int ret = -errno;

		if (s->fd >= 0)
			close(s->fd);
		free(s);
		return ret;
	}
	setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	setsockopt(s->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	for (int i = 0; i < BATCH; i++) {
		s->in_iov[i] = (struct iovec){s->data[i], sizeof(s->data[i])};
		s->in[i].msg_hdr = (struct msghdr){.msg_iov = &s->in_iov[i], .msg_iovlen = 1};
	}
	*out = &s->load;
	return 0;
}
