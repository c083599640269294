/*
 * engine_run.h: drives an engine over a small random model, for the tests of the engine: on the CPU, or
 * with OG_TEST_CUDA in the environment on the CUDA back end.
 */
#pragma once
#include "gguf_writer.h"
#include "gpu/engine.h"

#include <criterion/criterion.h>
#include <errno.h>

enum { REQUESTS_MAX = 64, TEXT_MAX = 4096, STEPS_MAX = 100000 };

/* What came of a request, by its id. */
struct outcome {
	char text[TEXT_MAX];
	uint32_t text_bytes;
	uint32_t texts; /* TEXT events */
	uint32_t dones, errors;
	/* Of LOGPROB events: how many of rank 0 and of others, the bytes of the tokens taken, and a
	 * hash over tokens and bits. */
	uint32_t logprobs, alternatives;
	char token_text[TEXT_MAX];
	uint32_t token_bytes;
	uint32_t hash;
	struct og_infer_event last;
};

static char err[256];
static struct outcome outcomes[REQUESTS_MAX];

static inline struct og_engine *start_model(const struct og_gw_model *m, struct og_engine_opts opts)
{
	struct og_gw w = og_gw_model_file(m);
	const char *device = getenv("OG_TEST_CUDA"); /* conveyor: decode by that */
	struct og_engine *e;
	char path[64];

	og_gw_save(&w, path);
	og_gw_fini(&w);
	opts.path = path;
	if (opts.backend == OG_BACKEND_AUTO)
		opts.backend = device ? OG_BACKEND_CUDA : OG_BACKEND_CPU;
	opts.conveyor = device && strcmp(device, "conveyor") == 0;
	opts.threads = 2;
	cr_assert_eq(og_engine_create(&e, &opts, err, sizeof(err)), 0, "%s", err);
	unlink(path);
	memset(outcomes, 0, sizeof(outcomes));
	return e;
}

static inline struct og_engine *start_small(uint32_t max_batch, uint32_t queue)
{
	struct og_gw_model m = og_gw_small();

	m.type = OG_Q8_0;
	return start_model(&m, (struct og_engine_opts){.max_batch = max_batch, .queue = queue});
}

static inline struct og_engine *start_plain(enum og_engine_backend backend)
{
	struct og_engine_opts opts = {.backend = backend};
	struct og_engine *e;

	cr_assert_eq(og_engine_create(&e, &opts, err, sizeof(err)), 0, "%s", err);
	memset(outcomes, 0, sizeof(outcomes));
	return e;
}

struct ask {
	const char *text;
	uint32_t max_tokens;
	float temperature;
	uint64_t seed;
	uint32_t credits; /* 0: no limit */
	const char *stop;
	bool raw;
	bool starve; /* really no credits */
	bool logprobs;
	uint8_t top;
	bool ignore_eos;
	uint32_t stop_token; /* 0: none */
	float repetition, frequency, presence;
	uint32_t top_k;
	float top_p; /* 0: 1 */
	float min_p;
};

static inline int ask(struct og_engine *e, uint64_t id, struct ask a)
{
	struct og_infer_message m = {"user", a.text, (uint32_t)strlen(a.text)};
	struct og_infer_request *req;
	struct og_infer_params p;
	int ret;

	og_infer_params_default(&p);
	p.max_tokens = a.max_tokens;
	p.temperature = a.temperature;
	p.seed = a.seed;
	p.top_k = a.top_k;
	p.top_p = a.top_p > 0 ? a.top_p : 1;
	p.min_p = a.min_p;
	p.logprobs = a.logprobs;
	p.top_logprobs = a.top;
	p.ignore_eos = a.ignore_eos;
	p.repetition_penalty = a.repetition > 0 ? a.repetition : 1;
	p.frequency_penalty = a.frequency;
	p.presence_penalty = a.presence;
	if (a.stop_token)
		p.stop_tokens[p.nb_stop_tokens++] = a.stop_token;
	if (a.stop) {
		p.nb_stop = 1;
		snprintf(p.stop[0], sizeof(p.stop[0]), "%s", a.stop);
	}
	cr_assert_eq(og_infer_request_create(&req, id, &p, a.raw, &m, 1), 0);
	if (a.credits || a.starve)
		req->credits = a.credits;
	ret = og_engine_submit(e, req);
	if (ret < 0)
		og_infer_request_free(req);
	return ret;
}

static inline void collect_logprob(struct outcome *o, const struct og_infer_event *ev)
{
	uint32_t bits;

	memcpy(&bits, &ev->logprob, sizeof(bits));
	o->hash = (o->hash ^ ev->token) * 16777619u;
	o->hash = (o->hash ^ bits) * 16777619u;
	cr_assert_leq(ev->logprob, 0);
	if (ev->rank > 0) {
		o->alternatives++;
		return;
	}
	o->logprobs++;
	cr_assert_lt(o->token_bytes + ev->text_bytes, TEXT_MAX);
	memcpy(o->token_text + o->token_bytes, ev->text, ev->text_bytes);
	o->token_bytes += ev->text_bytes;
}

static inline void collect(struct og_engine *e)
{
	struct og_infer_event events[7];
	uint32_t n;

	while ((n = og_engine_poll(e, events, OG_ARRAY_LEN(events))) > 0)
		for (uint32_t i = 0; i < n; i++) {
			struct outcome *o = &outcomes[events[i].id];

			cr_assert_eq(o->dones + o->errors, 0, "an event after the last one");
			if (events[i].type == OG_INFER_TEXT) {
				cr_assert_gt(events[i].text_bytes, 0);
				cr_assert_lt(o->text_bytes + events[i].text_bytes, TEXT_MAX);
				memcpy(o->text + o->text_bytes, events[i].text,
					events[i].text_bytes);
				o->text_bytes += events[i].text_bytes;
				o->texts++;
				continue;
			}
			if (events[i].type == OG_INFER_LOGPROB) {
				collect_logprob(o, &events[i]);
				continue;
			}
			o->dones += events[i].type == OG_INFER_DONE;
			o->errors += events[i].type == OG_INFER_ERROR;
			o->last = events[i];
		}
}

static inline void run(struct og_engine *e)
{
	for (uint32_t i = 0; og_engine_step(e); i++) {
		collect(e);
		cr_assert_lt(i, STEPS_MAX);
	}
	collect(e);
}
