#include "bench/child.h"

#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 32, HEAR_MS = 60000, STOP_STEPS = 500 };

static const char self_path[] = "/proc/self/exe";

/* In the child, between fork and exec. */
static void become(const char *const *argv, int cpu, int in, int out, pid_t parent)
{
	const char *args[ARGS_MAX];
	size_t n = 0;

	for (; argv[n] && n < ARGS_MAX - 1; n++)
		args[n] = argv[n];
	args[n] = NULL;
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	bench_pin(cpu);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	execvp(args[0], (char *const *)args);
	_exit(127);
}

static int spawn(struct bench_child *c, const char *const *argv, int cpu)
{
	int in[2], out[2];
	pid_t parent = getpid();

	if (pipe2(in, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(out, O_CLOEXEC) < 0) {
		close(in[0]);
		close(in[1]);
		return -errno;
	}
	c->pid = fork();
	if (c->pid == 0)
		become(argv, cpu, in[0], out[1], parent);
	close(in[0]);
	close(out[1]);
	c->in = in[1];
	c->out = fdopen(out[0], "r");
	if (c->out)
		setvbuf(c->out, NULL, _IONBF, 0);
	return c->pid < 0 || !c->out ? -ENOMEM : 0;
}

int bench_child_hear(struct bench_child *c, char *line, size_t line_bytes)
{
	struct pollfd p = {fileno(c->out), POLLIN, 0};
	size_t n = 0;

	while (n + 1 < line_bytes) {
		char byte;

		if (poll(&p, 1, HEAR_MS) <= 0)
			return -ETIMEDOUT;
		if (read(p.fd, &byte, 1) != 1)
			return -EPIPE;
		if (byte == '\n')
			break;
		line[n++] = byte;
	}
	line[n] = '\0';
	return 0;
}

int bench_child_tell(struct bench_child *c, const char *line)
{
	size_t n = strlen(line);

	if (write(c->in, line, n) != (ssize_t)n || write(c->in, "\n", 1) != 1)
		return -EPIPE;
	return 0;
}

int bench_child_start(struct bench_child *c, const char *const *argv, int cpu)
{
	const char *args[ARGS_MAX] = {argv[0] ? argv[0] : self_path};
	char line[sizeof(c->ready)];
	int ret;

	for (size_t i = 1; i < ARGS_MAX - 1 && argv[i]; i++)
		args[i] = argv[i];
	*c = (struct bench_child){.in = -1};
	ret = spawn(c, args, cpu);
	while (ret == 0) {
		ret = bench_child_hear(c, line, sizeof(line));
		if (ret == 0 && strncmp(line, "ready ", 6) == 0)
			break;
	}
	if (ret == 0)
		ret = -clock_getcpuclockid(c->pid, &c->cpu_clock);
	if (ret < 0) {
		fprintf(stderr, "og-bench: %s did not start: %s\n",
			argv[0] ? argv[0] : (argv[1] && argv[2] ? argv[2] : "og-bench"),
			strerror(-ret));
		bench_child_stop(c);
		return ret;
	}
	snprintf(c->ready, sizeof(c->ready), "%s", line + 6);
	return 0;
}

bool bench_child_alive(struct bench_child *c)
{
	return c->pid > 0 && waitpid(c->pid, NULL, WNOHANG) == 0;
}

void bench_child_stop(struct bench_child *c)
{
	const struct timespec step = {.tv_nsec = 10 * OG_NS_PER_MS};

	if (c->pid <= 0)
		return;
	bench_child_resume(c);
	if (c->in >= 0)
		close(c->in);
	for (int i = 0; i < STOP_STEPS; i++) {
		if (waitpid(c->pid, NULL, WNOHANG) != 0)
			goto gone;
		nanosleep(&step, NULL);
	}
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
gone:
	if (c->out)
		fclose(c->out);
	*c = (struct bench_child){.in = -1};
}

void bench_child_pause(struct bench_child *c)
{
	if (c->pid > 0)
		kill(c->pid, SIGSTOP);
}

void bench_child_resume(struct bench_child *c)
{
	if (c->pid > 0)
		kill(c->pid, SIGCONT);
}

uint64_t bench_child_cpu_ns(const struct bench_child *c)
{
	struct timespec ts;

	if (clock_gettime(c->cpu_clock, &ts) < 0)
		return 0;
	return (uint64_t)ts.tv_sec * OG_NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t bench_child_rss_bytes(const struct bench_child *c)
{
	char path[64];
	long pages = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)c->pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%*d %ld", &pages) != 1)
		pages = 0;
	fclose(f);
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
