#include "gpu/gguf.h"

#include "gpu/complain.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* One parse: the cursor over what is present, and what the file as a whole could still hold. */
struct parse {
	const char *file;
	struct og_reader in;
	const uint8_t *start;
	uint64_t file_bytes;
	bool partial; /* the file goes on beyond the bytes at hand */
	char *err;
	size_t err_bytes;
};

/* Numbers of the element types that can be computed with. */
static const uint32_t type_numbers[OG_DTYPES] = {
	[OG_F32] = 0,
	[OG_F16] = 1,
	[OG_Q4_0] = 2,
	[OG_Q8_0] = 8,
	[OG_Q4_K] = 12,
	[OG_Q5_K] = 13,
	[OG_Q6_K] = 14,
	[OG_BF16] = 30,
};

/* The widths of fixed-size values; 0 for strings and arrays. */
static const uint8_t kind_bytes[OG_GGUF_KINDS] = {
	[OG_GGUF_U8] = 1,
	[OG_GGUF_I8] = 1,
	[OG_GGUF_U16] = 2,
	[OG_GGUF_I16] = 2,
	[OG_GGUF_U32] = 4,
	[OG_GGUF_I32] = 4,
	[OG_GGUF_F32] = 4,
	[OG_GGUF_BOOL] = 1,
	[OG_GGUF_U64] = 8,
	[OG_GGUF_I64] = 8,
	[OG_GGUF_F64] = 8,
};

enum {
	STRING_MIN_BYTES = 8,                 /* an empty string */
	KV_MIN_BYTES = 8 + 4 + 1,             /* empty key, kind, one byte of value */
	TENSOR_MIN_BYTES = 8 + 4 + 8 + 4 + 8, /* empty name, count, one dim, type, offset */
	DEFAULT_ALIGNMENT = 32,
};

OG_PRINTF(2, 3) static int bad(struct parse *p, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	og_complain_at(p->err, p->err_bytes, p->file, fmt, args);
	va_end(args);
	return -EBADMSG;
}

/* The cursor ran out: either the caller has not read enough yet, or the file itself is too short. */
static int cut_short(struct parse *p, const char *what)
{
	if (p->partial)
		return -EAGAIN;
	return bad(p, "the file ends inside %s", what);
}

/* What the file can still hold from the cursor on, present or not. */
static uint64_t file_left(const struct parse *p)
{
	return p->file_bytes - (uint64_t)(p->in.p - p->start);
}

static int read_string(struct parse *p, const char *what, uint64_t max_bytes, struct og_text *out)
{
	uint64_t len = og_read_le64(&p->in);
	const uint8_t *data;

	if (!og_reader_ok(&p->in))
		return cut_short(p, what);
	if (len > max_bytes)
		return bad(p, "%s is %" PRIu64 " bytes long, more than %" PRIu64, what, len,
			max_bytes);
	if (len > file_left(p))
		return bad(p, "the file ends inside %s", what);
	data = og_read_bytes(&p->in, len);
	if (!data)
		return cut_short(p, what);
	*out = (struct og_text){(const char *)data, (uint32_t)len};
	return 0;
}

static int read_strings(struct parse *p, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		struct og_text ignored;
		int ret =
			read_string(p, "a string of an array", OG_GGUF_STRING_MAX_BYTES, &ignored);

		if (ret < 0)
			return ret;
	}
	return 0;
}

static int read_items(struct parse *p, const struct og_gguf_kv *kv, enum og_gguf_kind kind)
{
	uint64_t bytes;

	if (kind == OG_GGUF_STRING)
		return read_strings(p, kv->count);
	bytes = kv->count * kind_bytes[kind]; /* count <= OG_GGUF_ARRAY_MAX */
	if (bytes > file_left(p))
		return bad(p, "the file ends inside the value of %s", og_show(kv->key).text);
	if (!og_read_bytes(&p->in, bytes))
		return cut_short(p, "a value");
	if (kind == OG_GGUF_BOOL)
		for (uint64_t i = 0; i < kv->count; i++)
			if (p->in.p[-1 - (ptrdiff_t)i] > 1)
				return bad(p, "%s is a boolean that is neither 0 nor 1",
					og_show(kv->key).text);
	return 0;
}

static int read_array_head(struct parse *p, struct og_gguf_kv *kv)
{
	uint32_t kind = og_read_le32(&p->in);
	uint64_t item_bytes;

	kv->count = og_read_le64(&p->in);
	if (!og_reader_ok(&p->in))
		return cut_short(p, "an array");
	if (kind >= OG_GGUF_KINDS || kind == OG_GGUF_ARRAY)
		return bad(p, "%s is an array of unknown type %u", og_show(kv->key).text, kind);
	kv->item_kind = (enum og_gguf_kind)kind;
	item_bytes = kind == OG_GGUF_STRING ? STRING_MIN_BYTES : kind_bytes[kind];
	if (kv->count > OG_GGUF_ARRAY_MAX || kv->count * item_bytes > file_left(p))
		return bad(p, "%s claims %" PRIu64 " items", og_show(kv->key).text, kv->count);
	return 0;
}

static int read_kv(struct parse *p, struct og_gguf_kv *kv)
{
	uint32_t kind;
	int ret = read_string(p, "a key", OG_GGUF_STRING_MAX_BYTES, &kv->key);

	if (ret < 0)
		return ret;
	kind = og_read_le32(&p->in);
	if (!og_reader_ok(&p->in))
		return cut_short(p, "the metadata");
	if (kv->key.len_bytes == 0)
		return bad(p, "a key is empty");
	if (kind >= OG_GGUF_KINDS)
		return bad(p, "%s has unknown type %u", og_show(kv->key).text, kind);
	kv->kind = kv->item_kind = (enum og_gguf_kind)kind;
	kv->count = 1;
	if (kind == OG_GGUF_ARRAY) {
		ret = read_array_head(p, kv);
		if (ret < 0)
			return ret;
	}
	kv->value = p->in.p;
	ret = read_items(p, kv, kv->item_kind);
	kv->value_bytes = (uint64_t)(p->in.p - kv->value);
	return ret;
}

static int read_dims(struct parse *p, struct og_tensor *t, const char *name)
{
	uint64_t values = 1;

	t->nb_dims = og_read_le32(&p->in);
	if (!og_reader_ok(&p->in))
		return cut_short(p, "the tensor table");
	if (t->nb_dims == 0 || t->nb_dims > OG_TENSOR_DIMS_MAX)
		return bad(p, "tensor %s has %u dimensions", name, t->nb_dims);
	for (uint32_t i = 0; i < OG_TENSOR_DIMS_MAX; i++) {
		t->dims[i] = i < t->nb_dims ? og_read_le64(&p->in) : 1;
		if (!og_reader_ok(&p->in))
			return cut_short(p, "the tensor table");
		if (t->dims[i] == 0)
			return bad(p, "tensor %s has an empty dimension", name);
		if (__builtin_mul_overflow(values, t->dims[i], &values))
			return bad(p, "tensor %s has more values than 64 bits count", name);
	}
	return 0;
}

/* Rows are whole blocks, and the size in bytes fits the file. */
static int check_size(struct parse *p, struct og_tensor *t, uint32_t type, const char *name)
{
	uint64_t values = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
	uint32_t i = 0, block;

	while (i < OG_DTYPES && type_numbers[i] != type)
		i++;
	if (i == OG_DTYPES)
		return bad(p,
			"tensor %s has type %u; F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K and Q6_K "
			"are "
			"supported",
			name, type);
	t->type = (enum og_dtype)i;
	block = og_dtype_values(t->type);
	if (t->dims[0] % block != 0)
		return bad(p, "tensor %s: rows of %" PRIu64 " values are not whole %s blocks", name,
			t->dims[0], og_dtype_name(t->type));
	if (__builtin_mul_overflow(
		    values / block, og_dtype_bytes(t->type, block), &t->size_bytes) ||
		t->size_bytes > p->file_bytes)
		return bad(p, "tensor %s is larger than the file", name);
	return 0;
}

static int read_tensor(struct parse *p, struct og_tensor *t, uint64_t alignment)
{
	struct og_shown name;
	uint32_t type;
	int ret = read_string(p, "a tensor's name", OG_GGUF_NAME_MAX_BYTES, &t->name);

	if (ret < 0)
		return ret;
	name = og_show(t->name);
	ret = read_dims(p, t, name.text);
	if (ret < 0)
		return ret;
	type = og_read_le32(&p->in);
	t->offset = og_read_le64(&p->in);
	if (!og_reader_ok(&p->in))
		return cut_short(p, "the tensor table");
	if (t->offset % alignment != 0)
		return bad(
			p, "tensor %s is not aligned to %" PRIu64 " bytes", name.text, alignment);
	return check_size(p, t, type, name.text);
}

static int compare_keys(const void *a, const void *b)
{
	return og_text_compare(
		((const struct og_gguf_kv *)a)->key, ((const struct og_gguf_kv *)b)->key);
}

static int compare_offsets(const void *a, const void *b)
{
	const struct og_tensor *x = a, *y = b;

	return (x->offset > y->offset) - (x->offset < y->offset);
}

static int read_metadata(struct parse *p, struct og_gguf *g)
{
	g->kvs = calloc(g->nb_kvs + 1, sizeof(*g->kvs));
	if (!g->kvs)
		return -ENOMEM;
	for (uint32_t i = 0; i < g->nb_kvs; i++) {
		int ret = read_kv(p, &g->kvs[i]);

		if (ret < 0)
			return ret;
	}
	/* Sorted for og_gguf_find(), and to see duplicates. */
	qsort(g->kvs, g->nb_kvs, sizeof(*g->kvs), compare_keys);
	for (uint32_t i = 1; i < g->nb_kvs; i++)
		if (compare_keys(&g->kvs[i - 1], &g->kvs[i]) == 0)
			return bad(p, "key %s occurs twice", og_show(g->kvs[i].key).text);
	return 0;
}

static int read_alignment(struct parse *p, const struct og_gguf *g, uint64_t *alignment)
{
	const struct og_gguf_kv *kv = og_gguf_find(g, "general.alignment");

	*alignment = DEFAULT_ALIGNMENT;
	if (!kv)
		return 0;
	if (kv->kind != OG_GGUF_U32)
		return bad(p, "general.alignment is not a 32-bit number");
	*alignment = og_load_le32(kv->value);
	if (*alignment == 0 || (*alignment & (*alignment - 1)) != 0 ||
		*alignment > OG_GGUF_ALIGNMENT_MAX || *alignment % 8 != 0)
		return bad(p, "general.alignment is %" PRIu64, *alignment);
	return 0;
}

static int read_tensors(struct parse *p, struct og_gguf *g, uint64_t alignment)
{
	g->tensors = calloc(g->nb_tensors + 1, sizeof(*g->tensors));
	if (!g->tensors)
		return -ENOMEM;
	for (uint32_t i = 0; i < g->nb_tensors; i++) {
		int ret = read_tensor(p, &g->tensors[i], alignment);

		if (ret < 0)
			return ret;
	}
	return 0;
}

/* Sorted for og_gguf_find_tensor(), and to see duplicates. */
static int index_tensors(struct parse *p, struct og_gguf *g)
{
	qsort(g->tensors, g->nb_tensors, sizeof(*g->tensors), og_tensor_compare);
	for (uint32_t i = 1; i < g->nb_tensors; i++)
		if (og_tensor_compare(&g->tensors[i - 1], &g->tensors[i]) == 0)
			return bad(p, "tensor %s occurs twice", og_show(g->tensors[i].name).text);
	return 0;
}

/* Make offsets absolute; each tensor lies in the file and starts after the one before it ends. */
static int place_tensors(struct parse *p, struct og_gguf *g, uint64_t alignment)
{
	uint64_t header = (uint64_t)(p->in.p - p->start);
	uint64_t end;

	g->data_offset = (header + alignment - 1) / alignment * alignment;
	end = g->data_offset;
	qsort(g->tensors, g->nb_tensors, sizeof(*g->tensors), compare_offsets);
	for (uint32_t i = 0; i < g->nb_tensors; i++) {
		struct og_tensor *t = &g->tensors[i];

		if (__builtin_add_overflow(t->offset, g->data_offset, &t->offset) ||
			t->offset > p->file_bytes || t->size_bytes > p->file_bytes - t->offset)
			return bad(p, "tensor %s lies beyond the end of the file",
				og_show(t->name).text);
		if (t->offset < end)
			return bad(p, "tensor %s overlaps another", og_show(t->name).text);
		end = t->offset + t->size_bytes;
	}
	g->data_end = end;
	return 0;
}

static int read_counts(struct parse *p, struct og_gguf *g)
{
	const uint8_t *magic = og_read_bytes(&p->in, 4);
	uint32_t version = og_read_le32(&p->in);
	uint64_t nb_tensors = og_read_le64(&p->in);
	uint64_t nb_kvs = og_read_le64(&p->in);

	if (magic && memcmp(magic, "GGUF", 4) != 0)
		return bad(p, "not a GGUF file");
	if (!og_reader_ok(&p->in))
		return cut_short(p, "the header");
	if (version != 2 && version != 3)
		return bad(p, "GGUF version %u%s is not supported", version,
			version > 0xffff ? " (big endian?)" : "");
	if (nb_kvs > OG_GGUF_KV_MAX || nb_kvs * KV_MIN_BYTES > file_left(p))
		return bad(p, "the header claims %" PRIu64 " keys", nb_kvs);
	if (nb_tensors > OG_GGUF_TENSORS_MAX || nb_tensors * TENSOR_MIN_BYTES > file_left(p))
		return bad(p, "the header claims %" PRIu64 " tensors", nb_tensors);
	g->nb_kvs = (uint32_t)nb_kvs;
	g->nb_tensors = (uint32_t)nb_tensors;
	return 0;
}

static int parse_all(struct parse *p, struct og_gguf *g)
{
	uint64_t alignment;
	int ret = read_counts(p, g);

	if (ret == 0)
		ret = read_metadata(p, g);
	if (ret == 0)
		ret = read_alignment(p, g, &alignment);
	if (ret == 0)
		ret = read_tensors(p, g, alignment);
	if (ret == 0)
		ret = place_tensors(p, g, alignment);
	if (ret == 0)
		ret = index_tensors(p, g);
	return ret;
}

int og_gguf_init(struct og_gguf *g, const char *name, const uint8_t *data, size_t data_bytes,
	uint64_t file_bytes, char *err, size_t err_bytes)
{
	struct parse p = {
		.file = name,
		.in = og_reader_of(data, data_bytes),
		.start = data,
		.file_bytes = file_bytes,
		.partial = data_bytes < file_bytes && data_bytes < OG_GGUF_HEADER_MAX_BYTES,
		.err = err,
		.err_bytes = err_bytes,
	};
	int ret;

	memset(g, 0, sizeof(*g));
	ret = parse_all(&p, g);
	if (ret < 0)
		og_gguf_fini(g);
	return ret;
}

void og_gguf_fini(struct og_gguf *g)
{
	free(g->kvs);
	free(g->tensors);
	memset(g, 0, sizeof(*g));
}

const struct og_gguf_kv *og_gguf_find(const struct og_gguf *g, const char *key)
{
	const struct og_gguf_kv wanted = {.key = {key, (uint32_t)strlen(key)}};

	return bsearch(&wanted, g->kvs, g->nb_kvs, sizeof(*g->kvs), compare_keys);
}

/* Widens any integer kind; negative numbers do not fit. */
static int load_unsigned(const struct og_gguf_kv *kv, uint64_t *out)
{
	int64_t v;

	switch (kv->kind) {
	case OG_GGUF_U8:
		*out = kv->value[0];
		return 0;
	case OG_GGUF_U16:
		*out = og_load_le16(kv->value);
		return 0;
	case OG_GGUF_U32:
		*out = og_load_le32(kv->value);
		return 0;
	case OG_GGUF_U64:
		*out = og_load_le64(kv->value);
		return 0;
	case OG_GGUF_I8:
		v = (int8_t)kv->value[0];
		break;
	case OG_GGUF_I16:
		v = (int16_t)og_load_le16(kv->value);
		break;
	case OG_GGUF_I32:
		v = (int32_t)og_load_le32(kv->value);
		break;
	case OG_GGUF_I64:
		v = (int64_t)og_load_le64(kv->value);
		break;
	default:
		return -EBADMSG;
	}
	if (v < 0)
		return -EBADMSG;
	*out = (uint64_t)v;
	return 0;
}

int og_gguf_u64(const struct og_gguf *g, const char *key, uint64_t *out)
{
	const struct og_gguf_kv *kv = og_gguf_find(g, key);

	return kv ? load_unsigned(kv, out) : -ENOENT;
}

int og_gguf_f32(const struct og_gguf *g, const char *key, float *out)
{
	const struct og_gguf_kv *kv = og_gguf_find(g, key);
	uint64_t bits64;
	uint32_t bits;
	double wide;
	float v;

	if (!kv)
		return -ENOENT;
	if (kv->kind == OG_GGUF_F32) {
		bits = og_load_le32(kv->value);
		memcpy(&v, &bits, sizeof(v));
	} else if (kv->kind == OG_GGUF_F64) {
		bits64 = og_load_le64(kv->value);
		memcpy(&wide, &bits64, sizeof(wide));
		v = (float)wide;
	} else {
		return -EBADMSG;
	}
	if (!isfinite(v))
		return -EBADMSG;
	*out = v;
	return 0;
}

int og_gguf_bool(const struct og_gguf *g, const char *key, bool *out)
{
	const struct og_gguf_kv *kv = og_gguf_find(g, key);

	if (!kv)
		return -ENOENT;
	if (kv->kind != OG_GGUF_BOOL)
		return -EBADMSG;
	*out = kv->value[0] != 0;
	return 0;
}

int og_gguf_text(const struct og_gguf *g, const char *key, struct og_text *out)
{
	const struct og_gguf_kv *kv = og_gguf_find(g, key);
	struct og_reader r;

	if (!kv)
		return -ENOENT;
	if (kv->kind != OG_GGUF_STRING)
		return -EBADMSG;
	r = og_gguf_strings(kv);
	*out = og_gguf_next_string(&r);
	return 0;
}

int og_gguf_array(const struct og_gguf *g, const char *key, enum og_gguf_kind item_kind,
	const struct og_gguf_kv **out)
{
	const struct og_gguf_kv *kv = og_gguf_find(g, key);

	if (!kv)
		return -ENOENT;
	if (kv->kind != OG_GGUF_ARRAY || kv->item_kind != item_kind)
		return -EBADMSG;
	*out = kv;
	return 0;
}

struct og_reader og_gguf_strings(const struct og_gguf_kv *array)
{
	return og_reader_of(array->value, array->value_bytes);
}

struct og_text og_gguf_next_string(struct og_reader *r)
{
	uint64_t len = og_read_le64(r);
	const uint8_t *data = og_read_bytes(r, len);

	return data ? (struct og_text){(const char *)data, (uint32_t)len} : (struct og_text){"", 0};
}
