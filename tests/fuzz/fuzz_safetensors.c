/*
 * fuzz_safetensors.c: the header of a safetensors file, its length included.
 */
#include "gpu/safetensors.h"

#include "base/bytes.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

/* The tensors of an accepted file fill it. */
static void check_tensors(const struct og_safetensors *s, uint64_t file_bytes)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < s->nb_tensors; i++) {
		const struct og_tensor *t = &s->tensors[i];

		OG_ASSERT(t->offset >= s->data_offset && t->size_bytes <= file_bytes);
		OG_ASSERT(t->offset <= file_bytes - t->size_bytes);
		OG_ASSERT(t->nb_dims <= OG_TENSOR_DIMS_MAX && t->type <= OG_F8_E4M3);
		if (t->type != OG_DTYPES)
			OG_ASSERT((t->type == OG_F8_E4M3 ? 1 : og_dtype_bytes(t->type, 1)) *
					  t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3] ==
				  t->size_bytes);
		if (i > 0)
			OG_ASSERT(og_tensor_compare(t - 1, t) < 0);
		total += t->size_bytes;
	}
	OG_ASSERT(total == file_bytes - s->data_offset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	uint8_t start[OG_SAFETENSORS_LENGTH_BYTES] = {0};
	struct og_safetensors s;
	uint64_t header;
	char err[256];

	memcpy(start, data, OG_MIN(len_bytes, sizeof(start)));
	if (og_safetensors_header_bytes("f", start, len_bytes, &header, err, sizeof(err)) < 0)
		return 0;
	OG_ASSERT(header <= len_bytes - sizeof(start));
	if (og_safetensors_init(
		    &s, "f", 0, data + sizeof(start), header, len_bytes, err, sizeof(err)) < 0)
		return 0;
	check_tensors(&s, len_bytes);
	og_safetensors_fini(&s);
	return 0;
}
