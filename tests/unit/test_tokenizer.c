#include "gguf_writer.h"
#include "gpu/pretokenize.h"
#include "gpu/tokenizer.h"

#include <criterion/criterion.h>
#include <errno.h>

static char err[256];

/* A tokenizer needs only the metadata of a file. */
struct fixture {
	struct og_gw w;
	struct og_gguf g;
	struct og_tokenizer *t;
};

static int make(struct fixture *f, const struct og_gw_model *m)
{
	f->w = og_gw_model_file(m);
	cr_assert_eq(og_gguf_init(&f->g, "f", f->w.data, f->w.len, f->w.len, err, sizeof(err)), 0);
	return og_tokenizer_create(&f->t, "f", &f->g, err, sizeof(err));
}

static struct fixture make_small(void)
{
	struct og_gw_model m = og_gw_small();
	struct fixture f;

	cr_assert_eq(make(&f, &m), 0, "%s", err);
	return f;
}

static void drop(struct fixture *f)
{
	og_tokenizer_destroy(f->t);
	og_gguf_fini(&f->g);
	og_gw_fini(&f->w);
}

static int encode(const struct og_tokenizer *t, const char *text, size_t len, unsigned flags,
	struct og_tokens *out)
{
	return og_tokenizer_encode(t, (struct og_text){text, (uint32_t)len}, flags, NULL, 0, out);
}

static void expect_tokens(
	struct fixture *f, const char *text, bool control, const uint32_t *want, uint32_t n)
{
	uint32_t ids[64];
	struct og_tokens out = {ids, 0, 64};

	cr_assert_eq(encode(f->t, text, strlen(text), control ? OG_ENCODE_CONTROL : 0, &out), 0);
	cr_expect_eq(out.count, n, "\"%s\" gave %u tokens", text, out.count);
	for (uint32_t i = 0; i < OG_MIN(n, out.count); i++)
		cr_expect_eq(ids[i], want[i], "\"%s\": token %u is %u, not %u", text, i, ids[i],
			want[i]);
}

#define EXPECT_TOKENS(f, text, control, ...)                                                       \
	expect_tokens(f, text, control, (uint32_t[]){__VA_ARGS__},                                 \
		OG_ARRAY_LEN(((uint32_t[]){__VA_ARGS__})))

Test(tokenizer, merges_pairs_in_the_order_of_their_rank)
{
	struct fixture f = make_small();

	EXPECT_TOKENS(&f, "hello", false, 259);
	EXPECT_TOKENS(&f, "hell", false, 258);
	EXPECT_TOKENS(&f, "llhe", false, 257, 256);
	EXPECT_TOKENS(&f, "hello world", false, 259, 262, 263); /* Ġwor, ld */
	EXPECT_TOKENS(&f, "lll", false, 257, 'l');              /* the leftmost of equals */
	EXPECT_TOKENS(&f, "é", false, 0xc3, 0xa9);
	drop(&f);
}

Test(tokenizer, finds_special_tokens_first)
{
	struct fixture f = make_small();

	EXPECT_TOKENS(&f, "he<|im_end|>llo", true, 256, OG_GW_IM_END, 257, 'o');
	EXPECT_TOKENS(&f, "<|im_start|><|im_end|>", true, OG_GW_IM_START, OG_GW_IM_END);
	EXPECT_TOKENS(&f, "<think>he", false, OG_GW_THINK, 256);
	drop(&f);
}

Test(tokenizer, reads_no_control_token_in_what_a_stranger_wrote)
{
	static const char text[] = "<|im_end|>";
	struct fixture f = make_small();
	uint32_t ids[16];
	struct og_tokens out = {ids, 0, 16};

	cr_assert_eq(encode(f.t, text, strlen(text), 0, &out), 0);
	cr_expect_eq(out.count, strlen(text));
	for (uint32_t i = 0; i < out.count; i++)
		cr_expect_eq(ids[i], (uint8_t)text[i]);
	drop(&f);
}

Test(tokenizer, reads_control_tokens_outside_of_foreign_spans)
{
	static const char text[] = "<|im_end|><|im_end|>|><|im_end|>";
	static const struct og_span foreign[] = {{10, 22}};
	struct fixture f = make_small();
	uint32_t ids[32];
	struct og_tokens out = {ids, 0, 32};

	cr_assert_eq(og_tokenizer_encode(f.t, (struct og_text){text, sizeof(text) - 1},
			     OG_ENCODE_CONTROL, foreign, 1, &out),
		0);
	cr_assert_eq(out.count, 1 + 12 + 1);
	cr_expect_eq(ids[0], OG_GW_IM_END);
	cr_expect_eq(ids[13], OG_GW_IM_END);
	for (uint32_t i = 1; i < 13; i++)
		cr_expect_eq(ids[i], (uint8_t)text[10 + i - 1]);
	drop(&f);
}

Test(tokenizer, gives_back_any_bytes)
{
	struct fixture f = make_small();
	struct og_rand r;

	og_rand_seeded(&r, 11);
	for (int round = 0; round < 300; round++) {
		char text[200], back[200];
		uint32_t ids[200], len = og_rand_below(&r, sizeof(text)), n = 0;
		struct og_tokens out = {ids, 0, 200};

		for (uint32_t i = 0; i < len; i++)
			text[i] = round % 2 ? (char)og_rand_u32(&r)
					    : "hello wr\nd\xc3\xa9"[og_rand_below(&r, 12)];
		cr_assert_eq(encode(f.t, text, len, OG_ENCODE_CONTROL, &out), 0);
		for (uint32_t i = 0; i < out.count; i++) {
			struct og_text bytes = og_tokenizer_bytes(f.t, ids[i]);

			memcpy(back + n, bytes.data, bytes.len_bytes);
			n += bytes.len_bytes;
		}
		cr_assert_eq(n, len);
		cr_assert_arr_eq(back, text, len);
	}
	drop(&f);
}

Test(tokenizer, says_when_the_tokens_do_not_fit)
{
	struct fixture f = make_small();
	uint32_t ids[4];
	struct og_tokens out = {ids, 0, 4};

	cr_expect_eq(encode(f.t, "12345", 5, OG_ENCODE_CONTROL, &out), -E2BIG);
	cr_expect_eq(out.count, 4);
	drop(&f);
}

Test(tokenizer, merges_a_long_piece_in_reasonable_time)
{
	enum { LEN = 200000 };
	struct fixture f = make_small();
	char *text = malloc(LEN);
	uint32_t *ids = malloc(LEN * sizeof(*ids));
	struct og_tokens out = {ids, 0, LEN};

	memset(text, 'l', LEN);
	cr_assert_eq(encode(f.t, text, LEN, OG_ENCODE_CONTROL, &out), 0);
	cr_expect_eq(out.count, LEN / 2);
	out.count = 0;
	memset(text, ' ', LEN);
	cr_assert_eq(encode(f.t, text, LEN, OG_ENCODE_CONTROL, &out), 0);
	cr_expect_eq(out.count, LEN);
	free(text);
	free(ids);
	drop(&f);
}

Test(tokenizer, knows_the_tokens_that_end_an_answer)
{
	struct fixture f = make_small();

	cr_expect(og_tokenizer_is_end(f.t, OG_GW_IM_END));
	cr_expect(og_tokenizer_is_end(f.t, OG_GW_EOT));
	cr_expect_not(og_tokenizer_is_end(f.t, OG_GW_IM_START));
	cr_expect_not(og_tokenizer_is_end(f.t, 'a'));
	cr_expect_eq(og_tokenizer_bytes(f.t, OG_GW_IM_END).len_bytes, 0);
	drop(&f);
}

struct pieces {
	char text[256];
};

static int append_piece(void *ctx, const char *data, size_t len)
{
	struct pieces *p = ctx;

	strncat(p->text, data, len);
	strcat(p->text, "|");
	return 0;
}

Test(tokenizer, cuts_text_by_the_named_rule)
{
	static const char text[] = "I'LL pay  12345 euros!!\n\n ok";
	static const struct {
		const char *name;
		const char *want;
	} cases[] = {
		{"gpt-2", "I|'|LL| pay| | 12345| euros|!!|\n\n| ok|"},
		{"llama-bpe", "I|'LL| pay| | |123|45| euros|!!\n\n| ok|"},
		{"qwen2", "I|'LL| pay| | |1|2|3|4|5| euros|!!\n\n| ok|"},
		{"smollm", "I|'|LL| pay|  |1|2|3|4|5| euros|!!|\n\n| ok|"},
		{"default", "I|'|LL| pay| | |123|45| euros|!!|\n\n| ok|"},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		struct pieces p = {""};
		struct og_pretokenizer pre;
		struct og_text name = {cases[i].name, (uint32_t)strlen(cases[i].name)};

		cr_assert_eq(og_pretokenizer_init(&pre, name), 0);
		cr_expect_eq(og_pretokenize(&pre, (struct og_text){text, (uint32_t)strlen(text)},
				     true, append_piece, &p),
			0);
		cr_expect_str_eq(p.text, cases[i].want, "%s: %s", cases[i].name, p.text);
		og_pretokenizer_fini(&pre);
	}
}

Test(tokenizer, refuses_kinds_it_does_not_know)
{
	struct og_gw_model m = og_gw_small();
	struct fixture f;
	uint8_t *at;

	m.pre = "unheard-of";
	cr_expect_eq(make(&f, &m), -EOPNOTSUPP);
	cr_expect(strstr(err, "unheard-of") != NULL, "%s", err);
	og_gguf_fini(&f.g);
	at = memmem(f.w.data, f.w.len, "gpt2", 4);
	memcpy(at, "bert", 4);
	cr_assert_eq(og_gguf_init(&f.g, "f", f.w.data, f.w.len, f.w.len, err, sizeof(err)), 0);
	cr_expect_eq(og_tokenizer_create(&f.t, "f", &f.g, err, sizeof(err)), -EOPNOTSUPP);
	cr_expect(strstr(err, "bert") != NULL, "%s", err);
	og_gguf_fini(&f.g);
	og_gw_fini(&f.w);
}

Test(tokenizer, refuses_ids_beyond_the_vocabulary)
{
	struct og_gw_model m = og_gw_small();
	struct og_gw w = og_gw_model_file(&m);
	uint8_t *at = memmem(w.data, w.len, "eos_token_id", 12);
	struct og_tokenizer *t;
	struct og_gguf g;

	og_store_le32(at + 16, 288);
	cr_assert_eq(og_gguf_init(&g, "f", w.data, w.len, w.len, err, sizeof(err)), 0);
	cr_expect_eq(og_tokenizer_create(&t, "f", &g, err, sizeof(err)), -EBADMSG);
	cr_expect(strstr(err, "eos_token_id") != NULL, "%s", err);
	og_gguf_fini(&g);
	og_gw_fini(&w);
}
