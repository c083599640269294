/*
 * fuzz_steer.c: a datagram at each core of a node: it has one place to go, and what another core than the
 * first answers is no longer than three times the question.
 */
#include "cluster/steer.h"
#include "dht/rpc.h"
#include "dht/view.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

enum { CORES = 3, IP_UDP_BYTES = 28 };

static uint8_t out[2048];
static uint32_t out_bytes;

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = 1472;
	return out;
}

static void commit(
	struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl, uint16_t n)
{
	out_bytes = n;
}

static struct og_tx tx = {reserve, commit};
static struct og_dht_view *view;

static void create_view(void)
{
	static struct og_rand rand;
	static const struct og_dht_rpc_opts opts = {.local = {{{10, 0, 0, 1}, 4000}},
		.public_addr = {{10, 0, 0, 1}, 4000},
		.ephemeral = OG_NO,
		.tx = &tx,
		.rand = &rand};
	struct og_dht_rpc *rpc;

	og_rand_seeded(&rand, 1);
	OG_ASSERT(og_dht_rpc_create(&rpc, &opts, OG_NS_PER_S) == 0);
	og_dht_rpc_tick(rpc, OG_NS_PER_S);
	OG_ASSERT(og_dht_view_create(&view, CORES) == 0);
	OG_ASSERT(og_dht_view_publish(view, rpc, OG_NS_PER_S) == OG_NEVER);
	og_dht_rpc_destroy(rpc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct og_dgram d = {.len_bytes = (uint16_t)len_bytes, .src = {{10, 0, 0, 2}, 4000}};

	if (len_bytes > 1472)
		return 0;
	if (!view)
		create_view();
	d.data = malloc(len_bytes > 0 ? len_bytes : 1); /* exact size: an over-read is seen */
	memcpy(d.data, data, len_bytes);
	for (uint16_t self = 0; self < CORES; self++) {
		uint16_t to = og_steer(d.data, d.len_bytes, self, CORES);

		OG_ASSERT(to < CORES);
		OG_ASSERT(og_steer(d.data, d.len_bytes, to, CORES) == to); /* and stays there */
	}
	if (og_dht_view_takes(d.data, d.len_bytes)) {
		out_bytes = 0;
		og_dht_view_serve(view, 1, &tx, &d);
		OG_ASSERT(out_bytes == 0 ||
			  out_bytes + IP_UDP_BYTES <= 3 * (len_bytes + IP_UDP_BYTES));
	}
	free(d.data);
	return 0;
}
