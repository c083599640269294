/* What --check says of this machine, and what differs between two configurations. */
#include "cli/machine.h"
#include "cli/needs.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char reported[16384];

static void collect(void *ctx, const char *line)
{
	strncat(reported, line, sizeof(reported) - strlen(reported) - 2);
	strcat(reported, "\n");
}

static struct og_config cfg, other;
static struct og_problems problems = {.report = collect};

static void load(struct og_config *out, const char *text)
{
	reported[0] = '\0';
	problems.nb = 0;
	og_config_init(out, "/tmp/n.conf");
	cr_assert_eq(og_config_parse(out, text, strlen(text), &problems), 0, "%s", reported);
	cr_assert_eq(og_config_finish(out, &problems), 0, "%s", reported);
}

/* The lacks of a configuration, each a line. */
static const char *lacks_of(const char *text)
{
	load(&cfg, text);
	og_needs_all(&cfg, &problems);
	og_config_fini(&cfg);
	return reported;
}

static bool says(const char *text, const char *what)
{
	return strstr(lacks_of(text), what) != NULL;
}

Test(needs, nothing_for_the_default_port)
{
	cr_assert_str_eq(lacks_of("[http]\nlisten = 127.0.0.1:0\n"), "");
	cr_assert_str_eq(lacks_of("[http]\nlisten = none\n[port]\naddress = 127.0.0.1\n"), "");
}

Test(needs, each_lack_names_its_line_and_the_way_to_it)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"[http]\nlisten = none\n[model]\npath = /nonexistent/m.gguf\n",
			"/tmp/n.conf:3: lacks: model file /nonexistent/m.gguf: No such file"},
		{"[http]\nlisten = none\napi_key_file = /nonexistent/k\n",
			"/tmp/n.conf:3: lacks: api_key_file /nonexistent/k: No such file"},
		{"[http]\nlisten = none\n[node]\nuser = no-such-user\n",
			"/tmp/n.conf:4: lacks: the user no-such-user; adduser"},
		{"[http]\nlisten = none\n[cores]\nnet = 1023\n", "lacks: CPU 1023 of [cores] net"},
		{"[http]\nlisten = none\n[port]\naddress = 192.0.2.77\n",
			"lacks: the address 192.0.2.77 on an interface; ip addr add"},
		{"[http]\nlisten = 192.0.2.77:80\n", ":2: lacks: 192.0.2.77:80 to listen on"},
		{"[port]\ndriver = ethdev:net_af_packet0,iface=nosuchif\naddress = 10.0.0.1/24\n",
			"/tmp/n.conf:2: lacks: the interface nosuchif; ip link"},
		{"[port]\ndriver = ethdev:net_af_xdp0\naddress = 10.0.0.1/24\n",
			"lacks: iface=NAME"},
		{"[port]\ndriver = ethdev:net_memif0,socket=/nonexistent/d/s\n"
		 "address = 10.0.0.1/24\n",
			"lacks: socket=/nonexistent/d/s: No such file or directory; mkdir -p "
			"/nonexistent/d"},
		{"[port]\ndriver = ethdev:net_memif0\naddress = 10.0.0.1/24\n[cores]\nnet = 0-2\n",
			"/tmp/n.conf:2: note: up to 3 pairs of queues"},
		{"[port]\ndriver = ethdev:net_af_packet0,qpairs=2,iface=lo\n"
		 "address = 10.0.0.1/24\n[cores]\nnet = 0-2\n",
			"note: 2 of the 3 polling cores get a pair of queues"},
		{"[port]\ndriver = ethdev:net_af_xdp0,iface=lo\n"
		 "address = 10.0.0.1/24\n[cores]\nnet = 0-2\n",
			"note: 1 of the 3 polling cores gets a pair of queues"},
		{"[port]\ndriver = ethdev:net_tap0\naddress = 10.0.0.1/24\n[cores]\nnet = 0-2\n",
			"note: 3 pairs of queues, one for each polling core"},
		{"[port]\nshared = yes\ndriver = ethdev:net_tap0,remote=nosuchif\n",
			"/tmp/n.conf:3: lacks: the interface nosuchif"},
		{"[port]\ndriver = ethdev:ff:1f.7\naddress = 10.0.0.1/24\n",
			"lacks: the card 0000:ff:1f.7; dpdk-devbind.py"},
		{"[port]\ndriver = ethdev:0000:ff:1f.7\naddress = 10.0.0.1/24\n",
			"lacks: huge pages for a card that writes to memory; set [cores]"},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++)
		cr_expect(says(rows[i].text, rows[i].want), "%s\nsaid: %s", rows[i].text, reported);
}

Test(needs, huge_pages_and_gpus_as_this_machine_has_them)
{
	struct og_machine_pages pages[8];
	static struct og_machine_gpu gpus[OG_MACHINE_LIST_MAX];
	uint32_t nb = og_machine_pages(pages, OG_ARRAY_LEN(pages));
	uint64_t free_bytes = 0;
	bool gpu = false;

	for (uint32_t i = 0; i < nb; i++)
		free_bytes += pages[i].size_bytes * pages[i].free;
	nb = og_machine_gpus(gpus, OG_ARRAY_LEN(gpus));
	for (uint32_t i = 0; i < nb; i++)
		gpu |= strcmp(gpus[i].driver, "nvidia") == 0;
	cr_assert_eq(says("[cores]\nhugepages = yes\n", "sysctl -w vm.nr_hugepages"),
		free_bytes < (256u << 20));
	cr_assert_eq(says("[model]\nbackend = cuda\npath = /dev/null\n", "lacks: GPU 0"), !gpu);
}

Test(needs, a_key_that_others_may_read)
{
	char dir[] = "/tmp/og-needs-XXXXXX", path[64], text[160];
	FILE *f;

	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/node.key", dir);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	fclose(f);
	snprintf(text, sizeof(text), "[node]\nroot = %s\n[http]\nlisten = none\n", dir);
	chmod(path, 0644);
	cr_expect(says(text, "others may read it; chmod 600"), "%s", reported);
	chmod(path, 0600);
	cr_expect(!says(text, "others may read it"), "%s", reported);
	unlink(path);
	rmdir(dir);
}

static void collect_key(void *ctx, const char *section, const char *key)
{
	strcat(reported, section);
	strcat(reported, ".");
	strcat(reported, key);
	strcat(reported, " ");
}

Test(needs, the_difference_of_two_configurations_is_named)
{
	load(&cfg, "[cluster]\nid = a\nid = b\n[limits]\npeers = 5\n[model]\nbackend = echo\n");
	load(&other, "[model]\nbackend = echo\n[cluster]\nid = a\n[log]\nlevel = debug\n");
	reported[0] = '\0';
	og_config_diff(&cfg, &other, collect_key, NULL);
	cr_expect_str_eq(reported, "cluster.id limits.peers log.level ");
	reported[0] = '\0';
	og_config_diff(&cfg, &cfg, collect_key, NULL);
	cr_expect_str_eq(reported, "");
	og_config_fini(&other);
	load(&other, "[cluster]\nid = a\nid = b\n[limits]\npeers = 5\n[model]\nbackend = none\n");
	reported[0] = '\0';
	og_config_diff(&cfg, &other, collect_key, NULL);
	cr_expect_str_eq(reported, "model.backend ");
	og_config_fini(&cfg);
	og_config_fini(&other);
}
