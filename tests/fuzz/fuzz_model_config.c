/*
 * fuzz_model_config.c: config.json and generation_config.json.
 */
#include "gpu/hparams.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

/* What users of the struct rely on. */
static void check(const struct og_hparams *hp)
{
	float freqs[OG_MODEL_HEAD_DIM_MAX / 2];

	OG_ASSERT(hp->nb_layers > 0 && hp->nb_layers <= OG_MODEL_LAYERS_MAX);
	OG_ASSERT(hp->width > 0 && hp->width <= OG_MODEL_WIDTH_MAX);
	OG_ASSERT(hp->nb_heads > 0 && hp->nb_kv_heads > 0 && hp->nb_heads % hp->nb_kv_heads == 0);
	OG_ASSERT(hp->head_dim > 0 && hp->head_dim <= OG_MODEL_HEAD_DIM_MAX);
	OG_ASSERT(hp->head_dim % 2 == 0 && hp->rope_dims % 2 == 0 && hp->rope_dims <= hp->head_dim);
	OG_ASSERT((hp->fp8_block[0] > 0) == (hp->fp8_block[1] > 0));
	OG_ASSERT(hp->vocab > 0 && hp->vocab <= OG_GGUF_ARRAY_MAX);
	for (uint32_t i = 0; i < hp->nb_layers; i++) {
		OG_ASSERT(!hp->windowed[i] || hp->window > 0);
		OG_ASSERT(og_window_start(hp, i, 1000) <= 1000);
	}
	for (int r = 0; r < 2; r++) {
		og_rope_freqs(hp, &hp->rope[r], 1, freqs);
		og_rope_freqs(hp, &hp->rope[r], UINT32_MAX, freqs);
		for (uint32_t j = 0; j < hp->rope_dims / 2; j++)
			OG_ASSERT(freqs[j] >= 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct og_generation g = {0};
	struct og_hparams hp;
	struct og_json j;
	char err[256];

	if (og_json_init(&j, "f", data, len_bytes, 10000, err, sizeof(err)) < 0)
		return 0;
	if (og_hparams_read_config(&hp, "f", &j, err, sizeof(err)) == 0)
		check(&hp);
	if (og_generation_read(&g, "f", &j, err, sizeof(err)) == 0)
		OG_ASSERT(g.nb_eos <= OG_MODEL_EOS_MAX);
	og_json_fini(&j);
	return 0;
}
