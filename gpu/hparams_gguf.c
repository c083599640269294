#include "gpu/hparams_priv.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

enum { KEY_BYTES = 96 };

/* Reads of keys `<architecture>.<name>` with a range. */
struct keys {
	struct og_complaint *c;
	const struct og_gguf *gguf;
	const struct og_family *family;
};

static const char *full_key(const struct keys *k, const char *name, char out[KEY_BYTES])
{
	snprintf(out, KEY_BYTES, "%s.%s", k->family->gguf, name);
	return out;
}

/* 1 … max; an absent key gives `missing`, or a complaint where that is 0. */
static uint32_t read_count(struct keys *k, const char *name, uint32_t max, uint32_t missing)
{
	char key[KEY_BYTES];
	uint64_t v = 0;
	int ret = og_gguf_u64(k->gguf, full_key(k, name, key), &v);

	if (ret == -ENOENT && missing > 0)
		return missing;
	if (ret < 0)
		og_complain(k->c, -EBADMSG, "%s is %s", key,
			ret == -ENOENT ? "missing" : "not a positive number");
	else if (v == 0 || v > max)
		og_complain(k->c, -EBADMSG, "%s is %llu; 1 to %u is possible", key,
			(unsigned long long)v, max);
	return (uint32_t)v;
}

static bool has_key(const struct keys *k, const char *name)
{
	char key[KEY_BYTES];

	return og_gguf_find(k->gguf, full_key(k, name, key)) != NULL;
}

static float read_positive(struct keys *k, const char *name, float missing)
{
	char key[KEY_BYTES];
	float v = missing;
	int ret = og_gguf_f32(k->gguf, full_key(k, name, key), &v);

	if ((ret < 0 && ret != -ENOENT) || (ret == 0 && !(v > 0)))
		og_complain(k->c, -EBADMSG, "%s is not a positive number", key);
	return v;
}

static const struct og_family *read_architecture(struct og_complaint *c, const struct og_gguf *g)
{
	struct og_text name;

	if (og_gguf_text(g, "general.architecture", &name) < 0) {
		og_complain(c, -EBADMSG, "general.architecture is missing");
		return NULL;
	}
	for (uint32_t i = 0; i < og_nb_families; i++)
		if (og_text_is(name, og_families[i].gguf))
			return &og_families[i];
	og_complain(c, -EOPNOTSUPP,
		"architecture %s is not supported (llama, qwen2, qwen3, phi3 and gemma to gemma3 "
		"are)",
		og_show(name).text);
	return NULL;
}

static void read_scaling(struct keys *k, struct og_hparams *hp, struct og_text kind)
{
	struct og_rope *r = &hp->rope[0];
	struct og_rope_scaling s = {
		.factor = read_positive(k, "rope.scaling.factor", 1),
		.beta_fast = 32,
		.beta_slow = 1,
		.original_context = hp->original_context,
	};

	if (og_text_is(kind, "linear"))
		og_rope_linear(r, s.factor);
	else if (og_text_is(kind, "yarn"))
		og_rope_yarn(r, hp->rope_dims, &s);
	/* longrope comes as tensors, its magnitude as a key */
	else if (!og_text_is(kind, "longrope") && !og_text_is(kind, "none"))
		og_complain(
			k->c, -EOPNOTSUPP, "rope scaling %s is not supported", og_show(kind).text);
	r->magnitude *= read_positive(k, "rope.scaling.attn_factor", 1);
}

static void read_rope(struct keys *k, struct og_hparams *hp)
{
	char key[KEY_BYTES];
	struct og_text kind;
	float base = read_positive(k, "rope.freq_base", 10000);

	hp->rope_halves = !k->family->gguf_pairs;
	hp->rope_dims = read_count(k, "rope.dimension_count", hp->head_dim, hp->head_dim);
	hp->original_context = read_count(
		k, "rope.scaling.original_context_length", OG_MODEL_CONTEXT_MAX, hp->context);
	if (k->c->ret < 0)
		return;
	og_rope_plain(&hp->rope[0], base);
	if (og_gguf_text(k->gguf, full_key(k, "rope.scaling.type", key), &kind) == 0)
		read_scaling(k, hp, kind);
	else if (has_key(k, "rope.scaling.attn_factor"))
		hp->rope[0].magnitude = read_positive(k, "rope.scaling.attn_factor", 1);
	hp->rope[1] = hp->rope[0];
	if (k->family->window_base > 0)
		og_rope_plain(&hp->rope[1],
			read_positive(k, "rope.freq_base_swa", k->family->window_base));
}

static void read_window(struct keys *k, struct og_hparams *hp)
{
	uint32_t pattern = k->family->pattern;
	char key[KEY_BYTES];
	const struct og_gguf_kv *kv =
		og_gguf_find(k->gguf, full_key(k, "attention.sliding_window_pattern", key));

	if (!has_key(k, "attention.sliding_window"))
		return;
	hp->window = read_count(k, "attention.sliding_window", UINT32_MAX, 0);
	if (kv && kv->kind == OG_GGUF_ARRAY) {
		if (kv->item_kind != OG_GGUF_BOOL || kv->count != hp->nb_layers) {
			og_complain(k->c, -EBADMSG, "%s is not a boolean for each layer", key);
			return;
		}
		for (uint32_t i = 0; i < hp->nb_layers; i++)
			hp->windowed[i] = kv->value[i] != 0;
		return;
	}
	if (kv)
		pattern = read_count(k, "attention.sliding_window_pattern", OG_MODEL_LAYERS_MAX, 0);
	for (uint32_t i = 0; i < hp->nb_layers && k->c->ret == 0; i++)
		hp->windowed[i] = pattern == 0 || (i + 1) % pattern != 0;
}

static void read_attention(struct keys *k, struct og_hparams *hp)
{
	hp->nb_heads = read_count(k, "attention.head_count", OG_MODEL_HEADS_MAX, 0);
	if (k->c->ret < 0)
		return;
	hp->nb_kv_heads = read_count(k, "attention.head_count_kv", hp->nb_heads, hp->nb_heads);
	hp->head_dim = read_count(k, "attention.key_length", OG_MODEL_HEAD_DIM_MAX,
		OG_MAX(hp->width / hp->nb_heads, 1u));
	if (read_count(k, "attention.value_length", OG_MODEL_HEAD_DIM_MAX, hp->head_dim) !=
		hp->head_dim)
		og_complain(
			k->c, -EOPNOTSUPP, "keys and values of different length are not supported");
	if (k->c->ret == 0)
		og_hparams_check_heads(hp, k->c);
	if (k->family->attn_cap > 0)
		hp->attn_cap = read_positive(k, "attn_logit_softcapping", hp->attn_cap);
	if (k->family->logit_cap > 0)
		hp->logit_cap = read_positive(k, "final_logit_softcapping", hp->logit_cap);
	/* The key does not exist for these: llama.cpp knows the largest models by their layers. */
	if (k->family->largest_layers > 0 && hp->nb_layers == k->family->largest_layers)
		hp->attn_scale = 1 / sqrtf((float)hp->width / (float)hp->nb_heads);
	if (k->c->ret == 0)
		read_window(k, hp);
}

int og_hparams_read_gguf(struct og_hparams *hp, const char *file, const struct og_gguf *g,
	char *err, size_t err_bytes)
{
	struct og_complaint c = {.file = file, .err = err, .err_bytes = err_bytes};
	struct keys k = {&c, g, read_architecture(&c, g)};
	uint64_t experts = 0;
	char key[KEY_BYTES];

	if (!k.family)
		return c.ret;
	og_hparams_init(hp, k.family);
	hp->nb_layers = read_count(&k, "block_count", OG_MODEL_LAYERS_MAX, 0);
	hp->width = read_count(&k, "embedding_length", OG_MODEL_WIDTH_MAX, 0);
	hp->ff_width = read_count(&k, "feed_forward_length", OG_MODEL_FF_WIDTH_MAX, 0);
	hp->context = read_count(&k, "context_length", OG_MODEL_CONTEXT_MAX, 0);
	hp->norm_eps = read_positive(&k, "attention.layer_norm_rms_epsilon", 1e-5f);
	if (c.ret == 0)
		read_attention(&k, hp);
	if (c.ret == 0)
		read_rope(&k, hp);
	if (c.ret == 0)
		og_hparams_finish(hp, k.family, &c);
	if (og_gguf_u64(g, full_key(&k, "expert_count", key), &experts) == 0 && experts > 0)
		og_complain(&c, -EOPNOTSUPP, "mixtures of experts are not supported");
	return c.ret;
}
