#include "gpu/safetensors.h"

#include "base/bytes.h"
#include "gpu/complain.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { NODES_PER_TENSOR = 20 /* one of four dimensions takes 15 */ };

struct parse {
	struct og_complaint c;
	struct og_safetensors *s;
	uint64_t data_bytes; /* of the file after the header */
};

static const struct {
	const char *name;
	uint32_t bits;
	enum og_dtype type;
} types[] = {
	{"F32", 32, OG_F32},
	{"F16", 16, OG_F16},
	{"BF16", 16, OG_BF16},
	{"F8_E4M3", 8, OG_F8_E4M3},
	/* Legal in a file; no weight that is computed with has them. */
	{"BOOL", 8, OG_DTYPES},
	{"U8", 8, OG_DTYPES},
	{"I8", 8, OG_DTYPES},
	{"F8_E5M2", 8, OG_DTYPES},
	{"F8_E8M0", 8, OG_DTYPES},
	{"F4", 4, OG_DTYPES},
	{"F6_E2M3", 6, OG_DTYPES},
	{"F6_E3M2", 6, OG_DTYPES},
	{"I16", 16, OG_DTYPES},
	{"U16", 16, OG_DTYPES},
	{"I32", 32, OG_DTYPES},
	{"U32", 32, OG_DTYPES},
	{"I64", 64, OG_DTYPES},
	{"U64", 64, OG_DTYPES},
	{"F64", 64, OG_DTYPES},
	{"C64", 64, OG_DTYPES},
};

int og_safetensors_header_bytes(const char *name, const uint8_t start[OG_SAFETENSORS_LENGTH_BYTES],
	uint64_t file_bytes, uint64_t *out, char *err, size_t err_bytes)
{
	struct og_complaint c = {.file = name, .err = err, .err_bytes = err_bytes};
	uint64_t len;

	if (file_bytes < OG_SAFETENSORS_LENGTH_BYTES)
		return og_complain(&c, -EBADMSG, "the file ends inside the header's length");
	len = og_load_le64(start);
	if (len > OG_SAFETENSORS_HEADER_MAX_BYTES)
		return og_complain(&c, -EBADMSG,
			"the header claims %" PRIu64 " bytes, more than %d", len,
			OG_SAFETENSORS_HEADER_MAX_BYTES);
	if (len > file_bytes - OG_SAFETENSORS_LENGTH_BYTES)
		return og_complain(&c, -EBADMSG, "the file ends inside the header");
	if (len < 2)
		return og_complain(&c, -EBADMSG, "the header is empty");
	*out = len;
	return 0;
}

/* The reversed shape, and how many values it holds; beyond four dimensions they are multiplied. */
static int read_shape(
	struct parse *p, struct og_tensor *t, uint32_t list, const char *name, uint64_t *values)
{
	const struct og_json *j = &p->s->json;
	uint32_t n = og_json_count(j, list), i = 0;

	if (og_json_kind(j, list) != OG_JSON_ARRAY)
		return og_complain(&p->c, -EBADMSG, "tensor %s: shape is not a list", name);
	if (n > OG_TENSOR_DIMS_MAX)
		return og_complain(&p->c, -EBADMSG, "tensor %s has %u dimensions", name, n);
	*values = 1;
	t->nb_dims = n;
	for (uint32_t d = n; d < OG_TENSOR_DIMS_MAX; d++)
		t->dims[d] = 1;
	for (uint32_t item = og_json_first(j, list); item; item = og_json_next(j, item), i++) {
		uint64_t v;

		if (og_json_u64(j, item, &v) < 0)
			return og_complain(&p->c, -EBADMSG,
				"tensor %s: shape holds what is no natural number", name);
		t->dims[n - 1 - i] = v;
		if (__builtin_mul_overflow(*values, v, values))
			return og_complain(&p->c, -EBADMSG,
				"tensor %s has more values than 64 bits count", name);
	}
	return 0;
}

static int read_offsets(struct parse *p, struct og_tensor *t, uint32_t list, const char *name)
{
	const struct og_json *j = &p->s->json;
	uint32_t first = og_json_first(j, list);
	uint64_t begin, end;

	if (og_json_kind(j, list) != OG_JSON_ARRAY || og_json_count(j, list) != 2 ||
		og_json_u64(j, first, &begin) < 0 ||
		og_json_u64(j, og_json_next(j, first), &end) < 0)
		return og_complain(&p->c, -EBADMSG,
			"tensor %s: data_offsets is not a list of two natural numbers", name);
	if (end < begin)
		return og_complain(&p->c, -EBADMSG, "tensor %s ends before it begins", name);
	if (end > p->data_bytes)
		return og_complain(
			&p->c, -EBADMSG, "tensor %s lies beyond the end of the file", name);
	t->offset = begin + p->s->data_offset;
	t->size_bytes = end - begin;
	return 0;
}

static int read_type(
	struct parse *p, struct og_tensor *t, uint32_t node, const char *name, uint32_t *bits)
{
	struct og_text type = og_json_text(&p->s->json, node);

	for (size_t i = 0; i < OG_ARRAY_LEN(types); i++)
		if (og_json_kind(&p->s->json, node) == OG_JSON_STRING &&
			og_text_is(type, types[i].name)) {
			t->type = types[i].type;
			*bits = types[i].bits;
			return 0;
		}
	return og_complain(
		&p->c, -EBADMSG, "tensor %s has unknown dtype %s", name, og_show(type).text);
}

/* Exactly the three members, each once. */
static int read_members(struct parse *p, uint32_t object, const char *name, uint32_t found[3])
{
	static const char *const names[3] = {"dtype", "shape", "data_offsets"};
	const struct og_json *j = &p->s->json;

	if (og_json_kind(j, object) != OG_JSON_OBJECT)
		return og_complain(
			&p->c, -EBADMSG, "tensor %s is not described by an object", name);
	for (uint32_t key = og_json_first(j, object); key; key = og_json_next(j, key)) {
		int i = 0;

		while (i < 3 && !og_text_is(og_json_text(j, key), names[i]))
			i++;
		if (i == 3)
			return og_complain(&p->c, -EBADMSG, "tensor %s has an unknown member %s",
				name, og_show(og_json_text(j, key)).text);
		if (found[i])
			return og_complain(
				&p->c, -EBADMSG, "tensor %s: %s occurs twice", name, names[i]);
		found[i] = key + 1;
	}
	for (int i = 0; i < 3; i++)
		if (!found[i])
			return og_complain(
				&p->c, -EBADMSG, "tensor %s: %s is missing", name, names[i]);
	return 0;
}

static int read_tensor(struct parse *p, struct og_tensor *t, uint32_t key)
{
	struct og_shown name;
	uint32_t found[3] = {0}, bits = 0;
	uint64_t values = 0, size;
	int ret;

	t->name = og_json_text(&p->s->json, key);
	name = og_show(t->name);
	if (t->name.len_bytes == 0 || t->name.len_bytes > OG_SAFETENSORS_NAME_MAX_BYTES)
		return og_complain(&p->c, -EBADMSG, "the name of tensor %s is %u bytes long",
			name.text, t->name.len_bytes);
	ret = read_members(p, key + 1, name.text, found);
	if (ret == 0)
		ret = read_type(p, t, found[0], name.text, &bits);
	if (ret == 0)
		ret = read_shape(p, t, found[1], name.text, &values);
	if (ret == 0)
		ret = read_offsets(p, t, found[2], name.text);
	if (ret < 0)
		return ret;
	if (__builtin_mul_overflow(values, (uint64_t)bits, &size) || size % 8 != 0 ||
		size / 8 != t->size_bytes)
		return og_complain(&p->c, -EBADMSG,
			"tensor %s: its shape does not make the %" PRIu64 " bytes of its offsets",
			name.text, t->size_bytes);
	return 0;
}

static int read_metadata(struct parse *p, uint32_t object)
{
	const struct og_json *j = &p->s->json;

	if (og_json_kind(j, object) != OG_JSON_OBJECT)
		return og_complain(&p->c, -EBADMSG, "__metadata__ is not an object");
	for (uint32_t key = og_json_first(j, object); key; key = og_json_next(j, key))
		if (og_json_kind(j, key + 1) != OG_JSON_STRING)
			return og_complain(&p->c, -EBADMSG, "__metadata__ holds what is no text");
	return 0;
}

static int compare_offsets(const void *a, const void *b)
{
	const struct og_tensor *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return (x->size_bytes > y->size_bytes) - (x->size_bytes < y->size_bytes);
}

/* Each tensor starts where the one before it ends, and the last ends with the file. */
static int check_places(struct parse *p)
{
	struct og_safetensors *s = p->s;
	uint64_t end = s->data_offset;

	qsort(s->tensors, s->nb_tensors, sizeof(*s->tensors), compare_offsets);
	for (uint32_t i = 0; i < s->nb_tensors; i++) {
		const struct og_tensor *t = &s->tensors[i];

		if (t->offset < end)
			return og_complain(&p->c, -EBADMSG, "tensor %s overlaps another",
				og_show(t->name).text);
		if (t->offset > end)
			return og_complain(&p->c, -EBADMSG, "there is a hole before tensor %s",
				og_show(t->name).text);
		end += t->size_bytes;
	}
	if (end != s->data_offset + p->data_bytes)
		return og_complain(&p->c, -EBADMSG,
			"%" PRIu64 " bytes after the last tensor belong to none",
			s->data_offset + p->data_bytes - end);
	return 0;
}

static int check_names(struct parse *p)
{
	struct og_safetensors *s = p->s;

	qsort(s->tensors, s->nb_tensors, sizeof(*s->tensors), og_tensor_compare);
	for (uint32_t i = 1; i < s->nb_tensors; i++)
		if (og_tensor_compare(&s->tensors[i - 1], &s->tensors[i]) == 0)
			return og_complain(&p->c, -EBADMSG, "tensor %s occurs twice",
				og_show(s->tensors[i].name).text);
	return 0;
}

static int read_all(struct parse *p, uint32_t file)
{
	struct og_safetensors *s = p->s;
	const struct og_json *j = &s->json;
	bool has_metadata = false;
	int ret = 0;

	if (og_json_kind(j, OG_JSON_ROOT) != OG_JSON_OBJECT)
		return og_complain(&p->c, -EBADMSG, "the header is not an object");
	s->tensors = calloc(og_json_count(j, OG_JSON_ROOT) + 1, sizeof(*s->tensors));
	if (!s->tensors)
		return -ENOMEM;
	for (uint32_t key = og_json_first(j, OG_JSON_ROOT); key && ret == 0;
		key = og_json_next(j, key)) {
		if (og_text_is(og_json_text(j, key), "__metadata__")) {
			ret = has_metadata
				      ? og_complain(&p->c, -EBADMSG, "__metadata__ occurs twice")
				      : read_metadata(p, key + 1);
			has_metadata = true;
			continue;
		}
		s->tensors[s->nb_tensors].file = file;
		ret = read_tensor(p, &s->tensors[s->nb_tensors++], key);
	}
	if (ret == 0)
		ret = check_places(p);
	return ret == 0 ? check_names(p) : ret;
}

int og_safetensors_init(struct og_safetensors *s, const char *name, uint32_t file,
	const uint8_t *header, size_t header_bytes, uint64_t file_bytes, char *err,
	size_t err_bytes)
{
	struct parse p = {{name, err, err_bytes, 0}, s, 0};
	int ret;

	memset(s, 0, sizeof(*s));
	s->data_offset = OG_SAFETENSORS_LENGTH_BYTES + header_bytes;
	p.data_bytes = file_bytes - s->data_offset;
	if (header[0] != '{')
		return og_complain(&p.c, -EBADMSG, "the header does not start with {");
	ret = og_json_init(&s->json, name, header, header_bytes,
		NODES_PER_TENSOR * OG_SAFETENSORS_TENSORS_MAX, err, err_bytes);
	if (ret < 0)
		return ret == -E2BIG ? -EBADMSG : ret;
	if (og_json_count(&s->json, OG_JSON_ROOT) > OG_SAFETENSORS_TENSORS_MAX)
		ret = og_complain(&p.c, -EBADMSG, "the header names more than %d tensors",
			OG_SAFETENSORS_TENSORS_MAX);
	if (ret == 0)
		ret = read_all(&p, file);
	if (ret < 0)
		og_safetensors_fini(s);
	return ret;
}

void og_safetensors_fini(struct og_safetensors *s)
{
	free(s->tensors);
	og_json_fini(&s->json);
	memset(s, 0, sizeof(*s));
}
