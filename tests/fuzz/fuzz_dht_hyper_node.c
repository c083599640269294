/*
 * A live node under a sequence of commands: each record of the input is one request with the
 * target, token and value that its first byte asks for, or a step of time. Curve operations are
 * told to succeed or fail by the input.
 */
#include "dht/dht.h"

#include "crypto/hash.h"
#include "crypto/job.h"

#include <errno.h>

enum { JOBS = 16 };

static struct og_dht *dht;
static struct og_rand rng;
static struct og_keypair kp;
static uint8_t tx_buf[1472], key_target[32];
static struct og_job draft, jobs[JOBS];
static unsigned nb_jobs;
static uint32_t nb_streams;
static uint8_t token[32];

static uint8_t *reserve(struct og_tx *tx, uint16_t *cap_bytes)
{
	*cap_bytes = sizeof(tx_buf);
	return tx_buf;
}

/* Tokens are taken from the replies, so that storing commands get past the check. */
static void commit(struct og_tx *tx, uint16_t endpoint, const struct og_addr *dst, uint8_t ttl,
	uint16_t len_bytes)
{
	struct og_dht_msg m;

	OG_ASSERT(len_bytes <= 1216);
	if (og_dht_msg_decode(&m, tx_buf, len_bytes) == 0 && m.reply && m.token)
		memcpy(token, m.token, sizeof(token));
}

static struct og_job *begin(struct og_jobs *j)
{
	return nb_jobs < JOBS ? &draft : NULL;
}

static void post(struct og_jobs *j, struct og_job *job)
{
	jobs[nb_jobs++] = *job;
}

static int stream_reserve(void *ctx, const uint8_t remote_key[32], uint64_t *stream,
	uint32_t *udx_id, uint64_t now_ns)
{
	if (nb_streams >= 8)
		return -ENOSPC;
	*stream = nb_streams++;
	*udx_id = (uint32_t)*stream;
	return 0;
}

static void stream_release(void *ctx, uint64_t stream, uint64_t now_ns)
{
	nb_streams--;
}

static void connected(void *ctx, const struct og_dht_conn *c, uint64_t now_ns)
{
	nb_streams--;
}

static const struct og_dht_ops ops = {
	.stream_reserve = stream_reserve, .stream_release = stream_release, .connected = connected};

static void create(void)
{
	static struct og_tx tx = {reserve, commit};
	static struct og_jobs queue = {begin, post};
	const struct og_addr self = {{127, 0, 0, 1}, 10001};
	struct og_dht_opts opts = {.rpc = {.local = {self},
					   .public_addr = self,
					   .ephemeral = OG_NO,
					   .firewalled = OG_NO,
					   .tx = &tx,
					   .rand = &rng,
					   .nb_requests = 64,
					   .nb_queries = 4},
		.keypair = &kp,
		.ops = &ops,
		.jobs = &queue,
		.nb_accepts = 8,
		.nb_connects = 2,
		.nb_topics = 2,
		.nb_value_ops = 1,
		.nb_verifies = 4,
		.store = {.nb_records = 64,
			.nb_routes = 64,
			.nb_bumps = 8,
			.nb_refreshes = 8,
			.nb_mutables = 4,
			.nb_immutables = 4,
			.wall_ms = 1}};

	OG_ASSERT(og_crypto_init() == 0);
	og_rand_seeded(&rng, 1);
	og_keypair_from_seed(&kp, (const uint8_t[32]){1});
	og_hash_one(key_target, kp.public_key, 32);
	OG_ASSERT(og_dht_create(&dht, &opts, OG_NS_PER_S) == 0);
	nb_jobs = nb_streams = 0;
	OG_ASSERT(og_dht_listen(dht, OG_NS_PER_S) == 0);
}

/* Jobs do not compute: a message read becomes its own payload. */
static void finish_jobs(bool fine, uint64_t now_ns)
{
	while (nb_jobs > 0) {
		struct og_job job = jobs[--nb_jobs];

		job.result = fine ? 0 : -EBADMSG;
		if (job.run == og_job_noise_accept) {
			struct og_job_noise_accept *w = OG_JOB_BODY(&job, noise_accept);

			w->payload_bytes = (uint16_t)(w->message_bytes - OG_NOISE_IK_1_OVERHEAD);
			memcpy(w->payload, w->message + OG_NOISE_IK_1_OVERHEAD, w->payload_bytes);
			memcpy(w->remote_key, w->message, sizeof(w->remote_key));
		} else if (job.run == og_job_noise_reply) {
			OG_JOB_BODY(&job, noise_reply)->message_bytes = 150;
		}
		og_dht_job_done(dht, &job, now_ns);
	}
}

static void request(struct og_reader *r, uint64_t now_ns)
{
	uint8_t what = og_read_u8(r), from = og_read_u8(r), len = og_read_u8(r);
	const uint8_t *value = og_read_bytes(r, len);
	struct og_addr src = {{127, 0, 0, (uint8_t)(2 + from % 4)}, (uint16_t)(1 + from)};
	uint8_t target[32] = {from}, buf[600];
	struct og_writer w = og_writer_of(buf, sizeof(buf));
	struct og_dht_msg m = {.tid = what,
		.to = {{127, 0, 0, 1}, 10001},
		.command = what & 15,
		.target = what & 64 ? key_target : target,
		.token = what & 16 ? token : NULL,
		.has_value = !(what & 32),
		.value = value,
		.value_bytes = len};

	if (!value)
		return;
	if (og_dht_msg_encode(&m, &w) == 0)
		og_dht_input(dht, 0, &src, buf, (uint16_t)og_writer_len(&w), now_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct og_reader r = og_reader_of(data, len_bytes);
	uint64_t now_ns = OG_NS_PER_S;

	create();
	for (int i = 0; i < 64 && og_reader_left(&r) > 0; i++) {
		uint8_t step = og_read_u8(&r);

		now_ns += (uint64_t)(step >> 2) * 200 * OG_NS_PER_MS;
		og_dht_tick(dht, now_ns);
		if (step & 1)
			finish_jobs(step & 2, now_ns);
		request(&r, now_ns);
		OG_ASSERT(og_dht_nb_accepts(dht) <= 8);
	}
	finish_jobs(true, now_ns);
	og_dht_tick(dht, now_ns + 30 * OG_NS_PER_S);
	og_dht_tick(dht, now_ns + 60 * OG_NS_PER_S);
	OG_ASSERT(og_dht_nb_half_open(dht) == 0);
	og_dht_destroy(dht);
	return 0;
}
