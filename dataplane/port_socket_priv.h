/*
 * port_socket_priv.h: what the two ways to drive the sockets of a port share.
 */
#pragma once
#include "dataplane/packet.h"
#include "dataplane/port_socket.h"

#include <netinet/in.h>
#include <stdalign.h>
#include <string.h>
#include <sys/socket.h>

/* Embedded first in the port of each way. */
struct og_port_socket {
	struct og_port port;
	int fds[OG_PORT_ENDPOINTS_MAX]; /* owned from a successful open on */
};

/* The head of one datagram to send; points into itself, so it must not move. */
struct og_send {
	struct msghdr msg;
	struct iovec iov;
	struct sockaddr_in dst;
	alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))];
};

void og_send_prepare(struct og_send *send, struct rte_mbuf *m);
static inline bool og_send_may_fragment(struct rte_mbuf *m)
{
	return og_packet(m)->ttl & OG_TX_MAY_FRAGMENT;
}

/*
 * Send one that the network may cut, now, and free it. IPv4 sockets have no such choice for a single
 * datagram, so it takes the option of the socket and three system calls: these are rare.
 */
void og_send_fragmentable(struct og_port_socket *s, struct rte_mbuf *m);
/* The drop reason of a send that failed with errno `err`. */
enum og_drop og_send_drop(int err);

static inline struct og_addr og_addr_from_sockaddr(const struct sockaddr_in *sin)
{
	struct og_addr a = {.port = ntohs(sin->sin_port)};

	memcpy(a.ip, &sin->sin_addr, sizeof(a.ip));
	return a;
}

void og_port_socket_local_addr(const struct og_port *port, uint16_t endpoint, struct og_addr *out);
void og_port_socket_close_fds(struct og_port_socket *s);

/* Returns -EOPNOTSUPP, -EPERM, -ENOSYS … where io_uring cannot be used; the sockets stay open. */
int og_port_uring_open(struct og_port **out, struct rte_mempool *pool, const int *fds,
	uint16_t nb_endpoints) OG_MUST_CHECK;
int og_port_mmsg_open(struct og_port **out, struct rte_mempool *pool, const int *fds,
	uint16_t nb_endpoints) OG_MUST_CHECK;
