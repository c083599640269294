#include "cluster/outbox.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

enum { SEEN_MAX = 64 };

struct ring {
	struct og_sink sink;
	uint32_t room; /* pushes it still takes */
	uint32_t nb;
	uint64_t seen[SEEN_MAX];
	uint8_t last[OG_OUTBOX_LARGE];
};

static int push(struct og_sink *sink, const struct og_msg *m)
{
	struct ring *r = OG_CONTAINER_OF(sink, struct ring, sink);

	if (r->room == 0)
		return -EAGAIN;
	r->room--;
	r->seen[r->nb++ % SEEN_MAX] = m->arg;
	if (m->len_bytes > 0)
		memcpy(r->last, m->data, m->len_bytes);
	return 0;
}

static int post(struct og_outbox *o, uint64_t arg, uint32_t len_bytes)
{
	uint8_t data[OG_OUTBOX_LARGE + 1];

	memset(data, (int)arg, sizeof(data));
	return og_outbox_post(
		o, &(struct og_msg){.arg = arg, .data = data, .len_bytes = len_bytes});
}

Test(outbox, keeps_order_and_data_while_the_ring_is_full)
{
	struct ring r = {.sink = {push}, .room = 1};
	struct og_outbox o;

	cr_assert_eq(og_outbox_init(&o, &r.sink, 16), 0);
	cr_assert_eq(og_outbox_init_vault(&o, 2), 0);
	cr_assert_eq(post(&o, 1, 200), 0, "there is room");
	cr_assert_eq(post(&o, 2, 0), 0);
	cr_assert_eq(post(&o, 3, 200), 0);
	cr_assert_eq(post(&o, 4, 20), 0);
	cr_assert_eq(post(&o, 5, OG_OUTBOX_LARGE), 0);
	cr_assert_eq(post(&o, 6, 200), -EAGAIN, "the vault is full");
	cr_assert_eq(post(&o, 7, 0), 0);
	cr_assert_not(og_outbox_flush(&o));
	for (uint32_t k = 2; k <= 5; k++) {
		uint8_t want[OG_OUTBOX_LARGE];

		r.room = 1;
		cr_assert_not(og_outbox_flush(&o));
		cr_assert_eq(r.nb, k);
		cr_assert_eq(r.seen[k - 1], k);
		memset(want, (int)k, sizeof(want));
		if (k != 2)
			cr_assert_arr_eq(r.last, want, k == 4 ? 20 : 200);
	}
	cr_assert_eq(post(&o, 8, 200), 0, "what was handed over left room");
	r.room = 2;
	cr_assert(og_outbox_flush(&o));
	cr_assert_eq(r.seen[5], 7);
	cr_assert_eq(r.seen[6], 8);
	og_outbox_fini(&o);
}

Test(outbox, wipes_what_it_kept)
{
	static const uint8_t zeros[OG_OUTBOX_LARGE];
	struct ring r = {.sink = {push}};
	struct og_outbox o;

	cr_assert_eq(og_outbox_init(&o, &r.sink, 16), 0);
	cr_assert_eq(og_outbox_init_vault(&o, 2), 0);
	for (uint64_t k = 1; k <= 20; k++) {
		cr_assert_eq(post(&o, k, 200), 0);
		r.room = 1;
		cr_assert(og_outbox_flush(&o));
		cr_assert_arr_eq(o.vault[0], zeros, sizeof(zeros));
		cr_assert_arr_eq(o.vault[1], zeros, sizeof(zeros));
	}
	og_outbox_fini(&o);
}

Test(outbox, without_a_vault_refuses_data_that_does_not_fit_now)
{
	struct ring r = {.sink = {push}};
	struct og_outbox o;

	cr_assert_eq(og_outbox_init(&o, &r.sink, 2), 0);
	cr_assert_eq(post(&o, 1, OG_OUTBOX_SMALL + 1), -EAGAIN);
	cr_assert_eq(o.lost, 0);
	cr_assert_eq(post(&o, 2, OG_OUTBOX_SMALL), 0);
	cr_assert_eq(post(&o, 3, 0), 0);
	cr_assert_eq(post(&o, 4, 0), -EAGAIN);
	cr_assert_eq(o.lost, 1);
	og_outbox_fini(&o);
}
