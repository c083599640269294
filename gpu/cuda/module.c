/* module.c: what og-cuda.so shows to the outside. */
#include "gpu/cuda/forward.h"
#include "gpu/cuda/open.h"

static int create(struct og_backend **out, const struct og_backend_opts *opts, int device,
	og_cuda_log_fn *log, char *err, size_t err_bytes)
{
	return og_cuda_forward_create(out, opts, device, log, NULL, err, err_bytes);
}

extern const struct og_cuda_module og_cuda_module;

__attribute__((visibility("default"))) const struct og_cuda_module og_cuda_module = {
	.version = OG_CUDA_MODULE_VERSION,
	.create = create,
};
