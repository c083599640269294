#include "cli/http_watch.h"

#include "base/count.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	HEADER_MS = 10 * 1000,
	IDLE_MS = 60 * 1000,
	BODY_GRACE_MS = 5 * 1000,
	BODY_BYTES_PER_MS = 1,
	SWEEP_MS = 250,
	EVENTS = 64,
};

enum state { CONN_FREE, CONN_HEADER, CONN_BODY, CONN_HELD };

struct og_http_conn {
	struct og_http_conn *next_free;
	enum state state;
	int fd;
	uint32_t gen;
	uint64_t deadline_ms; /* HEADER, BODY */
	uint64_t body_since_ms;
	uint64_t request; /* HELD */
};

struct og_http_watch {
	struct og_http_watch_opts opts;
	struct og_http_watch_counters counters;
	pthread_mutex_t lock; /* guards the table: a socket is shut down only while it is in it */
	struct og_http_conn *conns, *first_free;
	int epoll_fd, stop_fd;
	pthread_t thread;
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t handle(const struct og_http_watch *w, const struct og_http_conn *c)
{
	return (uint64_t)c->gen << 32 | (uint32_t)(c - w->conns);
}

static void sweep(struct og_http_watch *w)
{
	uint64_t now = now_ms();

	pthread_mutex_lock(&w->lock);
	for (uint32_t i = 0; i < w->opts.nb_max; i++) {
		struct og_http_conn *c = &w->conns[i];

		if ((c->state == CONN_HEADER || c->state == CONN_BODY) && now >= c->deadline_ms) {
			shutdown(c->fd, SHUT_RDWR); /* libmicrohttpd closes it then */
			c->deadline_ms = UINT64_MAX;
			og_count(&w->counters.timed_out);
		}
	}
	pthread_mutex_unlock(&w->lock);
}

static void on_left(struct og_http_watch *w, uint64_t which)
{
	struct og_http_conn *c = &w->conns[(uint32_t)which];
	uint64_t request = 0;
	bool held;

	pthread_mutex_lock(&w->lock);
	held = c->state == CONN_HELD && c->gen == which >> 32;
	if (held) {
		request = c->request;
		og_count(&w->counters.left);
	}
	pthread_mutex_unlock(&w->lock);
	if (held)
		w->opts.gone(w->opts.ctx, request);
}

static void *run(void *arg)
{
	struct og_http_watch *w = arg;
	struct epoll_event events[EVENTS];
	uint64_t swept = now_ms();

	pthread_setname_np(pthread_self(), "og-http-watch");
	for (;;) {
		int n = epoll_wait(w->epoll_fd, events, EVENTS, SWEEP_MS);

		for (int i = 0; i < n; i++) {
			if (events[i].data.u64 == UINT64_MAX)
				return NULL;
			on_left(w, events[i].data.u64);
		}
		if (now_ms() - swept >= SWEEP_MS) {
			sweep(w);
			swept = now_ms();
		}
	}
}

static int open_fds(struct og_http_watch *w)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = UINT64_MAX};

	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll_fd < 0)
		return -errno;
	w->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (w->stop_fd < 0 || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->stop_fd, &ev) < 0)
		return -errno;
	return 0;
}

static void free_watch(struct og_http_watch *w)
{
	if (w->stop_fd >= 0)
		close(w->stop_fd);
	if (w->epoll_fd >= 0)
		close(w->epoll_fd);
	pthread_mutex_destroy(&w->lock);
	free(w->conns);
	free(w);
}

int og_http_watch_open(struct og_http_watch **out, const struct og_http_watch_opts *opts)
{
	struct og_http_watch *w = calloc(1, sizeof(*w));
	int ret;

	if (!w)
		return -ENOMEM;
	w->opts = *opts;
	w->epoll_fd = w->stop_fd = -1;
	pthread_mutex_init(&w->lock, NULL);
	w->conns = calloc(opts->nb_max, sizeof(*w->conns));
	ret = w->conns ? open_fds(w) : -ENOMEM;
	for (uint32_t i = 0; ret == 0 && i < opts->nb_max; i++) {
		w->conns[i].next_free = w->first_free;
		w->first_free = &w->conns[i];
	}
	if (ret == 0)
		ret = -pthread_create(&w->thread, NULL, run, w);
	if (ret < 0) {
		free_watch(w);
		return ret;
	}
	*out = w;
	return 0;
}

void og_http_watch_close(struct og_http_watch *w)
{
	uint64_t one = 1;

	if (!w)
		return;
	while (write(w->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(w->thread, NULL);
	free_watch(w);
}

const struct og_http_watch_counters *og_http_watch_counters(const struct og_http_watch *w)
{
	return &w->counters;
}

struct og_http_conn *og_http_watch_add(struct og_http_watch *w, int fd)
{
	struct epoll_event ev = {.events = EPOLLONESHOT}; /* silent until the request is held */
	struct og_http_conn *c;

	pthread_mutex_lock(&w->lock);
	c = w->first_free;
	if (c) {
		w->first_free = c->next_free;
		c->state = CONN_HEADER;
		c->fd = fd;
		c->gen++;
		c->deadline_ms = now_ms() + HEADER_MS;
		ev.data.u64 = handle(w, c);
		(void)!epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
		og_count(&w->counters.opened);
		og_count(&w->counters.open);
	}
	pthread_mutex_unlock(&w->lock);
	return c;
}

void og_http_watch_remove(struct og_http_watch *w, struct og_http_conn *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&w->lock);
	epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
	c->state = CONN_FREE;
	c->fd = -1;
	c->next_free = w->first_free;
	w->first_free = c;
	og_count_add(&w->counters.open, (uint64_t)-1);
	pthread_mutex_unlock(&w->lock);
}

void og_http_watch_body(struct og_http_watch *w, struct og_http_conn *c, uint64_t body_bytes)
{
	if (!c)
		return;
	pthread_mutex_lock(&w->lock);
	if (c->state != CONN_BODY)
		c->body_since_ms = now_ms();
	c->state = CONN_BODY;
	c->deadline_ms = c->body_since_ms + BODY_GRACE_MS + body_bytes / BODY_BYTES_PER_MS;
	pthread_mutex_unlock(&w->lock);
}

static void listen_for_end(struct og_http_watch *w, struct og_http_conn *c, bool on)
{
	struct epoll_event ev = {.events = EPOLLONESHOT | (on ? EPOLLRDHUP : 0)};

	ev.data.u64 = handle(w, c);
	(void)!epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
}

void og_http_watch_hold(struct og_http_watch *w, struct og_http_conn *c, uint64_t request)
{
	if (!c)
		return;
	pthread_mutex_lock(&w->lock);
	c->state = CONN_HELD;
	c->request = request;
	listen_for_end(w, c, true);
	pthread_mutex_unlock(&w->lock);
}

void og_http_watch_idle(struct og_http_watch *w, struct og_http_conn *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&w->lock);
	if (c->state == CONN_HELD)
		listen_for_end(w, c, false);
	c->state = CONN_HEADER;
	c->deadline_ms = now_ms() + IDLE_MS + HEADER_MS;
	pthread_mutex_unlock(&w->lock);
}
