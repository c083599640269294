/*
 * udx_priv.h: what the files of UDX share. Packets of a stream live in the pool; two rings, indexed
 * by sequence, name their buffers, and bits tell what is known of each sequence:
 *
 *   sending     una <= nxt <= end    [una, nxt) sent, [nxt, end) built and waiting
 *   receiving   out <= nxt           [out, nxt) received but not taken, beyond nxt out of order
 */
#pragma once
#include "base/count.h"
#include "transport/udx.h"
#include "transport/udx_bits.h"
#include "transport/udx_pool.h"
#include "transport/udx_table.h"
#include "transport/udx_timer.h"
#include "transport/udx_wire.h"

enum {
	OG_UDX_IP_UDP_BYTES = 28,
	OG_UDX_PATH_BASE = 1200,
	OG_UDX_PATH_MAX = 1500,
	OG_UDX_WINDOW_UNIT = OG_UDX_PAYLOAD_BASE, /* bytes of window that count as one packet */
	OG_UDX_UNSENT_ALL = 768, /* packets built ahead of sending, of the streams that send */
	OG_UDX_UNSENT_MIN = 12,  /* and of one: what is built soon leaves, while caches have it */
	OG_UDX_UNSENT_MAX = 192,
	OG_UDX_PAUSED_MAX = 64,   /* packets taken in for a reader that pauses */
	OG_UDX_RESERVED_MAX = 16, /* packets held for a stream that is not connected */
	OG_UDX_QUANTUM = 64,      /* packets a stream sends before the next one's turn */
	OG_UDX_TIMEOUTS_MAX = 7,
	OG_UDX_STALE = 1 << 16, /* sequences below the expected one that are not worth a look */
};
static_assert(OG_UDX_WINDOW_BYTES / OG_UDX_WINDOW_UNIT + 1 < OG_UDX_RING, "a window fits the ring");
static_assert((int)OG_UDX_CWND_MAX <= (int)OG_UDX_RING, "so does what is in flight");

#define OG_UDX_RTO_MIN_NS (1000 * OG_NS_PER_MS)
#define OG_UDX_RTO_MAX_NS (30000 * OG_NS_PER_MS)
#define OG_UDX_LINGER_NS (4 * OG_NS_PER_S)
#define OG_UDX_UNBOUND_NS (10 * OG_NS_PER_S)

enum og_udx_state { OG_UDX_FREE, OG_UDX_RESERVED, OG_UDX_OPEN };
enum og_udx_recovery { OG_UDX_SOUND, OG_UDX_RECOVERY, OG_UDX_LOSS };

/* Path size discovery, udx.md 10. Sizes are whole IP packets. */
struct og_udx_path {
	uint16_t size;
	uint16_t wanted;
	uint8_t losses; /* of probes of this size */
	bool searching;
	bool stepping;    /* a leap failed */
	bool probing;     /* one is in flight */
	bool begun;       /* something has been acknowledged at this base */
	uint8_t timeouts; /* in a row, of packets above the base size */
};

struct og_udx_sender {
	uint32_t una;
	uint32_t nxt;
	uint32_t end;
	uint32_t in_flight; /* sent, neither acknowledged nor taken for lost */
	uint32_t nb_sacked; /* in [una, nxt) */
	uint32_t nb_lost;   /* waiting to be sent again */
	uint32_t fack;      /* after the highest sequence acknowledged in any way */
	uint32_t window_bytes;
	uint32_t wl_seq; /* RFC 9293 SND.WL1 and WL2: when the window was last taken */
	uint32_t wl_ack;
	uint32_t recovery_point;
	uint8_t recovery; /* enum og_udx_recovery */
	uint8_t nb_timeouts;
	bool end_wanted;       /* by the application */
	bool end_built;        /* the last packet carries it */
	bool blocked;          /* somebody wants room */
	bool tail_probe_spent; /* until the next round-trip sample */
	int32_t oldest;        /* outstanding packets in sending order, but for lost ones */
	int32_t newest;
	struct og_udx_bits acked;
	struct og_udx_bits lost;

	/* Round trips, RFC 6298. */
	uint64_t srtt_ns;
	uint64_t rttvar_ns;
	uint64_t rto_ns;
	uint64_t min_rtt_ns;
	uint64_t min_rtt_at_ns;

	/* RACK, RFC 8985. */
	uint64_t rack_sent_ns;
	uint32_t rack_seq;
	uint64_t rack_rtt_ns;
	bool reordering_seen;
	uint8_t reordering_quarters; /* of the minimum round trip */

	/* Deadlines; OG_NEVER when off. */
	uint64_t rto_at_ns;
	uint64_t probe_at_ns; /* tail-loss probe */
	uint64_t rack_at_ns;
	uint64_t window_probe_at_ns;
	uint64_t pace_at_ns; /* no packet before */
	bool paced;          /* and something waits for that */

	uint64_t losses;
	uint64_t losses_told; /* to congestion control */
	uint64_t retransmits;
	uint64_t tx_bytes;
	uint32_t packet_bytes; /* mean of what was sent lately, times 16 */
	struct og_udx_rate rate;
	struct og_udx_cc cc;
	struct og_udx_path path;
};

struct og_udx_receiver {
	uint32_t out;
	uint32_t nxt;
	uint32_t top;  /* after the highest sequence held */
	uint32_t edge; /* first sequence never announced */
	uint32_t nb_held;
	uint32_t told; /* where the blocks of the last acknowledgement ended, if not all fitted */
	uint32_t announced; /* packets of window last told to the peer */
	uint32_t end_seq;
	bool end_known;
	bool end_consumed;
	bool paused;
	uint64_t rx_bytes;
	struct og_udx_bits held;
};

/* First in, first out, of slots. A slot whose stream was closed stays in line and is skipped. */
enum og_udx_line_idx {
	OG_UDX_LINE_READY,   /* something to deliver or to send */
	OG_UDX_LINE_ACK,     /* an acknowledgement to send */
	OG_UDX_LINE_STARVED, /* waits for a packet buffer */
	OG_UDX_NB_LINES,
};

#define OG_UDX_LINE_END UINT32_MAX

struct og_udx_line {
	uint32_t first;
	uint32_t last;
};

struct og_udx_link {
	uint32_t next;
	bool in;
};

struct og_udx_stream {
	uint32_t gen;
	uint32_t id;
	uint32_t remote_id;
	struct og_addr remote;
	uint16_t endpoint;
	uint8_t state; /* enum og_udx_state */
	bool bound;    /* remote is known */
	bool heard;    /* something arrived: `source` tells from where first */
	bool unproven; /* nothing came from the host it sends to yet: see og_udx_distrust() */
	uint8_t unproven_left;
	bool ack_owed;
	bool ack_urgent; /* at once, not at the end of the burst */
	uint16_t source_endpoint;
	struct og_addr source;
	uint64_t last_heard_ns;
	uint64_t app_at_ns;     /* og_udx_set_timer() */
	uint64_t unbound_at_ns; /* when to give up waiting for a first packet */
	uint32_t held;          /* buffers of the pool, both directions */
	struct og_udx_link links[OG_UDX_NB_LINES];
	struct og_udx_sender tx;
	struct og_udx_receiver rx;
};

/*
 * Hosts that answered within a millisecond lately. Streams that begin together in a full queue never see
 * that for themselves.
 */
enum { OG_UDX_NEAR_HOSTS = 256 };
#define OG_UDX_NEAR_RTT_NS OG_NS_PER_MS
#define OG_UDX_NEAR_LIFE_NS (600 * OG_NS_PER_S)

struct og_udx_near_host {
	uint32_t ip;
	uint64_t seen_ns;
};

struct og_udx {
	struct og_udx_stream *streams;
	int32_t *tx_ring; /* nb_streams rows of OG_UDX_RING buffers */
	int32_t *rx_ring;
	uint32_t *free_slots;
	uint32_t nb_free_slots;
	uint32_t nb_streams;
	uint32_t window_packets; /* to announce at most */
	uint32_t window_bytes;
	uint32_t nb_busy;       /* streams that wait for acknowledgements */
	uint32_t busy_peak[2];  /* most of them at once, in this period and the one before */
	uint64_t busy_until_ns; /* of this period */
	uint64_t now_ns;
	struct og_udx_line ready;
	struct og_udx_line acks;
	struct og_udx_line starved;
	struct og_udx_pool pool;
	struct og_udx_table table;
	struct og_udx_timers timers;
	struct og_tx *tx;
	struct og_rand *rand;
	const struct og_udx_ops *ops;
	const struct og_udx_cc_ops *cc;
	void *ctx;
	struct og_udx_near_host near_hosts[OG_UDX_NEAR_HOSTS]; /* by a hash; the latest stays */
	struct og_udx_counters count;
};

static inline uint32_t og_udx_slot_of(const struct og_udx *u, const struct og_udx_stream *s)
{
	return (uint32_t)(s - u->streams);
}

static inline int32_t *og_udx_tx_at(
	const struct og_udx *u, const struct og_udx_stream *s, uint32_t seq)
{
	return &u->tx_ring[(size_t)og_udx_slot_of(u, s) * OG_UDX_RING + (seq & OG_UDX_RING_MASK)];
}

static inline int32_t *og_udx_rx_at(
	const struct og_udx *u, const struct og_udx_stream *s, uint32_t seq)
{
	return &u->rx_ring[(size_t)og_udx_slot_of(u, s) * OG_UDX_RING + (seq & OG_UDX_RING_MASK)];
}

/* Numbered packets may still go to where nobody has proved to be. */
static inline bool og_udx_may_transmit(const struct og_udx_stream *s)
{
	return !s->unproven || s->unproven_left > 0;
}

static inline void og_udx_dropped(struct og_udx *u, enum og_udx_drop why)
{
	og_count(&u->count.drops[why]);
}

/* udx.c */
void og_udx_make_ready(struct og_udx *u, struct og_udx_stream *s);
void og_udx_make_starved(struct og_udx *u, struct og_udx_stream *s);
void og_udx_owe_ack(struct og_udx *u, struct og_udx_stream *s);
void og_udx_release(struct og_udx *u, struct og_udx_stream *s, int32_t idx);
/* Frees the slot; tells the application. `s` is not this stream any more afterwards. */
void og_udx_finish(struct og_udx *u, struct og_udx_stream *s, int reason);
/* Finishes when both directions are done. Returns whether it did. */
bool og_udx_finish_if_done(struct og_udx *u, struct og_udx_stream *s);
/* The earliest of a stream's deadlines, into the timers. */
void og_udx_arm(struct og_udx *u, struct og_udx_stream *s);

/* udx_rx.c: false when the stream was closed meanwhile */
bool og_udx_receive(struct og_udx *u, struct og_udx_stream *s, const struct og_udx_header *h,
	uint8_t *payload, uint16_t n);
bool og_udx_deliver_held(struct og_udx *u, struct og_udx_stream *s);
/* The window to put into a packet that leaves now. */
uint32_t og_udx_announce(struct og_udx *u, struct og_udx_stream *s);
uint32_t og_udx_blocks(struct og_udx_stream *s, uint8_t *packet, uint32_t max);

/* udx_tx.c */
bool og_udx_send_plain(struct og_udx *u, struct og_udx_stream *s, uint8_t flags);
bool og_udx_send_ack(struct og_udx *u, struct og_udx_stream *s);
bool og_udx_send_farewell(struct og_udx *u, const struct og_udx_farewell *f);
/* False when the peer has not answered for so long that the stream is over. */
bool og_udx_window_probe(struct og_udx *u, struct og_udx_stream *s);
uint32_t og_udx_nb_busy(const struct og_udx *u);
bool og_udx_transmit(struct og_udx *u, struct og_udx_stream *s, uint32_t seq);
/* Sends what may be sent. False when the transmit queue is full. */
bool og_udx_send_some(struct og_udx *u, struct og_udx_stream *s);
void og_udx_offer_room(struct og_udx *u, struct og_udx_stream *s);
/* The peer's window has room for a new packet. */
bool og_udx_peer_takes(const struct og_udx_stream *s);
bool og_udx_build_end(struct og_udx *u, struct og_udx_stream *s);
void og_udx_split_unsent(struct og_udx *u, struct og_udx_stream *s, uint16_t payload_bytes);

/* udx_ack.c */
void og_udx_acknowledged(struct og_udx *u, struct og_udx_stream *s, const struct og_udx_header *h,
	const uint8_t *packet, uint32_t nb_blocks);

/* udx_loss.c */
void og_udx_rtt_sample(struct og_udx_sender *tx, uint64_t rtt_ns, uint64_t now_ns);
void og_udx_rack_update(struct og_udx_sender *tx, const struct og_udx_packet *p, uint64_t now_ns);
void og_udx_detect_losses(struct og_udx *u, struct og_udx_stream *s);
void og_udx_arm_tail_probe(struct og_udx *u, struct og_udx_stream *s);
void og_udx_tail_probe(struct og_udx *u, struct og_udx_stream *s);
/* False when it was one too many and the stream is over. */
bool og_udx_retransmission_timeout(struct og_udx *u, struct og_udx_stream *s);
void og_udx_list_append(struct og_udx *u, struct og_udx_sender *tx, int32_t idx);
void og_udx_list_remove(struct og_udx *u, struct og_udx_sender *tx, int32_t idx);

/* udx_path.c */
void og_udx_path_init(struct og_udx_path *path);
static inline uint16_t og_udx_path_payload(const struct og_udx_path *path)
{
	return (uint16_t)(path->size - OG_UDX_IP_UDP_BYTES - OG_UDX_HEADER_BYTES);
}
/* Padding that makes a new packet of this payload the wanted probe, or -1. */
int og_udx_path_padding(const struct og_udx_path *path, uint16_t payload_bytes);
void og_udx_path_acked(struct og_udx_path *path, bool probe);
void og_udx_path_probe_lost(struct og_udx_path *path);
/* A time-out whose first packet has this size. True: the path was taken back to its base. */
bool og_udx_path_timeout(struct og_udx_path *path, uint16_t payload_bytes);
