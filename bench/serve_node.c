/*
 * serve_node.c: a node with a full routing table, which answers whoever asks as a persistent node of
 * a large network does; and a peer, which has an application on it too (peer_core.h).
 *
 *     node|peer DRIVER ADDRESS[:PORT] [PREFIX_BITS]
 *
 * Both print "ready ADDRESS:PORT PUBLIC_KEY PORT_NAME". A peer then obeys lines, answering each by one:
 *
 *     connect KEY ADDRESS:PORT         done NS
 *     send WRITE_BYTES BYTES           done NS, when the other end has counted them all
 *     echo MESSAGE_BYTES COUNT         done NS P50_NS P99_NS, of one round trip
 *     connects COUNT KEY ADDRESS:PORT  done NS P50_NS P99_NS, of one connection
 *     drops                            drops SHED QUEUE_FULL, datagrams so far
 */
#include "base/bytes.h"
#include "bench/bench.h"
#include "bench/node_setup.h"
#include "bench/peer_core.h"
#include "bench/serve.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

int serve_node(int argc, char **argv)
{
	static struct node_setup n;
	char text[OG_ADDR_TEXT_BYTES], key[2 * OG_KEY_BYTES + 1];

	if (node_setup_open(&n, NULL, argc, argv) < 0 ||
		node_setup_start(&n, &n.neighbours.core) < 0)
		return BENCH_FAILED;
	og_hex_encode(key, n.keys.public_key, sizeof(n.keys.public_key));
	serve_until_told(
		"%s %s %s", og_addr_format(&n.addr, text), key, og_dataplane_port_name(n.dp));
	node_setup_close(&n);
	return BENCH_DONE;
}

/* ---- a peer ---- */

/* Where to connect, as words of a line. */
static int parse_remote(struct og_msg *m, uint8_t addr4[6], const char *key, const char *address)
{
	struct og_addr a;

	if (og_hex_decode(m->key, sizeof(m->key), key, strlen(key)) < 0 ||
		og_addr_parse(&a, address) < 0)
		return -EINVAL;
	memcpy(addr4, a.ip, 4);
	og_store_le16(addr4 + 4, a.port);
	m->data = addr4;
	m->len_bytes = 6;
	return 0;
}

static int parse_line(struct og_msg *m, uint8_t addr4[6], const char *line)
{
	char key[80], address[32];
	unsigned long n;
	unsigned piece;

	*m = (struct og_msg){0};
	if (sscanf(line, "connects %lu %79s %31s", &n, key, address) == 3) {
		m->type = PEER_CONNECTS;
		m->arg = n;
		return parse_remote(m, addr4, key, address);
	}
	if (sscanf(line, "connect %79s %31s", key, address) == 2) {
		m->type = PEER_CONNECT;
		return parse_remote(m, addr4, key, address);
	}
	if (sscanf(line, "send %u %lu", &piece, &n) == 2) {
		m->type = PEER_SEND;
	} else if (sscanf(line, "echo %u %lu", &piece, &n) == 2) {
		m->type = PEER_ECHO;
	} else {
		return -EINVAL;
	}
	m->slot = piece;
	m->arg = n;
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void print_done(struct peer_core *p, const struct og_msg *ev)
{
	if (ev->flags) {
		printf("failed %s\n", strerror(ev->flags));
	} else if (p->nb_rtts > 0) {
		qsort(p->rtt_ns, p->nb_rtts, sizeof(p->rtt_ns[0]), by_value);
		printf("done %lu %u %u\n", (unsigned long)ev->arg, p->rtt_ns[p->nb_rtts / 2],
			p->rtt_ns[p->nb_rtts * 99 / 100]);
	} else {
		printf("done %lu\n", (unsigned long)ev->arg);
	}
	fflush(stdout);
}

/* The event that ends a task. */
static void await_done(struct og_stage *events, struct og_doorbell *bell, struct og_msg *out)
{
	struct pollfd p = {bell->fd, POLLIN, 0};

	for (;;) {
		while (og_stage_pop(events, out) == 0) {
			og_stage_release(events, out);
			if (out->type == PEER_DONE)
				return;
		}
		og_doorbell_announce(bell);
		if (og_stage_count(events) == 0 && poll(&p, 1, SERVE_SUPERVISE_MS) == 0)
			serve_supervise();
		og_doorbell_awake(bell);
	}
}

static void obey(struct node_setup *n, struct peer_core *p, struct og_doorbell *bell)
{
	char line[256];

	while (serve_line(line, sizeof(line))) {
		uint8_t addr4[6];
		struct og_msg m;

		if (strcmp(line, "drops\n") == 0) {
			printf("drops %lu %lu\n",
				(unsigned long)og_dataplane_drops(n->dp, OG_DROP_RX_SHED),
				(unsigned long)og_dataplane_drops(n->dp, OG_DROP_RX_QUEUE_FULL));
			fflush(stdout);
			continue;
		}
		if (parse_line(&m, addr4, line) < 0 ||
			og_stage_push(og_dataplane_commands(n->dp), &m) < 0) {
			puts("failed not understood");
			fflush(stdout);
			continue;
		}
		await_done(og_dataplane_events(n->dp), bell, &m);
		print_done(p, &m);
	}
}

int serve_peer(int argc, char **argv)
{
	static struct node_setup n;
	static struct peer_core peer;
	struct og_msg join = {.type = OG_CMD_JOIN, .flags = OG_JOIN_SERVER};
	char text[OG_ADDR_TEXT_BYTES], key[2 * OG_KEY_BYTES + 1];
	struct og_core_env env = {0};
	struct og_doorbell bell;

	if (og_doorbell_init(&bell) < 0)
		return BENCH_FAILED;
	n.router = &bell;
	if (node_setup_open(&n, &peer.sink, argc, argv) < 0)
		return BENCH_FAILED;
	og_dataplane_env(n.dp, &env);
	peer_core_init(&peer, env.events);
	peer_core_wrap(&peer, &n.neighbours.core);
	if (node_setup_start(&n, &peer.core) < 0)
		return BENCH_FAILED;
	/* A server listens once it has a topic. */
	og_rand_fill(&n.rand, join.key, sizeof(join.key));
	if (og_stage_push(og_dataplane_commands(n.dp), &join) < 0)
		return BENCH_FAILED;
	og_hex_encode(key, n.keys.public_key, sizeof(n.keys.public_key));
	printf("ready %s %s %s\n", og_addr_format(&n.addr, text), key,
		og_dataplane_port_name(n.dp));
	fflush(stdout);
	obey(&n, &peer, &bell);
	node_setup_close(&n);
	og_doorbell_fini(&bell);
	return BENCH_DONE;
}
