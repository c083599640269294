/*
 * stream.h: all encrypted streams of one polling core: secretstream frames over UDX.
 *
 * A stream is reserved (its UDX id is live, so that it may leave in a handshake message), started
 * with the keys of the handshake, and then carries bytes both ways: what is written is cut into
 * frames of at most 64 KiB, sealed once; what arrives is opened where it lies when a frame is whole
 * in one packet, else gathered first.
 *
 * Source:  noise-stream.md 4-7, udx.md.
 * Units:   times are ns of one monotonic clock; sizes bytes.
 * Threads: all calls of one og_streams come from its polling core; counters may be read anywhere.
 * Memory:  all reserved by create. A frame that spans packets is gathered in memory that grows with
 *          the bytes that arrive, within frame_budget_bytes for all streams together.
 */
#pragma once
#include "base/core.h"
#include "base/rand.h"
#include "crypto/noise.h"

struct og_streams;

/* A slot is reused; the generation makes a late handle harmless. */
struct og_stream_id {
	uint32_t slot;
	uint32_t gen;
};

enum og_stream_state {
	OG_STREAM_RESERVED, /* id live, keys not yet known */
	OG_STREAM_STARTED,  /* the peer has not yet proved itself */
	OG_STREAM_RUNNING,  /* open was reported */
	OG_STREAM_ENDING,   /* our end is written */
};

struct og_stream_info {
	enum og_stream_state state;
	uint64_t srtt_ns;
	uint64_t min_rtt_ns;
	uint64_t last_heard_ns;
	uint64_t losses;
	uint64_t retransmits;
	uint64_t tx_bytes; /* on the wire, first transmissions */
	uint64_t rx_bytes;
	uint64_t frames_written;
	uint64_t frames_read;
	uint32_t cwnd;      /* packets */
	uint32_t in_flight; /* packets */
	uint16_t path_bytes;
	uint16_t endpoint;
	bool bound; /* remote is known */
	struct og_addr remote;
	uint32_t udx_id;
	uint32_t remote_udx_id;
};

/*
 * ctx first; all but data and closed may be NULL. Called from input, flush and tick only, never
 * from within a call such as write or start. Any function may be called from inside, also
 * og_stream_close() of the same stream: after that it is not heard of again.
 */
struct og_stream_ops {
	/* Reserved, not started: somebody sent to it. Its packets (some) are kept until the start. */
	void (*first_packet)(
		void *ctx, struct og_stream_id id, uint16_t endpoint, const struct og_addr *src);
	/*
	 * The peer has proved itself: to the responder by a first frame that opens (an og-node sends
	 * an empty one at once, others their first data or, after 5 s, a keepalive), to the initiator
	 * by its header frame, since the handshake reply has proved the responder before.
	 */
	void (*open)(void *ctx, struct og_stream_id id);
	/* Plaintext of one frame, never empty; valid for the call. Comes after open. */
	void (*data)(void *ctx, struct og_stream_id id, const uint8_t *plain, size_t n);
	/* The peer writes no more. A partial frame before it is dropped. */
	void (*end)(void *ctx, struct og_stream_id id);
	/*
	 * The stream is gone: 0 both ends done, -ECONNRESET by the peer, -ETIMEDOUT nothing came
	 * back, -EBADMSG frames that do not open, -ENOBUFS over the limits of memory.
	 */
	void (*closed)(void *ctx, struct og_stream_id id, int reason);
	/* After a write that was not taken whole: there is room. */
	void (*writable)(void *ctx, struct og_stream_id id);
	/* A message beside the stream, opened; may be lost or overtaken, never repeated. */
	void (*message)(void *ctx, struct og_stream_id id, const uint8_t *plain, size_t n);
};

struct og_streams_opts {
	uint32_t nb_streams;
	uint32_t nb_packets; /* buffers of 1536 bytes, shared by all streams and both directions */
	uint64_t frame_budget_bytes; /* memory for frames that span packets, all streams */
	uint32_t frame_max_bytes;    /* longest frame accepted; 0: 16 MiB, the longest there is */
	uint32_t window_bytes;       /* receive window of a stream; 0: 4 MiB, the most */
	uint8_t core_idx;            /* of this polling core; goes into the UDX ids, below 64 */
	uint32_t tag_key;            /* likewise, see stream_tag.h */
	struct og_tx *tx;
	struct og_rand *rand;
	const struct og_stream_ops *ops;
	void *ctx;
};

int og_streams_create(struct og_streams **out, const struct og_streams_opts *opts) OG_MUST_CHECK;
void og_streams_destroy(struct og_streams *s);

/* The core that owns a UDX id which we chose. */
static inline uint8_t og_stream_core_of(uint32_t udx_id)
{
	return udx_id & 63;
}

/*
 * A new stream; `*udx_id` is live at once. One that is never started stays until it is closed:
 * the caller bounds the time. Returns 0, or -ENOSPC.
 */
int og_stream_reserve(struct og_streams *s, struct og_stream_id *id, uint32_t *udx_id,
	uint64_t now_ns) OG_MUST_CHECK;
/*
 * Start it, once: writes the header frame and reads what came early (by the next tick). `remote` NULL
 * binds it to the source of the first packet, come or to come; if none comes within 10 s the stream
 * closes with -ETIMEDOUT. Returns 0, -EPROTO when `id` is not reserved, or -ENOBUFS when no packet
 * buffer is free at all (it stays reserved).
 */
int og_stream_start(struct og_streams *s, struct og_stream_id id, const struct og_noise_keys *keys,
	bool initiator, uint32_t remote_udx_id, uint16_t endpoint, const struct og_addr *remote,
	uint64_t now_ns);

/*
 * Bytes accepted: they are sealed and kept until acknowledged, and leave with the next tick. Fewer
 * than n (also 0): ops->writable comes later. May be called as soon as the stream is started.
 */
size_t og_stream_write(
	struct og_streams *s, struct og_stream_id id, const void *data, size_t n, uint64_t now_ns);
/* We write no more. If the peer does not end within 10 s of having that, the stream is destroyed. */
void og_stream_end(struct og_streams *s, struct og_stream_id id, uint64_t now_ns);
/* Abort: UDX DESTROY, what is unsent is lost. No callback follows. */
void og_stream_close(struct og_streams *s, struct og_stream_id id, uint64_t now_ns);
/* An empty frame, acknowledged data. Sent without asking after 5 s in which nothing was written. */
void og_stream_keepalive(struct og_streams *s, struct og_stream_id id, uint64_t now_ns);
/* A UDX HEARTBEAT, sent now: the peer's answer moves og_stream_last_heard_ns(). */
void og_stream_heartbeat(struct og_streams *s, struct og_stream_id id, uint64_t now_ns);
/* One sealed datagram beside the stream. Returns 0, -EMSGSIZE, -EAGAIN, -ENOTCONN, -EOVERFLOW. */
int og_stream_message(struct og_streams *s, struct og_stream_id id, const void *data, size_t n,
	uint64_t now_ns) OG_MUST_CHECK;

/* Functions below and above do nothing (and give 0) for an id that is gone. */
bool og_stream_is_alive(const struct og_streams *s, struct og_stream_id id);
uint64_t og_stream_last_heard_ns(const struct og_streams *s, struct og_stream_id id);
/* False when the stream is gone. */
bool og_stream_info(const struct og_streams *s, struct og_stream_id id, struct og_stream_info *out);

/*
 * Back-pressure: no data is delivered from the return of pause until resume, whose first delivery
 * comes with the next tick; the window that the peer sees shrinks.
 */
void og_stream_pause(struct og_streams *s, struct og_stream_id id);
void og_stream_resume(struct og_streams *s, struct og_stream_id id);

/*
 * One datagram, decrypted where it lies. Returns 0 when it was consumed, -ENOENT when it is for no
 * live or lingering UDX id: offer it to the DHT.
 */
int og_streams_input(struct og_streams *s, uint16_t endpoint, const struct og_addr *src,
	uint8_t *data, uint16_t n, uint64_t now_ns) OG_MUST_CHECK;
/* Once per receive burst: acknowledgements. */
void og_streams_flush(struct og_streams *s, uint64_t now_ns);
/* Timers, pacing, sending. Returns when it next wants to be called. */
uint64_t og_streams_tick(struct og_streams *s, uint64_t now_ns);

uint32_t og_streams_nb_live(const struct og_streams *s);
/*
 * All counters of all polling cores, with a label core="n". Once, before threads run; `cores` stay
 * alive as long as metrics are rendered.
 */
void og_streams_metrics_register(struct og_streams *const *cores, uint32_t nb_cores);
