#include "gpu/dtype.h"

#include "base/bytes.h"
#include "gpu/half.h"

static const struct {
	const char *name;
	uint32_t values;
	uint32_t bytes;
} dtypes[OG_DTYPES] = {
	[OG_F32] = {"F32", 1, 4},
	[OG_F16] = {"F16", 1, 2},
	[OG_Q8_0] = {"Q8_0", OG_Q8_0_VALUES, OG_Q8_0_BYTES},
	[OG_BF16] = {"BF16", 1, 2},
	[OG_Q4_0] = {"Q4_0", OG_Q4_0_VALUES, OG_Q4_0_BYTES},
	[OG_Q4_K] = {"Q4_K", OG_K_VALUES, OG_Q4_K_BYTES},
	[OG_Q5_K] = {"Q5_K", OG_K_VALUES, OG_Q5_K_BYTES},
	[OG_Q6_K] = {"Q6_K", OG_K_VALUES, OG_Q6_K_BYTES},
};

uint64_t og_dtype_bytes(enum og_dtype type, uint64_t n)
{
	return n / dtypes[type].values * dtypes[type].bytes;
}

uint32_t og_dtype_values(enum og_dtype type)
{
	return dtypes[type].values;
}

const char *og_dtype_name(enum og_dtype type)
{
	return dtypes[type].name;
}

static void q8_0_block(const uint8_t *p, float *out)
{
	float scale = og_f16_to_f32(og_load_le16(p));

	for (int i = 0; i < OG_Q8_0_VALUES; i++)
		out[i] = scale * (int8_t)p[2 + i];
}

static void q4_0_block(const uint8_t *p, float *out)
{
	float scale = og_f16_to_f32(og_load_le16(p));

	for (int i = 0; i < OG_Q4_0_VALUES; i++)
		out[i] = scale * (float)((i < 16 ? p[2 + i] & 15 : p[2 + i - 16] >> 4) - 8);
}

/* A group of 64 values is 32 bytes: their low nibbles, then their high ones. */
static int k_nibble(const uint8_t *nibbles, uint32_t i)
{
	return nibbles[i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
}

/* `fifth` NULL for Q4_K; bit p of fifth[i] belongs to value i of part p. */
static void q45_k_block(const uint8_t *p, const uint8_t *fifth, const uint8_t *nibbles, float *out)
{
	float d = og_f16_to_f32(og_load_le16(p)), d_min = og_f16_to_f32(og_load_le16(p + 2));

	for (uint32_t i = 0; i < OG_K_VALUES; i++) {
		uint32_t part = i / 32;
		uint8_t scale, minimum;
		int q = k_nibble(nibbles, i);

		if (fifth)
			q |= (fifth[i % 32] >> part & 1) << 4;
		og_k_scale(p + 4, part, &scale, &minimum);
		out[i] = d * scale * (float)q - d_min * minimum;
	}
}

/* Each half of 128 values has 64 bytes of nibbles and 32 of pairs of upper bits. */
static void q6_k_block(const uint8_t *p, float *out)
{
	const uint8_t *nibbles = p, *upper = p + 128;
	const int8_t *scales = (const int8_t *)p + 192;
	float d = og_f16_to_f32(og_load_le16(p + 208));

	for (uint32_t i = 0; i < OG_K_VALUES; i++) {
		uint32_t half = i / 128, quarter = i / 32 % 4, j = i % 32;
		int low = nibbles[half * 64 + quarter % 2 * 32 + j] >> (quarter / 2 * 4) & 15;
		int high = upper[half * 32 + j] >> (quarter * 2) & 3;

		out[i] = d * scales[i / 16] * (float)((low | high << 4) - 32);
	}
}

static void dequantize_block(enum og_dtype type, const uint8_t *p, float *out)
{
	switch (type) {
	case OG_Q8_0:
		q8_0_block(p, out);
		break;
	case OG_Q4_0:
		q4_0_block(p, out);
		break;
	case OG_Q4_K:
		q45_k_block(p, NULL, p + 16, out);
		break;
	case OG_Q5_K:
		q45_k_block(p, p + 16, p + 48, out);
		break;
	case OG_Q6_K:
		q6_k_block(p, out);
		break;
	case OG_F16:
		*out = og_f16_to_f32(og_load_le16(p));
		break;
	case OG_BF16:
		*out = og_bf16_to_f32(og_load_le16(p));
		break;
	default:
		*out = og_f32_from_bits(og_load_le32(p));
		break;
	}
}

void og_dequantize(enum og_dtype type, const uint8_t *data, uint32_t n, float *out)
{
	for (uint32_t i = 0; i < n; i += dtypes[type].values, data += dtypes[type].bytes)
		dequantize_block(type, data, out + i);
}
