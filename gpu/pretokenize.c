#include "gpu/pretokenize.h"

#include "gpu/regex.h"

#include <errno.h>
#include <stdlib.h>

#define META "\xe2\x96\x81" /* U+2581 */

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
	const char *stages[4];
} rules[] = {
	{"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
		WHOLE_PIECES | ADDS_BOS, {LLAMA_3("\\p{N}{1,3}")}},
	{"dbrx smaug-bpe chatglm-bpe glm4", 0, {LLAMA_3("\\p{N}{1,3}")}},
	{"qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez solar-open grok-2 kormo f2llmv2", 0,
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

static int add_stage(struct og_pretokenizer *p, struct og_pretoken_stage stage)
{
	if (p->nb_stages == OG_PRETOKEN_STAGES_MAX)
		return -E2BIG;
	p->stages[p->nb_stages++] = stage;
	return 0;
}

int og_pretokenizer_add_split(struct og_pretokenizer *p, struct og_text pattern, bool is_regex,
	enum og_split_behaviour behaviour, bool invert)
{
	void *re;
	int ret = og_regex_compile(&re, pattern, is_regex);

	if (ret < 0)
		return ret;
	ret = add_stage(
		p, (struct og_pretoken_stage){.re = re, .behaviour = behaviour, .invert = invert});
	if (ret < 0)
		og_regex_free(re);
	return ret;
}

static int add_pattern(
	struct og_pretokenizer *p, const char *pattern, enum og_split_behaviour behaviour)
{
	struct og_text text = {pattern, (uint32_t)strlen(pattern)};

	return og_pretokenizer_add_split(p, text, true, behaviour, false);
}

int og_pretokenizer_add_gpt2(struct og_pretokenizer *p)
{
	return add_pattern(p, GPT_2, OG_SPLIT_ISOLATED);
}

int og_pretokenizer_add_digits(struct og_pretokenizer *p, bool individual)
{
	return add_pattern(p, "\\p{N}", individual ? OG_SPLIT_ISOLATED : OG_SPLIT_CONTIGUOUS);
}

int og_pretokenizer_add_space(struct og_pretokenizer *p)
{
	return add_stage(p, (struct og_pretoken_stage){.prefix = OG_PREFIX_ALWAYS});
}

int og_pretokenizer_add_metaspace(
	struct og_pretokenizer *p, enum og_prefix_scheme prefix, bool split)
{
	int ret = add_stage(p, (struct og_pretoken_stage){.is_meta = true, .prefix = prefix});

	return ret == 0 && split ? add_pattern(p, META, OG_SPLIT_MERGED_WITH_NEXT) : ret;
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
	for (size_t i = 0; i < OG_ARRAY_LEN(rule->stages) && rule->stages[i] && ret == 0; i++)
		ret = add_pattern(p, rule->stages[i], OG_SPLIT_ISOLATED);
	if (ret < 0)
		og_pretokenizer_fini(p);
	return ret;
}

void og_pretokenizer_fini(struct og_pretokenizer *p)
{
	for (uint32_t i = 0; i < p->nb_stages; i++)
		if (p->stages[i].re)
			og_regex_free(p->stages[i].re);
	memset(p, 0, sizeof(*p));
}

/* One walk over a text. */
struct walk {
	const struct og_pretokenizer *rule;
	og_piece_fn *fn;
	void *ctx;
	const char *first; /* where a piece begins that is the beginning of everything; NULL: no */
	struct og_match match;
	struct og_buf changed[OG_PRETOKEN_STAGES_MAX]; /* text of the stages that change it */
};

static int run_stage(struct walk *w, uint32_t stage, const char *text, size_t len);

/* Bytes before the first space. */
static size_t before_space(const char *text, size_t len)
{
	const char *space = memchr(text, ' ', len);

	return space ? (size_t)(space - text) : len;
}

static int change(struct walk *w, uint32_t stage, const char *text, size_t len)
{
	const struct og_pretoken_stage *s = &w->rule->stages[stage];
	struct og_buf *out = &w->changed[stage];
	const char *space = s->is_meta ? META : " ";
	size_t space_len = strlen(space);
	bool is_first = text == w->first;
	bool has = text[0] == ' ' || (s->is_meta && len >= 3 && memcmp(text, META, 3) == 0);
	bool wants = s->prefix == OG_PREFIX_ALWAYS || (s->prefix == OG_PREFIX_FIRST && is_first);
	int ret = 0;

	out->len = 0;
	if (wants && !has)
		ret = og_buf_append(out, space, space_len);
	for (size_t at = 0; at < len && ret == 0;) {
		size_t n = s->is_meta ? before_space(text + at, len - at) : len - at;

		ret = og_buf_append(out, text + at, n);
		at += n;
		if (ret == 0 && at < len) {
			ret = og_buf_append(out, META, 3);
			at++;
		}
	}
	if (ret < 0)
		return ret;
	if (is_first)
		w->first = out->data;
	ret = run_stage(w, stage + 1, out->data, out->len);
	if (is_first)
		w->first = NULL; /* later pieces lie there too */
	return ret;
}

/* The pieces of a text that are seen one by one, joined as the stage wants and passed on. */
struct cutter {
	struct walk *w;
	uint32_t stage;
	const char *text;
	size_t start, end; /* a piece that may still grow */
	bool is_match;     /* of it */
};

static int flush(struct cutter *c)
{
	size_t start = c->start;

	c->start = c->end;
	return start < c->end ? run_stage(c->w, c->stage + 1, c->text + start, c->end - start) : 0;
}

/* The next piece [c->end, end). */
static int cut(struct cutter *c, size_t end, bool is_match)
{
	const struct og_pretoken_stage *s = &c->w->rule->stages[c->stage];
	bool was_match = c->is_match, joins = false;
	int ret;

	is_match ^= s->invert;
	switch (s->behaviour) {
	case OG_SPLIT_CONTIGUOUS:
		joins = is_match == was_match;
		break;
	case OG_SPLIT_MERGED_WITH_PREVIOUS:
		joins = is_match && !was_match;
		break;
	case OG_SPLIT_MERGED_WITH_NEXT:
		joins = !is_match && was_match;
		break;
	default:
		break;
	}
	if (!joins) {
		ret = flush(c);
		if (ret != 0)
			return ret;
	}
	if (is_match && s->behaviour == OG_SPLIT_REMOVED)
		c->start = end;
	c->end = end;
	c->is_match = is_match;
	return 0;
}

static int split(struct walk *w, uint32_t stage, const char *text, size_t len)
{
	struct cutter c = {w, stage, text, 0, 0, false};
	size_t from = 0;
	int ret = 0;

	while (from < len && ret == 0) {
		size_t start, end;

		ret = og_regex_find(w->rule->stages[stage].re, &w->match, text, len, from);
		start = w->match.start;
		end = w->match.end;
		if (ret == 0 && start > c.end)
			ret = cut(&c, start, false);
		if (ret == 0 && end > start)
			ret = cut(&c, end, true);
		from = end > start ? end : start + 1;
	}
	if (ret == 0 && c.end < len)
		ret = cut(&c, len, false);
	return ret == 0 ? flush(&c) : ret;
}

/* Depth is the number of stages. */
static int run_stage(struct walk *w, uint32_t stage, const char *text, size_t len)
{
	if (len == 0)
		return 0;
	if (stage == w->rule->nb_stages)
		return w->fn(w->ctx, text, len);
	return w->rule->stages[stage].re ? split(w, stage, text, len) : change(w, stage, text, len);
}

int og_pretokenize(const struct og_pretokenizer *p, struct og_text text, bool is_first,
	og_piece_fn *fn, void *ctx)
{
	struct walk w = {p, fn, ctx, is_first ? text.data : NULL, {0}, {{0}}};
	int ret = og_match_init(&w.match);

	if (ret < 0)
		return ret;
	ret = run_stage(&w, 0, text.data, text.len_bytes);
	og_match_fini(&w.match);
	for (uint32_t i = 0; i < p->nb_stages; i++)
		free(w.changed[i].data);
	return ret;
}
