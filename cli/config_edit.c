#include "cli/config_edit.h"

#include "cli/config.h"
#include "cli/file.h"
#include "cli/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct line {
	const char *start; /* without leading blanks */
	size_t len;        /* without trailing blanks */
	const char *begin; /* as in the file */
	const char *next;
};

static struct line line_at(const char *p)
{
	const char *end = strchr(p, '\n');
	struct line l = {p, 0, p, NULL};

	if (!end)
		end = p + strlen(p);
	l.next = *end ? end + 1 : end;
	while (l.start < end && (*l.start == ' ' || *l.start == '\t'))
		l.start++;
	l.len = (size_t)(end - l.start);
	while (l.len > 0 && strchr(" \t\r", l.start[l.len - 1]))
		l.len--;
	return l;
}

static bool is_cluster_header(const struct line *l)
{
	return l->len >= 9 && memcmp(l->start, "[cluster]", 9) == 0;
}

/* `id = VALUE` with an inline comment cut off, as inih reads it. */
static bool is_id_line(const struct line *l, const char *id)
{
	const char *p = l->start, *end = l->start + l->len;
	size_t n = strlen(id);

	if (l->len < 2 || memcmp(p, "id", 2) != 0)
		return false;
	for (p += 2; p < end && (*p == ' ' || *p == '\t'); p++)
		;
	if (p == end || *p != '=')
		return false;
	for (p++; p < end && (*p == ' ' || *p == '\t'); p++)
		;
	if ((size_t)(end - p) < n || memcmp(p, id, n) != 0)
		return false;
	p += n;
	if (p == end)
		return true;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return *p == ';' && p[-1] != *id;
}

struct found {
	const char
		*insert; /* after the last line of [cluster] that is not blank; NULL: no section */
	const char *id;  /* the line that names the id */
	const char *id_end;
};

static struct found find_id(const char *text, const char *id)
{
	struct found f = {0};
	bool inside = false;

	for (const char *p = text; *p;) {
		struct line l = line_at(p);

		if (l.len > 0 && *l.start == '[')
			inside = is_cluster_header(&l);
		if (inside && l.len > 0) {
			f.insert = l.next;
			if (is_id_line(&l, id)) {
				f.id = l.begin;
				f.id_end = l.next;
			}
		}
		p = l.next;
	}
	return f;
}

int og_config_text_add_cluster(char **out, const char *text, const char *id)
{
	struct found f = find_id(text, id);
	size_t before = f.insert ? (size_t)(f.insert - text) : strlen(text);
	bool newline = before == 0 || text[before - 1] == '\n';

	if (f.id)
		return -EALREADY;
	if (asprintf(out, "%.*s%s%sid = %s\n%s", (int)before, text, newline ? "" : "\n",
		    f.insert     ? ""
		    : before > 0 ? "\n[cluster]\n"
				 : "[cluster]\n",
		    id, text + before) < 0)
		return -ENOMEM;
	return 0;
}

int og_config_text_remove_cluster(char **out, const char *text, const char *id)
{
	struct found f = find_id(text, id);

	if (!f.id)
		return -EALREADY;
	if (asprintf(out, "%.*s%s", (int)(f.id - text), text, f.id_end) < 0)
		return -ENOMEM;
	return 0;
}

int og_config_check_cluster_id(const char *id, const char **why)
{
	size_t n = strlen(id);

	*why = NULL;
	if (n == 0)
		*why = "it is empty";
	else if (n > 180)
		*why = "it is longer than 180 bytes";
	else if (!og_text_is_utf8(id, n))
		*why = "it is not UTF-8";
	else if (strchr(" \t", id[0]) || strchr(" \t", id[n - 1]))
		*why = "it starts or ends with a blank";
	else if (strstr(id, " ;") || strstr(id, "\t;"))
		*why = "a blank before ; would start a comment in node.conf";
	for (size_t i = 0; i < n && !*why; i++) {
		if ((unsigned char)id[i] < 0x20)
			*why = "it holds a control character";
	}
	return *why ? -EINVAL : 0;
}

int og_config_edit_cluster(const char *file, const char *id, bool add)
{
	char *text = NULL, *edited = NULL;
	struct stat st;
	size_t len = 0;
	int ret;

	if (stat(file, &st) < 0)
		return -errno;
	ret = og_file_load(file, OG_CONFIG_FILE_BYTES, &text, &len);
	if (ret < 0)
		return ret;
	ret = add ? og_config_text_add_cluster(&edited, text, id)
		  : og_config_text_remove_cluster(&edited, text, id);
	if (ret == 0)
		ret = og_file_save(file, edited, strlen(edited), st.st_mode & 0777);
	free(edited);
	free(text);
	return ret;
}
