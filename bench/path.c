#include "bench/path.h"

#include "base/rand.h"
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { HELD_MAX = 16384, PACKET_BYTES = 1536, READS = 64, LATE_MS_MAX = 8, WAIT_MAX_MS = 100 };

struct held {
	uint64_t at_ns;
	uint64_t order;
	uint32_t packet;
};

struct direction {
	int from, to;
	struct og_rand rand;
	uint64_t busy_until_ns; /* the line, with what was sent before */
	uint64_t order;
	struct held heap[HELD_MAX]; /* by at_ns, then order */
	uint32_t nb_held;
	uint32_t idle[HELD_MAX]; /* packets not in use, a stack */
	uint16_t len_bytes[HELD_MAX];
	uint8_t packets[HELD_MAX][PACKET_BYTES];
	uint64_t forwarded, lost, repeated, late, overflowed;
};

static struct direction directions[2];
static struct path_opts path;

static int open_tun(const char *address)
{
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	char command[160];
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	strcpy(ifr.ifr_name, "path0");
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0) {
		perror("og-bench: /dev/net/tun");
		return -1;
	}
	snprintf(command, sizeof(command),
		"ip addr add %s/24 dev path0 && ip link set path0 up txqueuelen 10000 && "
		"ip link set lo up",
		address);
	return system(command) == 0 ? fd : -1;
}

static bool happens(struct direction *d, double percent)
{
	return og_rand_below(&d->rand, 100000) < (uint32_t)(percent * 1000);
}

static bool before(const struct held *a, const struct held *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void hold(struct direction *d, struct held h)
{
	uint32_t i = d->nb_held++;

	for (; i > 0 && before(&h, &d->heap[(i - 1) / 2]); i = (i - 1) / 2)
		d->heap[i] = d->heap[(i - 1) / 2];
	d->heap[i] = h;
}

static struct held take_first(struct direction *d)
{
	struct held first = d->heap[0], last = d->heap[--d->nb_held];
	uint32_t i = 0, child;

	while ((child = 2 * i + 1) < d->nb_held) {
		if (child + 1 < d->nb_held && before(&d->heap[child + 1], &d->heap[child]))
			child++;
		if (!before(&d->heap[child], &last))
			break;
		d->heap[i] = d->heap[child];
		i = child;
	}
	d->heap[i] = last;
	return first;
}

static void enqueue(struct direction *d, const uint8_t *data, uint16_t n, uint64_t at_ns)
{
	uint32_t packet;

	if (d->nb_held == HELD_MAX) {
		d->overflowed++;
		return;
	}
	packet = d->idle[HELD_MAX - 1 - d->nb_held];
	memcpy(d->packets[packet], data, n);
	d->len_bytes[packet] = n;
	hold(d, (struct held){at_ns, d->order++, packet});
}

/*
 * Every packet draws as many numbers, whatever happens to it: the fate of the next does not depend on
 * this one's.
 */
static void accept_packet(struct direction *d, const uint8_t *data, uint16_t n, uint64_t now_ns)
{
	bool lost = happens(d, path.loss), repeated = happens(d, path.duplicate);
	bool late = happens(d, path.reorder);
	uint64_t late_ns = (1 + og_rand_below(&d->rand, LATE_MS_MAX)) * OG_NS_PER_MS;
	uint64_t at_ns = OG_MAX(d->busy_until_ns, now_ns);

	if (path.mbit_s > 0) {
		if (at_ns - now_ns > path.queue_ms * OG_NS_PER_MS) {
			d->overflowed++;
			return;
		}
		at_ns += n * 8000ull / path.mbit_s;
		d->busy_until_ns = at_ns;
	}
	d->lost += lost;
	d->late += late;
	d->repeated += repeated;
	if (lost)
		return;
	at_ns += path.rtt_ms * OG_NS_PER_MS / 2 + (late ? late_ns : 0);
	enqueue(d, data, n, at_ns);
	if (repeated)
		enqueue(d, data, n, at_ns);
}

static void read_packets(struct direction *d, uint64_t now_ns)
{
	uint8_t data[PACKET_BYTES];
	ssize_t n;

	for (int i = 0; i < READS && (n = read(d->from, data, sizeof(data))) > 0; i++)
		accept_packet(d, data, (uint16_t)n, now_ns);
}

static void write_packets(struct direction *d, uint64_t now_ns)
{
	while (d->nb_held > 0 && d->heap[0].at_ns <= now_ns) {
		struct held h = take_first(d);

		if (write(d->to, d->packets[h.packet], d->len_bytes[h.packet]) > 0)
			d->forwarded++;
		d->idle[HELD_MAX - 1 - d->nb_held] = h.packet;
	}
}

static void forward_until_told(void)
{
	struct pollfd fds[3] = {{directions[0].from, POLLIN, 0}, {directions[1].from, POLLIN, 0},
		{STDIN_FILENO, POLLIN, 0}};
	char byte;

	for (;;) {
		uint64_t now_ns = bench_now_ns(), next_ns = now_ns + WAIT_MAX_MS * OG_NS_PER_MS;
		struct timespec ts = {0};

		for (int i = 0; i < 2; i++)
			if (directions[i].nb_held > 0)
				next_ns = OG_MIN(next_ns, directions[i].heap[0].at_ns);
		ts.tv_nsec = next_ns > now_ns ? (long)(next_ns - now_ns) : 0;
		ppoll(fds, OG_ARRAY_LEN(fds), &ts, NULL);
		now_ns = bench_now_ns();
		for (int i = 0; i < 2; i++) {
			if (fds[i].revents)
				read_packets(&directions[i], now_ns);
			write_packets(&directions[i], now_ns);
		}
		if (fds[2].revents && read(STDIN_FILENO, &byte, 1) <= 0)
			return;
	}
}

static void init_direction(struct direction *d, int from, int to, uint64_t seed)
{
	d->from = from;
	d->to = to;
	og_rand_seeded(&d->rand, seed);
	for (uint32_t i = 0; i < HELD_MAX; i++)
		d->idle[i] = i;
}

int serve_path(int argc, char **argv)
{
	static const char *const names[] = {"there", "back"};
	char far_ns[64];
	int near, far, ns;

	if (argc != PATH_ARGS - 1)
		return BENCH_USAGE;
	path = (struct path_opts){atof(argv[1]), atof(argv[2]), atof(argv[3]),
		(uint32_t)atoi(argv[4]), (uint32_t)atoi(argv[5]), (uint32_t)atoi(argv[6]),
		strtoull(argv[7], NULL, 0)};
	near = open_tun(PATH_NEAR);
	snprintf(far_ns, sizeof(far_ns), "/proc/%d/ns/net", atoi(argv[0]));
	ns = open(far_ns, O_RDONLY | O_CLOEXEC);
	if (near < 0 || ns < 0 || setns(ns, CLONE_NEWNET) < 0) {
		fprintf(stderr, "og-bench: path: %s\n", strerror(errno));
		return BENCH_FAILED;
	}
	far = open_tun(PATH_FAR);
	if (far < 0)
		return BENCH_FAILED;
	prctl(PR_SET_TIMERSLACK, 1);
	init_direction(&directions[0], near, far, path.seed);
	init_direction(&directions[1], far, near, path.seed + 1);
	puts("ready path");
	fflush(stdout);
	forward_until_told();
	for (int i = 0; i < 2; i++)
		fprintf(stderr,
			"path, %s: %lu forwarded, %lu lost, %lu repeated, %lu late, %lu dropped\n",
			names[i], (unsigned long)directions[i].forwarded,
			(unsigned long)directions[i].lost, (unsigned long)directions[i].repeated,
			(unsigned long)directions[i].late, (unsigned long)directions[i].overflowed);
	return BENCH_DONE;
}
