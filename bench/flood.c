#include "bench/flood.h"

#include "base/bytes.h"
#include "bench/bench.h"
#include "bench/dht_requests.h"
#include "bench/serve.h"
#include "crypto/hash.h"
#include "crypto/job.h"
#include "crypto/namespaces.h"
#include "dht/values.h"
#include "dht/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* dht.md 7 and 9 */
enum { COMMAND_HANDSHAKE = 0, COMMAND_ANNOUNCE = 4 };

enum {
	BATCH = 64,
	DATAGRAM_BYTES = 512,
	GARBAGE_BYTES = 120,
	PAYLOAD_BYTES = 100,
	REAL_PER_S = 2000,
	NICE = 10, /* the probes beside it come first */
};

const char *const flood_names[FLOOD_KINDS] = {
	[FLOOD_GARBAGE] = "garbage",
	[FLOOD_HALF_VALID] = "half-valid",
	[FLOOD_PING] = "ping",
	[FLOOD_FIND_NODE] = "find_node",
	[FLOOD_LOOKUP] = "lookup",
	[FLOOD_BOGUS_HANDSHAKE] = "bogus-handshake",
	[FLOOD_POINT_HANDSHAKE] = "point-handshake",
	[FLOOD_BAD_ANNOUNCE] = "bad-announce",
	[FLOOD_REAL_HANDSHAKE] = "real-handshake",
};

struct flood {
	enum flood_kind kind;
	int fd;
	struct og_rand rand;
	struct og_addr to;
	uint8_t public_key[OG_KEY_BYTES];
	uint64_t counter;
	uint16_t vary_at; /* where the counter goes; 0: nowhere */
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	uint8_t data[BATCH][DATAGRAM_BYTES];
	struct og_job job; /* for real handshakes */
};

static uint16_t encode(uint8_t out[DATAGRAM_BYTES], const struct og_dht_msg *m)
{
	struct og_writer w = og_writer_of(out, DATAGRAM_BYTES);

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

static uint16_t handshake(struct flood *f, uint8_t *out, const uint8_t *noise, uint32_t noise_bytes)
{
	struct og_dht_handshake h = {
		.mode = OG_DHT_FROM_CLIENT, .noise = noise, .noise_bytes = noise_bytes};
	uint8_t target[OG_HASH_BYTES], value[DATAGRAM_BYTES];
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

static uint16_t make_bogus(struct flood *f, uint8_t *out, bool with_point)
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

static uint16_t make_real(struct flood *f, uint8_t *out)
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

static uint16_t make_announce(struct flood *f, uint8_t *out)
{
	uint8_t target[OG_DHT_ID_BYTES], request[LOAD_REQUEST_BYTES], answer[LOAD_REPLY_BYTES];
	uint8_t record[OG_DHT_RECORD_MAX], signature[OG_SIGNATURE_BYTES], value[DATAGRAM_BYTES];
	struct og_dht_announce a = {.has_peer = true, .signature = signature};
	struct og_dht_msg m = {.to = f->to,
		.command = COMMAND_ANNOUNCE,
		.target = target,
		.has_value = true,
		.value = value};
	struct og_dht_msg lookup;
	struct og_writer w;
	ssize_t got = -1;
	uint16_t n;

	og_rand_fill(&f->rand, target, sizeof(target));
	og_rand_fill(&f->rand, signature, sizeof(signature));
	n = dht_request(request, DHT_LOOKUP, 1, &f->to, target);
	if (send(f->fd, request, n, 0) == n)
		got = recv(f->fd, answer, sizeof(answer), 0);
	if (got < 0 || og_dht_msg_decode(&lookup, answer, (size_t)got) < 0 || !lookup.token)
		return 0;
	w = og_writer_of(record, sizeof(record));
	og_dht_peer_encode(&w, f->public_key, NULL, 0);
	a.peer.raw = record;
	a.peer.raw_bytes = (uint32_t)og_writer_len(&w);
	w = og_writer_of(value, sizeof(value));
	og_dht_announce_encode(&w, &a);
	m.value_bytes = (uint32_t)og_writer_len(&w);
	m.token = lookup.token;
	n = encode(out, &m);
	f->vary_at = offset_of(out, n, signature, sizeof(signature));
	return n;
}

static uint16_t make(struct flood *f, uint8_t *out)
{
	uint8_t target[OG_DHT_ID_BYTES], request[LOAD_REQUEST_BYTES];
	uint16_t n;

	switch (f->kind) {
	case FLOOD_GARBAGE:
	case FLOOD_HALF_VALID:
		og_rand_fill(&f->rand, out, GARBAGE_BYTES);
		out[0] = f->kind == FLOOD_GARBAGE ? 0x77 : 0x03;
		f->vary_at = 16;
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
		f->vary_at = f->kind == FLOOD_PING ? 0 : (uint16_t)(n - 8);
		return n;
	}
}

static uint64_t drain(struct flood *f)
{
	static uint8_t data[BATCH][LOAD_REPLY_BYTES];
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	uint64_t answers = 0;
	int n;

	do {
		for (int i = 0; i < BATCH; i++) {
			iov[i] = (struct iovec){data[i], sizeof(data[i])};
			msgs[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
		}
		n = recvmmsg(f->fd, msgs, BATCH, MSG_DONTWAIT, NULL);
		answers += (uint64_t)OG_MAX(n, 0);
	} while (n == BATCH);
	return answers;
}

static void vary(struct flood *f)
{
	for (int i = 0; i < BATCH; i++)
		if (f->vary_at > 0)
			og_store_le64(f->data[i] + f->vary_at, ++f->counter);
}

/* As fast as this core can. */
static void run_fast(struct flood *f, uint64_t end_ns, uint64_t *sent, uint64_t *answers)
{
	while (bench_now_ns() < end_ns) {
		int n;

		vary(f);
		n = sendmmsg(f->fd, f->msgs, BATCH, 0);
		*sent += (uint64_t)OG_MAX(n, 0);
		*answers += drain(f);
	}
}

/* One at a time, each made for itself, REAL_PER_S of them. */
static void run_real(struct flood *f, uint64_t end_ns, uint64_t *sent, uint64_t *answers)
{
	uint64_t start_ns = bench_now_ns(), now_ns = start_ns;

	for (; now_ns < end_ns; now_ns = bench_now_ns()) {
		const struct timespec pause = {.tv_nsec = 200 * OG_NS_PER_US};
		uint64_t due = (now_ns - start_ns) * REAL_PER_S / OG_NS_PER_S;
		uint16_t n;

		*answers += drain(f);
		if (*sent >= due) {
			nanosleep(&pause, NULL);
			continue;
		}
		f->counter++;
		n = make_real(f, f->data[0]);
		*sent += send(f->fd, f->data[0], n, 0) == n;
	}
}

static void obey(struct flood *f)
{
	unsigned long ns;
	char line[64];

	while (fgets(line, sizeof(line), stdin)) {
		uint64_t start_ns = bench_now_ns(), sent = 0, answers = 0;

		if (sscanf(line, "run %lu", &ns) != 1)
			continue;
		if (f->kind == FLOOD_REAL_HANDSHAKE)
			run_real(f, start_ns + ns, &sent, &answers);
		else
			run_fast(f, start_ns + ns, &sent, &answers);
		printf("done %lu %lu %lu\n", (unsigned long)(bench_now_ns() - start_ns),
			(unsigned long)sent, (unsigned long)answers);
		fflush(stdout);
	}
}

static int parse(struct flood *f, int argc, char **argv)
{
	if (argc != 3 || og_addr_parse(&f->to, argv[1]) < 0 ||
		og_hex_decode(f->public_key, OG_KEY_BYTES, argv[2], strlen(argv[2])) < 0)
		return -EINVAL;
	for (int i = 0; i < FLOOD_KINDS; i++) {
		if (strcmp(flood_names[i], argv[0]) != 0)
			continue;
		f->kind = (enum flood_kind)i;
		return 0;
	}
	return -EINVAL;
}

int serve_flood(int argc, char **argv)
{
	static struct flood f;
	struct sockaddr_in to = {.sin_family = AF_INET};
	const struct timeval patience = {.tv_sec = 2};

	if (parse(&f, argc, argv) < 0)
		return BENCH_USAGE;
	og_rand_system(&f.rand);
	memcpy(&to.sin_addr, f.to.ip, 4);
	to.sin_port = htons(f.to.port);
	f.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (f.fd < 0 || connect(f.fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
		setsockopt(f.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		return BENCH_FAILED;
	setpriority(PRIO_PROCESS, 0, NICE);
	for (int i = 0; i < BATCH; i++) {
		uint16_t n = make(&f, f.data[i]);

		if (n == 0)
			return BENCH_FAILED;
		f.iov[i] = (struct iovec){f.data[i], n};
		f.msgs[i].msg_hdr = (struct msghdr){.msg_iov = &f.iov[i], .msg_iovlen = 1};
		f.counter++;
	}
	puts("ready flood");
	fflush(stdout);
	obey(&f);
	return BENCH_DONE;
}
