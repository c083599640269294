/*
 * work.h: the curve operations of the DHT as jobs: filling them in, and reading their results.
 *
 * Each fill function sets run and body of a job that og_jobs.begin() lent; the caller sets slot,
 * gen, kind and source_hash. The readers are valid once job->result is 0.
 *
 * Source:  dht.md 7.3, 7.5, 9.4.
 * Threads: fill and read on the core that posts; run on any worker.
 * Memory:  inside the job; secrets in it are wiped by run() as far as the results allow.
 */
#pragma once
#include "base/core.h"
#include "crypto/noise.h"
#include "crypto/sign.h"

enum {
	OG_DHT_NOISE_MAX = 1000, /* bytes of a Noise message on the wire that we read */
	OG_DHT_ANNOUNCE_RECORD_MAX = 1000,
};

/* What ANNOUNCE and UNANNOUNCE sign; `record` at most OG_DHT_ANNOUNCE_RECORD_MAX bytes. */
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
void og_dht_work_verify_mutable(struct og_job *job, const uint8_t public_key[32], uint64_t seq,
	const uint8_t *value, uint32_t value_bytes, const uint8_t signature[64]);
void og_dht_work_sign_mutable(struct og_job *job, const struct og_keypair *kp, uint64_t seq,
	const uint8_t *value, uint32_t value_bytes);
const uint8_t *og_dht_work_signature(const struct og_job *job);

/* Message 1, read by the server. Results: payload, the state for the answer, the client's key. */
void og_dht_work_accept(struct og_job *job, const struct og_keypair *kp, const uint8_t *message,
	uint32_t message_bytes);
/* Message 2, written by the server. Results: message, keys. */
void og_dht_work_answer(struct og_job *job, const struct og_noise *state, const uint8_t seed[32],
	const uint8_t *payload, uint32_t payload_bytes);
/* Message 1, written by the client. Results: message, the state for the answer. */
void og_dht_work_connect(struct og_job *job, const struct og_keypair *kp,
	const uint8_t remote_key[32], const uint8_t seed[32], const uint8_t *payload,
	uint32_t payload_bytes);
/* Message 2, read by the client, from a copy of the state. Results: payload, keys. */
void og_dht_work_finish(struct og_job *job, const struct og_noise *state, const uint8_t *message,
	uint32_t message_bytes);

const struct og_noise *og_dht_work_state(const struct og_job *job);
const struct og_noise_keys *og_dht_work_keys(const struct og_job *job);
/* The payload that was read, or the message that was written. */
const uint8_t *og_dht_work_bytes(const struct og_job *job, uint32_t *len_bytes);
/* Wipes what is secret in a finished job; call when its results have been taken. */
void og_dht_work_wipe(struct og_job *job);
