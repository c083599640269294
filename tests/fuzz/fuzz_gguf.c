/*
 * fuzz_gguf.c: a model file's header: parsed, and where it parses, read as a model and a tokenizer.
 */
#include "gpu/chat.h"
#include "gpu/model.h"
#include "gpu/tokenizer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static void check_tensors(const struct og_gguf *g, uint64_t file_bytes)
{
	for (uint32_t i = 0; i < g->nb_tensors; i++) {
		const struct og_tensor *t = &g->tensors[i];

		OG_ASSERT(t->offset >= g->data_offset && t->offset + t->size_bytes <= g->data_end);
		OG_ASSERT(t->offset + t->size_bytes <= file_bytes);
		OG_ASSERT(t->size_bytes > 0);
	}
}

static void read_as_tokenizer(const struct og_gguf *g, char *err, size_t err_bytes)
{
	struct og_tokenizer *t;
	struct og_chat chat;
	uint32_t ids[64];
	struct og_tokens out = {ids, 0, 64};

	if (og_tokenizer_create(&t, "f", g, err, err_bytes) < 0)
		return;
	og_chat_init_gguf(&chat, "f", g);
	if (og_tokenizer_encode(t, (struct og_text){"hello <|im_end|> 123\xff", 21},
		    OG_ENCODE_CONTROL, NULL, 0, &out) == 0)
		for (uint32_t i = 0; i < out.count; i++)
			OG_ASSERT(ids[i] < og_tokenizer_vocab(t));
	og_chat_fini(&chat);
	og_tokenizer_destroy(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct og_hparams hp;
	struct og_gguf g;
	char err[256];

	/* The first byte decides whether the file goes on beyond the bytes at hand. */
	if (len_bytes == 0)
		return 0;
	if (data[0] & 1) {
		if (og_gguf_init(&g, "f", data + 1, len_bytes - 1, 1 << 20, err, sizeof(err)) == 0)
			og_gguf_fini(&g);
		return 0;
	}
	if (og_gguf_init(&g, "f", data + 1, len_bytes - 1, len_bytes - 1, err, sizeof(err)) < 0)
		return 0;
	check_tensors(&g, len_bytes - 1);
	if (og_hparams_read_gguf(&hp, "f", &g, err, sizeof(err)) == 0) {
		OG_ASSERT(hp.nb_heads % hp.nb_kv_heads == 0);
		OG_ASSERT(hp.rope_dims <= hp.head_dim && hp.head_dim <= OG_MODEL_HEAD_DIM_MAX);
	}
	read_as_tokenizer(&g, err, sizeof(err));
	og_gguf_fini(&g);
	return 0;
}
