#include "crypto/keys.h"

#include "base/rand.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEED_DIGITS = 2 * OG_SEED_BYTES, FILE_BYTES = SEED_DIGITS + 1 };

static int check_private(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return -EPERM;
	if (st.st_mode & (S_IRWXG | S_IRWXO))
		return -EACCES;
	return 0;
}

/* Reads until the end or until `cap` bytes are there. Returns how many, or the error. */
static ssize_t read_all(int fd, char *buf, size_t cap)
{
	size_t have = 0;

	while (have < cap) {
		ssize_t n = read(fd, buf + have, cap - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

static int write_all(int fd, const char *buf, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

static int parse_seed(uint8_t seed[OG_SEED_BYTES], const char *text, size_t len)
{
	if (len == FILE_BYTES && text[SEED_DIGITS] == '\n')
		len = SEED_DIGITS;
	return og_hex_decode(seed, OG_SEED_BYTES, text, len) < 0 ? -EBADMSG : 0;
}

int og_keypair_load(struct og_keypair *out, const char *path)
{
	char text[FILE_BYTES + 1]; /* one more than allowed, to see that nothing follows */
	uint8_t seed[OG_SEED_BYTES];
	ssize_t n;
	int ret;
	/* O_NONBLOCK: a FIFO must be refused, not waited for. */
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ret = check_private(fd);
	if (ret < 0)
		goto close_fd;
	n = read_all(fd, text, sizeof(text));
	ret = n < 0 ? (int)n : parse_seed(seed, text, (size_t)n);
	if (ret == 0)
		og_keypair_from_seed(out, seed);
	sodium_memzero(text, sizeof(text));
	sodium_memzero(seed, sizeof(seed));
close_fd:
	close(fd);
	return ret;
}

static int write_seed(int fd, const uint8_t seed[OG_SEED_BYTES])
{
	char text[FILE_BYTES + 1];
	int ret;

	og_hex_encode(text, seed, OG_SEED_BYTES);
	text[SEED_DIGITS] = '\n';
	ret = write_all(fd, text, FILE_BYTES);
	sodium_memzero(text, sizeof(text));
	if (ret < 0)
		return ret;
	/* The umask may have taken bits; nothing may have added any. */
	if (fchmod(fd, S_IRUSR | S_IWUSR) < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

/* Makes the new name durable. */
static int sync_folder_of(const char *path)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;
	int ret = 0;
	int fd;

	if (!slash)
		strcpy(folder, ".");
	else if (len == 0)
		strcpy(folder, "/");
	else
		snprintf(folder, sizeof(folder), "%.*s", (int)len, path);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* rename() that never replaces; file systems without the flag get a hard link instead. */
static int move_new(const char *from, const char *to)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (link(from, to) < 0)
		return -errno;
	return unlink(from) < 0 ? -errno : 0;
}

static int create_file(const char *path, const uint8_t seed[OG_SEED_BYTES], uint64_t nonce)
{
	char temp[PATH_MAX];
	int n = snprintf(temp, sizeof(temp), "%s.%016llx.tmp", path, (unsigned long long)nonce);
	int ret;
	int fd;

	if (n < 0 || (size_t)n >= sizeof(temp))
		return -ENAMETOOLONG;
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
	if (fd < 0)
		return -errno;
	ret = write_seed(fd, seed);
	close(fd);
	if (ret == 0)
		ret = move_new(temp, path);
	if (ret < 0) {
		unlink(temp);
		return ret;
	}
	return sync_folder_of(path);
}

int og_keypair_create(struct og_keypair *out, const char *path, struct og_rand *rand)
{
	uint8_t seed[OG_SEED_BYTES];
	int ret;

	og_rand_fill(rand, seed, sizeof(seed));
	ret = create_file(path, seed, og_rand_u64(rand));
	if (ret == 0)
		og_keypair_from_seed(out, seed);
	sodium_memzero(seed, sizeof(seed));
	return ret;
}
