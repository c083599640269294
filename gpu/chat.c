#include "gpu/chat.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONFIG_MAX_BYTES = 16 * 1024 * 1024, CONFIG_NODES_MAX = 1024 * 1024 };

static void set_template(struct og_chat *c, const char *file, struct og_text source)
{
	c->error = og_jinja_compile(&c->template, file, source, c->why, sizeof(c->why));
	if (c->error == -EBADMSG)
		c->error = -EOPNOTSUPP;
}

static void start(struct og_chat *c)
{
	*c = (struct og_chat){.error = -EOPNOTSUPP};
	snprintf(c->why, sizeof(c->why), "the model has no chat template; raw completion works");
}

void og_chat_init_gguf(struct og_chat *c, const char *file, const struct og_gguf *g)
{
	struct og_text source;

	start(c);
	if (og_gguf_text(g, "tokenizer.chat_template", &source) == 0)
		set_template(c, file, source);
}

/* "chat_template": the source, or a list of {name, template} of which "default" is meant. */
static void find_template(struct og_chat *c, const char *file, const struct og_json *j)
{
	uint32_t node = og_json_get(j, OG_JSON_ROOT, "chat_template");
	struct og_text source = og_json_text(j, node);

	for (uint32_t i = og_json_first(j, node); i; i = og_json_next(j, i))
		if (og_text_is(og_json_text(j, og_json_get(j, i, "name")), "default"))
			source = og_json_text(j, og_json_get(j, i, "template"));
	if (source.len_bytes > 0)
		set_template(c, file, source);
}

void og_chat_init_folder(struct og_chat *c, const char *folder)
{
	struct og_buf file = {0};
	char path[PATH_MAX];
	struct og_json j;
	int ret;

	start(c);
	snprintf(path, sizeof(path), "%s/chat_template.jinja", folder);
	ret = og_buf_read_file(&file, path, OG_JINJA_SOURCE_MAX_BYTES);
	if (ret == 0) {
		set_template(c, path, (struct og_text){file.data, (uint32_t)file.len});
		free(file.data);
		return;
	}
	file.len = 0;
	snprintf(path, sizeof(path), "%s/tokenizer_config.json", folder);
	ret = og_buf_read_file(&file, path, CONFIG_MAX_BYTES);
	if (ret == 0 && og_json_init(&j, path, file.data, file.len, CONFIG_NODES_MAX, c->why,
				sizeof(c->why)) == 0) {
		find_template(c, path, &j);
		og_json_fini(&j);
	}
	free(file.data);
}

void og_chat_fini(struct og_chat *c)
{
	og_jinja_destroy(c->template);
	c->template = NULL;
}

static void set_token(struct og_jinja_run *run, struct og_jinja_value vars, const char *name,
	const struct og_tokenizer *t, uint32_t id)
{
	if (id != OG_NO_TOKEN)
		og_jinja_set(
			run, vars, name, og_jinja_string(run, og_tokenizer_text(t, id), false));
}

static struct og_jinja_value variables(struct og_jinja_run *run, const struct og_tokenizer *t,
	const struct og_infer_message *messages, uint32_t nb_messages)
{
	struct og_jinja_value vars = og_jinja_dict(run), list = og_jinja_list(run);

	for (uint32_t i = 0; i < nb_messages; i++) {
		struct og_text role = {messages[i].role, (uint32_t)strlen(messages[i].role)};
		struct og_text content = {messages[i].content, messages[i].content_bytes};
		struct og_jinja_value message = og_jinja_dict(run);

		og_jinja_set(run, message, "role", og_jinja_string(run, role, true));
		og_jinja_set(run, message, "content", og_jinja_string(run, content, true));
		og_jinja_append(run, list, message);
	}
	og_jinja_set(run, vars, "messages", list);
	og_jinja_set(run, vars, "tools", og_jinja_none());
	og_jinja_set(run, vars, "add_generation_prompt", og_jinja_bool(true));
	set_token(run, vars, "bos_token", t, og_tokenizer_bos(t));
	set_token(run, vars, "eos_token", t, og_tokenizer_eos(t));
	return vars;
}

int og_chat_encode(const struct og_chat *c, const struct og_tokenizer *t,
	const struct og_infer_message *messages, uint32_t nb_messages, int64_t now_s,
	struct og_tokens *out, char *err, size_t err_bytes)
{
	struct og_jinja_output text;
	struct og_jinja_run *run;
	int ret;

	if (!c->template) {
		snprintf(err, err_bytes, "%s", c->why);
		return c->error;
	}
	ret = og_jinja_run_create(&run, now_s);
	if (ret < 0)
		return ret;
	ret = og_jinja_render(
		c->template, run, variables(run, t, messages, nb_messages), &text, err, err_bytes);
	if (ret == 0)
		ret = og_tokenizer_encode(
			t, text.text, OG_ENCODE_CONTROL, text.foreign, text.nb_foreign, out);
	og_jinja_run_destroy(run);
	return ret;
}
