/*
 * Path size discovery, udx.md 10: padded data packets as probes. First in leaps, as far as padding
 * reaches, so that an Ethernet path is known after two round trips; after a leap that failed, in
 * small steps.
 */
#include "transport/udx_priv.h"

enum { STEP = 32, LOSSES_MAX = 3, TIMEOUTS_MAX = 2, PADDING_MAX = 255 };

static void want_more(struct og_udx_path *path)
{
	int reach = path->size + (path->stepping ? STEP : PADDING_MAX);

	path->wanted = (uint16_t)OG_MIN(reach, OG_UDX_PATH_MAX);
	path->losses = 0;
}

void og_udx_path_init(struct og_udx_path *path)
{
	*path = (struct og_udx_path){.size = OG_UDX_PATH_BASE};
	want_more(path);
}

int og_udx_path_padding(const struct og_udx_path *path, uint16_t payload_bytes)
{
	int missing = path->wanted - (payload_bytes + OG_UDX_IP_UDP_BYTES + OG_UDX_HEADER_BYTES);

	if (!path->searching || path->probing || missing < 0 || missing > PADDING_MAX)
		return -1;
	return missing;
}

void og_udx_path_acked(struct og_udx_path *path, bool probe)
{
	if (!path->begun) {
		path->begun = true;
		path->searching = true;
	}
	if (!probe)
		return;
	path->probing = false;
	path->size = path->wanted;
	path->searching = path->size < OG_UDX_PATH_MAX;
	want_more(path);
}

void og_udx_path_probe_lost(struct og_udx_path *path)
{
	path->probing = false;
	if (!path->stepping) {
		path->stepping = true;
		want_more(path);
		return;
	}
	if (++path->losses >= LOSSES_MAX)
		path->searching = false;
}

/*
 * Packets above the base size that do not arrive at all may be too big for a path that has
 * changed. New ones then go at the base size, and the search begins anew when something arrives.
 */
bool og_udx_path_timeout(struct og_udx_path *path, uint16_t payload_bytes)
{
	if (payload_bytes <= OG_UDX_PAYLOAD_BASE || ++path->timeouts < TIMEOUTS_MAX)
		return false;
	og_udx_path_init(path);
	return true;
}
