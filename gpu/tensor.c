#include "gpu/tensor.h"

#include <stdlib.h>
#include <string.h>

struct og_shown og_show(struct og_text name)
{
	struct og_shown s;
	uint32_t n = OG_MIN(name.len_bytes, (uint32_t)OG_TENSOR_SHOWN_BYTES);

	for (uint32_t i = 0; i < n; i++)
		s.text[i] = name.data[i] >= ' ' && name.data[i] <= '~' ? name.data[i] : '?';
	s.text[n] = '\0';
	return s;
}

int og_tensor_compare(const void *a, const void *b)
{
	struct og_text x = ((const struct og_tensor *)a)->name;
	struct og_text y = ((const struct og_tensor *)b)->name;

	return og_text_compare(x, y);
}

const struct og_tensor *og_tensor_find(
	const struct og_tensor *tensors, uint32_t nb_tensors, const char *name)
{
	const struct og_tensor wanted = {.name = {name, (uint32_t)strlen(name)}};

	return nb_tensors == 0
		       ? NULL
		       : bsearch(&wanted, tensors, nb_tensors, sizeof(*tensors), og_tensor_compare);
}
