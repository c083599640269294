#include "bench/dht_requests.h"

#include "base/bytes.h"
#include "crypto/namespaces.h"
#include "crypto/sign.h"
#include "dht/values.h"
#include "dht/wire.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* dht.md 7 */
enum { COMMAND_LOOKUP = 3, COMMAND_ANNOUNCE = 4 };

enum {
	REPLY_BYTE = 0x13,
	TID_OFFSET = 2,
	PING_BYTES = 10,
	NODES_BYTES = PING_BYTES + OG_DHT_ID_BYTES + 1 + OG_DHT_K * OG_DHT_ADDR4_BYTES,
	/* A token, and records of a key and an empty list of relays. */
	LOOKUP_BYTES = NODES_BYTES + OG_DHT_TOKEN_BYTES + DHT_RECORDS * 33,
	WAIT_TRIES = 300,
};

uint16_t dht_request(uint8_t out[LOAD_REQUEST_BYTES], enum dht_request kind, uint16_t tid,
	const struct og_addr *to, const uint8_t *target)
{
	struct og_dht_msg m = {.tid = tid,
		.to = *to,
		.internal = kind != DHT_LOOKUP,
		.command = kind == DHT_PING        ? OG_DHT_PING
			   : kind == DHT_FIND_NODE ? OG_DHT_FIND_NODE
						   : COMMAND_LOOKUP,
		.target = kind == DHT_PING ? NULL : target};
	struct og_writer w = og_writer_of(out, LOAD_REQUEST_BYTES);

	OG_ASSERT(og_dht_msg_encode(&m, &w) == 0);
	return (uint16_t)og_writer_len(&w);
}

void dht_plan(struct load_plan *plan, enum dht_request kind, uint32_t window,
	const struct og_addr *to, const uint8_t topic[32], struct og_rand *rand)
{
	static const uint16_t min_bytes[] = {PING_BYTES, NODES_BYTES, LOOKUP_BYTES};

	*plan = (struct load_plan){.window = window,
		.id_offset = TID_OFFSET,
		.first_byte = REPLY_BYTE,
		.min_bytes = min_bytes[kind]};
	for (uint32_t i = 0; i < window; i++) {
		uint8_t target[OG_DHT_ID_BYTES];

		if (kind == DHT_LOOKUP)
			memcpy(target, topic, sizeof(target));
		else
			og_rand_fill(rand, target, sizeof(target));
		plan->slots[i].len_bytes =
			dht_request(plan->slots[i].data, kind, (uint16_t)i, to, target);
	}
}

static int ask(struct load *l, const uint8_t *request, uint16_t len_bytes,
	uint8_t answer[LOAD_REPLY_BYTES], struct og_dht_msg *m)
{
	int n = load_ask(l, request, len_bytes, answer);

	if (n < 0)
		return n;
	return og_dht_msg_decode(m, answer, (size_t)n);
}

int dht_wait_table(struct load *l, const struct og_addr *to, struct og_rand *rand)
{
	const struct timespec pause = {.tv_nsec = 100 * OG_NS_PER_MS};
	uint8_t answer[LOAD_REPLY_BYTES], request[LOAD_REQUEST_BYTES], target[OG_DHT_ID_BYTES];
	struct og_dht_msg m;

	for (int i = 0; i < WAIT_TRIES; i++) {
		uint16_t n;
		int ret;

		og_rand_fill(rand, target, sizeof(target));
		n = dht_request(request, DHT_FIND_NODE, (uint16_t)i, to, target);
		ret = ask(l, request, n, answer, &m);
		if (ret < 0)
			return ret;
		if (m.nb_closer == OG_DHT_K && m.id)
			return 0;
		nanosleep(&pause, NULL);
	}
	return -ETIMEDOUT;
}

static int store_record(struct load *l, const struct og_addr *to, const uint8_t topic[32],
	const struct og_dht_msg *lookup, uint16_t tid, struct og_rand *rand)
{
	uint8_t record[OG_DHT_RECORD_MAX], signature[OG_SIGNATURE_BYTES], seed[OG_SEED_BYTES];
	uint8_t value[LOAD_REQUEST_BYTES], request[LOAD_REQUEST_BYTES], answer[LOAD_REPLY_BYTES];
	struct og_dht_announce a = {.has_peer = true, .signature = signature};
	struct og_dht_msg m = {.tid = tid,
		.to = *to,
		.command = COMMAND_ANNOUNCE,
		.target = topic,
		.token = lookup->token,
		.has_value = true,
		.value = value};
	struct og_writer w = og_writer_of(record, sizeof(record));
	struct og_dht_msg reply;
	struct og_keypair keys;
	int ret;

	og_rand_fill(rand, seed, sizeof(seed));
	og_keypair_from_seed(&keys, seed);
	og_dht_peer_encode(&w, keys.public_key, NULL, 0);
	a.peer.raw = record;
	a.peer.raw_bytes = (uint32_t)og_writer_len(&w);
	ret = og_sign_announce(signature, &keys, og_ns_announce, topic, lookup->id, lookup->token,
		record, a.peer.raw_bytes, NULL);
	if (ret < 0)
		return ret;
	w = og_writer_of(value, sizeof(value));
	og_dht_announce_encode(&w, &a);
	m.value_bytes = (uint32_t)og_writer_len(&w);
	w = og_writer_of(request, sizeof(request));
	ret = og_dht_msg_encode(&m, &w);
	if (ret < 0)
		return ret;
	ret = ask(l, request, (uint16_t)og_writer_len(&w), answer, &reply);
	return ret < 0 ? ret : reply.error ? -EPERM : 0;
}

int dht_store_records(
	struct load *l, const struct og_addr *to, const uint8_t topic[32], struct og_rand *rand)
{
	uint8_t answer[LOAD_REPLY_BYTES], request[LOAD_REQUEST_BYTES];
	uint16_t n = dht_request(request, DHT_LOOKUP, 0, to, topic);
	struct og_dht_msg lookup;
	int ret = ask(l, request, n, answer, &lookup);

	if (ret == 0 && (!lookup.token || !lookup.id))
		ret = -EPROTO;
	for (uint16_t i = 0; ret == 0 && i < DHT_RECORDS; i++)
		ret = store_record(l, to, topic, &lookup, (uint16_t)(i + 1), rand);
	return ret;
}
