/* Whatever decodes, encodes again to a datagram that decodes to the same. */
#include "dht/wire.h"

#include <stdlib.h>

static bool same_part(const uint8_t *a, const uint8_t *b, size_t n)
{
	return (a == NULL) == (b == NULL) && (!a || memcmp(a, b, n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static uint8_t buf[1 << 20];
	struct og_writer w = og_writer_of(buf, sizeof(buf));
	struct og_dht_msg a;
	struct og_dht_msg b;

	if (len_bytes > sizeof(buf) / 2 || og_dht_msg_decode(&a, data, len_bytes) < 0)
		return 0;
	OG_ASSERT(og_dht_msg_encode(&a, &w) == 0);
	OG_ASSERT(og_writer_len(&w) <= len_bytes);
	OG_ASSERT(og_dht_msg_decode(&b, buf, og_writer_len(&w)) == 0);
	OG_ASSERT(a.reply == b.reply && a.tid == b.tid && og_addr_eq(&a.to, &b.to));
	OG_ASSERT(a.internal == b.internal && a.command == b.command && a.error == b.error);
	OG_ASSERT(same_part(a.id, b.id, 32) && same_part(a.token, b.token, 32));
	OG_ASSERT(same_part(a.target, b.target, 32));
	OG_ASSERT(a.nb_closer == b.nb_closer);
	OG_ASSERT(a.nb_closer == 0 || memcmp(a.closer, b.closer, 6 * a.nb_closer) == 0);
	OG_ASSERT(a.has_value == b.has_value && a.value_bytes == b.value_bytes);
	OG_ASSERT(a.value_bytes == 0 || memcmp(a.value, b.value, a.value_bytes) == 0);
	return 0;
}
