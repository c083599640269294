#include "gpu/panels.h"

#include "gpu/half.h"

#include <assert.h>
#include <stdbool.h>

enum {
	ROWS = OG_PANEL_ROWS,
	LINE_BYTES = 64,
	BLOCK_VALUES = 32, /* of Q8_0 and Q4_0 */
	SCALES_BYTES = 2 * ROWS,
	WORDS_BYTES = 4 * ROWS, /* a word of each row */
};

static_assert((int)OG_Q8_0_VALUES == BLOCK_VALUES && (int)OG_Q4_0_VALUES == BLOCK_VALUES,
	"one block of activations serves both");

uint32_t og_panel_rows(enum og_dtype type, uint32_t n_in, uint32_t n_out)
{
	uint32_t whole = type == OG_F16                         ? 1
			 : type == OG_BF16                      ? 2
			 : type == OG_Q8_0 || type == OG_Q4_0   ? BLOCK_VALUES
			 : og_dtype_values(type) == OG_K_VALUES ? OG_K_VALUES
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

/* The low nibbles of eight bytes as a panel has them. */
static uint32_t gather(uint64_t bytes)
{
	return gather_even(bytes) | gather_even(bytes >> 8) << 16;
}

/* Values 8i … 8i+7 of a block of Q4_0 as a panel has them. */
static uint32_t q4_0_eight(const uint8_t *block, size_t i)
{
	uint64_t bytes;

	memcpy(&bytes, block + 2 + i % 2 * 8, sizeof(bytes));
	return gather(bytes >> i / 2 * 4);
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

static uint64_t load_eight(const uint8_t *p)
{
	uint64_t x;

	memcpy(&x, p, sizeof(x));
	return x;
}

/* Of row `row`, word `i` of those that begin at `out`. */
static void put_word(uint8_t *out, size_t row, size_t i, uint32_t word)
{
	memcpy(out + i * WORDS_BYTES + 4 * row, &word, sizeof(word));
}

/* `bits` bits of each of n values from `shift` on, the even values below, the odd ones in the upper half. */
static uint32_t gather_bits(const uint8_t *values, uint32_t n, uint32_t shift, uint32_t bits)
{
	uint32_t word = 0, mask = (1u << bits) - 1;

	for (uint32_t i = 0; i < n; i++)
		word |= (values[i] >> shift & mask) << (i % 2 * 16 + i / 2 * bits);
	return word;
}

static void pack_q45_k_row(uint8_t *out, size_t row, const uint8_t *block, bool has_fifth)
{
	const uint8_t *fifth = block + 16, *nibbles = has_fifth ? fifth + 32 : fifth;

	memcpy(out + 2 * row, block, 2);
	memcpy(out + SCALES_BYTES + 2 * row, block + 2, 2);
	out += 2 * SCALES_BYTES;
	for (size_t i = 0; i < 3; i++, out += WORDS_BYTES)
		memcpy(out + 4 * row, block + 4 + 4 * i, 4);
	for (uint32_t part = 0; part < OG_K_PARTS; part++) {
		if (has_fifth) {
			put_word(out, row, 0, gather_bits(fifth, 32, part, 1));
			out += WORDS_BYTES;
		}
		for (size_t i = 0; i < 4; i++, out += WORDS_BYTES)
			put_word(out, row, 0,
				gather(load_eight(nibbles + part / 2 * 32 + 8 * i) >>
					part % 2 * 4));
	}
}

static void pack_q6_k_row(uint8_t *out, size_t row, const uint8_t *block)
{
	memcpy(out + 2 * row, block + 208, 2);
	out += SCALES_BYTES;
	for (size_t i = 0; i < 4; i++, out += WORDS_BYTES)
		memcpy(out + 4 * row, block + 192 + 4 * i, 4);
	for (uint32_t at = 0; at < OG_K_VALUES; at += 16) {
		uint32_t half = at / 128, quarter = at / 32 % 4, j = at % 32;
		const uint8_t *nibbles = block + half * 64 + quarter % 2 * 32 + j;
		const uint8_t *upper = block + 128 + half * 32 + j;

		put_word(out, row, 0, gather_bits(upper, 16, quarter * 2, 2));
		for (size_t i = 0; i < 2; i++)
			put_word(out, row, 1 + i,
				gather(load_eight(nibbles + 8 * i) >> quarter / 2 * 4));
		out += 3 * WORDS_BYTES;
	}
}

static void pack_k(enum og_dtype type, uint8_t *out, const uint8_t *in, size_t nb_blocks)
{
	size_t block_bytes = og_dtype_bytes(type, OG_K_VALUES);

	for (size_t b = 0; b < nb_blocks; b++, in += block_bytes, out += ROWS * block_bytes)
		for (size_t r = 0; r < ROWS; r++) {
			const uint8_t *block = in + r * nb_blocks * block_bytes;

			if (type == OG_Q6_K)
				pack_q6_k_row(out, r, block);
			else
				pack_q45_k_row(out, r, block, type == OG_Q5_K);
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
	case OG_Q4_0:
		pack_q4_0(data, bounce, n_in / BLOCK_VALUES);
		break;
	default:
		pack_k(type, data, bounce, n_in / OG_K_VALUES);
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

static uint32_t word_at(const uint8_t *words, uint32_t row, size_t i)
{
	uint32_t word;

	memcpy(&word, words + i * WORDS_BYTES + 4 * row, sizeof(word));
	return word;
}

/* Value i of the eight of `word`. */
static uint32_t nibble_at(uint32_t word, uint32_t i)
{
	return word >> (i % 2 * 16 + i / 2 * 4) & 15;
}

static void q45_k_row(enum og_dtype type, const uint8_t *block, uint32_t row, float *out)
{
	float d = og_f16_to_f32(half_at(block + 2 * row));
	float d_min = og_f16_to_f32(half_at(block + SCALES_BYTES + 2 * row));
	const uint8_t *words = block + 2 * SCALES_BYTES + 3 * WORDS_BYTES;
	uint8_t scales[12];

	for (uint32_t i = 0; i < 3; i++) {
		uint32_t word = word_at(block + 2 * SCALES_BYTES, row, i);

		memcpy(scales + 4 * i, &word, sizeof(word));
	}
	for (uint32_t part = 0; part < OG_K_PARTS; part++) {
		uint32_t fifth = type == OG_Q5_K ? word_at(words, row, 0) : 0;
		uint8_t scale, minimum;

		words += type == OG_Q5_K ? WORDS_BYTES : 0;
		og_k_scale(scales, part, &scale, &minimum);
		for (uint32_t i = 0; i < 32; i++) {
			uint32_t q = nibble_at(word_at(words, row, i / 8), i % 8);

			q |= (fifth >> (i % 2 * 16 + i / 2) & 1) << 4;
			*out++ = d * scale * (float)q - d_min * minimum;
		}
		words += 4 * WORDS_BYTES;
	}
}

static void q6_k_row(const uint8_t *block, uint32_t row, float *out)
{
	float d = og_f16_to_f32(half_at(block + 2 * row));
	const uint8_t *words = block + SCALES_BYTES;

	for (uint32_t i = 0; i < OG_K_VALUES; i++) {
		uint32_t group = i / 16, at = 4 + group * 3;
		int8_t scale = (int8_t)(word_at(words, row, group / 4) >> group % 4 * 8);
		uint32_t upper = word_at(words, row, at) >> (i % 2 * 16 + i % 16 / 2 * 2) & 3;
		uint32_t low = nibble_at(word_at(words, row, at + 1 + i % 16 / 8), i % 8);

		out[i] = d * scale * (float)((int)(low | upper << 4) - 32);
	}
}

static void k_row(enum og_dtype type, uint32_t n_in, const uint8_t *panel, uint32_t row, float *out)
{
	size_t block_bytes = ROWS * og_dtype_bytes(type, OG_K_VALUES);

	for (uint32_t i = 0; i < n_in; i += OG_K_VALUES, panel += block_bytes, out += OG_K_VALUES) {
		if (type == OG_Q6_K)
			q6_k_row(panel, row, out);
		else
			q45_k_row(type, panel, row, out);
	}
}

void og_panel_row(enum og_dtype type, uint32_t n_in, const uint8_t *panel, uint32_t row, float *out)
{
	if (og_dtype_values(type) == OG_K_VALUES) {
		k_row(type, n_in, panel, row, out);
		return;
	}
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
