#include "gpu/cuda/cublaslt.h"

#include "gpu/cuda/dyn_cublaslt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	WORKSPACE_BYTES = 32 * 1024 * 1024, /* what NVIDIA recommends for Hopper */
	SHAPES_MAX = 8,
	CANDIDATES = 8,
	GATE_THREADS = 256,
};

/*
 * In the library's words, where columns are what lies together: out (cols, rows) = the transpose of w
 * (kp, cols), times x (kp, rows).
 */
struct shape {
	uint32_t kp, cols, rows_max;
	cublasLtMatrixLayout_t w, x, out;
	cublasLtMatmulAlgo_t algo;
};

struct og_cuda_lt {
	struct og_lt api;
	struct og_cuda_device *d;
	cublasLtHandle_t handle;
	cublasLtMatmulDesc_t product;
	cublasLtMatmulPreference_t preference;
	CUdeviceptr workspace;
	struct shape shapes[SHAPES_MAX];
	uint32_t nb_shapes;
};

static int errno_of(cublasStatus_t status)
{
	switch (status) {
	case CUBLAS_STATUS_SUCCESS:
		return 0;
	case CUBLAS_STATUS_ALLOC_FAILED:
		return -ENOMEM;
	case CUBLAS_STATUS_ARCH_MISMATCH:
	case CUBLAS_STATUS_NOT_SUPPORTED:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

static int check(struct og_cuda_lt *lt, cublasStatus_t status, const char *what)
{
	if (status != CUBLAS_STATUS_SUCCESS && lt->d->log)
		lt->d->log(OG_LOG_ERR, "cuda", "%s: %s (%d)", what,
			lt->api.cublasLtGetStatusString(status), (int)status);
	return errno_of(status);
}

static int describe_product(struct og_cuda_lt *lt)
{
	cublasOperation_t transposed = CUBLAS_OP_T;
	int ret = check(lt,
		lt->api.cublasLtMatmulDescCreate(&lt->product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
		"cublasLtMatmulDescCreate");

	if (ret < 0)
		return ret;
	return check(lt,
		lt->api.cublasLtMatmulDescSetAttribute(
			lt->product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
		"cublasLtMatmulDescSetAttribute");
}

static int prefer(struct og_cuda_lt *lt, cublasLtMatmulPreferenceAttributes_t what,
	const void *value, size_t bytes)
{
	return check(lt,
		lt->api.cublasLtMatmulPreferenceSetAttribute(lt->preference, what, value, bytes),
		"cublasLtMatmulPreferenceSetAttribute");
}

static int make_preference(struct og_cuda_lt *lt)
{
	uint64_t bytes = WORKSPACE_BYTES;
	uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
	int ret = check(lt, lt->api.cublasLtMatmulPreferenceCreate(&lt->preference),
		"cublasLtMatmulPreferenceCreate");

	if (ret == 0)
		ret = prefer(lt, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes));
	if (ret == 0)
		ret = prefer(
			lt, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme, sizeof(scheme));
	return ret;
}

int og_cuda_lt_open(struct og_cuda_lt **out, struct og_cuda_device *d, char *err, size_t err_bytes)
{
	struct og_cuda_lt *lt = calloc(1, sizeof(*lt));
	int ret;

	snprintf(err, err_bytes, "out of memory");
	if (!lt)
		return -ENOMEM;
	lt->d = d;
	ret = og_lt_open(&lt->api, err, err_bytes);
	if (ret < 0) {
		free(lt);
		return ret;
	}
	snprintf(err, err_bytes, "cuBLASLt %zu does not start", lt->api.cublasLtGetVersion());
	ret = check(lt, lt->api.cublasLtCreate(&lt->handle), "cublasLtCreate");
	if (ret == 0)
		ret = describe_product(lt);
	if (ret == 0)
		ret = make_preference(lt);
	if (ret == 0) {
		ret = og_cuda_alloc(d, &lt->workspace, WORKSPACE_BYTES);
		if (ret < 0)
			snprintf(err, err_bytes, "no device memory for cuBLASLt to work in");
	}
	if (ret < 0) {
		og_cuda_lt_close(lt);
		return ret;
	}
	*out = lt;
	return 0;
}

static void drop_shape(struct og_cuda_lt *lt, struct shape *s)
{
	cublasLtMatrixLayout_t all[] = {s->w, s->x, s->out};

	for (size_t i = 0; i < OG_ARRAY_LEN(all); i++)
		if (all[i])
			(void)lt->api.cublasLtMatrixLayoutDestroy(all[i]);
}

void og_cuda_lt_close(struct og_cuda_lt *lt)
{
	if (!lt)
		return;
	for (uint32_t i = 0; i < lt->nb_shapes; i++)
		drop_shape(lt, &lt->shapes[i]);
	if (lt->preference)
		(void)lt->api.cublasLtMatmulPreferenceDestroy(lt->preference);
	if (lt->product)
		(void)lt->api.cublasLtMatmulDescDestroy(lt->product);
	/* It might wait for work that does not end. */
	if (lt->handle && !lt->d->is_stuck)
		(void)lt->api.cublasLtDestroy(lt->handle);
	og_cuda_free(lt->d, lt->workspace);
	free(lt);
}

static int set_rows(struct og_cuda_lt *lt, const struct shape *s, uint32_t nb_rows)
{
	uint64_t n = nb_rows;
	int ret = check(lt,
		lt->api.cublasLtMatrixLayoutSetAttribute(
			s->x, CUBLASLT_MATRIX_LAYOUT_COLS, &n, sizeof(n)),
		"cublasLtMatrixLayoutSetAttribute");

	if (ret < 0)
		return ret;
	return check(lt,
		lt->api.cublasLtMatrixLayoutSetAttribute(
			s->out, CUBLASLT_MATRIX_LAYOUT_COLS, &n, sizeof(n)),
		"cublasLtMatrixLayoutSetAttribute");
}

static int make_layouts(struct og_cuda_lt *lt, struct shape *s)
{
	int ret = check(lt,
		lt->api.cublasLtMatrixLayoutCreate(&s->w, CUDA_R_16BF, s->kp, s->cols, s->kp),
		"cublasLtMatrixLayoutCreate");

	if (ret == 0)
		ret = check(lt,
			lt->api.cublasLtMatrixLayoutCreate(
				&s->x, CUDA_R_16BF, s->kp, s->rows_max, s->kp),
			"cublasLtMatrixLayoutCreate");
	if (ret == 0)
		ret = check(lt,
			lt->api.cublasLtMatrixLayoutCreate(
				&s->out, CUDA_R_32F, s->cols, s->rows_max, s->cols),
			"cublasLtMatrixLayoutCreate");
	return ret;
}

/* Rows begin anywhere in a buffer: what their addresses are multiples of. */
static int prefer_alignment(struct og_cuda_lt *lt, const struct shape *s)
{
	static const cublasLtMatmulPreferenceAttributes_t names[] = {
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
		CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
	uint32_t row = 2 * OG_CUDA_K_STEP, col = s->cols * 4 & -(s->cols * 4);
	uint32_t bytes[] = {row, row, OG_MIN(col, 128u), OG_MIN(col, 128u)};
	int ret = 0;

	for (size_t i = 0; i < OG_ARRAY_LEN(names) && ret == 0; i++)
		ret = prefer(lt, names[i], &bytes[i], sizeof(bytes[i]));
	return ret;
}

/* Does it take each sum in one go, and serve as few rows as many? */
static bool is_fit(struct og_cuda_lt *lt, const struct shape *s, const cublasLtMatmulAlgo_t *algo)
{
	uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_MASK;
	int32_t nb_splits = 0;
	size_t written;
	bool fits =
		lt->api.cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
			&nb_splits, sizeof(nb_splits), &written) == CUBLAS_STATUS_SUCCESS &&
		lt->api.cublasLtMatmulAlgoConfigGetAttribute(algo,
			CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof(scheme),
			&written) == CUBLAS_STATUS_SUCCESS &&
		(nb_splits == 0 || nb_splits == 1) && scheme == CUBLASLT_REDUCTION_SCHEME_NONE;

	for (int i = 0; i < 2 && fits; i++) {
		cublasLtMatmulHeuristicResult_t r;

		fits = set_rows(lt, s, i == 0 ? 1 : s->rows_max) == 0 &&
		       lt->api.cublasLtMatmulAlgoCheck(lt->handle, lt->product, s->w, s->x, s->out,
			       s->out, algo, &r) == CUBLAS_STATUS_SUCCESS &&
		       r.workspaceSize <= WORKSPACE_BYTES;
	}
	return fits;
}

static int choose(struct og_cuda_lt *lt, struct shape *s)
{
	cublasLtMatmulHeuristicResult_t found[CANDIDATES];
	int nb_found = 0;
	int ret = prefer_alignment(lt, s);
	cublasStatus_t status;

	if (ret < 0)
		return ret;
	status = lt->api.cublasLtMatmulAlgoGetHeuristic(lt->handle, lt->product, s->w, s->x, s->out,
		s->out, lt->preference, CANDIDATES, found, &nb_found);
	if (status == CUBLAS_STATUS_NOT_SUPPORTED)
		return -EOPNOTSUPP;
	ret = check(lt, status, "cublasLtMatmulAlgoGetHeuristic");
	for (int i = 0; i < nb_found && ret == 0; i++)
		if (found[i].state == CUBLAS_STATUS_SUCCESS && is_fit(lt, s, &found[i].algo)) {
			s->algo = found[i].algo;
			return 0;
		}
	return ret < 0 ? ret : -EOPNOTSUPP;
}

static struct shape *find_shape(struct og_cuda_lt *lt, uint32_t kp, uint32_t cols)
{
	for (uint32_t i = 0; i < lt->nb_shapes; i++)
		if (lt->shapes[i].kp == kp && lt->shapes[i].cols == cols)
			return &lt->shapes[i];
	return NULL;
}

int og_cuda_lt_add(struct og_cuda_lt *lt, uint32_t kp, uint32_t cols, uint32_t rows_max, char *err,
	size_t err_bytes)
{
	struct shape *s = &lt->shapes[lt->nb_shapes];
	int ret;

	if (find_shape(lt, kp, cols))
		return 0;
	if (lt->nb_shapes == SHAPES_MAX)
		return -ENOSPC;
	*s = (struct shape){.kp = kp, .cols = cols, .rows_max = rows_max};
	ret = make_layouts(lt, s);
	if (ret == 0)
		ret = choose(lt, s);
	if (ret < 0) {
		snprintf(err, err_bytes, "cuBLASLt %zu has no algorithm for matrices of %u x %u",
			lt->api.cublasLtGetVersion(), cols, kp);
		drop_shape(lt, s);
		return ret;
	}
	lt->nb_shapes++;
	return 0;
}

static int multiply(struct og_cuda_lt *lt, const struct og_cuda_product *p, CUdeviceptr out)
{
	static const float one = 1, zero = 0;
	uint32_t cols = og_cuda_product_cols(p);
	const struct shape *s = find_shape(lt, p->w->kp, cols);
	int ret;

	if (!s || p->nb_rows > s->rows_max)
		return -EINVAL;
	ret = set_rows(lt, s, p->nb_rows);
	if (ret == 0)
		ret = check(lt,
			lt->api.cublasLtMatmul(lt->handle, lt->product, &one,
				(const void *)(uintptr_t)p->w->data, s->w,
				(const void *)(uintptr_t)p->x, s->x,
				p->epilogue == OG_CUDA_ADD ? &one : &zero,
				(const void *)(uintptr_t)out, s->out, (void *)(uintptr_t)out,
				s->out, &s->algo, (void *)(uintptr_t)lt->workspace, WORKSPACE_BYTES,
				(cudaStream_t)lt->d->stream),
			"cublasLtMatmul");
	lt->d->is_lost |= ret < 0;
	return ret;
}

int og_cuda_lt_multiply(struct og_cuda_lt *lt, const struct og_cuda_product *p, CUdeviceptr gates)
{
	CUdeviceptr out = p->out;
	uint32_t cols = og_cuda_product_cols(p), n_out = p->w->n_out, ld = p->ld;
	int epilogue = (int)p->epilogue, ret;
	void *args[] = {&out, &gates, &n_out, &cols, &ld, &epilogue};

	if (!og_cuda_is_gated(p->epilogue))
		return ld == cols ? multiply(lt, p, out) : -EINVAL;
	ret = multiply(lt, p, gates);
	if (ret < 0)
		return ret;
	return og_cuda_launch(lt->d, lt->d->stream, OG_K_gate_rows,
		(struct og_cuda_grid){
			p->nb_rows, (n_out + GATE_THREADS - 1) / GATE_THREADS, 1, GATE_THREADS, 0},
		args);
}
