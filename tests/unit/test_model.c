#include "gguf_writer.h"
#include "gpu/model.h"

#include <criterion/criterion.h>
#include <errno.h>

static char err[256];

static int open_bytes(struct og_model **m, const struct og_gw *w)
{
	char path[64];
	int ret;

	og_gw_save(w, path);
	ret = og_model_open(m, path, NULL, NULL, err, sizeof(err));
	unlink(path);
	return ret;
}

static int open_model(struct og_model **m, const struct og_gw_model *opts)
{
	struct og_gw w = og_gw_model_file(opts);
	int ret = open_bytes(m, &w);

	og_gw_fini(&w);
	return ret;
}

Test(model, opens_every_supported_type)
{
	for (int type = 0; type < OG_DTYPES; type++) {
		struct og_gw_model opts = og_gw_small();
		struct og_model *m;

		opts.type = (enum og_dtype)type;
		opts.tied = type % 2 == 0;
		opts.width = opts.ff = OG_K_VALUES;
		opts.head_dim = OG_K_VALUES / opts.heads;
		cr_assert_eq(open_model(&m, &opts), 0, "%s", err);
		cr_expect_eq(m->hp.nb_layers, 2);
		cr_expect_eq(m->hp.vocab, opts.vocab);
		cr_expect_eq(m->layers[1].gate.type, (enum og_dtype)type);
		cr_expect_eq(m->output.data == m->embedding.data, opts.tied);
		cr_expect_null(m->layers[0].q_bias);
		og_model_close(m);
	}
}

Test(model, reads_biases_and_the_rope_of_qwen2)
{
	struct og_gw_model opts = og_gw_small();
	struct og_model *m;

	opts.arch = "qwen2";
	opts.biases = true;
	cr_assert_eq(open_model(&m, &opts), 0, "%s", err);
	cr_expect(m->hp.rope_halves);
	cr_expect_not_null(m->layers[1].v_bias);
	og_model_close(m);
}

/* Replace the first occurrence of `from` by `to`, which is as long. */
static void patch(struct og_gw *w, const char *from, const char *to)
{
	uint8_t *at = memmem(w->data, w->len, from, strlen(from));

	cr_assert_not_null(at);
	memcpy(at, to, strlen(to));
}

static void set_u32(struct og_gw *w, const char *key, uint32_t v)
{
	uint8_t *at = memmem(w->data, w->len, key, strlen(key));

	cr_assert_not_null(at);
	og_store_le32(at + strlen(key) + 4, v);
}

static void other_architecture(struct og_gw *w)
{
	uint8_t *at = memmem(w->data, w->len, "\5\0\0\0\0\0\0\0llama", 13);

	memcpy(at + 8, "mamba", 5);
}

static void no_layers(struct og_gw *w)
{
	set_u32(w, "llama.block_count", 0);
}

static void more_layers_than_tensors(struct og_gw *w)
{
	set_u32(w, "llama.block_count", 3);
}

static void absurd_layers(struct og_gw *w)
{
	set_u32(w, "llama.block_count", UINT32_MAX);
}

static void absurd_context(struct og_gw *w)
{
	set_u32(w, "llama.context_length", UINT32_MAX);
}

static void other_width(struct og_gw *w)
{
	set_u32(w, "llama.embedding_length", 32);
}

static void uneven_heads(struct og_gw *w)
{
	set_u32(w, "llama.attention.head_count_kv", 3);
}

static void odd_head(struct og_gw *w)
{
	set_u32(w, "llama.attention.key_length", 15);
	set_u32(w, "llama.attention.value_length", 15);
}

static void value_length_differs(struct og_gw *w)
{
	set_u32(w, "llama.attention.value_length", 8);
}

static void width_is_missing(struct og_gw *w)
{
	patch(w, "llama.embedding_length", "llama.embedding_lengtX");
}

static void tensor_is_missing(struct og_gw *w)
{
	patch(w, "blk.1.ffn_up.weight", "blk.1.ffn_Xp.weight");
}

static void epsilon_of_other_type(struct og_gw *w)
{
	uint8_t *at = memmem(w->data, w->len, "rms_epsilon", 11);

	og_store_le32(at + 11, OG_GGUF_U32);
}

static void negative_epsilon(struct og_gw *w)
{
	uint8_t *at = memmem(w->data, w->len, "rms_epsilon", 11);

	memcpy(at + 15, &(float){-1}, 4);
}

static const struct {
	void (*damage)(struct og_gw *w);
	int ret;
	const char *why;
} refused[] = {
	{other_architecture, -EOPNOTSUPP, "architecture mamba"},
	{no_layers, -EBADMSG, "llama.block_count is 0"},
	{more_layers_than_tensors, -EBADMSG, "tensor blk.2.attn_norm.weight is missing"},
	{absurd_layers, -EBADMSG, "block_count"},
	{absurd_context, -EBADMSG, "context_length"},
	{other_width, -EBADMSG, "64 x 288, not 32 x 288"},
	{uneven_heads, -EBADMSG, "evenly"},
	{odd_head, -EBADMSG, "heads have 15"},
	{value_length_differs, -EOPNOTSUPP, "different length"},
	{width_is_missing, -EBADMSG, "embedding_length is missing"},
	{tensor_is_missing, -EBADMSG, "tensor blk.1.ffn_up.weight is missing"},
	{epsilon_of_other_type, -EBADMSG, "epsilon"},
	{negative_epsilon, -EBADMSG, "epsilon"},
};

Test(model, refuses_claims_that_do_not_fit_with_the_reason)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(refused); i++) {
		struct og_gw_model opts = og_gw_small();
		struct og_gw w = og_gw_model_file(&opts);
		struct og_model *m;

		refused[i].damage(&w);
		cr_expect_eq(open_bytes(&m, &w), refused[i].ret, "case %zu: %s", i, err);
		cr_expect(strstr(err, refused[i].why) != NULL, "case %zu: \"%s\" lacks \"%s\"", i,
			err, refused[i].why);
		og_gw_fini(&w);
	}
}

Test(model, refuses_a_file_cut_off_anywhere)
{
	struct og_gw_model opts = og_gw_small();
	struct og_gw w = og_gw_model_file(&opts);
	size_t whole = w.len;
	struct og_model *m;

	for (size_t n = 0; n < whole; n += 1 + whole / 101) {
		w.len = n;
		cr_expect_lt(open_bytes(&m, &w), 0, "%zu of %zu bytes were accepted", n, whole);
	}
	og_gw_fini(&w);
}

Test(model, reads_a_header_larger_than_the_first_read)
{
	struct og_gw_model opts = og_gw_small();
	struct og_model *m;

	opts.vocab = 90000; /* over 1 MiB of strings and types */
	opts.width = 32;
	opts.type = OG_Q8_0;
	cr_assert_eq(open_model(&m, &opts), 0, "%s", err);
	cr_expect_gt(m->gguf.data_offset, 1024 * 1024);
	og_model_close(m);
}
