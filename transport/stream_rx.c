/* Reading: header frame, then frames, cut into packets in any way. */
#include "transport/stream_priv.h"

#include <errno.h>
#include <string.h>

static void dropped(struct og_streams *s, enum og_stream_drop why)
{
	og_count(&s->count.drops[why]);
}

/* Ends the stream; gives what a reading step gives then. */
static bool refuse(struct og_streams *s, uint32_t slot, enum og_stream_drop why, int reason)
{
	dropped(s, why);
	og_stream_fail(s, slot, reason);
	return false;
}

static bool report_open(struct og_streams *s, uint32_t slot)
{
	struct og_stream_id id = og_stream_id_of(s, slot);

	s->streams[slot].opened = true;
	og_udx_trust(s->udx, slot);
	og_count(&s->count.opened);
	if (s->ops->open)
		s->ops->open(s->ctx, id);
	return og_stream_is_alive(s, id);
}

/* A frame without its length, decrypted where it is. False when the stream is gone. */
static bool open_frame(struct og_streams *s, uint32_t slot, uint8_t *body, size_t n)
{
	struct og_stream *st = &s->streams[slot];
	struct og_stream_id id = og_stream_id_of(s, slot);
	uint8_t *plain;
	size_t plain_bytes;

	if (og_secretstream_open(&s->secrets[slot].rx, body, n, &plain, &plain_bytes) < 0)
		return refuse(s, slot, OG_STREAM_DROP_BAD_FRAME, -EBADMSG);
	st->frames_read++;
	og_count(&s->count.frames_read);
	if (!st->opened && !report_open(s, slot))
		return false;
	if (plain_bytes == 0)
		return true;
	st->last_data_ns = s->now_ns;
	og_count_add(&s->count.plain_read_bytes, plain_bytes);
	s->ops->data(s->ctx, id, plain, plain_bytes);
	return og_stream_is_alive(s, id);
}

/* Moves up to `want` bytes in all into `head`. True when they are there. */
static bool fill_head(struct og_stream *st, size_t want, uint8_t **p, const uint8_t *end)
{
	size_t n = OG_MIN(want - st->head_bytes, (size_t)(end - *p));

	memcpy(st->head + st->head_bytes, *p, n);
	st->head_bytes = (uint8_t)(st->head_bytes + n);
	*p += n;
	return st->head_bytes == want;
}

static bool read_header(struct og_streams *s, uint32_t slot, uint8_t **p, const uint8_t *end)
{
	struct og_stream *st = &s->streams[slot];
	struct og_stream_secrets *secrets = &s->secrets[slot];

	/* A wrong length is refused before the rest of the frame comes, which may be never. */
	if (st->head_bytes < OG_FRAME_LENGTH_BYTES && !fill_head(st, OG_FRAME_LENGTH_BYTES, p, end))
		return true;
	if (og_frame_length_load(st->head) != OG_FRAME_HEADER_BYTES - OG_FRAME_LENGTH_BYTES)
		return refuse(s, slot, OG_STREAM_DROP_BAD_HEADER, -EBADMSG);
	if (!fill_head(st, OG_FRAME_HEADER_BYTES, p, end))
		return true;
	if (og_secretstream_rx_init(&secrets->rx, &secrets->keys, st->initiator, st->head) < 0)
		return refuse(s, slot, OG_STREAM_DROP_BAD_HEADER, -EBADMSG);
	secrets->rx.bulk = s->bulk;
	sodium_memzero(&secrets->keys, sizeof(secrets->keys));
	st->phase = OG_STREAM_READ_LENGTH;
	st->head_bytes = 0;
	/* The handshake reply has proved the responder; the initiator's header proves nothing. */
	return !st->initiator || report_open(s, slot);
}

static bool read_length(struct og_streams *s, uint32_t slot, uint8_t **p, const uint8_t *end)
{
	struct og_stream *st = &s->streams[slot];
	uint32_t n;

	if (!fill_head(st, OG_FRAME_LENGTH_BYTES, p, end))
		return true;
	st->head_bytes = 0;
	n = og_frame_length_load(st->head);
	if (n < OG_FRAME_BODY_MIN)
		return refuse(s, slot, OG_STREAM_DROP_BAD_LENGTH, -EBADMSG);
	if (n > s->frame_max_bytes)
		return refuse(s, slot, OG_STREAM_DROP_TOO_LONG, -ENOBUFS);
	if (n <= (size_t)(end - *p)) {
		*p += n;
		og_count(&s->count.frames_in_place);
		return open_frame(s, slot, *p - n, n);
	}
	st->phase = OG_STREAM_READ_BODY;
	st->body_bytes = n;
	st->gathered_bytes = 0;
	return true;
}

static bool read_body(struct og_streams *s, uint32_t slot, uint8_t **p, const uint8_t *end)
{
	struct og_stream *st = &s->streams[slot];
	size_t n = OG_MIN((size_t)(end - *p), st->body_bytes - st->gathered_bytes);
	uint8_t *body = og_frame_memory_at(&s->frames, slot);
	bool alive;

	if (og_frame_memory_grow(&s->frames, slot, st->gathered_bytes + n) < 0)
		return refuse(s, slot, OG_STREAM_DROP_NO_MEMORY, -ENOBUFS);
	memcpy(body + st->gathered_bytes, *p, n);
	st->gathered_bytes += (uint32_t)n;
	*p += n;
	if (st->gathered_bytes < st->body_bytes)
		return true;
	st->phase = OG_STREAM_READ_LENGTH;
	/* The plaintext lies in this memory: it stays until the callback is back, come what may. */
	s->opening = slot;
	alive = open_frame(s, slot, body, st->body_bytes);
	s->opening = UINT32_MAX;
	if (alive)
		og_frame_memory_done(&s->frames, slot);
	else
		og_frame_memory_release(&s->frames, slot);
	return alive;
}

size_t og_stream_on_data(void *ctx, uint32_t slot, uint8_t *data, size_t n)
{
	struct og_streams *s = ctx;
	struct og_stream *st = &s->streams[slot];
	const uint8_t *end = data + n;
	uint8_t *p = data;
	bool alive = true;

	while (alive && p < end && !st->paused) {
		switch ((enum og_stream_phase)st->phase) {
		case OG_STREAM_READ_HEADER:
			alive = read_header(s, slot, &p, end);
			break;
		case OG_STREAM_READ_LENGTH:
			alive = read_length(s, slot, &p, end);
			break;
		case OG_STREAM_READ_BODY:
			alive = read_body(s, slot, &p, end);
			break;
		}
	}
	return (size_t)(p - data);
}

void og_stream_on_end(void *ctx, uint32_t slot)
{
	struct og_streams *s = ctx;
	const struct og_stream *st = &s->streams[slot];

	if (st->phase != OG_STREAM_READ_LENGTH || st->head_bytes > 0)
		dropped(s, OG_STREAM_DROP_CUT_FRAME);
	if (s->ops->end)
		s->ops->end(s->ctx, og_stream_id_of(s, slot));
}

void og_stream_on_message(void *ctx, uint32_t slot, const uint8_t *data, size_t n)
{
	struct og_streams *s = ctx;
	uint8_t msg[2048];
	uint8_t *plain;
	size_t plain_bytes;

	if (n == 0 || n > sizeof(msg))
		return; /* an empty one only shows that a path works */
	if (!s->streams[slot].started) {
		dropped(s, OG_STREAM_DROP_EARLY_MESSAGE);
		return;
	}
	memcpy(msg, data, n);
	if (og_unordered_open(&s->secrets[slot].unordered, msg, n, &plain, &plain_bytes) < 0) {
		dropped(s, OG_STREAM_DROP_BAD_MESSAGE);
		return;
	}
	if (s->ops->message && s->streams[slot].opened)
		s->ops->message(s->ctx, og_stream_id_of(s, slot), plain, plain_bytes);
}
