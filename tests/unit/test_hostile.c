/*
 * test_hostile.c: malformed model files, each named after what is wrong with it, through the same call
 * that opens a model for service. Each is refused within a second and 64 MiB, with the file's name and
 * the reason.
 *
 * OG_HOSTILE_KEEP=FOLDER leaves the files there.
 */
#include "gpu/model.h"
#include "model_writer.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

enum { REFUSED_WITHIN_MS = 1000, REFUSED_WITHIN_KIB = 64 * 1024 };

/* What is done to a good file. */
enum op {
	PUT32, /* value at a place of the file */
	PUT64,
	KEY_KIND,  /* the type of the key's value */
	KEY_VALUE, /* its first four bytes */
	KEY_FLOAT,
	KEY_BYTES, /* the length of its text */
	KEY_COUNT, /* the items of its array, or their type */
	KEY_ITEMS,
	NAME_BYTES, /* the length of the name of a key or tensor */
	DIMS, /* of a tensor: how many, the first, the second, all so that they multiply to 2^64 */
	DIM_0,
	DIM_1,
	DIMS_WRAP,
	TYPE,
	OFFSET,
	VALUES, /* its first value, a float */
	RENAME, /* one text into another of the same length */
	CUT,    /* the file ends so many bytes before its end */
	KEEP,   /* or after so many bytes */
};

struct gguf_kind {
	const char *name;
	enum op op;
	const char *target;
	uint64_t value;
	const char *why;
};

#define MINUS_1 UINT64_MAX
#define NAN_BITS 0x7fc00000
#define INF_BITS 0x7f800000
#define MINUS_BITS 0xbf800000

static const struct gguf_kind gguf_kinds[] = {
	/* The header: Talos 2024 (n_tensors, n_kv), versions, byte order. */
	{"other-magic", PUT32, "", 0x46554748, "not a GGUF file"},
	{"ggml-magic", PUT32, "", 0x67676d6c, "not a GGUF file"},
	{"version-0", PUT32, "\4", 0, "version"},
	{"version-1", PUT32, "\4", 1, "version"},
	{"version-4", PUT32, "\4", 4, "version"},
	{"big-endian", PUT32, "\4", 0x03000000, "big endian"},
	{"tensors-max", PUT64, "\x8", MINUS_1, "tensors"},
	{"tensors-half-of-64-bits", PUT64, "\x8", 1ull << 63, "tensors"},
	{"tensors-more-than-the-file-holds", PUT64, "\x8", 60000, "tensors"},
	{"tensors-one-more-than-there-are", PUT64, "\x8", 23, NULL},
	{"keys-max", PUT64, "\x10", MINUS_1, "keys"},
	{"keys-times-size-wraps", PUT64, "\x10", MINUS_1 / 13 + 1, "keys"},
	{"keys-more-than-the-file-holds", PUT64, "\x10", 65000, NULL},
	{"keys-one-fewer-than-there-are", PUT64, "\x10", 17, NULL},
	/* Keys and their values: string and array lengths, types before casts. */
	{"key-length-max", NAME_BYTES, "general.architecture", MINUS_1, "a key is"},
	{"key-length-half-of-64-bits", NAME_BYTES, "general.architecture", 1ull << 63, "a key is"},
	{"key-longer-than-allowed", NAME_BYTES, "general.architecture", 65537, "a key is"},
	{"key-empty", NAME_BYTES, "general.architecture", 0, NULL},
	{"value-of-unknown-type", KEY_KIND, "llama.block_count", 13, "unknown type 13"},
	{"value-of-absurd-type", KEY_KIND, "llama.block_count", UINT32_MAX, "unknown type"},
	{"text-length-max", KEY_BYTES, "general.architecture", MINUS_1, "bytes long"},
	{"text-beyond-the-file", KEY_BYTES, "general.architecture", 65536, NULL},
	{"array-of-arrays", KEY_ITEMS, "tokenizer.ggml.merges", 9, "unknown type 9"},
	{"array-of-unknown-type", KEY_ITEMS, "tokenizer.ggml.merges", 99, "unknown type 99"},
	{"array-count-max", KEY_COUNT, "tokenizer.ggml.tokens", MINUS_1, "items"},
	{"array-count-times-size-wraps", KEY_COUNT, "tokenizer.ggml.tokens", (1ull << 61) + 1,
		"items"},
	{"array-beyond-the-file", KEY_COUNT, "tokenizer.ggml.token_type", 4000000, "items"},
	{"array-longer-than-allowed", KEY_COUNT, "tokenizer.ggml.tokens", 4194305, "items"},
	{"key-twice", RENAME, "tokenizer.ggml.model=general.architecture", 0, "occurs twice"},
	{"architecture-not-text", KEY_KIND, "general.architecture", OG_GGUF_U64, NULL},
	{"architecture-missing", RENAME, "general.architecture=general.architectur_", 0,
		"general.architecture is missing"},
	{"architecture-unknown", RENAME, "llama\x14=mamba\x14", 0, "architecture mamba"},
	/* Shapes. */
	{"layers-0", KEY_VALUE, "llama.block_count", 0, "block_count is 0"},
	{"layers-513", KEY_VALUE, "llama.block_count", 513, "block_count is 513"},
	{"layers-max", KEY_VALUE, "llama.block_count", UINT32_MAX, "block_count"},
	{"layers-more-than-tensors", KEY_VALUE, "llama.block_count", 3,
		"blk.2.attn_norm.weight is missing"},
	{"layers-a-float", KEY_KIND, "llama.block_count", OG_GGUF_F32, "block_count is not"},
	{"layers-negative", KEY_KIND, "llama.block_count", OG_GGUF_I32, NULL},
	{"layers-missing", RENAME, "llama.block_count=llama.block_counX", 0,
		"block_count is missing"},
	{"width-0", KEY_VALUE, "llama.embedding_length", 0, "embedding_length is 0"},
	{"width-max", KEY_VALUE, "llama.embedding_length", UINT32_MAX, "embedding_length"},
	{"width-other-than-the-tensors", KEY_VALUE, "llama.embedding_length", 128, "not 128 x"},
	{"ff-width-0", KEY_VALUE, "llama.feed_forward_length", 0, "feed_forward_length is 0"},
	{"ff-width-max", KEY_VALUE, "llama.feed_forward_length", UINT32_MAX, "feed_forward_length"},
	{"context-0", KEY_VALUE, "llama.context_length", 0, "context_length is 0"},
	{"context-max", KEY_VALUE, "llama.context_length", UINT32_MAX, "context_length"},
	{"heads-0", KEY_VALUE, "llama.attention.head_count\4", 0, "head_count is 0"},
	{"heads-max", KEY_VALUE, "llama.attention.head_count\4", UINT32_MAX, "head_count"},
	{"heads-do-not-divide", KEY_VALUE, "llama.attention.head_count_kv", 3, "evenly"},
	{"kv-heads-more-than-heads", KEY_VALUE, "llama.attention.head_count_kv", 5,
		"head_count_kv is 5"},
	{"head-odd", KEY_VALUE, "llama.attention.key_length", 15, NULL},
	{"head-513", KEY_VALUE, "llama.attention.key_length", 513, "key_length is 513"},
	{"head-values-differ", KEY_VALUE, "llama.attention.value_length", 8, "different length"},
	{"rope-dims-odd", KEY_VALUE, "llama.rope.dimension_count", 15, "rotated"},
	{"rope-dims-more-than-head", KEY_VALUE, "llama.rope.dimension_count", 18,
		"dimension_count is 18"},
	{"rope-base-0", KEY_FLOAT, "llama.rope.freq_base", 0, "freq_base"},
	{"rope-base-nan", KEY_FLOAT, "llama.rope.freq_base", NAN_BITS, "freq_base"},
	{"rope-base-negative", KEY_FLOAT, "llama.rope.freq_base", MINUS_BITS, "freq_base"},
	{"epsilon-negative", KEY_FLOAT, "rms_epsilon", MINUS_BITS, "epsilon"},
	{"epsilon-infinite", KEY_FLOAT, "rms_epsilon", INF_BITS, "epsilon"},
	/* Tensors: CVE-2024-21802 and its siblings, 2025-53630, 2026-27940, 2026-33298, 2026-7482. */
	{"tensor-name-too-long", NAME_BYTES, "blk.1.ffn_up.weight", 65, "name"},
	{"tensor-name-length-max", NAME_BYTES, "blk.1.ffn_up.weight", MINUS_1, "name"},
	{"tensor-dims-0", DIMS, "blk.1.ffn_up.weight", 0, "blk.1.ffn_up.weight has 0 dimensions"},
	{"tensor-dims-5", DIMS, "blk.1.ffn_up.weight", 5, "blk.1.ffn_up.weight has 5 dimensions"},
	{"tensor-dims-max", DIMS, "blk.1.ffn_up.weight", UINT32_MAX, "blk.1.ffn_up.weight has"},
	{"tensor-empty", DIM_0, "blk.1.ffn_up.weight", 0, "blk.1.ffn_up.weight has an empty"},
	{"tensor-negative", DIM_0, "blk.1.ffn_up.weight", MINUS_1, "blk.1.ffn_up.weight"},
	{"tensor-half-of-64-bits", DIM_1, "blk.1.ffn_up.weight", 1ull << 63, "64 bits"},
	{"tensor-product-wraps-to-0", DIMS_WRAP, "blk.1.ffn_up.weight", 1ull << 32, "64 bits"},
	{"tensor-product-wraps-to-little", DIMS_WRAP, "blk.1.ffn_up.weight", (1ull << 32) + 1,
		"64 bits"},
	{"tensor-size-wraps", DIM_1, "blk.1.ffn_up.weight", 1ull << 56, "larger than the file"},
	{"tensor-exabytes-in-kilobytes", DIM_0, "output_norm.weight", 1ull << 60,
		"larger than the file"},
	{"tensor-larger-than-the-file", DIM_0, "output_norm.weight", 1ull << 24,
		"larger than the file"},
	{"tensor-of-removed-type", TYPE, "blk.1.ffn_up.weight", 4, "type 4"},
	{"tensor-of-unsupported-type", TYPE, "blk.1.ffn_up.weight", 3, "type 3"},
	{"tensor-of-unknown-type", TYPE, "blk.1.ffn_up.weight", 99, "type 99"},
	{"tensor-of-absurd-type", TYPE, "blk.1.ffn_up.weight", UINT32_MAX, "type"},
	{"tensor-of-part-blocks", TYPE, "blk.1.ffn_up.weight", 12, "whole Q4_K blocks"},
	{"norm-in-blocks", TYPE, "output_norm.weight", 8, "output_norm.weight is Q8_0"},
	{"tensor-unaligned", OFFSET, "blk.1.ffn_up.weight", 33,
		"blk.1.ffn_up.weight is not aligned"},
	{"tensor-overlaps", OFFSET, "blk.1.ffn_up.weight", 64, "overlaps"},
	{"tensor-beyond-the-file", OFFSET, "blk.1.ffn_up.weight", 1ull << 40, "beyond the end"},
	{"tensor-offset-wraps", OFFSET, "blk.1.ffn_up.weight", MINUS_1 - 31, "beyond the end"},
	{"tensor-offset-wraps-with-size", OFFSET, "blk.1.ffn_up.weight", MINUS_1 - 65535,
		"beyond the end"},
	{"tensor-twice", RENAME, "blk.1.ffn_up.weight=blk.0.ffn_up.weight", 0, "occurs twice"},
	{"tensor-missing", RENAME, "blk.1.ffn_up.weight=blk.1.ffn_xp.weight", 0,
		"tensor blk.1.ffn_up.weight is missing"},
	{"embedding-missing", RENAME, "token_embd.weight=token_embX.weight", 0,
		"tensor token_embd.weight is missing"},
	{"rope-factors-of-other-length", DIM_0, "rope_freqs.weight", 7,
		"rope_freqs.weight is 7 x 1"},
	{"rope-factors-zero", VALUES, "rope_freqs.weight", 0, "rope_freqs.weight holds"},
	{"rope-factors-nan", VALUES, "rope_freqs.weight", NAN_BITS, "rope_freqs.weight holds"},
	{"rope-factors-negative", VALUES, "rope_freqs.weight", MINUS_BITS,
		"rope_freqs.weight holds"},
	/* Files that end too early. */
	{"file-empty", KEEP, "", 0, "ends inside"},
	{"file-of-magic-only", KEEP, "", 4, "ends inside"},
	{"file-ends-in-the-counts", KEEP, "", 20, "ends inside"},
	{"file-ends-in-the-keys", KEEP, "", 200, NULL},
	{"file-ends-in-the-tokens", KEEP, "", 2000, NULL},
	{"file-one-byte-short", CUT, "", 1, "beyond the end"},
	{"file-without-data", CUT, "", 60000, "beyond the end"},
};

static uint8_t *locate(struct og_gw *w, const char *text)
{
	uint8_t *at = memmem(w->data, w->len, text, strlen(text));

	cr_assert_not_null(at, "%s", text);
	return at;
}

/* After the key: its type and value. "\4" after a name tells it from longer ones. */
static uint8_t *after_key(struct og_gw *w, const char *key)
{
	size_t n = strlen(key);

	return locate(w, key) + (key[n - 1] == 4 ? n - 1 : n);
}

static uint64_t data_start(const struct og_gw *w)
{
	char err[256];
	struct og_gguf g;
	uint64_t start;

	cr_assert_eq(
		og_gguf_init(&g, "f", w->data, w->len, w->len, err, sizeof(err)), 0, "%s", err);
	start = g.data_offset;
	og_gguf_fini(&g);
	return start;
}

static void rename_text(struct og_gw *w, const char *pair)
{
	const char *to = strchr(pair, '=') + 1;
	size_t n = (size_t)(to - pair - 1);
	uint8_t *at = memmem(w->data, w->len, pair, n);

	cr_assert(at && strlen(to) == n, "%s", pair);
	memcpy(at, to, n);
}

static void damage_tensor(struct og_gw *w, const struct gguf_kind *k)
{
	uint8_t *dims = locate(w, k->target) + strlen(k->target), *type;
	uint32_t n = og_load_le32(dims);
	uint64_t start = data_start(w);

	type = dims + 4 + 8 * n;
	switch (k->op) {
	case DIMS:
		og_store_le32(dims, (uint32_t)k->value);
		break;
	case DIMS_WRAP:
		og_store_le64(dims + 4, k->value);
		og_store_le64(dims + 12, 1ull << 32);
		break;
	case DIM_0:
		og_store_le64(dims + 4, k->value);
		break;
	case DIM_1:
		og_store_le64(dims + 12, k->value);
		break;
	case TYPE:
		og_store_le32(type, (uint32_t)k->value);
		break;
	case OFFSET:
		og_store_le64(type + 4, k->value);
		break;
	default:
		og_store_le32(w->data + start + og_load_le64(type + 4), (uint32_t)k->value);
		break;
	}
}

static void damage_gguf(struct og_gw *w, const struct gguf_kind *k)
{
	switch (k->op) {
	case PUT32:
		og_store_le32(w->data + (uint8_t)k->target[0], (uint32_t)k->value);
		break;
	case PUT64:
		og_store_le64(w->data + (uint8_t)k->target[0], k->value);
		break;
	case KEY_KIND:
		og_store_le32(after_key(w, k->target), (uint32_t)k->value);
		if (k->value == OG_GGUF_I32)
			og_store_le32(after_key(w, k->target) + 4, UINT32_MAX);
		break;
	case KEY_VALUE:
	case KEY_FLOAT:
	case KEY_ITEMS:
		og_store_le32(after_key(w, k->target) + 4, (uint32_t)k->value);
		break;
	case KEY_BYTES:
		og_store_le64(after_key(w, k->target) + 4, k->value);
		break;
	case KEY_COUNT:
		og_store_le64(after_key(w, k->target) + 8, k->value);
		break;
	case NAME_BYTES:
		og_store_le64(locate(w, k->target) - 8, k->value);
		break;
	case RENAME:
		rename_text(w, k->target);
		break;
	case CUT:
		w->len -= k->value;
		break;
	case KEEP:
		w->len = k->value;
		break;
	default:
		damage_tensor(w, k);
		break;
	}
}

/* ---- Folders ---- */

/* In one file of a good folder one text is replaced by another; NULL: everything. */
struct folder_kind {
	const char *name;
	const char *from;
	const char *to;
	const char *why;
};

#define DEEP_64 "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["

static const struct folder_kind config_kinds[] = {
	{"config-empty", NULL, "", ""},
	{"config-no-json", NULL, "{", ""},
	{"config-a-list", NULL, "[]", "not a JSON object"},
	{"config-deep", NULL, DEEP_64 DEEP_64, ""},
	{"config-no-utf-8", "\"X\"", "\"\xff\"", ""},
	{"config-without-type", "\"model_type\"", "\"model_typo\"", "model_type is missing"},
	{"config-of-unknown-type", "\"llama\"", "\"mamba\"", "model type mamba"},
	{"config-type-a-number", "\"llama\"", "7", "model_type is not text"},
	{"config-width-0", "\"hidden_size\":64", "\"hidden_size\":0", "hidden_size is 0"},
	{"config-width-negative", "\"hidden_size\":64", "\"hidden_size\":-64", "hidden_size"},
	{"config-width-a-fraction", "\"hidden_size\":64", "\"hidden_size\":64.5", "hidden_size"},
	{"config-width-text", "\"hidden_size\":64", "\"hidden_size\":\"64\"", "hidden_size"},
	{"config-width-beyond-64-bits", "\"hidden_size\":64",
		"\"hidden_size\":18446744073709551680", "hidden_size"},
	{"config-width-65537", "\"hidden_size\":64", "\"hidden_size\":65537",
		"hidden_size is 65537"},
	{"config-width-missing", "\"hidden_size\"", "\"hidden_sice\"", "hidden_size is missing"},
	{"config-layers-0", "layers\":2", "layers\":0", "num_hidden_layers is 0"},
	{"config-layers-a-milliard", "layers\":2", "layers\":1000000000", "num_hidden_layers"},
	{"config-layers-more-than-tensors", "layers\":2", "layers\":3",
		"model.layers.2.input_layernorm.weight is missing"},
	{"config-heads-0", "attention_heads\":4", "attention_heads\":0",
		"num_attention_heads is 0"},
	{"config-heads-do-not-divide", "value_heads\":2", "value_heads\":3", "evenly"},
	{"config-kv-heads-more-than-heads", "value_heads\":2", "value_heads\":8",
		"num_key_value_heads is 8"},
	{"config-head-odd", "\"hidden_act\"", "\"head_dim\":15,\"hidden_act\"", "heads have 15"},
	{"config-head-513", "\"hidden_act\"", "\"head_dim\":513,\"hidden_act\"", "head_dim is 513"},
	{"config-vocabulary-0", "vocab_size\":288", "vocab_size\":0", "vocab_size is 0"},
	{"config-vocabulary-of-2^40", "vocab_size\":288", "vocab_size\":1099511627776",
		"vocab_size"},
	{"config-vocabulary-other-than-the-embedding", "vocab_size\":288", "vocab_size\":289",
		"model.embed_tokens.weight is 64 x 288, not 64 x 289"},
	{"config-context-0", "embeddings\":256", "embeddings\":0", "max_position_embeddings is 0"},
	{"config-epsilon-0", "1e-05", "0", "rms_norm_eps"},
	{"config-epsilon-negative", "1e-05", "-1", "rms_norm_eps"},
	{"config-epsilon-nan", "1e-05", "NaN", "rms_norm_eps"},
	{"config-epsilon-infinite", "1e-05", "1e400", "rms_norm_eps"},
	{"config-activation-unknown", "\"silu\"", "\"relu2\"", "activation relu2"},
	{"config-with-bias-of-the-mlp", "\"hidden_act\"", "\"mlp_bias\":true,\"hidden_act\"",
		"mlp_bias"},
	{"config-quantized", "\"hidden_act\"", "\"quantization_config\":{},\"hidden_act\"",
		"quantization_config"},
	{"config-with-experts", "\"hidden_act\"", "\"num_local_experts\":8,\"hidden_act\"",
		"experts"},
	{"config-rope-base-0", "theta\":500000.0", "theta\":0", "rope_theta"},
	{"config-rope-of-unknown-type", "\"llama3\"", "\"spiral\"", "rope scaling spiral"},
	{"config-rope-factor-0", "\"factor\":8.0", "\"factor\":0", "factor"},
	{"config-rope-factors-upside-down", "\"low_freq_factor\":1.0", "\"low_freq_factor\":4.0",
		"rope scaling"},
	{"config-longrope-without-factors", "\"llama3\"", "\"longrope\"", "short_factor"},
	{"config-longrope-too-short", "\"llama3\"", "\"longrope\",\"short_factor\":[1,1]",
		"short_factor"},
	{"config-longrope-of-negatives", "\"llama3\"",
		"\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,-1]", "short_factor"},
	{"config-longrope-of-infinities", "\"llama3\"",
		"\"longrope\",\"short_factor\":[1,1,1,1,1,1,1,1e300]", "short_factor"},
	{"config-original-context-0", "_embeddings\":32", "_embeddings\":0",
		"original_max_position"},
	{"config-rotary-factor-0", "\"hidden_act\"", "\"partial_rotary_factor\":0,\"hidden_act\"",
		"partial_rotary_factor"},
	{"config-rotary-factor-odd", "\"hidden_act\"",
		"\"partial_rotary_factor\":0.45,\"hidden_act\"", "rotated"},
	{"config-window-0", "\"hidden_act\"", "\"sliding_window\":0,\"hidden_act\"",
		"sliding_window"},
	{"config-layer-types-too-few", "\"hidden_act\"",
		"\"sliding_window\":8,\"layer_types\":[\"full_attention\"],\"hidden_act\"",
		"layer_types"},
	{"config-layer-type-unknown", "\"hidden_act\"",
		"\"sliding_window\":8,\"layer_types\":[\"full_attention\",\"conv\"],\"hidden_act\"",
		"layer type conv"},
	{"config-eos-negative", "[265,266]", "[-1]", "eos_token_id"},
	{"config-eos-text", "[265,266]", "\"</s>\"", "eos_token_id"},
	{"config-eos-too-many", "[265,266]", "[1,2,3,4,5,6,7,8,9]", "eos_token_id"},
};

static const struct folder_kind index_kinds[] = {
	{"index-empty", NULL, "{}", "weight_map is not an object"},
	{"index-a-list", "\"weight_map\":{", "\"weight_map\":[", ""},
	{"index-names-nothing", NULL, "{\"weight_map\":{}}", "weight_map is empty"},
	{"index-leaves-the-folder", "model-00001-of-00003", "../00001-of-00003",
		"no name of a safetensors"},
	{"index-names-an-absolute-path", "model-00001-of-00003", "/tmp/x",
		"no name of a safetensors"},
	{"index-names-a-hidden-file", "model-00001-of-00003", ".odel", "no name of a safetensors"},
	{"index-names-another-kind-of-file", "00003.safetensors", "00003.pickle",
		"no name of a safetensors"},
	{"index-name-with-nul", "model-00001-of-00003", "model\\u0000", "no name of a safetensors"},
	{"index-name-a-number", "\"model-00001-of-00003.safetensors\"", "7",
		"no name of a safetensors"},
	{"index-names-a-missing-file", "model-00001-of-00003", "model-00009-of-00003",
		"No such file"},
	{"index-names-another-file", "model-00001-of-00003", "model-00002-of-00003", "is not in"},
	{"index-names-a-missing-tensor", "model.embed_tokens.weight", "model.embed_tokens.weighs",
		"is not in"},
};

/* In the header of model.safetensors; its length is corrected. */
static const struct folder_kind header_kinds[] = {
	{"header-no-object", NULL, "[]", "does not start with {"},
	{"header-no-json", NULL, "{nonsense}", ""},
	{"header-of-nothing", NULL, "{}", "belong to none"},
	{"header-deep", NULL, "{\"a\":" DEEP_64 DEEP_64, ""},
	{"header-no-utf-8", "model.norm", "model\xffnorm", ""},
	{"header-cut-off", "\"model.norm.weight\":{", "\"model.norm.weight\":", ""},
	{"header-name-empty", "\"model.norm.weight\"", "\"\"", "0 bytes long"},
	{"header-tensor-twice", "layers.1.mlp.up_proj", "layers.0.mlp.up_proj", "occurs twice"},
	{"header-tensor-a-list", "\"model.norm.weight\":{", "\"x\":[],\"model.norm.weight\":{",
		"tensor x is not described"},
	{"header-member-unknown", "\"dtype\":\"F32\",\"shape\":[64],",
		"\"dtype\":\"F32\",\"shape\":[64],\"x\":1,", "unknown member x"},
	{"header-member-twice", "\"dtype\":\"F32\",\"shape\":[64],",
		"\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[64],", "dtype occurs twice"},
	{"header-dtype-missing", "\"dtype\":\"F32\",\"shape\":[64],", "\"shape\":[64],",
		"dtype is missing"},
	{"header-shape-missing", "\"shape\":[64],", "", "shape is missing"},
	{"header-dtype-unknown", "\"F32\",\"shape\":[64]", "\"F33\",\"shape\":[64]",
		"unknown dtype F33"},
	{"header-dtype-a-number", "\"F32\",\"shape\":[64]", "32,\"shape\":[64]", "unknown dtype"},
	{"header-dtype-not-computed-with", "\"F32\",\"shape\":[64]", "\"I32\",\"shape\":[64]",
		"another dtype"},
	{"header-dtype-of-another-size", "\"F32\",\"shape\":[64]", "\"F16\",\"shape\":[64]",
		"does not make"},
	{"header-shape-a-number", "\"shape\":[64]", "\"shape\":64", "shape is not a list"},
	{"header-shape-negative", "\"shape\":[64]", "\"shape\":[-64]", "no natural number"},
	{"header-shape-a-fraction", "\"shape\":[64]", "\"shape\":[64.0]", "no natural number"},
	{"header-shape-beyond-64-bits", "\"shape\":[64]", "\"shape\":[18446744073709551680]",
		"no natural number"},
	{"header-shape-product-wraps", "\"shape\":[64]", "\"shape\":[4294967296,4294967296,64]",
		"64 bits"},
	{"header-shape-times-size-wraps", "\"shape\":[64]", "\"shape\":[576460752303423552]",
		"does not make"},
	{"header-shape-of-5-dimensions", "\"shape\":[64]", "\"shape\":[1,1,1,1,64]",
		"5 dimensions"},
	{"header-shape-empty-dimension", "\"shape\":[64]", "\"shape\":[0]", "does not make"},
	{"header-shape-other-than-the-model", "\"shape\":[64]", "\"shape\":[8,8]", "not 64 x 1"},
	{"header-offsets-missing", "\"data_offsets\":[0,", "\"data_offset\":[0,", "unknown member"},
	{"header-offsets-a-number", "\"data_offsets\":[0,73728]", "\"data_offsets\":0",
		"list of two"},
	{"header-offsets-three", "\"data_offsets\":[0,73728]", "\"data_offsets\":[0,73728,9]",
		"list of two"},
	{"header-offsets-negative", "\"data_offsets\":[0,73728]", "\"data_offsets\":[-1,73728]",
		"list of two"},
	{"header-offsets-backwards", "\"data_offsets\":[0,73728]", "\"data_offsets\":[73728,0]",
		"ends before it begins"},
	{"header-offsets-beyond-the-file", "\"data_offsets\":[0,73728]",
		"\"data_offsets\":[0,99999999]", "beyond the end"},
	{"header-offsets-max", "\"data_offsets\":[0,73728]",
		"\"data_offsets\":[18446744073709551615,18446744073709551615]", "beyond the end"},
	{"header-offsets-overlap", "\"data_offsets\":[73728,", "\"data_offsets\":[73724,", ""},
	{"header-offsets-leave-a-hole", "\"data_offsets\":[0,73728]", "\"data_offsets\":[4,73732]",
		""},
	{"header-metadata-a-list", "\"__metadata__\":{\"format\":\"pt\"}", "\"__metadata__\":[]",
		"__metadata__ is not an object"},
	{"header-metadata-of-numbers", "\"format\":\"pt\"", "\"format\":1", "__metadata__ holds"},
	{"header-metadata-twice", "{\"__metadata__\"", "{\"__metadata__\":{},\"__metadata__\"",
		"__metadata__ occurs twice"},
	{"header-norm-missing", "\"model.norm.weight\"", "\"model.mean.weight\"",
		"tensor model.norm.weight is missing"},
};

#define Q_SCALE "layers.0.self_attn.q_proj.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[3,2]"
#define FP8_CONFIG "\"quant_method\":\"fp8\",\"fmt\":\"e4m3\","

/* In a folder whose weights are e4m3, with a scale of each block; config.json or the header. */
static const struct folder_kind fp8_kinds[] = {
	{"config-fp8-block-missing", "\"weight_block_size\"", "\"weight_size\"",
		"nor of each block that config.json names"},
	{"config-fp8-block-null", "[24,40]", "null", "nor of each block that config.json names"},
	{"config-fp8-block-other-than-the-scales", "[24,40]", "[24,16]", "not one scale"},
	{"config-fp8-block-0", "[24,40]", "[0,40]", "two positive numbers"},
	{"config-fp8-block-negative", "[24,40]", "[24,-40]", "two positive numbers"},
	{"config-fp8-block-of-2^40", "[24,40]", "[24,1099511627776]", "two positive numbers"},
	{"config-fp8-block-one-number", "[24,40]", "[24]", "two positive numbers"},
	{"config-fp8-block-text", "[24,40]", "\"24x40\"", "two positive numbers"},
	{"config-fp8-method-unknown", "\"fp8\"", "\"awq\"", "method \"awq\""},
	{"config-fp8-method-a-number", "\"fp8\"", "8", "quant_method is not text"},
	{"config-fp8-of-modelopt-in-4-bits", FP8_CONFIG,
		"\"quant_method\":\"modelopt\",\"quant_algo\":\"NVFP4\",", "method \"modelopt\""},
	{"config-fp8-groups-missing", FP8_CONFIG,
		"\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\",",
		"compressed-tensors"},
	{"config-fp8-groups-a-list", FP8_CONFIG,
		"\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\","
		"\"config_groups\":[],",
		"compressed-tensors"},
	{"config-fp8-groups-of-4-bits", FP8_CONFIG,
		"\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\","
		"\"config_groups\":{\"a\":{\"weights\":{\"num_bits\":4,\"type\":\"float\"}}},",
		"compressed-tensors"},
	{"config-fp8-groups-that-turn-weights", FP8_CONFIG,
		"\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\","
		"\"transform_config\":{\"a\":1},\"config_groups\":{},",
		"compressed-tensors"},
	{"config-fp8-groups-with-another-block", FP8_CONFIG,
		"\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\","
		"\"config_groups\":{\"a\":{\"weights\":{\"num_bits\":8,\"type\":\"float\","
		"\"block_structure\":[8,8]}}},",
		"everywhere the same"},
	{"header-fp8-scale-missing", "layers.0.self_attn.q_proj.weight_scale_inv",
		"layers.0.self_attn.q_proj.weight_scala_inv",
		"layers.0.self_attn.q_proj.weight is F8_E4M3 without a scale"},
	{"header-fp8-scale-of-integers", Q_SCALE,
		"layers.0.self_attn.q_proj.weight_scale_inv\":{\"dtype\":\"I32\",\"shape\":[3,2]",
		"q_proj.weight_scale_inv is not F32"},
	{"header-fp8-scale-turned", Q_SCALE,
		"layers.0.self_attn.q_proj.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[2,3]",
		"q_proj.weight_scale_inv is 3 x 2: not one scale"},
	{"header-fp8-scale-flat", Q_SCALE,
		"layers.0.self_attn.q_proj.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[6]",
		"q_proj.weight_scale_inv is 6 x 1: not one scale"},
	{"header-fp8-scale-of-4-dimensions", Q_SCALE,
		"layers.0.self_attn.q_proj.weight_scale_inv\":{\"dtype\":\"F32\",\"shape\":[3,1,1,"
		"2]",
		"not one scale"},
	{"header-fp8-norm", "\"F32\",\"shape\":[64]", "\"F8_E4M3\",\"shape\":[256]",
		"another dtype"},
};

/* The length before the header, and the length of the file. */
static const struct {
	const char *name;
	uint64_t header;
	int64_t file; /* bytes; below 0: fewer than there are */
	const char *why;
} length_kinds[] = {
	{"length-0", 0, 0, "empty"},
	{"length-1", 1, 0, "empty"},
	{"length-max", UINT64_MAX, 0, "claims"},
	{"length-half-of-64-bits", 1ull << 63, 0, "claims"},
	{"length-wraps-with-the-eight", UINT64_MAX - 7, 0, "claims"},
	{"length-of-100-mb", 100000000, 0, "claims"},
	{"length-beyond-the-file", 30000000, 0, "ends inside the header"},
	{"length-one-too-few", 1, 0, ""},
	{"file-empty", 0, 1, "ends inside the header's length"},
	{"file-of-seven-bytes", 0, 7, "ends inside the header's length"},
	{"file-one-byte-short", 0, -1, ""},
	{"file-without-data", 0, -60000, ""},
};

static void replace(struct og_gw *w, const char *from, const char *to)
{
	size_t n = from ? strlen(from) : w->len;
	uint8_t *at = from ? locate(w, from) : w->data;
	struct og_gw out = {0};

	og_gw_bytes(&out, w->data, (size_t)(at - w->data));
	og_gw_bytes(&out, to, strlen(to));
	og_gw_bytes(&out, at + n, (size_t)(w->data + w->len - at) - n);
	og_gw_fini(w);
	*w = out;
}

static void replace_all(struct og_gw *w, const char *from, const char *to)
{
	for (int i = 0; i < 100 && from && memmem(w->data, w->len, from, strlen(from)) &&
			strstr(to, from) == NULL;
		i++)
		replace(w, from, to);
	if (!from)
		replace(w, from, to);
}

static struct og_gw read_file(const char *path)
{
	struct og_gw w = {0};
	char block[65536];
	FILE *f = fopen(path, "rb");
	size_t n;

	cr_assert_not_null(f, "%s", path);
	while ((n = fread(block, 1, sizeof(block), f)) > 0)
		og_gw_bytes(&w, block, n);
	fclose(f);
	return w;
}

/* ---- Opening ---- */

struct outcome {
	int ret;
	uint32_t ms;
	long rss_kib;
	char err[512];
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* In a process of its own, whose memory is then that of this file alone. */
static struct outcome try_open(const char *path)
{
	struct outcome o = {.ret = 1};
	struct rusage usage;
	int pipes[2], status;
	pid_t child;

	cr_assert_eq(pipe(pipes), 0);
	child = fork();
	if (child == 0) {
		uint64_t start = now_ms();
		struct og_model *m;

		o.ret = og_model_open(&m, path, NULL, NULL, o.err, sizeof(o.err));
		o.ms = (uint32_t)(now_ms() - start);
		if (o.ret == 0)
			og_model_close(m);
		_exit(write(pipes[1], &o, sizeof(o)) == sizeof(o) ? 0 : 1);
	}
	close(pipes[1]);
	if (read(pipes[0], &o, sizeof(o)) != sizeof(o))
		o.ret = 2;
	close(pipes[0]);
	cr_assert_eq(wait4(child, &status, 0, &usage), child);
	o.rss_kib = usage.ru_maxrss;
	return o;
}

static void expect_refused(const char *path, const char *name, const char *why)
{
	struct outcome o = try_open(path);

	cr_expect(o.ret == -EBADMSG || o.ret == -EOPNOTSUPP || o.ret == -ENOENT,
		"%s: result %d (%s)", name, o.ret, o.err);
	cr_expect(strstr(o.err, path) != NULL, "%s: \"%s\" does not name the file", name, o.err);
	cr_expect(!why || strstr(o.err, why) != NULL, "%s: \"%s\" lacks \"%s\"", name, o.err, why);
	cr_expect_lt(o.ms, REFUSED_WITHIN_MS, "%s took %u ms", name, o.ms);
#ifndef __SANITIZE_ADDRESS__
	cr_expect_lt(o.rss_kib, REFUSED_WITHIN_KIB, "%s took %ld KiB", name, o.rss_kib);
#endif
}

static enum og_mw_fp8 folder_fp8; /* of the good model */

static struct og_mw good_model(void)
{
	struct og_mw m = og_mw_make(2);

	cr_assert_str_eq(m.name, "llama3");
	m.fp8 = folder_fp8;
	return m;
}

/* A folder for one file or folder; kept where asked for. */
static void make_place(char place[256], const char *name)
{
	const char *keep = getenv("OG_HOSTILE_KEEP");

	if (keep)
		snprintf(place, 256, "%s/%s", keep, name);
	else
		snprintf(place, 256, "/tmp/og_hostile_%d", (int)getpid());
	cr_assert(mkdir(place, 0755) == 0 || errno == EEXIST, "%s", place);
}

static void remove_place(const char *place)
{
	char path[300];

	if (getenv("OG_HOSTILE_KEEP"))
		return;
	snprintf(path, sizeof(path), "%s/model.gguf", place);
	unlink(path);
	og_mw_remove(place);
}

Test(hostile, gguf_files)
{
	struct og_mw m = good_model();

	for (size_t i = 0; i < OG_ARRAY_LEN(gguf_kinds); i++) {
		struct og_gw w = og_mw_gguf(&m);
		char place[256], path[300];

		damage_gguf(&w, &gguf_kinds[i]);
		make_place(place, gguf_kinds[i].name);
		snprintf(path, sizeof(path), "%s/model.gguf", place);
		og_mw_save(place, "model.gguf", w.data, w.len);
		expect_refused(path, gguf_kinds[i].name, gguf_kinds[i].why);
		remove_place(place);
		og_gw_fini(&w);
	}
}

/* One file of a good folder, changed. */
static void expect_folder_refused(const struct folder_kind *k, const char *file, bool all)
{
	struct og_mw m = good_model();
	char place[256], path[300];
	struct og_gw w;

	m.files = strcmp(file, "model.safetensors") == 0 ? 1 : 3;
	make_place(place, k->name);
	og_mw_folder(&m, place);
	snprintf(path, sizeof(path), "%s/%s", place, file);
	w = read_file(path);
	if (m.files == 1) {
		uint64_t n = og_load_le64(w.data);
		struct og_gw header = {0}, out = {0};

		og_gw_bytes(&header, w.data + 8, n);
		replace(&header, k->from, k->to);
		og_gw_u64(&out, header.len);
		og_gw_bytes(&out, header.data, header.len);
		og_gw_bytes(&out, w.data + 8 + n, w.len - 8 - n);
		og_gw_fini(&header);
		og_gw_fini(&w);
		w = out;
	} else if (all) {
		replace_all(&w, k->from, k->to);
	} else {
		replace(&w, k->from, k->to);
	}
	og_mw_save(place, file, w.data, w.len);
	og_gw_fini(&w);
	snprintf(path, sizeof(path), "%s", place);
	expect_refused(path, k->name, k->why);
	remove_place(place);
}

Test(hostile, configurations)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(config_kinds); i++)
		expect_folder_refused(&config_kinds[i],
			strstr(config_kinds[i].name, "eos") ? "generation_config.json"
							    : "config.json",
			false);
}

Test(hostile, indexes)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(index_kinds); i++)
		expect_folder_refused(&index_kinds[i], "model.safetensors.index.json",
			strstr(index_kinds[i].name, "names-a-missing-file") != NULL);
}

Test(hostile, safetensors_headers)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(header_kinds); i++)
		expect_folder_refused(&header_kinds[i], "model.safetensors", false);
}

Test(hostile, weights_in_fp8)
{
	folder_fp8 = OG_MW_FP8_BLOCK;
	for (size_t i = 0; i < OG_ARRAY_LEN(fp8_kinds); i++)
		expect_folder_refused(&fp8_kinds[i],
			strncmp(fp8_kinds[i].name, "config", 6) == 0 ? "config.json"
								     : "model.safetensors",
			false);
}

/* Where the data of the first tensor with that text in its name begin. */
static uint8_t *find_data(const struct og_gw *w, const char *name)
{
	uint64_t n = og_load_le64(w->data);
	const char *at = memmem(w->data + 8, n, name, strlen(name));

	cr_assert_not_null(at);
	at = strstr(at, "\"data_offsets\":[");
	return w->data + 8 + n + strtoull(at + 16, NULL, 10);
}

Test(hostile, scales_that_are_none)
{
	static const struct {
		const char *name;
		uint32_t bits;
		enum og_mw_fp8 fp8;
	} kinds[] = {{"data-fp8-scale-nan", 0x7fc00000, OG_MW_FP8_BLOCK},
		{"data-fp8-scale-infinite", 0x7f800000, OG_MW_FP8_TENSOR},
		{"data-fp8-scale-negative", 0xbf800000, OG_MW_FP8_BLOCK},
		{"data-fp8-scale-of-a-row-nan", 0x7fc07fc0, OG_MW_FP8_ROW}};

	for (size_t i = 0; i < OG_ARRAY_LEN(kinds); i++) {
		char place[256], path[300];
		struct og_mw m;
		struct og_gw w;

		folder_fp8 = kinds[i].fp8;
		m = good_model();
		m.files = 1;
		make_place(place, kinds[i].name);
		og_mw_folder(&m, place);
		snprintf(path, sizeof(path), "%s/model.safetensors", place);
		w = read_file(path);
		og_store_le32(find_data(&w, "layers.1.mlp.up_proj.weight_scale"), kinds[i].bits);
		og_mw_save(place, "model.safetensors", w.data, w.len);
		expect_refused(place, kinds[i].name,
			kinds[i].fp8 == OG_MW_FP8_BLOCK
				? "model.layers.1.mlp.up_proj.weight_scale_inv holds what is no "
				  "scale"
				: "model.layers.1.mlp.up_proj.weight_scale holds what is no scale");
		remove_place(place);
		og_gw_fini(&w);
	}
}

Test(hostile, safetensors_lengths)
{
	struct og_mw m = good_model();

	m.files = 1;
	for (size_t i = 0; i < OG_ARRAY_LEN(length_kinds); i++) {
		char place[256], path[300];
		struct og_gw w;

		make_place(place, length_kinds[i].name);
		og_mw_folder(&m, place);
		snprintf(path, sizeof(path), "%s/model.safetensors", place);
		w = read_file(path);
		if (strcmp(length_kinds[i].name, "length-one-too-few") == 0)
			og_store_le64(w.data, og_load_le64(w.data) - 1 - w.len % 2 * 0 - 8);
		else if (length_kinds[i].file == 0)
			og_store_le64(w.data, length_kinds[i].header);
		else
			w.len = (size_t)(length_kinds[i].file < 0
						 ? (int64_t)w.len + length_kinds[i].file
						 : length_kinds[i].file);
		og_mw_save(place, "model.safetensors", w.data, w.len);
		expect_refused(place, length_kinds[i].name, length_kinds[i].why);
		remove_place(place);
		og_gw_fini(&w);
	}
}

Test(hostile, good_files_are_taken)
{
	struct og_mw m = good_model();
	char place[256];

	for (folder_fp8 = OG_MW_NO_FP8; folder_fp8 <= OG_MW_FP8_BLOCK; folder_fp8++) {
		m = good_model();
		make_place(place, "good");
		og_mw_folder(&m, place);
		cr_expect_eq(try_open(place).ret, 0);
		remove_place(place);
	}
}

Test(hostile, the_corpus_is_large_enough)
{
	cr_expect_geq(OG_ARRAY_LEN(gguf_kinds) + OG_ARRAY_LEN(config_kinds) +
			      OG_ARRAY_LEN(index_kinds) + OG_ARRAY_LEN(header_kinds) +
			      OG_ARRAY_LEN(length_kinds),
		200);
}
