#include "gpu/cpu/pool.h"
#include "gpu/fp8.h"
#include "gpu/model_priv.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { ITEM_ROWS = 64 };

/* A matrix in progress. */
struct work {
	const struct og_model_unpack *u;
	const float *scales;
	float values[256]; /* of codes */
};

static void unpack_row(const struct work *w, uint64_t row)
{
	const struct og_model_unpack *u = w->u;
	const uint8_t *codes = u->codes + row * u->n_in;
	const float *scales = w->scales + row / u->block_rows * u->scales_per_row;
	uint16_t *out = (uint16_t *)(void *)u->out.base + row * u->n_in;

	for (uint64_t from = 0; from < u->n_in; from += u->block_cols, scales++) {
		uint64_t to = OG_MIN(from + u->block_cols, u->n_in);

		for (uint64_t i = from; i < to; i++)
			out[i] = og_f32_to_bf16(w->values[codes[i]] * *scales);
	}
}

static void unpack_item(void *arg, uint32_t item)
{
	const struct work *w = arg;
	uint64_t from = (uint64_t)item * ITEM_ROWS, to = OG_MIN(from + ITEM_ROWS, w->u->n_rows);

	for (uint64_t row = from; row < to; row++)
		unpack_row(w, row);
}

/* What lies in whole pages of the codes is not needed any more. */
static void drop_codes(const struct og_model_unpack *u)
{
	uintptr_t from = (uintptr_t)u->codes, to = from + u->n_rows * u->n_in;

	from = (from + OG_LOAD_PAGE_BYTES - 1) / OG_LOAD_PAGE_BYTES * OG_LOAD_PAGE_BYTES;
	to = to / OG_LOAD_PAGE_BYTES * OG_LOAD_PAGE_BYTES;
	if (from < to)
		(void)madvise((void *)from, to - from, MADV_DONTNEED);
}

static int unpack(struct og_model *m, const struct og_model_unpack *u)
{
	uint64_t nb_scales = (u->n_rows + u->block_rows - 1) / u->block_rows * u->scales_per_row;
	float *scales = malloc(nb_scales * sizeof(*scales));
	struct work w = {.u = u, .scales = scales};
	int ret = scales ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < nb_scales && ret == 0; i++) {
		og_dequantize(u->scale->type, u->scale_data + og_dtype_bytes(u->scale->type, i), 1,
			&scales[i]);
		if (!(scales[i] >= 0) || !isfinite(scales[i])) {
			m->bad_scale = u->scale;
			ret = -EBADMSG;
		}
	}
	if (ret == 0) {
		for (uint32_t code = 0; code < OG_ARRAY_LEN(w.values); code++)
			w.values[code] = og_e4m3_to_f32((uint8_t)code);
		og_pool_run(m->unpack_pool, unpack_item, &w,
			(uint32_t)((u->n_rows + ITEM_ROWS - 1) / ITEM_ROWS));
		drop_codes(u);
	}
	free(scales);
	return ret;
}

int og_model_unpack(struct og_model *m, uint32_t from_stage, uint32_t to_stage)
{
	int ret = 0;

	for (const struct og_model_unpack *u = m->unpacks; u && ret == 0; u = u->next)
		if (u->stage >= from_stage && u->stage < to_stage)
			ret = unpack(m, u);
	return ret;
}

int og_model_unpack_start(struct og_model *m)
{
	return m->unpacks ? og_pool_create(&m->unpack_pool, OG_MAX(m->load_opts.unpack_threads, 1u))
			  : 0;
}

void og_model_unpack_stop(struct og_model *m)
{
	if (m->unpack_pool)
		og_pool_destroy(m->unpack_pool);
	m->unpack_pool = NULL;
}

void og_model_unpack_free(struct og_model *m)
{
	while (m->unpacks) {
		struct og_model_unpack *u = m->unpacks;

		m->unpacks = u->next;
		og_arena_fini(&u->out);
		free(u);
	}
}
