/*
 * ctl_resources.c: what this machine has for a node, and what the node of the root is told to use. The
 * node need not run.
 */
#include "cli/ctl.h"

#include "cli/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static json_t *or_null(uint64_t v)
{
	return v ? json_integer((json_int_t)v) : json_null();
}

static json_t *cpus_json(void)
{
	struct og_machine_cpu c;

	og_machine_cpu(&c);
	return json_pack("{s:s, s:i, s:i, s:i, s:s}", "model", c.model, "online", (int)c.online,
		"usable", (int)c.usable, "numa_nodes", (int)c.nodes, "features", c.features);
}

static json_t *memory_json(void)
{
	uint64_t total, available;
	struct rlimit lock = {0, 0};

	og_machine_memory(&total, &available);
	getrlimit(RLIMIT_MEMLOCK, &lock);
	return json_pack("{s:I, s:I, s:o}", "total_bytes", (json_int_t)total, "available_bytes",
		(json_int_t)available, "lockable_bytes",
		lock.rlim_cur == RLIM_INFINITY ? json_null()
					       : json_integer((json_int_t)lock.rlim_cur));
}

static json_t *pages_json(void)
{
	struct og_machine_pages pages[8];
	uint32_t n = og_machine_pages(pages, OG_ARRAY_LEN(pages));
	json_t *list = json_array();

	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(list,
			json_pack("{s:I, s:I, s:I}", "size_bytes", (json_int_t)pages[i].size_bytes,
				"total", (json_int_t)pages[i].total, "free",
				(json_int_t)pages[i].free));
	return list;
}

static json_t *gpus_json(void)
{
	static struct og_machine_gpu gpus[OG_MACHINE_LIST_MAX];
	uint32_t n = og_machine_gpus(gpus, OG_ARRAY_LEN(gpus));
	json_t *list = json_array();

	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:s, s:o, s:o}", "name", gpus[i].name, "pci",
				      gpus[i].pci, "driver", gpus[i].driver, "memory_bytes",
				      or_null(gpus[i].memory_bytes), "memory_free_bytes",
				      or_null(gpus[i].memory_free_bytes)));
	return list;
}

static json_t *ports_json(void)
{
	static struct og_machine_nic nics[OG_MACHINE_LIST_MAX];
	uint32_t n = og_machine_nics(nics, OG_ARRAY_LEN(nics));
	json_t *list = json_array();

	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(
			list, json_pack("{s:s, s:s, s:s, s:b, s:o, s:i, s:i}", "name", nics[i].name,
				      "pci", nics[i].pci, "driver", nics[i].driver, "up",
				      nics[i].up, "speed_mbit",
				      nics[i].speed_mbit > 0 ? json_integer(nics[i].speed_mbit)
							     : json_null(),
				      "numa", (int)nics[i].numa, "mtu", (int)nics[i].mtu));
	return list;
}

static void ignore(void *ctx, const char *line)
{
}

static json_t *models_json(const struct og_config *cfg)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < cfg->nb_models; i++) {
		const struct og_config_model *m = &cfg->models[i];
		struct stat st;

		if (m->path[0])
			json_array_append_new(
				list, json_pack("{s:s, s:s, s:o}", "path", m->path, "backend",
					      m->backend, "bytes",
					      stat(m->path, &st) == 0 ? json_integer(st.st_size)
								      : json_null()));
	}
	return list;
}

static json_t *all_json(void)
{
	static struct og_config cfg;
	struct og_problems problems = {.report = ignore};
	char conf[OG_CTL_FILE_BYTES];
	json_t *o = json_object();

	og_ctl_path(conf, "node.conf");
	(void)!og_config_load(&cfg, conf, &problems); /* without one: the defaults, no model */
	json_object_set_new(o, "cpus", cpus_json());
	json_object_set_new(o, "memory", memory_json());
	json_object_set_new(o, "hugepages", pages_json());
	json_object_set_new(o, "gpus", gpus_json());
	json_object_set_new(o, "ports", ports_json());
	json_object_set_new(o, "models", models_json(&cfg));
	json_object_set_new(o, "port", json_string(cfg.driver));
	og_config_fini(&cfg);
	return o;
}

/* ---- for people ---- */

static void show_gpus(const json_t *gpus)
{
	char total[32], left[32];

	if (json_array_size(gpus) == 0)
		puts("GPU      none");
	for (size_t i = 0; i < json_array_size(gpus); i++) {
		const json_t *g = json_array_get(gpus, i);

		printf("GPU      %s%s%s", og_ctl_text(g, "name"),
			og_ctl_text(g, "driver")[0] ? ", " : "", og_ctl_text(g, "driver"));
		if (og_ctl_int(g, "memory_bytes"))
			printf(", %s, %s free",
				og_ctl_bytes((uint64_t)og_ctl_int(g, "memory_bytes"), total),
				og_ctl_bytes((uint64_t)og_ctl_int(g, "memory_free_bytes"), left));
		putchar('\n');
	}
}

static void show_ports(const json_t *ports)
{
	for (size_t i = 0; i < json_array_size(ports); i++) {
		const json_t *p = json_array_get(ports, i);

		printf("port     %-12s %-13s %-12s %s",
			og_ctl_text(p, "name")[0] ? og_ctl_text(p, "name") : "-",
			og_ctl_text(p, "pci")[0] ? og_ctl_text(p, "pci") : "-",
			og_ctl_text(p, "driver")[0] ? og_ctl_text(p, "driver") : "-",
			json_is_true(json_object_get(p, "up")) ? "up" : "down");
		if (og_ctl_int(p, "speed_mbit"))
			printf(", %lld Mbit/s", og_ctl_int(p, "speed_mbit"));
		if (og_ctl_int(p, "mtu"))
			printf(", mtu %lld", og_ctl_int(p, "mtu"));
		putchar('\n');
	}
}

static void show(const json_t *o)
{
	const json_t *cpu = json_object_get(o, "cpus"), *memory = json_object_get(o, "memory");
	const json_t *pages = json_object_get(o, "hugepages");
	const json_t *models = json_object_get(o, "models");
	char a[32], b[32];

	printf("CPUs     %lld (%lld usable, %lld NUMA nodes) %s, %s\n", og_ctl_int(cpu, "online"),
		og_ctl_int(cpu, "usable"), og_ctl_int(cpu, "numa_nodes"), og_ctl_text(cpu, "model"),
		og_ctl_text(cpu, "features"));
	printf("memory   %s, %s available\n",
		og_ctl_bytes((uint64_t)og_ctl_int(memory, "total_bytes"), a),
		og_ctl_bytes((uint64_t)og_ctl_int(memory, "available_bytes"), b));
	for (size_t i = 0; i < json_array_size(pages); i++) {
		const json_t *p = json_array_get(pages, i);

		printf("pages    %lld of %s, %lld free\n", og_ctl_int(p, "total"),
			og_ctl_bytes((uint64_t)og_ctl_int(p, "size_bytes"), a),
			og_ctl_int(p, "free"));
	}
	show_gpus(json_object_get(o, "gpus"));
	show_ports(json_object_get(o, "ports"));
	for (size_t i = 0; i < json_array_size(models); i++) {
		const json_t *m = json_array_get(models, i);
		bool there = json_is_integer(json_object_get(m, "bytes"));

		printf("model    %s, %s\n", og_ctl_text(m, "path"),
			there ? og_ctl_bytes((uint64_t)og_ctl_int(m, "bytes"), a) : "not there");
	}
	printf("uses     [port] driver = %s\n", og_ctl_text(o, "port"));
}

int og_ctl_resources(void)
{
	json_t *o = all_json();

	if (og_ctl_json)
		og_ctl_print(o);
	else
		show(o);
	json_decref(o);
	return OG_EXIT_DONE;
}
