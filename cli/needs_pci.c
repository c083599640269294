/*
 * needs_pci.c: what a network card of DPDK's needs: its driver, an IOMMU, the right to both, and pages
 * that stay where they are.
 */
#include "cli/needs_priv.h"

#include "cli/machine.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define UNSAFE_MODE "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"

/* Drivers that leave the card with the kernel and let DPDK in beside it. */
static bool shares_card(const char *driver)
{
	return strcmp(driver, "mlx5_core") == 0 || strcmp(driver, "mlx4_core") == 0;
}

static void read_of(const char *address, const char *name, char *out, size_t cap)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, name);
	og_machine_link(path, out, cap);
}

/* The kernel's interface on the card, "" when it has none (virtio hangs one floor lower). */
static void interface_on(const char *address, char out[64])
{
	static const char *const places[] = {"net", "virtio0/net"};
	const struct dirent *e;
	char path[PATH_MAX];

	out[0] = '\0';
	for (size_t i = 0; i < OG_ARRAY_LEN(places); i++) {
		DIR *d;

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, places[i]);
		d = opendir(path);
		while (d && (e = readdir(d)))
			if (e->d_name[0] != '.')
				snprintf(out, 64, "%.60s", e->d_name);
		if (d)
			closedir(d);
	}
}

static void check_iommu(const struct og_needs *n)
{
	DIR *d = opendir("/sys/kernel/iommu_groups");
	const struct dirent *e;
	bool found = false;
	char unsafe[8];

	while (d && (e = readdir(d)))
		found |= e->d_name[0] != '.';
	if (d)
		closedir(d);
	og_machine_read(UNSAFE_MODE, unsafe, sizeof(unsafe));
	if (!found && unsafe[0] != 'Y')
		og_needs_lack(n, n->cfg->driver,
			"an IOMMU; intel_iommu=on or amd_iommu=on on the kernel's command line, "
			"and in the BIOS. In a virtual machine without one: echo Y >" UNSAFE_MODE
			", and then the card may write to any memory");
}

/* The kernel gives a group to one program, and only as a whole. */
static void check_group(const struct og_needs *n, const char *address, const char *group)
{
	char path[PATH_MAX], driver[64];
	const struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%s/devices", group);
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.' || strcmp(e->d_name, address) == 0)
			continue;
		read_of(e->d_name, "driver", driver, sizeof(driver));
		if (driver[0] && strcmp(driver, "vfio-pci") != 0 && strcmp(driver, "pcieport") != 0)
			og_needs_lack(n, n->cfg->driver,
				"IOMMU group %s for the card alone: %s is in it and has %s; "
				"dpdk-devbind.py -b vfio-pci %s, or the card in another slot",
				group, e->d_name, driver, e->d_name);
	}
	if (d)
		closedir(d);
}

static void check_vfio(const struct og_needs *n, const char *address)
{
	char path[PATH_MAX], group[64];
	struct rlimit limit;

	read_of(address, "iommu_group", group, sizeof(group));
	if (!group[0])
		return; /* no IOMMU: said already, or a choice */
	check_group(n, address, group);
	snprintf(path, sizeof(path), "/dev/vfio/%.60s", group);
	if (access(path, R_OK | W_OK) < 0)
		og_needs_lack(n, n->cfg->driver, "%s: %s; start as root, or chown it to this user",
			path, strerror(errno));
	if (geteuid() != 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0 &&
		limit.rlim_cur < OG_NEEDS_PACKET_BYTES)
		og_needs_lack(n, n->cfg->driver,
			"the right to lock the %llu MiB that the card writes to; ulimit -l "
			"unlimited, or LimitMEMLOCK=infinity in the systemd unit",
			OG_NEEDS_PACKET_BYTES >> 20);
}

static void check_shared(const struct og_needs *n, const char *address)
{
	char name[64];

	interface_on(address, name);
	if (name[0])
		og_needs_shared(n, name);
	else
		og_needs_lack(n, n->cfg->driver,
			"an interface of the kernel's on the card %s, to share", address);
}

static void check_driver(const struct og_needs *n, const char *address)
{
	char driver[64], name[64], also[128] = "";

	read_of(address, "driver", driver, sizeof(driver));
	if (shares_card(driver)) {
		og_needs_caps(n, n->cfg->driver, OG_NEEDS_NET_RAW, "the card's queues");
		if (n->cfg->shared)
			check_shared(n, address);
		return;
	}
	if (n->cfg->shared) {
		og_needs_lack(n, &n->cfg->shared,
			"a card that DPDK leaves to the kernel too, with flow rules (mlx5): with "
			"%s it takes all of it. driver = ethdev:net_af_xdp0,iface=NAME shares any, "
			"or "
			"shared = no gives the node the card alone",
			driver[0] ? driver : "no driver");
		return;
	}
	check_iommu(n);
	if (strcmp(driver, "vfio-pci") == 0) {
		check_vfio(n, address);
		return;
	}
	interface_on(address, name);
	if (name[0])
		snprintf(also, sizeof(also), ". The kernel loses %s: not the one your ssh comes by",
			name);
	og_needs_lack(n, n->cfg->driver,
		"vfio-pci on the card %s (it has %s); modprobe vfio-pci && dpdk-devbind.py -b "
		"vfio-pci %s%s",
		address, driver[0] ? driver : "no driver", address, also);
}

void og_needs_pci(const struct og_needs *n, const char *devargs)
{
	char address[64], path[PATH_MAX], class[16];

	if (strncmp(devargs, "pci:", 4) == 0)
		devargs += 4;
	snprintf(address, sizeof(address), "%s%.*s", strcspn(devargs, ":") == 2 ? "0000:" : "",
		(int)OG_MIN(strcspn(devargs, ","), (size_t)40), devargs);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class", address);
	og_machine_read(path, class, sizeof(class));
	if (!class[0])
		og_needs_lack(n, n->cfg->driver,
			"the card %s; dpdk-devbind.py --status-dev net and opengateway resources "
			"show those that are here",
			address);
	else if (strncmp(class, "0x02", 4) != 0)
		og_needs_lack(n, n->cfg->driver,
			"a network card at %s (its PCI class is %s); opengateway resources shows "
			"those that are here",
			address, class);
	else
		check_driver(n, address);
	if (!n->cfg->hugepages)
		og_needs_lack(n, &n->cfg->hugepages,
			"huge pages for a card that writes to memory; set [cores] hugepages = yes");
}
