#include "dataplane/frame.h"

#include "dataplane/packet.h"

#include <rte_ip.h>
#include <rte_udp.h>

void og_frame_wrap(struct rte_mbuf *m, const struct og_inet *self, const struct og_inet_mac *to,
	unsigned by_device, uint16_t *fragment_id)
{
	const struct og_packet *packet = og_packet(m);
	const struct og_inet_udp udp = {
		.dst_mac = *to,
		.dst = packet->peer,
		.src_port = self->ports[packet->endpoint],
		.len_bytes = rte_pktmbuf_data_len(m),
		.ttl = packet->ttl & OG_TX_TTL_MAX,
		.may_fragment = packet->ttl & OG_TX_MAY_FRAGMENT,
		.fragment_id = *fragment_id,
		.by_device = by_device,
	};
	uint8_t *head = (uint8_t *)rte_pktmbuf_prepend(m, OG_INET_UDP_HEAD_BYTES);

	OG_DASSERT(head);
	*fragment_id = (uint16_t)(*fragment_id + udp.may_fragment);
	og_inet_build_udp(self, head, &udp);
	if (by_device == 0)
		return;
	m->ol_flags |= RTE_MBUF_F_TX_IPV4;
	if (by_device & OG_INET_IP_SUM)
		m->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
	if (by_device & OG_INET_UDP_SUM)
		m->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM;
	m->l2_len = OG_INET_ETHER_BYTES;
	m->l3_len = sizeof(struct rte_ipv4_hdr);
	m->l4_len = sizeof(struct rte_udp_hdr);
}

void og_frame_unwrap(struct rte_mbuf *m)
{
	(void)rte_pktmbuf_adj(m, OG_INET_UDP_HEAD_BYTES);
	m->ol_flags = 0;
}

static unsigned checked_by_device(const struct rte_mbuf *m)
{
	const uint64_t ip = m->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK;
	const uint64_t udp = m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
	unsigned checked = 0;

	/* NONE: from a sender on this very machine, which left it out: the data are good (virtio). */
	if (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD || ip == RTE_MBUF_F_RX_IP_CKSUM_NONE)
		checked |= OG_INET_IP_SUM;
	if (udp == RTE_MBUF_F_RX_L4_CKSUM_GOOD || udp == RTE_MBUF_F_RX_L4_CKSUM_NONE)
		checked |= OG_INET_UDP_SUM;
	return checked;
}

void og_frame_input(struct rte_mbuf *m, const struct og_inet *self, struct og_inet_input *in)
{
	if (m->nb_segs != 1) {
		*in = (struct og_inet_input){
			.verdict = OG_INET_DROP, .reason = OG_DROP_RX_TOO_LONG};
		return;
	}
	og_inet_input(self, rte_pktmbuf_mtod(m, uint8_t *), rte_pktmbuf_data_len(m),
		checked_by_device(m), in);
	if (in->verdict == OG_INET_UDP) {
		m->data_off = (uint16_t)(m->data_off + in->data_offset);
		m->data_len = in->len_bytes;
		m->pkt_len = in->len_bytes;
		*og_packet(m) = (struct og_packet){in->src, in->endpoint, 0};
	} else if (in->verdict == OG_INET_REPLY) {
		m->data_len = in->len_bytes;
		m->pkt_len = in->len_bytes;
		m->ol_flags = 0;
	}
}
