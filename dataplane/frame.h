/*
 * frame.h: a datagram in an mbuf and the frame that carries it, for ports that make their own.
 *
 * Units:   bytes.
 * Threads: values; no state.
 */
#pragma once
#include "dataplane/inet.h"

struct rte_mbuf;

/*
 * Put the head before a datagram (og_packet() says where to); `by_device`: a set of OG_INET_*_SUM. Those
 * that may be cut are numbered by `*fragment_id`, which goes on.
 */
void og_frame_wrap(struct rte_mbuf *m, const struct og_inet *self, const struct og_inet_mac *to,
	unsigned by_device, uint16_t *fragment_id);
/* The datagram again, of a frame that was not sent. */
void og_frame_unwrap(struct rte_mbuf *m);

/*
 * Parse a received frame into `in`. If the verdict is OG_INET_UDP, `m` is the datagram now; if it is
 * OG_INET_REPLY, the frame to send.
 */
void og_frame_input(struct rte_mbuf *m, const struct og_inet *self, struct og_inet_input *in);
