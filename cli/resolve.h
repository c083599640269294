/*
 * resolve.h: places in the network as an operator writes them, and the IPv4 addresses behind them.
 *
 * Source:  dht.md 5.8 (`host:port` and `IP@name:port`).
 * Threads: parsing is pure; resolving blocks on DNS and belongs on a control thread.
 * Memory:  none kept.
 */
#pragma once
#include "base/addr.h"

enum { OG_HOST_BYTES = 200 };

/* host:port, IP@name:port, KEY@host:port, or KEY alone (KEY: 64 hex digits). */
struct og_endpoint {
	bool has_key, has_ip;
	uint8_t key[32];
	struct og_addr ip;        /* of IP@, or the host when it is an address; port set */
	char host[OG_HOST_BYTES]; /* "" for KEY alone */
	uint16_t port;
};

int og_endpoint_parse(struct og_endpoint *out, const char *text) OG_MUST_CHECK;

/*
 * IPv4 addresses of the endpoint into `out`: the IP first, then those of the name when there is
 * one besides. Returns how many (0: the name has none), or -EHOSTUNREACH when DNS failed.
 */
int og_endpoint_resolve(const struct og_endpoint *e, struct og_addr *out, uint32_t max);

/* The public network's entries: dht.md 5.8. */
extern const char *const og_public_bootstrap[3];
