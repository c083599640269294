/*
 * og_net.c: a DHT made only of og-nodes: many cores in one process, each on a UDP socket of its own.
 *
 *   og_net [--nodes N] [--churn-ms MS]     --churn-ms: every so often a node dies and another starts
 *
 * Prints {"ev":"ready","bootstrap":["127.0.0.1:PORT"]} once all are persistent; ends with its stdin.
 */
#include "base/core.h"
#include "base/rand.h"
#include "cluster/core.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { NODES_MAX = 256, KEPT = 4, JOBS = 64 };

struct node {
	int fd;
	struct og_core *core;
	struct og_tx tx;
	struct og_jobs jobs;
	struct og_sink events;
	struct og_rand rand;
	struct og_addr addr;
	struct og_job queue[JOBS];
	uint32_t nb_jobs;
	uint64_t due;
	uint8_t buffer[2048];
};

static struct node *nodes[NODES_MAX];
static struct og_addr bootstrap;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static struct sockaddr_in sockaddr_of(const struct og_addr *a)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(a->port)};

	memcpy(&sa.sin_addr, a->ip, 4);
	return sa;
}

static uint8_t *tx_reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	struct node *n = OG_CONTAINER_OF(tx, struct node, tx);

	*cap_bytes = sizeof(n->buffer);
	return n->buffer;
}

static void tx_commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct node *n = OG_CONTAINER_OF(tx, struct node, tx);
	struct sockaddr_in sa = sockaddr_of(dst);

	/* What the kernel does not take is lost, as on any network. */
	(void)!sendto(n->fd, n->buffer, len_bytes, 0, (struct sockaddr *)&sa, sizeof(sa));
}

static struct og_job *jobs_begin(struct og_jobs *jobs)
{
	struct node *n = OG_CONTAINER_OF(jobs, struct node, jobs);

	return n->nb_jobs < JOBS ? &n->queue[n->nb_jobs] : NULL;
}

static void jobs_post(struct og_jobs *jobs, struct og_job *job)
{
	OG_CONTAINER_OF(jobs, struct node, jobs)->nb_jobs++;
}

static int events_push(struct og_sink *sink, const struct og_msg *msg)
{
	return 0; /* nobody looks at them here */
}

static void pass(struct node *n, uint64_t now)
{
	static struct og_job done[JOBS];

	while (n->nb_jobs > 0) {
		uint32_t count = n->nb_jobs;

		memcpy(done, n->queue, count * sizeof(done[0]));
		n->nb_jobs = 0;
		for (uint32_t i = 0; i < count; i++) {
			done[i].run(&done[i]);
			n->core->ops->job_done(n->core, &done[i], now);
		}
	}
	n->due = n->core->ops->tick(n->core, now);
}

static struct node *node_start(bool first)
{
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	struct node *n = calloc(1, sizeof(*n));
	struct og_keypair keys;
	struct og_cluster_core_opts co = {.keys = &keys,
		.bootstrap = &bootstrap,
		.nb_bootstrap = first ? 0 : 1,
		.ephemeral = OG_CORE_NO,
		.peers_max = 16,
		.packets = 256,
		.frame_budget_bytes = 1 << 20};
	uint8_t seed[32];

	OG_ASSERT(n);
	n->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	OG_ASSERT(n->fd >= 0 && bind(n->fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	getsockname(n->fd, (struct sockaddr *)&sa, &len);
	memcpy(n->addr.ip, &sa.sin_addr, 4);
	n->addr.port = ntohs(sa.sin_port);
	n->tx = (struct og_tx){tx_reserve, tx_commit};
	n->jobs = (struct og_jobs){jobs_begin, jobs_post};
	n->events = (struct og_sink){events_push};
	og_rand_system(&n->rand);
	og_rand_fill(&n->rand, seed, sizeof(seed));
	og_keypair_from_seed(&keys, seed);
	co.env = (struct og_core_env){&n->tx, &n->jobs, &n->events, &n->rand, 0};
	co.local[0] = n->addr;
	if (first) {
		bootstrap = n->addr;
		co.public_addr = n->addr;
	}
	OG_ASSERT(og_cluster_core_create(&n->core, &co, now_ns()) == 0);
	pass(n, now_ns());
	return n;
}

static void node_stop(struct node *n)
{
	og_cluster_core_destroy(n->core);
	close(n->fd);
	free(n);
}

static void receive(struct node *n)
{
	for (int i = 0; i < 64; i++) {
		static uint8_t buf[2049];
		struct sockaddr_in sa;
		socklen_t len = sizeof(sa);
		ssize_t got = recvfrom(n->fd, buf, sizeof(buf), 0, (struct sockaddr *)&sa, &len);
		struct og_dgram d = {.data = buf, .len_bytes = (uint16_t)got};

		if (got < 0 && errno == ECONNREFUSED)
			continue;
		if (got < 0)
			return;
		if (got > 2048)
			continue;
		memcpy(d.src.ip, &sa.sin_addr, 4);
		d.src.port = ntohs(sa.sin_port);
		n->core->ops->input(n->core, &d, 1, now_ns());
	}
}

/* False at the end of stdin. */
static bool run_until(uint32_t count, uint64_t until)
{
	struct pollfd fds[NODES_MAX + 1];

	for (;;) {
		uint64_t now = now_ns(), next = until;
		char buf[64];

		for (uint32_t i = 0; i < count; i++) {
			if (now >= nodes[i]->due)
				pass(nodes[i], now);
			next = OG_MIN(next, nodes[i]->due);
			fds[i] = (struct pollfd){nodes[i]->fd, POLLIN, 0};
		}
		if (now >= until)
			return true;
		fds[count] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
		poll(fds, count + 1,
			next > now ? (int)OG_MIN((next - now) / OG_NS_PER_MS + 1, 100ull) : 0);
		for (uint32_t i = 0; i < count; i++)
			if (fds[i].revents) {
				receive(nodes[i]);
				pass(nodes[i], now_ns());
			}
		if (fds[count].revents && read(STDIN_FILENO, buf, sizeof(buf)) <= 0)
			return false;
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"nodes", 1, NULL, 'n'}, {"churn-ms", 1, NULL, 'c'}, {0}};
	uint32_t count = 8, churn_ms = 0;
	char text[OG_ADDR_TEXT_BYTES];
	struct og_rand rand;
	int opt;
	bool alive = true;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'n')
			count = (uint32_t)atoi(optarg);
		else if (opt == 'c')
			churn_ms = (uint32_t)atoi(optarg);
		else
			return 2;
	}
	if (count < 1 || count > NODES_MAX || og_crypto_init() < 0)
		return 2;
	og_rand_system(&rand);
	for (uint32_t i = 0; alive && i < count; i++) {
		nodes[i] = node_start(i == 0);
		/* One after the other: each finds the network that is there. */
		for (uint32_t k = 0;
			alive && k < 500 && !og_cluster_core_stats(nodes[i]->core)->persistent; k++)
			alive = run_until(i + 1, now_ns() + 20 * OG_NS_PER_MS);
	}
	printf("{\"ev\":\"ready\",\"bootstrap\":[\"%s\"],\"nodes\":%u}\n",
		og_addr_format(&bootstrap, text), count);
	fflush(stdout);
	while (alive) {
		alive = run_until(count, now_ns() + (churn_ms ? churn_ms : 1000) * OG_NS_PER_MS);
		if (alive && churn_ms && count > KEPT) {
			uint32_t i = KEPT + og_rand_below(&rand, count - KEPT);

			node_stop(nodes[i]);
			nodes[i] = node_start(false);
		}
	}
	for (uint32_t i = 0; i < count; i++)
		if (nodes[i])
			node_stop(nodes[i]);
	return 0;
}
