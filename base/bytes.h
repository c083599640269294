/*
 * bytes.h: bounds-checked cursors over bytes from a peer, and the wire integers.
 *
 * A reader or writer that runs past its end fails once and stays failed: every further read gives
 * zero (or NULL), every further write does nothing. So a decoder reads all its fields and asks
 * og_reader_ok() once. Lengths are compared as `len > end - p`, never `p + len > end`.
 *
 * Source:  compact encoding, dht.md 1.1 and 1.2.
 * Units:   bytes; wire integers are little endian unless the name says be.
 * Threads: values; no state.
 * Memory:  borrowed; og_read_bytes() points into the input.
 */
#pragma once
#include "base/addr.h"
#include "base/def.h"

#include <stdbool.h>
#include <string.h>

/* Whether two ids of 32 bytes are the same; not for secrets. */
static inline bool og_equal32(const uint8_t *a, const uint8_t *b)
{
	uint64_t x[4], y[4];

	memcpy(x, a, sizeof(x));
	memcpy(y, b, sizeof(y));
	return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3])) == 0;
}

struct og_reader {
	const uint8_t *p;
	const uint8_t *end;
	bool failed;
};

struct og_writer {
	uint8_t *start;
	uint8_t *p;
	uint8_t *end;
	bool failed;
};

static inline uint16_t og_load_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t og_load_le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t og_load_le64(const uint8_t *p)
{
	return (uint64_t)og_load_le32(p) | (uint64_t)og_load_le32(p + 4) << 32;
}

static inline uint16_t og_load_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void og_store_le16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline void og_store_le32(uint8_t *p, uint32_t v)
{
	og_store_le16(p, (uint16_t)v);
	og_store_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void og_store_le64(uint8_t *p, uint64_t v)
{
	og_store_le32(p, (uint32_t)v);
	og_store_le32(p + 4, (uint32_t)(v >> 32));
}

static inline void og_store_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline struct og_reader og_reader_of(const uint8_t *data, size_t len_bytes)
{
	return (struct og_reader){data, data + len_bytes, false};
}

static inline bool og_reader_ok(const struct og_reader *r)
{
	return !r->failed;
}

static inline size_t og_reader_left(const struct og_reader *r)
{
	return r->failed ? 0 : (size_t)(r->end - r->p);
}

static inline void og_reader_fail(struct og_reader *r)
{
	r->failed = true;
	r->p = r->end;
}

/* `len_bytes` bytes in place, or NULL when fewer are left. Zero bytes give a valid pointer. */
static inline const uint8_t *og_read_bytes(struct og_reader *r, uint64_t len_bytes)
{
	const uint8_t *p = r->p;

	if (r->failed || len_bytes > (uint64_t)(r->end - r->p)) {
		og_reader_fail(r);
		return NULL;
	}
	r->p += len_bytes;
	return p;
}

static inline uint8_t og_read_u8(struct og_reader *r)
{
	const uint8_t *p = og_read_bytes(r, 1);

	return p ? *p : 0;
}

static inline uint16_t og_read_le16(struct og_reader *r)
{
	const uint8_t *p = og_read_bytes(r, 2);

	return p ? og_load_le16(p) : 0;
}

static inline uint32_t og_read_le32(struct og_reader *r)
{
	const uint8_t *p = og_read_bytes(r, 4);

	return p ? og_load_le32(p) : 0;
}

static inline uint64_t og_read_le64(struct og_reader *r)
{
	const uint8_t *p = og_read_bytes(r, 8);

	return p ? og_load_le64(p) : 0;
}

/* dht.md 1.1: 1, 3, 5 or 9 bytes, any form accepted; above 2^53-1 fails. */
uint64_t og_read_uint(struct og_reader *r);
/* A uint that must be at most `max`; more fails. */
uint64_t og_read_uint_max(struct og_reader *r, uint64_t max);
/* dht.md 1.2 `buffer`: uint length, then the bytes, in place. */
const uint8_t *og_read_buffer(struct og_reader *r, uint32_t *len_bytes);
/* dht.md 1.2 `addr4`. */
struct og_addr og_read_addr4(struct og_reader *r);

static inline struct og_writer og_writer_of(uint8_t *data, size_t cap_bytes)
{
	return (struct og_writer){data, data, data + cap_bytes, false};
}

static inline bool og_writer_ok(const struct og_writer *w)
{
	return !w->failed;
}

static inline size_t og_writer_len(const struct og_writer *w)
{
	return (size_t)(w->p - w->start);
}

static inline size_t og_writer_left(const struct og_writer *w)
{
	return w->failed ? 0 : (size_t)(w->end - w->p);
}

/* Room for `len_bytes` bytes to be filled by the caller, or NULL. */
static inline uint8_t *og_write_space(struct og_writer *w, size_t len_bytes)
{
	uint8_t *p = w->p;

	if (w->failed || len_bytes > (size_t)(w->end - w->p)) {
		w->failed = true;
		return NULL;
	}
	w->p += len_bytes;
	return p;
}

static inline void og_write_bytes(struct og_writer *w, const void *data, size_t len_bytes)
{
	uint8_t *p = og_write_space(w, len_bytes);

	if (p && len_bytes > 0)
		memcpy(p, data, len_bytes);
}

static inline void og_write_u8(struct og_writer *w, uint8_t v)
{
	og_write_bytes(w, &v, 1);
}

static inline void og_write_le16(struct og_writer *w, uint16_t v)
{
	uint8_t *p = og_write_space(w, 2);

	if (p)
		og_store_le16(p, v);
}

static inline void og_write_le32(struct og_writer *w, uint32_t v)
{
	uint8_t *p = og_write_space(w, 4);

	if (p)
		og_store_le32(p, v);
}

static inline void og_write_le64(struct og_writer *w, uint64_t v)
{
	uint8_t *p = og_write_space(w, 8);

	if (p)
		og_store_le64(p, v);
}

/* Always the shortest form. */
void og_write_uint(struct og_writer *w, uint64_t v);
void og_write_buffer(struct og_writer *w, const void *data, uint32_t len_bytes);
void og_write_addr4(struct og_writer *w, const struct og_addr *a);

static inline size_t og_uint_bytes(uint64_t v)
{
	return v < 0xfd ? 1 : v <= 0xffff ? 3 : v <= 0xffffffff ? 5 : 9;
}
