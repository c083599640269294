#include "dataplane/eal.h"

#include "base/log.h"
#include "dataplane/eal_drivers.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

enum { ARGS_MAX = 64, TEXT_BYTES = 4096, CAPTURE_BYTES = 4096 };

static struct {
	int argc;
	char *argv[ARGS_MAX + 1];
	char text[TEXT_BYTES]; /* EAL may keep pointers into it */
	size_t used;
	bool full;
} args;

static struct {
	bool started;
	size_t used;
	char text[CAPTURE_BYTES]; /* what EAL said while it started */
} said;

bool og_eal_is_pci(const char *devargs)
{
	unsigned domain, bus, dev, fn;
	int end = 0;

	if (strncmp(devargs, "pci:", 4) == 0)
		devargs += 4;
	if (sscanf(devargs, "%x:%x:%x.%x%n", &domain, &bus, &dev, &fn, &end) != 4 &&
		sscanf(devargs, "%x:%x.%x%n", &bus, &dev, &fn, &end) != 3)
		return false;
	return devargs[end] == '\0' || devargs[end] == ',';
}

static void add_arg_len(const char *arg, size_t len)
{
	if (args.argc == ARGS_MAX || len + 1 > TEXT_BYTES - args.used) {
		args.full = true;
		return;
	}
	args.argv[args.argc++] = args.text + args.used;
	memcpy(args.text + args.used, arg, len);
	args.text[args.used + len] = '\0';
	args.used += len + 1;
}

static void add_arg(const char *arg)
{
	add_arg_len(arg, strlen(arg));
}

static void add_blank_separated(const char *text)
{
	while (*text) {
		size_t len = strcspn(text, " \t");

		if (len > 0)
			add_arg_len(text, len);
		text += len;
		text += strspn(text, " \t");
	}
}

static int first_cpu(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
			if (CPU_ISSET(cpu, &set))
				return cpu;
	return 0;
}

/* Arguments of the operator may name devices of their own, whose drivers we do not know. */
static void add_drivers(const struct og_eal_opts *opts)
{
	static char paths[OG_EAL_DRIVERS_MAX][OG_EAL_DRIVER_PATH_BYTES];
	uint32_t n = opts->extra_args ? 0 : og_eal_drivers_of(opts->device, paths);

	for (uint32_t i = 0; i < n; i++) {
		add_arg("-d");
		add_arg(paths[i]);
	}
	og_eal_drivers_hide(n > 0);
}

static void build_args(const struct og_eal_opts *opts)
{
	uint32_t memory_mib = opts->memory_mib;
	char number[32];

	add_arg("og-node");
	if (opts->device && og_eal_is_pci(opts->device)) {
		add_arg("-a");
		add_arg(opts->device);
	} else {
		add_arg("--no-pci");
	}
	if (opts->hugepages) {
		add_arg("--in-memory"); /* anonymous pages: no mount, no file another node could hold */
	} else {
		add_arg("--no-huge");
		add_arg("--no-shconf");
		if (memory_mib == 0)
			memory_mib = OG_EAL_MEMORY_MIB;
	}
	if (memory_mib > 0) {
		snprintf(number, sizeof(number), "%u", memory_mib);
		add_arg("-m");
		add_arg(number);
	}
	add_arg("--no-telemetry");
	/* One lcore by this name wherever it may run: "-l N" stops at CPU 127. */
	snprintf(number, sizeof(number), "0@%d", first_cpu());
	add_arg("--lcores");
	add_arg(number);
	add_drivers(opts);
	if (opts->extra_args)
		add_blank_separated(opts->extra_args);
}

/* The stream EAL logs to: kept while it starts, forwarded afterwards. */
static ssize_t eal_wrote(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	if (rte_log_cur_msg_loglevel() > (int)RTE_LOG_WARNING)
		return (ssize_t)len;
	if (rte_log_cur_msg_loglevel() <= (int)RTE_LOG_CRIT) {
		OG_LOG(dpdk, ERR, "%.*s", (int)strcspn(text, "\n"), text); /* its last words */
	} else if (said.started) {
		OG_LOG(dpdk, WARN, "%.*s", (int)strcspn(text, "\n"), text);
	} else if (len < CAPTURE_BYTES - said.used) {
		memcpy(said.text + said.used, text, len);
		said.used += len;
	}
	return (ssize_t)len;
}

static void log_what_eal_said(void)
{
	char *save = NULL;

	for (char *line = strtok_r(said.text, "\n", &save); line;
		line = strtok_r(NULL, "\n", &save))
		OG_LOG(dpdk, ERR, "%s", line);
}

static int init_keeping_affinity(void)
{
	pthread_t self = pthread_self();
	cpu_set_t before;
	int known = pthread_getaffinity_np(self, sizeof(before), &before);
	int ret = rte_eal_init(args.argc, args.argv);

	og_eal_drivers_hide(false);
	if (known == 0)
		pthread_setaffinity_np(self, sizeof(before), &before);
	return ret;
}

void og_eal_quiet(bool quiet)
{
	rte_log_set_global_level(quiet ? RTE_LOG_CRIT : RTE_LOG_ERR);
}

bool og_eal_is_quiet(void)
{
	return rte_log_get_global_level() < RTE_LOG_ERR;
}

int og_eal_open(const struct og_eal_opts *opts)
{
	cookie_io_functions_t io = {.write = eal_wrote};
	FILE *stream;

	if (said.started)
		return 0;
	build_args(opts);
	if (args.full)
		return -E2BIG;
	stream = fopencookie(NULL, "w", io);
	if (!stream)
		return -ENOMEM;
	setvbuf(stream, NULL, _IOLBF, BUFSIZ);
	rte_openlog_stream(stream);
	if (init_keeping_affinity() < 0) {
		int err = rte_errno;

		fflush(stream);
		log_what_eal_said();
		/* DPDK's own numbers start above errno's. */
		return err > 0 && err < 1000 ? -err : -EIO;
	}
	fflush(stream);
	said.started = true;
	og_eal_quiet(false);
	return 0;
}
