/*
 * chat.h: messages to tokens, by the model's chat template.
 *
 * The template is rendered as transformers does, and its output tokenized as one text. What a message
 * says is never read as a control token, however the template passes it on: only bytes of the
 * template itself may spell one.
 *
 * Source:  transformers' apply_chat_template: variables messages (role, content), tools (none),
 *          add_generation_prompt, bos_token, eos_token; nothing is put before what the template writes.
 * Threads: immutable once made.
 * Memory:  owns the compiled template. A rendering takes what jinja.h allows, and gives it back.
 */
#pragma once
#include "base/infer.h"
#include "gpu/jinja.h"
#include "gpu/tokenizer.h"

struct og_chat {
	struct og_jinja *template; /* NULL: `why` says why not */
	int error;
	char why[256];
};

/*
 * The template of a GGUF file or of a folder (chat_template.jinja, or chat_template of
 * tokenizer_config.json). Without one, or with one that cannot be used, the model still completes raw
 * text: chats are refused with the reason. The caller owes og_chat_fini().
 */
void og_chat_init_gguf(struct og_chat *c, const char *file, const struct og_gguf *g);
void og_chat_init_folder(struct og_chat *c, const char *folder);
void og_chat_fini(struct og_chat *c);

/*
 * Append the conversation and the start of the assistant's turn; `now_s` is the time since 1970 that
 * the template may ask for. Returns 0, -EOPNOTSUPP without a template, -EINVAL if the template refuses the
 * conversation, or -EBADMSG if it fails, these with a sentence in `err`; -E2BIG when `out` is full
 * or a limit is reached, or -ENOMEM.
 */
int og_chat_encode(const struct og_chat *c, const struct og_tokenizer *t,
	const struct og_infer_message *messages, uint32_t nb_messages, int64_t now_s,
	struct og_tokens *out, char *err, size_t err_bytes) OG_MUST_CHECK;
