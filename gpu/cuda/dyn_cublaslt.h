/*
 * dyn_cublaslt.h: the functions of NVIDIA's cuBLASLt that this back end calls, found by dlopen.
 *
 * Nothing links against it: where a configuration asks for it, a table is filled from the newest that
 * is installed. It takes a tenth of a second and 200 MB to load.
 *
 * Source:  cuBLASLt, 11.4 and later: of the functions here the interface is one since then.
 * Threads: filled once, then read only.
 */
#pragma once
#include "base/def.h"

#include <cublasLt.h>

#define OG_LT_FUNCTIONS(X)                                                                         \
	X(cublasLtGetVersion)                                                                      \
	X(cublasLtGetStatusString)                                                                 \
	X(cublasLtCreate)                                                                          \
	X(cublasLtDestroy)                                                                         \
	X(cublasLtMatmulDescCreate)                                                                \
	X(cublasLtMatmulDescDestroy)                                                               \
	X(cublasLtMatmulDescSetAttribute)                                                          \
	X(cublasLtMatrixLayoutCreate)                                                              \
	X(cublasLtMatrixLayoutDestroy)                                                             \
	X(cublasLtMatrixLayoutSetAttribute)                                                        \
	X(cublasLtMatmulPreferenceCreate)                                                          \
	X(cublasLtMatmulPreferenceDestroy)                                                         \
	X(cublasLtMatmulPreferenceSetAttribute)                                                    \
	X(cublasLtMatmulAlgoGetHeuristic)                                                          \
	X(cublasLtMatmulAlgoConfigGetAttribute)                                                    \
	X(cublasLtMatmulAlgoCheck)                                                                 \
	X(cublasLtMatmul)

struct og_lt {
	void *library;
#define OG_LT_MEMBER(name) __typeof__(&name) name;
	OG_LT_FUNCTIONS(OG_LT_MEMBER)
#undef OG_LT_MEMBER
};

/*
 * Returns 0, -ENOENT with a sentence where there is no such library, or -EOPNOTSUPP where it is too
 * old. Needs no clean-up: the library stays loaded.
 */
int og_lt_open(struct og_lt *lt, char *err, size_t err_bytes) OG_MUST_CHECK;
