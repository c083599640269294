#include "gpu/model_priv.h"

#include "gpu/panels.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static void publish(struct og_model *m, uint32_t stages_ready, int ret)
{
	pthread_mutex_lock(&m->thread->lock);
	m->load_ret = ret;
	/* pairs with the acquire in og_model_wait() */
	__atomic_store_n(&m->stages_ready, stages_ready, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&m->thread->changed);
	pthread_mutex_unlock(&m->thread->lock);
}

/* The vectors whose bytes have just arrived, as plain floats. */
static int fill_vectors(struct og_model *m, uint32_t from_stage, uint32_t to_stage)
{
	for (struct og_model_vector *v = m->vectors; v; v = v->next) {
		if (v->stage < from_stage || v->stage >= to_stage)
			continue;
		og_dequantize(v->type, v->from, v->n, v->out);
		for (uint32_t i = 0; i < v->n; i++) {
			if (v->positive && !(v->out[i] > 0)) {
				m->bad_tensor = v->positive;
				return -EBADMSG;
			}
			v->out[i] += v->add;
		}
	}
	return 0;
}

static int stages_arrived(void *arg, uint32_t ready)
{
	struct og_model *m = arg;
	int ret = fill_vectors(m, m->stages_ready, ready);

	if (ret == 0)
		ret = og_model_unpack(m, m->stages_ready, ready);
	if (ret == 0 && m->sink)
		ret = m->sink->ready(m->sink->arg, m->stages_ready, ready);
	for (uint32_t stage = m->stages_ready; stage < ready && ret == 0 && m->packer; stage++)
		ret = og_model_pack(m, stage);
	if (ret == 0)
		publish(m, ready, 0);
	return ret;
}

/* What the chunk has of the vectors goes to the arena, where they are looked for. */
static void keep_vectors(struct og_model *m, uint32_t source, uint64_t offset, const uint8_t *data,
	uint32_t len_bytes)
{
	for (const struct og_model_vector *v = m->vectors; v; v = v->next) {
		struct og_model_place at = og_model_place(m, v->from);
		uint64_t end = at.offset + og_dtype_bytes(v->type, v->n);
		uint64_t from = OG_MAX(at.offset, offset), to = OG_MIN(end, offset + len_bytes);

		if (at.source == source && from < to)
			memcpy((uint8_t *)(uintptr_t)v->from + (from - at.offset),
				data + (from - offset), to - from);
	}
}

static int pass_on(
	void *arg, uint32_t source, uint64_t offset, const uint8_t *data, uint32_t len_bytes)
{
	struct og_model *m = arg;

	keep_vectors(m, source, offset, data, len_bytes);
	return m->sink->deliver(m->sink->arg, source, offset, data, len_bytes);
}

static int pass_back(void *arg, const uint8_t *data)
{
	struct og_model *m = arg;

	return m->sink->reuse(m->sink->arg, data);
}

static int load(struct og_model *m, char *err, size_t err_bytes)
{
	struct og_load_plan plan = {m->files, m->nb_files, m->pieces, m->nb_pieces,
		m->hp.nb_layers + 2, stages_arrived, m};
	int ret = og_model_unpack_start(m);

	if (ret == 0 && m->load_opts.panel_threads > 0 && !m->load_opts.deliver)
		ret = og_model_packer_create(m);
	if (ret == 0)
		ret = og_load_run(&plan, &m->load_opts, m->progress, err, err_bytes);
	else
		snprintf(err, err_bytes, "%s: no threads to lay out weights with", m->names[0]);
	og_model_packer_destroy(m);
	og_model_unpack_stop(m);
	if (ret < 0 && m->bad_scale)
		snprintf(err, err_bytes, "%s: tensor %s holds what is no scale",
			m->names[m->bad_scale->file], og_show(m->bad_scale->name).text);
	if (ret < 0 && m->bad_tensor)
		snprintf(err, err_bytes, "%s: tensor %s holds what is no positive number",
			m->names[0], m->bad_tensor);
	return ret;
}

static void *load_thread(void *arg)
{
	struct og_model *m = arg;
	int ret = load(m, m->load_err, sizeof(m->load_err));

	for (uint32_t i = 0; i < m->nb_files; i++)
		og_file_close(&m->files[i].file);
	if (ret < 0)
		publish(m, m->stages_ready, ret);
	return NULL;
}

int og_model_wait_slow(struct og_model *m, uint32_t stage)
{
	int ret;

	OG_ASSERT(!m->load_opts.is_held); /* it would wait for ever */
	pthread_mutex_lock(&m->thread->lock);
	while (m->stages_ready <= stage && m->load_ret == 0)
		pthread_cond_wait(&m->thread->changed, &m->thread->lock);
	ret = m->stages_ready > stage ? 0 : m->load_ret;
	pthread_mutex_unlock(&m->thread->lock);
	return ret;
}

int og_model_load_state(const struct og_model *m)
{
	int ret;

	pthread_mutex_lock(&m->thread->lock);
	ret = m->load_ret < 0 ? m->load_ret : m->stages_ready > m->hp.nb_layers + 1;
	pthread_mutex_unlock(&m->thread->lock);
	return ret;
}

void og_model_stop(struct og_model *m)
{
	__atomic_store_n(&m->stop, true, __ATOMIC_RELAXED);
}

const char *og_model_load_error(const struct og_model *m)
{
	return m->load_err;
}

bool og_model_is_unpacked(const struct og_model *m)
{
	return m->unpacks != NULL;
}

struct og_model_place og_model_place(const struct og_model *m, const uint8_t *data)
{
	uintptr_t at = (uintptr_t)data;

	for (uint32_t i = 0; i < m->nb_files; i++) {
		const struct og_arena *a = &m->files[i].arena;
		uintptr_t base = (uintptr_t)a->base;

		if (at >= base && at - base < a->end - a->start)
			return (struct og_model_place){i, a->start + (at - base)};
	}
	return (struct og_model_place){UINT32_MAX, 0};
}

static int create(
	struct og_model **out, const struct og_load_opts *opts, struct og_load_progress *progress)
{
	struct og_model *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->thread = calloc(1, sizeof(*m->thread));
	if (!m->thread) {
		free(m);
		return -ENOMEM;
	}
	pthread_mutex_init(&m->thread->lock, NULL);
	pthread_cond_init(&m->thread->changed, NULL);
	if (opts)
		m->load_opts = *opts;
	m->progress = progress;
	*out = m;
	return 0;
}

/* All but the weights, so that a file of the wrong kind is refused before gigabytes are read. */
static int open_headers(struct og_model *m, const char *path, char *err, size_t err_bytes)
{
	struct stat st;
	int ret;

	snprintf(err, err_bytes, "%s: out of memory", path);
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		ret = og_model_read_folder(m, path, err, err_bytes);
	else
		ret = og_model_read_gguf(m, path, err, err_bytes);
	return ret == 0 ? og_model_bind(m, path, err, err_bytes) : ret;
}

int og_model_open(struct og_model **out, const char *path, const struct og_load_opts *opts,
	struct og_load_progress *progress, char *err, size_t err_bytes)
{
	struct og_model *m;
	int ret = create(&m, opts, progress);

	if (ret < 0)
		return ret;
	ret = open_headers(m, path, err, err_bytes);
	if (ret == 0)
		ret = load(m, err, err_bytes);
	if (ret < 0) {
		og_model_close(m);
		return ret;
	}
	for (uint32_t i = 0; i < m->nb_files; i++)
		og_file_close(&m->files[i].file);
	*out = m;
	return 0;
}

static int start_thread(struct og_model *m)
{
	int ret = -pthread_create(&m->thread->id, NULL, load_thread, m);

	m->thread->is_running = ret == 0;
	return ret;
}

int og_model_open_background(struct og_model **out, const char *path,
	const struct og_load_opts *opts, struct og_load_progress *progress, char *err,
	size_t err_bytes)
{
	struct og_model *m;
	int ret = create(&m, opts, progress);

	if (ret < 0)
		return ret;
	m->load_opts.stop = &m->stop;
	ret = open_headers(m, path, err, err_bytes);
	if (ret == 0 && !m->load_opts.is_held)
		ret = start_thread(m);
	if (ret < 0) {
		og_model_close(m);
		return ret;
	}
	*out = m;
	return 0;
}

static int settle_arenas(struct og_model *m)
{
	for (uint32_t i = 0; i < m->nb_files; i++) {
		const struct og_arena *a = &m->files[i].arena;

		if (og_arena_settle(a) == 0)
			continue;
		snprintf(m->load_err, sizeof(m->load_err),
			"%s: %" PRIu64 " bytes of weights do not fit in memory", m->names[i],
			a->end - a->start);
		return -ENOMEM;
	}
	return 0;
}

int og_model_begin(
	const struct og_model *held, const struct og_model_sink *sink, uint32_t panel_threads)
{
	struct og_model *m = (struct og_model *)held;
	int ret = 0;

	OG_ASSERT(m->load_opts.is_held && !(sink && m->unpacks));
	m->load_opts.is_held = false;
	m->sink = sink;
	if (sink) {
		m->load_opts.buffers = sink->buffers;
		m->load_opts.deliver = pass_on;
		m->load_opts.reuse = pass_back;
		m->load_opts.arg = m;
	} else {
		m->load_opts.panel_threads = panel_threads;
		ret = settle_arenas(m);
	}
	if (ret == 0) {
		ret = start_thread(m);
		if (ret < 0)
			snprintf(m->load_err, sizeof(m->load_err), "%s: no thread to load it with",
				m->names[0]);
	}
	if (ret < 0)
		publish(m, 0, ret);
	return ret;
}

void og_model_finish(const struct og_model *m)
{
	if (!m->thread->is_running)
		return;
	pthread_join(m->thread->id, NULL);
	m->thread->is_running = false;
}

void og_model_close(struct og_model *m)
{
	og_model_stop(m);
	og_model_finish(m);
	for (uint32_t i = 0; i < m->nb_files; i++) {
		og_file_close(&m->files[i].file);
		og_arena_fini(&m->files[i].arena);
		og_safetensors_fini(&m->safetensors[i]);
		free(m->headers[i]);
		free(m->names[i]);
	}
	while (m->vectors) {
		struct og_model_vector *v = m->vectors;

		m->vectors = v->next;
		free(v);
	}
	og_model_unpack_free(m);
	og_gguf_fini(&m->gguf);
	free(m->files);
	free(m->names);
	free(m->headers);
	free(m->safetensors);
	free(m->own_tensors);
	free(m->layers);
	free(m->pieces);
	pthread_cond_destroy(&m->thread->changed);
	pthread_mutex_destroy(&m->thread->lock);
	free(m->thread);
	free(m);
}

void og_weight_row(const struct og_weight *w, uint32_t row, float *out)
{
	if (row < w->panel_rows)
		og_panel_row(w->type, w->n_in,
			w->data + row / OG_PANEL_ROWS * OG_PANEL_ROWS * w->row_bytes,
			row % OG_PANEL_ROWS, out);
	else
		og_dequantize(w->type, w->data + row * w->row_bytes, w->n_in, out);
}
