#include "transport/frame_memory.h"

#include "base/count.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { RECLAIM_LOOKS = 256 };

static size_t round_up(size_t n)
{
	return (n + OG_FRAME_MEMORY_STEP - 1) / OG_FRAME_MEMORY_STEP * OG_FRAME_MEMORY_STEP;
}

int og_frame_memory_create(
	struct og_frame_memory *m, uint32_t nb_places, size_t place_bytes, uint64_t budget)
{
	*m = (struct og_frame_memory){
		.place_bytes = round_up(place_bytes),
		.budget = budget,
		.nb_places = nb_places,
	};
	m->places = calloc(nb_places, sizeof(*m->places));
	if (!m->places)
		return -ENOMEM;
	m->base = mmap(NULL, m->place_bytes * nb_places, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->base == MAP_FAILED) {
		free(m->places);
		return -ENOMEM;
	}
	return 0;
}

void og_frame_memory_destroy(struct og_frame_memory *m)
{
	munmap(m->base, m->place_bytes * m->nb_places);
	free(m->places);
}

static void trim(struct og_frame_memory *m, uint32_t place, uint32_t keep)
{
	struct og_frame_place *p = &m->places[place];

	if (p->charged <= keep)
		return;
	madvise(og_frame_memory_at(m, place) + keep, p->charged - keep, MADV_DONTNEED);
	og_count_add(&m->used, -(uint64_t)(p->charged - keep));
	p->charged = keep;
}

/* Takes back what idle streams keep, until `wanted` fits or enough of them were looked at. */
static bool reclaim(struct og_frame_memory *m, uint64_t wanted)
{
	uint32_t looks = OG_MIN(m->nb_places, (uint32_t)RECLAIM_LOOKS);

	while (looks-- > 0 && m->used + wanted > m->budget) {
		if (!m->places[m->hand].busy)
			trim(m, m->hand, 0);
		m->hand = (m->hand + 1) % m->nb_places;
	}
	return m->used + wanted <= m->budget;
}

int og_frame_memory_grow(struct og_frame_memory *m, uint32_t place, size_t n)
{
	struct og_frame_place *p = &m->places[place];
	uint64_t more;

	p->busy = true;
	if (n <= p->charged)
		return 0;
	more = round_up(n) - p->charged;
	if (m->used + more > m->budget && !reclaim(m, more))
		return -ENOBUFS;
	p->charged += (uint32_t)more;
	og_count_add(&m->used, more);
	return 0;
}

void og_frame_memory_done(struct og_frame_memory *m, uint32_t place)
{
	m->places[place].busy = false;
	trim(m, place, OG_FRAME_MEMORY_KEEP);
}

void og_frame_memory_release(struct og_frame_memory *m, uint32_t place)
{
	m->places[place].busy = false;
	trim(m, place, 0);
}
