#include "gpu/hparams_priv.h"

#include <errno.h>
#include <math.h>

const struct og_family og_families[] = {
	{.gguf = "llama", .config = "llama", .gguf_pairs = true},
	{.gguf = "llama", .config = "mistral", .gguf_pairs = true},
	{.gguf = "qwen2", .config = "qwen2"},
	{.gguf = "qwen3", .config = "qwen3", .qk_norm = true},
	{.gguf = "phi3", .config = "phi3"},
	{.gguf = "gemma", .config = "gemma", .gemma = true},
	{.gguf = "gemma2",
		.config = "gemma2",
		.gemma = true,
		.post_norms = true,
		.pattern = 2,
		.attn_cap = 50,
		.logit_cap = 30,
		.largest_layers = 46},
	{.gguf = "gemma3",
		.config = "gemma3_text",
		.gemma = true,
		.post_norms = true,
		.qk_norm = true,
		.pattern = 6,
		.window_base = 10000,
		.largest_layers = 62},
};
const uint32_t og_nb_families = OG_ARRAY_LEN(og_families);

void og_hparams_init(struct og_hparams *hp, const struct og_family *f)
{
	memset(hp, 0, sizeof(*hp));
	hp->embed_scale = 1;
	hp->qk_norm = f->qk_norm;
	hp->post_norms = f->post_norms;
	hp->tied_always = f->gemma;
	hp->activation = f->gemma ? OG_ACT_GELU_TANH : OG_ACT_SILU;
	hp->attn_cap = f->attn_cap;
	hp->logit_cap = f->logit_cap;
}

void og_hparams_check_heads(const struct og_hparams *hp, struct og_complaint *c)
{
	if (hp->head_dim > OG_MODEL_HEAD_DIM_MAX || hp->head_dim % 2 != 0)
		og_complain(c, -EBADMSG, "heads have %u dimensions", hp->head_dim);
	if (hp->nb_heads % hp->nb_kv_heads != 0)
		og_complain(c, -EBADMSG, "%u heads do not share %u key-value heads evenly",
			hp->nb_heads, hp->nb_kv_heads);
}

void og_hparams_finish(struct og_hparams *hp, const struct og_family *f, struct og_complaint *c)
{
	if (hp->rope_dims % 2 != 0 || hp->rope_dims > hp->head_dim)
		og_complain(c, -EBADMSG, "%u of %u dimensions of a head are rotated", hp->rope_dims,
			hp->head_dim);
	if (f->gemma)
		hp->embed_scale = sqrtf((float)hp->width);
	if (hp->attn_scale == 0)
		hp->attn_scale = 1 / sqrtf((float)hp->head_dim);
	if (hp->window == 0)
		memset(hp->windowed, 0, sizeof(hp->windowed));
}

void og_rope_plain(struct og_rope *r, float base)
{
	memset(r, 0, sizeof(*r));
	r->base = base;
	r->magnitude = 1;
	for (size_t j = 0; j < OG_ARRAY_LEN(r->factors); j++)
		r->factors[j] = 1;
}

void og_rope_linear(struct og_rope *r, float factor)
{
	for (size_t j = 0; j < OG_ARRAY_LEN(r->factors); j++)
		r->factors[j] = factor;
}

/* Low frequencies are divided by the factor, high ones kept, with a ramp between. */
void og_rope_llama3(struct og_rope *r, uint32_t dims, const struct og_rope_scaling *s)
{
	for (uint32_t j = 0; j < dims / 2; j++) {
		double turns = s->original_context * pow(r->base, -2.0 * j / dims) / (2 * M_PI);
		double keep = (turns - s->low_freq) / (s->high_freq - s->low_freq);

		keep = fmin(fmax(keep, 0), 1);
		r->factors[j] = (float)(1 / ((1 - keep) / s->factor + keep));
	}
}

/* The pair that turns `turns` times over the original context. */
static double yarn_pair(
	const struct og_rope *r, uint32_t dims, const struct og_rope_scaling *s, double turns)
{
	return dims * log(s->original_context / (turns * 2 * M_PI)) / (2 * log(r->base));
}

/* Source: YaRN (arXiv 2309.00071), 3.2 to 3.4. */
void og_rope_yarn(struct og_rope *r, uint32_t dims, const struct og_rope_scaling *s)
{
	double low = fmax(floor(yarn_pair(r, dims, s, s->beta_fast)), 0);
	double high = fmin(ceil(yarn_pair(r, dims, s, s->beta_slow)), dims - 1);

	high = low == high ? low + 0.001 : high;
	for (uint32_t j = 0; j < dims / 2; j++) {
		double divide = fmin(fmax((j - low) / (high - low), 0), 1);

		r->factors[j] = (float)(1 / (divide / s->factor + 1 - divide));
	}
	r->magnitude = s->attention_factor;
	if (r->magnitude == 0)
		r->magnitude = s->factor > 1 ? 0.1f * logf(s->factor) + 1 : 1;
}

void og_rope_freqs(
	const struct og_hparams *hp, const struct og_rope *r, uint32_t context, float *out)
{
	bool is_long = r->has_long && context > hp->original_context;
	const float *factors = is_long ? r->long_factors : r->factors;

	for (uint32_t j = 0; j < hp->rope_dims / 2; j++)
		out[j] = powf(r->base, -2.0f * (float)j / (float)hp->rope_dims) / factors[j];
}
