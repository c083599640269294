/*
 * stream_priv.h: what the files of the encrypted stream share.
 */
#pragma once
#include "base/count.h"
#include "crypto/secretstream.h"
#include "transport/frame_memory.h"
#include "transport/stream.h"
#include "transport/udx.h"

#define OG_STREAM_KEEPALIVE_NS (5 * OG_NS_PER_S)
#define OG_STREAM_END_GRACE_NS (10 * OG_NS_PER_S)

enum {
	OG_STREAM_FRAME_BYTES = 64 * 1024, /* longest frame sent, overhead included */
};

enum og_stream_phase {
	OG_STREAM_READ_HEADER, /* the header frame, into `head` */
	OG_STREAM_READ_LENGTH, /* the length of a frame, into `head` when it is cut */
	OG_STREAM_READ_BODY,   /* the rest of a frame, into frame memory */
};

enum og_stream_drop {
	OG_STREAM_DROP_BAD_HEADER,    /* wrong length or id: stream closed */
	OG_STREAM_DROP_BAD_LENGTH,    /* below 17: stream closed */
	OG_STREAM_DROP_TOO_LONG,      /* above frame_max_bytes: stream closed */
	OG_STREAM_DROP_BAD_FRAME,     /* did not open: stream closed */
	OG_STREAM_DROP_NO_MEMORY,     /* frame budget spent: stream closed */
	OG_STREAM_DROP_CUT_FRAME,     /* the peer ended inside a frame */
	OG_STREAM_DROP_EARLY_MESSAGE, /* before the keys */
	OG_STREAM_DROP_BAD_MESSAGE,   /* did not open, or came again */
	OG_STREAM_NB_DROPS,
};

struct og_stream_counters {
	uint64_t frames_read;
	uint64_t frames_in_place; /* of those: opened where they lay */
	uint64_t frames_written;
	uint64_t plain_read_bytes;
	uint64_t plain_written_bytes;
	uint64_t opened;
	uint64_t drops[OG_STREAM_NB_DROPS];
};

/* Apart from the rest, in locked memory, and wiped when the stream is gone. */
struct og_stream_secrets {
	struct og_noise_keys keys; /* until the peer's header has come */
	struct og_secretstream_tx tx;
	struct og_secretstream_rx rx;
	struct og_unordered unordered;
};

struct og_stream {
	uint32_t gen;
	uint8_t phase; /* enum og_stream_phase */
	bool started;
	bool initiator;
	bool opened;
	bool paused;
	bool end_written;
	uint8_t head[OG_FRAME_HEADER_BYTES];
	uint8_t head_bytes;
	uint32_t body_bytes;     /* of the frame being gathered */
	uint32_t gathered_bytes; /* of those */
	uint64_t last_write_ns;
	uint64_t last_data_ns;
	uint64_t end_acked_ns; /* 0: our end is not acknowledged yet */
	uint64_t frames_read;
	uint64_t frames_written;
};

struct og_streams {
	struct og_udx *udx;
	struct og_bulk *bulk; /* NULL where libcrypto may not */
	struct og_stream *streams;
	struct og_stream_secrets *secrets;
	uint32_t nb_streams;
	uint32_t frame_max_bytes;
	uint64_t now_ns;
	struct og_rand *rand;
	const struct og_stream_ops *ops;
	void *ctx;
	struct og_frame_memory frames;
	uint64_t nb_live;
	struct og_stream_counters count;
	uint32_t opening;   /* the slot whose frame memory a callback reads, or UINT32_MAX */
	uint8_t *scratch;   /* a frame between sealing and packets */
	char (*labels)[64]; /* of metrics */
};

static inline struct og_stream_id og_stream_id_of(const struct og_streams *s, uint32_t slot)
{
	return (struct og_stream_id){slot, s->streams[slot].gen};
}

/* stream.c */
/* Abort for a reason of ours, and tell. */
void og_stream_fail(struct og_streams *s, uint32_t slot, int reason);
void og_stream_forget(struct og_streams *s, uint32_t slot);

/* stream_rx.c: the UDX callbacks that read */
size_t og_stream_on_data(void *ctx, uint32_t slot, uint8_t *data, size_t n);
void og_stream_on_end(void *ctx, uint32_t slot);
void og_stream_on_message(void *ctx, uint32_t slot, const uint8_t *data, size_t n);
