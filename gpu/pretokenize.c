#define PCRE2_CODE_UNIT_WIDTH 8
#include "gpu/pretokenize.h"

#include <errno.h>
#include <pcre2.h>

#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT_2 CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA_3(digits)                                                                            \
	"(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits                              \
	"| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
/* Words that keep a capital with what follows it. */
#define CASED(suffix, digits)                                                                      \
	"[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER        \
	"+" LOWER "*" suffix "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" SPACES

enum { WHOLE_PIECES = 1, ADDS_BOS = 2 };

static const struct rule {
	const char *names; /* separated by spaces */
	unsigned flags;
	const char *stages[OG_PRETOKEN_STAGES_MAX];
} rules[] = {
	{"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2",
		WHOLE_PIECES | ADDS_BOS, {LLAMA_3("\\p{N}{1,3}")}},
	{"dbrx smaug-bpe chatglm-bpe glm4", 0, {LLAMA_3("\\p{N}{1,3}")}},
	{"qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez solar-open grok-2", 0,
		{LLAMA_3("\\p{N}")}},
	{"qwen35", 0,
		{"(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
		 "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES}},
	{"gpt-2 phi-2 mpt olmo jais trillion gigachat a.x-4.0 mellum modern-bert exaone4 "
	 "granite-docling",
		0, {GPT_2}},
	{"smollm refact starcoder command-r codeshell exaone minerva-7b", 0, {"\\p{N}", GPT_2}},
	{"falcon", 0, {"[\\p{P}$+<=>^~|`]+", GPT_2, "[0-9][0-9][0-9]"}},
	{"tekken", WHOLE_PIECES, {CASED("", "\\p{N}")}},
	{"gpt-4o llama4", 0, {CASED("(?i:" CONTRACTIONS ")?", "\\p{N}{1,3}")}},
	{"deepseek-v3", 0,
		{"\\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
			"[!-/:-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
			"| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES}},
	{"default", 0, {"[\\p{P}$+<=>^~|]+", GPT_2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

static bool is_among(const char *names, struct og_text name)
{
	while (*names) {
		size_t len = strcspn(names, " ");

		if (len == name.len_bytes && memcmp(names, name.data, len) == 0)
			return true;
		names += len + (names[len] == ' ');
	}
	return false;
}

static const struct rule *find_rule(struct og_text name)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(rules); i++)
		if (is_among(rules[i].names, name))
			return &rules[i];
	return NULL;
}

static int add_stage(struct og_pretokenizer *p, const char *pattern)
{
	PCRE2_SIZE at;
	int code;
	pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
		PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &code, &at, NULL);

	if (!re)
		return -ENOMEM;
	(void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* without, it is interpreted */
	p->stages[p->nb_stages] = re;
	p->match[p->nb_stages] = pcre2_match_data_create_from_pattern(re, NULL);
	return p->match[p->nb_stages++] ? 0 : -ENOMEM;
}

int og_pretokenizer_init(struct og_pretokenizer *p, struct og_text name)
{
	const struct rule *rule = find_rule(name);
	int ret = 0;

	memset(p, 0, sizeof(*p));
	if (!rule)
		return -EOPNOTSUPP;
	p->whole_pieces = rule->flags & WHOLE_PIECES;
	p->adds_bos = rule->flags & ADDS_BOS;
	for (size_t i = 0; i < OG_PRETOKEN_STAGES_MAX && rule->stages[i] && ret == 0; i++)
		ret = add_stage(p, rule->stages[i]);
	if (ret < 0)
		og_pretokenizer_fini(p);
	return ret;
}

void og_pretokenizer_fini(struct og_pretokenizer *p)
{
	for (uint32_t i = 0; i < p->nb_stages; i++) {
		pcre2_match_data_free(p->match[i]);
		pcre2_code_free(p->stages[i]);
	}
	memset(p, 0, sizeof(*p));
}

/* The next match at or after *from: sets its bounds, or to the end and the end if there is none. */
static void find_match(struct og_pretokenizer *p, uint32_t stage, const char *text, size_t len,
	size_t from, size_t *start, size_t *end)
{
	int n = pcre2_match(
		p->stages[stage], (PCRE2_SPTR)text, len, from, 0, p->match[stage], NULL);
	const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(p->match[stage]);

	*start = n > 0 ? bounds[0] : len;
	*end = n > 0 ? bounds[1] : len;
}

/* Depth is the number of stages. */
static int split(struct og_pretokenizer *p, uint32_t stage, const char *text, size_t len,
	og_piece_fn *fn, void *ctx)
{
	size_t at = 0;

	if (len == 0)
		return 0;
	if (stage == p->nb_stages)
		return fn(ctx, text, len);
	while (at < len) {
		size_t start, end;
		int ret;

		find_match(p, stage, text, len, at, &start, &end);
		ret = split(p, stage + 1, text + at, start - at, fn, ctx);
		if (ret == 0)
			ret = split(p, stage + 1, text + start, end - start, fn, ctx);
		if (ret != 0)
			return ret;
		at = end;
	}
	return 0;
}

int og_pretokenize(
	struct og_pretokenizer *p, const char *text, size_t len_bytes, og_piece_fn *fn, void *ctx)
{
	return split(p, 0, text, len_bytes, fn, ctx);
}
