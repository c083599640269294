#include "crypto/noise.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

enum token { END, E, S, EE, ES, SE, SS };

enum { MESSAGES_MAX = 3, TOKENS_MAX = 5, SEALED_KEY_BYTES = OG_KEY_BYTES + OG_NOISE_TAG_BYTES };

struct pattern {
	const char *protocol;
	bool responder_static_known; /* pre-message "<- s" */
	uint8_t nb_messages;         /* even ones from the initiator */
	uint8_t tokens[MESSAGES_MAX][TOKENS_MAX];
};

static const struct pattern patterns[] = {
	[OG_NOISE_IK] =
		{
			.protocol = "Noise_IK_Ed25519_ChaChaPoly_BLAKE2b",
			.responder_static_known = true,
			.nb_messages = 2,
			.tokens = {{E, ES, S, SS}, {E, EE, SE}},
		},
	[OG_NOISE_XX] =
		{
			.protocol = "Noise_XX_Ed25519_ChaChaPoly_BLAKE2b",
			.nb_messages = 3,
			.tokens = {{E}, {E, EE, S, ES}, {S, SE}},
		},
};

static const struct pattern *pattern_of(const struct og_noise *n)
{
	return &patterns[n->pattern];
}

static const uint8_t *tokens_of_next(const struct og_noise *n)
{
	return pattern_of(n)->tokens[n->step];
}

int og_noise_init(struct og_noise *n, enum og_noise_pattern p, bool initiator,
	const struct og_keypair *local, const uint8_t *remote_static, const uint8_t *prologue,
	size_t prologue_bytes)
{
	bool wants_remote = patterns[p].responder_static_known && initiator;

	if (wants_remote != (remote_static != NULL))
		return -EINVAL;
	memset(n, 0, sizeof(*n));
	n->pattern = (uint8_t)p;
	n->initiator = initiator;
	n->s = *local;
	if (remote_static) {
		memcpy(n->rs, remote_static, sizeof(n->rs));
		n->has_remote_static = true;
	}
	og_noise_symmetric_init(&n->sym, patterns[p].protocol);
	og_noise_mix_hash(&n->sym, prologue, prologue_bytes);
	if (patterns[p].responder_static_known)
		og_noise_mix_hash(&n->sym, initiator ? n->rs : n->s.public_key, OG_KEY_BYTES);
	return 0;
}

void og_noise_set_ephemeral(struct og_noise *n, const uint8_t seed[OG_SEED_BYTES])
{
	og_keypair_from_seed(&n->e, seed);
	n->has_ephemeral = true;
}

bool og_noise_done(const struct og_noise *n)
{
	return !n->failed && n->step == pattern_of(n)->nb_messages;
}

static bool may_write(const struct og_noise *n)
{
	return !n->failed && n->step < pattern_of(n)->nb_messages &&
	       (n->step % 2 == 0) == n->initiator;
}

static bool may_read(const struct og_noise *n)
{
	return !n->failed && n->step < pattern_of(n)->nb_messages &&
	       (n->step % 2 == 0) != n->initiator;
}

static bool has_token(const struct og_noise *n, enum token wanted)
{
	return memchr(tokens_of_next(n), wanted, TOKENS_MAX) != NULL;
}

/* What the next message is longer than its payload. */
static size_t next_overhead(const struct og_noise *n)
{
	size_t tag = og_noise_tag_bytes(&n->sym);
	size_t total = 0;

	for (const uint8_t *t = tokens_of_next(n); *t != END; t++) {
		if (*t == E)
			total += OG_KEY_BYTES;
		else if (*t == S)
			total += OG_KEY_BYTES + tag;
		else
			tag = OG_NOISE_TAG_BYTES;
	}
	return total + tag;
}

/* ee, es, se, ss: the first letter is the initiator's key, the second the responder's. */
static int mix_dh(struct og_noise *n, enum token t)
{
	bool local_static = n->initiator ? t == SE || t == SS : t == ES || t == SS;
	bool remote_static = n->initiator ? t == ES || t == SS : t == SE || t == SS;
	uint8_t shared[32];
	int ret;

	ret = og_dh(shared, local_static ? n->s.secret_key : n->e.secret_key,
		remote_static ? n->rs : n->re);
	if (ret < 0)
		return ret;
	og_noise_mix_key(&n->sym, shared);
	sodium_memzero(shared, sizeof(shared));
	return 0;
}

static int write_token(struct og_noise *n, enum token t, uint8_t **out)
{
	switch (t) {
	case E:
		memcpy(*out, n->e.public_key, OG_KEY_BYTES);
		og_noise_mix_hash(&n->sym, *out, OG_KEY_BYTES);
		*out += OG_KEY_BYTES;
		return 0;
	case S:
		og_noise_encrypt_and_hash(&n->sym, *out, n->s.public_key, OG_KEY_BYTES);
		*out += SEALED_KEY_BYTES; /* in both patterns a key is there by then */
		return 0;
	default:
		return mix_dh(n, t);
	}
}

static int read_token(struct og_noise *n, enum token t, const uint8_t **msg)
{
	switch (t) {
	case E:
		memcpy(n->re, *msg, OG_KEY_BYTES);
		og_noise_mix_hash(&n->sym, *msg, OG_KEY_BYTES);
		*msg += OG_KEY_BYTES;
		return 0;
	case S:
		if (og_noise_decrypt_and_hash(&n->sym, n->rs, *msg, SEALED_KEY_BYTES) < 0)
			return -EBADMSG;
		*msg += SEALED_KEY_BYTES;
		return 0;
	default:
		return mix_dh(n, t);
	}
}

static int fail(struct og_noise *n)
{
	n->failed = true;
	return -EBADMSG;
}

int og_noise_write(struct og_noise *n, const uint8_t *payload, size_t payload_bytes, uint8_t *out,
	size_t cap_bytes, size_t *out_bytes)
{
	uint8_t *p = out;
	size_t overhead;

	if (!may_write(n) || !n->has_ephemeral)
		return -EPROTO;
	overhead = next_overhead(n);
	if (payload_bytes > OG_NOISE_MESSAGE_MAX - overhead)
		return -EMSGSIZE;
	if (overhead + payload_bytes > cap_bytes)
		return -ENOBUFS;
	for (const uint8_t *t = tokens_of_next(n); *t != END; t++)
		if (write_token(n, *t, &p) < 0)
			return fail(n);
	og_noise_encrypt_and_hash(&n->sym, p, payload, payload_bytes);
	n->step++;
	*out_bytes = overhead + payload_bytes;
	return 0;
}

int og_noise_read(struct og_noise *n, const uint8_t *msg, size_t msg_bytes, uint8_t *payload,
	size_t cap_bytes, size_t *payload_bytes)
{
	const uint8_t *p = msg;
	size_t overhead;

	if (!may_read(n))
		return -EPROTO;
	overhead = next_overhead(n);
	if (msg_bytes < overhead || msg_bytes > OG_NOISE_MESSAGE_MAX)
		return fail(n);
	if (msg_bytes - overhead > cap_bytes)
		return -ENOBUFS;
	for (const uint8_t *t = tokens_of_next(n); *t != END; t++)
		if (read_token(n, *t, &p) < 0)
			return fail(n);
	if (og_noise_decrypt_and_hash(&n->sym, payload, p, (size_t)(msg + msg_bytes - p)) < 0)
		return fail(n);
	/* A message with `s` has proven it: its tag was made with that key's Diffie-Hellman. */
	n->has_remote_static |= has_token(n, S);
	n->step++;
	*payload_bytes = msg_bytes - overhead;
	return 0;
}

const uint8_t *og_noise_remote_static(const struct og_noise *n)
{
	return n->has_remote_static ? n->rs : NULL;
}

void og_noise_split(const struct og_noise *n, struct og_noise_keys *out)
{
	OG_ASSERT(og_noise_done(n));
	og_noise_symmetric_split(
		&n->sym, n->initiator ? out->tx : out->rx, n->initiator ? out->rx : out->tx);
	memcpy(out->hash, n->sym.h, sizeof(out->hash));
}

void og_noise_wipe(struct og_noise *n)
{
	sodium_memzero(n, sizeof(*n));
}
