/*
 * tiny_models: writes random-weight models of every family, for tests against other programs.
 *
 *   tiny_models FOLDER [DTYPE]    FOLDER/<family>.gguf and FOLDER/<family>/
 *
 * DTYPE, a name as in og_dtype_name(), is that of the matrices, F32 by default; there are no folders
 * for types in blocks. With BF16 some families are written again as FOLDER/<family>-fp8-<scales>/, their
 * layers in e4m3.
 */
#include "../unit/model_writer.h"

#include <errno.h>

static void save_gguf(const struct og_mw *m, const char *folder)
{
	struct og_gw w = og_mw_gguf(m);
	char name[64];

	snprintf(name, sizeof(name), "%s.gguf", m->name);
	og_mw_save(folder, name, w.data, w.len);
	og_gw_fini(&w);
}

static int make_folder(const char *path)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST) {
		perror(path);
		return 1;
	}
	return 0;
}

static int save_fp8(const struct og_mw *bf16, const char *folder)
{
	static const struct {
		const char *family, *name;
		enum og_mw_fp8 fp8;
	} kinds[] = {{"qwen3", "block", OG_MW_FP8_BLOCK}, {"llama3", "row", OG_MW_FP8_ROW},
		{"phi3", "tensor", OG_MW_FP8_TENSOR}};

	for (size_t i = 0; i < OG_ARRAY_LEN(kinds); i++) {
		struct og_mw m = *bf16;
		char path[512];

		if (strcmp(m.name, kinds[i].family) != 0)
			continue;
		m.fp8 = kinds[i].fp8;
		snprintf(path, sizeof(path), "%s/%s-fp8-%s", folder, m.name, kinds[i].name);
		if (make_folder(path) != 0)
			return 1;
		og_mw_folder(&m, path);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int dtype = OG_F32;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: tiny_models FOLDER [DTYPE]\n");
		return 2;
	}
	while (argc == 3 && strcmp(argv[2], og_dtype_name((enum og_dtype)dtype)) != 0)
		if (++dtype == OG_DTYPES) {
			fprintf(stderr, "tiny_models: unknown type %s\n", argv[2]);
			return 2;
		}
	if (make_folder(argv[1]) != 0)
		return 1;
	for (size_t i = 0; i < OG_ARRAY_LEN(og_mw_families); i++) {
		struct og_mw m = og_mw_make(i);
		uint32_t window = m.window;
		char path[512];

		/* llama.cpp knows no windows of these: nothing to compare there. */
		if (m.pattern == 0)
			m.window = 0;
		og_mw_enlarge(&m);
		m.dtype = (enum og_dtype)dtype;
		save_gguf(&m, argv[1]);
		m.window = window;
		snprintf(path, sizeof(path), "%s/%s", argv[1], m.name);
		m.folder_dtype = (enum og_dtype)dtype;
		if (og_dtype_values(m.folder_dtype) > 1)
			continue;
		if (make_folder(path) != 0)
			return 1;
		og_mw_folder(&m, path);
		if (dtype == OG_BF16 && save_fp8(&m, argv[1]) != 0)
			return 1;
	}
	return 0;
}
