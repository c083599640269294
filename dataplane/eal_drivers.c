#include "dataplane/eal_drivers.h"

#include "dataplane/eal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <rte_build_config.h>
#include <rte_version.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The ABI of DPDK 22.11 is 23. */
#define DRIVER_FILE RTE_EAL_PMD_PATH "/librte_%.*s.so.%d"
enum { DRIVER_ABI = RTE_VER_YEAR + 1, NAME_MAX_BYTES = 64 };

static bool hidden;

int stat64(const char *restrict path, struct stat64 *restrict out);

/* In place of the C library's, also for its shared libraries. */
int stat64(const char *restrict path, struct stat64 *restrict out)
{
	if (hidden && strcmp(path, RTE_EAL_PMD_PATH) == 0) {
		hidden = false; /* the next look is for the permissions of a file that we named */
		errno = ENOENT;
		return -1;
	}
	return fstatat64(AT_FDCWD, path, out, 0);
}

void og_eal_drivers_hide(bool hide)
{
	hidden = hide;
}

static bool find(char path[OG_EAL_DRIVER_PATH_BYTES], const char *name, size_t len)
{
	int n = snprintf(path, OG_EAL_DRIVER_PATH_BYTES, DRIVER_FILE, (int)len, name, DRIVER_ABI);

	return n < OG_EAL_DRIVER_PATH_BYTES && access(path, R_OK) == 0;
}

uint32_t og_eal_drivers_of(
	const char *devargs, char out[OG_EAL_DRIVERS_MAX][OG_EAL_DRIVER_PATH_BYTES])
{
	static const char ring[] = "mempool_ring", bus[] = "bus_vdev";
	size_t len;

	if (!find(out[0], ring, strlen(ring)) || (devargs && og_eal_is_pci(devargs)))
		return 0;
	if (!devargs)
		return 1;
	/* "net_af_packet0,iface=va" is driven by net_af_packet. */
	len = strcspn(devargs, ",");
	while (len > 0 && isdigit((unsigned char)devargs[len - 1]))
		len--;
	if (len == 0 || len > NAME_MAX_BYTES || memchr(devargs, '/', len))
		return 0;
	if (!find(out[1], bus, strlen(bus)) || !find(out[2], devargs, len))
		return 0;
	return 3;
}
