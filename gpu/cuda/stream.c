/* stream.c: weights from their files to the device, as og_model_begin() brings them. */
#include "gpu/cuda/upload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS_MAX = 64 };

/* A row that lies in several chunks, until all its parts are here. */
struct seam {
	struct seam *next;
	const struct og_cuda_strip *strip;
	uint32_t row;
	uint64_t parts; /* bit i: that of the i-th chunk; chunks may come twice */
	uint32_t have_bytes;
	uint8_t data[]; /* (row_bytes) */
};

struct stream {
	const struct og_cuda_weights *w;
	struct og_cuda_device *d;
	const struct og_model *m;
	const struct og_cuda_strips *strips;
	struct og_model_place *places; /* of the strips */
	uint32_t chunk_bytes;
	uint8_t *buffers;                           /* pinned: OG_LOAD_DEPTH chunks, */
	struct og_cuda_slot landing[OG_LOAD_DEPTH]; /* and what the device has for each */
	struct og_cuda_ring ring; /* for seams, vectors, what the host makes plain */
	struct seam *seams;
};

/* A chunk of a file, [from, to), while it is delivered. */
struct arrival {
	uint32_t source;
	uint64_t from, to;
	const uint8_t *data;
	struct og_cuda_slot *landing;
	bool is_sent;
};

static struct seam *find_seam(struct stream *s, const struct og_cuda_strip *strip, uint32_t row)
{
	struct seam *seam = s->seams;

	while (seam && (seam->strip != strip || seam->row != row))
		seam = seam->next;
	if (seam)
		return seam;
	seam = calloc(1, sizeof(*seam) + strip->from->row_bytes);
	if (!seam)
		return NULL;
	seam->strip = strip;
	seam->row = row;
	seam->next = s->seams;
	s->seams = seam;
	return seam;
}

static void drop_seam(struct stream *s, struct seam *seam)
{
	struct seam **at = &s->seams;

	while (*at != seam)
		at = &(*at)->next;
	*at = seam->next;
	free(seam);
}

/* What the chunk has of a row that it does not have whole. */
static int add_part(struct stream *s, const struct arrival *a, uint32_t strip, uint32_t row)
{
	size_t row_bytes = s->strips->of[strip].from->row_bytes;
	uint64_t begin = s->places[strip].offset + row * row_bytes;
	uint64_t from = OG_MAX(begin, a->from), to = OG_MIN(begin + row_bytes, a->to);
	uint64_t start = s->m->files[a->source].arena.start; /* chunks are counted from there */
	uint64_t part =
		1ull << ((a->from - start) / s->chunk_bytes - (begin - start) / s->chunk_bytes);
	struct seam *seam = find_seam(s, &s->strips->of[strip], row);
	int ret;

	if (!seam)
		return -ENOMEM;
	if (seam->parts & part)
		return 0;
	seam->parts |= part;
	memcpy(seam->data + (from - begin), a->data + (from - a->from), to - from);
	seam->have_bytes += (uint32_t)(to - from);
	if (seam->have_bytes < row_bytes)
		return 0;
	ret = og_cuda_ring_put_rows(&s->ring, seam->strip, seam->data, row, 1);
	drop_seam(s, seam);
	return ret;
}

static int add_whole_rows(
	struct stream *s, struct arrival *a, uint32_t strip, uint32_t first, uint32_t count)
{
	const struct og_cuda_strip *st = &s->strips->of[strip];
	uint64_t at = s->places[strip].offset + first * st->from->row_bytes - a->from;
	struct og_cuda_slot *l = a->landing;
	int ret = 0;

	if (!og_cuda_is_plain(st->from->type))
		return og_cuda_ring_put_rows(&s->ring, st, a->data + at, first, count);
	if (!a->is_sent)
		ret = og_cuda_check_work(s->d,
			s->d->cu.cuMemcpyHtoDAsync(
				l->device, a->data, (size_t)(a->to - a->from), l->stream),
			"cuMemcpyHtoDAsync");
	a->is_sent = true;
	return ret < 0 ? ret
		       : og_cuda_convert_rows(
				 s->d, l->stream, st, l->device + at, st->from->type, first, count);
}

/* What the chunk has of a strip: whole rows, and before and behind them a part of one. */
static int add_rows(struct stream *s, struct arrival *a, uint32_t strip)
{
	const struct og_weight *w = s->strips->of[strip].from;
	uint64_t begin = s->places[strip].offset, end = begin + (uint64_t)w->n_out * w->row_bytes;
	uint64_t from = OG_MAX(begin, a->from) - begin, to = OG_MIN(end, a->to) - begin;
	uint32_t first = (uint32_t)((from + w->row_bytes - 1) / w->row_bytes);
	uint32_t last = (uint32_t)(to / w->row_bytes);
	int ret = 0;

	if (from < first * (uint64_t)w->row_bytes)
		ret = add_part(s, a, strip, first - 1);
	if (ret == 0 && first < last)
		ret = add_whole_rows(s, a, strip, first, last - first);
	if (ret == 0 && last >= first && to > last * (uint64_t)w->row_bytes)
		ret = add_part(s, a, strip, last);
	return ret;
}

/* A failure of the device is not one of the disk. */
static int as_load_error(int ret)
{
	return ret == 0 || ret == -ENOMEM ? ret : -ENODEV;
}

static int deliver(
	void *arg, uint32_t source, uint64_t offset, const uint8_t *data, uint32_t len_bytes)
{
	struct stream *s = arg;
	struct arrival a = {source, offset, offset + len_bytes, data,
		&s->landing[(size_t)(data - s->buffers) / s->chunk_bytes], false};
	int ret = og_cuda_device_enter(s->d);

	for (uint32_t i = 0; i < s->strips->count && ret == 0; i++) {
		const struct og_weight *w = s->strips->of[i].from;
		const struct og_model_place *p = &s->places[i];

		if (p->source == source && p->offset < a.to &&
			p->offset + (uint64_t)w->n_out * w->row_bytes > a.from)
			ret = add_rows(s, &a, i);
	}
	if (ret == 0)
		ret = og_cuda_slot_mark(a.landing, s->d);
	return as_load_error(ret);
}

static int reuse(void *arg, const uint8_t *data)
{
	struct stream *s = arg;
	struct og_cuda_slot *l = &s->landing[(size_t)(data - s->buffers) / s->chunk_bytes];
	int ret = og_cuda_device_enter(s->d);

	return as_load_error(ret < 0 ? ret : og_cuda_wait_event(s->d, l->done, NULL));
}

static int ready(void *arg, uint32_t from, uint32_t to)
{
	struct stream *s = arg;
	int ret = og_cuda_device_enter(s->d);

	for (uint32_t stage = from; stage < to && ret == 0; stage++)
		ret = og_cuda_ring_put_vectors(&s->ring, s->w, s->m, stage);
	return as_load_error(ret);
}

/* No row may lie in more chunks than a seam has bits for. */
static bool has_few_parts(const struct stream *s)
{
	for (uint32_t i = 0; i < s->strips->count; i++)
		if (s->strips->of[i].from->row_bytes / s->chunk_bytes + 2 > PARTS_MAX)
			return false;
	return true;
}

static int make_landings(struct stream *s)
{
	int ret = og_cuda_alloc_host(s->d, &s->buffers, (size_t)OG_LOAD_DEPTH * s->chunk_bytes);

	for (uint32_t i = 0; i < OG_LOAD_DEPTH && ret == 0; i++)
		ret = og_cuda_slot_init(&s->landing[i], s->d, 0, s->chunk_bytes);
	return ret;
}

static int load(struct stream *s)
{
	struct og_model_sink sink = {s->buffers, deliver, reuse, ready, s};
	int ret = og_model_begin(s->m, &sink, 0);

	if (ret == 0)
		ret = og_model_wait(s->m, s->m->hp.nb_layers + 1);
	og_model_finish(s->m); /* only now no one else uses the device */
	for (uint32_t i = 0; i < OG_LOAD_DEPTH && ret == 0; i++)
		ret = og_cuda_wait_event(s->d, s->landing[i].done, NULL);
	return ret == 0 ? og_cuda_ring_wait(&s->ring) : ret;
}

int og_cuda_stream(const struct og_cuda_weights *w, struct og_cuda_device *d,
	const struct og_model *m, const struct og_cuda_strips *strips)
{
	struct stream s = {.w = w, .d = d, .m = m, .strips = strips};
	int ret;

	s.chunk_bytes = m->load_opts.chunk_bytes ? m->load_opts.chunk_bytes : OG_LOAD_CHUNK_BYTES;
	if (!has_few_parts(&s))
		return -EINVAL;
	s.places = calloc(strips->count, sizeof(*s.places));
	if (!s.places)
		return -ENOMEM;
	for (uint32_t i = 0; i < strips->count; i++)
		s.places[i] = og_model_place(m, strips->of[i].from->data);
	ret = og_cuda_ring_init(&s.ring, d, og_cuda_slot_bytes(m, OG_CUDA_SEAM_SLOT_BYTES));
	if (ret == 0)
		ret = make_landings(&s);
	if (ret == 0)
		ret = load(&s);
	while (s.seams) /* of a load that failed, or of chunks that came twice */
		drop_seam(&s, s.seams);
	for (uint32_t i = 0; i < OG_LOAD_DEPTH; i++)
		og_cuda_slot_fini(&s.landing[i], d);
	og_cuda_free_host(d, s.buffers);
	og_cuda_ring_fini(&s.ring);
	free(s.places);
	return ret;
}
