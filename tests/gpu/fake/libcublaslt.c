/*
 * libcublaslt.c: plays NVIDIA's cuBLASLt for tests, over the driver of libcuda.c: sums are taken in
 * order, one after the other, and what the library would refuse, or do wrong silently, is refused with
 * a line on stderr.
 *
 * It is found as libcublasLt.so.13 through LD_LIBRARY_PATH, so what runs is the product as it is.
 */
#include "tests/gpu/fake/cublaslt.h"
#include "tests/gpu/fake/libcuda.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0x17a1c0de, WORKSPACE = 1 << 20, ALIGNMENTS = 4 };

static struct fake_cublaslt state;

struct fake_cublaslt *fake_cublaslt(void)
{
	return &state;
}

struct layout {
	uint32_t magic;
	cudaDataType_t type;
	uint64_t rows, cols;
	int64_t ld;
};

struct desc {
	uint32_t magic;
	int32_t transa, transb;
};

struct preference {
	uint32_t magic;
	uint32_t schemes, alignments[ALIGNMENTS];
	uint64_t workspace_bytes;
};

/* What is in a cublasLtMatmulAlgo_t. */
struct algo {
	uint32_t magic, m, k, nb_splits, scheme;
	uint32_t alignments[ALIGNMENTS];
};
_Static_assert(sizeof(struct algo) <= sizeof(cublasLtMatmulAlgo_t), "it fits");

static cublasStatus_t refuse(const char *why)
{
	fprintf(stderr, "cublasLt: %s\n", why);
	return CUBLAS_STATUS_INVALID_VALUE;
}

static void *make(size_t bytes, uint32_t **magic)
{
	void *p = calloc(1, bytes);

	*magic = p;
	**magic = MAGIC;
	state.nb_live++;
	return p;
}

static cublasStatus_t drop(void *p)
{
	if (!p || *(uint32_t *)p != MAGIC)
		return refuse("destroys what is none");
	*(uint32_t *)p = 0;
	free(p);
	state.nb_live--;
	return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
	return 130000;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
	return "the test wanted it";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
	uint32_t *magic;

	if (state.no_start)
		return CUBLAS_STATUS_NOT_INITIALIZED;
	*handle = make(sizeof(*magic), &magic);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
	return drop(handle);
}

cublasStatus_t cublasLtMatmulDescCreate(
	cublasLtMatmulDesc_t *desc, cublasComputeType_t compute, cudaDataType_t scale)
{
	uint32_t *magic;

	if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
		return refuse("sums are not in f32");
	*desc = make(sizeof(struct desc), &magic);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
	return drop(desc);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
	cublasLtMatmulDescAttributes_t attr, const void *buf, size_t bytes)
{
	struct desc *d = (void *)desc;

	if (d->magic != MAGIC || bytes != sizeof(int32_t) ||
		(attr != CUBLASLT_MATMUL_DESC_TRANSA && attr != CUBLASLT_MATMUL_DESC_TRANSB))
		return refuse("an attribute of a product that is unknown, or of another size");
	memcpy(attr == CUBLASLT_MATMUL_DESC_TRANSA ? &d->transa : &d->transb, buf, bytes);
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(
	cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld)
{
	uint32_t *magic;
	struct layout *l;

	if (rows == 0 || cols == 0 || ld < (int64_t)rows)
		return refuse("columns that overlap, or none");
	l = make(sizeof(*l), &magic);
	*l = (struct layout){MAGIC, type, rows, cols, ld};
	*out = (void *)l;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
	return drop(layout);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
	cublasLtMatrixLayoutAttribute_t attr, const void *buf, size_t bytes)
{
	struct layout *l = (void *)layout;

	if (l->magic != MAGIC || attr != CUBLASLT_MATRIX_LAYOUT_COLS || bytes != sizeof(l->cols))
		return refuse("an attribute of a matrix that is unknown, or of another size");
	memcpy(&l->cols, buf, bytes);
	return l->cols ? CUBLAS_STATUS_SUCCESS : refuse("a matrix without columns");
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
	uint32_t *magic;
	struct preference *p = make(sizeof(*p), &magic);

	p->schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
	for (int i = 0; i < ALIGNMENTS; i++)
		p->alignments[i] = 256;
	*out = (void *)p;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t pref)
{
	return drop(pref);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
	cublasLtMatmulPreferenceAttributes_t attr, const void *buf, size_t bytes)
{
	struct preference *p = (void *)pref;
	const struct {
		cublasLtMatmulPreferenceAttributes_t attr;
		void *to;
		size_t bytes;
	} known[] = {
		{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &p->workspace_bytes, 8},
		{CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &p->schemes, 4},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &p->alignments[0], 4},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &p->alignments[1], 4},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &p->alignments[2], 4},
		{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &p->alignments[3], 4},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(*known) && p->magic == MAGIC; i++)
		if (known[i].attr == attr && known[i].bytes == bytes) {
			memcpy(known[i].to, buf, bytes);
			return CUBLAS_STATUS_SUCCESS;
		}
	return refuse("a preference that is unknown, or of another size");
}

/* out (m, n) = the transpose of a (k, m), times b (k, n). */
static cublasStatus_t check_matrices(cublasLtHandle_t handle, const struct desc *d,
	const struct layout *a, const struct layout *b, const struct layout *c,
	const struct layout *out)
{
	if (!handle || *(uint32_t *)(void *)handle != MAGIC || d->magic != MAGIC ||
		a->magic != MAGIC || b->magic != MAGIC || c->magic != MAGIC || out->magic != MAGIC)
		return refuse("a handle or a description is none");
	if (d->transa != CUBLAS_OP_T || d->transb != CUBLAS_OP_N)
		return refuse("only the first matrix is transposed here");
	if (a->type != CUDA_R_16BF || b->type != CUDA_R_16BF || c->type != CUDA_R_32F ||
		out->type != CUDA_R_32F)
		return refuse("types: bf16 times bf16 is f32");
	if (a->rows != b->rows || a->cols != out->rows || b->cols != out->cols ||
		c->rows != out->rows || c->cols != out->cols)
		return refuse("shapes do not fit each other");
	return CUBLAS_STATUS_SUCCESS;
}

/* The first of two takes a sum in two parts: who wants one order of sums does not take it. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
	cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
	cublasLtMatrixLayout_t out, cublasLtMatmulPreference_t pref, int wanted,
	cublasLtMatmulHeuristicResult_t results[], int *found)
{
	const struct preference *p = (void *)pref;
	const struct layout *w = (void *)a;
	cublasStatus_t status =
		check_matrices(handle, (void *)desc, (void *)a, (void *)b, (void *)c, (void *)out);

	if (status != CUBLAS_STATUS_SUCCESS)
		return status;
	if (p->magic != MAGIC || p->schemes != CUBLASLT_REDUCTION_SCHEME_NONE)
		return refuse("reductions are not ruled out");
	*found = 0;
	if (state.no_algorithm || p->workspace_bytes < WORKSPACE)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	for (uint32_t i = 0; i < 2 && *found < wanted; i++) {
		struct algo algo = {MAGIC, (uint32_t)w->cols, (uint32_t)w->rows, 2 - i,
			CUBLASLT_REDUCTION_SCHEME_NONE, {0}};
		cublasLtMatmulHeuristicResult_t *r = &results[(*found)++];

		memcpy(algo.alignments, p->alignments, sizeof(algo.alignments));
		memset(r, 0, sizeof(*r));
		memcpy(&r->algo, &algo, sizeof(algo));
		r->workspaceSize = WORKSPACE;
	}
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
	cublasLtMatmulAlgoConfigAttributes_t attr, void *buf, size_t bytes, size_t *written)
{
	struct algo a;

	memcpy(&a, algo, sizeof(a));
	if (a.magic != MAGIC || bytes != sizeof(uint32_t))
		return refuse("no algorithm, or an attribute of another size");
	memcpy(buf, attr == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? &a.nb_splits : &a.scheme, bytes);
	*written = bytes;
	return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
	cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
	cublasLtMatrixLayout_t out, const cublasLtMatmulAlgo_t *algo,
	cublasLtMatmulHeuristicResult_t *result)
{
	const struct layout *w = (void *)a;
	struct algo of;
	cublasStatus_t status =
		check_matrices(handle, (void *)desc, (void *)a, (void *)b, (void *)c, (void *)out);

	memcpy(&of, algo, sizeof(of));
	if (status == CUBLAS_STATUS_SUCCESS &&
		(of.magic != MAGIC || of.m != w->cols || of.k != w->rows))
		return refuse("the algorithm is of another shape");
	result->workspaceSize = WORKSPACE;
	return status;
}

/* ---- Products. ---- */

struct product {
	const uint16_t *a, *b;
	const float *c;
	float *out;
	size_t m, n, k, lda, ldb, ldc, ldo;
	bool adds;
};

static float of_bf16(uint16_t bits)
{
	uint32_t wide = (uint32_t)bits << 16;
	float f;

	memcpy(&f, &wide, sizeof(f));
	return f;
}

static void multiply(void *arg)
{
	struct product *p = arg;

	for (size_t j = 0; j < p->n; j++)
		for (size_t i = 0; i < p->m; i++) {
			float sum = 0;

			for (size_t l = 0; l < p->k; l++)
				sum += of_bf16(p->a[i * p->lda + l]) *
				       of_bf16(p->b[j * p->ldb + l]);
			if (p->adds)
				sum += p->c[j * p->ldc + i];
			p->out[j * p->ldo + i] = sum;
		}
	free(p);
}

/* What the driver of tests has for this library. */
static void *driver(const char *name)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	void *found = library ? dlsym(library, name) : NULL;

	if (!found)
		abort();
	return found;
}

static bool holds(const struct layout *l, const void *p, uint32_t alignment)
{
	static bool (*device_holds)(const void *p, size_t bytes);
	size_t value = l->type == CUDA_R_16BF ? 2 : 4;

	if (!device_holds)
		*(void **)&device_holds = driver("fake_device_holds");
	return (uintptr_t)p % alignment == 0 &&
	       device_holds(p, ((l->cols - 1) * (size_t)l->ld + l->rows) * value);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
	const void *a, cublasLtMatrixLayout_t layout_a, const void *b,
	cublasLtMatrixLayout_t layout_b, const void *beta, const void *c,
	cublasLtMatrixLayout_t layout_c, void *out, cublasLtMatrixLayout_t layout_out,
	const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
	cudaStream_t stream)
{
	static void (*enqueue)(void (*run)(void *arg), void *arg);
	static bool (*device_holds)(const void *p, size_t bytes);
	const struct layout *la = (void *)layout_a, *lb = (void *)layout_b;
	const struct layout *lc = (void *)layout_c, *lo = (void *)layout_out;
	float times = *(const float *)alpha, plus = *(const float *)beta;
	cublasStatus_t status = check_matrices(handle, (void *)desc, la, lb, lc, lo);
	struct product *p;
	struct algo of;

	if (status != CUBLAS_STATUS_SUCCESS)
		return status;
	memcpy(&of, algo, sizeof(of));
	if (!enqueue)
		*(void **)&enqueue = driver("fake_cuda_enqueue");
	if (!device_holds)
		*(void **)&device_holds = driver("fake_device_holds");
	if (of.magic != MAGIC || of.m != la->cols || of.k != la->rows || of.nb_splits != 1)
		return refuse("the algorithm is of another shape, or not the one to take");
	if (times != 1 || (plus != 0 && plus != 1))
		return refuse("factors are 1, or 0 for what is there");
	if (!stream)
		return refuse("a product belongs to a stream");
	if (workspace_bytes < WORKSPACE || (uintptr_t)workspace % 16 != 0 ||
		!device_holds(workspace, workspace_bytes))
		return refuse("the workspace is too small, crooked or not there");
	if (!holds(la, a, of.alignments[0]) || !holds(lb, b, of.alignments[1]) ||
		!holds(lc, c, of.alignments[2]) || !holds(lo, out, of.alignments[3]))
		return refuse("a matrix is crooked or not in device memory");
	if (c == out && (lc->ld != lo->ld || lc->type != lo->type))
		return refuse("a result in place has the layout of what was there");
	state.nb_products++;
	if (state.fails)
		return CUBLAS_STATUS_EXECUTION_FAILED;
	p = malloc(sizeof(*p));
	*p = (struct product){a, b, c, out, lo->rows, lo->cols, la->rows, (size_t)la->ld,
		(size_t)lb->ld, (size_t)lc->ld, (size_t)lo->ld, plus != 0};
	enqueue(multiply, p);
	return CUBLAS_STATUS_SUCCESS;
}
