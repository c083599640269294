#include "cli/needs_priv.h"

#include "cli/affinity.h"
#include "cli/machine.h"
#include "cli/process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void og_needs_lack(const struct og_needs *n, const void *field, const char *fmt, ...)
{
	char text[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	og_config_problem(n->cfg, n->lacks, og_config_where(n->cfg, field), "lacks: %s", text);
}

void og_needs_note(const struct og_needs *n, const void *field, const char *fmt, ...)
{
	struct og_problems notes = {.report = n->lacks->report, .ctx = n->lacks->ctx};
	char text[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	og_config_problem(n->cfg, &notes, og_config_where(n->cfg, field), "note: %s", text);
}

void og_needs_caps(const struct og_needs *n, const void *field, uint32_t caps, const char *for_what)
{
	static const struct {
		uint32_t cap;
		const char *name;
		uint64_t bits; /* of capabilities(7); any of them will do */
	} known[] = {
		{OG_NEEDS_NET_ADMIN, "CAP_NET_ADMIN", 1ull << 12},
		{OG_NEEDS_NET_RAW, "CAP_NET_RAW", 1ull << 13},
		{OG_NEEDS_BPF, "CAP_BPF", 1ull << 39 | 1ull << 21},
		{OG_NEEDS_IPC_LOCK, "CAP_IPC_LOCK", 1ull << 14},
	};
	unsigned long long have = 0;
	FILE *f = fopen("/proc/self/status", "re");
	char line[128];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "CapEff: %llx", &have) == 1)
			break;
	}
	if (f)
		fclose(f);
	for (size_t i = 0; i < OG_ARRAY_LEN(known); i++) {
		if ((caps & known[i].cap) && !(have & known[i].bits))
			og_needs_lack(n, field,
				"%s for %s; start as root with [node] user = NAME, or give it: "
				"AmbientCapabilities=%s in the systemd unit",
				known[i].name, for_what, known[i].name);
	}
}

/* ---- files and users ---- */

static void check_models(const struct og_needs *n)
{
	for (uint32_t i = 0; i < n->cfg->nb_models; i++) {
		const struct og_config_model *m = &n->cfg->models[i];
		bool no_file = strcmp(m->backend, "echo") == 0 || strcmp(m->backend, "none") == 0;

		if (m->path[0] && !no_file && access(m->path, R_OK) < 0)
			og_config_problem(n->cfg, n->lacks, m->section_line,
				"lacks: model file %s: %s", m->path, strerror(errno));
	}
}

void og_needs_files(const struct og_config *cfg, struct og_problems *lacks)
{
	const struct og_needs n = {cfg, lacks};

	check_models(&n);
	if (cfg->api_key_file[0] && access(cfg->api_key_file, R_OK) < 0)
		og_needs_lack(&n, cfg->api_key_file, "api_key_file %s: %s", cfg->api_key_file,
			strerror(errno));
}

static void check_root(const struct og_needs *n)
{
	const struct og_config *cfg = n->cfg;
	struct stat st;

	if (access(cfg->root, F_OK) == 0 && access(cfg->root, W_OK) < 0)
		og_needs_lack(n, cfg->root,
			"the right to write the root folder %s; give it to this user, or choose "
			"another [node] root",
			cfg->root);
	if (stat(cfg->key_file, &st) == 0 && (st.st_mode & 077))
		og_needs_lack(n, cfg->key_file,
			"secrecy of the key %s: others may read it; chmod 600", cfg->key_file);
	if (!cfg->user[0])
		return;
	if (!getpwnam(cfg->user))
		og_needs_lack(n, cfg->user,
			"the user %s; adduser --system --group --home %s %s makes it", cfg->user,
			cfg->root, cfg->user);
	else if (geteuid() != 0 && getpwnam(cfg->user)->pw_uid != geteuid())
		og_needs_lack(n, cfg->user, "the right to become %s; start as root", cfg->user);
}

/* ---- HTTP ---- */

static void check_listen(const struct og_needs *n)
{
	const struct og_config *cfg = n->cfg;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
	char host[OG_CONFIG_WORD_BYTES], service[8];
	uint16_t port;
	int fd, one = 1;

	if (strcmp(cfg->listen, "none") == 0 || og_process_holder(cfg->root) > 0 ||
		og_config_split_listen(cfg->listen, host, &port) < 0)
		return; /* none, or in use by the node of this very root */
	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &list) != 0) {
		og_needs_lack(n, cfg->listen, "an address for %s", host);
		return;
	}
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd >= 0 && bind(fd, list->ai_addr, list->ai_addrlen) < 0)
		og_needs_lack(n, cfg->listen,
			"%s to listen on: %s; choose another [http] listen, or port 0", cfg->listen,
			strerror(errno));
	if (fd >= 0)
		close(fd);
	freeaddrinfo(list);
}

/* ---- CPUs, memory, GPUs ---- */

static void check_cpus(const struct og_needs *n, const char *field, const char *key)
{
	cpu_set_t wanted, usable;

	if (field[0] == '\0')
		return;
	if (og_cpus_parse(&wanted, field) < 0) {
		og_needs_lack(
			n, field, "sense in %s = %s: a list of CPUs such as 2,4-5", key, field);
		return;
	}
	if (sched_getaffinity(0, sizeof(usable), &usable) < 0)
		return;
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &wanted) && !CPU_ISSET(i, &usable)) {
			og_needs_lack(n, field,
				"CPU %d of [cores] %s: this process may run on %d CPUs; "
				"opengateway "
				"resources shows them",
				i, key, CPU_COUNT(&usable));
			return;
		}
	}
}

static void check_hugepages(const struct og_needs *n)
{
	struct og_machine_pages pages[8];
	uint32_t nb = og_machine_pages(pages, OG_ARRAY_LEN(pages));
	uint64_t free_bytes = 0;

	if (!n->cfg->hugepages)
		return;
	for (uint32_t i = 0; i < nb; i++)
		free_bytes += pages[i].size_bytes * pages[i].free;
	if (free_bytes < OG_NEEDS_PACKET_BYTES)
		og_needs_lack(n, &n->cfg->hugepages,
			"huge pages: %llu MiB are free, %llu MiB are needed; sysctl -w "
			"vm.nr_hugepages=512, or hugepagesz=1G hugepages=2 on the kernel's command "
			"line",
			(unsigned long long)(free_bytes >> 20), OG_NEEDS_PACKET_BYTES >> 20);
}

static void check_gpus(const struct og_needs *n)
{
	static struct og_machine_gpu gpus[OG_MACHINE_LIST_MAX];
	uint32_t nb = og_machine_gpus(gpus, OG_ARRAY_LEN(gpus)), usable = 0;

	for (uint32_t i = 0; i < nb; i++)
		usable += strcmp(gpus[i].driver, "nvidia") == 0;
	for (uint32_t i = 0; i < n->cfg->nb_models; i++) {
		const struct og_config_model *m = &n->cfg->models[i];

		if (strcmp(m->backend, "cuda") == 0 && m->device >= usable)
			og_config_problem(n->cfg, n->lacks, m->section_line,
				"lacks: GPU %llu for backend = cuda: %u with NVIDIA's driver are "
				"here; install the driver, or take backend = auto",
				(unsigned long long)m->device, usable);
	}
}

void og_needs_all(const struct og_config *cfg, struct og_problems *lacks)
{
	const struct og_needs n = {cfg, lacks};

	og_needs_files(cfg, lacks);
	check_root(&n);
	check_listen(&n);
	check_cpus(&n, cfg->net, "net");
	check_cpus(&n, cfg->router, "router");
	check_cpus(&n, cfg->engine, "engine");
	check_hugepages(&n);
	check_gpus(&n);
	og_needs_port(&n);
}
