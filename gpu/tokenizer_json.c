#include "gpu/tokenizer_priv.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define META "\xe2\x96\x81" /* U+2581, how SentencePiece writes a space */

enum {
	NODES_MAX = 8 * 1024 * 1024,
	CONFIG_MAX_BYTES = 16 * 1024 * 1024,
	IDS_SPARE = 64 * 1024, /* ids that may be left out of a vocabulary */
};

struct reading {
	struct og_tokenizer_loading l;
	const struct og_json *j;
	const struct og_json *config; /* may be NULL */
};

static struct og_text text_of(const struct reading *r, uint32_t node, const char *key)
{
	return og_json_text(r->j, og_json_get(r->j, node, key));
}

static bool flag_of(const struct og_json *j, uint32_t node, const char *key, bool otherwise)
{
	bool flag = otherwise;

	return og_json_bool(j, og_json_get(j, node, key), &flag) == 0 ? flag : otherwise;
}

static int unsupported(struct reading *r, const char *what, struct og_text type)
{
	return og_tokenizer_refuse(&r->l, -EOPNOTSUPP, "%s %.*s is not supported", what,
		(int)OG_MIN(type.len_bytes, 64u), type.data);
}

/* ---- normalizer ---- */

/* {"String": …} or {"Regex": …} */
static struct og_text pattern_of(const struct reading *r, uint32_t node, bool *is_regex)
{
	uint32_t pattern = og_json_get(r->j, node, "pattern");
	struct og_text regex = text_of(r, pattern, "Regex");

	*is_regex = regex.len_bytes > 0;
	return *is_regex ? regex : text_of(r, pattern, "String");
}

static int add_normalizer(struct reading *r, uint32_t node)
{
	static const struct {
		const char *name;
		enum og_normalize_kind kind;
	} plain[] = {{"NFC", OG_NORMALIZE_NFC}, {"NFD", OG_NORMALIZE_NFD},
		{"NFKC", OG_NORMALIZE_NFKC}, {"NFKD", OG_NORMALIZE_NFKD},
		{"Lowercase", OG_NORMALIZE_LOWERCASE}, {"Prepend", OG_NORMALIZE_PREPEND}};
	struct og_normalizer *n = &r->l.t->normalizer;
	struct og_text type = text_of(r, node, "type"), pattern;
	bool is_regex;
	int ret;

	for (size_t i = 0; i < OG_ARRAY_LEN(plain); i++)
		if (og_text_is(type, plain[i].name)) {
			ret = og_normalizer_add(n, plain[i].kind, text_of(r, node, "prepend"));
			return ret < 0 ? unsupported(r, "a normalizer as long as", type) : 0;
		}
	if (!og_text_is(type, "Replace"))
		return unsupported(r, "normalizer", type);
	pattern = pattern_of(r, node, &is_regex);
	ret = og_normalizer_add_replace(n, pattern, is_regex, text_of(r, node, "content"));
	return ret == -ENOMEM || ret == 0 ? ret : unsupported(r, "the replacement of", pattern);
}

typedef int part_fn(struct reading *r, uint32_t node);

/* Calls fn for the parts of a "Sequence", whose list has that name, or for what is no sequence. */
static int each_part(struct reading *r, uint32_t node, const char *list, part_fn *fn)
{
	uint32_t parts;
	int ret = 0;

	if (og_json_kind(r->j, node) != OG_JSON_OBJECT)
		return 0;
	if (!og_text_is(text_of(r, node, "type"), "Sequence"))
		return fn(r, node);
	parts = og_json_get(r->j, node, list);
	/* Recursion is as deep as JSON may nest. */
	for (uint32_t p = og_json_first(r->j, parts); p && ret == 0; p = og_json_next(r->j, p))
		ret = each_part(r, p, list, fn);
	return ret;
}

/* ---- pre_tokenizer ---- */

static int behaviour_of(struct reading *r, uint32_t node, enum og_split_behaviour *out)
{
	static const char *const names[] = {[OG_SPLIT_ISOLATED] = "Isolated",
		[OG_SPLIT_REMOVED] = "Removed",
		[OG_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
		[OG_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
		[OG_SPLIT_CONTIGUOUS] = "Contiguous"};
	struct og_text name = text_of(r, node, "behavior");

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++)
		if (og_text_is(name, names[i])) {
			*out = (enum og_split_behaviour)i;
			return 0;
		}
	return unsupported(r, "split behavior", name);
}

static int add_split(struct reading *r, uint32_t node)
{
	static const struct og_text punctuation = {"[\\p{P}!-/:-@\\[-`{-~]", 20};
	bool is_regex = true, invert = flag_of(r->j, node, "invert", false);
	struct og_text pattern = punctuation;
	enum og_split_behaviour behaviour = OG_SPLIT_ISOLATED;
	int ret = behaviour_of(r, node, &behaviour);

	if (ret < 0)
		return ret;
	if (og_text_is(text_of(r, node, "type"), "Split"))
		pattern = pattern_of(r, node, &is_regex);
	ret = og_pretokenizer_add_split(&r->l.t->pre, pattern, is_regex, behaviour, invert);
	return ret == -EBADMSG ? unsupported(r, "the pattern", pattern) : ret;
}

static int add_byte_level(struct reading *r, uint32_t node)
{
	int ret = 0;

	r->l.t->is_byte_level = true;
	if (flag_of(r->j, node, "add_prefix_space", true))
		ret = og_pretokenizer_add_space(&r->l.t->pre);
	if (ret == 0 && flag_of(r->j, node, "use_regex", true))
		ret = og_pretokenizer_add_gpt2(&r->l.t->pre);
	return ret;
}

/* prepend_scheme, or in older files add_prefix_space. */
static enum og_prefix_scheme prefix_of(const struct reading *r, uint32_t node)
{
	struct og_text scheme = text_of(r, node, "prepend_scheme");

	if (scheme.len_bytes == 0)
		return flag_of(r->j, node, "add_prefix_space", true) ? OG_PREFIX_ALWAYS
								     : OG_PREFIX_NEVER;
	return og_text_is(scheme, "always")  ? OG_PREFIX_ALWAYS
	       : og_text_is(scheme, "first") ? OG_PREFIX_FIRST
					     : OG_PREFIX_NEVER;
}

static int add_pretokenizer(struct reading *r, uint32_t node)
{
	struct og_pretokenizer *pre = &r->l.t->pre;
	struct og_text type = text_of(r, node, "type"), meta;
	int ret;

	if (r->l.t->is_byte_level)
		return unsupported(r, "after ByteLevel, pre-tokenizer", type);
	if (og_text_is(type, "ByteLevel")) {
		ret = add_byte_level(r, node);
	} else if (og_text_is(type, "Split") || og_text_is(type, "Punctuation")) {
		ret = add_split(r, node);
	} else if (og_text_is(type, "Digits")) {
		ret = og_pretokenizer_add_digits(
			pre, flag_of(r->j, node, "individual_digits", false));
	} else if (og_text_is(type, "Metaspace")) {
		meta = text_of(r, node, "replacement");
		if (meta.len_bytes > 0 && !og_text_is(meta, META))
			return unsupported(r, "Metaspace with", meta);
		ret = og_pretokenizer_add_metaspace(
			pre, prefix_of(r, node), flag_of(r->j, node, "split", true));
	} else {
		return unsupported(r, "pre-tokenizer", type);
	}
	return ret == -E2BIG ? unsupported(r, "a rule longer than at", type) : ret;
}

/* ---- vocabulary ---- */

/* Ids lie close together, so a count of them bounds the highest. */
static int reserve(struct reading *r, uint32_t vocab, uint32_t added)
{
	const struct og_json *j = r->j;
	uint64_t top = 0, id;
	uint64_t nb = (uint64_t)og_json_count(j, vocab) + og_json_count(j, added);

	if (og_json_kind(j, vocab) != OG_JSON_OBJECT)
		return og_tokenizer_refuse(&r->l, -EBADMSG, "model.vocab is missing or no object");
	for (uint32_t k = og_json_first(j, vocab); k; k = og_json_next(j, k)) {
		if (og_json_u64(j, k + 1, &id) < 0)
			return og_tokenizer_refuse(&r->l, -EBADMSG, "a token's id is no number");
		top = OG_MAX(top, id);
	}
	for (uint32_t a = og_json_first(j, added); a; a = og_json_next(j, a)) {
		if (og_json_u64(j, og_json_get(j, a, "id"), &id) < 0)
			return og_tokenizer_refuse(
				&r->l, -EBADMSG, "an added token's id is no number");
		top = OG_MAX(top, id);
	}
	if (top >= nb + IDS_SPARE)
		return og_tokenizer_refuse(&r->l, -EBADMSG, "token %llu of a vocabulary of %llu",
			(unsigned long long)top, (unsigned long long)nb);
	return og_tokenizer_reserve(&r->l, top + 1);
}

static int read_vocab(struct reading *r, uint32_t vocab, bool byte_fallback)
{
	int ret = 0;

	for (uint32_t k = og_json_first(r->j, vocab); k && ret == 0; k = og_json_next(r->j, k)) {
		struct og_text text = og_json_text(r->j, k);
		bool is_byte =
			byte_fallback && text.len_bytes == 6 && memcmp(text.data, "<0x", 3) == 0;
		uint64_t id = 0;

		ret = og_json_u64(r->j, k + 1, &id);
		if (ret == 0)
			ret = og_tokenizer_put(&r->l, (uint32_t)id, text,
				is_byte ? OG_TOKEN_BYTE : OG_TOKEN_NORMAL);
	}
	return ret;
}

static int read_added(struct reading *r, uint32_t added)
{
	static const struct {
		const char *key;
		uint8_t flag;
	} flags[] = {{"lstrip", OG_TOKEN_LSTRIP}, {"rstrip", OG_TOKEN_RSTRIP},
		{"single_word", OG_TOKEN_SINGLE_WORD}, {"normalized", OG_TOKEN_NORMALIZED}};
	int ret = 0;

	for (uint32_t a = og_json_first(r->j, added); a && ret == 0; a = og_json_next(r->j, a)) {
		bool special = flag_of(r->j, a, "special", false);
		uint64_t id = 0;
		struct og_token *k;
		uint8_t kept;

		ret = og_json_u64(r->j, og_json_get(r->j, a, "id"), &id);
		k = &r->l.t->tokens[id];
		/* Merges may still make what the vocabulary has too, control tokens apart. */
		kept = special ? 0 : k->flags & OG_TOKEN_MERGES;
		if (ret == 0)
			ret = og_tokenizer_put(&r->l, (uint32_t)id, text_of(r, a, "content"),
				special ? OG_TOKEN_CONTROL : OG_TOKEN_USER_DEFINED);
		k->flags = kept;
		for (size_t i = 0; i < OG_ARRAY_LEN(flags); i++)
			if (flag_of(r->j, a, flags[i].key, false))
				k->flags |= flags[i].flag;
	}
	return ret;
}

static bool split_merge(
	const struct reading *r, uint32_t node, struct og_text *left, struct og_text *right)
{
	struct og_text both = og_json_text(r->j, node);
	const char *space;

	if (og_json_kind(r->j, node) == OG_JSON_ARRAY) {
		uint32_t first = og_json_first(r->j, node);

		if (og_json_count(r->j, node) != 2)
			return false;
		*left = og_json_text(r->j, first);
		*right = og_json_text(r->j, og_json_next(r->j, first));
		return true;
	}
	space = both.len_bytes > 1 ? memchr(both.data + 1, ' ', both.len_bytes - 1) : NULL;
	if (!space)
		return false;
	*left = (struct og_text){both.data, (uint32_t)(space - both.data)};
	*right = (struct og_text){space + 1, both.len_bytes - left->len_bytes - 1};
	return true;
}

static int read_merges(struct reading *r, uint32_t merges)
{
	uint32_t rank = 0;
	int ret = og_tokenizer_reserve_merges(&r->l, og_json_count(r->j, merges));

	for (uint32_t m = og_json_first(r->j, merges); m && ret == 0; m = og_json_next(r->j, m)) {
		struct og_text left, right;

		if (!split_merge(r, m, &left, &right))
			return og_tokenizer_refuse(&r->l, -EBADMSG, "merge %u is no pair", rank);
		og_tokenizer_add_merge(r->l.t, left, right, rank++, true);
	}
	return ret;
}

/* A token by how it is written, added ones first. */
static uint32_t find_text(const struct og_tokenizer *t, struct og_text text)
{
	uint32_t found = OG_NO_TOKEN;

	for (uint32_t i = 0; i < t->nb_tokens && text.len_bytes > 0; i++) {
		const struct og_token *k = &t->tokens[i];

		if (k->len_bytes != text.len_bytes ||
			memcmp(og_token_data(t, i), text.data, text.len_bytes) != 0)
			continue;
		if (k->type == OG_TOKEN_CONTROL)
			return i;
		if (found == OG_NO_TOKEN)
			found = i;
	}
	return found;
}

static int read_model(struct reading *r)
{
	uint32_t model = og_json_get(r->j, OG_JSON_ROOT, "model");
	uint32_t vocab = og_json_get(r->j, model, "vocab");
	uint32_t added = og_json_get(r->j, OG_JSON_ROOT, "added_tokens");
	struct og_tokenizer *t = r->l.t;
	struct og_text type = text_of(r, model, "type");
	int ret;

	if (type.len_bytes > 0 && !og_text_is(type, "BPE"))
		return unsupported(r, "a model of type", type);
	if (text_of(r, model, "continuing_subword_prefix").len_bytes > 0 ||
		text_of(r, model, "end_of_word_suffix").len_bytes > 0)
		return og_tokenizer_refuse(
			&r->l, -EOPNOTSUPP, "marks inside and at the end of words");
	ret = reserve(r, vocab, added);
	if (ret == 0)
		ret = read_vocab(r, vocab, flag_of(r->j, model, "byte_fallback", false));
	if (ret == 0)
		ret = read_added(r, added);
	if (ret == 0)
		ret = og_tokenizer_index(&r->l);
	if (ret == 0)
		ret = read_merges(r, og_json_get(r->j, model, "merges"));
	t->whole_pieces = flag_of(r->j, model, "ignore_merges", false);
	t->fuses_unknown = flag_of(r->j, model, "fuse_unk", false);
	t->unknown = find_text(t, text_of(r, model, "unk_token"));
	return ret;
}

/* ---- post_processor, decoder ---- */

static int wrap(struct reading *r, uint32_t id_node, bool after)
{
	struct og_tokenizer *t = r->l.t;
	uint32_t *nb = after ? &t->nb_after : &t->nb_before;
	uint64_t id;

	if (og_json_u64(r->j, id_node, &id) < 0 || id >= t->nb_tokens)
		return og_tokenizer_refuse(
			&r->l, -EBADMSG, "post_processor names a token that is not there");
	if (*nb == OG_TOKENIZER_WRAP_MAX)
		return og_tokenizer_refuse(&r->l, -EOPNOTSUPP, "post_processor adds too much");
	(after ? t->after : t->before)[(*nb)++] = (uint32_t)id;
	return 0;
}

/* {"SpecialToken": {"id": "<s>"}} stands for special_tokens["<s>"].ids; {"Sequence": …} for the text. */
static int read_template(struct reading *r, uint32_t node)
{
	uint32_t items = og_json_get(r->j, node, "single");
	uint32_t specials = og_json_get(r->j, node, "special_tokens");
	bool after = false;
	int ret = 0;

	for (uint32_t i = og_json_first(r->j, items); i && ret == 0; i = og_json_next(r->j, i)) {
		struct og_text name = text_of(r, og_json_get(r->j, i, "SpecialToken"), "id");
		uint32_t ids = OG_JSON_NONE;

		if (og_json_get(r->j, i, "Sequence") != OG_JSON_NONE) {
			after = true;
			continue;
		}
		for (uint32_t s = og_json_first(r->j, specials); s; s = og_json_next(r->j, s))
			if (og_text_equal(og_json_text(r->j, s), name))
				ids = og_json_get(r->j, s + 1, "ids");
		for (uint32_t k = og_json_first(r->j, ids); k && ret == 0;
			k = og_json_next(r->j, k))
			ret = wrap(r, k, after);
	}
	return ret;
}

/* ["<s>", 1] */
static int read_pair(struct reading *r, uint32_t pair, bool after)
{
	uint32_t first = og_json_first(r->j, pair);

	return wrap(r,
		first && og_json_next(r->j, first) ? og_json_next(r->j, first) : OG_JSON_NONE,
		after);
}

static int add_post_processor(struct reading *r, uint32_t node)
{
	struct og_text type = text_of(r, node, "type");
	int ret;

	if (og_text_is(type, "ByteLevel")) /* changes offsets only */
		return 0;
	if (og_text_is(type, "TemplateProcessing"))
		return read_template(r, node);
	if (!og_text_is(type, "RobertaProcessing") && !og_text_is(type, "BertProcessing"))
		return unsupported(r, "post-processor", type);
	ret = read_pair(r, og_json_get(r->j, node, "cls"), false);
	return ret < 0 ? ret : read_pair(r, og_json_get(r->j, node, "sep"), true);
}

static int add_decoder(struct reading *r, uint32_t node)
{
	struct og_text type = text_of(r, node, "type");
	uint64_t start = 0;

	if (og_text_is(type, "Strip") && og_text_is(text_of(r, node, "content"), " ") &&
		og_json_u64(r->j, og_json_get(r->j, node, "start"), &start) == 0 && start > 0)
		r->l.t->strips_first = true;
	if (og_text_is(type, "Metaspace") && prefix_of(r, node) != OG_PREFIX_NEVER)
		r->l.t->strips_first = true;
	return 0;
}

/* ---- tokenizer_config.json ---- */

/* "<s>" or {"content": "<s>"} */
static uint32_t special_of(const struct reading *r, const char *key)
{
	uint32_t node = og_json_get(r->config, OG_JSON_ROOT, key);

	if (og_json_kind(r->config, node) == OG_JSON_OBJECT)
		node = og_json_get(r->config, node, "content");
	return find_text(r->l.t, og_json_text(r->config, node));
}

/* Classes whose post-processor transformers makes anew from the flags of tokenizer_config.json. */
static bool flags_decide(struct og_text class)
{
	static const char *const names[] = {"LlamaTokenizer", "LlamaTokenizerFast",
		"GemmaTokenizer", "GemmaTokenizerFast", "CodeLlamaTokenizer",
		"CodeLlamaTokenizerFast"};

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++)
		if (og_text_is(class, names[i]))
			return true;
	return false;
}

static void read_config(struct reading *r)
{
	struct og_tokenizer *t = r->l.t;
	uint32_t class;
	bool flag;

	if (!r->config)
		return;
	t->bos = special_of(r, "bos_token");
	t->eos = special_of(r, "eos_token");
	class = og_json_get(r->config, OG_JSON_ROOT, "tokenizer_class");
	if (!flags_decide(og_json_text(r->config, class)))
		return;
	if (og_json_bool(r->config, og_json_get(r->config, OG_JSON_ROOT, "add_bos_token"), &flag) ==
		0) {
		t->before[0] = t->bos;
		t->nb_before = flag && t->bos != OG_NO_TOKEN;
	}
	if (og_json_bool(r->config, og_json_get(r->config, OG_JSON_ROOT, "add_eos_token"), &flag) ==
		0) {
		t->after[0] = t->eos;
		t->nb_after = flag && t->eos != OG_NO_TOKEN;
	}
}

static int read_all(struct reading *r)
{
	const struct og_json *j = r->j;
	int ret = each_part(
		r, og_json_get(j, OG_JSON_ROOT, "normalizer"), "normalizers", add_normalizer);

	if (ret == 0)
		ret = each_part(r, og_json_get(j, OG_JSON_ROOT, "pre_tokenizer"), "pretokenizers",
			add_pretokenizer);
	if (ret == 0)
		ret = read_model(r);
	if (ret == 0)
		ret = each_part(r, og_json_get(j, OG_JSON_ROOT, "post_processor"), "processors",
			add_post_processor);
	if (ret == 0)
		ret = each_part(
			r, og_json_get(j, OG_JSON_ROOT, "decoder"), "decoders", add_decoder);
	if (ret < 0)
		return ret;
	read_config(r);
	return og_tokenizer_finish(&r->l);
}

int og_tokenizer_create_json(struct og_tokenizer **out, const char *file, const struct og_json *j,
	const struct og_json *config, char *err, size_t err_bytes)
{
	struct og_tokenizer *t = calloc(1, sizeof(*t));
	struct reading r = {{t, file, err, err_bytes}, j, config};
	int ret;

	snprintf(err, err_bytes, "%s: out of memory", file);
	if (!t)
		return -ENOMEM;
	t->bos = t->eos = t->unknown = OG_NO_TOKEN;
	ret = read_all(&r);
	if (ret < 0)
		og_tokenizer_destroy(t);
	else
		*out = t;
	return ret;
}

/* ---- a folder ---- */

/* A file of the folder, parsed; -ENOENT if it is not there. */
struct document {
	char path[PATH_MAX];
	struct og_buf text;
	struct og_json json;
};

static int read_document(struct document *d, const char *folder, const char *name, size_t max_bytes,
	char *err, size_t err_bytes)
{
	int ret;

	memset(d, 0, sizeof(*d));
	if (snprintf(d->path, sizeof(d->path), "%s/%s", folder, name) >= (int)sizeof(d->path))
		return -ENAMETOOLONG;
	ret = og_buf_read_file(&d->text, d->path, max_bytes);
	if (ret == 0)
		ret = og_json_init(
			&d->json, d->path, d->text.data, d->text.len, NODES_MAX, err, err_bytes);
	else
		snprintf(err, err_bytes, "%s: %s", d->path, strerror(-ret));
	if (ret < 0)
		free(d->text.data);
	return ret;
}

static void free_document(struct document *d)
{
	og_json_fini(&d->json);
	free(d->text.data);
}

int og_tokenizer_open(struct og_tokenizer **out, const char *folder, char *err, size_t err_bytes)
{
	struct document *d = calloc(2, sizeof(*d));
	struct document *main = &d[0], *config = &d[1];
	bool has_config;
	int ret;

	snprintf(err, err_bytes, "%s: out of memory", folder);
	if (!d)
		return -ENOMEM;
	ret = read_document(
		main, folder, "tokenizer.json", OG_TOKENIZER_FILE_MAX_BYTES, err, err_bytes);
	if (ret < 0)
		goto free_d;
	ret = read_document(
		config, folder, "tokenizer_config.json", CONFIG_MAX_BYTES, err, err_bytes);
	if (ret < 0 && ret != -ENOENT)
		goto free_main;
	has_config = ret == 0;
	ret = og_tokenizer_create_json(
		out, main->path, &main->json, has_config ? &config->json : NULL, err, err_bytes);
	if (has_config)
		free_document(config);
free_main:
	free_document(main);
free_d:
	free(d);
	return ret;
}
