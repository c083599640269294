#include "dht/work.h"

#include "base/rand.h"
#include "crypto/namespaces.h"

#include <string.h>

static void fill_announcement(struct og_job_announcement *a, const struct og_dht_signed *what)
{
	OG_DASSERT(what->record_bytes <= sizeof(a->peer_record));
	memcpy(a->ns, what->unannounce ? og_ns_unannounce : og_ns_announce, sizeof(a->ns));
	memcpy(a->target, what->target, sizeof(a->target));
	memcpy(a->node_id, what->node_id, sizeof(a->node_id));
	memcpy(a->token, what->token, sizeof(a->token));
	a->has_refresh = what->refresh != NULL;
	if (what->refresh)
		memcpy(a->refresh, what->refresh, sizeof(a->refresh));
	a->peer_record_bytes = (uint16_t)what->record_bytes;
	memcpy(a->peer_record, what->record, what->record_bytes);
}

void og_dht_work_verify_announce(struct og_job *job, const struct og_dht_signed *what,
	const uint8_t public_key[32], const uint8_t signature[64])
{
	struct og_job_verify_announce *w = OG_JOB_BODY(job, verify_announce);

	job->run = og_job_verify_announce;
	memcpy(w->public_key, public_key, sizeof(w->public_key));
	memcpy(w->signature, signature, sizeof(w->signature));
	fill_announcement(&w->announcement, what);
}

void og_dht_work_sign_announce(
	struct og_job *job, const struct og_dht_signed *what, const struct og_keypair *kp)
{
	struct og_job_sign_announce *w = OG_JOB_BODY(job, sign_announce);

	job->run = og_job_sign_announce;
	w->local = *kp;
	fill_announcement(&w->announcement, what);
}

void og_dht_work_verify_mutable(struct og_job *job, const uint8_t public_key[32], uint64_t seq,
	const uint8_t *value, uint32_t value_bytes, const uint8_t signature[64])
{
	struct og_job_verify_mutable *w = OG_JOB_BODY(job, verify_mutable);

	OG_DASSERT(value_bytes <= sizeof(w->value));
	job->run = og_job_verify_mutable;
	memcpy(w->public_key, public_key, sizeof(w->public_key));
	memcpy(w->signature, signature, sizeof(w->signature));
	w->seq = seq;
	w->value_bytes = (uint16_t)value_bytes;
	memcpy(w->value, value, value_bytes);
}

void og_dht_work_sign_mutable(struct og_job *job, const struct og_keypair *kp, uint64_t seq,
	const uint8_t *value, uint32_t value_bytes)
{
	struct og_job_sign_mutable *w = OG_JOB_BODY(job, sign_mutable);

	OG_DASSERT(value_bytes <= sizeof(w->value));
	job->run = og_job_sign_mutable;
	w->local = *kp;
	w->seq = seq;
	w->value_bytes = (uint16_t)value_bytes;
	memcpy(w->value, value, value_bytes);
}

void og_dht_work_accept(struct og_job *job, const struct og_keypair *kp, struct og_rand *rand,
	const uint8_t *message, uint32_t message_bytes)
{
	struct og_job_noise_accept *w = OG_JOB_BODY(job, noise_accept);

	OG_DASSERT(message_bytes <= sizeof(w->message));
	job->run = og_job_noise_accept;
	w->local = *kp;
	memcpy(w->prologue, og_ns_peer_handshake, sizeof(w->prologue));
	og_rand_fill(rand, w->ephemeral_seed, sizeof(w->ephemeral_seed));
	w->message_bytes = (uint16_t)message_bytes;
	memcpy(w->message, message, message_bytes);
}

void og_dht_work_reply(struct og_job *job, const struct og_noise *state, const uint8_t *payload,
	uint32_t payload_bytes)
{
	struct og_job_noise_reply *w = OG_JOB_BODY(job, noise_reply);

	OG_DASSERT(payload_bytes <= sizeof(w->payload));
	job->run = og_job_noise_reply;
	w->state = *state;
	w->payload_bytes = (uint16_t)payload_bytes;
	memcpy(w->payload, payload, payload_bytes);
}

void og_dht_work_connect(struct og_job *job, const struct og_keypair *kp, struct og_rand *rand,
	const uint8_t remote_key[32], const uint8_t *payload, uint32_t payload_bytes)
{
	struct og_job_noise_connect *w = OG_JOB_BODY(job, noise_connect);

	OG_DASSERT(payload_bytes <= sizeof(w->payload));
	job->run = og_job_noise_connect;
	w->local = *kp;
	memcpy(w->remote_key, remote_key, sizeof(w->remote_key));
	memcpy(w->prologue, og_ns_peer_handshake, sizeof(w->prologue));
	og_rand_fill(rand, w->ephemeral_seed, sizeof(w->ephemeral_seed));
	w->payload_bytes = (uint16_t)payload_bytes;
	memcpy(w->payload, payload, payload_bytes);
}

void og_dht_work_finish(struct og_job *job, const struct og_noise *state, const uint8_t *message,
	uint32_t message_bytes)
{
	struct og_job_noise_finish *w = OG_JOB_BODY(job, noise_finish);

	OG_DASSERT(message_bytes <= sizeof(w->message));
	job->run = og_job_noise_finish;
	w->state = *state;
	w->message_bytes = (uint16_t)message_bytes;
	memcpy(w->message, message, message_bytes);
}
