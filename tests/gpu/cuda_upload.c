/*
 * cuda_upload: weights on the device, from memory and straight from their files: the same bytes, for
 * files of every type, in chunks that cut rows, as they are and in e4m3. Prints one line per check; exits
 * 0, 1, or 77 without a device.
 *
 *   cuda_upload [--small | --tiny]    a smaller vocabulary; and three types and families only
 */
#include "tests/gpu/checks.h"
#include "tests/unit/model_writer.h"

#include "gpu/cuda/upload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char err[512];
static struct og_cuda_device device;
static bool in_fp8; /* what becomes of matrices of layers */

/* How a load comes: all must give what memory gives. */
static const struct og_load_opts ways[] = {
	{.is_held = true, .chunk_bytes = 4096},
	{.is_held = true, .chunk_bytes = 4096, .no_uring = true},
	{.is_held = true, .chunk_bytes = 20480, .no_direct = true},
	{.is_held = true},
};

/* The arena, and how many bytes it has. */
static uint8_t *upload(const char *path, const struct og_load_opts *opts, size_t *bytes)
{
	struct og_cuda_weights w = {.in_fp8 = in_fp8};
	struct og_model *m;
	uint8_t *out;
	int ret = og_model_open_background(&m, path, opts, NULL, err, sizeof(err));

	if (ret < 0) {
		printf("FAIL: %s\n", err);
		exit(1);
	}
	ret = og_cuda_weights_upload(&w, &device, m);
	*bytes = w.arena_bytes;
	out = calloc(1, w.arena_bytes);
	if (ret == 0)
		ret = og_cuda_check(&device,
			device.cu.cuMemcpyDtoHAsync(out, w.arena, w.arena_bytes, device.stream),
			"cuMemcpyDtoHAsync");
	if (ret == 0)
		ret = og_cuda_wait(&device, device.stream);
	if (ret < 0) {
		printf("FAIL: %s: %s; %s\n", path, strerror(-ret), og_model_load_error(m));
		exit(1);
	}
	og_cuda_weights_fini(&w, &device);
	og_model_close(m);
	return out;
}

static void check(const char *path, const char *what, size_t nb_ways)
{
	static const struct og_load_opts to_memory;
	size_t bytes, got_bytes;
	uint8_t *want = upload(path, &to_memory, &bytes);

	for (size_t i = 0; i < nb_ways; i++) {
		uint8_t *got = upload(path, &ways[i], &got_bytes);

		expect(got_bytes == bytes && memcmp(got, want, bytes) == 0,
			"%s%s: the same from the file, in chunks of %u%s", what,
			in_fp8 ? ", to e4m3" : "", ways[i].chunk_bytes,
			ways[i].no_uring    ? ", one by one"
			: ways[i].no_direct ? ", buffered"
					    : "");
		free(got);
	}
	free(want);
}

static void check_file(struct og_mw *m, enum og_dtype type)
{
	struct og_gw w;
	char path[64], what[96];

	m->dtype = type;
	w = og_mw_gguf(m);
	og_gw_save(&w, path);
	og_gw_fini(&w);
	snprintf(what, sizeof(what), "%s in %s", m->name, og_dtype_name(type));
	check(path, what, OG_ARRAY_LEN(ways));
	unlink(path);
}

static void check_folder(struct og_mw *m)
{
	char folder[] = "/tmp/og_test_XXXXXX", what[96];

	if (!mkdtemp(folder))
		exit(1);
	og_mw_folder(m, folder);
	snprintf(what, sizeof(what), "a folder of %s%s", m->name, m->fp8 ? " in e4m3" : "");
	check(folder, what, 2);
	og_mw_remove(folder);
}

/* Rows of more than a page, and blocks of 256. */
static struct og_mw make_wide(bool is_small)
{
	struct og_mw m = og_mw_make(0);

	m.width = is_small ? 256 : 512;
	m.ff = 768;
	m.head_dim = m.rope_dims = 64;
	return m;
}

int main(int argc, char **argv)
{
	static const enum og_dtype types[] = {
		OG_F32, OG_F16, OG_BF16, OG_Q8_0, OG_Q4_0, OG_Q4_K, OG_Q5_K, OG_Q6_K};
	int ret = og_cuda_device_open(&device, 0, og_log_write, err, sizeof(err));
	bool is_tiny = argc > 1 && strcmp(argv[1], "--tiny") == 0;
	size_t step = is_tiny ? 3 : 1;
	struct og_mw wide = make_wide(argc > 1);

	if (ret < 0) {
		printf("%s: %s\n", ret == -ENODEV ? "skipped" : "FAIL", err);
		return ret == -ENODEV ? 77 : 1;
	}
	for (size_t i = 0; i < OG_ARRAY_LEN(types); i += step)
		check_file(&wide, types[i]);
	for (size_t i = 0; i < OG_ARRAY_LEN(og_mw_families); i += 2 * step - 1) {
		struct og_mw m = og_mw_make(i);

		check_folder(&m);
		m.fp8 = OG_MW_FP8_TENSOR + i % 3;
		if (i < 3)
			check_folder(&m);
	}
	in_fp8 = true;
	check_file(&wide, OG_BF16);
	check_file(&wide, OG_Q4_K);
	og_cuda_device_close(&device);
	printf("%u passed, %u failed\n", nb_passed, nb_failed);
	return nb_failed == 0 ? 0 : 1;
}
