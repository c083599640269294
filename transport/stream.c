#include "transport/stream.h"

#include "transport/stream_priv.h"
#include "transport/udx_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define END_LOOK_NS (1 * OG_NS_PER_S) /* how often to see whether our end has arrived */

static_assert(OG_UDX_CORES_MAX == 64, "og_stream_core_of");

static void on_first_packet(void *ctx, uint32_t slot, uint16_t endpoint, const struct og_addr *src)
{
	struct og_streams *s = ctx;

	if (s->ops->first_packet)
		s->ops->first_packet(s->ctx, og_stream_id_of(s, slot), endpoint, src);
}

static void on_writable(void *ctx, uint32_t slot)
{
	struct og_streams *s = ctx;

	if (s->ops->writable)
		s->ops->writable(s->ctx, og_stream_id_of(s, slot));
}

static void on_closed(void *ctx, uint32_t slot, uint32_t gen, int reason)
{
	struct og_streams *s = ctx;

	og_stream_forget(s, slot);
	s->ops->closed(s->ctx, (struct og_stream_id){slot, gen}, reason);
}

static void on_timer(void *ctx, uint32_t slot);

static const struct og_udx_ops udx_ops = {
	.first_packet = on_first_packet,
	.data = og_stream_on_data,
	.end = og_stream_on_end,
	.message = og_stream_on_message,
	.writable = on_writable,
	.timer = on_timer,
	.closed = on_closed,
};

int og_streams_create(struct og_streams **out, const struct og_streams_opts *opts)
{
	struct og_streams *s = calloc(1, sizeof(*s));
	struct og_udx_opts udx_opts = {
		.nb_streams = opts->nb_streams,
		.nb_packets = opts->nb_packets,
		.window_bytes = opts->window_bytes,
		.core_idx = opts->core_idx,
		.tag_key = opts->tag_key,
		.tx = opts->tx,
		.rand = opts->rand,
		.ops = &udx_ops,
		.ctx = s,
	};
	int ret;

	if (!s)
		return -ENOMEM;
	s->nb_streams = opts->nb_streams;
	s->rand = opts->rand;
	s->ops = opts->ops;
	s->ctx = opts->ctx;
	s->opening = UINT32_MAX;
	s->frame_max_bytes = opts->frame_max_bytes
				     ? OG_MIN(opts->frame_max_bytes, (uint32_t)OG_FRAME_MAX)
				     : OG_FRAME_MAX;
	ret = og_udx_create(&s->udx, &udx_opts);
	if (ret < 0)
		goto free_s;
	ret = og_frame_memory_create(
		&s->frames, opts->nb_streams, s->frame_max_bytes, opts->frame_budget_bytes);
	if (ret < 0)
		goto destroy_udx;
	ret = -ENOMEM;
	s->streams = calloc(opts->nb_streams, sizeof(*s->streams));
	s->secrets = calloc(opts->nb_streams, sizeof(*s->secrets));
	s->scratch = malloc(OG_STREAM_FRAME_BYTES);
	if (!s->streams || !s->secrets || !s->scratch)
		goto free_arrays;
	ret = og_bulk_create(&s->bulk);
	if (ret == -ENOMEM)
		goto free_arrays;
	/* As far as the limit of locked memory goes. */
	(void)sodium_mlock(s->secrets, opts->nb_streams * sizeof(*s->secrets));
	*out = s;
	return 0;

free_arrays:
	free(s->scratch);
	free(s->secrets);
	free(s->streams);
	og_frame_memory_destroy(&s->frames);
destroy_udx:
	og_udx_destroy(s->udx);
free_s:
	free(s);
	return ret;
}

void og_streams_destroy(struct og_streams *s)
{
	if (!s)
		return;
	sodium_munlock(s->secrets, s->nb_streams * sizeof(*s->secrets)); /* wipes, too */
	og_bulk_destroy(s->bulk);
	free(s->labels);
	free(s->scratch);
	free(s->secrets);
	free(s->streams);
	og_frame_memory_destroy(&s->frames);
	og_udx_destroy(s->udx);
	free(s);
}

/* ---- life ---- */

bool og_stream_is_alive(const struct og_streams *s, struct og_stream_id id)
{
	return og_udx_is_live(s->udx, id.slot, id.gen);
}

/* Alive and with keys: may write. */
static struct og_stream *started(struct og_streams *s, struct og_stream_id id, uint64_t now_ns)
{
	s->now_ns = now_ns;
	if (!og_stream_is_alive(s, id) || !s->streams[id.slot].started)
		return NULL;
	return &s->streams[id.slot];
}

int og_stream_reserve(
	struct og_streams *s, struct og_stream_id *id, uint32_t *udx_id, uint64_t now_ns)
{
	uint32_t slot;
	int ret = og_udx_open(s->udx, &slot, udx_id, now_ns);

	if (ret < 0)
		return ret;
	s->streams[slot] = (struct og_stream){.gen = og_udx_gen(s->udx, slot)};
	og_count(&s->nb_live);
	*id = og_stream_id_of(s, slot);
	return 0;
}

static void write_header(struct og_streams *s, uint32_t slot)
{
	uint8_t header[OG_STREAM_HEADER_BYTES], frame[OG_FRAME_HEADER_BYTES];
	struct og_stream_secrets *secrets = &s->secrets[slot];

	og_rand_fill(s->rand, header, sizeof(header));
	og_secretstream_tx_init(
		&secrets->tx, &secrets->keys, s->streams[slot].initiator, header, frame);
	secrets->tx.bulk = s->bulk;
	og_udx_write_packets(s->udx, slot, frame, sizeof(frame), s->now_ns);
}

int og_stream_start(struct og_streams *s, struct og_stream_id id, const struct og_noise_keys *keys,
	bool initiator, uint32_t remote_udx_id, uint16_t endpoint, const struct og_addr *remote,
	uint64_t now_ns)
{
	struct og_stream *st = &s->streams[id.slot];
	struct og_stream_secrets *secrets = &s->secrets[id.slot];

	if (!og_stream_is_alive(s, id) || st->started)
		return -EPROTO;
	if (og_udx_nb_free_packets(s->udx) == 0)
		return -ENOBUFS;
	s->now_ns = now_ns;
	st->started = true;
	st->initiator = initiator;
	st->last_write_ns = st->last_data_ns = now_ns;
	secrets->keys = *keys;
	og_unordered_init(&secrets->unordered, keys, initiator, og_rand_u64(s->rand));
	og_udx_connect(s->udx, id.slot, remote_udx_id, endpoint, remote, now_ns);
	if (!initiator && remote)
		og_udx_distrust(s->udx, id.slot);
	write_header(s, id.slot);
	/* The next tick finds out whether the application has something to prove us with. */
	og_udx_set_timer(s->udx, id.slot, initiator ? now_ns : now_ns + OG_STREAM_KEEPALIVE_NS);
	return 0;
}

/* What is kept of a stream whose slot is free again. */
void og_stream_forget(struct og_streams *s, uint32_t slot)
{
	sodium_memzero(&s->secrets[slot], sizeof(s->secrets[slot]));
	if (s->bulk)
		og_bulk_forget(s->bulk);
	if (s->opening != slot)
		og_frame_memory_release(&s->frames, slot);
	og_count_add(&s->nb_live, (uint64_t)-1);
}

void og_stream_fail(struct og_streams *s, uint32_t slot, int reason)
{
	struct og_stream_id id = og_stream_id_of(s, slot);

	og_udx_close(s->udx, slot, s->now_ns);
	og_stream_forget(s, slot);
	s->ops->closed(s->ctx, id, reason);
}

void og_stream_close(struct og_streams *s, struct og_stream_id id, uint64_t now_ns)
{
	if (!og_stream_is_alive(s, id))
		return;
	og_udx_close(s->udx, id.slot, now_ns);
	og_stream_forget(s, id.slot);
}

/* ---- writing ---- */

static void frame_written(struct og_streams *s, struct og_stream *st, size_t n)
{
	st->last_write_ns = s->now_ns;
	st->frames_written++;
	og_count(&s->count.frames_written);
	og_count_add(&s->count.plain_written_bytes, n);
}

/* A frame that fits one packet, sealed into it: beside others, or at the start of a new one. */
static bool write_small(struct og_streams *s, uint32_t slot, const uint8_t *plain, size_t n)
{
	uint8_t *frame = og_udx_append(s->udx, slot, n + OG_FRAME_OVERHEAD, s->now_ns);

	return frame && og_secretstream_seal(&s->secrets[slot].tx, frame, plain, n) == 0;
}

/* A frame over several packets, of which it fills all but perhaps the last. Bytes taken. */
static size_t write_large(struct og_streams *s, uint32_t slot, const uint8_t *plain, size_t n)
{
	size_t payload_bytes = og_udx_payload_bytes(s->udx, slot);
	size_t most = OG_STREAM_FRAME_BYTES / payload_bytes;
	size_t wanted = (n + OG_FRAME_OVERHEAD + payload_bytes - 1) / payload_bytes;
	size_t packets = og_udx_room_for(s->udx, slot, (uint32_t)OG_MIN(wanted, most));

	packets = OG_MIN(packets, most);
	if (packets == 0) {
		og_udx_want_room(s->udx, slot);
		return 0;
	}
	n = OG_MIN(n, packets * payload_bytes - OG_FRAME_OVERHEAD);
	if (og_secretstream_seal(&s->secrets[slot].tx, s->scratch, plain, n) < 0)
		return 0;
	og_udx_write_packets(s->udx, slot, s->scratch, n + OG_FRAME_OVERHEAD, s->now_ns);
	return n;
}

size_t og_stream_write(
	struct og_streams *s, struct og_stream_id id, const void *data, size_t n, uint64_t now_ns)
{
	struct og_stream *st = started(s, id, now_ns);
	const uint8_t *plain = data;
	size_t done = 0;

	if (!st || st->end_written)
		return 0;
	while (done < n) {
		size_t left = n - done, taken;

		if (left + OG_FRAME_OVERHEAD <= og_udx_payload_bytes(s->udx, id.slot))
			taken = write_small(s, id.slot, plain + done, left) ? left : 0;
		else
			taken = write_large(s, id.slot, plain + done, left);
		if (taken == 0)
			break;
		frame_written(s, st, taken);
		done += taken;
	}
	return done;
}

void og_stream_keepalive(struct og_streams *s, struct og_stream_id id, uint64_t now_ns)
{
	struct og_stream *st = started(s, id, now_ns);

	/* Without room there is enough under way that wants an acknowledgement. */
	if (st && !st->end_written && og_udx_room_packets(s->udx, id.slot) > 0 &&
		write_small(s, id.slot, NULL, 0))
		frame_written(s, st, 0);
}

int og_stream_message(
	struct og_streams *s, struct og_stream_id id, const void *data, size_t n, uint64_t now_ns)
{
	uint8_t msg[OG_UDX_PAYLOAD_MAX];
	int ret;

	if (!started(s, id, now_ns))
		return -ENOTCONN;
	if (n + OG_UNORDERED_OVERHEAD > og_udx_payload_bytes(s->udx, id.slot))
		return -EMSGSIZE;
	ret = og_unordered_seal(&s->secrets[id.slot].unordered, msg, data, n);
	if (ret < 0)
		return ret;
	return og_udx_message(s->udx, id.slot, msg, n + OG_UNORDERED_OVERHEAD, now_ns);
}

void og_stream_heartbeat(struct og_streams *s, struct og_stream_id id, uint64_t now_ns)
{
	if (started(s, id, now_ns))
		og_udx_heartbeat(s->udx, id.slot, now_ns);
}

void og_stream_end(struct og_streams *s, struct og_stream_id id, uint64_t now_ns)
{
	struct og_stream *st = started(s, id, now_ns);

	if (!st || st->end_written)
		return;
	st->end_written = true;
	og_udx_end(s->udx, id.slot, now_ns);
	og_udx_set_timer(s->udx, id.slot, now_ns + END_LOOK_NS);
}

/* ---- time ---- */

/* Many applications never end their side: ours has arrived, so after a while we go. */
static void look_after_end(struct og_streams *s, uint32_t slot)
{
	struct og_stream *st = &s->streams[slot];
	uint64_t quiet_since;

	if (st->end_acked_ns == 0 && og_udx_end_acknowledged(s->udx, slot))
		st->end_acked_ns = s->now_ns;
	quiet_since = OG_MAX(st->end_acked_ns, st->last_data_ns);
	if (st->end_acked_ns > 0 && s->now_ns - quiet_since >= OG_STREAM_END_GRACE_NS)
		og_stream_fail(s, slot, 0);
	else
		og_udx_set_timer(s->udx, slot, s->now_ns + END_LOOK_NS);
}

static void on_timer(void *ctx, uint32_t slot)
{
	struct og_streams *s = ctx;
	struct og_stream *st = &s->streams[slot];
	bool quiet;

	if (st->end_written) {
		look_after_end(s, slot);
		return;
	}
	quiet = s->now_ns - st->last_write_ns >= OG_STREAM_KEEPALIVE_NS;
	if (quiet || (st->initiator && st->frames_written == 0)) {
		og_stream_keepalive(s, og_stream_id_of(s, slot), s->now_ns);
		st->last_write_ns = s->now_ns;
	}
	og_udx_set_timer(s->udx, slot, st->last_write_ns + OG_STREAM_KEEPALIVE_NS);
}

/* ---- reading, and the polling core's calls ---- */

void og_stream_pause(struct og_streams *s, struct og_stream_id id)
{
	if (!og_stream_is_alive(s, id))
		return;
	s->streams[id.slot].paused = true;
	og_udx_pause(s->udx, id.slot);
}

void og_stream_resume(struct og_streams *s, struct og_stream_id id)
{
	if (!og_stream_is_alive(s, id))
		return;
	s->streams[id.slot].paused = false;
	og_udx_resume(s->udx, id.slot);
}

uint64_t og_stream_last_heard_ns(const struct og_streams *s, struct og_stream_id id)
{
	return og_stream_is_alive(s, id) ? og_udx_last_heard_ns(s->udx, id.slot) : 0;
}

static enum og_stream_state state_of(const struct og_stream *st)
{
	if (!st->started)
		return OG_STREAM_RESERVED;
	if (st->end_written)
		return OG_STREAM_ENDING;
	return st->opened ? OG_STREAM_RUNNING : OG_STREAM_STARTED;
}

bool og_stream_info(const struct og_streams *s, struct og_stream_id id, struct og_stream_info *out)
{
	const struct og_stream *st = &s->streams[id.slot];
	struct og_udx_info udx;

	if (!og_stream_is_alive(s, id))
		return false;
	og_udx_get_info(s->udx, id.slot, &udx);
	*out = (struct og_stream_info){
		.state = state_of(st),
		.srtt_ns = udx.srtt_ns,
		.min_rtt_ns = udx.min_rtt_ns,
		.last_heard_ns = udx.last_heard_ns,
		.losses = udx.losses,
		.retransmits = udx.retransmits,
		.tx_bytes = udx.tx_bytes,
		.rx_bytes = udx.rx_bytes,
		.frames_written = st->frames_written,
		.frames_read = st->frames_read,
		.cwnd = udx.cwnd,
		.in_flight = udx.in_flight,
		.path_bytes = udx.path_bytes,
		.endpoint = udx.endpoint,
		.bound = udx.bound,
		.remote = udx.remote,
		.udx_id = udx.id,
		.remote_udx_id = udx.remote_id,
	};
	return true;
}

int og_streams_input(struct og_streams *s, uint16_t endpoint, const struct og_addr *src,
	uint8_t *data, uint16_t n, uint64_t now_ns)
{
	s->now_ns = now_ns;
	return og_udx_input(s->udx, endpoint, src, data, n, now_ns);
}

void og_streams_flush(struct og_streams *s, uint64_t now_ns)
{
	s->now_ns = now_ns;
	og_udx_flush(s->udx, now_ns);
}

uint64_t og_streams_tick(struct og_streams *s, uint64_t now_ns)
{
	s->now_ns = now_ns;
	return og_udx_tick(s->udx, now_ns);
}

uint32_t og_streams_nb_live(const struct og_streams *s)
{
	return (uint32_t)s->nb_live;
}
