#include "gpu/model_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
	HEADER_FIRST_READ_BYTES = 1024 * 1024,
	NODES_MAX = 1024 * 1024, /* of a JSON file */
	PATH_BYTES = 4096,
	INDEX_NAME_MAX_BYTES = 255,
};

/* A JSON file, or nothing. */
struct document {
	char path[PATH_BYTES];
	char *data;
	struct og_json json;
};

int og_model_add_file(struct og_model *m, const struct og_file *f, char *name, uint8_t *header)
{
	uint32_t n = m->nb_files;

	m->files[n] = (struct og_load_source){.path = name, .file = *f};
	m->names[n] = name;
	m->headers[n] = header;
	m->nb_files = n + 1;
	return name ? 0 : -ENOMEM;
}

static int make_files(struct og_model *m, uint32_t n)
{
	m->files = calloc(n, sizeof(*m->files));
	m->names = calloc(n, sizeof(*m->names));
	m->headers = calloc(n, sizeof(*m->headers));
	m->safetensors = calloc(n, sizeof(*m->safetensors));
	return m->files && m->names && m->headers && m->safetensors ? 0 : -ENOMEM;
}

static int make_arena(
	struct og_model *m, uint32_t i, uint64_t from, uint64_t to, char *err, size_t err_bytes)
{
	struct og_arena *a = &m->files[i].arena;
	int ret = m->load_opts.is_held ? og_arena_reserve(a, from, to) : og_arena_init(a, from, to);

	if (ret < 0)
		snprintf(err, err_bytes, "%s: %" PRIu64 " bytes of weights do not fit in memory",
			m->names[i], to - from);
	return ret;
}

/* Read more and more of the file's start until the parser has all of the header. */
static int read_gguf_header(struct og_model *m, char *err, size_t err_bytes)
{
	const struct og_file *f = &m->files[0].file;
	uint64_t len = OG_MIN(f->size_bytes, (uint64_t)HEADER_FIRST_READ_BYTES), have = 0;

	for (;;) {
		uint8_t *header = realloc(m->headers[0], OG_MAX(len, 1u));
		int ret;

		if (!header)
			return -ENOMEM;
		m->headers[0] = header;
		ret = og_file_read(f, have, header + have, len - have);
		if (ret < 0) {
			snprintf(err, err_bytes, "%s: reading the header failed: %s", m->names[0],
				strerror(-ret));
			return ret;
		}
		have = len;
		ret = og_gguf_init(
			&m->gguf, m->names[0], header, len, f->size_bytes, err, err_bytes);
		if (ret != -EAGAIN)
			return ret;
		len = OG_MIN(len * 4, f->size_bytes);
		len = OG_MIN(len, (uint64_t)OG_GGUF_HEADER_MAX_BYTES);
	}
}

int og_model_read_gguf(struct og_model *m, const char *path, char *err, size_t err_bytes)
{
	struct og_file f;
	int ret = make_files(m, 1);

	if (ret == 0)
		ret = og_file_open(&f, path, err, err_bytes);
	if (ret == 0)
		ret = og_model_add_file(m, &f, strdup(path), NULL);
	if (ret == 0)
		ret = read_gguf_header(m, err, err_bytes);
	if (ret == 0)
		ret = og_hparams_read_gguf(&m->hp, path, &m->gguf, err, err_bytes);
	if (ret < 0)
		return ret;
	m->tensors = m->gguf.tensors;
	m->nb_tensors = m->gguf.nb_tensors;
	return make_arena(m, 0, m->gguf.data_offset, m->gguf.data_end, err, err_bytes);
}

static int document_open(
	struct document *d, const char *folder, const char *name, char *err, size_t err_bytes)
{
	struct og_file f;
	int ret;

	memset(d, 0, sizeof(*d));
	if (snprintf(d->path, sizeof(d->path), "%s/%s", folder, name) >= (int)sizeof(d->path)) {
		snprintf(err, err_bytes, "%.64s…: the path is too long", folder);
		return -ENAMETOOLONG;
	}
	ret = og_file_open(&f, d->path, err, err_bytes);
	if (ret < 0)
		return ret;
	if (f.size_bytes > OG_MODEL_JSON_MAX_BYTES) {
		snprintf(err, err_bytes, "%s: %" PRIu64 " bytes, more than %d", d->path,
			f.size_bytes, OG_MODEL_JSON_MAX_BYTES);
		ret = -EBADMSG;
	}
	if (ret == 0) {
		d->data = malloc(f.size_bytes + 1);
		ret = d->data ? og_file_read(&f, 0, d->data, f.size_bytes) : -ENOMEM;
		if (ret < 0)
			snprintf(err, err_bytes, "%s: %s", d->path, strerror(-ret));
	}
	if (ret == 0)
		ret = og_json_init(
			&d->json, d->path, d->data, f.size_bytes, NODES_MAX, err, err_bytes);
	if (ret == -E2BIG)
		ret = -EBADMSG;
	og_file_close(&f);
	if (ret < 0) {
		free(d->data);
		d->data = NULL;
	}
	return ret;
}

static void document_close(struct document *d)
{
	og_json_fini(&d->json);
	free(d->data);
}

static int read_configs(struct og_model *m, const char *folder, char *err, size_t err_bytes)
{
	struct document d;
	int ret = document_open(&d, folder, "config.json", err, err_bytes);

	if (ret < 0)
		return ret;
	ret = og_hparams_read_config(&m->hp, d.path, &d.json, err, err_bytes);
	if (ret == 0)
		ret = og_generation_read(&m->generation, d.path, &d.json, err, err_bytes);
	document_close(&d);
	if (ret < 0)
		return ret;
	m->generation.has_sampling = false; /* config.json is not where that is said */
	ret = document_open(&d, folder, "generation_config.json", err, err_bytes);
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret;
	ret = og_generation_read(&m->generation, d.path, &d.json, err, err_bytes);
	document_close(&d);
	return ret;
}

static int read_safetensors_header(struct og_model *m, uint32_t i, char *err, size_t err_bytes)
{
	const struct og_file *f = &m->files[i].file;
	uint8_t start[OG_SAFETENSORS_LENGTH_BYTES] = {0};
	uint64_t len;
	int ret;

	if (f->size_bytes >= sizeof(start) && og_file_read(f, 0, start, sizeof(start)) < 0) {
		snprintf(err, err_bytes, "%s: reading the header failed", m->names[i]);
		return -EIO;
	}
	ret = og_safetensors_header_bytes(m->names[i], start, f->size_bytes, &len, err, err_bytes);
	if (ret < 0)
		return ret;
	m->headers[i] = malloc(len);
	if (!m->headers[i])
		return -ENOMEM;
	if (og_file_read(f, sizeof(start), m->headers[i], len) < 0) {
		snprintf(err, err_bytes, "%s: reading the header failed", m->names[i]);
		return -EIO;
	}
	return og_safetensors_init(&m->safetensors[i], m->names[i], i, m->headers[i], len,
		f->size_bytes, err, err_bytes);
}

static int add_safetensors(
	struct og_model *m, const char *folder, struct og_text name, char *err, size_t err_bytes)
{
	char *path = NULL;
	struct og_file f;
	int ret;

	if (asprintf(&path, "%s/%.*s", folder, (int)name.len_bytes, name.data) < 0)
		return -ENOMEM;
	ret = og_file_open(&f, path, err, err_bytes);
	if (ret < 0) {
		free(path);
		return ret;
	}
	ret = og_model_add_file(m, &f, path, NULL);
	if (ret == 0)
		ret = read_safetensors_header(m, m->nb_files - 1, err, err_bytes);
	if (ret == 0)
		ret = make_arena(m, m->nb_files - 1, m->safetensors[m->nb_files - 1].data_offset,
			f.size_bytes, err, err_bytes);
	return ret;
}

/* A name in the index is a file beside it, nothing else. */
static bool is_file_name(struct og_text name)
{
	static const char suffix[] = ".safetensors";
	size_t n = sizeof(suffix) - 1;

	if (name.len_bytes <= n || name.len_bytes > INDEX_NAME_MAX_BYTES || name.data[0] == '.' ||
		memcmp(name.data + name.len_bytes - n, suffix, n) != 0)
		return false;
	for (uint32_t i = 0; i < name.len_bytes; i++)
		if (name.data[i] == '/' || name.data[i] < ' ' || name.data[i] == 127)
			return false;
	return true;
}

static int compare_names(const void *a, const void *b)
{
	return og_text_compare(*(const struct og_text *)a, *(const struct og_text *)b);
}

/* The files that the index names, each once, in order. */
static int list_files(const struct document *d, uint32_t map, struct og_text **out, uint32_t *count,
	struct og_complaint *c)
{
	const struct og_json *j = &d->json;
	struct og_text *all = calloc(og_json_count(j, map) + 1, sizeof(*all));
	uint32_t n = 0, kept = 0;

	*out = all; /* the caller frees it, whatever happened */
	if (!all)
		return og_complain(c, -ENOMEM, "out of memory");
	for (uint32_t key = og_json_first(j, map); key; key = og_json_next(j, key)) {
		struct og_text name = og_json_text(j, key + 1);

		if (!is_file_name(name))
			return og_complain(c, -EBADMSG,
				"tensor %s is said to be in %s, which is no name of a safetensors "
				"file",
				og_show(og_json_text(j, key)).text, og_show(name).text);
		all[n++] = name;
	}
	qsort(all, n, sizeof(*all), compare_names);
	for (uint32_t i = 0; i < n; i++)
		if (i == 0 || !og_text_equal(all[i], all[i - 1]))
			all[kept++] = all[i];
	if (kept == 0)
		return og_complain(c, -EBADMSG, "weight_map is empty");
	if (kept > OG_MODEL_FILES_MAX)
		return og_complain(c, -EBADMSG, "weight_map names %u files, more than %d", kept,
			OG_MODEL_FILES_MAX);
	*count = kept;
	return 0;
}

/* One table of all files, in order of names. */
static int merge_tensors(struct og_model *m, char *err, size_t err_bytes)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < m->nb_files; i++)
		total += m->safetensors[i].nb_tensors;
	if (total > OG_MODEL_TENSORS_MAX) {
		snprintf(err, err_bytes, "%s: the files hold more than %d tensors", m->names[0],
			OG_MODEL_TENSORS_MAX);
		return -EBADMSG;
	}
	m->own_tensors = calloc(total + 1, sizeof(*m->own_tensors));
	if (!m->own_tensors)
		return -ENOMEM;
	m->tensors = m->own_tensors;
	for (uint32_t i = 0; i < m->nb_files; i++) {
		const struct og_safetensors *s = &m->safetensors[i];

		if (s->nb_tensors > 0)
			memcpy(m->own_tensors + m->nb_tensors, s->tensors,
				s->nb_tensors * sizeof(*s->tensors));
		m->nb_tensors += s->nb_tensors;
	}
	qsort(m->own_tensors, m->nb_tensors, sizeof(*m->own_tensors), og_tensor_compare);
	for (uint32_t i = 1; i < m->nb_tensors; i++)
		if (og_tensor_compare(&m->tensors[i - 1], &m->tensors[i]) == 0) {
			snprintf(err, err_bytes, "%s: tensor %s is in another file as well",
				m->names[m->tensors[i].file], og_show(m->tensors[i].name).text);
			return -EBADMSG;
		}
	return 0;
}

/* Every tensor of the index is in the file that it names. */
static int check_index(
	struct og_model *m, const struct document *d, uint32_t map, struct og_complaint *c)
{
	for (uint32_t key = og_json_first(&d->json, map); key; key = og_json_next(&d->json, key)) {
		struct og_tensor wanted = {.name = og_json_text(&d->json, key)};
		struct og_text file = og_json_text(&d->json, key + 1);
		const struct og_tensor *t = m->nb_tensors == 0
						    ? NULL
						    : bsearch(&wanted, m->tensors, m->nb_tensors,
							      sizeof(wanted), og_tensor_compare);
		const char *name = t ? strrchr(m->names[t->file], '/') + 1 : "";

		if (!t || !og_text_is(file, name))
			return og_complain(c, -EBADMSG, "tensor %s is not in %s",
				og_show(wanted.name).text, og_show(file).text);
	}
	return 0;
}

static int read_index(struct og_model *m, const char *folder, const struct document *d, char *err,
	size_t err_bytes)
{
	struct og_complaint c = {d->path, err, err_bytes, 0};
	uint32_t map = og_json_get(&d->json, OG_JSON_ROOT, "weight_map"), n = 0;
	struct og_text *files = NULL;
	int ret;

	if (og_json_kind(&d->json, map) != OG_JSON_OBJECT)
		return og_complain(&c, -EBADMSG, "weight_map is not an object");
	if (og_json_count(&d->json, map) > OG_MODEL_TENSORS_MAX)
		return og_complain(&c, -EBADMSG, "weight_map names more than %d tensors",
			OG_MODEL_TENSORS_MAX);
	ret = list_files(d, map, &files, &n, &c);
	if (ret == 0)
		ret = make_files(m, n);
	for (uint32_t i = 0; i < n && ret == 0; i++)
		ret = add_safetensors(m, folder, files[i], err, err_bytes);
	if (ret == 0)
		ret = merge_tensors(m, err, err_bytes);
	if (ret == 0)
		ret = check_index(m, d, map, &c);
	free(files);
	return ret;
}

int og_model_read_folder(struct og_model *m, const char *path, char *err, size_t err_bytes)
{
	static const char single[] = "model.safetensors";
	struct document d;
	int ret;

	m->is_folder = true;
	ret = read_configs(m, path, err, err_bytes);
	if (ret < 0)
		return ret;
	ret = document_open(&d, path, "model.safetensors.index.json", err, err_bytes);
	if (ret == 0) {
		ret = read_index(m, path, &d, err, err_bytes);
		document_close(&d);
		return ret;
	}
	if (ret != -ENOENT)
		return ret;
	ret = make_files(m, 1);
	if (ret == 0)
		ret = add_safetensors(
			m, path, (struct og_text){single, sizeof(single) - 1}, err, err_bytes);
	return ret == 0 ? merge_tensors(m, err, err_bytes) : ret;
}
