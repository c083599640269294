/*
 * text_out.h: turns the bytes of generated tokens into text that may be shown.
 *
 * Tokens may end inside a character, so bytes are held back until it is whole; what cannot become a
 * character is replaced by U+FFFD. Text that may be the start of a stop string is held back too, and
 * a stop string itself is never shown.
 *
 * Source:  Unicode 15, 3.9: one U+FFFD for each maximal part of an ill-formed sequence.
 * Threads: one owner.
 * Memory:  none allocated.
 */
#pragma once
#include "base/infer.h"
#include "gpu/tokenizer.h"

enum {
	/* One token of replaced bytes, and what was held back before it. */
	OG_TEXT_OUT_BYTES = 3 * OG_TOKEN_MAX_BYTES + OG_INFER_STOP_BYTES + 16,
};

struct og_text_out {
	const struct og_infer_params *params; /* its stop strings; borrowed */
	uint32_t len_bytes;                   /* whole characters in text */
	uint32_t ready_bytes;                 /* of them, what may be shown */
	char partial[4];
	uint32_t partial_bytes;
	char text[OG_TEXT_OUT_BYTES];
};

void og_text_out_init(struct og_text_out *o, const struct og_infer_params *params);
/* The bytes of one token; all that was ready has been taken. Returns true at a stop string. */
bool og_text_out_push(struct og_text_out *o, struct og_text bytes);
/* No more tokens: everything held back becomes ready. */
void og_text_out_finish(struct og_text_out *o);
/* Up to `cap` ready bytes, whole characters. Returns how many. cap >= 4. */
uint32_t og_text_out_take(struct og_text_out *o, char *out, uint32_t cap);
