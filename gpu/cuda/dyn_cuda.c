#include "gpu/cuda/dyn_cuda.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TEXT_OF(name) #name
#define NAME_OF(name) TEXT_OF(name) /* after cuda.h has put the version in */

int og_cu_open(struct og_cu *cu, char *err, size_t err_bytes)
{
	static const char *const names[] = {
#define OG_CU_NAME(name) NAME_OF(name),
		OG_CU_FUNCTIONS(OG_CU_NAME)
#undef OG_CU_NAME
	};
	void *found[OG_ARRAY_LEN(names)];

	cu->library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!cu->library) {
		snprintf(err, err_bytes, "no CUDA driver: %s", dlerror());
		return -ENODEV;
	}
	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		found[i] = dlsym(cu->library, names[i]);
		if (!found[i]) {
			snprintf(err, err_bytes, "the CUDA driver is too old: it has no %s",
				names[i]);
			return -EOPNOTSUPP;
		}
	}
	/* One pointer after the other, in the order of the list. */
	static_assert(sizeof(*cu) == sizeof(cu->library) + sizeof(found), "a member per function");
	memcpy((char *)cu + offsetof(struct og_cu, cuInit), found, sizeof(found));
	return 0;
}
