/*
 * suite_path.c: what one encrypted stream carries over a path that is long, loses and reorders: the
 * cases `path …` of the suite `stream` with --port path. Ours are two data planes on the socket port
 * in two network namespaces, joined by path.h.
 *
 * Reference: the kernel's TCP with BBR over the same path with the same seed, one after the other.
 * Every frame is authenticated in order, so what is counted arrived intact; it must be all that was
 * written.
 */
#include "bench/suite_path.h"
#include "bench/bench.h"
#include "bench/child.h"
#include "bench/path.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	TEXT_BYTES = 320,
	MBIT_S = 100,
	SEED = 7,
	RUN_TIMES = 60, /* of b->run_ns: half a minute, unless told otherwise */
	RUN_TIMES_SMOKE = 10,
	DRAIN_STEPS = 100,
	PIECE_BYTES = 64 << 10,
};

static const struct {
	const char *name;
	struct path_opts path;
} cases[] = {
	{"path 20 ms", {0, 0, 0, 20, MBIT_S, 20, SEED}},
	{"path 20 ms 1 %", {1, 0, 0, 20, MBIT_S, 20, SEED}},
	{"path 20 ms 5 %", {5, 0, 0, 20, MBIT_S, 20, SEED}},
	{"path 20 ms reordered", {0, 2, 5, 20, MBIT_S, 20, SEED}},
	{"path 80 ms", {0, 0, 0, 80, MBIT_S, 80, SEED}},
	{"path 80 ms 1 %", {1, 0, 0, 80, MBIT_S, 80, SEED}},
	{"path 80 ms 5 %", {5, 0, 0, 80, MBIT_S, 80, SEED}},
	{"path 80 ms reordered", {0, 2, 5, 80, MBIT_S, 80, SEED}},
};

static const char algorithm[] = "bbr";

struct place {
	char self[256];
	char far_ns[48]; /* for nsenter */
	struct bench_child holder, path;
};

static void wait_ns(uint64_t ns)
{
	const struct timespec ts = {(time_t)(ns / OG_NS_PER_S), (long)(ns % OG_NS_PER_S)};

	nanosleep(&ts, NULL);
}

static int open_place(struct place *p)
{
	const char *const hold[] = {"unshare", "-n", p->self, "--serve", "hold", NULL};
	ssize_t len;
	int ret;

	memset(p, 0, sizeof(*p));
	len = readlink("/proc/self/exe", p->self, sizeof(p->self) - 1);
	p->self[OG_MAX(len, 0)] = '\0';
	ret = bench_child_start(&p->holder, hold, -1);
	snprintf(p->far_ns, sizeof(p->far_ns), "--net=/proc/%d/ns/net", (int)p->holder.pid);
	return ret;
}

static int open_path(struct place *p, const struct path_opts *o)
{
	char text[PATH_ARGS - 1][PATH_TEXT_BYTES];
	const char *argv[PATH_ARGS + 3] = {NULL, "--serve", "path"};

	snprintf(text[0], PATH_TEXT_BYTES, "%d", (int)p->holder.pid);
	snprintf(text[1], PATH_TEXT_BYTES, "%g", o->loss);
	snprintf(text[2], PATH_TEXT_BYTES, "%g", o->duplicate);
	snprintf(text[3], PATH_TEXT_BYTES, "%g", o->reorder);
	snprintf(text[4], PATH_TEXT_BYTES, "%u", o->rtt_ms);
	snprintf(text[5], PATH_TEXT_BYTES, "%u", o->mbit_s);
	snprintf(text[6], PATH_TEXT_BYTES, "%u", o->queue_ms);
	snprintf(text[7], PATH_TEXT_BYTES, "%lu", (unsigned long)o->seed);
	for (int i = 0; i < PATH_ARGS - 1; i++)
		argv[3 + i] = text[i];
	return bench_child_start(&p->path, argv, -1);
}

/* Asks a child that answers "counts NS BYTES". */
static int ask_bytes(struct bench_child *c, const char *question, uint64_t *ns, uint64_t *bytes)
{
	char line[128];
	unsigned long at, n;
	int ret = bench_child_tell(c, question);

	if (ret == 0)
		ret = bench_child_hear(c, line, sizeof(line));
	if (ret == 0 && sscanf(line, "counts %lu %lu", &at, &n) != 2)
		ret = -EPROTO;
	if (ret == 0) {
		*ns = at;
		*bytes = n;
	}
	return ret;
}

/* ---- ours ---- */

static int expect(struct bench_child *c, const char *tell, const char *hear)
{
	char line[128];
	int ret = bench_child_tell(c, tell);

	if (ret == 0)
		ret = bench_child_hear(c, line, sizeof(line));
	return ret == 0 && strcmp(line, hear) != 0 ? -EPROTO : ret;
}

/* All that was written has to arrive. */
static int check_all_arrived(struct bench_child *far, struct bench_child *near)
{
	uint64_t ns, written = 0, received = 0;
	int ret = expect(near, "stop", "done");

	wait_ns(DRAIN_STEPS * OG_NS_PER_MS); /* the command reaches the polling core */
	if (ret == 0)
		ret = ask_bytes(near, "written", &ns, &written);
	for (int i = 0; ret == 0 && i < DRAIN_STEPS && received < written; i++) {
		wait_ns(100 * OG_NS_PER_MS);
		ret = ask_bytes(far, "counts", &ns, &received);
	}
	if (ret == 0 && received != written) {
		fprintf(stderr, "og-bench: %lu of %lu bytes arrived\n", (unsigned long)received,
			(unsigned long)written);
		ret = -EIO;
	}
	return ret;
}

static int run_ours(const struct bench *b, const struct place *p, uint64_t ns, double *mbit_s)
{
	const char *const far_argv[] = {"nsenter", p->far_ns, p->self, "--serve", "streams",
		"socket", PATH_FAR ":0", "0", "1", "responder", NULL};
	const char *const near_argv[] = {
		NULL, "--serve", "streams", "socket", PATH_NEAR ":0", "0", "1", "initiator", NULL};
	struct bench_child far, near = {.in = -1};
	uint64_t start_ns = 0, end_ns = 0, bytes = 0;
	int ret = bench_child_start(&far, far_argv, b->server_cpu);

	if (ret == 0)
		ret = bench_child_start(&near, near_argv, b->load_cpu);
	if (ret == 0)
		ret = expect(&far, near.ready, "started");
	if (ret == 0)
		ret = expect(&near, far.ready, "started");
	if (ret == 0)
		ret = ask_bytes(&far, "counts", &start_ns, &bytes);
	if (ret == 0)
		ret = expect(&near, "write", "done");
	wait_ns(ns);
	if (ret == 0)
		ret = ask_bytes(&far, "counts", &end_ns, &bytes);
	if (ret == 0)
		ret = check_all_arrived(&far, &near);
	*mbit_s = (double)bytes * 8e3 / (double)OG_MAX(end_ns - start_ns, 1ull);
	bench_child_stop(&near);
	bench_child_stop(&far);
	return ret;
}

/* ---- TCP ---- */

static int connect_bbr(const char *ready)
{
	const struct timeval patience = {.tv_usec = 100000};
	struct sockaddr_in to = {.sin_family = AF_INET};
	char host[TEXT_BYTES];
	unsigned port;
	int fd;

	if (sscanf(ready, "%63[^:]:%u", host, &port) != 2 ||
		inet_pton(AF_INET, host, &to.sin_addr) != 1)
		return -EPROTO;
	to.sin_port = htons((uint16_t)port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, algorithm, sizeof(algorithm) - 1) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
		connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	return fd;
}

static int run_tcp(const struct bench *b, const struct place *p, uint64_t ns, double *mbit_s)
{
	static const uint8_t piece[PIECE_BYTES];
	const char *const argv[] = {
		"nsenter", p->far_ns, p->self, "--serve", "tcp-sink", PATH_FAR, NULL};
	uint64_t start_ns = 0, end_ns = 0, bytes = 0;
	struct bench_child sink;
	int ret = bench_child_start(&sink, argv, b->server_cpu);
	int fd = ret < 0 ? ret : connect_bbr(sink.ready);

	if (fd < 0)
		ret = fd;
	if (ret == 0)
		ret = ask_bytes(&sink, "counts", &start_ns, &bytes);
	while (ret == 0 && bench_now_ns() - start_ns < ns)
		if (send(fd, piece, sizeof(piece), MSG_NOSIGNAL) < 0 && errno != EAGAIN)
			ret = -errno;
	if (ret == 0)
		ret = ask_bytes(&sink, "counts", &end_ns, &bytes);
	*mbit_s = (double)bytes * 8e3 / (double)OG_MAX(end_ns - start_ns, 1ull);
	if (fd >= 0)
		close(fd);
	bench_child_stop(&sink);
	return ret;
}

/* ---- cases ---- */

static int run_case(const struct bench *b, struct place *p, size_t i)
{
	const uint64_t ns = b->run_ns * (b->smoke ? RUN_TIMES_SMOKE : RUN_TIMES);
	struct bench_samples ours = {0}, theirs = {0};
	double mbit_s = 0;
	int ret = open_path(p, &cases[i].path);

	if (ret == 0)
		ret = run_ours(b, p, ns, &mbit_s);
	bench_add(&ours, mbit_s);
	bench_child_stop(&p->path);
	if (ret == 0)
		ret = open_path(p, &cases[i].path); /* the same fate from the first packet on */
	if (ret == 0)
		ret = run_tcp(b, p, ns, &mbit_s);
	bench_add(&theirs, mbit_s);
	bench_child_stop(&p->path);
	if (ret == 0)
		bench_report(b, &(struct bench_result){cases[i].name, "Mbit/s", BENCH_HIGHER, &ours,
					"TCP with BBR", &theirs});
	else
		fprintf(stderr, "og-bench: %s: %s\n", cases[i].name, strerror(-ret));
	return ret;
}

/* What this machine lacks, or "". */
static const char *missing(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has_bbr = fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, algorithm,
					  sizeof(algorithm) - 1) == 0;

	if (fd >= 0)
		close(fd);
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		return "/dev/net/tun cannot be opened";
	return has_bbr ? "" : "the kernel's TCP has no BBR (modprobe tcp_bbr)";
}

int suite_path(const struct bench *b)
{
	struct place p;
	int ret;

	if (missing()[0] != '\0') {
		fprintf(stderr, "og-bench: --port path: %s\n", missing());
		return BENCH_SKIPPED;
	}
	ret = open_place(&p);
	for (size_t i = 0; ret == 0 && i < OG_ARRAY_LEN(cases); i++)
		if (bench_wanted(b, cases[i].name))
			ret = run_case(b, &p, i);
	bench_child_stop(&p.holder);
	return ret == 0 ? BENCH_DONE : BENCH_FAILED;
}
