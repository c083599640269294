#include "transport/udx_table.h"

#include "base/stream_tag.h"

#include <errno.h>
#include <stdlib.h>

static const uint32_t farewell_bit = 1u << 31;

int og_udx_table_create(
	struct og_udx_table *t, uint32_t nb_streams, uint8_t core_idx, uint32_t tag_key)
{
	uint32_t size = 16;

	*t = (struct og_udx_table){
		.core_idx = core_idx, .tag_key = tag_key, .nb_farewells = nb_streams};
	if (nb_streams == 0 || nb_streams > 1u << 20 || core_idx >= OG_UDX_CORES_MAX)
		return -EINVAL;
	while (size < nb_streams * 4) /* streams and farewells: at most half full */
		size *= 2;
	t->mask = size - 1;
	t->entries = calloc(size, sizeof(*t->entries));
	t->farewells = calloc(nb_streams, sizeof(*t->farewells));
	if (!t->entries || !t->farewells) {
		og_udx_table_destroy(t);
		return -ENOMEM;
	}
	return 0;
}

void og_udx_table_destroy(struct og_udx_table *t)
{
	free(t->entries);
	free(t->farewells);
	*t = (struct og_udx_table){0};
}

static uint32_t home_of(const struct og_udx_table *t, uint32_t id)
{
	return (id * 0x9e3779b1u >> 7) & t->mask;
}

static struct og_udx_entry *probe(const struct og_udx_table *t, uint32_t id)
{
	uint32_t i = home_of(t, id);

	while (t->entries[i].value && t->entries[i].id != id)
		i = (i + 1) & t->mask;
	return &t->entries[i];
}

uint32_t og_udx_table_new_id(const struct og_udx_table *t, struct og_rand *rand)
{
	uint32_t id;

	do {
		id = (og_rand_u32(rand) & ~(uint32_t)(OG_UDX_CORES_MAX - 1)) | t->core_idx;
		id = og_stream_tag_put(id, t->tag_key);
	} while (probe(t, id)->value);
	return id;
}

static void set(struct og_udx_table *t, uint32_t id, uint32_t value)
{
	*probe(t, id) = (struct og_udx_entry){id, value};
}

void og_udx_table_insert(struct og_udx_table *t, uint32_t id, uint32_t slot)
{
	set(t, id, slot + 1);
}

void og_udx_table_remove(struct og_udx_table *t, uint32_t id)
{
	uint32_t hole = (uint32_t)(probe(t, id) - t->entries);
	uint32_t i = hole;

	/* Close the gap: move back every entry whose home does not lie behind the hole. */
	for (;;) {
		i = (i + 1) & t->mask;
		if (!t->entries[i].value)
			break;
		if (((i - home_of(t, t->entries[i].id)) & t->mask) >= ((i - hole) & t->mask)) {
			t->entries[hole] = t->entries[i];
			hole = i;
		}
	}
	t->entries[hole].value = 0;
}

int64_t og_udx_table_find(
	const struct og_udx_table *t, uint32_t id, struct og_udx_farewell **farewell)
{
	uint32_t value = probe(t, id)->value;

	*farewell = NULL;
	if (!value)
		return -1;
	if (!(value & farewell_bit))
		return value - 1;
	*farewell = &t->farewells[(value & ~farewell_bit) - 1];
	return -1;
}

static void drop_oldest(struct og_udx_table *t)
{
	og_udx_table_remove(t, t->farewells[t->oldest].id);
	t->oldest = (t->oldest + 1) % t->nb_farewells;
	t->used--;
}

void og_udx_table_linger(struct og_udx_table *t, const struct og_udx_farewell *f)
{
	uint32_t i;

	if (t->used == t->nb_farewells)
		drop_oldest(t);
	i = (t->oldest + t->used++) % t->nb_farewells;
	t->farewells[i] = *f;
	set(t, f->id, (i + 1) | farewell_bit);
}

void og_udx_table_expire(struct og_udx_table *t, uint64_t now_ns)
{
	while (t->used > 0 && t->farewells[t->oldest].until_ns <= now_ns)
		drop_oldest(t);
}
