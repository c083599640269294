#include "gpu/cuda/forward_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATIENCE_MS = 5000, NB_ENDS = 2 }; /* the last norm and the logits: for who wants them */

static_assert(sizeof(struct og_conveyor_product) == 56, "as in the kernels");
static_assert(sizeof(struct og_conveyor_op) == 96, "as in the kernels");

/* ---- The schedule. ---- */

/* What a schedule is being made of; without room it is only counted. */
struct maker {
	struct og_conveyor_schedule *to;
	uint32_t nb_blocks, shift;
	bool is_add; /* the last one is */
	int ret;
};

static void add_op(struct maker *k, struct og_conveyor_op op)
{
	if (k->to->ops)
		k->to->ops[k->to->nb_ops] = op;
	k->to->nb_ops++;
	k->is_add = op.kind == OG_CONVEYOR_ADD;
}

static void add_product(
	struct maker *k, const struct og_cuda_matrix *w, struct og_conveyor_product p)
{
	p.w = w->data;
	p.kp = w->kp;
	p.n_out = w->n_out;
	p.nb_parts = og_cuda_pad(w->n_out, OG_CONVEYOR_TILE) / OG_CONVEYOR_TILE;
	p.shift = k->shift;
	k->shift = (k->shift + p.nb_parts % k->nb_blocks) % k->nb_blocks;
	/* Weights are read by whole tiles. */
	if (p.nb_parts * og_conveyor_part_tiles(&p) * OG_CONVEYOR_TILE > w->rows)
		k->ret = -EINVAL;
	if (k->to->products)
		k->to->products[k->to->nb_products] = p;
	k->to->nb_products++;
	add_op(k,
		(struct og_conveyor_op){.kind = OG_CONVEYOR_PRODUCT, .meets = true, .product = p});
}

/* Of rows that the same block has just made it need not wait for any other. */
static void add_norm(struct maker *k, CUdeviceptr weights, bool is_wanted)
{
	bool meets = k->to->nb_ops > 1 && (!k->is_add || is_wanted);

	add_op(k, (struct og_conveyor_op){.kind = OG_CONVEYOR_NORM,
			  .meets = meets,
			  .a = weights,
			  .product.is_wanted = is_wanted});
}

/* x += a product, with what the model does to it before. */
static void add_residual(struct maker *k, const struct og_cuda *c, const struct og_cuda_matrix *w,
	CUdeviceptr x, CUdeviceptr bias, CUdeviceptr post_norm)
{
	bool is_plain = !bias && !post_norm;

	add_product(k, w,
		(struct og_conveyor_product){.x = x,
			.out = is_plain ? c->x : c->delta,
			.ld = c->model->hp.width,
			.epilogue = is_plain ? OG_CUDA_ADD : OG_CUDA_STORE});
	if (!is_plain)
		add_op(k,
			(struct og_conveyor_op){
				.kind = OG_CONVEYOR_ADD, .meets = true, .a = bias, .b = post_norm});
}

static void add_layer(struct maker *k, const struct og_cuda *c, uint32_t i)
{
	const struct og_cuda_layer *l = &c->w.layers[i];
	enum og_cuda_epilogue gate =
		c->model->hp.activation == OG_ACT_GELU_TANH ? OG_CUDA_GEGLU : OG_CUDA_SWIGLU;

	add_norm(k, l->attn_norm, false);
	add_product(k, &l->qkv,
		(struct og_conveyor_product){.x = c->h, .out = c->qkv, .ld = l->qkv.n_out});
	add_op(k, (struct og_conveyor_op){.kind = OG_CONVEYOR_ATTENTION,
			  .meets = true,
			  .layer = i,
			  .windowed = c->model->hp.windowed[i],
			  .a = l->qkv_bias,
			  .b = l->q_norm,
			  .c = l->k_norm});
	add_residual(k, c, &l->o, c->att, l->o_bias, l->attn_post_norm);
	add_norm(k, l->ffn_norm, false);
	add_product(k, &l->gate_up,
		(struct og_conveyor_product){
			.x = c->h, .out = c->act, .ld = l->down.kp, .epilogue = gate});
	add_residual(k, c, &l->down, c->act, 0, l->ffn_post_norm);
}

static int make(struct og_conveyor_schedule *s, const struct og_cuda *c, uint32_t nb_blocks)
{
	struct maker k = {.to = s, .nb_blocks = nb_blocks};

	s->nb_ops = s->nb_products = 0;
	add_op(&k, (struct og_conveyor_op){.kind = OG_CONVEYOR_EMBED});
	for (uint32_t i = 0; i < c->model->hp.nb_layers; i++)
		add_layer(&k, c, i);
	add_norm(&k, c->w.output_norm, true);
	add_product(&k, &c->w.output,
		(struct og_conveyor_product){.x = c->h,
			.out = c->logits,
			.ld = c->model->hp.vocab,
			.cap = c->model->hp.logit_cap,
			.is_wanted = true});
	return k.ret;
}

int og_conveyor_schedule_make(
	struct og_conveyor_schedule *out, const struct og_cuda *c, uint32_t nb_blocks)
{
	int ret;

	*out = (struct og_conveyor_schedule){0};
	ret = make(out, c, nb_blocks);
	if (ret < 0)
		return ret;
	out->ops = calloc(out->nb_ops, sizeof(*out->ops));
	out->products = calloc(out->nb_products, sizeof(*out->products));
	if (!out->ops || !out->products) {
		og_conveyor_schedule_fini(out);
		return -ENOMEM;
	}
	return make(out, c, nb_blocks);
}

void og_conveyor_schedule_fini(struct og_conveyor_schedule *s)
{
	free(s->ops);
	free(s->products);
	*s = (struct og_conveyor_schedule){0};
}

/* Each part by one block, and no block two more than another. */
static bool is_shared_out(const struct og_conveyor_product *p, uint32_t nb_blocks)
{
	uint32_t covered = 0, least = UINT32_MAX, most = 0;

	if (p->shift >= nb_blocks || p->nb_parts == 0 || p->kp == 0 || p->kp % OG_CUDA_K_STEP != 0)
		return false;
	/* In the order of the parts, which begins with block `shift`. */
	for (uint32_t i = 0; i < nb_blocks; i++) {
		uint32_t begin, end;

		og_conveyor_share(p, (p->shift + i) % nb_blocks, nb_blocks, &begin, &end);
		if (begin != covered || end < begin)
			return false;
		covered = end;
		least = OG_MIN(least, end - begin);
		most = OG_MAX(most, end - begin);
	}
	return covered == p->nb_parts && most - least <= 1 &&
	       (uint64_t)p->nb_parts * OG_CONVEYOR_TILE >= p->n_out;
}

/* What a block reads that others wrote, it reads after a meeting. */
static bool is_ordered(const struct og_conveyor_op *op)
{
	bool follows_add = op[-1].kind == OG_CONVEYOR_ADD || op[-1].kind == OG_CONVEYOR_EMBED;

	return op->meets || (op->kind == OG_CONVEYOR_NORM && !op->product.is_wanted && follows_add);
}

int og_conveyor_schedule_check(const struct og_conveyor_schedule *s, uint32_t nb_blocks)
{
	uint32_t nb_products = 0;

	if (s->nb_ops < 1 + NB_ENDS || s->ops[0].kind != OG_CONVEYOR_EMBED || s->ops[0].meets)
		return -EINVAL;
	for (uint32_t i = 1; i < s->nb_ops; i++) {
		const struct og_conveyor_product *p = &s->ops[i].product, *ahead;

		if (!is_ordered(&s->ops[i]))
			return -EINVAL;
		if (s->ops[i].kind != OG_CONVEYOR_PRODUCT)
			continue;
		if (nb_products == s->nb_products)
			return -EINVAL;
		/* What is loaded ahead is what will be multiplied. */
		ahead = &s->products[nb_products++];
		if (ahead->w != p->w || ahead->kp != p->kp || ahead->nb_parts != p->nb_parts ||
			ahead->shift != p->shift || ahead->epilogue != p->epilogue ||
			!is_shared_out(p, nb_blocks))
			return -EINVAL;
	}
	return nb_products == s->nb_products ? 0 : -EINVAL;
}

static uint32_t count_meetings(const struct og_conveyor_schedule *s, uint32_t nb_ops)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < nb_ops; i++)
		n += s->ops[i].meets;
	return n;
}

/* ---- The launch. ---- */

static enum og_cuda_kernel find_kernel(const struct og_cuda *c)
{
	return c->heads.padded_dim == 32   ? OG_K_conveyor_32
	       : c->heads.padded_dim == 64 ? OG_K_conveyor_64
					   : OG_K_conveyor_128;
}

/* Shared memory for as long rings as there is room; 0: there is none. */
static uint32_t choose_depth(struct og_cuda *c, uint32_t room, uint32_t *shared_bytes)
{
	static const uint32_t depths[] = {10, 6, 4, 2}; /* as the kernel knows them */
	uint32_t pages = og_conveyor_pages_bytes(c->heads.padded_dim);

	for (size_t i = 0; i < OG_ARRAY_LEN(depths); i++) {
		*shared_bytes = pages + depths[i] * OG_CUDA_SLICES * OG_CONVEYOR_STAGE_BYTES;
		if (*shared_bytes + OG_CONVEYOR_STATIC_BYTES <= room)
			return depths[i];
	}
	return 0;
}

/* Returns 0, -EOPNOTSUPP where the device lacks something, or the errno of a call. */
static int fit(struct og_cuda *c, const char **lack)
{
	struct og_cuda_conveyor *v = &c->conveyor;
	int room = 0, cooperates = 0, clock_khz = 0, fits = 0;
	int ret = og_cuda_attribute(
		&c->d, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, &room);

	if (ret == 0)
		ret = og_cuda_attribute(&c->d, CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, &cooperates);
	if (ret == 0)
		ret = og_cuda_attribute(&c->d, CU_DEVICE_ATTRIBUTE_CLOCK_RATE, &clock_khz);
	if (ret < 0)
		return ret;
	v->kernel = find_kernel(c);
	v->args.depth = choose_depth(c, (uint32_t)room, &v->shared_bytes);
	v->args.patience =
		OG_MIN(c->d.wait_ms / 2, (uint32_t)PATIENCE_MS) * (uint64_t)OG_MAX(clock_khz, 1);
	*lack = !cooperates      ? "has no cooperative launches"
		: !v->args.depth ? "has too little shared memory"
				 : NULL;
	if (*lack)
		return -EOPNOTSUPP;
	ret = og_cuda_fit(&c->d, v->kernel, OG_CONVEYOR_THREADS, v->shared_bytes, &fits);
	if (ret == 0 && fits == 0) {
		*lack = "cannot hold a block of it";
		ret = -EOPNOTSUPP;
	}
	return ret;
}

static void describe(struct og_cuda *c, const struct og_conveyor_schedule *s)
{
	const struct og_hparams *hp = &c->model->hp;
	struct og_conveyor_args *a = &c->conveyor.args;
	CUdeviceptr at = c->conveyor.memory;

	a->ops = at;
	at += s->nb_ops * sizeof(*s->ops);
	a->products = at;
	at += s->nb_products * sizeof(*s->products);
	a->arrivals = at;
	at += OG_CONVEYOR_ROWS * hp->nb_kv_heads * sizeof(uint32_t);
	a->counter = at;
	a->gave_up = (uintptr_t)c->conveyor.gave_up; /* one address for both */
	a->x = c->x;
	a->h = c->h;
	a->delta = c->delta;
	a->qkv = c->qkv;
	a->att = c->att;
	a->mixes = c->mixes;
	a->states = c->states;
	a->kv = c->kv;
	for (int r = 0; r < 2; r++) {
		a->turns[r] = c->turns[r];
		a->cosine[r] = c->cosine[r];
		a->sine[r] = c->sine[r];
		a->magnitude[r] = hp->rope[r].magnitude;
	}
	a->embedding = c->w.embedding.data;
	a->drawn = c->drawn;
	a->heads = c->heads;
	a->heads.window = hp->window;
	a->q_scale = c->q_scale;
	a->eps = hp->norm_eps;
	a->embed_scale = hp->embed_scale;
	a->width = hp->width;
}

static int send(struct og_cuda *c, const struct og_conveyor_schedule *s)
{
	struct og_cuda_conveyor *v = &c->conveyor;
	size_t counters = (OG_CONVEYOR_ROWS * c->model->hp.nb_kv_heads + 1) * sizeof(uint32_t);
	int ret = og_cuda_alloc_host(&c->d, &v->gave_up, sizeof(*v->gave_up));

	if (ret == 0)
		ret = og_cuda_alloc(&c->d, &v->memory,
			s->nb_ops * sizeof(*s->ops) + s->nb_products * sizeof(*s->products) +
				counters);
	if (ret < 0)
		return ret;
	*v->gave_up = 0;
	describe(c, s);
	ret = og_cuda_check_work(&c->d,
		c->d.cu.cuMemcpyHtoDAsync(
			v->args.ops, s->ops, s->nb_ops * sizeof(*s->ops), c->d.stream),
		"cuMemcpyHtoDAsync");
	if (ret == 0)
		ret = og_cuda_check_work(&c->d,
			c->d.cu.cuMemcpyHtoDAsync(v->args.products, s->products,
				s->nb_products * sizeof(*s->products), c->d.stream),
			"cuMemcpyHtoDAsync");
	if (ret == 0)
		ret = og_cuda_check_work(&c->d,
			c->d.cu.cuMemsetD8Async(v->args.arrivals, 0, counters, c->d.stream),
			"cuMemsetD8Async");
	return ret == 0 ? og_cuda_wait(&c->d, c->d.stream) : ret;
}

int og_cuda_conveyor_create(struct og_cuda *c)
{
	struct og_cuda_conveyor *v = &c->conveyor;
	uint32_t nb_blocks = (uint32_t)c->d.nb_processors;
	struct og_conveyor_schedule s = {0};
	const char *lack = NULL;
	int ret = fit(c, &lack);

	if (c->w.in_fp8 || c->kv_in_fp8 || c->heads.padded_dim > 128) {
		lack = "has no such kernel for fp8 or heads of more than 128 values";
		ret = -EOPNOTSUPP;
	}
	if (ret == -EOPNOTSUPP && lack) {
		if (c->d.log)
			c->d.log(OG_LOG_WARN, "cuda",
				"%s %s, so tokens are decoded the plain way, not by conveyor",
				c->d.name, lack);
		return 0;
	}
	if (ret == 0)
		ret = og_conveyor_schedule_make(&s, c, nb_blocks);
	if (ret == 0)
		ret = og_conveyor_schedule_check(&s, nb_blocks);
	if (ret == 0)
		ret = send(c, &s);
	if (ret == 0) {
		v->nb_ops = s.nb_ops;
		v->nb_products = s.nb_products;
		v->nb_meetings = count_meetings(&s, s.nb_ops);
		v->nb_end_meetings = v->nb_meetings - count_meetings(&s, s.nb_ops - NB_ENDS);
		v->is_there = true;
	}
	og_conveyor_schedule_fini(&s);
	return ret;
}

void og_cuda_conveyor_destroy(struct og_cuda *c)
{
	og_cuda_free(&c->d, c->conveyor.memory);
	og_cuda_free_host(&c->d, c->conveyor.gave_up);
}

bool og_cuda_conveyor_takes(const struct og_cuda *c, const struct og_batch *b)
{
	const struct og_cuda_step *s = c->now;

	if (!c->conveyor.is_there || b->nb_rows > OG_CONVEYOR_ROWS ||
		(uint64_t)s->nb_rows * s->nb_splits > OG_CUDA_SPLIT_UNITS)
		return false;
	if (c->tuning.decode ? c->tuning.decode != 2 : c->decode != OG_DECODE_CONVEYOR)
		return false;
	for (uint32_t i = 0; i < b->nb_rows; i++)
		for (uint32_t k = 0; k < i; k++)
			if (b->rows[i].slot == b->rows[k].slot)
				return false;
	return true;
}

int og_cuda_conveyor_step(struct og_cuda *c)
{
	struct og_cuda_conveyor *v = &c->conveyor;
	struct og_cuda_step *s = c->now;
	struct og_conveyor_args a = v->args;
	uint32_t nb_blocks = (uint32_t)c->d.nb_processors, nb_meetings = v->nb_meetings;
	void *args[] = {&a};
	int ret;

	a.rows = s->rows;
	a.tables = s->tables;
	a.wanted = s->wanted;
	a.nb_rows = s->nb_rows;
	a.nb_wanted = s->nb_draws + s->nb_logits;
	a.nb_splits = s->nb_splits;
	a.nb_ops = v->nb_ops;
	a.nb_products = v->nb_products;
	a.met = v->met;
	if (a.nb_wanted == 0) {
		a.nb_ops -= NB_ENDS;
		a.nb_products--;
		nb_meetings -= v->nb_end_meetings;
	}
	ret = og_cuda_launch_together(&c->d, c->d.stream, v->kernel,
		(struct og_cuda_grid){nb_blocks, 1, 1, OG_CONVEYOR_THREADS, v->shared_bytes}, args);
	v->met += nb_meetings * nb_blocks;
	v->nb_steps += ret == 0;
	s->has_logits = true;
	return ret;
}

int og_cuda_conveyor_check(struct og_cuda *c)
{
	const uint32_t *gave_up = c->conveyor.gave_up;

	/* Written by the device, before what was waited for. */
	if (!gave_up || __atomic_load_n(gave_up, __ATOMIC_ACQUIRE) == 0)
		return 0;
	if (c->d.log && !c->d.is_lost)
		c->d.log(OG_LOG_ERR, "cuda",
			"%s gave a step up: its processors waited for each other in vain",
			c->d.name);
	c->d.is_lost = true;
	return -EIO;
}
