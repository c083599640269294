#include "gpu/cuda/open.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool og_cuda_is_present(void)
{
	void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	int (*init)(unsigned) = NULL, (*get_count)(int *) = NULL;
	int count = 0;

	if (!driver)
		return false;
	*(void **)&init = dlsym(driver, "cuInit");
	*(void **)&get_count = dlsym(driver, "cuDeviceGetCount");
	/* The driver stays: unloading it after cuInit() is not supported. */
	return init && get_count && init(0) == 0 && get_count(&count) == 0 && count > 0;
}

/* The folder of the running program, with a slash at the end. */
static int own_folder(char *out, size_t out_bytes)
{
	ssize_t n = readlink("/proc/self/exe", out, out_bytes - 1);
	char *slash;

	if (n <= 0)
		return -ENOENT;
	out[n] = '\0';
	slash = strrchr(out, '/');
	if (!slash)
		return -ENOENT;
	slash[1] = '\0';
	return 0;
}

static void *open_module(char *err, size_t err_bytes)
{
	/* From the program's folder; the last is where it is installed. */
	static const char *const places[] = {"og-cuda.so", "../gpu/cuda/og-cuda.so",
		"../../gpu/cuda/og-cuda.so", OG_MODULE_DIR "/og-cuda.so"};
	char folder[4096], path[sizeof(folder) + 256];
	void *module;

	if (own_folder(folder, sizeof(folder)) < 0)
		folder[0] = '\0';
	for (size_t i = 0; i < OG_ARRAY_LEN(places); i++) {
		bool is_absolute = places[i][0] == '/';

		if (!is_absolute && !folder[0])
			continue;
		snprintf(path, sizeof(path), "%s%s", is_absolute ? "" : folder, places[i]);
		if (access(path, F_OK) < 0)
			continue;
		module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		if (!module)
			snprintf(err, err_bytes, "%s", dlerror());
		return module;
	}
	snprintf(err, err_bytes, "this build has no CUDA back end (og-cuda.so is not there)");
	return NULL;
}

int og_cuda_backend_create(struct og_backend **out, const struct og_backend_opts *opts, int device,
	char *err, size_t err_bytes)
{
	const struct og_cuda_module *m;
	void *module;
	int ret;

	if (!og_cuda_is_present()) {
		snprintf(err, err_bytes, "no CUDA driver with a device on this machine");
		return -ENODEV;
	}
	module = open_module(err, err_bytes);
	if (!module)
		return -EOPNOTSUPP;
	m = dlsym(module, OG_CUDA_ENTRY);
	if (!m || m->version != OG_CUDA_MODULE_VERSION) {
		snprintf(err, err_bytes, "og-cuda.so is of another version than this program");
		return -EOPNOTSUPP;
	}
	ret = m->create(out, opts, device, og_log_write, err, err_bytes);
	if (ret < 0 && og_model_load_state(opts->model) < 0)
		snprintf(err, err_bytes, "%s", og_model_load_error(opts->model));
	return ret;
}
