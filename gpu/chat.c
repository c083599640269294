#include "gpu/chat.h"

#include <errno.h>
#include <stdlib.h>

static int encode_plain(struct og_tokenizer *t, const char *text, size_t len, struct og_tokens *out)
{
	return og_tokenizer_encode(t, (struct og_text){text, (uint32_t)len}, 0, NULL, 0, out);
}

static bool has_tokens(const struct og_chat *c)
{
	return c->begin != OG_NO_TOKEN && c->end != OG_NO_TOKEN &&
	       (c->style != OG_CHAT_LLAMA3 || c->middle != OG_NO_TOKEN);
}

static bool contains(struct og_text text, const char *marker)
{
	return memmem(text.data, text.len_bytes, marker, strlen(marker)) != NULL;
}

void og_chat_init(struct og_chat *c, const struct og_gguf *g, const struct og_tokenizer *t)
{
	struct og_text template = {"", 0};

	*c = (struct og_chat){OG_CHAT_NONE, OG_NO_TOKEN, OG_NO_TOKEN, OG_NO_TOKEN};
	if (og_gguf_text(g, "tokenizer.chat_template", &template) < 0)
		return;
	if (contains(template, "<|im_start|>")) {
		c->style = OG_CHAT_CHATML;
		c->begin = og_tokenizer_find_control(t, "<|im_start|>");
		c->end = og_tokenizer_find_control(t, "<|im_end|>");
	} else if (contains(template, "<|start_header_id|>")) {
		c->style = OG_CHAT_LLAMA3;
		c->begin = og_tokenizer_find_control(t, "<|start_header_id|>");
		c->middle = og_tokenizer_find_control(t, "<|end_header_id|>");
		c->end = og_tokenizer_find_control(t, "<|eot_id|>");
	}
	if (!has_tokens(c))
		c->style = OG_CHAT_NONE;
}

/* Three texts that meet without a marker between them are tokenized as one. */
static int encode_joined(struct og_tokenizer *t, const char *a, const char *b, struct og_text c,
	struct og_tokens *out)
{
	size_t a_len = strlen(a), b_len = strlen(b), len = a_len + b_len + c.len_bytes;
	char *joined = malloc(len + 1);
	int ret;

	if (!joined)
		return -ENOMEM;
	memcpy(joined, a, a_len);
	memcpy(joined + a_len, b, b_len);
	memcpy(joined + a_len + b_len, c.data, c.len_bytes);
	ret = encode_plain(t, joined, len, out);
	free(joined);
	return ret;
}

static int chatml_turn(const struct og_chat *c, struct og_tokenizer *t, const char *role,
	struct og_text content, struct og_tokens *out)
{
	int ret = og_tokens_push(out, c->begin);

	return ret < 0 ? ret : encode_joined(t, role, "\n", content, out);
}

static int chatml_end(const struct og_chat *c, struct og_tokenizer *t, struct og_tokens *out)
{
	int ret = og_tokens_push(out, c->end);

	return ret < 0 ? ret : encode_plain(t, "\n", 1, out);
}

static struct og_text trim(struct og_text s)
{
	static const char spaces[] = " \t\r\n\f\v";

	while (s.len_bytes > 0 && memchr(spaces, s.data[0], sizeof(spaces) - 1)) {
		s.data++;
		s.len_bytes--;
	}
	while (s.len_bytes > 0 && memchr(spaces, s.data[s.len_bytes - 1], sizeof(spaces) - 1))
		s.len_bytes--;
	return s;
}

static int llama3_turn(const struct og_chat *c, struct og_tokenizer *t, const char *role,
	struct og_text content, struct og_tokens *out)
{
	int ret = og_tokens_push(out, c->begin);

	if (ret == 0)
		ret = encode_plain(t, role, strlen(role), out);
	if (ret == 0)
		ret = og_tokens_push(out, c->middle);
	return ret < 0 ? ret : encode_joined(t, "\n\n", "", trim(content), out);
}

static int encode_turn(const struct og_chat *c, struct og_tokenizer *t,
	const struct og_infer_message *m, struct og_tokens *out)
{
	struct og_text content = {m->content, m->content_bytes};
	int ret;

	if (c->style == OG_CHAT_CHATML) {
		ret = chatml_turn(c, t, m->role, content, out);
		return ret < 0 ? ret : chatml_end(c, t, out);
	}
	ret = llama3_turn(c, t, m->role, content, out);
	return ret < 0 ? ret : og_tokens_push(out, c->end);
}

int og_chat_encode(const struct og_chat *c, struct og_tokenizer *t,
	const struct og_infer_message *messages, uint32_t nb_messages, struct og_tokens *out)
{
	static const struct og_text nothing = {"", 0};
	uint32_t bos = og_tokenizer_bos(t);
	int ret = 0;

	if (c->style == OG_CHAT_NONE)
		return -EOPNOTSUPP;
	/* Llama 3's template itself starts with the token. */
	if (bos != OG_NO_TOKEN && c->style == OG_CHAT_LLAMA3)
		ret = og_tokens_push(out, bos);
	for (uint32_t i = 0; i < nb_messages && ret == 0; i++)
		ret = encode_turn(c, t, &messages[i], out);
	if (ret < 0)
		return ret;
	return c->style == OG_CHAT_CHATML ? chatml_turn(c, t, "assistant", nothing, out)
					  : llama3_turn(c, t, "assistant", nothing, out);
}
