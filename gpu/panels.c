#include "gpu/panels.h"

#include "gpu/half.h"

#include <assert.h>

enum {
	ROWS = OG_PANEL_ROWS,
	LINE_BYTES = 64,
	BLOCK_VALUES = 32, /* of Q8_0 and Q4_0 */
	SCALES_BYTES = 2 * ROWS,
};

static_assert((int)OG_Q8_0_VALUES == BLOCK_VALUES && (int)OG_Q4_0_VALUES == BLOCK_VALUES,
	"one block of activations serves both");

uint32_t og_panel_rows(enum og_dtype type, uint32_t n_in, uint32_t n_out)
{
	uint32_t whole = type == OG_F16                       ? 1
			 : type == OG_BF16                    ? 2
			 : type == OG_Q8_0 || type == OG_Q4_0 ? BLOCK_VALUES
							      : 0;

	return whole > 0 && n_in % whole == 0 ? n_out / ROWS * ROWS : 0;
}

/* A matrix of ROWS rows of n units turned on its side, by pieces of a cache line of each row. */
#define TURN(name, unit)                                                                           \
	static void name(uint8_t *out, const uint8_t *in, size_t row_bytes)                        \
	{                                                                                          \
		enum { UNITS = LINE_BYTES / sizeof(unit) };                                        \
		size_t n = row_bytes / sizeof(unit);                                               \
                                                                                                   \
		for (size_t at = 0; at < n; at += UNITS) {                                         \
			size_t count = OG_MIN(n - at, (size_t)UNITS);                              \
			unit piece[ROWS][UNITS], turned[ROWS];                                     \
                                                                                                   \
			for (size_t r = 0; r < ROWS; r++)                                          \
				memcpy(piece[r], in + r * row_bytes + at * sizeof(unit),           \
					count * sizeof(unit));                                     \
			for (size_t i = 0; i < count; i++) {                                       \
				for (size_t r = 0; r < ROWS; r++)                                  \
					turned[r] = piece[r][i];                                   \
				memcpy(out + (at + i) * sizeof(turned), turned, sizeof(turned));   \
			}                                                                          \
		}                                                                                  \
	}

TURN(turn_halves, uint16_t)
TURN(turn_pairs, uint32_t)

static void pack_q8_0(uint8_t *out, const uint8_t *in, size_t nb_blocks)
{
	size_t row_bytes = nb_blocks * OG_Q8_0_BYTES;

	for (size_t b = 0; b < nb_blocks; b++, in += OG_Q8_0_BYTES)
		for (size_t i = 0; i < OG_Q8_0_BYTES; i += 2, out += SCALES_BYTES)
			for (size_t r = 0; r < ROWS; r++)
				memcpy(out + 2 * r, in + r * row_bytes + i, 2);
}

/* The low nibbles of the four even bytes of `x`, side by side. */
static uint32_t gather_even(uint64_t x)
{
	x &= 0x000f000f000f000f;
	x |= x >> 12;
	return (uint32_t)((x & 0xff) | (x >> 24 & 0xff00));
}

/* Values 8i … 8i+7 of a block of Q4_0 as a panel has them. */
static uint32_t q4_0_eight(const uint8_t *block, size_t i)
{
	uint64_t bytes;

	memcpy(&bytes, block + 2 + i % 2 * 8, sizeof(bytes));
	bytes >>= i / 2 * 4;
	return gather_even(bytes) | gather_even(bytes >> 8) << 16;
}

static void pack_q4_0(uint8_t *out, const uint8_t *in, size_t nb_blocks)
{
	size_t row_bytes = nb_blocks * OG_Q4_0_BYTES;

	for (size_t b = 0; b < nb_blocks; b++, in += OG_Q4_0_BYTES, out += ROWS * OG_Q4_0_BYTES)
		for (size_t r = 0; r < ROWS; r++) {
			const uint8_t *block = in + r * row_bytes;

			memcpy(out + 2 * r, block, 2);
			for (size_t i = 0; i < BLOCK_VALUES / 8; i++) {
				uint32_t eight = q4_0_eight(block, i);

				memcpy(out + SCALES_BYTES + (i * ROWS + r) * 4, &eight, 4);
			}
		}
}

void og_panel_pack(enum og_dtype type, uint32_t n_in, uint8_t *data, uint8_t *bounce)
{
	size_t row_bytes = og_dtype_bytes(type, n_in);

	memcpy(bounce, data, ROWS * row_bytes);
	switch (type) {
	case OG_F16:
		turn_halves(data, bounce, row_bytes);
		break;
	case OG_BF16:
		turn_pairs(data, bounce, row_bytes);
		break;
	case OG_Q8_0:
		pack_q8_0(data, bounce, n_in / BLOCK_VALUES);
		break;
	default:
		OG_ASSERT(type == OG_Q4_0);
		pack_q4_0(data, bounce, n_in / BLOCK_VALUES);
	}
}

static uint16_t half_at(const uint8_t *p)
{
	uint16_t h;

	memcpy(&h, p, sizeof(h));
	return h;
}

/* Value `i` of row `row` of a block with scales. */
static float block_value(enum og_dtype type, const uint8_t *block, uint32_t row, uint32_t i)
{
	float scale = og_f16_to_f32(half_at(block + 2 * row));
	const uint8_t *values = block + SCALES_BYTES;
	uint32_t eight;

	if (type == OG_Q8_0)
		return scale * (int8_t)values[i / 2 * (2 * ROWS) + 2 * row + i % 2];
	memcpy(&eight, values + (i / 8 * ROWS + row) * 4, sizeof(eight));
	return scale * (float)((int)(eight >> (i % 2 * 16 + i % 8 / 2 * 4) & 15) - 8);
}

void og_panel_row(enum og_dtype type, uint32_t n_in, const uint8_t *panel, uint32_t row, float *out)
{
	for (uint32_t i = 0; i < n_in; i++) {
		if (type == OG_F16)
			out[i] = og_f16_to_f32(half_at(panel + 2 * ((size_t)i * ROWS + row)));
		else if (type == OG_BF16)
			out[i] = og_bf16_to_f32(
				half_at(panel + 4 * ((size_t)(i / 2) * ROWS + row) + i % 2 * 2));
		else
			out[i] = block_value(type,
				panel + i / BLOCK_VALUES *
						(ROWS * og_dtype_bytes(type, BLOCK_VALUES)),
				row, i % BLOCK_VALUES);
	}
}
