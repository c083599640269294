#include "crypto/job.h"

#include "crypto/namespaces.h"
#include "crypto_vectors.h"

#include <errno.h>

#define ALL_ZERO(x) all_zero(&(x), sizeof(x))

static bool all_zero(const void *data, size_t n)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < n; i++)
		if (p[i] != 0)
			return false;
	return true;
}

/* As a worker does: on a copy. */
static int run(struct og_job *job, void (*fn)(struct og_job *))
{
	struct og_job copy;

	job->run = fn;
	job->result = 1;
	copy = *job;
	copy.run(&copy);
	*job = copy;
	return job->result;
}

/* The vector "ik-open" as four jobs. */
struct handshake {
	json_t *in, *want;
	struct og_job connect, accept, reply, finish;
};

static struct handshake *handshake(void)
{
	static struct handshake h;
	json_t *v = vec_named(vec_dht("noise"), "ik-open");

	memset(&h, 0, sizeof(h));
	h.in = vec_get(v, "input");
	h.want = vec_get(v, "expected");
	return &h;
}

static int connect_job(struct handshake *h)
{
	struct og_job_noise_connect *b = OG_JOB_BODY(&h->connect, noise_connect);
	struct vec_bytes payload = vec_hex(h->in, "payload1");

	b->local = vec_keypair(vec_hex(h->in, "initiator_static_seed"));
	memcpy(b->remote_key, vec_keypair(vec_hex(h->in, "responder_static_seed")).public_key, 32);
	memcpy(b->prologue, og_ns_peer_handshake, sizeof(b->prologue));
	memcpy(b->ephemeral_seed, vec_hex(h->in, "initiator_ephemeral_seed").data, 32);
	memcpy(b->payload, payload.data, payload.n);
	b->payload_bytes = (uint16_t)payload.n;
	memset(b->context.bytes, 0xc0, sizeof(b->context.bytes));
	return run(&h->connect, og_job_noise_connect);
}

static int accept_job(struct handshake *h)
{
	struct og_job_noise_accept *b = OG_JOB_BODY(&h->accept, noise_accept);
	struct vec_bytes message = vec_hex(h->want, "message1");

	b->local = vec_keypair(vec_hex(h->in, "responder_static_seed"));
	memcpy(b->prologue, og_ns_peer_handshake, sizeof(b->prologue));
	memcpy(b->ephemeral_seed, vec_hex(h->in, "responder_ephemeral_seed").data, 32);
	memcpy(b->message, message.data, message.n);
	b->message_bytes = (uint16_t)message.n;
	return run(&h->accept, og_job_noise_accept);
}

static int reply_job(struct handshake *h)
{
	struct og_job_noise_reply *b = OG_JOB_BODY(&h->reply, noise_reply);
	struct vec_bytes payload = vec_hex(h->in, "payload2");

	b->state = OG_JOB_BODY(&h->accept, noise_accept)->state;
	memcpy(b->payload, payload.data, payload.n);
	b->payload_bytes = (uint16_t)payload.n;
	return run(&h->reply, og_job_noise_reply);
}

static int finish_job(struct handshake *h, int flip)
{
	struct og_job_noise_finish *b = OG_JOB_BODY(&h->finish, noise_finish);
	struct vec_bytes message = vec_hex(h->want, "message2");

	b->state = OG_JOB_BODY(&h->connect, noise_connect)->state;
	memcpy(b->message, message.data, message.n);
	b->message[message.n - 1] ^= (uint8_t)flip;
	b->message_bytes = (uint16_t)message.n;
	return run(&h->finish, og_job_noise_finish);
}

Test(job, a_handshake_of_four_jobs_matches_the_vectors)
{
	struct handshake *h = handshake();
	struct og_job_noise_connect *c = OG_JOB_BODY(&h->connect, noise_connect);
	struct og_job_noise_accept *a = OG_JOB_BODY(&h->accept, noise_accept);
	struct og_job_noise_reply *r = OG_JOB_BODY(&h->reply, noise_reply);
	struct og_job_noise_finish *f = OG_JOB_BODY(&h->finish, noise_finish);
	struct vec_bytes want;

	cr_assert_eq(connect_job(h), 0);
	want = vec_hex(h->want, "message1");
	cr_assert_eq(c->message_bytes, want.n);
	VEC_EQ(c->message, want, "message1");

	cr_assert_eq(accept_job(h), 0);
	want = vec_hex(h->in, "payload1");
	cr_assert_eq(a->payload_bytes, want.n);
	VEC_EQ(a->payload, want, "payload1");
	cr_assert_arr_eq(
		a->remote_key, vec_keypair(vec_hex(h->in, "initiator_static_seed")).public_key, 32);

	cr_assert_eq(reply_job(h), 0);
	want = vec_hex(h->want, "message2");
	cr_assert_eq(r->message_bytes, want.n);
	VEC_EQ(r->message, want, "message2");
	VEC_EQ_HEX(r->keys.rx, h->want, "initiator_tx");
	VEC_EQ_HEX(r->keys.tx, h->want, "initiator_rx");
	VEC_EQ_HEX(r->keys.hash, h->want, "handshake_hash");

	cr_assert_eq(finish_job(h, 0), 0);
	want = vec_hex(h->in, "payload2");
	cr_assert_eq(f->payload_bytes, want.n);
	VEC_EQ(f->payload, want, "payload2");
	VEC_EQ_HEX(f->keys.tx, h->want, "initiator_tx");
	VEC_EQ_HEX(f->keys.rx, h->want, "initiator_rx");
	VEC_EQ_HEX(f->keys.hash, h->want, "handshake_hash");
}

Test(job, a_forged_reply_leaves_the_connect_state_usable)
{
	struct handshake *h = handshake();

	cr_assert_eq(connect_job(h), 0);
	cr_assert_eq(finish_job(h, 1), -EBADMSG);
	cr_assert(ALL_ZERO(OG_JOB_BODY(&h->finish, noise_finish)->state));
	cr_assert_eq(finish_job(h, 0), 0);
}

Test(job, secrets_that_are_not_handed_back_are_wiped)
{
	struct handshake *h = handshake();
	struct og_job_noise_connect *c = OG_JOB_BODY(&h->connect, noise_connect);
	struct og_job_noise_accept *a = OG_JOB_BODY(&h->accept, noise_accept);

	cr_assert_eq(connect_job(h), 0);
	cr_assert(ALL_ZERO(c->local) && ALL_ZERO(c->ephemeral_seed));
	cr_assert_eq(accept_job(h), 0);
	cr_assert(ALL_ZERO(a->local) && ALL_ZERO(a->ephemeral_seed));
	cr_assert_eq(reply_job(h), 0);
	cr_assert(ALL_ZERO(OG_JOB_BODY(&h->reply, noise_reply)->state));
	cr_assert_eq(finish_job(h, 0), 0);
	cr_assert(ALL_ZERO(OG_JOB_BODY(&h->finish, noise_finish)->state));
}

Test(job, the_context_comes_back_as_it_went)
{
	struct handshake *h = handshake();
	struct og_job_noise_connect *c = OG_JOB_BODY(&h->connect, noise_connect);

	cr_assert_eq(connect_job(h), 0);
	for (size_t i = 0; i < sizeof(c->context.bytes); i++)
		cr_assert_eq(c->context.bytes[i], 0xc0);
}

Test(job, a_message_for_another_server_is_refused_and_leaves_no_state)
{
	struct handshake *h = handshake();
	struct og_job_noise_accept *b = OG_JOB_BODY(&h->accept, noise_accept);
	struct vec_bytes message = vec_hex(h->want, "message1");

	b->local = vec_keypair(vec_hex(h->in, "initiator_static_seed"));
	memcpy(b->prologue, og_ns_peer_handshake, sizeof(b->prologue));
	memcpy(b->message, message.data, message.n);
	b->message_bytes = (uint16_t)message.n;
	cr_assert_eq(run(&h->accept, og_job_noise_accept), -EBADMSG);
	cr_assert(ALL_ZERO(b->state) && ALL_ZERO(b->local));
}

Test(job, the_largest_payloads_pass)
{
	struct handshake *h = handshake();
	struct og_job_noise_connect *c = OG_JOB_BODY(&h->connect, noise_connect);
	struct og_job_noise_accept *a = OG_JOB_BODY(&h->accept, noise_accept);
	struct og_job_noise_reply *r = OG_JOB_BODY(&h->reply, noise_reply);
	struct og_job_noise_finish *f = OG_JOB_BODY(&h->finish, noise_finish);
	struct og_keypair local = vec_keypair(vec_hex(h->in, "initiator_static_seed"));
	struct og_keypair server = vec_keypair(vec_hex(h->in, "responder_static_seed"));

	c->local = local;
	memcpy(c->remote_key, server.public_key, 32);
	c->payload_bytes = OG_JOB_PAYLOAD_MAX;
	cr_assert_eq(run(&h->connect, og_job_noise_connect), 0);
	cr_assert_eq(c->message_bytes, OG_JOB_MESSAGE_1_MAX);

	a->local = server;
	memcpy(a->message, c->message, c->message_bytes);
	a->message_bytes = c->message_bytes;
	cr_assert_eq(run(&h->accept, og_job_noise_accept), 0);
	cr_assert_eq(a->payload_bytes, OG_JOB_PAYLOAD_MAX);

	r->state = a->state;
	r->payload_bytes = OG_JOB_PAYLOAD_MAX;
	cr_assert_eq(run(&h->reply, og_job_noise_reply), 0);
	cr_assert_eq(r->message_bytes, OG_JOB_MESSAGE_2_MAX);

	f->state = c->state;
	memcpy(f->message, r->message, r->message_bytes);
	f->message_bytes = r->message_bytes;
	cr_assert_eq(run(&h->finish, og_job_noise_finish), 0);
	cr_assert_eq(f->payload_bytes, OG_JOB_PAYLOAD_MAX);
	cr_assert_arr_eq(f->keys.tx, r->keys.rx, 32);
}

Test(job, lengths_beyond_the_body_are_refused)
{
	static struct og_job job;

	cr_assert_eq(og_crypto_init(), 0);
#define REFUSES(name, field, size)                                                                 \
	do {                                                                                       \
		memset(&job, 0, sizeof(job));                                                      \
		OG_JOB_BODY(&job, name)->field = (size) + 1;                                       \
		cr_assert_eq(run(&job, og_job_##name), -EMSGSIZE, #name);                          \
	} while (0)
	REFUSES(noise_accept, message_bytes, OG_JOB_MESSAGE_1_MAX);
	REFUSES(noise_reply, payload_bytes, OG_JOB_PAYLOAD_MAX);
	REFUSES(noise_connect, payload_bytes, OG_JOB_PAYLOAD_MAX);
	REFUSES(noise_finish, message_bytes, OG_JOB_MESSAGE_2_MAX);
	REFUSES(sign_announce, announcement.peer_record_bytes, OG_JOB_VALUE_MAX);
	REFUSES(verify_announce, announcement.peer_record_bytes, OG_JOB_VALUE_MAX);
	REFUSES(sign_mutable, value_bytes, OG_JOB_VALUE_MAX);
	REFUSES(verify_mutable, value_bytes, OG_JOB_VALUE_MAX);
}

Test(job, a_state_at_the_wrong_step_is_refused)
{
	struct handshake *h = handshake();
	struct og_job_noise_reply *r = OG_JOB_BODY(&h->reply, noise_reply);
	struct og_job_noise_finish *f = OG_JOB_BODY(&h->finish, noise_finish);

	cr_assert_eq(connect_job(h), 0);
	r->state = OG_JOB_BODY(&h->connect, noise_connect)->state;
	cr_assert_eq(run(&h->reply, og_job_noise_reply), -EPROTO);
	cr_assert_eq(accept_job(h), 0);
	f->state = OG_JOB_BODY(&h->accept, noise_accept)->state;
	cr_assert_eq(run(&h->finish, og_job_noise_finish), -EPROTO);
}

/* The announcement of a vector of "signatures". */
static void fill_announcement(struct og_job_announcement *a, json_t *in)
{
	struct vec_bytes peer = vec_hex(in, "peer");
	const uint8_t *refresh = vec_hex_or_null(in, "refresh");

	memcpy(a->ns, vec_hex(in, "namespace").data, 32);
	memcpy(a->target, vec_hex(in, "target").data, 32);
	memcpy(a->node_id, vec_hex(in, "node_id").data, 32);
	memcpy(a->token, vec_hex(in, "token").data, 32);
	a->has_refresh = refresh != NULL;
	if (refresh)
		memcpy(a->refresh, refresh, 32);
	memcpy(a->peer_record, peer.data, peer.n);
	a->peer_record_bytes = (uint16_t)peer.n;
}

static struct og_keypair seed_01(void)
{
	uint8_t seed[OG_SEED_BYTES];
	struct og_keypair kp;

	memset(seed, 1, sizeof(seed));
	og_keypair_from_seed(&kp, seed);
	return kp;
}

Test(job, announcements_are_signed_and_verified_as_in_the_vectors)
{
	static const char *const names[] = {"announce", "announce-refresh", "unannounce"};
	json_t *all = vec_dht("signatures");

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		static struct og_job sign, verify;
		struct og_job_sign_announce *s = OG_JOB_BODY(&sign, sign_announce);
		struct og_job_verify_announce *v = OG_JOB_BODY(&verify, verify_announce);
		json_t *vector = vec_named(all, names[i]);

		s->local = seed_01();
		fill_announcement(&s->announcement, vec_get(vector, "input"));
		cr_assert_eq(run(&sign, og_job_sign_announce), 0);
		VEC_EQ_HEX(s->signature, vec_get(vector, "expected"), "signature");
		cr_assert(ALL_ZERO(s->local));

		memcpy(v->public_key, seed_01().public_key, 32);
		memcpy(v->signature, s->signature, sizeof(v->signature));
		v->announcement = s->announcement;
		cr_assert_eq(run(&verify, og_job_verify_announce), 0);
		v->announcement.token[0] ^= 1;
		cr_assert_eq(run(&verify, og_job_verify_announce), -EBADMSG);
	}
}

Test(job, mutable_values_are_signed_and_verified_as_in_the_vectors)
{
	static const char *const names[] = {"mutable-seq-0", "mutable-seq-1", "mutable-seq-70000"};
	json_t *all = vec_dht("signatures");

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		static struct og_job sign, verify;
		struct og_job_sign_mutable *s = OG_JOB_BODY(&sign, sign_mutable);
		struct og_job_verify_mutable *v = OG_JOB_BODY(&verify, verify_mutable);
		json_t *vector = vec_named(all, names[i]);
		json_t *in = vec_get(vector, "input");
		struct vec_bytes value = vec_hex(in, "value");

		s->local = seed_01();
		s->seq = (uint64_t)json_integer_value(vec_get(in, "seq"));
		memcpy(s->value, value.data, value.n);
		s->value_bytes = (uint16_t)value.n;
		cr_assert_eq(run(&sign, og_job_sign_mutable), 0);
		VEC_EQ_HEX(s->signature, vec_get(vector, "expected"), "signature");
		cr_assert(ALL_ZERO(s->local));

		memcpy(v->public_key, seed_01().public_key, 32);
		memcpy(v->signature, s->signature, sizeof(v->signature));
		v->seq = s->seq;
		memcpy(v->value, value.data, value.n);
		v->value_bytes = s->value_bytes;
		cr_assert_eq(run(&verify, og_job_verify_mutable), 0);
		v->seq++;
		cr_assert_eq(run(&verify, og_job_verify_mutable), -EBADMSG);
	}
}
