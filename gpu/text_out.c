#include "gpu/text_out.h"

static void append(struct og_text_out *o, const void *data, uint32_t n)
{
	memcpy(o->text + o->len_bytes, data, n);
	o->len_bytes += n;
}

static void drop_partial(struct og_text_out *o, uint32_t n)
{
	o->partial_bytes -= n;
	memmove(o->partial, o->partial + n, o->partial_bytes);
}

static void append_byte(struct og_text_out *o, char byte)
{
	o->partial[o->partial_bytes++] = byte;
	while (o->partial_bytes > 0) {
		int n = og_utf8_first(o->partial, o->partial_bytes);

		if (n == 0)
			return;
		if (n > 0)
			append(o, o->partial, (uint32_t)n);
		else
			append(o, "\xef\xbf\xbd", 3);
		drop_partial(o, (uint32_t)(n > 0 ? n : -n));
	}
}

/* Cut at the first stop string, if there is one. */
static bool cut_at_stop(struct og_text_out *o)
{
	const char *first = NULL;

	for (uint8_t i = 0; i < o->params->nb_stop; i++) {
		const char *stop = o->params->stop[i];
		size_t len = strnlen(stop, OG_INFER_STOP_BYTES);
		const char *at = len > 0 ? memmem(o->text, o->len_bytes, stop, len) : NULL;

		if (at && (!first || at < first))
			first = at;
	}
	if (first)
		o->len_bytes = (uint32_t)(first - o->text);
	return first != NULL;
}

/* Bytes at the end that may grow into a stop string. */
static uint32_t held_back(const struct og_text_out *o)
{
	uint32_t most = 0;

	for (uint8_t i = 0; i < o->params->nb_stop; i++) {
		const char *stop = o->params->stop[i];
		uint32_t n = (uint32_t)strnlen(stop, OG_INFER_STOP_BYTES);

		n = OG_MIN(n > 0 ? n - 1 : 0, o->len_bytes);
		while (n > most && memcmp(o->text + o->len_bytes - n, stop, n) != 0)
			n--;
		most = OG_MAX(most, n);
	}
	return most;
}

void og_text_out_init(struct og_text_out *o, const struct og_infer_params *params)
{
	o->params = params;
	o->len_bytes = o->ready_bytes = o->partial_bytes = 0;
}

bool og_text_out_push(struct og_text_out *o, struct og_text bytes)
{
	bool stopped;

	for (uint32_t i = 0; i < bytes.len_bytes; i++)
		append_byte(o, bytes.data[i]);
	stopped = cut_at_stop(o);
	if (stopped)
		o->partial_bytes = 0;
	o->ready_bytes = o->len_bytes - (stopped ? 0 : held_back(o));
	return stopped;
}

void og_text_out_finish(struct og_text_out *o)
{
	if (o->partial_bytes > 0)
		append(o, "\xef\xbf\xbd", 3);
	o->partial_bytes = 0;
	o->ready_bytes = o->len_bytes;
}

uint32_t og_text_out_take(struct og_text_out *o, char *out, uint32_t cap)
{
	uint32_t n = OG_MIN(o->ready_bytes, cap);

	while (n > 0 && n < o->len_bytes && (o->text[n] & 0xc0) == 0x80)
		n--;
	memcpy(out, o->text, n);
	o->len_bytes -= n;
	o->ready_bytes -= n;
	memmove(o->text, o->text + n, o->len_bytes);
	return n;
}
