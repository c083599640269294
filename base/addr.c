#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every token is of a host's text: by hand, for printf would cost more than the token itself. */
size_t og_addr_format_host(const struct og_addr *a, char out[OG_ADDR_TEXT_BYTES])
{
	char *p = out;

	for (size_t i = 0; i < sizeof(a->ip); i++) {
		unsigned byte = a->ip[i];

		if (byte >= 100)
			*p++ = (char)('0' + byte / 100);
		if (byte >= 10)
			*p++ = (char)('0' + byte / 10 % 10);
		*p++ = (char)('0' + byte % 10);
		*p++ = '.';
	}
	*--p = '\0'; /* for the last dot */
	return (size_t)(p - out);
}

const char *og_addr_format(const struct og_addr *a, char out[OG_ADDR_TEXT_BYTES])
{
	snprintf(out, OG_ADDR_TEXT_BYTES, "%u.%u.%u.%u:%u", a->ip[0], a->ip[1], a->ip[2], a->ip[3],
		a->port);
	return out;
}

int og_addr_parse(struct og_addr *out, const char *text)
{
	struct og_addr a = {{0}, 0};
	char host[16];
	const char *colon = strchr(text, ':');
	size_t host_len = colon ? (size_t)(colon - text) : strlen(text);

	if (host_len == 0 || host_len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, host_len);
	host[host_len] = '\0';
	if (inet_pton(AF_INET, host, a.ip) != 1)
		return -EINVAL;
	if (colon) {
		char *end;
		unsigned long port;

		if (colon[1] < '0' || colon[1] > '9')
			return -EINVAL;
		port = strtoul(colon + 1, &end, 10);
		if (*end != '\0' || port > 65535)
			return -EINVAL;
		a.port = (uint16_t)port;
	}
	*out = a;
	return 0;
}

static bool in_net(uint32_t ip, uint32_t net, unsigned bits)
{
	return (ip ^ net) >> (32 - bits) == 0;
}

struct net {
	uint32_t net;
	unsigned bits;
};

static bool in_any(uint32_t ip, const struct net *nets, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (in_net(ip, nets[i].net, nets[i].bits))
			return true;
	return false;
}

bool og_addr_is_private(const struct og_addr *a)
{
	static const struct net nets[] = {
		{0x0a000000, 8},
		{0x64400000, 10},
		{0x7f000000, 8},
		{0xa9fe0000, 16},
		{0xac100000, 12},
		{0xc0a80000, 16},
	};

	return in_any(og_addr_u32(a), nets, OG_ARRAY_LEN(nets));
}

bool og_addr_is_reserved(const struct og_addr *a)
{
	static const struct net nets[] = {
		{0x00000000, 8},
		{0xc0000000, 24},
		{0xc0000200, 24},
		{0xc6120000, 15},
		{0xc6336400, 24},
		{0xcb007100, 24},
		{0xe0000000, 4},
		{0xf0000000, 4},
	};

	return in_any(og_addr_u32(a), nets, OG_ARRAY_LEN(nets));
}
