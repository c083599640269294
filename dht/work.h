/*
 * work.h: fills in the curve operations of the DHT, which run as jobs (crypto/job.h).
 *
 * Each function sets run and body of a job that og_jobs.begin() lent; the caller sets slot, gen,
 * kind and source_hash, and reads the results with OG_JOB_BODY().
 *
 * Source:  dht.md 7.3, 7.5, 9.4.
 * Threads: the core that posts.
 * Memory:  inside the job.
 */
#pragma once
#include "crypto/job.h"

struct og_rand;

/* What ANNOUNCE and UNANNOUNCE sign; `record` at most OG_JOB_VALUE_MAX bytes. */
struct og_dht_signed {
	bool unannounce;
	const uint8_t *target, *node_id, *token;
	const uint8_t *record;
	uint32_t record_bytes;
	const uint8_t *refresh; /* or NULL */
};

void og_dht_work_verify_announce(struct og_job *job, const struct og_dht_signed *what,
	const uint8_t public_key[32], const uint8_t signature[64]);
void og_dht_work_sign_announce(
	struct og_job *job, const struct og_dht_signed *what, const struct og_keypair *kp);
/* `value_bytes` at most OG_JOB_VALUE_MAX. */
void og_dht_work_verify_mutable(struct og_job *job, const uint8_t public_key[32], uint64_t seq,
	const uint8_t *value, uint32_t value_bytes, const uint8_t signature[64]);
void og_dht_work_sign_mutable(struct og_job *job, const struct og_keypair *kp, uint64_t seq,
	const uint8_t *value, uint32_t value_bytes);

/* Server: read message 1 (noise_accept), then write message 2 (noise_reply). */
void og_dht_work_accept(struct og_job *job, const struct og_keypair *kp, struct og_rand *rand,
	const uint8_t *message, uint32_t message_bytes);
void og_dht_work_reply(struct og_job *job, const struct og_noise *state, const uint8_t *payload,
	uint32_t payload_bytes);
/* Client: write message 1 (noise_connect), then read message 2 (noise_finish). */
void og_dht_work_connect(struct og_job *job, const struct og_keypair *kp, struct og_rand *rand,
	const uint8_t remote_key[32], const uint8_t *payload, uint32_t payload_bytes);
void og_dht_work_finish(struct og_job *job, const struct og_noise *state, const uint8_t *message,
	uint32_t message_bytes);
