#include "cli/affinity.h"
#include "cli/http_access.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

Test(http_access, loopback_names_pass_and_strangers_do_not)
{
	static const char *const more[] = {"gpu.lan"};
	static const struct {
		const char *host;
		bool want;
	} cases[] = {
		{NULL, true},
		{"localhost", true},
		{"LOCALHOST:8480", true},
		{"127.0.0.1:1", true},
		{"[::1]:8480", true},
		{"gpu.lan:80", true},
		{"evil.example", false},
		{"localhost.evil.example", false},
		{"127.0.0.1.evil.example", false},
		{"127.0.0.1:99999", false},
		{"127.0.0.1:80 x", false},
		{"", false},
	};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++)
		cr_expect_eq(og_host_allowed(cases[i].host, more, 1), cases[i].want, "%s",
			cases[i].host ? cases[i].host : "(none)");
}

Test(http_access, only_whole_keys_of_the_file_pass)
{
	char path[] = "/tmp/og-keys-XXXXXX";
	int fd = mkstemp(path);
	static struct og_api_keys keys;

	cr_assert_eq(write(fd, "# mine\n\nsk-one\r\n  sk-two # c\n", 29), 29);
	cr_assert_eq(og_api_keys_load(&keys, path), 0);
	cr_assert_eq(keys.nb, 2);
	cr_assert(og_api_keys_accept(&keys, "Bearer sk-one"));
	cr_assert(og_api_keys_accept(&keys, "bearer  sk-two"));
	cr_assert_not(og_api_keys_accept(&keys, "Bearer sk-on"));
	cr_assert_not(og_api_keys_accept(&keys, "Bearer sk-one2"));
	cr_assert_not(og_api_keys_accept(&keys, "Bearer "));
	cr_assert_not(og_api_keys_accept(&keys, "Basic sk-one"));
	cr_assert_not(og_api_keys_accept(&keys, NULL));
	cr_assert_eq(ftruncate(fd, 0), 0);
	cr_assert_eq(og_api_keys_load(&keys, path), -EINVAL);
	close(fd);
	unlink(path);
	cr_assert_eq(og_api_keys_load(&keys, path), -ENOENT);
}

Test(http_access, a_bucket_gives_its_burst_then_its_rate)
{
	static struct og_rate r;
	struct sockaddr_in a = {.sin_family = AF_INET}, b = a;
	const struct sockaddr *pa = (const struct sockaddr *)&a, *pb = (const struct sockaddr *)&b;
	uint64_t now = OG_NS_PER_S;

	a.sin_addr.s_addr = htonl(0x0a000001);
	b.sin_addr.s_addr = htonl(0x0a000002);
	og_rate_init(&r, 2, 3);
	for (int i = 0; i < 3; i++)
		cr_assert(og_rate_take(&r, pa, now));
	cr_assert_not(og_rate_take(&r, pa, now));
	cr_assert(og_rate_take(&r, pb, now));
	cr_assert(og_rate_take(&r, pa, now + OG_NS_PER_S / 2));
	cr_assert_not(og_rate_take(&r, pa, now + OG_NS_PER_S / 2));
	og_rate_init(&r, 0, 3);
	for (int i = 0; i < 100; i++)
		cr_assert(og_rate_take(&r, pa, now));
}

Test(http_access, cpu_lists_read_as_written)
{
	cpu_set_t set;

	cr_assert_eq(og_cpus_parse(&set, "2, 4-6"), 0);
	cr_assert_eq(CPU_COUNT(&set), 4);
	cr_assert(CPU_ISSET(5, &set));
	cr_assert_eq(og_cpus_parse(&set, ""), 0);
	cr_assert_eq(og_cpus_parse(&set, "4-2"), -EINVAL);
	cr_assert_eq(og_cpus_parse(&set, "a"), -EINVAL);
	cr_assert_eq(og_cpus_parse(&set, "1 2"), -EINVAL);
	cr_assert_eq(og_cpus_parse(&set, "99999"), -EINVAL);
}
