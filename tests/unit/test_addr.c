#include "base/addr.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <string.h>

Test(addr, text_comes_back)
{
	struct og_addr a;
	char text[OG_ADDR_TEXT_BYTES];

	cr_assert_eq(og_addr_parse(&a, "127.0.0.1:49737"), 0);
	cr_assert_str_eq(og_addr_format(&a, text), "127.0.0.1:49737");
	cr_assert_eq(og_addr_format_host(&a, text), 9);
	cr_assert_str_eq(text, "127.0.0.1");
	struct og_addr b = og_addr_from_key(og_addr_key(&a));
	cr_assert(og_addr_eq(&a, &b));
}

Test(addr, host_text_is_that_of_the_c_library)
{
	char text[OG_ADDR_TEXT_BYTES], want[16];

	for (unsigned byte = 0; byte < 256; byte++) {
		struct og_addr a = {{(uint8_t)byte, 0, (uint8_t)(255 - byte), (uint8_t)byte}, 1};

		cr_assert_not_null(inet_ntop(AF_INET, a.ip, want, sizeof(want)));
		cr_assert_eq(og_addr_format_host(&a, text), strlen(want));
		cr_assert_str_eq(text, want);
	}
}

Test(addr, nonsense_is_refused)
{
	static const char *const bad[] = {"", ":1", "1.2.3", "1.2.3.4:", "1.2.3.4:65536",
		"1.2.3.4:-1", "1.2.3.4:1x", "256.1.1.1:1", "1.2.3.4:0x10",
		"1111111111111111111.2.3.4:1"};
	struct og_addr a;

	for (size_t i = 0; i < OG_ARRAY_LEN(bad); i++)
		cr_assert_eq(og_addr_parse(&a, bad[i]), -22, "%s", bad[i]);
}

Test(addr, classes_follow_the_spec)
{
	static const struct {
		const char *text;
		bool is_private, is_reserved;
	} cases[] = {{"10.1.2.3", true, false}, {"100.64.0.1", true, false},
		{"100.128.0.1", false, false}, {"127.0.0.1", true, false},
		{"169.254.1.1", true, false}, {"172.31.0.1", true, false},
		{"172.32.0.1", false, false}, {"192.168.0.1", true, false},
		{"0.1.1.1", false, true}, {"192.0.2.1", false, true}, {"198.19.1.1", false, true},
		{"224.0.0.1", false, true}, {"255.1.1.1", false, true}, {"8.8.8.8", false, false}};

	for (size_t i = 0; i < OG_ARRAY_LEN(cases); i++) {
		struct og_addr a;

		cr_assert_eq(og_addr_parse(&a, cases[i].text), 0);
		cr_assert_eq(og_addr_is_private(&a), cases[i].is_private, "%s", cases[i].text);
		cr_assert_eq(og_addr_is_reserved(&a), cases[i].is_reserved, "%s", cases[i].text);
	}
}
