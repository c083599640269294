/*
 * job.h: what the crypto workers run: handshakes and signatures as values.
 *
 * The poster takes an empty struct og_job, sets run to one of the functions below, fills the "in"
 * part of the body of the same name (OG_JOB_BODY), and reads the "out" part when the job is back
 * and its result is 0. Every other result is a negative errno, and "out" means nothing then. A run
 * wipes the secrets that it was given and does not hand back; the poster wipes what it gets.
 *
 *   server: noise_accept, then, once the payload is judged, noise_reply
 *   client: noise_connect, then noise_finish with a copy of the state for each reply that arrives
 *
 * Source:  noise-stream.md 2 and 3, dht.md 7.3, 7.5 and 9.4.
 * Units:   bytes. A length over the size of its array is -EMSGSIZE.
 * Threads: a run touches its job only; any worker may run it.
 * Memory:  everything is inside the job.
 */
#pragma once
#include "base/core.h"
#include "crypto/noise.h"
#include "crypto/sign.h"

enum {
	OG_JOB_CONTEXT_BYTES = 128,
	OG_JOB_PAYLOAD_MAX = 1024, /* of a handshake message */
	OG_JOB_MESSAGE_1_MAX = OG_JOB_PAYLOAD_MAX + OG_NOISE_IK_1_OVERHEAD,
	OG_JOB_MESSAGE_2_MAX = OG_JOB_PAYLOAD_MAX + OG_NOISE_IK_2_OVERHEAD,
	OG_JOB_VALUE_MAX = 1472, /* peer records and mutable values: what a datagram can hold */
};

/* The body of `job` as a struct og_job_<name>. */
#define OG_JOB_BODY(job, name) ((struct og_job_##name *)(void *)(job)->body)

/* The poster's own bytes, which come back as they went: who asked, what to do next. */
struct og_job_context {
	alignas(16) uint8_t bytes[OG_JOB_CONTEXT_BYTES];
};

/* Read message 1 of IK. -EBADMSG: not for us, or forged. */
struct og_job_noise_accept {
	struct og_job_context context;
	/* in */
	struct og_keypair local;
	uint8_t prologue[32];
	uint8_t ephemeral_seed[OG_SEED_BYTES]; /* fresh: for message 2 */
	uint8_t message[OG_JOB_MESSAGE_1_MAX];
	uint16_t message_bytes;
	/* out */
	uint16_t payload_bytes;
	uint8_t payload[OG_JOB_PAYLOAD_MAX];
	uint8_t remote_key[OG_KEY_BYTES];
	struct og_noise state; /* for noise_reply */
};
void og_job_noise_accept(struct og_job *job);

/* Write message 2 of IK. */
struct og_job_noise_reply {
	struct og_job_context context;
	/* in */
	struct og_noise state;
	uint8_t payload[OG_JOB_PAYLOAD_MAX];
	uint16_t payload_bytes;
	/* out */
	uint16_t message_bytes;
	uint8_t message[OG_JOB_MESSAGE_2_MAX];
	struct og_noise_keys keys;
};
void og_job_noise_reply(struct og_job *job);

/* Write message 1 of IK. -EBADMSG: the remote key is no valid point. */
struct og_job_noise_connect {
	struct og_job_context context;
	/* in */
	struct og_keypair local;
	uint8_t remote_key[OG_KEY_BYTES];
	uint8_t prologue[32];
	uint8_t ephemeral_seed[OG_SEED_BYTES]; /* fresh */
	uint8_t payload[OG_JOB_PAYLOAD_MAX];
	uint16_t payload_bytes;
	/* out */
	uint16_t message_bytes;
	uint8_t message[OG_JOB_MESSAGE_1_MAX];
	struct og_noise state; /* for noise_finish */
};
void og_job_noise_connect(struct og_job *job);

/* Read message 2 of IK. -EBADMSG: not from the server; wait for another. */
struct og_job_noise_finish {
	struct og_job_context context;
	/* in */
	struct og_noise state; /* a copy: the poster keeps the original until a reply is good */
	uint8_t message[OG_JOB_MESSAGE_2_MAX];
	uint16_t message_bytes;
	/* out */
	uint16_t payload_bytes;
	uint8_t payload[OG_JOB_PAYLOAD_MAX];
	struct og_noise_keys keys;
};
void og_job_noise_finish(struct og_job *job);

/* What an announcement signs besides its namespace and key. */
struct og_job_announcement {
	uint8_t ns[32]; /* og_ns_announce or og_ns_unannounce */
	uint8_t target[32];
	uint8_t node_id[32];
	uint8_t token[32];
	uint8_t refresh[32];
	bool has_refresh;
	uint16_t peer_record_bytes;
	uint8_t peer_record[OG_JOB_VALUE_MAX];
};

struct og_job_sign_announce {
	struct og_job_context context;
	/* in */
	struct og_keypair local;
	struct og_job_announcement announcement;
	/* out */
	uint8_t signature[OG_SIGNATURE_BYTES];
};
void og_job_sign_announce(struct og_job *job);

/* -EBADMSG: the signature is wrong. The announcement comes back as it went. */
struct og_job_verify_announce {
	struct og_job_context context;
	/* in */
	uint8_t public_key[OG_KEY_BYTES];
	uint8_t signature[OG_SIGNATURE_BYTES];
	struct og_job_announcement announcement;
};
void og_job_verify_announce(struct og_job *job);

struct og_job_sign_mutable {
	struct og_job_context context;
	/* in */
	struct og_keypair local;
	uint64_t seq;
	uint16_t value_bytes;
	uint8_t value[OG_JOB_VALUE_MAX];
	/* out */
	uint8_t signature[OG_SIGNATURE_BYTES];
};
void og_job_sign_mutable(struct og_job *job);

/* -EBADMSG: the signature is wrong. The value comes back as it went. */
struct og_job_verify_mutable {
	struct og_job_context context;
	/* in */
	uint8_t public_key[OG_KEY_BYTES];
	uint8_t signature[OG_SIGNATURE_BYTES];
	uint64_t seq;
	uint16_t value_bytes;
	uint8_t value[OG_JOB_VALUE_MAX];
};
void og_job_verify_mutable(struct og_job *job);
