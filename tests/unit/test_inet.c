#include "dataplane/inet.h"

#include "base/bytes.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct og_inet us = {
	.mac = {{2, 0, 0, 0, 0, 1}},
	.ip = {10, 0, 0, 1},
	.prefix_bits = 24,
	.gateway = {10, 0, 0, 254},
	.nb_endpoints = 2,
	.ports = {7000, 7001},
};

static const struct og_inet them = {
	.mac = {{2, 0, 0, 0, 0, 2}},
	.ip = {10, 0, 0, 2},
	.prefix_bits = 24,
	.nb_endpoints = 1,
	.ports = {9000},
};

enum { IP = 14, UDP = 34, DATA = 42 };

/* A datagram from them to our endpoint 0 with `len` bytes; returns the bytes of the frame. */
static uint32_t datagram(uint8_t *frame, uint16_t len)
{
	struct og_inet_udp udp = {.dst_mac = us.mac,
		.dst = {{10, 0, 0, 1}, 7000},
		.src_port = 9000,
		.len_bytes = len};

	for (uint16_t i = 0; i < len; i++)
		frame[DATA + i] = (uint8_t)(i * 3);
	og_inet_build_udp(&them, frame, &udp);
	return DATA + (uint32_t)len;
}

static struct og_inet_input input(uint8_t *frame, uint32_t len)
{
	struct og_inet_input in;

	og_inet_input(&us, frame, len, 0, &in);
	return in;
}

/* Correct the IP checksum after a test has changed the head. */
static void fix_ip(uint8_t *frame)
{
	og_store_be16(frame + IP + 10, 0);
	og_store_be16(frame + IP + 10,
		(uint16_t)~og_inet_fold(og_inet_sum(0, frame + IP, (frame[IP] & 15u) * 4u)));
}

Test(inet, checksum_of_rfc_1071)
{
	const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	cr_assert_eq(og_inet_fold(og_inet_sum(0, example, sizeof(example))), 0xddf2);
	cr_assert_eq(og_inet_fold(og_inet_sum(0, example, 7)), 0xddf2 - 0xf7);
}

Test(inet, checksum_does_not_depend_on_how_it_is_cut)
{
	uint8_t data[300];

	memset(data, 0xff, sizeof(data));
	for (size_t cut = 0; cut <= 300; cut += 2)
		cr_assert_eq(
			og_inet_fold(og_inet_sum(og_inet_sum(0, data, cut), data + cut, 300 - cut)),
			0xffff);
}

Test(inet, a_datagram_that_we_build_is_one_that_we_read)
{
	for (uint16_t len = 0; len <= 1472; len++) {
		uint8_t frame[1600];
		uint32_t bytes = datagram(frame, len);
		struct og_inet_input in = input(frame, bytes);

		cr_assert_eq(in.verdict, OG_INET_UDP);
		cr_assert_eq(in.data_offset, DATA);
		cr_assert_eq(in.len_bytes, len);
		cr_assert_eq(in.endpoint, 0);
		cr_assert_eq(in.src.port, 9000);
		cr_assert_eq(memcmp(in.src.ip, them.ip, 4), 0);
	}
}

Test(inet, heads_are_as_the_standards_say)
{
	/* 10.0.0.2:9000 to 10.0.0.1:7000, DF, TTL 64, payload 00 03 06. */
	static const uint8_t want[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 31, 0,
		0, 0x40, 0, 64, 17, 0x26, 0xcc, 10, 0, 0, 2, 10, 0, 0, 1, 0x23, 0x28, 0x1b, 0x58, 0,
		11, 0xa7, 0x52, 0, 3, 6};
	uint8_t frame[64];

	cr_assert_eq(datagram(frame, 3), sizeof(want));
	cr_assert_arr_eq(frame, want, sizeof(want));
}

Test(inet, a_checksum_that_is_zero_is_sent_as_ones)
{
	bool seen = false;

	for (uint32_t v = 0; v < 65536 && !seen; v++) {
		uint8_t frame[64];
		struct og_inet_udp udp = {.dst_mac = us.mac,
			.dst = {{10, 0, 0, 1}, 7000},
			.src_port = 9000,
			.len_bytes = 2};

		og_store_be16(frame + DATA, (uint16_t)v);
		og_inet_build_udp(&them, frame, &udp);
		cr_assert_neq(og_load_be16(frame + UDP + 6), 0);
		if (og_load_be16(frame + UDP + 6) == 0xffff) {
			seen = true;
			cr_assert_eq(input(frame, DATA + 2).verdict, OG_INET_UDP);
		}
	}
	cr_assert(seen);
}

Test(inet, only_what_may_be_cut_goes_without_dont_fragment)
{
	struct og_inet_udp udp = {
		.dst_mac = us.mac, .dst = {{10, 0, 0, 1}, 7000}, .src_port = 9000};
	uint8_t frame[64];

	og_inet_build_udp(&them, frame, &udp);
	cr_assert_eq(og_load_be16(frame + IP + 4), 0);
	cr_assert_eq(og_load_be16(frame + IP + 6), 0x4000);
	udp.may_fragment = true;
	udp.fragment_id = 77;
	og_inet_build_udp(&them, frame, &udp);
	cr_assert_eq(og_load_be16(frame + IP + 4), 77);
	cr_assert_eq(og_load_be16(frame + IP + 6), 0);
	cr_assert_eq(input(frame, DATA).verdict, OG_INET_UDP);
}

Test(inet, a_sender_without_checksum_is_accepted)
{
	uint8_t frame[128];
	uint32_t bytes = datagram(frame, 10);

	og_store_be16(frame + UDP + 6, 0);
	cr_assert_eq(input(frame, bytes).verdict, OG_INET_UDP);
}

Test(inet, padding_and_ip_options_are_passed_over)
{
	uint8_t frame[128] = {0}, with_options[128] = {0};
	uint32_t bytes = datagram(frame, 4);
	struct og_inet_input in = input(frame, 60); /* Ethernet's least size */

	cr_assert_eq(in.verdict, OG_INET_UDP);
	cr_assert_eq(in.len_bytes, 4);

	memcpy(with_options, frame, UDP);
	memset(with_options + UDP, 1, 8); /* no-operation */
	memcpy(with_options + UDP + 8, frame + UDP, bytes - UDP);
	with_options[IP] = 4 << 4 | 7;
	og_store_be16(with_options + IP + 2, (uint16_t)(bytes - IP + 8));
	fix_ip(with_options);
	in = input(with_options, bytes + 8);
	cr_assert_eq(in.verdict, OG_INET_UDP);
	cr_assert_eq(in.data_offset, DATA + 8);
}

Test(inet, every_flipped_bit_is_noticed)
{
	uint8_t frame[128];
	uint32_t bytes = datagram(frame, 20);

	for (uint32_t bit = 0; bit < (bytes - IP) * 8; bit++) {
		struct og_inet_input in;

		datagram(frame, 20);
		frame[IP + bit / 8] ^= (uint8_t)(1u << bit % 8);
		in = input(frame, bytes);
		cr_assert_eq(in.verdict, OG_INET_DROP, "bit %u", bit);
	}
}

Test(inet, what_is_wrong_is_dropped_for_its_reason)
{
	static const struct {
		const char *what;
		uint32_t offset;
		uint8_t value;
		bool fix;
		enum og_drop reason;
	} cases[] = {
		{"other station", 5, 9, false, OG_DROP_NOT_OURS},
		{"group source", 6, 3, false, OG_DROP_BAD_FRAME},
		{"IPv6", 12, 0x86, false, OG_DROP_NOT_OURS},
		{"version", IP, 0x65, true, OG_DROP_BAD_FRAME},
		{"short head", IP, 0x44, true, OG_DROP_BAD_FRAME},
		{"head beyond the packet", IP, 0x4f, true, OG_DROP_BAD_FRAME},
		{"total beyond the frame", IP + 3, 255, true, OG_DROP_BAD_FRAME},
		{"total below the head", IP + 3, 10, true, OG_DROP_BAD_FRAME},
		{"more fragments", IP + 6, 0x20, true, OG_DROP_FRAGMENT},
		{"fragment offset", IP + 7, 1, true, OG_DROP_FRAGMENT},
		{"head checksum", IP + 8, 63, false, OG_DROP_BAD_CHECKSUM},
		{"TCP", IP + 9, 6, true, OG_DROP_NOT_OURS},
		{"source is a group", IP + 12, 224, true, OG_DROP_BAD_FRAME},
		{"source is loopback", IP + 12, 127, true, OG_DROP_BAD_FRAME},
		{"source is us", IP + 15, 1, true, OG_DROP_OWN_ADDRESS},
		{"other host", IP + 19, 7, true, OG_DROP_NOT_OURS},
		{"port", UDP + 3, 0x5a, false, OG_DROP_NO_ENDPOINT},
		{"UDP length short", UDP + 5, 7, false, OG_DROP_BAD_FRAME},
		{"UDP length long", UDP + 5, 200, false, OG_DROP_BAD_FRAME},
		{"payload", DATA, 99, false, OG_DROP_BAD_CHECKSUM},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		uint8_t frame[128];
		uint32_t bytes = datagram(frame, 10);
		struct og_inet_input in;

		frame[cases[i].offset] = cases[i].value;
		if (cases[i].fix)
			fix_ip(frame);
		in = input(frame, bytes);
		cr_assert_eq(in.verdict, OG_INET_DROP, "%s", cases[i].what);
		cr_assert_eq(in.reason, cases[i].reason, "%s: %s", cases[i].what,
			og_drop_name(in.reason));
	}
}

Test(inet, what_the_device_has_checked_is_not_checked_again)
{
	uint8_t frame[128];
	uint32_t bytes = datagram(frame, 10);
	struct og_inet_input in;

	frame[IP + 8] = 3;
	frame[DATA] ^= 1;
	og_inet_input(&us, frame, bytes, OG_INET_IP_SUM, &in);
	cr_assert_eq(in.reason, OG_DROP_BAD_CHECKSUM);
	og_inet_input(&us, frame, bytes, OG_INET_IP_SUM | OG_INET_UDP_SUM, &in);
	cr_assert_eq(in.verdict, OG_INET_UDP);
}

Test(inet, a_device_gets_the_sum_of_the_pseudo_head)
{
	uint8_t frame[64] = {0};
	struct og_inet_udp udp = {.dst_mac = us.mac,
		.dst = {{10, 0, 0, 1}, 7000},
		.src_port = 9000,
		.len_bytes = 3,
		.ttl = 5,
		.by_device = OG_INET_IP_SUM | OG_INET_UDP_SUM};

	og_inet_build_udp(&them, frame, &udp);
	cr_assert_eq(og_load_be16(frame + IP + 10), 0);
	cr_assert_eq(frame[IP + 8], 5);
	/* 0a00+0002 + 0a00+0001 + 0011 + 000b */
	cr_assert_eq(og_load_be16(frame + UDP + 6), 0x141f);
	/* virtio makes only that of UDP. */
	udp.by_device = OG_INET_UDP_SUM;
	og_inet_build_udp(&them, frame, &udp);
	cr_assert_eq(og_inet_fold(og_inet_sum(0, frame + IP, 20)), 0xffff);
	cr_assert_eq(og_load_be16(frame + UDP + 6), 0x141f);
}

Test(inet, pings_are_answered)
{
	uint8_t frame[128] = {0}, *icmp = frame + UDP;
	struct og_inet_input in;

	datagram(frame, 8 + 4); /* the head; ICMP takes the place of UDP */
	frame[IP + 9] = 1;
	og_store_be16(frame + IP + 2, 20 + 16);
	fix_ip(frame);
	memset(icmp, 0, 16);
	icmp[0] = 8;
	memcpy(icmp + 4, "\x12\x34\x00\x01payload!", 12);
	og_store_be16(icmp + 2, (uint16_t)~og_inet_fold(og_inet_sum(0, icmp, 16)));

	in = input(frame, UDP + 16);
	cr_assert_eq(in.verdict, OG_INET_REPLY);
	cr_assert_eq(in.len_bytes, UDP + 16);
	cr_assert_arr_eq(frame, them.mac.bytes, 6);
	cr_assert_arr_eq(frame + 6, us.mac.bytes, 6);
	cr_assert_arr_eq(frame + IP + 12, us.ip, 4);
	cr_assert_arr_eq(frame + IP + 16, them.ip, 4);
	cr_assert_eq(og_inet_fold(og_inet_sum(0, frame + IP, 20)), 0xffff);
	cr_assert_eq(icmp[0], 0);
	cr_assert_arr_eq(icmp + 4, "\x12\x34\x00\x01payload!", 12);
	cr_assert_eq(og_inet_fold(og_inet_sum(0, icmp, 16)), 0xffff);
}

Test(inet, arp_requests_for_us_are_answered_and_answers_learned)
{
	uint8_t frame[60] = {0};
	struct og_inet_input in;

	og_inet_build_arp_request(&them, frame, us.ip);
	in = input(frame, sizeof(frame));
	cr_assert_eq(in.verdict, OG_INET_REPLY);
	cr_assert_eq(in.len_bytes, OG_INET_ARP_BYTES);

	og_inet_input(&them, frame, in.len_bytes, 0, &in); /* what they make of our answer */
	cr_assert_eq(in.verdict, OG_INET_LEARN);
	cr_assert_arr_eq(in.neighbour_ip, us.ip, 4);
	cr_assert_arr_eq(in.neighbour_mac.bytes, us.mac.bytes, 6);

	og_inet_build_arp_request(&them, frame, (const uint8_t[]){10, 0, 0, 3});
	cr_assert_eq(input(frame, sizeof(frame)).reason, OG_DROP_NOT_OURS);
	og_inet_build_arp_request(&them, frame, us.ip);
	cr_assert_eq(input(frame, OG_INET_ARP_BYTES - 1).reason, OG_DROP_BAD_FRAME);
	frame[20] = 1; /* operation 0x0101 */
	cr_assert_eq(input(frame, sizeof(frame)).reason, OG_DROP_BAD_FRAME);
}

Test(inet, another_station_with_our_address_is_noticed_and_not_answered)
{
	struct og_inet thief = them;
	uint8_t frame[60] = {0};

	memcpy(thief.ip, us.ip, 4);
	og_inet_build_arp_request(&thief, frame, us.ip); /* it announces itself */
	cr_assert_eq(input(frame, sizeof(frame)).reason, OG_DROP_OWN_ADDRESS);
	og_inet_build_arp_request(&thief, frame, them.ip);
	cr_assert_eq(input(frame, sizeof(frame)).reason, OG_DROP_OWN_ADDRESS);
	og_inet_build_arp_request(&us, frame, us.ip); /* our own, by way of a loop */
	cr_assert_eq(input(frame, sizeof(frame)).reason, OG_DROP_NOT_OURS);
	memset(thief.ip, 0, 4); /* RFC 5227: whoever asks before taking an address is told */
	og_inet_build_arp_request(&thief, frame, us.ip);
	cr_assert_eq(input(frame, sizeof(frame)).verdict, OG_INET_REPLY);
}

Test(inet, the_next_hop_is_the_host_or_the_gateway)
{
	static const struct {
		const char *dst;
		bool way;
		const char *hop;
	} cases[] = {{"10.0.0.2", true, "10.0.0.2"}, {"10.0.1.2", true, "10.0.0.254"},
		{"8.8.8.8", true, "10.0.0.254"}, {"10.0.0.255", false, ""}, {"10.0.0.0", false, ""},
		{"10.0.0.1", false, ""}, {"255.255.255.255", false, ""}, {"127.0.0.1", false, ""},
		{"0.0.0.0", false, ""}};
	struct og_inet alone = us;
	struct og_addr a;
	uint8_t hop[4];

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		struct og_addr want;

		cr_assert_eq(og_addr_parse(&a, cases[i].dst), 0);
		cr_assert_eq(og_inet_next_hop(&us, &a, hop), cases[i].way, "%s", cases[i].dst);
		if (!cases[i].way)
			continue;
		cr_assert_eq(og_addr_parse(&want, cases[i].hop), 0);
		cr_assert_arr_eq(hop, want.ip, 4);
	}
	memset(alone.gateway, 0, 4);
	cr_assert_eq(og_addr_parse(&a, "8.8.8.8"), 0);
	cr_assert_not(og_inet_next_hop(&alone, &a, hop));
	alone.prefix_bits = 0;
	cr_assert(og_inet_next_hop(&alone, &a, hop), "all the world is near");
	alone.prefix_bits = 32;
	cr_assert_not(og_inet_next_hop(&alone, &a, hop));
}
