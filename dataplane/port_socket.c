#include "dataplane/port_socket_priv.h"

#include "base/core.h"
#include "base/log.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/udp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Asked for; the kernel grants what net.core.{r,w}mem_max allows. */
enum { SOCKET_BUFFER_BYTES = 4 << 20, PORTS_TRIED = 5 };
enum { GROUP_BYTES_MAX = 65000 }; /* an IP packet, less its heads */
/* While nothing is cut, the clock is read once in so many bursts that brought something. */
enum { CLOCK_EVERY = 8 };

static bool goes_along(const struct rte_mbuf *first, struct rte_mbuf *m)
{
	const struct og_packet *a = og_packet((struct rte_mbuf *)first), *b = og_packet(m);

	return og_addr_eq(&a->peer, &b->peer) && a->endpoint == b->endpoint && a->ttl == b->ttl &&
	       rte_pktmbuf_data_len(m) <= rte_pktmbuf_data_len(first);
}

uint16_t og_send_group(const struct og_port_socket *s, struct rte_mbuf **pkts, uint16_t n)
{
	uint32_t bytes = rte_pktmbuf_data_len(pkts[0]);
	uint16_t group = 1;

	n = OG_MIN(n, (uint16_t)OG_SEND_GROUP);
	if (s->no_groups || bytes == 0)
		return 1;
	while (group < n && goes_along(pkts[0], pkts[group])) {
		uint32_t more = rte_pktmbuf_data_len(pkts[group]);

		if (more == 0 || bytes + more > GROUP_BYTES_MAX)
			break;
		bytes += more;
		group++;
		if (more < rte_pktmbuf_data_len(pkts[0]))
			break; /* only the last may be shorter */
	}
	return group;
}

static void add_control(struct og_send *send, int level, int type, const void *data, size_t bytes)
{
	struct cmsghdr *c = (struct cmsghdr *)(void *)(send->control + send->msg.msg_controllen);

	*c = (struct cmsghdr){CMSG_LEN(bytes), level, type};
	memcpy(CMSG_DATA(c), data, bytes);
	send->msg.msg_control = send->control;
	send->msg.msg_controllen += CMSG_SPACE(bytes);
}

void og_send_prepare(struct og_send *send, struct rte_mbuf **pkts, uint16_t n)
{
	const struct og_packet *p = og_packet(pkts[0]);

	for (uint16_t i = 0; i < n; i++)
		send->iov[i] = (struct iovec){
			rte_pktmbuf_mtod(pkts[i], void *), rte_pktmbuf_data_len(pkts[i])};
	send->dst = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(p->peer.port)};
	memcpy(&send->dst.sin_addr, p->peer.ip, sizeof(p->peer.ip));
	send->msg = (struct msghdr){
		.msg_name = &send->dst,
		.msg_namelen = sizeof(send->dst),
		.msg_iov = send->iov,
		.msg_iovlen = n,
	};
	if ((p->ttl & OG_TX_TTL_MAX) != 0)
		add_control(send, IPPROTO_IP, IP_TTL, &(int){p->ttl & OG_TX_TTL_MAX}, sizeof(int));
	if (n > 1)
		add_control(send, IPPROTO_UDP, UDP_SEGMENT,
			&(uint16_t){rte_pktmbuf_data_len(pkts[0])}, sizeof(uint16_t));
}

static enum og_drop send_drop(int err)
{
	return err == EMSGSIZE ? OG_DROP_TX_TOO_LONG : OG_DROP_TX_ERROR;
}

void og_send_failed(struct og_port_socket *s, int err, uint16_t n)
{
	for (uint16_t i = 0; i < n; i++)
		og_port_drop(&s->port, send_drop(err));
	/* A device that makes no checksums, or a kernel that makes no segments. */
	if (n > 1 && (err == EIO || err == EINVAL))
		s->no_groups = true;
}

void og_send_fragmentable(struct og_port_socket *s, struct rte_mbuf *m)
{
	const int may = IP_PMTUDISC_DONT, probe = IP_PMTUDISC_PROBE;
	int fd = s->fds[og_packet(m)->endpoint];
	struct og_send send;

	og_send_prepare(&send, &m, 1);
	(void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &may, sizeof(may));
	if (sendmsg(fd, &send.msg, MSG_DONTWAIT) < 0)
		og_send_failed(s, errno, 1);
	(void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof(probe));
	rte_pktmbuf_free(m);
}

/* ---- floods ---- */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* How long the last datagram that was received had waited in the socket's queue. */
static uint64_t waited_ns(int fd)
{
	struct timespec came;
	uint64_t now_ns = clock_ns(CLOCK_REALTIME), came_ns;

	if (ioctl(fd, SIOCGSTAMPNS, &came) < 0)
		return 0;
	came_ns = (uint64_t)came.tv_sec * OG_NS_PER_S + (uint64_t)came.tv_nsec;
	return now_ns > came_ns ? now_ns - came_ns : 0; /* the clock may have been set */
}

/* With a filter in place nearly all that is lost is lost to it; the kernel keeps one count. */
static void count_lost(struct og_port_socket *s, uint16_t endpoint)
{
	uint32_t info[SK_MEMINFO_VARS] = {0};
	socklen_t len = sizeof(info);

	if (getsockopt(s->fds[endpoint], SOL_SOCKET, SO_MEMINFO, info, &len) < 0)
		return;
	og_count_add(&s->port.drops[s->shed[endpoint].nb_rules > 0 ? OG_DROP_RX_SHED
								   : OG_DROP_RX_QUEUE_FULL],
		info[SK_MEMINFO_DROPS] - s->dropped[endpoint]);
	s->dropped[endpoint] = info[SK_MEMINFO_DROPS];
}

static void install_filter(int fd, const struct og_shed *shed)
{
	struct sock_filter steps[OG_SHED_PROGRAM];
	const struct sock_fprog program = {og_shed_program(shed, steps), steps};

	/* Where it is refused, the queue's own end drops, as it would without us. */
	if (shed->nb_rules > 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
	else
		(void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &(int){0}, sizeof(int));
}

static void turn(struct og_port_socket *s, uint16_t endpoint, uint64_t now_ns)
{
	struct og_shed *shed = &s->shed[endpoint];

	count_lost(s, endpoint);
	if (og_shed_turn(shed, waited_ns(s->fds[endpoint]), now_ns))
		install_filter(s->fds[endpoint], shed);
}

/* Counts a datagram; false: it is dropped. */
static bool let_in(struct og_port_socket *s, struct rte_mbuf *m)
{
	const struct og_packet *p = og_packet(m);
	struct og_shed *shed = &s->shed[p->endpoint];
	const uint8_t *data = rte_pktmbuf_mtod(m, uint8_t *);
	uint16_t len_bytes = rte_pktmbuf_data_len(m);

	shed->nb_taken++;
	if (!shed->stands)
		return true;
	og_shed_seen(shed, &p->peer, data, len_bytes);
	if (!og_shed_drops(shed, &p->peer, data, len_bytes))
		return true;
	og_port_drop(&s->port, OG_DROP_RX_SHED);
	rte_pktmbuf_free(m);
	return false;
}

uint16_t og_port_socket_watch(struct og_port_socket *s, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t left = 0;
	bool cuts = false;
	uint64_t now_ns;

	for (uint16_t i = 0; i < n; i++)
		if (let_in(s, pkts[i]))
			pkts[left++] = pkts[i];
	for (uint16_t i = 0; i < s->port.nb_endpoints; i++)
		cuts |= s->shed[i].nb_rules > 0;
	if (!cuts && (n == 0 || s->nb_bursts++ % CLOCK_EVERY != 0))
		return left;
	now_ns = clock_ns(CLOCK_MONOTONIC);
	for (uint16_t i = 0; i < s->port.nb_endpoints; i++)
		if (now_ns - s->shed[i].turned_ns >= OG_SHED_TURN_NS)
			turn(s, i, now_ns);
	return left;
}

void og_port_socket_local_addr(const struct og_port *port, uint16_t endpoint, struct og_addr *out)
{
	const struct og_port_socket *s = OG_CONTAINER_OF(port, struct og_port_socket, port);
	struct sockaddr_in sin = {0};
	socklen_t len = sizeof(sin);

	(void)getsockname(s->fds[endpoint], (struct sockaddr *)&sin, &len);
	*out = og_addr_from_sockaddr(&sin);
}

void og_port_socket_close_fds(struct og_port_socket *s)
{
	for (uint16_t i = 0; i < s->port.nb_endpoints; i++)
		close(s->fds[i]);
}

static void enlarge(int fd, int forced, int plain)
{
	const int bytes = SOCKET_BUFFER_BYTES;

	/* Beyond the system's limit if we are privileged, else up to it. */
	if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof(bytes)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof(bytes));
}

static int make_socket(void)
{
	const int ttl = OG_PORT_TTL_DEFAULT, probe = IP_PMTUDISC_PROBE;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	/* PROBE: DF set, and no error for what the kernel believes is above the path's MTU. */
	if (setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof(probe)) < 0 ||
		setsockopt(fd, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)) < 0) {
		int err = errno;

		close(fd);
		return -err;
	}
	enlarge(fd, SO_RCVBUFFORCE, SO_RCVBUF);
	enlarge(fd, SO_SNDBUFFORCE, SO_SNDBUF);
	return fd;
}

static int bind_to(int fd, const struct og_addr *addr, uint16_t port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(port)};

	memcpy(&sin.sin_addr, addr->ip, sizeof(addr->ip));
	return bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 ? -errno : 0;
}

/* dht.md 2.1: the port, the four after it, then any. */
static int bind_near(int fd, const struct og_addr *addr)
{
	int ret = -EADDRINUSE;

	for (uint32_t i = 0; i < PORTS_TRIED && ret == -EADDRINUSE; i++) {
		if (addr->port == 0 || addr->port + i > UINT16_MAX)
			break;
		ret = bind_to(fd, addr, (uint16_t)(addr->port + i));
	}
	return ret == -EADDRINUSE ? bind_to(fd, addr, 0) : ret;
}

static void close_sockets(const int *fds, uint16_t nb)
{
	for (uint16_t i = 0; i < nb; i++)
		close(fds[i]);
}

static int open_sockets(int *fds, const struct og_port_socket_opts *opts)
{
	int ret;

	for (uint16_t i = 0; i < opts->nb_endpoints; i++) {
		fds[i] = ret = make_socket();
		if (ret >= 0) {
			ret = i == 0 ? bind_near(fds[i], &opts->bind)
				     : bind_to(fds[i], &opts->bind, 0);
			if (ret < 0)
				close(fds[i]);
		}
		if (ret < 0) {
			close_sockets(fds, i);
			return ret;
		}
	}
	return 0;
}

static int share(int fd)
{
	const int on = 1;

	return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ? -errno : 0;
}

/* One more socket for each of `first`, at the same addresses. */
static int open_beside(int *fds, const int *first, uint16_t nb)
{
	for (uint16_t i = 0; i < nb; i++) {
		struct sockaddr_in at = {0};
		socklen_t len = sizeof(at);
		struct og_addr addr;
		int ret;

		fds[i] = ret = make_socket();
		if (ret >= 0)
			ret = share(fds[i]);
		if (ret == 0 && getsockname(first[i], (struct sockaddr *)&at, &len) < 0)
			ret = -errno;
		if (ret == 0) {
			addr = og_addr_from_sockaddr(&at);
			ret = bind_to(fds[i], &addr, addr.port);
		}
		if (ret < 0) {
			close_sockets(fds, (uint16_t)(fds[i] < 0 ? i : i + 1));
			return ret;
		}
	}
	return 0;
}

/*
 * The sockets of all ports. The first ones are bound without SO_REUSEPORT, so that they fail where
 * somebody else is; only then they are shared, in the order that the program counts by.
 */
static int open_all(
	int (*fds)[OG_PORT_ENDPOINTS_MAX], uint16_t nb, const struct og_port_socket_opts *opts)
{
	const struct sock_fprog program = {
		.len = opts->nb_steering, .filter = (struct sock_filter *)opts->steering};
	int ret = open_sockets(fds[0], opts);
	uint16_t opened;

	if (ret < 0 || nb == 1)
		return ret;
	for (uint16_t i = 0; i < opts->nb_endpoints && ret == 0; i++)
		ret = share(fds[0][i]);
	for (opened = 1; opened < nb && ret == 0; opened++) {
		ret = open_beside(fds[opened], fds[0], opts->nb_endpoints);
		if (ret < 0)
			break;
	}
	if (ret < 0) {
		for (uint16_t k = 0; k < opened; k++)
			close_sockets(fds[k], opts->nb_endpoints);
		return ret;
	}
	for (uint16_t i = 0; opts->steering && i < opts->nb_endpoints; i++)
		if (setsockopt(fds[0][i], SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program,
			    sizeof(program)) < 0)
			OG_LOG(port, INFO, "the kernel does not steer datagrams to their cores: %s",
				strerror(errno));
	return 0;
}

static int open_one(struct og_port **out, struct rte_mempool *pool, const int *fds, bool *io_uring,
	uint16_t nb_endpoints)
{
	int ret;

	if (*io_uring) {
		ret = og_port_uring_open(out, pool, fds, nb_endpoints);
		if (ret == 0)
			return 0;
		*io_uring = false;
		OG_LOG(port, INFO, "io_uring cannot be used (%s): recvmmsg instead",
			strerror(-ret));
	}
	return og_port_mmsg_open(out, pool, fds, nb_endpoints);
}

static void know_streams(struct og_port *port, uint32_t tag_key)
{
	struct og_port_socket *s = OG_CONTAINER_OF(port, struct og_port_socket, port);

	for (uint16_t i = 0; i < port->nb_endpoints; i++)
		s->shed[i].tag_key = tag_key;
}

int og_port_socket_open(struct og_port **out, struct rte_mempool *const *pools, uint16_t nb,
	const struct og_port_socket_opts *opts)
{
	int fds[OG_CORES_MAX][OG_PORT_ENDPOINTS_MAX], ret;
	bool io_uring = !opts->no_io_uring;

	if (opts->nb_endpoints == 0 || opts->nb_endpoints > OG_PORT_ENDPOINTS_MAX || nb == 0 ||
		nb > OG_CORES_MAX)
		return -EINVAL;
	ret = open_all(fds, nb, opts);
	if (ret < 0)
		return ret;
	for (uint16_t k = 0; k < nb; k++) {
		ret = open_one(&out[k], pools[k], fds[k], &io_uring, opts->nb_endpoints);
		if (ret == 0) {
			know_streams(out[k], opts->tag_key);
			continue;
		}
		for (uint16_t i = 0; i < k; i++)
			out[i]->ops->close(out[i]);
		for (uint16_t i = k; i < nb; i++)
			close_sockets(fds[i], opts->nb_endpoints);
		return ret;
	}
	return 0;
}
