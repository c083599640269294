/* Compiled once per instruction set: see simd.h and the build file. */
#include "gpu/cpu/kernels.h"

#include "gpu/cpu/simd.h"

#include <math.h>

/* Tile sizes must be constants for the sums to stay in registers, so the tiles are always inlined. */
#define TILE static inline __attribute__((always_inline)) void

enum {
	SUMS = 2, /* per dot product: hides the latency of the fused product */
	/* Activations in a tile: of plain values with two rows, of blocks with one. */
	FLOAT_COLS = LANES == 16 ? 4 : 3,
	BLOCK_COLS = 4,
	COLS_MAX = 4,
};

typedef vf load_fn(const void *p);

static vf load_f32(const void *p)
{
	return vf_load(p);
}

static float scalar_f32(const uint8_t *p)
{
	float f;

	memcpy(&f, p, sizeof(f));
	return f;
}

static float scalar_bf16(const uint8_t *p)
{
	return og_bf16_to_f32(og_load_le16(p));
}

static float scalar_f16(const uint8_t *p)
{
	return og_f16_to_f32(og_load_le16(p));
}

/* The same place of the next tile: a row is often a page, where the processor's own prefetch ends. */
static inline void prefetch_next(const uint8_t *at, size_t tile_bytes)
{
	__builtin_prefetch(at + tile_bytes);
}

/* rows x cols dot products of floating-point weights: cols activations, each of n values at x. */
TILE float_tile(float *out, size_t out_stride, const uint8_t *w, size_t row_bytes, const float *x,
	size_t x_stride, uint32_t n, int rows, int cols, load_fn *load,
	float (*scalar)(const uint8_t *p), uint32_t value_bytes)
{
	vf sum[2][COLS_MAX][SUMS] = {0};
	uint32_t i = 0;

	for (; i + SUMS * LANES <= n; i += SUMS * LANES) {
		for (int r = 0; r < rows; r++)
			prefetch_next(w + r * row_bytes + i * value_bytes, rows * row_bytes);
		for (int s = 0; s < SUMS; s++)
			for (int r = 0; r < rows; r++) {
				vf weight = load(w + r * row_bytes + (i + s * LANES) * value_bytes);

				for (int c = 0; c < cols; c++)
					sum[r][c][s] = vf_fma(weight,
						vf_load(x + c * x_stride + i + s * LANES),
						sum[r][c][s]);
			}
	}
	for (int c = 0; c < cols; c++)
		for (int r = 0; r < rows; r++) {
			float total = vf_sum(sum[r][c][0] + sum[r][c][1]);

			for (uint32_t j = i; j < n; j++)
				total += scalar(w + r * row_bytes + j * value_bytes) *
					 x[c * x_stride + j];
			out[(size_t)c * out_stride + r] = total;
		}
}

/* The values of a block of 32 with one scale. */
static inline q_block small_values(enum og_dtype type, const uint8_t *block)
{
	vb v;

	if (type == OG_Q8_0) {
		vb_load(&v, block + 2);
	} else {
		memcpy(&v, block + 2, 16);
		memcpy((uint8_t *)&v + 16, block + 2, 16);
		for (int i = 0; i < 32; i++)
			v[i] = (uint8_t)((i < 16 ? v[i] & 15 : v[i] >> 4) - 8);
	}
	return q_widen(&v);
}

TILE small_tile(float *out, size_t out_stride, const uint8_t *w, size_t row_bytes, const int16_t *x,
	size_t x_stride, const float *x_scale, uint32_t n, int rows, int cols, enum og_dtype type,
	uint32_t block_bytes)
{
	vf sum[2][COLS_MAX][SUMS] = {0};
	uint32_t nb_blocks = n / OG_ACT_BLOCK;

	for (uint32_t b = 0; b < nb_blocks; b += SUMS) {
		for (int r = 0; r < rows; r++)
			prefetch_next(
				w + r * row_bytes + b * (size_t)block_bytes, rows * row_bytes);
		for (uint32_t s = 0; s < SUMS && b + s < nb_blocks; s++)
			for (int r = 0; r < rows; r++) {
				const uint8_t *block =
					w + r * row_bytes + (b + s) * (size_t)block_bytes;
				float scale = f16_scale(block);
				q_block values = small_values(type, block);

				for (int c = 0; c < cols; c++) {
					const int16_t *q =
						x + c * x_stride + (b + s) * OG_ACT_BLOCK;
					float both = scale * x_scale[(size_t)c * nb_blocks + b + s];

					sum[r][c][s] = vf_fma(
						q_dot(values, q), vf_set(both), sum[r][c][s]);
				}
			}
	}
	for (int c = 0; c < cols; c++)
		for (int r = 0; r < rows; r++)
			out[(size_t)c * out_stride + r] = vf_sum(sum[r][c][0] + sum[r][c][1]);
}

/* The integers of part `part` of a K block. */
static inline q_block k_values(enum og_dtype type, const uint8_t *block, int part)
{
	vb v, upper;

	if (type == OG_Q6_K) {
		int half = part / 4, quarter = part % 4;

		vb_load(&v, block + 64 * half + quarter % 2 * 32);
		vb_load(&upper, block + 128 + 32 * half);
		v = v >> (quarter / 2 * 4) & 15;
		v = (v | (upper >> (2 * quarter) & 3) << 4) - 32;
		return q_widen(&v);
	}
	vb_load(&v, block + (type == OG_Q5_K ? 48 : 16) + part / 2 * 32);
	v = v >> (part % 2 * 4) & 15;
	if (type == OG_Q5_K) {
		vb_load(&upper, block + 16);
		v |= (upper >> part & 1) << 4;
	}
	return q_widen(&v);
}

/* What the integers of each part are multiplied with, and in Q4_K and Q5_K what is subtracted. */
struct k_scales {
	float scale[2][OG_K_PARTS]; /* of the first and second half of a part */
	v8 minimum;
};

static inline void k_scales_read(struct k_scales *s, enum og_dtype type, const uint8_t *block)
{
	float minima[OG_K_PARTS];

	if (type == OG_Q6_K) {
		float d = f16_scale(block + 208);

		for (int p = 0; p < OG_K_PARTS; p++) {
			s->scale[0][p] = d * (int8_t)block[192 + 2 * p];
			s->scale[1][p] = d * (int8_t)block[192 + 2 * p + 1];
		}
		return;
	}
	for (uint32_t p = 0; p < OG_K_PARTS; p++) {
		uint8_t scale, minimum;

		og_k_scale(block + 4, p, &scale, &minimum);
		s->scale[0][p] = f16_scale(block) * scale;
		minima[p] = f16_scale(block + 2) * minimum;
	}
	memcpy(&s->minimum, minima, sizeof(minima));
}

TILE k_tile(float *out, size_t out_stride, const uint8_t *w, size_t row_bytes,
	const struct og_activations *a, uint32_t first, int rows, int cols, enum og_dtype type,
	uint32_t block_bytes)
{
	vf sum[2][COLS_MAX][SUMS] = {0};
	v8 below[2][COLS_MAX] = {0};
	uint32_t n = a->n, nb_parts = n / OG_ACT_BLOCK;

	for (uint32_t b = 0; b < n / OG_K_VALUES; b++)
		for (int r = 0; r < rows; r++) {
			const uint8_t *block = w + r * row_bytes + b * (size_t)block_bytes;
			struct k_scales k;

			k_scales_read(&k, type, block);
			for (int p = 0; p < OG_K_PARTS; p++) {
				q_block values = k_values(type, block, p);

				for (int c = 0; c < cols; c++) {
					size_t at =
						(size_t)(first + c) * nb_parts + b * OG_K_PARTS + p;
					const int16_t *x = a->q + (size_t)(first + c) * a->stride +
							   (b * OG_K_PARTS + p) * OG_ACT_BLOCK;
					float x_scale = a->q_scale[at];
					vf *to = &sum[r][c][p % SUMS];

					if (type == OG_Q6_K)
						*to = q_dot_halves(values, x,
							k.scale[0][p] * x_scale,
							k.scale[1][p] * x_scale, *to);
					else
						*to = vf_fma(q_dot(values, x),
							vf_set(k.scale[0][p] * x_scale), *to);
				}
			}
			for (int c = 0; c < cols && type != OG_Q6_K; c++) {
				size_t at = (size_t)(first + c) * nb_parts + b * OG_K_PARTS;
				v8i total;
				v8 scale;

				memcpy(&total, a->q_total + at, sizeof(total));
				memcpy(&scale, a->q_scale + at, sizeof(scale));
				below[r][c] +=
					k.minimum * (__builtin_convertvector(total, v8) * scale);
			}
		}
	for (int c = 0; c < cols; c++)
		for (int r = 0; r < rows; r++) {
			float total = vf_sum(sum[r][c][0] + sum[r][c][1]);

			for (int p = 0; p < OG_K_PARTS && type != OG_Q6_K; p++)
				total -= below[r][c][p];
			out[(size_t)c * out_stride + r] = total;
		}
}

/*
 * Cover nb_rows x count by tiles: `cols` activations and `rows` rows at a time, so that each vector
 * loaded is used several times and the sums fill the registers; then fewer activations.
 */
#define COVER_ROWS(tile, rows, cols, ...)                                                          \
	do {                                                                                       \
		uint32_t r = 0;                                                                    \
                                                                                                   \
		for (; r + (rows) <= nb_rows; r += (rows))                                         \
			tile(rows, cols, __VA_ARGS__);                                             \
		for (; r < nb_rows; r++)                                                           \
			tile(1, cols, __VA_ARGS__);                                                \
	} while (0)

#define COVER(tile, rows, cols, ...)                                                               \
	do {                                                                                       \
		uint32_t c = 0;                                                                    \
                                                                                                   \
		for (; c + (cols) <= count; c += (cols))                                           \
			COVER_ROWS(tile, rows, cols, __VA_ARGS__);                                 \
		for (; c + 2 <= count; c += 2)                                                     \
			COVER_ROWS(tile, rows, 2, __VA_ARGS__);                                    \
		for (; c < count; c++)                                                             \
			COVER_ROWS(tile, 2, 1, __VA_ARGS__);                                       \
	} while (0)

#define FLOAT_TILE(rows, cols, load, scalar, value_bytes)                                          \
	float_tile(out + c * out_stride + r, out_stride, w + r * row_bytes, row_bytes,             \
		a->x + (size_t)(first + c) * a->stride, a->stride, a->n, rows, cols, load, scalar, \
		value_bytes)

#define FLOAT_MATMUL(name, load, scalar, value_bytes)                                              \
	static void name(float *out, size_t out_stride, const uint8_t *w, size_t row_bytes,        \
		uint32_t nb_rows, const struct og_activations *a, uint32_t first, uint32_t count)  \
	{                                                                                          \
		COVER(FLOAT_TILE, 2, FLOAT_COLS, load, scalar, value_bytes);                       \
	}

FLOAT_MATMUL(matmul_f32, load_f32, scalar_f32, 4)
FLOAT_MATMUL(matmul_f16, vf_load_f16, scalar_f16, 2)
FLOAT_MATMUL(matmul_bf16, vf_load_bf16, scalar_bf16, 2)

#define SMALL_TILE(rows, cols, type, block_bytes)                                                  \
	small_tile(out + c * out_stride + r, out_stride, w + r * row_bytes, row_bytes,             \
		a->q + (size_t)(first + c) * a->stride, a->stride,                                 \
		a->q_scale + (size_t)(first + c) * (a->n / OG_ACT_BLOCK), a->n, rows, cols, type,  \
		block_bytes)

#define K_TILE(rows, cols, type, block_bytes)                                                      \
	k_tile(out + c * out_stride + r, out_stride, w + r * row_bytes, row_bytes, a, first + c,   \
		rows, cols, type, block_bytes)

#define BLOCK_MATMUL(name, TILE_OF, type, block_bytes)                                             \
	static void name(float *out, size_t out_stride, const uint8_t *w, size_t row_bytes,        \
		uint32_t nb_rows, const struct og_activations *a, uint32_t first, uint32_t count)  \
	{                                                                                          \
		COVER(TILE_OF, 1, BLOCK_COLS, type, block_bytes);                                  \
	}

BLOCK_MATMUL(matmul_q8_0, SMALL_TILE, OG_Q8_0, OG_Q8_0_BYTES)
BLOCK_MATMUL(matmul_q4_0, SMALL_TILE, OG_Q4_0, OG_Q4_0_BYTES)
BLOCK_MATMUL(matmul_q4_k, K_TILE, OG_Q4_K, OG_Q4_K_BYTES)
BLOCK_MATMUL(matmul_q5_k, K_TILE, OG_Q5_K, OG_Q5_K_BYTES)
BLOCK_MATMUL(matmul_q6_k, K_TILE, OG_Q6_K, OG_Q6_K_BYTES)

static void quantize(const float *x, int16_t *q, float *scale, int32_t *total, uint32_t n)
{
	const vf zero = {0}, half = vf_set(0.5f);

	for (uint32_t b = 0; b < n; b += OG_ACT_BLOCK) {
		vf top = zero;
		vi sum = {0};
		float max, inverse;

		for (uint32_t i = b; i < b + OG_ACT_BLOCK; i += LANES) {
			vf v = vf_load(x + i);

			top = vf_max(vf_max(v, -v), top);
		}
		max = vf_top(top);
		/* Outside lie zero, what rounds to it, and infinity: that poisons its block. */
		inverse = max > 1e-30f && max < 3e38f ? 32767.0f / max : 0.0f;
		for (uint32_t i = b; i < b + OG_ACT_BLOCK; i += LANES) {
			vf v = vf_load(x + i) * inverse;
			vi sign = v < zero, is_number = v == v, rounded;

			v += (vf)((vi)half | (sign & INT32_MIN));
			rounded = __builtin_convertvector((vf)((vi)v & is_number), vi);
			vi_store16(q + i, rounded);
			sum += rounded;
		}
		scale[b / OG_ACT_BLOCK] = max / 32767.0f;
		total[b / OG_ACT_BLOCK] = vi_sum(sum);
	}
}

static void rms_norm(float *out, const float *x, const float *w, uint32_t n, float eps)
{
	vf sum = {0};
	float total, scale;
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES)
		sum = vf_fma(vf_load(x + i), vf_load(x + i), sum);
	total = vf_sum(sum);
	for (; i < n; i++)
		total += x[i] * x[i];
	scale = 1.0f / sqrtf(total / (float)n + eps);
	for (i = 0; i < n; i++)
		out[i] = x[i] * scale * w[i];
}

static void scores(
	float *out, const float *q, const uint16_t *k, uint32_t count, uint32_t n, float scale)
{
	for (uint32_t t = 0; t < count; t++, k += n) {
		vf sum = {0};
		float total;
		uint32_t i = 0;

		for (; i + LANES <= n; i += LANES)
			sum = vf_fma(vf_load_f16(k + i), vf_load(q + i), sum);
		total = vf_sum(sum);
		for (; i < n; i++)
			total += og_f16_to_f32(k[i]) * q[i];
		out[t] = total * scale;
	}
}

/* The last n % LANES values, computed as a whole vector so that they round like the others. */
static vf load_tail(const float *x, uint32_t n)
{
	float lanes[LANES] = {0};

	memcpy(lanes, x, n * sizeof(float));
	return vf_load(lanes);
}

static float exp_sum(float *x, uint32_t n, float max)
{
	float total = 0;
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES) {
		vf e = vf_exp(vf_load(x + i) - max);

		vf_store(x + i, e);
		total += vf_sum(e);
	}
	if (i < n) {
		float lanes[LANES];

		vf_store(lanes, vf_exp(load_tail(x + i, n - i) - max));
		for (uint32_t j = i; j < n; j++) {
			x[j] = lanes[j - i];
			total += x[j];
		}
	}
	return total;
}

static void mix(float *out, const float *p, const uint16_t *v, uint32_t count, uint32_t n)
{
	uint32_t i = 0;

	for (; i + 4 * LANES <= n; i += 4 * LANES) {
		vf sum[4];

		for (int s = 0; s < 4; s++)
			sum[s] = vf_load(out + i + s * LANES);
		for (uint32_t t = 0; t < count; t++)
			for (int s = 0; s < 4; s++)
				sum[s] = vf_fma(vf_set(p[t]),
					vf_load_f16(v + (size_t)t * n + i + s * LANES), sum[s]);
		for (int s = 0; s < 4; s++)
			vf_store(out + i + s * LANES, sum[s]);
	}
	for (; i + LANES <= n; i += LANES) {
		vf sum = vf_load(out + i);

		for (uint32_t t = 0; t < count; t++)
			sum = vf_fma(vf_set(p[t]), vf_load_f16(v + (size_t)t * n + i), sum);
		vf_store(out + i, sum);
	}
	for (; i < n; i++)
		for (uint32_t t = 0; t < count; t++)
			out[i] += p[t] * og_f16_to_f32(v[(size_t)t * n + i]);
}

static void to_f16(uint16_t *out, const float *x, uint32_t n)
{
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES)
		vf_store_f16(out + i, vf_load(x + i));
	for (; i < n; i++)
		out[i] = og_f32_to_f16(x[i]);
}

static vf silu(vf x)
{
	return x / (vf_exp(-x) + 1.0f);
}

/* 0.5 x (1 + tanh(u)) = x / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3) */
static vf gelu_tanh(vf x)
{
	return x / (vf_exp(-1.59576912f * (x + 0.044715f * x * x * x)) + 1.0f);
}

static inline __attribute__((always_inline)) void gated(
	float *gate, const float *up, uint32_t n, vf (*act)(vf x))
{
	uint32_t i = 0;

	for (; i + LANES <= n; i += LANES)
		vf_store(gate + i, act(vf_load(gate + i)) * vf_load(up + i));
	if (i < n) {
		float lanes[LANES];

		vf_store(lanes, act(load_tail(gate + i, n - i)));
		for (uint32_t j = i; j < n; j++)
			gate[j] = lanes[j - i] * up[j];
	}
}

static void swiglu(float *gate, const float *up, uint32_t n)
{
	gated(gate, up, n, silu);
}

static void geglu(float *gate, const float *up, uint32_t n)
{
	gated(gate, up, n, gelu_tanh);
}

#define TEXT_OF(isa) OG_TEXT(isa)
#define OG_TEXT(isa) #isa

extern og_matmul_fn *const OG_OF_ISA(og_cpu_panels_)[OG_DTYPES];
extern const struct og_cpu_kernels OG_OF_ISA(og_cpu_kernels_);
const struct og_cpu_kernels OG_OF_ISA(og_cpu_kernels_) = {
	.isa = TEXT_OF(OG_ISA),
	.matmul_panels = OG_OF_ISA(og_cpu_panels_),
	.matmul =
		{
			[OG_F32] = matmul_f32,
			[OG_F16] = matmul_f16,
			[OG_BF16] = matmul_bf16,
			[OG_Q8_0] = matmul_q8_0,
			[OG_Q4_0] = matmul_q4_0,
			[OG_Q4_K] = matmul_q4_k,
			[OG_Q5_K] = matmul_q5_k,
			[OG_Q6_K] = matmul_q6_k,
		},
	.quantize = quantize,
	.rms_norm = rms_norm,
	.scores = scores,
	.exp_sum = exp_sum,
	.mix = mix,
	.to_f16 = to_f16,
	.swiglu = swiglu,
	.geglu = geglu,
};
