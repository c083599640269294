/*
 * infer_cli: the tokenizer and the CPU engine behind JSON lines, for tests that compare them.
 *
 *   infer_cli MODEL < requests
 *
 * {"text": …, "tokenize": true} -> {"tokens": […]}     text that spells a control token is that token
 * {"prompt": …}                 -> {"answer": …}       one user turn, answered greedily
 * Anything that fails           -> {"error": …}
 */
#include "gpu/engine.h"
#include "gpu/tokenizer.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { ERR_BYTES = 256, ANSWER_TOKENS_MAX = 200, EVENT_BURST = 16 };

struct cli {
	struct og_engine *engine;
	struct og_tokenizer *tokenizer;
	uint64_t next_id;
};

static uint8_t *read_file(const char *path, size_t *size_bytes)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = NULL;
	long size;

	if (f == NULL)
		return NULL;
	if (fseek(f, 0, SEEK_END) < 0 || (size = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) < 0)
		goto close_f;
	data = malloc(size + 1);
	if (data != NULL && fread(data, 1, size, f) != (size_t)size) {
		free(data);
		data = NULL;
	}
	*size_bytes = size;
close_f:
	fclose(f);
	return data;
}

static int load_tokenizer(struct cli *c, const char *path, char err[ERR_BYTES])
{
	struct og_gguf g;
	size_t size;
	uint8_t *data = read_file(path, &size);
	int ret;

	if (data == NULL) {
		snprintf(err, ERR_BYTES, "%s: cannot be read", path);
		return -EIO;
	}
	ret = og_gguf_init(&g, path, data, size, size, err, ERR_BYTES);
	if (ret == 0) {
		ret = og_tokenizer_create(&c->tokenizer, path, &g, err, ERR_BYTES);
		og_gguf_fini(&g);
	}
	free(data);
	return ret;
}

static json_t *error_object(const char *sentence)
{
	return json_pack("{s:s}", "error", sentence);
}

static json_t *tokenize(struct cli *c, const char *text, size_t len_bytes)
{
	struct og_tokens out = {.cap = len_bytes + 1};
	json_t *ids = json_array();

	out.ids = calloc(out.cap, sizeof(*out.ids));
	if (out.ids == NULL || og_tokenizer_encode(c->tokenizer, (struct og_text){text, len_bytes},
				       OG_ENCODE_CONTROL | OG_ENCODE_WHOLE, NULL, 0, &out) < 0) {
		free(out.ids);
		json_decref(ids);
		return error_object("the text cannot be encoded");
	}
	for (uint32_t i = 0; i < out.count; i++)
		json_array_append_new(ids, json_integer(out.ids[i]));
	free(out.ids);
	return json_pack("{s:o}", "tokens", ids);
}

static int submit(struct cli *c, const char *prompt, size_t len_bytes)
{
	struct og_infer_message turn = {"user", prompt, len_bytes};
	struct og_infer_request *req;
	struct og_infer_params params;
	int ret;

	og_infer_params_default(&params);
	params.temperature = 0;
	params.max_tokens = ANSWER_TOKENS_MAX;
	ret = og_infer_request_create(&req, ++c->next_id, &params, false, &turn, 1);
	if (ret < 0)
		return ret;
	req->credits = UINT32_MAX;
	ret = og_engine_submit(c->engine, req);
	if (ret < 0)
		og_infer_request_free(req);
	return ret;
}

/* Steps the engine until its only request ends; the text goes to `out`. NULL, or why it failed. */
static const char *collect(struct cli *c, FILE *out)
{
	static struct og_infer_event ev[EVENT_BURST];

	for (;;) {
		bool busy = og_engine_step(c->engine);
		uint32_t n = og_engine_poll(c->engine, ev, EVENT_BURST);

		for (uint32_t i = 0; i < n; i++) {
			if (ev[i].type == OG_INFER_DONE)
				return NULL;
			if (ev[i].type == OG_INFER_ERROR)
				return ev[i].text;
			fwrite(ev[i].text, 1, ev[i].text_bytes, out);
		}
		if (!busy && n == 0)
			return "the engine stopped before the answer's end";
	}
}

static json_t *answer(struct cli *c, const char *prompt, size_t len_bytes)
{
	const char *why;
	char *text;
	size_t text_bytes;
	json_t *reply;
	FILE *out;

	if (submit(c, prompt, len_bytes) < 0)
		return error_object(og_engine_refusal(c->engine));
	out = open_memstream(&text, &text_bytes);
	if (out == NULL)
		return error_object("out of memory");
	why = collect(c, out);
	fclose(out);
	reply = why != NULL ? error_object(why) : json_pack("{s:s%}", "answer", text, text_bytes);
	free(text);
	return reply;
}

static json_t *serve(struct cli *c, json_t *request)
{
	const char *s;
	size_t n;

	if (json_unpack(request, "{s:s%}", "text", &s, &n) == 0)
		return tokenize(c, s, n);
	if (json_unpack(request, "{s:s%}", "prompt", &s, &n) == 0)
		return answer(c, s, n);
	return error_object("neither text nor prompt");
}

static void serve_lines(struct cli *c)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&line, &cap, stdin)) > 0) {
		json_t *request = json_loadb(line, n, JSON_ALLOW_NUL, NULL);
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
	struct og_engine_opts opts = {.backend = OG_BACKEND_CPU, .threads = 1};
	char err[ERR_BYTES] = "";
	struct cli c = {0};
	int ret;

	if (argc != 2) {
		fprintf(stderr, "usage: infer_cli MODEL\n");
		return 2;
	}
	opts.path = argv[1];
	ret = load_tokenizer(&c, argv[1], err);
	if (ret == 0)
		ret = og_engine_create(&c.engine, &opts, err, sizeof(err));
	if (ret == 0) {
		serve_lines(&c);
		og_engine_destroy(c.engine);
	} else {
		fprintf(stderr, "infer_cli: %s\n", err);
	}
	if (c.tokenizer != NULL)
		og_tokenizer_destroy(c.tokenizer);
	return ret == 0 ? 0 : 1;
}
