/*
 * serve_tcp.c: the far end of the kernel's TCP: takes one connection and counts what comes.
 *
 *     tcp-sink ADDRESS
 *
 * Says "ready ADDRESS:PORT" and answers each line with "counts NS BYTES".
 */
#include "base/count.h"
#include "bench/bench.h"
#include "bench/serve.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 256 << 10 };

static uint64_t received;

static void *take(void *arg)
{
	static uint8_t data[READ_BYTES];
	int fd = accept4(*(int *)arg, NULL, NULL, SOCK_CLOEXEC);
	ssize_t n;

	while (fd >= 0 && (n = read(fd, data, sizeof(data))) > 0)
		og_count_add(&received, (uint64_t)n);
	return NULL;
}

int serve_tcp_sink(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pthread_t thread;
	char line[64];

	if (argc != 1 || inet_pton(AF_INET, argv[0], &at.sin_addr) != 1)
		return BENCH_USAGE;
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 1) < 0 ||
		getsockname(fd, (struct sockaddr *)&at, &len) < 0 ||
		pthread_create(&thread, NULL, take, &fd) != 0) {
		perror("og-bench: tcp-sink");
		return BENCH_FAILED;
	}
	printf("ready %s:%u\n", argv[0], ntohs(at.sin_port));
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		printf("counts %lu %lu\n", (unsigned long)bench_now_ns(),
			(unsigned long)og_counter_read(&received));
		fflush(stdout);
	}
	return BENCH_DONE; /* takes the thread along */
}
