/*
 * tsan_cores.c: a node of two polling cores under load for ThreadSanitizer: peers connect and send, the
 * handshakes on core 0, the streams on either; a stranger asks PING and FIND_NODE and sends packets of
 * streams that are not there, so that both cores hand over while core 0 publishes its table.
 */
#include "base/count.h"
#include "cluster/steer.h"
#include "cluster/stream_core.h"
#include "dataplane/dataplane.h"
#include "dht/view.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CORES_MAX = 2, CALLERS_MAX = 12, SEND_BYTES = 1 << 20, PEERS = 64 };

struct node {
	uint16_t nb_cores;
	struct og_dataplane *dp;
	struct og_dht_view *view;
	struct og_core *cores[CORES_MAX];
	struct og_rand rands[CORES_MAX];
	struct og_keypair keys;
	struct og_addr at;
	/* As its router sees it. */
	uint32_t opened[CORES_MAX], nb_open;
	uint64_t received, credit;
	struct og_msg open;
};

static struct node a, b;
static uint8_t block[OG_WRITE_MAX_BYTES];

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

static int create_cores(struct node *n, const struct og_addr *bootstrap)
{
	struct og_cluster_core_opts co = {.keys = &n->keys,
		.local = {n->at},
		.bootstrap = bootstrap,
		.nb_bootstrap = bootstrap ? 1 : 0,
		.public_addr = n->at,
		.ephemeral = OG_CORE_NO,
		.peers_max = PEERS,
		.packets = 4096,
		.nb_cores = n->nb_cores};

	if (n->nb_cores > 1 && og_dht_view_create(&n->view, n->nb_cores) < 0)
		return -1;
	co.view = n->view;
	for (uint16_t i = 1; i < n->nb_cores; i++)
		co.links[i] = og_dataplane_link(n->dp, 0, i);
	og_dataplane_env(n->dp, &co.env);
	co.env.rand = &n->rands[0];
	if (og_cluster_core_create(&n->cores[0], &co, now_ns()) < 0)
		return -1;
	for (uint16_t i = 1; i < n->nb_cores; i++) {
		struct og_stream_core_opts so = {.home = og_dataplane_link(n->dp, i, 0),
			.view = n->view,
			.idx = i,
			.nb_cores = n->nb_cores,
			.own_key = n->keys.public_key,
			.peers_max = PEERS,
			.packets = 4096};

		og_dataplane_core_env(n->dp, i, &so.env);
		so.env.rand = &n->rands[i];
		if (og_stream_core_create(&n->cores[i], &so, now_ns()) < 0)
			return -1;
	}
	return 0;
}

static int start(struct node *n, uint16_t nb_cores, const struct og_addr *bootstrap)
{
	struct sock_filter steering[OG_STEER_PROGRAM_MAX];
	struct og_dataplane_opts opts = {.driver = "socket",
		.bind = {{127, 0, 0, 1}, 0},
		.lcore_cpu = -1,
		.nb_cores = nb_cores,
		/* None at the first: half of all packets reach the wrong core by the kernel's hash. */
		.steering = bootstrap ? steering : NULL,
		.nb_steering = og_steer_program(steering, nb_cores)};
	uint8_t seed[32];
	char err[200];

	memset(n, 0, sizeof(*n));
	n->nb_cores = nb_cores;
	for (int i = 0; i < CORES_MAX; i++)
		og_rand_system(&n->rands[i]);
	og_rand_fill(&n->rands[0], seed, sizeof(seed));
	og_keypair_from_seed(&n->keys, seed);
	if (og_dataplane_open(&n->dp, &opts, err, sizeof(err)) < 0) {
		fprintf(stderr, "%s\n", err);
		return -1;
	}
	og_dataplane_local_addr(n->dp, 0, &n->at);
	if (create_cores(n, bootstrap) < 0)
		return -1;
	return og_dataplane_start_cores(n->dp, n->cores);
}

static void end(struct node *n)
{
	og_dataplane_stop(n->dp);
	for (uint16_t i = 1; i < n->nb_cores; i++)
		og_stream_core_destroy(n->cores[i]);
	og_cluster_core_destroy(n->cores[0]);
	og_dht_view_destroy(n->view);
	og_dataplane_close(n->dp);
}

static void command(struct node *n, uint16_t core, const struct og_msg *m)
{
	while (og_stage_push(og_dataplane_core_commands(n->dp, core), m) < 0)
		usleep(100);
}

static void on_event(struct node *n, uint16_t core, const struct og_msg *ev)
{
	struct og_msg consumed = {
		.type = OG_CMD_CONSUMED, .slot = ev->slot, .gen = ev->gen, .arg = ev->len_bytes};

	switch (ev->type) {
	case OG_EV_PEER_OPEN:
		n->opened[core]++;
		n->nb_open++;
		n->open = *ev;
		n->credit = OG_PEER_CREDIT_BYTES;
		break;
	case OG_EV_PEER_CLOSED:
		n->nb_open--;
		break;
	case OG_EV_PEER_CREDIT:
		n->credit += ev->arg;
		break;
	case OG_EV_PEER_DATA:
		n->received += ev->len_bytes;
		command(n, core, &consumed);
		break;
	}
}

static void take_events(struct node *n)
{
	for (uint16_t i = 0; i < n->nb_cores; i++) {
		struct og_stage *events = og_dataplane_core_events(n->dp, i);
		struct og_msg ev;

		while (og_stage_pop(events, &ev) == 0) {
			on_event(n, i, &ev);
			og_stage_release(events, &ev);
		}
	}
}

/* PING, FIND_NODE, and packets of streams of both cores that nobody has. */
static void disturb(int fd, uint32_t i)
{
	uint8_t ping[] = {3, 4, (uint8_t)i, (uint8_t)(i >> 8), 127, 0, 0, 1, 0, 0, 0};
	uint8_t find[43] = {3, 12, (uint8_t)i, 1, 127, 0, 0, 1, 0, 0, 2, (uint8_t)i};
	uint8_t udx[20] = {0xff, 1, 1, 0, (uint8_t)(0x40 | (i & 1)), (uint8_t)i};
	char back[256];

	(void)!send(fd, ping, sizeof(ping), 0);
	(void)!send(fd, find, sizeof(find), 0);
	(void)!send(fd, udx, sizeof(udx), 0);
	while (recv(fd, back, sizeof(back), MSG_DONTWAIT) > 0)
		continue;
}

static int stranger(const struct og_addr *to)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(to->port)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	memcpy(&sin.sin_addr, to->ip, sizeof(to->ip));
	return connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ? -1 : fd;
}

/* One caller: connects, sends, leaves. */
static int one_caller(int fd)
{
	struct og_msg m = {.type = OG_CMD_DIAL}, stop = {.type = OG_CMD_STOP};
	uint8_t at[6] = {127, 0, 0, 1, (uint8_t)a.at.port, (uint8_t)(a.at.port >> 8)};
	uint64_t sent = 0, until = now_ns() + 60 * OG_NS_PER_S, received = a.received;

	if (start(&b, 1, &a.at) < 0)
		return -1;
	memcpy(m.key, a.keys.public_key, sizeof(m.key));
	m.data = at;
	m.len_bytes = sizeof(at);
	command(&b, 0, &m);
	for (uint32_t i = 0; a.received - received < SEND_BYTES && now_ns() < until; i++) {
		struct og_msg w = {.type = OG_CMD_WRITE, .data = block, .len_bytes = sizeof(block)};

		take_events(&a);
		take_events(&b);
		disturb(fd, i);
		w.slot = b.open.slot;
		w.gen = b.open.gen;
		if (b.nb_open > 0 && b.credit >= sizeof(block) && sent < SEND_BYTES) {
			command(&b, 0, &w);
			b.credit -= sizeof(block);
			sent += sizeof(block);
		}
	}
	command(&b, 0, &stop);
	for (int i = 0; i < 2000 && a.nb_open > 0; i++) {
		take_events(&a);
		take_events(&b);
		usleep(1000);
	}
	end(&b);
	return a.received - received >= SEND_BYTES ? 0 : -1;
}

int main(void)
{
	struct og_msg join = {.type = OG_CMD_JOIN, .flags = OG_JOIN_SERVER};
	int callers = 0, fd, ret = 0;

	if (og_crypto_init() < 0 || start(&a, CORES_MAX, NULL) < 0)
		return 1;
	fd = stranger(&a.at);
	command(&a, 0, &join);
	/* Until both cores have had one; not once in 2000 runs the limit is in the way. */
	while (ret == 0 && callers < CALLERS_MAX && (a.opened[0] == 0 || a.opened[1] == 0)) {
		ret = one_caller(fd);
		callers++;
	}
	og_dataplane_stop(a.dp);
	printf("%d callers, %" PRIu64 " bytes; handed over %" PRIu64 " and %" PRIu64
	       "; core 1 answered %" PRIu64 "\n",
		callers, a.received,
		og_counter_read(&og_dataplane_core_counters(a.dp, 0)->handed_out),
		og_counter_read(&og_dataplane_core_counters(a.dp, 1)->handed_out),
		og_counter_read(&og_dht_view_counts(a.view, 1)->replies));
	if (og_counter_read(&og_dataplane_core_counters(a.dp, 0)->handed_out) +
			og_counter_read(&og_dataplane_core_counters(a.dp, 1)->handed_out) ==
		0)
		ret = -1;
	close(fd);
	end(&a);
	return ret < 0 || a.opened[1] == 0;
}
