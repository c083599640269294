/*
 * suite_dht.c: what a node answers in a second, and in a second of its processor: PING, FIND_NODE
 * with 20 nodes in the reply, LOOKUP with 20 records, from one core, under a closed loop of 128.
 *
 * References, under the same requests: echoes over recvmmsg and io_uring, which do nothing but send
 * the request back, and with --peer js an unmodified hyperdht node.
 */
#include "base/rand.h"
#include "bench/bench.h"
#include "bench/dht_requests.h"
#include "bench/servers.h"

#include <string.h>

enum { WINDOW = 128 };

/* The node and JavaScript's answer; echoes give the request back, whatever is asked. */
static int prepare(struct server *s, const uint8_t topic[32], struct og_rand *rand)
{
	int ret;

	if (s->is_echo)
		return 0;
	ret = dht_wait_table(s->load, &s->addr, rand);
	return ret < 0 ? ret : dht_store_records(s->load, &s->addr, topic, rand);
}

static int run_case(const struct bench *b, struct servers *all, const char *name,
	enum dht_request kind, const uint8_t topic[32], struct og_rand *rand)
{
	static struct load_plan plans[SERVERS_MAX];

	for (uint32_t i = 0; i < all->nb; i++) {
		dht_plan(&plans[i], kind, WINDOW, &all->list[i].addr, topic, rand);
		if (all->list[i].is_echo) {
			plans[i].first_byte = -1;
			plans[i].min_bytes = 0;
		}
	}
	return servers_measure(b, all, name, "replies", plans);
}

int suite_dht(const struct bench *b)
{
	static const struct {
		const char *name;
		enum dht_request kind;
	} cases[] = {{"ping", DHT_PING}, {"find_node", DHT_FIND_NODE}, {"lookup", DHT_LOOKUP}};
	static struct servers all;
	struct og_rand rand;
	uint8_t topic[32];
	int ret;

	og_rand_system(&rand);
	og_rand_fill(&rand, topic, sizeof(topic));
	ret = servers_start(b, &all, "node");
	for (uint32_t i = 0; ret == 0 && i < all.nb; i++) {
		server_resume(&all.list[i]);
		ret = prepare(&all.list[i], topic, &rand);
		if (ret < 0)
			fprintf(stderr, "og-bench: %s does not answer as it should: %s\n",
				all.list[i].name, strerror(-ret));
		server_pause(&all.list[i]);
	}
	for (size_t i = 0; ret == 0 && i < OG_ARRAY_LEN(cases); i++)
		ret = run_case(b, &all, cases[i].name, cases[i].kind, topic, &rand);
	servers_stop(&all);
	return ret == 0 ? BENCH_DONE : BENCH_FAILED;
}
