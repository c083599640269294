/*
 * Products of weights in panels (gpu/panels.h), compiled once per instruction set. A lane is a row: each
 * sum runs over the values in order, whatever the shape of the tile, so all tiles give the same bits.
 */
#include "gpu/cpu/kernels.h"
#include "gpu/cpu/simd.h"
#include "gpu/panels.h"

/* Tile sizes must be constants for the sums to stay in registers, so the tiles are always inlined. */
#define TILE static inline __attribute__((always_inline)) void

enum {
	ROWS = OG_PANEL_ROWS,
	PANEL_VECS = ROWS / LANES,
	/* Rows and activations of a tile of many: its sums, weights and one activation fill the registers. */
	TILE_VECS = 2,
	COLS_MAX = LANES == 16 ? 8 : 5,
	/* So few activations leave room for whole panels, which hides the latency of the sums. */
	FEW_COLS = LANES == 4 ? 1 : 2,
	/* So many values of a panel stay in the first-level cache, of activations in the second-level one. */
	CHUNK = 256,
	COLS_BLOCK = 16 * COLS_MAX,
	SCALES_BYTES = 2 * ROWS,
	WORDS_BYTES = 4 * ROWS,
	AHEAD_BYTES = 1536, /* of one stream: the processor's own prefetch ends with each page */
};

/* What a tile multiplies: rows from `w` on with `cols` activations, values from `at` on. */
struct tile {
	float *out;
	size_t out_stride;
	const uint8_t *w; /* of the panel, at value `at` */
	const struct og_activations *a;
	uint32_t first; /* activation */
	uint32_t at;
	uint32_t n;
	uint32_t vec;   /* first of the panel's vectors */
	uint32_t ahead; /* how far to prefetch, in bytes */
};

/* The sums of the values before. */
TILE sums_load(vf sum[PANEL_VECS][COLS_MAX], const struct tile *t, int vecs, int cols)
{
	for (int c = 0; c < cols; c++)
		for (int v = 0; v < vecs; v++)
			sum[v][c] = t->at == 0 ? (vf){0}
					       : vf_load(t->out + c * t->out_stride + v * LANES);
}

TILE sums_store(vf sum[PANEL_VECS][COLS_MAX], const struct tile *t, int vecs, int cols)
{
	for (int c = 0; c < cols; c++)
		for (int v = 0; v < vecs; v++)
			vf_store(t->out + c * t->out_stride + v * LANES, sum[v][c]);
}

static inline void prefetch(const struct tile *t, const uint8_t *w, int bytes)
{
	for (int i = 0; i < bytes; i += 64)
		__builtin_prefetch(w + t->ahead + i);
}

/* sum += w[v] * x[c * stride] */
TILE add_products(vf sum[PANEL_VECS][COLS_MAX], const vf *w, const float *x, size_t stride,
	int vecs, int cols)
{
	for (int c = 0; c < cols; c++) {
		vf value = vf_set(x[c * stride]);

		for (int v = 0; v < vecs; v++)
			sum[v][c] = vf_fma(w[v], value, sum[v][c]);
	}
}

TILE bf16_tile(const struct tile *t, int vecs, int cols)
{
	const float *x = t->a->x + (size_t)t->first * t->a->stride + t->at;
	const uint8_t *w = t->w + t->vec * sizeof(vf);
	const vi upper = vi_set((int32_t)0xffff0000);
	vf sum[PANEL_VECS][COLS_MAX], values[PANEL_VECS];

	sums_load(sum, t, vecs, cols);
	for (uint32_t i = 0; i < t->n; i += 2, w += 4 * ROWS) {
		prefetch(t, w, vecs * (int)sizeof(vf));
		for (int v = 0; v < vecs; v++)
			values[v] = (vf)(vi_load(w + v * sizeof(vf)) << 16);
		add_products(sum, values, x + i, t->a->stride, vecs, cols);
		for (int v = 0; v < vecs; v++)
			values[v] = (vf)(vi_load(w + v * sizeof(vf)) & upper);
		add_products(sum, values, x + i + 1, t->a->stride, vecs, cols);
	}
	sums_store(sum, t, vecs, cols);
}

TILE f16_tile(const struct tile *t, int vecs, int cols)
{
	const float *x = t->a->x + (size_t)t->first * t->a->stride + t->at;
	const uint8_t *w = t->w + t->vec * (sizeof(vf) / 2);
	vf sum[PANEL_VECS][COLS_MAX], values[PANEL_VECS];

	sums_load(sum, t, vecs, cols);
	for (uint32_t i = 0; i < t->n; i++, w += 2 * ROWS) {
		prefetch(t, w, vecs * (int)sizeof(vf) / 2);
		for (int v = 0; v < vecs; v++)
			values[v] = vf_load_f16(w + v * (sizeof(vf) / 2));
		add_products(sum, values, x + i, t->a->stride, vecs, cols);
	}
	sums_store(sum, t, vecs, cols);
}

/* sum += pairs w[v] * the pair at x[c * stride] */
TILE add_pairs(vi sum[PANEL_VECS][COLS_MAX], const vh *w, const int16_t *x, size_t stride, int vecs,
	int cols)
{
	for (int c = 0; c < cols; c++) {
		int32_t pair;

		memcpy(&pair, x + c * stride, sizeof(pair));
		for (int v = 0; v < vecs; v++)
			sum[v][c] = vi_add_dot(sum[v][c], w[v], (vh)vi_set(pair));
	}
}

/*
 * Blocks are fetched a line at a time, between products: all at once they would wait for each other
 * and leave the memory idle afterwards.
 */
TILE q8_0_block(const struct tile *t, vi sum[PANEL_VECS][COLS_MAX], const uint8_t *w,
	const int16_t *x, int vecs, int cols)
{
	vh pairs[PANEL_VECS];

	for (int i = 0; i < OG_ACT_BLOCK; i += 2, w += 2 * ROWS) {
		/* A line is one pair of all rows: tiles of fewer vectors take turns. */
		if (i / 2 % (PANEL_VECS / vecs) == (int)t->vec / vecs)
			prefetch(t, w, 2 * ROWS);
		for (int v = 0; v < vecs; v++)
			pairs[v] = vh_load8(w + v * (sizeof(vf) / 2));
		add_pairs(sum, pairs, x + i, t->a->stride, vecs, cols);
	}
}

TILE q4_0_block(const struct tile *t, vi sum[PANEL_VECS][COLS_MAX], const uint8_t *w,
	const int16_t *x, int vecs, int cols)
{
	vh pairs[PANEL_VECS];

	for (int i = 0; i < OG_ACT_BLOCK; i += 8, w += 4 * ROWS)
		for (int j = 0; j < 4; j++) {
			if (j % 2 == 0)
				prefetch(t, w + j / 2 * (vecs * sizeof(vf) / 2),
					vecs * (int)sizeof(vf) / 2);
			for (int v = 0; v < vecs; v++)
				pairs[v] = vh_nibbles(w + v * sizeof(vf), j);
			add_pairs(sum, pairs, x + i + 2 * j, t->a->stride, vecs, cols);
		}
}

TILE block_tile(const struct tile *t, int vecs, int cols, enum og_dtype type)
{
	const size_t values_bytes = type == OG_Q8_0 ? 32 * ROWS : 16 * ROWS;
	const size_t vec_bytes = type == OG_Q8_0 ? sizeof(vf) / 2 : sizeof(vf);
	size_t nb_blocks = t->a->n / OG_ACT_BLOCK;
	size_t block = t->first * nb_blocks + t->at / OG_ACT_BLOCK;
	const int16_t *x = t->a->q + (size_t)t->first * t->a->stride + t->at;
	const float *x_scale = t->a->q_scale + block;
	const int32_t *x_total = t->a->q_total + block;
	const uint8_t *scales = t->w + t->vec * (sizeof(vf) / 2);
	const uint8_t *values = t->w + SCALES_BYTES + t->vec * vec_bytes;
	vf sum[PANEL_VECS][COLS_MAX];

	sums_load(sum, t, vecs, cols);
	for (uint32_t b = 0; b < t->n / OG_ACT_BLOCK; b++) {
		vi dot[PANEL_VECS][COLS_MAX];

		prefetch(t, scales, SCALES_BYTES * vecs / PANEL_VECS);
		/* The values of Q4_0 are stored with 8 added. */
		for (int c = 0; c < cols; c++)
			for (int v = 0; v < vecs; v++)
				dot[v][c] = vi_set(
					type == OG_Q4_0 ? -8 * x_total[c * nb_blocks + b] : 0);
		if (type == OG_Q8_0)
			q8_0_block(t, dot, values, x, vecs, cols);
		else
			q4_0_block(t, dot, values, x, vecs, cols);
		for (int v = 0; v < vecs; v++) {
			vf scale = vf_load_f16(scales + v * (sizeof(vf) / 2));

			for (int c = 0; c < cols; c++)
				sum[v][c] = vf_fma(__builtin_convertvector(dot[v][c], vf),
					scale * x_scale[c * nb_blocks + b], sum[v][c]);
		}
		scales += SCALES_BYTES + values_bytes;
		values += SCALES_BYTES + values_bytes;
		x += OG_ACT_BLOCK;
	}
	sums_store(sum, t, vecs, cols);
}

/* The words of the panel's rows at `p`, and of those the tile's vector v. */
static inline vi words_load(const struct tile *t, const uint8_t *p, int v)
{
	return vi_load(p + (t->vec + (uint32_t)v) * sizeof(vi));
}

static inline void prefetch_words(const struct tile *t, const uint8_t *p, int vecs)
{
	prefetch(t, p + t->vec * sizeof(vi), vecs * (int)sizeof(vi));
}

/* dot += eight values of each row at `w`, whose upper bits are at bits `shift` … of `upper`. */
TILE k_eight(const struct tile *t, vi dot[PANEL_VECS][COLS_MAX], const uint8_t *w, const vi *upper,
	int shift, const int16_t *x, int vecs, int cols, enum og_dtype type)
{
	vh pairs[PANEL_VECS];

	w += t->vec * sizeof(vi);
	for (int j = 0; j < 4; j++) {
		if (j % 2 == 0)
			prefetch(
				t, w + j / 2 * (vecs * sizeof(vf) / 2), vecs * (int)sizeof(vf) / 2);
		for (int v = 0; v < vecs; v++) {
			pairs[v] = vh_nibbles(w + v * sizeof(vf), j);
			if (type == OG_Q5_K)
				pairs[v] |= vh_bits_at_4((vh)upper[v], shift + j, 1);
			else if (type == OG_Q6_K)
				pairs[v] =
					(pairs[v] | vh_bits_at_4((vh)upper[v], shift + 2 * j, 2)) -
					32;
		}
		add_pairs(dot, pairs, x + 2 * j, t->a->stride, vecs, cols);
	}
}

/* Scale and minimum of part p, by lanes: as og_k_scale(). */
static inline void k_scales(const vi words[3], int p, vf *scale, vf *minimum)
{
	int at = p % 4 * 8;
	vi s, m;

	if (p < 4) {
		s = words[0] >> at & 63;
		m = words[1] >> at & 63;
	} else {
		s = (words[2] >> at & 15) | (words[0] >> (at + 6) & 3) << 4;
		m = (words[2] >> (at + 4) & 15) | (words[1] >> (at + 6) & 3) << 4;
	}
	*scale = __builtin_convertvector(s, vf);
	*minimum = __builtin_convertvector(m, vf);
}

/* A block: the sums of its parts with their small scales, then those with the large ones. */
TILE q45_k_block(const struct tile *t, vf sum[PANEL_VECS][COLS_MAX], const uint8_t *w,
	const int16_t *x, size_t block, int vecs, int cols, enum og_dtype type)
{
	size_t nb_parts = t->a->n / OG_ACT_BLOCK;
	const float *x_scale = t->a->q_scale + block;
	const int32_t *x_total = t->a->q_total + block;
	const uint8_t *large = w + t->vec * (sizeof(vf) / 2), *small = w + 2 * SCALES_BYTES;
	vf above[PANEL_VECS][COLS_MAX], below[PANEL_VECS][COLS_MAX];

	for (int c = 0; c < cols; c++)
		for (int v = 0; v < vecs; v++)
			above[v][c] = below[v][c] = (vf){0};
	prefetch(t, large, SCALES_BYTES * vecs / PANEL_VECS);
	prefetch(t, large + SCALES_BYTES, SCALES_BYTES * vecs / PANEL_VECS);
	for (int i = 0; i < 3; i++)
		prefetch_words(t, small + i * WORDS_BYTES, vecs);
	w = small + 3 * WORDS_BYTES;
	for (int p = 0; p < OG_K_PARTS; p++) {
		vi dot[PANEL_VECS][COLS_MAX], fifth[PANEL_VECS];

		for (int c = 0; c < cols; c++)
			for (int v = 0; v < vecs; v++)
				dot[v][c] = vi_set(0);
		if (type == OG_Q5_K) {
			prefetch_words(t, w, vecs);
			for (int v = 0; v < vecs; v++)
				fifth[v] = words_load(t, w, v);
			w += WORDS_BYTES;
		}
		for (int i = 0; i < 4; i++, w += WORDS_BYTES, x += 8)
			k_eight(t, dot, w, fifth, 4 * i, x, vecs, cols, type);
		for (int v = 0; v < vecs; v++) {
			const vi words[3] = {words_load(t, small, v),
				words_load(t, small + WORDS_BYTES, v),
				words_load(t, small + 2 * WORDS_BYTES, v)};
			vf scale, minimum;

			k_scales(words, p, &scale, &minimum);
			for (int c = 0; c < cols; c++) {
				float one = x_scale[c * nb_parts + p];
				float total = one * (float)x_total[c * nb_parts + p];

				above[v][c] = vf_fma(__builtin_convertvector(dot[v][c], vf),
					scale * one, above[v][c]);
				below[v][c] = vf_fma(minimum, vf_set(total), below[v][c]);
			}
		}
	}
	for (int v = 0; v < vecs; v++) {
		vf d = vf_load_f16(large + v * (sizeof(vf) / 2));
		vf d_min = vf_load_f16(large + SCALES_BYTES + v * (sizeof(vf) / 2));

		for (int c = 0; c < cols; c++)
			sum[v][c] = vf_fma(-d_min, below[v][c], vf_fma(d, above[v][c], sum[v][c]));
	}
}

TILE q6_k_block(const struct tile *t, vf sum[PANEL_VECS][COLS_MAX], const uint8_t *w,
	const int16_t *x, size_t block, int vecs, int cols)
{
	size_t nb_parts = t->a->n / OG_ACT_BLOCK;
	const float *x_scale = t->a->q_scale + block;
	const uint8_t *large = w + t->vec * (sizeof(vf) / 2), *small = w + SCALES_BYTES;
	vf above[PANEL_VECS][COLS_MAX];

	for (int c = 0; c < cols; c++)
		for (int v = 0; v < vecs; v++)
			above[v][c] = (vf){0};
	prefetch(t, large, SCALES_BYTES * vecs / PANEL_VECS);
	for (int i = 0; i < 4; i++)
		prefetch_words(t, small + i * WORDS_BYTES, vecs);
	w = small + 4 * WORDS_BYTES;
	for (int g = 0; g < 2 * OG_K_PARTS; g++, w += 3 * WORDS_BYTES, x += 16) {
		vi dot[PANEL_VECS][COLS_MAX], upper[PANEL_VECS];

		for (int c = 0; c < cols; c++)
			for (int v = 0; v < vecs; v++)
				dot[v][c] = vi_set(0);
		prefetch_words(t, w, vecs);
		for (int v = 0; v < vecs; v++)
			upper[v] = words_load(t, w, v);
		for (int i = 0; i < 2; i++)
			k_eight(t, dot, w + (1 + i) * WORDS_BYTES, upper, 8 * i, x + 8 * i, vecs,
				cols, OG_Q6_K);
		for (int v = 0; v < vecs; v++) {
			vi word = words_load(t, small + g / 4 * WORDS_BYTES, v);
			vf scale = __builtin_convertvector(word << (24 - g % 4 * 8) >> 24, vf);

			for (int c = 0; c < cols; c++)
				above[v][c] = vf_fma(__builtin_convertvector(dot[v][c], vf),
					scale * x_scale[c * nb_parts + g / 2], above[v][c]);
		}
	}
	for (int v = 0; v < vecs; v++) {
		vf d = vf_load_f16(large + v * (sizeof(vf) / 2));

		for (int c = 0; c < cols; c++)
			sum[v][c] = vf_fma(d, above[v][c], sum[v][c]);
	}
}

TILE k_tile(const struct tile *t, int vecs, int cols, enum og_dtype type)
{
	const size_t block_bytes = type == OG_Q4_K   ? ROWS * OG_Q4_K_BYTES
				   : type == OG_Q5_K ? ROWS * OG_Q5_K_BYTES
						     : ROWS * OG_Q6_K_BYTES;
	size_t block = t->first * (t->a->n / OG_ACT_BLOCK) + t->at / OG_ACT_BLOCK;
	const int16_t *x = t->a->q + (size_t)t->first * t->a->stride + t->at;
	const uint8_t *w = t->w;
	vf sum[PANEL_VECS][COLS_MAX];

	sums_load(sum, t, vecs, cols);
	for (uint32_t i = 0; i < t->n; i += OG_K_VALUES) {
		if (type == OG_Q6_K)
			q6_k_block(t, sum, w, x, block, vecs, cols);
		else
			q45_k_block(t, sum, w, x, block, vecs, cols, type);
		w += block_bytes;
		x += OG_K_VALUES;
		block += OG_K_PARTS;
	}
	sums_store(sum, t, vecs, cols);
}

TILE any_tile(const struct tile *t, int vecs, int cols, enum og_dtype type)
{
	if (type == OG_BF16)
		bf16_tile(t, vecs, cols);
	else if (type == OG_F16)
		f16_tile(t, vecs, cols);
	else if (type == OG_Q4_K || type == OG_Q5_K || type == OG_Q6_K)
		k_tile(t, vecs, cols, type);
	else
		block_tile(t, vecs, cols, type);
}

/* One panel with few activations: all of it in one go. */
TILE few(const struct tile *t, uint32_t count, enum og_dtype type)
{
	if (count == 2)
		any_tile(t, PANEL_VECS, 2, type);
	else
		any_tile(t, PANEL_VECS, 1, type);
}

/* TILE_VECS vectors of a panel with `count` activations. */
TILE some(const struct tile *t, uint32_t count, enum og_dtype type)
{
	switch (count) {
	case 8:
		any_tile(t, TILE_VECS, COLS_MAX < 8 ? 1 : 8, type);
		break;
	case 7:
		any_tile(t, TILE_VECS, COLS_MAX < 8 ? 1 : 7, type);
		break;
	case 6:
		any_tile(t, TILE_VECS, COLS_MAX < 6 ? 1 : 6, type);
		break;
	case 5:
		any_tile(t, TILE_VECS, COLS_MAX < 5 ? 1 : 5, type);
		break;
	case 4:
		any_tile(t, TILE_VECS, 4, type);
		break;
	case 3:
		any_tile(t, TILE_VECS, 3, type);
		break;
	case 2:
		any_tile(t, TILE_VECS, 2, type);
		break;
	default:
		any_tile(t, TILE_VECS, 1, type);
	}
}

/*
 * One chunk of a panel with many activations, shared out so that no tile is much smaller. The first
 * tile waits for memory, so it fetches the next chunk too.
 */
TILE many(struct tile *t, uint32_t count, enum og_dtype type, uint32_t chunk_bytes)
{
	uint32_t nb_tiles = (count + COLS_MAX - 1) / COLS_MAX;
	float *out = t->out;
	uint32_t first = t->first;

	for (t->vec = 0; t->vec < PANEL_VECS; t->vec += TILE_VECS)
		for (uint32_t i = 0, from = 0; i < nb_tiles; i++) {
			uint32_t to = count * (i + 1) / nb_tiles;

			t->first = first + from;
			t->out = out + from * t->out_stride + t->vec * LANES;
			t->ahead = i == 0 ? chunk_bytes : 0;
			some(t, to - from, type);
			from = to;
		}
}

TILE panels(float *out, size_t out_stride, const uint8_t *w, size_t row_bytes, uint32_t nb_rows,
	const struct og_activations *a, uint32_t first, uint32_t count, enum og_dtype type)
{
	size_t panel_bytes = ROWS * row_bytes;
	uint32_t chunk_bytes = (uint32_t)(panel_bytes * CHUNK / a->n), cols;

	for (uint32_t r = 0; r < nb_rows && count <= FEW_COLS; r += ROWS, w += panel_bytes) {
		struct tile t = {out + r, out_stride, w, a, first, 0, a->n, 0, AHEAD_BYTES};

		few(&t, count, type);
	}
	for (uint32_t c = 0; c < count && count > FEW_COLS; c += cols) {
		cols = OG_MIN(count - c, (uint32_t)COLS_BLOCK);
		for (uint32_t at = 0; at < a->n; at += CHUNK)
			for (uint32_t r = 0; r < nb_rows; r += ROWS) {
				struct tile t = {out + c * out_stride + r, out_stride,
					w + r * row_bytes + panel_bytes * at / a->n, a, first + c,
					at, OG_MIN(a->n - at, (uint32_t)CHUNK), 0, 0};

				many(&t, cols, type, chunk_bytes);
			}
	}
}

#define PANEL_MATMUL(name, type)                                                                   \
	static void name(float *out, size_t out_stride, const uint8_t *w, size_t row_bytes,        \
		uint32_t nb_rows, const struct og_activations *a, uint32_t first, uint32_t count)  \
	{                                                                                          \
		panels(out, out_stride, w, row_bytes, nb_rows, a, first, count, type);             \
	}

PANEL_MATMUL(matmul_f16, OG_F16)
PANEL_MATMUL(matmul_bf16, OG_BF16)
PANEL_MATMUL(matmul_q8_0, OG_Q8_0)
PANEL_MATMUL(matmul_q4_0, OG_Q4_0)
PANEL_MATMUL(matmul_q4_k, OG_Q4_K)
PANEL_MATMUL(matmul_q5_k, OG_Q5_K)
PANEL_MATMUL(matmul_q6_k, OG_Q6_K)

extern og_matmul_fn *const OG_OF_ISA(og_cpu_panels_)[OG_DTYPES];
og_matmul_fn *const OG_OF_ISA(og_cpu_panels_)[OG_DTYPES] = {
	[OG_F16] = matmul_f16,
	[OG_BF16] = matmul_bf16,
	[OG_Q8_0] = matmul_q8_0,
	[OG_Q4_0] = matmul_q4_0,
	[OG_Q4_K] = matmul_q4_k,
	[OG_Q5_K] = matmul_q5_k,
	[OG_Q6_K] = matmul_q6_k,
};
