/*
 * fuzz_openai.c: any bytes as the body of a chat or plain completion; the first byte picks which.
 */
#include "cli/openai.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	struct og_openai_request req;
	struct og_openai_error err;

	if (len_bytes == 0)
		return 0;
	if (og_openai_parse(&req, &err, data[0] != 'p', (const char *)data + 1, len_bytes - 1) <
		0) {
		free(og_openai_error_body(&err));
		return 0;
	}
	if (req.ask->req->nb_messages == 0 || req.ask->req->params.nb_stop > OG_INFER_STOP_MAX)
		abort();
	og_openai_request_fini(&req);
	return 0;
}
