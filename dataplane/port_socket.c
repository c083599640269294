#include "dataplane/port_socket_priv.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Asked for; the kernel grants what net.core.{r,w}mem_max allows. */
enum { SOCKET_BUFFER_BYTES = 4 << 20, PORTS_TRIED = 5 };

void og_send_prepare(struct og_send *send, struct rte_mbuf *m)
{
	const struct og_packet *p = og_packet(m);

	send->iov = (struct iovec){rte_pktmbuf_mtod(m, void *), rte_pktmbuf_data_len(m)};
	send->dst = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(p->peer.port)};
	memcpy(&send->dst.sin_addr, p->peer.ip, sizeof(p->peer.ip));
	send->msg = (struct msghdr){
		.msg_name = &send->dst,
		.msg_namelen = sizeof(send->dst),
		.msg_iov = &send->iov,
		.msg_iovlen = 1,
	};
	if ((p->ttl & OG_TX_TTL_MAX) != 0) {
		struct cmsghdr *c = (struct cmsghdr *)(void *)send->control;
		int ttl = p->ttl & OG_TX_TTL_MAX;

		*c = (struct cmsghdr){CMSG_LEN(sizeof(ttl)), IPPROTO_IP, IP_TTL};
		memcpy(CMSG_DATA(c), &ttl, sizeof(ttl));
		send->msg.msg_control = c;
		send->msg.msg_controllen = sizeof(send->control);
	}
}

enum og_drop og_send_drop(int err)
{
	return err == EMSGSIZE ? OG_DROP_TX_TOO_LONG : OG_DROP_TX_ERROR;
}

void og_send_fragmentable(struct og_port_socket *s, struct rte_mbuf *m)
{
	const int may = IP_PMTUDISC_DONT, probe = IP_PMTUDISC_PROBE;
	int fd = s->fds[og_packet(m)->endpoint];
	struct og_send send;

	og_send_prepare(&send, m);
	(void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &may, sizeof(may));
	if (sendmsg(fd, &send.msg, MSG_DONTWAIT) < 0)
		og_port_drop(&s->port, og_send_drop(errno));
	(void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof(probe));
	rte_pktmbuf_free(m);
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
			while (i-- > 0)
				close(fds[i]);
			return ret;
		}
	}
	return 0;
}

int og_port_socket_open(
	struct og_port **out, struct rte_mempool *pool, const struct og_port_socket_opts *opts)
{
	int fds[OG_PORT_ENDPOINTS_MAX], ret;

	if (opts->nb_endpoints == 0 || opts->nb_endpoints > OG_PORT_ENDPOINTS_MAX)
		return -EINVAL;
	ret = open_sockets(fds, opts);
	if (ret < 0)
		return ret;
	if (!opts->no_io_uring) {
		ret = og_port_uring_open(out, pool, fds, opts->nb_endpoints);
		if (ret == 0)
			return 0;
		OG_LOG(port, INFO, "io_uring cannot be used (%s): recvmmsg instead",
			strerror(-ret));
	}
	ret = og_port_mmsg_open(out, pool, fds, opts->nb_endpoints);
	if (ret < 0)
		for (uint16_t i = 0; i < opts->nb_endpoints; i++)
			close(fds[i]);
	return ret;
}
