#include "cli/resolve.h"

#include "cli/text.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

const char *const og_public_bootstrap[3] = {
	"88.99.3.86@node1.hyperdht.org:49737",
	"142.93.90.113@node2.hyperdht.org:49737",
	"138.68.147.8@node3.hyperdht.org:49737",
};

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'                 ? c - '0'
	       : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
						    : -1;
}

static bool parse_key(uint8_t key[32], const char *text, size_t len)
{
	if (len != 64)
		return false;
	for (size_t i = 0; i < 32; i++) {
		int hi = hex_digit(text[2 * i]), lo = hex_digit(text[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return false;
		key[i] = (uint8_t)(hi << 4 | lo);
	}
	return true;
}

static bool host_char(char c)
{
	return isalnum((unsigned char)c) || c == '.' || c == '-' || c == '_';
}

static int parse_host_port(struct og_endpoint *e, const char *text)
{
	const char *colon = strrchr(text, ':');
	struct og_addr a;
	uint64_t port;
	size_t len;

	if (!colon || og_text_uint(&port, colon + 1) < 0 || port < 1 || port > 65535)
		return -EINVAL;
	len = (size_t)(colon - text);
	if (len == 0 || len >= sizeof(e->host))
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (!host_char(text[i]))
			return -EINVAL;
	}
	memcpy(e->host, text, len);
	e->host[len] = '\0';
	e->port = (uint16_t)port;
	if (!e->has_ip && og_addr_parse(&a, e->host) == 0 && a.port == 0) {
		e->has_ip = true;
		e->ip = a;
	}
	e->ip.port = e->port;
	return 0;
}

int og_endpoint_parse(struct og_endpoint *out, const char *text)
{
	struct og_endpoint e = {0};
	const char *at = strchr(text, '@');
	size_t before = at ? (size_t)(at - text) : strlen(text);
	char ip[32];

	if (parse_key(e.key, text, before)) {
		e.has_key = true;
	} else if (at) {
		if (before >= sizeof(ip))
			return -EINVAL;
		memcpy(ip, text, before);
		ip[before] = '\0';
		if (og_addr_parse(&e.ip, ip) < 0 || e.ip.port != 0)
			return -EINVAL;
		e.has_ip = true;
	}
	if (at || !e.has_key) {
		int ret = parse_host_port(&e, at ? at + 1 : text);

		if (ret < 0)
			return ret;
	}
	*out = e;
	return 0;
}

static bool has_addr(const struct og_addr *list, uint32_t nb, const struct og_addr *a)
{
	for (uint32_t i = 0; i < nb; i++) {
		if (og_addr_eq(&list[i], a))
			return true;
	}
	return false;
}

int og_endpoint_resolve(const struct og_endpoint *e, struct og_addr *out, uint32_t max)
{
	struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_DGRAM}, *list, *p;
	struct og_addr literal;
	uint32_t nb = 0;

	if (e->has_ip && nb < max)
		out[nb++] = e->ip;
	if (e->host[0] == '\0' || og_addr_parse(&literal, e->host) == 0)
		return (int)nb;
	if (getaddrinfo(e->host, NULL, &hints, &list) != 0)
		return nb > 0 ? (int)nb : -EHOSTUNREACH;
	for (p = list; p && nb < max; p = p->ai_next) {
		struct sockaddr_in in;
		struct og_addr a = {.port = e->port};

		memcpy(&in, p->ai_addr, sizeof(in));
		memcpy(a.ip, &in.sin_addr, 4);
		if (!has_addr(out, nb, &a))
			out[nb++] = a;
	}
	freeaddrinfo(list);
	return (int)nb;
}
