/*
 * chat.h: messages to tokens, by the model's chat template.
 *
 * Templates are programs; the two forms that nearly all models of the supported families use are
 * rendered natively, recognised by the markers in the template's text. What a message says is never
 * read as a marker.
 *
 * Source:  ChatML (`<|im_start|>`), Llama 3 (`<|start_header_id|>`).
 * Threads: as the tokenizer.
 */
#pragma once
#include "base/infer.h"
#include "gpu/tokenizer.h"

enum og_chat_style { OG_CHAT_NONE, OG_CHAT_CHATML, OG_CHAT_LLAMA3 };

struct og_chat {
	enum og_chat_style style;
	uint32_t begin;  /* <|im_start|>, <|start_header_id|> */
	uint32_t middle; /* <|end_header_id|> */
	uint32_t end;    /* <|im_end|>, <|eot_id|> */
};

/* style is OG_CHAT_NONE where the file has no template of these forms, or lacks their tokens. */
void og_chat_init(struct og_chat *c, const struct og_gguf *g, const struct og_tokenizer *t);

/*
 * Append the conversation and the start of the assistant's turn. Returns 0, -E2BIG when `out` is
 * full, -EOPNOTSUPP without a template, or -ENOMEM.
 */
int og_chat_encode(const struct og_chat *c, struct og_tokenizer *t,
	const struct og_infer_message *messages, uint32_t nb_messages,
	struct og_tokens *out) OG_MUST_CHECK;
