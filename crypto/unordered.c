#include "crypto/secretstream.h"

#include "base/bytes.h"
#include "crypto/namespaces.h"

#include <assert.h>
#include <errno.h>

enum { COUNTER_BYTES = 8, WINDOW = 64 };

static_assert(OG_UNORDERED_OVERHEAD == COUNTER_BYTES + crypto_secretbox_MACBYTES, "overhead");

static void derive_key(uint8_t out[32], const struct og_noise_keys *keys, const uint8_t role_ns[32])
{
	struct og_span parts[] = {{role_ns, OG_HASH_BYTES}, {og_ns_stream_send, OG_HASH_BYTES}};

	og_blake2b_keyed(out, keys->hash, sizeof(keys->hash), parts, OG_ARRAY_LEN(parts));
}

void og_unordered_init(
	struct og_unordered *u, const struct og_noise_keys *keys, bool initiator, uint64_t counter)
{
	memset(u, 0, sizeof(*u));
	derive_key(initiator ? u->tx_key : u->rx_key, keys, og_ns_stream_initiator);
	derive_key(initiator ? u->rx_key : u->tx_key, keys, og_ns_stream_responder);
	u->tx_counter = counter;
	u->tx_start = counter;
}

/* The 8 counter bytes, then zeros. */
static void make_nonce(uint8_t nonce[crypto_secretbox_NONCEBYTES], uint64_t counter)
{
	memset(nonce, 0, crypto_secretbox_NONCEBYTES);
	og_store_le64(nonce, counter);
}

int og_unordered_seal(struct og_unordered *u, uint8_t *out, const uint8_t *plain, size_t n)
{
	uint8_t nonce[crypto_secretbox_NONCEBYTES];

	if (u->tx_counter + 1 == u->tx_start)
		return -EOVERFLOW;
	u->tx_counter++;
	og_store_le64(out, u->tx_counter);
	make_nonce(nonce, u->tx_counter);
	crypto_secretbox_easy(out + COUNTER_BYTES, plain, n, nonce, u->tx_key);
	return 0;
}

/* Counters start anywhere and wrap, so they are compared by their distance. */
static int check_fresh(const struct og_unordered *u, uint64_t counter)
{
	int64_t ahead = (int64_t)(counter - u->rx_last);

	if (u->rx_seen == 0 || ahead > 0)
		return 0;
	if (ahead <= -WINDOW)
		return -ERANGE;
	return u->rx_seen >> -ahead & 1 ? -EALREADY : 0;
}

static void note_seen(struct og_unordered *u, uint64_t counter)
{
	int64_t ahead = (int64_t)(counter - u->rx_last);

	if (u->rx_seen == 0 || ahead >= WINDOW) {
		u->rx_seen = 1;
		u->rx_last = counter;
	} else if (ahead > 0) {
		u->rx_seen = u->rx_seen << ahead | 1;
		u->rx_last = counter;
	} else {
		u->rx_seen |= 1ull << -ahead;
	}
}

int og_unordered_open(struct og_unordered *u, uint8_t *msg, size_t msg_bytes, uint8_t **plain,
	size_t *plain_bytes)
{
	uint8_t nonce[crypto_secretbox_NONCEBYTES];
	uint64_t counter;
	uint8_t *text;
	int ret;

	if (msg_bytes < OG_UNORDERED_OVERHEAD)
		return -EBADMSG;
	counter = og_load_le64(msg);
	ret = check_fresh(u, counter);
	if (ret < 0)
		return ret;
	make_nonce(nonce, counter);
	text = msg + OG_UNORDERED_OVERHEAD;
	if (crypto_secretbox_open_detached(text, text, msg + COUNTER_BYTES,
		    msg_bytes - OG_UNORDERED_OVERHEAD, nonce, u->rx_key) != 0)
		return -EBADMSG;
	note_seen(u, counter);
	*plain = text;
	*plain_bytes = msg_bytes - OG_UNORDERED_OVERHEAD;
	return 0;
}

void og_unordered_wipe(struct og_unordered *u)
{
	sodium_memzero(u, sizeof(*u));
}
