/* The messages of a memif connection, as they say how many rings it has. */
#include "dataplane/memif_rings.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef uint8_t message[OG_MEMIF_MESSAGE_BYTES];

static void hello(message m, uint8_t max_s2c, uint8_t max_c2s)
{
	memset(m, 0, sizeof(message));
	m[0] = 2;
	m[40] = max_s2c;
	m[42] = max_c2s;
}

static void add_ring(struct og_memif_rings *r, uint16_t index, bool from_client)
{
	message m = {5, 0, from_client, 0, (uint8_t)index, (uint8_t)(index >> 8)};

	og_memif_note(r, m);
}

Test(memif_rings, a_client_has_what_the_server_offers)
{
	struct og_memif_rings *r = og_memif_open("net_memif0,socket=/tmp/s", 4);
	message m;

	cr_assert_eq(r->nb_rx, 0, "nothing before that");
	hello(m, 0, 1);
	og_memif_mend(r, m);
	og_memif_note(r, m);
	cr_assert_eq(r->nb_rx, 1);
	cr_assert_eq(r->nb_tx, 2);
	hello(m, 255, 255);
	og_memif_note(r, m);
	cr_assert_eq(r->nb_rx, 4);
	cr_assert_eq(r->nb_tx, 4);
	og_memif_close(r);
}

Test(memif_rings, a_server_has_what_the_client_made)
{
	struct og_memif_rings *r = og_memif_open("net_memif0,role=server,socket=/tmp/s", 4);
	message init = {3};

	add_ring(r, 0, true);
	add_ring(r, 1, true);
	add_ring(r, 0, false);
	cr_assert_eq(r->nb_rx, 2);
	cr_assert_eq(r->nb_tx, 1);
	add_ring(r, 1, true);
	cr_assert_eq(r->nb_rx, 2, "told twice, there once");
	add_ring(r, 3, true);
	cr_assert_eq(r->nb_rx, 2, "the third is missing");
	add_ring(r, 2, true);
	cr_assert_eq(r->nb_rx, 4);
	for (uint16_t i = 0; i < 40; i++)
		add_ring(r, i, false);
	add_ring(r, 65535, false);
	cr_assert_eq(r->nb_tx, 4, "no more than we have queues");
	og_memif_note(r, init);
	cr_assert_eq(r->nb_rx, 0, "the next client starts anew");
	cr_assert_eq(r->nb_tx, 0);
	og_memif_close(r);
}

Test(memif_rings, a_server_offers_what_it_has)
{
	struct og_memif_rings *r = og_memif_open("net_memif0,role=server,socket=/tmp/s", 3);
	message m, other = {4, 0, 9};

	hello(m, 255, 255);
	og_memif_mend(r, m);
	cr_assert_eq(m[40], 2);
	cr_assert_eq(m[42], 2);
	og_memif_mend(r, other);
	cr_assert_eq(other[2], 9);
	og_memif_close(r);
}

Test(memif_rings, places_are_used_again)
{
	struct og_memif_rings *r[OG_MEMIF_MAX];

	for (int i = 0; i < OG_MEMIF_MAX; i++)
		cr_assert_not_null(r[i] = og_memif_open("net_memif0", 1));
	cr_assert_null(og_memif_open("net_memif0", 1));
	og_memif_close(r[3]);
	cr_assert_eq(og_memif_open("net_memif0", 1), r[3]);
}

/* Through the C library's names, as the driver calls them. Others' sockets are not looked at. */
Test(memif_rings, messages_of_other_sockets_pass_as_they_are)
{
	message out, in;
	struct iovec iov = {out, sizeof(out)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	struct og_memif_rings *r = og_memif_open("net_memif0,role=server,socket=/tmp/s", 3);
	int fds[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	hello(out, 255, 255);
	cr_assert_eq(sendmsg(fds[0], &mh, 0), sizeof(out));
	iov.iov_base = in;
	cr_assert_eq(recvmsg(fds[1], &mh, 0), sizeof(in));
	cr_assert_arr_eq(in, out, sizeof(in));
	cr_assert_eq(in[40], 255);
	close(fds[0]);
	close(fds[1]);
	og_memif_close(r);
}
