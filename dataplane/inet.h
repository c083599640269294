/*
 * inet.h: Ethernet, ARP, IPv4, ICMP echo and UDP, as a parser and builder of frames without state.
 *
 * Source:  IEEE 802.3; RFC 826 (ARP), 791 (IPv4), 1122, 1071 (checksum), 792 (ICMP), 768 (UDP),
 *          6864 (identification 0 in what is not fragmented).
 * Units:   bytes; MAC and IP addresses in network order, ports in host order.
 * Threads: values; no state.
 * Memory:  frames are the caller's; replies are written over the request.
 */
#pragma once
#include "base/addr.h"
#include "dataplane/port.h"

enum {
	OG_INET_ETHER_BYTES = 14,
	OG_INET_ARP_BYTES = OG_INET_ETHER_BYTES + 28,
	OG_INET_UDP_HEAD_BYTES = OG_INET_ETHER_BYTES + 20 + 8, /* of what we send: no IP options */
	OG_INET_UDP_OVERHEAD_BYTES = 28,                       /* of the MTU */
};

struct og_inet_mac {
	uint8_t bytes[6];
};

/* Who we are. */
struct og_inet {
	struct og_inet_mac mac;
	uint8_t ip[4];
	uint8_t prefix_bits;
	uint8_t gateway[4]; /* 0.0.0.0: none */
	uint16_t nb_endpoints;
	uint16_t ports[OG_PORT_ENDPOINTS_MAX]; /* by endpoint */
};

enum og_inet_verdict {
	OG_INET_UDP,   /* a datagram for us: data_offset, len_bytes, endpoint, src */
	OG_INET_REPLY, /* the frame is now the answer: send its first len_bytes */
	OG_INET_LEARN, /* an ARP reply to us: neighbour_ip is at neighbour_mac */
	OG_INET_DROP,  /* reason */
};

struct og_inet_input {
	enum og_inet_verdict verdict;
	enum og_drop reason;
	uint16_t data_offset;
	uint16_t len_bytes;
	uint16_t endpoint;
	struct og_addr src;
	uint8_t neighbour_ip[4];
	struct og_inet_mac neighbour_mac;
};

/* Checksums that a device makes, or has checked already. */
enum { OG_INET_IP_SUM = 1, OG_INET_UDP_SUM = 2 };

/* Parse one frame of `len_bytes`; `checked` is a set of OG_INET_*_SUM. */
void og_inet_input(const struct og_inet *self, uint8_t *frame, uint32_t len_bytes, unsigned checked,
	struct og_inet_input *out);

/* Whom to ask for: `dst` itself on the local network, else the gateway. False: no way there. */
bool og_inet_next_hop(const struct og_inet *self, const struct og_addr *dst, uint8_t hop[4]);

/* A datagram to send. */
struct og_inet_udp {
	struct og_inet_mac dst_mac;
	struct og_addr dst;
	uint16_t src_port;
	uint16_t len_bytes; /* of payload */
	uint8_t ttl;
	bool may_fragment;
	uint16_t fragment_id; /* then; unlike those of others under way */
	unsigned by_device;   /* a set of OG_INET_*_SUM: of these only what it needs is filled in */
};

/* Write the OG_INET_UDP_HEAD_BYTES of head at `head`; the payload follows them already. */
void og_inet_build_udp(const struct og_inet *self, uint8_t *head, const struct og_inet_udp *udp);
/* "Who has `ip`?", or, for our own address, an announcement. */
void og_inet_build_arp_request(
	const struct og_inet *self, uint8_t frame[OG_INET_ARP_BYTES], const uint8_t ip[4]);

/* RFC 1071, over `len_bytes` from a start value in host order; not complemented. */
uint32_t og_inet_sum(uint32_t start, const uint8_t *data, size_t len_bytes);
uint16_t og_inet_fold(uint32_t sum);
