/*
 * fuzz_tokenizer_json.c: a tokenizer.json of any bytes is refused with a sentence, or makes a tokenizer
 * that encodes any text to its own ids.
 *
 * The input is the file, a byte 0xff, and the text.
 */
#include "gpu/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

enum { INPUT_MAX = 64 * 1024, IDS_MAX = 1024 };

static void use(const struct og_tokenizer *t, struct og_text text)
{
	static uint32_t ids[IDS_MAX];
	static const struct og_span foreign[] = {{1, 3}, {5, 9}};

	for (unsigned flags = 0; flags < 4; flags++) {
		struct og_tokens out = {ids, 0, IDS_MAX};

		(void)!og_tokenizer_encode(t, text, flags, foreign, 2, &out);
		for (uint32_t i = 0; i < out.count; i++) {
			OG_ASSERT(ids[i] < og_tokenizer_vocab(t));
			(void)og_tokenizer_first_bytes(t, ids[i]);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	const uint8_t *split = len_bytes > 0 ? memchr(data, 0xff, len_bytes) : NULL;
	size_t file_bytes = split ? (size_t)(split - data) : len_bytes;
	struct og_text text = {"a <s>b 12\n", 10};
	char err[256] = "";
	struct og_tokenizer *t;
	struct og_json j;

	if (len_bytes > INPUT_MAX)
		return 0;
	if (split)
		text = (struct og_text){
			(const char *)split + 1, (uint32_t)(len_bytes - file_bytes - 1)};
	if (text.len_bytes > 256)
		text.len_bytes = 256;
	if (og_json_init(&j, "f", data, file_bytes, INPUT_MAX, err, sizeof(err)) < 0)
		return 0;
	if (og_tokenizer_create_json(&t, "f", &j, &j, err, sizeof(err)) == 0) {
		use(t, text);
		OG_ASSERT(og_tokenizer_fit(t, og_tokenizer_vocab(t)) == 0);
		if (og_tokenizer_fit(t, 3) == 0)
			use(t, text);
		og_tokenizer_destroy(t);
	} else {
		OG_ASSERT(err[0] != '\0');
	}
	og_json_fini(&j);
	return 0;
}
