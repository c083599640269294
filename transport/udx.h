/*
 * udx.h: reliable byte streams over UDP datagrams: all of one polling core.
 *
 * Source:  UDX protocol version 1, udx.md. Loss recovery RFC 8985 (RACK-TLP), RFC 6298 with the
 *          bounds of udx.md 11. Not done here: relaying (udx.md 12) and moving (13).
 * Units:   times are ns of one monotonic clock; sizes bytes.
 * Threads: all calls of one og_udx come from one thread.
 * Memory:  all allocated by create. Streams are slots 0 … nb_streams-1; a slot whose stream is
 *          closed is reused, and its generation tells the streams apart.
 *
 * Calls never call back, but for input and tick (and flush, which only sends). From inside a
 * callback every function may be called, og_udx_close() of the very stream included.
 * A call for a slot that is not open must not be made: check og_udx_is_live() first.
 */
#pragma once
#include "base/core.h"
#include "base/rand.h"
#include "transport/udx_cc.h"

enum {
	OG_UDX_WINDOW_BYTES = 4 * 1024 * 1024, /* what is advertised by default, and the most */
	OG_UDX_PAYLOAD_BASE = 1152,            /* path size 1200 less IPv4, UDP and UDX headers */
	OG_UDX_PAYLOAD_MAX = 1452,
	OG_UDX_UNPROVEN_PACKETS = 3,
};

enum og_udx_drop {
	OG_UDX_DROP_TOO_LONG,      /* more than 2048 bytes */
	OG_UDX_DROP_PORT_ZERO,     /* source port 0 */
	OG_UDX_DROP_BAD_OFFSET,    /* data offset beyond the end */
	OG_UDX_DROP_BEYOND_WINDOW, /* sequence above every window announced */
	OG_UDX_DROP_STALE,         /* sequence far below what is expected */
	OG_UDX_DROP_DUPLICATE,     /* data held or delivered before */
	OG_UDX_DROP_AFTER_END,     /* data after the peer's end */
	OG_UDX_DROP_BAD_ACK,       /* acknowledges what was never sent */
	OG_UDX_DROP_BAD_BLOCK,     /* selective block out of range */
	OG_UDX_DROP_BAD_DESTROY,   /* DESTROY that its peer cannot have sent */
	OG_UDX_DROP_NO_BUFFER,     /* out-of-order packet without a share of the pool, or too big */
	OG_UDX_DROP_EARLY,         /* more than a reserved stream keeps */
	OG_UDX_NB_DROPS,
};

struct og_udx_counters {
	uint64_t rx_packets;
	uint64_t rx_bytes; /* payload delivered */
	uint64_t tx_packets;
	uint64_t tx_bytes; /* payload of first transmissions */
	uint64_t tx_acks;
	uint64_t retransmits;
	uint64_t losses;
	uint64_t timeouts; /* full retransmission time-outs */
	uint64_t tail_probes;
	uint64_t tx_full; /* the transmit queue had no room */
	uint64_t opened;
	uint64_t closed;
	uint64_t drops[OG_UDX_NB_DROPS];
};

struct og_udx_info {
	uint64_t srtt_ns;
	uint64_t min_rtt_ns;
	uint64_t last_heard_ns;
	uint64_t losses;
	uint64_t retransmits;
	uint64_t tx_bytes;
	uint64_t rx_bytes;
	uint64_t pacing_bytes_per_s;
	uint32_t cwnd;      /* packets */
	uint32_t in_flight; /* packets */
	uint32_t peer_window_bytes;
	uint16_t path_bytes; /* IP packet size in use */
	uint16_t endpoint;
	bool bound; /* remote is known */
	struct og_addr remote;
	uint32_t id;
	uint32_t remote_id;
};

/* ctx first. All may be NULL but data and closed. */
struct og_udx_ops {
	/* A reserved stream heard its first packet. It is held until og_udx_connect(). */
	void (*first_packet)(
		void *ctx, uint32_t slot, uint16_t endpoint, const struct og_addr *src);
	/*
	 * Stream bytes in order, of one packet, borrowed and writable. Returns how many were taken;
	 * fewer than n only after og_udx_pause(), and the rest comes again after og_udx_resume().
	 */
	size_t (*data)(void *ctx, uint32_t slot, uint8_t *data, size_t n);
	void (*end)(void *ctx, uint32_t slot);
	void (*message)(void *ctx, uint32_t slot, const uint8_t *data, size_t n);
	/* After a write found no room: there is a good deal of it again. */
	void (*writable)(void *ctx, uint32_t slot);
	/* The time asked for with og_udx_set_timer() has come. */
	void (*timer)(void *ctx, uint32_t slot);
	/*
	 * The stream is over, its slot free already: 0 both ends done, -ECONNRESET, -ETIMEDOUT,
	 * -ENOBUFS. Not called after og_udx_close().
	 */
	void (*closed)(void *ctx, uint32_t slot, uint32_t gen, int reason);
};

struct og_udx_opts {
	uint32_t nb_streams;
	uint32_t nb_packets;   /* buffers, shared by all streams and both directions */
	uint32_t window_bytes; /* to advertise at most; 0: OG_UDX_WINDOW_BYTES */
	uint8_t core_idx;      /* put into the ids, below OG_UDX_CORES_MAX */
	uint32_t tag_key;      /* likewise, see stream_tag.h */
	struct og_tx *tx;
	struct og_rand *rand;
	const struct og_udx_ops *ops;
	void *ctx;
	const struct og_udx_cc_ops *cc; /* NULL: og_udx_bbr */
};

struct og_udx;

int og_udx_create(struct og_udx **out, const struct og_udx_opts *opts) OG_MUST_CHECK;
void og_udx_destroy(struct og_udx *u);

/* A new stream whose id is live at once. Returns 0, or -ENOSPC when all slots are in use. */
int og_udx_open(struct og_udx *u, uint32_t *slot, uint32_t *id, uint64_t now_ns) OG_MUST_CHECK;
/*
 * Begin to talk: to `remote`, or with NULL to where the first packet came or will come from. What
 * arrived before is delivered by the next tick.
 */
void og_udx_connect(struct og_udx *u, uint32_t slot, uint32_t remote_id, uint16_t endpoint,
	const struct og_addr *remote, uint64_t now_ns);
/*
 * The remote may be somebody whom a forger names: no more than OG_UDX_UNPROVEN_PACKETS numbered
 * packets go there, repetitions included, until a packet comes from that host or og_udx_trust(),
 * and once they are spent no DESTROY either.
 */
void og_udx_distrust(struct og_udx *u, uint32_t slot);
void og_udx_trust(struct og_udx *u, uint32_t slot);
/* The first sequences of both directions, 0 by default; before anything is sent or heard. */
void og_udx_set_sequences(struct og_udx *u, uint32_t slot, uint32_t send, uint32_t receive);

bool og_udx_is_live(const struct og_udx *u, uint32_t slot, uint32_t gen);
uint32_t og_udx_gen(const struct og_udx *u, uint32_t slot);

/*
 * Writing, in three forms. Room is counted in packets that may still be built. Bytes are copied
 * into packets now and leave with the next tick.
 */
uint32_t og_udx_room_packets(const struct og_udx *u, uint32_t slot);
/* The same, or 0 where a write of so many would be cut to a small part of them. */
uint32_t og_udx_room_for(const struct og_udx *u, uint32_t slot, uint32_t nb_packets);
uint32_t og_udx_payload_bytes(const struct og_udx *u, uint32_t slot); /* of a full packet */
/* n contiguous bytes to be filled at once, in the last packet not yet sent or in a new one. */
uint8_t *og_udx_append(struct og_udx *u, uint32_t slot, size_t n, uint64_t now_ns);
/* Bytes from the start of a new packet on; there must be room for all. */
void og_udx_write_packets(
	struct og_udx *u, uint32_t slot, const uint8_t *data, size_t n, uint64_t now_ns);
/* As many bytes as there is room for, filling up the last packet. Returns their number. */
size_t og_udx_write(struct og_udx *u, uint32_t slot, const void *data, size_t n, uint64_t now_ns);
/* Have ops->writable called when there is room; write() and append() do so when they find none. */
void og_udx_want_room(struct og_udx *u, uint32_t slot);

/* No more bytes from us. */
void og_udx_end(struct og_udx *u, uint32_t slot, uint64_t now_ns);
/* Abort: sends DESTROY if the peer is known, drops everything, frees the slot. No callback. */
void og_udx_close(struct og_udx *u, uint32_t slot, uint64_t now_ns);

/* One unreliable message of at most a packet's payload. Returns 0, -EMSGSIZE, -EAGAIN, -ENOTCONN. */
int og_udx_message(
	struct og_udx *u, uint32_t slot, const void *data, size_t n, uint64_t now_ns) OG_MUST_CHECK;
void og_udx_heartbeat(struct og_udx *u, uint32_t slot, uint64_t now_ns);
void og_udx_pause(struct og_udx *u, uint32_t slot);
void og_udx_resume(struct og_udx *u, uint32_t slot);
/* ops->timer at when_ns; replaces the former time. OG_NEVER: none. */
void og_udx_set_timer(struct og_udx *u, uint32_t slot, uint64_t when_ns);

/* Both ends acknowledged or consumed, as far as ours goes. */
bool og_udx_end_acknowledged(const struct og_udx *u, uint32_t slot);
void og_udx_get_info(const struct og_udx *u, uint32_t slot, struct og_udx_info *out);
uint64_t og_udx_last_heard_ns(const struct og_udx *u, uint32_t slot);
const struct og_udx_counters *og_udx_counters(const struct og_udx *u);
uint32_t og_udx_nb_free_packets(const struct og_udx *u);

/* One datagram. Returns 0 when it was consumed, -ENOENT when it belongs to no stream. */
int og_udx_input(struct og_udx *u, uint16_t endpoint, const struct og_addr *src, uint8_t *data,
	uint16_t n, uint64_t now_ns) OG_MUST_CHECK;
/* Once per receive burst: sends the acknowledgements it owes. */
void og_udx_flush(struct og_udx *u, uint64_t now_ns);
/* Timers and sending. Returns when it next wants to be called. */
uint64_t og_udx_tick(struct og_udx *u, uint64_t now_ns);
