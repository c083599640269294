/*
 * addr.h: an IPv4 UDP address as the DHT carries it.
 *
 * Units:   ip is in network order as on the wire; port is in host order.
 * Threads: values; no state.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>

struct og_addr {
	uint8_t ip[4];
	uint16_t port;
};

enum { OG_ADDR_TEXT_BYTES = 22 }; /* "255.255.255.255:65535" and its NUL */

/* "1.2.3.4:567" into `out`; returns `out`. */
const char *og_addr_format(const struct og_addr *a, char out[OG_ADDR_TEXT_BYTES]);
/* Only the host, dotted decimal, as inet_ntop gives it; returns its length. */
size_t og_addr_format_host(const struct og_addr *a, char out[OG_ADDR_TEXT_BYTES]);
/* Parse "1.2.3.4:567" or "1.2.3.4" (port 0). Returns 0 or -EINVAL. */
int og_addr_parse(struct og_addr *out, const char *text) OG_MUST_CHECK;

static inline uint32_t og_addr_u32(const struct og_addr *a)
{
	return (uint32_t)a->ip[0] << 24 | (uint32_t)a->ip[1] << 16 | (uint32_t)a->ip[2] << 8 |
	       a->ip[3];
}

static inline uint64_t og_addr_key(const struct og_addr *a)
{
	return (uint64_t)og_addr_u32(a) << 16 | a->port;
}

static inline struct og_addr og_addr_from_key(uint64_t key)
{
	struct og_addr a = {
		{(uint8_t)(key >> 40), (uint8_t)(key >> 32), (uint8_t)(key >> 24),
			(uint8_t)(key >> 16)},
		(uint16_t)key,
	};

	return a;
}

static inline bool og_addr_eq(const struct og_addr *a, const struct og_addr *b)
{
	return og_addr_key(a) == og_addr_key(b);
}

static inline bool og_addr_same_host(const struct og_addr *a, const struct og_addr *b)
{
	return og_addr_u32(a) == og_addr_u32(b);
}

/* dht.md 9.6: 10/8, 100.64/10, 127/8, 169.254/16, 172.16/12, 192.168/16. */
bool og_addr_is_private(const struct og_addr *a);
/* dht.md 9.6: 0/8, 192.0.0/24, 192.0.2/24, 198.18/15, 198.51.100/24, 203.0.113/24, 224/4, 240/4. */
bool og_addr_is_reserved(const struct og_addr *a);
