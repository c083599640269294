#include "gpu/cuda/dyn_cublaslt.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

int og_lt_open(struct og_lt *lt, char *err, size_t err_bytes)
{
	static const char *const libraries[] = {
		"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11"};
	static const char *const names[] = {
#define OG_LT_NAME(name) #name,
		OG_LT_FUNCTIONS(OG_LT_NAME)
#undef OG_LT_NAME
	};
	void *found[OG_ARRAY_LEN(names)];

	lt->library = NULL;
	for (size_t i = 0; i < OG_ARRAY_LEN(libraries) && !lt->library; i++)
		lt->library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL);
	if (!lt->library) {
		snprintf(err, err_bytes, "no libcublasLt.so.13, .12 or .11 is installed");
		return -ENOENT;
	}
	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		found[i] = dlsym(lt->library, names[i]);
		if (!found[i]) {
			snprintf(err, err_bytes, "cuBLASLt is too old: it has no %s", names[i]);
			return -EOPNOTSUPP;
		}
	}
	/* One pointer after the other, in the order of the list. */
	static_assert(sizeof(*lt) == sizeof(lt->library) + sizeof(found), "a member per function");
	memcpy((char *)lt + offsetof(struct og_lt, cublasLtGetVersion), found, sizeof(found));
	return 0;
}
