#include "dataplane/eal.h"
#include "dataplane/eal_drivers.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <rte_dev.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

Test(eal, starts_without_a_runtime_folder_and_keeps_affinity)
{
	const struct og_eal_opts opts = {.memory_mib = 64};
	cpu_set_t before, after;

	unsetenv("XDG_RUNTIME_DIR");
	sched_getaffinity(0, sizeof(before), &before);
	cr_assert_eq(og_eal_open(&opts), 0);
	cr_assert_eq(og_eal_open(&opts), 0, "a second open changes nothing");
	sched_getaffinity(0, sizeof(after), &after);
	cr_assert(CPU_EQUAL(&before, &after));
}

Test(eal, starts_as_nobody_with_a_runtime_folder_that_is_missing)
{
	const struct og_eal_opts opts = {.memory_mib = 64};

	setenv("XDG_RUNTIME_DIR", "/nonexistent/run", 1);
	if (getuid() == 0)
		cr_assert_eq(setuid(65534), 0);
	cr_assert_eq(og_eal_open(&opts), 0);
}

Test(eal, two_processes_run_side_by_side)
{
	const struct og_eal_opts opts = {.memory_mib = 64};
	int ready[2], done[2], status;
	char byte = 0;
	pid_t pid;

	cr_assert_eq(pipe(ready) | pipe(done), 0);
	pid = fork();
	if (pid == 0) {
		byte = og_eal_open(&opts) == 0;
		if (write(ready[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1)
			_exit(1);
		_exit(0);
	}
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	cr_assert_eq(byte, 1, "the first started");
	cr_assert_eq(og_eal_open(&opts), 0, "and so does the second, beside it");
	cr_assert_eq(write(done[1], &byte, 1), 1);
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0);
}

/* A PCI device of the vendor of virtio, or "". */
static void find_virtio(char out[32])
{
	DIR *d = opendir("/sys/bus/pci/devices");
	const struct dirent *e;
	char path[128], vendor[16];

	out[0] = '\0';
	while (d && (e = readdir(d))) {
		FILE *f;

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.31s/vendor", e->d_name);
		f = fopen(path, "r");
		if (f && fgets(vendor, sizeof(vendor), f) && strcmp(vendor, "0x1af4\n") == 0)
			snprintf(out, 32, "%.31s", e->d_name);
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
}

Test(eal, a_card_gets_the_drivers_of_its_vendor)
{
	char paths[OG_EAL_DRIVERS_MAX][OG_EAL_DRIVER_PATH_BYTES], card[32], devargs[64];

	cr_expect_eq(og_eal_drivers_of("0000:ff:1f.7", paths), 0, "no card, no vendor: all");
	find_virtio(card);
	if (card[0] == '\0')
		cr_skip_test("no PCI device of virtio here");
	snprintf(devargs, sizeof(devargs), "pci:%s,x=y", card);
	cr_assert_eq(og_eal_drivers_of(devargs, paths), 3);
	cr_expect_not_null(strstr(paths[0], "mempool_ring"));
	cr_expect_not_null(strstr(paths[1], "bus_pci"));
	cr_expect_not_null(strstr(paths[2], "net_virtio"));
}

static long free_hugepages(void)
{
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "r");
	long n = 0;

	if (f) {
		if (fscanf(f, "%ld", &n) != 1)
			n = 0;
		fclose(f);
	}
	return n;
}

Test(eal, starts_on_hugepages_if_there_are_any)
{
	const struct og_eal_opts opts = {.hugepages = true};

	if (free_hugepages() < 32)
		cr_skip_test("no huge pages are free");
	cr_assert_eq(og_eal_open(&opts), 0);
}

Test(eal, a_wrong_argument_fails_with_an_error)
{
	const struct og_eal_opts opts = {
		.memory_mib = 64, .extra_args = " --vdev net_no_such_driver0"};

	cr_assert_lt(og_eal_open(&opts), 0);
}

/* How many of DPDK's drivers are mapped. */
static int drivers_loaded(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], last[512] = "";
	int n = 0;

	while (fgets(line, sizeof(line), f)) {
		char *path = strstr(line, "/dpdk/pmds-");

		if (path && strcmp(path, last) != 0) {
			strcpy(last, path);
			n++;
		}
	}
	fclose(f);
	return n;
}

Test(eal, loads_the_drivers_that_the_port_needs)
{
	const struct og_eal_opts opts = {.memory_mib = 64, .device = "net_ring0"};

	cr_assert_eq(og_eal_open(&opts), 0);
	cr_assert_leq(drivers_loaded(), 6, "and what it depends on");
	cr_assert_eq(rte_dev_probe("net_ring0"), 0);
	cr_assert_lt(rte_dev_probe("net_null0"), 0, "no such driver is there");
}

Test(eal, loads_all_drivers_where_it_cannot_tell)
{
	const struct og_eal_opts opts = {.memory_mib = 64, .extra_args = "--vdev net_null0"};

	cr_assert_eq(og_eal_open(&opts), 0);
	cr_assert_gt(drivers_loaded(), 20);
}

Test(eal, tells_pci_devices_from_virtual_ones)
{
	static const struct {
		const char *devargs;
		bool is_pci;
	} cases[] = {{"0000:00:02.0", true}, {"3b:00.1", true},
		{"pci:0000:3b:00.0,mprq_en=1", true}, {"net_af_packet0,iface=va", false},
		{"net_null0", false}, {"eth0", false}, {"0000:00:02.0;", false}, {"", false}};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++)
		cr_assert_eq(
			og_eal_is_pci(cases[i].devargs), cases[i].is_pci, "%s", cases[i].devargs);
}
