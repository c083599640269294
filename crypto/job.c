#include "crypto/job.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#define ASSERT_FITS(name)                                                                          \
	static_assert(sizeof(struct og_job_##name) <= OG_JOB_BODY_BYTES, #name " fits into a job")

ASSERT_FITS(noise_accept);
ASSERT_FITS(noise_reply);
ASSERT_FITS(noise_connect);
ASSERT_FITS(noise_finish);
ASSERT_FITS(sign_announce);
ASSERT_FITS(verify_announce);
ASSERT_FITS(sign_mutable);
ASSERT_FITS(verify_mutable);

static int accept_message(struct og_job_noise_accept *b)
{
	size_t n;
	int ret;

	if (b->message_bytes > sizeof(b->message))
		return -EMSGSIZE;
	ret = og_noise_init(
		&b->state, OG_NOISE_IK, false, &b->local, NULL, b->prologue, sizeof(b->prologue));
	if (ret < 0)
		return ret;
	ret = og_noise_read(
		&b->state, b->message, b->message_bytes, b->payload, sizeof(b->payload), &n);
	if (ret < 0)
		return ret;
	og_noise_set_ephemeral(&b->state, b->ephemeral_seed);
	memcpy(b->remote_key, og_noise_remote_static(&b->state), sizeof(b->remote_key));
	b->payload_bytes = (uint16_t)n;
	return 0;
}

void og_job_noise_accept(struct og_job *job)
{
	struct og_job_noise_accept *b = OG_JOB_BODY(job, noise_accept);

	job->result = accept_message(b);
	if (job->result < 0)
		og_noise_wipe(&b->state);
	og_keypair_wipe(&b->local);
	sodium_memzero(b->ephemeral_seed, sizeof(b->ephemeral_seed));
}

static int write_reply(struct og_job_noise_reply *b)
{
	size_t n;
	int ret;

	if (b->payload_bytes > sizeof(b->payload))
		return -EMSGSIZE;
	ret = og_noise_write(
		&b->state, b->payload, b->payload_bytes, b->message, sizeof(b->message), &n);
	if (ret < 0)
		return ret;
	/* A state that is not the one of noise_accept would have another message to write. */
	if (!og_noise_done(&b->state))
		return -EPROTO;
	b->message_bytes = (uint16_t)n;
	og_noise_split(&b->state, &b->keys);
	return 0;
}

void og_job_noise_reply(struct og_job *job)
{
	struct og_job_noise_reply *b = OG_JOB_BODY(job, noise_reply);

	job->result = write_reply(b);
	og_noise_wipe(&b->state);
}

static int write_connect(struct og_job_noise_connect *b)
{
	size_t n;
	int ret;

	if (b->payload_bytes > sizeof(b->payload))
		return -EMSGSIZE;
	ret = og_noise_init(&b->state, OG_NOISE_IK, true, &b->local, b->remote_key, b->prologue,
		sizeof(b->prologue));
	if (ret < 0)
		return ret;
	og_noise_set_ephemeral(&b->state, b->ephemeral_seed);
	ret = og_noise_write(
		&b->state, b->payload, b->payload_bytes, b->message, sizeof(b->message), &n);
	if (ret < 0)
		return ret;
	b->message_bytes = (uint16_t)n;
	return 0;
}

void og_job_noise_connect(struct og_job *job)
{
	struct og_job_noise_connect *b = OG_JOB_BODY(job, noise_connect);

	job->result = write_connect(b);
	if (job->result < 0)
		og_noise_wipe(&b->state);
	og_keypair_wipe(&b->local);
	sodium_memzero(b->ephemeral_seed, sizeof(b->ephemeral_seed));
}

static int read_reply(struct og_job_noise_finish *b)
{
	size_t n;
	int ret;

	if (b->message_bytes > sizeof(b->message))
		return -EMSGSIZE;
	ret = og_noise_read(
		&b->state, b->message, b->message_bytes, b->payload, sizeof(b->payload), &n);
	if (ret < 0)
		return ret;
	if (!og_noise_done(&b->state))
		return -EPROTO;
	b->payload_bytes = (uint16_t)n;
	og_noise_split(&b->state, &b->keys);
	return 0;
}

void og_job_noise_finish(struct og_job *job)
{
	struct og_job_noise_finish *b = OG_JOB_BODY(job, noise_finish);

	job->result = read_reply(b);
	og_noise_wipe(&b->state);
}

void og_job_sign_announce(struct og_job *job)
{
	struct og_job_sign_announce *b = OG_JOB_BODY(job, sign_announce);
	const struct og_job_announcement *a = &b->announcement;

	if (a->peer_record_bytes > sizeof(a->peer_record))
		job->result = -EMSGSIZE;
	else
		job->result = og_sign_announce(b->signature, &b->local, a->ns, a->target,
			a->node_id, a->token, a->peer_record, a->peer_record_bytes,
			a->has_refresh ? a->refresh : NULL);
	og_keypair_wipe(&b->local);
}

void og_job_verify_announce(struct og_job *job)
{
	struct og_job_verify_announce *b = OG_JOB_BODY(job, verify_announce);
	const struct og_job_announcement *a = &b->announcement;

	if (a->peer_record_bytes > sizeof(a->peer_record))
		job->result = -EMSGSIZE;
	else
		job->result = og_verify_announce(b->signature, b->public_key, a->ns, a->target,
			a->node_id, a->token, a->peer_record, a->peer_record_bytes,
			a->has_refresh ? a->refresh : NULL);
}

void og_job_sign_mutable(struct og_job *job)
{
	struct og_job_sign_mutable *b = OG_JOB_BODY(job, sign_mutable);

	if (b->value_bytes > sizeof(b->value))
		job->result = -EMSGSIZE;
	else
		job->result =
			og_sign_mutable(b->signature, &b->local, b->seq, b->value, b->value_bytes);
	og_keypair_wipe(&b->local);
}

void og_job_verify_mutable(struct og_job *job)
{
	struct og_job_verify_mutable *b = OG_JOB_BODY(job, verify_mutable);

	if (b->value_bytes > sizeof(b->value))
		job->result = -EMSGSIZE;
	else
		job->result = og_verify_mutable(
			b->signature, b->public_key, b->seq, b->value, b->value_bytes);
}
