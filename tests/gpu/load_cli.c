/*
 * load_cli: reads one file as the loader reads weights, and says how fast.
 *
 *   load_cli [--ring] [--buffered] [--plain] FILE
 *
 * --ring: through registered buffers, as for a device, and copied from there; else into place.
 * --buffered: without O_DIRECT. --plain: without io_uring. One JSON line: bytes, seconds, GB/s, and
 * the peak of memory above the file's own size.
 */
#include "gpu/loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct cli {
	struct og_load_opts opts;
	struct og_load_source source;
};

static int copy_chunk(
	void *arg, uint32_t source, uint64_t offset, const uint8_t *data, uint32_t len_bytes)
{
	struct og_arena *a = &((struct cli *)arg)->source.arena;

	memcpy(a->base + (offset - a->start), data, len_bytes);
	return 0;
}

static int load(struct cli *c)
{
	const struct og_file *f = &c->source.file;
	struct og_load_piece piece = {0, 0, 0, f->size_bytes};
	struct og_load_plan plan = {&c->source, 1, &piece, 1, 1, NULL, NULL};
	struct og_load_progress progress;
	struct rusage usage;
	char err[512];
	double seconds;

	if (og_arena_init(&c->source.arena, 0, f->size_bytes) < 0) {
		fprintf(stderr, "load_cli: %s does not fit in memory\n", c->source.path);
		return 1;
	}
	if (og_load_run(&plan, &c->opts, &progress, err, sizeof(err)) < 0) {
		fprintf(stderr, "load_cli: %s\n", err);
		return 1;
	}
	getrusage(RUSAGE_SELF, &usage);
	seconds = (double)(progress.end_ns - progress.start_ns) / 1e9;
	printf("{\"bytes\": %llu, \"seconds\": %.4f, \"gb_per_s\": %.3f, \"above_mib\": %.0f}\n",
		(unsigned long long)progress.bytes_done, seconds,
		(double)progress.bytes_done / 1e9 / seconds,
		(double)usage.ru_maxrss / 1024 - (double)f->size_bytes / 1048576);
	og_arena_fini(&c->source.arena);
	return 0;
}

int main(int argc, char **argv)
{
	struct cli c = {0};
	char err[512];
	int ret;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--ring") == 0)
			c.opts.deliver = copy_chunk;
		else if (strcmp(argv[i], "--buffered") == 0)
			c.opts.no_direct = true;
		else if (strcmp(argv[i], "--plain") == 0)
			c.opts.no_uring = true;
		else
			c.source.path = argv[i];
	}
	c.opts.arg = &c;
	if (!c.source.path) {
		fprintf(stderr, "usage: load_cli [--ring] [--buffered] [--plain] FILE\n");
		return 2;
	}
	if (og_file_open(&c.source.file, c.source.path, err, sizeof(err)) < 0) {
		fprintf(stderr, "load_cli: %s\n", err);
		return 1;
	}
	ret = load(&c);
	og_file_close(&c.source.file);
	return ret;
}
