#include "dataplane/eal_drivers.h"

#include "dataplane/eal.h"

#include <assert.h>
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
enum { DRIVER_ABI = RTE_VER_YEAR + 1, NAME_MAX_BYTES = 64, VENDOR_DRIVERS_MAX = 6 };
static_assert(VENDOR_DRIVERS_MAX + 2 <= OG_EAL_DRIVERS_MAX, "beside the ring and the bus");

/* Who drives the network cards of a PCI vendor. */
static const struct {
	const char *vendor; /* as sysfs has it */
	const char *drivers[VENDOR_DRIVERS_MAX];
} vendors[] = {
	{"0x8086", {"net_e1000", "net_igc", "net_ixgbe", "net_i40e", "net_iavf", "net_ice"}},
	{"0x15b3", {"net_mlx5", "net_mlx4"}},
	{"0x14e4", {"net_bnxt"}},
	{"0x1af4", {"net_virtio"}},
	{"0x15ad", {"net_vmxnet3"}},
	{"0x1d0f", {"net_ena"}},
};

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

/* "0x8086", or "" when there is no such device. */
static void read_vendor(const char *devargs, char out[8])
{
	char path[128];
	FILE *f;

	out[0] = '\0';
	if (strncmp(devargs, "pci:", 4) == 0)
		devargs += 4;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s%.*s/vendor",
		strcspn(devargs, ":") == 2 ? "0000:" : "", (int)OG_MIN(strcspn(devargs, ","), 40u),
		devargs);
	f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(out, 8, f))
		out[0] = '\0';
	out[strcspn(out, "\n")] = '\0';
	fclose(f);
}

/* Returns how many, 0 if the vendor or its drivers are not known here. */
static uint32_t of_vendor(
	const char *vendor, char out[VENDOR_DRIVERS_MAX][OG_EAL_DRIVER_PATH_BYTES])
{
	uint32_t n = 0;

	for (size_t i = 0; i < OG_ARRAY_LEN(vendors); i++) {
		if (strcmp(vendor, vendors[i].vendor) != 0)
			continue;
		for (size_t k = 0; k < VENDOR_DRIVERS_MAX && vendors[i].drivers[k]; k++) {
			const char *name = vendors[i].drivers[k];

			n += find(out[n], name, strlen(name));
		}
	}
	return n;
}

static uint32_t of_pci(
	const char *devargs, char out[OG_EAL_DRIVERS_MAX - 1][OG_EAL_DRIVER_PATH_BYTES])
{
	static const char bus[] = "bus_pci";
	char vendor[8];
	uint32_t n;

	read_vendor(devargs, vendor);
	if (!find(out[0], bus, strlen(bus)))
		return 0;
	n = of_vendor(vendor, out + 1);
	return n > 0 ? 1 + n : 0;
}

uint32_t og_eal_drivers_of(
	const char *devargs, char out[OG_EAL_DRIVERS_MAX][OG_EAL_DRIVER_PATH_BYTES])
{
	static const char ring[] = "mempool_ring", bus[] = "bus_vdev";
	uint32_t n;
	size_t len;

	if (!find(out[0], ring, strlen(ring)))
		return 0;
	if (!devargs)
		return 1;
	if (og_eal_is_pci(devargs)) {
		n = of_pci(devargs, out + 1);
		return n > 0 ? 1 + n : 0;
	}
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
