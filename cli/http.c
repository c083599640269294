#include "cli/http_priv.h"

#include "base/log.h"
#include "base/metrics.h"
#include "cli/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	THREADS = 2,
	IDLE_S = 60,
	POOL_BYTES = 32 * 1024, /* of a connection: URI, headers, output */
	PER_ADDRESS_DEFAULT = 32,
};

static const char application_json[] = "application/json";

uint64_t og_http_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* ---- answers ---- */

void og_http_count(struct og_http_request *r, unsigned status)
{
	pthread_mutex_lock(&r->http->lock);
	og_count(&r->http->answered[r->route][OG_MIN(status / 100, 5u)]);
	pthread_mutex_unlock(&r->http->lock);
	OG_LOG(http, DEBUG, "%s: %s: status %u", r->request_id, r->url, status);
}

/* A name from another node, as a header may hold it. */
static void add_node(struct og_http_request *r, struct MHD_Response *resp)
{
	char name[sizeof(r->end.node_key)];

	og_text_copy(name, sizeof(name), r->end.node_name[0] ? r->end.node_name : r->end.node_key);
	for (char *p = name; *p; p++) {
		if (*p < 0x20 || *p > 0x7e)
			*p = '_';
	}
	if (name[0])
		MHD_add_response_header(resp, "X-OG-Node", name);
}

enum MHD_Result og_http_send(
	struct og_http_request *r, unsigned status, const char *type, char *body, size_t body_bytes)
{
	struct MHD_Response *resp;
	enum MHD_Result ret;
	char number[16];

	if (!body)
		return MHD_NO;
	resp = MHD_create_response_from_buffer(body_bytes, body, MHD_RESPMEM_MUST_FREE);
	if (!resp) {
		free(body);
		return MHD_NO;
	}
	MHD_add_response_header(resp, "Content-Type", type);
	MHD_add_response_header(resp, "X-Request-Id", r->request_id);
	add_node(r, resp);
	if (r->allow)
		MHD_add_response_header(resp, "Allow", r->allow);
	if (r->bad && r->err.retry_after_s > 0) {
		snprintf(number, sizeof(number), "%u", r->err.retry_after_s);
		MHD_add_response_header(resp, "Retry-After", number);
	}
	if (status == 401)
		MHD_add_response_header(resp, "WWW-Authenticate", "Bearer");
	if (status == 400 && r->err.code && strcmp(r->err.code, "bad_framing") == 0)
		MHD_add_response_header(resp, "Connection", "close");
	og_http_count(r, status);
	ret = MHD_queue_response(r->conn, status, resp);
	MHD_destroy_response(resp);
	return ret;
}

enum MHD_Result og_http_send_error(struct og_http_request *r, const struct og_openai_error *err)
{
	char *body = og_openai_error_body(err);

	return og_http_send(r, err->status, application_json, body, body ? strlen(body) : 0);
}

static enum MHD_Result send_text(struct og_http_request *r, unsigned status, const char *text)
{
	return og_http_send(r, status, "text/plain; charset=utf-8", strdup(text), strlen(text));
}

static enum MHD_Result send_models(struct og_http_request *r)
{
	json_t *models = NULL;
	char *body;

	if (og_link_query(r->http->opts.link, OG_QUERY_MODELS, NULL, &models) < 0) {
		og_openai_fail(
			&r->err, 503, "server_error", "stopping", NULL, "the node is stopping");
		return og_http_send_error(r, &r->err);
	}
	body = og_openai_models(models, r->model_id, r->http->started_at);
	json_decref(models);
	if (!body) {
		og_openai_fail(&r->err, 404, "invalid_request_error", "model_not_found", "model",
			"no member serves the model '%s'", r->model_id);
		return og_http_send_error(r, &r->err);
	}
	return og_http_send(r, 200, application_json, body, strlen(body));
}

static enum MHD_Result send_metrics(struct og_http_request *r)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return MHD_NO;
	pthread_mutex_lock(&r->http->render_lock);
	og_metrics_render(f);
	pthread_mutex_unlock(&r->http->render_lock);
	fclose(f);
	return og_http_send(r, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
}

static enum MHD_Result finish(struct og_http_request *r)
{
	if (!r->asked && r->bad)
		return og_http_send_error(r, &r->err);
	switch (r->route) {
	case OG_ROUTE_HEALTH:
		return send_text(r, 200, "ok\n");
	case OG_ROUTE_READY:
		if (__atomic_load_n(r->http->opts.ready, __ATOMIC_RELAXED))
			return send_text(r, 200, "ready\n");
		return send_text(r, 503, "not ready\n");
	case OG_ROUTE_METRICS:
		return send_metrics(r);
	case OG_ROUTE_MODELS:
		return send_models(r);
	default:
		break;
	}
	if (r->asked)
		return og_http_respond(r);
	og_http_ask(r);
	return !r->asked && r->bad ? og_http_send_error(r, &r->err) : MHD_YES;
}

/* ---- requests ---- */

/* The client's own id if it is plain, else a new one. */
static void name_request(struct og_http_request *r)
{
	const char *given = og_http_header(r, "X-Request-Id");
	size_t n = given ? strlen(given) : 0;
	bool plain = n > 0 && n < sizeof(r->request_id);

	for (size_t i = 0; plain && i < n; i++)
		plain = given[i] > 0x20 && given[i] < 0x7f;
	if (plain)
		strcpy(r->request_id, given);
	else
		snprintf(r->request_id, sizeof(r->request_id), "req_%016llx%08x",
			(unsigned long long)og_rand_u64(&r->http->rand),
			og_rand_u32(&r->http->rand));
}

static struct og_http_request *request_get(struct og_http *h, struct MHD_Connection *conn)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct og_http_request *r;

	pthread_mutex_lock(&h->lock);
	r = h->first_free;
	if (r) {
		uint64_t id = ((r->id >> 32) + 1) % (1u << 24) << 32 | (uint32_t)(r - h->requests);

		h->first_free = r->next_free;
		memset(r, 0, sizeof(*r));
		r->id = id;
		r->http = h;
		r->conn = conn;
		r->watch = info ? info->socket_context : NULL;
		r->used = true;
		name_request(r);
		og_count(&h->running);
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

static void on_completed(
	void *ctx, struct MHD_Connection *conn, void **con_cls, enum MHD_RequestTerminationCode why)
{
	struct og_http_request *r = *con_cls;
	struct og_http *h = ctx;
	bool cancel;

	if (!r)
		return;
	*con_cls = NULL;
	og_http_watch_idle(h->watch, r->watch);
	pthread_mutex_lock(&h->lock);
	cancel = r->asked && !r->ended;
	r->used = false;
	free(r->body);
	free(r->text);
	json_decref(r->logprobs);
	free(r->out);
	r->body = r->text = r->out = NULL;
	r->next_free = h->first_free;
	h->first_free = r;
	og_count_add(&h->running, (uint64_t)-1);
	pthread_mutex_unlock(&h->lock);
	if (cancel)
		og_link_cancel(h->opts.link, OG_FACE_HTTP, r->id);
}

/* Keeps the body up to max_body; what a refused request sends is dropped, up to as much again. */
static enum MHD_Result take_body(struct og_http_request *r, const char *data, size_t n)
{
	size_t max = r->http->opts.max_body_bytes;

	r->received_bytes += n;
	og_http_watch_body(r->http->watch, r->watch, r->received_bytes);
	if (r->received_bytes > 2 * max)
		return MHD_NO;
	if (r->bad)
		return MHD_YES;
	if (r->received_bytes > max) {
		og_http_refuse(r, 413, "body_too_large", "the body is longer than [http] max_body");
		return MHD_YES;
	}
	if (!r->body || r->body_bytes + n > 4096) {
		char *grown = realloc(r->body, OG_MAX(r->body_bytes + n, (size_t)4096));

		if (!grown)
			return MHD_NO;
		r->body = grown;
	}
	memcpy(r->body + r->body_bytes, data, n);
	r->body_bytes += n;
	return MHD_YES;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *conn, const char *url,
	const char *method, const char *version, const char *upload, size_t *upload_bytes,
	void **con_cls)
{
	struct og_http_request *r = *con_cls;

	if (!r) {
		r = request_get(ctx, conn);
		if (!r)
			return MHD_NO;
		*con_cls = r;
		og_http_check(r, url, method);
		og_http_watch_body(r->http->watch, r->watch, 0);
		/* Too long or unclear: answered at once, and the connection ends. */
		if (r->bad && (r->err.status == 413 || r->err.status == 431 ||
				      (r->err.code && strcmp(r->err.code, "bad_framing") == 0)))
			return og_http_send_error(r, &r->err);
		return MHD_YES;
	}
	if (*upload_bytes > 0) {
		enum MHD_Result ret = take_body(r, upload, *upload_bytes);

		*upload_bytes = 0;
		return ret;
	}
	return finish(r);
}

static void on_connection(void *ctx, struct MHD_Connection *conn, void **socket_context,
	enum MHD_ConnectionNotificationCode code)
{
	struct og_http *h = ctx;
	const union MHD_ConnectionInfo *info;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		og_http_watch_remove(h->watch, *socket_context);
		*socket_context = NULL;
		return;
	}
	info = MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
	*socket_context = info ? og_http_watch_add(h->watch, info->connect_fd) : NULL;
}

static void on_log(void *ctx, const char *fmt, va_list ap)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	OG_LOG(http, DEBUG, "libmicrohttpd: %s", text);
}

/* ---- open ---- */

static int bind_socket(struct og_http *h, char *err, size_t err_bytes)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *list;
	struct sockaddr_storage bound;
	socklen_t len = sizeof(bound);
	char port[8], host[64] = "";
	int fd, one = 1, ret;

	snprintf(port, sizeof(port), "%u", h->opts.port);
	ret = getaddrinfo(h->opts.host, port, &hints, &list);
	if (ret != 0) {
		snprintf(err, err_bytes, "[http] listen: %s: %s", h->opts.host, gai_strerror(ret));
		return -EADDRNOTAVAIL;
	}
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		ret = -errno;
	if (fd >= 0 &&
		(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
			bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, 511) < 0 ||
			getsockname(fd, (struct sockaddr *)&bound, &len) < 0))
		ret = -errno;
	freeaddrinfo(list);
	if (ret < 0) {
		snprintf(err, err_bytes, "[http] listen = %s:%u: %s%s", h->opts.host, h->opts.port,
			strerror(-ret), ret == -EADDRINUSE ? "; port 0 takes a free one" : "");
		if (fd >= 0)
			close(fd);
		return ret;
	}
	if (bound.ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)&bound;

		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(h->address, sizeof(h->address), "[%s]:%u", host, ntohs(in6->sin6_port));
		h->loopback = IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
	} else {
		const struct sockaddr_in *in = (const void *)&bound;

		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(h->address, sizeof(h->address), "%s:%u", host, ntohs(in->sin_port));
		h->loopback = ntohl(in->sin_addr.s_addr) >> 24 == 127;
	}
	return fd;
}

static int start_daemon(struct og_http *h, int fd)
{
	unsigned per_address = h->opts.max_connections_per_address;

	if (per_address == 0 && !h->loopback)
		per_address = PER_ADDRESS_DEFAULT;
	h->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
					     MHD_USE_ERROR_LOG | MHD_USE_ITC,
		0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)OG_MAX(h->opts.max_connections, 2u),
		MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, h, MHD_OPTION_END);
	return h->daemon ? 0 : -EIO;
}

static int create_tables(struct og_http *h)
{
	struct og_http_watch_opts watch = {
		.nb_max = h->opts.max_connections + 8, .gone = og_http_on_gone, .ctx = h};

	h->nb_requests_max = watch.nb_max;
	h->requests = calloc(h->nb_requests_max, sizeof(*h->requests));
	if (!h->requests)
		return -ENOMEM;
	for (uint32_t i = 0; i < h->nb_requests_max; i++) {
		h->requests[i].id = i;
		h->requests[i].next_free = h->first_free;
		h->first_free = &h->requests[i];
	}
	return og_http_watch_open(&h->watch, &watch);
}

int og_http_open(struct og_http **out, const struct og_http_opts *opts, char *err, size_t err_bytes)
{
	struct og_http *h = calloc(1, sizeof(*h));
	int ret, fd;

	if (!h)
		return -ENOMEM;
	h->opts = *opts;
	h->started_at = (int64_t)time(NULL);
	og_rand_system(&h->rand);
	og_rate_init(&h->rate, opts->rate_per_s, opts->rate_burst);
	pthread_mutex_init(&h->lock, NULL);
	pthread_mutex_init(&h->render_lock, NULL);
	if (opts->api_key_file[0]) {
		ret = og_api_keys_load(&h->keys, opts->api_key_file);
		if (ret < 0) {
			snprintf(err, err_bytes, "[http] api_key_file %s: %s", opts->api_key_file,
				ret == -EINVAL ? "holds no key" : strerror(-ret));
			goto free_http;
		}
	}
	ret = create_tables(h);
	if (ret < 0) {
		snprintf(err, err_bytes, "http: %s", strerror(-ret));
		goto free_http;
	}
	fd = ret = bind_socket(h, err, err_bytes);
	if (ret < 0)
		goto free_http;
	og_link_set_face(opts->link, OG_FACE_HTTP, og_http_on_answer, h);
	ret = start_daemon(h, fd);
	if (ret < 0) {
		snprintf(err, err_bytes, "http: the server does not start (out of descriptors?)");
		close(fd);
		goto free_http;
	}
	*out = h;
	return 0;

free_http:
	og_http_watch_close(h->watch);
	free(h->requests);
	free(h);
	return ret;
}

const char *og_http_address(const struct og_http *h)
{
	return h->address;
}

void og_http_metrics_register(struct og_http *h)
{
	static const char *const routes[OG_NB_ROUTES] = {
		"chat", "completion", "models", "healthz", "readyz", "metrics", "other"};
	const struct og_http_watch_counters *c = og_http_watch_counters(h->watch);
	const struct og_metric one[] = {
		{"og_http_connections", NULL, "Open connections.", OG_METRIC_GAUGE, &c->open},
		{"og_http_connections_total", NULL, "Connections opened.", OG_METRIC_COUNTER,
			&c->opened},
		{"og_http_slow_clients_total", NULL, "Connections shut down as too slow.",
			OG_METRIC_COUNTER, &c->timed_out},
		{"og_http_clients_left_total", NULL, "Clients that left before their answer.",
			OG_METRIC_COUNTER, &c->left},
		{"og_http_requests", NULL, "Requests under way.", OG_METRIC_GAUGE, &h->running},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(one); i++)
		og_metrics_register(&one[i]);
	for (int route = 0; route < OG_NB_ROUTES; route++) {
		for (int class = 2; class <= 5; class ++) {
			static char labels[OG_NB_ROUTES][6][48];

			if (class == 3)
				continue;
			snprintf(labels[route][class], sizeof(labels[route][class]),
				"route=\"%s\",code=\"%dxx\"", routes[route], class);
			og_metrics_register(&(struct og_metric){"og_http_answers_total",
				labels[route][class], "Answers sent, by page and status.",
				OG_METRIC_COUNTER, &h->answered[route][class]});
		}
	}
}

int og_http_reload(struct og_http *h, uint32_t rate_per_s, uint32_t rate_burst)
{
	struct og_api_keys keys;
	int ret = 0;

	if (h->opts.api_key_file[0])
		ret = og_api_keys_load(&keys, h->opts.api_key_file);
	pthread_mutex_lock(&h->lock);
	if (h->opts.api_key_file[0] && ret == 0)
		h->keys = keys;
	if (rate_per_s != h->rate.per_s || rate_burst != h->rate.burst)
		og_rate_init(&h->rate, rate_per_s, rate_burst);
	pthread_mutex_unlock(&h->lock);
	return ret;
}

void og_http_quiesce(struct og_http *h)
{
	MHD_socket fd = MHD_quiesce_daemon(h->daemon);

	if (fd != MHD_INVALID_SOCKET)
		close(fd);
}

void og_http_close(struct og_http *h)
{
	if (!h)
		return;
	MHD_stop_daemon(h->daemon);
	og_http_watch_close(h->watch);
	pthread_mutex_destroy(&h->lock);
	pthread_mutex_destroy(&h->render_lock);
	free(h->requests);
	free(h);
}
