/*
 * http_check.c: what is decided from a request's line and headers, before its body is read.
 */
#include "cli/http_priv.h"

#include "cli/text.h"

#include <string.h>

enum { URI_MAX_BYTES = 2048, HEADERS_MAX = 64 };

static const char application_json[] = "application/json";
static const char invalid_request[] = "invalid_request_error";

void og_http_refuse(
	struct og_http_request *r, unsigned status, const char *code, const char *message)
{
	r->bad = true;
	og_openai_fail(&r->err, status, invalid_request, code, NULL, "%s", message);
}

struct header_count {
	uint32_t nb, content_length, transfer_encoding, host;
};

static enum MHD_Result count_header(
	void *ctx, enum MHD_ValueKind kind, const char *k, const char *v)
{
	struct header_count *c = ctx;

	c->nb++;
	c->content_length += strcasecmp(k, "Content-Length") == 0;
	c->transfer_encoding += strcasecmp(k, "Transfer-Encoding") == 0;
	c->host += strcasecmp(k, "Host") == 0;
	return MHD_YES;
}

const char *og_http_header(const struct og_http_request *r, const char *name)
{
	return MHD_lookup_connection_value(r->conn, MHD_HEADER_KIND, name);
}

/* Two readings of where the body ends are how requests are smuggled. */
static void check_framing(struct og_http_request *r)
{
	struct header_count c = {0};
	const char *te = og_http_header(r, "Transfer-Encoding");

	MHD_get_connection_values(r->conn, MHD_HEADER_KIND, count_header, &c);
	if (c.nb > HEADERS_MAX)
		og_http_refuse(r, 431, "too_many_headers", "more than 64 header lines");
	else if (c.content_length > 1 || c.transfer_encoding > 1 || c.host > 1 ||
		 (c.content_length && c.transfer_encoding) ||
		 (te && strcasecmp(te, "chunked") != 0))
		og_http_refuse(r, 400, "bad_framing",
			"the length of the body is not clear from the headers");
}

static void check_access(struct og_http_request *r)
{
	struct og_http *h = r->http;
	bool known;

	pthread_mutex_lock(&h->lock); /* the keys may be reloaded */
	known = h->keys.nb == 0 || og_api_keys_accept(&h->keys, og_http_header(r, "Authorization"));
	pthread_mutex_unlock(&h->lock);
	if (h->loopback && !og_host_allowed(og_http_header(r, "Host"), h->opts.allow_hosts,
				   h->opts.nb_allow_hosts))
		og_http_refuse(r, 403, "host_not_allowed",
			"this Host is not a name of this machine; see [http] allow_host");
	else if (!known && r->route != OG_ROUTE_HEALTH && r->route != OG_ROUTE_READY)
		og_http_refuse(r, 401, "invalid_api_key",
			"a valid key is needed: Authorization: Bearer KEY");
}

static bool is_json(const char *type)
{
	size_t n = strlen(application_json);

	return type && strncasecmp(type, application_json, n) == 0 && strchr("; \t", type[n]);
}

static void check_body(struct og_http_request *r)
{
	const char *length = og_http_header(r, "Content-Length");
	uint64_t n = 0;

	if (!is_json(og_http_header(r, "Content-Type")))
		og_http_refuse(
			r, 415, "unsupported_media_type", "Content-Type must be application/json");
	else if (length && (og_text_uint(&n, length) < 0 || n > r->http->opts.max_body_bytes))
		og_http_refuse(r, 413, "body_too_large", "the body is longer than [http] max_body");
}

static void check_rate(struct og_http_request *r)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(r->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	uint32_t per_s;
	bool ok;

	pthread_mutex_lock(&r->http->lock);
	per_s = r->http->rate.per_s;
	ok = og_rate_take(&r->http->rate, info ? info->client_addr : NULL, og_http_now_ns());
	pthread_mutex_unlock(&r->http->lock);
	if (ok)
		return;
	r->bad = true;
	og_openai_fail(&r->err, 429, "rate_limit_error", "rate_limit_exceeded", NULL,
		"more than %u prompts a second from this address", per_s);
	r->err.retry_after_s = 1;
}

/* Which of our pages `url` is, whatever the method. */
static void find_route(struct og_http_request *r)
{
	static const struct {
		const char *path;
		enum og_route route;
	} routes[] = {
		{"/v1/chat/completions", OG_ROUTE_CHAT},
		{"/v1/completions", OG_ROUTE_COMPLETION},
		{"/v1/models", OG_ROUTE_MODELS},
		{"/healthz", OG_ROUTE_HEALTH},
		{"/readyz", OG_ROUTE_READY},
		{"/metrics", OG_ROUTE_METRICS},
	};

	r->route = OG_ROUTE_OTHER;
	for (size_t i = 0; i < OG_ARRAY_LEN(routes); i++) {
		if (strcmp(r->url, routes[i].path) == 0)
			r->route = routes[i].route;
	}
	if (strncmp(r->url, "/v1/models/", 11) == 0 && r->url[11]) {
		r->route = OG_ROUTE_MODELS;
		r->model_id = r->url + 11;
	}
	if (r->route == OG_ROUTE_METRICS && !r->http->opts.metrics)
		r->route = OG_ROUTE_OTHER;
}

void og_http_check(struct og_http_request *r, const char *url, const char *method)
{
	bool post, get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;

	og_text_copy(r->url, sizeof(r->url), url);
	find_route(r);
	post = r->route == OG_ROUTE_CHAT || r->route == OG_ROUTE_COMPLETION;
	check_framing(r);
	if (!r->bad && strlen(url) > URI_MAX_BYTES)
		og_http_refuse(r, 414, "uri_too_long", "the URI is longer than 2048 bytes");
	if (!r->bad)
		check_access(r);
	if (r->bad)
		return;
	if (r->route == OG_ROUTE_OTHER) {
		og_http_refuse(r, 404, "unknown_url", "there is no such page here");
	} else if (post ? strcmp(method, "POST") != 0 : !get) {
		r->allow = post ? "POST" : "GET, HEAD";
		og_http_refuse(r, 405, "method_not_allowed", "this page does not take this method");
	} else if (post) {
		check_body(r);
		if (!r->bad)
			check_rate(r);
	}
}
