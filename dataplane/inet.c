#include "dataplane/inet.h"

#include "base/bytes.h"

#include <string.h>

enum { TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806 };
enum { ARP_REQUEST = 1, ARP_REPLY = 2 };
enum { PROTO_ICMP = 1, PROTO_UDP = 17 };
enum { ICMP_ECHO_REPLY = 0, ICMP_ECHO_REQUEST = 8, ICMP_HEAD_BYTES = 8 };
enum { IP_HEAD_BYTES = 20, UDP_HEAD_BYTES = 8, IP_DF = 0x4000, IP_FRAGMENT_BITS = 0x3fff };

static const struct og_inet_mac broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

/* Offsets in a frame. */
enum { ETHER_DST = 0, ETHER_SRC = 6, ETHER_TYPE = 12, L3 = OG_INET_ETHER_BYTES };
/* Offsets in an ARP packet for IPv4 over Ethernet. */
enum { ARP_HEAD = 0, ARP_OP = 6, ARP_SHA = 8, ARP_SPA = 14, ARP_THA = 18, ARP_TPA = 24 };
/* Offsets in an IPv4 head. */
enum {
	IP_LEN = 2,
	IP_ID = 4,
	IP_FRAG = 6,
	IP_TTL_AT = 8,
	IP_PROTO = 9,
	IP_SUM = 10,
	IP_SRC = 12,
	IP_DST = 16
};

static const uint8_t arp_head[ARP_OP] = {0, 1, 8, 0, 6, 4}; /* Ethernet, IPv4, their lengths */

uint32_t og_inet_sum(uint32_t start, const uint8_t *data, size_t len_bytes)
{
	uint64_t sum = start, words = 0;

	for (; len_bytes >= 32; data += 32, len_bytes -= 32)
		words += ((uint64_t)og_load_le32(data) + og_load_le32(data + 4)) +
			 ((uint64_t)og_load_le32(data + 8) + og_load_le32(data + 12)) +
			 ((uint64_t)og_load_le32(data + 16) + og_load_le32(data + 20)) +
			 ((uint64_t)og_load_le32(data + 24) + og_load_le32(data + 28));
	for (; len_bytes >= 4; data += 4, len_bytes -= 4)
		words += og_load_le32(data);
	/* RFC 1071, 2: in any order of bytes, in words of any width, and swapped once at the end. */
	while (words > UINT16_MAX)
		words = (words & UINT16_MAX) + (words >> 16);
	sum += __builtin_bswap16((uint16_t)words);
	if (len_bytes >= 2) {
		sum += og_load_be16(data);
		data += 2;
		len_bytes -= 2;
	}
	if (len_bytes == 1)
		sum += (uint32_t)data[0] << 8;
	while (sum > UINT32_MAX)
		sum = (sum & UINT32_MAX) + (sum >> 32);
	return (uint32_t)sum;
}

uint16_t og_inet_fold(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* RFC 768: source, destination, protocol and length, as part of the checksum. */
static uint32_t pseudo_sum(const uint8_t *ip, uint16_t udp_bytes)
{
	return og_inet_sum((uint32_t)PROTO_UDP + udp_bytes, ip + IP_SRC, 8);
}

static void drop(struct og_inet_input *out, enum og_drop reason)
{
	out->verdict = OG_INET_DROP;
	out->reason = reason;
}

static void write_ether(
	uint8_t *frame, const struct og_inet_mac *dst, const struct og_inet_mac *src, uint16_t type)
{
	memcpy(frame + ETHER_DST, dst->bytes, sizeof(dst->bytes));
	memcpy(frame + ETHER_SRC, src->bytes, sizeof(src->bytes));
	og_store_be16(frame + ETHER_TYPE, type);
}

static void write_arp(const struct og_inet *self, uint8_t *frame, uint16_t op,
	const struct og_inet_mac *dst, const struct og_inet_mac *tha, const uint8_t tpa[4])
{
	uint8_t *arp = frame + L3;

	write_ether(frame, dst, &self->mac, TYPE_ARP);
	memcpy(arp + ARP_HEAD, arp_head, sizeof(arp_head));
	og_store_be16(arp + ARP_OP, op);
	memcpy(arp + ARP_SHA, self->mac.bytes, 6);
	memcpy(arp + ARP_SPA, self->ip, 4);
	memcpy(arp + ARP_THA, tha->bytes, 6);
	memcpy(arp + ARP_TPA, tpa, 4);
}

void og_inet_build_arp_request(
	const struct og_inet *self, uint8_t frame[OG_INET_ARP_BYTES], const uint8_t ip[4])
{
	static const struct og_inet_mac unknown;

	write_arp(self, frame, ARP_REQUEST, &broadcast, &unknown, ip);
}

static bool is_us(const struct og_inet *self, const uint8_t ip[4])
{
	return memcmp(ip, self->ip, 4) == 0;
}

/* A unicast address of a single host that is not us. */
static bool is_foreign_host(const struct og_inet *self, const uint8_t ip[4])
{
	return ip[0] != 0 && ip[0] != 127 && ip[0] < 224 && !is_us(self, ip);
}

static bool is_station(const uint8_t mac[6])
{
	static const uint8_t zero[6];

	return !(mac[0] & 1) && memcmp(mac, zero, 6) != 0;
}

static void input_arp(
	const struct og_inet *self, uint8_t *frame, uint32_t len_bytes, struct og_inet_input *out)
{
	uint8_t *arp = frame + L3;
	struct og_inet_mac asker;
	uint8_t asker_ip[4];

	if (len_bytes < OG_INET_ARP_BYTES || memcmp(arp, arp_head, sizeof(arp_head)) != 0 ||
		!is_station(arp + ARP_SHA)) {
		drop(out, OG_DROP_BAD_FRAME);
		return;
	}
	/* Somebody else has our address; its neighbours learn of the conflict from it, not from us. */
	if (is_us(self, arp + ARP_SPA)) {
		drop(out, memcmp(arp + ARP_SHA, self->mac.bytes, 6) == 0 ? OG_DROP_NOT_OURS
									 : OG_DROP_OWN_ADDRESS);
		return;
	}
	if (!is_us(self, arp + ARP_TPA)) {
		drop(out, OG_DROP_NOT_OURS);
		return;
	}
	memcpy(asker.bytes, arp + ARP_SHA, 6);
	memcpy(asker_ip, arp + ARP_SPA, 4);
	switch (og_load_be16(arp + ARP_OP)) {
	case ARP_REQUEST: /* also the probe of RFC 5227, whose sender is 0.0.0.0 */
		write_arp(self, frame, ARP_REPLY, &asker, &asker, asker_ip);
		out->verdict = OG_INET_REPLY;
		out->len_bytes = OG_INET_ARP_BYTES;
		break;
	case ARP_REPLY:
		if (!is_foreign_host(self, asker_ip)) {
			drop(out, OG_DROP_BAD_FRAME);
			return;
		}
		out->verdict = OG_INET_LEARN;
		memcpy(out->neighbour_ip, asker_ip, 4);
		out->neighbour_mac = asker;
		break;
	default:
		drop(out, OG_DROP_BAD_FRAME);
	}
}

/* An IPv4 packet whose head has been checked. */
struct ip_view {
	uint8_t *head;
	uint8_t *body;
	uint16_t head_bytes;
	uint16_t body_bytes;
};

static bool read_ip(const struct og_inet *self, uint8_t *ip, uint32_t len_bytes, unsigned checked,
	struct ip_view *view, struct og_inet_input *out)
{
	uint32_t head_bytes, total_bytes;

	if (len_bytes < IP_HEAD_BYTES || ip[0] >> 4 != 4) {
		drop(out, OG_DROP_BAD_FRAME);
		return false;
	}
	if (!is_us(self, ip + IP_DST)) {
		drop(out, OG_DROP_NOT_OURS);
		return false;
	}
	if (is_us(self, ip + IP_SRC)) {
		drop(out, OG_DROP_OWN_ADDRESS);
		return false;
	}
	head_bytes = (ip[0] & 15u) * 4;
	total_bytes = og_load_be16(ip + IP_LEN);
	if (head_bytes < IP_HEAD_BYTES || total_bytes < head_bytes || total_bytes > len_bytes ||
		!is_foreign_host(self, ip + IP_SRC)) {
		drop(out, OG_DROP_BAD_FRAME);
		return false;
	}
	if (!(checked & OG_INET_IP_SUM) && og_inet_fold(og_inet_sum(0, ip, head_bytes)) != 0xffff) {
		drop(out, OG_DROP_BAD_CHECKSUM);
		return false;
	}
	if (og_load_be16(ip + IP_FRAG) & IP_FRAGMENT_BITS) {
		drop(out, OG_DROP_FRAGMENT);
		return false;
	}
	*view = (struct ip_view){
		.head = ip,
		.body = ip + head_bytes,
		.head_bytes = (uint16_t)head_bytes,
		.body_bytes = (uint16_t)(total_bytes - head_bytes),
	};
	return true;
}

static void write_ip_sum(uint8_t *ip, uint16_t head_bytes)
{
	og_store_be16(ip + IP_SUM, 0);
	og_store_be16(ip + IP_SUM, (uint16_t)~og_inet_fold(og_inet_sum(0, ip, head_bytes)));
}

/* Turn an echo request into its reply, where it lies. */
static void input_icmp(const struct og_inet *self, uint8_t *frame, const struct ip_view *ip,
	struct og_inet_input *out)
{
	uint8_t *icmp = ip->body;
	struct og_inet_mac asker;

	if (ip->body_bytes < ICMP_HEAD_BYTES) {
		drop(out, OG_DROP_BAD_FRAME);
		return;
	}
	if (og_inet_fold(og_inet_sum(0, icmp, ip->body_bytes)) != 0xffff) {
		drop(out, OG_DROP_BAD_CHECKSUM);
		return;
	}
	if (icmp[0] != ICMP_ECHO_REQUEST || icmp[1] != 0) {
		drop(out, OG_DROP_NOT_OURS);
		return;
	}
	memcpy(asker.bytes, frame + ETHER_SRC, 6);
	write_ether(frame, &asker, &self->mac, TYPE_IPV4);
	memcpy(ip->head + IP_DST, ip->head + IP_SRC, 4);
	memcpy(ip->head + IP_SRC, self->ip, 4);
	ip->head[IP_TTL_AT] = OG_PORT_TTL_DEFAULT;
	write_ip_sum(ip->head, ip->head_bytes);
	icmp[0] = ICMP_ECHO_REPLY;
	og_store_be16(icmp + 2, 0);
	og_store_be16(icmp + 2, (uint16_t)~og_inet_fold(og_inet_sum(0, icmp, ip->body_bytes)));
	out->verdict = OG_INET_REPLY;
	out->len_bytes = (uint16_t)(L3 + ip->head_bytes + ip->body_bytes);
}

static int endpoint_of(const struct og_inet *self, uint16_t port)
{
	for (uint16_t i = 0; i < self->nb_endpoints; i++)
		if (self->ports[i] == port)
			return i;
	return -1;
}

static void input_udp(const struct og_inet *self, const struct ip_view *ip, unsigned checked,
	struct og_inet_input *out)
{
	const uint8_t *udp = ip->body;
	uint16_t udp_bytes;
	int endpoint;

	if (ip->body_bytes < UDP_HEAD_BYTES) {
		drop(out, OG_DROP_BAD_FRAME);
		return;
	}
	udp_bytes = og_load_be16(udp + 4);
	if (udp_bytes < UDP_HEAD_BYTES || udp_bytes > ip->body_bytes) {
		drop(out, OG_DROP_BAD_FRAME);
		return;
	}
	endpoint = endpoint_of(self, og_load_be16(udp + 2));
	if (endpoint < 0) {
		drop(out, OG_DROP_NO_ENDPOINT);
		return;
	}
	/* A checksum of zero means that the sender made none. */
	if (!(checked & OG_INET_UDP_SUM) && og_load_be16(udp + 6) != 0 &&
		og_inet_fold(og_inet_sum(pseudo_sum(ip->head, udp_bytes), udp, udp_bytes)) !=
			0xffff) {
		drop(out, OG_DROP_BAD_CHECKSUM);
		return;
	}
	if (udp_bytes - UDP_HEAD_BYTES > OG_PACKET_BYTES) {
		drop(out, OG_DROP_RX_TOO_LONG);
		return;
	}
	out->verdict = OG_INET_UDP;
	out->data_offset = (uint16_t)(L3 + ip->head_bytes + UDP_HEAD_BYTES);
	out->len_bytes = (uint16_t)(udp_bytes - UDP_HEAD_BYTES);
	out->endpoint = (uint16_t)endpoint;
	memcpy(out->src.ip, ip->head + IP_SRC, 4);
	out->src.port = og_load_be16(udp);
}

static void input_ip(const struct og_inet *self, uint8_t *frame, uint32_t len_bytes,
	unsigned checked, struct og_inet_input *out)
{
	struct ip_view ip;

	if (!read_ip(self, frame + L3, len_bytes - L3, checked, &ip, out))
		return;
	if (ip.head[IP_PROTO] == PROTO_UDP)
		input_udp(self, &ip, checked, out);
	else if (ip.head[IP_PROTO] == PROTO_ICMP)
		input_icmp(self, frame, &ip, out);
	else
		drop(out, OG_DROP_NOT_OURS);
}

void og_inet_input(const struct og_inet *self, uint8_t *frame, uint32_t len_bytes, unsigned checked,
	struct og_inet_input *out)
{
	bool to_us, to_all;
	uint16_t type;

	*out = (struct og_inet_input){.verdict = OG_INET_DROP, .reason = OG_DROP_BAD_FRAME};
	if (len_bytes < OG_INET_ETHER_BYTES || !is_station(frame + ETHER_SRC))
		return;
	type = og_load_be16(frame + ETHER_TYPE);
	to_us = memcmp(frame + ETHER_DST, self->mac.bytes, 6) == 0;
	to_all = memcmp(frame + ETHER_DST, broadcast.bytes, 6) == 0;
	if (type == TYPE_IPV4 && to_us)
		input_ip(self, frame, len_bytes, checked, out);
	else if (type == TYPE_ARP && (to_us || to_all))
		input_arp(self, frame, len_bytes, out);
	else
		drop(out, OG_DROP_NOT_OURS);
}

bool og_inet_next_hop(const struct og_inet *self, const struct og_addr *dst, uint8_t hop[4])
{
	static const uint8_t none[4];
	struct og_addr us = {.port = 0};
	uint32_t mask = self->prefix_bits == 0 ? 0 : UINT32_MAX << (32 - self->prefix_bits);

	memcpy(us.ip, self->ip, 4);
	if (!is_foreign_host(self, dst->ip))
		return false;
	if (((og_addr_u32(&us) ^ og_addr_u32(dst)) & mask) == 0) {
		uint32_t host = og_addr_u32(dst) & ~mask;

		/* Not the network itself, nor its broadcast address (RFC 3021: /31 has neither). */
		if (self->prefix_bits < 31 && (host == 0 || host == ~mask))
			return false;
		memcpy(hop, dst->ip, 4);
		return true;
	}
	memcpy(hop, self->gateway, 4);
	return memcmp(self->gateway, none, 4) != 0;
}

void og_inet_build_udp(const struct og_inet *self, uint8_t *head, const struct og_inet_udp *u)
{
	uint8_t *ip = head + L3, *udp = ip + IP_HEAD_BYTES;
	uint16_t udp_bytes = (uint16_t)(UDP_HEAD_BYTES + u->len_bytes), sum;

	write_ether(head, &u->dst_mac, &self->mac, TYPE_IPV4);
	memset(ip, 0, IP_HEAD_BYTES);
	ip[0] = 4 << 4 | IP_HEAD_BYTES / 4;
	og_store_be16(ip + IP_LEN, (uint16_t)(IP_HEAD_BYTES + udp_bytes));
	if (u->may_fragment)
		og_store_be16(ip + IP_ID, u->fragment_id);
	else
		og_store_be16(ip + IP_FRAG, IP_DF);
	ip[IP_TTL_AT] = u->ttl != 0 ? u->ttl : OG_PORT_TTL_DEFAULT;
	ip[IP_PROTO] = PROTO_UDP;
	memcpy(ip + IP_SRC, self->ip, 4);
	memcpy(ip + IP_DST, u->dst.ip, 4);
	og_store_be16(udp, u->src_port);
	og_store_be16(udp + 2, u->dst.port);
	og_store_be16(udp + 4, udp_bytes);
	if (!(u->by_device & OG_INET_IP_SUM))
		write_ip_sum(ip, IP_HEAD_BYTES);
	if (u->by_device & OG_INET_UDP_SUM) {
		og_store_be16(udp + 6, og_inet_fold(pseudo_sum(ip, udp_bytes)));
		return;
	}
	og_store_be16(udp + 6, 0);
	sum = (uint16_t)~og_inet_fold(og_inet_sum(pseudo_sum(ip, udp_bytes), udp, udp_bytes));
	og_store_be16(udp + 6, sum != 0 ? sum : 0xffff); /* zero would mean none */
}
