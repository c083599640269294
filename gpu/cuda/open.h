/*
 * open.h: the CUDA back end, and how a program finds it.
 *
 * It is a module of its own, og-cuda.so, which is opened only where the driver names a device, so
 * that one program serves machines with and without. The module is looked for beside the program, in
 * the build tree, and where it was installed.
 *
 * Threads: the engine thread that creates a back end is the one that uses it.
 * Memory:  the module stays loaded until the process ends.
 */
#pragma once
#include "base/log.h"
#include "gpu/backend.h"

/* What og-cuda.so exports, under the name OG_CUDA_ENTRY. */
struct og_cuda_module {
	uint32_t version; /* OG_CUDA_MODULE_VERSION: of the structs that pass between */
	int (*create)(struct og_backend **out, const struct og_backend_opts *opts, int device,
		void (*log)(enum og_log_level level, const char *module, const char *fmt, ...),
		char *err, size_t err_bytes);
};
#define OG_CUDA_ENTRY "og_cuda_module"
enum { OG_CUDA_MODULE_VERSION = 4 };

/* Does a driver say that there is a device? Takes well below a millisecond without a driver. */
bool og_cuda_is_present(void);

/*
 * On device `device` (0 is the first). Uploads the weights; the model's own may be dropped after.
 * Returns 0, or with a sentence in `err`: -ENODEV no driver or device, -EOPNOTSUPP no module, a
 * device that is too old or a model that this back end cannot run, -ENOMEM, -EIO.
 */
int og_cuda_backend_create(struct og_backend **out, const struct og_backend_opts *opts, int device,
	char *err, size_t err_bytes) OG_MUST_CHECK;
