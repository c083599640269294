#include "base/bytes.h"

static const uint64_t uint_max = (1ull << 53) - 1;

uint64_t og_read_uint(struct og_reader *r)
{
	uint8_t first = og_read_u8(r);
	uint64_t v;

	switch (first) {
	case 0xfd:
		return og_read_le16(r);
	case 0xfe:
		return og_read_le32(r);
	case 0xff:
		v = og_read_le64(r);
		if (v > uint_max) {
			og_reader_fail(r);
			return 0;
		}
		return v;
	default:
		return first;
	}
}

uint64_t og_read_uint_max(struct og_reader *r, uint64_t max)
{
	uint64_t v = og_read_uint(r);

	if (v > max) {
		og_reader_fail(r);
		return 0;
	}
	return v;
}

const uint8_t *og_read_buffer(struct og_reader *r, uint32_t *len_bytes)
{
	uint64_t n = og_read_uint(r);
	const uint8_t *p = NULL;

	*len_bytes = 0;
	if (n > og_reader_left(r))
		og_reader_fail(r);
	else
		p = og_read_bytes(r, n);
	if (p)
		*len_bytes = (uint32_t)n;
	return p;
}

struct og_addr og_read_addr4(struct og_reader *r)
{
	struct og_addr a = {{0}, 0};
	const uint8_t *p = og_read_bytes(r, 6);

	if (p) {
		memcpy(a.ip, p, 4);
		a.port = og_load_le16(p + 4);
	}
	return a;
}

void og_write_uint(struct og_writer *w, uint64_t v)
{
	if (v < 0xfd) {
		og_write_u8(w, (uint8_t)v);
	} else if (v <= 0xffff) {
		og_write_u8(w, 0xfd);
		og_write_le16(w, (uint16_t)v);
	} else if (v <= 0xffffffff) {
		og_write_u8(w, 0xfe);
		og_write_le32(w, (uint32_t)v);
	} else if (v <= uint_max) {
		og_write_u8(w, 0xff);
		og_write_le64(w, v);
	} else {
		w->failed = true;
	}
}

void og_write_buffer(struct og_writer *w, const void *data, uint32_t len_bytes)
{
	og_write_uint(w, len_bytes);
	og_write_bytes(w, data, len_bytes);
}

void og_write_addr4(struct og_writer *w, const struct og_addr *a)
{
	og_write_bytes(w, a->ip, 4);
	og_write_le16(w, a->port);
}
