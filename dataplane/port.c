#include "dataplane/port.h"

#include <assert.h>

const char *og_drop_name(enum og_drop reason)
{
	static const char *const names[] = {
		[OG_DROP_RX_TOO_LONG] = "rx_too_long",
		[OG_DROP_RX_NO_MBUF] = "rx_no_mbuf",
		[OG_DROP_RX_ERROR] = "rx_error",
		[OG_DROP_RX_QUEUE_FULL] = "rx_queue_full",
		[OG_DROP_RX_SHED] = "rx_shed",
		[OG_DROP_TX_TOO_LONG] = "tx_too_long",
		[OG_DROP_TX_ERROR] = "tx_error",
		[OG_DROP_NOT_OURS] = "not_ours",
		[OG_DROP_BAD_FRAME] = "bad_frame",
		[OG_DROP_BAD_CHECKSUM] = "bad_checksum",
		[OG_DROP_FRAGMENT] = "fragment",
		[OG_DROP_NO_ENDPOINT] = "no_endpoint",
		[OG_DROP_NO_ROUTE] = "no_route",
		[OG_DROP_NO_LINK] = "no_link",
		[OG_DROP_OWN_ADDRESS] = "own_address",
		[OG_DROP_UNASKED] = "unasked",
		[OG_DROP_ARP_LIMITED] = "arp_limited",
	};

	static_assert(OG_ARRAY_LEN(names) == OG_DROP_COUNT, "every reason has its label");
	return names[reason];
}
