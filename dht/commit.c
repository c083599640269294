#include "dht/commit.h"

#include "dht/values.h"
#include "dht/work.h"

enum { ANNOUNCE = 4, UNANNOUNCE = 5 };

void og_dht_announcement_init(struct og_dht_announcement *a, const struct og_dht_env *env,
	const uint8_t target[32], const struct og_addr *relays, uint32_t nb_relays)
{
	struct og_writer w = og_writer_of(a->record, sizeof(a->record));

	memcpy(a->target, target, sizeof(a->target));
	og_dht_peer_encode(&w, env->keypair->public_key, relays, nb_relays);
	OG_DASSERT(og_writer_ok(&w));
	a->record_bytes = (uint32_t)og_writer_len(&w);
}

void og_dht_commit_init(struct og_dht_commit *c, bool unannounce, const struct og_addr *to,
	const uint8_t id[OG_DHT_ID_BYTES], const uint8_t token[OG_DHT_TOKEN_BYTES])
{
	*c = (struct og_dht_commit){
		.state = OG_DHT_COMMIT_UNSIGNED, .unannounce = unannounce, .to = *to};
	memcpy(c->id, id, sizeof(c->id));
	memcpy(c->token, token, sizeof(c->token));
}

void og_dht_commit_sign(struct og_dht_commit *c, struct og_dht_env *env,
	const struct og_dht_announcement *a, enum og_dht_job kind, uint32_t slot, uint32_t gen)
{
	struct og_job *job = env->jobs->begin(env->jobs);

	if (!job)
		return;
	job->kind = (uint16_t)kind;
	job->slot = slot;
	job->gen = gen;
	job->source_hash = 0; /* our own work */
	og_dht_work_sign_announce(job,
		&(struct og_dht_signed){
			.unannounce = c->unannounce,
			.target = a->target,
			.node_id = c->id,
			.token = c->token,
			.record = a->record,
			.record_bytes = a->record_bytes,
		},
		env->keypair);
	c->state = OG_DHT_COMMIT_SIGNING;
	env->jobs->post(env->jobs, job);
}

void og_dht_commit_send(struct og_dht_commit *c, struct og_dht_env *env,
	const struct og_dht_announcement *a, const struct og_job *job, struct og_dht_request req,
	uint64_t now_ns)
{
	struct og_dht_announce value = {
		.has_peer = true,
		.peer = {.raw = a->record, .raw_bytes = a->record_bytes},
		.signature = OG_JOB_BODY(job, sign_announce)->signature,
	};
	uint8_t buf[OG_DHT_VALUE_MAX];
	struct og_writer w = og_writer_of(buf, sizeof(buf));

	og_dht_announce_encode(&w, &value);
	req.to = c->to;
	req.command = c->unannounce ? UNANNOUNCE : ANNOUNCE;
	req.target = a->target;
	req.token = c->token;
	req.value = buf;
	req.value_bytes = (uint32_t)og_writer_len(&w);
	req.has_value = true;
	c->state = OG_DHT_COMMIT_SENT;
	og_dht_request_send(env->rpc, &req, &c->request, now_ns);
}

void og_dht_commit_cancel(struct og_dht_commit *c, struct og_dht_env *env)
{
	if (c->state == OG_DHT_COMMIT_SENT)
		og_dht_request_cancel(env->rpc, c->request);
	c->state = OG_DHT_COMMIT_FREE;
}
