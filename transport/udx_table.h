/*
 * udx_table.h: stream ids, live and lingering.
 *
 * An id that we chose leads to the slot of its stream, or, for some seconds after the stream was
 * closed, to the answer that its peer may still need (udx.md 8: a lost last acknowledgement, and
 * our own: a lost DESTROY). Open addressing, linear probing, no tombstones.
 *
 * Threads: one owner.
 * Memory:  allocated once by create; the oldest farewell makes room when all are in use.
 */
#pragma once
#include "base/addr.h"
#include "base/rand.h"

enum { OG_UDX_CORE_BITS = 6, OG_UDX_CORES_MAX = 1 << OG_UDX_CORE_BITS };

/* What a closed stream still answers. */
struct og_udx_farewell {
	uint32_t id; /* ours */
	uint32_t remote_id;
	uint32_t seq;
	uint32_t ack;
	struct og_addr remote;
	uint16_t endpoint;
	uint8_t flags; /* of the answer: 0, or OG_UDX_DESTROY */
	uint64_t until_ns;
};

struct og_udx_entry {
	uint32_t id;
	uint32_t value; /* 0: empty; else 1 + slot, or with the top bit 1 + index of a farewell */
};

struct og_udx_table {
	struct og_udx_entry *entries;
	uint32_t mask;
	uint8_t core_idx;
	uint32_t tag_key;
	struct og_udx_farewell *farewells; /* a ring in order of until_ns */
	uint32_t nb_farewells;
	uint32_t oldest;
	uint32_t used;
};

int og_udx_table_create(struct og_udx_table *t, uint32_t nb_streams, uint8_t core_idx,
	uint32_t tag_key) OG_MUST_CHECK;
void og_udx_table_destroy(struct og_udx_table *t);

/*
 * An id that is not in the table, random but for core_idx in its low OG_UDX_CORE_BITS bits and the tag
 * of stream_tag.h.
 */
uint32_t og_udx_table_new_id(const struct og_udx_table *t, struct og_rand *rand);
void og_udx_table_insert(struct og_udx_table *t, uint32_t id, uint32_t slot);
void og_udx_table_remove(struct og_udx_table *t, uint32_t id);
/* The slot of a live id, or -1; then *farewell is what a lingering one answers, or NULL. */
int64_t og_udx_table_find(
	const struct og_udx_table *t, uint32_t id, struct og_udx_farewell **farewell);

/* `f->id` must not be live. Times of `f->until_ns` must not go back from one call to the next. */
void og_udx_table_linger(struct og_udx_table *t, const struct og_udx_farewell *f);
void og_udx_table_expire(struct og_udx_table *t, uint64_t now_ns);
