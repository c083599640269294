#include "gpu/cpu/pool.h"
#include "gpu/model_priv.h"
#include "gpu/panels.h"

#include <errno.h>
#include <stdlib.h>

enum { BOUNCES_MAX = 64 }; /* more threads would wait for memory, not for each other */

struct og_model_packer {
	struct og_pool *pool;
	uint8_t *bounces; /* one panel each */
	size_t bounce_bytes;
	uint32_t nb_bounces;
	/* The weight in progress. */
	struct og_weight *w;
};

/* Item i of nb_bounces does every nb_bounces-th panel, by way of its own bounce. */
static void pack_item(void *arg, uint32_t item)
{
	struct og_model_packer *p = arg;
	uint8_t *data = (uint8_t *)(uintptr_t)p->w->data;
	size_t panel_bytes = OG_PANEL_ROWS * p->w->row_bytes;
	uint32_t nb_panels = p->w->n_out / OG_PANEL_ROWS;

	for (uint32_t i = item; i < nb_panels; i += p->nb_bounces)
		og_panel_pack(p->w->type, p->w->n_in, data + i * panel_bytes,
			p->bounces + item * p->bounce_bytes);
}

static int pack(struct og_model_packer *p, struct og_weight *w)
{
	uint32_t rows = og_panel_rows(w->type, w->n_in, w->n_out);

	if (rows == 0)
		return 0;
	if (p->bounce_bytes < OG_PANEL_ROWS * w->row_bytes) {
		free(p->bounces);
		p->bounce_bytes = OG_PANEL_ROWS * w->row_bytes;
		p->bounces = malloc(p->nb_bounces * p->bounce_bytes);
		if (!p->bounces) {
			p->bounce_bytes = 0;
			return -ENOMEM;
		}
	}
	p->w = w;
	og_pool_run(p->pool, pack_item, p, p->nb_bounces);
	w->panel_rows = rows;
	return 0;
}

/* A stage's weights; what is only looked up by row stays as it is. */
int og_model_pack(struct og_model *m, uint32_t stage)
{
	bool tied = m->output.data == m->embedding.data;
	int ret = 0;

	if (stage == (tied ? 0 : m->hp.nb_layers + 1)) {
		ret = pack(m->packer, &m->output);
		if (tied)
			m->embedding.panel_rows = m->output.panel_rows;
	} else if (stage > 0 && stage <= m->hp.nb_layers) {
		struct og_layer *l = &m->layers[stage - 1];
		struct og_weight *all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};

		for (size_t i = 0; i < OG_ARRAY_LEN(all) && ret == 0; i++)
			ret = pack(m->packer, all[i]);
	}
	return ret;
}

int og_model_packer_create(struct og_model *m)
{
	struct og_model_packer *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	p->nb_bounces = OG_MIN(m->load_opts.panel_threads, (uint32_t)BOUNCES_MAX);
	ret = og_pool_create(&p->pool, p->nb_bounces);
	if (ret < 0) {
		free(p);
		return ret;
	}
	m->packer = p;
	return 0;
}

void og_model_packer_destroy(struct og_model *m)
{
	if (!m->packer)
		return;
	og_pool_destroy(m->packer->pool);
	free(m->packer->bounces);
	free(m->packer);
	m->packer = NULL;
}
