/*
 * og_bench.c: the program og-bench: options, the table of suites.
 */
#include "bench/bench.h"
#include "bench/js.h"
#include "bench/ports.h"
#include "bench/serve.h"
#include "crypto/keys.h"

#include <argp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	SOCKET = 1u << BENCH_SOCKET | 1u << BENCH_RECVMMSG,
	MEMIF = 1u << BENCH_MEMIF,
	VETH = 1u << BENCH_AF_PACKET | 1u << BENCH_AF_XDP,
	PATH = 1u << BENCH_PATH,
};

static const struct {
	const char *name;
	int (*run)(const struct bench *b);
	unsigned ports; /* bit set of enum bench_port */
	const char *help;
	bool uses_all_cpus; /* or one for each end */
} suites[] = {
	{"dht", suite_dht, SOCKET | MEMIF | VETH, "PING, FIND_NODE, LOOKUP: answers per second",
		false},
	{"stream", suite_stream, SOCKET | MEMIF | VETH | PATH,
		"one encrypted stream: MB per second", false},
	{"handshake", suite_handshake, SOCKET, "connects, and a crypto worker, per second", false},
	{"echo", suite_echo, SOCKET | MEMIF | VETH, "64 bytes there and back on an open stream",
		false},
	{"ring", suite_ring, SOCKET, "a message from thread to thread", false},
	{"udp", suite_udp, SOCKET | MEMIF | VETH, "the port alone: echoes per second", false},
	{"floods", suite_floods, SOCKET | MEMIF, "what honest probes see while a node is flooded",
		false},
	{"load", suite_load, SOCKET, "a model file read from the disk: GB per second", true},
	{"infer", suite_infer, SOCKET, "the forward pass of a model: tokens per second", true},
};

static const char *const ports[] = {
	[BENCH_SOCKET] = "socket",
	[BENCH_RECVMMSG] = "recvmmsg",
	[BENCH_MEMIF] = "memif",
	[BENCH_AF_PACKET] = "af_packet",
	[BENCH_AF_XDP] = "af_xdp",
	[BENCH_PATH] = "path",
};

enum {
	OPT_INSIDE = 1000,
	OPT_CORES,
	OPT_MODEL,
	OPT_BACKEND,
	OPT_THREADS,
	OPT_PREFILL,
	OPT_DECODE,
	OPT_BATCH
};

enum { THREADS_MAX = 1024, TOKENS_MAX = 1024 * 1024, BATCH_MAX = 1024 };

static const char demo_model[] = BENCH_SOURCE "/configs/demo.gguf";

static const struct argp_option options[] = {
	{"port", 'p', "PORT", 0,
		"socket (default), recvmmsg, memif, af_packet, af_xdp, or path: a long one with "
		"loss",
		0},
	{"peer", 'j', "js", 0, "measure the JavaScript stack beside ours, in the same run", 0},
	{"json", 'o', "FILE", 0, "write the lines of JSON there instead of to stdout", 0},
	{"case", 'c', "CASE", 0, "only this one, by the name in the table (floods: of the flood)",
		0},
	{"smoke", 's', NULL, 0, "two short runs of each case: shows that it works, not how fast",
		0},
	{"runs", 'r', "N", 0, "runs of each case (11)", 0},
	{"cores", OPT_CORES, "N", 0, "stream: also N polling cores at each end, beside one", 0},
	{"seconds", 't', "S", 0, "length of a run that is measured by time (0.5)", 0},
	{"model", OPT_MODEL, "F", 0, "infer, load: of this file (the demo model)", 0},
	{"backend", OPT_BACKEND, "cpu|cuda", 0, "infer: computed there (cpu)", 0},
	{"threads", OPT_THREADS, "N", 0, "infer: by so many (as many as there are CPUs)", 0},
	{"prefill", OPT_PREFILL, "N", 0, "infer: tokens of the prompt (512)", 0},
	{"decode", OPT_DECODE, "N", 0, "infer: tokens of each answer (64)", 0},
	{"batch", OPT_BATCH, "N", 0, "infer: answers at once (1)", 0},
	{"inside", OPT_INSIDE, NULL, OPTION_HIDDEN, NULL, 0},
	{0},
};

struct flags {
	bool inside; /* already in a network namespace of our own */
	struct bench bench;
	const char *json_path;
	const char *words[3];
	int nb_words;
	double seconds;
};

static int port_of(const char *name)
{
	for (size_t i = 0; i < OG_ARRAY_LEN(ports); i++)
		if (strcmp(ports[i], name) == 0)
			return (int)i;
	return -1;
}

static uint32_t count_of(const char *arg, uint32_t max, struct argp_state *state)
{
	char *end;
	unsigned long n = strtoul(arg, &end, 10);

	if (*end || n < 1 || n > max)
		argp_error(state, "\"%s\" is no number from 1 to %u", arg, max);
	return (uint32_t)n;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct flags *f = state->input;
	char *end;

	switch (key) {
	case 'p':
		if (port_of(arg) < 0)
			argp_error(state, "no port is called \"%s\"", arg);
		f->bench.port = (enum bench_port)port_of(arg);
		return 0;
	case 'j':
		if (strcmp(arg, "js") != 0)
			argp_error(state, "the only other peer is js");
		f->bench.js = true;
		return 0;
	case 'o':
		f->json_path = arg;
		return 0;
	case 'c':
		f->bench.only = arg;
		return 0;
	case 's':
		f->bench.smoke = true;
		return 0;
	case OPT_CORES:
		f->bench.cores = (uint32_t)strtoul(arg, &end, 10);
		if (*end || f->bench.cores < 1 || f->bench.cores > OG_CORES_MAX)
			argp_error(state, "--cores takes 1 to %d", OG_CORES_MAX);
		return 0;
	case OPT_INSIDE:
		f->inside = true;
		return 0;
	case OPT_MODEL:
		f->bench.model = arg;
		return 0;
	case OPT_BACKEND:
		if (strcmp(arg, "cpu") != 0 && strcmp(arg, "cuda") != 0)
			argp_error(state, "--backend takes cpu or cuda");
		f->bench.backend = arg;
		return 0;
	case OPT_THREADS:
		f->bench.threads = count_of(arg, THREADS_MAX, state);
		return 0;
	case OPT_PREFILL:
		f->bench.prefill = count_of(arg, TOKENS_MAX, state);
		return 0;
	case OPT_DECODE:
		f->bench.decode = count_of(arg, TOKENS_MAX, state);
		return 0;
	case OPT_BATCH:
		f->bench.batch = count_of(arg, BATCH_MAX, state);
		return 0;
	case 'r':
		f->bench.runs = (uint32_t)strtoul(arg, &end, 10);
		if (*end || f->bench.runs < 1 || f->bench.runs > BENCH_SAMPLES_MAX)
			argp_error(state, "--runs takes 1 to %d", BENCH_SAMPLES_MAX);
		return 0;
	case 't':
		f->seconds = strtod(arg, &end);
		if (*end || !(f->seconds >= 0.01 && f->seconds <= 60))
			argp_error(state, "--seconds takes 0.01 to 60");
		return 0;
	case ARGP_KEY_ARG:
		if (f->nb_words == (int)OG_ARRAY_LEN(f->words))
			argp_error(state, "what is \"%s\"?", arg);
		f->words[f->nb_words++] = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static char *help_filter(int key, const char *text, void *input)
{
	char *out = NULL;
	size_t bytes;
	FILE *f;

	if (key != ARGP_KEY_HELP_POST_DOC || !(f = open_memstream(&out, &bytes)))
		return (char *)text;
	fprintf(f, "Suites:\n");
	for (size_t i = 0; i < OG_ARRAY_LEN(suites); i++)
		fprintf(f, "  %-10s %s\n", suites[i].name, suites[i].help);
	fprintf(f,
		"\nExit status: 0 done, 1 failed, 2 usage, 77 the machine lacks what it needs.\n");
	fclose(f);
	return out;
}

/* Two CPUs of those we may use: one for what is measured, one for what loads it. */
static void pick_cpus(struct bench *b)
{
	cpu_set_t set;

	b->server_cpu = b->load_cpu = -1;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return;
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET((unsigned)i, &set))
			continue;
		if (b->nb_cpus < BENCH_CPUS_MAX)
			b->cpus[b->nb_cpus++] = i;
		if (b->server_cpu < 0)
			b->server_cpu = i;
		else if (b->load_cpu < 0)
			b->load_cpu = i;
	}
	if (b->load_cpu < 0) {
		bench_note("one CPU for both ends: the figures say little");
		b->load_cpu = b->server_cpu;
	}
}

static int run(struct flags *f, char **argv)
{
	struct bench *b = &f->bench;
	int status = -1;

	b->suite = f->words[0];
	b->port_name = ports[b->port];
	if (b->runs == 0)
		b->runs = b->smoke ? BENCH_RUNS_SMOKE : BENCH_RUNS;
	if (f->seconds <= 0)
		f->seconds = b->smoke ? 0.05 : 0.5;
	b->run_ns = (uint64_t)(f->seconds * 1e9);
	if (b->js && js_missing()[0] != '\0') {
		fprintf(stderr, "og-bench: --peer js: %s\n", js_missing());
		return BENCH_SKIPPED;
	}
	if (b->port >= BENCH_AF_PACKET && !f->inside)
		return ports_enter(b, argv, "--inside");
	b->json = f->json_path ? fopen(f->json_path, "ae") : stdout;
	if (!b->json) {
		perror(f->json_path);
		return BENCH_FAILED;
	}
	if (!b->model)
		b->model = demo_model;
	pick_cpus(b);
	for (size_t i = 0; i < OG_ARRAY_LEN(suites); i++) {
		if (strcmp(suites[i].name, b->suite) != 0)
			continue;
		if (!(suites[i].ports & 1u << b->port)) {
			fprintf(stderr, "og-bench: %s does not run over %s\n", b->suite,
				ports[b->port]);
			status = BENCH_USAGE;
		} else {
			if (!suites[i].uses_all_cpus)
				bench_pin(b->load_cpu);
			status = suites[i].run(b);
		}
	}
	if (status < 0) {
		fprintf(stderr, "og-bench: no suite is called \"%s\"; --help lists them\n",
			b->suite);
		status = BENCH_USAGE;
	}
	if (b->json != stdout)
		fclose(b->json);
	return status;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {options, parse, "SUITE\ncompare FILE_A FILE_B",
		"og-bench: measures og-node, each case beside a reference in the same run."
		"\vSuites",
		NULL, help_filter, NULL};
	struct flags flags = {0};

	if (argc > 2 && strcmp(argv[1], "--serve") == 0)
		return bench_serve(argc - 2, argv + 2);
	argp_err_exit_status = BENCH_USAGE;
	if (argp_parse(&argp, argc, argv, 0, NULL, &flags) != 0 || og_crypto_init() < 0)
		return BENCH_USAGE;
	signal(SIGPIPE, SIG_IGN); /* a child that died is an error of its pipe */
	if (strcmp(flags.words[0], "compare") == 0) {
		if (flags.nb_words == 3)
			return bench_compare(flags.words[1], flags.words[2]);
		fprintf(stderr, "og-bench: compare takes two files\n");
		return BENCH_USAGE;
	}
	if (flags.nb_words != 1) {
		fprintf(stderr, "og-bench: one suite at a time\n");
		return BENCH_USAGE;
	}
	return run(&flags, argv);
}
