/*
 * logits_cli: the forward pass behind JSON lines, for tests that compare it.
 *
 *   logits_cli MODEL [ref | generic | avx2 | avx512] < requests
 *
 * {"tokens": […]}                  -> {"logits": [[…], …]}             of each position
 * {"tokens": […], "greedy": n}     -> {"tokens": […], "margins": […]}  best over second best logit
 * {"tokens": […], "stream": true}  -> {"stream": [[…], …]}             (layers + 1, tokens * width), ref
 * Anything that fails              -> {"error": …}
 */
#include "gpu/backend.h"
#include "gpu/ref/forward.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOKENS_MAX = 1024, PAGES = TOKENS_MAX / OG_KV_PAGE_TOKENS };

struct cli {
	struct og_model *model;
	struct og_backend *backend; /* NULL: the reference */
	uint32_t tokens[TOKENS_MAX];
	uint32_t count;
};

static json_t *numbers(const float *x, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_real(x[i]));
	return list;
}

/* Logits of positions from … count-1. */
static int forward(struct cli *c, uint32_t from, float *logits)
{
	struct og_row rows[TOKENS_MAX];
	uint32_t table[PAGES], n = c->count - from;
	struct og_batch batch = {rows, n, table, PAGES, logits, NULL};

	if (!c->backend)
		return from > 0 ? -1 : og_ref_forward(c->model, c->tokens, c->count, logits);
	for (uint32_t i = 0; i < PAGES; i++)
		table[i] = i;
	for (uint32_t i = 0; i < n; i++)
		rows[i] = (struct og_row){c->tokens[from + i], from + i, 0, true, NULL};
	return og_backend_forward(c->backend, &batch);
}

static json_t *answer_logits(struct cli *c)
{
	size_t vocab = c->model->hp.vocab;
	float *logits = calloc(c->count, vocab * sizeof(float));
	json_t *list = json_array();

	if (forward(c, 0, logits) < 0) {
		free(logits);
		return json_pack("{s:s}", "error", "the forward pass failed");
	}
	for (uint32_t i = 0; i < c->count; i++)
		json_array_append_new(list, numbers(logits + i * vocab, vocab));
	free(logits);
	return json_pack("{s:o}", "logits", list);
}

static json_t *answer_greedy(struct cli *c, uint32_t n)
{
	size_t vocab = c->model->hp.vocab;
	float *logits = calloc(c->count + n, vocab * sizeof(float));
	json_t *tokens = json_array(), *margins = json_array();
	uint32_t from = 0;

	for (uint32_t step = 0; step < n && forward(c, from, logits) == 0; step++) {
		const float *last = logits + (c->count - 1 - from) * vocab;
		uint32_t best = 0, second = 1;

		for (uint32_t i = 0; i < vocab; i++)
			if (last[i] > last[best])
				best = i;
		second = best == 0;
		for (uint32_t i = 0; i < vocab; i++)
			if (i != best && last[i] > last[second])
				second = i;
		json_array_append_new(tokens, json_integer(best));
		json_array_append_new(margins, json_real(last[best] - last[second]));
		from = c->backend ? c->count : 0;
		c->tokens[c->count++] = best;
	}
	free(logits);
	return json_pack("{s:o,s:o}", "tokens", tokens, "margins", margins);
}

static json_t *answer_stream(struct cli *c)
{
	const struct og_hparams *hp = &c->model->hp;
	size_t layer = (size_t)c->count * hp->width;
	float *logits = calloc(c->count, hp->vocab * sizeof(float));
	float *stream = calloc(hp->nb_layers + 1, layer * sizeof(float));
	json_t *layers = json_array(), *list = json_array();
	int ret = og_ref_forward_layers(c->model, c->tokens, c->count, logits, stream);

	for (uint32_t i = 0; i <= hp->nb_layers && ret == 0; i++)
		json_array_append_new(layers, numbers(stream + i * layer, layer));
	for (uint32_t i = 0; i < c->count && ret == 0; i++)
		json_array_append_new(list, numbers(logits + (size_t)i * hp->vocab, hp->vocab));
	free(logits);
	free(stream);
	return json_pack("{s:o,s:o}", "stream", layers, "logits", list);
}

static json_t *serve(struct cli *c, const json_t *request)
{
	json_t *tokens = json_object_get(request, "tokens"), *greedy;
	size_t i;
	json_t *t;

	if (json_array_size(tokens) == 0 || json_array_size(tokens) > TOKENS_MAX / 2)
		return json_pack("{s:s}", "error", "no tokens, or too many");
	json_array_foreach(tokens, i, t)
	{
		if (json_integer_value(t) < 0 || json_integer_value(t) >= c->model->hp.vocab)
			return json_pack("{s:s}", "error", "no such token");
		c->tokens[i] = (uint32_t)json_integer_value(t);
	}
	c->count = (uint32_t)json_array_size(tokens);
	greedy = json_object_get(request, "greedy");
	if (json_integer_value(greedy) > 0 && json_integer_value(greedy) <= TOKENS_MAX / 2)
		return answer_greedy(c, (uint32_t)json_integer_value(greedy));
	return json_is_true(json_object_get(request, "stream")) ? answer_stream(c)
								: answer_logits(c);
}

static void serve_lines(struct cli *c)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	while ((n = getline(&line, &cap, stdin)) > 0) {
		json_t *request = json_loadb(line, (size_t)n, 0, NULL);
		json_t *reply = serve(c, request);

		json_dumpf(reply, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
		putchar('\n');
		fflush(stdout);
		json_decref(reply);
		json_decref(request);
	}
	free(line);
}

int main(int argc, char **argv)
{
	struct og_backend_opts opts = {
		.nb_pages = PAGES, .rows_max = TOKENS_MAX, .nb_threads = 1, .context = TOKENS_MAX};
	const char *isa = argc > 2 ? argv[2] : NULL;
	struct og_load_opts load = {.panel_threads = !isa || strcmp(isa, "ref") != 0};
	struct cli c = {0};
	char err[512];

	if (argc < 2) {
		fprintf(stderr, "usage: logits_cli MODEL [ref | generic | avx2 | avx512]\n");
		return 2;
	}
	if (og_model_open(&c.model, argv[1], &load, NULL, err, sizeof(err)) < 0) {
		fprintf(stderr, "logits_cli: %s\n", err);
		return 1;
	}
	opts.model = c.model;
	opts.context = OG_MIN(c.model->hp.context, (uint32_t)TOKENS_MAX);
	if ((!isa || strcmp(isa, "ref") != 0) &&
		og_cpu_backend_create(&c.backend, &opts, isa) < 0) {
		fprintf(stderr, "logits_cli: the back end does not start\n");
		return 1;
	}
	serve_lines(&c);
	if (c.backend)
		c.backend->ops->destroy(c.backend);
	og_model_close(c.model);
	return 0;
}
