#include "cli/control.h"

#include "base/log.h"
#include "base/rand.h"
#include "cli/config_edit.h"
#include "cli/openai.h"
#include "cli/text.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	CONNS_MAX = 32,
	LINE_MAX_BYTES = 1024 * 1024,
	OUT_MAX_BYTES = 16 * 1024 * 1024,
	EVENTS = 16,
	READ_BYTES = 16 * 1024,
};

enum { EXIT_FAILED = 1, EXIT_CANNOT_SERVE = 4, EXIT_TIMED_OUT = 5 };

static const uint64_t listener_mark = UINT64_MAX, wake_mark = UINT64_MAX - 1;

struct buffer {
	char *data;
	size_t used, cap;
};

struct conn {
	int fd; /* -1: free */
	uint32_t gen;
	bool writable_wanted;
	struct buffer in;
	/* Also the router thread, under control->lock. */
	struct buffer out;
	bool asking, stream, broken;
	struct buffer text; /* of an answer that does not stream */
};

struct og_control {
	struct og_control_opts opts;
	int listen_fd, epoll_fd, wake_fd;
	struct og_rand rand;
	pthread_mutex_t lock;
	struct conn conns[CONNS_MAX];
};

static bool append(struct buffer *b, const char *data, size_t n, size_t max)
{
	size_t want = b->cap ? b->cap : 4096;
	char *grown;

	if (b->used + n > max)
		return false;
	while (want < b->used + n)
		want *= 2;
	if (want != b->cap) {
		grown = realloc(b->data, want);
		if (!grown)
			return false;
		b->data = grown;
		b->cap = want;
	}
	memcpy(b->data + b->used, data, n);
	b->used += n;
	return true;
}

static void drop_front(struct buffer *b, size_t n)
{
	b->used -= n;
	memmove(b->data, b->data + n, b->used);
}

static void buffer_fini(struct buffer *b)
{
	free(b->data);
	*b = (struct buffer){0};
}

static uint64_t handle(const struct og_control *c, const struct conn *conn)
{
	return (uint64_t)(conn->gen & 0xffffff) << 32 | (uint32_t)(conn - c->conns);
}

/* Takes `line`. Under the lock. */
static void say(struct conn *conn, json_t *line)
{
	char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;

	if (!text || !append(&conn->out, text, strlen(text), OUT_MAX_BYTES) ||
		!append(&conn->out, "\n", 1, OUT_MAX_BYTES + 1))
		conn->broken = true;
	free(text);
	json_decref(line);
}

static void say_data(struct conn *conn, json_t *data)
{
	say(conn, json_pack("{s:b, s:o}", "ok", 1, "data", data ? data : json_null()));
}

static void say_error(struct conn *conn, int exit_status, const char *message)
{
	say(conn, json_pack("{s:b, s:s, s:i}", "ok", 0, "error", message, "exit", exit_status));
}

/* ---- answers, on the router thread ---- */

static int exit_of(int error)
{
	switch (error) {
	case -ENOENT:
	case -EHOSTUNREACH:
	case -EBUSY:
		return EXIT_CANNOT_SERVE;
	case -ETIMEDOUT:
		return EXIT_TIMED_OUT;
	default:
		return EXIT_FAILED;
	}
}

static void end_answer(struct conn *conn, const struct og_answer *a)
{
	json_t *data;

	conn->asking = false;
	if (a->type == OG_ANSWER_ERROR) {
		say_error(conn, exit_of(a->error), a->message ? a->message : "failed");
		return;
	}
	data = json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:i, s:f}", "model", a->model, "node",
		a->node_name, "key", a->node_key, "prompt_tokens", (json_int_t)a->prompt_tokens,
		"completion_tokens", (json_int_t)a->completion_tokens, "finish_reason",
		a->finish == OG_FINISH_LENGTH ? "length" : "stop", "attempts", (int)a->attempts,
		"answer_ms", (double)a->waited_ns / 1e6);
	if (!conn->stream)
		json_object_set_new(data, "text",
			json_stringn(conn->text.data ? conn->text.data : "", conn->text.used));
	buffer_fini(&conn->text);
	say_data(conn, data);
}

static void on_answer(void *ctx, const struct og_answer *a)
{
	struct og_control *c = ctx;
	struct conn *conn = &c->conns[(uint32_t)a->face % CONNS_MAX];
	uint64_t one = 1;

	pthread_mutex_lock(&c->lock);
	if (conn->fd >= 0 && conn->asking && handle(c, conn) == a->face) {
		if (a->type == OG_ANSWER_DONE || a->type == OG_ANSWER_ERROR)
			end_answer(conn, a);
		else if (a->type != OG_ANSWER_TEXT)
			; /* log probabilities have no place here */
		else if (conn->stream)
			say(conn, json_pack("{s:s%}", "text", a->text, (size_t)a->text_bytes));
		else if (!append(&conn->text, a->text, a->text_bytes, OUT_MAX_BYTES))
			conn->broken = true;
	}
	pthread_mutex_unlock(&c->lock);
	while (write(c->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* ---- commands, on the main thread ---- */

static void query(struct og_control *c, struct conn *conn, enum og_link_query what, const char *arg)
{
	json_t *data = NULL;
	int ret = og_link_query(c->opts.link, what, arg, &data);

	if (ret == 0 && what == OG_QUERY_STATUS)
		data = c->opts.status(c->opts.ctx, data);
	if (ret == 0 && what == OG_QUERY_GAUGE)
		data = c->opts.gauge(c->opts.ctx, data);
	pthread_mutex_lock(&c->lock);
	if (ret < 0)
		say_error(conn, EXIT_FAILED, "the node is stopping");
	else
		say_data(conn, data);
	pthread_mutex_unlock(&c->lock);
}

static bool is_member(struct og_control *c, const char *cluster)
{
	json_t *clusters = NULL;
	bool found = false;

	if (og_link_query(c->opts.link, OG_QUERY_CLUSTERS, NULL, &clusters) < 0)
		return false;
	for (size_t i = 0; i < json_array_size(clusters); i++) {
		const json_t *id = json_object_get(json_array_get(clusters, i), "id");

		found |= strcmp(json_string_value(id), cluster) == 0;
	}
	json_decref(clusters);
	return found;
}

static void peers(struct og_control *c, struct conn *conn, const char *cluster)
{
	if (!cluster || is_member(c, cluster)) {
		query(c, conn, OG_QUERY_PEERS, cluster);
		return;
	}
	pthread_mutex_lock(&c->lock);
	say_error(conn, EXIT_FAILED, "this node is not a member of that cluster");
	pthread_mutex_unlock(&c->lock);
}

static const char *membership_error(int ret, bool join)
{
	switch (ret) {
	case -EALREADY:
		return "already joined";
	case -ENOENT:
		return "not joined";
	case -ENOSPC:
		return "joined in as many clusters as a node can be (32)";
	case -ESHUTDOWN:
		return "the node is stopping";
	default:
		return join ? "cannot join this cluster" : "cannot leave this cluster";
	}
}

/* Joining twice and leaving what was left are done, not failed: the reply says which. */
static void membership(struct og_control *c, struct conn *conn, const char *id, bool join)
{
	const char *why = "\"cluster\" is missing";
	int ret = id ? og_config_check_cluster_id(id, &why) : -EINVAL;
	bool changed;

	if (ret == 0) {
		ret = join ? og_link_join(c->opts.link, id) : og_link_leave(c->opts.link, id);
		why = membership_error(ret, join);
	}
	changed = ret == 0;
	if ((join && ret == -EALREADY) || (!join && ret == -ENOENT))
		ret = 0;
	if (changed)
		OG_LOG(control, INFO, "%s cluster %s", join ? "joining" : "leaving", id);
	pthread_mutex_lock(&c->lock);
	if (ret < 0)
		say_error(conn, EXIT_FAILED, why);
	else
		say_data(conn, json_pack("{s:s, s:b}", "cluster", id, "changed", changed));
	pthread_mutex_unlock(&c->lock);
}

static void prompt(struct og_control *c, struct conn *conn, const json_t *body)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct og_openai_request req;
	struct og_openai_error err;
	int ret;

	if (!text || conn->asking) {
		pthread_mutex_lock(&c->lock);
		say_error(conn, EXIT_FAILED,
			text ? "a prompt is under way on this connection" : "\"body\" is missing");
		pthread_mutex_unlock(&c->lock);
		free(text);
		return;
	}
	ret = og_openai_parse(&req, &err, true, text, strlen(text));
	free(text);
	pthread_mutex_lock(&c->lock);
	if (ret < 0) {
		say_error(conn, EXIT_FAILED, err.message);
		pthread_mutex_unlock(&c->lock);
		return;
	}
	if (!req.has_seed)
		req.ask->req->params.seed = og_rand_u64(&c->rand);
	req.ask->face = handle(c, conn);
	req.ask->deadline_ms = (uint32_t)json_integer_value(json_object_get(body, "deadline_ms"));
	conn->asking = true;
	conn->stream = req.stream;
	pthread_mutex_unlock(&c->lock);
	ret = og_link_ask(c->opts.link, OG_FACE_CONTROL, req.ask);
	if (ret == 0)
		return;
	pthread_mutex_lock(&c->lock);
	conn->asking = false;
	say_error(conn, ret == -EAGAIN ? EXIT_CANNOT_SERVE : EXIT_FAILED,
		ret == -EAGAIN ? "too many requests are waiting on this node"
			       : "the node is stopping");
	pthread_mutex_unlock(&c->lock);
}

static void set_log_level(struct og_control *c, struct conn *conn, const char *level)
{
	int ret = level ? c->opts.log_level(c->opts.ctx, level) : -EINVAL;

	pthread_mutex_lock(&c->lock);
	if (ret < 0)
		say_error(conn, EXIT_FAILED, "\"level\" is error, warn, info or debug");
	else
		say_data(conn, NULL);
	pthread_mutex_unlock(&c->lock);
}

/* What needs no more than its name, and no answer but that it was done. */
static bool simple_command(struct og_control *c, struct conn *conn, const char *cmd)
{
	if (strcmp(cmd, "stop") == 0)
		c->opts.stop(c->opts.ctx);
	else if (strcmp(cmd, "drain") == 0)
		c->opts.drain(c->opts.ctx);
	else
		return false;
	pthread_mutex_lock(&c->lock);
	say_data(conn, NULL);
	pthread_mutex_unlock(&c->lock);
	return true;
}

static bool query_command(struct og_control *c, struct conn *conn, const char *cmd, const json_t *o)
{
	static const struct {
		const char *name;
		enum og_link_query query;
		const char *arg; /* the member that holds it */
	} queries[] = {
		{"status", OG_QUERY_STATUS, NULL},
		{"clusters", OG_QUERY_CLUSTERS, NULL},
		{"models", OG_QUERY_MODELS, NULL},
		{"gauge", OG_QUERY_GAUGE, NULL},
		{"eligible", OG_QUERY_ELIGIBLE, "model"},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(queries); i++) {
		const char *arg = queries[i].arg;

		if (strcmp(cmd, queries[i].name) != 0)
			continue;
		query(c, conn, queries[i].query,
			arg ? json_string_value(json_object_get(o, arg)) : NULL);
		return true;
	}
	return false;
}

static void handle_line(struct og_control *c, struct conn *conn, const char *line, size_t n)
{
	json_t *root = json_loadb(line, n, 0, NULL);
	const char *cmd = json_string_value(json_object_get(root, "cmd"));
	const char *cluster = json_string_value(json_object_get(root, "cluster"));

	if (!cmd)
		cmd = "";
	if (strcmp(cmd, "peers") == 0) {
		peers(c, conn, cluster);
	} else if (strcmp(cmd, "join") == 0 || strcmp(cmd, "leave") == 0) {
		membership(c, conn, cluster, cmd[0] == 'j');
	} else if (strcmp(cmd, "prompt") == 0) {
		prompt(c, conn, json_object_get(root, "body"));
	} else if (strcmp(cmd, "log") == 0) {
		set_log_level(c, conn, json_string_value(json_object_get(root, "level")));
	} else if (!query_command(c, conn, cmd, root) && !simple_command(c, conn, cmd)) {
		pthread_mutex_lock(&c->lock);
		say_error(conn, 2, "unknown command");
		pthread_mutex_unlock(&c->lock);
	}
	json_decref(root);
}

/* ---- connections ---- */

static void drop(struct og_control *c, struct conn *conn)
{
	bool asking;
	uint64_t id = handle(c, conn);

	pthread_mutex_lock(&c->lock);
	asking = conn->asking;
	close(conn->fd);
	conn->fd = -1;
	conn->gen++;
	conn->asking = conn->broken = conn->writable_wanted = false;
	buffer_fini(&conn->in);
	buffer_fini(&conn->out);
	buffer_fini(&conn->text);
	pthread_mutex_unlock(&c->lock);
	if (asking)
		og_link_cancel(c->opts.link, OG_FACE_CONTROL, id);
}

/* Only the node's own user and root may ask. */
static bool peer_allowed(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	       (cred.uid == geteuid() || cred.uid == 0);
}

static void accept_conn(struct og_control *c)
{
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN};

	if (fd < 0)
		return;
	for (uint32_t i = 0; i < CONNS_MAX && peer_allowed(fd); i++) {
		struct conn *conn = &c->conns[i];

		if (conn->fd >= 0)
			continue;
		ev.data.u64 = handle(c, conn);
		if (epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
			break;
		pthread_mutex_lock(&c->lock);
		conn->fd = fd;
		pthread_mutex_unlock(&c->lock);
		return;
	}
	close(fd);
}

/* Sends what fits. Returns false when the connection is to end. */
static bool flush(struct og_control *c, struct conn *conn)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = handle(c, conn)};
	bool ok, pending;

	pthread_mutex_lock(&c->lock);
	ok = !conn->broken;
	while (ok && conn->out.used > 0) {
		ssize_t n = send(conn->fd, conn->out.data, conn->out.used, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			ok = errno == EAGAIN;
			break;
		}
		drop_front(&conn->out, (size_t)n);
	}
	pending = conn->out.used > 0;
	pthread_mutex_unlock(&c->lock);
	if (ok && pending != conn->writable_wanted) {
		ev.events |= pending ? EPOLLOUT : 0;
		conn->writable_wanted = pending;
		ok = epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, conn->fd, &ev) == 0;
	}
	return ok;
}

static bool take_lines(struct og_control *c, struct conn *conn)
{
	size_t start = 0;
	char *newline;

	while (start < conn->in.used &&
		(newline = memchr(conn->in.data + start, '\n', conn->in.used - start))) {
		size_t end = (size_t)(newline - conn->in.data);

		handle_line(c, conn, conn->in.data + start, end - start);
		start = end + 1;
	}
	if (start > 0)
		drop_front(&conn->in, start);
	return conn->in.used <= LINE_MAX_BYTES;
}

static bool receive(struct og_control *c, struct conn *conn)
{
	char bytes[READ_BYTES];
	ssize_t n = read(conn->fd, bytes, sizeof(bytes));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	return append(&conn->in, bytes, (size_t)n, LINE_MAX_BYTES + READ_BYTES) &&
	       take_lines(c, conn);
}

static void flush_all(struct og_control *c)
{
	for (uint32_t i = 0; i < CONNS_MAX; i++) {
		if (c->conns[i].fd >= 0 && !flush(c, &c->conns[i]))
			drop(c, &c->conns[i]);
	}
}

void og_control_serve(struct og_control *c)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(c->epoll_fd, events, EVENTS, 0);
	uint64_t count;

	for (int i = 0; i < n; i++) {
		uint64_t mark = events[i].data.u64;
		struct conn *conn = &c->conns[(uint32_t)mark % CONNS_MAX];

		if (mark == listener_mark)
			accept_conn(c);
		else if (mark == wake_mark)
			(void)!read(c->wake_fd, &count, sizeof(count));
		else if (conn->fd < 0 || handle(c, conn) != mark)
			continue;
		else if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !receive(c, conn))
			drop(c, conn);
	}
	flush_all(c);
}

int og_control_fd(const struct og_control *c)
{
	return c->epoll_fd;
}

static int open_fds(struct og_control *c)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = listener_mark};

	c->listen_fd = og_control_socket(c->opts.root, true);
	if (c->listen_fd < 0)
		return c->listen_fd;
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->epoll_fd < 0 || c->wake_fd < 0 ||
		epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->listen_fd, &ev) < 0)
		return -errno;
	ev.data.u64 = wake_mark;
	if (epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->wake_fd, &ev) < 0)
		return -errno;
	return 0;
}

int og_control_open(
	struct og_control **out, const struct og_control_opts *opts, char *err, size_t err_bytes)
{
	struct og_control *c = calloc(1, sizeof(*c));
	int ret;

	if (!c)
		return -ENOMEM;
	c->opts = *opts;
	c->listen_fd = c->epoll_fd = c->wake_fd = -1;
	for (uint32_t i = 0; i < CONNS_MAX; i++)
		c->conns[i].fd = -1;
	og_rand_system(&c->rand);
	pthread_mutex_init(&c->lock, NULL);
	ret = open_fds(c);
	if (ret < 0) {
		snprintf(err, err_bytes, "control socket %s/control.sock: %s", opts->root,
			strerror(-ret));
		og_control_close(c);
		return ret;
	}
	og_link_set_face(opts->link, OG_FACE_CONTROL, on_answer, c);
	*out = c;
	return 0;
}

void og_control_close(struct og_control *c)
{
	char path[PATH_MAX];

	if (!c)
		return;
	flush_all(c);
	for (uint32_t i = 0; i < CONNS_MAX; i++) {
		if (c->conns[i].fd >= 0) {
			c->conns[i].asking = false;
			drop(c, &c->conns[i]);
		}
	}
	if (c->listen_fd >= 0) {
		if (snprintf(path, sizeof(path), "%s/control.sock", c->opts.root) <
			(int)sizeof(path))
			unlink(path);
		close(c->listen_fd);
	}
	if (c->epoll_fd >= 0)
		close(c->epoll_fd);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
