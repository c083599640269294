/*
 * test_model_load.c: a model that is used while its weights arrive, and loads that fail.
 */
#include "gpu/backend.h"
#include "model_writer.h"
#include "refuse.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>

enum { TOKENS = 20, CHUNK_BYTES = 4096 };

static char err[512];

/* Holds chunks from a file offset on until the gate opens; others go to their place at once. */
struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct og_model *model; /* set when the open has returned */
	uint64_t held_from;
	bool is_open;
	bool is_waiting; /* a chunk is held */
	int result;
};

static int place_chunk(
	void *arg, uint32_t source, uint64_t offset, const uint8_t *data, uint32_t len_bytes)
{
	struct gate *g = arg;
	int ret;

	pthread_mutex_lock(&g->lock);
	while (!g->model)
		pthread_cond_wait(&g->changed, &g->lock);
	while (offset + len_bytes > g->held_from && !g->is_open) {
		g->is_waiting = true;
		pthread_cond_broadcast(&g->changed);
		pthread_cond_wait(&g->changed, &g->lock);
	}
	ret = g->result;
	pthread_mutex_unlock(&g->lock);
	memcpy((uint8_t *)og_arena_at(&g->model->files[source].arena, offset), data, len_bytes);
	return ret;
}

static void set_model(struct gate *g, struct og_model *m)
{
	pthread_mutex_lock(&g->lock);
	g->model = m;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

static void wait_for_held(struct gate *g)
{
	pthread_mutex_lock(&g->lock);
	while (!g->is_waiting)
		pthread_cond_wait(&g->changed, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

static void open_gate(struct gate *g, int result)
{
	pthread_mutex_lock(&g->lock);
	g->is_open = true;
	g->result = result;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

static void save_model(char path[64])
{
	struct og_mw m = og_mw_make(0);
	struct og_gw w;

	m.layers = 4;
	w = og_mw_gguf(&m);
	og_gw_save(&w, path);
	og_gw_fini(&w);
}

static int forward(const struct og_model *m, float *logits)
{
	struct og_backend_opts opts = {
		.model = m, .nb_pages = 1, .rows_max = TOKENS, .nb_threads = 1, .context = TOKENS};
	struct og_row rows[TOKENS];
	uint32_t table = 0;
	struct og_batch batch = {rows, TOKENS, &table, 1, logits, NULL};
	struct og_backend *b;
	int ret;

	for (uint32_t i = 0; i < TOKENS; i++)
		rows[i] = (struct og_row){i * 7, i, 0, true, NULL};
	ret = og_cpu_backend_create(&b, &opts, NULL);
	if (ret < 0)
		return ret;
	ret = og_backend_forward(b, &batch);
	b->ops->destroy(b);
	return ret;
}

struct job {
	struct og_model *model;
	float *logits;
	int ret;
	bool is_done;
};

static void *forward_thread(void *arg)
{
	struct job *j = arg;

	j->ret = forward(j->model, j->logits);
	__atomic_store_n(&j->is_done, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Starts a load that stops within layer 2. */
static struct og_model *open_held(struct gate *g, const char *path)
{
	struct og_load_opts opts = {.deliver = place_chunk, .arg = g, .chunk_bytes = CHUNK_BYTES};
	const struct og_tensor *t;
	struct og_model *m;

	*g = (struct gate){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	cr_assert_eq(
		og_model_open_background(&m, path, &opts, NULL, err, sizeof(err)), 0, "%s", err);
	t = og_tensor_find(m->tensors, m->nb_tensors, "blk.2.ffn_gate.weight");
	cr_assert_not_null(t);
	g->held_from = t->offset;
	set_model(g, m);
	return m;
}

Test(model_load, layers_are_usable_before_the_last_has_arrived)
{
	struct og_model *m, *whole;
	struct job j = {0};
	pthread_t thread;
	struct gate g;
	size_t n;
	char path[64];
	float *want;

	save_model(path);
	cr_assert_eq(og_model_open(&whole, path, NULL, NULL, err, sizeof(err)), 0, "%s", err);
	n = (size_t)TOKENS * whole->hp.vocab;
	want = calloc(n, sizeof(float));
	cr_assert_eq(forward(whole, want), 0);
	m = open_held(&g, path);
	wait_for_held(&g);
	cr_expect_eq(og_model_wait(m, 0), 0);
	cr_expect_eq(og_model_wait(m, 1), 0);
	cr_expect_eq(og_model_wait(m, 2), 0);
	cr_expect_eq(m->stages_ready, 3);
	cr_expect_arr_eq(
		m->layers[1].attn_norm, whole->layers[1].attn_norm, m->hp.width * sizeof(float));
	j = (struct job){m, calloc(n, sizeof(float)), 1, false};
	pthread_create(&thread, NULL, forward_thread, &j);
	usleep(50000);
	cr_expect_not(__atomic_load_n(&j.is_done, __ATOMIC_ACQUIRE));
	open_gate(&g, 0);
	pthread_join(thread, NULL);
	cr_expect_eq(j.ret, 0);
	cr_expect_arr_eq(j.logits, want, n * sizeof(float));
	cr_expect_eq(og_model_wait(m, m->hp.nb_layers + 1), 0);
	og_model_close(m);
	og_model_close(whole);
	free(want);
	free(j.logits);
	unlink(path);
}

Test(model_load, a_load_that_fails_ends_the_forward_pass_with_its_error)
{
	struct og_model *m;
	pthread_t thread;
	struct gate g;
	struct job j;
	char path[64];

	save_model(path);
	m = open_held(&g, path);
	wait_for_held(&g);
	j = (struct job){m, calloc((size_t)TOKENS * m->hp.vocab, sizeof(float)), 1, false};
	pthread_create(&thread, NULL, forward_thread, &j);
	usleep(20000);
	open_gate(&g, -EIO);
	pthread_join(thread, NULL);
	cr_expect_eq(j.ret, -EIO);
	cr_expect_eq(og_model_wait(m, m->hp.nb_layers + 1), -EIO);
	cr_expect(strstr(og_model_load_error(m), path) != NULL, "%s", og_model_load_error(m));
	og_model_close(m);
	free(j.logits);
	unlink(path);
}

Test(model_load, closing_ends_a_load_in_progress)
{
	struct og_model *m;
	struct gate g;
	char path[64];

	save_model(path);
	m = open_held(&g, path);
	wait_for_held(&g);
	open_gate(&g, 0);
	og_model_close(m);
	unlink(path);
}

Test(model_load, a_file_that_shrinks_is_an_error_that_names_it)
{
	struct og_load_opts opts = {.chunk_bytes = CHUNK_BYTES};
	char folder[] = "/tmp/og_test_XXXXXX", path[128];
	struct og_mw mw = og_mw_make(2);
	struct og_model *m;
	struct stat st;

	cr_assert_not_null(mkdtemp(folder));
	og_mw_folder(&mw, folder);
	snprintf(path, sizeof(path), "%s/model-00002-of-00003.safetensors", folder);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(truncate(path, st.st_size - 1), 0);
	cr_expect_eq(og_model_open(&m, folder, &opts, NULL, err, sizeof(err)), -EBADMSG);
	cr_expect(strstr(err, "model-00002-of-00003") != NULL, "%s", err);
	og_mw_remove(folder);
}

/* ---- A load that waits for who takes it ---- */

/* Takes the files' bytes as a device would, here to copies of the files. */
struct taker {
	const struct og_model *model;
	uint8_t *copies[8];
	uint32_t stages;
	int fail_at; /* stage */
};

static int take(
	void *arg, uint32_t source, uint64_t offset, const uint8_t *data, uint32_t len_bytes)
{
	struct taker *t = arg;

	memcpy(t->copies[source] + offset, data, len_bytes);
	return 0;
}

static int take_at_once(void *arg, const uint8_t *data)
{
	(void)arg;
	(void)data;
	return 0;
}

static int note_stages(void *arg, uint32_t from, uint32_t to)
{
	struct taker *t = arg;

	cr_expect_eq(from, t->stages);
	cr_expect_gt(to, from);
	t->stages = to;
	return t->fail_at && to > (uint32_t)t->fail_at ? -ENODEV : 0;
}

static void expect_same_weight(
	const struct taker *t, const struct og_weight *got, const struct og_weight *want)
{
	struct og_model_place at = og_model_place(t->model, got->data);

	cr_assert_lt(at.source, t->model->nb_files);
	cr_expect_arr_eq(
		t->copies[at.source] + at.offset, want->data, want->n_out * want->row_bytes);
}

static void open_held_folder(struct og_model **m, struct taker *t, const char *folder)
{
	struct og_load_opts opts = {.is_held = true, .chunk_bytes = CHUNK_BYTES};

	cr_assert_eq(
		og_model_open_background(m, folder, &opts, NULL, err, sizeof(err)), 0, "%s", err);
	t->model = *m;
	cr_assert_leq((*m)->nb_files, OG_ARRAY_LEN(t->copies));
	for (uint32_t i = 0; i < (*m)->nb_files; i++)
		t->copies[i] = calloc(1, (*m)->files[i].file.size_bytes);
}

static void forget(struct og_model *m, struct taker *t)
{
	for (uint32_t i = 0; i < m->nb_files; i++)
		free(t->copies[i]);
	og_model_close(m);
}

Test(model_load, weights_go_to_who_takes_them_and_vectors_to_memory)
{
	char folder[] = "/tmp/og_test_XXXXXX";
	struct og_mw mw = og_mw_make(2);
	struct og_model *m, *whole;
	struct taker t = {0};
	struct og_model_sink sink = {NULL, take, take_at_once, note_stages, &t};
	uint32_t nb_bytes = 0;

	cr_assert_not_null(mkdtemp(folder));
	og_mw_folder(&mw, folder);
	cr_assert_eq(og_model_open(&whole, folder, NULL, NULL, err, sizeof(err)), 0, "%s", err);
	open_held_folder(&m, &t, folder);
	cr_expect_eq(og_model_load_state(m), 0);
	cr_assert_eq(og_model_begin(m, &sink, 0), 0);
	cr_assert_eq(og_model_wait(m, m->hp.nb_layers + 1), 0, "%s", og_model_load_error(m));
	og_model_finish(m);
	cr_expect_eq(t.stages, m->hp.nb_layers + 2);
	expect_same_weight(&t, &m->embedding, &whole->embedding);
	for (uint32_t i = 0; i < m->hp.nb_layers; i++) {
		const struct og_layer *got = &m->layers[i], *want = &whole->layers[i];

		expect_same_weight(&t, &got->v, &want->v);
		expect_same_weight(&t, &got->down, &want->down);
		cr_expect_arr_eq(got->attn_norm, want->attn_norm, m->hp.width * sizeof(float));
		cr_expect_arr_eq(got->ffn_norm, want->ffn_norm, m->hp.width * sizeof(float));
	}
	cr_expect_arr_eq(m->output_norm, whole->output_norm, m->hp.width * sizeof(float));
	/* No memory was taken for the embedding. */
	for (const uint8_t *p = m->embedding.data;
		p < m->embedding.data + m->embedding.n_out * m->embedding.row_bytes; p++)
		nb_bytes += *p != 0;
	cr_expect_eq(nb_bytes, 0);
	forget(m, &t);
	og_model_close(whole);
	og_mw_remove(folder);
}

Test(model_load, who_takes_the_weights_may_end_the_load)
{
	char folder[] = "/tmp/og_test_XXXXXX";
	struct og_mw mw = og_mw_make(2);
	struct taker t = {.fail_at = 1};
	struct og_model_sink sink = {NULL, take, take_at_once, note_stages, &t};
	struct og_model *m;

	cr_assert_not_null(mkdtemp(folder));
	og_mw_folder(&mw, folder);
	open_held_folder(&m, &t, folder);
	cr_assert_eq(og_model_begin(m, &sink, 0), 0);
	cr_expect_eq(og_model_wait(m, m->hp.nb_layers + 1), -ENODEV);
	og_model_finish(m);
	cr_expect_eq(og_model_load_state(m), -ENODEV);
	forget(m, &t);
	open_held_folder(&m, &t, folder); /* and one that is never begun may be closed */
	forget(m, &t);
	og_mw_remove(folder);
}

Test(model_load, a_held_load_may_go_to_memory_after_all)
{
	struct og_load_opts opts = {.is_held = true};
	struct og_model *m, *whole;
	char path[64];
	float *got, *want;
	size_t n;

	save_model(path);
	cr_assert_eq(og_model_open(&whole, path, NULL, NULL, err, sizeof(err)), 0, "%s", err);
	cr_assert_eq(
		og_model_open_background(&m, path, &opts, NULL, err, sizeof(err)), 0, "%s", err);
	cr_assert_eq(og_model_begin(m, NULL, 2), 0);
	n = (size_t)TOKENS * whole->hp.vocab;
	got = calloc(n, sizeof(float));
	want = calloc(n, sizeof(float));
	cr_assert_eq(forward(m, got), 0);
	cr_assert_eq(forward(whole, want), 0);
	cr_expect_arr_eq(got, want, n * sizeof(float));
	og_model_close(m);
	og_model_close(whole);
	free(got);
	free(want);
	unlink(path);
}

/* ---- Weights in panels ---- */

/* One way for the bytes to arrive. */
struct way {
	const char *what;
	struct og_load_opts opts;
	long refused; /* system call, or 0 */
	bool no_direct;
};

static const struct way ways[] = {
	{"one by one", {.no_uring = true}, 0, false},
	{"buffered", {.no_direct = true}, 0, false},
	{"by a ring that cannot be made", {0}, SYS_io_uring_setup, false},
	{"by a ring that takes nothing", {0}, SYS_io_uring_enter, false},
	{"unregistered", {0}, SYS_io_uring_register, false},
	{"from a file system without O_DIRECT", {0}, 0, true},
};

struct opened {
	const struct way *way;
	const char *path;
	struct og_model *model;
	int ret;
};

/* A filter is for good: it gets a thread of its own. */
static void *open_by_way(void *arg)
{
	struct opened *o = arg;
	struct og_load_opts opts = o->way->opts;

	opts.chunk_bytes = CHUNK_BYTES;
	opts.panel_threads = 2;
	o->ret = 0;
	if (o->way->refused && !og_refuse(o->way->refused, EPERM))
		o->ret = -ENOSYS;
	if (o->way->no_direct && !og_refuse_direct())
		o->ret = -ENOSYS;
	if (o->ret == 0)
		o->ret = og_model_open(&o->model, o->path, &opts, NULL, err, sizeof(err));
	return NULL;
}

static struct og_model *open_in_panels(const struct way *way, const char *path)
{
	struct opened o = {.way = way, .path = path};
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, open_by_way, &o), 0);
	pthread_join(thread, NULL);
	cr_assert_eq(o.ret, 0, "%s: %s", way->what, err);
	return o.model;
}

Test(model_load, panels_are_the_same_whichever_way_the_bytes_come)
{
	static const enum og_dtype types[] = {OG_BF16, OG_Q8_0, OG_Q4_0};
	static const struct way usual = {.what = "as usual"};

	for (size_t t = 0; t < OG_ARRAY_LEN(types); t++) {
		struct og_gw_model shape = og_gw_small();
		const struct og_arena *want;
		struct og_model *m;
		struct og_gw w;
		char path[64];

		shape.type = types[t];
		w = og_gw_model_file(&shape);
		og_gw_save(&w, path);
		m = open_in_panels(&usual, path);
		want = &m->files[0].arena;
		cr_expect_gt(m->layers[0].q.panel_rows, 0);
		cr_expect_neq(memcmp(m->layers[1].up.data,
				      w.data + (m->layers[1].up.data - want->base) + want->start,
				      m->layers[1].up.row_bytes),
			0, "the file has no panels");
		for (size_t i = 0; i < OG_ARRAY_LEN(ways); i++) {
			struct og_model *other = open_in_panels(&ways[i], path);

			cr_expect_arr_eq(other->files[0].arena.base, want->base,
				want->end - want->start, "%s, %s", og_dtype_name(types[t]),
				ways[i].what);
			cr_expect_eq(other->layers[0].q.panel_rows, m->layers[0].q.panel_rows);
			og_model_close(other);
		}
		og_model_close(m);
		og_gw_fini(&w);
		unlink(path);
	}
}
