/*
 * fuzz_inet.c: frames from a hostile wire. The first byte says which checksums the device has
 * checked already, so that inputs get past them.
 */
#include "dataplane/inet.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static const struct og_inet us = {
	.mac = {{2, 0, 0, 0, 0, 1}},
	.ip = {10, 0, 0, 1},
	.prefix_bits = 24,
	.gateway = {10, 0, 0, 254},
	.nb_endpoints = 2,
	.ports = {7000, 7001},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct og_inet_input in;
	uint32_t frame_bytes;
	uint8_t *frame;

	if (len_bytes < 1 || len_bytes > 65536)
		return 0;
	frame_bytes = (uint32_t)len_bytes - 1;
	frame = malloc(frame_bytes > 0 ? frame_bytes : 1); /* exact size: an over-read is seen */
	memcpy(frame, data + 1, frame_bytes);
	og_inet_input(&us, frame, frame_bytes, data[0] & 3, &in);
	switch (in.verdict) {
	case OG_INET_UDP:
		OG_ASSERT((uint32_t)in.data_offset + in.len_bytes <= frame_bytes);
		OG_ASSERT(in.endpoint < us.nb_endpoints && in.len_bytes <= OG_PACKET_BYTES);
		break;
	case OG_INET_REPLY:
		OG_ASSERT(in.len_bytes <= frame_bytes);
		OG_ASSERT(memcmp(frame + 6, us.mac.bytes, 6) == 0);
		break;
	case OG_INET_LEARN:
		OG_ASSERT(!(in.neighbour_mac.bytes[0] & 1));
		break;
	case OG_INET_DROP:
		OG_ASSERT(in.reason < OG_DROP_COUNT);
	}
	free(frame);
	return 0;
}
