/*
 * port_socket_priv.h: what the two ways to drive the sockets of a port share.
 */
#pragma once
#include "dataplane/packet.h"
#include "dataplane/port_socket.h"
#include "dataplane/shed.h"

#include <netinet/in.h>
#include <stdalign.h>
#include <string.h>
#include <sys/socket.h>

/* Embedded first in the port of each way. */
struct og_port_socket {
	struct og_port port;
	int fds[OG_PORT_ENDPOINTS_MAX]; /* owned from a successful open on */
	struct og_shed shed[OG_PORT_ENDPOINTS_MAX];
	uint32_t dropped[OG_PORT_ENDPOINTS_MAX]; /* as the kernel counts */
	uint32_t nb_bursts;
	bool no_groups; /* each datagram is sent for itself */
};

enum { OG_SEND_GROUP = OG_BURST };

/*
 * The head of datagrams that are sent as one: to one peer and equally long, but for the last, which
 * the kernel cuts apart (UDP_SEGMENT). Points into itself, so it must not move.
 */
struct og_send {
	struct msghdr msg;
	struct sockaddr_in dst;
	alignas(struct cmsghdr)
		uint8_t control[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint16_t))];
	struct iovec iov[OG_SEND_GROUP];
};

static inline bool og_send_may_fragment(struct rte_mbuf *m)
{
	return og_packet(m)->ttl & OG_TX_MAY_FRAGMENT;
}

/* How many of the first of `pkts` go together: 1 or more. */
uint16_t og_send_group(const struct og_port_socket *s, struct rte_mbuf **pkts, uint16_t n);
void og_send_prepare(struct og_send *send, struct rte_mbuf **pkts, uint16_t n);
/*
 * Send one that the network may cut, now, and free it. IPv4 sockets have no such choice for a single
 * datagram, so it takes the option of the socket and three system calls: these are rare.
 */
void og_send_fragmentable(struct og_port_socket *s, struct rte_mbuf *m);
/* Counts a send of `n` datagrams that failed with errno `err`. */
void og_send_failed(struct og_port_socket *s, int err, uint16_t n);

static inline struct og_addr og_addr_from_sockaddr(const struct sockaddr_in *sin)
{
	struct og_addr a = {.port = ntohs(sin->sin_port)};

	memcpy(a.ip, &sin->sin_addr, sizeof(a.ip));
	return a;
}

/* At the end of each receive: sheds what floods the sockets. Returns how many of `pkts` are left. */
uint16_t og_port_socket_watch(struct og_port_socket *s, struct rte_mbuf **pkts, uint16_t n);
void og_port_socket_local_addr(const struct og_port *port, uint16_t endpoint, struct og_addr *out);
void og_port_socket_close_fds(struct og_port_socket *s);

/* Returns -EOPNOTSUPP, -EPERM, -ENOSYS … where io_uring cannot be used; the sockets stay open. */
int og_port_uring_open(struct og_port **out, struct rte_mempool *pool, const int *fds,
	uint16_t nb_endpoints) OG_MUST_CHECK;
int og_port_mmsg_open(struct og_port **out, struct rte_mempool *pool, const int *fds,
	uint16_t nb_endpoints) OG_MUST_CHECK;
