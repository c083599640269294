#include "cli/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A socket's path holds 107 bytes, a root any number: it is reached through its descriptor. */
static int open_root(const char *root, struct sockaddr_un *un)
{
	int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof(un->sun_path), "/proc/self/fd/%d/control.sock", dir);
	return dir;
}

static int bind_listen(int fd, const struct sockaddr_un *un)
{
	mode_t mask;
	int ret;

	if (unlink(un->sun_path) < 0 && errno != ENOENT)
		return -errno;
	mask = umask(0177); /* mode 0600 from its first moment */
	ret = bind(fd, (const struct sockaddr *)un, sizeof(*un)) < 0 ? -errno : 0;
	umask(mask);
	if (ret == 0 && listen(fd, 16) < 0)
		ret = -errno;
	return ret;
}

int og_control_socket(const char *root, bool listening)
{
	struct sockaddr_un un;
	int dir = open_root(root, &un), fd, ret = 0;

	if (dir < 0)
		return dir;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (listening ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		ret = -errno;
	else if (listening)
		ret = bind_listen(fd, &un);
	else if (connect(fd, (const struct sockaddr *)&un, sizeof(un)) < 0)
		ret = -errno;
	close(dir);
	if (ret < 0 && fd >= 0)
		close(fd);
	return ret < 0 ? ret : fd;
}
