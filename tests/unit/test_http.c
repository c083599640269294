/*
 * The HTTP face in front of a real router with an echo engine and no cluster, over real sockets.
 */
#include "cli/http.h"
#include "cli/router_thread.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct og_doorbell bell;
static struct og_engine_thread *engine;
static struct og_router_thread *router;
static struct og_http *http;
static bool ready;
static char got[512 * 1024];

static void start(const char *model, struct og_http_opts opts)
{
	static const uint8_t key[32] = {0xab};
	static struct og_router_model models[1];
	struct og_engine_opts eo = {.backend = OG_BACKEND_ECHO, .name = model};
	struct og_router_thread_opts ro = {.doorbell = &bell, .cpus = "", .engines = &engine};
	struct og_engine *e;
	char err[256] = "";

	cr_assert_eq(og_doorbell_init(&bell), 0);
	ro.router.node_name = "NodeT";
	ro.router.public_key = key;
	if (model) {
		cr_assert_eq(og_engine_create(&e, &eo, err, sizeof(err)), 0, "%s", err);
		cr_assert_eq(og_engine_thread_create(&engine, e, "", &bell), 0);
		models[0] = (struct og_router_model){model, "alias", 0, OG_MODEL_SERVED};
		ro.router.models = models;
		ro.router.nb_models = ro.nb_engines = 1;
		cr_assert_eq(og_engine_thread_start(engine), 0);
	}
	cr_assert_eq(og_router_thread_create(&router, &ro), 0);
	opts.host = "127.0.0.1";
	opts.api_key_file = opts.api_key_file ? opts.api_key_file : "";
	opts.max_body_bytes = opts.max_body_bytes ? opts.max_body_bytes : 64 * 1024;
	opts.max_connections = 16;
	opts.link = og_router_thread_link(router);
	opts.ready = &ready;
	opts.metrics = true;
	cr_assert_eq(og_http_open(&http, &opts, err, sizeof(err)), 0, "%s", err);
	cr_assert_eq(og_router_thread_start(router), 0);
}

static void stop(void)
{
	if (!http)
		return;
	og_http_quiesce(http);
	og_router_thread_leave(router);
	og_router_thread_stop(router);
	og_http_close(http);
	og_router_thread_destroy(router);
	if (engine) {
		og_engine_thread_stop(engine);
		og_engine_thread_destroy(engine);
	}
	og_doorbell_fini(&bell);
}

TestSuite(http, .fini = stop);

static int dial(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = {10, 0};

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	in.sin_port = htons((uint16_t)atoi(strrchr(og_http_address(http), ':') + 1));
	cr_assert_eq(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static void put(int fd, const char *text)
{
	cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void read_all(int fd)
{
	size_t n = 0;
	ssize_t more;

	while (n < sizeof(got) - 1 && (more = read(fd, got + n, sizeof(got) - 1 - n)) > 0)
		n += (size_t)more;
	got[n] = '\0';
	close(fd);
}

/* Send as it is, read until the server closes; returns the status. */
static int raw(const char *request)
{
	int fd = dial();

	put(fd, request);
	read_all(fd);
	return strlen(got) > 12 ? atoi(got + 9) : 0;
}

static int post(const char *path, const char *headers, const char *body)
{
	char request[8192];

	snprintf(request, sizeof(request),
		"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
		"Content-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n%s",
		path, strlen(body), headers, body);
	return raw(request);
}

static int get(const char *path)
{
	char request[4096];

	snprintf(request, sizeof(request),
		"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
	return raw(request);
}

#define CHAT "/v1/chat/completions"
#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]"

static bool has(const char *text)
{
	return strstr(got, text) != NULL;
}

Test(http, answers_a_chat_and_says_which_node_did)
{
	start("echo", (struct og_http_opts){0});
	cr_assert_eq(post(CHAT, "X-Request-Id: mine-1\r\n", "{\"model\":\"echo\"," HELLO "}"), 200,
		"%s", got);
	cr_assert(has("\"content\":\"[echo] hello\""), "%s", got);
	cr_assert(has("X-OG-Node: NodeT\r\n"), "%s", got);
	cr_assert(has("X-Request-Id: mine-1\r\n"), "%s", got);
	cr_assert(has("\"og\":{\"node\":\"NodeT\",\"key\":\"ab0000"), "%s", got);
	cr_assert(has("\"finish_reason\":\"stop\""), "%s", got);
	cr_assert(has("\"total_tokens\":"), "%s", got);
}

Test(http, streams_events_to_done)
{
	start("echo", (struct og_http_opts){0});
	cr_assert_eq(post(CHAT, "",
			     "{\"model\":\"alias\",\"stream\":true,"
			     "\"stream_options\":{\"include_usage\":true}," HELLO "}"),
		200, "%s", got);
	cr_assert(has("Content-Type: text/event-stream"), "%s", got);
	cr_assert(has("\"role\":\"assistant\""), "%s", got);
	cr_assert(has("[echo]"), "%s", got);
	cr_assert(has("\"finish_reason\":\"stop\""), "%s", got);
	cr_assert(has("\"choices\":[],\"usage\":"), "%s", got);
	cr_assert(has("data: [DONE]\n\n"), "%s", got);
	cr_assert_eq(post("/v1/completions", "", "{\"prompt\":\"x\",\"stream\":true}"), 200);
	cr_assert(has("\"object\":\"text_completion\""), "%s", got);
}

Test(http, lists_models_health_and_metrics)
{
	start("echo", (struct og_http_opts){0});
	cr_assert_eq(get("/v1/models"), 200);
	cr_assert(has("{\"id\":\"echo\",\"object\":\"model\""), "%s", got);
	cr_assert_eq(get("/v1/models/alias"), 200);
	cr_assert_eq(get("/v1/models/none"), 404);
	cr_assert_eq(get("/healthz"), 200);
	cr_assert_eq(get("/readyz"), 503);
	ready = true;
	cr_assert_eq(get("/readyz"), 200);
	cr_assert_eq(get("/metrics"), 200);
	cr_assert_eq(raw("HEAD /healthz HTTP/1.0\r\n\r\n"), 200);
}

Test(http, refuses_what_it_does_not_serve)
{
	start("echo", (struct og_http_opts){0});
	cr_expect_eq(get("/nope"), 404);
	cr_expect(has("\"code\":\"unknown_url\""), "%s", got);
	cr_expect_eq(get(CHAT), 405);
	cr_expect(has("Allow: POST\r\n"), "%s", got);
	cr_expect_eq(post("/healthz", "", "{}"), 405);
	cr_expect_eq(post(CHAT, "", "{"), 400);
	cr_expect_eq(post(CHAT, "", "{\"model\":\"other\"," HELLO "}"), 404);
	cr_expect_eq(raw("POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			 "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"),
		415);
	cr_expect_eq(
		raw("GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
		403);
}

Test(http, no_member_is_a_503_with_retry_after)
{
	start(NULL, (struct og_http_opts){0});
	cr_assert_eq(post(CHAT, "", "{" HELLO "}"), 404); /* no cluster joined either */
	cr_assert(has("this node serves no model"), "%s", got);
}

Test(http, a_body_that_is_too_long_is_a_413_in_either_framing)
{
	char *body = calloc(1, 40001), *request = calloc(1, 50000);

	start("echo", (struct og_http_opts){.max_body_bytes = 32 * 1024});
	memset(body, ' ', 40000);
	snprintf(request, 50000,
		"POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
		"Content-Type: application/json\r\nContent-Length: 40000\r\n\r\n");
	cr_expect_eq(raw(request), 413, "%s", got);
	snprintf(request, 50000,
		"POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
		"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
		"%x\r\n%s\r\n0\r\n\r\n",
		40000, body);
	cr_expect_eq(raw(request), 413, "%s", got);
	free(body);
	free(request);
}

Test(http, two_readings_of_the_length_are_refused)
{
#define START "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	static const char *const cases[] = {
		START "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		START "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
		START "Transfer-Encoding: gzip\r\n\r\n",
		START "Content-Length: -1\r\n\r\n",
		START "Content-Length: 2x\r\n\r\n{}",
		START "Host: other\r\nContent-Length: 2\r\n\r\n{}",
	};

	start("echo", (struct og_http_opts){0});
	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		int status = raw(cases[i]);

		cr_expect(status == 400 || status == 413 || status == 0, "case %zu: %s", i, got);
		cr_expect_null(
			strstr(got + (strlen(got) > 9 ? 9 : 0), "HTTP/1.1 2"), "case %zu", i);
	}
}

Test(http, keys_are_asked_where_a_file_names_them)
{
	char path[] = "/tmp/og-http-keys-XXXXXX";
	int fd = mkstemp(path);

	cr_assert_eq(write(fd, "sk-good\n", 8), 8);
	close(fd);
	start("echo", (struct og_http_opts){.api_key_file = path});
	unlink(path);
	cr_assert_eq(post(CHAT, "", "{" HELLO "}"), 401);
	cr_assert_eq(post(CHAT, "Authorization: Bearer sk-bad\r\n", "{" HELLO "}"), 401);
	cr_assert_eq(post(CHAT, "Authorization: Bearer sk-good\r\n", "{" HELLO "}"), 200);
	cr_assert_eq(get("/v1/models"), 401);
	cr_assert_eq(get("/healthz"), 200);
}

Test(http, a_rate_is_a_429_with_retry_after)
{
	start("echo", (struct og_http_opts){.rate_per_s = 1, .rate_burst = 2});
	cr_assert_eq(post(CHAT, "", "{" HELLO "}"), 200);
	cr_assert_eq(post(CHAT, "", "{" HELLO "}"), 200);
	cr_assert_eq(post(CHAT, "", "{" HELLO "}"), 429);
	cr_assert(has("Retry-After: 1\r\n"), "%s", got);
}

Test(http, one_connection_carries_several_requests)
{
	char request[1024];
	int fd;

	start("echo", (struct og_http_opts){0});
	snprintf(request, sizeof(request),
		"POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
		"Content-Length: %zu\r\n\r\n{" HELLO "}",
		strlen("{" HELLO "}"));
	fd = dial();
	put(fd, request);
	cr_assert(read(fd, got, sizeof(got)) > 0);
	put(fd, request);
	cr_assert(read(fd, got, sizeof(got)) > 0);
	put(fd, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	read_all(fd);
	cr_assert(has("200 OK"), "%s", got);
}

/* No model and a cluster joined: an ask waits for members, so a client can leave meanwhile. */
Test(http, a_client_that_leaves_cancels_its_request)
{
	json_t *status = NULL;
	json_int_t running = 0;
	char request[1024];
	int fd;

	start(NULL, (struct og_http_opts){0});
	cr_assert_eq(og_link_join(og_router_thread_link(router), "c"), 0);
	snprintf(request, sizeof(request),
		"POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
		"Content-Length: %zu\r\n\r\n{" HELLO "}",
		strlen("{" HELLO "}"));
	fd = dial();
	put(fd, request);
	for (int i = 0; i < 100 && running == 0; i++) {
		usleep(10000);
		cr_assert_eq(og_link_query(
				     og_router_thread_link(router), OG_QUERY_STATUS, NULL, &status),
			0);
		running = json_integer_value(
			json_object_get(json_object_get(status, "requests"), "running"));
		json_decref(status);
	}
	cr_assert_eq(running, 1);
	close(fd);
	for (int i = 0; i < 100 && running > 0; i++) {
		usleep(10000);
		cr_assert_eq(og_link_query(
				     og_router_thread_link(router), OG_QUERY_STATUS, NULL, &status),
			0);
		running = json_integer_value(
			json_object_get(json_object_get(status, "requests"), "running"));
		json_decref(status);
	}
	cr_assert_eq(running, 0);
}
