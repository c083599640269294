#include "cli/http_access.h"

#include "cli/file.h"
#include "cli/text.h"
#include "crypto/hash.h"

#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_FILE_BYTES = 64 * 1024 };

int og_api_keys_load(struct og_api_keys *keys, const char *file)
{
	char *text = NULL, *save = NULL;
	size_t len = 0;
	int ret = og_file_load(file, KEY_FILE_BYTES, &text, &len);

	memset(keys, 0, sizeof(*keys));
	if (ret < 0)
		return ret;
	for (char *p = strtok_r(text, "\n", &save); p; p = strtok_r(NULL, "\n", &save)) {
		size_t n;

		p += strspn(p, " \t");
		n = strcspn(p, " \t\r");
		if (n == 0 || *p == '#' || keys->nb == OG_API_KEYS_MAX)
			continue;
		og_sha256(keys->digests[keys->nb++], p, n);
	}
	sodium_memzero(text, len);
	free(text);
	return keys->nb > 0 ? 0 : -EINVAL;
}

bool og_api_keys_accept(const struct og_api_keys *keys, const char *authorization)
{
	uint8_t digest[32];
	bool accepted = false;

	if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
		return false;
	authorization += 7;
	authorization += strspn(authorization, " ");
	og_sha256(digest, authorization, strlen(authorization));
	for (uint32_t i = 0; i < keys->nb; i++)
		accepted |= sodium_memcmp(digest, keys->digests[i], sizeof(digest)) == 0;
	return accepted;
}

static bool port_follows(const char *p)
{
	uint64_t port;

	return *p == '\0' || (*p == ':' && og_text_uint(&port, p + 1) == 0 && port <= 65535);
}

static bool host_is(const char *host, const char *name)
{
	size_t n = strlen(name);

	return strncasecmp(host, name, n) == 0 && port_follows(host + n);
}

bool og_host_allowed(const char *host, const char *const *more, uint32_t nb_more)
{
	if (!host) /* HTTP/1.0: no browser */
		return true;
	if (host_is(host, "localhost") || host_is(host, "127.0.0.1") || host_is(host, "[::1]"))
		return true;
	for (uint32_t i = 0; i < nb_more; i++) {
		if (host_is(host, more[i]))
			return true;
	}
	return false;
}

void og_rate_init(struct og_rate *r, uint32_t per_s, uint32_t burst)
{
	memset(r, 0, sizeof(*r));
	r->per_s = per_s;
	r->burst = burst;
}

/* IPv4 whole, IPv6 by its /64, which one client holds. */
static uint64_t owner_of(const struct sockaddr *from)
{
	uint64_t h = 0xcbf29ce484222325ull;
	const uint8_t *p = (const uint8_t *)"?";
	size_t n = 1;

	if (from && from->sa_family == AF_INET) {
		p = (const uint8_t *)&((const struct sockaddr_in *)(const void *)from)->sin_addr;
		n = 4;
	} else if (from && from->sa_family == AF_INET6) {
		p = (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;
		n = 8;
	}
	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3ull;
	return h | 1;
}

bool og_rate_take(struct og_rate *r, const struct sockaddr *from, uint64_t now_ns)
{
	uint64_t owner = owner_of(from);
	uint32_t idx = (uint32_t)((owner >> 32 ^ owner) % OG_RATE_SLOTS);

	if (r->per_s == 0)
		return true;
	if (r->slots[idx].owner != owner) {
		r->slots[idx].owner = owner;
		r->slots[idx].tokens = r->burst;
	} else {
		r->slots[idx].tokens +=
			(double)(now_ns - r->slots[idx].at_ns) / 1e9 * (double)r->per_s;
		if (r->slots[idx].tokens > r->burst)
			r->slots[idx].tokens = r->burst;
	}
	r->slots[idx].at_ns = now_ns;
	if (r->slots[idx].tokens < 1.0)
		return false;
	r->slots[idx].tokens -= 1.0;
	return true;
}
