/*
 * ctl_root.c: the root of a node: its configuration made, and the clusters in it.
 */
#include "cli/ctl.h"

#include "cli/config_edit.h"
#include "cli/process.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int write_new(const char *path, const char *content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	size_t n = strlen(content);
	ssize_t put;

	if (fd < 0)
		return -errno;
	put = write(fd, content, n);
	if (close(fd) < 0 || put != (ssize_t)n) {
		unlink(path);
		return -EIO;
	}
	return 0;
}

/* Where it was installed, or configs/demo.gguf of the tree that this program was built in. */
static bool demo_path(char out[OG_CTL_PATH_BYTES])
{
	static const char *const places[] = {
		OG_DEMO_FROM_BIN, "../../configs/demo.gguf", "../configs/demo.gguf"};
	char dir[OG_CTL_PATH_BYTES], candidate[OG_CTL_PATH_BYTES + 256];

	og_ctl_program_dir(dir);
	for (size_t i = 0; i < OG_ARRAY_LEN(places); i++) {
		snprintf(candidate, sizeof(candidate), "%s/%s", dir, places[i]);
		if (realpath(candidate, out))
			return true;
	}
	return false;
}

static bool plain(const char *value)
{
	return value[0] && !strpbrk(value, "\n\r;#") && strlen(value) < 180;
}

/* The line of [model] for what --model says. */
static int model_line(char *out, size_t cap, const char *model)
{
	char path[OG_CTL_PATH_BYTES];

	if (strcmp(model, "none") == 0) {
		snprintf(out, cap, "backend = none");
		return OG_EXIT_DONE;
	}
	if (strcmp(model, "demo") == 0) {
		if (!demo_path(path)) {
			og_ctl_say("demo.gguf is not where it was installed; give --model PATH or "
				   "--model none");
			return OG_EXIT_FAILED;
		}
	} else if (!realpath(model, path)) {
		og_ctl_say("model %s: %s", model, strerror(errno));
		return OG_EXIT_FAILED;
	}
	if (!plain(path)) {
		og_ctl_say("the path of the model is too long or has one of ; #: %s", path);
		return OG_EXIT_FAILED;
	}
	snprintf(out, cap, "path = %s", path);
	return OG_EXIT_DONE;
}

static int init_root(const char *name, const char *model, const char *bootstrap)
{
	char conf[OG_CTL_FILE_BYTES], content[2 * OG_CTL_PATH_BYTES], full[OG_CTL_PATH_BYTES],
		serves[256];
	const char *loopback =
		strncmp(bootstrap, "127.", 4) == 0 ? "[port]\naddress = 127.0.0.1\n" : "";
	int ret = og_make_dirs(og_ctl_root), status;

	if (ret < 0) {
		og_ctl_say("the folder %s cannot be made: %s", og_ctl_root, strerror(-ret));
		return OG_EXIT_FAILED;
	}
	if (realpath(og_ctl_root, full))
		snprintf(og_ctl_root, sizeof(og_ctl_root), "%s", full);
	og_ctl_path(conf, "node.conf");
	if (!plain(name) || !plain(model) || !plain(bootstrap) || !plain(og_ctl_root)) {
		og_ctl_say("a name, model, bootstrap list or root is empty, too long or has one of "
			   "; #");
		return OG_EXIT_USAGE;
	}
	status = model_line(serves, sizeof(serves), model);
	if (status != OG_EXIT_DONE)
		return status;
	snprintf(content, sizeof(content),
		"# og-node: see og-node --list-config for all keys and their defaults.\n"
		"[node]\nname = %s\nroot = %s\n\n[cluster]\n\n[dht]\nbootstrap = %s\n\n%s\n"
		"[http]\n# Port 0 takes a free one; opengateway status shows it.\nlisten = "
		"127.0.0.1:0\n\n"
		"[model]\n%s\n",
		name, og_ctl_root, bootstrap, loopback, serves);
	ret = write_new(conf, content);
	if (ret < 0) {
		og_ctl_say("%s: %s", conf, strerror(-ret));
		return OG_EXIT_FAILED;
	}
	og_ctl_say("made %s (node %s, model %s)", conf, name, model);
	return OG_EXIT_DONE;
}

int og_ctl_init(int argc, char **argv)
{
	static const struct option options[] = {
		{"name", 1, NULL, 'n'}, {"model", 1, NULL, 'm'}, {"bootstrap", 1, NULL, 'b'}, {0}};
	const char *env = getenv("OPENGATEWAY_BOOTSTRAP");
	char copy[OG_CTL_PATH_BYTES];
	const char *name, *model = "demo", *bootstrap = env && env[0] ? env : "public";
	int opt;

	snprintf(copy, sizeof(copy), "%s", og_ctl_root);
	name = basename(copy);
	optind = 0; /* starts getopt anew */
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'n')
			name = optarg;
		else if (opt == 'm')
			model = optarg;
		else if (opt == 'b')
			bootstrap = optarg;
		else
			return og_ctl_usage();
	}
	return optind == argc ? init_root(name, model, bootstrap) : og_ctl_usage();
}

int og_ctl_ensure_root(void)
{
	char conf[OG_CTL_FILE_BYTES];
	char init[] = "init", *argv[] = {init, NULL};

	og_ctl_path(conf, "node.conf");
	if (access(conf, F_OK) == 0)
		return OG_EXIT_DONE;
	if (errno == EACCES) {
		og_ctl_say("%s: %s", conf, strerror(errno));
		return OG_EXIT_FAILED;
	}
	return og_ctl_init(1, argv);
}

int og_ctl_cluster(const char *id, bool add)
{
	char conf[OG_CTL_FILE_BYTES];
	const char *why = NULL;
	bool changed;
	int ret, status = OG_EXIT_DONE;

	if (og_config_check_cluster_id(id, &why) < 0) {
		og_ctl_say("\"%s\": %s", id, why);
		return OG_EXIT_USAGE;
	}
	status = og_ctl_ensure_root();
	if (status != OG_EXIT_DONE)
		return status;
	og_ctl_path(conf, "node.conf");
	ret = og_config_edit_cluster(conf, id, add);
	if (ret < 0 && ret != -EALREADY) {
		og_ctl_say("%s: %s", conf, strerror(-ret));
		return OG_EXIT_FAILED;
	}
	changed = ret == 0;
	if (og_process_holder(og_ctl_root) > 0) {
		json_t *o = og_ctl_ask(
			json_pack("{s:s, s:s}", "cmd", add ? "join" : "leave", "cluster", id),
			&status);

		if (!o)
			return status;
		changed |= json_is_true(json_object_get(o, "changed"));
		json_decref(o);
	}
	if (!add && !changed) {
		og_ctl_say("not a member of \"%s\"", id);
		return OG_EXIT_FAILED;
	}
	og_ctl_say("%s \"%s\"", !add ? "left" : changed ? "member of" : "already a member of", id);
	return OG_EXIT_DONE;
}
