/*
 * tsan_view.c: a routing table that changes as a whole, published as fast as its owner may, while two
 * other cores answer from it, for ThreadSanitizer: no answer mixes two tables.
 */
#include "base/count.h"
#include "dht/rpc_priv.h"
#include "dht/view.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { READERS = 2, ROUNDS = 400, NODES = 60 };

struct reader {
	struct og_tx tx;
	uint16_t number;
	uint64_t answers, mixed;
	uint8_t buf[1500];
};

static struct og_dht_view *view;
static bool stop;

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = sizeof(((struct reader *)0)->buf);
	return OG_CONTAINER_OF(tx, struct reader, tx)->buf;
}

/* The second byte of every address is the number of the table it comes from. */
static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct reader *r = OG_CONTAINER_OF(tx, struct reader, tx);
	struct og_dht_msg m;

	r->answers++;
	if (og_dht_msg_decode(&m, r->buf, len_bytes) < 0 || m.nb_closer == 0) {
		r->mixed++;
		return;
	}
	for (uint32_t i = 1; i < m.nb_closer; i++)
		r->mixed += m.closer[i * OG_DHT_ADDR4_BYTES + 1] != m.closer[1];
}

static void *read_on(void *arg)
{
	struct reader *r = arg;
	uint8_t find[43] = {3, 12, 1, 1, 127, 0, 0, 1, 0, 0, 2};
	struct og_dgram d = {.data = find, .len_bytes = sizeof(find), .src = {{10, 9, 9, 9}, 9}};

	for (uint32_t i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
		memcpy(find + 11, &i, sizeof(i));
		find[15] = (uint8_t)(i * 7);
		og_dht_view_serve(view, r->number, &r->tx, &d);
	}
	return NULL;
}

static void fill(struct og_dht_rpc *rpc, uint8_t number)
{
	struct og_dht_node *node;

	while ((node = og_dht_table_newest(rpc->table))) {
		og_dht_table_remove(rpc->table, node);
		rpc->count.nodes_removed++;
	}
	for (uint8_t i = 0; i < NODES; i++) {
		struct og_addr a = {{20, number, i, 1}, 5000};
		uint8_t id[OG_DHT_ID_BYTES];

		og_dht_node_id(id, &a);
		if (og_dht_table_add(rpc->table, id, &a, false, 1, NULL) == 0)
			rpc->count.nodes_added++;
	}
}

int main(void)
{
	static struct reader readers[READERS], nobody = {{reserve, commit}, 0, 0, 0, {0}};
	struct og_rand rand;
	const struct og_dht_rpc_opts opts = {.local = {{{10, 0, 0, 1}, 4000}},
		.ephemeral = OG_YES,
		.tx = &nobody.tx,
		.rand = &rand};
	uint64_t now = OG_NS_PER_S, published = 0, sum = 0, mixed = 0;
	pthread_t threads[READERS];
	struct og_dht_rpc *rpc;

	og_rand_seeded(&rand, 1);
	if (og_dht_rpc_create(&rpc, &opts, now) < 0 || og_dht_view_create(&view, READERS + 1) < 0)
		return 1;
	fill(rpc, 0);
	(void)!og_dht_view_publish(view, rpc, now);
	for (uint16_t i = 0; i < READERS; i++) {
		readers[i] = (struct reader){.tx = {reserve, commit}, .number = i + 1};
		if (pthread_create(&threads[i], NULL, read_on, &readers[i]) != 0)
			return 1;
	}
	for (uint32_t i = 1; i < ROUNDS; i++) {
		fill(rpc, (uint8_t)i);
		now += 20 * OG_NS_PER_MS;
		published += og_dht_view_publish(view, rpc, now) == OG_NEVER;
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < READERS; i++) {
		pthread_join(threads[i], NULL);
		sum += readers[i].answers;
		mixed += readers[i].mixed;
	}
	printf("%" PRIu64 " tables published, %" PRIu64 " answers, %" PRIu64 " of them mixed\n",
		published, sum, mixed);
	og_dht_view_destroy(view);
	og_dht_rpc_destroy(rpc);
	return mixed > 0 || sum == 0 || published == 0;
}
