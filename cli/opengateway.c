/*
 * opengateway.c: the operator's command: makes a root, starts and stops its node, and asks it things
 * over ROOT/control.sock.
 *
 * Data goes to stdout, talk to stderr. Exit status: 0 done, 1 failed, 2 usage, 3 node not running,
 * 4 no peer or model can serve, 5 timed out, 78 bad configuration.
 */
#include "cli/config_edit.h"
#include "cli/control.h"
#include "cli/process.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, EXIT_NOT_RUNNING = 3, EXIT_BAD_CONFIG = 78, PATH_BYTES = 4096 };

static char root[PATH_BYTES];
static bool as_json;

static const char usage_text[] =
	"usage: opengateway [--root DIR] [--json] COMMAND\n"
	"  init [--name N] [--model PATH|demo|none] [--bootstrap LIST|none|public]\n"
	"  connect|join ID      be a member of a cluster, now and at each start\n"
	"  disconnect|leave ID  leave it\n"
	"  start, stop, restart, status\n"
	"  clusters, peers [ID], models\n"
	"  prompt [TEXT] [--model M] [--stream]   no text: a chat, one prompt a line\n"
	"  logs                 what the node wrote\n"
	"The root (default ~/.opengateway or $OPENGATEWAY_ROOT) holds node.conf, node.key and the "
	"state.\n";

static int usage(void)
{
	fputs(usage_text, stderr);
	return EXIT_USAGE;
}

static void path_of(char out[PATH_BYTES + 16], const char *name)
{
	snprintf(out, PATH_BYTES + 16, "%s/%s", root, name);
}

/* ---- the control socket ---- */

/* Sends one request; NULL when the node does not run. The stream is closed by the caller. */
static FILE *request(json_t *o)
{
	char *line = json_dumps(o, JSON_COMPACT);
	int fd = og_control_socket(root, false);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r+");

	json_decref(o);
	if (!f) {
		fprintf(stderr,
			"opengateway: the node of %s is not running; start it with: opengateway "
			"--root %s start\n",
			root, root);
		free(line);
		return NULL;
	}
	fprintf(f, "%s\n", line);
	fflush(f);
	free(line);
	return f;
}

/* The next line of the answer, or NULL when the node went away. */
static json_t *answer_line(FILE *f)
{
	char *line = NULL;
	size_t cap = 0;
	json_t *o = getline(&line, &cap, f) > 0 ? json_loads(line, 0, NULL) : NULL;

	free(line);
	return o;
}

static int failure(const json_t *o)
{
	const char *error = json_string_value(json_object_get(o, "error"));
	json_int_t status = json_integer_value(json_object_get(o, "exit"));

	fprintf(stderr, "opengateway: %s\n", error ? error : "the node ended before it answered");
	return status > 0 ? (int)status : EXIT_FAILURE;
}

/* Asks and gives the data, or says why not and gives NULL with the exit status. */
static json_t *ask(json_t *req, int *status)
{
	FILE *f = request(req);
	json_t *o, *data = NULL;

	if (!f) {
		*status = EXIT_NOT_RUNNING;
		return NULL;
	}
	o = answer_line(f);
	fclose(f);
	if (json_is_true(json_object_get(o, "ok"))) {
		data = json_object_get(o, "data");
		data = data ? json_incref(data) : json_object();
		*status = 0;
	} else {
		*status = failure(o);
	}
	json_decref(o);
	return data;
}

static void print_json(const json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
}

static const char *text(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "";
}

static void joined(const json_t *list, char *out, size_t cap)
{
	size_t i, n = 0;
	json_t *v;

	out[0] = '\0';
	json_array_foreach((json_t *)(uintptr_t)list, i, v)
	{
		int len = snprintf(out + n, cap - n, "%s%s", i ? "," : "", json_string_value(v));

		if (len < 0 || (size_t)len >= cap - n)
			return;
		n += (size_t)len;
	}
}

/* ---- data ---- */

static int cmd_status(void)
{
	int status;
	json_t *o;

	if (og_process_holder(root) <= 0) {
		if (as_json)
			puts("{\"state\": \"stopped\"}");
		else
			printf("stopped\n");
		return EXIT_NOT_RUNNING;
	}
	o = ask(json_pack("{s:s}", "cmd", "status"), &status);
	if (!o)
		return status;
	if (as_json) {
		print_json(o);
	} else {
		printf("%s  %s  key %s\n", text(o, "state"), text(o, "name"), text(o, "key"));
		printf("up %.0f s, pid %lld, http %s, dht %s (%s)\n",
			json_real_value(json_object_get(o, "uptime_s")),
			(long long)json_integer_value(json_object_get(o, "pid")), text(o, "http"),
			text(o, "dht"), text(o, "port"));
		printf("%lld clusters, %lld peers, %lld DHT nodes\n",
			(long long)json_integer_value(json_object_get(o, "clusters")),
			(long long)json_integer_value(json_object_get(o, "peers")),
			(long long)json_integer_value(json_object_get(o, "dht_nodes")));
	}
	json_decref(o);
	return 0;
}

static void print_peer(const json_t *p)
{
	char models[512], clusters[512];

	joined(json_object_get(p, "models"), models, sizeof(models));
	joined(json_object_get(p, "clusters"), clusters, sizeof(clusters));
	printf("%-16s %s  %s  models %s  clusters %s\n", text(p, "name")[0] ? text(p, "name") : "-",
		text(p, "key"), text(p, "address"), models[0] ? models : "-",
		clusters[0] ? clusters : "-");
}

static void print_cluster(const json_t *c)
{
	printf("%-24s %-8s %lld peers, stored on %lld nodes\n", text(c, "id"), text(c, "state"),
		(long long)json_integer_value(json_object_get(c, "peers")),
		(long long)json_integer_value(json_object_get(c, "stored_on")));
}

static void print_model(const json_t *m)
{
	printf("%-24s %s%s\n", text(m, "id"), text(m, "node"),
		json_is_true(json_object_get(m, "local")) ? " (this node)" : "");
}

static int cmd_list(json_t *req, void (*print)(const json_t *))
{
	int status;
	json_t *list = ask(req, &status), *v;
	size_t i;

	if (!list)
		return status;
	if (as_json)
		print_json(list);
	else
		json_array_foreach(list, i, v) print(v);
	json_decref(list);
	return 0;
}

/* ---- the root ---- */

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

/* configs/demo.gguf beside the build, or share/og-node/demo.gguf beside the installed program. */
static bool demo_path(char out[PATH_BYTES])
{
	static const char *const places[] = {
		"../share/og-node/demo.gguf", "../../configs/demo.gguf", "../configs/demo.gguf"};
	char self[PATH_BYTES], candidate[PATH_BYTES + 64];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return false;
	self[n] = '\0';
	dirname(self);
	for (size_t i = 0; i < OG_ARRAY_LEN(places); i++) {
		snprintf(candidate, sizeof(candidate), "%s/%s", self, places[i]);
		if (realpath(candidate, out))
			return true;
	}
	return false;
}

static bool plain(const char *value)
{
	return value[0] && !strpbrk(value, "\n\r;#") && strlen(value) < 180;
}

static int init_root(const char *name, const char *model, const char *bootstrap)
{
	char conf[PATH_BYTES + 16], content[4 * PATH_BYTES], demo[PATH_BYTES], full[PATH_BYTES];
	char serves[PATH_BYTES + 64];
	const char *loopback =
		strncmp(bootstrap, "127.", 4) == 0 ? "[port]\naddress = 127.0.0.1\n" : "";
	int ret = og_make_dirs(root);

	if (ret == 0 && realpath(root, full))
		snprintf(root, sizeof(root), "%s", full);
	path_of(conf, "node.conf");
	if (!plain(name) || !plain(model) || !plain(bootstrap) || !plain(root)) {
		fprintf(stderr, "opengateway: a name, model, bootstrap list or root is empty, too "
				"long or has one of ; #\n");
		return EXIT_USAGE;
	}
	if (strcmp(model, "none") == 0) {
		snprintf(serves, sizeof(serves), "backend = none");
	} else if (strcmp(model, "demo") == 0) {
		if (!demo_path(demo)) {
			fprintf(stderr, "opengateway: demo.gguf is not where it was installed; "
					"give --model PATH or --model none\n");
			return EXIT_FAILURE;
		}
		snprintf(serves, sizeof(serves), "path = %s", demo);
	} else {
		snprintf(serves, sizeof(serves), "path = %s", model);
	}
	snprintf(content, sizeof(content),
		"# og-node: see og-node --print-config for all keys and their defaults.\n"
		"[node]\nname = %s\nroot = %s\n\n[cluster]\n\n[dht]\nbootstrap = %s\n\n%s\n"
		"[http]\n# Port 0 takes a free one; opengateway status shows it.\nlisten = "
		"127.0.0.1:0\n\n"
		"[model]\n%s\n",
		name, root, bootstrap, loopback, serves);
	if (ret == 0)
		ret = write_new(conf, content);
	if (ret < 0) {
		fprintf(stderr, "opengateway: %s: %s\n", conf, strerror(-ret));
		return EXIT_FAILURE;
	}
	fprintf(stderr, "opengateway: made %s (node %s, model %s)\n", conf, name, model);
	return 0;
}

static int cmd_init(int argc, char **argv)
{
	static const struct option options[] = {
		{"name", 1, NULL, 'n'}, {"model", 1, NULL, 'm'}, {"bootstrap", 1, NULL, 'b'}, {0}};
	const char *env = getenv("OPENGATEWAY_BOOTSTRAP");
	char copy[PATH_BYTES];
	const char *name, *model = "demo", *bootstrap = env && env[0] ? env : "public";
	int opt;

	snprintf(copy, sizeof(copy), "%s", root);
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
			return usage();
	}
	return optind == argc ? init_root(name, model, bootstrap) : usage();
}

/* Other commands make an empty root with defaults. */
static int ensure_root(void)
{
	char conf[PATH_BYTES + 16];
	char *argv[] = {(char *)(uintptr_t) "init", NULL};

	path_of(conf, "node.conf");
	return access(conf, F_OK) == 0 ? 0 : cmd_init(1, argv);
}

static int cmd_cluster(const char *id, bool add)
{
	char conf[PATH_BYTES + 16];
	const char *why = NULL;
	int ret, status = 0;

	if (og_config_check_cluster_id(id, &why) < 0) {
		fprintf(stderr, "opengateway: \"%s\": %s\n", id, why);
		return EXIT_USAGE;
	}
	status = ensure_root();
	if (status != 0)
		return status;
	path_of(conf, "node.conf");
	ret = og_config_edit_cluster(conf, id, add);
	if (ret < 0 && ret != -EALREADY) {
		fprintf(stderr, "opengateway: %s: %s\n", conf, strerror(-ret));
		return EXIT_FAILURE;
	}
	if (og_process_holder(root) > 0) {
		json_t *o =
			ask(json_pack("{s:s, s:s}", "cmd", add ? "join" : "leave", "cluster", id),
				&status);

		json_decref(o);
		if (!o && ret != -EALREADY)
			return status;
	} else if (!add && ret == -EALREADY) {
		fprintf(stderr, "opengateway: not a member of \"%s\"\n", id);
		return EXIT_FAILURE;
	}
	fprintf(stderr, "opengateway: %s \"%s\"\n", add ? "member of" : "left", id);
	return 0;
}

/* ---- the process ---- */

static void og_node_path(char out[PATH_BYTES])
{
	char self[PATH_BYTES - 16];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n > 0 ? n : 0] = '\0';
	snprintf(out, PATH_BYTES, "%s/og-node", dirname(self));
}

static void exec_node(int ready, const char *log)
{
	char program[PATH_BYTES], conf[PATH_BYTES + 16];
	int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int null = open("/dev/null", O_RDONLY);

	og_node_path(program);
	path_of(conf, "node.conf");
	setsid();
	dup2(null, STDIN_FILENO);
	dup2(ready, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	execl(program, "og-node", "-c", conf, (char *)NULL);
	dprintf(STDERR_FILENO, "%s: %s\n", program, strerror(errno));
	_exit(127);
}

/* What the node wrote since it was started. */
static void show_reason(const char *log, long from)
{
	FILE *f = fopen(log, "r");
	char line[1024];

	if (!f)
		return;
	fseek(f, from, SEEK_SET);
	while (fgets(line, sizeof(line), f))
		fputs(line, stderr);
	fclose(f);
}

static int cmd_start(void)
{
	char log[PATH_BYTES + 16], line[64];
	struct stat st;
	long from;
	int pipes[2], status = ensure_root();
	pid_t pid;
	FILE *f;
	bool ready = false;

	if (status != 0)
		return status;
	if (og_process_holder(root) > 0) {
		fprintf(stderr, "opengateway: the node of %s runs already\n", root);
		return 0;
	}
	path_of(log, "og-node.log");
	from = stat(log, &st) == 0 ? (long)st.st_size : 0;
	if (pipe2(pipes, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		perror("opengateway");
		return EXIT_FAILURE;
	}
	if (pid == 0)
		exec_node(pipes[1], log);
	close(pipes[1]);
	f = fdopen(pipes[0], "r");
	while (!ready && f && fgets(line, sizeof(line), f))
		ready = strcmp(line, "ready\n") == 0;
	if (f)
		fclose(f);
	if (ready) {
		fprintf(stderr, "opengateway: started, pid %d, log %s\n", (int)pid, log);
		return 0;
	}
	waitpid(pid, &status, 0);
	fprintf(stderr, "opengateway: the node did not start:\n");
	show_reason(log, from);
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_BAD_CONFIG ? EXIT_BAD_CONFIG
									   : EXIT_FAILURE;
}

static int cmd_stop(void)
{
	const struct timespec step = {0, 20 * 1000000};
	pid_t pid = og_process_holder(root);
	json_t *o;
	int status;

	if (pid <= 0) {
		fprintf(stderr, "opengateway: the node of %s is not running\n", root);
		return EXIT_NOT_RUNNING;
	}
	o = ask(json_pack("{s:s}", "cmd", "stop"), &status);
	json_decref(o);
	if (!o)
		kill(pid, SIGTERM);
	for (int i = 0; i < 750; i++) {
		if (og_process_holder(root) != pid) {
			fprintf(stderr, "opengateway: stopped\n");
			return 0;
		}
		nanosleep(&step, NULL);
	}
	fprintf(stderr, "opengateway: pid %d has not ended after 15 s; kill -9 %d ends it\n",
		(int)pid, (int)pid);
	return 5;
}

static int cmd_logs(void)
{
	char log[PATH_BYTES + 16], buf[4096];
	FILE *f;
	size_t n;

	path_of(log, "og-node.log");
	f = fopen(log, "r");
	if (!f) {
		fprintf(stderr, "opengateway: %s: %s\n", log, strerror(errno));
		return EXIT_FAILURE;
	}
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		fwrite(buf, 1, n, stdout);
	fclose(f);
	return 0;
}

/* ---- prompts ---- */

static int prompt_once(const char *prompt, const char *model, bool stream)
{
	json_t *body = json_pack("{s:s, s:[{s:s, s:s}], s:b}", "model", model, "messages", "role",
		"user", "content", prompt, "stream", stream);
	FILE *f = body ? request(json_pack("{s:s, s:o}", "cmd", "prompt", "body", body)) : NULL;
	int status = EXIT_NOT_RUNNING;
	json_t *o;

	if (!body) {
		fprintf(stderr, "opengateway: the prompt is not UTF-8\n");
		return EXIT_USAGE;
	}
	if (!f)
		return status;
	while ((o = answer_line(f)) && !json_object_get(o, "ok")) {
		fputs(text(o, "text"), stdout);
		fflush(stdout);
		json_decref(o);
	}
	fclose(f);
	if (!json_is_true(json_object_get(o, "ok"))) {
		status = failure(o);
	} else {
		const json_t *data = json_object_get(o, "data");

		if (as_json)
			print_json(data);
		else
			printf("%s\n", text(data, "text"));
		status = 0;
	}
	json_decref(o);
	return status;
}

static int cmd_prompt(int argc, char **argv)
{
	static const struct option options[] = {
		{"model", 1, NULL, 'm'}, {"stream", 0, NULL, 's'}, {0}};
	const char *model = "";
	bool stream = false;
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int opt, status = 0;

	optind = 0; /* starts getopt anew */
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == 'm')
			model = optarg;
		else if (opt == 's')
			stream = true;
		else
			return usage();
	}
	if (optind + 1 < argc)
		return usage();
	if (optind < argc)
		return prompt_once(argv[optind], model, stream);
	for (;;) {
		if (isatty(STDIN_FILENO))
			fputs("> ", stderr);
		n = getline(&line, &cap, stdin);
		if (n <= 0)
			break;
		line[strcspn(line, "\n")] = '\0';
		if (line[0])
			status = prompt_once(line, model, stream);
		if (status == EXIT_NOT_RUNNING)
			break;
	}
	free(line);
	return status;
}

/* ---- main ---- */

static int dispatch(int argc, char **argv)
{
	const char *cmd = argv[0];
	bool add = strcmp(cmd, "connect") == 0 || strcmp(cmd, "join") == 0;

	if (strcmp(cmd, "init") == 0)
		return cmd_init(argc, argv);
	if (strcmp(cmd, "prompt") == 0)
		return cmd_prompt(argc, argv);
	if (add || strcmp(cmd, "disconnect") == 0 || strcmp(cmd, "leave") == 0)
		return argc == 2 ? cmd_cluster(argv[1], add) : usage();
	if (strcmp(cmd, "peers") == 0 && argc <= 2)
		return cmd_list(
			argc == 2 ? json_pack("{s:s, s:s}", "cmd", "peers", "cluster", argv[1])
				  : json_pack("{s:s}", "cmd", "peers"),
			print_peer);
	if (argc != 1)
		return usage();
	if (strcmp(cmd, "clusters") == 0)
		return cmd_list(json_pack("{s:s}", "cmd", "clusters"), print_cluster);
	if (strcmp(cmd, "models") == 0)
		return cmd_list(json_pack("{s:s}", "cmd", "models"), print_model);
	if (strcmp(cmd, "status") == 0)
		return cmd_status();
	if (strcmp(cmd, "start") == 0)
		return cmd_start();
	if (strcmp(cmd, "stop") == 0)
		return cmd_stop();
	if (strcmp(cmd, "restart") == 0) {
		int status = cmd_stop();

		return status == 0 || status == EXIT_NOT_RUNNING ? cmd_start() : status;
	}
	if (strcmp(cmd, "logs") == 0)
		return cmd_logs();
	return usage();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"root", 1, NULL, 'r'}, {"json", 0, NULL, 'j'}, {"help", 0, NULL, 'h'}, {0}};
	const char *env = getenv("OPENGATEWAY_ROOT"), *home = getenv("HOME");
	int opt;

	signal(SIGPIPE, SIG_IGN);
	if (env && env[0])
		snprintf(root, sizeof(root), "%s", env);
	else
		snprintf(root, sizeof(root), "%s/.opengateway", home ? home : ".");
	while ((opt = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (opt == 'r') {
			snprintf(root, sizeof(root), "%s", optarg);
		} else if (opt == 'j') {
			as_json = true;
		} else if (opt == 'h') {
			fputs(usage_text, stdout);
			return 0;
		} else {
			return usage();
		}
	}
	return optind < argc ? dispatch(argc - optind, argv + optind) : usage();
}
