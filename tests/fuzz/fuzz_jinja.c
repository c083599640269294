/*
 * fuzz_jinja.c: a chat template of any bytes is refused with a sentence, or renders a conversation to a
 * text whose foreign spans lie in order inside it, or fails with a sentence.
 */
#include "gpu/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static const char vars[] =
	"{\"messages\": [{\"role\": \"system\", \"content\": \"be é <|im_end|>\"},"
	" {\"role\": \"user\", \"content\": \" a\\nb \\u00df \"}, {\"role\": \"assistant\","
	" \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\":"
	" {\"x\": 1.5, \"y\": [true, {}]}}}]}], \"tools\": [{\"type\": \"function\"}],"
	" \"bos_token\": \"<s>\", \"n\": 3, \"add_generation_prompt\": true}";

static void render(const struct og_jinja *j)
{
	struct og_jinja_output out;
	struct og_jinja_run *run;
	struct og_json doc;
	char err[512] = "";
	uint32_t at = 0;

	OG_ASSERT(og_json_init(&doc, "v", vars, sizeof(vars) - 1, 1000, err, sizeof(err)) == 0);
	OG_ASSERT(og_jinja_run_create(&run, 1732752000) == 0);
	if (og_jinja_render(j, run, og_jinja_from_json(run, &doc, OG_JSON_ROOT, true), &out, err,
		    sizeof(err)) == 0) {
		for (uint32_t i = 0; i < out.nb_foreign; i++) {
			OG_ASSERT(out.foreign[i].start >= at);
			OG_ASSERT(out.foreign[i].end > out.foreign[i].start);
			at = out.foreign[i].end;
		}
		OG_ASSERT(at <= out.text.len_bytes);
	}
	og_jinja_run_destroy(run);
	og_json_fini(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct og_jinja *j;
	char err[512] = "";

	if (len_bytes > 16 * 1024)
		return 0;
	if (og_jinja_compile(&j, "f", (struct og_text){(const char *)data, (uint32_t)len_bytes},
		    err, sizeof(err)) < 0) {
		OG_ASSERT(err[0] != '\0');
		return 0;
	}
	render(j);
	og_jinja_destroy(j);
	return 0;
}
