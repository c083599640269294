#include "dataplane/memif_socket.h"

#include "base/log.h"
#include "dataplane/devargs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

bool og_memif_is(const char *devargs)
{
	return strncmp(devargs, "net_memif", strlen("net_memif")) == 0;
}

bool og_memif_is_server(const char *devargs)
{
	char role[16];

	return og_memif_is(devargs) && og_devargs_get(devargs, "role", role, sizeof(role)) &&
	       (strcmp(role, "server") == 0 || strcmp(role, "master") == 0);
}

static bool is_abstract(const char *devargs)
{
	char abstract[8];

	return !og_devargs_get(devargs, "socket-abstract", abstract, sizeof(abstract)) ||
	       strcmp(abstract, "no") != 0;
}

void og_memif_socket(const char *devargs, char out[OG_MEMIF_SOCKET_BYTES])
{
	if (!og_devargs_get(devargs, "socket", out, OG_MEMIF_SOCKET_BYTES))
		strcpy(out, "/run/memif.sock"); /* the driver's own */
}

/*
 * A memif's socket is one of packets. One of streams gets no connection to it: the kernel says EPROTOTYPE,
 * after it has found the listener and the right to connect, and tells nobody else.
 */
static int reach_path(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return -errno;
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	ret = connect(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 ? -errno : 0;
	close(fd);
	if (ret == -ENOENT || ret == -ECONNREFUSED)
		return -EAGAIN;
	return ret == -EPROTOTYPE ? 0 : ret;
}

/* An abstract name is one of our network namespace, which lists them. */
static int reach_abstract(const char *name)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[256], path[OG_MEMIF_SOCKET_BYTES + 1];
	unsigned flags;
	int ret = -EAGAIN;

	if (!f)
		return 0; /* the driver will see */
	while (ret < 0 && fgets(line, sizeof(line), f))
		/* Num: RefCount Protocol Flags Type St Inode Path; flag: listens */
		if (sscanf(line, "%*[^:]: %*x %*x %x %*x %*x %*u @%107[^\n]", &flags, path) == 2 &&
			(flags & 0x10000) && strcmp(path, name) == 0)
			ret = 0;
	fclose(f);
	return ret;
}

int og_memif_reach(const char *devargs)
{
	char name[OG_MEMIF_SOCKET_BYTES];

	if (!og_memif_is(devargs) || og_memif_is_server(devargs))
		return 0;
	og_memif_socket(devargs, name);
	return is_abstract(devargs) ? reach_abstract(name) : reach_path(name);
}

void og_memif_make_way(const char *devargs)
{
	char path[OG_MEMIF_SOCKET_BYTES];
	struct stat st;

	if (!og_memif_is_server(devargs) || is_abstract(devargs))
		return;
	og_memif_socket(devargs, path);
	if (stat(path, &st) == 0 && S_ISSOCK(st.st_mode) && reach_path(path) == -EAGAIN &&
		unlink(path) == 0)
		OG_LOG(port, INFO, "%s was left by a server that is gone: removed", path);
}
