/*
 * fuzz_tokenizer.c: any bytes become tokens that give the same bytes back, under every family of
 * pre-tokenizer; then the tokens' bytes, cut anywhere, become well-formed text.
 */
#include "../unit/gguf_writer.h"
#include "gpu/text_out.h"
#include "gpu/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

enum { TEXT_MAX = 4096 };

static const char *const names[] = {
	"gpt-2", "llama-bpe", "qwen2", "smollm", "default", "tekken", "gpt-4o", "deepseek-v3"};

static struct og_tokenizer *tokenizers[OG_ARRAY_LEN(names)];

static void make_tokenizers(void)
{
	char err[256];

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		struct og_gw_model m = og_gw_small();
		struct og_gguf g;
		struct og_gw w;

		m.pre = names[i];
		w = og_gw_model_file(&m);
		OG_ASSERT(og_gguf_init(&g, "f", w.data, w.len, w.len, err, sizeof(err)) == 0);
		OG_ASSERT(og_tokenizer_create(&tokenizers[i], "f", &g, err, sizeof(err)) == 0);
		og_gguf_fini(&g);
		og_gw_fini(&w);
	}
}

static bool is_control(const struct og_tokenizer *t, uint32_t id)
{
	return og_tokenizer_bytes(t, id).len_bytes == 0;
}

static void round_trip(struct og_tokenizer *t, const char *text, size_t len)
{
	static uint32_t ids[TEXT_MAX];
	struct og_tokens out = {ids, 0, TEXT_MAX};
	size_t at = 0;

	OG_ASSERT(og_tokenizer_encode(t, (struct og_text){text, (uint32_t)len}, 0, NULL, 0, &out) ==
		  0);
	for (uint32_t i = 0; i < out.count; i++) {
		struct og_text bytes = og_tokenizer_bytes(t, ids[i]);

		OG_ASSERT(!is_control(t, ids[i]) && bytes.len_bytes <= len - at);
		OG_ASSERT(memcmp(text + at, bytes.data, bytes.len_bytes) == 0);
		at += bytes.len_bytes;
	}
	OG_ASSERT(at == len);
	out.count = 0;
	OG_ASSERT(og_tokenizer_encode(t, (struct og_text){text, (uint32_t)len}, OG_ENCODE_CONTROL,
			  NULL, 0, &out) == 0);
}

static bool is_utf8(const char *s, uint32_t len)
{
	for (uint32_t i = 0; i < len;) {
		uint8_t a = (uint8_t)s[i];
		uint32_t n = a < 0x80   ? 1
			     : a < 0xc2 ? 0
			     : a < 0xe0 ? 2
			     : a < 0xf0 ? 3
			     : a < 0xf5 ? 4
					: 0;

		if (n == 0 || n > len - i)
			return false;
		for (uint32_t j = 1; j < n; j++)
			if (((uint8_t)s[i + j] & 0xc0) != 0x80)
				return false;
		i += n;
	}
	return true;
}

/* The first bytes are a stop string and how the rest is cut. */
static void show(const char *text, size_t len)
{
	struct og_infer_params params;
	struct og_text_out o;
	char out[OG_INFER_TEXT_BYTES];
	size_t cut, at = 4;

	if (len < 4)
		return;
	og_infer_params_default(&params);
	params.nb_stop = 1;
	memcpy(params.stop[0], text, 3);
	cut = (uint8_t)text[3] % 9 + 1;
	og_text_out_init(&o, &params);
	for (bool over = false; !over;) {
		size_t n = OG_MIN(cut, len - at);
		uint32_t taken;

		over = og_text_out_push(&o, (struct og_text){text + at, (uint32_t)n});
		at += n;
		if (at == len && !over) {
			og_text_out_finish(&o);
			over = true;
		}
		while ((taken = og_text_out_take(&o, out, sizeof(out))) > 0)
			OG_ASSERT(is_utf8(out, taken) || params.stop[0][0] & 0x80);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	const char *text = (const char *)data;

	if (!tokenizers[0])
		make_tokenizers();
	if (len_bytes == 0 || len_bytes > TEXT_MAX)
		return 0;
	round_trip(tokenizers[data[0] % OG_ARRAY_LEN(names)], text + 1, len_bytes - 1);
	show(text + 1, len_bytes - 1);
	return 0;
}
