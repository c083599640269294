#include "cli/config.h"
#include "cli/config_edit.h"
#include "cli/resolve.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char reported[8192];

static void collect(void *ctx, const char *line)
{
	strncat(reported, line, sizeof(reported) - strlen(reported) - 2);
	strcat(reported, "\n");
}

static struct og_config cfg;
static struct og_problems problems = {collect, NULL, 0};

static int parse(const char *text)
{
	reported[0] = '\0';
	problems.nb = 0;
	og_config_init(&cfg, "/etc/n.conf");
	return og_config_parse(&cfg, text, strlen(text), &problems);
}

static void finish(void)
{
	og_config_fini(&cfg);
}

TestSuite(config, .fini = finish);

Test(config, defaults_hold_without_a_file)
{
	cr_assert_eq(parse(""), 0);
	cr_assert_eq(og_config_finish(&cfg, &problems), 0, "%s", reported);
	cr_assert_str_eq(cfg.listen, "127.0.0.1:8480");
	cr_assert_eq(cfg.dht_port, 49737);
	cr_assert_eq(cfg.strangers, 512);
	cr_assert_eq(cfg.frame_memory, 256ull << 20);
	cr_assert_eq(cfg.deadline_ms, 120000);
	cr_assert_str_eq(cfg.bootstrap.items[0].text, "public");
	cr_assert_str_eq(cfg.root, "/etc");
	cr_assert_str_eq(cfg.key_file, "/etc/node.key");
	cr_assert_eq(cfg.nb_models, 0);
}

Test(config, reads_every_kind_of_value)
{
	cr_assert_eq(parse("\xef\xbb\xbf# comment\n[node]\nname = NodeA ; inline\n  root = state\n"
			   "[cluster]\nid = one\nid = two words\n"
			   "[dht]\nbootstrap = 127.0.0.1:1, 88.99.3.86@node1.hyperdht.org:49737\n"
			   "bootstrap = h:2\npublic_address = 192.0.2.1:5\nephemeral = no\n"
			   "[port]\naddress = 10.0.0.2/24\n"
			   "[limits]\nframe_memory = 1GiB\ndeadline = 2m\r\n"
			   "[model]\nbackend = echo\n[model big one]\nbackend = echo\ncontext=9\n"),
		0, "%s", reported);
	cr_assert_str_eq(cfg.node_name, "NodeA");
	cr_assert_str_eq(cfg.root, "/etc/state");
	cr_assert_eq(cfg.cluster_ids.nb_items, 2);
	cr_assert_str_eq(cfg.cluster_ids.items[1].text, "two words");
	cr_assert_eq(cfg.bootstrap.nb_items, 3);
	cr_assert_eq(cfg.public_address.port, 5);
	cr_assert_eq(cfg.prefix_len, 24);
	cr_assert_eq(cfg.frame_memory, 1ull << 30);
	cr_assert_eq(cfg.deadline_ms, 120000);
	cr_assert_eq(cfg.nb_models, 2);
	cr_assert_str_eq(cfg.models[1].name, "big one");
	cr_assert_eq(cfg.models[1].context, 9);
	cr_assert_eq(cfg.models[1].max_batch, 8);
}

Test(config, names_the_line_and_the_nearest_key)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{"[dht]\nbootsrap = none\n", "/etc/n.conf:2: unknown key \"bootsrap\" in [dht], "
					     "did you mean \"bootstrap\"?"},
		{"[dth]\nport = 1\n",
			"/etc/n.conf:1: unknown section [dth], did you mean \"[dht]\"?"},
		{"[dht]\nport = 1\nport = 2\n",
			"/etc/n.conf:3: \"port\" is given twice, first in line 2"},
		{"[dht]\nport = 70000\n", "out of range, 0 to 65535 are allowed"},
		{"[dht]\nephemeral = maybe\n", "not one of auto|yes|no"},
		{"[dht]\nlisten = 1\n", "\"listen\" belongs in [http], not in [dht]"},
		{"[limits]\ndeadline = 10\n", "not a duration such as"},
		{"[limits]\nframe_memory = 1\n", "out of range, 1.0 MiB to 64.0 GiB are allowed"},
		{"[http]\nlisten = 8480\n", "not host:port"},
		{"[http]\nmax_body = lots\n", "not a size such as"},
		{"port = 1\n", "/etc/n.conf:1: \"port\" stands before the first [section]"},
		{"[dht]\njunk\n", "/etc/n.conf:2: neither [section] nor key = value: \"junk\""},
		{"[dht\n", "/etc/n.conf:1: the section has no closing ]"},
		{"[cluster]\nid = a\nid = a\n", "id = a is given twice, first in line 2"},
		{"[cluster]\nallow = abc\n", "allow = abc: 3 bytes; 64 to 64 are allowed"},
		{"[model]\nbackend=echo\n[dht]\n[model]\nbackend=echo\n",
			"/etc/n.conf:4: section [model] is given twice, first in line 1"},
		{"[port]\naddress = 1.2.3\n", "not an IPv4 address"},
		{"[port]\naddress = 1.2.3.4/33\n", "the prefix length is 1 to 32"},
		{"[node]\nname = \xff\n", "/etc/n.conf:2: not UTF-8 text"},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		cr_expect_eq(parse(cases[i].text), -EINVAL, "%s", cases[i].text);
		cr_expect_not_null(strstr(reported, cases[i].want), "wanted: %s\ngot: %s",
			cases[i].want, reported);
		og_config_fini(&cfg);
	}
}

Test(config, lists_every_problem_of_a_file)
{
	cr_assert_eq(parse("[dht]\nport = x\nephemeral = x\n[nope]\na = 1\n[log]\nlevel = loud\n"),
		-EINVAL);
	cr_assert_eq(problems.nb, 4, "%s", reported);
}

Test(config, refuses_a_line_that_inih_would_cut)
{
	char text[400] = "[cluster]\n# ";

	memset(text + strlen(text), 'x', 186);
	strcat(text, "\nid = ");
	memset(text + strlen(text), 'a', 180);
	strcat(text, "\n");
	cr_assert_eq(parse(text), 0, "%s", reported);
	og_config_fini(&cfg);
	memset(text, 0, sizeof(text));
	strcpy(text, "[cluster]\nid = ");
	memset(text + strlen(text), 'a', 194);
	cr_assert_eq(parse(text), -EINVAL);
	cr_assert_not_null(strstr(reported, "/etc/n.conf:2: line of 199 bytes; at most 198 fit"),
		"%s", reported);
	cr_assert_eq(cfg.cluster_ids.nb_items, 0);
}

Test(config, keys_of_a_refused_header_do_not_land_in_the_section_before)
{
	char text[200] = "[dht]\nport = 1\n[";

	memset(text + strlen(text), 'm', 60);
	strcat(text, "]\nport = 2\n");
	cr_assert_eq(parse(text), -EINVAL);
	cr_assert_eq(problems.nb, 1, "%s", reported);
	cr_assert_eq(cfg.dht_port, 1);
}

Test(config, a_flag_wins_over_the_file)
{
	cr_assert_eq(parse("[dht]\nport = 1\nbootstrap = none\n"), 0);
	cr_assert_eq(og_config_override(&cfg, "dht.port=2", &problems), 0, "%s", reported);
	cr_assert_eq(og_config_override(&cfg, "dht.bootstrap=127.0.0.1:9", &problems), 0);
	cr_assert_eq(cfg.dht_port, 2);
	cr_assert_eq(cfg.bootstrap.nb_items, 1);
	cr_assert_eq(og_config_override(&cfg, "dht.prot=2", &problems), -EINVAL);
	cr_assert_not_null(strstr(reported, "command line: unknown key"), "%s", reported);
	cr_assert_eq(og_config_override(&cfg, "nonsense", &problems), -EINVAL);
}

Test(config, cross_checks_name_what_is_missing)
{
	cr_assert_eq(parse("[model]\nbackend = cpu\n[model b]\npath = /nonexistent/m.gguf\n"
			   "[dht]\nbootstrap = public, 1.2.3.4:5\npeers = here\n"
			   "[port]\ndriver = ethdev:net_tap0\n[cluster]\nsecret_file = s\n"),
		0, "%s", reported);
	cr_assert_eq(og_config_finish(&cfg, &problems), -EINVAL);
	cr_assert_eq(problems.nb, 5, "%s", reported);
}

Test(config, fp8_is_for_gpus)
{
	cr_assert_eq(parse("[model a]\npath = a.gguf\nweights = fp8\nkv = fp8\n"), 0);
	cr_assert_eq(og_config_finish(&cfg, &problems), 0, "%s", reported);
	cr_expect_str_eq(cfg.models[0].weights, "fp8");
	og_config_fini(&cfg);
	cr_assert_eq(
		parse("[model a]\npath = a.gguf\nbackend = cpu\nweights = fp8\nkv = fp8\n"), 0);
	cr_assert_eq(og_config_finish(&cfg, &problems), -EINVAL);
	cr_expect_eq(problems.nb, 2, "%s", reported);
	og_config_fini(&cfg);
	cr_assert_eq(parse("[model a]\npath = a.gguf\nkv = fp4\n"), -EINVAL);
}

Test(config, only_some_drivers_can_be_shared)
{
	static const struct {
		const char *text;
		uint32_t problems;
	} rows[] = {
		{"[port]\nshared = yes\ndriver = ethdev:net_af_xdp0,iface=eth0\n", 0},
		{"[port]\nshared = yes\ndriver = ethdev:net_tap0,remote=eth0\n", 0},
		{"[port]\nshared = yes\ndriver = ethdev:0000:3b:00.0\n", 0},
		{"[port]\nshared = yes\ndriver = ethdev:net_tap0\naddress = 10.0.0.1/8\n", 1},
		{"[port]\nshared = yes\n", 1},
		{"[port]\nshared = yes\ndriver = ethdev:net_af_packet0,iface=a\n"
		 "address = 10.0.0.1/8\n",
			1},
		{"[port]\nshared = yes\ndriver = ethdev:net_af_xdp0,iface=a,xdp_prog=/p.o\n", 1},
		{"[port]\nshared = no\ndriver = ethdev:net_af_xdp0,iface=eth0\n", 1},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(rows); i++) {
		cr_assert_eq(parse(rows[i].text), 0, "%s", reported);
		cr_expect_eq(og_config_finish(&cfg, &problems), rows[i].problems ? -EINVAL : 0);
		cr_expect_eq(problems.nb, rows[i].problems, "%s: %s", rows[i].text, reported);
		og_config_fini(&cfg);
	}
}

Test(config, what_is_printed_parses_to_the_same)
{
	char *text = NULL, *again = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	cr_assert_eq(parse("[node]\nname=n\n[cluster]\nid=a\nid=b\n[model x]\nbackend=echo\n"
			   "kv_memory=3MiB\n[port]\naddress=10.0.0.1/8\n"),
		0);
	og_config_print(&cfg, f);
	fclose(f);
	cr_assert_not_null(strstr(text, "id = b ; line 5"), "%s", text);
	cr_assert_not_null(strstr(text, "port = 49737 ; default"), "%s", text);
	cr_assert_not_null(strstr(text, "kv_memory = 3MiB ; line 8"), "%s", text);
	og_config_fini(&cfg);
	cr_assert_eq(parse(text), 0, "%s", reported);
	f = open_memstream(&again, &len);
	og_config_print(&cfg, f);
	fclose(f);
	cr_assert_not_null(strstr(again, "address = 10.0.0.1/8"));
	cr_assert_eq(cfg.cluster_ids.nb_items, 2);
	free(text);
	free(again);
}

Test(config, editing_ids_keeps_comments_and_order)
{
	const char *text = "# mine\n[cluster] ; here\n# ids\nid = a ; first\n\n[dht]\nport = 1\n";
	char *out, *back;

	cr_assert_eq(og_config_text_add_cluster(&out, text, "a"), -EALREADY);
	cr_assert_eq(og_config_text_add_cluster(&out, text, "b c"), 0);
	cr_assert_str_eq(out, "# mine\n[cluster] ; here\n# ids\nid = a ; first\nid = b c\n\n"
			      "[dht]\nport = 1\n");
	cr_assert_eq(og_config_text_remove_cluster(&back, out, "b c"), 0);
	cr_assert_str_eq(back, text);
	free(out);
	cr_assert_eq(og_config_text_remove_cluster(&out, text, "a b"), -EALREADY);
	cr_assert_eq(og_config_text_remove_cluster(&out, text, "a"), 0);
	cr_assert_null(strstr(out, "id ="));
	free(out);
	free(back);
	cr_assert_eq(og_config_text_add_cluster(&out, "[dht]\nport = 1", "x"), 0);
	cr_assert_str_eq(out, "[dht]\nport = 1\n\n[cluster]\nid = x\n");
	free(out);
}

Test(config, endpoints_take_all_written_forms)
{
	const char *key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
	char with[128];
	struct og_endpoint e;
	struct og_addr a[4];

	cr_assert_eq(og_endpoint_parse(&e, "127.0.0.1:49737"), 0);
	cr_assert(e.has_ip && !e.has_key);
	cr_assert_eq(og_endpoint_resolve(&e, a, 4), 1);
	cr_assert_eq(a[0].port, 49737);
	cr_assert_eq(og_endpoint_parse(&e, "88.99.3.86@node1.hyperdht.org:49737"), 0);
	cr_assert_eq(e.ip.ip[0], 88);
	cr_assert_eq(e.ip.port, 49737);
	cr_assert_eq(og_endpoint_parse(&e, key), 0);
	cr_assert(e.has_key && e.host[0] == '\0');
	snprintf(with, sizeof(with), "%s@10.0.0.1:5", key);
	cr_assert_eq(og_endpoint_parse(&e, with), 0);
	cr_assert(e.has_key && e.has_ip && e.ip.port == 5);
	cr_assert_eq(og_endpoint_parse(&e, "host"), -EINVAL);
	cr_assert_eq(og_endpoint_parse(&e, "host:0"), -EINVAL);
	cr_assert_eq(og_endpoint_parse(&e, "ho st:1"), -EINVAL);
	cr_assert_eq(og_endpoint_parse(&e, "x@host:1"), -EINVAL);
	cr_assert_eq(og_endpoint_parse(&e, ":1"), -EINVAL);
}
