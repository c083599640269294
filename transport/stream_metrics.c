/* The counters of all polling cores, for /metrics. */
#include "base/metrics.h"
#include "transport/stream_priv.h"

#include <stdio.h>
#include <stdlib.h>

struct counter {
	const char *name;
	const char *help;
	const char *reason; /* a label, or NULL */
	enum og_metric_type type;
	bool of_udx;
	size_t offset; /* in struct og_udx_counters or struct og_streams */
};

#define UDX(metric, field, text)                                                                   \
	{                                                                                          \
		"og_udx_" metric, text, NULL, OG_METRIC_COUNTER, true,                             \
			offsetof(struct og_udx_counters, field)                                    \
	}
#define STREAM(metric, field, text)                                                                \
	{                                                                                          \
		"og_stream_" metric, text, NULL, OG_METRIC_COUNTER, false,                         \
			offsetof(struct og_streams, field)                                         \
	}
#define STREAM_GAUGE(metric, field, text)                                                          \
	{                                                                                          \
		"og_stream_" metric, text, NULL, OG_METRIC_GAUGE, false,                           \
			offsetof(struct og_streams, field)                                         \
	}
#define UDX_DROP(why, word)                                                                        \
	{                                                                                          \
		"og_udx_drops_total", "UDX packets or parts of them not used, by reason.", word,   \
			OG_METRIC_COUNTER, true,                                                   \
			offsetof(struct og_udx_counters, drops) + (why) * sizeof(uint64_t)         \
	}
#define STREAM_DROP(why, word)                                                                     \
	{                                                                                          \
		"og_stream_drops_total", "Frames and messages refused, by reason.", word,          \
			OG_METRIC_COUNTER, false,                                                  \
			offsetof(struct og_streams, count.drops) + (why) * sizeof(uint64_t)        \
	}

static const struct counter counters[] = {
	UDX("rx_packets_total", rx_packets, "UDX packets received for live streams."),
	UDX("rx_bytes_total", rx_bytes, "Stream bytes received in order."),
	UDX("tx_packets_total", tx_packets, "UDX packets sent."),
	UDX("tx_bytes_total", tx_bytes, "Stream bytes sent for the first time."),
	UDX("tx_acks_total", tx_acks, "Plain and selective acknowledgements sent."),
	UDX("retransmits_total", retransmits, "Packets sent again."),
	UDX("losses_total", losses, "Packets taken for lost."),
	UDX("timeouts_total", timeouts, "Full retransmission time-outs."),
	UDX("tail_probes_total", tail_probes, "Tail-loss probes sent."),
	UDX("tx_full_total", tx_full, "Sends put off because the transmit queue was full."),
	UDX("opened_total", opened, "Streams reserved."),
	UDX("closed_total", closed, "Streams closed."),
	UDX_DROP(OG_UDX_DROP_TOO_LONG, "too_long"),
	UDX_DROP(OG_UDX_DROP_PORT_ZERO, "port_zero"),
	UDX_DROP(OG_UDX_DROP_BAD_OFFSET, "bad_offset"),
	UDX_DROP(OG_UDX_DROP_BEYOND_WINDOW, "beyond_window"),
	UDX_DROP(OG_UDX_DROP_STALE, "stale"),
	UDX_DROP(OG_UDX_DROP_DUPLICATE, "duplicate"),
	UDX_DROP(OG_UDX_DROP_AFTER_END, "after_end"),
	UDX_DROP(OG_UDX_DROP_BAD_ACK, "bad_ack"),
	UDX_DROP(OG_UDX_DROP_BAD_BLOCK, "bad_block"),
	UDX_DROP(OG_UDX_DROP_BAD_DESTROY, "bad_destroy"),
	UDX_DROP(OG_UDX_DROP_NO_BUFFER, "no_buffer"),
	UDX_DROP(OG_UDX_DROP_EARLY, "early"),
	STREAM("frames_read_total", count.frames_read, "Frames opened."),
	STREAM("frames_in_place_total", count.frames_in_place, "Frames opened within one packet."),
	STREAM("frames_written_total", count.frames_written, "Frames sealed."),
	STREAM("plain_read_bytes_total", count.plain_read_bytes, "Plaintext bytes delivered."),
	STREAM("plain_written_bytes_total", count.plain_written_bytes, "Plaintext bytes accepted."),
	STREAM("opened_total", count.opened, "Streams whose peer proved itself."),
	STREAM_GAUGE("live_streams", nb_live, "Streams that exist now."),
	STREAM_GAUGE("frame_memory_bytes", frames.used, "Memory of frames over packets."),
	STREAM_DROP(OG_STREAM_DROP_BAD_HEADER, "bad_header"),
	STREAM_DROP(OG_STREAM_DROP_BAD_LENGTH, "bad_length"),
	STREAM_DROP(OG_STREAM_DROP_TOO_LONG, "too_long"),
	STREAM_DROP(OG_STREAM_DROP_BAD_FRAME, "bad_frame"),
	STREAM_DROP(OG_STREAM_DROP_NO_MEMORY, "no_memory"),
	STREAM_DROP(OG_STREAM_DROP_CUT_FRAME, "cut_frame"),
	STREAM_DROP(OG_STREAM_DROP_EARLY_MESSAGE, "early_message"),
	STREAM_DROP(OG_STREAM_DROP_BAD_MESSAGE, "bad_message"),
};

static void register_one(struct og_streams *s, uint32_t core, size_t idx)
{
	const struct counter *c = &counters[idx];
	const void *group = c->of_udx ? (const void *)og_udx_counters(s->udx) : s;
	char *label = s->labels[idx];
	struct og_metric m = {
		.name = c->name,
		.labels = label,
		.help = c->help,
		.type = c->type,
		.value = (const uint8_t *)group + c->offset,
	};

	if (c->reason)
		snprintf(label, sizeof(s->labels[idx]), "core=\"%u\",reason=\"%s\"", core,
			c->reason);
	else
		snprintf(label, sizeof(s->labels[idx]), "core=\"%u\"", core);
	og_metrics_register(&m);
}

void og_streams_metrics_register(struct og_streams *const *cores, uint32_t nb_cores)
{
	for (uint32_t core = 0; core < nb_cores; core++) {
		cores[core]->labels = calloc(OG_ARRAY_LEN(counters), sizeof(*cores[core]->labels));
		OG_ASSERT(cores[core]->labels);
	}
	for (size_t idx = 0; idx < OG_ARRAY_LEN(counters); idx++) {
		for (uint32_t core = 0; core < nb_cores; core++)
			register_one(cores[core], core, idx);
	}
}
