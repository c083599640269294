#include "cli/ctl.h"

#include "cli/control.h"

#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char og_ctl_root[OG_CTL_PATH_BYTES];
bool og_ctl_json;

void og_ctl_path(char out[OG_CTL_FILE_BYTES], const char *name)
{
	snprintf(out, OG_CTL_FILE_BYTES, "%s/%.20s", og_ctl_root, name);
}

void og_ctl_say(const char *fmt, ...)
{
	va_list ap;

	fputs("opengateway: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

void og_ctl_program_dir(char out[OG_CTL_PATH_BYTES])
{
	char self[OG_CTL_PATH_BYTES];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n > 0 ? n : 0] = '\0';
	snprintf(out, OG_CTL_PATH_BYTES, "%s", dirname(self));
}

/* ---- the control socket ---- */

/* Takes `req` over. NULL when the node does not run. */
static FILE *send_request(json_t *req)
{
	char *line = json_dumps(req, JSON_COMPACT);
	int fd = line ? og_control_socket(og_ctl_root, false) : -1;
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r+");

	json_decref(req);
	if (f) {
		fprintf(f, "%s\n", line);
		fflush(f);
	}
	free(line);
	return f;
}

FILE *og_ctl_request(json_t *req)
{
	FILE *f = send_request(req);

	if (!f)
		og_ctl_say("the node of %s is not running; start it with: opengateway --root %s "
			   "start",
			og_ctl_root, og_ctl_root);
	return f;
}

json_t *og_ctl_answer(FILE *f)
{
	char *line = NULL;
	size_t cap = 0;
	json_t *o = getline(&line, &cap, f) > 0 ? json_loads(line, 0, NULL) : NULL;

	free(line);
	return o;
}

int og_ctl_failure(const json_t *o)
{
	const char *error = json_string_value(json_object_get(o, "error"));
	json_int_t status = json_integer_value(json_object_get(o, "exit"));

	og_ctl_say("%s", error ? error : "the node ended before it answered");
	return status > 0 ? (int)status : OG_EXIT_FAILED;
}

static json_t *data_of(const json_t *answer)
{
	json_t *data = json_object_get(answer, "data");

	if (!json_is_true(json_object_get(answer, "ok")))
		return NULL;
	return data ? json_incref(data) : json_object();
}

json_t *og_ctl_ask(json_t *req, int *status)
{
	FILE *f = og_ctl_request(req);
	json_t *o, *data;

	*status = OG_EXIT_NOT_RUNNING;
	if (!f)
		return NULL;
	o = og_ctl_answer(f);
	fclose(f);
	data = data_of(o);
	*status = data ? OG_EXIT_DONE : og_ctl_failure(o);
	json_decref(o);
	return data;
}

json_t *og_ctl_try(json_t *req)
{
	FILE *f = send_request(req);
	json_t *o, *data;

	if (!f)
		return NULL;
	o = og_ctl_answer(f);
	fclose(f);
	data = data_of(o);
	json_decref(o);
	return data;
}

/* ---- how it is shown ---- */

void og_ctl_print(const json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
}

const char *og_ctl_text(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s ? s : "";
}

long long og_ctl_int(const json_t *o, const char *name)
{
	return json_integer_value(json_object_get(o, name));
}

double og_ctl_real(const json_t *o, const char *name)
{
	return json_number_value(json_object_get(o, name));
}

const char *og_ctl_joined(const json_t *list, char *out, size_t cap)
{
	size_t n = 0;

	for (size_t i = 0; i < json_array_size(list) && n < cap - 1; i++) {
		int len = snprintf(out + n, cap - n, "%s%s", i ? "," : "",
			json_string_value(json_array_get(list, i)));

		n = OG_MIN(n + (size_t)OG_MAX(len, 0), cap - 1);
	}
	out[n] = '\0';
	return n ? out : "-";
}

const char *og_ctl_bytes(uint64_t bytes, char out[32])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	size_t i = 0;

	while (v >= 1024 && i + 1 < OG_ARRAY_LEN(units)) {
		v /= 1024;
		i++;
	}
	snprintf(out, 32, i ? "%.1f %s" : "%.0f %s", v, units[i]);
	return out;
}
