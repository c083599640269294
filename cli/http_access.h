/*
 * http_access.h: who may ask: bearer keys, Host names, and how many prompts a second.
 *
 * Source:  RFC 6750 (bearer tokens); token bucket.
 * Units:   ns; prompts.
 * Threads: og_host_allowed() is pure; keys are read-only after load; a limiter belongs to a lock of
 *          its caller.
 * Memory:  fixed.
 */
#pragma once
#include "base/def.h"

#include <stdbool.h>
#include <sys/socket.h>

enum { OG_API_KEYS_MAX = 64, OG_RATE_SLOTS = 4096 };

struct og_api_keys {
	uint32_t nb;
	uint8_t digests[OG_API_KEYS_MAX][32]; /* so that lengths do not show */
};

/* One key a line; blank lines and lines with # are skipped. 0, -errno, or -EINVAL: no key in it. */
int og_api_keys_load(struct og_api_keys *keys, const char *file) OG_MUST_CHECK;
/* `authorization` is the header, or NULL. Takes the same time for any key. */
bool og_api_keys_accept(const struct og_api_keys *keys, const char *authorization);

/*
 * A page of another site that rebinds its name to 127.0.0.1 sends that name as Host. `host` is the
 * header or NULL; allowed are loopback names and addresses, and those of the list, with any port.
 */
bool og_host_allowed(const char *host, const char *const *more, uint32_t nb_more);

struct og_rate {
	uint32_t per_s, burst;
	struct {
		uint64_t owner; /* hash of the address */
		uint64_t at_ns;
		double tokens;
	} slots[OG_RATE_SLOTS];
};

void og_rate_init(struct og_rate *r, uint32_t per_s, uint32_t burst);
/* One prompt from `from`: true when it may go on. An address whose slot is taken over starts full. */
bool og_rate_take(struct og_rate *r, const struct sockaddr *from, uint64_t now_ns);
