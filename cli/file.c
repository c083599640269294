#include "cli/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int og_file_load(const char *path, size_t max_bytes, char **out, size_t *len_bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), ret = 0;
	char *data = NULL;
	size_t n = 0, cap = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t got;

		if (n + 1 >= cap) {
			char *more = realloc(data, cap = cap ? cap * 2 : 4096);

			if (!more) {
				ret = -ENOMEM;
				break;
			}
			data = more;
		}
		got = read(fd, data + n, cap - n - 1);
		if (got < 0)
			ret = -errno;
		if (got <= 0)
			break;
		n += (size_t)got;
		if (n > max_bytes) {
			ret = -EFBIG;
			break;
		}
	}
	close(fd);
	if (ret < 0) {
		free(data);
		return ret;
	}
	data[n] = '\0';
	*out = data;
	*len_bytes = n;
	return 0;
}

static int write_all(int fd, const char *data, size_t len_bytes)
{
	while (len_bytes > 0) {
		ssize_t n = write(fd, data, len_bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

int og_file_save(const char *path, const void *data, size_t len_bytes, unsigned mode)
{
	char tmp[PATH_MAX];
	int fd, ret;

	if (snprintf(tmp, sizeof(tmp), "%s.XXXXXX", path) >= (int)sizeof(tmp))
		return -ENAMETOOLONG;
	fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write_all(fd, data, len_bytes);
	if (ret == 0 && (fchmod(fd, (mode_t)mode) < 0 || fsync(fd) < 0))
		ret = -errno;
	if (close(fd) < 0 && ret == 0)
		ret = -errno;
	if (ret == 0 && rename(tmp, path) < 0)
		ret = -errno;
	if (ret < 0)
		unlink(tmp);
	return ret;
}
