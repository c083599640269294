#include "gguf_writer.h"

#include <criterion/criterion.h>
#include <errno.h>

static char err[256];

static int parse(struct og_gguf *g, const struct og_gw *w)
{
	/* A block of the exact size, so that a sanitizer sees a read beyond it. */
	uint8_t *data = malloc(w->len + !w->len);
	static uint8_t *kept;

	free(kept);
	kept = data;
	if (w->len > 0)
		memcpy(data, w->data, w->len);
	err[0] = '\0';
	return og_gguf_init(g, "f.gguf", data, w->len, w->len, err, sizeof(err));
}

Test(gguf, reads_keys_and_tensors)
{
	struct og_gw_model m = og_gw_small();
	struct og_gw w = og_gw_model_file(&m);
	const struct og_tensor *t;
	const struct og_gguf_kv *tokens;
	struct og_text text;
	struct og_gguf g;
	uint64_t v;
	float f;

	cr_assert_eq(parse(&g, &w), 0, "%s", err);
	cr_assert_eq(og_gguf_u64(&g, "llama.block_count", &v), 0);
	cr_expect_eq(v, 2);
	cr_assert_eq(og_gguf_f32(&g, "llama.attention.layer_norm_rms_epsilon", &f), 0);
	cr_expect_float_eq(f, 1e-5f, 1e-12f);
	cr_assert_eq(og_gguf_text(&g, "general.architecture", &text), 0);
	cr_expect(og_text_is(text, "llama"));
	cr_assert_eq(og_gguf_array(&g, "tokenizer.ggml.tokens", OG_GGUF_STRING, &tokens), 0);
	cr_expect_eq(tokens->count, m.vocab);
	t = og_tensor_find(g.tensors, g.nb_tensors, "blk.1.ffn_down.weight");
	cr_assert_not_null(t);
	cr_expect_eq(t->dims[0], m.ff);
	cr_expect_eq(t->dims[1], m.width);
	cr_expect_eq(t->size_bytes, 4u * m.ff * m.width);
	cr_expect_eq(g.data_end, w.len);
	cr_expect_null(og_tensor_find(g.tensors, g.nb_tensors, "blk.2.ffn_down.weight"));
	og_gguf_fini(&g);
	og_gw_fini(&w);
}

Test(gguf, refuses_values_of_another_type)
{
	struct og_gw w = {0};
	const struct og_gguf_kv *array;
	struct og_text text;
	struct og_gguf g;
	uint64_t v;
	float f;
	bool b;

	og_gw_head(&w, 0, 4);
	og_gw_kv_text(&w, "text", "12");
	og_gw_kv_u32(&w, "number", 12);
	og_gw_kv(&w, "negative", OG_GGUF_I32);
	og_gw_u32(&w, (uint32_t)-1);
	og_gw_kv_f32(&w, "nan", __builtin_nanf(""));
	cr_assert_eq(parse(&g, &w), 0, "%s", err);
	cr_expect_eq(og_gguf_u64(&g, "text", &v), -EBADMSG);
	cr_expect_eq(og_gguf_u64(&g, "negative", &v), -EBADMSG);
	cr_expect_eq(og_gguf_u64(&g, "absent", &v), -ENOENT);
	cr_expect_eq(og_gguf_f32(&g, "number", &f), -EBADMSG);
	cr_expect_eq(og_gguf_f32(&g, "nan", &f), -EBADMSG);
	cr_expect_eq(og_gguf_bool(&g, "number", &b), -EBADMSG);
	cr_expect_eq(og_gguf_text(&g, "number", &text), -EBADMSG);
	cr_expect_eq(og_gguf_array(&g, "text", OG_GGUF_STRING, &array), -EBADMSG);
	og_gguf_fini(&g);
	og_gw_fini(&w);
}

Test(gguf, asks_for_more_of_a_file_that_goes_on)
{
	struct og_gw_model m = og_gw_small();
	struct og_gw w = og_gw_model_file(&m);
	struct og_gguf g;
	size_t header;

	cr_assert_eq(parse(&g, &w), 0, "%s", err);
	header = w.len - (g.data_end - g.data_offset);
	og_gguf_fini(&g);
	for (size_t n = 0; n + 32 < header; n += 1 + n / 40) {
		uint8_t *part = malloc(n + !n);

		memcpy(part, w.data, n);
		cr_expect_eq(og_gguf_init(&g, "f", part, n, w.len, err, sizeof(err)), -EAGAIN);
		/* The same bytes as a whole file are one that was cut off. */
		cr_expect_eq(og_gguf_init(&g, "f", part, n, n, err, sizeof(err)), -EBADMSG);
		free(part);
	}
	og_gw_fini(&w);
}

/* ---- Malformed files: each is a well-formed one but for one thing. ---- */

static void one_tensor(struct og_gw *w, uint32_t nb_dims, const uint64_t *dims, uint32_t type,
	uint64_t offset, size_t data_bytes)
{
	og_gw_head(w, 1, 0);
	og_gw_tensor(w, "t", nb_dims, dims, type, offset);
	og_gw_pad(w, 32);
	for (size_t i = 0; i < data_bytes; i++)
		og_gw_bytes(w, "", 1);
}

static void bad_magic(struct og_gw *w)
{
	og_gw_head(w, 0, 0);
	w->data[0] = 'g';
}

static void bad_version(struct og_gw *w)
{
	og_gw_head(w, 0, 0);
	w->data[4] = 1;
}

static void big_endian(struct og_gw *w)
{
	og_gw_head(w, 0, 0);
	memcpy(w->data + 4, "\0\0\0\3", 4);
}

static void empty_file(struct og_gw *w)
{
	w->len = 0;
}

static void too_many_keys(struct og_gw *w)
{
	og_gw_head(w, 0, 1ull << 62);
}

static void too_many_tensors(struct og_gw *w)
{
	og_gw_head(w, UINT64_MAX, 0);
}

static void tensors_beyond_the_file(struct og_gw *w)
{
	og_gw_head(w, 1000, 0);
}

static void endless_key(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_u64(w, UINT64_MAX);
	og_gw_bytes(w, "key.with.more", 13);
}

static void empty_key(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv_u32(w, "", 1);
}

static void unknown_kind(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv(w, "key", 13);
	og_gw_u64(w, 0);
}

static void long_string(struct og_gw *w)
{
	static char text[OG_GGUF_STRING_MAX_BYTES + 2];

	memset(text, 'a', sizeof(text) - 1);
	og_gw_head(w, 0, 1);
	og_gw_kv_text(w, "key", text);
}

static void string_beyond_the_file(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv(w, "key", OG_GGUF_STRING);
	og_gw_u64(w, 100);
	og_gw_bytes(w, "abc", 3);
}

static void bad_boolean(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv(w, "key", OG_GGUF_BOOL);
	og_gw_bytes(w, "\2", 1);
}

static void array_of_arrays(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv_array(w, "key", OG_GGUF_ARRAY, 1);
	og_gw_u32(w, OG_GGUF_U8);
	og_gw_u64(w, 0);
}

static void array_of_unknown_kind(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv_array(w, "key", 77, 1);
	og_gw_u64(w, 0);
}

static void array_count_wraps(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv_array(w, "key", OG_GGUF_U64, (1ull << 61) + 1); /* times 8 is 8 */
	og_gw_u64(w, 0);
}

static void array_beyond_the_file(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv_array(w, "key", OG_GGUF_F32, 3);
	og_gw_u64(w, 0);
}

static void strings_beyond_the_file(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv_array(w, "key", OG_GGUF_STRING, 2);
	og_gw_text(w, "12345678");
}

static void key_twice(struct og_gw *w)
{
	og_gw_head(w, 0, 2);
	og_gw_kv_u32(w, "key", 1);
	og_gw_kv_u32(w, "key", 2);
}

static void alignment_of_other_type(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv_text(w, "general.alignment", "32");
}

static void alignment_zero(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv_u32(w, "general.alignment", 0);
}

static void alignment_odd(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv_u32(w, "general.alignment", 24);
}

static void alignment_huge(struct og_gw *w)
{
	og_gw_head(w, 0, 1);
	og_gw_kv_u32(w, "general.alignment", 0x80000000u);
}

static void no_dims(struct og_gw *w)
{
	one_tensor(w, 0, NULL, 0, 0, 64);
}

static void five_dims(struct og_gw *w)
{
	one_tensor(w, 5, (uint64_t[]){1, 1, 1, 1, 1}, 0, 0, 64);
}

static void huge_nb_dims(struct og_gw *w)
{
	one_tensor(w, 0, NULL, 0, 0, 64);
	og_store_le32(w->data + 24 + 9, UINT32_MAX);
}

static void zero_dim(struct og_gw *w)
{
	one_tensor(w, 2, (uint64_t[]){4, 0}, 0, 0, 64);
}

static void negative_dim(struct og_gw *w)
{
	one_tensor(w, 2, (uint64_t[]){4, (uint64_t)-1}, 0, 0, 64);
}

static void dims_wrap(struct og_gw *w)
{
	one_tensor(w, 4, (uint64_t[]){1ull << 32, 1ull << 32, 4, 4}, 0, 0, 64);
}

static void size_wraps(struct og_gw *w)
{
	one_tensor(w, 1, (uint64_t[]){(1ull << 62) + 4}, 0, 0, 64); /* times 4 is 16 */
}

static void larger_than_the_file(struct og_gw *w)
{
	one_tensor(w, 1, (uint64_t[]){1ull << 40}, 0, 0, 64);
}

static void type_unknown(struct og_gw *w)
{
	one_tensor(w, 1, (uint64_t[]){4}, 99, 0, 64);
}

static void type_not_supported(struct og_gw *w)
{
	one_tensor(w, 1, (uint64_t[]){32}, 3, 0, 64); /* Q4_1 */
}

static void part_of_a_block(struct og_gw *w)
{
	one_tensor(w, 1, (uint64_t[]){33}, 8, 0, 128);
}

static void not_aligned(struct og_gw *w)
{
	one_tensor(w, 1, (uint64_t[]){4}, 0, 8, 64);
}

static void offset_beyond_the_file(struct og_gw *w)
{
	one_tensor(w, 1, (uint64_t[]){4}, 0, 1 << 20, 64);
}

static void offset_wraps(struct og_gw *w)
{
	one_tensor(w, 1, (uint64_t[]){4}, 0, UINT64_MAX - 31, 64);
}

static void data_cut_off(struct og_gw *w)
{
	one_tensor(w, 1, (uint64_t[]){16}, 0, 0, 63);
}

static void name_too_long(struct og_gw *w)
{
	char name[OG_GGUF_NAME_MAX_BYTES + 2];

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	og_gw_head(w, 1, 0);
	og_gw_tensor(w, name, 1, (uint64_t[]){4}, 0, 0);
}

static void two_tensors(struct og_gw *w, const char *second, uint64_t offset)
{
	og_gw_head(w, 2, 0);
	og_gw_tensor(w, "a", 1, (uint64_t[]){16}, 0, 0);
	og_gw_tensor(w, second, 1, (uint64_t[]){16}, 0, offset);
	og_gw_pad(w, 32);
	for (int i = 0; i < 128; i++)
		og_gw_bytes(w, "", 1);
}

static void tensor_twice(struct og_gw *w)
{
	two_tensors(w, "a", 64);
}

static void tensors_overlap(struct og_gw *w)
{
	two_tensors(w, "b", 32);
}

static const struct {
	void (*make)(struct og_gw *w);
	const char *why; /* part of the message */
} malformed[] = {
	{bad_magic, "not a GGUF file"},
	{bad_version, "version 1"},
	{big_endian, "big endian"},
	{empty_file, "ends inside"},
	{too_many_keys, "keys"},
	{too_many_tensors, "tensors"},
	{tensors_beyond_the_file, "tensors"},
	{endless_key, "a key is"},
	{empty_key, "empty"},
	{unknown_kind, "unknown type 13"},
	{long_string, "65537"},
	{string_beyond_the_file, "ends inside"},
	{bad_boolean, "neither 0 nor 1"},
	{array_of_arrays, "unknown type 9"},
	{array_of_unknown_kind, "unknown type 77"},
	{array_count_wraps, "claims"},
	{array_beyond_the_file, "claims"},
	{strings_beyond_the_file, "ends inside"},
	{key_twice, "twice"},
	{alignment_of_other_type, "general.alignment"},
	{alignment_zero, "general.alignment"},
	{alignment_odd, "general.alignment"},
	{alignment_huge, "general.alignment"},
	{no_dims, "tensor t has 0 dimensions"},
	{five_dims, "5 dimensions"},
	{huge_nb_dims, "dimensions"},
	{zero_dim, "empty dimension"},
	{negative_dim, "tensor t"},
	{dims_wrap, "64 bits"},
	{size_wraps, "larger than the file"},
	{larger_than_the_file, "larger than the file"},
	{type_unknown, "type 99"},
	{type_not_supported, "type 3"},
	{part_of_a_block, "whole Q8_0 blocks"},
	{not_aligned, "not aligned"},
	{offset_beyond_the_file, "beyond the end"},
	{offset_wraps, "beyond the end"},
	{data_cut_off, "beyond the end"},
	{name_too_long, "name"},
	{tensor_twice, "tensor a occurs twice"},
	{tensors_overlap, "tensor b overlaps"},
};

Test(gguf, refuses_each_malformed_kind_with_the_reason)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(malformed); i++) {
		struct og_gw w = {0};
		struct og_gguf g;

		malformed[i].make(&w);
		cr_expect_eq(parse(&g, &w), -EBADMSG, "case %zu was accepted", i);
		cr_expect(strstr(err, malformed[i].why) != NULL, "case %zu: \"%s\" lacks \"%s\"", i,
			err, malformed[i].why);
		cr_expect(strncmp(err, "f.gguf: ", 8) == 0, "case %zu: \"%s\"", i, err);
		og_gw_fini(&w);
	}
}

Test(gguf, survives_every_damaged_byte)
{
	struct og_gw_model m = og_gw_small();
	struct og_gw w = og_gw_model_file(&m);
	struct og_rand r;
	struct og_gguf g;

	og_rand_seeded(&r, 7);
	for (int i = 0; i < 3000; i++) {
		size_t at = og_rand_below(&r, 6000);
		uint8_t old = w.data[at];

		w.data[at] = (uint8_t)og_rand_u32(&r);
		if (parse(&g, &w) == 0)
			og_gguf_fini(&g);
		w.data[at] = old;
	}
	og_gw_fini(&w);
}
