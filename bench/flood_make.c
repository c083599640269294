#include "bench/flood_make.h"

#include "base/stream_tag.h"
#include "bench/dht_requests.h"
#include "crypto/hash.h"
#include "crypto/namespaces.h"
#include "dht/values.h"
#include "dht/wire.h"

#include <errno.h>
#include <string.h>

/* dht.md 7 and 9 */
enum { COMMAND_HANDSHAKE = 0, COMMAND_ANNOUNCE = 4 };

enum { GARBAGE_BYTES = 120, PAYLOAD_BYTES = 100 };

const char *const flood_names[FLOOD_KINDS] = {
	[FLOOD_GARBAGE] = "garbage",
	[FLOOD_HALF_VALID] = "half-valid",
	[FLOOD_STRAY] = "stray-packets",
	[FLOOD_PING] = "ping",
	[FLOOD_FIND_NODE] = "find_node",
	[FLOOD_LOOKUP] = "lookup",
	[FLOOD_BOGUS_HANDSHAKE] = "bogus-handshake",
	[FLOOD_POINT_HANDSHAKE] = "point-handshake",
	[FLOOD_BAD_ANNOUNCE] = "bad-announce",
	[FLOOD_REAL_HANDSHAKE] = "real-handshake",
};

static uint16_t encode(uint8_t out[FLOOD_BYTES], const struct og_dht_msg *m)
{
	struct og_writer w = og_writer_of(out, FLOOD_BYTES);

	OG_ASSERT(og_dht_msg_encode(m, &w) == 0);
	return (uint16_t)og_writer_len(&w);
}

/* Where `part` stands in the datagram, so that it can be varied. */
static uint16_t offset_of(const uint8_t *data, uint16_t n, const uint8_t *part, size_t part_bytes)
{
	const uint8_t *at = memmem(data, n, part, part_bytes);

	OG_ASSERT(at);
	return (uint16_t)(at - data);
}

static uint16_t handshake(
	struct flood_maker *f, uint8_t *out, const uint8_t *noise, uint32_t noise_bytes)
{
	struct og_dht_handshake h = {
		.mode = OG_DHT_FROM_CLIENT, .noise = noise, .noise_bytes = noise_bytes};
	uint8_t target[OG_HASH_BYTES], value[FLOOD_BYTES];
	struct og_writer w = og_writer_of(value, sizeof(value));
	struct og_dht_msg m = {.tid = (uint16_t)f->counter,
		.to = f->to,
		.command = COMMAND_HANDSHAKE,
		.target = target,
		.has_value = true,
		.value = value};

	og_hash_one(target, f->public_key, sizeof(f->public_key));
	og_dht_handshake_encode(&w, &h);
	m.value_bytes = (uint32_t)og_writer_len(&w);
	return encode(out, &m);
}

static uint16_t make_bogus(struct flood_maker *f, uint8_t *out, bool with_point)
{
	uint8_t noise[OG_NOISE_IK_1_OVERHEAD + PAYLOAD_BYTES];
	uint8_t seed[OG_SEED_BYTES];
	struct og_keypair keys;
	uint16_t n;

	og_rand_fill(&f->rand, noise, sizeof(noise));
	if (with_point) {
		og_rand_fill(&f->rand, seed, sizeof(seed));
		og_keypair_from_seed(&keys, seed);
		memcpy(noise, keys.public_key, sizeof(keys.public_key));
	}
	n = handshake(f, out, noise, sizeof(noise));
	f->vary_at = offset_of(out, n, noise + sizeof(noise) - 8, 8);
	return n;
}

static uint16_t make_real(struct flood_maker *f, uint8_t *out)
{
	struct og_job_noise_connect *c = OG_JOB_BODY(&f->job, noise_connect);
	struct og_writer w = og_writer_of(c->payload, sizeof(c->payload));
	struct og_dht_payload payload = {.version = 1,
		.firewall = OG_DHT_FIREWALL_OPEN,
		.has_udx = true,
		.udx_id = og_rand_u32(&f->rand),
		.has_stream = true};
	uint8_t seed[OG_SEED_BYTES];

	og_rand_fill(&f->rand, seed, sizeof(seed));
	og_keypair_from_seed(&c->local, seed);
	memcpy(c->remote_key, f->public_key, sizeof(c->remote_key));
	memcpy(c->prologue, og_ns_peer_handshake, sizeof(c->prologue));
	og_rand_fill(&f->rand, c->ephemeral_seed, sizeof(c->ephemeral_seed));
	og_dht_payload_encode(&w, &payload);
	c->payload_bytes = (uint16_t)og_writer_len(&w);
	og_job_noise_connect(&f->job);
	OG_ASSERT(f->job.result == 0);
	return handshake(f, out, c->message, c->message_bytes);
}

static uint16_t make_announce(struct flood_maker *f, uint8_t *out)
{
	uint8_t target[OG_DHT_ID_BYTES], record[OG_DHT_RECORD_MAX];
	uint8_t signature[OG_SIGNATURE_BYTES], value[FLOOD_BYTES];
	struct og_dht_announce a = {.has_peer = true, .signature = signature};
	struct og_dht_msg m = {.to = f->to,
		.command = COMMAND_ANNOUNCE,
		.target = target,
		.token = f->token,
		.has_value = true,
		.value = value};
	struct og_writer w;
	uint16_t n;

	og_rand_fill(&f->rand, target, sizeof(target));
	og_rand_fill(&f->rand, signature, sizeof(signature));
	w = og_writer_of(record, sizeof(record));
	og_dht_peer_encode(&w, f->public_key, NULL, 0);
	a.peer.raw = record;
	a.peer.raw_bytes = (uint32_t)og_writer_len(&w);
	w = og_writer_of(value, sizeof(value));
	og_dht_announce_encode(&w, &a);
	m.value_bytes = (uint32_t)og_writer_len(&w);
	n = encode(out, &m);
	f->vary_at = offset_of(out, n, signature, sizeof(signature));
	return n;
}

uint16_t flood_make(struct flood_maker *f, uint8_t out[FLOOD_BYTES])
{
	uint8_t target[OG_DHT_ID_BYTES], request[LOAD_REQUEST_BYTES];
	uint16_t n;

	f->counter++;
	f->vary_at = 0;
	switch (f->kind) {
	case FLOOD_GARBAGE:
	case FLOOD_HALF_VALID:
		og_rand_fill(&f->rand, out, GARBAGE_BYTES);
		out[0] = f->kind == FLOOD_GARBAGE ? 0x77 : 0x03;
		f->vary_at = 1; /* what the flags say decides what it costs */
		return GARBAGE_BYTES;
	case FLOOD_STRAY:
		og_rand_fill(&f->rand, out, GARBAGE_BYTES);
		out[0] = OG_STREAM_BYTE;
		out[1] = 1;
		f->vary_at = OG_STREAM_ID_AT;
		return GARBAGE_BYTES;
	case FLOOD_BOGUS_HANDSHAKE:
	case FLOOD_POINT_HANDSHAKE:
		return make_bogus(f, out, f->kind == FLOOD_POINT_HANDSHAKE);
	case FLOOD_BAD_ANNOUNCE:
		return make_announce(f, out);
	case FLOOD_REAL_HANDSHAKE:
		return make_real(f, out);
	default:
		og_rand_fill(&f->rand, target, sizeof(target));
		n = dht_request(request, (enum dht_request)(f->kind - FLOOD_PING),
			(uint16_t)f->counter, &f->to, target);
		memcpy(out, request, n);
		if (f->kind != FLOOD_PING)
			f->vary_at = (uint16_t)(n - 8);
		return n;
	}
}

void flood_vary(struct flood_maker *f, uint8_t *data)
{
	uint64_t x = ++f->counter * 0x9e3779b97f4a7c15ull;

	if (f->vary_at > 0)
		og_store_le64(data + f->vary_at, x ^ x >> 32);
}

int flood_init(struct flood_maker *f, const char *kind, const char *to, const char *public_key)
{
	if (og_addr_parse(&f->to, to) < 0 ||
		og_hex_decode(f->public_key, OG_KEY_BYTES, public_key, strlen(public_key)) < 0)
		return -EINVAL;
	og_rand_system(&f->rand);
	for (int i = 0; i < FLOOD_KINDS; i++) {
		if (strcmp(flood_names[i], kind) != 0)
			continue;
		f->kind = (enum flood_kind)i;
		return 0;
	}
	return -EINVAL;
}

uint16_t flood_ask_token(struct flood_maker *f, uint8_t out[LOAD_REQUEST_BYTES])
{
	uint8_t target[OG_DHT_ID_BYTES];

	og_rand_fill(&f->rand, target, sizeof(target));
	return dht_request(out, DHT_LOOKUP, 1, &f->to, target);
}

int flood_take_token(struct flood_maker *f, const uint8_t *answer, size_t len_bytes)
{
	struct og_dht_msg lookup;

	if (og_dht_msg_decode(&lookup, answer, len_bytes) < 0 || !lookup.token)
		return -EBADMSG;
	memcpy(f->token, lookup.token, sizeof(f->token));
	return 0;
}
