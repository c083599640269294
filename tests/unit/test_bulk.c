/* libcrypto's frames against libsodium's, byte by byte and state by state. */
#include "crypto/bulk.h"

#include "base/bytes.h"
#include "base/rand.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

enum { MAX = 70000, ABYTES = crypto_secretstream_xchacha20poly1305_ABYTES };

typedef crypto_secretstream_xchacha20poly1305_state state_t;

static struct {
	struct og_bulk *bulk;
	struct og_rand rand;
	state_t state;
	uint8_t text[MAX], ours[MAX + ABYTES], theirs[MAX + ABYTES];
} t;

static void setup(void)
{
	uint8_t key[32], header[24];

	cr_assert_geq(sodium_init(), 0);
	og_rand_seeded(&t.rand, 5);
	og_rand_fill(&t.rand, key, sizeof(key));
	og_rand_fill(&t.rand, header, sizeof(header));
	og_rand_fill(&t.rand, t.text, sizeof(t.text));
	crypto_secretstream_xchacha20poly1305_init_pull(&t.state, header, key);
	cr_assert_eq(og_bulk_create(&t.bulk), 0);
}

static void teardown(void)
{
	og_bulk_destroy(t.bulk);
}

TestSuite(bulk, .init = setup, .fini = teardown);

static void push_theirs(state_t *state, size_t n, uint8_t tag)
{
	crypto_secretstream_xchacha20poly1305_push(state, t.theirs, NULL, t.text, n, NULL, 0, tag);
}

static void same_frames(size_t n)
{
	state_t ours = t.state, theirs = t.state;

	push_theirs(&theirs, n, 0);
	og_bulk_push(t.bulk, &ours, t.ours, t.text, n);
	cr_assert_arr_eq(t.ours, t.theirs, n + ABYTES, "%zu", n);
	cr_assert_arr_eq(&ours, &theirs, sizeof(ours), "%zu", n);

	memset(t.ours, 0, sizeof(t.ours));
	memcpy(t.ours + 1, t.text, n);
	ours = t.state;
	og_bulk_push(t.bulk, &ours, t.ours, t.ours + 1, n);
	cr_assert_arr_eq(t.ours, t.theirs, n + ABYTES, "%zu in place", n);

	ours = t.state;
	cr_assert_eq(og_bulk_pull(t.bulk, &ours, t.ours, n + ABYTES), 0);
	cr_assert_arr_eq(t.ours + 1, t.text, n, "%zu", n);
	cr_assert_arr_eq(&ours, &theirs, sizeof(ours), "%zu", n);
}

Test(bulk, frames_of_all_lengths_are_libsodiums)
{
	static const size_t edges[] = {1200, 4095, 4096, 4097, 8191, 8192, 16384, 65536, MAX};

	for (size_t n = 0; n < 600; n++)
		same_frames(n);
	for (size_t i = 0; i < OG_ARRAY_LEN(edges); i++)
		same_frames(edges[i]);
}

/* Each tag, one after the other, and the end of the counter: keys change where libsodium's do. */
Test(bulk, states_go_along)
{
	state_t ours = t.state, theirs = t.state;

	for (int i = 0; i < 40; i++) {
		size_t n = og_rand_below(&t.rand, 5000);
		uint8_t tag = (uint8_t)(i % 4);

		if (i == 20) {
			memset(ours.nonce, 0xff, 4);
			memset(theirs.nonce, 0xff, 4);
		}
		push_theirs(&theirs, n, tag);
		cr_assert_eq(og_bulk_pull(t.bulk, &ours, t.theirs, n + ABYTES), 0, "%d", i);
		cr_assert_arr_eq(t.theirs + 1, t.text, n);
		cr_assert_arr_eq(&ours, &theirs, sizeof(ours), "%d", i);
	}
	for (int i = 0; i < 4; i++) {
		memset(ours.nonce, i == 2 ? 0xff : 1, 4);
		theirs = ours;
		push_theirs(&theirs, 700, 0);
		og_bulk_push(t.bulk, &ours, t.ours, t.text, 700);
		cr_assert_arr_eq(t.ours, t.theirs, 700 + ABYTES);
		cr_assert_arr_eq(&ours, &theirs, sizeof(ours), "%d", i);
	}
}

Test(bulk, a_changed_bit_anywhere_is_refused_and_changes_nothing)
{
	enum { N = 900 };
	state_t before = t.state, state = t.state;

	for (size_t at = 0; at < N + ABYTES; at++) {
		state_t sender = t.state;

		push_theirs(&sender, N, 0);
		t.theirs[at] ^= (uint8_t)(1 << at % 8);
		cr_assert_eq(og_bulk_pull(t.bulk, &state, t.theirs, N + ABYTES), -EBADMSG);
		cr_assert_arr_eq(&state, &before, sizeof(state));
	}
}

Test(bulk, works_on_after_it_was_told_to_forget)
{
	og_bulk_forget(t.bulk);
	same_frames(3000);
}

/* ---- nothing is allocated for a frame ---- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static unsigned nb_allocated;

void *__libc_malloc(size_t n);
void *__libc_realloc(void *p, size_t n);

/* In place of the C library's, for libcrypto too. */
void *malloc(size_t n)
{
	nb_allocated++;
	return __libc_malloc(n);
}

void *realloc(void *p, size_t n)
{
	nb_allocated++;
	return __libc_realloc(p, n);
}

Test(bulk, a_frame_allocates_nothing)
{
	struct og_bulk *other;

	nb_allocated = 0;
	cr_assert_eq(og_bulk_create(&other), 0);
	cr_assert_gt(nb_allocated, 0, "it is not counted");
	og_bulk_destroy(other);
	nb_allocated = 0;
	for (size_t n = 512; n < 1024; n++)
		og_bulk_push(t.bulk, &t.state, t.ours, t.text, n);
	og_bulk_forget(t.bulk);
	cr_assert_eq(nb_allocated, 0);
}
#endif
