/*
 * text_cli: tokenizers and chat templates behind JSON lines, for tests that compare them with others.
 *
 *   text_cli [MODEL] < requests        MODEL: a GGUF file or a folder with tokenizer.json
 *
 * {"encode": text, "control": bool, "whole": bool} -> {"ids": […]}
 * {"decode": ids}                                  -> {"text": …}
 * {"render": template, "vars": {…}, "now": seconds}
 *                                 -> {"text": …, "foreign": text with what came from vars as "\x01"}
 * Anything that fails                              -> {"error": …}
 */
#include "gpu/jinja.h"
#include "gpu/text_out.h"
#include "gpu/tokenizer.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { ERR_BYTES = 512 };

struct cli {
	struct og_tokenizer *tokenizer;
};

static int load_gguf(struct cli *c, const char *path, char *err)
{
	struct og_buf file = {0};
	struct og_gguf g;
	int ret = og_buf_read_file(&file, path, SIZE_MAX);

	if (ret < 0) {
		snprintf(err, ERR_BYTES, "%s: %s", path, strerror(-ret));
		return ret;
	}
	ret = og_gguf_init(
		&g, path, (const uint8_t *)file.data, file.len, file.len, err, ERR_BYTES);
	if (ret == 0) {
		ret = og_tokenizer_create(&c->tokenizer, path, &g, err, ERR_BYTES);
		og_gguf_fini(&g);
	}
	free(file.data);
	return ret;
}

static json_t *error_object(const char *why)
{
	return json_pack("{s:s}", "error", why);
}

static json_t *encode(struct cli *c, json_t *request, const char *text, size_t len)
{
	struct og_tokens out = {.cap = 18 * (uint32_t)len + 16} /* NFKC */;
	unsigned flags = 0;
	json_t *ids;

	if (json_is_true(json_object_get(request, "control")))
		flags |= OG_ENCODE_CONTROL;
	if (json_is_true(json_object_get(request, "whole")))
		flags |= OG_ENCODE_WHOLE;
	out.ids = calloc(out.cap, sizeof(*out.ids));
	if (!out.ids || og_tokenizer_encode(c->tokenizer, (struct og_text){text, (uint32_t)len},
				flags, NULL, 0, &out) < 0) {
		free(out.ids);
		return error_object("the text cannot be encoded");
	}
	ids = json_array();
	for (uint32_t i = 0; i < out.count; i++)
		json_array_append_new(ids, json_integer(out.ids[i]));
	free(out.ids);
	return json_pack("{s:o}", "ids", ids);
}

static void take(struct og_text_out *o, FILE *f)
{
	char text[OG_INFER_TEXT_BYTES];
	uint32_t n;

	while ((n = og_text_out_take(o, text, sizeof(text))) > 0)
		fwrite(text, 1, n, f);
}

/* Token by token, as an answer is streamed. */
static json_t *decode(struct cli *c, json_t *ids)
{
	static struct og_text_out o;
	struct og_infer_params params;
	size_t len, i;
	json_t *id, *reply;
	char *text;
	FILE *f = open_memstream(&text, &len);

	og_infer_params_default(&params);
	og_text_out_init(&o, &params);
	bool first = true;
	json_array_foreach(ids, i, id)
	{
		uint32_t v = (uint32_t)json_integer_value(id);

		og_text_out_push(&o, first ? og_tokenizer_first_bytes(c->tokenizer, v)
					   : og_tokenizer_bytes(c->tokenizer, v));
		first = first && og_tokenizer_bytes(c->tokenizer, v).len_bytes == 0;
		take(&o, f);
	}
	og_text_out_finish(&o);
	take(&o, f);
	fclose(f);
	reply = json_pack("{s:s%}", "text", text, len);
	free(text);
	return reply ? reply : error_object("not UTF-8");
}

static json_t *rendered(const struct og_jinja_output *out)
{
	char *marked = malloc(out->text.len_bytes + 1);
	json_t *reply;

	memcpy(marked, out->text.data, out->text.len_bytes);
	for (uint32_t i = 0; i < out->nb_foreign; i++)
		memset(marked + out->foreign[i].start, 1,
			out->foreign[i].end - out->foreign[i].start);
	reply = json_pack("{s:s%,s:s%}", "text", out->text.data, (size_t)out->text.len_bytes,
		"foreign", marked, (size_t)out->text.len_bytes);
	free(marked);
	return reply ? reply : error_object("not UTF-8");
}

static json_t *render(json_t *request, const char *source, size_t len)
{
	char *vars = json_dumps(json_object_get(request, "vars"), JSON_ENCODE_ANY);
	json_int_t now = json_integer_value(json_object_get(request, "now"));
	struct og_jinja_run *run = NULL;
	struct og_jinja_output out;
	struct og_jinja *j = NULL;
	struct og_json doc = {0};
	char err[ERR_BYTES] = "";
	json_t *reply;
	int ret = og_json_init(
		&doc, "vars", vars ? vars : "", vars ? strlen(vars) : 0, 1 << 20, err, sizeof(err));

	if (ret == 0)
		ret = og_jinja_compile(
			&j, "template", (struct og_text){source, (uint32_t)len}, err, sizeof(err));
	if (ret == 0)
		ret = og_jinja_run_create(&run, now);
	if (ret == 0)
		ret = og_jinja_render(j, run, og_jinja_from_json(run, &doc, OG_JSON_ROOT, true),
			&out, err, sizeof(err));
	reply = ret < 0 ? error_object(err) : rendered(&out);
	og_jinja_run_destroy(run);
	og_jinja_destroy(j);
	og_json_fini(&doc);
	free(vars);
	return reply;
}

static json_t *serve(struct cli *c, json_t *request)
{
	const char *text;
	size_t len;

	if (json_unpack(request, "{s:s%}", "encode", &text, &len) == 0)
		return encode(c, request, text, len);
	if (json_is_array(json_object_get(request, "decode")))
		return decode(c, json_object_get(request, "decode"));
	if (json_unpack(request, "{s:s%}", "render", &text, &len) == 0)
		return render(request, text, len);
	return error_object("an unknown request");
}

static void serve_lines(struct cli *c)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&line, &cap, stdin)) > 0) {
		json_t *request = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL);
		json_t *reply = serve(c, request);

		json_dumpf(reply, stdout, JSON_COMPACT);
		putchar('\n');
		fflush(stdout);
		json_decref(reply);
		json_decref(request);
	}
	free(line);
}

int main(int argc, char **argv)
{
	char err[ERR_BYTES] = "";
	struct cli c = {0};
	size_t len = argc > 1 ? strlen(argv[1]) : 0;
	int ret = 0;

	if (len > 5 && strcmp(argv[1] + len - 5, ".gguf") == 0)
		ret = load_gguf(&c, argv[1], err);
	else if (len > 0)
		ret = og_tokenizer_open(&c.tokenizer, argv[1], err, sizeof(err));
	if (ret < 0) {
		fprintf(stderr, "text_cli: %s\n", err);
		return 1;
	}
	serve_lines(&c);
	if (c.tokenizer)
		og_tokenizer_destroy(c.tokenizer);
	return 0;
}
