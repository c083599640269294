/* Whether a memif's server listens, found out without its knowing. */
#include "dataplane/memif_socket.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[] = "/tmp/og-memif-XXXXXX";
static char path[64], client[128], server[128];

static void make_folder(void)
{
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/s.sock", folder);
	snprintf(client, sizeof(client), "net_memif0,role=client,socket=%s,socket-abstract=no",
		path);
	snprintf(server, sizeof(server), "net_memif0,role=server,socket=%s,socket-abstract=no",
		path);
}

static void remove_folder(void)
{
	unlink(path);
	rmdir(folder);
}

/* A name without its zero byte is an abstract one. */
static int listen_at(const char *name, bool abstract)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	size_t len = offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1;

	strcpy(at.sun_path + abstract, name);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, (socklen_t)len), 0);
	cr_assert_eq(listen(fd, 1), 0);
	return fd;
}

TestSuite(memif_socket, .init = make_folder, .fini = remove_folder);

Test(memif_socket, a_client_waits_for_its_server)
{
	struct pollfd p = {.events = POLLIN};

	cr_assert_eq(og_memif_reach(client), -EAGAIN, "nothing of that name");
	p.fd = listen_at(path, false);
	cr_assert_eq(og_memif_reach(client), 0);
	cr_assert_eq(poll(&p, 1, 0), 0, "the server did not notice");
	close(p.fd);
	cr_assert_eq(og_memif_reach(client), -EAGAIN, "what a server has left");
}

Test(memif_socket, a_client_waits_for_an_abstract_name)
{
	char name[96], devargs[160];
	struct pollfd p = {.events = POLLIN};

	snprintf(name, sizeof(name), "%s/abstract", folder);
	snprintf(devargs, sizeof(devargs), "net_memif0,role=client,socket=%s", name);
	cr_assert_eq(og_memif_reach(devargs), -EAGAIN);
	p.fd = listen_at(name, true);
	cr_assert_eq(og_memif_reach(devargs), 0);
	cr_assert_eq(poll(&p, 1, 0), 0, "the server did not notice");
	devargs[strlen(devargs) - 1] = '\0';
	cr_assert_eq(og_memif_reach(devargs), -EAGAIN, "the name is a longer one");
	close(p.fd);
}

Test(memif_socket, no_right_is_said_as_such)
{
	int fd = listen_at(path, false);

	cr_assert_eq(chmod(path, 0), 0);
	if (geteuid() == 0)
		cr_assert_eq(seteuid(65534), 0);
	cr_assert_eq(og_memif_reach(client), -EACCES);
	if (getuid() == 0)
		cr_assert_eq(seteuid(0), 0);
	close(fd);
}

Test(memif_socket, others_wait_for_nobody)
{
	cr_assert_eq(og_memif_reach(server), 0);
	cr_assert_eq(og_memif_reach("net_af_packet0,iface=eth0"), 0);
}

Test(memif_socket, a_server_removes_only_what_nobody_listens_at)
{
	int fd = listen_at(path, false);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	og_memif_make_way(server);
	cr_assert_eq(access(path, F_OK), 0);
	cr_assert_eq(poll(&p, 1, 0), 0, "the other server did not notice");
	og_memif_make_way(client);
	close(fd);
	og_memif_make_way(client);
	cr_assert_eq(access(path, F_OK), 0, "a client removes nothing");
	og_memif_make_way(server);
	cr_assert_neq(access(path, F_OK), 0);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	og_memif_make_way(server);
	cr_assert_eq(access(path, F_OK), 0, "not a socket");
}
