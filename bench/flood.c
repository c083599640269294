#include "bench/flood.h"

#include "bench/bench.h"
#include "bench/flood_make.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64 };

struct flood {
	int fd;
	struct flood_maker maker;
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	uint8_t data[BATCH][FLOOD_BYTES];
};

static uint64_t drain(struct flood *f)
{
	static uint8_t data[BATCH][LOAD_REPLY_BYTES];
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	uint64_t answers = 0;
	int n;

	do {
		for (int i = 0; i < BATCH; i++) {
			iov[i] = (struct iovec){data[i], sizeof(data[i])};
			msgs[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
		}
		n = recvmmsg(f->fd, msgs, BATCH, MSG_DONTWAIT, NULL);
		answers += (uint64_t)OG_MAX(n, 0);
	} while (n == BATCH);
	return answers;
}

/* As fast as this core can. */
static void run_fast(struct flood *f, uint64_t end_ns, uint64_t *sent, uint64_t *answers)
{
	while (bench_now_ns() < end_ns) {
		int n;

		for (int i = 0; i < BATCH; i++)
			flood_vary(&f->maker, f->data[i]);
		n = sendmmsg(f->fd, f->msgs, BATCH, 0);
		*sent += (uint64_t)OG_MAX(n, 0);
		*answers += drain(f);
	}
}

/* One at a time, each made for itself, FLOOD_REAL_PER_S of them. */
static void run_real(struct flood *f, uint64_t end_ns, uint64_t *sent, uint64_t *answers)
{
	uint64_t start_ns = bench_now_ns(), now_ns = start_ns;

	for (; now_ns < end_ns; now_ns = bench_now_ns()) {
		const struct timespec pause = {.tv_nsec = 200 * OG_NS_PER_US};
		uint64_t due = (now_ns - start_ns) * FLOOD_REAL_PER_S / OG_NS_PER_S;
		uint16_t n;

		*answers += drain(f);
		if (*sent >= due) {
			nanosleep(&pause, NULL);
			continue;
		}
		n = flood_make(&f->maker, f->data[0]);
		*sent += send(f->fd, f->data[0], n, 0) == n;
	}
}

static int aim(struct flood *f, const struct og_addr *at)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(at->port)};

	memcpy(&to.sin_addr, at->ip, 4);
	return connect(f->fd, (struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : 0;
}

static void obey(struct flood *f)
{
	char line[128], address[32];
	struct og_addr at;
	unsigned long ns;
	int level;

	while (fgets(line, sizeof(line), stdin)) {
		uint64_t start_ns = bench_now_ns(), sent = 0, answers = 0;
		int words = sscanf(line, "run %lu %d %31s", &ns, &level, address);

		if (words < 2)
			continue;
		if (words < 3 || og_addr_parse(&at, address) < 0)
			at = f->maker.to;
		(void)aim(f, &at);
		setpriority(PRIO_PROCESS, 0, level);
		if (f->maker.kind == FLOOD_REAL_HANDSHAKE)
			run_real(f, start_ns + ns, &sent, &answers);
		else
			run_fast(f, start_ns + ns, &sent, &answers);
		printf("done %lu %lu %lu\n", (unsigned long)(bench_now_ns() - start_ns),
			(unsigned long)sent, (unsigned long)answers);
		fflush(stdout);
	}
}

static int get_token(struct flood *f)
{
	uint8_t request[LOAD_REQUEST_BYTES], answer[LOAD_REPLY_BYTES];
	uint16_t n = flood_ask_token(&f->maker, request);
	ssize_t got = -1;

	if (send(f->fd, request, n, 0) == n)
		got = recv(f->fd, answer, sizeof(answer), 0);
	return got < 0 ? -EAGAIN : flood_take_token(&f->maker, answer, (size_t)got);
}

int serve_flood(int argc, char **argv)
{
	static struct flood f;
	const struct timeval patience = {.tv_sec = 2};

	if (argc != 3 || flood_init(&f.maker, argv[0], argv[1], argv[2]) < 0)
		return BENCH_USAGE;
	f.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (f.fd < 0 || aim(&f, &f.maker.to) < 0 ||
		setsockopt(f.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		return BENCH_FAILED;
	if (f.maker.kind == FLOOD_BAD_ANNOUNCE && get_token(&f) < 0)
		return BENCH_FAILED;
	for (int i = 0; i < BATCH; i++) {
		f.iov[i] = (struct iovec){f.data[i], flood_make(&f.maker, f.data[i])};
		f.msgs[i].msg_hdr = (struct msghdr){.msg_iov = &f.iov[i], .msg_iovlen = 1};
	}
	puts("ready flood");
	fflush(stdout);
	obey(&f);
	return BENCH_DONE;
}
