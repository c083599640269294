/*
 * fuzz_message.c: lines from a member: cut, parsed, and turned into a request and a response.
 */
#include "cluster/line.h"
#include "cluster/message.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

static bool on_line(void *ctx, char *line, size_t len)
{
	struct og_infer_request *req;
	struct og_message m;

	if (og_message_parse(&m, line, len) < 0)
		return true;
	if (og_message_infer_request(&m, 1, &req) == 0)
		og_infer_request_free(req);
	if (m.raw_id) {
		struct og_response r = {.raw_id = m.raw_id,
			.raw_id_bytes = m.raw_id_bytes,
			.text = "x",
			.text_bytes = 1};
		struct og_message back;
		size_t n;
		char *out = og_message_response(&r, &n);

		/* What we wrap must parse again, and give the same bytes. */
		OG_ASSERT(out && og_message_parse(&back, out, n - 1) == 0);
		OG_ASSERT(back.raw_id && back.raw_id_bytes == m.raw_id_bytes);
		og_message_fini(&back);
		free(out);
	}
	og_message_fini(&m);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct og_line_buffer b;
	size_t half = len_bytes / 2;

	og_line_init(&b, 4096);
	if (og_line_feed(&b, data, half, on_line, NULL) == 0)
		(void)!og_line_feed(&b, data + half, len_bytes - half, on_line, NULL);
	og_line_fini(&b);
	return 0;
}
