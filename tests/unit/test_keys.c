#include "crypto/keys.h"

#include "base/rand.h"
#include "crypto_vectors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

Test(keys, pairs_of_the_vectors_come_from_their_seeds)
{
	json_t *all = vec_dht("targets");
	size_t i, nb = 0;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		struct og_keypair kp;

		if (strncmp(vec_text(v, "name"), "keypair", 7) != 0)
			continue;
		kp = vec_keypair(vec_hex(vec_get(v, "input"), "seed"));
		VEC_EQ_HEX(kp.public_key, vec_get(v, "expected"), "publicKey");
		VEC_EQ_HEX(kp.secret_key, vec_get(v, "expected"), "secretKey");
		nb++;
	}
	cr_assert_eq(nb, 4);
}

Test(keys, dh_vectors_of_the_stream_match)
{
	json_t *all = vec_get(vec_stream("primitives"), "dh");
	size_t i;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		struct og_keypair a = vec_keypair(vec_hex(v, "seed_a"));
		struct og_keypair b = vec_keypair(vec_hex(v, "seed_b"));
		uint8_t shared[32];

		VEC_EQ_HEX(a.public_key, v, "public_a");
		VEC_EQ_HEX(b.public_key, v, "public_b");
		VEC_EQ_HEX(a.secret_key, v, "secret_a");
		cr_assert_eq(og_dh(shared, a.secret_key, b.public_key), 0);
		VEC_EQ_HEX(shared, v, "shared_ab");
		cr_assert_eq(og_dh(shared, b.secret_key, a.public_key), 0);
		VEC_EQ_HEX(shared, v, "shared_ba");
	}
	cr_assert_eq(i, 3);
}

Test(keys, dh_vectors_of_the_dht_match)
{
	static const char *const names[] = {"dh-1-2", "dh-3-4"};
	json_t *all = vec_dht("noise");

	for (size_t i = 0; i < OG_ARRAY_LEN(names); i++) {
		json_t *v = vec_named(all, names[i]);
		json_t *in = vec_get(v, "input");
		struct og_keypair kp = vec_keypair(vec_hex(in, "seed"));
		uint8_t shared[32];

		cr_assert_eq(og_dh(shared, kp.secret_key, vec_hex(in, "publicKey").data), 0);
		VEC_EQ_HEX(shared, vec_get(v, "expected"), "shared");
	}
}

Test(keys, dh_refuses_bad_points_and_writes_nothing)
{
	json_t *all = vec_get(vec_stream("primitives"), "dh_bad_points");
	struct og_keypair kp = vec_keypair((struct vec_bytes){(uint8_t[32]){3}, 32});
	static const uint8_t zeros[32];
	size_t i;
	json_t *v;

	json_array_foreach(all, i, v)
	{
		uint8_t shared[32] = {0};

		cr_assert(json_is_false(vec_get(v, "accepted")));
		cr_assert_eq(og_dh(shared, kp.secret_key, vec_hex(v, "point").data), -EBADMSG, "%s",
			vec_text(v, "name"));
		cr_assert_arr_eq(shared, zeros, 32);
	}
	cr_assert_eq(i, 7);
}

Test(keys, hex_comes_back)
{
	static const uint8_t bytes[] = {0x00, 0x1f, 0xa9, 0xff};
	char text[2 * sizeof(bytes) + 1];
	uint8_t back[sizeof(bytes)];

	og_hex_encode(text, bytes, sizeof(bytes));
	cr_assert_str_eq(text, "001fa9ff");
	cr_assert_eq(og_hex_decode(back, sizeof(back), "001FA9fF", 8), 0);
	cr_assert_arr_eq(back, bytes, sizeof(bytes));
}

Test(keys, what_is_not_hex_is_refused)
{
	static const char *const bad[] = {
		"", "0", "00", "00112", "001122", "00112g", "0011 22", " 0011", "0x0011", "0011\n"};
	uint8_t out[2];

	for (size_t i = 0; i < OG_ARRAY_LEN(bad); i++)
		cr_assert_eq(og_hex_decode(out, sizeof(out), bad[i], strlen(bad[i])), -EINVAL, "%s",
			bad[i]);
	cr_assert_eq(og_hex_decode(out, sizeof(out), "00:1", 4), -EINVAL);
}

/* Key files, each test in a folder of its own. */

static char folder[64];
static char path[128];
static struct og_rand rng;

static void make_folder(void)
{
	cr_assert_eq(og_crypto_init(), 0);
	og_rand_system(&rng);
	strcpy(folder, "/tmp/og_test_keys.XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/node.key", folder);
}

static void remove_folder(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", folder);
	cr_assert_eq(system(cmd), 0);
}

TestSuite(keyfile, .init = make_folder, .fini = remove_folder);

static void put_file(const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
	cr_assert_eq(chmod(path, mode), 0);
}

#define SEED_1 "0101010101010101010101010101010101010101010101010101010101010101"

static size_t count_files(void)
{
	char cmd[128];
	size_t n = 0;
	FILE *p;

	snprintf(cmd, sizeof(cmd), "ls -A '%s' | wc -l", folder);
	p = popen(cmd, "r");
	cr_assert_not_null(p);
	cr_assert_eq(fscanf(p, "%zu", &n), 1);
	pclose(p);
	return n;
}

Test(keyfile, a_created_key_is_private_and_loads_again)
{
	struct og_keypair made, loaded;
	struct stat st;

	umask(0);
	cr_assert_eq(og_keypair_create(&made, path, &rng), 0);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(st.st_size, 65);
	cr_assert_eq(og_keypair_load(&loaded, path), 0);
	cr_assert_arr_eq(&made, &loaded, sizeof(made));
	cr_assert_eq(count_files(), 1);
}

Test(keyfile, a_key_is_never_replaced)
{
	struct og_keypair made, again, loaded;

	cr_assert_eq(og_keypair_create(&made, path, &rng), 0);
	cr_assert_eq(og_keypair_create(&again, path, &rng), -EEXIST);
	cr_assert_eq(og_keypair_load(&loaded, path), 0);
	cr_assert_arr_eq(&made, &loaded, sizeof(made));
	cr_assert_eq(count_files(), 1);
}

Test(keyfile, a_dangling_symlink_is_not_followed_when_creating)
{
	struct og_keypair kp;

	cr_assert_eq(symlink("elsewhere", path), 0);
	cr_assert_eq(og_keypair_create(&kp, path, &rng), -EEXIST);
	cr_assert_eq(count_files(), 1);
}

Test(keyfile, a_folder_that_is_not_there_is_an_error)
{
	struct og_keypair kp;

	strcat(path, "/deeper/node.key");
	cr_assert_eq(og_keypair_create(&kp, path, &rng), -ENOENT);
	cr_assert_eq(og_keypair_load(&kp, path), -ENOENT);
}

Test(keyfile, a_name_that_is_too_long_is_an_error)
{
	static char name[5000];
	struct og_keypair kp;

	memset(name, 'a', sizeof(name) - 1);
	cr_assert_eq(og_keypair_create(&kp, name, &rng), -ENAMETOOLONG);
}

Test(keyfile, a_name_without_a_folder_works)
{
	struct og_keypair made, loaded;

	cr_assert_eq(chdir(folder), 0);
	cr_assert_eq(og_keypair_create(&made, "bare.key", &rng), 0);
	cr_assert_eq(og_keypair_load(&loaded, "bare.key"), 0);
}

Test(keyfile, the_seed_in_a_file_is_the_pair)
{
	struct og_keypair kp, want = vec_keypair(vec_unhex(SEED_1));

	put_file(SEED_1 "\n", 0600);
	cr_assert_eq(og_keypair_load(&kp, path), 0);
	cr_assert_arr_eq(&kp, &want, sizeof(kp));
	put_file(SEED_1, 0400);
	cr_assert_eq(og_keypair_load(&kp, path), 0);
}

Test(keyfile, rights_for_group_or_world_are_refused)
{
	static const mode_t modes[] = {0604, 0602, 0601, 0640, 0620, 0610, 0644, 0666};
	struct og_keypair kp;

	for (size_t i = 0; i < OG_ARRAY_LEN(modes); i++) {
		put_file(SEED_1 "\n", modes[i]);
		cr_assert_eq(og_keypair_load(&kp, path), -EACCES, "%o", (unsigned)modes[i]);
	}
}

Test(keyfile, symlinks_folders_and_fifos_are_refused)
{
	struct og_keypair kp;
	char link_path[160];

	put_file(SEED_1 "\n", 0600);
	snprintf(link_path, sizeof(link_path), "%s.link", path);
	cr_assert_eq(symlink(path, link_path), 0);
	cr_assert_eq(og_keypair_load(&kp, link_path), -ELOOP);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_assert_eq(og_keypair_load(&kp, path), -EINVAL);
	cr_assert_eq(og_keypair_load(&kp, folder), -EINVAL);
	cr_assert_eq(og_keypair_load(&kp, "/dev/null"), -EINVAL);
}

Test(keyfile, the_file_of_another_user_is_refused)
{
	struct og_keypair kp;

	if (geteuid() != 0)
		cr_skip_test("only root can give a file away");
	put_file(SEED_1 "\n", 0600);
	cr_assert_eq(chown(path, 4711, 4711), 0);
	cr_assert_eq(og_keypair_load(&kp, path), -EPERM);
}

Test(keyfile, anything_but_a_seed_is_refused)
{
	static const char *const bad[] = {"", "\n", "01", (SEED_1 "\n\n"), (SEED_1 "0"),
		(SEED_1 "01\n"), (SEED_1 " "), (SEED_1 "\r\n"), (" " SEED_1),
		"g101010101010101010101010101010101010101010101010101010101010101\n",
		"0101010101010101010101010101010101010101010101010101010101010\n01\n"};
	struct og_keypair kp;

	for (size_t i = 0; i < OG_ARRAY_LEN(bad); i++) {
		put_file(bad[i], 0600);
		cr_assert_eq(og_keypair_load(&kp, path), -EBADMSG, "%zu", i);
	}
}

Test(keyfile, a_failed_load_leaves_the_pair_alone)
{
	struct og_keypair kp, before;

	memset(&kp, 7, sizeof(kp));
	before = kp;
	put_file("nonsense", 0600);
	cr_assert_eq(og_keypair_load(&kp, path), -EBADMSG);
	cr_assert_arr_eq(&kp, &before, sizeof(kp));
}

Test(keyfile, locked_pairs_hold_a_key_and_wiping_clears_it)
{
	static const struct og_keypair zero;
	struct og_keypair *kp;

	cr_assert_eq(og_keypair_alloc(&kp), 0);
	cr_assert_eq(og_keypair_create(kp, path, &rng), 0);
	cr_assert_arr_neq(kp, &zero, sizeof(zero));
	og_keypair_wipe(kp);
	cr_assert_arr_eq(kp, &zero, sizeof(zero));
	og_keypair_free(kp);
	og_keypair_free(NULL);
}
