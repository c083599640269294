#include "gpu/hparams_priv.h"

#include <errno.h>
#include <math.h>

/* Reads of members with a range. `text` is text_config where the file has one, else the root. */
struct config {
	struct og_complaint *c;
	const struct og_json *json;
	uint32_t text;
	const struct og_family *family;
};

/* Of the text model, else of the file: composite configurations share a few. */
static uint32_t member(const struct config *f, const char *name)
{
	uint32_t node = og_json_get(f->json, f->text, name);

	return node == OG_JSON_NONE ? og_json_get(f->json, OG_JSON_ROOT, name) : node;
}

/* 1 … max; absent or null gives `missing`, or a complaint where that is 0. */
static uint32_t read_count(struct config *f, const char *name, uint32_t max, uint32_t missing)
{
	uint64_t v = 0;
	int ret = og_json_u64(f->json, member(f, name), &v);

	if (ret == -ENOENT && missing > 0)
		return missing;
	if (ret < 0)
		og_complain(f->c, -EBADMSG, "%s is %s", name,
			ret == -ENOENT ? "missing" : "not a positive number");
	else if (v == 0 || v > max)
		og_complain(f->c, -EBADMSG, "%s is %llu; 1 to %u is possible", name,
			(unsigned long long)v, max);
	return (uint32_t)v;
}

static float read_positive(struct config *f, uint32_t object, const char *name, float missing)
{
	double v = missing;
	int ret = og_json_f64(f->json, og_json_get(f->json, object, name), &v);

	if ((ret < 0 && ret != -ENOENT) ||
		(ret == 0 && (!(v > 0) || !isfinite((float)v) || (float)v <= 0)))
		og_complain(f->c, -EBADMSG, "%s is not a positive number", name);
	return (float)v;
}

static bool read_bool(struct config *f, const char *name, bool missing)
{
	bool v = missing;
	int ret = og_json_bool(f->json, member(f, name), &v);

	if (ret < 0 && ret != -ENOENT)
		og_complain(f->c, -EBADMSG, "%s is neither true nor false", name);
	return v;
}

static struct og_text read_text(struct config *f, uint32_t object, const char *name)
{
	struct og_text t = {"", 0};
	int ret = og_json_string(f->json, og_json_get(f->json, object, name), &t);

	if (ret < 0 && ret != -ENOENT)
		og_complain(f->c, -EBADMSG, "%s is not text", name);
	return t;
}

static const struct og_family *read_model_type(struct config *f)
{
	struct og_text type = read_text(f, f->text, "model_type");

	if (type.len_bytes == 0)
		og_complain(f->c, -EBADMSG, "model_type is missing");
	for (uint32_t i = 0; i < og_nb_families; i++)
		if (og_text_is(type, og_families[i].config))
			return &og_families[i];
	og_complain(f->c, -EOPNOTSUPP,
		"model type %s is not supported (llama, mistral, qwen2, qwen3, phi3 and gemma to "
		"gemma3 are)",
		og_show(type).text);
	return NULL;
}

/* What the forward pass does not do, and would silently get wrong. */
static void refuse_unknown(struct config *f)
{
	static const char *const flags[] = {"mlp_bias", "use_bias"};
	uint64_t experts;

	for (size_t i = 0; i < OG_ARRAY_LEN(flags); i++)
		if (read_bool(f, flags[i], false))
			og_complain(f->c, -EOPNOTSUPP, "%s is not supported", flags[i]);
	if (og_json_u64(f->json, member(f, "num_local_experts"), &experts) == 0 && experts > 0)
		og_complain(f->c, -EOPNOTSUPP, "mixtures of experts are not supported");
}

/* [rows, columns], absent or null; the same wherever it is said. */
static void read_fp8_block(struct config *f, uint32_t list, struct og_hparams *hp)
{
	const struct og_json *j = f->json;
	uint64_t v[2];
	uint32_t first = og_json_first(j, list);

	if (og_json_kind(j, list) <= OG_JSON_NULL)
		return;
	if (og_json_kind(j, list) != OG_JSON_ARRAY || og_json_count(j, list) != 2 ||
		og_json_u64(j, first, &v[0]) < 0 ||
		og_json_u64(j, og_json_next(j, first), &v[1]) < 0 || v[0] == 0 || v[1] == 0 ||
		v[0] > OG_MODEL_FF_WIDTH_MAX || v[1] > OG_MODEL_FF_WIDTH_MAX ||
		(hp->fp8_block[0] > 0 && (hp->fp8_block[0] != v[0] || hp->fp8_block[1] != v[1]))) {
		og_complain(f->c, -EBADMSG,
			"quantization_config: a block of weights is not two positive numbers, "
			"everywhere the same");
		return;
	}
	hp->fp8_block[0] = (uint32_t)v[0];
	hp->fp8_block[1] = (uint32_t)v[1];
}

/* Of compressed-tensors: all groups have floats of 8 bits, and nothing turns weights around. */
static bool read_groups(struct config *f, uint32_t config, struct og_hparams *hp)
{
	const struct og_json *j = f->json;
	struct og_text format = read_text(f, config, "format");
	uint32_t groups = og_json_get(j, config, "config_groups");

	if ((!og_text_is(format, "float-quantized") && !og_text_is(format, "naive-quantized")) ||
		og_json_count(j, og_json_get(j, config, "transform_config")) > 0 ||
		og_json_kind(j, groups) != OG_JSON_OBJECT)
		return false;
	for (uint32_t key = og_json_first(j, groups); key; key = og_json_next(j, key)) {
		uint32_t weights = og_json_get(j, key + 1, "weights");
		uint64_t bits = 8;

		if (og_json_u64(j, og_json_get(j, weights, "num_bits"), &bits) < 0 || bits != 8 ||
			!og_text_is(read_text(f, weights, "type"), "float"))
			return false;
		read_fp8_block(f, og_json_get(j, weights, "block_structure"), hp);
	}
	return true;
}

/* Weights in e4m3 with scales beside them, by the names of those who publish them; nothing else. */
static void read_quantization(struct config *f, struct og_hparams *hp)
{
	uint32_t config = member(f, "quantization_config");
	struct og_text method, algorithm;
	bool is_known = false;

	if (og_json_kind(f->json, config) != OG_JSON_OBJECT)
		return;
	method = read_text(f, config, "quant_method");
	algorithm = read_text(f, config, "quant_algo");
	read_fp8_block(f, og_json_get(f->json, config, "weight_block_size"), hp);
	if (og_text_is(method, "fp8") || og_text_is(method, "fbgemm_fp8"))
		is_known = true;
	else if (og_text_is(method, "compressed-tensors"))
		is_known = read_groups(f, config, hp);
	else if (og_text_is(method, "modelopt"))
		is_known = og_text_is(algorithm, "FP8") ||
			   og_text_is(algorithm, "FP8_PER_CHANNEL_PER_TOKEN");
	if (!is_known)
		og_complain(f->c, -EOPNOTSUPP,
			"quantization_config of method \"%s\" is not supported (weights of 8-bit "
			"floats of fp8, compressed-tensors and modelopt are)",
			og_show(method).text);
}

static void read_activation(struct config *f, struct og_hparams *hp)
{
	struct og_text name = read_text(f, f->text, "hidden_activation");

	if (name.len_bytes == 0)
		name = read_text(f, f->text, "hidden_act");
	if (name.len_bytes == 0)
		return;
	if (og_text_is(name, "silu") || og_text_is(name, "swish"))
		hp->activation = OG_ACT_SILU;
	/* Gemma 1's files say gelu and mean the approximation, as transformers reads them. */
	else if (og_text_is(name, "gelu_pytorch_tanh") || og_text_is(name, "gelu_new") ||
		 (og_text_is(name, "gelu") && f->family->gemma))
		hp->activation = OG_ACT_GELU_TANH;
	else
		og_complain(
			f->c, -EOPNOTSUPP, "activation %s is not supported", og_show(name).text);
}

/* rope_dims / 2 positive numbers. */
static void read_factors(
	struct config *f, uint32_t object, const char *name, uint32_t count, float *out)
{
	uint32_t list = og_json_get(f->json, object, name), i = 0;

	if (og_json_kind(f->json, list) != OG_JSON_ARRAY || og_json_count(f->json, list) != count) {
		og_complain(f->c, -EBADMSG, "%s is not a list of %u numbers", name, count);
		return;
	}
	for (uint32_t item = og_json_first(f->json, list); item;
		item = og_json_next(f->json, item)) {
		double v = 0;

		if (og_json_f64(f->json, item, &v) < 0 || !(v > 0) || !((float)v > 0) ||
			!isfinite((float)v)) {
			og_complain(f->c, -EBADMSG, "%s holds what is no positive number", name);
			return;
		}
		out[i++] = (float)v;
	}
}

static void read_longrope(struct config *f, uint32_t object, struct og_hparams *hp,
	struct og_rope *r, struct og_rope_scaling *s)
{
	float ratio = (float)hp->context / (float)s->original_context;

	r->has_long = true;
	read_factors(f, object, "short_factor", hp->rope_dims / 2, r->factors);
	read_factors(f, object, "long_factor", hp->rope_dims / 2, r->long_factors);
	r->magnitude = s->attention_factor;
	if (r->magnitude == 0)
		r->magnitude = ratio > 1 ? sqrtf(1 + logf(ratio) / logf(s->original_context)) : 1;
}

static void read_scaling(struct config *f, uint32_t object, struct og_hparams *hp,
	struct og_rope *r, struct og_text kind)
{
	struct og_rope_scaling s = {
		.factor = read_positive(f, object, "factor", 1),
		.low_freq = read_positive(f, object, "low_freq_factor", 1),
		.high_freq = read_positive(f, object, "high_freq_factor", 4),
		.beta_fast = read_positive(f, object, "beta_fast", 32),
		.beta_slow = read_positive(f, object, "beta_slow", 1),
		.original_context = hp->original_context,
	};

	if (og_json_kind(f->json, og_json_get(f->json, object, "attention_factor")) ==
		OG_JSON_NUMBER)
		s.attention_factor = read_positive(f, object, "attention_factor", 1);
	if (f->c->ret < 0)
		return;
	if (og_text_is(kind, "linear"))
		og_rope_linear(r, s.factor);
	else if (og_text_is(kind, "llama3") && s.high_freq > s.low_freq)
		og_rope_llama3(r, hp->rope_dims, &s);
	else if (og_text_is(kind, "yarn"))
		og_rope_yarn(r, hp->rope_dims, &s);
	else if (og_text_is(kind, "longrope") || og_text_is(kind, "su"))
		read_longrope(f, object, hp, r, &s);
	else if (!og_text_is(kind, "default"))
		og_complain(
			f->c, -EOPNOTSUPP, "rope scaling %s is not supported", og_show(kind).text);
}

/* One set of rope parameters: `object` as transformers 5 writes it, or the old rope_scaling. */
static void read_one_rope(
	struct config *f, uint32_t object, struct og_hparams *hp, struct og_rope *r, float base)
{
	struct og_text kind = read_text(f, object, "rope_type");

	if (kind.len_bytes == 0)
		kind = read_text(f, object, "type");
	og_rope_plain(r, read_positive(f, object, "rope_theta", base));
	if (kind.len_bytes > 0 && f->c->ret == 0)
		read_scaling(f, object, hp, r, kind);
}

/* Kinds with an original context of their own keep it beside or among their parameters. */
static void read_original_context(struct config *f, uint32_t object, struct og_hparams *hp)
{
	static const char name[] = "original_max_position_embeddings";
	uint64_t v;

	hp->original_context = hp->context;
	if (og_json_u64(f->json, og_json_get(f->json, object, name), &v) < 0 &&
		og_json_u64(f->json, member(f, name), &v) < 0)
		return;
	if (v < 2 || v > OG_MODEL_CONTEXT_MAX)
		og_complain(f->c, -EBADMSG, "%s is %llu", name, (unsigned long long)v);
	else
		hp->original_context = (uint32_t)v;
}

static void read_rope(struct config *f, struct og_hparams *hp)
{
	uint32_t object = member(f, "rope_parameters"), local;
	bool is_new = og_json_kind(f->json, object) == OG_JSON_OBJECT;
	float base =
		read_positive(f, f->text, "rope_theta", f->family->window_base > 0 ? 1e6f : 1e4f);
	float partial;

	if (!is_new)
		object = member(f, "rope_scaling");
	local = og_json_get(f->json, object, "sliding_attention");
	if (og_json_kind(f->json, local) == OG_JSON_OBJECT)
		object = og_json_get(f->json, object, "full_attention");
	partial = read_positive(f, f->text, "partial_rotary_factor",
		read_positive(f, object, "partial_rotary_factor", 1));
	hp->rope_halves = true;
	hp->rope_dims = (uint32_t)((float)hp->head_dim * OG_MIN(partial, 1.0f));
	read_original_context(f, object, hp);
	if (f->c->ret < 0)
		return;
	read_one_rope(f, object, hp, &hp->rope[0], base);
	hp->rope[1] = hp->rope[0];
	if (og_json_kind(f->json, local) == OG_JSON_OBJECT)
		read_one_rope(f, local, hp, &hp->rope[1], f->family->window_base > 0 ? 1e4f : base);
	else if (f->family->window_base > 0)
		og_rope_plain(&hp->rope[1],
			read_positive(f, f->text, "rope_local_base_freq", f->family->window_base));
}

static void read_layer_types(struct config *f, struct og_hparams *hp, uint32_t list)
{
	uint32_t i = 0;

	if (og_json_count(f->json, list) != hp->nb_layers) {
		og_complain(f->c, -EBADMSG, "layer_types does not name a type for each layer");
		return;
	}
	for (uint32_t item = og_json_first(f->json, list); item;
		item = og_json_next(f->json, item), i++) {
		struct og_text type = og_json_text(f->json, item);

		hp->windowed[i] = og_text_is(type, "sliding_attention");
		if (!hp->windowed[i] && !og_text_is(type, "full_attention"))
			og_complain(f->c, -EOPNOTSUPP, "layer type %s is not supported",
				og_show(type).text);
	}
}

/* Which layers have a window, where layer_types does not say. */
static bool is_windowed(struct config *f, uint32_t layer, uint32_t pattern, uint32_t first)
{
	return pattern > 0 ? (layer + 1) % pattern != 0 : layer >= first;
}

static void read_window(struct config *f, struct og_hparams *hp)
{
	bool is_qwen = f->family->config[0] == 'q'; /* there the window is off unless asked for */
	uint32_t pattern = f->family->pattern, first = 0, types = member(f, "layer_types");
	uint32_t window = member(f, "sliding_window");

	if (og_json_kind(f->json, window) != OG_JSON_NUMBER ||
		!read_bool(f, "use_sliding_window", !is_qwen))
		return;
	hp->window = read_count(f, "sliding_window", UINT32_MAX, 0);
	if (pattern > 0 && f->family->window_base > 0)
		pattern = read_count(f, "sliding_window_pattern", OG_MODEL_LAYERS_MAX, pattern);
	if (is_qwen)
		first = read_count(f, "max_window_layers", UINT32_MAX, 28);
	if (f->c->ret < 0)
		return;
	if (og_json_kind(f->json, types) == OG_JSON_ARRAY)
		read_layer_types(f, hp, types);
	else
		for (uint32_t i = 0; i < hp->nb_layers; i++)
			hp->windowed[i] = is_windowed(f, i, pattern, first);
}

static float read_cap(struct config *f, const char *name, float missing)
{
	uint32_t node = og_json_get(f->json, f->text, name);

	if (og_json_kind(f->json, node) == OG_JSON_NULL)
		return 0;
	return node == OG_JSON_NONE ? missing : read_positive(f, f->text, name, missing);
}

static void read_attention(struct config *f, struct og_hparams *hp)
{
	float scalar;

	hp->nb_heads = read_count(f, "num_attention_heads", OG_MODEL_HEADS_MAX, 0);
	if (f->c->ret < 0)
		return;
	hp->nb_kv_heads = read_count(f, "num_key_value_heads", hp->nb_heads, hp->nb_heads);
	hp->head_dim = read_count(f, "head_dim", OG_MODEL_HEAD_DIM_MAX,
		f->family->gemma ? 256 : OG_MAX(hp->width / hp->nb_heads, 1u));
	if (f->c->ret == 0)
		og_hparams_check_heads(hp, f->c);
	hp->attn_cap = read_cap(f, "attn_logit_softcapping", hp->attn_cap);
	hp->logit_cap = read_cap(f, "final_logit_softcapping", hp->logit_cap);
	scalar = read_positive(f, f->text, "query_pre_attn_scalar", 256);
	if (f->family->post_norms)
		hp->attn_scale = 1 / sqrtf(scalar);
	if (f->c->ret == 0)
		read_window(f, hp);
}

int og_hparams_read_config(struct og_hparams *hp, const char *file, const struct og_json *config,
	char *err, size_t err_bytes)
{
	struct og_complaint c = {.file = file, .err = err, .err_bytes = err_bytes};
	struct config f = {&c, config, og_json_get(config, OG_JSON_ROOT, "text_config"), NULL};

	if (og_json_kind(config, OG_JSON_ROOT) != OG_JSON_OBJECT)
		return og_complain(&c, -EBADMSG, "not a JSON object");
	if (og_json_kind(config, f.text) != OG_JSON_OBJECT)
		f.text = OG_JSON_ROOT;
	f.family = read_model_type(&f);
	if (!f.family)
		return c.ret;
	og_hparams_init(hp, f.family);
	hp->norm_add = f.family->gemma ? 1 : 0;
	hp->nb_layers = read_count(&f, "num_hidden_layers", OG_MODEL_LAYERS_MAX, 0);
	hp->width = read_count(&f, "hidden_size", OG_MODEL_WIDTH_MAX, 0);
	hp->ff_width = read_count(&f, "intermediate_size", OG_MODEL_FF_WIDTH_MAX, 0);
	/* The default of most families; published files name it. */
	hp->context = read_count(
		&f, "max_position_embeddings", OG_MODEL_CONTEXT_MAX, f.family->gemma ? 8192 : 2048);
	hp->vocab = read_count(&f, "vocab_size", OG_GGUF_ARRAY_MAX, 0);
	hp->norm_eps = read_positive(&f, f.text, "rms_norm_eps", 1e-6f);
	read_activation(&f, hp);
	refuse_unknown(&f);
	read_quantization(&f, hp);
	if (c.ret == 0)
		read_attention(&f, hp);
	if (c.ret == 0)
		read_rope(&f, hp);
	if (c.ret == 0)
		og_hparams_finish(hp, f.family, &c);
	return c.ret;
}

static int read_eos(struct og_generation *g, const struct og_json *j, struct og_complaint *c)
{
	uint32_t node = og_json_get(j, OG_JSON_ROOT, "eos_token_id"), item = node;
	bool is_list = og_json_kind(j, node) == OG_JSON_ARRAY;
	uint64_t id;

	if (og_json_kind(j, node) <= OG_JSON_NULL)
		return 0;
	g->nb_eos = 0;
	for (item = is_list ? og_json_first(j, node) : node; item;
		item = is_list ? og_json_next(j, item) : 0) {
		if (og_json_u64(j, item, &id) < 0 || id >= OG_GGUF_ARRAY_MAX)
			return og_complain(c, -EBADMSG, "eos_token_id is not a token");
		if (g->nb_eos == OG_MODEL_EOS_MAX)
			return og_complain(c, -EBADMSG, "eos_token_id lists more than %d tokens",
				OG_MODEL_EOS_MAX);
		g->eos[g->nb_eos++] = (uint32_t)id;
	}
	return 0;
}

int og_generation_read(struct og_generation *g, const char *file, const struct og_json *config,
	char *err, size_t err_bytes)
{
	struct og_complaint c = {.file = file, .err = err, .err_bytes = err_bytes};
	struct config f = {&c, config, OG_JSON_ROOT, NULL};
	uint64_t top_k = 50; /* what transformers takes where nothing is said */
	double top_p = 1;
	bool samples = false;

	if (og_json_kind(config, OG_JSON_ROOT) != OG_JSON_OBJECT)
		return og_complain(&c, -EBADMSG, "not a JSON object");
	read_eos(g, config, &c);
	samples = read_bool(&f, "do_sample", false);
	if (c.ret < 0 || !samples)
		return c.ret;
	g->has_sampling = true;
	g->temperature = read_positive(&f, OG_JSON_ROOT, "temperature", 1);
	if (og_json_u64(config, member(&f, "top_k"), &top_k) == -EBADMSG || top_k > UINT32_MAX)
		og_complain(&c, -EBADMSG, "top_k is not a number of tokens");
	if (og_json_f64(config, member(&f, "top_p"), &top_p) == -EBADMSG || !(top_p > 0) ||
		top_p > 1)
		og_complain(&c, -EBADMSG, "top_p is not between 0 and 1");
	g->top_k = (uint32_t)top_k;
	g->top_p = (float)top_p;
	return c.ret;
}
