#include "gpu/cpu/kernels.h"

extern const struct og_cpu_kernels og_cpu_kernels_generic;
#if defined(__x86_64__)
extern const struct og_cpu_kernels og_cpu_kernels_avx2, og_cpu_kernels_avx512;

static bool runs_avx2(void)
{
	/* Every processor with AVX2 has fp16 conversions too; not every compiler knows their name. */
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool runs_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
	       runs_avx2();
}
#endif

const struct og_cpu_kernels *og_cpu_kernels_pick(const char *isa)
{
#if defined(__x86_64__)
	if ((!isa || strcmp(isa, "avx512") == 0) && runs_avx512())
		return &og_cpu_kernels_avx512;
	if ((!isa || strcmp(isa, "avx2") == 0) && runs_avx2())
		return &og_cpu_kernels_avx2;
#endif
	if (!isa || strcmp(isa, "generic") == 0)
		return &og_cpu_kernels_generic;
	return NULL;
}
