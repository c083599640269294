#include "crypto/sign.h"

#include "base/bytes.h"
#include "crypto/namespaces.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>

/* What is signed: a namespace and a digest. */
struct signable {
	uint8_t ns[32];
	uint8_t digest[32];
};
static_assert(sizeof(struct signable) == 64, "signed as it lies");

static int sign(uint8_t *sig, const struct signable *s, const struct og_keypair *kp)
{
	crypto_sign_detached(sig, NULL, (const uint8_t *)s, sizeof(*s), kp->secret_key);
	return 0;
}

static int verify(const uint8_t *sig, const struct signable *s, const uint8_t *pk)
{
	if (crypto_sign_verify_detached(sig, (const uint8_t *)s, sizeof(*s), pk) != 0)
		return -EBADMSG;
	return 0;
}

static struct signable announce_signable(const uint8_t *ns, const uint8_t *target,
	const uint8_t *node_id, const uint8_t *token, const uint8_t *peer_record,
	size_t peer_record_bytes, const uint8_t *refresh)
{
	struct og_span parts[] = {{target, 32}, {node_id, 32}, {token, 32},
		{peer_record, peer_record_bytes}, {refresh, refresh ? 32 : 0}};
	struct signable s;

	memcpy(s.ns, ns, sizeof(s.ns));
	og_blake2b(s.digest, parts, OG_ARRAY_LEN(parts));
	return s;
}

int og_sign_announce(uint8_t sig[OG_SIGNATURE_BYTES], const struct og_keypair *kp,
	const uint8_t ns[32], const uint8_t target[32], const uint8_t node_id[32],
	const uint8_t token[32], const uint8_t *peer_record, size_t peer_record_bytes,
	const uint8_t *refresh)
{
	struct signable s = announce_signable(
		ns, target, node_id, token, peer_record, peer_record_bytes, refresh);

	return sign(sig, &s, kp);
}

int og_verify_announce(const uint8_t sig[OG_SIGNATURE_BYTES], const uint8_t pk[OG_KEY_BYTES],
	const uint8_t ns[32], const uint8_t target[32], const uint8_t node_id[32],
	const uint8_t token[32], const uint8_t *peer_record, size_t peer_record_bytes,
	const uint8_t *refresh)
{
	struct signable s = announce_signable(
		ns, target, node_id, token, peer_record, peer_record_bytes, refresh);

	return verify(sig, &s, pk);
}

/* digest = B2(seq uint || value buffer) */
static int mutable_signable(
	struct signable *s, uint64_t seq, const uint8_t *value, size_t value_bytes)
{
	static const uint64_t uint_max = (1ull << 53) - 1;
	uint8_t head[18];
	struct og_writer w = og_writer_of(head, sizeof(head));

	if (seq > uint_max || value_bytes > uint_max)
		return -EINVAL;
	og_write_uint(&w, seq);
	og_write_uint(&w, value_bytes);
	struct og_span parts[] = {{head, og_writer_len(&w)}, {value, value_bytes}};

	memcpy(s->ns, og_ns_mutable_put, sizeof(s->ns));
	og_blake2b(s->digest, parts, OG_ARRAY_LEN(parts));
	return 0;
}

int og_sign_mutable(uint8_t sig[OG_SIGNATURE_BYTES], const struct og_keypair *kp, uint64_t seq,
	const uint8_t *value, size_t value_bytes)
{
	struct signable s;
	int ret = mutable_signable(&s, seq, value, value_bytes);

	return ret < 0 ? ret : sign(sig, &s, kp);
}

int og_verify_mutable(const uint8_t sig[OG_SIGNATURE_BYTES], const uint8_t pk[OG_KEY_BYTES],
	uint64_t seq, const uint8_t *value, size_t value_bytes)
{
	struct signable s;

	if (mutable_signable(&s, seq, value, value_bytes) < 0)
		return -EBADMSG;
	return verify(sig, &s, pk);
}
