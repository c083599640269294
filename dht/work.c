#include "dht/work.h"

#include "crypto/namespaces.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

/* Both signature works begin with the signature. */
struct announce_work {
	uint8_t signature[64];
	struct og_keypair kp; /* signing; verifying: only the public key is set */
	uint8_t target[32], node_id[32], token[32], refresh[32];
	bool unannounce, has_refresh;
	uint32_t record_bytes;
	uint8_t record[OG_DHT_ANNOUNCE_RECORD_MAX];
};
static_assert(sizeof(struct announce_work) <= OG_JOB_BODY_BYTES, "fits a job");

struct mutable_work {
	uint8_t signature[64];
	struct og_keypair kp;
	uint64_t seq;
	uint32_t value_bytes;
	uint8_t value[1100];
};
static_assert(sizeof(struct mutable_work) <= OG_JOB_BODY_BYTES, "fits a job");

struct noise_work {
	struct og_noise state;
	struct og_noise_keys keys;
	struct og_keypair kp;
	uint8_t remote_key[32];
	uint8_t seed[32]; /* of the ephemeral key */
	uint32_t in_bytes;
	uint32_t out_bytes;
	uint8_t in[OG_DHT_NOISE_MAX];
	uint8_t out[OG_DHT_NOISE_MAX];
};
static_assert(sizeof(struct noise_work) <= OG_JOB_BODY_BYTES, "fits a job");

static void *body_of(struct og_job *job, size_t bytes)
{
	memset(job->body, 0, bytes);
	job->result = 0;
	return job->body;
}

/* ---- Signatures ---- */

static void run_verify_announce(struct og_job *job)
{
	const struct announce_work *w = (const void *)job->body;

	job->result = og_verify_announce(w->signature, w->kp.public_key,
		w->unannounce ? og_ns_unannounce : og_ns_announce, w->target, w->node_id, w->token,
		w->record, w->record_bytes, w->has_refresh ? w->refresh : NULL);
}

static void run_sign_announce(struct og_job *job)
{
	struct announce_work *w = (void *)job->body;

	job->result = og_sign_announce(w->signature, &w->kp,
		w->unannounce ? og_ns_unannounce : og_ns_announce, w->target, w->node_id, w->token,
		w->record, w->record_bytes, w->has_refresh ? w->refresh : NULL);
	og_keypair_wipe(&w->kp);
}

static struct announce_work *fill_announce(struct og_job *job, const struct og_dht_signed *what)
{
	struct announce_work *w = body_of(job, sizeof(*w));

	OG_DASSERT(what->record_bytes <= sizeof(w->record));
	w->unannounce = what->unannounce;
	memcpy(w->target, what->target, 32);
	memcpy(w->node_id, what->node_id, 32);
	memcpy(w->token, what->token, 32);
	w->has_refresh = what->refresh != NULL;
	if (what->refresh)
		memcpy(w->refresh, what->refresh, 32);
	w->record_bytes = what->record_bytes;
	memcpy(w->record, what->record, what->record_bytes);
	return w;
}

void og_dht_work_verify_announce(struct og_job *job, const struct og_dht_signed *what,
	const uint8_t public_key[32], const uint8_t signature[64])
{
	struct announce_work *w = fill_announce(job, what);

	memcpy(w->kp.public_key, public_key, 32);
	memcpy(w->signature, signature, 64);
	job->run = run_verify_announce;
}

void og_dht_work_sign_announce(
	struct og_job *job, const struct og_dht_signed *what, const struct og_keypair *kp)
{
	fill_announce(job, what)->kp = *kp;
	job->run = run_sign_announce;
}

static void run_verify_mutable(struct og_job *job)
{
	const struct mutable_work *w = (const void *)job->body;

	job->result =
		og_verify_mutable(w->signature, w->kp.public_key, w->seq, w->value, w->value_bytes);
}

static void run_sign_mutable(struct og_job *job)
{
	struct mutable_work *w = (void *)job->body;

	job->result = og_sign_mutable(w->signature, &w->kp, w->seq, w->value, w->value_bytes);
	og_keypair_wipe(&w->kp);
}

static struct mutable_work *fill_mutable(
	struct og_job *job, uint64_t seq, const uint8_t *value, uint32_t value_bytes)
{
	struct mutable_work *w = body_of(job, sizeof(*w));

	OG_DASSERT(value_bytes <= sizeof(w->value));
	w->seq = seq;
	w->value_bytes = value_bytes;
	memcpy(w->value, value, value_bytes);
	return w;
}

void og_dht_work_verify_mutable(struct og_job *job, const uint8_t public_key[32], uint64_t seq,
	const uint8_t *value, uint32_t value_bytes, const uint8_t signature[64])
{
	struct mutable_work *w = fill_mutable(job, seq, value, value_bytes);

	memcpy(w->kp.public_key, public_key, 32);
	memcpy(w->signature, signature, 64);
	job->run = run_verify_mutable;
}

void og_dht_work_sign_mutable(struct og_job *job, const struct og_keypair *kp, uint64_t seq,
	const uint8_t *value, uint32_t value_bytes)
{
	fill_mutable(job, seq, value, value_bytes)->kp = *kp;
	job->run = run_sign_mutable;
}

static_assert(offsetof(struct announce_work, signature) == 0, "found without the kind");
static_assert(offsetof(struct mutable_work, signature) == 0, "found without the kind");

const uint8_t *og_dht_work_signature(const struct og_job *job)
{
	return job->body;
}

/* ---- Noise ---- */

static int read_message(struct noise_work *w)
{
	size_t out_bytes;
	int ret = og_noise_read(&w->state, w->in, w->in_bytes, w->out, sizeof(w->out), &out_bytes);

	w->out_bytes = ret < 0 ? 0 : (uint32_t)out_bytes;
	return ret;
}

static int write_message(struct noise_work *w)
{
	size_t out_bytes;
	int ret = og_noise_write(&w->state, w->in, w->in_bytes, w->out, sizeof(w->out), &out_bytes);

	w->out_bytes = ret < 0 ? 0 : (uint32_t)out_bytes;
	return ret;
}

static void run_accept(struct og_job *job)
{
	struct noise_work *w = (void *)job->body;

	job->result = og_noise_init(&w->state, OG_NOISE_IK, false, &w->kp, NULL,
		og_ns_peer_handshake, sizeof(og_ns_peer_handshake));
	if (job->result == 0)
		job->result = read_message(w);
	og_keypair_wipe(&w->kp);
}

static void finish_and_split(struct og_job *job, struct noise_work *w)
{
	if (job->result == 0 && !og_noise_done(&w->state))
		job->result = -EPROTO;
	if (job->result == 0)
		og_noise_split(&w->state, &w->keys);
	og_noise_wipe(&w->state);
}

static void run_answer(struct og_job *job)
{
	struct noise_work *w = (void *)job->body;

	og_noise_set_ephemeral(&w->state, w->seed);
	sodium_memzero(w->seed, sizeof(w->seed));
	job->result = write_message(w);
	finish_and_split(job, w);
}

static void run_connect(struct og_job *job)
{
	struct noise_work *w = (void *)job->body;

	job->result = og_noise_init(&w->state, OG_NOISE_IK, true, &w->kp, w->remote_key,
		og_ns_peer_handshake, sizeof(og_ns_peer_handshake));
	og_noise_set_ephemeral(&w->state, w->seed);
	sodium_memzero(w->seed, sizeof(w->seed));
	if (job->result == 0)
		job->result = write_message(w);
	og_keypair_wipe(&w->kp);
}

static void run_finish(struct og_job *job)
{
	struct noise_work *w = (void *)job->body;

	job->result = read_message(w);
	finish_and_split(job, w);
}

static struct noise_work *fill_noise(
	struct og_job *job, void (*run)(struct og_job *), const uint8_t *in, uint32_t in_bytes)
{
	struct noise_work *w = body_of(job, offsetof(struct noise_work, in));

	OG_DASSERT(in_bytes <= sizeof(w->in));
	memcpy(w->in, in, in_bytes);
	w->in_bytes = in_bytes;
	job->run = run;
	return w;
}

void og_dht_work_accept(struct og_job *job, const struct og_keypair *kp, const uint8_t *message,
	uint32_t message_bytes)
{
	fill_noise(job, run_accept, message, message_bytes)->kp = *kp;
}

void og_dht_work_answer(struct og_job *job, const struct og_noise *state, const uint8_t seed[32],
	const uint8_t *payload, uint32_t payload_bytes)
{
	struct noise_work *w = fill_noise(job, run_answer, payload, payload_bytes);

	w->state = *state;
	memcpy(w->seed, seed, sizeof(w->seed));
}

void og_dht_work_connect(struct og_job *job, const struct og_keypair *kp,
	const uint8_t remote_key[32], const uint8_t seed[32], const uint8_t *payload,
	uint32_t payload_bytes)
{
	struct noise_work *w = fill_noise(job, run_connect, payload, payload_bytes);

	w->kp = *kp;
	memcpy(w->remote_key, remote_key, sizeof(w->remote_key));
	memcpy(w->seed, seed, sizeof(w->seed));
}

void og_dht_work_finish(struct og_job *job, const struct og_noise *state, const uint8_t *message,
	uint32_t message_bytes)
{
	fill_noise(job, run_finish, message, message_bytes)->state = *state;
}

const struct og_noise *og_dht_work_state(const struct og_job *job)
{
	return &((const struct noise_work *)(const void *)job->body)->state;
}

const struct og_noise_keys *og_dht_work_keys(const struct og_job *job)
{
	return &((const struct noise_work *)(const void *)job->body)->keys;
}

const uint8_t *og_dht_work_bytes(const struct og_job *job, uint32_t *len_bytes)
{
	const struct noise_work *w = (const void *)job->body;

	*len_bytes = w->out_bytes;
	return w->out;
}

void og_dht_work_wipe(struct og_job *job)
{
	sodium_memzero(job->body, sizeof(job->body));
}
