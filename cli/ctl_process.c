/*
 * ctl_process.c: the node as a process: started, stopped, drained, its log; and og-bench.
 */
#include "cli/ctl.h"

#include "cli/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	JOIN_WAIT_S = 15, /* for a DHT node to answer */
	LOOK_MS = 500,
	STOP_STEP_MS = 10,
	STOP_SPARE_S = 5, /* beyond [limits] stop_timeout */
};

static void exec_node(int ready, const char *log)
{
	char dir[OG_CTL_PATH_BYTES], program[OG_CTL_FILE_BYTES], conf[OG_CTL_FILE_BYTES];
	int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int null = open("/dev/null", O_RDONLY);

	if (out < 0) {
		og_ctl_say("%s: %s", log, strerror(errno));
		_exit(OG_EXIT_FAILED);
	}
	og_ctl_program_dir(dir);
	snprintf(program, sizeof(program), "%s/og-node", dir);
	og_ctl_path(conf, "node.conf");
	setsid();
	dup2(null, STDIN_FILENO);
	dup2(ready, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	execl(program, "og-node", "-c", conf, (char *)NULL);
	dprintf(STDERR_FILENO, "%s: %s\n", program, strerror(errno));
	_exit(OG_EXIT_FAILED);
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

static bool has_load(const json_t *status, const char *state)
{
	const json_t *list = json_object_get(status, "load");

	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(og_ctl_text(json_array_get(list, i), "state"), state) == 0)
			return true;
	return false;
}

/*
 * Everything is open, and for some time it has tried to join in vain, or no model could be loaded:
 * says what it waits for. Large models take their time.
 */
static bool waits_in_vain(void)
{
	json_t *status = og_ctl_try(json_pack("{s:s}", "cmd", "status"));
	const json_t *waiting = json_object_get(status, "waiting_for");
	bool vain = status && strcmp(og_ctl_text(status, "state"), "starting") == 0 &&
		    !has_load(status, "loading") &&
		    (og_ctl_real(status, "uptime_s") >= JOIN_WAIT_S ||
			    (has_load(status, "failed") && !has_load(status, "served")));

	for (size_t i = 0; vain && i < json_array_size(waiting); i++)
		og_ctl_say("%s", json_string_value(json_array_get(waiting, i)));
	json_decref(status);
	return vain;
}

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = 1;
}

enum outcome { READY, ENDED, IN_VAIN, INTERRUPTED };

/* Until the node says `ready` on its stdout, or closes it, or cannot join. */
static enum outcome await_ready(int fd)
{
	char text[256];
	size_t used = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		int n_ready = poll(&p, 1, LOOK_MS);

		if (interrupted)
			return INTERRUPTED;
		if (n_ready == 0 && waits_in_vain())
			return IN_VAIN;
		if (n_ready <= 0)
			continue;
		n = read(fd, text + used, sizeof(text) - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ENDED;
		used += (size_t)n;
		text[used] = '\0';
		if (strncmp(text, "ready\n", 6) == 0 || strstr(text, "\nready\n"))
			return READY;
		if (used == sizeof(text) - 1)
			used = 0;
	}
}

static int outcome_status(enum outcome outcome, pid_t pid, const char *log, long from)
{
	int status;

	switch (outcome) {
	case READY:
		og_ctl_say("started, pid %d, log %s", (int)pid, log);
		return OG_EXIT_DONE;
	case IN_VAIN:
		og_ctl_say(
			"not ready; it runs (pid %d) and keeps trying: status shows how it goes, "
			"stop ends it",
			(int)pid);
		return OG_EXIT_TIMED_OUT;
	case INTERRUPTED:
		kill(pid, SIGTERM);
		waitpid(pid, &status, 0);
		og_ctl_say("interrupted: the node is stopped again");
		return OG_EXIT_FAILED;
	case ENDED:
		break;
	}
	waitpid(pid, &status, 0);
	og_ctl_say("the node did not start:");
	show_reason(log, from);
	if (WIFSIGNALED(status))
		og_ctl_say("it was ended by signal %d", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == OG_EXIT_CONFIG ? OG_EXIT_CONFIG
									  : OG_EXIT_FAILED;
}

/*
 * Another holds the lock: ready, it runs already; starting, it is waited for; ending, its end is. Returns
 * false when there is none any more.
 */
static bool runs_already(int *status)
{
	const struct timespec step = {0, STOP_STEP_MS * 1000000L};
	pid_t pid;

	*status = OG_EXIT_DONE;
	while ((pid = og_process_holder(og_ctl_root)) > 0) {
		json_t *o = og_ctl_try(json_pack("{s:s}", "cmd", "status"));
		bool ready = strcmp(og_ctl_text(o, "state"), "ready") == 0;

		json_decref(o);
		if (ready) {
			og_ctl_say("the node of %s runs already", og_ctl_root);
			return true;
		}
		if (waits_in_vain()) {
			*status = outcome_status(IN_VAIN, pid, NULL, 0);
			return true;
		}
		nanosleep(&step, NULL);
	}
	if (pid < 0) {
		og_ctl_say("%s: %s", og_ctl_root, strerror(-pid));
		*status = OG_EXIT_FAILED;
	}
	return pid < 0;
}

int og_ctl_start(void)
{
	struct sigaction act = {.sa_handler = on_signal};
	char log[OG_CTL_FILE_BYTES];
	struct stat st;
	long from;
	int pipes[2], status = og_ctl_ensure_root();
	pid_t pid;

	if (status != OG_EXIT_DONE)
		return status;
	if (runs_already(&status))
		return status;
	og_ctl_path(log, "og-node.log");
	from = stat(log, &st) == 0 ? (long)st.st_size : 0;
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	if (pipe2(pipes, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		og_ctl_say("%s", strerror(errno));
		return OG_EXIT_FAILED;
	}
	if (pid == 0)
		exec_node(pipes[1], log);
	close(pipes[1]);
	status = outcome_status(await_ready(pipes[0]), pid, log, from);
	close(pipes[0]);
	return status;
}

/* ---- the end ---- */

static bool ended_within(pid_t pid, uint64_t ms)
{
	const struct timespec step = {0, STOP_STEP_MS * 1000000L};

	for (uint64_t waited = 0; waited < ms; waited += STOP_STEP_MS) {
		if (og_process_holder(og_ctl_root) != pid)
			return true;
		nanosleep(&step, NULL);
	}
	return false;
}

static void ignore(void *ctx, const char *line)
{
}

/* How long the node gives running prompts when it is stopped. */
static uint64_t stop_timeout_ms(void)
{
	static struct og_config cfg;
	struct og_problems problems = {.report = ignore};
	char conf[OG_CTL_FILE_BYTES];
	uint64_t ms;

	og_ctl_path(conf, "node.conf");
	(void)!og_config_load(&cfg, conf, &problems);
	ms = cfg.stop_timeout_ms;
	og_config_fini(&cfg);
	return ms;
}

static pid_t running_pid(void)
{
	pid_t pid = og_process_holder(og_ctl_root);

	if (pid == 0)
		og_ctl_say("the node of %s is not running", og_ctl_root);
	else if (pid < 0)
		og_ctl_say("%s: %s", og_ctl_root, strerror(-pid));
	return pid;
}

int og_ctl_stop(void)
{
	uint64_t limit_ms = stop_timeout_ms() + STOP_SPARE_S * 1000;
	pid_t pid = running_pid();
	json_t *o;

	if (pid <= 0)
		return pid < 0 ? OG_EXIT_FAILED : OG_EXIT_NOT_RUNNING;
	o = og_ctl_try(json_pack("{s:s}", "cmd", "stop"));
	json_decref(o);
	if (!o)
		kill(pid, SIGTERM); /* it is still starting */
	if (ended_within(pid, limit_ms)) {
		og_ctl_say("stopped");
		return OG_EXIT_DONE;
	}
	og_ctl_say("pid %d has not ended after %llu s; kill -9 %d ends it", (int)pid,
		(unsigned long long)(limit_ms / 1000), (int)pid);
	return OG_EXIT_TIMED_OUT;
}

int og_ctl_restart(void)
{
	int status = og_ctl_stop();

	return status == OG_EXIT_DONE || status == OG_EXIT_NOT_RUNNING ? og_ctl_start() : status;
}

int og_ctl_drain(void)
{
	long long before = -1;
	pid_t pid = running_pid();
	json_t *o;
	int status;

	if (pid <= 0)
		return pid < 0 ? OG_EXIT_FAILED : OG_EXIT_NOT_RUNNING;
	o = og_ctl_ask(json_pack("{s:s}", "cmd", "drain"), &status);
	if (!o)
		return status;
	json_decref(o);
	while (!ended_within(pid, LOOK_MS)) {
		const json_t *requests;
		long long left;

		o = og_ctl_try(json_pack("{s:s}", "cmd", "status"));
		requests = json_object_get(o, "requests");
		left = og_ctl_int(requests, "running") + og_ctl_int(requests, "serving");
		if (o && left != before && left > 0)
			og_ctl_say("draining: %lld prompts still run", left);
		before = left;
		json_decref(o);
	}
	og_ctl_say("drained and stopped");
	return OG_EXIT_DONE;
}

int og_ctl_logs(void)
{
	char log[OG_CTL_FILE_BYTES], buf[4096];
	FILE *f;
	size_t n;

	og_ctl_path(log, "og-node.log");
	f = fopen(log, "r");
	if (!f) {
		og_ctl_say("%s: %s", log, strerror(errno));
		return OG_EXIT_FAILED;
	}
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		fwrite(buf, 1, n, stdout);
	fclose(f);
	return OG_EXIT_DONE;
}

/* From the folder of this program, from that of the build, or from PATH. */
int og_ctl_bench(char **argv)
{
	static const char *const places[] = {"", "../bench/"};
	char dir[OG_CTL_PATH_BYTES], path[OG_CTL_FILE_BYTES];
	char name[] = "og-bench";

	argv[0] = name;
	og_ctl_program_dir(dir);
	for (size_t i = 0; i < OG_ARRAY_LEN(places); i++) {
		snprintf(path, sizeof(path), "%s/%sog-bench", dir, places[i]);
		execv(path, argv);
	}
	execvp(name, argv);
	og_ctl_say("og-bench is neither beside this program (%s) nor in PATH: %s", dir,
		strerror(errno));
	return OG_EXIT_FAILED;
}
