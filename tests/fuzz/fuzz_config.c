/*
 * fuzz_config.c: any bytes as node.conf: parsed or refused, and what is accepted prints and edits.
 */
#include "cli/config.h"
#include "cli/config_edit.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
	static struct og_config cfg;
	struct og_problems problems = {0};
	char *text, *edited, *printed = NULL;
	size_t printed_bytes = 0;
	FILE *out;

	og_config_init(&cfg, "/fuzz/node.conf");
	if (og_config_parse(&cfg, (const char *)data, len_bytes, &problems) == 0) {
		out = open_memstream(&printed, &printed_bytes);
		if (out) {
			og_config_print(&cfg, out);
			fclose(out);
			free(printed);
		}
	}
	og_config_fini(&cfg);
	text = malloc(len_bytes + 1);
	if (!text)
		return 0;
	memcpy(text, data, len_bytes);
	text[len_bytes] = '\0';
	if (og_config_text_add_cluster(&edited, text, "fuzz") == 0) {
		char *again;

		if (og_config_text_add_cluster(&again, edited, "fuzz") == 0)
			abort();
		free(edited);
	}
	free(text);
	return 0;
}
