#include "dht/wire.h"

#include "crypto/hash.h"

#include <errno.h>

enum {
	TYPE_REQUEST = 0x03,
	TYPE_REPLY = 0x13,

	FLAG_ID = 0x01,
	FLAG_TOKEN = 0x02,
	FLAG_INTERNAL = 0x04, /* requests */
	FLAG_CLOSER = 0x04,   /* replies */
	FLAG_TARGET = 0x08,   /* requests */
	FLAG_ERROR = 0x08,    /* replies */
	FLAG_VALUE = 0x10,
};

/* dht.md 3.2, fields 7 to 9 */
static void read_request(struct og_reader *r, struct og_dht_msg *m, uint64_t flags)
{
	m->internal = flags & FLAG_INTERNAL;
	m->command = og_read_uint(r);
	if (flags & FLAG_TARGET)
		m->target = og_read_bytes(r, OG_DHT_ID_BYTES);
}

/* dht.md 3.3, fields 7 and 8 */
static void read_reply(struct og_reader *r, struct og_dht_msg *m, uint64_t flags)
{
	if (flags & FLAG_CLOSER) {
		uint64_t n = og_read_uint_max(r, og_reader_left(r) / OG_DHT_ADDR4_BYTES);

		m->closer = og_read_bytes(r, n * OG_DHT_ADDR4_BYTES);
		m->nb_closer = (uint32_t)n;
	}
	if (flags & FLAG_ERROR) {
		uint64_t error = og_read_uint(r);

		m->error = (uint32_t)OG_MIN(error, UINT32_MAX);
	}
}

int og_dht_msg_decode(struct og_dht_msg *out, const uint8_t *data, size_t len_bytes)
{
	struct og_reader r = og_reader_of(data, len_bytes);
	struct og_dht_msg m = {0};
	uint8_t type = og_read_u8(&r);
	uint64_t flags;

	if (type != TYPE_REQUEST && type != TYPE_REPLY)
		return -EBADMSG;
	m.reply = type == TYPE_REPLY;
	flags = og_read_uint(&r);
	m.tid = og_read_le16(&r);
	m.to = og_read_addr4(&r);
	if (flags & FLAG_ID)
		m.id = og_read_bytes(&r, OG_DHT_ID_BYTES);
	if (flags & FLAG_TOKEN)
		m.token = og_read_bytes(&r, OG_DHT_TOKEN_BYTES);
	if (m.reply)
		read_reply(&r, &m, flags);
	else
		read_request(&r, &m, flags);
	if (flags & FLAG_VALUE) {
		m.has_value = true;
		m.value = og_read_buffer(&r, &m.value_bytes);
	}
	if (!og_reader_ok(&r))
		return -EBADMSG;
	*out = m;
	return 0;
}

static uint8_t flags_of(const struct og_dht_msg *m)
{
	uint8_t flags = 0;

	flags |= m->id ? FLAG_ID : 0;
	flags |= m->token ? FLAG_TOKEN : 0;
	flags |= m->has_value ? FLAG_VALUE : 0;
	if (m->reply) {
		flags |= m->nb_closer > 0 ? FLAG_CLOSER : 0;
		flags |= m->error != 0 ? FLAG_ERROR : 0;
	} else {
		flags |= m->internal ? FLAG_INTERNAL : 0;
		flags |= m->target ? FLAG_TARGET : 0;
	}
	return flags;
}

int og_dht_msg_encode(const struct og_dht_msg *m, struct og_writer *w)
{
	uint8_t flags = flags_of(m);

	og_write_u8(w, m->reply ? TYPE_REPLY : TYPE_REQUEST);
	og_write_u8(w, flags);
	og_write_le16(w, m->tid);
	og_write_addr4(w, &m->to);
	if (m->id)
		og_write_bytes(w, m->id, OG_DHT_ID_BYTES);
	if (m->token)
		og_write_bytes(w, m->token, OG_DHT_TOKEN_BYTES);
	if (m->reply) {
		if (m->nb_closer > 0) {
			og_write_uint(w, m->nb_closer);
			og_write_bytes(w, m->closer, (size_t)m->nb_closer * OG_DHT_ADDR4_BYTES);
		}
		if (m->error != 0)
			og_write_uint(w, m->error);
	} else {
		og_write_uint(w, m->command);
		if (m->target)
			og_write_bytes(w, m->target, OG_DHT_ID_BYTES);
	}
	if (m->has_value)
		og_write_buffer(w, m->value, m->value_bytes);
	return og_writer_ok(w) ? 0 : -ENOBUFS;
}

void og_dht_node_id(uint8_t id[OG_DHT_ID_BYTES], const struct og_addr *a)
{
	uint8_t addr4[OG_DHT_ADDR4_BYTES];

	og_dht_addr4_store(addr4, a);
	og_hash_one(id, addr4, sizeof(addr4));
}
