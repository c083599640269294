#include "cli/nodes_file.h"

#include "cli/file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = 64 * 1024 };

static int path_of(char path[PATH_MAX], const char *root)
{
	return snprintf(path, PATH_MAX, "%s/nodes", root) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

uint32_t og_nodes_file_load(const char *root, struct og_addr *out, uint32_t max)
{
	char path[PATH_MAX], *text = NULL, *save = NULL;
	size_t len = 0;
	uint32_t nb = 0;

	if (path_of(path, root) < 0 || og_file_load(path, FILE_MAX_BYTES, &text, &len) < 0)
		return 0;
	for (char *p = strtok_r(text, "\n", &save); p && nb < max;
		p = strtok_r(NULL, "\n", &save)) {
		struct og_addr a;

		if (og_addr_parse(&a, p) == 0 && a.port != 0)
			out[nb++] = a;
	}
	free(text);
	return nb;
}

int og_nodes_file_save(const char *root, const struct og_addr *nodes, uint32_t nb)
{
	char path[PATH_MAX], text[OG_NODES_FILE_MAX * OG_ADDR_TEXT_BYTES], addr[OG_ADDR_TEXT_BYTES];
	size_t n = 0;
	int ret = path_of(path, root);

	if (ret < 0)
		return ret;
	for (uint32_t i = 0; i < nb && i < OG_NODES_FILE_MAX; i++)
		n += (size_t)snprintf(
			text + n, sizeof(text) - n, "%s\n", og_addr_format(&nodes[i], addr));
	return og_file_save(path, text, n, 0600);
}
